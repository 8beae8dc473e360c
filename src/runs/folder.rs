//! One run's folder on disk, and the log of what was observed.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::around::{AROUND_FILE, Around};
use super::hold::{
    CHECKPOINTS, Hold, LOG_FILE, RECIPE_FILE, ROLES_FILE, SNAPSHOTS, TOKENIZER_FILE, clear_unfinished, make_folders,
    refuse_strangers, unfinished,
};
use super::log::{Gap, LOG_BYTES_MAX, Line, Log};
use super::part::MadeFolders;
use super::{RunError, checkpoint, read_own, whole_folder, write_atomic};
use crate::files::{self, FileFault, Links};
use crate::protocol::{Place, Step, StepReport, ValidationReport};
use crate::recipe::{Recipe, TextSource, kept_path};
use crate::text::{CharTokenizer, TOKENIZER_BYTES_MAX, Tokenizer, VOCABULARY_MAX};

/// In format 1 every tokenizer was one of characters, and stood there as their string.
const FORMAT: u32 = 2;
/// A recipe with the largest vocabulary stays well under this.
const RECIPE_BYTES_MAX: u64 = 16 << 20;

/// What the run was made from: `recipe.ron`, and `tokenizer.json` where there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFile {
    pub recipe: Recipe,
    pub tokenizer: Tokenizer,
    /// What tells its text from others: as [`Dataset::digest`](crate::text::Dataset::digest), in older runs SHA-256 of the
    /// file as it lay there.
    pub text_digest: String,
    /// Where it was forked from; a name alone where that is not known to this machine.
    pub parent: Option<Parent>,
    /// What came with the model, where it was imported.
    pub around: Around,
}

/// A moment of another run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    #[serde(with = "kept_path")]
    pub run: PathBuf,
    pub step: Step,
}

/// `recipe.ron` as it is written; `T` is [`KeptTokenizer`], in format 1 the characters alone.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored<T> {
    format: u32,
    pub(super) recipe: Recipe,
    tokenizer: T,
    text_digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<Parent>,
}

#[derive(Serialize, Deserialize)]
pub(super) enum KeptTokenizer {
    Characters(CharTokenizer),
    /// It lies beside, as `tokenizer.json`.
    Bpe {
        rows: usize,
    },
    Numbers(usize),
}

#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl RunFile {
    #[must_use]
    pub fn new(recipe: Recipe, tokenizer: Tokenizer, text_digest: String) -> Self {
        Self { recipe, tokenizer, text_digest, parent: None, around: Around::default() }
    }

    fn read(folder: &Path) -> Result<Self, RunError> {
        let Stored { mut recipe, tokenizer, text_digest, parent, .. } = Stored::read(folder)?;
        let tokenizer = match tokenizer {
            KeptTokenizer::Characters(characters) => Tokenizer::Characters(characters),
            KeptTokenizer::Numbers(rows) => Tokenizer::Numbers(rows),
            KeptTokenizer::Bpe { rows } => {
                let path = folder.join(TOKENIZER_FILE);
                let json = read_own(&path, TOKENIZER_BYTES_MAX)?;
                Tokenizer::from_json(&json, rows).map_err(|fault| RunError::damaged(&path, fault))?
            }
        };
        let absolute = std::path::absolute(folder).map_err(RunError::io(folder))?;
        // What was given away says the text's name alone: it may lie in the folder.
        if let TextSource::File(path) = &mut recipe.data.text
            && path.is_relative()
        {
            *path = absolute.join(&*path);
        }
        let parent = parent.map(|parent| match parent.run.strip_prefix("..") {
            Ok(name) => Parent { run: absolute.with_file_name(name), ..parent },
            Err(_) => parent,
        });
        let around = Around::read(folder, tokenizer.vocabulary())?;
        Ok(Self { recipe, tokenizer, text_digest, parent, around })
    }

    /// What may be given away: nothing of this machine, of the text and the parent only their names.
    fn without_places(&self) -> Self {
        let name = |path: &Path| PathBuf::from(path.file_name().unwrap_or_default());
        let mut given = self.clone();
        if let TextSource::File(path) = &mut given.recipe.data.text {
            *path = name(path);
        }
        given.parent = given.parent.map(|parent| Parent { run: name(&parent.run), ..parent });
        given
    }

    /// Writes it into the folder of a new run.
    fn write(&self, folder: &Path) -> Result<(), RunError> {
        let tokenizer = match &self.tokenizer {
            Tokenizer::Characters(characters) => KeptTokenizer::Characters(characters.clone()),
            Tokenizer::Numbers(rows) => KeptTokenizer::Numbers(*rows),
            Tokenizer::Bpe(bpe) => {
                write_atomic(&folder.join(TOKENIZER_FILE), bpe.json().as_bytes())?;
                KeptTokenizer::Bpe { rows: bpe.vocabulary() }
            }
        };
        self.around.write(folder)?;
        let Self { recipe, text_digest, parent, .. } = self.clone();
        let parent = parent.map(|parent| parent.seen_from(folder)).transpose()?;
        let stored = Stored { format: FORMAT, recipe, tokenizer, text_digest, parent };
        let path = folder.join(RECIPE_FILE);
        let text = ron::ser::to_string_pretty(&stored, ron::ser::PrettyConfig::default());
        let text = text.map_err(|error| RunError::damaged(&path, error))?;
        // It comes last: with it the folder is a run, that has not begun.
        write_atomic(&path, text.as_bytes())
    }
}

impl Parent {
    /// As it is kept in the folder of a run: one that lies beside by a path that needs neither this machine nor its user's
    /// name, any other by its name alone. A relative one is so already.
    ///
    /// # Errors
    /// If `folder` is relative and there is no current folder.
    pub fn seen_from(self, folder: &Path) -> Result<Self, RunError> {
        if self.run.is_relative() {
            return Ok(self);
        }
        let name = self.run.file_name().unwrap_or_default();
        let absolute = std::path::absolute(folder).map_err(RunError::io(folder))?;
        let beside = self.run.parent() == absolute.parent();
        Ok(Self { run: if beside { Path::new("..").join(name) } else { PathBuf::from(name) }, ..self })
    }
}

impl Stored<KeptTokenizer> {
    pub(super) fn read(folder: &Path) -> Result<Self, RunError> {
        let path = folder.join(RECIPE_FILE);
        if !folder.is_dir() {
            return Err(RunError::Missing { path: folder.to_owned() });
        }
        if fs::symlink_metadata(&path).is_err_and(|cause| cause.kind() == std::io::ErrorKind::NotFound) {
            return Err(RunError::NotARun { path: folder.to_owned() });
        }
        refuse_strangers(folder)?;
        let bytes = read_own(&path, RECIPE_BYTES_MAX)?;
        let stored = match ron::de::from_bytes::<Version>(&bytes) {
            Ok(Version { format: 1 }) => {
                let Stored { format, recipe, tokenizer, text_digest, parent } =
                    Stored::<CharTokenizer>::parse(&path, &bytes)?;
                Self { format, recipe, tokenizer: KeptTokenizer::Characters(tokenizer), text_digest, parent }
            }
            Ok(Version { format }) if format != FORMAT => {
                let fault = format!("run format {format} is not known to this program (it reads 1 to {FORMAT})");
                return Err(RunError::damaged(&path, fault));
            }
            _ => Self::parse(&path, &bytes)?,
        };
        let rows = match &stored.tokenizer {
            KeptTokenizer::Characters(characters) => characters.vocabulary(),
            KeptTokenizer::Bpe { rows } | KeptTokenizer::Numbers(rows) => *rows,
        };
        if !(1..=VOCABULARY_MAX).contains(&rows) {
            let fault = format!("a tokenizer of {rows} rows is impossible (there are 1 to {VOCABULARY_MAX})");
            return Err(RunError::damaged(&path, fault));
        }
        match stored.recipe.validate(Some(rows)).first() {
            Some(fault) => Err(RunError::damaged(&path, fault)),
            None => Ok(stored),
        }
    }
}

impl<T: DeserializeOwned> Stored<T> {
    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, RunError> {
        ron::de::from_bytes(bytes).map_err(|error| RunError::damaged(path, error))
    }
}

/// Whether this is what a program leaves that was killed before its run was one: with the recipe the folder would be a run.
fn is_begun(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    match name.to_str() {
        Some(CHECKPOINTS | SNAPSHOTS) => {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            is_folder && fs::read_dir(entry.path()).is_ok_and(|mut entries| entries.next().is_none())
        }
        Some(LOG_FILE) => entry.metadata().is_ok_and(|found| found.is_file() && found.len() == 0),
        name => name.and_then(unfinished).is_some(),
    }
}

/// An open run folder. Only one at a time can hold it: the log is locked.
#[derive(Debug)]
pub struct RunFolder {
    hold: Hold,
    pub file: RunFile,
    log: Log,
}

impl RunFolder {
    /// Makes the folder of a new run.
    ///
    /// # Errors
    /// If something is there already, or it cannot be made.
    pub fn create(path: &Path, file: RunFile) -> Result<Self, RunError> {
        Self::refuse_occupied(path)?;
        let mut made = MadeFolders::make(path)?;
        // Whoever holds the log is first here: of two programs the other one leaves all as it is.
        let log = Log::open(path)?;
        let begin = || {
            Self::refuse_occupied(path)?;
            make_folders(path)?;
            file.write(path)?;
            Self::with_log(path, file, log)
        };
        let folder = begin().inspect_err(|error| {
            // A run that could not be begun leaves nothing.
            let ours: &[&str] = match error {
                // Something was put there meanwhile: perhaps a run.
                RunError::Occupied { .. } if path.join(RECIPE_FILE).exists() => return,
                RunError::Occupied { .. } => &[LOG_FILE],
                _ => &[RECIPE_FILE, TOKENIZER_FILE, AROUND_FILE, LOG_FILE],
            };
            for name in ours {
                let _ = fs::remove_file(path.join(name));
            }
            for name in [CHECKPOINTS, SNAPSHOTS] {
                let _ = fs::remove_dir(path.join(name));
            }
        })?;
        made.keep();
        Ok(folder)
    }

    /// Whether a new run may be kept here.
    ///
    /// # Errors
    /// If something is there already.
    pub fn refuse_occupied(path: &Path) -> Result<(), RunError> {
        let occupied = fs::read_dir(path).is_ok_and(|entries| entries.flatten().any(|entry| !is_begun(&entry)));
        if occupied || (fs::symlink_metadata(path).is_ok() && !path.is_dir()) {
            Err(RunError::Occupied { path: path.to_owned() })
        } else {
            Ok(())
        }
    }

    /// Opens the folder of an older run.
    ///
    /// # Errors
    /// If it is no run, is damaged, holds what is no file of its own, or is open elsewhere.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        let file = RunFile::read(path)?;
        let folder = Self::with_log(path, file, Log::open(path)?)?;
        clear_unfinished(path);
        make_folders(path)?;
        Ok(folder)
    }

    fn with_log(path: &Path, file: RunFile, log: Log) -> Result<Self, RunError> {
        let mut needed = vec![RECIPE_FILE];
        if matches!(file.tokenizer, Tokenizer::Bpe(_)) {
            needed.push(TOKENIZER_FILE);
        }
        Ok(Self { hold: Hold::new(path, log.identity(path)?, needed), file, log })
    }

    /// Reads what a run was made from without locking it: for looking at it while it trains.
    ///
    /// # Errors
    /// If it is no run or is damaged.
    pub fn read(path: &Path) -> Result<RunFile, RunError> {
        RunFile::read(path)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.hold.folder
    }

    /// What is asked before something is written into the folder.
    #[must_use]
    pub const fn hold(&self) -> &Hold {
        &self.hold
    }

    /// Whether the folder is where it was; where it is not, says where it lies now if the system knows.
    ///
    /// # Errors
    /// [`RunError::Gone`] when it was moved, deleted or replaced.
    pub fn check(&self) -> Result<(), RunError> {
        self.hold.check().map_err(|error| match error {
            RunError::Gone { path, now } if now.is_empty() => {
                let now = self.found().map_or_else(String::new, |found| format!(" (it is {} now)", found.display()));
                RunError::Gone { path, now }
            }
            error => error,
        })
    }

    /// Where the folder lies now, by the log that is open.
    fn found(&self) -> Option<PathBuf> {
        #[cfg(target_os = "linux")]
        {
            use std::os::fd::AsRawFd;
            let log = fs::read_link(format!("/proc/self/fd/{}", self.log.file.as_raw_fd())).ok()?;
            let folder = log.parent()?;
            self.hold.is_at(folder).is_ok_and(|is_there| is_there).then(|| folder.to_owned())
        }
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// Goes on in another place: in this run's folder where that lies now, or else in a new folder, which gets all that is
    /// still known of the run. Steps that were kept before stay behind.
    ///
    /// # Errors
    /// If something else is there already, or it cannot be written.
    pub fn go_on_at(&mut self, path: &Path) -> Result<(), RunError> {
        if self.hold.is_at(path)? {
            self.hold = self.hold.clone().moved(path);
            return Ok(());
        }
        Self::refuse_occupied(path)?;
        let roles = self.found().map(|found| found.join(ROLES_FILE));
        let other = whole_folder(path, |part| {
            let other = Self::create(part, self.file.clone())?;
            if let Some(roles) = roles.and_then(|roles| files::read(&roles, Links::Refused, RECIPE_BYTES_MAX).ok()) {
                write_atomic(&part.join(ROLES_FILE), &roles)?;
            }
            Ok(other)
        })?;
        let Self { hold, log, .. } = other;
        self.log.move_to(log).map_err(RunError::io(&path.join(LOG_FILE)))?;
        self.hold = hold.moved(path);
        Ok(())
    }

    /// The text that the run learns from lies elsewhere now.
    ///
    /// # Errors
    /// If the recipe cannot be written; the old one is there then.
    pub fn set_text(&mut self, text: TextSource) -> Result<(), RunError> {
        self.check()?;
        let mut file = self.file.clone();
        file.recipe.data.text = text;
        file.write(self.path())?;
        self.file = file;
        Ok(())
    }

    /// The file of a kept checkpoint, whether or not it is there.
    #[must_use]
    pub fn checkpoint(&self, kept: Kept) -> PathBuf {
        kept.path(self.path())
    }

    /// Puts the last checkpoint, which cannot be read, under another name, so that what is saved next does not replace it.
    /// Returns that name; `None` where there is none.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub fn set_last_aside(&self) -> Result<Option<PathBuf>, RunError> {
        self.check()?;
        let last = self.checkpoint(Kept::Last);
        if fs::symlink_metadata(&last).is_err() {
            return Ok(None);
        }
        let name = |number: u32| match number {
            1 => "last.damaged.safetensors".to_owned(),
            _ => format!("last.damaged-{number}.safetensors"),
        };
        let mut names = (1..).map(|number| last.with_file_name(name(number)));
        let aside = names.find(|path| fs::symlink_metadata(path).is_err()).unwrap_or_default();
        fs::rename(&last, &aside).map_err(RunError::io(&aside))?;
        Ok(Some(aside))
    }

    /// Appends one step to the log; call [`flush`](Self::flush) now and then.
    ///
    /// # Errors
    /// If the disk is full or gone, or the folder is.
    pub fn log_step(&mut self, report: StepReport) -> Result<(), RunError> {
        self.append(&Line::Step(report))
    }

    /// Appends one look at the validation text.
    ///
    /// # Errors
    /// As [`log_step`](Self::log_step).
    pub fn log_validation(&mut self, report: ValidationReport) -> Result<(), RunError> {
        self.append(&Line::Validation(report))
    }

    /// Marks that training goes on after `step`, whatever the log says of later ones.
    ///
    /// # Errors
    /// As [`log_step`](Self::log_step).
    pub fn log_resumed(&mut self, step: Step) -> Result<(), RunError> {
        self.append(&Line::Resumed { step })
    }

    /// Marks steps that the log does not have.
    ///
    /// # Errors
    /// As [`log_step`](Self::log_step).
    pub fn log_gap(&mut self, gap: Gap) -> Result<(), RunError> {
        self.append(&Line::Gap(gap))
    }

    /// The gap that was marked in the log since this was asked last.
    pub const fn take_marked_gap(&mut self) -> Option<Gap> {
        self.log.marked.take()
    }

    fn append(&mut self, line: &Line) -> Result<(), RunError> {
        let due = self.log.push(line).map_err(|error| RunError::damaged(&self.path().join(LOG_FILE), error))?;
        if due { self.flush() } else { Ok(()) }
    }

    /// Hands the log's lines to the system, so that a kill of this process loses none. What finds no room waits for the
    /// next time.
    ///
    /// # Errors
    /// As [`log_step`](Self::log_step).
    pub fn flush(&mut self) -> Result<(), RunError> {
        if self.log.is_empty() {
            return Ok(());
        }
        self.check()?;
        let path = self.path().join(LOG_FILE);
        self.log.write().map_err(RunError::io(&path))
    }
}

/// The checkpoints that a run folder keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Where resume goes on from.
    Last,
    /// The one with the lowest validation loss.
    Best,
}

impl Kept {
    /// Its file in a run folder, whether or not it is there.
    #[must_use]
    pub fn path(self, folder: &Path) -> PathBuf {
        folder.join(CHECKPOINTS).join(match self {
            Self::Last => "last.safetensors",
            Self::Best => "best.safetensors",
        })
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Last => "last",
            Self::Best => "best",
        })
    }
}

/// Copies what resume needs of a run into another folder: recipe, tokenizer, log and checkpoints. Of the text and of a
/// parent the recipe then says the names alone. Returns the bytes copied; the copy appears whole or not at all.
///
/// # Errors
/// If `from` is no run, has no checkpoint yet, or `to` is not empty or cannot be written.
pub fn copy_run(from: &Path, to: &Path) -> Result<u64, RunError> {
    let file = RunFile::read(from)?;
    let there = |kept: Kept| fs::symlink_metadata(kept.path(from)).is_ok_and(|found| found.is_file());
    if !there(Kept::Last) && !there(Kept::Best) {
        return Err(RunError::NoCheckpoint { path: from.to_owned(), kept: Kept::Last });
    }
    RunFolder::refuse_occupied(to)?;
    whole_folder(to, |part| copy_parts(from, file, part))
}

fn copy_parts(from: &Path, file: RunFile, to: &Path) -> Result<u64, RunError> {
    fs::create_dir(to).map_err(RunError::io(to))?;
    make_folders(to)?;
    let mut total = 0;
    // Weights and two moments of each, with as much again for what stands around them.
    let weights = file.recipe.model.file_bytes(file.tokenizer.vocabulary());
    let checkpoint_max = weights.saturating_mul(6).saturating_add(1 << 20).min(checkpoint::BYTES_MAX);
    let parts =
        [Kept::Last, Kept::Best].map(|kept| kept.path(Path::new(""))).into_iter().chain([PathBuf::from(LOG_FILE)]);
    for part in parts {
        let (source, target) = (from.join(&part), to.join(&part));
        if fs::symlink_metadata(&source).is_ok() {
            let file = files::open(&source, Links::Refused).map_err(RunError::file(&source))?;
            let bytes = file.metadata().map_err(RunError::io(&source))?.len();
            let most = if part.as_os_str() == LOG_FILE { LOG_BYTES_MAX } else { checkpoint_max };
            if bytes > most {
                return Err(RunError::file(&source)(FileFault::TooLarge { bytes, most }));
            }
            // What is written to it meanwhile is of a later moment than the rest.
            let mut file = file.take(bytes);
            let mut copy = || {
                let mut copy = fs::File::create_new(&target)?;
                let bytes = std::io::copy(&mut file, &mut copy)?;
                copy.sync_all().map(|()| bytes)
            };
            total += copy().map_err(RunError::io(&target))?;
        }
    }
    // The recipe comes last: a folder without it is no run.
    file.without_places().write(to)?;
    for name in [TOKENIZER_FILE, AROUND_FILE, RECIPE_FILE] {
        total += fs::metadata(to.join(name)).map_or(0, |written| written.len());
    }
    Ok(total)
}

/// Where the window keeps runs: `$HEADLIGHT_HOME/runs`, else in the user's data folder.
#[must_use]
pub fn default_root() -> PathBuf {
    use etcetera::BaseStrategy;
    if let Some(home) = std::env::var_os("HEADLIGHT_HOME") {
        return PathBuf::from(home).join("runs");
    }
    match etcetera::choose_base_strategy() {
        Ok(base) => base.data_dir().join("headlight").join("runs"),
        Err(_) => PathBuf::from("runs"),
    }
}

/// The folder of a new run.
#[must_use]
pub fn path_of(place: &Place) -> PathBuf {
    match place {
        Place::At(path) => path.clone(),
        Place::Named(name) => new_folder(&default_root(), name),
    }
}

/// A folder for a new run, named by day and `name`, with a number where that is taken: `2026-11-22-first-light-2`.
#[must_use]
pub fn new_folder(root: &Path, name: &str) -> PathBuf {
    let plain: String = name.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '-' }).collect();
    let day = jiff::Zoned::now().date();
    (1_u32..)
        .map(|number| if number == 1 { format!("{day}-{plain}") } else { format!("{day}-{plain}-{number}") })
        .map(|name| root.join(name))
        .find(|folder| !folder.exists())
        .unwrap_or_else(|| root.join(plain))
}
