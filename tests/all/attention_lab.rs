//! What is said of heads and layers, held to other ways of finding it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use burn::module::Module;
use headlight::lab::protocol::{
    Command, Cut, Event, HeadId, Look, Off, RunState, SampleEvent, SampleRequest, Step, Switches, Target, View, Wants,
};
use headlight::model::{Gpt, relative_difference};
use headlight::recipe::{ModelRecipe, Recipe, SamplingRecipe};
use headlight::runs::transformers::{Imported, import};
use headlight::runs::{Kept, export_safetensors, kept_steps, snapshot_path};
use headlight::text::TokenId;
use headlight::train::{Means, Probe, Seen, Trainer, logits, pruned, switched, validation_batches};
use serde_json::Value;

use crate::command_line::{Place, checkpoint_tensors, metrics, refused};
use crate::engine::Followed;
use crate::plain_gpt::{Exported, Row};
use crate::{headlight_ok, small_recipe, small_trainer};

/// A model that has learned a little, so that no weight is what it was made as.
fn learned(change: impl FnOnce(&mut ModelRecipe)) -> Trainer {
    let mut recipe = small_recipe();
    change(&mut recipe.model);
    recipe.training.learning_rate = 0.02;
    let mut trainer = small_trainer(recipe);
    for _ in 0..20 {
        trainer.step().expect("finite");
    }
    trainer
}

fn seen<'a>(trainer: &'a Trainer, model: &'a Gpt) -> Seen<'a> {
    let (recipe, tokenizer) = (&trainer.recipe().model, &trainer.dataset().tokenizer);
    Seen { model, recipe, tokenizer, device: trainer.device(), step: trainer.step_count() }
}

fn probe(ids: &[u32]) -> Probe {
    Probe { ids: ids.iter().map(|&id| TokenId(id)).collect(), note: String::new() }
}

fn off(heads: &[(usize, usize)], how: Off) -> Switches {
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
    assert!(whole.uncut.is_none());
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
        assert!(apart(found.uncut.as_ref().expect("there are cuts"), &whole.next) < 1e-5);
        assert!(apart(&found.next, &whole.next) > 1e-4, "the prediction follows");
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

/// A small run by the command line that keeps a timeline, and its kept steps.
fn kept_run(place: &Place) -> (String, Vec<u64>) {
    let (preset, run) = (place.preset("seed: 1337", "seed: 5"), place.argument("run"));
    headlight_ok(&["train", "--recipe", &preset, "--device", "cpu", "--out", &run, "--json"]);
    let kept: Vec<u64> = kept_steps(Path::new(&run)).iter().map(|(step, _)| step.0).collect();
    assert!(kept.len() > 3 && kept[0] == 0 && kept.last() == Some(&40), "{kept:?}");
    (run, kept)
}

#[test]
fn roles_are_what_the_exported_attention_says() {
    let place = Place::new();
    let (run, kept) = kept_run(&place);
    let middle = kept[kept.len() / 2].to_string();
    for step in [&[][..], &["--step", &middle]] {
        let ids = "5,1,2,3,4,1,2,3,4";
        let ask = |job: &str| -> Value {
            let arguments = [&[job, &run, "--ids", ids, "--json"][..], step].concat();
            serde_json::from_str(&headlight_ok(&arguments)).expect("JSON")
        };
        let (attention, scores) = (ask("attention"), ask("heads"));
        let tokens: Vec<u32> = ids.split(',').map(|id| id.parse().expect("a number")).collect();
        type Falls = fn(&[u32], usize, usize) -> bool;
        let roles: [(&str, Falls); 5] = [
            ("previous", |_, query, key| query == key + 1),
            ("current", |_, query, key| query == key),
            ("first", |_, _, key| key == 0),
            ("duplicate", |ids, query, key| key < query && ids[key] == ids[query]),
            ("induction", |ids, query, key| (1..=query).contains(&key) && ids[key - 1] == ids[query]),
        ];
        for (layer, heads) in attention["weights"].as_array().expect("layers").iter().enumerate() {
            for (head, rows) in heads.as_array().expect("heads").iter().enumerate() {
                let weight = |query: usize, key: usize| rows[query][key].as_f64().expect("a weight");
                for (name, falls) in roles {
                    let places = (0..9).flat_map(|query| (0..9).map(move |key| (query, key)));
                    let (mut on, mut all) = (0.0, 0.0);
                    for (query, key) in places {
                        all += weight(query, key);
                        on += if falls(&tokens, query, key) { weight(query, key) } else { 0.0 };
                    }
                    let found = scores[name][layer][head].as_f64().expect("a score");
                    assert!((found - on / all).abs() < 1e-5, "{name} {layer} {head}: {found} is not {}", on / all);
                }
            }
        }
    }
    assert_eq!(headlight_ok(&["heads", &run]).lines().count(), 5);
}

#[test]
fn a_fork_with_the_same_settings_is_the_same_run_to_the_last_bit() {
    let place = Place::new();
    let (run, kept) = kept_run(&place);
    let step = kept[kept.len() / 2].to_string();
    let fork = place.argument("fork");
    headlight_ok(&["fork", &run, "--step", &step, "--out", &fork]);
    headlight_ok(&["resume", &fork, "--device", "cpu", "--json"]);
    let kind = |run: &str, kind: &str| -> Vec<Value> {
        metrics(run).into_iter().filter(|line| line["kind"] == kind).collect()
    };
    assert!(kind(&run, "step") == kind(&fork, "step"), "each loss is the same");
    assert!(checkpoint_tensors(&run) == checkpoint_tensors(&fork), "weights and moments are the same to the last bit");
    // The best so far is the parent's only where it lies before the fork.
    let best = |run: &str| Kept::Best.path(Path::new(run)).is_file();
    assert!(best(&run) && best(&fork), "the fork found a best of its own");
    // Another rate from there on.
    let other = place.argument("other");
    headlight_ok(&["fork", &run, "--step", &step, "--learning-rate", "0.0001", "--out", &other]);
    headlight_ok(&["resume", &other, "--device", "cpu", "--json"]);
    let (one, two) = (kind(&run, "step"), kind(&other, "step"));
    let same = one.iter().zip(&two).take_while(|(one, two)| one["loss"] == two["loss"]).count();
    let step: usize = step.parse().expect("a number");
    // The rate of the first step after it changes what comes after that.
    assert_eq!((one.len(), two.len(), same), (40, 40, step + 1));
    refused(
        &["fork", &run, "--step", "41", "--out", &place.argument("none")],
        &["does not keep step 41", "kept are 0"],
    );
    refused(&["fork", &run, "--step", &step.to_string(), "--out", &fork], &["is there already"]);
    let few = step.to_string();
    refused(&["fork", &run, "--step", &few, "--steps", &few, "--out", &place.argument("none")], &["needs more steps"]);
    assert!(!place.path("none").exists());
}

#[test]
fn effects_prune_and_lens_answer_on_the_command_line() {
    let place = Place::new();
    let (run, _) = kept_run(&place);
    let effects: Value = serde_json::from_str(&headlight_ok(&["effects", &run, "--json"])).expect("JSON");
    assert!(
        (effects["heads"].as_array().expect("layers").len(), effects["mlps"].as_array().expect("layers").len())
            == (2, 2)
    );
    // Pruned for good, the model's loss over the same batches is what the effect said.
    let pruned = place.argument("pruned");
    headlight_ok(&["prune", &run, "--heads", "2.1", "--out", &pruned]);
    let after: Value = serde_json::from_str(&headlight_ok(&["effects", &pruned, "--json"])).expect("JSON");
    let number = |value: &Value| value.as_f64().expect("a number");
    let wanted = number(&effects["loss"]) + number(&effects["heads"][1][0]);
    assert!((number(&after["loss"]) - wanted).abs() < 1e-5, "{after} after {effects}");
    assert!(after["heads"][1][0].is_null() && after["heads"][1][1].is_number());
    headlight_ok(&["resume", &pruned, "--stop-at", "3", "--device", "cpu", "--json"]);
    headlight_ok(&["effects", &run, "--off", "mean"]);
    refused(&["prune", &run, "--heads", "1.1,1.2", "--out", &place.argument("no")], &["layer 1 must keep one"]);
    refused(&["prune", &run, "--heads", "0.1", "--out", &place.argument("no")], &["'0.1' is no head"]);
    refused(&["export", &pruned, "--format", "hf", "--out", &place.argument("no")], &["different numbers of heads"]);

    let prompt = ["--prompt", "Mira", "--json", "--attribute", "3"];
    let lens: Value = serde_json::from_str(&headlight_ok(&[&["lens", &run][..], &prompt].concat())).expect("JSON");
    let logits: Value =
        serde_json::from_str(&headlight_ok(&["logits", &run, "--prompt", "Mira", "--json"])).expect("JSON");
    let best = &lens["blocks.1.hook_resid_post"][3][0]["id"];
    let row: Vec<f64> = logits["logits"][3].as_array().expect("a row").iter().map(number).collect();
    let likeliest = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("a token");
    assert_eq!(best.as_u64(), Some(likeliest as u64));
    assert!(
        lens["attribution"]["token"] == *best
            && lens["blocks.0.hook_resid_pre"].as_array().is_some_and(|row| row.len() == 4)
    );
    headlight_ok(&["lens", &run, "--prompt", "Mira", "--attribute", "3"]);
    refused(&["lens", &run, "--prompt", "Mira", "--attribute", "4"], &["no position 4", "has 4"]);
    refused(&["attention", &run, "--prompt", "Mira", "--step", "999"], &["does not keep step 999"]);
}

#[test]
fn every_look_follows_the_view_while_the_run_goes_on() {
    let recipe = Recipe {
        training: headlight::recipe::TrainingRecipe { steps: 400, ..small_recipe().training },
        ..small_recipe()
    };
    let mut run = Followed::start(recipe, false);
    run.until(|event| matches!(event, Event::Kept { steps, .. } if steps.len() > 2));
    let answer = |run: &Followed, view: &View| loop {
        match run.handle.take_look() {
            Some(look) if look.view == *view => return look,
            _ => std::thread::sleep(std::time::Duration::from_millis(2)),
        }
    };
    let ask = |run: &Followed, view: &View| {
        run.handle.send(Command::Look(Box::new(view.clone())));
        answer(run, view)
    };
    let first = View { step: Some(Step(0)), ..View::default() };
    let early = ask(&run, &first);
    assert_eq!(early.attention.step, Step(0));
    // It is the attention of the first weights, which another trainer has too.
    let trainer = Trainer::new(
        small_recipe(),
        headlight::text::Dataset::built_in(None).expect("sound").into(),
        headlight::device::cpu(),
    );
    let tokenizer = &trainer.dataset().tokenizer;
    let text = Probe::new(&small_recipe().data.probe, tokenizer, 16);
    let model = trainer.validation_model();
    assert!(early.attention.weights == seen(&trainer, &model).attention(&text).weights);
    assert!(early.roles.is_some(), "a kept step says what its heads do");

    let less = View { switches: off(&[(0, 0)], Off::Zero), ..first.clone() };
    let switched_look = ask(&run, &less);
    assert!(
        switched_look.attention.head(HeadId { layer: 0, head: 1 })
            == early.attention.head(HeadId { layer: 0, head: 1 })
    );
    assert!(switched_look.next != early.next);
    let pinned =
        View { pin: Some(headlight::lab::protocol::Pin { run: None, step: Some(Step(0)) }), ..View::default() };
    let live = ask(&run, &pinned);
    let held = live.pinned.as_ref().expect("pinned").as_ref().expect("it is kept");
    assert!(held.weights == early.attention.weights && live.attention.step > Step(0));

    run.until_state(RunState::Completed);
    // A sample of the first weights, and where its heads looked.
    ask(&run, &first);
    let settings = SamplingRecipe { prompt: "Mira".into(), tokens: 4, temperature: 0.0, ..small_recipe().sampling };
    run.handle.send(Command::Sample(SampleRequest { id: 1, settings }));
    run.until(|event| matches!(event, Event::Sampled(SampleEvent::Done { id: 1 })));
    let mut ids = tokenizer.encode("Mira").ids;
    for event in &run.events {
        match event {
            Event::Sampled(SampleEvent::Started { step, tokens, .. }) => {
                assert_eq!((*step, tokens.len()), (Step(0), 4))
            }
            Event::Sampled(SampleEvent::Token { token, .. }) => {
                let whole = seen(&trainer, &model).attention(&Probe { ids: ids.clone(), note: String::new() });
                let attention = token.attention.as_ref().expect("it is remembered");
                assert_eq!((attention.start, attention.keys()), (0, ids.len()));
                for head in (0..2).flat_map(|layer| (0..2).map(move |head| HeadId { layer, head })) {
                    let row = &whole.head(head)[(ids.len() - 1) * ids.len()..];
                    assert!(relative_difference(attention.head(head), row) < 1e-5, "{head:?}");
                }
                ids.push(tokenizer.encode(&token.text).ids[0]);
            }
            _ => {}
        }
    }
    assert_eq!(ids.len(), 8);

    // Effects are measured on the viewed step, and agree with the loss of the switched view.
    run.handle.send(Command::MeasureEffects(Off::Zero));
    let done = run.until(|event| matches!(event, Event::Effects(report) if report.done == report.total));
    let Event::Effects(effects) = done else { unreachable!("waited for") };
    ask(&run, &less);
    let loss = run.until(|event| matches!(event, Event::Switched(_)));
    let Event::Switched(loss) = loss else { unreachable!("waited for") };
    assert_eq!((effects.step, loss.step, &loss.switches), (Step(0), Step(0), &less.switches));
    let effect = effects.heads[0].expect("measured");
    assert!((loss.loss - loss.whole_loss - effect).abs() < 1e-6 && effects.loss == loss.whole_loss);
    run.handle.send(Command::Prune);
    let made = run.until(|event| matches!(event, Event::Made { .. } | Event::Warning(_)));
    assert!(matches!(&made, Event::Made { run, .. } if run.join("recipe.ron").is_file()), "{made:?}");

    // A mean over a text of many windows.
    let path = run.folder.path().join("text.txt");
    fs::write(&path, headlight::text::dialogues(3000)).expect("written");
    run.handle.send(Command::Look(Box::new(first)));
    run.handle.send(Command::MeanAttention(path));
    let mean = run.until(|event| matches!(event, Event::MeanAttention(mean) if mean.windows == mean.total));
    let Event::MeanAttention(mean) = mean else { unreachable!("waited for") };
    assert!(mean.total > 10 && mean.attention.tokens.len() == 16 && mean.attention.step == Step(0));
    let row: f32 = mean.attention.head(HeadId { layer: 1, head: 1 })[15 * 16..].iter().sum();
    assert!((row - 1.0).abs() < 1e-5, "{row}");
    let missing = run.folder.path().join("none.txt");
    run.handle.send(Command::MeanAttention(missing));
    assert!(
        matches!(run.until(|event| matches!(event, Event::Warning(_))), Event::Warning(why) if why.contains("none.txt"))
    );
}

#[test]
fn a_damaged_step_is_left_out_and_a_full_disk_stops_only_the_timeline() {
    let mut run = Followed::start(small_recipe(), false);
    run.until(|event| matches!(event, Event::Kept { steps, .. } if steps.last() == Some(&Step(40))));
    let folder = run.folder.path().join("run");
    let kept = kept_steps(&folder);
    let broken = kept[1].0;
    let path = snapshot_path(&folder, broken);
    let mut bytes = fs::read(&path).expect("kept");
    let place = bytes.len() - 100;
    bytes[place] ^= 1;
    fs::write(&path, bytes).expect("written");
    run.handle.send(Command::Look(Box::new(View { step: Some(broken), ..View::default() })));
    let warning = run.until(|event| matches!(event, Event::Warning(_)));
    let named = format!("step-{:06}.safetensors", broken.0);
    assert!(matches!(&warning, Event::Warning(why) if why.contains(&named) && why.contains("altered")), "{warning:?}");
    let kept = run.events.iter().rev().find_map(|event| match event {
        Event::Kept { steps, .. } => Some(steps.clone()),
        _ => None,
    });
    assert!(kept.is_some_and(|steps| !steps.contains(&broken) && steps.len() > 1));
    // The views show the running model again.
    run.handle.send(Command::SetProbe("again".into()));
    while run.handle.take_look().is_none_or(|look| look.view.step.is_some()) {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }

    // No snapshot can be written where a file has the folder's name.
    let mut recipe = small_recipe();
    recipe.training.steps = 200;
    let mut run = Followed::start(recipe, true);
    run.until_state(RunState::Paused);
    fs::write(run.folder.path().join("run/snapshots"), "in the way").expect("written");
    run.handle.send(Command::Resume);
    run.until_state(RunState::Completed);
    let warnings: Vec<&str> = run
        .events
        .iter()
        .filter_map(|event| if let Event::Warning(text) = event { Some(text.as_str()) } else { None })
        .collect();
    assert!(warnings.len() == 1 && warnings[0].contains("the timeline stops here"), "{warnings:?}");
}

#[test]
fn commands_that_rest_on_a_view_get_that_view_also_in_the_middle_of_an_evaluation() {
    let mut recipe = small_recipe();
    recipe.training.evaluation_batches = 400;
    recipe.training.evaluation_interval = 5;
    let mut run = Followed::start(recipe, false);
    run.until(|event| matches!(event, Event::Validated(report) if report.step == Step(5)));
    // The next evaluation is soon, and takes most of the time: these come in the middle of it.
    let one = View { switches: off(&[(0, 1)], Off::Zero), ..View::default() };
    let other = View { switches: off(&[(1, 0)], Off::Zero), ..View::default() };
    std::thread::sleep(std::time::Duration::from_millis(60));
    run.handle.send(Command::Look(Box::new(one)));
    run.handle.send(Command::Prune);
    run.handle.send(Command::Look(Box::new(other.clone())));
    let made = run.until(|event| matches!(event, Event::Made { .. } | Event::Warning(_)));
    let Event::Made { run: pruned, .. } = made else { panic!("{made:?}") };
    let file = headlight::runs::RunFolder::read(&pruned).expect("a run");
    assert_eq!(file.recipe.model.pruned, [(0, 1)]);
    // What the last view costs is measured, whenever it was asked for.
    run.until(|event| matches!(event, Event::Switched(report) if report.switches == other.switches));
}

#[test]
fn a_timeline_keeps_to_its_budget() {
    let mut recipe = small_recipe();
    recipe.training.steps = 300;
    let trainer = small_trainer(recipe.clone());
    let bytes = 12 * trainer.validation_model().num_params();
    // Room for a few of them.
    recipe.training.timeline_megabytes = 1;
    assert!(bytes * 5 < 1_000_000, "{bytes}");
    let mut run = Followed::start(recipe, false);
    run.until(|event| matches!(event, Event::Kept { steps, .. } if steps.last() == Some(&Step(300))));
    let kept = kept_steps(&run.folder.path().join("run"));
    let total: u64 = kept.iter().map(|(_, bytes)| bytes).sum();
    assert!(
        total <= 1_000_000 && kept[0].0 == Step(0) && kept.last().is_some_and(|last| last.0 == Step(300)),
        "{kept:?}"
    );

    let mut none = small_recipe();
    none.training.timeline_megabytes = 0;
    let mut run = Followed::start(none, false);
    run.until_state(RunState::Completed);
    assert!(kept_steps(&run.folder.path().join("run")).is_empty());
}
