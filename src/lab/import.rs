//! A model of another program becomes a run.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use burn::module::Module;
use serde::Serialize;

use super::handle::Place;
use super::protocol::{Family, Step};
use crate::device;
use crate::recipe::{DataRecipe, Recipe, SamplingRecipe, TextSource};
use crate::runs::transformers::{self, Imported};
use crate::runs::{
    Checkpoint, Kept, Owner, RunFile, RunFolder, TrainingState, default_root, folder_beside, new_folder, put_in_place,
};
use crate::text::{Dataset, TextSummary, TokenId, Tokenizer};
use crate::train::AdamW;

/// Memory that further training of an imported model may take; its batch is made to fit.
const TRAINING_BYTES: u64 = 4 << 30;
/// Tokens of a probe and prompt that the model's own vocabulary has to give.
const STAND_IN_TOKENS: usize = 12;

/// What became of a model.
#[derive(Debug, Clone, Serialize)]
pub struct ImportReport {
    pub family: Family,
    pub parameters: u64,
    pub vocabulary: usize,
    pub run: std::path::PathBuf,
    /// What the user should know, in sentences.
    pub notes: Vec<String>,
}

/// Makes a run of a folder in the format of `transformers`. Everything but the model is as in `base`; its text is what
/// the model can be trained on further. The run appears whole or not at all.
///
/// # Errors
/// If the model or the text cannot be read, or the run's folder is occupied or cannot be written: names the file.
pub fn import(from: &Path, place: &Place, context: Option<usize>, base: &Recipe) -> Result<ImportReport> {
    if let Place::At(path) = place {
        RunFolder::refuse_occupied(path)?;
    }
    let device = device::cpu();
    let Imported { family, recipe: shape, tokenizer, model, mut notes } = transformers::import(from, context, &device)?;
    let (text, digest) = text_of(&base.data.text)?;
    notes.extend(hindrance(&text, &tokenizer));
    let fitting = |text: &str| fitting(text, &tokenizer);
    let probe = fitting(&base.data.probe);
    let sampling = SamplingRecipe { prompt: fitting(&base.sampling.prompt), ..base.sampling.clone() };
    let mut recipe = Recipe { model: shape, data: DataRecipe { text, probe }, sampling, ..base.clone() };
    while recipe.training.batch > 1 && recipe.training_bytes(tokenizer.vocabulary()) > TRAINING_BYTES {
        recipe.training.batch /= 2;
    }
    if let Some(fault) = recipe.validate(Some(tokenizer.vocabulary())).first() {
        anyhow::bail!("{}: {fault}", from.display());
    }
    let run = match place {
        Place::At(path) => path.clone(),
        Place::Named(name) => new_folder(&default_root(), name),
    };
    let report = ImportReport {
        family,
        parameters: model.num_params() as u64,
        vocabulary: tokenizer.vocabulary(),
        run: run.clone(),
        notes,
    };
    // Beside it and then renamed: half a run would open with weights that nobody trained.
    let beside = folder_beside(&run)?;
    if let Err(error) = write(&beside, recipe, tokenizer, digest, &model.valid()) {
        let _ = fs::remove_dir_all(&beside);
        return Err(error);
    }
    put_in_place(&beside, &run)?;
    Ok(report)
}

fn write(folder: &Path, recipe: Recipe, tokenizer: Tokenizer, digest: String, model: &crate::model::Gpt) -> Result<()> {
    let state = TrainingState {
        step: Step(0),
        learning_rate: recipe.training.learning_rate,
        final_learning_rate: recipe.training.final_learning_rate,
        elapsed_secs: 0.0,
        best_validation_loss: None,
    };
    let folder = RunFolder::create(folder, RunFile::new(recipe, tokenizer, digest))?;
    let owner = Owner::new(&folder.file.recipe.model, &folder.file.tokenizer);
    Checkpoint::save(&folder.checkpoint(Kept::Last), model, &AdamW::default(), state, &owner)?;
    Ok(())
}

/// The text by its whole path, and its digest.
fn text_of(source: &TextSource) -> Result<(TextSource, String)> {
    let source = match source {
        TextSource::File(path) => TextSource::File(std::path::absolute(path)?),
        own => own.clone(),
    };
    let digest = TextSummary::read(&source, &mut |_| true)?.digest;
    Ok((source, digest))
}

/// Why the model cannot be trained on the text, if so.
fn hindrance(text: &TextSource, tokenizer: &Tokenizer) -> Option<String> {
    let why = Dataset::read(text, Some(tokenizer), &mut |_| true).err()?;
    Some(format!("it can be looked at and sampled, not trained: {why}. Import it with a text that it knows"))
}

/// The text if the model knows all of it, else the first tokens of its vocabulary.
fn fitting(text: &str, tokenizer: &Tokenizer) -> String {
    let encoded = tokenizer.encode(text);
    if encoded.unknown.is_empty() && !encoded.ids.is_empty() {
        return text.to_owned();
    }
    let ids: Vec<_> = (0..).map(TokenId).take(tokenizer.vocabulary().min(STAND_IN_TOKENS)).collect();
    tokenizer.decode(&ids)
}

/// Compares a folder's model with what `transformers` and PyTorch say of it in `reference.safetensors`.
///
/// # Errors
/// If the folder cannot be read; names the file and the fault.
pub fn parity(folder: &Path) -> Result<Vec<transformers::Check>> {
    let checks = transformers::check(folder, &device::cpu())?;
    ensure!(!checks.is_empty(), "{}: the reference holds nothing to compare", folder.display());
    Ok(checks)
}
