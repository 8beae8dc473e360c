//! The run folder: recipe, metrics log, checkpoints; and weights in the form that other programs open.
//!
//! ```text
//! runs/2026-11-22-first-light/
//!   recipe.ron                     format version, recipe, tokenizer, digest of the text
//!   tokenizer.json                 the tokenizer that came with the model, where one did
//!   metrics.jsonl                  one line an observation, appended, never rewritten
//!   checkpoint/last.safetensors    weights, both moments of each, and the step: what resume needs
//!   checkpoint/best.safetensors    the same at the lowest validation loss
//! ```
//!
//! Nothing that was there is replaced before the new thing is whole: files are written beside and renamed.

mod checkpoint;
mod export;
mod folder;
mod snapshots;
pub mod transformers;
mod weights;

pub use checkpoint::{Checkpoint, Owner, PreparedCheckpoint, TrainingState};
pub use export::export_safetensors;
pub use folder::{Curves, Kept, Parent, RunFile, RunFolder, copy_log, copy_run, default_root, new_folder, read_curves};
pub use snapshots::{
    cut_roles, find_snapshot, is_worth_keeping, kept_steps, log_roles, missed_least, read_roles, snapshot_path,
};

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

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
    #[error("{} has no {kept:?} checkpoint yet (there is one after the first evaluation)", path.display())]
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

    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::Io { path: path.to_owned(), cause }
    }

    fn damaged(path: &Path, fault: impl ToString) -> Self {
        Self::Damaged { path: path.to_owned(), fault: fault.to_string() }
    }
}

/// What is said of a file that is larger than the memory that is free.
const NO_MEMORY: &str = "there is not enough memory for it: close other programs";

/// The ending of a file that is not whole yet.
const PART: &str = ".part";

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
        let mut file = File::create(&beside)?;
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

/// A folder beside `path` to make something whole in that is then renamed: new, and nobody else's.
pub(crate) fn folder_beside(path: &Path) -> Result<PathBuf, RunError> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let parent = path.parent().unwrap_or(Path::new(""));
    if !parent.as_os_str().is_empty() {
        fs::create_dir_all(parent).map_err(RunError::io(parent))?;
    }
    for number in 0..1000 {
        let beside = path.with_file_name(format!(".{name}.{}-{number}{PART}", std::process::id()));
        match fs::create_dir(&beside) {
            Ok(()) => return Ok(beside),
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists => {}
            Err(cause) => return Err(RunError::Io { path: path.to_owned(), cause }),
        }
    }
    Err(RunError::Occupied { path: path.to_owned() })
}

/// Makes `path`, which is not there or is an empty folder, of a folder beside it. The latter is gone afterwards, whether or
/// not that could be done.
pub(crate) fn put_in_place(beside: &Path, path: &Path) -> Result<(), RunError> {
    // An empty folder of that name may be there.
    let _ = fs::remove_dir(path);
    fs::rename(beside, path).map_err(|cause| {
        let _ = fs::remove_dir_all(beside);
        RunError::Io { path: path.to_owned(), cause }
    })
}

/// Reads a file whose size is checked before memory is taken for it.
fn read_bounded(path: &Path, bytes_max: u64) -> Result<Vec<u8>, RunError> {
    // Asked before opening: opening a pipe would wait for its other end.
    let metadata = fs::metadata(path).map_err(RunError::io(path))?;
    if !metadata.is_file() {
        return Err(RunError::damaged(path, "it is not a file"));
    }
    if metadata.len() > bytes_max {
        return Err(RunError::damaged(path, format!("{} bytes are too many for such a file", metadata.len())));
    }
    let file = File::open(path).map_err(RunError::io(path))?;
    let mut bytes = Vec::new();
    // A byte more, or the end of the file would not be met without taking twice the memory.
    let room = usize::try_from(metadata.len()).unwrap_or(usize::MAX).saturating_add(1);
    bytes.try_reserve_exact(room).map_err(|_| RunError::damaged(path, NO_MEMORY))?;
    file.take(bytes_max).read_to_end(&mut bytes).map_err(RunError::io(path))?;
    Ok(bytes)
}
