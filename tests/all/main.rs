//! Behaviour at the boundaries, in one binary so that it links once.

mod altered_files;
mod attention_lab;
mod bad_models;
mod bad_numbers;
mod command_line;
mod docs;
mod engine;
mod examples;
mod foreign;
mod golden_runs;
mod gpu;
mod invariants;
mod kept_steps;
mod kernels;
mod plain_gpt;
mod run_folder;
mod run_places;
mod tokenizer;
mod transformers;
mod whole;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use headlight::preset;
use headlight::recipe::{ModelRecipe, Recipe};
use headlight::text::{Dataset, dialogues};
use headlight::train::Trainer;

/// The program under test.
fn headlight(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_headlight")).args(arguments).output().expect("the program starts")
}

/// As [`headlight`], and it must succeed; returns standard output.
fn headlight_ok(arguments: &[&str]) -> String {
    let output = headlight(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} failed: {error}");
    String::from_utf8(output.stdout).expect("output is UTF-8")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

/// A model that steps in a few milliseconds.
fn small_recipe() -> Recipe {
    let mut recipe = preset::first().recipe;
    recipe.model = ModelRecipe { layers: 2, heads: 2, width: 16, context: 16, ..recipe.model };
    recipe.training.batch = 4;
    recipe.training.steps = 40;
    recipe.training.warmup_steps = 4;
    recipe.training.evaluation_interval = 10;
    recipe.training.evaluation_batches = 2;
    recipe
}

fn small_dataset() -> Arc<Dataset> {
    Arc::new(Dataset::from_text("test dialogues", &dialogues(8000)).expect("a sound text"))
}

fn small_trainer(recipe: Recipe) -> Trainer {
    Trainer::new(recipe, small_dataset(), headlight::device::cpu())
}
