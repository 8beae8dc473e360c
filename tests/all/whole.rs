//! What is written is there whole or not at all, under names that nobody can misread, and says one thing once.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use headlight::preset::Preset;
use headlight::recipe::{Activation, ModelRecipe, Norm, Position};
use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::command_line::{Place, refused};
use crate::transformers::golden;
use crate::{headlight_ok, small_recipe, text};

impl Place {
    /// The small recipe with another model, as a preset file.
    fn preset_of(&self, change: impl FnOnce(&mut ModelRecipe)) -> String {
        let mut preset = Preset { recipe: small_recipe(), ..headlight::preset::first() };
        change(&mut preset.recipe.model);
        self.file("preset.ron", preset.to_ron().as_bytes())
    }

    /// A run of one step.
    fn run_of(&self, name: &str, change: impl FnOnce(&mut ModelRecipe)) -> String {
        let (preset, run) = (self.preset_of(change), self.argument(name));
        headlight_ok(&["train", "--recipe", &preset, "--steps", "1", "--device", "cpu", "--out", &run, "--json"]);
        run
    }

    fn names(&self) -> BTreeSet<String> {
        names(&self.path(""))
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_model_that_nanogpt_cannot_hold_goes_out_another_way() {
    let place = Place::new();
    type Change = fn(&mut ModelRecipe);
    let cases: [(&str, Change, &[&str]); 5] = [
        (
            "lesson",
            |model| (model.position, model.mlp_width) = (Position::Rotary { base: 1e4 }, Some(16)),
            &["no rotary positions", "no MLP width but four times", "--format checkpoint"],
        ),
        (
            "relu",
            |model| model.activation = Activation::Relu,
            &["no activation but the exact GELU", "--format hf", "OPT"],
        ),
        (
            "llama",
            |model| {
                (model.norm, model.activation) = (Norm::RmsNorm, Activation::SwiGlu);
                model.position = Position::Rotary { base: 1e4 };
            },
            &["no RMSNorm", "--format hf", "Llama"],
        ),
        ("untied", |model| model.tied_head = false, &["no untied head", "--format hf", "GPT-2"]),
        ("partly", |model| model.biases.mlp = true, &["no biases in some layers only", "--format hf"]),
    ];
    for (name, change, words) in cases {
        let run = place.run_of(name, change);
        let before = place.names();
        refused(&["export", &run, "--format", "safetensors", "--out", &place.argument("a/b/out")], words);
        assert_eq!(place.names(), before, "nothing is left");
    }
    // What no family holds either is not sent from one door to the next.
    let hf = ["export", &place.argument("lesson"), "--format", "hf", "--out", &place.argument("out")];
    refused(&hf, &["no family of transformers", "--format checkpoint"]);
    headlight_ok(&["export", &place.argument("lesson"), "--format", "checkpoint", "--out", &place.argument("out")]);
}

#[test]
fn a_place_that_is_refused_is_left_as_it_was() {
    let place = Place::new();
    let run = place.run_of("run", |_| ());
    let _ = fs::remove_file(place.path("run/checkpoint/best.safetensors"));
    let model = text(&golden("llama-grouped")).to_owned();
    let out = place.argument("a/b/out");
    let before = place.names();
    for arguments in [
        &["fork", &run, "--step", "77", "--out", &out][..],
        &["prune", &run, "--heads", "9.9", "--out", &out],
        &["import", &run, "--out", &out],
        &["import", &model, "--text", "none.txt", "--out", &out],
        &["export", &run, "--best", "--format", "hf", "--out", &out],
        &["export", &run, "--format", "hf", "--family", "llama", "--out", &out],
        &["export", &model, "--format", "checkpoint", "--out", &out],
        &["page", &run, "--prompt", "a", "--out", &out],
        &["train", "--text", "none.txt", "--device", "cpu", "--out", &out],
    ] {
        refused(arguments, &["headlight: "]);
        assert_eq!(place.names(), before, "{arguments:?}");
    }
    // An empty folder is taken, and one that holds something is not.
    for format in ["checkpoint", "safetensors", "hf"] {
        let out = place.argument(format);
        fs::create_dir(&out).expect("made");
        headlight_ok(&["export", &run, "--format", format, "--out", &out]);
        refused(&["export", &run, "--format", format, "--out", &out], &["not empty"]);
        let made = names(Path::new(&out));
        assert!(made.contains("recipe.ron") || made.contains("config.json"), "{made:?}");
        assert!(!made.iter().any(|name| name.starts_with('.') || name.contains("lock")), "{made:?}");
    }
    // Also the one that the program stands in, which cannot be replaced.
    let inside = place.path("inside");
    fs::create_dir(&inside).expect("made");
    let program = || Command::new(env!("CARGO_BIN_EXE_headlight"));
    let here = program().current_dir(&inside).args(["import", &model, "--out", "."]).output().expect("started");
    assert!(here.status.success(), "{}", String::from_utf8_lossy(&here.stderr));
    assert_eq!(
        names(&inside),
        BTreeSet::from(["checkpoint", "metrics.jsonl", "recipe.ron", "snapshots"].map(str::to_owned))
    );
    assert!(!place.names().iter().any(|name| name.starts_with('.')), "{:?}", place.names());
}

/// A program that is killed as soon as something hidden is in `folder`; `false` if it was too quick.
fn killed(mut child: Child, folder: &Path) -> bool {
    let begun = || names(folder).iter().any(|name| name.starts_with('.'));
    while !begun() {
        if child.try_wait().expect("asked").is_some() {
            return false;
        }
        std::thread::yield_now();
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    begun()
}

#[test]
fn what_a_kill_leaves_is_cleared_away_by_the_next_job_and_nothing_else() {
    let place = Place::new();
    let (run, home) = (place.run_of("run", |_| ()), place.path("home"));
    let (runs, out) = (home.join("runs"), place.path("out"));
    for folder in [&runs, &out] {
        fs::create_dir_all(folder).expect("made");
    }
    let strange = [".notes.12-0.part", ".run.12-0.part"];
    for folder in [&runs, &out] {
        fs::create_dir(folder.join(strange[0])).expect("made");
        fs::write(folder.join(strange[0]).join("mine"), "mine").expect("written");
        fs::write(folder.join(strange[1]), "mine too").expect("written");
    }
    let start = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headlight"));
        command.args(arguments).env("HEADLIGHT_HOME", &home).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("started")
    };
    let model = text(&golden("llama-grouped")).to_owned();
    let at = |folder: &Path, name: &str| text(&folder.join(name)).to_owned();
    let left = |folder: &Path| -> Vec<String> {
        names(folder).into_iter().filter(|name| name.starts_with('.') && !strange.contains(&name.as_str())).collect()
    };
    for (number, job) in ["hf", "safetensors", "checkpoint", "page", "fork", "prune", "import"].into_iter().enumerate()
    {
        for folder in [&runs, &out] {
            // The strangers' are there from the beginning: only what is new is waited for.
            let (hidden, name) = (folder.join("jobs"), format!("{job}-{number}"));
            fs::create_dir_all(&hidden).expect("made");
            let to = at(&hidden, &name);
            let arguments: Vec<&str> = match job {
                "page" => vec!["page", &run, "--prompt", "a", "--out", &to],
                "fork" => vec!["fork", &run, "--step", "0", "--out", &to],
                "prune" => vec!["prune", &run, "--heads", "1.1", "--out", &to],
                "import" => vec!["import", &model, "--out", &to],
                format => vec!["export", &run, "--format", format, "--out", &to],
            };
            let mut rounds = 0;
            while !killed(start(&arguments), &hidden) && rounds < 40 {
                rounds += 1;
                let _ = fs::remove_dir_all(&to);
                let _ = fs::remove_file(&to);
            }
            assert!(rounds < 40, "{job} was never caught in the middle");
            // Whole it may be there, where only the tidying up was cut short.
            let whole = Path::new(&to).exists();
            assert!(
                whole
                    == (Path::new(&to).join("recipe.ron").exists()
                        || Path::new(&to).join("config.json").exists()
                        || Path::new(&to).is_file())
            );
            let _ = fs::remove_dir_all(&to);
            let _ = fs::remove_file(&to);
            // What lies beside the place goes with the next job there.
            let ended = start(&arguments).wait().expect("ended");
            assert!(ended.success() && Path::new(&to).exists(), "{job}");
            assert_eq!(left(&hidden), [] as [&str; 0], "{job}");
        }
    }
    // What lies among the runs goes with whichever job makes one.
    let begun = ["import", &model, "--out", &at(&runs, "begun")];
    let mut rounds = 0;
    loop {
        let _ = fs::remove_dir_all(runs.join("begun"));
        let mut child = start(&begun);
        while left(&runs).is_empty() && child.try_wait().expect("asked").is_none() {
            std::thread::yield_now();
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
        rounds += 1;
        if !left(&runs).is_empty() || rounds == 40 {
            break;
        }
    }
    assert!(rounds < 40, "the import was never caught in the middle");
    assert!(start(&["import", &model, "--out", &at(&out, "other")]).wait().expect("ended").success());
    for folder in [&runs, &out] {
        assert_eq!(left(folder), [] as [&str; 0]);
        assert!(folder.join(strange[0]).join("mine").is_file() && folder.join(strange[1]).is_file());
    }
}

#[cfg(unix)]
#[test]
fn a_path_that_is_no_utf8_is_a_path_like_any_other() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let odd = |name: &[u8]| -> PathBuf { place.path("").join(OsStr::from_bytes(name)) };
    let (words, run, forked) = (odd(b"w\xf6rter.txt"), odd(b"l\xe4uft"), odd(b"z\xfcgig"));
    fs::write(&words, b"to be or not to be. ".repeat(50)).expect("written");
    let preset = place.preset("steps: 40", "steps: 20");
    let output =
        |arguments: &[&OsStr]| Command::new(env!("CARGO_BIN_EXE_headlight")).args(arguments).output().expect("started");
    let done = |arguments: &[&OsStr]| {
        let output = output(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).expect("output is UTF-8")
    };
    let [train, cpu] = [["train", "--recipe", &preset].map(OsStr::new), ["--device", "cpu", "--json"].map(OsStr::new)];
    let [text, stop] = [[OsStr::new("--text"), words.as_os_str()], ["--stop-at", "10"].map(OsStr::new)];
    done(&[&train[..], &cpu, &text, &stop, &[OsStr::new("--out"), run.as_os_str()]].concat());
    done(&[&[OsStr::new("resume"), run.as_os_str()][..], &cpu].concat());
    done(&[OsStr::new("evaluate"), run.as_os_str()]);
    let step = ["--step", "0", "--out"].map(OsStr::new);
    done(&[&[OsStr::new("fork"), run.as_os_str()][..], &step, &[forked.as_os_str()]].concat());
    done(&[OsStr::new("evaluate"), forked.as_os_str(), OsStr::new("--text"), words.as_os_str()]);
    let golden = golden("llama-grouped");
    let imported = odd(b"model\xff");
    let json = done(&[
        OsStr::new("import"),
        golden.as_os_str(),
        OsStr::new("--json"),
        OsStr::new("--out"),
        imported.as_os_str(),
    ]);
    assert!(json.contains("model\u{fffd}"), "{json}");
    // A fault names the file that it is in.
    fs::write(&words, "another text").expect("written");
    let said = output(&[&[OsStr::new("resume"), forked.as_os_str()][..], &cpu].concat());
    assert!(String::from_utf8_lossy(&said.stderr).contains("w\u{fffd}rter.txt"), "{said:?}");
    // Where it must be text, the argument is named.
    let prompt = OsStr::from_bytes(b"caf\xe9");
    let said = output(&[OsStr::new("sample"), run.as_os_str(), OsStr::new("--prompt"), prompt]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("not UTF-8") && said.contains("--prompt caf\u{fffd}"), "{said}");
}

/// JSON in which no object names a key twice, which most readers pass over.
struct Strict;

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Look;
        impl<'de> Visitor<'de> for Look {
            type Value = Strict;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("JSON")
            }
            fn visit_bool<E>(self, _: bool) -> Result<Strict, E> {
                Ok(Strict)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Strict, E> {
                Ok(Strict)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Strict, E> {
                Ok(Strict)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Strict, E> {
                Ok(Strict)
            }
            fn visit_str<E>(self, _: &str) -> Result<Strict, E> {
                Ok(Strict)
            }
            fn visit_unit<E>(self) -> Result<Strict, E> {
                Ok(Strict)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Strict, A::Error> {
                while items.next_element::<Strict>()?.is_some() {}
                Ok(Strict)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Strict, A::Error> {
                let mut keys = BTreeSet::new();
                while let Some(key) = entries.next_key::<String>()? {
                    entries.next_value::<Strict>()?;
                    if !keys.insert(key.clone()) {
                        return Err(A::Error::custom(format!("the key {key} comes twice")));
                    }
                }
                Ok(Strict)
            }
        }
        deserializer.deserialize_any(Look)
    }
}

#[test]
fn every_line_of_json_says_each_key_once() {
    assert!(serde_json::from_str::<Strict>("[{\"a\": 1, \"a\": 2}]").is_err());
    assert!(serde_json::from_str::<IgnoredAny>("[{\"a\": 1, \"a\": 2}]").is_ok(), "others pass over it");
    let place = Place::new();
    let (preset, run) = (place.preset("steps: 40", "steps: 20"), place.argument("run"));
    let [hf, weights, copy, imported, page] =
        ["hf", "weights", "copy", "imported", "page.html"].map(|name| place.argument(name));
    let case = text(&golden("llama-grouped")).to_owned();
    let bench = ["--layers", "1", "--heads", "1", "--width", "8", "--context", "24", "--batch", "1", "--json"];
    for arguments in [
        &["train", "--recipe", &preset, "--device", "cpu", "--out", &run, "--stop-at", "10", "--json"][..],
        &["resume", &run, "--device", "cpu", "--json"],
        &["evaluate", &run, "--json"],
        &["logits", &run, "--prompt", "the", "--json"],
        &["attention", &run, "--prompt", "the", "--json"],
        &["heads", &run, "--json"],
        &["heads", &run, "--prompt", "the", "--json"],
        &["effects", &run, "--json"],
        &["lens", &run, "--prompt", "the", "--attribute", "1", "--json"],
        &["page", &run, "--prompt", "the", "--out", &page, "--json"],
        &["import", &case, "--out", &imported, "--json"],
        &["parity", &case, "--json"],
        &["export", &run, "--format", "checkpoint", "--out", &copy, "--json"],
        &["export", &run, "--format", "safetensors", "--out", &weights, "--json"],
        &["export", &run, "--format", "hf", "--out", &hf, "--json"],
        &[&["bench", "train", "--steps", "12"][..], &bench].concat(),
        &[&["bench", "sample"][..], &bench].concat(),
        &["doctor", "--device", "cpu", "--json"],
    ] {
        let said = headlight_ok(arguments);
        assert!(!said.trim().is_empty(), "{arguments:?}");
        for line in said.lines() {
            serde_json::from_str::<Strict>(line).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {line}"));
        }
    }
    for written in [&hf, &weights] {
        let config = fs::read(Path::new(written).join("config.json")).expect("written");
        serde_json::from_slice::<Strict>(&config).expect("each key once");
    }
}
