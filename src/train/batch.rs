//! A batch as tensors, and its loss.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::kernels;
use crate::model::Gpt;
use crate::text::Batch;

/// Token numbers as a tensor, `[rows, context]`.
#[must_use]
pub fn ids_tensor(ids: Vec<i32>, rows: usize, context: usize, device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(ids, [rows, context]), device)
}

/// Mean cross-entropy of a batch, `[1]`, in nats a token.
#[must_use]
pub fn batch_loss(model: &Gpt, batch: &Batch, device: &Device) -> Tensor<1> {
    let tokens = batch.rows * batch.context;
    let ids = ids_tensor(batch.inputs.clone(), batch.rows, batch.context, device);
    let targets = Tensor::from_data(TensorData::new(batch.targets.clone(), [tokens]), device);
    let logits = model.forward(ids); // [batch, position, vocabulary]
    let [_, _, vocabulary] = logits.dims();
    kernels::cross_entropy(logits.reshape([tokens, vocabulary]), targets)
}
