//! How long a training step or a sampled token takes, and what watching costs, on this machine and now: figures to set
//! beside another program's.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use burn::module::Module;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::trial::Trial;
use crate::lab::handle::RunHandle;
use crate::memory::Need;
use crate::protocol::{DeviceChoice, DeviceClass, Event, Origin, Place, RunSpec, Step};
use crate::recipe::{Recipe, SamplingRecipe};
use crate::text::{Dataset, dialogues};
use crate::train::{Sampler, Trainer};
use crate::{device, kernels};

/// Steps or tokens that warm caches and compile kernels, and are not counted.
const WARM_UP: usize = 10;
/// What random text is made of: a block of Unicode that has enough of them.
const LETTERS: std::ops::RangeInclusive<char> = '\u{4e00}'..='\u{9fff}';
/// Runs of each kind when training is watched and when it is not, one after the other, and how long each is timed.
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(5);
/// As often as the window asks for attention.
const ATTENTION_PER_SEC: f64 = 10.0;
/// How long a run may be silent.
const SILENCE: Duration = Duration::from_secs(300);

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
    /// The most memory that the program has held so far; absent where the system does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
}

/// What was measured of a run whose attention is looked at, and of one that is left alone: medians.
#[derive(Debug, Clone, Serialize)]
pub struct Watching {
    pub engine: String,
    pub heads: usize,
    pub probe_tokens: usize,
    pub tokens_per_sec: f64,
    pub tokens_per_sec_watched: f64,
    pub snapshots_per_sec: f64,
}

/// Threads for the CPU's operations, for the whole program. To be said first.
pub fn limit_threads(threads: usize) {
    kernels::limit_threads(threads);
}

/// Times `steps` training steps of the recipe on random text of so many letters: the time does not depend on which.
///
/// # Errors
/// If the recipe makes no sense or the device cannot be had.
pub fn train(recipe: &Recipe, vocabulary: u32, steps: usize, choice: &DeviceChoice) -> Result<Timing> {
    let (mut trainer, engine) = trainer(recipe, vocabulary, choice)?;
    ensure!(steps > WARM_UP, "{steps} steps are too few: the first {WARM_UP} are not counted");
    let ms = median(steps, || trainer.step().map(|_| true).map_err(Into::into))?;
    let tokens = trainer.tokens_per_step() as f64;
    Ok(timing(&trainer, engine, Some(ms), None, tokens * 1e3 / ms))
}

/// Times tokens that an untrained model of the recipe writes, one after the other, up to its context.
///
/// # Errors
/// As [`train`].
pub fn sample(recipe: &Recipe, vocabulary: u32, choice: &DeviceChoice) -> Result<Timing> {
    let (trainer, engine) = trainer(recipe, vocabulary, choice)?;
    let context = recipe.model.context;
    ensure!(context > 2 * WARM_UP, "a context of {context} is too short: the first {WARM_UP} tokens are not counted");
    let (model, tokenizer, device) = (trainer.validation_model(), &trainer.dataset().tokenizer, trainer.device());
    let settings =
        SamplingRecipe { prompt: LETTERS.start().to_string(), tokens: context - 1, ..recipe.sampling.clone() };
    let mut sampler = Sampler::new(settings, tokenizer);
    let ms = median(context - 1, || Ok(sampler.next(&model, Step(0), &recipe.model, tokenizer, device)?.is_some()))?;
    Ok(timing(&trainer, engine, None, Some(ms), 1e3 / ms))
}

/// Trains with attention shown ten times a second and without, on the built-in text, with a probe as long as the context.
///
/// # Errors
/// As [`train`], or if a run fails.
pub fn watch(recipe: &Recipe, choice: &DeviceChoice) -> Result<Watching> {
    let mut recipe = recipe.clone();
    recipe.data.probe = dialogues(2 * recipe.model.context).chars().take(recipe.model.context).collect();
    recipe.training.steps = 1_000_000;
    recipe.training.evaluation_interval = recipe.training.steps;
    recipe.training.evaluation_batches = 1;
    let folder = std::env::temp_dir().join(format!("headlight-watch-{}", std::process::id()));
    let rounds: Result<Vec<_>> = (0..2 * ROUNDS)
        .map(|round| {
            let rate = if round % 2 == 0 { 0.0 } else { ATTENTION_PER_SEC };
            let found = watch_once(&recipe, choice, rate, &folder);
            let _ = fs::remove_dir_all(&folder);
            found
        })
        .collect();
    let rounds = rounds?;
    let middle = |watched: bool, of: fn(&Round) -> f64| {
        let mut found: Vec<f64> = rounds.iter().skip(usize::from(watched)).step_by(2).map(of).collect();
        found.sort_by(f64::total_cmp);
        (found[ROUNDS / 2] * 10.0).round() / 10.0
    };
    Ok(Watching {
        engine: rounds[0].engine.clone(),
        heads: recipe.model.layers * recipe.model.heads,
        probe_tokens: recipe.data.probe.chars().count(),
        tokens_per_sec: middle(false, |round| round.tokens_per_sec),
        tokens_per_sec_watched: middle(true, |round| round.tokens_per_sec),
        snapshots_per_sec: middle(true, |round| round.snapshots_per_sec),
    })
}

struct Round {
    engine: String,
    tokens_per_sec: f64,
    snapshots_per_sec: f64,
}

fn watch_once(recipe: &Recipe, choice: &DeviceChoice, attention_per_sec: f64, folder: &Path) -> Result<Round> {
    let place = Place::At(folder.to_owned());
    let spec = RunSpec {
        despite_memory: true,
        origin: Origin::New { recipe: Box::new(recipe.clone()), place },
        device: choice.clone(),
        insist: false,
        stop_at: None,
        start_paused: false,
        attention_per_sec,
    };
    let handle = RunHandle::start(spec, Arc::new(|| ()));
    let tokens = (recipe.training.batch * recipe.model.context) as f64;
    let (mut engine, mut start, mut snapshots) = (String::new(), None, 0.0);
    loop {
        let step = match handle.next_within(SILENCE) {
            None => bail!("nothing was heard of the run for {} s", SILENCE.as_secs()),
            Some(Event::Finished(outcome)) => bail!("the run ended early: {outcome:?}"),
            Some(Event::Ready(report)) => {
                engine = report.device.engine;
                continue;
            }
            Some(Event::Progress(reports)) => reports.last().map(|report| report.step.0),
            Some(_) => None,
        };
        if handle.take_look().is_some() && start.is_some() {
            snapshots += 1.0;
        }
        match (start, step) {
            (None, Some(step)) if step >= WARM_UP as u64 => start = Some((Instant::now(), step)),
            (Some((since, first)), Some(step)) if since.elapsed() >= ROUND => {
                let secs = since.elapsed().as_secs_f64();
                handle.stop_and_wait();
                let tokens_per_sec = (step - first) as f64 * tokens / secs;
                return Ok(Round { engine, tokens_per_sec, snapshots_per_sec: snapshots / secs });
            }
            _ => {}
        }
    }
}

fn trainer(recipe: &Recipe, vocabulary: u32, choice: &DeviceChoice) -> Result<(Trainer, String)> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let letters: Vec<char> = LETTERS.take(vocabulary as usize).collect();
    let drawn = (0..200_000).map(|_| letters[rng.random_range(0..letters.len())]);
    let text: String = letters.iter().copied().chain(drawn).collect();
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
    let on_processor = report.kind != DeviceClass::Gpu;
    Need::training(recipe, dataset.tokenizer.vocabulary(), on_processor).check()?;
    Ok((Trainer::new(recipe.clone(), dataset, device), engine))
}

/// The median of `count` times in ms, without the first ones; the work says `false` when there is no more.
fn median(count: usize, mut work: impl FnMut() -> Result<bool>) -> Result<f64> {
    let mut times = Vec::new();
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
    let threads = kernels::threads();
    let [ms_per_step, ms_per_token] = [ms_per_step, ms_per_token].map(|ms| ms.map(|ms| (ms * 1e3).round() / 1e3));
    let (tokens_per_sec, peak_memory_bytes) = (tokens_per_sec.round(), peak_memory());
    Timing { engine, threads, parameters, ms_per_step, ms_per_token, tokens_per_sec, peak_memory_bytes }
}

/// Linux's own count (`man 5 proc`, VmHWM).
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(1024 * line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?)
}
