//! The command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::protocol::Family;

/// Headlight: build a small GPT, train it on your own text, and watch every attention head learn.
///
/// Without a command the window opens.
#[derive(Debug, Parser)]
#[command(name = "headlight", version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub job: Option<Job>,
    #[command(flatten)]
    pub window: WindowArguments,
}

/// What the window starts with.
#[derive(Debug, Args)]
pub struct WindowArguments {
    /// A run folder to open in the window.
    #[arg(long)]
    pub open: Option<PathBuf>,
    /// auto, cpu, gpu, or part of an adapter's name.
    #[arg(long)]
    pub device: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Job {
    /// Train a new model.
    Train(TrainArguments),
    /// Go on with a run from its last checkpoint.
    Resume(ResumeArguments),
    /// Loss over the whole validation part of the text.
    Evaluate(EvaluateArguments),
    /// Write text.
    Sample(SampleArguments),
    /// The logits after each token of a prompt.
    Logits(PromptArguments),
    /// The attention of every head on a prompt.
    Attention(PromptArguments),
    /// What each head does: role scores on a prompt, or on the standard test (random tokens twice).
    Heads(HeadsArguments),
    /// Validation loss without each head and each MLP, less the loss.
    Effects(EffectsArguments),
    /// The prediction after each layer (logit lens), and the parts of a logit.
    Lens(LensArguments),
    /// Write an HTML page of what every head does on a prompt: one file that opens in any browser, also offline.
    Page(PageArguments),
    /// Make a run that goes on from a kept step of another.
    Fork(ForkArguments),
    /// Make a run without some heads of another's model.
    Prune(PruneArguments),
    /// Make a run of a model in Hugging Face's folder format.
    Import(ImportArguments),
    /// Compare a model's folder with the reference of another program in it.
    Parity(ParityArguments),
    /// Take a run's model away.
    Export(ExportArguments),
    /// Time training steps, sampled tokens, training that is watched, or the window, on this machine.
    Bench(BenchArguments),
    /// What this machine can compute on, what would be chosen, and why.
    Doctor(DoctorArguments),
    /// Make the pictures of the README from the program as it is.
    #[cfg(feature = "gui")]
    Screenshots {
        /// The folder to write.
        #[arg(long, default_value = "screenshots")]
        out: PathBuf,
    },
}

/// What to say where an argument has to be text and is not: which those are. A path need not be text.
#[must_use]
pub fn no_utf8(arguments: impl Iterator<Item = OsString>) -> String {
    let (mut before, mut named) = (String::new(), Vec::new());
    for argument in arguments {
        let shown = argument.to_string_lossy().into_owned();
        if argument.to_str().is_none() {
            let option = if before.starts_with('-') { format!("{before} ") } else { String::new() };
            named.push(format!("{option}{shown}"));
        }
        before = shown;
    }
    format!("what is to be text is not UTF-8: {}", named.join(", "))
}

impl Job {
    /// The folder of the run that it makes or goes on with, if it does.
    #[must_use]
    pub fn makes_run_at(&self) -> Option<&Path> {
        match self {
            Self::Train(arguments) => Some(&arguments.out),
            Self::Resume(arguments) => Some(&arguments.run),
            Self::Fork(arguments) => Some(&arguments.out),
            Self::Prune(arguments) => Some(&arguments.out),
            Self::Import(arguments) => Some(&arguments.out),
            _ => None,
        }
    }
}

#[derive(Debug, Args)]
pub struct TrainArguments {
    /// A built-in preset by name.
    #[arg(long, conflicts_with = "recipe")]
    pub preset: Option<String>,
    /// A preset file (RON).
    #[arg(long)]
    pub recipe: Option<PathBuf>,
    /// The text to learn from, instead of the preset's.
    #[arg(long)]
    pub text: Option<PathBuf>,
    /// Length of the run; the learning rate's schedule ends here.
    #[arg(long)]
    pub steps: Option<u64>,
    /// Stop after this step, to be resumed.
    #[arg(long)]
    pub stop_at: Option<u64>,
    #[arg(long)]
    pub seed: Option<u64>,
    /// auto, cpu, gpu, or part of an adapter's name.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Use the device although its test finds wrong numbers.
    #[arg(long)]
    pub insist: bool,
    /// The run's folder; it must not exist yet, or be empty.
    #[arg(long)]
    pub out: PathBuf,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ResumeArguments {
    /// The run's folder.
    pub run: PathBuf,
    /// Where the text that the run learns from lies now, if it has moved; it must be the same text.
    #[arg(long)]
    pub text: Option<PathBuf>,
    /// Stop after this step, to be resumed.
    #[arg(long)]
    pub stop_at: Option<u64>,
    /// auto, cpu, gpu, or part of an adapter's name.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// Use the device although its test finds wrong numbers.
    #[arg(long)]
    pub insist: bool,
    /// Print one JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// Which model of a run, and on what.
#[derive(Debug, Args)]
pub struct ModelArguments {
    /// The run's folder.
    pub run: PathBuf,
    /// Take the checkpoint with the lowest validation loss instead of the last.
    #[arg(long)]
    pub best: bool,
    /// Take this step of the timeline.
    #[arg(long, conflicts_with = "best")]
    pub step: Option<u64>,
    /// auto, cpu, gpu, or part of an adapter's name.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Leave out what the model's tokenizer puts around a text, as a begin token. Token numbers never get any.
    #[arg(long)]
    pub no_special_tokens: bool,
}

#[derive(Debug, Args)]
pub struct EvaluateArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// Another text; its last tenth is evaluated.
    #[arg(long)]
    pub text: Option<PathBuf>,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct SampleArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    #[arg(long)]
    pub prompt: String,
    #[arg(long)]
    pub tokens: Option<usize>,
    #[arg(long)]
    pub temperature: Option<f64>,
    /// 0 means all.
    #[arg(long)]
    pub top_k: Option<usize>,
    #[arg(long)]
    pub top_p: Option<f64>,
    #[arg(long)]
    pub seed: Option<u64>,
    /// Write control characters as they are, where a program and no terminal reads them.
    #[arg(long)]
    pub raw: bool,
    /// Go on after a token that ends a text.
    #[arg(long, alias = "no-stop")]
    pub ignore_eos: bool,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct PromptArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    #[arg(long, conflicts_with = "ids", required_unless_present = "ids")]
    pub prompt: Option<String>,
    /// Token numbers, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub ids: Option<Vec<u32>>,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct HeadsArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// Score the heads on this text instead of the standard test.
    #[arg(long, conflicts_with = "ids")]
    pub prompt: Option<String>,
    /// Score the heads on these token numbers, separated by commas.
    #[arg(long, value_delimiter = ',')]
    pub ids: Option<Vec<u32>>,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct EffectsArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// What a part that is switched off writes instead: nothing, or its mean.
    #[arg(long, default_value = "zero")]
    pub off: OffName,
    /// Another text; its last tenth is measured on.
    #[arg(long)]
    pub text: Option<PathBuf>,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum OffName {
    Zero,
    Mean,
}

#[derive(Debug, Args)]
pub struct LensArguments {
    #[command(flatten)]
    pub prompt: PromptArguments,
    /// Also take apart the logit after this position, counted from 0.
    #[arg(long)]
    pub attribute: Option<usize>,
    /// The number of the token whose logit that is; else the likeliest one's.
    #[arg(long, requires = "attribute")]
    pub token: Option<u32>,
}

#[derive(Debug, Args)]
pub struct PageArguments {
    #[command(flatten)]
    pub prompt: PromptArguments,
    /// The file to write.
    #[arg(long)]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct ForkArguments {
    /// The run's folder.
    pub run: PathBuf,
    /// A step of its timeline.
    #[arg(long)]
    pub step: u64,
    /// Train as this preset file says, instead of as the run did.
    #[arg(long)]
    pub recipe: Option<PathBuf>,
    /// Length of the run; the learning rate's schedule ends here.
    #[arg(long)]
    pub steps: Option<u64>,
    /// A new peak of the learning rate's schedule, whose shape stays.
    #[arg(long)]
    pub learning_rate: Option<f64>,
    /// Another order of the data.
    #[arg(long)]
    pub seed: Option<u64>,
    /// The new run's folder; it must not exist yet, or be empty.
    #[arg(long)]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct PruneArguments {
    #[command(flatten)]
    pub model: ModelArguments,
    /// The heads that go, as layer.head counted from 1, separated by commas: 1.2,3.4
    #[arg(long, value_delimiter = ',', required = true)]
    pub heads: Vec<String>,
    /// What they wrote is missing, or its mean goes on in a bias.
    #[arg(long, default_value = "zero")]
    pub off: OffName,
    /// The new run's folder; it must not exist yet, or be empty.
    #[arg(long)]
    pub out: PathBuf,
}

#[derive(Debug, Args)]
pub struct ImportArguments {
    /// The folder with config.json and model.safetensors (GPT-2, OPT, Llama or Phi-3).
    pub model: PathBuf,
    /// The run's folder; it must not exist yet, or be empty.
    #[arg(long)]
    pub out: PathBuf,
    /// The text that the model can be trained on further; else the built-in dialogues.
    #[arg(long)]
    pub text: Option<PathBuf>,
    /// How many tokens the model sees at once, where its positions are rotary.
    #[arg(long)]
    pub context: Option<usize>,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ParityArguments {
    /// The folder with config.json, model.safetensors and reference.safetensors (see tests/golden/make.py).
    pub folder: PathBuf,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ExportArguments {
    /// The run's folder.
    pub run: PathBuf,
    #[arg(long)]
    pub format: Format,
    /// With --format hf: as which family, where a model fits into two.
    #[arg(long)]
    pub family: Option<FamilyName>,
    /// Take the checkpoint with the lowest validation loss instead of the last.
    #[arg(long)]
    pub best: bool,
    /// The folder to write.
    #[arg(long)]
    pub out: PathBuf,
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, ValueEnum)]
pub enum Format {
    /// The run folder as resume needs it.
    Checkpoint,
    /// model.safetensors, config.json and tokenizer.json, with nanoGPT's names.
    Safetensors,
    /// A folder that Hugging Face's transformers opens, read back and compared.
    Hf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FamilyName {
    Gpt2,
    Opt,
    Llama,
    Phi3,
}

impl From<FamilyName> for Family {
    fn from(name: FamilyName) -> Self {
        match name {
            FamilyName::Gpt2 => Self::Gpt2,
            FamilyName::Opt => Self::Opt,
            FamilyName::Llama => Self::Llama,
            FamilyName::Phi3 => Self::Phi3,
        }
    }
}

#[derive(Debug, Args)]
pub struct BenchArguments {
    pub what: BenchKind,
    /// The preset whose model is timed, in the sizes below.
    #[arg(long, default_value = "nanogpt-cpu")]
    pub preset: String,
    #[arg(long)]
    pub layers: Option<usize>,
    #[arg(long)]
    pub heads: Option<usize>,
    #[arg(long)]
    pub width: Option<usize>,
    #[arg(long)]
    pub context: Option<usize>,
    #[arg(long)]
    pub batch: Option<usize>,
    /// Distinct tokens of the text, at most 20,000.
    #[arg(long, default_value_t = 65, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub vocabulary: u32,
    /// Training steps; the first ten are not counted.
    #[arg(long, default_value_t = 110)]
    pub steps: usize,
    /// auto, cpu, gpu, or part of an adapter's name.
    #[arg(long, default_value = "cpu")]
    pub device: String,
    /// Threads of the CPU's operations; else all cores.
    #[arg(long)]
    pub threads: Option<usize>,
    #[arg(long)]
    pub json: bool,
    /// Make the window's first frame and end: what the process that times it waits for.
    #[arg(long, hide = true)]
    pub first_frame: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchKind {
    /// Training steps.
    Train,
    /// Tokens drawn one after the other.
    Sample,
    /// Training with the attention shown ten times a second, and without.
    Watch,
    /// The window's frames, its start, and what it takes at rest.
    Ui,
    /// Each of these.
    All,
}

impl BenchKind {
    /// Whether the window has a part in it, which is not the command line's to measure.
    #[must_use]
    pub fn includes_window(self) -> bool {
        matches!(self, Self::Ui | Self::All)
    }
}

#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// auto, cpu, gpu, or part of an adapter's name.
    #[arg(long, default_value = "auto")]
    pub device: String,
    /// The preset whose model the device is tested with.
    #[arg(long, conflicts_with = "recipe")]
    pub preset: Option<String>,
    /// A preset file whose model the device is tested with.
    #[arg(long)]
    pub recipe: Option<PathBuf>,
    #[arg(long)]
    pub json: bool,
    /// Say what a run with --insist would take.
    #[arg(long)]
    pub insist: bool,
    /// Have one operation compute wrongly on the device, to see that the test finds it.
    #[arg(long, hide = true)]
    pub fault: bool,
    /// Print this process's own list of adapters and end: what the parent process reads.
    #[arg(long, hide = true)]
    pub list: bool,
    /// Test this adapter in this process and end: what the parent process watches.
    #[arg(long, hide = true, requires = "trial")]
    pub probe: Option<String>,
    /// What it is tested with.
    #[arg(long, hide = true)]
    pub trial: Option<String>,
}
