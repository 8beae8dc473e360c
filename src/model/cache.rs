//! Keys and values of the positions that a model has seen: what it need not compute again for the next token.

use burn::tensor::{Device, Tensor};

/// The keys and values of one sequence, for a model's validation form. Belongs to the weights that filled it.
#[derive(Debug, Clone)]
pub struct Cache {
    /// Of each layer, `[1, context, 2 × kv_heads × head_width]`, of which the first `length` places are filled.
    layers: Vec<Tensor<3>>,
    length: usize,
}

/// One layer's part of a cache, in a pass over new positions.
pub(super) struct Kept<'a> {
    pub(super) keys_values: &'a mut Tensor<3>,
    pub(super) filled: usize,
}

impl Cache {
    /// An empty one of so many places for layers whose keys and values, side by side, are so wide.
    pub(super) fn new(context: usize, widths: impl Iterator<Item = usize>, device: &Device) -> Self {
        let empty = |width| Tensor::zeros([1, context, width], device);
        Self { layers: widths.map(empty).collect(), length: 0 }
    }

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
    /// Puts the new positions' keys and values, `[1, position, 2 × kv_heads × head_width]`, behind those that are there, and
    /// gives all of them.
    pub(super) fn append(self, new: Tensor<3>) -> Tensor<3> {
        let Self { keys_values, filled } = self;
        let ([_, positions, width], context) = (new.dims(), keys_values.dims()[1]);
        assert!(filled + positions <= context, "{filled} + {positions} positions in a cache of {context}");
        *keys_values = keys_values.clone().slice_assign([0..1, filled..filled + positions, 0..width], new);
        keys_values.clone().narrow(1, 0, filled + positions)
    }
}
