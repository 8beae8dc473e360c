//! One run's folder on disk, and the log of what was observed.

use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::around::{AROUND_FILE, Around};
use super::{PART, RunError, read_bounded, write_atomic};
use crate::lab::protocol::{Step, StepReport, ValidationReport};
use crate::recipe::Recipe;
use crate::text::{CharTokenizer, TOKENIZER_BYTES_MAX, Tokenizer, VOCABULARY_MAX};

/// In format 1 every tokenizer was one of characters, and stood there as their string.
const FORMAT: u32 = 2;
const RECIPE_FILE: &str = "recipe.ron";
const TOKENIZER_FILE: &str = "tokenizer.json";
/// A recipe with the largest vocabulary stays well under this.
const RECIPE_BYTES_MAX: u64 = 16 << 20;

/// What the run was made from: `recipe.ron`, and `tokenizer.json` where there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct RunFile {
    pub recipe: Recipe,
    pub tokenizer: Tokenizer,
    /// SHA-256 of the text as it lay in its file.
    pub text_digest: String,
    /// Where it was forked from.
    pub parent: Option<Parent>,
    /// What came with the model, where it was imported.
    pub around: Around,
}

/// A moment of another run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    pub run: PathBuf,
    pub step: Step,
}

/// `recipe.ron` as it is written; `T` is [`KeptTokenizer`], in format 1 the characters alone.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored<T> {
    format: u32,
    recipe: Recipe,
    tokenizer: T,
    text_digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<Parent>,
}

#[derive(Serialize, Deserialize)]
enum KeptTokenizer {
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
        let Stored { recipe, tokenizer, text_digest, parent, .. } = Stored::read(folder)?;
        let tokenizer = match tokenizer {
            KeptTokenizer::Characters(characters) => Tokenizer::Characters(characters),
            KeptTokenizer::Numbers(rows) => Tokenizer::Numbers(rows),
            KeptTokenizer::Bpe { rows } => {
                let path = folder.join(TOKENIZER_FILE);
                let json = read_bounded(&path, TOKENIZER_BYTES_MAX)?;
                Tokenizer::from_json(&json, rows).map_err(|fault| RunError::damaged(&path, fault))?
            }
        };
        let around = Around::read(folder, tokenizer.vocabulary())?;
        Ok(Self { recipe, tokenizer, text_digest, parent, around })
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
        let stored = Stored { format: FORMAT, recipe, tokenizer, text_digest, parent };
        let path = folder.join(RECIPE_FILE);
        let text = ron::ser::to_string_pretty(&stored, ron::ser::PrettyConfig::default());
        let text = text.map_err(|error| RunError::damaged(&path, error))?;
        // It comes last: with it the folder is a run, that has not begun.
        write_atomic(&path, text.as_bytes())
    }
}

impl Stored<KeptTokenizer> {
    fn read(folder: &Path) -> Result<Self, RunError> {
        let path = folder.join(RECIPE_FILE);
        if !folder.is_dir() {
            return Err(RunError::Missing { path: folder.to_owned() });
        }
        if !path.is_file() {
            return Err(RunError::NotARun { path: folder.to_owned() });
        }
        let bytes = read_bounded(&path, RECIPE_BYTES_MAX)?;
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

/// One line of `metrics.jsonl`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Line {
    Step(StepReport),
    Validation(ValidationReport),
    /// Training went on from here: what was observed past it is void.
    Resumed {
        step: Step,
    },
}

/// The curves of a run as its log tells them.
#[derive(Debug, Clone)]
pub struct Curves {
    pub recipe: Recipe,
    pub steps: Vec<StepReport>,
    pub validations: Vec<ValidationReport>,
    /// Lines that could not be read, which a `kill -9` may leave at the end.
    pub unreadable: usize,
}

impl Curves {
    fn push(&mut self, line: Line) {
        let last = match line {
            Line::Resumed { step } => step.0,
            Line::Step(StepReport { step, .. }) => step.0.saturating_sub(1),
            Line::Validation(_) => u64::MAX,
        };
        while self.steps.last().is_some_and(|report| report.step.0 > last) {
            self.steps.pop();
        }
        if let Line::Resumed { step } = line {
            while self.validations.pop_if(|later| later.step > step).is_some() {}
        }
        match line {
            Line::Step(report) => self.steps.push(report),
            // The look before a resume at the same step is made again.
            Line::Validation(report) => {
                while self.validations.pop_if(|later| later.step >= report.step).is_some() {}
                self.validations.push(report);
            }
            Line::Resumed { .. } => {}
        }
    }
}

/// Reads the curves of a run folder, also while another program trains in it.
///
/// # Errors
/// If it is no run folder or its recipe is damaged; unreadable lines of the log are counted and left out.
pub fn read_curves(folder: &Path) -> Result<Curves, RunError> {
    let Stored { recipe, .. } = Stored::read(folder)?;
    let mut curves = Curves { recipe, steps: Vec::new(), validations: Vec::new(), unreadable: 0 };
    let path = folder.join("metrics.jsonl");
    let Ok(file) = File::open(&path) else { return Ok(curves) };
    // A line is short; a file without line ends must not be read as one endless line.
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(4096).read_until(b'\n', &mut line).map_err(RunError::io(&path))?;
        if read == 0 {
            return Ok(curves);
        }
        match serde_json::from_slice(&line) {
            Ok(line) => curves.push(line),
            Err(_) => curves.unreadable += 1,
        }
    }
}

/// An open run folder. Only one at a time can hold it: the log is locked.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    pub file: RunFile,
    log: BufWriter<File>,
}

impl RunFolder {
    /// Makes the folder of a new run.
    ///
    /// # Errors
    /// If something is there already, or it cannot be made.
    pub fn create(path: &Path, file: RunFile) -> Result<Self, RunError> {
        Self::refuse_occupied(path)?;
        fs::create_dir_all(path).map_err(RunError::io(path))?;
        file.write(path)?;
        Ok(Self { path: path.to_owned(), file, log: Self::open_log(path)? })
    }

    /// Whether a new run may be kept here.
    ///
    /// # Errors
    /// If something is there already.
    pub fn refuse_occupied(path: &Path) -> Result<(), RunError> {
        let own = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().ends_with(PART);
        let occupied = fs::read_dir(path).is_ok_and(|entries| entries.flatten().any(|entry| !own(&entry)));
        if occupied || path.is_file() { Err(RunError::Occupied { path: path.to_owned() }) } else { Ok(()) }
    }

    /// Opens the folder of an older run.
    ///
    /// # Errors
    /// If it is no run, is damaged, or is open elsewhere.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        let file = RunFile::read(path)?;
        let log = Self::open_log(path)?;
        // The lock is ours: what an earlier program was killed in the middle of writing is nobody's.
        for folder in [path.to_owned(), path.join("checkpoint"), path.join("snapshots")] {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().ends_with(PART) {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
        Ok(Self { path: path.to_owned(), file, log })
    }

    /// Reads what a run was made from without locking it: for looking at it while it trains.
    ///
    /// # Errors
    /// If it is no run or is damaged.
    pub fn read(path: &Path) -> Result<RunFile, RunError> {
        RunFile::read(path)
    }

    fn open_log(folder: &Path) -> Result<BufWriter<File>, RunError> {
        let path = folder.join("metrics.jsonl");
        let open = File::options().read(true).append(true).create(true).open(&path);
        let mut log = open.map_err(RunError::io(&path))?;
        match log.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RunError::Locked { path: folder.to_owned() }),
            // Some network file systems know no locks: then the folder is used without one.
            Err(TryLockError::Error(_)) => {}
        }
        // A line cut short by a kill must not swallow the next one.
        let length = log.seek(SeekFrom::End(0)).map_err(RunError::io(&path))?;
        if length > 0 {
            let mut last = [0];
            log.seek(SeekFrom::End(-1)).and_then(|_| log.read_exact(&mut last)).map_err(RunError::io(&path))?;
            if last != *b"\n" {
                log.write_all(b"\n").map_err(RunError::io(&path))?;
            }
        }
        Ok(BufWriter::new(log))
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of a kept checkpoint, whether or not it is there.
    #[must_use]
    pub fn checkpoint(&self, kept: Kept) -> PathBuf {
        kept.path(&self.path)
    }

    /// Appends one step to the log; call [`flush`](Self::flush) now and then.
    ///
    /// # Errors
    /// If the disk is full or gone.
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

    fn append(&mut self, line: &Line) -> Result<(), RunError> {
        let path = self.path.join("metrics.jsonl");
        let text = serde_json::to_string(line).map_err(|error| RunError::damaged(&path, error))?;
        writeln!(self.log, "{text}").map_err(RunError::io(&path))
    }

    /// Hands the log's lines to the system, so that a kill of this process loses none.
    ///
    /// # Errors
    /// As [`log_step`](Self::log_step).
    pub fn flush(&mut self) -> Result<(), RunError> {
        self.log.flush().map_err(RunError::io(&self.path.join("metrics.jsonl")))
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
        folder.join("checkpoint").join(match self {
            Self::Last => "last.safetensors",
            Self::Best => "best.safetensors",
        })
    }
}

/// Copies what resume needs of a run into another folder: recipe, tokenizer, log and checkpoints. Returns the bytes
/// copied.
///
/// # Errors
/// If `from` is no run, has no checkpoint yet, or `to` is not empty or cannot be written.
pub fn copy_run(from: &Path, to: &Path) -> Result<u64, RunError> {
    Stored::read(from)?;
    if !Kept::Last.path(from).is_file() {
        return Err(RunError::NoCheckpoint { path: from.to_owned(), kept: Kept::Last });
    }
    RunFolder::refuse_occupied(to)?;
    let checkpoints = to.join("checkpoint");
    fs::create_dir_all(&checkpoints).map_err(RunError::io(&checkpoints))?;
    let mut total = 0;
    // The recipe comes last: a folder without it is no run.
    let checkpoints = [Kept::Last, Kept::Best].map(|kept| kept.path(Path::new("")));
    let parts =
        checkpoints.into_iter().chain(["metrics.jsonl", TOKENIZER_FILE, AROUND_FILE, RECIPE_FILE].map(PathBuf::from));
    for part in parts {
        let source = from.join(&part);
        if source.is_file() {
            total += fs::copy(&source, to.join(&part)).map_err(RunError::io(&to.join(&part)))?;
        }
    }
    Ok(total)
}

/// Copies the curves of a run up to a step into the open folder of another.
///
/// # Errors
/// If they cannot be read or written.
pub fn copy_log(from: &Path, to: &mut RunFolder, last: Step) -> Result<(), RunError> {
    let curves = read_curves(from)?;
    for report in curves.steps.into_iter().filter(|report| report.step <= last) {
        to.log_step(report)?;
    }
    for report in curves.validations.into_iter().filter(|report| report.step <= last) {
        to.log_validation(report)?;
    }
    to.flush()
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
