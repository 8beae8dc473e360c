//! The same jobs from the command line, fed by the same events as the window.

/// A line on standard output, with nothing in it that a terminal would obey. Unlike `println!` it reports a closed pipe as an
/// error, which `main` takes as the end.
macro_rules! say {
    () => {
        writeln!(std::io::stdout())?
    };
    ($($text:tt)*) => {
        writeln!(std::io::stdout(), "{}", $crate::headless::terminal::printed(&format!($($text)*)))?
    };
}

/// A line on standard error, likewise.
macro_rules! tell {
    ($($text:tt)*) => {
        eprintln!("{}", $crate::headless::terminal::printed(&format!($($text)*)))
    };
}

mod args;
mod insight;
mod progress;
mod questions;
mod terminal;
mod train;

pub use args::{Arguments, BenchArguments, BenchKind, Job, WindowArguments, no_utf8};
pub use terminal::printed;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;

use crate::runs;

/// Does one job and says how it ended.
///
/// # Errors
/// In words for the user; nothing was lost.
pub fn run(job: Job) -> Result<ExitCode> {
    if let Some(place) = job.makes_run_at() {
        // What killed programs were making among the runs, and beside this one.
        runs::clear_abandoned(&runs::default_root());
        runs::clear_abandoned(place.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new(".")));
    }
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
    runs::clear_abandoned(&runs::default_root());
    train::instead_of_window(arguments)
}
