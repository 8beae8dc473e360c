//! Each operation written with burn's own tensors: the truth that the fused ones are held to, and what runs on every
//! device but the CPU.

use burn::tensor::activation::{gelu, log_softmax, relu, silu};
use burn::tensor::{Int, Tensor, TensorData};

use super::{Activation, AdamWUpdate, DropoutMask};

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
pub fn dropout<const D: usize>(x: Tensor<D>, mask: DropoutMask) -> Tensor<D> {
    let (shape, ones) = (x.shape(), vec![1.0; x.dims()[D - 1]]);
    let mut factors = vec![0.0; shape.num_elements()];
    for (row, factors) in factors.chunks_mut(ones.len()).enumerate() {
        mask.drop_row(row, &ones, factors);
    }
    let factors = Tensor::from_data(TensorData::new(factors, shape), &x.device());
    x * factors
}

#[must_use]
pub fn rotate(qkv: Tensor<3>, cosine: Tensor<2>, sine: Tensor<2>, heads: usize) -> Tensor<3> {
    let ([batch, length, width], half) = (qkv.dims(), cosine.dims()[1]);
    let turned = heads * 2 * half;
    let x = qkv.clone().narrow(2, 0, turned).reshape([batch, length, heads, 2 * half]);
    let (first, second) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
    let [cosine, sine] = [cosine, sine].map(|table| table.reshape([1, length, 1, half]));
    let turned_first = first.clone() * cosine.clone() - second.clone() * sine.clone();
    let turned_second = second * cosine + first * sine;
    let x = Tensor::cat(vec![turned_first, turned_second], 3).reshape([batch, length, turned]);
    Tensor::cat(vec![x, qkv.narrow(2, turned, width - turned)], 2)
}

#[must_use]
pub fn layer_norm<const D: usize>(x: Tensor<D>, gain: Tensor<1>, bias: Option<Tensor<1>>, epsilon: f64) -> Tensor<D> {
    let (variance, mean) = x.clone().var_mean_bias(D - 1);
    // Squares past f32's end: what is divided by infinity would be a calm 0, PyTorch's layer norm is no number.
    let overflown = variance.clone().is_inf();
    let deviation = (variance + epsilon).sqrt().mask_fill(overflown, f32::NAN);
    let normed = (x - mean) / deviation * gain.unsqueeze();
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
        Activation::GeluTanh => gelu_tanh(x),
        Activation::Relu => relu(x),
        Activation::Silu => silu(x),
    }
}

/// burn's own takes a power, which some devices do not define below zero.
fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let cubic = x.clone() * x.clone() * x.clone() * 0.044_715;
    let inner = (x.clone() + cubic) * (2.0 / std::f64::consts::PI).sqrt();
    // Halved first: twice the largest numbers are none.
    x * 0.5 * (inner.tanh() + 1.0)
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
