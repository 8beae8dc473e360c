//! Weights for other programs: `model.safetensors` with nanoGPT's names and PyTorch's layout, `config.json` beside it.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde_json::json;

use super::weights::weights_of;
use super::{RunError, RunFolder, transformers, whole_folder, write_atomic};
use crate::model::Gpt;
use crate::recipe::{Biases, ModelRecipe};
use crate::runs::tensors::{Encoded, serialize};
use crate::runs::weights::PRUNED;
use crate::text::Tokenizer;

/// Writes `model.safetensors`, `config.json` and `tokenizer.json` (characters in the order of their numbers, or the file
/// that came with the model; none for token numbers) into `folder`, which is made whole, and is not there yet or empty.
/// `model` is the validation form. Returns the bytes written.
///
/// The tied head is not written twice: `lm_head.weight` is `transformer.wte.weight`, as `config.json` says.
///
/// # Errors
/// If nanoGPT would build another model of the config, something is there already, or it cannot be written.
pub fn export_safetensors(
    folder: &Path,
    model: &Gpt,
    recipe: &ModelRecipe,
    tokenizer: &Tokenizer,
) -> Result<u64, RunError> {
    fits_nanogpt(recipe).map_err(|fault| RunError::damaged(folder, fault))?;
    RunFolder::refuse_occupied(folder)?;
    // Before anything is made: what holds no numbers is no model.
    let tensors = Encoded::all(weights_of(model), folder)?;
    whole_folder(folder, |part| write(part, &tensors, recipe, tokenizer))
}

fn write(folder: &Path, tensors: &[Encoded], recipe: &ModelRecipe, tokenizer: &Tokenizer) -> Result<u64, RunError> {
    fs::create_dir(folder).map_err(RunError::io(folder))?;
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
    let weights = serialize(&path, tensors, HashMap::from([("format".to_owned(), "pt".to_owned())]))?;
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

/// Whether nanoGPT's `GPTConfig` says all of a model: layers, heads, width, context, vocabulary, dropout, and whether it has
/// biases. The rest is fixed there, and another model would come of it without a word.
///
/// # Errors
/// What nanoGPT lacks, and what to take instead.
fn fits_nanogpt(recipe: &ModelRecipe) -> Result<(), String> {
    if !recipe.pruned.is_empty() {
        return Err(PRUNED.into());
    }
    let (wanted, inner) = (recipe.as_gpt2(), Biases { head: false, ..recipe.biases });
    let lacking = [
        (recipe.position != wanted.position, "rotary positions"),
        (recipe.norm != wanted.norm, "RMSNorm"),
        (recipe.key_value_heads() != wanted.key_value_heads(), "grouped key/value heads"),
        (recipe.activation != wanted.activation, "activation but the exact GELU"),
        (recipe.mlp_width() != wanted.mlp_width(), "MLP width but four times the model's"),
        (recipe.norm_epsilon != wanted.norm_epsilon, "norm epsilon but 0.00001"),
        (recipe.biases.head, "bias on the head"),
        (![Biases::NONE, Biases::USUAL].contains(&inner), "biases in some layers only"),
        (!recipe.tied_head, "untied head"),
    ];
    let lacking: Vec<_> = lacking.iter().filter(|(lacks, _)| *lacks).map(|(_, what)| *what).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let instead = match transformers::family_of(recipe) {
        Ok(family) => format!("take --format hf, which writes it as {family}"),
        Err(_) => "take --format checkpoint: no family of transformers holds it either".into(),
    };
    Err(format!(
        "nanoGPT has no {}, so its names would make another model of this one: {instead}",
        lacking.join(", no ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Activation, Norm, Position};

    #[test]
    fn only_what_nanogpt_holds_goes_out_under_its_names() {
        let usual = crate::preset::find("nanogpt-gpu").expect("built in").recipe.model;
        assert_eq!(fits_nanogpt(&usual), Ok(()));
        let changed = |change: fn(&mut ModelRecipe)| {
            let mut recipe = usual.clone();
            change(&mut recipe);
            fits_nanogpt(&recipe)
        };
        let harmless: [fn(&mut ModelRecipe); 5] = [
            |recipe| recipe.biases = true.into(),
            |recipe| recipe.dropout = 0.5,
            |recipe| recipe.key_value_heads = Some(recipe.heads),
            |recipe| recipe.mlp_width = Some(4 * recipe.width),
            // How the weights began is no part of the model.
            |recipe| recipe.scaled_residuals = false,
        ];
        for change in harmless {
            assert_eq!(changed(change), Ok(()));
        }
        let (hf, checkpoint) = ("--format hf, which writes it as", "--format checkpoint");
        type Change = fn(&mut ModelRecipe);
        let others: [(Change, &str, &str); 12] = [
            (|recipe| recipe.tied_head = false, "untied head", hf),
            (|recipe| recipe.position = Position::Rotary { base: 1e4 }, "rotary positions", checkpoint),
            (|recipe| recipe.norm = Norm::RmsNorm, "RMSNorm", checkpoint),
            (|recipe| recipe.key_value_heads = Some(1), "grouped key/value heads", checkpoint),
            (|recipe| recipe.activation = Activation::GeluTanh, "activation but the exact GELU", hf),
            (|recipe| recipe.activation = Activation::Relu, "activation but the exact GELU", hf),
            (|recipe| recipe.activation = Activation::SwiGlu, "activation but the exact GELU", checkpoint),
            (|recipe| recipe.mlp_width = Some(64), "MLP width but four times", hf),
            (|recipe| recipe.norm_epsilon = 1e-6, "norm epsilon but 0.00001", hf),
            (|recipe| (recipe.biases.head, recipe.tied_head) = (true, false), "bias on the head", checkpoint),
            (|recipe| recipe.biases.mlp = true, "biases in some layers only", hf),
            (|recipe| recipe.pruned = vec![(0, 0)], "different numbers of heads", "checkpoint"),
        ];
        for (change, what, instead) in others {
            let fault = changed(change).expect_err(what);
            assert!(fault.contains(what) && fault.contains(instead), "{what}: {fault}");
        }
    }
}
