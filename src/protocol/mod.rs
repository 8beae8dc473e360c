//! What crosses the thread boundary: [`Command`] to the worker, [`Event`] from it. Plain data only, no tensor.

mod finite;
mod inspect;
mod spec;

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use finite::{NonFinite, Stage, falling, largest_place};
pub use inspect::{
    Attribution, Cut, CutEffect, EffectsReport, HeadReport, Lens, Look, MeanAttention, Off, Pin, Role, RoleReport,
    RoleScores, SwitchedReport, Switches, Target, View, Wants,
};
pub use spec::{Origin, Place, RunSpec, Wake};

use crate::recipe::{Recipe, SamplingRecipe};

/// A number of optimizer steps done; step 0 is the untrained model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Step(pub u64);

/// One attention head, both numbers counted from 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HeadId {
    pub layer: usize,
    pub head: usize,
}

/// To the worker. A closed channel means [`Command::Stop`].
#[derive(Debug, Clone)]
pub enum Command {
    Pause,
    Resume,
    /// One optimizer step, then pause.
    Step,
    /// Save a checkpoint, then end the worker.
    Stop,
    SetProbe(String),
    /// Whether the probe gets what the tokenizer puts around a text.
    SetProbeSpecial(bool),
    /// Replaces the schedule's peak from the next step on; the shape of the schedule stays.
    SetLearningRate(f64),
    Sample(SampleRequest),
    StopSampling,
    Checkpoint,
    Export {
        format: ExportFormat,
        path: PathBuf,
    },
    /// What the views show from now on; what is sampled follows. The looks arrive beside the events, as a latest value.
    Look(Box<View>),
    /// Measure how much worse the viewed step's model predicts without each head and MLP: [`Event::Effects`] answers, more and
    /// more of it.
    MeasureEffects(Off),
    /// Mean attention of the viewed model over a text file: [`Event::MeanAttention`] answers, more and more of it.
    MeanAttention(PathBuf),
    /// Give up what is being measured; what was found so far stays.
    StopMeasuring,
    /// Make a run of the viewed model without the heads that are switched off in the view, beside this run's folder:
    /// [`Event::Made`] answers.
    Prune,
    /// Measure the loss over the whole validation text: [`Event::EvaluatedWhole`] answers.
    EvaluateWhole,
    /// Go back to the last good checkpoint (offered after [`Event::Diverged`]), paused.
    Rollback,
    /// Go on saving here (asked after [`Event::FolderGone`]): the run's folder where that lies now, or a new one.
    SaveElsewhere(PathBuf),
}

/// A wish for text. `id` comes back with each piece, so that an older sample's late pieces can be told apart.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleRequest {
    pub id: u64,
    pub settings: SamplingRecipe,
}

/// What a model can be taken away as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// The run folder's checkpoint: model, optimizer, data position and random state.
    Checkpoint,
    /// `model.safetensors` with nanoGPT's names, and `config.json` beside it.
    Safetensors,
    /// A folder that `transformers` opens, as this family, or as the one whose design the model has.
    Transformers(Option<Family>),
}

/// A family of models in `transformers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Gpt2,
    Opt,
    Llama,
    Phi3,
}

impl Family {
    /// Its `model_type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Opt => "opt",
            Self::Llama => "llama",
            Self::Phi3 => "phi3",
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Gpt2 => "GPT-2",
            Self::Opt => "OPT",
            Self::Llama => "Llama",
            Self::Phi3 => "Phi-3",
        })
    }
}

/// How an export compares with the model that it came from, read back from what was written.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ExportReport {
    pub family: Family,
    /// Told beside the report.
    #[serde(skip_serializing)]
    pub bytes: u64,
    /// Tokens that were compared, drawn at random.
    pub tokens: usize,
    /// Texts of which the run's tokenizer and the one that was written make the same tokens; 0 where there is none.
    pub texts: usize,
    /// Largest difference between two logits.
    pub largest_difference: f32,
    /// Share of the positions at which both find the same token likeliest.
    pub top1_agreement: f64,
}

impl std::fmt::Display for ExportReport {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { family, tokens, texts, largest_difference, top1_agreement, .. } = self;
        let agreement = 100.0 * top1_agreement;
        write!(
            formatter,
            "{family} for transformers; read back, its logits differ by at most {largest_difference:.1e} on {tokens} tokens, \
             the likeliest token is the same at {agreement:.1} %"
        )?;
        match texts {
            0 => Ok(()),
            texts => write!(formatter, "; {texts} texts give the same tokens"),
        }
    }
}

/// From the worker. [`Event::Finished`] comes last and exactly once.
#[derive(Debug, Clone)]
pub enum Event {
    /// Something slow before the first step, in words for the user (`preparing kernels on llvmpipe…`).
    Preparing(String),
    Ready(Box<ReadyReport>),
    StateChanged(RunState),
    /// Every step's loss arrives, several steps to an event when they are quick.
    Progress(Vec<StepReport>),
    Validated(ValidationReport),
    EvaluatedWhole(WholeReport),
    /// The steps whose weights are kept in the run folder, all of them, and their size together.
    Kept {
        steps: Vec<Step>,
        bytes: u64,
    },
    /// What every head does, measured at a kept step.
    Roles(RoleReport),
    /// What each part of the model is worth, as far as it is measured.
    Effects(EffectsReport),
    /// What is switched off in the view costs.
    Switched(SwitchedReport),
    MeanAttention(MeanAttention),
    /// A new run was made beside this one, and can be opened.
    Made {
        what: String,
        run: PathBuf,
    },
    Sampled(SampleEvent),
    /// What was written, and where.
    Saved {
        what: String,
        path: PathBuf,
    },
    /// After `step` the loss is no number any more. The run is paused and saves nothing until
    /// [`Command::Rollback`] takes it back to the last checkpoint.
    Diverged {
        step: Step,
        message: String,
    },
    /// The model is that of an earlier step again, after [`Command::Rollback`].
    WentBack {
        step: Step,
        elapsed_secs: f64,
    },
    /// The run's folder was moved, deleted or replaced. The run is paused and saves nothing until
    /// [`Command::SaveElsewhere`] says where, or the folder is back.
    FolderGone {
        message: String,
    },
    /// The run is saved here from now on.
    FolderMoved {
        folder: PathBuf,
    },
    /// Something the user should know; training goes on or pauses, as `StateChanged` says.
    Warning(String),
    Finished(Outcome),
}

/// What the worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    Preparing,
    Training,
    Paused,
    /// All steps are done; the model can still be sampled, probed and saved.
    Completed,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// As asked; the run folder can be resumed.
    Stopped,
    /// It could not start or go on, and why.
    Failed(String),
    /// It was not begun: memory is tight, in a sentence with the numbers. It can be started all the same.
    Tight(String),
}

/// Which device was taken, and why. `name` is the adapter's or processor's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceReport {
    pub kind: DeviceClass,
    pub name: String,
    /// The graphics interface (`Vulkan`, `Metal`, …) or `burn Flex`.
    pub engine: String,
    /// One sentence for the user: why this one.
    pub reason: String,
}

/// What sort of hardware computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceClass {
    Cpu,
    Gpu,
    /// A GPU interface drawn by the processor (llvmpipe, SwiftShader): right, but slow.
    Software,
}

/// What the user asks for. Parsed from `auto`, `cpu`, `gpu` or part of an adapter's name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum DeviceChoice {
    #[default]
    Auto,
    Cpu,
    Gpu,
    /// An adapter whose name holds this text, software adapters included.
    Named(String),
}

impl From<&str> for DeviceChoice {
    fn from(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "auto" | "" => Self::Auto,
            "cpu" => Self::Cpu,
            "gpu" => Self::Gpu,
            _ => Self::Named(text.to_owned()),
        }
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
            Self::Named(name) => name,
        })
    }
}

/// The run as it stands when the worker has a model: new, or opened from its folder.
#[derive(Debug, Clone)]
pub struct ReadyReport {
    pub folder: PathBuf,
    pub recipe: Recipe,
    pub device: DeviceReport,
    pub parameters: u64,
    pub vocabulary: usize,
    /// What each token of the vocabulary looks like, printable.
    pub labels: Arc<Vec<String>>,
    /// Whether its tokenizer puts tokens around a text.
    pub adds_special: bool,
    /// What each token is called that ends a text.
    pub ends: Vec<String>,
    pub train_tokens: usize,
    pub validation_tokens: usize,
    /// Where training goes on from; 0 for a new run.
    pub step: Step,
    /// The run and the step that it was forked from.
    pub parent: Option<(PathBuf, Step)>,
    /// The curves so far, when an older run was opened.
    pub history: Vec<StepReport>,
    pub validations: Vec<ValidationReport>,
    /// Steps whose weights are kept.
    pub kept: Vec<Step>,
    pub kept_bytes: u64,
    /// What the heads did at kept steps so far.
    pub roles: Vec<RoleReport>,
    /// Seconds of training before this start.
    pub elapsed_secs: f64,
    /// Why training cannot go on, when the run can only be looked at (its text is gone or changed).
    pub blocked: Option<String>,
}

/// One optimizer step: the mean loss of its batch before the update, in nats a token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    pub step: Step,
    pub loss: f32,
    pub learning_rate: f64,
    /// Global norm before clipping.
    pub gradient_norm: f32,
    /// Seconds of training so far, pauses not counted.
    pub elapsed_secs: f64,
    pub tokens_per_sec: f64,
}

/// Mean losses over random batches of each split, dropout off, in nats a token.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ValidationReport {
    pub step: Step,
    pub train_loss: f32,
    pub validation_loss: f32,
    /// Whether this is the lowest validation loss of the run so far.
    pub best: bool,
    /// Where the text is a lesson: the share of answers that are right, to problems that it was never trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f32>,
}

/// Loss over the whole validation text in windows without overlap, in nats a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WholeReport {
    pub step: Step,
    pub loss: f64,
    pub tokens: usize,
}

/// Attention of every head on the probe text at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct AttentionSnapshot {
    pub step: Step,
    /// The probe's tokens, printable (`␣`, `⏎` for white space); at most the model's context.
    pub tokens: Vec<String>,
    pub layers: usize,
    pub heads: usize,
    /// After softmax: `[layer, head, query, key]`, rows sum to 1, zero above the diagonal; all zero where a head was pruned.
    pub weights: Vec<f32>,
    /// What was left out of the probe, in words (unknown to the model, too long), or empty.
    pub note: String,
    /// The heads of which a weight is no number, each with the first query where.
    pub non_finite: Vec<(HeadId, usize)>,
}

impl AttentionSnapshot {
    /// With [`non_finite`](Self::non_finite) found anew.
    #[must_use]
    pub fn looked_through(mut self) -> Self {
        let heads = (0..self.layers).flat_map(|layer| (0..self.heads).map(move |head| HeadId { layer, head }));
        let found = heads.filter_map(|head| Some((head, first_non_finite(self.head(head), self.tokens.len())?)));
        self.non_finite = found.collect();
        self
    }

    /// Which weights are no numbers, for the screen: `Layer 2, head 1: not a number from position 5 on`.
    #[must_use]
    pub fn non_finite_words(&self) -> Option<String> {
        let (head, query) = self.non_finite.first()?;
        let more = match self.non_finite.len() - 1 {
            0 => String::new(),
            1 => "; and so is 1 more head".to_owned(),
            more => format!("; and so are {more} more heads"),
        };
        Some(format!("{}{more}", non_finite_words(*head, *query)))
    }

    /// One head's weights, `[query, key]`.
    #[must_use]
    pub fn head(&self, head: HeadId) -> &[f32] {
        let size = self.tokens.len() * self.tokens.len();
        let start = (head.layer * self.heads + head.head) * size;
        &self.weights[start..start + size]
    }

    /// The weight with which `query` looks at `key`.
    #[must_use]
    pub fn weight(&self, head: HeadId, query: usize, key: usize) -> f32 {
        self.head(head)[query * self.tokens.len() + key]
    }
}

/// The first query, of weights `[query, key]` over so many tokens, that has one that is no number.
#[must_use]
pub fn first_non_finite(weights: &[f32], tokens: usize) -> Option<usize> {
    let is_finite = |row: &[f32]| row.iter().fold(true, |all, weight| all & weight.is_finite());
    weights.chunks_exact(tokens.max(1)).enumerate().position(|(query, row)| !is_finite(&row[..=query]))
}

/// `Layer 2, head 1: not a number from position 5 on`, for the screen, where all are counted from 1.
#[must_use]
pub fn non_finite_words(HeadId { layer, head }: HeadId, query: usize) -> String {
    format!("Layer {}, head {}: not a number from position {} on", layer + 1, head + 1, query + 1)
}

/// A piece of a sample, in order.
#[derive(Debug, Clone)]
pub enum SampleEvent {
    /// The prompt as the model sees it; `note` names what was left out.
    Started {
        id: u64,
        step: Step,
        /// What the model does without.
        switches: Switches,
        prompt: String,
        /// Its tokens, printable.
        tokens: Vec<String>,
        note: String,
    },
    Token {
        id: u64,
        token: SampledToken,
    },
    Done {
        id: u64,
        /// Why no more could be drawn, if that is so.
        trouble: Option<String>,
    },
}

/// A drawn token with the distribution it came from (before temperature, top-k and top-p).
#[derive(Debug, Clone, PartialEq)]
pub struct SampledToken {
    /// What this token makes certain: nothing while a character lacks bytes, all of it with the last of them.
    pub text: String,
    /// The token by itself, printable.
    pub label: String,
    pub id: u32,
    /// It stands beside the vocabulary, as what begins and ends a text does.
    pub special: bool,
    /// The text is at its end with it.
    pub ends: bool,
    pub probability: f32,
    /// The ten likeliest, best first, printable.
    pub alternatives: Vec<(String, f32)>,
    /// Where the heads looked when it was drawn, if that was recorded.
    pub attention: Option<Arc<TokenAttention>>,
}

/// The rows of attention that a token was drawn from: those of the token before it.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenAttention {
    /// The place in the text, prompt included, of the first token that was seen.
    pub start: usize,
    pub layers: usize,
    pub heads: usize,
    /// `[layer, head, key]`; the keys are the tokens from `start` to the one before the drawn one.
    pub weights: Vec<f32>,
}

impl TokenAttention {
    /// Tokens that were seen.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.weights.len() / (self.layers * self.heads).max(1)
    }

    /// Where one head looked.
    #[must_use]
    pub fn head(&self, head: HeadId) -> &[f32] {
        let keys = self.keys();
        let start = (head.layer * self.heads + head.head) * keys;
        self.weights.get(start..start + keys).unwrap_or(&[])
    }
}

/// Latest-value slot for what is looked at: the worker puts, the window takes; an older one not taken yet is dropped.
#[derive(Debug, Clone, Default)]
pub struct LookSlot(Arc<std::sync::Mutex<Option<Arc<Look>>>>);

impl LookSlot {
    pub fn put(&self, look: Look) {
        *self.lock() = Some(Arc::new(look));
    }

    #[must_use]
    pub fn take(&self) -> Option<Arc<Look>> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Look>>> {
        // A panic elsewhere cannot leave an Option half written.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
