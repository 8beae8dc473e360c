//! The command line as its users call it: good days, bad input, and kills.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use headlight::recipe::{Activation, Norm, Position};
use serde_json::Value;
use tempfile::TempDir;

use crate::{headlight, headlight_ok, small_recipe, text};

pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and returns its path as an argument.
    pub fn file(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).expect("written");
        self.argument(name)
    }

    pub fn argument(&self, name: &str) -> String {
        text(&self.path(name)).to_owned()
    }

    /// The small recipe as a preset file, with `from` replaced by `to`.
    pub fn preset(&self, from: &str, to: &str) -> String {
        let preset = headlight::preset::Preset { recipe: small_recipe(), ..headlight::preset::first() };
        let text = preset.to_ron();
        assert!(text.contains(from));
        self.file("preset.ron", text.replacen(from, to, 1).as_bytes())
    }
}

pub(crate) fn events(output: &str) -> Vec<Value> {
    output.lines().map(|line| serde_json::from_str(line).expect("a JSON object a line")).collect()
}

/// Step and loss of every step in a JSON stream.
pub(crate) fn losses(events: &[Value]) -> Vec<(u64, f64)> {
    let steps = events.iter().filter(|event| event["event"] == "step");
    steps.map(|event| (event["step"].as_u64().expect("a step"), event["loss"].as_f64().expect("a loss"))).collect()
}

/// The job must fail with every one of `words` in its message.
pub(crate) fn refused(arguments: &[&str], words: &[&str]) {
    let output = headlight(arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?} was not refused");
    assert!(!message.contains("panicked"), "{message}");
    for word in words {
        assert!(message.contains(word), "{arguments:?}: '{word}' is not in: {message}");
    }
}

#[test]
fn a_stopped_and_resumed_run_equals_an_uninterrupted_one() {
    let place = Place::new();
    let preset = place.preset("seed: 1337", "seed: 5");
    let (whole, parts) = (place.argument("whole"), place.argument("parts"));
    let all = events(&headlight_ok(&["train", "--recipe", &preset, "--device", "cpu", "--out", &whole, "--json"]));
    let mut found = events(&headlight_ok(&[
        "train",
        "--recipe",
        &preset,
        "--device",
        "cpu",
        "--out",
        &parts,
        "--stop-at",
        "13",
        "--json",
    ]));
    assert_eq!(losses(&found).len(), 13);
    found.extend(events(&headlight_ok(&["resume", &parts, "--device", "cpu", "--json"])));
    assert_eq!(losses(&found), losses(&all));
    assert_eq!(losses(&all).len(), 40);
    let finished = all.iter().filter(|event| event["event"] == "finished").count();
    assert_eq!((finished, all.last().map(|event| event["event"].clone())), (1, Some("finished".into())));
    let (whole, parts) = (checkpoint_tensors(&whole), checkpoint_tensors(&parts));
    assert!(whole == parts, "weights and moments are the same to the last bit");
}

/// Weights and moments of a run's last checkpoint, by name.
pub(crate) fn checkpoint_tensors(run: &str) -> BTreeMap<String, Vec<u8>> {
    let bytes = fs::read(Path::new(run).join("checkpoint/last.safetensors")).expect("a checkpoint");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a whole file");
    file.iter().map(|(name, view)| (name.to_owned(), view.data().to_vec())).collect()
}

/// The log without what a clock has measured.
pub(crate) fn metrics(run: &str) -> Vec<Value> {
    let log = fs::read_to_string(Path::new(run).join("metrics.jsonl")).expect("a log");
    let mut lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for line in &mut lines {
        let line = line.as_object_mut().expect("an object");
        line.remove("elapsed_secs");
        line.remove("tokens_per_sec");
    }
    lines
}

#[test]
fn the_same_recipe_text_and_seed_give_the_same_run_to_the_last_bit() {
    let place = Place::new();
    // Every kind of part that GPT-2 has not, and dropout, whose random numbers repeat too.
    let mut preset = headlight::preset::Preset { recipe: small_recipe(), ..headlight::preset::first() };
    let model = &mut preset.recipe.model;
    (model.norm, model.activation, model.key_value_heads) = (Norm::RmsNorm, Activation::SwiGlu, Some(1));
    (model.position, model.dropout) = (Position::Rotary { base: 100.0 }, 0.1);
    let preset = place.file("preset.ron", preset.to_ron().as_bytes());
    let [one, two] = ["one", "two"].map(|name| {
        let run = place.argument(name);
        headlight_ok(&["train", "--recipe", &preset, "--device", "cpu", "--out", &run, "--json"]);
        run
    });
    assert_eq!(metrics(&one), metrics(&two));
    assert!(metrics(&one).len() >= 44, "40 steps and 5 evaluations");
    assert!(checkpoint_tensors(&one) == checkpoint_tensors(&two), "weights and moments are the same to the last bit");
}

#[test]
fn a_killed_run_opens_again_and_goes_on() {
    let place = Place::new();
    let preset = place.preset("steps: 40", "steps: 100000");
    let run = place.argument("run");
    let mut child = Command::new(env!("CARGO_BIN_EXE_headlight"))
        .args(["train", "--recipe", &preset, "--device", "cpu", "--out", &run, "--json"])
        .stdout(Stdio::null())
        .spawn()
        .expect("the program starts");
    let checkpoint = place.path("run").join("checkpoint/last.safetensors");
    for _ in 0..600 {
        if checkpoint.is_file() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().expect("killed");
    child.wait().expect("gone");
    let curves = headlight::runs::read_curves(&place.path("run")).expect("the curve is there");
    assert!(curves.steps.len() >= 10, "{} steps", curves.steps.len());

    let stop = (curves.steps.len() + 20).to_string();
    let found = events(&headlight_ok(&["resume", &run, "--device", "cpu", "--stop-at", &stop, "--json"]));
    let ready = found.iter().find(|event| event["event"] == "ready").expect("ready");
    let from = ready["step"].as_u64().expect("a step");
    assert!(from >= 10 && from.is_multiple_of(10), "a checkpoint is made at each evaluation, not at {from}");
    let again = losses(&found);
    assert_eq!(again.first().map(|(step, _)| *step), Some(from + 1));
    // What was logged past the checkpoint comes again, the same.
    let logged = curves.steps.iter().map(|report| (report.step.0, f64::from(report.loss)));
    for (logged, again) in logged.filter(|(step, _)| *step > from).zip(&again) {
        assert_eq!(logged.0, again.0);
        assert!((logged.1 - again.1).abs() < 1e-9, "{logged:?} is not {again:?}");
    }
    // And where it ends is where it would have been without the kill.
    let whole = place.argument("whole");
    headlight_ok(&["train", "--recipe", &preset, "--device", "cpu", "--out", &whole, "--stop-at", &stop, "--json"]);
    assert!(checkpoint_tensors(&run) == checkpoint_tensors(&whole), "weights and moments are the same to the last bit");
}

#[test]
fn a_reader_that_stops_reading_loses_no_training() {
    let place = Place::new();
    let preset = place.preset("steps: 40", "steps: 100000");
    let run = place.argument("run");
    let mut child = Command::new(env!("CARGO_BIN_EXE_headlight"))
        .args(["train", "--recipe", &preset, "--device", "cpu", "--out", &run, "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.take(15).filter(Result::is_ok).count(), 15);
    assert!(child.wait().expect("it ends").success());
    assert!(place.path("run/checkpoint/last.safetensors").is_file());
}

#[test]
fn every_question_has_an_answer() {
    let place = Place::new();
    let preset = place.preset("steps: 40", "steps: 20");
    let run = place.argument("run");
    headlight_ok(&["train", "--recipe", &preset, "--device", "cpu", "--out", &run]);

    let found: Value = serde_json::from_str(&headlight_ok(&["evaluate", &run, "--json"])).expect("JSON");
    let loss = found["loss"].as_f64().expect("a loss");
    assert!(loss > 1.0 && loss < 4.0, "{found}");
    assert!((found["perplexity"].as_f64().expect("a number") - loss.exp()).abs() < 1e-6);
    // The built-in text is ASCII: a token is a byte.
    assert!((found["bits_per_byte"].as_f64().expect("a number") - loss / 2_f64.ln()).abs() < 1e-6);

    let sample = ["sample", &run, "--prompt", "Mira: ☃", "--tokens", "12", "--seed", "3"];
    let (one, two) = (headlight(&sample), headlight(&sample));
    assert_eq!(one.stdout, two.stdout);
    assert!(String::from_utf8_lossy(&one.stdout).starts_with("Mira: "));
    assert!(String::from_utf8_lossy(&one.stderr).contains('☃'));

    let logits: Value =
        serde_json::from_str(&headlight_ok(&["logits", &run, "--prompt", "red", "--json"])).expect("JSON");
    assert_eq!(logits["logits"].as_array().expect("positions").len(), 3);
    let found: Value =
        serde_json::from_str(&headlight_ok(&["attention", &run, "--ids", "1,2,3,4", "--json"])).expect("JSON");
    assert_eq!(found["tokens"].as_array().expect("tokens").len(), 4);
    let row = &found["weights"][1][1][3];
    let sum: f64 = row.as_array().expect("a row").iter().map(|weight| weight.as_f64().expect("a weight")).sum();
    assert!((sum - 1.0).abs() < 1e-5);

    let page = place.argument("page.html");
    headlight_ok(&["page", &run, "--prompt", "red", "--out", &page]);
    let html = fs::read_to_string(&page).expect("a page");
    assert!(html.starts_with("<!doctype html>") && html.contains(r#""tokens":["r","e","d"]"#));
    refused(&["page", &run, "--prompt", "red", "--out", &place.argument("no/page.html")], &["page.html"]);

    let (weights, copy) = (place.argument("weights"), place.argument("copy"));
    headlight_ok(&["export", &run, "--format", "safetensors", "--out", &weights]);
    assert!(place.path("weights/model.safetensors").is_file() && place.path("weights/config.json").is_file());
    headlight_ok(&["export", &run, "--format", "checkpoint", "--out", &copy]);
    assert_eq!(headlight_ok(&["evaluate", &copy, "--json"]), headlight_ok(&["evaluate", &run, "--json"]));
    refused(&["export", &run, "--format", "checkpoint", "--out", &copy], &["copy", "not empty"]);

    refused(&["logits", &run, "--ids", "1,9999"], &["9999", "vocabulary"]);
    refused(
        &["attention", &run, "--prompt", "this prompt is longer than sixteen tokens"],
        &["41 tokens", "at most 16"],
    );
    refused(&["sample", &run, "--prompt", "a", "--temperature", "99"], &["temperature 99"]);
    let other = place.file("other.txt", "Ωμέγα ".repeat(100).as_bytes());
    refused(&["evaluate", &run, "--text", &other], &["other.txt", "does not know"]);
}

#[test]
fn a_lesson_is_measured_by_its_unseen_problems() {
    let place = Place::new();
    let preset = place.preset("text: BuiltIn", "text: Generated(Addition)");
    let run = place.argument("run");
    let arguments = ["train", "--recipe", &preset, "--steps", "2", "--device", "cpu", "--out", &run, "--json"];
    let events = events(&headlight_ok(&arguments));
    let looks: Vec<_> = events.iter().filter(|event| event["event"] == "validation").collect();
    assert!(looks.len() == 2 && looks.iter().all(|look| look["accuracy"].is_number()), "{looks:?}");
    let json = headlight_ok(&["evaluate", &run, "--json"]);
    let found: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(found["accuracy"], looks[1]["accuracy"]);
    assert!(headlight_ok(&["evaluate", &run]).contains("accuracy"));
    let other = place.file("sums.txt", "12+13=025\n".repeat(100).as_bytes());
    assert!(!headlight_ok(&["evaluate", &run, "--json", "--text", &other]).contains("accuracy"), "no lesson of ours");
}

#[test]
fn texts_that_cannot_be_learned_from_are_named() {
    let place = Place::new();
    let preset = place.preset("steps: 40", "steps: 20");
    let train = |file: &str, words: &[&str]| {
        refused(
            &["train", "--recipe", &preset, "--text", file, "--device", "cpu", "--out", &place.argument("out")],
            words,
        );
        assert!(!place.path("out").exists(), "a refused run leaves no folder");
    };
    train(&place.argument("missing.txt"), &["missing.txt"]);
    train(text(place.folder.path()), &["is a folder"]);
    train(&place.file("empty.txt", b""), &["empty.txt", "no text"]);
    train(&place.file("short.txt", b"abc"), &["short.txt", "context"]);
    train(&place.file("latin1.txt", b"caf\xe9 au lait"), &["latin1.txt", "offset 3"]);
}

#[test]
fn a_bench_times_what_it_is_told_to() {
    let small = ["--layers", "2", "--heads", "2", "--width", "16", "--context", "24", "--batch", "2", "--json"];
    for (arguments, figure, missing) in [
        (&["bench", "train", "--steps", "12"][..], "ms_per_step", "ms_per_token"),
        (&["bench", "sample", "--preset", "phi-micro"], "ms_per_token", "ms_per_step"),
    ] {
        let found: Value = serde_json::from_str(&headlight_ok(&[arguments, &small].concat())).expect("JSON");
        assert!(found[figure].as_f64().is_some_and(|ms| ms > 0.0) && found[missing].is_null(), "{found}");
        assert!(found["parameters"].as_u64().is_some_and(|count| count > 1000 && count < 40_000), "{found}");
    }
    let train = [&["bench", "train", "--steps", "12", "--threads", "1", "--vocabulary", "600"][..], &small].concat();
    let found: Value = serde_json::from_str(&headlight_ok(&train)).expect("JSON");
    assert_eq!(found["threads"], 1);
    assert!(found["parameters"].as_u64().is_some_and(|count| count > 16 * 600), "{found}");
    assert!(!cfg!(target_os = "linux") || found["peak_memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
    if cfg!(feature = "gui") {
        // The process that the window's start is timed with; it needs no display.
        headlight_ok(&["bench", "ui", "--first-frame"]);
    } else {
        refused(&["bench", "ui"], &["no window to measure"]);
    }
    refused(&["bench", "train", "--steps", "5"], &["5 steps are too few"]);
    refused(&["bench", "sample", "--context", "8"], &["context of 8 is too short"]);
    refused(&["bench", "train", "--heads", "3"], &["width 128 is not a multiple of 3 heads"]);
}

#[test]
fn nonsense_is_refused_with_a_reason() {
    let place = Place::new();
    let train = |preset: &str, words: &[&str]| {
        refused(&["train", "--recipe", preset, "--device", "cpu", "--out", &place.argument("out")], words);
    };
    train(&place.preset("width: 16", "width: 130").replace("preset.ron", "gone.ron"), &["gone.ron"]);
    train(
        &place.preset("heads: 2", "heads: 3"),
        &["preset.ron", "width 16 is not a multiple of 3 heads: try 15 or 18"],
    );
    train(&place.preset("width: 16", "width: 1000000000"), &["width 1000000000"]);
    train(&place.preset("heads: 2", "heads: 0"), &["heads 0"]);
    train(&place.preset("format: 1", "format: 3"), &["preset.ron", "format 3"]);
    train(&place.preset("layers: 2", "glow: 2, layers: 2"), &["preset.ron", "glow"]);
    refused(&["train", "--preset", "nope", "--out", &place.argument("out")], &["'nope'", "nanogpt-cpu"]);
    refused(&["train", "--device", "warp drive", "--out", &place.argument("out")], &["warp drive"]);
    refused(&["resume", &place.argument("nowhere")], &["nowhere"]);
    refused(&["evaluate", text(place.folder.path())], &["no recipe.ron"]);
    let taken = place.file("taken", b"a file");
    refused(&["train", "--device", "cpu", "--out", &taken], &["taken"]);
}

/// A shell's limit stands for a machine that has no more.
#[test]
#[cfg(target_os = "linux")]
fn what_does_not_fit_into_the_memory_is_refused_with_the_numbers() {
    let place = Place::new();
    let limited = |arguments: &[&str]| {
        let program = env!("CARGO_BIN_EXE_headlight");
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -v 6000000 && exec \"$0\" \"$@\"", program]).args(arguments);
        let output = shell.output().expect("the shell starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // As much as a recipe may ask for.
    let preset = headlight::preset::Preset { recipe: small_recipe(), ..headlight::preset::first() };
    let mut large = preset.clone();
    (large.recipe.model.width, large.recipe.model.layers, large.recipe.model.context) = (512, 12, 512);
    (large.recipe.model.heads, large.recipe.training.batch) = (8, 32);
    let preset = place.file("large.ron", large.to_ron().as_bytes());
    let out = place.argument("out");
    let (code, said) = limited(&["train", "--recipe", &preset, "--device", "cpu", "--out", &out]);
    assert_eq!(code, Some(1), "{said}");
    for word in ["training this recipe needs about", "GB of memory", "are free", "lower the batch"] {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
    assert!(!place.path("out").exists(), "a refused run leaves no folder");
    let small = place.preset("steps: 40", "steps: 4");
    let (code, said) = limited(&["train", "--recipe", &small, "--device", "cpu", "--out", &out]);
    assert_eq!(code, Some(0), "what fits is done: {said}");
    let sizes = ["--layers", "12", "--width", "512", "--context", "512", "--batch", "32", "--heads", "8"];
    let (code, said) = limited(&[&["bench", "train"][..], &sizes].concat());
    assert!(code == Some(1) && said.contains("needs about"), "{said}");
}

#[test]
fn an_altered_checkpoint_is_named_and_the_best_one_stands_in() {
    let place = Place::new();
    let preset = place.preset("steps: 40", "steps: 20");
    let run = place.argument("run");
    headlight_ok(&["train", "--recipe", &preset, "--device", "cpu", "--out", &run, "--json", "--stop-at", "15"]);
    let last = place.path("run/checkpoint/last.safetensors");
    let bytes = fs::read(&last).expect("a checkpoint");
    fs::write(&last, &bytes[..bytes.len() / 3]).expect("written");
    refused(&["evaluate", &run], &["last.safetensors", "cut short"]);
    headlight_ok(&["evaluate", &run, "--best"]);
    let found = events(&headlight_ok(&["resume", &run, "--device", "cpu", "--json"]));
    let warning = found.iter().find(|event| event["event"] == "warning").expect("it is said");
    assert!(warning["text"].as_str().is_some_and(|text| text.contains("last.safetensors") && text.contains("step 10")));
    assert_eq!(losses(&found).first().map(|(step, _)| *step), Some(11));
}

#[test]
fn a_run_whose_text_is_gone_can_be_looked_at_but_not_trained() {
    let place = Place::new();
    let preset = place.preset("steps: 40", "steps: 20");
    let (run, words) = (place.argument("run"), place.file("words.txt", &b"to be or not to be. ".repeat(50)));
    headlight_ok(&[
        "train",
        "--recipe",
        &preset,
        "--text",
        &words,
        "--device",
        "cpu",
        "--out",
        &run,
        "--stop-at",
        "10",
    ]);
    // Where the stop was reached already, there is nothing to do and nothing is changed.
    let again = events(&headlight_ok(&["resume", &run, "--device", "cpu", "--stop-at", "10", "--json"]));
    assert_eq!(losses(&again), []);
    for change in [Some(b"something else altogether. ".repeat(50)), None] {
        match change {
            Some(bytes) => fs::write(&words, bytes).expect("written"),
            None => fs::remove_file(&words).expect("removed"),
        }
        refused(&["resume", &run, "--device", "cpu"], &["words.txt", "training cannot go on"]);
        headlight_ok(&["sample", &run, "--prompt", "to be", "--tokens", "3"]);
    }
}
