//! First weights: GPT-2's normal distribution, drawn on the host so that every device starts from the same numbers.

use burn::module::Param;
use burn::nn::{Embedding, Linear};
use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::gpt::{Attention, Block, Gpt, Mlp};
use crate::model::layers::{Norm, dropout};
use crate::recipe::{ModelRecipe, Position};

/// Standard deviation of every matrix but the residual projections.
const DEVIATION: f64 = 0.02;

impl Gpt {
    /// A fresh model: weights N(0, 0.02), the two projections of a block that write to the residual stream
    /// N(0, 0.02/√(2·layers)) where the recipe scales them (Radford et al. 2019, section 2.3), biases 0, norms 1.
    ///
    /// The recipe is taken as valid. The same `seed` gives the same weights on every device.
    #[must_use]
    pub fn new(recipe: &ModelRecipe, vocabulary: usize, seed: u64, device: &Device) -> Self {
        let mut draw = Draw { rng: ChaCha8Rng::seed_from_u64(seed), device };
        let (width, hidden, biases) = (recipe.width, recipe.mlp_width(), recipe.biases);
        let scale = if recipe.scaled_residuals { (2.0 * recipe.layers as f64).sqrt() } else { 1.0 };
        let residual = DEVIATION / scale;
        let token_embedding = draw.embedding(vocabulary, width);
        let learned = recipe.position == Position::Learned;
        let position_embedding = learned.then(|| draw.embedding(recipe.context, width));
        let blocks = (0..recipe.layers)
            .map(|layer| {
                let (heads, kv_heads) = recipe.head_counts(layer);
                let [qkv, z] = [heads + 2 * kv_heads, heads].map(|heads| heads * recipe.head_width());
                Block {
                    attention_norm: draw.norm(recipe),
                    attention: Attention {
                        query_key_value: draw.linear(width, qkv, DEVIATION, biases.query_key_value),
                        projection: draw.linear(z, width, residual, biases.projection),
                        weights_dropout: dropout(recipe),
                        output_dropout: dropout(recipe),
                        heads,
                        kv_heads,
                    },
                    mlp_norm: draw.norm(recipe),
                    mlp: Mlp {
                        gate: (recipe.mlp_inputs() == 2).then(|| draw.linear(width, hidden, DEVIATION, biases.mlp)),
                        up: draw.linear(width, hidden, DEVIATION, biases.mlp),
                        down: draw.linear(hidden, width, residual, biases.mlp),
                        dropout: dropout(recipe),
                        activation: recipe.activation,
                    },
                }
            })
            .collect();
        let head = (!recipe.tied_head).then(|| draw.linear(width, vocabulary, DEVIATION, biases.head));
        let (dropout, norm, position) = (dropout(recipe), draw.norm(recipe), recipe.position);
        Self { token_embedding, position_embedding, dropout, blocks, norm, head, position }
    }
}

impl Gpt {
    /// The same weights, but the last norm computes something else: to show that a test finds it.
    #[must_use]
    pub fn with_fault(mut self) -> Self {
        self.norm.epsilon *= 10.0;
        self
    }
}

struct Draw<'a> {
    rng: ChaCha8Rng,
    device: &'a Device,
}

impl Draw<'_> {
    fn matrix(&mut self, rows: usize, columns: usize, deviation: f64) -> Param<Tensor<2>> {
        let normal = Normal::new(0.0, deviation).expect("a finite deviation");
        let values: Vec<f32> = (0..rows * columns).map(|_| normal.sample(&mut self.rng) as f32).collect();
        Param::from_data(TensorData::new(values, [rows, columns]), self.device)
    }

    fn embedding(&mut self, rows: usize, width: usize) -> Embedding {
        Embedding { weight: self.matrix(rows, width, DEVIATION) }
    }

    fn linear(&mut self, input: usize, output: usize, deviation: f64, bias: bool) -> Linear {
        let bias = bias.then(|| self.constant(0.0, output));
        Linear { weight: self.matrix(input, output, deviation), bias }
    }

    fn norm(&self, recipe: &ModelRecipe) -> Norm {
        let (gamma, beta) = (self.constant(1.0, recipe.width), self.constant(0.0, recipe.width));
        let centred = recipe.norm == crate::recipe::Norm::LayerNorm;
        Norm { gamma, beta: recipe.biases.norms.then_some(beta), epsilon: recipe.norm_epsilon, centred }
    }

    fn constant(&self, value: f32, size: usize) -> Param<Tensor<1>> {
        Param::from_data(TensorData::new(vec![value; size], [size]), self.device)
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;

    use super::*;
    use crate::device;
    use crate::recipe::Biases;

    #[test]
    fn parameter_counts_are_the_published_ones() {
        for (name, vocabulary, published) in [
            ("nanogpt-cpu", 65, 804_096),
            ("nanogpt-gpu", 65, 10_745_088),
            ("guppy-9m", 4096, 8_726_016),
            ("llama-260k", 512, 260_032),
            ("lecture-209k", 65, 209_729),
        ] {
            let recipe = crate::preset::find(name).expect("built in").recipe.model;
            assert_eq!(Gpt::new(&recipe, vocabulary, 0, &device::cpu()).num_params(), published, "{name}");
        }
    }

    #[test]
    fn what_is_counted_is_what_is_built() {
        for preset in crate::preset::built_in() {
            let model = &preset.recipe.model;
            let small = ModelRecipe { layers: 2, width: 2 * model.heads, context: 5, ..model.clone() };
            let alike = [
                small.clone(),
                ModelRecipe { tied_head: false, ..small.clone() },
                ModelRecipe { mlp_width: Some(7), ..small.clone() },
                ModelRecipe {
                    pruned: vec![(0, 0), (1, 0), (1, 1)],
                    heads: 4,
                    key_value_heads: None,
                    width: 8,
                    ..small.clone()
                },
                ModelRecipe {
                    pruned: vec![(1, 2), (1, 3)],
                    heads: 4,
                    key_value_heads: Some(2),
                    width: 8,
                    ..small.clone()
                },
                ModelRecipe { biases: Biases { norms: small.biases.norms, ..true.into() }, ..small },
            ];
            for recipe in alike {
                let counted = Gpt::new(&recipe, 11, 0, &device::cpu()).num_params() as u64;
                assert_eq!(counted, recipe.parameter_count(11), "{recipe:?}");
            }
        }
    }
}
