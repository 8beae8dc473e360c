//! Where a pass over a model stops giving numbers.

use burn::tensor::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::probe::as_i32;
use crate::model::{Gpt, Trace, values_of};
use crate::protocol::{NonFinite, Stage};
use crate::text::{Batch, TokenId};
use crate::train::ids_tensor;

/// Tokens that a model is tried on before it is given away, and that what was given away is held to it on.
const PROOF_TOKENS: usize = 256;

/// Tokens drawn at random, always the same.
#[must_use]
pub fn proof_tokens(vocabulary: usize, context: usize) -> Vec<TokenId> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    (0..PROOF_TOKENS.min(context)).map(|_| TokenId(rng.random_range(0..vocabulary as u32))).collect()
}

/// The first stage of a pass over these tokens, at most `context`, that is not all finite; `None` where all are, the logits
/// included. `model` is the validation form.
#[must_use]
pub fn first_non_finite(model: &Gpt, ids: &[TokenId], device: &Device) -> Option<NonFinite> {
    let mut trace = Trace::default();
    let logits = model.forward_traced(ids_tensor(as_i32(ids), 1, ids.len(), device), &mut trace);
    if is_finite(logits) { None } else { Some(in_trace(model, &trace)) }
}

/// As [`first_non_finite`], of the first row of a batch that has such a stage.
#[must_use]
pub fn first_non_finite_in(model: &Gpt, batch: &Batch, device: &Device) -> Option<NonFinite> {
    batch.inputs.chunks(batch.context).find_map(|row| {
        let ids: Vec<_> = row.iter().map(|&id| TokenId(id as u32)).collect();
        first_non_finite(model, &ids, device)
    })
}

/// Where the numbers of a pass that was recorded, batch of one, stop being finite. Of a pass that is finite up to the last
/// norm it is the logits.
pub(super) fn in_trace(model: &Gpt, trace: &Trace) -> NonFinite {
    let found = |stage: Stage, position: Option<usize>| position.map(|position| NonFinite { stage, position });
    let stream = |x: &Option<Tensor<3>>| x.clone().and_then(first_row);
    let embedding = || found(Stage::Embedding, stream(&trace.embedding));
    let layers = || {
        trace.layers.iter().enumerate().find_map(|(layer, block)| {
            let [_, heads, queries, keys] = block.pattern.dims();
            let pattern = values_of(block.pattern.clone());
            let query = |head: usize| {
                let rows = pattern[head * queries * keys..][..queries * keys].chunks_exact(keys);
                rows.enumerate().position(|(query, row)| !all_finite(&row[..=query.min(keys - 1)]))
            };
            let attention = (0..heads).filter_map(query).min();
            let attention = attention.or_else(|| stream(&block.z)).or_else(|| stream(&block.resid_mid));
            found(Stage::Attention(layer), attention).or_else(|| found(Stage::Mlp(layer), stream(&block.resid_post)))
        })
    };
    let end = || {
        let last = trace.layers.last().and_then(|layer| layer.resid_post.clone());
        let norm = last.clone().and_then(|last| first_row(model.normed(last)));
        found(Stage::FinalNorm, norm).unwrap_or_else(|| {
            let position = last.and_then(|last| first_row(model.unembed(last))).unwrap_or(0);
            NonFinite { stage: Stage::Logits, position }
        })
    };
    embedding().or_else(layers).unwrap_or_else(end)
}

/// The first row that is not all finite.
fn first_row(x: Tensor<3>) -> Option<usize> {
    let width = x.dims()[2];
    values_of(x).chunks_exact(width).position(|row| !all_finite(row))
}

pub(super) fn is_finite<const D: usize>(x: Tensor<D>) -> bool {
    all_finite(&values_of(x))
}

/// Without a branch for each, so that it becomes vector instructions.
pub(super) fn all_finite(values: &[f32]) -> bool {
    values.iter().fold(true, |all, value| all & value.is_finite())
}
