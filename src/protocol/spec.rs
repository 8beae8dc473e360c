//! What a run is started with, and where its folder is to be.

use std::path::PathBuf;
use std::sync::Arc;

#[cfg(doc)]
use super::{Command, Outcome};

use super::{DeviceChoice, Step};
use crate::recipe::Recipe;

/// What to run.
#[derive(Debug, Clone)]
pub struct RunSpec {
    pub origin: Origin,
    pub device: DeviceChoice,
    /// Take the device although its test finds wrong numbers.
    pub insist: bool,
    /// Pause after this step although the recipe goes on; the schedule does not change.
    pub stop_at: Option<Step>,
    /// Wait for [`Command::Resume`] or [`Command::Step`] before the first step.
    pub start_paused: bool,
    /// Start although memory is tight, with a word; else such a run is not begun, and [`Outcome::Tight`] asks.
    pub despite_memory: bool,
    /// At most so many attention snapshots a second; 0 records none.
    pub attention_per_sec: f64,
}

/// Where a run comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    New {
        recipe: Box<Recipe>,
        place: Place,
    },
    /// A run folder, from its last checkpoint.
    Open {
        folder: PathBuf,
        /// Where its text lies now, if that has moved: taken if it is the same text.
        text: Option<PathBuf>,
    },
}

/// Where a new run is kept.
#[derive(Debug, Clone)]
pub enum Place {
    /// In this folder, which does not exist yet or is empty.
    At(PathBuf),
    /// In a new folder among the user's runs, named by the day and this.
    Named(String),
}

/// Called by the worker when there is something to take; must return at once.
pub type Wake = Arc<dyn Fn() + Send + Sync>;
