//! What a recipe takes of memory, about. Estimates that nothing is allocated by; they reach their end instead of overflowing.

use super::{ModelRecipe, Recipe};

/// Bytes of a number.
const NUMBER: u64 = 4;

/// The product, or the largest number there is.
fn times<const N: usize>(factors: [usize; N]) -> u64 {
    factors.into_iter().fold(1, |product: u64, factor| product.saturating_mul(factor as u64))
}

/// The sum, or the largest number there is.
fn sum<const N: usize>(parts: [u64; N]) -> u64 {
    parts.into_iter().fold(0, u64::saturating_add)
}

impl Recipe {
    /// Bytes that training on the processor takes, roughly: weights, gradient and two moments, and the activations kept for
    /// the backward pass.
    #[must_use]
    pub fn training_bytes(&self, vocabulary: usize) -> u64 {
        let model = &self.model;
        let (batch, context) = (self.training.batch, model.context);
        // What a block keeps on the processor for each token, and one number for each attention weight. Peaks that were
        // measured of models of GPT-2's, OPT's, Llama's and Phi-3's kind lie within a tenth of it.
        let token = sum([times([14, model.width]), times([1 + model.mlp_inputs(), model.mlp_width()])]);
        let layer = sum([times([batch, context]).saturating_mul(token), times([batch, context, context, model.heads])]);
        let activations = sum([(model.layers as u64).saturating_mul(layer), times([3, batch, context, vocabulary])]);
        NUMBER.saturating_mul(sum([model.parameter_count(vocabulary).saturating_mul(4), activations]))
    }
}

impl ModelRecipe {
    /// Bytes of a checkpoint: the weights, and two moments of each.
    #[must_use]
    pub fn checkpoint_bytes(&self, vocabulary: usize) -> u64 {
        self.file_bytes(vocabulary).saturating_mul(3)
    }

    /// Bytes that the attention of every head on so many tokens takes, as it is recorded and as it is shown, with the
    /// streams between the layers and the logits of the lens.
    #[must_use]
    pub fn look_bytes(&self, vocabulary: usize, tokens: usize) -> u64 {
        let attention = times([4, self.layers, self.heads, tokens, tokens]);
        let streams = times([5, self.layers, tokens, self.width]);
        NUMBER.saturating_mul(sum([attention, streams, times([4, tokens, vocabulary])]))
    }

    /// Bytes of a pass over rows as long as the context that keeps nothing for a backward pass: what one layer makes, and the
    /// logits.
    #[must_use]
    pub fn pass_bytes(&self, vocabulary: usize, rows: usize) -> u64 {
        let token =
            sum([times([8, self.width]), times([1 + self.mlp_inputs(), self.mlp_width()]), times([3, vocabulary])]);
        NUMBER.saturating_mul(times([rows, self.context]).saturating_mul(token))
    }
}
