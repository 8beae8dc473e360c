//! Run folders that older programs wrote: each opens, goes on, and is what it was. For ever.

use std::fs;
use std::path::{Path, PathBuf};

use headlight::protocol::Step;
use headlight::runs::{RunFolder, kept_steps};
use serde_json::Value;

use crate::command_line::{Place, events, losses, refused};
use crate::{headlight_ok, text};

/// What the program that wrote a run said of it.
struct Golden {
    name: &'static str,
    step: u64,
    kept: &'static [u64],
    loss: f64,
}

/// Written by Headlight 0.1.0, whose checkpoints were of format 1 (see `tests/golden/runs/README.md`).
const RUNS: [Golden; 4] = [
    Golden { name: "gpt2", step: 3, kept: &[0, 2], loss: 3.649_887_3 },
    Golden { name: "gpt2-fork", step: 4, kept: &[3], loss: 3.642_531_4 },
    Golden { name: "llama-pruned", step: 3, kept: &[0, 2], loss: 3.639_873_5 },
    Golden { name: "bpe", step: 3, kept: &[0, 2], loss: 5.788_908_9 },
];

pub(crate) fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/runs").join(name)
}

/// Copies a folder, so that the golden one stays as it is.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::write(&target, fs::read(entry.path()).expect("read")).expect("written");
        }
    }
}

fn loss_of(run: &str) -> f64 {
    let found: Value = serde_json::from_str(&headlight_ok(&["evaluate", run, "--json"])).expect("JSON");
    found["loss"].as_f64().expect("a loss")
}

#[test]
fn every_older_run_opens_goes_on_and_keeps_its_steps() {
    for Golden { name, step, kept, loss } in RUNS {
        let place = Place::new();
        let run = place.argument(name);
        copy(&golden(name), Path::new(&run));
        assert!((loss_of(&run) - loss).abs() < 1e-4, "{name}: {} is not {loss}", loss_of(&run));
        headlight_ok(&["evaluate", &run, "--best"]);
        let found: Vec<u64> = kept_steps(Path::new(&run)).iter().map(|(step, _)| step.0).collect();
        assert_eq!(found, kept, "{name}");
        for step in kept {
            headlight_ok(&["logits", &run, "--ids", "1,2,3", "--json", "--step", &step.to_string()]);
        }
        let curves = headlight::runs::read_curves(Path::new(&run)).expect("curves");
        assert_eq!((curves.steps.len() as u64, curves.unreadable, curves.gaps.len()), (step, 0, 0), "{name}");
        assert!(!headlight::runs::read_roles(Path::new(&run), Step(step)).is_empty(), "{name}");

        let stop = (step + 1).to_string();
        let found = events(&headlight_ok(&["resume", &run, "--device", "cpu", "--stop-at", &stop, "--json"]));
        assert_eq!(losses(&found).iter().map(|(step, _)| *step).collect::<Vec<_>>(), [step + 1], "{name}");
        assert!(found.iter().all(|event| event["event"] != "warning"), "{name}: {found:?}");
        // What is written now is of the newer format, and opens beside the older ones.
        let bytes = fs::read(Path::new(&run).join("checkpoint/last.safetensors")).expect("a checkpoint");
        assert!(String::from_utf8_lossy(&bytes).contains("format:2"), "{name}");
        loss_of(&run);
        headlight_ok(&["logits", &run, "--ids", "1,2,3", "--json", "--step", &kept[0].to_string()]);
    }
}

#[test]
fn an_older_run_goes_on_as_the_program_of_then_did() {
    // The program of then went on with these losses.
    let place = Place::new();
    let run = place.argument("gpt2");
    copy(&golden("gpt2"), Path::new(&run));
    let found = events(&headlight_ok(&["resume", &run, "--device", "cpu", "--json"]));
    let wanted: [(u64, f64); 5] =
        [(4, 3.641_250_1), (5, 3.641_542_9), (6, 3.645_321_6), (7, 3.640_408_8), (8, 3.630_276)];
    for ((step, loss), (wanted_step, wanted)) in losses(&found).into_iter().zip(wanted) {
        assert!(step == wanted_step && (loss - wanted).abs() < 1e-5, "step {step}: {loss} is not {wanted}");
    }
}

#[test]
fn an_altered_older_checkpoint_is_still_an_altered_one() {
    let place = Place::new();
    for name in ["gpt2", "llama-pruned"] {
        let run = place.path(name);
        copy(&golden(name), &run);
        let last = run.join("checkpoint/last.safetensors");
        let mut bytes = fs::read(&last).expect("a checkpoint");
        let place = bytes.len() - 7;
        bytes[place] ^= 1;
        fs::write(&last, bytes).expect("written");
        refused(&["evaluate", text(&run)], &["last.safetensors", "altered"]);
    }
    // And one of another recipe is another's.
    let run = place.path("llama-pruned");
    copy(&golden("llama-pruned"), &run);
    let recipe = fs::read_to_string(run.join("recipe.ron")).expect("read");
    fs::write(run.join("recipe.ron"), recipe.replace("base: 10000.0", "base: 10001.0")).expect("written");
    refused(&["evaluate", text(&run)], &["another model"]);
}

#[test]
fn an_older_fork_knows_its_parent() {
    let file = RunFolder::read(&golden("gpt2-fork")).expect("a run");
    let parent = file.parent.expect("a parent");
    assert_eq!((parent.run, parent.step), (PathBuf::from("/tmp/runs/gpt2"), Step(2)));
}

/// In format 1 of `recipe.ron` every tokenizer was one of characters, and stood there as their string.
#[test]
fn a_run_of_format_1_goes_on() {
    let place = Place::new();
    let run = place.path("run");
    copy(&golden("gpt2"), &run);
    let recipe = fs::read_to_string(run.join("recipe.ron")).expect("read");
    let (before, rest) = recipe.split_once("tokenizer: Characters(").expect("characters");
    let (characters, after) = rest.split_once("\"),").expect("an end");
    let older = format!("{before}tokenizer: {characters}\",{after}").replacen("format: 2", "format: 1", 1);
    fs::write(run.join("recipe.ron"), older).expect("written");
    headlight_ok(&["resume", text(&run), "--device", "cpu", "--stop-at", "4", "--json"]);
    assert!((loss_of(text(&run)) - RUNS[0].loss).abs() < 0.5);
}

/// The digest of its text is one of the whole file, in which a carriage return alone was a character.
#[test]
fn an_older_run_reads_its_text_as_it_did() {
    let place = Place::new();
    let run = place.argument("run");
    copy(&golden("carriage-return"), Path::new(&run));
    assert!(!Path::new("/tmp/runs/words.txt").exists(), "it is in the way of this test");
    refused(&["resume", &run, "--device", "cpu"], &["/tmp/runs/words.txt", "training cannot go on"]);
    let words = place.file("words.txt", "to be\ror not to be\r\n".repeat(100).as_bytes());
    // The same but for its line ends, as far as the digest can tell.
    let other = place.file("other.txt", "to be\nor not to be\r\n".repeat(100).as_bytes());
    refused(&["resume", &run, "--device", "cpu", "--text", &other], &["other.txt", "not the text"]);
    headlight_ok(&["resume", &run, "--device", "cpu", "--text", &words, "--stop-at", "3", "--json"]);
    let copied = place.argument("copied");
    copy(&golden("carriage-return"), Path::new(&copied));
    let found: Value =
        serde_json::from_str(&headlight_ok(&["evaluate", &copied, "--text", &words, "--json"])).expect("JSON");
    assert!((found["loss"].as_f64().expect("a loss") - 2.204_299_35).abs() < 1e-4, "{found}");
    headlight_ok(&["resume", &run, "--device", "cpu", "--stop-at", "4", "--json"]);
}
