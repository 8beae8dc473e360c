//! The same jobs from the command line, fed by the same events as the window.

/// A line on standard output. Unlike `println!` it reports a closed pipe as an error, which `main` takes as the end.
macro_rules! say {
    ($($text:tt)*) => {
        writeln!(std::io::stdout(), $($text)*)?
    };
}

mod args;
mod insight;
mod progress;
mod questions;
mod train;

pub use args::{Arguments, BenchArguments, BenchKind, Job, WindowArguments};

use std::process::ExitCode;

use anyhow::Result;

/// Does one job and says how it ended.
///
/// # Errors
/// In words for the user; nothing was lost.
pub fn run(job: Job) -> Result<ExitCode> {
    match job {
        Job::Train(arguments) => train::train(arguments),
        Job::Resume(arguments) => train::resume(arguments),
        Job::Evaluate(arguments) => questions::evaluate(&arguments),
        Job::Sample(arguments) => questions::sample(&arguments),
        Job::Logits(arguments) => questions::logits(&arguments),
        Job::Attention(arguments) => questions::attention(&arguments),
        Job::Heads(arguments) => insight::heads(&arguments),
        Job::Effects(arguments) => insight::effects(&arguments),
        Job::Lens(arguments) => insight::lens(&arguments),
        Job::Page(arguments) => insight::page(&arguments),
        Job::Fork(arguments) => insight::fork(&arguments),
        Job::Prune(arguments) => insight::prune(&arguments),
        Job::Import(arguments) => questions::import(&arguments),
        Job::Parity(arguments) => questions::parity(&arguments),
        Job::Export(arguments) => questions::export(&arguments),
        Job::Bench(arguments) => questions::bench(&arguments),
        Job::Doctor(arguments) => questions::doctor(&arguments),
        #[cfg(feature = "gui")]
        Job::Screenshots { .. } => anyhow::bail!("the pictures are the window's to make"),
    }
}

/// Does in the terminal what the program does where there is no window: opens the run or trains the default preset.
///
/// # Errors
/// As [`run`].
pub fn instead_of_window(arguments: WindowArguments) -> Result<ExitCode> {
    train::instead_of_window(arguments)
}
