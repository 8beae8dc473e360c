//! The run folder: recipe, metrics log, checkpoints; and weights in the form that other programs open.
//!
//! ```text
//! runs/2026-11-22-first-light/
//!   recipe.ron                     format version, recipe, tokenizer, digest of the text
//!   tokenizer.json                 the tokenizer that came with the model, where one did
//!   around.json                    what else came with it: tokens that end a text, templates
//!   metrics.jsonl                  one line an observation, appended, never rewritten
//!   roles.jsonl                    what the heads did at the kept steps
//!   checkpoint/last.safetensors    weights, both moments of each, and the step: what resume needs
//!   checkpoint/best.safetensors    the same at the lowest validation loss
//!   snapshots/                     the kept steps of the timeline
//! ```
//!
//! Nothing that was there is replaced before the new thing is whole: files are written beside and renamed; whole folders and
//! what is taken away are made in a hidden folder beside their place (`part.rs`). An open folder is held by its log: one that
//! was moved, deleted or replaced is not written to, and no part of it is made anew. In it are files and folders of its own,
//! no links, pipes or devices; what lies there beside is left alone.
//!
//! ```
//! use headlight::protocol::{Step, StepReport};
//! use headlight::preset;
//! use headlight::runs::{RunFile, RunFolder, read_curves};
//! use headlight::text::Dataset;
//!
//! let text = Dataset::from_text("a rhyme", "one for sorrow, two for joy")?;
//! let file = RunFile::new(preset::first().recipe, text.tokenizer, text.digest);
//! # let home = tempfile::tempdir()?;
//! # let path = home.path().join("rhyme");
//! let mut run = RunFolder::create(&path, file)?;
//! let (loss, learning_rate, gradient_norm, elapsed_secs, tokens_per_sec) = (4.2, 1e-3, 1.0, 0.1, 5000.0);
//! run.log_step(StepReport { step: Step(1), loss, learning_rate, gradient_norm, elapsed_secs, tokens_per_sec })?;
//! run.flush()?;
//!
//! // Others may read it meanwhile; only one program at a time may train in it.
//! assert_eq!(read_curves(&path)?.steps[0].loss, 4.2);
//! assert!(RunFolder::open(&path).unwrap_err().to_string().contains("is open in another Headlight"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod around;
mod checkpoint;
mod curves;
mod export;
mod folder;
mod hold;
mod identity;
mod log;
mod part;
mod snapshots;
mod state;
pub mod tensors;
pub mod transformers;
mod weights;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use around::Around;
pub use checkpoint::{Checkpoint, Owner, PreparedCheckpoint};
pub use curves::{Curves, copy_log, read_curves};
pub use export::export_safetensors;
pub use folder::{Kept, Parent, RunFile, RunFolder, copy_run, default_root, new_folder, path_of};
pub use hold::Hold;
pub use log::Gap;
pub use part::{clear_abandoned, write_file};
pub use snapshots::{find_snapshot, is_worth_keeping, kept_steps, missed_least, read_roles, snapshot_path};
pub use state::TrainingState;

pub(crate) use part::{Part, whole_folder};

use crate::files::{self, FileFault, Links};

/// Something is wrong with a file of a run. Every message names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("{}: there is no such folder", path.display())]
    Missing { path: PathBuf },
    #[error("{} is not a run folder: it holds no recipe.ron", path.display())]
    NotARun { path: PathBuf },
    #[error("{} is there already and not empty: name another folder (a run in it can be resumed)", path.display())]
    Occupied { path: PathBuf },
    #[error("{} is open in another Headlight: close it there first", path.display())]
    Locked { path: PathBuf },
    #[error("{}: {fault}", path.display())]
    Damaged { path: PathBuf, fault: String },
    /// It is not what a run folder holds, or of a newer program: nothing stands in for it and nothing replaces it.
    #[error("{}: {fault}", path.display())]
    Refused { path: PathBuf, fault: String },
    #[error("{} is no longer the folder of this run: it was moved, deleted or replaced{now}", path.display())]
    Gone { path: PathBuf, now: String },
    #[error("{} has no {kept} checkpoint yet (there is one after the first evaluation)", path.display())]
    NoCheckpoint { path: PathBuf, kept: Kept },
    #[error("{} does not keep step {step}: {kept}", path.display())]
    NotKept { path: PathBuf, step: u64, kept: String },
}

impl RunError {
    /// Whether nothing more could be written for want of room.
    #[must_use]
    pub fn disk_is_full(&self) -> bool {
        matches!(self, Self::Io { cause, .. }
            if matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// Whether the file is there and no good, so that an older one may stand in for it.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }

    /// Whether the file is not there.
    #[must_use]
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Io { cause, .. } if cause.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the run's folder is not where it was.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        matches!(self, Self::Gone { .. })
    }

    fn file(path: &Path) -> impl FnOnce(FileFault) -> Self {
        move |fault| match fault {
            FileFault::Io(cause) => Self::Io { path: path.to_owned(), cause },
            other => Self::Refused { path: path.to_owned(), fault: other.to_string() },
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { path: path.to_owned(), cause }
    }

    fn damaged(path: &Path, fault: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), fault: fault.to_string() }
    }
}

use hold::PART;

/// Writes a whole file so that a reader sees the old one or the new one, also after `kill -9` or a full disk.
///
/// # Errors
/// If the folder cannot be written to; then the old file is untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    put(path, bytes, true)
}

/// Writes a whole file so that a reader sees the old one or the new one, also after `kill -9`. It does not wait for the disk:
/// after a power cut the file may be damaged, which its digest tells.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    put(path, bytes, false)
}

fn put(path: &Path, bytes: &[u8], wait: bool) -> Result<(), RunError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = path.with_file_name(format!(".{name}.{}{PART}", std::process::id()));
    let write = || {
        // Nothing that lies there is written through: a link would lead elsewhere. Of that name it is ours to take away.
        let create = || fs::File::create_new(&beside);
        let mut file = match create() {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&beside)?;
                create()?
            }
            created => created?,
        };
        file.write_all(bytes)?;
        if wait {
            file.sync_all()?;
        }
        fs::rename(&beside, path)
    };
    write().map_err(|cause| {
        let _ = fs::remove_file(&beside);
        RunError::Io { path: path.to_owned(), cause }
    })
}

/// Reads a file of the user's, which may be a link, after its size is checked.
fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, RunError> {
    files::read(path, Links::Followed, bytes_max).map_err(RunError::file(path))
}

/// Reads a file of a run folder, where no links are, after its size is checked.
fn read_own(path: &Path, bytes_max: u64) -> Result<Vec<u8>, RunError> {
    files::read(path, Links::Refused, bytes_max).map_err(RunError::file(path))
}
