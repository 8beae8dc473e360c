//! Run folders and checkpoints: nothing a file says is trusted, nothing is lost.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use headlight::model::Gpt;
use headlight::protocol::{Step, StepReport, ValidationReport};
use headlight::recipe::{Recipe, SamplingRecipe};
use headlight::runs::{
    Checkpoint, Kept, Owner, RunError, RunFile, RunFolder, TrainingState, copy_run, export_safetensors, read_curves,
    write_atomic,
};
use headlight::text::{CharTokenizer, Dataset, Tokenizer};
use headlight::train::{Sampler, Trainer};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::{small_recipe, small_trainer};

fn run_file(trainer: &Trainer) -> RunFile {
    RunFile::new(trainer.recipe().clone(), trainer.dataset().tokenizer.clone(), trainer.dataset().digest.clone())
}

/// Byte-level BPE that spells the letters of the test dialogues.
fn bpe(rows: usize) -> Tokenizer {
    // GPT-2's signs for a line end and a space.
    let symbols = ('!'..='~').chain(['Ċ', 'Ġ']).map(String::from).chain(["th".into()]);
    let vocab: std::collections::BTreeMap<String, usize> = symbols.zip(0..rows).collect();
    let merges: &[(&str, &str)] = if vocab.contains_key("th") { &[("t", "h")] } else { &[] };
    let json = serde_json::json!({
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    });
    Tokenizer::from_json(json.to_string().as_bytes(), rows).expect("a sound tokenizer")
}

fn state(step: u64) -> TrainingState {
    TrainingState {
        step: Step(step),
        learning_rate: 1e-3,
        final_learning_rate: 1e-4,
        elapsed_secs: 1.5,
        best_validation_loss: Some(2.5),
    }
}

fn report(step: u64, loss: f32) -> StepReport {
    StepReport {
        step: Step(step),
        loss,
        learning_rate: 1e-3,
        gradient_norm: 1.0,
        elapsed_secs: 0.1,
        tokens_per_sec: 10.0,
    }
}

/// A saved checkpoint after one step, and what it is of.
struct Saved {
    _folder: TempDir,
    path: PathBuf,
    recipe: Recipe,
    tokenizer: Tokenizer,
}

impl Saved {
    fn new() -> Self {
        let mut trainer = small_trainer(small_recipe());
        trainer.step().expect("finite");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("last.safetensors");
        let (recipe, tokenizer) = (trainer.recipe().clone(), trainer.dataset().tokenizer.clone());
        let owner = Owner::new(&recipe.model, &tokenizer);
        Checkpoint::save(&path, &trainer.validation_model(), trainer.optimizer(), state(1), &owner).expect("saved");
        Self { _folder: folder, path, recipe, tokenizer }
    }

    fn load(&self, recipe: &Recipe, tokenizer: &Tokenizer) -> Result<Checkpoint, RunError> {
        Checkpoint::load(&self.path, &Owner::new(&recipe.model, tokenizer), &headlight::device::cpu())
    }

    /// The file must be refused under this recipe and tokenizer, by name and for this reason.
    fn refused(&self, recipe: &Recipe, tokenizer: &Tokenizer, reason: &str) {
        let message = self.load(recipe, tokenizer).expect_err("refused").to_string();
        assert!(message.contains("last.safetensors") && message.contains(reason), "not '{reason}': {message}");
    }
}

#[test]
fn damaged_checkpoints_are_refused_by_name() {
    let saved = Saved::new();
    let good = fs::read(&saved.path).expect("readable");
    let with = |bytes: &[u8], reason| {
        fs::write(&saved.path, bytes).expect("written");
        saved.refused(&saved.recipe, &saved.tokenizer, reason);
    };
    with(&good[..good.len() / 2], "cut short");
    with(b"", "cut short");
    let mut altered = good.clone();
    let middle = altered.len() - 100;
    altered[middle] ^= 0x40;
    with(&altered, "altered");
    let mut lying = good.clone();
    lying[..8].copy_from_slice(&(1_u64 << 45).to_le_bytes());
    with(&lying, "cut short");
    fs::write(&saved.path, &good).expect("written");
    saved.load(&saved.recipe, &saved.tokenizer).expect("the good file is taken");
}

#[test]
fn a_checkpoint_of_another_model_or_vocabulary_is_refused() {
    let saved = Saved::new();
    let with = |change: fn(&mut Recipe), reason| {
        let mut recipe = saved.recipe.clone();
        change(&mut recipe);
        saved.refused(&recipe, &saved.tokenizer, reason);
    };
    with(|recipe| recipe.model.layers = 3, "'transformer.h.2.attn.c_attn.weight' is missing");
    with(|recipe| recipe.model.layers = 1, "'transformer.h.1.attn.c_attn.weight' is left over");
    with(|recipe| recipe.model.width = 32, "transformer.wte.weight");
    with(|recipe| recipe.model.heads = 4, "another model");
    let rows = saved.tokenizer.vocabulary();
    let mut characters: Vec<char> = saved.tokenizer.identity().chars().collect();
    characters.push('ω');
    saved.refused(&saved.recipe, &CharTokenizer::from_chars(characters.clone()).into(), "transformer.wte.weight");
    // As many characters, but not the same.
    characters.remove(0);
    saved.refused(&saved.recipe, &CharTokenizer::from_chars(characters).into(), "another vocabulary");
    saved.refused(&saved.recipe, &Tokenizer::Numbers(rows), "another vocabulary");
    saved.refused(&saved.recipe, &bpe(rows), "another vocabulary");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Whatever happens to a checkpoint's bytes, reading it ends in an error and never in a panic.
    #[test]
    fn altered_checkpoints_are_never_taken(place in any::<prop::sample::Index>(), in_header: bool, bit in 0_u8..8, cut in 0_usize..4096) {
        static GOOD: OnceLock<(Saved, Vec<u8>)> = OnceLock::new();
        let (saved, good) = GOOD.get_or_init(|| {
            let saved = Saved::new();
            let bytes = fs::read(&saved.path).expect("readable");
            (saved, bytes)
        });
        let mut bytes = good.clone();
        // The header is where a lie does most.
        let header = 8 + u64::from_le_bytes(good[..8].try_into().expect("eight bytes")) as usize;
        bytes[place.index(if in_header { header } else { good.len() })] ^= 1 << bit;
        if cut % 4 == 0 {
            bytes.truncate(bytes.len() - cut);
        }
        fs::write(&saved.path, &bytes).expect("written");
        prop_assert!(saved.load(&saved.recipe, &saved.tokenizer).is_err());
    }
}

#[test]
fn the_log_survives_a_torn_line_and_forgets_what_a_resume_voids() {
    let trainer = small_trainer(small_recipe());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run");
    let mut run = RunFolder::create(&path, run_file(&trainer)).expect("made");
    for step in 1..=5 {
        run.log_step(report(step, step as f32)).expect("logged");
    }
    // A log without accuracies is as older ones are.
    let validation = |step: u64| ValidationReport {
        step: Step(step),
        train_loss: 1.0,
        validation_loss: 2.0,
        best: true,
        accuracy: (step == 2).then_some(0.5),
    };
    run.log_validation(validation(2)).expect("logged");
    run.log_validation(validation(5)).expect("logged");
    assert!(matches!(RunFolder::open(&path), Err(RunError::Locked { .. })));
    drop(run);

    // Killed in the middle of a line.
    let log = path.join("metrics.jsonl");
    let mut bytes = fs::read(&log).expect("readable");
    bytes.extend(b"{\"kind\":\"step\",\"st");
    fs::write(&log, bytes).expect("written");

    // And in the middle of a checkpoint.
    fs::create_dir_all(path.join("checkpoint")).expect("made");
    fs::write(path.join("checkpoint/.last.safetensors.1.part"), "half").expect("written");

    let mut run = RunFolder::open(&path).expect("opens again");
    assert!(!path.join("checkpoint/.last.safetensors.1.part").exists(), "what is nobody's is taken away");
    run.log_resumed(Step(3)).expect("logged");
    run.log_step(report(4, 40.0)).expect("logged");
    run.flush().expect("flushed");
    let curves = read_curves(&path).expect("readable while it is open");
    let losses: Vec<_> = curves.steps.iter().map(|report| (report.step.0, report.loss)).collect();
    assert_eq!(losses, [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0)]);
    assert_eq!(curves.validations, [validation(2)]);
    assert_eq!(curves.unreadable, 1);
}

#[test]
fn a_new_run_never_takes_an_occupied_folder() {
    let trainer = small_trainer(small_recipe());
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("thesis.txt"), "do not touch").expect("written");
    assert!(matches!(RunFolder::create(folder.path(), run_file(&trainer)), Err(RunError::Occupied { .. })));
    assert!(matches!(read_curves(folder.path()), Err(RunError::NotARun { .. })));
    assert_eq!(fs::read_to_string(folder.path().join("thesis.txt")).expect("there"), "do not touch");
}

#[test]
fn nonsense_in_a_recipe_is_refused_before_memory_is_taken() {
    let trainer = small_trainer(small_recipe());
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run");
    drop(RunFolder::create(&path, run_file(&trainer)).expect("made"));
    let recipe = path.join("recipe.ron");
    let good = fs::read_to_string(&recipe).expect("readable");
    for (from, to, wanted) in [
        ("width: 16", "width: 1000000000", "width"),
        ("heads: 2", "heads: 0", "heads"),
        ("format: 2", "format: 9", "format 9"),
        ("tokenizer: Characters(", "tokenizer: Numbers(70000), //", "70000 rows"),
        ("layers: 2", "sparkle: 2", "sparkle"),
    ] {
        fs::write(&recipe, good.replacen(from, to, 1)).expect("written");
        let message = RunFolder::open(&path).expect_err("refused").to_string();
        assert!(message.contains(wanted) && message.contains("recipe.ron"), "{message}");
    }
}

#[test]
fn every_kind_of_tokenizer_is_kept_with_its_run() {
    let place = tempfile::tempdir().expect("a folder");
    let characters = small_trainer(small_recipe()).dataset().tokenizer.clone();
    for (name, tokenizer) in [("characters", characters), ("bpe", bpe(120)), ("numbers", Tokenizer::Numbers(300))] {
        let path = place.path().join(name);
        let file = RunFile::new(small_recipe(), tokenizer.clone(), "digest".into());
        drop(RunFolder::create(&path, file.clone()).expect("made"));
        assert_eq!(RunFolder::open(&path).expect("opens again").file, file);
        assert_eq!(path.join("tokenizer.json").is_file(), name == "bpe");

        let checkpoint = Kept::Last.path(&path);
        fs::create_dir_all(checkpoint.parent().expect("a folder")).expect("made");
        fs::write(&checkpoint, "stands for one").expect("written");
        let copy = place.path().join(format!("{name}-copy"));
        copy_run(&path, &copy).expect("copied");
        assert_eq!(RunFolder::read(&copy).expect("read"), file);

        let model = Gpt::new(&small_recipe().model, tokenizer.vocabulary(), 0, &headlight::device::cpu());
        let weights = place.path().join(format!("{name}-weights"));
        export_safetensors(&weights, &model, &small_recipe().model, &tokenizer).expect("exported");
        let json = weights.join("tokenizer.json");
        match &tokenizer {
            Tokenizer::Numbers(_) => assert!(!json.exists()),
            Tokenizer::Bpe(bpe) => assert_eq!(fs::read_to_string(&json).expect("there"), bpe.json()),
            Tokenizer::Characters(_) => {
                let read = Tokenizer::from_json_file(&json, tokenizer.vocabulary());
                assert_eq!(read.expect("read again"), tokenizer);
            }
        }
    }
    let json = place.path().join("bpe/tokenizer.json");
    fs::write(&json, "{").expect("written");
    let message = RunFolder::open(&place.path().join("bpe")).expect_err("refused").to_string();
    assert!(message.contains("tokenizer.json: it is not JSON"), "{message}");
    fs::remove_file(&json).expect("removed");
    let message = RunFolder::read(&place.path().join("bpe")).expect_err("refused").to_string();
    assert!(message.contains("tokenizer.json"), "{message}");
    read_curves(&place.path().join("bpe")).expect("the curves need no tokenizer");
}

#[test]
fn a_run_of_format_1_still_opens() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run");
    let file = run_file(&small_trainer(small_recipe()));
    drop(RunFolder::create(&path, file.clone()).expect("made"));
    let recipe = path.join("recipe.ron");
    let text = fs::read_to_string(&recipe).expect("readable");
    let Some((before, rest)) = text.split_once("tokenizer: Characters(") else { panic!("{text}") };
    let Some((characters, after)) = rest.split_once("\"),") else { panic!("{text}") };
    let older = format!("{before}tokenizer: {characters}\",{after}").replacen("format: 2", "format: 1", 1);
    fs::write(&recipe, older).expect("written");
    assert_eq!(RunFolder::open(&path).expect("opens").file, file);
}

#[test]
fn a_model_with_another_tokenizer_trains_and_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = folder.path().join("text.txt");
    fs::write(&text, headlight::text::dialogues(8000)).expect("written");
    let tokenizer = bpe(120);
    let dataset = Dataset::from_file(&text, Some(&tokenizer), &mut |_| true).expect("read");
    let mut trainer = Trainer::new(small_recipe(), dataset.into(), headlight::device::cpu());
    assert!((trainer.step().expect("finite").loss - 120_f32.ln()).abs() < 0.5, "an untrained model knows nothing");
    let settings = SamplingRecipe { prompt: "the ☃".into(), tokens: 5, ..small_recipe().sampling };
    let mut sampler = Sampler::new(settings, &tokenizer);
    assert_eq!((sampler.prompt.as_str(), sampler.note.contains("'☃'")), ("the ", true));
    let (model, device) = (trainer.validation_model(), headlight::device::cpu());
    let tokens: Vec<_> = std::iter::from_fn(|| {
        sampler.next(&model, Step(1), &small_recipe().model, &tokenizer, &device).expect("finite")
    })
    .collect();
    assert_eq!(tokens.len(), 5);
    assert!(tokens.iter().all(|token| token.alternatives.len() == 10 && !token.label.is_empty()));
}

#[test]
fn a_write_that_fails_leaves_the_old_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("kept");
    write_atomic(&path, b"old").expect("written");
    // A folder in the way of the rename stands for every failure after the bytes are written.
    let blocked = folder.path().join("blocked");
    fs::create_dir_all(blocked.join("inside")).expect("made");
    assert!(write_atomic(&blocked, b"new").is_err());
    write_atomic(&path, b"new").expect("written");
    assert_eq!(fs::read(&path).expect("readable"), b"new");
    let names: Vec<_> =
        fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(names.len(), 2, "nothing is left beside: {names:?}");
}

#[test]
fn exported_weights_have_pytorchs_names_and_layout() {
    let trainer = small_trainer(small_recipe());
    let folder = tempfile::tempdir().expect("a folder");
    let model = trainer.validation_model();
    let tokenizer = &trainer.dataset().tokenizer;
    export_safetensors(folder.path(), &model, &trainer.recipe().model, tokenizer).expect("exported");
    let again = export_safetensors(folder.path(), &model, &trainer.recipe().model, tokenizer);
    assert!(matches!(again, Err(RunError::Occupied { .. })), "what is there is not replaced");
    let bytes = fs::read(folder.path().join("model.safetensors")).expect("readable");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a whole file");
    let shape = |name| file.tensor(name).unwrap_or_else(|_| panic!("{name} is there")).shape().to_vec();
    assert_eq!(shape("transformer.wte.weight"), [tokenizer.vocabulary(), 16]);
    assert_eq!(shape("transformer.wpe.weight"), [16, 16]);
    assert_eq!(shape("transformer.h.1.attn.c_attn.weight"), [48, 16]);
    assert_eq!(shape("transformer.h.0.mlp.c_fc.weight"), [64, 16]);
    assert_eq!(shape("transformer.h.0.mlp.c_proj.weight"), [16, 64]);
    assert_eq!(shape("transformer.ln_f.weight"), [16]);
    assert_eq!(file.len(), 2 + 2 * 6 + 1);
    let config: serde_json::Value =
        serde_json::from_slice(&fs::read(folder.path().join("config.json")).expect("readable")).expect("JSON");
    assert_eq!((config["n_layer"].as_u64(), config["block_size"].as_u64()), (Some(2), Some(16)));
    assert_eq!(Kept::Last.path(folder.path()), folder.path().join("checkpoint/last.safetensors"));
}
