//! Rotary positions (Su et al. 2021), the two halves of a head as pairs: turned in place where nobody else holds the memory.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;

use super::host::{Shared, contiguous, owned, values};
use super::team::spread;
use super::vector::{fma, vectorised};

/// Rows that one part takes.
const ROWS: usize = 32;

/// The angles of each place, and how many heads are turned by them.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    cosine: FlexTensor, // [position, head_width / 2]
    sine: FlexTensor,   // [position, head_width / 2]
    heads: usize,
}

impl Turn {
    pub(super) fn new(cosine: FlexTensor, sine: FlexTensor, heads: usize) -> Self {
        Self { cosine: contiguous(cosine), sine: contiguous(sine), heads }
    }

    /// The first heads of each position turned forth, or `back`, which is also what becomes of their gradient. `qkv` is
    /// `[batch, position, width]`.
    pub(super) fn apply(&self, qkv: FlexTensor, back: bool) -> FlexTensor {
        let mut qkv = owned(qkv);
        let (shape, half) = (qkv.shape(), self.cosine.shape()[1]);
        let (rows, length, width) = (shape[0] * shape[1], shape[1], shape[2]);
        let turned = self.heads * 2 * half;
        assert!(turned <= width && length <= self.cosine.shape()[0], "{turned} of {width}, {length} places");
        let places = Shared::new(qkv.storage_mut());
        spread(rows.div_ceil(ROWS), |part| {
            for row in part * ROWS..rows.min((part + 1) * ROWS) {
                let angles = row % length * half;
                let (cosine, sine) = (&values(&self.cosine)[angles..][..half], &values(&self.sine)[angles..][..half]);
                // SAFETY: each part has rows of its own.
                let heads = unsafe { places.slice(row * width..row * width + turned) };
                turn(heads, cosine, sine, if back { -1.0 } else { 1.0 });
            }
        });
        qkv
    }
}

vectorised! {
    fn turn(heads: &mut [f32], cosine: &[f32], sine: &[f32], direction: f32), FUSED => {
        let half = cosine.len();
        for head in heads.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for (((first, second), &cosine), &sine) in first.iter_mut().zip(second).zip(cosine).zip(sine) {
                let (a, b, sine) = (*first, *second, direction * sine);
                *first = fma::<FUSED>(a, cosine, -b * sine);
                *second = fma::<FUSED>(b, cosine, a * sine);
            }
        }
    }
}
