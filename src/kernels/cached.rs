//! Attention of new positions over all before them, whose keys and values are kept: text, one token at a time.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;

use super::host::{Shared, contiguous, owned, tensor, values};
use super::memory::buffer;
use super::team::spread;
use super::vector::{exp, fma, largest, sum_of, vectorised};

/// Multiplications below which waking another core costs more than it gives.
const ALONE: usize = 100_000;

/// Puts the new positions' keys and values behind the `filled` that are kept, in place where nobody else holds them, and
/// mixes the values of each new position. `qkv` is `[1, new, (heads + 2 × kv_heads) × head_width]`, `kept`
/// `[1, places, 2 × kv_heads × head_width]`. Returns the mixed values `[1, new, heads × head_width]`, and what is kept.
pub(super) fn forward(
    qkv: FlexTensor,
    kept: FlexTensor,
    filled: usize,
    heads: usize,
    kv_heads: usize,
) -> (FlexTensor, FlexTensor) {
    let qkv = contiguous(qkv);
    let (new, width) = (qkv.shape()[1], qkv.shape()[2]);
    let size = width / (heads + 2 * kv_heads);
    let (query_width, kept_width) = (heads * size, 2 * kv_heads * size);
    let data = values(&qkv);
    let mut kept = owned(kept);
    for (position, row) in data.chunks_exact(width).enumerate() {
        let place = (filled + position) * kept_width;
        kept.storage_mut()[place..place + kept_width].copy_from_slice(&row[query_width..]);
    }
    let mut z = buffer(new * query_width);
    let out = Shared::new(&mut z);
    let rows = values(&kept);
    let scale = 1.0 / (size as f32).sqrt();
    let work = |head: usize| {
        let group = head * kv_heads / heads;
        let mut scores = buffer(filled + new);
        let (keys, values) = (&rows[group * size..], &rows[(kv_heads + group) * size..]);
        // Later places weigh 0, and 0 times what is no number is none.
        let mut later = vec![0.0; size];
        for position in (0..new).rev() {
            let query = &data[position * width + head * size..][..size];
            let place = position * query_width + head * size;
            // SAFETY: each part has the places of its own head.
            let out = unsafe { out.slice(place..place + size) };
            mix(out, &mut scores[..=filled + position], query, keys, values, kept_width, scale);
            let value = &values[(filled + position) * kept_width..][..size];
            for ((out, later), value) in out.iter_mut().zip(&mut later).zip(value) {
                *out += *later;
                *later += 0.0 * value;
            }
        }
    };
    if heads * new * (filled + new) * size < ALONE {
        (0..heads).for_each(work);
    } else {
        spread(heads, work);
    }
    (tensor(z, [1, new, query_width]), kept)
}

vectorised! {
    /// softmax(scale · query · keys) · values, for as many places as there are `scores`; rows are `stride` apart.
    fn mix(
        out: &mut [f32],
        scores: &mut [f32],
        query: &[f32],
        keys: &[f32],
        values: &[f32],
        stride: usize,
        scale: f32,
    ), FUSED => {
        for (place, score) in scores.iter_mut().enumerate() {
            let key = &keys[place * stride..][..query.len()];
            *score = scale * sum_of([query, key], |[query, key]| query * key);
        }
        let top = largest(scores);
        for score in scores.iter_mut() {
            *score = exp::<FUSED>(*score - top);
        }
        let rest = 1.0 / sum_of([&*scores], |[score]| score);
        out.fill(0.0);
        for (place, &score) in scores.iter().enumerate() {
            let value = &values[place * stride..][..out.len()];
            for (out, &value) in out.iter_mut().zip(value) {
                *out = fma::<FUSED>(score * rest, value, *out);
            }
        }
    }
}
