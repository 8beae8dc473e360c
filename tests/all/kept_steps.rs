//! Runs and their kept steps: roles, forks, views that follow, measurements, a timeline that stays within its bounds.

use std::fs;
use std::path::Path;

use burn::module::Module;
use headlight::model::relative_difference;
use headlight::protocol::{Command, Event, HeadId, Off, RunState, SampleEvent, SampleRequest, Step, View};
use headlight::recipe::{Recipe, SamplingRecipe};
use headlight::runs::{Kept, kept_steps, read_roles, snapshot_path};
use headlight::train::{Probe, Trainer};
use serde_json::Value;

use crate::attention_lab::{off, seen};
use crate::command_line::{Place, checkpoint_tensors, events, losses, metrics, refused};
use crate::engine::Followed;
use crate::{headlight, headlight_ok, small_recipe, small_trainer};

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
    let roles = |run: &str| read_roles(Path::new(run), Step(step.parse().expect("a number")));
    assert!(roles(&run).len() > 1 && roles(&run) == roles(&fork), "what the heads did before is known in the fork");
    // Another rate from there on.
    let other = place.argument("other");
    headlight_ok(&["fork", &run, "--step", &step, "--learning-rate", "0.0001", "--out", &other]);
    headlight_ok(&["resume", &other, "--device", "cpu", "--json"]);
    let (one, two) = (kind(&run, "step"), kind(&other, "step"));
    let same = one.iter().zip(&two).take_while(|(one, two)| one["loss"] == two["loss"]).count();
    let step: usize = step.parse().expect("a number");
    // The rate of the first step after it changes what comes after that.
    assert_eq!((one.len(), two.len(), same), (40, 40, step + 1));
    refused(&["fork", &run, "--step", "41", "--out", &place.argument("none")], &["does not keep step 41", "kept"]);
    refused(&["fork", &run, "--step", &step.to_string(), "--out", &fork], &["is there already"]);
    let wider = place.preset("heads: 2", "heads: 4");
    let (at, none) = (step.to_string(), place.argument("none"));
    refused(&["fork", &run, "--step", &at, "--recipe", &wider, "--out", &none], &["keeps the model's shape"]);
    let few = step.to_string();
    refused(&["fork", &run, "--step", &few, "--steps", &few, "--out", &place.argument("none")], &["needs more steps"]);
    assert!(!place.path("none").exists());
}

#[test]
fn a_finished_run_says_how_it_goes_on_and_what_has_no_steps_is_refused() {
    let place = Place::new();
    let preset = place.preset("timeline_megabytes: 1000", "timeline_megabytes: 0");
    let run = place.argument("run");
    headlight_ok(&["train", "--recipe", &preset, "--device", "cpu", "--out", &run, "--json", "--stop-at", "20"]);
    let behind = ["resume", &run, "--device", "cpu", "--stop-at", "13"];
    refused(&behind, &["--stop-at 13 lies behind step 20", "name a later step"]);
    let there = headlight(&["resume", &run, "--device", "cpu", "--stop-at", "20"]);
    assert!(there.status.success() && String::from_utf8_lossy(&there.stderr).contains("nothing to do"), "{there:?}");
    headlight_ok(&["resume", &run, "--device", "cpu", "--json"]);

    let finished = headlight(&["resume", &run, "--device", "cpu"]);
    let said = String::from_utf8_lossy(&finished.stderr).into_owned();
    assert!(finished.status.success(), "nothing is wrong: {said}");
    let how = format!("headlight fork {run} --step 40 --out NEW --steps MORE");
    assert!(said.contains("all 40 steps are done") && said.contains(&how), "{said}");
    refused(&["resume", &run, "--device", "cpu", "--stop-at", "60"], &["all 40 steps are done", "headlight fork"]);
    refused(&["resume", &run, "--device", "cpu", "--stop-at", "39"], &["--stop-at 39 lies behind step 40"]);
    let new = place.argument("new");
    refused(&["train", "--recipe", &preset, "--device", "cpu", "--out", &new, "--stop-at", "0"], &["--stop-at 0"]);
    refused(&["fork", &run, "--step", "40", "--out", &new], &["end at step 40", "needs more steps"]);
    refused(&["fork", &run, "--step", "40", "--steps", "40", "--out", &new], &["needs more steps"]);
    refused(&["fork", &run, "--step", "40", "--seed", "9", "--out", &new], &["needs more steps"]);
    assert!(!place.path("new").exists());
    // As it was told, though the timeline keeps nothing: the last checkpoint is of that step.
    headlight_ok(&["fork", &run, "--step", "40", "--steps", "44", "--out", &new]);
    let more = events(&headlight_ok(&["resume", &new, "--device", "cpu", "--json"]));
    assert_eq!(losses(&more).iter().map(|(step, _)| *step).collect::<Vec<_>>(), [41, 42, 43, 44]);
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
    let answer = |run: &Followed, view: &View| run.until_look(|look| look.view == *view);
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
    let pinned = View { pin: Some(headlight::protocol::Pin { run: None, step: Some(Step(0)) }), ..View::default() };
    let live = ask(&run, &pinned);
    let held = live.pinned.as_ref().expect("pinned").as_ref().expect("it is kept");
    assert!(held.weights == early.attention.weights && live.attention.step > Step(0));

    run.until_state(RunState::Completed);
    // A sample of the first weights, and where its heads looked.
    ask(&run, &first);
    let settings = SamplingRecipe { prompt: "Mira".into(), tokens: 4, temperature: 0.0, ..small_recipe().sampling };
    run.handle.send(Command::Sample(SampleRequest { id: 1, settings }));
    run.until(|event| matches!(event, Event::Sampled(SampleEvent::Done { id: 1, .. })));
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
    run.until_look(|look| look.view.step.is_none());

    // No snapshot can be written where a file has the folder's name.
    let mut recipe = small_recipe();
    recipe.training.steps = 200;
    let mut run = Followed::start(recipe, true);
    run.until_state(RunState::Paused);
    let snapshots = run.folder.path().join("run/snapshots");
    fs::remove_dir_all(&snapshots).expect("removed");
    fs::write(snapshots, "in the way").expect("written");
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
    let folder = run.folder.path().join("run");
    assert!(kept_steps(&folder).is_empty());
    // What the heads do is measured all the same.
    let last = Step(small_recipe().training.steps);
    let roles = read_roles(&folder, last);
    assert!(roles.len() > 3 && roles.last().is_some_and(|report| report.step == last), "{roles:?}");
}

#[test]
fn what_a_switch_costs_is_measured_again_as_the_model_learns() {
    let mut run = Followed::start(small_recipe(), true);
    run.until_state(RunState::Paused);
    let view = View { switches: off(&[(0, 1)], Off::Zero), ..View::default() };
    run.handle.send(Command::Look(Box::new(view.clone())));
    run.until(|event| matches!(event, Event::Switched(report) if report.step == Step(0)));
    run.handle.send(Command::Resume);
    run.until_state(RunState::Completed);
    let last = Step(small_recipe().training.steps);
    run.until(|event| matches!(event, Event::Switched(report) if report.step == last));
}

#[test]
fn at_rest_the_heads_are_scored_whether_or_not_the_step_is_kept() {
    let mut recipe = small_recipe();
    recipe.training.timeline_megabytes = 0;
    let mut run = Followed::start(recipe, true);
    run.until_state(RunState::Paused);
    run.until_look(|look| look.roles.as_ref().is_some_and(|roles| roles.reports.len() == 4));
}
