//! What belongs to a run folder, and whether the folder is still the one that was opened.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::RunError;
use super::around::AROUND_FILE;
use crate::files::{self, Identity};

pub(super) const RECIPE_FILE: &str = "recipe.ron";
pub(super) const TOKENIZER_FILE: &str = "tokenizer.json";
pub(super) const LOG_FILE: &str = "metrics.jsonl";
pub(super) const ROLES_FILE: &str = "roles.jsonl";
/// The files of a run folder that are written as a whole, beside and renamed.
const WHOLE_FILES: [&str; 4] = [RECIPE_FILE, TOKENIZER_FILE, AROUND_FILE, ROLES_FILE];
/// The folders in a run folder.
pub(super) const CHECKPOINTS: &str = "checkpoint";
pub(super) const SNAPSHOTS: &str = "snapshots";
/// The ending of a file that is not whole yet.
pub(super) const PART: &str = ".part";

/// A run folder that is open: known by its log, whatever lies at its path later. Training in a folder that was moved or
/// deleted must not make another one there.
#[derive(Debug, Clone)]
pub struct Hold {
    pub(super) folder: PathBuf,
    log: Identity,
    /// Files without which it is no run any more.
    needed: Vec<&'static str>,
}

impl Hold {
    /// `log` is the open log's; `needed` are the files beside it without which the run cannot be opened.
    pub(super) fn new(folder: &Path, log: Identity, needed: Vec<&'static str>) -> Self {
        Self { folder: folder.to_owned(), log, needed }
    }

    /// The same folder, in another place now.
    pub(super) fn moved(self, folder: &Path) -> Self {
        Self { folder: folder.to_owned(), ..self }
    }

    /// Asked before each write: whether the folder is where it was, and still what can be opened as a run.
    ///
    /// # Errors
    /// [`RunError::Gone`] when it was moved, deleted or replaced, or what it cannot be opened without was.
    pub fn check(&self) -> Result<(), RunError> {
        let gone = |now: String| RunError::Gone { path: self.folder.clone(), now };
        if !is_log(&self.folder, self.log)? {
            return Err(gone(String::new()));
        }
        let kind = |name: &str| fs::symlink_metadata(self.folder.join(name)).map(|found| found.file_type());
        let is = |name: &str, right: fn(&fs::FileType) -> bool| match kind(name) {
            Ok(kind) => right(&kind),
            Err(cause) => !matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        };
        let files = self.needed.iter().find(|name| !is(name, fs::FileType::is_file));
        match files.or_else(|| (!is(CHECKPOINTS, fs::FileType::is_dir)).then_some(&CHECKPOINTS)) {
            Some(name) => Err(gone(format!(" (its own {name} is not in it any more)"))),
            None => Ok(()),
        }
    }

    /// As [`check`](Self::check), for a file in the folder or in one of its own folders.
    ///
    /// # Errors
    /// As there, or if that folder is a link.
    pub fn check_for(&self, path: &Path) -> Result<(), RunError> {
        self.check()?;
        match path.parent() {
            Some(inner) if inner != self.folder => require_folder(inner),
            _ => Ok(()),
        }
    }

    /// Whether the run's log lies in this folder.
    pub(super) fn is_at(&self, folder: &Path) -> Result<bool, RunError> {
        is_log(folder, self.log)
    }
}

fn is_log(folder: &Path, log: Identity) -> Result<bool, RunError> {
    let path = folder.join(LOG_FILE);
    match fs::symlink_metadata(&path) {
        Ok(found) => Ok(found.is_file() && Identity::of(&found) == log),
        Err(cause) if matches!(cause.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(cause) => Err(RunError::Io { path, cause }),
    }
}

/// Whether this is a folder, and no link to one.
fn require_folder(path: &Path) -> Result<(), RunError> {
    let kind = fs::symlink_metadata(path).map_err(RunError::io(path))?.file_type();
    if kind.is_dir() {
        return Ok(());
    }
    let what = if kind.is_symlink() { "a link" } else { "no folder" };
    let fault = format!("it is {what}, and a run folder's own folders lie in it: put the folder itself there");
    Err(RunError::Refused { path: path.to_owned(), fault })
}

/// Whether everything in a run folder that we read or write is a file or a folder of its own.
///
/// # Errors
/// Names the first thing that is none.
pub(super) fn refuse_strangers(run: &Path) -> Result<(), RunError> {
    for inner in [CHECKPOINTS, SNAPSHOTS].map(|name| run.join(name)) {
        match require_folder(&inner) {
            Err(error) if !error.is_absence() => return Err(error),
            _ => {}
        }
    }
    let checkpoints = [super::Kept::Last, super::Kept::Best].map(|kept| kept.path(run));
    let files = WHOLE_FILES.into_iter().chain([LOG_FILE]).map(|name| run.join(name));
    for path in files.chain(checkpoints) {
        if let Ok(found) = fs::symlink_metadata(&path) {
            files::require_regular(&found).map_err(RunError::file(&path))?;
        }
    }
    Ok(())
}

/// Makes the folders in a run folder that are not there.
///
/// # Errors
/// If they cannot be made; the run folder itself is never made here.
pub(super) fn make_folders(run: &Path) -> Result<(), RunError> {
    for inner in [CHECKPOINTS, SNAPSHOTS].map(|name| run.join(name)) {
        match fs::create_dir(&inner) {
            Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => {
                return Err(RunError::Io { path: inner, cause });
            }
            _ => {}
        }
    }
    Ok(())
}

/// The name behind one that a writer of ours gives to what is not whole yet: `recipe.ron` of `.recipe.ron.4711.part`, and of
/// a folder's `.run.4711-0.part`.
pub(super) fn unfinished(name: &str) -> Option<&str> {
    let (whole, process) = name.strip_prefix('.')?.strip_suffix(PART)?.rsplit_once('.')?;
    let (process, number) = process.split_once('-').unwrap_or((process, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (!whole.is_empty() && digits(process) && digits(number)).then_some(whole)
}

/// Takes away what an earlier program was killed in the middle of writing. The run's lock is ours: it is nobody's. What no
/// writer of ours can have left stays.
pub(super) fn clear_unfinished(run: &Path) {
    let step = |name: &str| name.starts_with("step-") && name.ends_with(".safetensors");
    let checkpoint = |name: &str| matches!(name, "last.safetensors" | "best.safetensors");
    let whole = |name: &str| WHOLE_FILES.contains(&name);
    type Ours<'a> = &'a dyn Fn(&str) -> bool;
    let folders: [(PathBuf, Ours<'_>); 3] =
        [(run.to_owned(), &whole), (run.join(CHECKPOINTS), &checkpoint), (run.join(SNAPSHOTS), &step)];
    for (folder, ours) in folders {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let written = name.to_str().and_then(unfinished).is_some_and(ours);
            // Asked of the entry itself, not of what a link leads to.
            if written && entry.file_type().is_ok_and(|kind| kind.is_file()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_our_writers_are_unfinished_files() {
        for (name, whole) in [
            (".recipe.ron.4711.part", Some("recipe.ron")),
            (".last.safetensors.1.part", Some("last.safetensors")),
            (".run.4711-3.part", Some("run")),
            ("thesis.part", None),
            (".thesis.part", None),
            (".thesis.txt.part", None),
            ("recipe.ron.4711.part", None),
            (".recipe.ron.4711.part.txt", None),
            (".4711.part", None),
            (".recipe.ron.47x1.part", None),
            (".recipe.ron.-1.part", None),
        ] {
            assert_eq!(unfinished(name), whole, "{name}");
        }
    }

    #[test]
    fn what_no_writer_of_ours_left_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        make_folders(folder.path()).expect("made");
        let ours = [
            ".recipe.ron.1.part",
            ".roles.jsonl.22.part",
            "checkpoint/.last.safetensors.1.part",
            "snapshots/.step-000010.safetensors.1.part",
        ];
        let strangers = [
            "thesis.part",
            ".film.mkv.part",
            ".film.mkv.4711.part",
            "checkpoint/download.part",
            "checkpoint/.recipe.ron.1.part",
            "snapshots/.last.safetensors.1.part",
        ];
        for name in ours.iter().chain(&strangers) {
            fs::write(path(name), "half").expect("written");
        }
        fs::create_dir(path(".tokenizer.json.1.part")).expect("made");
        clear_unfinished(folder.path());
        assert!(ours.iter().all(|name| !path(name).exists()));
        assert!(strangers.iter().all(|name| path(name).exists()) && path(".tokenizer.json.1.part").exists());
    }
}
