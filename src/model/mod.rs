//! The network, what a forward pass may record, and where its first weights come from. Names burn and nothing else.
//!
//! ```
//! use headlight::model::{Gpt, Trace, values_of};
//! use headlight::train::ids_tensor;
//! use headlight::{device, preset};
//!
//! let recipe = preset::find("glass-box").expect("built in").recipe.model;
//! let device = device::cpu();
//! let model = Gpt::new(&recipe, 65, 1337, &device);
//!
//! let mut trace = Trace::default();
//! let logits = model.forward_traced(ids_tensor(vec![3, 1, 4, 1, 5], 1, 5, &device), &mut trace);
//! assert_eq!(logits.dims(), [1, 5, 65]); // [batch, position, vocabulary]
//!
//! let pattern = trace.layers[0].pattern.clone(); // [batch, head, query, key]
//! assert_eq!(pattern.dims(), [1, recipe.heads, 5, 5]);
//! // The first token can only look at itself.
//! assert_eq!(values_of(pattern)[..5], [1.0, 0.0, 0.0, 0.0, 0.0]);
//! ```

mod attribution;
mod cache;
mod gpt;
mod init;
pub mod layers;
mod rotary;
mod surgery;
mod trace;

use burn::tensor::Tensor;

pub use attribution::{LogitParts, rollout};
pub use cache::Cache;
pub use gpt::{Gpt, attend, split};
pub use trace::{CutWeight, LayerTrace, Trace};

/// Norm of the difference over the norm of what is wanted; infinite where the numbers of values differ or one is no number.
#[must_use]
pub fn relative_difference(found: &[f32], wanted: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let apart = norm(&mut found.iter().zip(wanted).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    if found.len() != wanted.len() || apart.is_nan() {
        return f64::INFINITY;
    }
    // A gradient that is zero by its nature (a bias of keys) is noise on both sides: held to an absolute bound.
    apart / norm(&mut wanted.iter().map(|&value| f64::from(value))).max(1e-3)
}

/// A tensor's values on the host, row-major. On a GPU this waits for all work before it.
///
/// # Panics
/// If the device lost the tensor.
#[must_use]
pub fn values_of<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().expect("converted to f32")
}

/// As [`values_of`], behind what is in `values` already: one copy of many numbers instead of two.
///
/// # Panics
/// As [`values_of`].
pub fn append_values<const D: usize>(tensor: Tensor<D>, values: &mut Vec<f32>) {
    let data = tensor.into_data().convert::<f32>();
    values.extend_from_slice(data.as_slice().expect("converted to f32"));
}
