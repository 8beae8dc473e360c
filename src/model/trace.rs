//! What a forward pass may record. Names follow TransformerLens.

use burn::tensor::Tensor;

/// The recorded values of one forward pass, layer by layer.
#[derive(Debug, Default)]
pub struct Trace {
    patterns: Vec<Tensor<4>>,
}

impl Trace {
    pub(super) fn record_pattern(&mut self, pattern: Tensor<4>) {
        self.patterns.push(pattern);
    }

    /// TransformerLens's `blocks.{layer}.attn.pattern`: attention after softmax, `[batch, head, query, key]` each.
    #[must_use]
    pub fn into_patterns(self) -> Vec<Tensor<4>> {
        self.patterns
    }
}
