//! Models in the folder format of Hugging Face's `transformers`: `config.json`, `model.safetensors` (or shards with an
//! index), `tokenizer.json` (or `vocab.json` and `merges.txt`) and what says which tokens begin and end a text.
//!
//! Four families are read and written. What a config asks for and this program lacks is refused by name: a model that
//! is read wrongly is worse than one that is not read.

mod around;
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

use super::around::Around;
use super::checkpoint::{Encoded, serialize};
use super::export::PRUNED;
use super::weights::{Weight, load_weights, shapes_of, weights_of};
use super::{RunError, RunFolder, folder_beside, put_in_place, read_bounded, write_atomic};
use crate::lab::protocol::{ExportReport, Family};
use crate::model::Gpt;
use crate::recipe::{ModelRecipe, grouped};
use crate::text::{Reference, TOKENIZER_BYTES_MAX, TokenId, Tokenizer, VOCABULARY_MAX};
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
    /// What else the folder says, to be kept with the run.
    pub around: Around,
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
    let (tokenizer, around) = around::read(folder, &config, vocabulary, &mut notes)?;
    // Before any memory is taken for the model: half-precision numbers are the smallest that are read.
    files::require(folder, 2 * recipe.parameter_count(vocabulary))?;
    let model = Gpt::new(&recipe, vocabulary, 0, &device.clone().autodiff());
    let entries = names::entries(family, &recipe, &shapes_of(&model));
    let mut weights = files::read(folder, &entries, &recipe)?;
    let model = load_weights(model, &mut weights).map_err(|fault| RunError::damaged(folder, fault))?;
    Ok(Imported { family, recipe, tokenizer, around, model, notes })
}

/// Writes a model as a folder that `transformers` opens, reads it back, and reports how far the two are apart. `folder`
/// is made if it is not there and must be empty; `model` is the validation form. Without a `family` the one whose own
/// design the model has is taken. `around` is what the model came with.
///
/// # Errors
/// If no family (or not that one) can hold the model, and why; if something is there already or cannot be written.
pub fn export(
    folder: &Path,
    family: Option<Family>,
    model: &Gpt,
    recipe: &ModelRecipe,
    tokenizer: &Tokenizer,
    around: &Around,
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
    let proved = write(&beside, family, ours, recipe, tokenizer, around).and_then(|bytes| {
        let report = prove(&beside, family, model, recipe, tokenizer.vocabulary(), bytes, device)?;
        Ok(ExportReport { texts: prove_texts(&beside, tokenizer)?, ..report })
    });
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
    around: &Around,
) -> Result<u64, RunError> {
    let path = folder.join("model.safetensors");
    let tensors: Vec<_> = theirs(family, recipe, ours).into_iter().map(Encoded::new).collect();
    // transformers before version 5 insists on the metadata.
    let weights = serialize(&path, &tensors, HashMap::from([("format".to_owned(), "pt".to_owned())]))?;
    let mut config = config::write(family, recipe, tokenizer.vocabulary());
    around::name_ends(&mut config, around);
    let mut written = around::files(around, tokenizer);
    written.push(("model.safetensors".into(), weights));
    written.push(("config.json".into(), format!("{config:#}\n").into_bytes()));
    let mut bytes = 0;
    for (name, contents) in written {
        write_atomic(&folder.join(&name), &contents)?;
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
    Ok(ExportReport {
        family,
        bytes,
        tokens,
        texts: 0,
        largest_difference,
        top1_agreement: same as f64 / tokens as f64,
    })
}

/// Texts at which tokenizers differ: line ends, spaces before punctuation and in a row, accents in two ways, digits, what is no
/// letter, and the names of special tokens.
const HARD_TEXTS: [&str; 10] = [
    "",
    "The cat sat on the mat.",
    " leading and trailing ",
    "two  spaces   three\ttab\u{a0}no-break",
    "one line\nanother\n\n\n    indented\r\n  \n",
    "he said , ' no ' ! it 's ok ... what ?",
    "Don't WE'LL they've I'd 1234567 3.14 x2",
    "naïve cafe\u{301} Straße Ελλάδα русский العربية",
    "日本語のテキスト😀👩\u{200d}🚀\u{1F1E9}\u{1F1EA}",
    "a<|endoftext|>b <|endoftext|> c</s><s>d <|im_start|>user\n",
];

/// Encodes hard texts with the run's tokenizer and, by the `tokenizers` library, with the file that was written: with what is
/// put around a text and without. Returns how many texts there were.
fn prove_texts(folder: &Path, tokenizer: &Tokenizer) -> Result<usize, RunError> {
    let path = folder.join("tokenizer.json");
    if !path.exists() {
        return Ok(0);
    }
    let damaged = |fault: String| RunError::damaged(&path, fault);
    let written = Reference::from_json(&read_bounded(&path, TOKENIZER_BYTES_MAX)?).map_err(damaged)?;
    let special = (0..).map(TokenId).take(tokenizer.vocabulary()).filter(|&id| tokenizer.is_special(id)).take(8);
    let special = special.map(|id| tokenizer.text(id)).map(|name| format!("a {name} b{name}\n{name}{name}c"));
    let plain = tokenizer.without_special_tokens();
    let numbers = |ids: &[TokenId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
    let mut texts = 0;
    for text in HARD_TEXTS.into_iter().map(str::to_owned).chain(special) {
        // Of characters that it does not know the file says something else, or nothing.
        let mut text = text;
        if let Tokenizer::Characters(own) = tokenizer {
            text.retain(|character| own.characters().binary_search(&character).is_ok());
        }
        let encoded = tokenizer.encode_whole(&text);
        if !encoded.unknown.is_empty() || encoded.fault.is_some() {
            continue;
        }
        for (whole, ids) in [(true, encoded.ids), (false, plain.encode_whole(&text).ids)] {
            let mut found = written.ids(&text, whole).map_err(damaged)?;
            // What is put around a text and has no row is left out by the run's.
            found.retain(|id| (id.0 as usize) < tokenizer.vocabulary());
            if found != ids {
                let (found, ids) = (numbers(&found), numbers(&ids));
                return Err(damaged(format!(
                    "read back, it makes other tokens of {text:?}: {found:?}, the run's {ids:?}"
                )));
            }
        }
        texts += 1;
    }
    Ok(texts)
}
