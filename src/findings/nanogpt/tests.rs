use super::*;
use crate::protocol::Step;
use crate::store::tests::ready;

pub(crate) fn recipe() -> Recipe {
    preset::find(PRESET).expect("built in").recipe
}

/// Our losses, each so far above nanoGPT's.
pub(crate) fn points(above: f32) -> Vec<ValidationReport> {
    let point = |reference: Reference| ValidationReport {
        step: Step(reference.step),
        train_loss: reference.train_loss,
        validation_loss: reference.validation_loss + above,
        best: false,
        accuracy: None,
    };
    REFERENCE.map(point).to_vec()
}

fn planned_rates(steps: u64) -> Series {
    let (training, mut rates) = (recipe().training, Series::default());
    (1..=steps).for_each(|step| rates.push(step, training.learning_rate_at(step - 1) as f32));
    rates
}

#[test]
fn the_preset_is_the_recipe_of_the_reference() {
    let recipe = recipe();
    let asked: Vec<u64> = REFERENCE.iter().map(|point| point.step).collect();
    assert_eq!((recipe.training.steps, recipe.training.evaluation_batches), (LAST_STEP, 20));
    assert!(asked.iter().all(|step| step.is_multiple_of(recipe.training.evaluation_interval)), "each is measured");
    assert_eq!(recipe.model.parameter_count(VOCABULARY), 804_096);
    assert_eq!(TRAIN_TOKENS + VALIDATION_TOKENS, CHARACTERS);
}

/// A right loss over the whole validation text.
const WHOLE: Option<f32> = Some(1.9);

#[test]
fn losses_near_nanogpts_pass_and_others_do_not() {
    for (above, outcome) in [
        (0.0, Outcome::Passed),
        (0.049, Outcome::Passed),
        (-0.049, Outcome::Passed),
        (0.051, Outcome::NotPassed),
        (-0.051, Outcome::NotPassed),
        (f32::NAN, Outcome::NotPassed),
    ] {
        assert_eq!(compare(&points(above), WHOLE, None).outcome, outcome, "{above}");
    }
    for (off, outcome) in [(0.09, Outcome::Passed), (0.11, Outcome::NotPassed)] {
        let mut one_off = points(0.0);
        one_off[3].validation_loss += off;
        assert_eq!(compare(&one_off, WHOLE, None).outcome, outcome, "a single one {off} off");
    }
    let mut one_off = points(0.0);
    one_off[3].validation_loss += 0.11;
    let verdict = compare(&one_off, None, None);
    assert_eq!(
        verdict.sentence(),
        "5 of 5 validation losses: on average 0.0220 from nanoGPT's (tolerance ±0.05), the furthest +0.1100 (tolerance \
         ±0.1)."
    );
    assert!(verdict.text().contains("1,000") && verdict.text().contains("+0.1100  beyond 0.1"), "{}", verdict.text());
    let mut untrained = points(0.0);
    untrained[0].validation_loss = 4.3;
    assert_eq!(compare(&untrained, WHOLE, None).outcome, Outcome::Passed, "first weights are luck");
    let mut opposite = points(0.09);
    opposite.iter_mut().skip(3).for_each(|point| point.validation_loss -= 0.18);
    assert_eq!(compare(&opposite, WHOLE, None).outcome, Outcome::NotPassed, "they do not cancel");
}

#[test]
fn the_whole_validation_text_decides_where_it_was_measured() {
    for (whole, outcome) in [(1.8982, Outcome::Passed), (1.86, Outcome::NotPassed), (1.94, Outcome::NotPassed)] {
        let verdict = compare(&points(0.01), Some(whole), None);
        assert_eq!(verdict.outcome, outcome, "{whole}");
        assert!(verdict.basis().contains(&format!("{whole:.4}")));
    }
    let unmeasured = compare(&points(0.0), None, None);
    assert!(unmeasured.outcome == Outcome::Open && unmeasured.basis().contains("is not measured yet"));
}

#[test]
fn a_run_on_its_way_is_not_judged() {
    let verdict = compare(&points(0.2)[..3], None, None);
    assert_eq!(verdict.outcome, Outcome::Open);
    assert!(verdict.sentence().starts_with("2 of 5 validation losses: on average 0.2000"), "{}", verdict.sentence());
    assert_eq!(compare(&[], None, None).sentence(), "None of the 5 steps with a reference is reached yet.");
    assert!(verdict.text().contains("–"));
}

#[test]
fn a_changed_learning_rate_or_recipe_is_a_departure() {
    assert_eq!(departure(&recipe(), &planned_rates(2000)), None);
    let mut rates = planned_rates(700);
    rates.push(701, 5e-4);
    // Back again: what was done is done.
    rates.push(702, recipe().training.learning_rate_at(701) as f32);
    let why = departure(&recipe(), &rates).expect("said");
    assert!(why.starts_with("at step 701 the learning rate was 5.00e-4"), "{why}");
    let verdict = compare(&points(0.0), None, Some(why));
    assert_eq!((verdict.outcome, verdict.title()), (Outcome::Departed, "Not nanoGPT's recipe any more"));
    let mut other = recipe();
    other.model.dropout = 0.1;
    assert!(departure(&other, &planned_rates(3)).is_some());
    let mut seed = recipe();
    (seed.training.seed, seed.data.probe) = (7, "other".into());
    assert_eq!(departure(&seed, &planned_rates(3)), None, "seed and probe are free");
}

#[test]
fn only_tinyshakespeare_is_taken_and_the_refusal_says_what_was_expected() {
    assert_eq!(text_fault(1_115_394, 65), None);
    let why = text_fault(1_115_393, 64).expect("refused");
    for part in
        ["1,115,393 characters, 64", "1,115,394", "65", "1,003,854", "111,540", "data/shakespeare_char/input.txt"]
    {
        assert!(why.contains(part), "{part}: {why}");
    }
    let mut report = ready("runs/one");
    report.recipe = recipe();
    assert!(is_reference_run(&report));
    assert!(!is_reference_run(&ReadyReport { train_tokens: 1_003_853, ..report.clone() }));
    report.recipe.training.batch = 13;
    assert!(!is_reference_run(&report));
}
