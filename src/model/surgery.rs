//! Parts of a trained model switched off or taken out. The passes over it stay as they are: what changes is weights.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Int, Tensor, TensorData};

use super::gpt::Gpt;

impl Gpt {
    /// Heads that a layer has.
    #[must_use]
    pub fn heads_in(&self, layer: usize) -> usize {
        self.blocks[layer].attention.heads
    }

    /// Layers.
    #[must_use]
    pub fn layers(&self) -> usize {
        self.blocks.len()
    }

    /// The model in which a head writes nothing to the residual stream, or at every position what it writes when its own
    /// output is `mean`, `[head_width]`. `head` counts the heads that the layer has. For a model without gradients.
    #[must_use]
    pub fn without_head(mut self, layer: usize, head: usize, mean: Option<&[f32]>) -> Self {
        let attention = &mut self.blocks[layer].attention;
        let (size, projection) = (attention.head_width(), &mut attention.projection);
        let weight = projection.weight.val(); // [heads × head_width, width]
        let [_, width] = weight.dims();
        let rows = head * size..(head + 1) * size;
        if let Some(mean) = mean {
            let mean = Tensor::<2>::from_data(TensorData::new(mean.to_vec(), [1, size]), &weight.device());
            let written = mean.matmul(weight.clone().slice([rows.clone(), 0..width])).reshape([width]);
            add_to_bias(projection, written);
        }
        projection.weight = Param::from_tensor(weight.slice_fill([rows, 0..width], 0.0));
        self
    }

    /// The model in which an MLP writes nothing, or at every position `mean`, `[width]`. For a model without gradients.
    #[must_use]
    pub fn without_mlp(mut self, layer: usize, mean: Option<&[f32]>) -> Self {
        let down = &mut self.blocks[layer].mlp.down;
        let weight = down.weight.val(); // [mlp_width, width]
        let (width, device) = (weight.dims()[1], weight.device());
        down.bias = down.bias.take().map(|bias| Param::from_tensor(bias.val().zeros_like()));
        if let Some(mean) = mean {
            add_to_bias(down, Tensor::from_data(TensorData::new(mean.to_vec(), [width]), &device));
        }
        down.weight = Param::from_tensor(weight.zeros_like());
        self
    }

    /// The model without these heads of a layer, which are smaller weights: what they wrote is missing, as in
    /// [`without_head`](Self::without_head). `heads` counts those that the layer has, in rising order; key/value heads go
    /// with the last of their query heads. For a model without gradients.
    ///
    /// # Panics
    /// If no head would stay, or a key/value head would keep some of its query heads only.
    #[must_use]
    pub fn pruned(mut self, layer: usize, heads: &[usize]) -> Self {
        let attention = &mut self.blocks[layer].attention;
        let (size, shared) = (attention.head_width(), attention.heads / attention.kv_heads);
        let stays = |head: &usize| !heads.contains(head);
        let queries: Vec<usize> = (0..attention.heads).filter(stays).collect();
        let kv_heads: Vec<usize> = (0..attention.kv_heads).filter(|group| stays(&(group * shared))).collect();
        assert!(!queries.is_empty() && queries.len() == kv_heads.len() * shared, "whole kv_heads of heads are pruned");
        let columns = |heads: &[usize], first: usize| -> Vec<i64> {
            heads.iter().flat_map(|head| (0..size).map(move |value| ((first + head) * size + value) as i64)).collect()
        };
        let kept = columns(&queries, 0);
        let qkv = [
            kept.clone(),
            columns(&kv_heads, attention.heads),
            columns(&kv_heads, attention.heads + attention.kv_heads),
        ];
        let device = attention.projection.weight.device();
        let indices = |places: Vec<i64>| {
            let length = places.len();
            Tensor::<1, Int>::from_data(TensorData::new(places, [length]), &device)
        };
        let (qkv, kept) = (indices(qkv.concat()), indices(kept));
        let query_key_value = &mut attention.query_key_value;
        query_key_value.weight = Param::from_tensor(query_key_value.weight.val().select(1, qkv.clone()));
        query_key_value.bias = query_key_value.bias.take().map(|bias| Param::from_tensor(bias.val().select(0, qkv)));
        attention.projection.weight = Param::from_tensor(attention.projection.weight.val().select(0, kept));
        (attention.heads, attention.kv_heads) = (queries.len(), kv_heads.len());
        self
    }

    /// The same model, in which each attention's projection has a bias.
    #[must_use]
    pub fn with_projection_biases(mut self) -> Self {
        for block in &mut self.blocks {
            let projection = &mut block.attention.projection;
            let weight = projection.weight.val();
            let none = || Param::from_tensor(Tensor::zeros([weight.dims()[1]], &weight.device()));
            projection.bias = Some(projection.bias.take().unwrap_or_else(none));
        }
        self
    }
}

fn add_to_bias(layer: &mut Linear, more: Tensor<1>) {
    let bias = layer.bias.take();
    layer.bias = Some(Param::from_tensor(match bias {
        Some(bias) => bias.val() + more,
        None => more,
    }));
}
