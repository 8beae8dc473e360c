//! The probe: the text that the views show; and the logits of a text.

use burn::tensor::Device;

use crate::model::{Gpt, values_of};
use crate::text::{TokenId, Tokenizer};
use crate::train::ids_tensor;

/// The longest probe, in tokens: a snapshot holds its square for every head.
const PROBE_TOKENS_MAX: usize = 512;

/// The probe text as the model can take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    pub ids: Vec<TokenId>,
    /// What was left out, in words; empty when nothing was.
    pub note: String,
}

impl Probe {
    /// The text's first `context` tokens with what the tokenizer puts around it, what is unknown left out. A text of which nothing remains becomes one
    /// token, so that there is always something to look at.
    #[must_use]
    pub fn new(text: &str, tokenizer: &Tokenizer, context: usize) -> Self {
        let encoded = tokenizer.encode_whole(text);
        let mut notes = Vec::from_iter(Some(encoded.note()).filter(|note| !note.is_empty()));
        let mut ids = encoded.ids;
        if ids.is_empty() {
            ids.push(tokenizer.start_token());
            notes.push(format!("nothing is left to show: {} stands in", tokenizer.label(ids[0])));
        }
        let most = context.min(PROBE_TOKENS_MAX);
        if ids.len() > most {
            let why = if most == context { "fit the context" } else { "are shown" };
            notes.push(format!("only the first {most} of {} tokens {why}", ids.len()));
            ids.truncate(most);
        }
        Self { ids, note: notes.join("; ") }
    }
}

/// Logits after each token, `[position][vocabulary]`; at most `context` tokens.
#[must_use]
pub fn logits(model: &Gpt, ids: &[TokenId], device: &Device) -> Vec<Vec<f32>> {
    let logits = model.forward(ids_tensor(as_i32(ids), 1, ids.len(), device));
    let [_, _, vocabulary] = logits.dims();
    values_of(logits).chunks(vocabulary).map(<[f32]>::to_vec).collect()
}

pub(super) fn as_i32(ids: &[TokenId]) -> Vec<i32> {
    // A vocabulary has at most 65,536 tokens.
    ids.iter().map(|id| id.0 as i32).collect()
}
