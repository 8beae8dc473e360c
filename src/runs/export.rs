//! Weights for other programs: `model.safetensors` with nanoGPT's names and PyTorch's layout, `config.json` beside it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde_json::json;

use super::checkpoint::{Encoded, serialize};
use super::weights::weights_of;
use super::{RunError, RunFolder, write_atomic};
use crate::model::Gpt;
use crate::recipe::{Biases, ModelRecipe};
use crate::text::Tokenizer;

/// Why a pruned model stays at home.
pub(super) const PRUNED: &str = "other programs know no model whose layers have different numbers of heads: export the \
                                 run that it was pruned from, or keep this one as a checkpoint";

/// Writes `model.safetensors`, `config.json` and `tokenizer.json` (characters in the order of their numbers, or the file
/// that came with the model; none for token numbers) into `folder`, which is made if it is not there and must be empty.
/// `model` is the validation form. Returns the bytes written.
///
/// A tied head is not written twice: `lm_head.weight` is `transformer.wte.weight`, as `config.json` says.
///
/// # Errors
/// If something is there already, or cannot be written, or heads were pruned.
pub fn export_safetensors(
    folder: &Path,
    model: &Gpt,
    recipe: &ModelRecipe,
    tokenizer: &Tokenizer,
) -> Result<u64, RunError> {
    RunFolder::refuse_occupied(folder)?;
    if !recipe.pruned.is_empty() {
        return Err(RunError::damaged(folder, PRUNED));
    }
    let tensors = Encoded::all(weights_of(model), folder)?;
    fs::create_dir_all(folder).map_err(RunError::io(folder))?;
    let config = json!({
        "model_type": "nanogpt",
        "n_layer": recipe.layers,
        "n_head": recipe.heads,
        "n_embd": recipe.width,
        "block_size": recipe.context,
        "vocab_size": tokenizer.vocabulary(),
        "bias": recipe.biases != Biases::NONE,
        "dropout": recipe.dropout,
        "tie_word_embeddings": recipe.tied_head,
    });
    let vocabulary = match tokenizer {
        Tokenizer::Characters(characters) => {
            let characters: Vec<String> = characters.characters().iter().map(char::to_string).collect();
            Some(format!("{:#}\n", json!({ "kind": "characters", "characters": characters })))
        }
        Tokenizer::Bpe(bpe) => Some(bpe.json().to_owned()),
        Tokenizer::Numbers(_) => None,
    };
    let path = folder.join("model.safetensors");
    let weights = serialize(&path, &tensors, HashMap::from([("format".to_owned(), "pt".to_owned())]))?;
    let mut files = vec![("model.safetensors", weights)];
    files.extend(vocabulary.map(|json| ("tokenizer.json", json.into_bytes())));
    files.push(("config.json", format!("{config:#}\n").into_bytes()));
    let mut total = 0;
    for (name, bytes) in files {
        write_atomic(&folder.join(name), &bytes)?;
        total += bytes.len() as u64;
    }
    Ok(total)
}
