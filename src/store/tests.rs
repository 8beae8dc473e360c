use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::preset;
use crate::protocol::{DeviceClass, DeviceReport, View};

/// A store at the start of a run, its clock standing still.
pub(crate) fn store_at_start() -> RunStore {
    let mut store = RunStore::with_clock(|| "14:03:07".into());
    store.apply(Event::Ready(Box::new(ready("runs/one"))));
    store
}

pub(crate) fn ready(folder: &str) -> ReadyReport {
    ReadyReport {
        folder: PathBuf::from(folder),
        recipe: preset::built_in().remove(0).recipe,
        device: DeviceReport {
            kind: DeviceClass::Cpu,
            name: "two cores".into(),
            engine: "burn Flex".into(),
            reason: "there is no GPU".into(),
        },
        parameters: 804_096,
        vocabulary: 65,
        labels: Arc::new((0..65).map(|id| format!("t{id}")).collect()),
        adds_special: false,
        ends: Vec::new(),
        train_tokens: 1_003_854,
        validation_tokens: 111_540,
        step: Step(0),
        parent: None,
        history: Vec::new(),
        validations: Vec::new(),
        kept: Vec::new(),
        kept_bytes: 0,
        roles: Vec::new(),
        elapsed_secs: 0.0,
        blocked: None,
    }
}

pub(crate) fn step_report(step: u64, loss: f32) -> StepReport {
    let (elapsed_secs, tokens_per_sec) = (step as f64 * 0.02, 24_000.0);
    StepReport { step: Step(step), loss, learning_rate: 1e-3, gradient_norm: 0.5, elapsed_secs, tokens_per_sec }
}

pub(crate) fn validation(step: u64, validation_loss: f32) -> ValidationReport {
    ValidationReport {
        step: Step(step),
        train_loss: validation_loss - 0.1,
        validation_loss,
        best: false,
        accuracy: None,
    }
}

/// A look that shows attention and nothing else.
pub(crate) fn look(attention: Arc<AttentionSnapshot>) -> Arc<Look> {
    Arc::new(Look {
        view: View::default(),
        attention,
        non_finite: None,
        roles: None,
        next: Vec::new(),
        cut: None,
        lens: None,
        attribution: None,
        scores: None,
        rollout: None,
        pinned: None,
    })
}

/// Attention in which each weight tells where it is: lower triangle, rows that sum to 1.
pub(crate) fn snapshot(step: u64, tokens: &[&str], layers: usize, heads: usize) -> Arc<AttentionSnapshot> {
    let count = tokens.len();
    let mut weights = Vec::with_capacity(layers * heads * count * count);
    for head in 0..layers * heads {
        for query in 0..count {
            let raw =
                |key: usize| if key > query { 0.0 } else { 1.0 + ((key * 7 + head * 3 + step as usize) % 11) as f32 };
            let sum: f32 = (0..count).map(raw).sum();
            weights.extend((0..count).map(|key| raw(key) / sum));
        }
    }
    let tokens = tokens.iter().map(|&token| token.into()).collect();
    let (note, non_finite) = (String::new(), Vec::new());
    Arc::new(AttentionSnapshot { step: Step(step), tokens, layers, heads, weights, note, non_finite })
}

#[test]
fn a_new_run_clears_what_belonged_to_the_older_one() {
    let mut store = store_at_start();
    store.apply(Event::Progress(vec![step_report(1, 4.0), step_report(2, 3.9)]));
    store.apply(Event::Validated(validation(2, 3.8)));
    store.apply_look(look(snapshot(2, &["a", "b"], 1, 1)));
    store.sample_started(3);
    store.apply(Event::Finished(Outcome::Stopped));
    let (version, lines) = (store.attention_version, store.log.len());

    let mut report = ready("runs/two");
    report.step = Step(2);
    report.history = vec![step_report(1, 2.0), step_report(2, 1.9)];
    report.validations = vec![validation(2, 1.8)];
    store.apply(Event::Ready(Box::new(report)));
    assert_eq!(store.loss.iter().collect::<Vec<_>>(), [(1, 2.0), (2, 1.9)]);
    assert_eq!(store.best, Some(validation(2, 1.8)));
    assert_eq!(store.latest, Some(StepReport { elapsed_secs: 0.0, ..step_report(2, 1.9) }));
    assert!(store.ready.as_ref().is_some_and(|ready| ready.history.is_empty() && ready.validations.is_empty()));
    assert!(store.attention.is_none() && store.attention_version > version);
    assert_eq!(store.sample, SampleState::default());
    assert_eq!(store.outcome, None);
    assert_eq!(store.log.len(), lines + 1, "the log goes on");
}

#[test]
fn going_back_to_a_checkpoint_forgets_the_future() {
    let mut store = store_at_start();
    store.apply(Event::Progress((1..=300).map(|step| step_report(step, 400.0 - step as f32)).collect()));
    for step in [100, 200, 300] {
        store.apply(Event::Validated(validation(step, 400.0 - step as f32)));
    }
    store.apply(Event::Diverged { step: Step(300), message: "the loss is NaN".into() });
    let switched = |step| SwitchedReport {
        step: Step(step),
        switches: Switches::default(),
        loss: 2.0,
        whole_loss: 1.0,
        tokens: 10,
    };
    store.apply(Event::Switched(switched(200)));
    store.apply(Event::WentBack { step: Step(250), elapsed_secs: 4.5 });
    assert!(store.switched.is_some(), "of a step that both pasts share");
    store.apply(Event::Switched(switched(250)));
    store.apply(Event::WentBack { step: Step(200), elapsed_secs: 3.5 });
    for series in [&store.loss, &store.learning_rate, &store.gradient_norm, &store.validation_loss] {
        assert_eq!(series.last_step(), Some(200));
    }
    assert_eq!(store.validations.iter().map(|report| report.step.0).collect::<Vec<_>>(), [100, 200]);
    assert!(store.switched.is_none(), "it was measured on a step that will be another one");
    assert_eq!(store.best, Some(validation(200, 200.0)));
    let latest = store.latest.expect("a step");
    assert_eq!((latest.step, latest.loss, latest.elapsed_secs), (Step(200), 200.0, 3.5));
    assert_eq!(store.diverged, None);
    let line = store.log.back().expect("a line");
    assert_eq!((line.level, line.text.as_str()), (Level::Info, "back at step 200"));

    store.apply(Event::WentBack { step: Step(0), elapsed_secs: 0.0 });
    assert!(store.loss.is_empty() && store.validations.is_empty());
    assert_eq!((store.latest, store.best), (None, None));
}

#[test]
fn a_run_opened_before_the_end_of_its_curve_keeps_the_curve_until_the_next_step() {
    let mut store = RunStore::with_clock(|| "14:03:07".into());
    let mut report = ready("runs/killed");
    (report.step, report.elapsed_secs) = (Step(200), 3.5);
    report.history = (1..=300).map(|step| step_report(step, 400.0 - step as f32)).collect();
    report.validations = [100, 200, 300].map(|step| validation(step, 400.0 - step as f32)).into();
    store.apply(Event::Ready(Box::new(report)));
    assert_eq!(store.loss.last_step(), Some(300));
    let latest = store.latest.expect("a step");
    assert_eq!((latest.step, latest.elapsed_secs), (Step(200), 3.5));

    store.apply(Event::Progress(vec![step_report(201, 9.0)]));
    assert_eq!(store.loss.last(), Some((201, 9.0)));
    assert_eq!(store.loss.len(), 201);
    assert_eq!(store.validations.iter().map(|report| report.step.0).collect::<Vec<_>>(), [100, 200]);
    assert_eq!(store.best, Some(validation(200, 200.0)));
    assert_eq!(store.validation_loss.last(), Some((200, 200.0)));
}

#[test]
fn a_gpu_prepares_until_the_first_measurement() {
    let mut report = ready("runs/one");
    report.device.kind = DeviceClass::Gpu;
    for first in [Event::Progress(vec![step_report(1, 4.0)]), Event::Validated(validation(0, 4.0))] {
        let mut store = RunStore::with_clock(|| "14:03:07".into());
        store.apply(Event::Preparing("preparing kernels on two cores…".into()));
        store.apply(Event::Ready(Box::new(report.clone())));
        store.apply(Event::StateChanged(RunState::Training));
        assert_eq!(store.preparing.as_deref(), Some("preparing kernels on two cores…"));
        store.apply(first);
        assert_eq!(store.preparing, None);
    }
}

#[test]
fn a_figure_that_counts_up_is_one_line_of_the_log() {
    let mut store = RunStore::with_clock(|| "14:03:07".into());
    for percent in 1..=100 {
        store.apply(Event::Preparing(format!("reading big.txt: {percent} %")));
    }
    assert_eq!(store.preparing.as_deref(), Some("reading big.txt: 100 %"));
    store.apply(Event::Preparing("testing llvmpipe…".into()));
    assert_eq!(store.log.len(), 2);
    store.apply(Event::Ready(Box::new(ready("runs/one"))));
    assert_eq!(store.preparing, None, "the CPU has nothing to prepare");
}

#[test]
fn the_best_validation_is_the_lowest_that_is_a_number() {
    let mut store = store_at_start();
    for (step, loss) in [(1, f32::NAN), (2, 2.0), (3, 1.5), (4, 1.7)] {
        store.apply(Event::Validated(validation(step, loss)));
    }
    assert_eq!(store.best.map(|best| best.step), Some(Step(3)));
}

#[test]
fn late_pieces_of_an_older_sample_are_dropped() {
    let token = |text: &str| SampledToken {
        text: text.into(),
        label: text.into(),
        id: 0,
        special: false,
        ends: false,
        probability: 0.5,
        alternatives: Vec::new(),
        attention: None,
    };
    let mut store = store_at_start();
    store.sample_started(1);
    let (prompt, switches) = ("To ".to_owned(), Switches::default());
    let started =
        SampleEvent::Started { id: 1, step: Step(7), switches, prompt, tokens: Vec::new(), note: String::new() };
    store.apply(Event::Sampled(started));
    store.apply(Event::Sampled(SampleEvent::Token { id: 1, token: token("b") }));
    store.apply(Event::Sampled(SampleEvent::Token { id: 1, token: token("e") }));
    assert_eq!(store.sample.text(), "To be");
    store.sample_started(2);
    store.apply(Event::Sampled(SampleEvent::Token { id: 1, token: token("!") }));
    store.apply(Event::Sampled(SampleEvent::Done { id: 1, trouble: None }));
    assert!(store.sample.running && store.sample.tokens.is_empty());
    store.apply(Event::Sampled(SampleEvent::Done { id: 2, trouble: None }));
    assert!(!store.sample.running);
}

#[test]
fn the_log_is_bounded_and_numbered() {
    let mut store = RunStore::with_clock(|| "14:03:07".into());
    for number in 1..=LOG_LINES_MAX + 20 {
        store.note(Level::Warning, number.to_string());
    }
    assert_eq!(store.log.len(), LOG_LINES_MAX);
    let last = (LOG_LINES_MAX + 20) as u64;
    let new: Vec<_> = store.log_after(last - 2).map(|line| line.text.as_str()).collect();
    assert_eq!(new, [(last - 1).to_string(), last.to_string()]);
    assert_eq!(store.log_after(last).count(), 0);
}

#[test]
fn a_failure_is_an_error_line_and_ends_everything_that_ran() {
    let mut store = store_at_start();
    store.apply(Event::StateChanged(RunState::Training));
    store.sample_started(1);
    store.apply(Event::Finished(Outcome::Failed("the device has gone".into())));
    assert_eq!(store.state, None);
    assert!(!store.sample.running);
    let line = store.log.back().expect("a line");
    assert_eq!((line.level, line.notice, line.text.as_str()), (Level::Error, true, "the device has gone"));
}

#[test]
fn curves_are_written_with_every_step() {
    let mut store = store_at_start();
    store.apply(Event::Progress(vec![step_report(1, 4.25), step_report(2, f32::NAN)]));
    store.apply(Event::Validated(validation(0, 4.5)));
    store.apply(Event::Validated(validation(2, 4.0)));
    let expected = "step,loss,learning_rate,gradient_norm,validation_loss\n\
                    0,,,,4.5\n\
                    1,4.25,0.001,0.5,\n\
                    2,NaN,0.001,0.5,4\n";
    assert_eq!(curves_csv(&store.curves()), expected);
}

proptest! {
    #[test]
    fn whatever_order_steps_come_in_the_series_stay_sorted(steps in prop::collection::vec(0_u64..60, 1..200)) {
        let mut store = store_at_start();
        for &step in &steps {
            store.apply(Event::Progress(vec![step_report(step, step as f32)]));
            store.apply(Event::Validated(validation(step, step as f32)));
            prop_assert!(store.loss.iter().is_sorted_by(|one, other| one.0 < other.0));
            prop_assert_eq!(store.loss.last_step(), Some(step));
            prop_assert_eq!(store.best.map(|best| best.step), store.validations.first().map(|first| first.step));
            prop_assert_eq!(store.validations.len(), store.validation_loss.len());
        }
    }
}
