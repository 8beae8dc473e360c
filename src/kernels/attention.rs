//! Causal attention (Vaswani et al. 2017, section 3.2.1) straight out of the fused query-key-value projection, with
//! grouped key/value heads (Ainslie et al. 2023).
//!
//! Queries are taken in blocks, and a block only meets the keys up to its end, so that nearly half of the square of
//! scores is never computed. The weights are kept for the backward pass; without one, a block's live in a scratch that
//! is used again. Dropout is drawn anew in the backward pass.
//!
//! A later key has a weight of 0, and 0 times what is no number is none. So a head whose numbers are not calm is one
//! block, and NaN goes wherever it would go if the whole square was computed.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;

use super::dropout::DropoutMask;
use super::host::{Shared, contiguous, spread_chunks, tensor, values};
use super::matmul::{Matrix, product_at};
use super::memory::{Block, buffer, scratch};
use super::team::spread;
use super::vector::{exp, fma, largest, sum_of, vectorised};

/// Queries in a block.
const BLOCK: usize = 64;

/// Numbers smaller than this without their sign are calm: no sum of products of two of them leaves f32.
const CALM: f32 = 1e17;

#[derive(Clone, Copy, Debug)]
struct Sizes {
    batch: usize,
    length: usize,
    heads: usize,
    kv_heads: usize,
    head_width: usize,
}

impl Sizes {
    fn of(fused: &FlexTensor, heads: usize, kv_heads: usize) -> Self {
        let shape = fused.shape();
        assert_eq!(heads % kv_heads, 0, "each key/value head serves the same number of heads");
        let head_width = shape[2] / (heads + 2 * kv_heads);
        assert_eq!(head_width * (heads + 2 * kv_heads), shape[2], "query, key and value heads fill the last axis");
        Self { batch: shape[0], length: shape[1], heads, kv_heads, head_width }
    }

    fn fused_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_width
    }

    fn mixed_width(&self) -> usize {
        self.heads * self.head_width
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_width as f32).sqrt()
    }

    /// Where the matrix [position, head_width] of the `index`th of all heads (queries, then keys, then values) begins in
    /// the fused tensor.
    fn place(&self, sequence: usize, index: usize) -> usize {
        sequence * self.length * self.fused_width() + index * self.head_width
    }

    /// As [`place`](Self::place), in the result, for a query head.
    fn mixed_place(&self, sequence: usize, head: usize) -> usize {
        sequence * self.length * self.mixed_width() + head * self.head_width
    }

    /// The numbers that `rows` rows of a head reach over.
    fn extent(&self, rows: usize, width: usize) -> usize {
        (rows - 1) * width + self.head_width
    }

    /// Rows `first..first + rows` of a head's matrix that begins at `place`.
    fn matrix<'a>(&self, data: &'a [f32], place: usize, width: usize, first: usize, rows: usize) -> Matrix<'a> {
        Matrix::with_stride(&data[place + first * width..], rows, self.head_width, width)
    }

    /// Where the queries, keys and values of head number `part` of all begin in the fused tensor.
    fn places(&self, part: usize) -> [usize; 3] {
        let (sequence, head) = (part / self.heads, part % self.heads);
        let group = head * self.kv_heads / self.heads;
        [head, self.heads + group, self.heads + self.kv_heads + group].map(|index| self.place(sequence, index))
    }

    /// Queries in a block of head number `part` of all: all of them where its numbers are not calm.
    fn block(&self, fused: &[f32], part: usize) -> usize {
        let width = self.fused_width();
        self.block_if(|| self.places(part).iter().all(|&place| self.is_calm(fused, place, width)))
    }

    /// As many as where `calm`, or all queries.
    fn block_if(&self, calm: impl FnOnce() -> bool) -> usize {
        if self.length <= BLOCK || calm() { BLOCK.min(self.length) } else { self.length }
    }

    /// Whether the numbers of a head's matrix are calm, whose rows are `width` apart from `place` on.
    fn is_calm(&self, data: &[f32], place: usize, width: usize) -> bool {
        are_calm(&data[place..][..self.extent(self.length, width)], self.head_width, width)
    }

    /// The blocks' first and one past their last query.
    fn blocks(&self, block: usize) -> impl DoubleEndedIterator<Item = (usize, usize)> + use<> {
        let length = self.length;
        (0..length.div_ceil(block)).map(move |place| (place * block, length.min((place + 1) * block)))
    }
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
pub(super) struct State {
    fused: FlexTensor,   // [batch, position, (heads + 2 × kv_heads) × head_width]
    weights: FlexTensor, // [batch, head, query, key]; right of a block's last key is whatever was there
    sizes: Sizes,
    mask: Option<DropoutMask>,
}

/// The weights that are used: what dropout leaves of them, or all.
struct Used(Option<(DropoutMask, Block)>);

impl Used {
    /// With room for a block of so many rows.
    fn new(mask: Option<DropoutMask>, sizes: &Sizes, block: usize) -> Self {
        Self(mask.map(|mask| (mask, scratch(block * sizes.length))))
    }

    /// Of a block's weights, `stride` apart, that are those of the queries `first..end` of head number `part` of all.
    fn of<'a>(&'a mut self, weights: &'a [f32], stride: usize, first: usize, end: usize, part: usize) -> &'a [f32] {
        let Some((mask, left)) = &mut self.0 else { return weights };
        for (query, (left, weights)) in (first..end).zip(left.chunks_mut(stride).zip(weights.chunks(stride))) {
            let (seen, future) = left[..end].split_at_mut(query + 1);
            mask.drop_row(part * stride + query, &weights[..=query], seen);
            // 0, or no number in a row of which none is one.
            future.copy_from_slice(&weights[query + 1..end]);
        }
        &left[..weights.len()]
    }
}

/// The mixed values `[batch, position, heads × head_width]`, and with `keep` what the backward pass needs.
pub(super) fn forward(
    fused: FlexTensor,
    heads: usize,
    kv_heads: usize,
    mask: Option<DropoutMask>,
    keep: bool,
) -> (FlexTensor, Option<State>) {
    let fused = contiguous(fused);
    let sizes = Sizes::of(&fused, heads, kv_heads);
    let Sizes { batch, length, .. } = sizes;
    let square = length * length;
    let mut kept = buffer(if keep { batch * heads * square } else { 0 });
    let mut z = buffer(batch * length * sizes.mixed_width());
    let (weights, out) = (Shared::new(&mut kept), Shared::new(&mut z));
    spread(batch * heads, |part| {
        let block = sizes.block(values(&fused), part);
        let used = Used::new(mask, &sizes, block);
        if keep {
            // SAFETY: each part has its own square.
            let weights = unsafe { weights.slice(part * square..(part + 1) * square) };
            mix(&sizes, values(&fused), &out, part, block, |first| first * length, weights, used);
        } else {
            mix(&sizes, values(&fused), &out, part, block, |_| 0, &mut scratch(block * length), used);
        }
    });
    let state = keep.then(|| State { fused, weights: tensor(kept, [batch, heads, length, length]), sizes, mask });
    (tensor(z, [batch, length, sizes.mixed_width()]), state)
}

/// The mixed values without dropout, and the weights that mixed them, `[batch, head, query, key]`; of later keys 0, or no
/// number in a row of which none is one.
pub(super) fn traced(fused: FlexTensor, heads: usize, kv_heads: usize) -> (FlexTensor, FlexTensor) {
    let (z, state) = forward(fused, heads, kv_heads, None, true);
    let State { fused, mut weights, sizes, .. } = state.expect("it was to be kept");
    let length = sizes.length;
    spread_chunks(weights.storage_mut(), length * length, |part, weights| {
        for (first, end) in sizes.blocks(sizes.block(values(&fused), part)) {
            weights[first * length..end * length].chunks_exact_mut(length).for_each(|row| row[end..].fill(0.0));
        }
    });
    (z, weights)
}

/// Head number `part` of all, so many queries at a time. `weights_at` says where in `weights` the block that begins with a
/// query puts its rows, `length` apart.
#[allow(clippy::too_many_arguments)]
fn mix(
    sizes: &Sizes,
    fused: &[f32],
    out: &Shared<'_>,
    part: usize,
    block: usize,
    weights_at: impl Fn(usize) -> usize,
    weights: &mut [f32],
    mut used: Used,
) {
    let (sequence, head) = (part / sizes.heads, part % sizes.heads);
    let (width, length) = (sizes.fused_width(), sizes.length);
    let [query, key, value] = sizes.places(part);
    for (first, end) in sizes.blocks(block) {
        let rows = end - first;
        let query = sizes.matrix(fused, query, width, first, rows);
        let key = sizes.matrix(fused, key, width, 0, end);
        let value = sizes.matrix(fused, value, width, 0, end);
        let weights = &mut weights[weights_at(first)..];
        let weights = &mut weights[..(rows - 1) * length + end];
        // SAFETY: `weights` is borrowed mutably and holds `rows` rows of `end` numbers, `length` apart.
        unsafe { product_at(weights.as_mut_ptr(), length, query, key.transposed(), sizes.scale(), false) };
        softmax_rows(weights, length, first, end);
        let weights = Matrix::with_stride(used.of(weights, length, first, end, part), rows, end, length);
        let place = sizes.mixed_place(sequence, head) + first * sizes.mixed_width();
        let place = out.pointer(place, sizes.extent(rows, sizes.mixed_width()));
        // SAFETY: each part has the columns of its own head and sequence.
        unsafe { product_at(place, sizes.mixed_width(), weights, value, 1.0, false) };
    }
}

/// The gradient of the fused tensor from that of the mixed values.
///
/// With P the weights, U what dropout leaves of them (P ∘ m, or P itself) and dO the gradient: dV = Uᵀ·dO, dU = dO·Vᵀ,
/// dP = dU ∘ m, dS = P ∘ (dP − Σ dP ∘ P) = dU ∘ U − P · Σ dU ∘ U, dQ = dS·K, dK = dSᵀ·Q.
pub(super) fn backward(state: &State, gradient: FlexTensor) -> FlexTensor {
    let gradient = contiguous(gradient);
    let sizes = state.sizes;
    let mut found = buffer(sizes.batch * sizes.length * sizes.fused_width());
    let out = Shared::new(&mut found);
    spread(sizes.batch * sizes.kv_heads, |part| {
        let (sequence, group) = (part / sizes.kv_heads, part % sizes.kv_heads);
        let members = sizes.heads / sizes.kv_heads;
        for member in 0..members {
            head_gradients(state, values(&gradient), &out, sequence * sizes.heads + group * members + member);
        }
    });
    tensor(found, state.fused.shape())
}

fn head_gradients(state: &State, gradient: &[f32], out: &Shared<'_>, part: usize) {
    let sizes = &state.sizes;
    let (sequence, head) = (part / sizes.heads, part % sizes.heads);
    let (width, mixed_width, length) = (sizes.fused_width(), sizes.mixed_width(), sizes.length);
    let members = sizes.heads / sizes.kv_heads;
    let fused = values(&state.fused);
    let mut kept = &values(&state.weights)[part * length * length..][..length * length];
    let [query_at, key_at, value_at] = sizes.places(part);
    let before = sizes.block(fused, part);
    let block = before.max(sizes.block_if(|| sizes.is_calm(gradient, sizes.mixed_place(sequence, head), mixed_width)));
    let mut whole = None;
    if block > before {
        // Of weights that were computed in blocks, the rest is whatever was there.
        let whole = whole.insert(scratch(length * length));
        for (query, (whole, kept)) in whole.chunks_mut(length).zip(kept.chunks(length)).enumerate() {
            whole[..=query].copy_from_slice(&kept[..=query]);
            whole[query + 1..].fill(0.0);
        }
        kept = whole;
    }
    let (mut scratch, mut used) = (scratch(block * length), Used::new(state.mask, sizes, block));
    // The last block first: it meets all keys, so that it can write where the others add.
    for (first, end) in sizes.blocks(block).rev() {
        let rows = end - first;
        let add = end != length || !head.is_multiple_of(members);
        let query = sizes.matrix(fused, query_at, width, first, rows);
        let key = sizes.matrix(fused, key_at, width, 0, end);
        let value = sizes.matrix(fused, value_at, width, 0, end);
        let gradient = sizes.matrix(gradient, sizes.mixed_place(sequence, head), mixed_width, first, rows);
        let weights = &kept[first * length..(end - 1) * length + end];
        let used = used.of(weights, length, first, end, part);
        let scores = &mut scratch[..(rows - 1) * length + end];
        let places = |place: usize, rows: usize| out.pointer(place, sizes.extent(rows, width));
        // SAFETY: `scores` is borrowed mutably and of that extent; a part has the columns of its own sequence's key/value
        // group, and of the query heads in it, to itself.
        unsafe {
            let transposed = Matrix::with_stride(used, rows, end, length).transposed();
            product_at(places(value_at, end), width, transposed, gradient, 1.0, add);
            product_at(scores.as_mut_ptr(), length, gradient, value.transposed(), 1.0, false);
            softmax_gradients(scores, used, weights, length, first, end, sizes.scale());
            let scores = Matrix::with_stride(scores, rows, end, length);
            product_at(places(query_at + first * width, rows), width, scores, key, 1.0, false);
            product_at(places(key_at, end), width, scores.transposed(), query, 1.0, add);
        }
    }
}

vectorised! {
    /// Softmax of each row over the keys up to its own query; the keys after it have 0 of it, which is no number where the
    /// row has none. Rows are `stride` apart and hold `end` keys; the first is query `first`'s.
    fn softmax_rows(scores: &mut [f32], stride: usize, first: usize, end: usize), FUSED => {
        for query in first..end {
            let row = &mut scores[(query - first) * stride..][..end];
            let (seen, future) = row.split_at_mut(query + 1);
            let top = largest(seen);
            for score in seen.iter_mut() {
                *score = exp::<FUSED>(*score - top);
            }
            let scale = 1.0 / sum_of([&*seen], |[weight]| weight);
            for weight in seen {
                *weight *= scale;
            }
            future.fill(0.0 * scale);
        }
    }
    /// From the used weights' gradients to the scores', in place; those of later keys were masked and have none. Rows as in
    /// [`softmax_rows`].
    fn softmax_gradients(
        gradients: &mut [f32],
        used: &[f32],
        weights: &[f32],
        stride: usize,
        first: usize,
        end: usize,
        scale: f32,
    ), FUSED => {
        let rows = gradients.chunks_mut(stride).zip(used.chunks(stride)).zip(weights.chunks(stride));
        for (query, ((gradients, used), weights)) in (first..end).zip(rows) {
            let mean = sum_of([&gradients[..end], &used[..end]], |[gradient, used]| gradient * used);
            let (seen, future) = gradients[..end].split_at_mut(query + 1);
            for ((gradient, &used), &weight) in seen.iter_mut().zip(used).zip(weights) {
                *gradient = fma::<FUSED>(*gradient, used, -mean * weight) * scale;
            }
            future.fill(0.0);
        }
    }
    /// Whether all of the rows' first `width` numbers are calm; rows are `stride` apart.
    fn are_calm(data: &[f32], width: usize, stride: usize) -> bool, FUSED => {
        data.chunks(stride).all(|row| row[..width].iter().fold(true, |calm, number| calm & (number.abs() < CALM)))
    }
}
