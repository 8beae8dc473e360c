//! The log of what was observed: one line each, appended. What the disk had no room for is marked as a gap.

use std::fs::{File, TryLockError};
use std::io::{BufRead, BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::folder::Stored;
use super::hold::LOG_FILE;
use super::{RunError, RunFolder};
use crate::files::{self, FileFault, Identity, Links};
use crate::lab::protocol::{Step, StepReport, ValidationReport};
use crate::recipe::Recipe;

/// Lines that wait for the disk, in bytes: so many are written at once, and so many are kept while it takes none.
const WAITING: usize = 8 << 10;
const WAITING_MAX: usize = 1 << 20;
/// The largest log that is read, in bytes: ten million steps stay under it.
pub(super) const LOG_BYTES_MAX: u64 = 4 << 30;
/// A line is short; a file without line ends must not be read as one endless line.
const LINE_BYTES_MAX: u64 = 4096;

/// Steps that the log does not have, first and last: there was no room to write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub from: Step,
    pub to: Step,
}

/// One line of `metrics.jsonl`. A program that does not know a kind leaves its line out.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Line {
    Step(StepReport),
    Validation(ValidationReport),
    /// Training went on from here: what was observed past it is void.
    Resumed {
        step: Step,
    },
    Gap(Gap),
}

impl Line {
    /// The steps that are not known without this line.
    fn step(&self) -> Option<Step> {
        match self {
            Self::Step(StepReport { step, .. }) => Some(*step),
            Self::Validation(_) | Self::Resumed { .. } | Self::Gap(_) => None,
        }
    }
}

/// The curves of a run as its log tells them.
#[derive(Debug, Clone)]
pub struct Curves {
    pub recipe: Recipe,
    pub steps: Vec<StepReport>,
    pub validations: Vec<ValidationReport>,
    /// Lines that could not be read, which a `kill -9` may leave at the end.
    pub unreadable: usize,
    /// Steps that are missing, as the log itself says.
    pub gaps: Vec<Gap>,
}

impl Curves {
    /// Of a run that has not begun.
    #[must_use]
    pub const fn new(recipe: Recipe) -> Self {
        Self { recipe, steps: Vec::new(), validations: Vec::new(), unreadable: 0, gaps: Vec::new() }
    }

    fn push(&mut self, line: Line) {
        let last = match line {
            Line::Resumed { step } => step.0,
            Line::Step(StepReport { step, .. }) => step.0.saturating_sub(1),
            Line::Validation(_) | Line::Gap(_) => u64::MAX,
        };
        while self.steps.last().is_some_and(|report| report.step.0 > last) {
            self.steps.pop();
        }
        if let Line::Resumed { step } = line {
            while self.validations.pop_if(|later| later.step > step).is_some() {}
            while self.gaps.pop_if(|later| later.from > step).is_some() {}
        }
        match line {
            Line::Step(report) => self.steps.push(report),
            // The look before a resume at the same step is made again.
            Line::Validation(report) => {
                while self.validations.pop_if(|later| later.step >= report.step).is_some() {}
                self.validations.push(report);
            }
            Line::Resumed { .. } => {}
            Line::Gap(gap) => self.gaps.push(gap),
        }
    }
}

/// Reads the curves of a run folder, also while another program trains in it.
///
/// # Errors
/// If it is no run folder or its recipe is damaged, or the log is no file of its own; unreadable lines of the log are
/// counted and left out.
pub fn read_curves(folder: &Path) -> Result<Curves, RunError> {
    let Stored { recipe, .. } = Stored::read(folder)?;
    let mut curves = Curves::new(recipe);
    let path = folder.join(LOG_FILE);
    let Some(mut lines) = Lines::open(&path, LOG_BYTES_MAX, LINE_BYTES_MAX)? else { return Ok(curves) };
    while let Some(line) = lines.next_line()? {
        match serde_json::from_slice(line) {
            Ok(line) => curves.push(line),
            Err(_) => curves.unreadable += 1,
        }
    }
    Ok(curves)
}

/// The lines of a file of a run folder, each of a bounded length.
pub(super) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    line: Vec<u8>,
    line_bytes_max: u64,
}

impl Lines {
    /// `None` where there is no such file.
    ///
    /// # Errors
    /// If it is no regular file, or too large.
    pub fn open(path: &Path, bytes_max: u64, line_bytes_max: u64) -> Result<Option<Self>, RunError> {
        let file = match files::open(path, Links::Refused) {
            Ok(file) => file,
            Err(FileFault::Io(cause)) if cause.kind() == ErrorKind::NotFound => return Ok(None),
            Err(fault) => return Err(RunError::file(path)(fault)),
        };
        let bytes = file.metadata().map_err(RunError::io(path))?.len();
        if bytes > bytes_max {
            return Err(RunError::file(path)(FileFault::TooLarge { bytes, most: bytes_max }));
        }
        Ok(Some(Self { path: path.to_owned(), reader: BufReader::new(file), line: Vec::new(), line_bytes_max }))
    }

    /// The next line, with its end.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, RunError> {
        self.line.clear();
        let read = self.reader.by_ref().take(self.line_bytes_max).read_until(b'\n', &mut self.line);
        let read = read.map_err(RunError::io(&self.path))?;
        Ok((read > 0).then_some(&self.line))
    }
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
    for gap in curves.gaps.into_iter().filter(|gap| gap.from <= last) {
        to.log_gap(Gap { to: gap.to.min(last), ..gap })?;
    }
    to.flush()
}

/// An open log. Only one program at a time can hold it: it is locked.
#[derive(Debug)]
pub(super) struct Log {
    pub file: File,
    /// Lines that are not written yet. The first may have been written in part.
    waiting: Vec<u8>,
    /// Steps whose lines found no room, not marked yet.
    lost: Option<Gap>,
    /// The last gap that was marked.
    pub marked: Option<Gap>,
}

impl Log {
    /// Opens the log of a run folder, or makes it.
    ///
    /// # Errors
    /// If it cannot be written, is no file of the folder's own, or another program holds it.
    pub fn open(folder: &Path) -> Result<Self, RunError> {
        let path = folder.join(LOG_FILE);
        let mut file = files::open_to_append(&path).map_err(RunError::file(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RunError::Locked { path: folder.to_owned() }),
            // Some network file systems know no locks: then the folder is used without one.
            Err(TryLockError::Error(_)) => {}
        }
        // A line cut short by a kill must not swallow the next one.
        let mut waiting = Vec::new();
        let length = file.seek(SeekFrom::End(0)).map_err(RunError::io(&path))?;
        if length > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)).map_err(RunError::io(&path))?;
            if last != *b"\n" {
                waiting.push(b'\n');
            }
        }
        Ok(Self { file, waiting, lost: None, marked: None })
    }

    pub fn identity(&self, folder: &Path) -> Result<Identity, RunError> {
        let path = folder.join(LOG_FILE);
        self.file.metadata().map(|metadata| Identity::of(&metadata)).map_err(RunError::io(&path))
    }

    /// Takes a line that is written soon. Whether more is waiting than should.
    pub fn push(&mut self, line: &Line) -> serde_json::Result<bool> {
        let text = serde_json::to_string(line)?;
        if self.lost.is_some() || self.waiting.len() + text.len() >= WAITING_MAX {
            // What it says is lost; that there was something is not.
            if let Some(step) = line.step() {
                self.lost = Some(Gap { from: self.lost.map_or(step, |gap| gap.from), to: step });
            }
            return Ok(true);
        }
        self.waiting.extend(text.as_bytes());
        self.waiting.push(b'\n');
        Ok(self.waiting.len() >= WAITING)
    }

    pub const fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.lost.is_none()
    }

    /// Hands what waits to the system; a gap is marked as soon as there is room again.
    pub fn write(&mut self) -> std::io::Result<()> {
        self.write_waiting()?;
        if let Some(gap) = self.lost.take() {
            self.marked = Some(gap);
            let line = serde_json::to_string(&Line::Gap(gap)).map_err(std::io::Error::other)?;
            self.waiting.extend(line.as_bytes());
            self.waiting.push(b'\n');
            self.write_waiting()?;
        }
        Ok(())
    }

    fn write_waiting(&mut self) -> std::io::Result<()> {
        while !self.waiting.is_empty() {
            match self.file.write(&self.waiting) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
                Err(cause) => return Err(cause),
            }
        }
        Ok(())
    }

    /// Goes on in another file, which gets all that this one has.
    pub fn move_to(&mut self, mut other: Self) -> std::io::Result<()> {
        // It can be read although it may have no name any more.
        self.file.seek(SeekFrom::Start(0))?;
        std::io::copy(&mut self.file, &mut other.file)?;
        other.file.sync_all()?;
        std::mem::swap(&mut self.file, &mut other.file);
        Ok(())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = self.write();
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn step(step: u64) -> Line {
        Line::Step(StepReport {
            step: Step(step),
            loss: 1.0,
            learning_rate: 1e-3,
            gradient_norm: 1.0,
            elapsed_secs: 0.1,
            tokens_per_sec: 10.0,
        })
    }

    #[test]
    fn what_a_full_disk_had_no_room_for_is_marked_when_there_is_room_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut log = Log::open(folder.path()).expect("made");
        log.push(&step(1)).expect("taken");
        log.write().expect("written");
        // This device is a disk that is always full.
        let full = File::options().read(true).write(true).open("/dev/full").expect("a full disk");
        let good = std::mem::replace(&mut log.file, full);
        let mut waiting = 1;
        while log.lost.is_none() {
            waiting += 1;
            if log.push(&step(waiting)).expect("taken") {
                assert_eq!(log.write().expect_err("full").kind(), ErrorKind::StorageFull);
            }
        }
        assert!(waiting > 5000, "a short while loses nothing: {waiting} steps");
        for later in 1..=3 {
            log.push(&step(waiting + later)).expect("taken");
        }
        log.file = good;
        log.write().expect("there is room");
        let gap = Gap { from: Step(waiting), to: Step(waiting + 3) };
        assert_eq!(log.marked, Some(gap));
        log.push(&step(waiting + 4)).expect("taken");
        log.write().expect("written");
        let path = folder.path().join(LOG_FILE);
        let mut curves = Curves::new(crate::preset::first().recipe);
        let mut lines = Lines::open(&path, LOG_BYTES_MAX, LINE_BYTES_MAX).expect("read").expect("there");
        while let Some(line) = lines.next_line().expect("read") {
            curves.push(serde_json::from_slice(line).expect("every line is whole"));
        }
        assert_eq!(curves.gaps, [gap]);
        let steps: Vec<u64> = curves.steps.iter().map(|report| report.step.0).collect();
        assert_eq!(steps, (1..waiting).chain([waiting + 4]).collect::<Vec<_>>());
    }
}
