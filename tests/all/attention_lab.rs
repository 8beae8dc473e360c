//! What is said of heads and layers, held to other ways of finding it.

use std::collections::BTreeSet;
use std::path::Path;

use burn::module::Module;
use headlight::model::{Gpt, relative_difference};
use headlight::protocol::{Cut, HeadId, Look, Off, Step, Switches, Target, View, Wants};
use headlight::recipe::ModelRecipe;
use headlight::runs::export_safetensors;
use headlight::runs::transformers::{Imported, import};
use headlight::text::TokenId;
use headlight::train::{Means, Probe, Seen, Trainer, logits, pruned, switched, validation_batches};

use crate::plain_gpt::{Exported, Row};
use crate::{small_recipe, small_trainer};

/// A model that has learned a little, so that no weight is what it was made as.
pub fn learned(change: impl FnOnce(&mut ModelRecipe)) -> Trainer {
    let mut recipe = small_recipe();
    change(&mut recipe.model);
    recipe.training.learning_rate = 0.02;
    let mut trainer = small_trainer(recipe);
    for _ in 0..20 {
        trainer.step().expect("finite");
    }
    trainer
}

pub fn seen<'a>(trainer: &'a Trainer, model: &'a Gpt) -> Seen<'a> {
    let (recipe, tokenizer) = (&trainer.recipe().model, &trainer.dataset().tokenizer);
    Seen { model, recipe, tokenizer, device: trainer.device(), step: trainer.step_count() }
}

fn probe(ids: &[u32]) -> Probe {
    Probe { ids: ids.iter().map(|&id| TokenId(id)).collect(), note: String::new() }
}

pub fn off(heads: &[(usize, usize)], how: Off) -> Switches {
    let heads = heads.iter().map(|&(layer, head)| (HeadId { layer, head }, how)).collect();
    Switches { heads, ..Switches::default() }
}

fn apart(found: &[Vec<f32>], wanted: &[Row]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let pairs = found.iter().flatten().zip(wanted.iter().flatten());
    pairs.map(|(&a, &b)| (f64::from(a) - b).abs()).fold(0.0, f64::max)
}

const IDS: [u32; 8] = [3, 1, 4, 1, 5, 9, 2, 6];

#[test]
fn a_part_that_is_switched_off_is_missing_number_by_number() {
    for biases in [true, false] {
        let trainer = learned(|model| model.biases = biases.into());
        let (model, recipe, device) = (trainer.validation_model(), &trainer.recipe().model, trainer.device());
        let folder = tempfile::tempdir().expect("a folder");
        export_safetensors(folder.path(), &model, recipe, &trainer.dataset().tokenizer).expect("exported");
        let plain = Exported::read(&folder.path().join("model.safetensors"));
        let ids = IDS.map(TokenId);
        let batch = validation_batches(trainer.recipe(), &trainer.dataset().validation, 1).remove(0);
        let means = Means::of(&model, &batch, device);
        let whole = logits(&model, &ids, device);

        // What the plain network finds the parts to write, over the same batch.
        let rows: Vec<Vec<u32>> =
            batch.inputs.chunks(batch.context).map(|row| row.iter().map(|&id| id as u32).collect()).collect();
        let (mut mixed, mut written) = (vec![0.0; recipe.head_width()], vec![0.0; recipe.width]);
        for row in &rows {
            let found = std::cell::RefCell::new((&mut mixed, &mut written));
            let sum = |total: &mut Row, row: &Row| total.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            plain.logits_where(
                recipe,
                row,
                &|layer, head, row| {
                    if (layer, head) == (1, 0) {
                        sum(found.borrow_mut().0, &row);
                    }
                    row
                },
                &|layer, row| {
                    if layer == 0 {
                        sum(found.borrow_mut().1, &row);
                    }
                    row
                },
            );
        }
        let count = batch.inputs.len() as f64;
        let [mixed, written] = [mixed, written].map(|sum| sum.into_iter().map(|sum| sum / count).collect::<Row>());

        for how in [Off::Zero, Off::Mean] {
            let stand_in = |mean: &Row| match how {
                Off::Zero => vec![0.0; mean.len()],
                Off::Mean => mean.clone(),
            };
            let switches = off(&[(1, 0)], how);
            let without = logits(&switched(&model, recipe, &switches, Some(&means)), &ids, device);
            let head = |layer, head, row| if (layer, head) == (1, 0) { stand_in(&mixed) } else { row };
            let wanted = plain.logits_where(recipe, &IDS, &head, &|_, row| row);
            assert!(apart(&without, &wanted) < 1e-4, "head, {how:?}, biases {biases}: {}", apart(&without, &wanted));
            assert!(without != whole, "a head that is switched off changes something");

            let switches = Switches { mlps: [(0, how)].into(), ..Switches::default() };
            let without = logits(&switched(&model, recipe, &switches, Some(&means)), &ids, device);
            let mlp = |layer, row| if layer == 0 { stand_in(&written) } else { row };
            let wanted = plain.logits_where(recipe, &IDS, &|_, _, row| row, &mlp);
            assert!(apart(&without, &wanted) < 1e-4, "MLP, {how:?}, biases {biases}: {}", apart(&without, &wanted));
        }
    }
}

#[test]
fn a_pruned_model_is_smaller_and_says_the_same() {
    let change = |model: &mut ModelRecipe| (model.heads, model.biases) = (4, true.into());
    let grouped = |model: &mut ModelRecipe| (model.heads, model.key_value_heads) = (4, Some(2));
    for (trainer, heads) in [(learned(change), vec![(0, 1), (1, 0), (1, 3)]), (learned(grouped), vec![(0, 0), (0, 1)])]
    {
        let (model, recipe, device) = (trainer.validation_model(), &trainer.recipe().model, trainer.device());
        let batch = validation_batches(trainer.recipe(), &trainer.dataset().validation, 1).remove(0);
        let means = Means::of(&model, &batch, device);
        for how in [Off::Zero, Off::Mean] {
            let switches = off(&heads, how);
            let wanted = logits(&switched(&model, recipe, &switches, Some(&means)), &IDS.map(TokenId), device);
            let (smaller, shape) = pruned(&model, recipe, &switches, Some(&means)).expect("they can go");
            let found = logits(&smaller, &IDS.map(TokenId), device);
            let difference = relative_difference(&found.concat(), &wanted.concat());
            assert!(difference < 1e-5, "{how:?}: {difference}");
            assert!(smaller.num_params() < model.num_params());
            let vocabulary = trainer.dataset().tokenizer.vocabulary();
            assert_eq!(smaller.num_params() as u64, shape.parameter_count(vocabulary));
            assert_eq!(shape.check(vocabulary), []);
            // Its heads keep their numbers, and what it has lost is shown as nothing.
            let (tokenizer, step) = (&trainer.dataset().tokenizer, Step(0));
            let shown = Seen { model: &smaller, recipe: &shape, tokenizer, device, step }.attention(&probe(&IDS));
            let whole = seen(&trainer, &model).attention(&probe(&IDS));
            for head in (0..4).map(|head| HeadId { layer: 0, head }) {
                let gone = heads.contains(&(0, head.head));
                assert_eq!(shown.head(head).iter().all(|&weight| weight == 0.0), gone, "{head:?}");
                assert!(gone || relative_difference(shown.head(head), whole.head(head)) < 1e-6, "{head:?}");
            }
        }
    }
    let trainer = learned(grouped);
    let refuse = |switches: &Switches, word: &str| {
        let why = pruned(&trainer.validation_model(), &trainer.recipe().model, switches, None).expect_err("refused");
        assert!(why.contains(word), "'{word}' is not in: {why}");
    };
    refuse(&off(&[(0, 1)], Off::Zero), "shares keys and values with head 1");
    refuse(&off(&[(0, 0), (0, 1), (0, 2), (0, 3)], Off::Zero), "must keep one");
    refuse(&off(&[(7, 0)], Off::Zero), "there is no head 1 in layer 8");
    refuse(&Switches::default(), "no head is switched off");
    refuse(&Switches { mlps: [(0, Off::Zero)].into(), ..off(&[(0, 0)], Off::Zero) }, "only heads can be pruned");
}

fn look(seen: &Seen<'_>, view: View) -> Look {
    seen.look(&probe(&IDS), &view, true)
}

/// Models of each family, with what they have that GPT-2 has not: untied heads, biases, RMSNorm, groups, gates.
fn families() -> Vec<(String, Imported)> {
    ["gpt2-tanh", "gpt2-untied", "opt-relu", "llama-grouped", "llama-tied", "phi3"]
        .map(|case| {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case);
            (case.to_owned(), import(&folder, None, &headlight::device::cpu()).expect(case))
        })
        .into()
}

#[test]
fn the_lens_ends_in_the_prediction_and_the_parts_of_a_logit_sum_to_it() {
    let device = headlight::device::cpu();
    for (case, Imported { model, recipe, tokenizer, .. }) in families() {
        let model = model.valid();
        let seen = Seen { model: &model, recipe: &recipe, tokenizer: &tokenizer, device: &device, step: Step(0) };
        let rows = logits(&model, &IDS.map(TokenId), &device);
        for (position, token) in [(0, None), (7, None), (5, Some(2))] {
            let wants = Wants { lens: true, attribution: Some(Target { position, token }), ..Wants::default() };
            let look = look(&seen, View { wants, ..View::default() });
            let lens = look.lens.expect("asked for");
            assert_eq!((lens.rows(), lens.positions), (recipe.layers + 1, IDS.len()));
            for (position, row) in rows.iter().enumerate() {
                let wanted = headlight::train::likeliest(row);
                let found = lens.at(recipe.layers, position);
                assert_eq!(found.len(), 10.min(tokenizer.vocabulary()));
                let same = found.iter().zip(&wanted).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-5);
                assert!(same, "{case}, position {position}");
            }
            assert!(look.next.iter().zip(lens.at(recipe.layers, 7)).all(|(a, b)| a.0 == b.0));

            let parts = look.attribution.expect("asked for");
            let wanted = rows[position][parts.token as usize];
            let sum = parts.embedding + parts.biases + parts.heads.iter().chain(&parts.mlps).sum::<f32>();
            assert!(token.is_none_or(|token| token == parts.token) && (parts.logit - wanted).abs() < 1e-5, "{case}");
            assert!((sum - wanted).abs() < 1e-4 * wanted.abs().max(1.0), "{case}: parts sum to {sum}, not {wanted}");
            assert_eq!((parts.heads.len(), parts.mlps.len()), (recipe.layers * recipe.heads, recipe.layers));
            assert!(parts.heads.iter().any(|part| part.abs() > 1e-6), "{case}: heads that add nothing hide a fault");
        }
    }
}

#[test]
fn a_head_that_adds_to_a_logit_takes_it_away_when_it_is_switched_off() {
    // In the last layer nothing but the norm's divisor comes after a head.
    let trainer = learned(|_| {});
    let model = trainer.validation_model();
    let target = Some(Target { position: 7, token: Some(3) });
    let parts = |model: &Gpt| {
        let wants = Wants { attribution: target, ..Wants::default() };
        look(&seen(&trainer, model), View { wants, ..View::default() }).attribution.expect("asked for")
    };
    let whole = parts(&model);
    let without = switched(&model, &trainer.recipe().model, &off(&[(0, 1)], Off::Zero), None);
    let without = parts(&without);
    assert!(whole.heads[1].abs() > 1e-4 && without.heads[1].abs() < 1e-9, "{} {}", whole.heads[1], without.heads[1]);
    assert!(without.heads[0] != 0.0 && without.logit != whole.logit);
}

#[test]
fn a_cut_weight_is_zero_and_its_row_whole_again_or_not() {
    let trainer = learned(|_| {});
    let model = trainer.validation_model();
    let seen = seen(&trainer, &model);
    let whole = look(&seen, View::default());
    assert!(whole.cut.is_none());
    let head = HeadId { layer: 0, head: 1 };
    let cuts = BTreeSet::from([Cut { head, query: 7, key: 2 }, Cut { head, query: 7, key: 5 }]);
    for renormalise in [true, false] {
        let found = look(&seen, View { cuts: cuts.clone(), renormalise, ..View::default() });
        let left = 1.0 - whole.attention.weight(head, 7, 2) - whole.attention.weight(head, 7, 5);
        let divisor = if renormalise { left } else { 1.0 };
        for key in 0..8 {
            let wanted = if key == 2 || key == 5 { 0.0 } else { whole.attention.weight(head, 7, key) / divisor };
            let weight = found.attention.weight(head, 7, key);
            assert!((weight - wanted).abs() < 1e-6, "key {key}: {weight} is not {wanted}");
        }
        // Cuts take the plain way, which ends in other last bits than the kernel.
        let same = |one: &[f32], other: &[f32]| relative_difference(one, other) < 1e-5;
        assert!(same(&found.attention.head(head)[..56], &whole.attention.head(head)[..56]), "the other rows stay");
        let other = HeadId { layer: 0, head: 0 };
        assert!(same(found.attention.head(other), whole.attention.head(other)), "the layer's other head stays");
        let apart = |one: &[(u32, f32)], other: &[(u32, f32)]| {
            let of = |id: u32| other.iter().find(|found| found.0 == id).map_or(0.0, |found| found.1);
            one.iter().map(|&(id, probability)| (probability - of(id)).abs()).fold(0.0, f32::max)
        };
        let effect = found.cut.as_ref().expect("there are cuts");
        assert!(effect.position == 7 && apart(&effect.before, &whole.next) < 1e-5);
        assert!(apart(&effect.after, &whole.next) > 1e-4, "the prediction follows");
        // Of an earlier row in the last layer the last prediction knows nothing: that row's own tells what was cut.
        let wants = Wants { lens: true, ..Wants::default() };
        let cuts = BTreeSet::from([Cut { head: HeadId { layer: 1, head: 0 }, query: 4, key: 1 }]);
        let found = look(&seen, View { cuts, renormalise, wants, ..View::default() });
        let effect = found.cut.as_ref().expect("a cut");
        assert!(effect.position == 4 && apart(&found.next, &whole.next) < 1e-5);
        assert!(apart(&effect.after, found.lens.as_ref().expect("asked for").at(2, 4)) < 1e-6);
        assert!(apart(&effect.after, &effect.before) > 1e-5, "the prediction follows");
    }
    // A first token has nothing else to look at.
    let cuts = BTreeSet::from([Cut { head, query: 0, key: 0 }]);
    let found = look(&seen, View { cuts, renormalise: true, ..View::default() });
    assert!(found.next.iter().all(|(_, probability)| probability.is_finite()));
    assert!(found.attention.weight(head, 0, 0) == 0.0);
}

#[test]
fn scores_become_the_pattern_and_rollout_rows_sum_to_one() {
    let trainer = learned(|_| {});
    let model = trainer.validation_model();
    let head = HeadId { layer: 1, head: 1 };
    let wants = Wants { scores: Some(head), rollout: true, ..Wants::default() };
    let look = look(&seen(&trainer, &model), View { wants, ..View::default() });
    let (of, scores) = look.scores.expect("asked for");
    assert_eq!((of, scores.len()), (head, 64));
    for query in 0..8 {
        let powers: Vec<f64> = (0..=query).map(|key| f64::from(scores[query * 8 + key]).exp()).collect();
        let sum: f64 = powers.iter().sum();
        for (key, power) in powers.into_iter().enumerate() {
            let weight = f64::from(look.attention.weight(head, query, key));
            assert!((power / sum - weight).abs() < 1e-5, "{query}, {key}");
        }
    }
    // By hand: half of the stream and half of the mean of the heads, layer after layer.
    let mut wanted = vec![0.0_f64; 64];
    (0..8).for_each(|place| wanted[place * 9] = 1.0);
    for layer in 0..2 {
        let mixed = |query: usize, key: usize| -> f64 {
            let mean =
                (0..2).map(|head| f64::from(look.attention.weight(HeadId { layer, head }, query, key))).sum::<f64>();
            mean / 4.0 + if query == key { 0.5 } else { 0.0 }
        };
        let through = |query, key| (0..8).map(|middle| mixed(query, middle) * wanted[middle * 8 + key]).sum::<f64>();
        wanted = (0..64).map(|place| through(place / 8, place % 8)).collect();
    }
    let rollout = look.rollout.expect("asked for");
    let apart = rollout.iter().zip(&wanted).map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max);
    assert!(apart < 1e-6, "{apart}");
}
