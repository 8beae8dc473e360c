//! One AdamW update of a tensor in one pass, in place where nobody else holds it; and the sum of squares that the
//! gradient's norm is made of.

use burn::backend::flex::FlexTensor;

use super::host::{Shared, contiguous, owned, spread_chunks, tensor, values};
use super::memory::buffer;
use super::team::spread;
use super::vector::{fma, sum_of, vectorised};

/// Elements that one part takes.
const CHUNK: usize = 1 << 14;

/// The numbers of one update (Loshchilov & Hutter 2019, algorithm 2), the same for every element of a tensor.
#[derive(Clone, Copy, Debug)]
pub struct AdamWUpdate {
    /// Multiplies the gradient first: the clip's coefficient.
    pub gradient_scale: f64,
    pub learning_rate: f64,
    /// Decay of this tensor; 0 for those that are not decayed.
    pub weight_decay: f64,
    pub beta_1: f64,
    pub beta_2: f64,
    pub epsilon: f64,
    /// 1 − β₁^updates and 1 − β₂^updates.
    pub correction_1: f64,
    pub correction_2: f64,
}

/// In f32, folded so that an element costs one root and one division.
#[derive(Clone, Copy)]
struct Factors {
    scale: f32,
    keep: f32,
    beta_1: f32,
    rest_1: f32,
    beta_2: f32,
    rest_2: f32,
    root_correction: f32,
    epsilon: f32,
    rate: f32,
}

impl From<AdamWUpdate> for Factors {
    fn from(update: AdamWUpdate) -> Self {
        Self {
            scale: update.gradient_scale as f32,
            keep: (1.0 - update.learning_rate * update.weight_decay) as f32,
            beta_1: update.beta_1 as f32,
            rest_1: (1.0 - update.beta_1) as f32,
            beta_2: update.beta_2 as f32,
            rest_2: (1.0 - update.beta_2) as f32,
            root_correction: (1.0 / update.correction_2.sqrt()) as f32,
            epsilon: update.epsilon as f32,
            rate: (update.learning_rate / update.correction_1) as f32,
        }
    }
}

/// The new weight, first moment and second moment.
pub(super) fn update(
    weight: FlexTensor,
    gradient: FlexTensor,
    first: FlexTensor,
    second: FlexTensor,
    numbers: AdamWUpdate,
) -> (FlexTensor, FlexTensor, FlexTensor) {
    let gradient = contiguous(gradient);
    let (mut weight, mut first, mut second) = (owned(weight), owned(first), owned(second));
    let factors = Factors::from(numbers);
    let gradients = values(&gradient);
    let length = gradients.len();
    let (weights, firsts, seconds) =
        (Shared::new(weight.storage_mut()), Shared::new(first.storage_mut()), Shared::new(second.storage_mut()));
    spread(length.div_ceil(CHUNK), |part| {
        let places = part * CHUNK..length.min((part + 1) * CHUNK);
        // SAFETY: each part has places of its own.
        let (weights, firsts, seconds) =
            unsafe { (weights.slice(places.clone()), firsts.slice(places.clone()), seconds.slice(places.clone())) };
        step(weights, firsts, seconds, &gradients[places], factors);
    });
    (weight, first, second)
}

/// The sum of the squares of all numbers, `[1]`.
pub(super) fn square_sum(tensor: FlexTensor) -> FlexTensor {
    let tensor = contiguous(tensor);
    let data = values(&tensor);
    let mut sums = buffer(data.len().div_ceil(CHUNK));
    spread_chunks(&mut sums, 1, |part, sum| {
        sum[0] = squares(&data[part * CHUNK..data.len().min((part + 1) * CHUNK)]);
    });
    self::tensor(vec![sums.into_iter().map(f64::from).sum::<f64>() as f32], [1])
}

vectorised! {
    fn step(
        weights: &mut [f32],
        firsts: &mut [f32],
        seconds: &mut [f32],
        gradients: &[f32],
        factors: Factors,
    ), FUSED => {
        let elements = weights.iter_mut().zip(firsts).zip(seconds).zip(gradients);
        for (((weight, first), second), &gradient) in elements {
            let gradient = gradient * factors.scale;
            *first = fma::<FUSED>(*first, factors.beta_1, gradient * factors.rest_1);
            *second = fma::<FUSED>(*second, factors.beta_2, gradient * gradient * factors.rest_2);
            let denominator = fma::<FUSED>(second.sqrt(), factors.root_correction, factors.epsilon);
            *weight = fma::<FUSED>(*weight, factors.keep, -factors.rate * *first / denominator);
        }
    }
    fn squares(data: &[f32]) -> f32, FUSED => {
        sum_of([data], |[value]| value * value)
    }
}
