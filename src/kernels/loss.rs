//! Cross-entropy from logits: the mean of −ln softmax(logits)[target] over all rows, in nats.
//!
//! The gradient is (softmax − one-hot) / rows: neither the softmax nor its logarithm is ever stored.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;

use super::embedding::indices;
use super::host::{Shared, contiguous, rows_and_width, spread_chunks, tensor, values};
use super::memory::buffer;
use super::team::spread;
use super::vector::{exp, largest, sum_of, vectorised};

/// Rows that one part takes.
const ROWS: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct State {
    logits: FlexTensor, // [row, vocabulary]
    targets: Vec<usize>,
    /// ln Σ e^logit of each row.
    log_sums: Vec<f32>,
}

pub(super) fn forward(logits: FlexTensor, targets: &FlexTensor) -> (FlexTensor, State) {
    let (logits, targets) = (contiguous(logits), indices(targets));
    let (rows, vocabulary) = rows_and_width(&logits.shape());
    assert_eq!(rows, targets.len(), "a target for each row");
    let mut log_sums = buffer(rows);
    let data = values(&logits);
    spread_chunks(&mut log_sums, ROWS, |part, out| {
        for (row, out) in (part * ROWS..).zip(out) {
            *out = log_sum(&data[row * vocabulary..(row + 1) * vocabulary]);
        }
    });
    let losses = log_sums.iter().zip(&targets).enumerate();
    let total: f64 =
        losses.map(|(row, (log_sum, &target))| f64::from(log_sum - data[row * vocabulary..][target])).sum();
    (tensor(vec![(total / rows as f64) as f32], [1]), State { logits, targets, log_sums })
}

pub(super) fn backward(state: &State, gradient: &FlexTensor) -> FlexTensor {
    let (rows, vocabulary) = rows_and_width(&state.logits.shape());
    let scale = values(gradient)[0] / rows as f32;
    let mut found = buffer(rows * vocabulary);
    let data = values(&state.logits);
    let shared = Shared::new(&mut found);
    spread(rows.div_ceil(ROWS), |part| {
        for row in part * ROWS..rows.min((part + 1) * ROWS) {
            let places = row * vocabulary..(row + 1) * vocabulary;
            // SAFETY: each row belongs to one part.
            let out = unsafe { shared.slice(places.clone()) };
            probabilities(out, &data[places], state.log_sums[row], scale);
            out[state.targets[row]] -= scale;
        }
    });
    tensor(found, state.logits.shape())
}

vectorised! {
    fn log_sum(logits: &[f32]) -> f32, FUSED => {
        let top = largest(logits);
        sum_of([logits], |[logit]| exp::<FUSED>(logit - top)).ln() + top
    }
    fn probabilities(out: &mut [f32], logits: &[f32], log_sum: f32, scale: f32), FUSED => {
        for (out, &logit) in out.iter_mut().zip(logits) {
            *out = exp::<FUSED>(logit - log_sum) * scale;
        }
    }
}
