//! What the user asks for: the model, the text, the training and the sampling, as plain data.
//!
//! Knows nothing of tensors, files or windows. [`Recipe::validate`] is the only judge of whether a recipe makes sense;
//! everything behind it may rely on that.
//!
//! ```
//! use headlight::preset;
//! use headlight::recipe::Field;
//!
//! let mut recipe = preset::find("glass-box").expect("built in").recipe;
//! assert!(recipe.validate(None).is_empty());
//!
//! recipe.model.heads = 3;
//! let faults = recipe.validate(None);
//! assert_eq!(faults[0].field, Field::Width);
//! assert_eq!(faults[0].to_string(), "width 32 is not a multiple of 3 heads: try 30 or 33");
//! ```

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

mod costs;
pub mod kept_path;
mod model;

pub use model::{Activation, Biases, ModelRecipe, Norm, Position, WeightCounts};

/// Everything a run is made from. The same recipe, text and seed give the same run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    pub model: ModelRecipe,
    pub data: DataRecipe,
    pub training: TrainingRecipe,
    pub sampling: SamplingRecipe,
}

/// Where the text comes from, and the text that the attention views show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    pub text: TextSource,
    /// The text whose attention is recorded while the model learns.
    pub probe: String,
    /// Whether it gets what the tokenizer puts around a text.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub probe_special_tokens: bool,
}

const fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
const fn is_yes(value: &bool) -> bool {
    *value
}

/// A text to learn from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TextSource {
    /// Short dialogues that the program makes itself, always the same.
    BuiltIn,
    /// Problems that the program makes itself, always the same.
    Generated(Lesson),
    /// A UTF-8 text file.
    File(#[serde(with = "kept_path")] PathBuf),
}

impl TextSource {
    /// The same text by its whole path: it may be opened from another folder.
    ///
    /// # Errors
    /// If the folder that the program is in is gone.
    pub fn absolute(&self) -> std::io::Result<Self> {
        Ok(match self {
            Self::File(path) => Self::File(std::path::absolute(path)?),
            own => own.clone(),
        })
    }
}

/// A text of problems: part of each line follows from the rest of it, and it can be measured whether a model knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lesson {
    /// Random letters that come again: `gktbvhwagktbvhwagkt`.
    Induction,
    /// Sums of two numbers: `37+48=085`.
    Addition,
    /// Brackets to be closed: `([]{[()(:)]})`.
    Brackets,
}

impl Lesson {
    pub const ALL: [Self; 3] = [Self::Induction, Self::Addition, Self::Brackets];

    /// What is to be learned, in a sentence.
    #[must_use]
    pub const fn task(self) -> &'static str {
        match self {
            Self::Induction => "Random letters that come again: what followed a letter before follows it again.",
            Self::Addition => "Sums of two numbers below 100, of which a tenth is never trained on.",
            Self::Brackets => "Nested brackets; after a colon those still open are to be closed, each by its own kind.",
        }
    }
}

impl fmt::Display for Lesson {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Induction => "induction lesson",
            Self::Addition => "addition lesson",
            Self::Brackets => "brackets lesson",
        })
    }
}

impl fmt::Display for TextSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => formatter.write_str("built-in dialogues"),
            Self::Generated(lesson) => lesson.fmt(formatter),
            Self::File(path) => write!(formatter, "{}", path.display()),
        }
    }
}

/// How the model is trained: AdamW (Loshchilov & Hutter 2019), linear warm-up, cosine decay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingRecipe {
    /// Windows of text in one step.
    pub batch: usize,
    /// Length of the run; the cosine ends here.
    pub steps: u64,
    pub learning_rate: f64,
    /// Where the cosine ends; equal to `learning_rate` for a constant rate.
    pub final_learning_rate: f64,
    pub warmup_steps: u64,
    /// Decoupled decay of matrices and embeddings.
    pub weight_decay: f64,
    /// Whether vectors (biases and norms) are decayed too; nanoGPT leaves them out.
    #[serde(default)]
    pub decay_vectors: bool,
    pub beta_1: f64,
    pub beta_2: f64,
    /// Largest global norm of the gradient; 0 leaves it as it is.
    pub gradient_clip: f64,
    pub seed: u64,
    /// Steps between two looks at the validation text.
    pub evaluation_interval: u64,
    /// Random batches of each split in such a look.
    pub evaluation_batches: usize,
    /// Room for the checkpoints of earlier steps, in megabytes (of a million bytes); 0 keeps none.
    #[serde(default = "usual_timeline")]
    pub timeline_megabytes: u64,
}

const fn usual_timeline() -> u64 {
    1000
}

/// How text is drawn from the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingRecipe {
    pub prompt: String,
    pub tokens: usize,
    /// 0 always takes the likeliest token.
    pub temperature: f64,
    /// Only the `top_k` likeliest tokens take part; 0 means all.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach `top_p` take part; 1 means all.
    pub top_p: f64,
    pub seed: u64,
    /// Whether the text is at its end when a token is drawn that ends one.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub stop_at_end: bool,
    /// Whether the prompt gets what the tokenizer puts around a text.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub special_tokens: bool,
}

/// A field of the recipe, so that a fault can be shown where it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    Layers,
    Heads,
    KeyValueHeads,
    Width,
    Context,
    NormEpsilon,
    RotaryBase,
    MlpWidth,
    Dropout,
    Biases,
    Text,
    Probe,
    Batch,
    Steps,
    LearningRate,
    FinalLearningRate,
    WarmupSteps,
    WeightDecay,
    Beta1,
    Beta2,
    GradientClip,
    EvaluationInterval,
    EvaluationBatches,
    Timeline,
    SampleTokens,
    Temperature,
    TopP,
}

/// One mistake in a recipe: where it is, what is wrong and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    pub field: Field,
    pub message: String,
}

/// The most weights a recipe may ask for: past it a "micro" model no longer fits a laptop.
pub const PARAMETERS_MAX: u64 = 200_000_000;
/// The most memory that training may be estimated to need, in bytes.
pub const TRAINING_BYTES_MAX: u64 = 32 << 30;

impl Recipe {
    /// Every mistake in the recipe, in the order of the fields; empty when the recipe can be run.
    ///
    /// `vocabulary` is the number of distinct tokens of the text, or `None` while that is not known.
    #[must_use]
    pub fn validate(&self, vocabulary: Option<usize>) -> Vec<Fault> {
        let tokens = vocabulary.unwrap_or(256);
        let mut faults = self.model.check(tokens);
        self.training.check(&mut faults);
        self.sampling.check(&mut faults);
        if self.data.probe.is_empty() {
            faults.push(fault(
                Field::Probe,
                "the probe text is empty: type a few words for the attention views to show".into(),
            ));
        }
        if faults.is_empty() {
            let bytes = self.training_bytes(tokens);
            if bytes > TRAINING_BYTES_MAX {
                let message = format!(
                    "training would take about {}: lower the batch or the context (limit {})",
                    bytes_text(bytes),
                    bytes_text(TRAINING_BYTES_MAX)
                );
                faults.push(fault(Field::Batch, message));
            }
        }
        faults
    }
}

impl TrainingRecipe {
    /// The learning rate of a step (0-based): linear warm-up, then a cosine down to the final rate (nanoGPT's `get_lr`).
    #[must_use]
    pub fn learning_rate_at(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return self.learning_rate * (step + 1) as f64 / (self.warmup_steps + 1) as f64;
        }
        if step >= self.steps {
            return self.final_learning_rate;
        }
        let progress = (step - self.warmup_steps) as f64 / (self.steps - self.warmup_steps).max(1) as f64;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        self.final_learning_rate + cosine * (self.learning_rate - self.final_learning_rate)
    }

    fn check(&self, faults: &mut Vec<Fault>) {
        in_range(faults, Field::Batch, "batch", self.batch, 1, 4096);
        in_range(faults, Field::Steps, "steps", self.steps, 1, 10_000_000);
        let rate = self.learning_rate;
        if !(rate > 0.0 && rate <= 1.0) {
            faults.push(fault(
                Field::LearningRate,
                format!("learning rate {rate} is not above 0 and at most 1: try 0.001"),
            ));
        } else if !(0.0..=rate).contains(&self.final_learning_rate) {
            let message = format!(
                "final learning rate {} is not between 0 and the learning rate {rate}",
                self.final_learning_rate
            );
            faults.push(fault(Field::FinalLearningRate, message));
        }
        if self.warmup_steps > self.steps {
            let message = format!("warm-up of {} steps is longer than the run of {}", self.warmup_steps, self.steps);
            faults.push(fault(Field::WarmupSteps, message));
        }
        if !(0.0..=1.0).contains(&self.weight_decay) {
            faults
                .push(fault(Field::WeightDecay, format!("weight decay {} is not between 0 and 1", self.weight_decay)));
        }
        for (field, name, beta) in [(Field::Beta1, "β1", self.beta_1), (Field::Beta2, "β2", self.beta_2)] {
            if !(0.0..1.0).contains(&beta) {
                faults.push(fault(field, format!("{name} {beta} is not at least 0 and below 1")));
            }
        }
        if !(0.0..=1e6).contains(&self.gradient_clip) {
            let message = format!("gradient clip {} is not between 0 (off) and 1,000,000", self.gradient_clip);
            faults.push(fault(Field::GradientClip, message));
        }
        in_range(faults, Field::EvaluationInterval, "evaluation interval", self.evaluation_interval, 1, 1_000_000);
        in_range(faults, Field::EvaluationBatches, "evaluation batches", self.evaluation_batches, 1, 1000);
        in_range(faults, Field::Timeline, "timeline megabytes", self.timeline_megabytes, 0, 1_000_000);
    }
}

impl SamplingRecipe {
    fn check(&self, faults: &mut Vec<Fault>) {
        in_range(faults, Field::SampleTokens, "sample length", self.tokens, 1, 100_000);
        if !(0.0..=10.0).contains(&self.temperature) {
            faults.push(fault(Field::Temperature, format!("temperature {} is not between 0 and 10", self.temperature)));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            faults.push(fault(Field::TopP, format!("top-p {} is not above 0 and at most 1", self.top_p)));
        }
    }
}

fn fault(field: Field, message: String) -> Fault {
    Fault { field, message }
}

fn in_range<N: PartialOrd + fmt::Display>(
    faults: &mut Vec<Fault>,
    field: Field,
    name: &str,
    value: N,
    low: N,
    high: N,
) {
    if value < low || value > high {
        faults.push(fault(field, format!("{name} {value} is not between {low} and {high}")));
    }
}

/// A whole number with commas between groups of three: `804,096`.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.char_indices() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size in the unit that fits it: `3.2 MB` (1 MB is 1,000,000 bytes).
#[must_use]
pub fn bytes_text(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
