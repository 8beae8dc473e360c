//! The network, what a forward pass may record, and where its first weights come from. Names burn and nothing else.

mod cache;
mod gpt;
mod init;
mod rotary;
mod trace;

use burn::tensor::Tensor;

pub use cache::Cache;
pub use gpt::{Gpt, attend, split};
pub use trace::Trace;

/// A tensor's values on the host, row-major. On a GPU this waits for all work before it.
///
/// # Panics
/// If the device lost the tensor.
#[must_use]
pub fn values_of<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().expect("converted to f32")
}
