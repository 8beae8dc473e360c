//! Fused operations for the CPU, each with a [`plain`] twin that it must equal.
//!
//! burn's own operations are small: a layer norm is seven of them, each a pass over memory on one core, each with its
//! copy kept for the backward pass. Here each is one pass, spread over the cores, with its gradient written by hand. On
//! any other device the functions fall to their twins.
//!
//! Parallelism stays inside an operation: burn's graph of gradients is owned by one thread.

mod activation;
mod adamw;
mod attention;
mod cached;
mod dropout;
mod embedding;
mod extension;
mod host;
mod linear;
mod loss;
mod matmul;
mod memory;
mod norm;
mod one_row;
pub mod plain;
mod rotary;
mod team;
mod vector;

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::{DType, Device, Int, Tensor};
use extension::{Kernels, UngradedKernels};

pub use activation::Activation;
pub use adamw::AdamWUpdate;
pub use dropout::DropoutMask;
pub use team::{limit_threads, threads};

/// Whether the fused operations can take it: f32 on the CPU, with or without autodiff.
fn is_ours<const D: usize>(x: &Tensor<D>) -> bool {
    on_processor(&x.device()) && x.dtype() == DType::F32
}

fn on_processor(device: &Device) -> bool {
    match device.as_dispatch() {
        DispatchDevice::Flex(_) => true,
        DispatchDevice::Autodiff(inner) => matches!(**inner, DispatchDevice::Flex(_)),
        _ => false,
    }
}

/// `x · weight + bias` over the last axis. `x` is `[.., input]`, `weight` `[input, output]`, `bias` `[output]`.
#[must_use]
pub fn linear<const D: usize>(x: Tensor<D>, weight: Tensor<2>, bias: Option<Tensor<1>>) -> Tensor<D> {
    if !is_ours(&x) {
        return plain::linear(x, weight, bias);
    }
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::fused_biased_linear(x, weight, bias.into_dispatch()),
        None => Dispatch::fused_linear(x, weight, false),
    })
}

/// `residual + x · weight + bias`: what a block's projections do to the residual stream. Shapes as in [`linear`],
/// `residual` is `[.., output]`.
#[must_use]
pub fn linear_onto<const D: usize>(
    residual: Tensor<D>,
    x: Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Tensor<D> {
    match bias {
        None if is_ours(&x) => Tensor::from_dispatch(Dispatch::fused_residual_linear(
            residual.into_dispatch(),
            x.into_dispatch(),
            weight.into_dispatch(),
        )),
        bias => residual + linear(x, weight, bias),
    }
}

/// `x · weightᵀ` over the last axis, as a head tied to the embedding needs it. `x` is `[.., input]`, `weight`
/// `[output, input]`.
#[must_use]
pub fn linear_transposed<const D: usize>(x: Tensor<D>, weight: Tensor<2>) -> Tensor<D> {
    if !is_ours(&x) {
        return plain::linear_transposed(x, weight);
    }
    Tensor::from_dispatch(Dispatch::fused_linear(x.into_dispatch(), weight.into_dispatch(), true))
}

/// The mean over all rows of −ln softmax(logits)\[target\], in nats, `[1]`. `logits` is `[row, vocabulary]`, `targets`
/// `[row]`.
#[must_use]
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    if !is_ours(&logits) {
        return plain::cross_entropy(logits, targets);
    }
    Tensor::from_dispatch(Dispatch::fused_cross_entropy(logits.into_dispatch(), targets.into_dispatch()))
}

/// Causal attention. `qkv` is `[batch, position, (heads + 2 × kv_heads) × head_width]`: the query heads, then the key
/// heads, then the value heads, of which there may be fewer (`kv_heads` divides `heads`). The result is
/// `[batch, position, heads × head_width]`. `mask` drops out of the weights, `[batch, head, query, key]`. `None` on a
/// device without it, where [`attend`](crate::model::attend) serves.
#[must_use]
pub fn causal_attention(
    qkv: &Tensor<3>,
    heads: usize,
    kv_heads: usize,
    mask: Option<DropoutMask>,
) -> Option<Tensor<3>> {
    is_ours(qkv)
        .then(|| Tensor::from_dispatch(Dispatch::fused_attention(qkv.clone().into_dispatch(), heads, kv_heads, mask)))
}

/// As [`causal_attention`] without dropout, and the weights, `[batch, head, query, key]`. Outside of any graph.
#[must_use]
pub fn traced_attention(qkv: &Tensor<3>, heads: usize, kv_heads: usize) -> Option<(Tensor<3>, Tensor<4>)> {
    if !is_ours(qkv) || qkv.device().is_autodiff() {
        return None;
    }
    let (z, weights) = Dispatch::fused_traced_attention(qkv.clone().into_dispatch(), heads, kv_heads);
    Some((Tensor::from_dispatch(z), Tensor::from_dispatch(weights)))
}

/// Each number dropped or grown as the mask says.
#[must_use]
pub fn dropout<const D: usize>(x: Tensor<D>, mask: DropoutMask) -> Tensor<D> {
    if !is_ours(&x) {
        return plain::dropout(x, mask);
    }
    Tensor::from_dispatch(Dispatch::fused_dropout(x.into_dispatch(), mask))
}

/// As [`causal_attention`] of new positions that come after the `filled` whose keys and values are `kept`,
/// `[1, places, 2 × kv_heads × head_width]`; theirs are put behind. One sequence, outside of any graph.
#[must_use]
pub fn cached_attention(
    qkv: &Tensor<3>,
    kept: &mut Tensor<3>,
    filled: usize,
    heads: usize,
    kv_heads: usize,
) -> Option<Tensor<3>> {
    if !is_ours(qkv) || qkv.device().is_autodiff() {
        return None;
    }
    // Taken out, so that it is held only once and can be written in place.
    let empty = Tensor::empty([0, 0, 0], &qkv.device());
    let (qkv, old) = (qkv.clone().into_dispatch(), std::mem::replace(kept, empty).into_dispatch());
    let (z, new) = Dispatch::fused_cached_attention(qkv, old, filled, heads, kv_heads);
    *kept = Tensor::from_dispatch(new);
    Some(Tensor::from_dispatch(z))
}

/// The first `heads` heads of each position turned by its place, the others as they are: value `i` of a head's first half
/// and value `i` of its second are a pair. `qkv` is `[batch, position, width]`, `cosine` and `sine` are
/// `[position, head_width / 2]` and take no gradient.
#[must_use]
pub fn rotate(qkv: Tensor<3>, cosine: Tensor<2>, sine: Tensor<2>, heads: usize) -> Tensor<3> {
    if !is_ours(&qkv) {
        return plain::rotate(qkv, cosine, sine, heads);
    }
    let (qkv, cosine, sine) = (qkv.into_dispatch(), cosine.into_dispatch(), sine.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_rotation(qkv, cosine, sine, heads))
}

/// Layer norm over the last axis. `gain` and `bias` are `[width]`.
#[must_use]
pub fn layer_norm<const D: usize>(x: Tensor<D>, gain: Tensor<1>, bias: Option<Tensor<1>>, epsilon: f64) -> Tensor<D> {
    if !is_ours(&x) {
        return plain::layer_norm(x, gain, bias, epsilon);
    }
    let (x, gain, epsilon) = (x.into_dispatch(), gain.into_dispatch(), epsilon as f32);
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::fused_biased_norm(x, gain, bias.into_dispatch(), epsilon),
        None => Dispatch::fused_norm(x, gain, epsilon, true),
    })
}

/// Root-mean-square norm over the last axis. `gain` is `[width]`.
#[must_use]
pub fn rms_norm<const D: usize>(x: Tensor<D>, gain: Tensor<1>, epsilon: f64) -> Tensor<D> {
    if !is_ours(&x) {
        return plain::rms_norm(x, gain, epsilon);
    }
    Tensor::from_dispatch(Dispatch::fused_norm(x.into_dispatch(), gain.into_dispatch(), epsilon as f32, false))
}

/// An MLP's function, element by element.
#[must_use]
pub fn activation<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    if !is_ours(&x) {
        return plain::activation(x, activation);
    }
    Tensor::from_dispatch(Dispatch::fused_activation(x.into_dispatch(), activation))
}

/// silu(gate) · up, element by element (Shazeer 2020).
#[must_use]
pub fn swiglu<const D: usize>(gate: Tensor<D>, up: Tensor<D>) -> Tensor<D> {
    if !is_ours(&gate) {
        return plain::swiglu(gate, up);
    }
    Tensor::from_dispatch(Dispatch::fused_swiglu(gate.into_dispatch(), up.into_dispatch()))
}

/// The tokens' rows, and the positions' added: `[batch, position, width]`. `tokens` is `[vocabulary, width]`, `positions`
/// `[context, width]`, `ids` `[batch, position]`.
#[must_use]
pub fn embedding(tokens: Tensor<2>, positions: Option<Tensor<2>>, ids: Tensor<2, Int>) -> Tensor<3> {
    if !is_ours(&tokens) {
        return plain::embedding(tokens, positions, ids);
    }
    let (tokens, ids) = (tokens.into_dispatch(), ids.into_dispatch());
    Tensor::from_dispatch(match positions {
        Some(positions) => Dispatch::fused_positioned_embedding(tokens, positions.into_dispatch(), ids),
        None => Dispatch::fused_embedding(tokens, ids),
    })
}

/// One update of one tensor outside of any graph: the new weight and its two moments. In place where the caller holds the
/// only handle. The gradient and the moments are flat.
#[must_use]
pub fn adamw<const D: usize>(
    weight: Tensor<D>,
    gradient: Tensor<1>,
    first: Tensor<1>,
    second: Tensor<1>,
    update: AdamWUpdate,
) -> (Tensor<D>, Tensor<1>, Tensor<1>) {
    if !is_ours(&weight) {
        return plain::adamw(weight, gradient, first, second, update);
    }
    let (weight, first, second) = Dispatch::fused_adamw(
        weight.into_dispatch(),
        gradient.into_dispatch(),
        first.into_dispatch(),
        second.into_dispatch(),
        update,
    );
    (Tensor::from_dispatch(weight), Tensor::from_dispatch(first), Tensor::from_dispatch(second))
}

/// The sum of the squares of all numbers, `[1]`; outside of any graph.
#[must_use]
pub fn square_sum(tensor: Tensor<1>) -> Tensor<1> {
    if !is_ours(&tensor) {
        return plain::square_sum(tensor);
    }
    Tensor::from_dispatch(Dispatch::fused_square_sum(tensor.into_dispatch()))
}
