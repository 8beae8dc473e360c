//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::lab::protocol::ExportFormat;

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
    /// Take a run's model away.
    Export(ExportArguments),
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
    /// Stop after this step, to be resumed.
    #[arg(long)]
    pub stop_at: Option<u64>,
    /// auto, cpu, gpu, or part of an adapter's name.
    #[arg(long, default_value = "auto")]
    pub device: String,
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
    /// auto, cpu, gpu, or part of an adapter's name.
    #[arg(long, default_value = "cpu")]
    pub device: String,
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
pub struct ExportArguments {
    /// The run's folder.
    pub run: PathBuf,
    #[arg(long)]
    pub format: Format,
    /// The folder to write.
    #[arg(long)]
    pub out: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Format {
    /// The run folder as resume needs it.
    Checkpoint,
    /// model.safetensors, config.json and tokenizer.json, with nanoGPT's names.
    Safetensors,
}

impl From<Format> for ExportFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Checkpoint => Self::Checkpoint,
            Format::Safetensors => Self::Safetensors,
        }
    }
}

#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// auto, cpu, gpu, or part of an adapter's name.
    #[arg(long, default_value = "auto")]
    pub device: String,
    #[arg(long)]
    pub json: bool,
    /// Print this process's own list of adapters and end: what the parent process reads.
    #[arg(long, hide = true)]
    pub list: bool,
    /// Train a few steps on this adapter in this process and end: what the parent process watches.
    #[arg(long, hide = true)]
    pub probe: Option<String>,
}
