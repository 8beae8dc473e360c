//! Models in the folder format of Hugging Face's `transformers`: `config.json`, `model.safetensors` (or shards with an
//! index), `tokenizer.json` (or `vocab.json` and `merges.txt`) and what says which tokens begin and end a text.
//!
//! Four families are read and written. What a config asks for and this program lacks is refused by name: a model that
//! is read wrongly is worse than one that is not read.

mod around;
mod characters;
mod config;
mod elsewhere;
mod files;
mod json;
mod keys;
mod names;
mod parity;
mod reach;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;

pub(super) use config::family_of;

pub use parity::{Check, check};

use super::around::Around;
use super::weights::{Weight, load_weights, shapes_of, weights_of};
use super::{RunError, RunFolder, read_bounded, whole_folder, write_atomic};
use crate::memory::Need;
use crate::model::Gpt;
use crate::protocol::{ExportReport, Family, largest_place};
use crate::recipe::{ModelRecipe, grouped};
use crate::runs::tensors::{Encoded, serialize};
use crate::runs::weights::PRUNED;
use crate::text::{Reference, TOKENIZER_BYTES_MAX, TokenId, Tokenizer, VOCABULARY_MAX};
use crate::train::{logits, proof_tokens};

/// The largest `config.json` that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// How far a logit of an export may be from the model's, as a part of the largest, or of 1 where that is less: the weights
/// are the same numbers, only sums may run in another order.
const PROOF_BOUND: f32 = 1e-3;

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
    if folder.is_file() {
        return Err(RunError::damaged(folder, "it is a file: name the folder that it lies in"));
    }
    if !folder.is_dir() {
        return Err(RunError::Missing { path: folder.to_owned() });
    }
    let path = folder.join("config.json");
    if path.symlink_metadata().is_err() {
        return Err(RunError::damaged(folder, elsewhere::fault(folder)));
    }
    let config = json::parse(&read_bounded(&path, CONFIG_BYTES_MAX)?).map_err(|error| {
        RunError::damaged(&path, format!("not JSON ({error}): it may be cut short, or begin with a byte-order mark"))
    })?;
    let config::Read { family, mut recipe, vocabulary, mut notes } =
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
    Need::importing(&recipe, vocabulary).check().map_err(|short| RunError::damaged(folder, short))?;
    let make = |recipe: &ModelRecipe| Gpt::new(recipe, vocabulary, 0, &device.clone().autodiff());
    let mut model = make(&recipe);
    let mut shapes = shapes_of(&model);
    if recipe.tied_head {
        // The file may hold a head all the same.
        let head = shapes.iter().find(|weight| weight.name == names::EMBEDDING).cloned();
        shapes.extend(head.map(|embedding| Weight { name: names::HEAD.into(), ..embedding }));
    }
    let entries = names::entries(family, &recipe, &shapes);
    let found = files::read(folder, &entries, recipe.tied_head)?;
    if found.untied {
        recipe.tied_head = false;
        if let Some(fault) = recipe.check(vocabulary).first() {
            return Err(RunError::damaged(&path, fault));
        }
        model = make(&recipe);
    }
    notes.extend(found.notes);
    let mut weights = found.weights;
    let model = load_weights(model, &mut weights).map_err(|fault| RunError::damaged(folder, fault))?;
    Ok(Imported { family, recipe, tokenizer, around, model, notes })
}

/// Writes a model as a folder that `transformers` opens, reads it back, and reports how far the two are apart. `folder`
/// is made if it is not there and must be empty; `model` is the validation form. Without a `family` the one whose own
/// design the model has is taken. `around` is what the model came with.
///
/// # Errors
/// If no family (or not that one) can hold the model, and why; if something is there already or cannot be written; if what
/// was written computes something else. Nothing is left there then.
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
    let tensors = Encoded::all(theirs(family, recipe, weights_of(model)), folder)?;
    // What could not be proved, or not be written whole, is not left there.
    whole_folder(folder, |part| {
        fs::create_dir(part).map_err(RunError::io(part))?;
        let bytes = write(part, family, tensors, recipe, tokenizer, around)?;
        prove(part, family, model, recipe, tokenizer, bytes, device)
    })
}

/// Writes the folder's files; returns their bytes.
fn write(
    folder: &Path,
    family: Family,
    tensors: Vec<Encoded>,
    recipe: &ModelRecipe,
    tokenizer: &Tokenizer,
    around: &Around,
) -> Result<u64, RunError> {
    let path = folder.join("model.safetensors");
    // transformers before version 5 insists on the metadata.
    let weights = serialize(&path, &tensors, HashMap::from([("format".to_owned(), "pt".to_owned())]))?;
    drop(tensors);
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

/// Reads an export back and compares what both compute of random tokens, and what both read of hard texts.
///
/// # Errors
/// If it cannot be read, or is another model.
fn prove(
    folder: &Path,
    family: Family,
    model: &Gpt,
    recipe: &ModelRecipe,
    tokenizer: &Tokenizer,
    bytes: u64,
    device: &Device,
) -> Result<ExportReport, RunError> {
    let read = import(folder, Some(recipe.context), device)?.model.valid();
    let ids = &proof_tokens(tokenizer.vocabulary(), recipe.context);
    let compared = Compared::of(&logits(model, ids, device), &logits(&read, ids, device));
    compared.require().map_err(|fault| RunError::damaged(folder, fault))?;
    let Compared { largest_difference, same, .. } = compared;
    let (tokens, top1_agreement) = (ids.len(), same as f64 / ids.len() as f64);
    let texts = prove_texts(folder, tokenizer)?;
    Ok(ExportReport { family, bytes, tokens, texts, largest_difference, top1_agreement })
}

/// Logits held against those that they should be.
#[derive(Debug)]
struct Compared {
    /// Infinite where one is no number.
    largest_difference: f32,
    /// Of what they should be.
    largest: f32,
    /// Positions at which both find the same token likeliest; where a logit is no number none is.
    same: usize,
}

impl Compared {
    fn of(wanted: &[Vec<f32>], found: &[Vec<f32>]) -> Self {
        let mut compared = Self { largest_difference: 0.0, largest: 0.0, same: 0 };
        let best = |row: &[f32]| largest_place(row).filter(|_| row.iter().all(|logit| logit.is_finite()));
        for (wanted, found) in wanted.iter().zip(found) {
            for (a, b) in wanted.iter().zip(found) {
                let apart = (a - b).abs();
                let apart = if apart.is_nan() { f32::INFINITY } else { apart };
                compared.largest_difference = compared.largest_difference.max(apart);
                compared.largest = compared.largest.max(a.abs());
            }
            compared.same += usize::from(best(wanted).is_some() && best(wanted) == best(found));
        }
        compared
    }

    fn require(&self) -> Result<(), String> {
        let Self { largest_difference, largest, .. } = *self;
        let bound = PROOF_BOUND * largest.max(1.0);
        // Infinite logits make the bound infinite too.
        if largest_difference.is_finite() && largest_difference <= bound {
            return Ok(());
        }
        Err(format!(
            "nothing is written: read back, the export is another model, its logits differ by {largest_difference:.1e} where \
             {bound:.1e} is the most that rounding explains. Please report this"
        ))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_has_a_bound_and_nothing_that_is_no_number_passes() {
        let of = |wanted: &[f32], found: &[f32]| Compared::of(&[wanted.to_vec()], &[found.to_vec()]);
        let same = of(&[1.0, -40.0, 3.0], &[1.0, -40.03, 3.01]);
        assert_eq!((same.same, same.largest), (1, 40.0));
        assert!(same.require().is_ok(), "a thousandth of the largest: {same:?}");
        assert!(of(&[1.0, 2.0], &[1.0, 2.01]).require().is_err());
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for (wanted, found) in [([0.0, bad], [0.0, bad]), ([0.0, 1.0], [0.0, bad]), ([0.0, bad], [0.0, 1.0])] {
                let compared = of(&wanted, &found);
                assert!(compared.require().is_err(), "{wanted:?} and {found:?}");
                assert_eq!(compared.same, 0, "{wanted:?} and {found:?}");
            }
        }
    }
}
