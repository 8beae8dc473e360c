//! A model of another program becomes a run.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use burn::module::Module;
use serde::{Serialize, Serializer};

use super::branch::{first_checkpoint, whole};
use crate::device;
use crate::protocol::{Family, Place};
use crate::recipe::{DataRecipe, Recipe, SamplingRecipe, TextSource};
use crate::runs::transformers::{self, Imported};
use crate::runs::{RunFile, RunFolder, path_of};
use crate::text::{Dataset, TextSummary, TokenId, Tokenizer};

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
    #[serde(serialize_with = "shown")]
    pub run: PathBuf,
    /// What the user should know, in sentences.
    pub notes: Vec<String>,
}

/// A path for a program to read: what is no UTF-8 in it is replaced.
fn shown<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
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
    let imported = transformers::import(from, context, &device)?;
    let Imported { family, recipe: shape, tokenizer, around, model, mut notes } = imported;
    let (text, digest) = text_of(&base.data.text)?;
    notes.extend(hindrance(&text, &tokenizer, shape.context));
    let fitting = |text: &str| fitting(text, &tokenizer);
    let probe = fitting(&base.data.probe);
    let sampling = SamplingRecipe { prompt: fitting(&base.sampling.prompt), ..base.sampling.clone() };
    let mut recipe =
        Recipe { model: shape, data: DataRecipe { text, probe, ..base.data.clone() }, sampling, ..base.clone() };
    while recipe.training.batch > 1 && recipe.training_bytes(tokenizer.vocabulary()) > TRAINING_BYTES {
        recipe.training.batch /= 2;
    }
    if let Some(fault) = recipe.validate(Some(tokenizer.vocabulary())).first() {
        anyhow::bail!("{}: {fault}", from.display());
    }
    let mut report = ImportReport {
        family,
        parameters: model.num_params() as u64,
        vocabulary: tokenizer.vocabulary(),
        run: PathBuf::new(),
        notes,
    };
    let file = RunFile { around, ..RunFile::new(recipe, tokenizer, digest) };
    report.run = whole(&path_of(place), |beside| first_checkpoint(beside, file, &model.valid()))?;
    Ok(report)
}

/// The text by its whole path, and its digest.
fn text_of(source: &TextSource) -> Result<(TextSource, String)> {
    let source = source.absolute()?;
    let digest = TextSummary::read(&source, &mut |_| true)?.digest;
    Ok((source, digest))
}

/// Why the model cannot be trained on the text, if so.
fn hindrance(text: &TextSource, tokenizer: &Tokenizer, context: usize) -> Option<String> {
    let read = Dataset::read(text, Some(tokenizer), &mut |_| true);
    let why = read.and_then(|dataset| dataset.require(context, Path::new(&text.to_string()))).err()?;
    Some(format!("it can be looked at and sampled, not trained: {why}. Import it with another text"))
}

/// The text if the model knows all of it, else the first tokens of its vocabulary.
fn fitting(text: &str, tokenizer: &Tokenizer) -> String {
    let encoded = tokenizer.encode(text);
    if encoded.unknown.is_empty() && encoded.fault.is_none() && !encoded.ids.is_empty() {
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
