//! Rotary positions (Su et al. 2021) in Hugging Face's arrangement: value `i` of a head's first half and value `i` of its
//! second half are one pair, turned by `place · base^(-2i / head_width)`.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};

use crate::kernels;
use crate::recipe::Position;

/// The angles of a range of places.
#[derive(Debug)]
pub(super) struct Rotation {
    cosine: Tensor<2>, // [position, head_width / 2]
    sine: Tensor<2>,   // [position, head_width / 2]
}

impl Rotation {
    /// `None` where places do not enter by rotation.
    pub(super) fn new(position: Position, places: Range<usize>, head_width: usize, device: &Device) -> Option<Self> {
        let Position::Rotary { base } = position else { return None };
        let (length, half) = (places.len(), head_width / 2);
        // In f32, as transformers computes them: far places would differ otherwise.
        let speed = |pair: usize| 1.0 / (base as f32).powf(2.0 * pair as f32 / head_width as f32);
        let angles = places.flat_map(|place| (0..half).map(move |pair| place as f32 * speed(pair)));
        let angles: Vec<f32> = angles.collect();
        let table = |function: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|&angle| function(angle)).collect();
            Tensor::from_data(TensorData::new(values, [length, half]), device)
        };
        Some(Self { cosine: table(f32::cos), sine: table(f32::sin) })
    }

    /// The first `heads` heads of each position turned by its place, the others as they are. `qkv` is
    /// `[batch, position, (heads + others) × head_width]`.
    pub(super) fn turn(&self, qkv: Tensor<3>, heads: usize) -> Tensor<3> {
        kernels::rotate(qkv, self.cosine.clone(), self.sine.clone(), heads)
    }
}
