//! First weights: GPT-2's normal distribution, drawn on the host so that every device starts from the same numbers.

use burn::module::Param;
use burn::nn::{Embedding, LayerNorm, LayerNormConfig, Linear};
use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use super::gpt::{Attention, Block, Gpt, Mlp, dropout};
use crate::recipe::ModelRecipe;

/// Standard deviation of every matrix but the residual projections.
const DEVIATION: f64 = 0.02;
/// Added to the variance in every norm.
pub(super) const NORM_EPSILON: f64 = 1e-5;

impl Gpt {
    /// A fresh model: weights N(0, 0.02), the two projections of a block that write to the residual stream
    /// N(0, 0.02/√(2·layers)) (Radford et al. 2019, section 2.3), biases 0, norms 1.
    ///
    /// The recipe is taken as valid. The same `seed` gives the same weights on every device.
    #[must_use]
    pub fn new(recipe: &ModelRecipe, vocabulary: usize, seed: u64, device: &Device) -> Self {
        let mut draw = Draw { rng: ChaCha8Rng::seed_from_u64(seed), device, biases: recipe.biases };
        let (width, context) = (recipe.width, recipe.context);
        let residual = DEVIATION / (2.0 * recipe.layers as f64).sqrt();
        let token_embedding = draw.embedding(vocabulary, width);
        let position_embedding = draw.embedding(context, width);
        let blocks = (0..recipe.layers)
            .map(|_| Block {
                attention_norm: draw.norm(width),
                attention: Attention::new(
                    draw.linear(width, 3 * width, DEVIATION),
                    draw.linear(width, width, residual),
                    recipe,
                ),
                mlp_norm: draw.norm(width),
                mlp: Mlp::new(
                    draw.linear(width, 4 * width, DEVIATION),
                    draw.linear(4 * width, width, residual),
                    recipe,
                ),
            })
            .collect();
        let head = (!recipe.tied_head).then(|| Linear { bias: None, ..draw.linear(width, vocabulary, DEVIATION) });
        Self { token_embedding, position_embedding, dropout: dropout(recipe), blocks, norm: draw.norm(width), head }
    }
}

struct Draw<'a> {
    rng: ChaCha8Rng,
    device: &'a Device,
    biases: bool,
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

    fn linear(&mut self, input: usize, output: usize, deviation: f64) -> Linear {
        let bias = self.biases.then(|| Param::from_data(TensorData::new(vec![0.0_f32; output], [output]), self.device));
        Linear { weight: self.matrix(input, output, deviation), bias }
    }

    fn norm(&self, width: usize) -> LayerNorm {
        LayerNormConfig::new(width).with_epsilon(NORM_EPSILON).with_bias(self.biases).init(self.device)
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;

    use super::*;
    use crate::device;

    #[test]
    fn parameter_counts_are_the_published_ones() {
        let nanogpt = crate::preset::find("nanogpt-cpu").expect("built in").recipe.model;
        assert_eq!(Gpt::new(&nanogpt, 65, 0, &device::cpu()).num_params(), 804_096);
        for (biases, tied_head) in [(true, true), (true, false), (false, false)] {
            let recipe = ModelRecipe { layers: 2, heads: 2, width: 8, context: 5, dropout: 0.0, biases, tied_head };
            let counted = Gpt::new(&recipe, 11, 0, &device::cpu()).num_params() as u64;
            assert_eq!(counted, recipe.parameter_count(11), "{recipe:?}");
        }
    }
}
