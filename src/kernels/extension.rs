//! How the operations enter burn: an extension of its backends, for Flex by itself and under autodiff.

use std::fmt::Debug;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::flex::FlexTensor;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Flex, backend_extension};

use super::activation::Activation;
use super::adamw::AdamWUpdate;
use super::dropout::DropoutMask;
use super::host::contiguous;
use super::linear::{Gradient, Inputs, Onto};
use super::rotary::Turn;
use super::{activation, adamw, attention, cached, dropout, embedding, linear, loss, norm};

/// The operations on primitives. Shapes as in the functions of the same name in [`super`].
#[backend_extension(Flex, Autodiff)]
pub trait Kernels: Backend {
    /// `transposed`: the weight is stored as [output, input].
    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>, transposed: bool) -> FloatTensor<Self>;
    fn fused_biased_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    fn fused_residual_linear(
        residual: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
    fn fused_attention(
        fused: FloatTensor<Self>,
        heads: usize,
        kv_heads: usize,
        mask: Option<DropoutMask>,
    ) -> FloatTensor<Self>;
    fn fused_dropout(x: FloatTensor<Self>, mask: DropoutMask) -> FloatTensor<Self>;
    /// `centered`: layer norm; otherwise RMS norm.
    fn fused_norm(x: FloatTensor<Self>, gain: FloatTensor<Self>, epsilon: f32, centered: bool) -> FloatTensor<Self>;
    fn fused_biased_norm(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;
    fn fused_rotation(
        qkv: FloatTensor<Self>,
        cosine: FloatTensor<Self>,
        sine: FloatTensor<Self>,
        heads: usize,
    ) -> FloatTensor<Self>;
    fn fused_activation(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;
    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
    fn fused_embedding(tokens: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self>;
    fn fused_positioned_embedding(
        tokens: FloatTensor<Self>,
        positions: FloatTensor<Self>,
        ids: IntTensor<Self>,
    ) -> FloatTensor<Self>;
    fn fused_cross_entropy(logits: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self>;
}

/// What is computed outside of any graph.
#[backend_extension(Flex)]
pub trait UngradedKernels: Backend {
    /// The mixed values, and the weights.
    fn fused_traced_attention(
        qkv: FloatTensor<Self>,
        heads: usize,
        kv_heads: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
    /// The mixed values, and what is kept.
    fn fused_cached_attention(
        qkv: FloatTensor<Self>,
        kept: FloatTensor<Self>,
        filled: usize,
        heads: usize,
        kv_heads: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);
    /// The new weight, first moment and second moment.
    fn fused_adamw(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        first: FloatTensor<Self>,
        second: FloatTensor<Self>,
        update: AdamWUpdate,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
    fn fused_square_sum(tensor: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl UngradedKernels for Flex {
    fn fused_traced_attention(qkv: FlexTensor, heads: usize, kv_heads: usize) -> (FlexTensor, FlexTensor) {
        attention::traced(qkv, heads, kv_heads)
    }

    fn fused_cached_attention(
        qkv: FlexTensor,
        kept: FlexTensor,
        filled: usize,
        heads: usize,
        kv_heads: usize,
    ) -> (FlexTensor, FlexTensor) {
        cached::forward(qkv, kept, filled, heads, kv_heads)
    }

    fn fused_adamw(
        weight: FlexTensor,
        gradient: FlexTensor,
        first: FlexTensor,
        second: FlexTensor,
        update: AdamWUpdate,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        adamw::update(weight, gradient, first, second, update)
    }

    fn fused_square_sum(tensor: FlexTensor) -> FlexTensor {
        adamw::square_sum(tensor)
    }
}

impl Kernels for Flex {
    fn fused_linear(x: FlexTensor, weight: FlexTensor, transposed: bool) -> FlexTensor {
        linear::forward(&Inputs::new(x, weight, transposed), Onto::Nothing)
    }

    fn fused_biased_linear(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        linear::forward(&Inputs::new(x, weight, false), Onto::Bias(bias))
    }

    fn fused_residual_linear(residual: FlexTensor, x: FlexTensor, weight: FlexTensor) -> FlexTensor {
        linear::forward(&Inputs::new(x, weight, false), Onto::Residual(residual))
    }

    fn fused_attention(fused: FlexTensor, heads: usize, kv_heads: usize, mask: Option<DropoutMask>) -> FlexTensor {
        attention::forward(fused, heads, kv_heads, mask, false).0
    }

    fn fused_dropout(x: FlexTensor, mask: DropoutMask) -> FlexTensor {
        dropout::apply(x, mask)
    }

    fn fused_norm(x: FlexTensor, gain: FlexTensor, epsilon: f32, centered: bool) -> FlexTensor {
        norm::forward(x, gain, None, epsilon, centered).0
    }

    fn fused_biased_norm(x: FlexTensor, gain: FlexTensor, bias: FlexTensor, epsilon: f32) -> FlexTensor {
        norm::forward(x, gain, Some(bias), epsilon, true).0
    }

    fn fused_rotation(qkv: FlexTensor, cosine: FlexTensor, sine: FlexTensor, heads: usize) -> FlexTensor {
        Turn::new(cosine, sine, heads).apply(qkv, false)
    }

    fn fused_activation(x: FlexTensor, activation: Activation) -> FlexTensor {
        activation::forward(x, activation, false).0
    }

    fn fused_swiglu(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        activation::swiglu(&contiguous(gate), &contiguous(up))
    }

    fn fused_embedding(tokens: FlexTensor, ids: FlexTensor) -> FlexTensor {
        embedding::forward(tokens, None, &ids).0
    }

    fn fused_positioned_embedding(tokens: FlexTensor, positions: FlexTensor, ids: FlexTensor) -> FlexTensor {
        embedding::forward(tokens, Some(positions), &ids).0
    }

    fn fused_cross_entropy(logits: FlexTensor, targets: FlexTensor) -> FlexTensor {
        loss::forward(logits, &targets).0
    }
}

impl<C: CheckpointStrategy> Kernels for Autodiff<Flex, C> {
    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>, transposed: bool) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node)) = (x.into_parts(), weight.into_parts());
        let inputs = Inputs::new(x, weight, transposed);
        let y = linear::forward(&inputs, Onto::Nothing);
        record::<C, _, 2>([x_node, weight_node], y, inputs, |inputs, gradient, [x, weight]| {
            let gradient = Gradient::new(gradient);
            [x.then(|| gradient.of_x(&inputs)), weight.then(|| gradient.of_weight(&inputs))]
        })
    }

    fn fused_biased_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (weight, weight_node), (bias, bias_node)) =
            (x.into_parts(), weight.into_parts(), bias.into_parts());
        let inputs = Inputs::new(x, weight, false);
        let y = linear::forward(&inputs, Onto::Bias(bias));
        record::<C, _, 3>([x_node, weight_node, bias_node], y, inputs, |inputs, gradient, [x, weight, bias]| {
            let gradient = Gradient::new(gradient);
            [
                x.then(|| gradient.of_x(&inputs)),
                weight.then(|| gradient.of_weight(&inputs)),
                bias.then(|| gradient.of_bias()),
            ]
        })
    }

    fn fused_residual_linear(
        residual: FloatTensor<Self>,
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let ((residual, residual_node), (x, x_node), (weight, weight_node)) =
            (residual.into_parts(), x.into_parts(), weight.into_parts());
        let inputs = Inputs::new(x, weight, false);
        let y = linear::forward(&inputs, Onto::Residual(residual));
        record::<C, _, 3>([residual_node, x_node, weight_node], y, inputs, |inputs, gradient, [_, x, weight]| {
            let residual = gradient.clone();
            let gradient = Gradient::new(gradient);
            [Some(residual), x.then(|| gradient.of_x(&inputs)), weight.then(|| gradient.of_weight(&inputs))]
        })
    }

    fn fused_attention(
        fused: FloatTensor<Self>,
        heads: usize,
        kv_heads: usize,
        mask: Option<DropoutMask>,
    ) -> FloatTensor<Self> {
        let (fused, node) = fused.into_parts();
        let (z, state) = attention::forward(fused, heads, kv_heads, mask, true);
        record::<C, _, 1>([node], z, state, |state, gradient, [_]| {
            [state.map(|state| attention::backward(&state, gradient))]
        })
    }

    fn fused_dropout(x: FloatTensor<Self>, mask: DropoutMask) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        record::<C, _, 1>([node], dropout::apply(x, mask), mask, |mask, gradient, [_]| {
            [Some(dropout::apply(gradient, mask))]
        })
    }

    fn fused_norm(x: FloatTensor<Self>, gain: FloatTensor<Self>, epsilon: f32, centered: bool) -> FloatTensor<Self> {
        let ((x, x_node), (gain, gain_node)) = (x.into_parts(), gain.into_parts());
        let (y, state) = norm::forward(x, gain, None, epsilon, centered);
        record::<C, _, 2>([x_node, gain_node], y, state, |state, gradient, _| {
            let [of_x, of_gain, _] = norm::backward(&state, gradient);
            [Some(of_x), Some(of_gain)]
        })
    }

    fn fused_biased_norm(
        x: FloatTensor<Self>,
        gain: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let ((x, x_node), (gain, gain_node), (bias, bias_node)) =
            (x.into_parts(), gain.into_parts(), bias.into_parts());
        let (y, state) = norm::forward(x, gain, Some(bias), epsilon, true);
        record::<C, _, 3>([x_node, gain_node, bias_node], y, state, |state, gradient, _| {
            norm::backward(&state, gradient).map(Some)
        })
    }

    fn fused_rotation(
        qkv: FloatTensor<Self>,
        cosine: FloatTensor<Self>,
        sine: FloatTensor<Self>,
        heads: usize,
    ) -> FloatTensor<Self> {
        let ((qkv, node), (cosine, _), (sine, _)) = (qkv.into_parts(), cosine.into_parts(), sine.into_parts());
        let turn = Turn::new(cosine, sine, heads);
        let turned = turn.apply(qkv, false);
        record::<C, _, 1>([node], turned, turn, |turn, gradient, [_]| [Some(turn.apply(gradient, true))])
    }

    fn fused_activation(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        let (y, slopes) = activation::forward(x, activation, true);
        record::<C, _, 1>([node], y, (slopes, activation), |(slopes, activation), gradient, [_]| {
            [slopes.map(|slopes| activation::backward(&slopes, activation, gradient))]
        })
    }

    fn fused_swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((gate, gate_node), (up, up_node)) = (gate.into_parts(), up.into_parts());
        let (gate, up) = (contiguous(gate), contiguous(up));
        let y = activation::swiglu(&gate, &up);
        record::<C, _, 2>([gate_node, up_node], y, (gate, up), |(gate, up), gradient, _| {
            activation::swiglu_backward(&gate, &up, gradient).map(Some)
        })
    }

    fn fused_embedding(tokens: FloatTensor<Self>, ids: IntTensor<Self>) -> FloatTensor<Self> {
        let (tokens, node) = tokens.into_parts();
        let (y, state) = embedding::forward(tokens, None, &ids);
        record::<C, _, 1>([node], y, state, |state, gradient, [_]| {
            [Some(embedding::of_tokens(&state, &contiguous(gradient)))]
        })
    }

    fn fused_positioned_embedding(
        tokens: FloatTensor<Self>,
        positions: FloatTensor<Self>,
        ids: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        let ((tokens, tokens_node), (positions, positions_node)) = (tokens.into_parts(), positions.into_parts());
        let (y, state) = embedding::forward(tokens, Some(positions), &ids);
        record::<C, _, 2>([tokens_node, positions_node], y, state, |state, gradient, _| {
            let gradient = contiguous(gradient);
            [Some(embedding::of_tokens(&state, &gradient)), Some(embedding::of_positions(&state, &gradient))]
        })
    }

    fn fused_cross_entropy(logits: FloatTensor<Self>, targets: IntTensor<Self>) -> FloatTensor<Self> {
        let (logits, node) = logits.into_parts();
        let (loss, state) = loss::forward(logits, &targets);
        record::<C, _, 1>([node], loss, state, |state, gradient, [wanted]| {
            [wanted.then(|| loss::backward(&state, &gradient))]
        })
    }
}

/// From what the forward pass kept and the output's gradient to the inputs' gradients, of those that are wanted.
type BackwardOf<S, const N: usize> = fn(S, FlexTensor, [bool; N]) -> [Option<FlexTensor>; N];

/// Enters an operation with `N` inputs that has already run into the graph of gradients.
fn record<C: CheckpointStrategy, S: Clone + Send + Debug + 'static, const N: usize>(
    inputs: [NodeGuard; N],
    output: FlexTensor,
    state: S,
    backward: BackwardOf<S, N>,
) -> FloatTensor<Autodiff<Flex, C>> {
    match Recorded(backward).prepare::<C>(inputs).compute_bound().stateful() {
        OpsKind::Tracked(prepared) => prepared.finish(state, output),
        OpsKind::UnTracked(prepared) => prepared.finish(output),
    }
}

#[derive(Debug)]
struct Recorded<S, const N: usize>(BackwardOf<S, N>);

impl<S: Clone + Send + Debug + 'static, const N: usize> Backward<Flex, N> for Recorded<S, N> {
    type State = S;

    fn backward(self, ops: Ops<S, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let found = (self.0)(ops.state, gradient, wanted);
        for (parent, gradient) in ops.parents.into_iter().zip(found) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                gradients.register::<Flex>(parent.id, gradient);
            }
        }
    }
}
