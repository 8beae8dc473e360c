//! nanoGPT's network written out once more in plain numbers, from exported weights alone: it holds the model's forward
//! pass and the export's names and layout at once.

use std::collections::HashMap;

use headlight::protocol::Step;
use headlight::recipe::ModelRecipe;
use headlight::runs::{Checkpoint, Owner, TrainingState, export_safetensors};
use headlight::text::TokenId;
use headlight::train::logits;

use crate::{small_recipe, small_trainer};

pub(crate) type Row = Vec<f64>;

pub(crate) struct Exported(HashMap<String, (Vec<usize>, Vec<f64>)>);

impl Exported {
    pub fn read(path: &std::path::Path) -> Self {
        let bytes = std::fs::read(path).expect("readable");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("a whole file");
        let number = |four: &[u8]| f64::from(f32::from_le_bytes(four.try_into().expect("four bytes")));
        let tensor = |view: safetensors::tensor::TensorView<'_>| {
            (view.shape().to_vec(), view.data().chunks_exact(4).map(number).collect())
        };
        // A checkpoint says which part of it a tensor belongs to.
        let own = |name: &str| name.strip_prefix("model.").unwrap_or(name).to_owned();
        Self(file.iter().map(|(name, view)| (own(name), tensor(view))).collect())
    }

    fn row(&self, name: &str, index: usize) -> Row {
        let (shape, values) = &self.0[name];
        values[index * shape[1]..(index + 1) * shape[1]].to_vec()
    }

    fn bias(&self, name: &str) -> Option<&Row> {
        self.0.get(&format!("{name}.bias")).map(|(_, values)| values)
    }

    /// PyTorch's `nn.Linear`: `x · Wᵀ + b` with `W` as `[output, input]`.
    fn linear(&self, name: &str, x: &Row) -> Row {
        let weight = format!("{name}.weight");
        let dot = |output| self.row(&weight, output).iter().zip(x).map(|(weight, value)| weight * value).sum::<f64>();
        let outputs = self.0[&weight].0[0];
        (0..outputs).map(|output| dot(output) + self.bias(name).map_or(0.0, |bias| bias[output])).collect()
    }

    fn norm(&self, name: &str, x: &Row) -> Row {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        let variance = x.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / x.len() as f64;
        let weight = &self.0[&format!("{name}.weight")].1;
        let scaled = x.iter().zip(weight).map(|(value, weight)| (value - mean) / (variance + 1e-5).sqrt() * weight);
        let bias = self.bias(name);
        scaled.enumerate().map(|(index, value)| value + bias.map_or(0.0, |bias| bias[index])).collect()
    }

    fn logits(&self, recipe: &ModelRecipe, ids: &[u32]) -> Vec<Row> {
        self.logits_where(recipe, ids, &|_, _, mixed| mixed, &|_, written| written)
    }

    /// The logits where `heads` decides what a layer's head gives to the projection, and `mlps` what an MLP writes.
    pub fn logits_where(
        &self,
        recipe: &ModelRecipe,
        ids: &[u32],
        heads: &dyn Fn(usize, usize, Row) -> Row,
        mlps: &dyn Fn(usize, Row) -> Row,
    ) -> Vec<Row> {
        let add = |a: &Row, b: &Row| -> Row { a.iter().zip(b).map(|(a, b)| a + b).collect() };
        let embed = |(position, &id): (usize, &u32)| {
            add(&self.row("transformer.wte.weight", id as usize), &self.row("transformer.wpe.weight", position))
        };
        let mut stream: Vec<Row> = ids.iter().enumerate().map(embed).collect();
        for layer in 0..recipe.layers {
            let name = |part: &str| format!("transformer.h.{layer}.{part}");
            let qkv: Vec<Row> =
                stream.iter().map(|x| self.linear(&name("attn.c_attn"), &self.norm(&name("ln_1"), x))).collect();
            let (width, size) = (recipe.width, recipe.width / recipe.heads);
            let mixed = |query: usize| -> Row {
                let head = |head: usize| {
                    let part = |which: usize, at: usize| &qkv[at][which * width + head * size..][..size];
                    let score = |key| part(0, query).iter().zip(part(1, key)).map(|(q, k)| q * k).sum::<f64>();
                    let powers: Row = (0..=query).map(|key| (score(key) / (size as f64).sqrt()).exp()).collect();
                    let total: f64 = powers.iter().sum();
                    let value = |index| (0..=query).map(|key| powers[key] / total * part(2, key)[index]).sum::<f64>();
                    heads(layer, head, (0..size).map(value).collect())
                };
                (0..recipe.heads).flat_map(head).collect()
            };
            let attended: Vec<Row> =
                (0..ids.len()).map(|query| self.linear(&name("attn.c_proj"), &mixed(query))).collect();
            for (x, attended) in stream.iter_mut().zip(&attended) {
                *x = add(x, attended);
                let hidden = self.linear(&name("mlp.c_fc"), &self.norm(&name("ln_2"), x));
                let hidden = hidden.into_iter().map(|value| 0.5 * value * (1.0 + erf(value / 2_f64.sqrt()))).collect();
                *x = add(x, &mlps(layer, self.linear(&name("mlp.c_proj"), &hidden)));
            }
        }
        let head = if recipe.tied_head { "transformer.wte" } else { "lm_head" };
        stream.iter().map(|x| self.linear(head, &self.norm("transformer.ln_f", x))).collect()
    }
}

const STATE: TrainingState = TrainingState {
    step: Step(20),
    learning_rate: 0.0,
    final_learning_rate: 0.0,
    elapsed_secs: 0.0,
    best_validation_loss: None,
};

/// The error function by its power series (Abramowitz & Stegun 7.1.5), which is quick enough for small arguments.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..60 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

#[test]
fn the_model_is_nanogpts_number_by_number() {
    for (biases, tied_head) in [(false, true), (true, false)] {
        let mut recipe = small_recipe();
        (recipe.model.biases, recipe.model.tied_head) = (biases.into(), tied_head);
        // A high rate soon makes weights that differ from their transposes, and biases that are not zero.
        recipe.training.learning_rate = 0.02;
        let mut trainer = small_trainer(recipe.clone());
        for _ in 0..20 {
            trainer.step().expect("finite");
        }
        let folder = tempfile::tempdir().expect("a folder");
        let model = trainer.validation_model();
        let (path, tokenizer) = (folder.path().join("model.safetensors"), &trainer.dataset().tokenizer);
        let exported = export_safetensors(folder.path(), &model, &recipe.model, tokenizer);
        // nanoGPT has no head of its own: such a model is read from its checkpoint.
        assert_eq!(exported.is_ok(), tied_head, "{exported:?}");
        if !tied_head {
            let owner = Owner::new(&recipe.model, tokenizer);
            Checkpoint::save(&path, &model, trainer.optimizer(), STATE, &owner).expect("saved");
        }
        let ids = [3, 1, 4, 1, 5, 9, 2, 6];
        let wanted = Exported::read(&path).logits(&recipe.model, &ids);
        let found = logits(&model, &ids.map(TokenId), &headlight::device::cpu());
        let apart = found.iter().flatten().zip(wanted.iter().flatten()).map(|(&a, &b)| (f64::from(a) - b).abs());
        let apart = apart.fold(0.0, f64::max);
        assert_eq!((found.len(), found[0].len()), (wanted.len(), wanted[0].len()));
        assert!(apart < 1e-4, "biases {biases}, tied head {tied_head}: {apart} apart");
        let spread = wanted.iter().flatten().fold(0.0_f64, |most, logit| most.max(logit.abs()));
        assert!(spread > 1.0, "logits of {spread} at most would hide a fault");
    }
}

#[test]
fn first_weights_have_gpt2s_deviations() {
    for scaled in [true, false] {
        first_weights(scaled);
    }
}

fn first_weights(scaled: bool) {
    let mut recipe = small_recipe();
    (recipe.model.layers, recipe.model.width, recipe.model.biases) = (8, 64, true.into());
    recipe.model.scaled_residuals = scaled;
    let trainer = small_trainer(recipe.clone());
    let folder = tempfile::tempdir().expect("a folder");
    let tokenizer = &trainer.dataset().tokenizer;
    export_safetensors(folder.path(), &trainer.validation_model(), &recipe.model, tokenizer).expect("exported");
    for (name, (_, values)) in Exported::read(&folder.path().join("model.safetensors")).0 {
        let deviation = (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt();
        let wanted = match name.as_str() {
            name if name.ends_with(".bias") => 0.0,
            name if name.contains("ln_") => 1.0,
            // Two of them in each of eight layers add up in the residual stream.
            name if scaled && name.ends_with("c_proj.weight") => 0.02 / 4.0,
            _ => 0.02,
        };
        assert!((deviation - wanted).abs() <= 0.08 * wanted, "{name}: {deviation} is not near {wanted}");
    }
}
