//! What a forward pass may record, and the weights of attention that it may be asked to cut. Names follow TransformerLens.

use burn::tensor::Tensor;

/// The recorded values of one forward pass, layer by layer.
#[derive(Debug, Default)]
pub struct Trace {
    /// The residual stream before the first block, `hook_embed` plus `hook_pos_embed`: `[batch, position, width]`.
    pub embedding: Option<Tensor<3>>,
    pub layers: Vec<LayerTrace>,
    cuts: Vec<CutWeight>,
    renormalise: bool,
    with_scores: bool,
}

/// What one block did.
#[derive(Debug, Clone)]
pub struct LayerTrace {
    /// Where it was asked for, `blocks.{layer}.attn.attn_scores` before the mask: query · key / √head_width, `[batch, head, query, key]`.
    pub scores: Option<Tensor<4>>,
    /// `blocks.{layer}.attn.pattern`: after softmax, cuts made, `[batch, head, query, key]`.
    pub pattern: Tensor<4>,
    /// `blocks.{layer}.attn.z`, heads side by side: `[batch, position, heads × head_width]`.
    pub z: Option<Tensor<3>>,
    /// `blocks.{layer}.hook_resid_mid`, `[batch, position, width]`.
    pub resid_mid: Option<Tensor<3>>,
    /// `blocks.{layer}.hook_resid_post`, `[batch, position, width]`.
    pub resid_post: Option<Tensor<3>>,
}

/// A weight that becomes zero.
#[derive(Debug, Clone, Copy)]
pub struct CutWeight {
    pub layer: usize,
    /// Among the heads that the layer has.
    pub head: usize,
    pub query: usize,
    pub key: usize,
}

impl Trace {
    /// A trace that makes weights zero, and scales what is left of a cut row up to sum to 1 again, or not. A row of which
    /// nothing is left stays zero.
    #[must_use]
    pub fn cutting(cuts: Vec<CutWeight>, renormalise: bool) -> Self {
        Self { cuts, renormalise, ..Self::default() }
    }

    /// Records what the softmax was taken of, too.
    #[must_use]
    pub fn with_scores(mut self) -> Self {
        self.with_scores = true;
        self
    }

    /// Attention after softmax, `[batch, head, query, key]` each layer.
    #[must_use]
    pub fn into_patterns(self) -> Vec<Tensor<4>> {
        self.layers.into_iter().map(|layer| layer.pattern).collect()
    }

    /// Takes in a layer's attention; what it gives back is used.
    pub(super) fn see(&mut self, scores: Tensor<4>, pattern: Tensor<4>) -> Tensor<4> {
        let pattern = self.cut(self.layers.len(), pattern);
        self.record(self.with_scores.then_some(scores), pattern.clone());
        pattern
    }

    /// Whether nothing is changed, and nothing asked for from before the softmax: then a fused kernel will do.
    pub(super) fn only_watches(&self) -> bool {
        self.cuts.is_empty() && !self.with_scores
    }

    pub(super) fn record(&mut self, scores: Option<Tensor<4>>, pattern: Tensor<4>) {
        self.layers.push(LayerTrace { scores, pattern, z: None, resid_mid: None, resid_post: None });
    }

    /// The layer that is being passed through.
    pub(super) fn layer(&mut self) -> &mut LayerTrace {
        self.layers.last_mut().expect("attention comes first in a block")
    }

    fn cut(&self, layer: usize, mut pattern: Tensor<4>) -> Tensor<4> {
        let [_, heads, queries, keys] = pattern.dims();
        let there = |cut: &&CutWeight| cut.layer == layer && cut.head < heads && cut.query < queries && cut.key < keys;
        let mut rows = Vec::new();
        for &CutWeight { head, query, key, .. } in self.cuts.iter().filter(there) {
            pattern = pattern.slice_fill([0..1, head..head + 1, query..query + 1, key..key + 1], 0.0);
            rows.push((head, query));
        }
        if !self.renormalise {
            return pattern;
        }
        rows.sort_unstable();
        rows.dedup();
        for (head, query) in rows {
            let place = [0..1, head..head + 1, query..query + 1, 0..keys];
            let row = pattern.clone().slice(place.clone());
            let sum = row.clone().sum_dim(3).clamp_min(f32::MIN_POSITIVE);
            pattern = pattern.slice_assign(place, row / sum);
        }
        pattern
    }
}
