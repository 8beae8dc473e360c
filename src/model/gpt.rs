//! The network, in one read: a decoder-only transformer whose recipe makes it a GPT-2 (Radford et al. 2019, as nanoGPT
//! builds it), an OPT, a Llama or a Phi-3.
//!
//! A token's embedding, plus its position's where positions are learned, is the start of the *residual stream*,
//! `[batch, position, width]`. Each block reads the normed stream twice and adds what it found: attention carries
//! information between positions, the MLP works on each position alone. A last norm and the head turn the stream into
//! logits, one per token of the vocabulary.

use burn::module::{Module, Param};
use burn::nn::{Dropout, DropoutConfig, Embedding, Linear};
use burn::tensor::activation::{gelu, relu, silu, softmax};
use burn::tensor::module::layer_norm;
use burn::tensor::{Bool, Int, Tensor};

use super::rotary::Rotation;
use super::trace::Trace;
use crate::recipe::{Activation, ModelRecipe, Position};

/// A decoder-only transformer. Built by [`Gpt::new`](super::Gpt), trained on an autodiff device, watched on a plain one.
#[derive(Module, Debug)]
pub struct Gpt {
    pub(super) token_embedding: Embedding, // [vocabulary, width]
    /// `None`: places enter by rotation.
    pub(super) position_embedding: Option<Embedding>, // [context, width]
    pub(super) dropout: Dropout,
    pub(super) blocks: Vec<Block>,
    pub(super) norm: Norm,
    /// `None`: the head shares the token embedding's weights (Press & Wolf 2017).
    pub(super) head: Option<Linear>,
    #[module(skip)]
    pub(super) position: Position,
}

#[derive(Module, Debug)]
pub(super) struct Block {
    pub(super) attention_norm: Norm,
    pub(super) attention: Attention,
    pub(super) mlp_norm: Norm,
    pub(super) mlp: Mlp,
}

#[derive(Module, Debug)]
pub(super) struct Attention {
    pub(super) query_key_value: Linear, // [width, (heads + 2 × groups) × head_width]
    pub(super) projection: Linear,      // [width, width]
    pub(super) weights_dropout: Dropout,
    pub(super) output_dropout: Dropout,
    pub(super) heads: usize,
    /// Key/value heads, each for `heads / groups` query heads.
    pub(super) groups: usize,
}

#[derive(Module, Debug)]
pub(super) struct Mlp {
    /// Only a gated MLP has one.
    pub(super) gate: Option<Linear>, // [width, mlp_width]
    pub(super) up: Linear,   // [width, mlp_width]
    pub(super) down: Linear, // [mlp_width, width]
    pub(super) dropout: Dropout,
    #[module(skip)]
    pub(super) activation: Activation,
}

/// LayerNorm (Ba et al. 2016), or RMSNorm (Zhang & Sennrich 2019), which leaves the mean as it is.
#[derive(Module, Debug)]
pub(super) struct Norm {
    pub(super) gamma: Param<Tensor<1>>,        // [width]
    pub(super) beta: Option<Param<Tensor<1>>>, // [width]
    pub(super) epsilon: f64,
    pub(super) centred: bool,
}

impl Gpt {
    /// Logits for the token after each position. `ids` is `[batch, position]`, at most `context` positions;
    /// the result is `[batch, position, vocabulary]`.
    #[must_use]
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        self.run(ids, None)
    }

    /// As [`forward`](Self::forward), and records what it passes through.
    pub fn forward_traced(&self, ids: Tensor<2, Int>, trace: &mut Trace) -> Tensor<3> {
        self.run(ids, Some(trace))
    }

    fn run(&self, ids: Tensor<2, Int>, mut trace: Option<&mut Trace>) -> Tensor<3> {
        let ([_, length], device) = (ids.dims(), ids.device());
        let future = Tensor::<2, Bool>::tril_mask([length, length], 0, &device); // true above the diagonal
        let head_width = self.blocks[0].attention.head_width();
        let rotation = Rotation::new(self.position, length, head_width, &device);
        let mut x = self.token_embedding.forward(ids); // [batch, position, width]
        if let Some(positions) = &self.position_embedding {
            x = x + positions.weight.val().narrow(0, 0, length).unsqueeze();
        }
        let mut x = self.dropout.forward(x);
        for block in &self.blocks {
            x = block.forward(x, &future, rotation.as_ref(), trace.as_deref_mut());
        }
        let x = self.norm.forward(x);
        match &self.head {
            Some(head) => head.forward(x), // [batch, position, vocabulary]
            None => x.matmul(self.token_embedding.weight.val().transpose().unsqueeze()),
        }
    }
}

impl Block {
    fn forward(
        &self,
        x: Tensor<3>,
        future: &Tensor<2, Bool>,
        rotation: Option<&Rotation>,
        trace: Option<&mut Trace>,
    ) -> Tensor<3> {
        let x = x.clone() + self.attention.forward(self.attention_norm.forward(x), future, rotation, trace);
        x.clone() + self.mlp.forward(self.mlp_norm.forward(x))
    }
}

impl Attention {
    fn forward(
        &self,
        x: Tensor<3>,
        future: &Tensor<2, Bool>,
        rotation: Option<&Rotation>,
        trace: Option<&mut Trace>,
    ) -> Tensor<3> {
        let [batch, length, width] = x.dims();
        let (heads, groups, size) = (self.heads, self.groups, self.head_width());
        let joined = self.query_key_value.forward(x); // [batch, position, (heads + 2 × groups) × head_width]
        let part = |first: usize, count: usize| {
            let part = joined.clone().narrow(2, first * size, count * size);
            part.reshape([batch, length, count, size]).swap_dims(1, 2) // [batch, head, position, head_width]
        };
        let (query, key, value) = (part(0, heads), part(heads, groups), part(heads + groups, groups));
        let (query, key) = match rotation {
            Some(rotation) => (rotation.turn(query), rotation.turn(key)),
            None => (query, key),
        };
        let [key, value] = [key, value].map(|part| each_repeated(part, heads / groups));

        let scores = query.matmul(key.transpose()) / (size as f64).sqrt(); // [batch, head, query, key]
        let scores = scores.mask_fill(future.clone().unsqueeze::<4>(), f32::NEG_INFINITY);
        let pattern = softmax(scores, 3); // each row sums to 1
        if let Some(trace) = trace {
            trace.record_pattern(pattern.clone());
        }
        let mixed = self.weights_dropout.forward(pattern).matmul(value); // [batch, head, query, head_width]
        let merged = mixed.swap_dims(1, 2).reshape([batch, length, width]);
        self.output_dropout.forward(self.projection.forward(merged))
    }
}

impl Mlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let up = self.up.forward(x.clone()); // [batch, position, mlp_width]
        let hidden = match (&self.gate, self.activation) {
            (Some(gate), _) => silu(gate.forward(x)) * up,
            (None, Activation::GeluTanh) => gelu_tanh(up),
            (None, Activation::Relu) => relu(up),
            (None, Activation::Gelu | Activation::SwiGlu) => gelu(up),
        };
        self.dropout.forward(self.down.forward(hidden))
    }
}

impl Norm {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let (gamma, beta) = (self.gamma.val(), self.beta.as_ref().map(Param::val));
        if self.centred {
            return layer_norm(x, gamma, beta, self.epsilon);
        }
        let mean_square = (x.clone() * x.clone()).mean_dim(2); // [batch, position, 1]
        x / (mean_square + self.epsilon).sqrt() * gamma.unsqueeze()
    }
}

/// GELU by the tanh of GPT-2. burn's own takes a power that some devices do not define below zero.
fn gelu_tanh(x: Tensor<3>) -> Tensor<3> {
    let cubic = x.clone() * x.clone() * x.clone() * 0.044_715;
    let inner = (x.clone() + cubic) * (2.0 / std::f64::consts::PI).sqrt();
    x * (inner.tanh() + 1.0) * 0.5
}

/// Each head `times` times, one after the other: `[batch, group, position, size]` → `[batch, head, position, size]`.
fn each_repeated(heads: Tensor<4>, times: usize) -> Tensor<4> {
    if times == 1 {
        return heads;
    }
    let [batch, groups, length, size] = heads.dims();
    heads.unsqueeze_dim::<5>(2).repeat_dim(2, times).reshape([batch, groups * times, length, size])
}

impl Attention {
    pub(super) fn new(query_key_value: Linear, projection: Linear, recipe: &ModelRecipe) -> Self {
        let (weights_dropout, output_dropout) = (dropout(recipe), dropout(recipe));
        let (heads, groups) = (recipe.heads, recipe.key_value_heads());
        Self { query_key_value, projection, weights_dropout, output_dropout, heads, groups }
    }

    pub(super) fn head_width(&self) -> usize {
        self.projection.weight.dims()[0] / self.heads
    }
}

pub(super) fn dropout(recipe: &ModelRecipe) -> Dropout {
    DropoutConfig::new(recipe.dropout).init()
}
