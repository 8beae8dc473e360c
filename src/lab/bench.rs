//! How long a training step or a sampled token takes, on this machine and now: figures to set beside another program's.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use burn::module::Module;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::protocol::{DeviceChoice, Step};
use super::trial::Trial;
use crate::device;
use crate::recipe::{Recipe, SamplingRecipe};
use crate::text::Dataset;
use crate::train::{Sampler, Trainer};

/// Steps or tokens that warm caches and compile kernels, and are not counted.
const WARM_UP: usize = 10;

/// What was measured: medians.
#[derive(Debug, Clone, Serialize)]
pub struct Timing {
    pub engine: String,
    pub threads: usize,
    pub parameters: u64,
    /// Batch drawn, forward, backward, clip and update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms_per_step: Option<f64>,
    /// One token drawn, with what was kept of those before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms_per_token: Option<f64>,
    pub tokens_per_sec: f64,
}

/// Times `steps` training steps of the recipe on random letters: the time does not depend on the text.
///
/// # Errors
/// If the recipe makes no sense or the device cannot be had.
pub fn train(recipe: &Recipe, steps: usize, choice: &DeviceChoice) -> Result<Timing> {
    let (mut trainer, engine) = trainer(recipe, choice)?;
    ensure!(steps > WARM_UP, "{steps} steps are too few: the first {WARM_UP} are not counted");
    let ms = median(steps, || trainer.step().map(|_| true).map_err(Into::into))?;
    let tokens = trainer.tokens_per_step() as f64;
    Ok(timing(&trainer, engine, Some(ms), None, tokens * 1e3 / ms))
}

/// Times tokens that an untrained model of the recipe writes, one after the other, up to its context.
///
/// # Errors
/// As [`train`].
pub fn sample(recipe: &Recipe, choice: &DeviceChoice) -> Result<Timing> {
    let (trainer, engine) = trainer(recipe, choice)?;
    let context = recipe.model.context;
    ensure!(context > 2 * WARM_UP, "a context of {context} is too short: the first {WARM_UP} tokens are not counted");
    let (model, tokenizer, device) = (trainer.validation_model(), &trainer.dataset().tokenizer, trainer.device());
    let settings = SamplingRecipe { prompt: "A".into(), tokens: context - 1, ..recipe.sampling.clone() };
    let mut sampler = Sampler::new(settings, tokenizer);
    let ms = median(context - 1, || Ok(sampler.next(&model, Step(0), &recipe.model, tokenizer, device).is_some()))?;
    Ok(timing(&trainer, engine, None, Some(ms), 1e3 / ms))
}

fn trainer(recipe: &Recipe, choice: &DeviceChoice) -> Result<(Trainer, String)> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    // 65 of them, as tinyshakespeare has.
    let letters: Vec<char> = ('A'..='z').chain("0123456".chars()).collect();
    let text: String = (0..200_000).map(|_| letters[rng.random_range(0..letters.len())]).collect();
    let dataset = Arc::new(Dataset::from_text("random letters", &text)?);
    if let Some(fault) = recipe.validate(Some(dataset.tokenizer.vocabulary())).first() {
        bail!("{fault}");
    }
    dataset.require(recipe.model.context, std::path::Path::new("random letters"))?;
    let trial = Trial::new(&recipe.model, dataset.tokenizer.vocabulary()).to_text();
    let wish = device::Wish { choice, trial: &trial, insist: false };
    let device::Opened { device, report, trouble } = device::open(wish, &mut |_| (), &mut || true)?;
    ensure!(trouble.is_none(), "{}", trouble.unwrap_or_default());
    let engine = format!("headlight {}, {}", env!("CARGO_PKG_VERSION"), report.engine);
    Ok((Trainer::new(recipe.clone(), dataset, device), engine))
}

/// The median of `count` times in ms, without the first ones; the work says `false` when there is no more.
fn median(count: usize, mut work: impl FnMut() -> Result<bool>) -> Result<f64> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        if !work()? {
            break;
        }
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let mut times = times.split_off(WARM_UP.min(times.len()));
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().ok_or_else(|| anyhow::anyhow!("nothing was left to time"))
}

fn timing(
    trainer: &Trainer,
    engine: String,
    ms_per_step: Option<f64>,
    ms_per_token: Option<f64>,
    tokens_per_sec: f64,
) -> Timing {
    let parameters = trainer.validation_model().num_params() as u64;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let [ms_per_step, ms_per_token] = [ms_per_step, ms_per_token].map(|ms| ms.map(|ms| (ms * 1e3).round() / 1e3));
    Timing { engine, threads, parameters, ms_per_step, ms_per_token, tokens_per_sec: tokens_per_sec.round() }
}
