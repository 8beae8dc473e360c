//! Dropout (Srivastava et al. 2014) with a mask that is kept nowhere: whether a number stays is a function of a seed and
//! of the number's place, so that the backward pass finds it again, whichever thread asks.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::{Device, Distribution, Int, Tensor};

use super::host::{contiguous, rows_and_width, spread_chunks, tensor, values};
use super::memory::buffer;
use super::on_processor;
use super::vector::vectorised;

/// Elements that one part takes.
const CHUNK: usize = 1 << 14;

/// Which numbers of a tensor are dropped, and by what the others grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DropoutMask {
    seed: u64,
    /// The draw of a number that is dropped is below this.
    threshold: u32,
    scale: f32,
}

impl DropoutMask {
    /// `probability` is that of being dropped, below 1.
    #[must_use]
    pub fn new(probability: f64, seed: u64) -> Self {
        let threshold = (probability * 2.0_f64.powi(32)) as u32;
        Self { seed, threshold, scale: (1.0 / (1.0 - probability)) as f32 }
    }

    /// A mask for one call, its seed drawn from the device's own source of chance. `None` where nothing is dropped, as
    /// outside of training, and where the device is not the CPU: there burn's own dropout serves.
    #[must_use]
    pub fn draw(probability: f64, device: &Device) -> Option<Self> {
        if probability == 0.0 || !device.is_autodiff() || !on_processor(device) {
            return None;
        }
        let halves = Tensor::<1, Int>::random([2], Distribution::Uniform(0.0, f64::from(i32::MAX)), device);
        let seed = halves.into_data().iter::<u64>().fold(0, |seed, half| seed << 32 | half);
        Some(Self::new(probability, seed))
    }

    /// Row `row` of a tensor, its last axis, times 0 where a number is dropped, else times what keeps the mean.
    pub(super) fn drop_row(&self, row: usize, numbers: &[f32], left: &mut [f32]) {
        drop_numbers(left, numbers, self.key(row), self.threshold, self.scale);
    }

    /// Two numbers of the row's own: SplitMix64 (Steele, Lea & Flood 2014).
    fn key(&self, row: usize) -> [u32; 2] {
        let mut z = self.seed.wrapping_add((row as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        [z as u32, (z >> 32) as u32]
    }
}

/// The tensor with its mask applied; of a gradient, the gradient of what came in.
pub(super) fn apply(x: FlexTensor, mask: DropoutMask) -> FlexTensor {
    let x = contiguous(x);
    let (data, (_, width)) = (values(&x), rows_and_width(&x.shape()));
    let rows = (CHUNK / width.max(1)).max(1);
    let mut y = buffer(data.len());
    spread_chunks(&mut y, rows * width, |part, y| {
        let first = part * rows;
        for (row, (y, x)) in y.chunks_mut(width).zip(data[first * width..].chunks(width)).enumerate() {
            mask.drop_row(first + row, x, y);
        }
    });
    tensor(y, x.shape())
}

vectorised! {
    /// A column's draw is its place in a Weyl sequence from the row's key on, mixed as MurmurHash3 does at its end
    /// (Appleby 2011).
    fn drop_numbers(left: &mut [f32], numbers: &[f32], key: [u32; 2], threshold: u32, scale: f32), FUSED => {
        for (column, (left, &number)) in left.iter_mut().zip(numbers).enumerate() {
            let mut drawn = (column as u32).wrapping_mul(0x9e37_79b9).wrapping_add(key[0]);
            drawn = (drawn ^ (drawn >> 16)).wrapping_mul(0x85eb_ca6b) ^ key[1];
            drawn = (drawn ^ (drawn >> 13)).wrapping_mul(0xc2b2_ae35);
            drawn ^= drawn >> 16;
            // A product either way, as 0 times what is no number is none.
            *left = number * if drawn < threshold { 0.0 } else { scale };
        }
    }
}
