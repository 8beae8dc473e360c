//! The network, in one read: a decoder-only transformer whose recipe makes it a GPT-2 (Radford et al. 2019, as nanoGPT
//! builds it), an OPT, a Llama or a Phi-3.
//!
//! A token's embedding, plus its position's where positions are learned, is the start of the *residual stream*,
//! `[batch, position, width]`. Each block reads the normed stream twice and adds what it found: attention carries
//! information between positions, the MLP works on each position alone. A last norm and the head turn the stream into
//! logits, one per token of the vocabulary.
//!
//! What is called `kernels::` is one operation on the CPU and several of burn's elsewhere; `kernels/plain.rs` says what
//! each means.

use burn::module::Module;
use burn::nn::{Dropout, Embedding, Linear};
use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Int, Tensor};

use super::cache::{Cache, Kept};
use super::rotary::Rotation;
use super::trace::Trace;
use crate::kernels::{self, DropoutMask};
use crate::model::layers::{Norm, add_linear, drop, function_of, linear};
use crate::recipe::{Activation, Position};

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
    pub(super) query_key_value: Linear, // [width, (heads + 2 × kv_heads) × head_width]
    pub(super) projection: Linear,      // [width, width]
    pub(super) weights_dropout: Dropout,
    pub(super) output_dropout: Dropout,
    pub(super) heads: usize,
    /// Key/value heads, each for `heads / kv_heads` query heads.
    pub(super) kv_heads: usize,
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

impl Gpt {
    /// Logits for the token after each position. `ids` is `[batch, position]`, at most `context` positions;
    /// the result is `[batch, position, vocabulary]`.
    #[must_use]
    pub fn forward(&self, ids: Tensor<2, Int>) -> Tensor<3> {
        self.run(ids, None, None)
    }

    /// As [`forward`](Self::forward), and records what it passes through.
    pub fn forward_traced(&self, ids: Tensor<2, Int>, trace: &mut Trace) -> Tensor<3> {
        self.run(ids, Some(trace), None)
    }

    /// As [`forward`](Self::forward), for positions that come after those in `cache`: one sequence, `[1, position]`.
    pub fn forward_cached(&self, ids: Tensor<2, Int>, cache: &mut Cache, trace: Option<&mut Trace>) -> Tensor<3> {
        self.run(ids, trace, Some(cache))
    }

    /// An empty cache for at most `context` positions.
    #[must_use]
    pub fn cache(&self, context: usize) -> Cache {
        let widths = self.blocks.iter().map(|block| 2 * block.attention.kv_heads * block.attention.head_width());
        Cache::new(context, widths, &self.token_embedding.weight.device())
    }

    fn run(&self, ids: Tensor<2, Int>, mut trace: Option<&mut Trace>, mut cache: Option<&mut Cache>) -> Tensor<3> {
        let ([_, length], head_width) = (ids.dims(), self.blocks[0].attention.head_width());
        let start = cache.as_ref().map_or(0, |cache| cache.length());
        let rotation = Rotation::new(self.position, start..start + length, head_width, &ids.device());
        let positions = self.position_embedding.as_ref();
        let positions = positions.map(|positions| positions.weight.val().narrow(0, start, length));
        let x = kernels::embedding(self.token_embedding.weight.val(), positions, ids); // [batch, position, width]
        let mut x = drop(&self.dropout, x);
        if let Some(trace) = &mut trace {
            trace.embedding = Some(x.clone());
        }
        for (layer, block) in self.blocks.iter().enumerate() {
            let kept = cache.as_deref_mut().map(|cache| cache.layer(layer));
            x = block.forward(x, rotation.as_ref(), trace.as_deref_mut(), kept);
        }
        if let Some(cache) = cache {
            cache.grow(length);
        }
        self.logits(self.norm.forward(x))
    }

    pub(super) fn logits(&self, normed: Tensor<3>) -> Tensor<3> {
        match &self.head {
            Some(head) => linear(head, normed), // [batch, position, vocabulary]
            None => kernels::linear_transposed(normed, self.token_embedding.weight.val()),
        }
    }
}

impl Block {
    fn forward(
        &self,
        x: Tensor<3>,
        rotation: Option<&Rotation>,
        mut trace: Option<&mut Trace>,
        kept: Option<Kept<'_>>,
    ) -> Tensor<3> {
        let normed = self.attention_norm.forward(x.clone());
        let resid_mid = self.attention.forward(normed, x, rotation, trace.as_deref_mut(), kept);
        let resid_post = self.mlp.forward(self.mlp_norm.forward(resid_mid.clone()), resid_mid.clone());
        if let Some(trace) = trace {
            let layer = trace.layer();
            (layer.resid_mid, layer.resid_post) = (Some(resid_mid), Some(resid_post.clone()));
        }
        resid_post
    }
}

impl Attention {
    /// `residual` and what attention adds to it.
    fn forward(
        &self,
        x: Tensor<3>,
        residual: Tensor<3>,
        rotation: Option<&Rotation>,
        mut trace: Option<&mut Trace>,
        kept: Option<Kept<'_>>,
    ) -> Tensor<3> {
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        let qkv = linear(&self.query_key_value, x); // [batch, position, (heads + 2 × kv_heads) × head_width]
        let qkv = match rotation {
            Some(rotation) => rotation.turn(qkv, heads + kv_heads),
            None => qkv,
        };
        let z = match kept {
            Some(kept) => self.mix_cached(qkv, kept, trace.as_deref_mut()),
            None => self.mix(qkv, trace.as_deref_mut()), // [batch, position, heads × head_width]
        };
        if let Some(trace) = trace {
            trace.layer().z = Some(z.clone());
        }
        add_linear(residual, &self.projection, z, &self.output_dropout)
    }

    fn mix(&self, qkv: Tensor<3>, mut trace: Option<&mut Trace>) -> Tensor<3> {
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        if let Some(trace) = trace.as_deref_mut() {
            if trace.only_watches()
                && let Some((z, pattern)) = kernels::traced_attention(&qkv, heads, kv_heads)
            {
                trace.record(None, pattern);
                return z;
            }
        } else {
            let mask = DropoutMask::draw(self.weights_dropout.prob, &qkv.device());
            if let Some(z) = kernels::causal_attention(&qkv, heads, kv_heads, mask) {
                return z;
            }
        }
        let [query, keys_values] = split(qkv, heads, kv_heads);
        attend(query, keys_values, heads, kv_heads, trace, |pattern| self.weights_dropout.forward(pattern))
    }

    /// As [`mix`](Self::mix) for positions that come after those whose keys and values are kept: a batch of one.
    fn mix_cached(&self, qkv: Tensor<3>, kept: Kept<'_>, trace: Option<&mut Trace>) -> Tensor<3> {
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        if trace.is_none()
            && let Some(z) = kernels::cached_attention(&qkv, kept.keys_values, kept.filled, heads, kv_heads)
        {
            return z;
        }
        let [query, new] = split(qkv, heads, kv_heads);
        attend(query, kept.append(new), heads, kv_heads, trace, |pattern| pattern)
    }
}

/// The query heads of each position, and its key and value heads: `[batch, position, heads × head_width]` and
/// `[batch, position, 2 × kv_heads × head_width]`.
pub fn split(qkv: Tensor<3>, heads: usize, kv_heads: usize) -> [Tensor<3>; 2] {
    let width = qkv.dims()[2];
    let queries = width / (heads + 2 * kv_heads) * heads;
    [qkv.clone().narrow(2, 0, queries), qkv.narrow(2, queries, width - queries)]
}

/// Causal attention with its weights in sight (Vaswani et al. 2017, section 3.2): each query takes from the values up to
/// its own place in proportion to `softmax(query · key / √head_width)`; the queries are of the last places. Of keys and
/// values there are `kv_heads` heads, each for `heads / kv_heads` query heads. `trace` sees the weights, `drop` gives those that
/// are used. Shapes as [`split`] gives them; the result is `[batch, query, heads × head_width]`.
pub fn attend(
    query: Tensor<3>,
    keys_values: Tensor<3>,
    heads: usize,
    kv_heads: usize,
    trace: Option<&mut Trace>,
    drop: impl FnOnce(Tensor<4>) -> Tensor<4>,
) -> Tensor<3> {
    let ([batch, queries, width], length) = (query.dims(), keys_values.dims()[1]);
    let size = width / heads;
    let query = query.reshape([batch, queries, heads, size]).swap_dims(1, 2); // [batch, head, query, head_width]
    let [key, value] = [0, kv_heads * size].map(|first| {
        let part = keys_values.clone().narrow(2, first, kv_heads * size).reshape([batch, length, kv_heads, 1, size]);
        let repeated = part.repeat_dim(3, heads / kv_heads).reshape([batch, length, heads, size]);
        repeated.swap_dims(1, 2) // [batch, head, key, head_width]
    });
    let scores = query.matmul(key.transpose()) / (size as f64).sqrt(); // [batch, head, query, key]
    let before = (length - queries) as i64;
    let future = Tensor::<2, Bool>::tril_mask([queries, length], before, &scores.device()); // true after its place
    let past = |scores: Tensor<4>| scores.mask_fill(future.unsqueeze::<4>(), f32::NEG_INFINITY);
    let pattern = match trace {
        Some(trace) => trace.see(scores.clone(), softmax(past(scores), 3)),
        None => softmax(past(scores), 3), // each row sums to 1
    };
    drop(pattern).matmul(value).swap_dims(1, 2).reshape([batch, queries, width])
}

impl Mlp {
    /// `residual` and what the MLP adds to it.
    fn forward(&self, x: Tensor<3>, residual: Tensor<3>) -> Tensor<3> {
        let up = linear(&self.up, x.clone()); // [batch, position, mlp_width]
        let hidden = match &self.gate {
            Some(gate) => kernels::swiglu(linear(gate, x), up),
            None => kernels::activation(up, function_of(self.activation)),
        };
        add_linear(residual, &self.down, hidden, &self.dropout)
    }
}

impl Attention {
    pub(super) fn head_width(&self) -> usize {
        self.projection.weight.dims()[0] / self.heads
    }
}
