//! Files of every kind that is read, altered in ways that a bad disk or a bad person would think of: there is an answer or a
//! sentence that names the file, never a panic, never a wait.
//!
//! `HEADLIGHT_ALTERED=1000000 cargo test --release altered -- --nocapture` takes more of them and says what came out.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use headlight::device;
use headlight::preset::Preset;
use headlight::protocol::Step;
use headlight::runs::transformers::import;
use headlight::runs::{Checkpoint, Kept, Owner, RunFolder, kept_steps, read_curves, read_roles};
use headlight::text::{Dataset, Tokenizer};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::command_line::Place;
use crate::headlight_ok;

/// Alterations in a usual run of the tests.
const USUALLY: u64 = 1500;
/// No file of these, a few kB each, takes longer to answer; the machine may be busy.
const LONGEST: Duration = Duration::from_secs(20);

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// A reader and the whole files that it likes.
struct Source {
    name: &'static str,
    files: Files,
    read: fn(&Path) -> Result<(), String>,
}

fn files_of(folder: &Path) -> Files {
    fn walk(root: &Path, folder: &Path, found: &mut Files) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(root, &path, found);
            } else {
                let name = path.strip_prefix(root).expect("below the root").to_owned();
                found.insert(name, fs::read(&path).expect("read"));
            }
        }
    }
    let mut found = Files::new();
    walk(folder, folder, &mut found);
    found
}

fn model(folder: &Path) -> Result<(), String> {
    import(folder, None, &device::cpu()).map(drop).map_err(|error| error.to_string())
}

fn run(folder: &Path) -> Result<(), String> {
    let words = |error: headlight::runs::RunError| error.to_string();
    let opened = RunFolder::open(folder).map_err(words)?;
    read_curves(folder).map_err(words)?;
    let _ = read_roles(folder, Step(u64::MAX));
    let owner = Owner::new(&opened.file.recipe.model, &opened.file.tokenizer);
    let kept = kept_steps(folder).into_iter().map(|(step, _)| headlight::runs::snapshot_path(folder, step));
    for path in [Kept::Last, Kept::Best].map(|kept| opened.checkpoint(kept)).into_iter().chain(kept) {
        Checkpoint::load(&path, &owner, &device::cpu()).map_err(words)?;
    }
    Ok(())
}

fn tokenizer(folder: &Path) -> Result<(), String> {
    let path = folder.join("tokenizer.json");
    let read = Tokenizer::from_json_file(&path, 400).map_err(|error| error.to_string())?;
    let text = "A light,  a\r\nship 12 — e\u{301}\u{1f469}\u{200d}\u{1f680}\0 <|endoftext|>";
    let ids = read.encode(text).ids;
    let _ = read.decode(&ids);
    Ok(())
}

fn preset(folder: &Path) -> Result<(), String> {
    let text = fs::read_to_string(folder.join("preset.ron")).map_err(|error| error.to_string())?;
    let preset = Preset::parse(&text).map_err(|error| error.to_string())?;
    let _ = preset.recipe.validate(Some(90));
    Ok(())
}

fn corpus(folder: &Path) -> Result<(), String> {
    let read = Dataset::from_file(&folder.join("text.txt"), None, &mut |_| true);
    read.map(drop).map_err(|error| error.to_string())
}

fn sources() -> Vec<Source> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut sources: Vec<Source> = ["gpt2-erf", "opt-relu", "llama-sharded", "phi3", "gpt2-bf16"]
        .map(|case| {
            let mut files = files_of(&golden.join(case));
            files.remove(Path::new("reference.safetensors"));
            Source { name: case, files, read: model }
        })
        .into();
    let place = Place::new();
    let (recipe, made) = (place.preset("seed: 1337", "seed: 5"), place.argument("run"));
    headlight_ok(&["train", "--recipe", &recipe, "--device", "cpu", "--stop-at", "3", "--out", &made]);
    sources.push(Source { name: "run folder", files: files_of(Path::new(&made)), read: run });
    let one = |name: &str, bytes: Vec<u8>| Files::from([(PathBuf::from(name), bytes)]);
    let json = fs::read(golden.join("tokenizer/tokenizer.json")).expect("read");
    sources.push(Source { name: "tokenizer.json", files: one("tokenizer.json", json), read: tokenizer });
    sources.push(Source { name: "preset", files: one("preset.ron", fs::read(&recipe).expect("read")), read: preset });
    let text = headlight::text::dialogues(3000).into_bytes();
    sources.push(Source { name: "text", files: one("text.txt", text), read: corpus });
    sources
}

/// What readers stumble over.
const TOKENS: [&str; 22] = [
    "null",
    "-1",
    "0",
    "1e400",
    "NaN",
    "-Infinity",
    "18446744073709551615",
    "9223372036854775808",
    "4294967296",
    "\"\"",
    "[]",
    "{}",
    "[[[[[[[[",
    "true",
    "\u{feff}",
    "\0",
    "\u{202e}",
    "\\ud800",
    "\"../../x\"",
    "(",
    "\r",
    "0x7f",
];

/// Changes a file in one to three ways.
fn alter(bytes: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    for _ in 0..random.random_range(1..=3) {
        if bytes.is_empty() {
            bytes.push(random.random());
        }
        // Most of a weights file is numbers: its head is met as often as the rest.
        let end = if random.random() { bytes.len() } else { bytes.len().min(700) };
        let place = random.random_range(0..end);
        let length = random.random_range(0..=(bytes.len() - place).min(24));
        match random.random_range(0..7) {
            0 => bytes[place] ^= 1 << random.random_range(0..8),
            1 => bytes[place] = random.random(),
            2 => bytes.truncate(place),
            3 => drop(bytes.drain(place..place + length)),
            4 => {
                let again = bytes[place..place + length].to_vec();
                bytes.splice(place..place, again);
            }
            5 => {
                // A value of a text file, or eight bytes that say a length.
                let number = bytes[place..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
                let token = TOKENS[random.random_range(0..TOKENS.len())];
                bytes.splice(place..place + number, token.bytes());
            }
            _ => {
                let wide = (place + 8).min(bytes.len());
                let value = [0, 1, u64::MAX, 1 << 32, 1 << 62][random.random_range(0..5)].to_le_bytes();
                bytes[place..wide].copy_from_slice(&value[..wide - place]);
            }
        }
    }
}

#[test]
fn altered_files_of_every_kind_are_answered() {
    let rounds = std::env::var("HEADLIGHT_ALTERED").map_or(USUALLY, |text| text.parse().expect("a number"));
    let first = std::env::var("HEADLIGHT_ALTERED_FROM").map_or(0, |text| text.parse().expect("a number"));
    let sources = sources();
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a folder");
    let (mut taken, mut refused, mut slowest) = (0_u64, 0_u64, (Duration::ZERO, String::new()));
    for round in first..first + rounds {
        let mut random = ChaCha8Rng::seed_from_u64(round);
        let source = &sources[random.random_range(0..sources.len())];
        let chosen = random.random_range(0..source.files.len());
        let place = folder.path().join(format!("{round}"));
        let mut which = PathBuf::new();
        for (index, (name, bytes)) in source.files.iter().enumerate() {
            let path = place.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("made");
            let mut bytes = bytes.clone();
            if index == chosen {
                which = name.clone();
                alter(&mut bytes, &mut random);
            }
            fs::write(path, bytes).expect("written");
        }
        let what = || format!("round {round}: {} of {}", which.display(), source.name);
        let began = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| (source.read)(&place))) {
            Err(_) => panic!("{} made the program panic", what()),
            Ok(Ok(())) => taken += 1,
            Ok(Err(sentence)) => {
                refused += 1;
                assert!(!sentence.is_empty() && sentence.len() < 4000, "{}: {sentence}", what());
            }
        }
        let took = began.elapsed();
        if took > slowest.0 {
            slowest = (took, what());
        }
        assert!(took < LONGEST, "{} took {took:?}", what());
        fs::remove_dir_all(&place).expect("removed");
    }
    println!("{rounds} altered files: {taken} taken, {refused} refused, the slowest took {slowest:?}");
    assert!(taken > 0 && refused > taken, "{taken} taken, {refused} refused");
}
