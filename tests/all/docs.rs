//! The papers of the house, held to the program: every example in `docs/` is read by the program's own readers or is what the
//! program says, links lead somewhere, names exist, the README stays short.

use std::collections::BTreeSet;
use std::fs;
use std::mem::discriminant;
use std::path::Path;

use headlight::preset::Preset;
use headlight::recipe::Biases;
use headlight::runs::{Around, RunFolder, TrainingState, read_curves, read_roles};
use safetensors::SafeTensors;
use serde::Deserialize;
use serde_json::Value;

use crate::command_line::{Place, events};
use crate::headlight_ok;

/// The most bytes of the README.
const README_BYTES_MAX: u64 = 10_240;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The fenced example of that name in a page: what stands below "```json metrics.jsonl".
fn example(page: &str, name: &str) -> String {
    let (text, ending) = (read(page), format!(" {name}"));
    let mut lines = text.lines().skip_while(|line| !(line.starts_with("```") && line.ends_with(&ending)));
    assert!(lines.next().is_some(), "{page} has no example '{name}'");
    lines.take_while(|line| *line != "```").flat_map(|line| [line, "\n"]).collect()
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_')
}

/// What stands between backticks.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The names in the first column of a page's tables.
fn documented(page: &str) -> BTreeSet<String> {
    let text = read(page);
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    cells.flat_map(code_spans).filter(|name| is_name(name)).map(str::to_owned).collect()
}

/// The names of all fields in a RON text.
fn keys_of_ron(text: &str) -> BTreeSet<String> {
    // What stands in quotes may be anything.
    let plain = text.replace("\\\\", "").replace("\\\"", "");
    let outside: String = plain.split('"').step_by(2).collect();
    let words = outside.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_' || letter == ':'));
    words
        .filter_map(|word| word.split_once(':'))
        .map(|(key, _)| key)
        .filter(|key| is_name(key))
        .map(str::to_owned)
        .collect()
}

/// The names of all keys in a JSON value.
fn keys_of(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(object) => {
            let inner = object.values().flat_map(keys_of);
            object.keys().cloned().chain(inner).collect()
        }
        Value::Array(list) => list.iter().flat_map(keys_of).collect(),
        _ => BTreeSet::new(),
    }
}

/// Every one of these names stands on the page.
fn all_are_named(page: &str, keys: &BTreeSet<String>) {
    let text = read(page);
    for key in keys {
        let said = [format!("`{key}`"), format!("{key}: "), format!(".{key}`")];
        assert!(said.iter().any(|said| text.contains(said)), "{page} says nothing of '{key}'");
    }
}

/// The page's example holds all that its tables name.
fn all_are_there(page: &str, found: &BTreeSet<String>) {
    for name in documented(page) {
        assert!(found.contains(&name), "{page} names '{name}', which its example has not");
    }
}

#[test]
fn the_page_on_presets_names_every_field() {
    let page = "docs/preset.md";
    let mut preset = Preset::parse(&example(page, "preset.ron")).expect("the example is a preset");
    assert_eq!(preset.recipe.validate(Some(65)), []);
    // What is not written where it is usual.
    let model = &mut preset.recipe.model;
    (model.key_value_heads, model.mlp_width, model.pruned) = (Some(2), Some(3), vec![(0, 1)]);
    model.biases = Biases { mlp: true, ..Biases::NONE };
    preset.recipe.data.probe_special_tokens = false;
    (preset.recipe.sampling.stop_at_end, preset.recipe.sampling.special_tokens) = (false, false);
    let keys = keys_of_ron(&preset.to_ron());
    all_are_named(page, &keys);
    all_are_there(page, &keys);
}

/// The examples of three pages make a run folder.
#[test]
fn the_pages_on_run_folders_are_of_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let pages =
        [("docs/run-folder.md", "recipe.ron"), ("docs/metrics.md", "metrics.jsonl"), ("docs/roles.md", "roles.jsonl")];
    for (page, name) in pages {
        let example = example(page, name);
        fs::write(folder.path().join(name), &example).expect("written");
        if name.ends_with(".jsonl") {
            let keys: BTreeSet<String> = events(&example).iter().flat_map(keys_of).collect();
            all_are_named(page, &keys);
            all_are_there(page, &keys);
        } else {
            all_are_there(page, &keys_of_ron(&example));
        }
    }
    let file = RunFolder::read(folder.path()).expect("recipe.ron is read");
    assert!(file.parent.is_some() && file.text_digest.starts_with("text-sha256:"));
    let around = example("docs/run-folder.md", "around.json");
    let read: Around = serde_json::from_str(&around).expect("around.json is read");
    assert!(read.begin.is_some() && !read.ends.is_empty() && !read.files.is_empty());
    all_are_named("docs/run-folder.md", &keys_of(&events(&around)[0]));
    let curves = read_curves(folder.path()).expect("metrics.jsonl is read");
    assert_eq!((curves.recipe, curves.unreadable), (file.recipe.clone(), 0));
    let steps: Vec<u64> = curves.steps.iter().map(|report| report.step.0).collect();
    let looks: Vec<u64> = curves.validations.iter().map(|report| report.step.0).collect();
    assert_eq!((steps, looks), (vec![1, 2, 3, 4], vec![0, 2, 4]));
    let roles = read_roles(folder.path(), curves.steps[3].step);
    assert_eq!(roles.len(), example("docs/roles.md", "roles.jsonl").lines().count());
    for report in roles {
        assert_eq!((report.heads, report.reports.len()), (file.recipe.model.heads, 4));
    }
}

#[test]
fn the_page_on_checkpoints_says_what_one_holds() {
    #[derive(Deserialize)]
    struct Header {
        state: TrainingState,
    }
    let page = "docs/checkpoint.md";
    let place = Place::new();
    let (preset, run) = (place.preset("layers: 2", "layers: 1"), place.argument("run"));
    headlight_ok(&["train", "--recipe", &preset, "--steps", "4", "--device", "cpu", "--out", &run]);
    let bytes = fs::read(place.path("run/checkpoint/last.safetensors")).expect("a checkpoint");
    let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
    let found = &metadata.metadata().as_ref().expect("metadata")["headlight"];

    let example_text = example(page, "headlight");
    let header: Header = ron::from_str(&example_text).expect("the example has a state");
    assert_eq!(header.state.step.0, 4);
    assert_eq!(keys_of_ron(&example_text), keys_of_ron(found));
    all_are_named(page, &keys_of_ron(found));
    all_are_there(page, &keys_of_ron(found));

    let file = SafeTensors::deserialize(&bytes).expect("a whole file");
    let tensors: BTreeSet<String> = file.iter().map(|(name, view)| format!("{name} {:?}", view.shape())).collect();
    let wanted: BTreeSet<String> = example(page, "tensors").lines().map(str::to_owned).collect();
    assert_eq!(tensors, wanted);
}

/// All that the example has is found, of the same kind. Of lists the first entries are compared.
fn holds(found: &Value, example: &Value, place: &str) {
    match (found, example) {
        (Value::Object(found), Value::Object(example)) => {
            for (key, example) in example {
                let Some(found) = found.get(key) else { panic!("{place}: '{key}' is gone") };
                holds(found, example, &format!("{place}, {key}"));
            }
        }
        (Value::Array(found), Value::Array(example)) => {
            if let (Some(found), Some(example)) = (found.first(), example.first()) {
                holds(found, example, place);
            }
        }
        (Value::Null, _) | (_, Value::Null) => {}
        _ => assert_eq!(discriminant(found), discriminant(example), "{place}: {found} is not as {example}"),
    }
}

#[test]
fn what_json_prints_is_what_the_page_says() {
    const PAGE: &str = "docs/json.md";
    let place = Place::new();
    let (preset, run) = (place.preset("text: BuiltIn", "text: Generated(Addition)"), place.argument("run"));
    let train = ["train", "--recipe", &preset, "--steps", "4", "--device", "cpu", "--out", &run, "--json"];
    let found = events(&headlight_ok(&train));
    for example in events(&example(PAGE, "train")) {
        let event = found.iter().find(|event| event["event"] == example["event"]);
        holds(event.unwrap_or_else(|| panic!("no event is as {example}")), &example, "train");
    }
    assert_eq!(found.last().map(|event| &event["event"]), Some(&Value::from("finished")));

    let [model, imported, page] = ["model", "imported", "page.html"].map(|name| place.argument(name));
    let golden = root().join("tests/golden/gpt2-tanh");
    let golden = golden.to_str().expect("UTF-8");
    let prompt = ["--prompt", "12+34="];
    let small = ["--layers", "2", "--heads", "2", "--width", "16", "--context", "24", "--batch", "2"];
    for (name, arguments) in [
        ("evaluate", vec!["evaluate", &run]),
        ("sample", [&["sample", &run][..], &prompt].concat()),
        ("logits", [&["logits", &run][..], &prompt].concat()),
        ("attention", [&["attention", &run][..], &prompt].concat()),
        ("heads", vec!["heads", &run]),
        ("effects", vec!["effects", &run]),
        ("lens", [&["lens", &run, "--attribute", "5"][..], &prompt].concat()),
        ("page", [&["page", &run, "--out", &page][..], &prompt].concat()),
        ("export", vec!["export", &run, "--format", "hf", "--out", &model]),
        ("import", vec!["import", &model, "--out", &imported]),
        ("parity", vec!["parity", golden]),
        ("bench-train", [&["bench", "train", "--steps", "12"][..], &small].concat()),
        ("bench-sample", [&["bench", "sample"][..], &small].concat()),
        ("doctor", vec!["doctor", "--device", "cpu"]),
    ] {
        let found = headlight_ok(&[&arguments[..], &["--json"]].concat());
        let [found, example] = [found, example(PAGE, name)]
            .map(|text| serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{name}: {error}: {text}")));
        holds(&found, &example, name);
        all_are_named(PAGE, &keys_of(&example).into_iter().filter(|key| is_name(key)).collect());
    }
}

/// The pages that people read.
fn pages() -> Vec<String> {
    let own = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "benches/RESULTS.md"].map(str::to_owned);
    let docs = fs::read_dir(root().join("docs")).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    own.into_iter().chain(docs.map(|name| format!("docs/{}", name.to_string_lossy()))).collect()
}

#[test]
fn every_link_leads_somewhere() {
    for page in pages() {
        let text = read(&page);
        let folder = root().join(&page).parent().map(Path::to_owned).unwrap_or_default();
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.starts_with("http")) {
            let path = target.split('#').next().unwrap_or_default();
            assert!(path.is_empty() || folder.join(path).exists(), "{page}: the link to '{target}' leads nowhere");
        }
    }
}

#[test]
fn every_path_that_is_named_is_there() {
    let roots = ["src/", "docs/", "tests/", "benches/", "presets/", "screenshots/", "assets/", ".ci/"];
    for page in pages() {
        // What once was may be gone.
        if page == "CHANGELOG.md" {
            continue;
        }
        let text = read(&page);
        // The first word: arguments may follow.
        let named = code_spans(&text).filter_map(|code| code.split_whitespace().next());
        for path in named.filter(|code| roots.iter().any(|root| code.starts_with(root))) {
            let there = root().join(path).exists() || path.contains('*');
            assert!(there, "{page} names '{path}', which is not there");
        }
    }
}

#[test]
fn the_readme_is_short() {
    let bytes = fs::metadata(root().join("README.md")).expect("a README").len();
    assert!(
        bytes <= README_BYTES_MAX,
        "the README has {bytes} bytes, at most {README_BYTES_MAX} are read: move some to docs/"
    );
}

/// Names of functions, types and fields that CONTRIBUTING tells of are those of the sources.
#[test]
fn what_contributing_names_is_there() {
    fn sources(folder: &Path, found: &mut String) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push_str(&fs::read_to_string(&path).expect("a source file"));
            }
        }
    }
    let mut code = String::new();
    for folder in ["src", "tests", "benches"] {
        sources(&root().join(folder), &mut code);
    }
    let text = read("CONTRIBUTING.md");
    let is_code = |span: &&str| span.chars().all(|letter| letter.is_ascii_alphanumeric() || "_:!".contains(letter));
    for name in code_spans(&text).filter(is_code) {
        let last = name.rsplit("::").next().unwrap_or(name);
        assert!(code.contains(last), "CONTRIBUTING.md names '{name}', which the sources do not");
    }
}
