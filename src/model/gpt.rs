//! The network: GPT-2 (Radford et al. 2019) as nanoGPT builds it, in one read.
//!
//! A token's embedding plus its position's is the start of the *residual stream*, `[batch, position, width]`. Each block
//! reads the normed stream twice and adds what it found: attention carries information between positions, the MLP
//! works on each position alone. A last norm and the head turn the stream into logits, one per token of the vocabulary.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Embedding, LayerNorm, Linear};
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Int, Tensor};

use super::init::NORM_EPSILON;
use super::trace::Trace;
use crate::kernels::{self, Activation};
use crate::recipe::ModelRecipe;

/// A decoder-only transformer. Built by [`Gpt::new`](super::Gpt), trained on an autodiff device, watched on a plain one.
#[derive(Module, Debug)]
pub struct Gpt {
    pub(super) token_embedding: Embedding,    // [vocabulary, width]
    pub(super) position_embedding: Embedding, // [context, width]
    pub(super) dropout: Dropout,
    pub(super) blocks: Vec<Block>,
    pub(super) norm: LayerNorm,
    /// `None`: the head shares the token embedding's weights (Press & Wolf 2017).
    pub(super) head: Option<Linear>,
}

#[derive(Module, Debug)]
pub(super) struct Block {
    pub(super) attention_norm: LayerNorm,
    pub(super) attention: Attention,
    pub(super) mlp_norm: LayerNorm,
    pub(super) mlp: Mlp,
}

#[derive(Module, Debug)]
pub(super) struct Attention {
    pub(super) query_key_value: Linear, // [width, 3 × width]
    pub(super) projection: Linear,      // [width, width]
    pub(super) weights_dropout: Dropout,
    pub(super) output_dropout: Dropout,
    pub(super) heads: usize,
}

#[derive(Module, Debug)]
pub(super) struct Mlp {
    pub(super) up: Linear,   // [width, 4 × width]
    pub(super) down: Linear, // [4 × width, width]
    pub(super) dropout: Dropout,
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
        let positions = self.position_embedding.weight.val();
        let x = kernels::embedding(self.token_embedding.weight.val(), Some(positions), ids); // [batch, position, width]
        let mut x = self.dropout.forward(x);
        for block in &self.blocks {
            x = block.forward(x, trace.as_deref_mut());
        }
        let x = norm(&self.norm, x);
        match &self.head {
            Some(head) => linear(head, x), // [batch, position, vocabulary]
            None => kernels::linear_transposed(x, self.token_embedding.weight.val()),
        }
    }
}

/// x · W + b
fn linear(layer: &Linear, x: Tensor<3>) -> Tensor<3> {
    kernels::linear(x, layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()))
}

/// residual + dropout(x · W + b)
fn add_linear(residual: Tensor<3>, layer: &Linear, x: Tensor<3>, dropout: &Dropout) -> Tensor<3> {
    if dropout.prob > 0.0 && x.device().is_autodiff() {
        return residual + dropout.forward(linear(layer, x));
    }
    kernels::linear_onto(residual, x, layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()))
}

fn norm(layer: &LayerNorm, x: Tensor<3>) -> Tensor<3> {
    kernels::layer_norm(x, layer.gamma.val(), layer.beta.as_ref().map(|beta| beta.val()), NORM_EPSILON)
}

impl Block {
    fn forward(&self, x: Tensor<3>, trace: Option<&mut Trace>) -> Tensor<3> {
        let x = self.attention.forward(norm(&self.attention_norm, x.clone()), x, trace);
        self.mlp.forward(norm(&self.mlp_norm, x.clone()), x)
    }
}

impl Attention {
    /// `residual` and what attention adds to it.
    fn forward(&self, x: Tensor<3>, residual: Tensor<3>, trace: Option<&mut Trace>) -> Tensor<3> {
        let fused = linear(&self.query_key_value, x); // [batch, position, 3 × width]
        let drops = self.weights_dropout.prob > 0.0 && fused.device().is_autodiff();
        let mixed = match trace {
            None if !drops => kernels::causal_attention(fused, self.heads, self.heads),
            trace => self.mix_in_sight(fused, trace),
        };
        add_linear(residual, &self.projection, mixed, &self.output_dropout)
    }

    /// Attention with its weights in sight: to be recorded, or to be dropped out.
    fn mix_in_sight(&self, fused: Tensor<3>, trace: Option<&mut Trace>) -> Tensor<3> {
        let [batch, length, fused_width] = fused.dims();
        let width = fused_width / 3;
        let head_width = width / self.heads;
        let split = |part: Tensor<3>| part.reshape([batch, length, self.heads, head_width]).swap_dims(1, 2);
        let [query, key, value] = fused
            .chunk(3, 2)
            .try_into()
            .map(|parts: [Tensor<3>; 3]| parts.map(split)) // [batch, head, position, head_width]
            .expect("three chunks");

        let future = Tensor::<2, Bool>::tril_mask([length, length], 0, &query.device()); // true above the diagonal
        let scores = query.matmul(key.transpose()) / (head_width as f64).sqrt(); // [batch, head, query, key]
        let scores = scores.mask_fill(future.unsqueeze::<4>(), f32::NEG_INFINITY);
        let pattern = softmax(scores, 3); // each row sums to 1
        if let Some(trace) = trace {
            trace.record_pattern(pattern.clone());
        }
        let mixed = self.weights_dropout.forward(pattern).matmul(value); // [batch, head, query, head_width]
        mixed.swap_dims(1, 2).reshape([batch, length, width])
    }
}

impl Mlp {
    /// `residual` and what the MLP adds to it.
    fn forward(&self, x: Tensor<3>, residual: Tensor<3>) -> Tensor<3> {
        let hidden = kernels::activation(linear(&self.up, x), Activation::Gelu); // [batch, position, 4 × width]
        add_linear(residual, &self.down, hidden, &self.dropout)
    }
}

impl Mlp {
    pub(super) fn new(up: Linear, down: Linear, recipe: &ModelRecipe) -> Self {
        Self { up, down, dropout: dropout(recipe) }
    }
}

impl Attention {
    pub(super) fn new(query_key_value: Linear, projection: Linear, recipe: &ModelRecipe) -> Self {
        let (weights_dropout, output_dropout) = (dropout(recipe), dropout(recipe));
        Self { query_key_value, projection, weights_dropout, output_dropout, heads: recipe.heads }
    }
}

pub(super) fn dropout(recipe: &ModelRecipe) -> Dropout {
    DropoutConfig::new(recipe.dropout).init()
}
