//! Rotary positions (Su et al. 2021) in Hugging Face's arrangement: value `i` of a head's first half and value `i` of its
//! second half are one pair, turned by `place · base^(-2i / head_width)`.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};

use crate::recipe::Position;

/// The angles of a range of places.
#[derive(Debug)]
pub(super) struct Rotation {
    cosine: Tensor<4>, // [1, position, 1, head_width / 2]
    sine: Tensor<4>,   // [1, position, 1, head_width / 2]
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
            Tensor::from_data(TensorData::new(values, [1, length, 1, half]), device)
        };
        Some(Self { cosine: table(f32::cos), sine: table(f32::sin) })
    }

    /// The first `heads` heads of each position turned by its place, the others as they are. `joined` is
    /// `[batch, position, (heads + others) × head_width]`.
    pub(super) fn turn(&self, joined: Tensor<3>, heads: usize) -> Tensor<3> {
        let ([batch, length, width], half) = (joined.dims(), self.cosine.dims()[3]);
        let turned = heads * 2 * half;
        let x = joined.clone().narrow(2, 0, turned).reshape([batch, length, heads, 2 * half]);
        let (first, second) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let (cosine, sine) = (self.cosine.clone(), self.sine.clone());
        let turned_first = first.clone() * cosine.clone() - second.clone() * sine.clone();
        let turned_second = second * cosine + first * sine;
        let x = Tensor::cat(vec![turned_first, turned_second], 3).reshape([batch, length, turned]);
        Tensor::cat(vec![x, joined.narrow(2, turned, width - turned)], 2)
    }
}
