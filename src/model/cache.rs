//! Keys and values of the positions that a model has seen: what it need not compute again for the next token.

use burn::tensor::Tensor;

use super::gpt::{Gpt, attend, split};
use super::trace::Trace;
use crate::kernels;

/// The keys and values of one sequence, for a model's validation form. Belongs to the weights that filled it.
#[derive(Debug, Clone)]
pub struct Cache {
    /// Of each layer, `[1, context, 2 × groups × head_width]`, of which the first `length` places are filled.
    layers: Vec<Tensor<3>>,
    length: usize,
}

/// One layer's part of a cache, in a pass over new positions.
pub(super) struct Kept<'a> {
    keys_values: &'a mut Tensor<3>,
    filled: usize,
}

impl Gpt {
    /// An empty cache for at most `context` positions.
    #[must_use]
    pub fn cache(&self, context: usize) -> Cache {
        let empty = |block: &super::gpt::Block| {
            let attention = &block.attention;
            let width = 2 * attention.groups * attention.head_width();
            Tensor::zeros([1, context, width], &attention.projection.weight.device())
        };
        Cache { layers: self.blocks.iter().map(empty).collect(), length: 0 }
    }
}

impl Cache {
    /// Positions whose keys and values are kept.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    pub(super) fn layer(&mut self, layer: usize) -> Kept<'_> {
        Kept { keys_values: &mut self.layers[layer], filled: self.length }
    }

    pub(super) fn grow(&mut self, positions: usize) {
        self.length += positions;
    }
}

impl Kept<'_> {
    /// Puts the new positions' keys and values behind those that are there, and attends to all of them. Shapes as
    /// [`split`] takes them, batch of one.
    pub(super) fn attend(self, joined: Tensor<3>, heads: usize, groups: usize, trace: Option<&mut Trace>) -> Tensor<3> {
        let Self { keys_values, filled } = self;
        if trace.is_none()
            && let Some(mixed) = kernels::cached_attention(&joined, keys_values, filled, heads, groups)
        {
            return mixed;
        }
        let [query, new] = split(joined, heads, groups);
        let ([_, positions, width], context) = (new.dims(), keys_values.dims()[1]);
        assert!(filled + positions <= context, "{filled} + {positions} positions in a cache of {context}");
        *keys_values = keys_values.clone().slice_assign([0..1, filled..filled + positions, 0..width], new);
        let all = keys_values.clone().narrow(1, 0, filled + positions);
        attend(query, all, heads, groups, trace, |pattern| pattern)
    }
}
