//! Named tensors as the bytes of a safetensors file.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};

use crate::runs::RunError;
use crate::runs::weights::{Weight, require_finite};

/// A tensor as its bytes in a file.
pub(super) struct Encoded {
    pub name: String,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Encoded {
    /// All of them, if they are numbers; `path` is where they go.
    pub(super) fn all(weights: Vec<Weight>, path: &Path) -> Result<Vec<Self>, RunError> {
        for Weight { name, shape, values } in &weights {
            require_finite(name, shape, values).map_err(|fault| RunError::damaged(path, fault))?;
        }
        Ok(weights.into_iter().map(Self::new).collect())
    }

    pub(super) fn new(weight: Weight) -> Self {
        let bytes = weight.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name: weight.name, shape: weight.shape, bytes }
    }

    pub(super) fn read(name: &str, view: &TensorView<'_>) -> Result<Self, String> {
        if view.dtype() != Dtype::F32 {
            return Err(format!("'{name}' holds {:?} values, a checkpoint has F32", view.dtype()));
        }
        Ok(Self { name: name.to_owned(), shape: view.shape().to_vec(), bytes: view.data().to_vec() })
    }

    /// The values, with the first `prefix` bytes of the name taken off.
    pub(super) fn into_weight(self, prefix: usize) -> Weight {
        let values = self.bytes.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
        Weight { name: self.name[prefix..].to_owned(), shape: self.shape, values: values.collect() }
    }
}

/// The bytes of a safetensors file.
pub(super) fn serialize(
    path: &Path,
    tensors: &[Encoded],
    metadata: HashMap<String, String>,
) -> Result<Vec<u8>, RunError> {
    let fault = |error: safetensors::SafeTensorError| RunError::damaged(path, error);
    let mut views = Vec::with_capacity(tensors.len());
    for Encoded { name, shape, bytes } in tensors {
        views.push((name, TensorView::new(Dtype::F32, shape.clone(), bytes).map_err(fault)?));
    }
    safetensors::serialize(views, Some(metadata)).map_err(fault)
}
