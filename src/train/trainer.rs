//! One optimizer step after the other.
//!
//! Everything random is drawn from the recipe's seed and the step's number, so that a run is the same whether or not it
//! was interrupted: what resume needs is the weights, the moments and the step.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::lesson::accuracy;
use super::optimizer::{AdamW, FlatGradients};
use crate::model::{Gpt, values_of};
use crate::protocol::Step;
use crate::recipe::Recipe;
use crate::text::{Batch, Dataset, consecutive, random_batch};
use crate::train::batch::batch_loss;

/// A model in training. `device` is the plain device; gradients live on its autodiff form.
pub struct Trainer {
    /// `None` only within an update, which may write over weights that nobody else holds.
    model: Option<Gpt>,
    optimizer: AdamW,
    recipe: Recipe,
    dataset: Arc<Dataset>,
    device: Device,
    step: Step,
}

/// What one step found, before its update.
#[derive(Debug, Clone, Copy)]
pub struct StepResult {
    pub loss: f32,
    /// Global norm of the gradient before clipping.
    pub gradient_norm: f32,
    pub learning_rate: f64,
}

/// The loss or the gradient was not a number; the step's update was not made.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the loss is {loss} and the gradient's norm {gradient_norm} at step {}", step.0)]
pub struct NotFinite {
    pub step: Step,
    pub loss: f32,
    pub gradient_norm: f32,
}

const MODEL_IS_THERE: &str = "only an update takes the model, and gives it back";

/// What a random stream is for; each step has one of each.
enum Stream {
    Batch,
    Dropout,
    Evaluation,
}

impl Trainer {
    /// A fresh model. The recipe is taken as valid, the text as long enough.
    #[must_use]
    pub fn new(recipe: Recipe, dataset: Arc<Dataset>, device: Device) -> Self {
        let vocabulary = dataset.tokenizer.vocabulary();
        let model = Gpt::new(&recipe.model, vocabulary, recipe.training.seed, &device.clone().autodiff());
        Self::resume(recipe, dataset, device, model, AdamW::default(), Step(0))
    }

    /// Goes on after `step` steps. `model` lies on the device's autodiff form.
    #[must_use]
    pub fn resume(
        recipe: Recipe,
        dataset: Arc<Dataset>,
        device: Device,
        model: Gpt,
        optimizer: AdamW,
        step: Step,
    ) -> Self {
        Self { model: Some(model), optimizer, recipe, dataset, device, step }
    }

    #[must_use]
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// A new peak for the schedule; its end moves with it, its shape stays.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        let training = &mut self.recipe.training;
        training.final_learning_rate *= learning_rate / training.learning_rate;
        training.learning_rate = learning_rate;
    }

    #[must_use]
    pub fn step_count(&self) -> Step {
        self.step
    }

    #[must_use]
    pub fn optimizer(&self) -> &AdamW {
        &self.optimizer
    }

    #[must_use]
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The text, to go on with in another trainer.
    #[must_use]
    pub fn shared_dataset(&self) -> Arc<Dataset> {
        Arc::clone(&self.dataset)
    }

    /// The model without dropout and gradients, sharing the weights.
    #[must_use]
    pub fn validation_model(&self) -> Gpt {
        self.model().valid()
    }

    /// Tokens that one step learns from.
    #[must_use]
    pub fn tokens_per_step(&self) -> usize {
        self.recipe.training.batch * self.recipe.model.context
    }

    /// One step: batch, forward, backward, clip, update.
    ///
    /// # Errors
    /// If the loss or the gradient is not finite; then the weights stay as they were.
    pub fn step(&mut self) -> Result<StepResult, NotFinite> {
        let mut rng = self.stream(Stream::Batch);
        let (rows, context) = (self.recipe.training.batch, self.recipe.model.context);
        let batch = random_batch(&self.dataset.train, rows, context, &mut rng);
        self.learn(&batch)
    }

    /// One step on a batch that is given.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn learn(&mut self, batch: &Batch) -> Result<StepResult, NotFinite> {
        if self.recipe.model.dropout > 0.0 {
            self.device.seed(rand::Rng::next_u64(&mut self.stream(Stream::Dropout)));
        }
        let device = self.device.clone().autodiff();
        let loss = batch_loss(self.model(), batch, &device);
        let mut gradients = loss.backward();
        let gradients = FlatGradients::of(self.model(), &mut gradients);
        // Both numbers in one read: on a GPU each read waits for all work before it.
        let numbers = Tensor::cat(vec![loss.inner(), gradients.square_sum().sqrt()], 0);
        let numbers = values_of(numbers);
        let (loss, gradient_norm) = (numbers[0], numbers[1]);
        if !loss.is_finite() || !gradient_norm.is_finite() {
            return Err(NotFinite { step: Step(self.step.0 + 1), loss, gradient_norm });
        }
        let training = &self.recipe.training;
        let clip = training.gradient_clip;
        // PyTorch's clip_grad_norm_: the small term keeps a zero gradient from dividing by zero.
        let scale = if clip > 0.0 { (clip / (f64::from(gradient_norm) + 1e-6)).min(1.0) } else { 1.0 };
        let learning_rate = training.learning_rate_at(self.step.0);
        let model = self.model.take().expect(MODEL_IS_THERE);
        self.model = Some(self.optimizer.update(model, gradients, scale, learning_rate, training));
        self.step.0 += 1;
        Ok(StepResult { loss, gradient_norm, learning_rate })
    }

    /// Mean losses over the recipe's number of random batches of the training and of the validation text. Asked before
    /// each batch, `goes_on` can call it off, and then there is no answer.
    pub fn evaluate(&self, goes_on: &mut dyn FnMut() -> bool) -> Option<(f32, f32)> {
        let model = self.validation_model();
        let training = &self.recipe.training;
        let mut rng = self.stream(Stream::Evaluation);
        let mut mean = |tokens: &[u16]| {
            let mut total = 0.0;
            for _ in 0..training.evaluation_batches {
                if !goes_on() {
                    return None;
                }
                let batch = random_batch(tokens, training.batch, self.recipe.model.context, &mut rng);
                total += f64::from(values_of(batch_loss(&model, &batch, &self.device))[0]);
            }
            Some((total / training.evaluation_batches as f64) as f32)
        };
        Some((mean(&self.dataset.train)?, mean(&self.dataset.validation)?))
    }

    /// Where the text is a lesson: the share of answers that are right, to problems that it was never trained on.
    /// `goes_on` as in [`evaluate`](Self::evaluate).
    pub fn accuracy(&self, goes_on: &mut dyn FnMut() -> bool) -> Option<f32> {
        accuracy(&self.validation_model(), &self.recipe, &self.dataset, &self.device, goes_on)
    }

    /// [`validation_batches`] of the run's own text.
    #[must_use]
    pub fn validation_batches(&self, count: usize) -> Vec<Batch> {
        validation_batches(&self.recipe, &self.dataset.validation, count)
    }

    fn model(&self) -> &Gpt {
        self.model.as_ref().expect(MODEL_IS_THERE)
    }

    /// A generator of its own for this step and purpose: no state to save.
    fn stream(&self, purpose: Stream) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.recipe.training.seed);
        // Stream 0 belongs to the first weights.
        rng.set_stream(1 + 3 * self.step.0 + purpose as u64);
        rng
    }
}

/// Random batches of a validation text as the recipe draws them, the same whenever they are asked for; none where the text
/// is too short.
#[must_use]
pub fn validation_batches(recipe: &Recipe, tokens: &[u16], count: usize) -> Vec<Batch> {
    let (context, rows) = (recipe.model.context, recipe.training.batch);
    if tokens.len() <= context {
        return Vec::new();
    }
    let mut rng = ChaCha8Rng::seed_from_u64(recipe.training.seed);
    rng.set_stream(u64::MAX);
    (0..count).map(|_| random_batch(tokens, rows, context, &mut rng)).collect()
}

/// Windows of a whole text that are read at once.
const WHOLE_ROWS: usize = 16;

/// How many batches [`evaluate_whole`] takes for so many predicted tokens.
#[must_use]
pub const fn evaluation_batches(tokens: usize, context: usize) -> usize {
    (tokens / context).div_ceil(WHOLE_ROWS) + (!tokens.is_multiple_of(context)) as usize
}

/// Mean loss over a whole text in windows without overlap, in nats a token, each token but the first predicted once.
/// Asked before each batch, `goes_on` can call it off, and then there is no answer.
pub fn evaluate_whole(
    model: &Gpt,
    tokens: &[u16],
    context: usize,
    device: &Device,
    goes_on: &mut dyn FnMut() -> bool,
) -> Option<f64> {
    let windows: Vec<_> = consecutive(tokens, context).collect();
    let (mut total, mut count) = (0.0, 0);
    // Only the last window can be shorter: it makes a batch of its own.
    for batch in
        windows.chunk_by(|before, after| before.0.len() == after.0.len()).flat_map(|same| same.chunks(WHOLE_ROWS))
    {
        if !goes_on() {
            return None;
        }
        let mut joined =
            Batch { inputs: Vec::new(), targets: Vec::new(), rows: batch.len(), context: batch[0].0.len() };
        for (inputs, targets) in batch {
            joined.inputs.extend(inputs.iter().map(|&id| i32::from(id)));
            joined.targets.extend(targets.iter().map(|&id| i32::from(id)));
        }
        let tokens = joined.rows * joined.context;
        total += f64::from(values_of(batch_loss(model, &joined, device))[0]) * tokens as f64;
        count += tokens;
    }
    Some(total / count.max(1) as f64)
}
