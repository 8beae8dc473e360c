//! The test of a graphics device: the model of a recipe there and on the CPU, held to each other.
//!
//! It runs in a child process (`headlight doctor --probe NAME --trial TEXT`): a driver that crashes or hangs must not take
//! the window along.

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::tensor::Device;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use crate::device::UNSOUND;

use crate::device;
use crate::model::{Gpt, relative_difference, values_of};
use crate::recipe::ModelRecipe;
use crate::text::{Batch, TokenId};
use crate::train::{FlatGradients, batch_loss, ids_tensor, logits};

/// How far loss, gradients (the norm of a tensor's difference over its norm) and logits may be from the CPU's. Sums in
/// another order give about 1e-5.
const BOUND: f64 = 1e-3;
/// Rows of the batch, and the most tokens in each.
const ROWS: usize = 2;
const TOKENS_MAX: usize = 128;

/// What a device is tested with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    pub model: ModelRecipe,
    pub vocabulary: usize,
    /// Has one operation of the model compute wrongly on the device, to show that the test finds it.
    pub fault: bool,
}

/// What the test found: the largest differences from the CPU.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Finding {
    pub loss: f64,
    /// The norm of a tensor's difference over its norm, of the worst tensor.
    pub gradients: f64,
    /// Of the whole text, from the CPU's.
    pub logits: f64,
    /// Of the whole text, from one token at a time on the same device.
    pub one_at_a_time: f64,
}

impl Finding {
    /// Whether the device computes what the CPU does. What is no number does not.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        [self.loss, self.gradients, self.logits, self.one_at_a_time].iter().all(|&apart| apart <= BOUND)
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { loss, gradients, logits, one_at_a_time } = self;
        write!(
            formatter,
            "from the CPU's the loss is {loss:.1e} apart, the gradients {gradients:.1e}, the logits {logits:.1e}, and \
             these from one token at a time {one_at_a_time:.1e} (at most {BOUND:.0e})"
        )
    }
}

impl Trial {
    /// The test of a recipe's model. Dropout draws other numbers on each device, so it is left out.
    #[must_use]
    pub fn new(model: &ModelRecipe, vocabulary: usize) -> Self {
        Self { model: ModelRecipe { dropout: 0.0, ..model.clone() }, vocabulary, fault: false }
    }

    /// As an argument of the child process.
    ///
    /// # Panics
    /// Never: a recipe holds nothing that RON cannot say.
    #[must_use]
    pub fn to_text(&self) -> String {
        ron::to_string(self).expect("plain data")
    }

    /// Tests an adapter in this process: what the child does.
    ///
    /// # Errors
    /// If the text is no trial, there is no such adapter, or it cannot be opened.
    pub fn run(text: &str, adapter: &str) -> Result<Finding> {
        let trial: Self = ron::from_str(text).context("the trial is unreadable")?;
        if let Some(fault) = trial.model.check(trial.vocabulary).first() {
            bail!("{fault}");
        }
        let adapters = device::list_here();
        let Some(adapter) = adapters.iter().find(|known| known.name == adapter) else {
            bail!("there is no adapter '{adapter}'");
        };
        Ok(trial.compare(&device::open_here(adapter)?))
    }

    fn compare(&self, device: &Device) -> Finding {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let length = TOKENS_MAX.min(self.model.context);
        let mut draw =
            |count: usize| -> Vec<i32> { (0..count).map(|_| rng.random_range(0..self.vocabulary as i32)).collect() };
        let batch = Batch { inputs: draw(ROWS * length), targets: draw(ROWS * length), rows: ROWS, context: length };
        let cpu = self.compute(&batch, &device::cpu(), false);
        let found = self.compute(&batch, device, self.fault);
        let gradients =
            found.gradients.iter().zip(&cpu.gradients).map(|(found, wanted)| relative_difference(found, wanted));
        let rows = |computed: &Computed| computed.logits.concat();
        let steps: Vec<f32> = found.one_at_a_time.concat();
        Finding {
            loss: largest(&[found.loss], &[cpu.loss]),
            gradients: gradients.fold(0.0, larger),
            logits: largest(&rows(&found), &rows(&cpu)),
            one_at_a_time: largest(&steps, &rows(&found)),
        }
    }

    fn compute(&self, batch: &Batch, device: &Device, fault: bool) -> Computed {
        let mut model = Gpt::new(&self.model, self.vocabulary, 0, &device.clone().autodiff());
        if fault {
            model = model.with_fault();
        }
        let loss = batch_loss(&model, batch, &device.clone().autodiff());
        let gradients = FlatGradients::of(&model, &mut loss.backward()).values();
        let loss = values_of(loss.inner())[0];
        let valid = model.valid();
        let ids: Vec<_> = batch.inputs[..batch.context].iter().map(|&id| TokenId(id as u32)).collect();
        let mut cache = valid.cache(batch.context);
        let mut next = |id: &TokenId| {
            let id = ids_tensor(vec![id.0 as i32], 1, 1, device);
            values_of(valid.forward_cached(id, &mut cache, None))
        };
        let one_at_a_time = ids.iter().map(&mut next).collect();
        Computed { loss, gradients, logits: logits(&valid, &ids, device), one_at_a_time }
    }
}

struct Computed {
    loss: f32,
    gradients: Vec<Vec<f32>>,
    /// Of the first row, `[position][vocabulary]`.
    logits: Vec<Vec<f32>>,
    /// The same positions' logits, each computed without what comes after.
    one_at_a_time: Vec<Vec<f32>>,
}

fn largest(found: &[f32], wanted: &[f32]) -> f64 {
    if found.len() != wanted.len() {
        return f64::INFINITY;
    }
    found.iter().zip(wanted).map(|(&a, &b)| (f64::from(a) - f64::from(b)).abs()).fold(0.0, larger)
}

/// The larger error; what is no number is larger than any.
fn larger(a: f64, b: f64) -> f64 {
    if b.is_nan() { f64::INFINITY } else { a.max(b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_decides_and_nonsense_is_one() {
        let sound = Finding { loss: 1e-6, gradients: 9e-4, logits: 0.0, one_at_a_time: 1e-5 };
        assert!(sound.is_sound());
        for apart in [2e-3, f64::INFINITY, f64::NAN] {
            assert!(!Finding { loss: apart, ..sound }.is_sound());
            assert!(!Finding { gradients: apart, ..sound }.is_sound());
            assert!(!Finding { logits: apart, ..sound }.is_sound());
            assert!(!Finding { one_at_a_time: apart, ..sound }.is_sound());
        }
        assert_eq!(largest(&[1.0], &[1.0, 2.0]), f64::INFINITY);
        assert_eq!(largest(&[f32::NAN], &[1.0]), f64::INFINITY);
    }

    #[test]
    fn a_fault_is_found_on_any_device() {
        let model = crate::preset::first().recipe.model;
        let small = ModelRecipe { layers: 1, heads: 2, width: 8, context: 12, ..model };
        let sound = Trial::new(&small, 11).compare(&device::cpu());
        assert!(sound.is_sound(), "{sound}");
        let faulty = Trial { fault: true, ..Trial::new(&small, 11) }.compare(&device::cpu());
        assert!(!faulty.is_sound() && faulty.logits > 1e-3, "{faulty}");
    }
}
