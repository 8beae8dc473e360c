//! Models in the folder format of Hugging Face's `transformers`: `config.json`, `model.safetensors` (or shards with an
//! index) and `tokenizer.json`.
//!
//! Four families are read and written. What a config asks for and this program lacks is refused by name: a model that
//! is read wrongly is worse than one that is not read.

mod characters;
mod config;
mod files;
mod names;
mod parity;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::checkpoint::{Encoded, serialize};
use super::export::PRUNED;
use super::weights::{Weight, load_weights, shapes_of, weights_of};
use super::{RunError, RunFolder, folder_beside, put_in_place, read_bounded, write_atomic};
use crate::lab::protocol::{ExportReport, Family};
use crate::memory::Need;
use crate::model::Gpt;
use crate::recipe::{ModelRecipe, grouped};
use crate::text::{TOKENIZER_BYTES_MAX, TokenId, Tokenizer, VOCABULARY_MAX};
use crate::train::logits;

pub use parity::{Check, check};

/// The largest `config.json` that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Tokens on which an export is held to the model that it came from.
const PROOF_TOKENS: usize = 256;

/// A model from a folder, as a run needs it.
#[derive(Debug)]
pub struct Imported {
    pub family: Family,
    pub recipe: ModelRecipe,
    pub tokenizer: Tokenizer,
    /// On the autodiff form of the device that it was read for.
    pub model: Gpt,
    /// What the user should know, in sentences; often empty.
    pub notes: Vec<String>,
}

/// Reads a folder in the format of `transformers`. `context` shortens what the model sees at once.
///
/// # Errors
/// Names the file and what is wrong with it: a missing or cut file, a family or feature that this program lacks, weights
/// that do not fit the config. Sizes are checked before memory is taken.
pub fn import(folder: &Path, context: Option<usize>, device: &Device) -> Result<Imported, RunError> {
    if !folder.is_dir() {
        return Err(RunError::Missing { path: folder.to_owned() });
    }
    let path = folder.join("config.json");
    let config = serde_json::from_slice(&read_bounded(&path, CONFIG_BYTES_MAX)?).map_err(|error| {
        RunError::damaged(&path, format!("not JSON ({error}): it may be cut short, or begin with a byte-order mark"))
    })?;
    let config::Read { family, recipe, vocabulary, mut notes } =
        config::read(&config, context).map_err(|fault| RunError::damaged(&path, fault))?;
    if let Some(fault) = recipe.check(vocabulary).first() {
        return Err(RunError::damaged(&path, fault));
    }
    if vocabulary > VOCABULARY_MAX {
        let (found, most) = (grouped(vocabulary as u64), grouped(VOCABULARY_MAX as u64));
        return Err(RunError::damaged(&path, format!("a vocabulary of {found} is more than the {most} that are read")));
    }
    let tokenizer = tokenizer(folder, vocabulary, &mut notes)?;
    // Before any memory is taken for the model: half-precision numbers are the smallest that are read.
    files::require(folder, 2 * recipe.parameter_count(vocabulary))?;
    Need::importing(&recipe, vocabulary).check().map_err(|short| RunError::damaged(folder, short))?;
    let model = Gpt::new(&recipe, vocabulary, 0, &device.clone().autodiff());
    let entries = names::entries(family, &recipe, &shapes_of(&model));
    let mut weights = files::read(folder, &entries, &recipe)?;
    let model = load_weights(model, &mut weights).map_err(|fault| RunError::damaged(folder, fault))?;
    Ok(Imported { family, recipe, tokenizer, model, notes })
}

fn tokenizer(folder: &Path, vocabulary: usize, notes: &mut Vec<String>) -> Result<Tokenizer, RunError> {
    let path = folder.join("tokenizer.json");
    // Also a link that leads nowhere: the model has a tokenizer, and it is missed.
    if path.symlink_metadata().is_ok() {
        let json = read_bounded(&path, TOKENIZER_BYTES_MAX)?;
        let own = serde_json::from_slice(&json).ok().as_ref().and_then(characters::from_json);
        return match own {
            Some(own) if own.vocabulary() == vocabulary => Ok(Tokenizer::Characters(own)),
            Some(own) => {
                let fault =
                    format!("it has {} characters, but config.json a vocabulary of {vocabulary}", own.vocabulary());
                Err(RunError::damaged(&path, fault))
            }
            None => Tokenizer::from_json(&json, vocabulary).map_err(|fault| RunError::damaged(&path, fault)),
        };
    }
    notes.push("the folder holds no tokenizer.json: texts for this model are token numbers, as in '5 7 9'".into());
    Ok(Tokenizer::Numbers(vocabulary))
}

/// Writes a model as a folder that `transformers` opens, reads it back, and reports how far the two are apart. `folder`
/// is made if it is not there and must be empty; `model` is the validation form. Without a `family` the one whose own
/// design the model has is taken.
///
/// # Errors
/// If no family (or not that one) can hold the model, and why; if something is there already or cannot be written.
pub fn export(
    folder: &Path,
    family: Option<Family>,
    model: &Gpt,
    recipe: &ModelRecipe,
    tokenizer: &Tokenizer,
    device: &Device,
) -> Result<ExportReport, RunError> {
    if !recipe.pruned.is_empty() {
        return Err(RunError::damaged(folder, PRUNED));
    }
    let family = match family {
        Some(family) => config::fits(family, recipe).map(|()| family),
        None => config::family_of(recipe),
    };
    let family = family.map_err(|fault| RunError::damaged(folder, fault))?;
    RunFolder::refuse_occupied(folder)?;
    let ours = weights_of(model);
    if let Some(broken) = ours.iter().find(|weight| !weight.values.iter().all(|value| value.is_finite())) {
        return Err(RunError::damaged(folder, format!("'{}' holds values that are no numbers any more", broken.name)));
    }
    // Beside it and then renamed: what could not be proved, or not be written whole, is not left there.
    let beside = folder_beside(folder)?;
    let proved = write(&beside, family, ours, recipe, tokenizer)
        .and_then(|bytes| prove(&beside, family, model, recipe, tokenizer.vocabulary(), bytes, device));
    if proved.is_err() {
        let _ = fs::remove_dir_all(&beside);
    }
    let report = proved?;
    put_in_place(&beside, folder)?;
    Ok(report)
}

/// Writes the folder's files; returns their bytes.
fn write(
    folder: &Path,
    family: Family,
    ours: Vec<Weight>,
    recipe: &ModelRecipe,
    tokenizer: &Tokenizer,
) -> Result<u64, RunError> {
    let path = folder.join("model.safetensors");
    let tensors: Vec<_> = theirs(family, recipe, ours).into_iter().map(Encoded::new).collect();
    // transformers before version 5 insists on the metadata.
    let weights = serialize(&path, &tensors, HashMap::from([("format".to_owned(), "pt".to_owned())]))?;
    let config = config::write(family, recipe, tokenizer.vocabulary());
    let mut written = vec![("model.safetensors", weights), ("config.json", format!("{config:#}\n").into_bytes())];
    let json = match tokenizer {
        Tokenizer::Characters(own) => Some(characters::to_json(own).to_string()),
        Tokenizer::Bpe(bpe) => Some(bpe.json().to_owned()),
        Tokenizer::Numbers(_) => None,
    };
    if let Some(json) = json {
        written.push(("tokenizer.json", json.into_bytes()));
        written.push(("tokenizer_config.json", b"{\"tokenizer_class\": \"PreTrainedTokenizerFast\"}\n".to_vec()));
    }
    let mut bytes = 0;
    for (name, contents) in written {
        write_atomic(&folder.join(name), &contents)?;
        bytes += contents.len() as u64;
    }
    Ok(bytes)
}

/// A family's tensors from our weights, or what lies like them: gradients.
fn theirs(family: Family, recipe: &ModelRecipe, ours: Vec<Weight>) -> Vec<Weight> {
    let entries = names::entries(family, recipe, &ours);
    let mut ours: HashMap<_, _> = ours.into_iter().map(|weight| (weight.name.clone(), weight)).collect();
    entries.iter().flat_map(|entry| entry.give(&mut ours)).collect()
}

/// Reads an export back and compares it on tokens drawn at random, always the same.
fn prove(
    folder: &Path,
    family: Family,
    model: &Gpt,
    recipe: &ModelRecipe,
    vocabulary: usize,
    bytes: u64,
    device: &Device,
) -> Result<ExportReport, RunError> {
    let read = import(folder, Some(recipe.context), device)?.model.valid();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let tokens = PROOF_TOKENS.min(recipe.context);
    let ids: Vec<_> = (0..tokens).map(|_| TokenId(rng.random_range(0..vocabulary as u32))).collect();
    let best = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
    let (mut largest_difference, mut same) = (0.0_f32, 0);
    for (wanted, found) in logits(model, &ids, device).iter().zip(&logits(&read, &ids, device)) {
        for (a, b) in wanted.iter().zip(found) {
            // A NaN on either side is a difference too.
            let apart = (a - b).abs();
            largest_difference = if apart.is_nan() { f32::INFINITY } else { largest_difference.max(apart) };
        }
        same += usize::from(best(wanted) == best(found));
    }
    Ok(ExportReport { family, bytes, tokens, largest_difference, top1_agreement: same as f64 / tokens as f64 })
}
