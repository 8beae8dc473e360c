//! Rotary positions (Su et al. 2021) in Hugging Face's arrangement: value `i` of a head's first half and value `i` of its
//! second half are one pair, turned by `place · base^(-2i / head_width)`.

use burn::tensor::{Device, Tensor, TensorData};

use crate::recipe::Position;

/// The angles of places `0..length`.
#[derive(Debug)]
pub(super) struct Rotation {
    cosine: Tensor<4>, // [1, 1, position, head_width / 2]
    sine: Tensor<4>,   // [1, 1, position, head_width / 2]
}

impl Rotation {
    /// `None` where places do not enter by rotation.
    pub(super) fn new(position: Position, length: usize, head_width: usize, device: &Device) -> Option<Self> {
        let Position::Rotary { base } = position else { return None };
        let half = head_width / 2;
        // In f32, as transformers computes them: far places would differ otherwise.
        let speed = |pair: usize| 1.0 / (base as f32).powf(2.0 * pair as f32 / head_width as f32);
        let angles = (0..length).flat_map(|place| (0..half).map(move |pair| place as f32 * speed(pair)));
        let angles: Vec<f32> = angles.collect();
        let table = |function: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|&angle| function(angle)).collect();
            Tensor::from_data(TensorData::new(values, [1, 1, length, half]), device)
        };
        Some(Self { cosine: table(f32::cos), sine: table(f32::sin) })
    }

    /// Queries or keys, `[batch, head, position, head_width]`, turned by their places.
    pub(super) fn turn(&self, x: Tensor<4>) -> Tensor<4> {
        let half = x.dims()[3] / 2;
        let (first, second) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let (cosine, sine) = (self.cosine.clone(), self.sine.clone());
        let turned_first = first.clone() * cosine.clone() - second.clone() * sine.clone();
        let turned_second = second * cosine + first * sine;
        Tensor::cat(vec![turned_first, turned_second], 3)
    }
}
