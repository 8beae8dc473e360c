//! Each operation written with burn's own tensors: the truth that the fused ones are held to, and what runs on every
//! device but the CPU.

use burn::tensor::activation::{gelu, gelu_approximate, log_softmax, relu, silu, softmax};
use burn::tensor::{Bool, Int, Tensor};

use super::{Activation, AdamWUpdate};

#[must_use]
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    burn::tensor::module::linear(x, weight, bias)
}

#[must_use]
pub fn linear_onto<const D: usize>(
    residual: Tensor<D>,
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    residual + linear(x, weight, bias)
}

#[must_use]
pub fn linear_transposed<const D: usize>(x: Tensor<D>, weight: Tensor<2>) -> Tensor<D> {
    x.matmul(weight.transpose().unsqueeze())
}

#[must_use]
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    log_softmax(logits, 1).gather(1, targets.unsqueeze_dim::<2>(1)).mean().neg()
}

#[must_use]
pub fn causal_attention(fused: Tensor<3>, heads: usize, groups: usize) -> Tensor<3> {
    let [batch, length, width] = fused.dims();
    let head_width = width / (heads + 2 * groups);
    let part = |first: usize, count: usize| {
        let part = fused.clone().narrow(2, first * head_width, count * head_width);
        part.reshape([batch, length, count, head_width]).swap_dims(1, 2) // [batch, head, position, head_width]
    };
    let shared = |part: Tensor<4>| {
        let part = part.unsqueeze_dim::<5>(2).expand([batch, groups, heads / groups, length, head_width]);
        part.reshape([batch, heads, length, head_width])
    };
    let (query, key, value) = (part(0, heads), shared(part(heads, groups)), shared(part(heads + groups, groups)));
    let scores = query.matmul(key.transpose()) / (head_width as f64).sqrt(); // [batch, head, query, key]
    let future = Tensor::<2, Bool>::tril_mask([length, length], 0, &fused.device()); // true above the diagonal
    let weights = softmax(scores.mask_fill(future.unsqueeze::<4>(), f32::NEG_INFINITY), 3);
    weights.matmul(value).swap_dims(1, 2).reshape([batch, length, heads * head_width])
}

#[must_use]
pub fn layer_norm<const D: usize>(x: Tensor<D>, gain: Tensor<1>, bias: Option<Tensor<1>>, epsilon: f64) -> Tensor<D> {
    let (variance, mean) = x.clone().var_mean_bias(D - 1);
    let normed = (x - mean) / (variance + epsilon).sqrt() * gain.unsqueeze();
    match bias {
        Some(bias) => normed + bias.unsqueeze(),
        None => normed,
    }
}

#[must_use]
pub fn rms_norm<const D: usize>(x: Tensor<D>, gain: Tensor<1>, epsilon: f64) -> Tensor<D> {
    let mean_square = (x.clone() * x.clone()).mean_dim(D - 1);
    x / (mean_square + epsilon).sqrt() * gain.unsqueeze()
}

#[must_use]
pub fn activation<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    match activation {
        Activation::Gelu => gelu(x),
        Activation::GeluTanh => gelu_approximate(x),
        Activation::Relu => relu(x),
        Activation::Silu => silu(x),
    }
}

#[must_use]
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    silu(gate) * up
}

#[must_use]
pub fn embedding(tokens: Tensor<2>, positions: Option<Tensor<2>>, ids: Tensor<2, Int>) -> Tensor<3> {
    let [_, length] = ids.dims();
    let rows = burn::tensor::module::embedding(tokens, ids);
    match positions {
        Some(positions) => rows + positions.narrow(0, 0, length).unsqueeze(),
        None => rows,
    }
}

#[must_use]
pub fn adamw<const D: usize>(
    weight: Tensor<D>,
    gradient: Tensor<1>,
    first: Tensor<1>,
    second: Tensor<1>,
    update: AdamWUpdate,
) -> (Tensor<D>, Tensor<1>, Tensor<1>) {
    let gradient = gradient * update.gradient_scale;
    let first = first * update.beta_1 + gradient.clone() * (1.0 - update.beta_1);
    let second = second * update.beta_2 + gradient.clone() * gradient * (1.0 - update.beta_2);
    let denominator = second.clone().sqrt() / update.correction_2.sqrt() + update.epsilon;
    let change = first.clone() / denominator * (update.learning_rate / update.correction_1);
    let shape = weight.shape();
    let weight = weight * (1.0 - update.learning_rate * update.weight_decay) - change.reshape(shape);
    (weight, first, second)
}

#[must_use]
pub fn square_sum(tensor: Tensor<1>) -> Tensor<1> {
    (tensor.clone() * tensor).sum()
}
