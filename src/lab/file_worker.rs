//! The file desk: the one thread on which the window's files are read and written, so that no frame waits for a disk.
//!
//! Jobs go in, answers come out in the order in which they are done. A text that takes long to read steps aside for the
//! small jobs behind it, and a newer text ends it. Errors are sentences that name the file.

mod listing;

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

pub use self::listing::{Entry, Listing, Search};
pub use crate::device::Adapter;
pub use crate::runs::Curves;
pub use crate::text::TextSummary;

use crate::files::{self, FileFault, Links};
use crate::lab::jobs::branch;
use crate::lab::jobs::import::{ImportReport, import};
use crate::preset::Preset;
use crate::protocol::{Place, Step, Wake};
use crate::recipe::{Recipe, TextSource, bytes_text};
use crate::{device, runs};

/// A preset is a page of text; what is larger is something else.
const PRESET_BYTES_MAX: u64 = 1_000_000;
/// How often a long read says how far it is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// What a file is to hold, made on the desk's thread.
pub type Contents = Box<dyn FnOnce() -> Result<Vec<u8>, String> + Send>;

/// A piece of work for the desk.
pub enum Job {
    /// Count what a text holds. A newer scan ends an older one, which then gives no answer.
    ScanText(TextSource),
    OpenPreset(PathBuf),
    SavePreset {
        path: PathBuf,
        preset: Box<Preset>,
    },
    WriteFile {
        path: PathBuf,
        contents: Contents,
        what: String,
    },
    /// The curves of an earlier run, to lay under this one's.
    ReadCurves(PathBuf),
    /// Makes a run of a model of another program; all but the model is as in `base`.
    ImportModel {
        from: PathBuf,
        place: Place,
        base: Box<Recipe>,
    },
    /// Makes a run that goes on from a kept step of another, beside it.
    Fork {
        run: PathBuf,
        step: Step,
        changes: Option<Box<Recipe>>,
    },
    /// Slow: asks the drivers in a child process.
    ListAdapters,
    SaveSettings {
        path: PathBuf,
        text: String,
    },
    /// What a path leads to.
    Look(PathBuf),
    /// Clears away what killed programs were making where runs are kept. Gives no answer.
    ClearAbandoned {
        /// Where new runs are kept instead of among the user's.
        root: Option<PathBuf>,
    },
    /// What lies in a folder.
    List(Search),
}

/// An answer.
#[derive(Debug)]
pub enum Done {
    Scanning {
        source: TextSource,
        done_bytes: u64,
        total_bytes: u64,
    },
    Scanned {
        source: TextSource,
        result: Result<TextSummary, String>,
    },
    PresetOpened {
        path: PathBuf,
        result: Result<Box<Preset>, String>,
    },
    Written {
        what: String,
        path: PathBuf,
        result: Result<(), String>,
    },
    CurvesRead {
        path: PathBuf,
        result: Result<Box<Curves>, String>,
    },
    Imported {
        from: PathBuf,
        result: Result<Box<ImportReport>, String>,
    },
    Forked {
        run: PathBuf,
        result: Result<PathBuf, String>,
    },
    Adapters(Result<Vec<Adapter>, String>),
    /// Something else that went wrong, in a sentence.
    Failed(String),
    Looked {
        path: PathBuf,
        kind: PathKind,
    },
    Listed {
        search: Search,
        listing: Listing,
    },
}

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    Missing,
    File,
    Folder,
    /// A folder with a `recipe.ron`.
    Run,
    /// A folder with a `config.json`.
    Model,
}

/// The window's end of the desk.
#[derive(Debug)]
pub struct Desk {
    jobs: Sender<Job>,
    answers: Receiver<Done>,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Desk {
    /// Starts the thread. `wake` is called when there is an answer.
    #[must_use]
    pub fn start(wake: Wake) -> Self {
        let (jobs, to_do) = bounded(64);
        let (done, answers) = bounded(256);
        let closing = Arc::new(AtomicBool::new(false));
        let mut clerk = Clerk { to_do, done, wake, closing: Arc::clone(&closing), next_scan: None };
        let thread = std::thread::Builder::new().name("headlight-files".into()).spawn(move || clerk.work());
        Self { jobs, answers, closing, thread: Some(thread.expect("the system starts a thread")) }
    }

    /// Hands a job over without waiting; `false` when the desk is hopelessly behind.
    pub fn ask(&self, job: Job) -> bool {
        self.jobs.try_send(job).is_ok()
    }

    /// The next answer, if one is there. Never waits.
    #[must_use]
    pub fn try_next(&self) -> Option<Done> {
        self.answers.try_recv().ok()
    }

    /// Lets the desk finish what was asked, for at most so long: for the end of the program.
    pub fn finish(mut self, limit: Duration) {
        self.closing.store(true, Ordering::Relaxed);
        let (closed, _) = bounded(0);
        self.jobs = closed;
        let until = Instant::now() + limit;
        // Answers are taken so that the thread never waits for room.
        while !self.thread.as_ref().is_none_or(JoinHandle::is_finished) && Instant::now() < until {
            let _ = self.answers.recv_timeout(Duration::from_millis(5));
        }
        if let Some(thread) = self.thread.take()
            && thread.is_finished()
        {
            let _ = thread.join();
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
    }
}

/// The thread's side.
struct Clerk {
    to_do: Receiver<Job>,
    done: Sender<Done>,
    wake: Wake,
    closing: Arc<AtomicBool>,
    /// A newer scan, found while the older one ran.
    next_scan: Option<TextSource>,
}

impl Clerk {
    fn work(&mut self) {
        loop {
            if let Some(source) = self.next_scan.take() {
                self.scan(source);
                continue;
            }
            match self.to_do.recv() {
                Ok(job) => self.take(job),
                Err(_) => return,
            }
        }
    }

    fn answer(&self, done: Done) {
        // A window that is gone needs no answer.
        let _ = self.done.send(done);
        (self.wake)();
    }

    fn scan(&mut self, source: TextSource) {
        let mut told = Instant::now();
        let result = TextSummary::read(&source, &mut |progress| {
            while let Ok(job) = self.to_do.try_recv() {
                self.take(job);
            }
            if told.elapsed() >= PROGRESS_INTERVAL {
                told = Instant::now();
                let (done_bytes, total_bytes) = (progress.done_bytes, progress.total_bytes);
                self.answer(Done::Scanning { source: source.clone(), done_bytes, total_bytes });
            }
            self.next_scan.is_none() && !self.closing.load(Ordering::Relaxed)
        });
        if self.next_scan.is_none() {
            self.answer(Done::Scanned { source, result: result.map_err(|error| error.to_string()) });
        }
    }

    /// Does what is small at once, and puts a text aside until there is time to read it.
    fn take(&mut self, job: Job) {
        match job {
            Job::ScanText(source) => self.next_scan = Some(source),
            Job::OpenPreset(path) => {
                let result = open_preset(&path).map(Box::new);
                self.answer(Done::PresetOpened { path, result });
            }
            Job::SavePreset { path, preset } => {
                let result = write(&path, preset.to_ron().as_bytes());
                self.answer(Done::Written { what: "preset".into(), path, result });
            }
            Job::WriteFile { path, contents, what } => {
                let result = contents().and_then(|bytes| write(&path, &bytes));
                self.answer(Done::Written { what, path, result });
            }
            Job::ReadCurves(path) => {
                let result = runs::read_curves(&path).map(Box::new).map_err(|error| error.to_string());
                self.answer(Done::CurvesRead { path, result });
            }
            Job::ImportModel { from, place, base } => self.aside("headlight-import", move || {
                let result = import(&from, &place, None, &base);
                let result = result.map(Box::new).map_err(|error| format!("{error:#}"));
                Done::Imported { from, result }
            }),
            Job::Fork { run, step, changes } => self.aside("headlight-fork", move || {
                let place = branch::beside(&run, &format!("from-{}", step.0));
                let result = branch::fork(&run, step, &place, changes.as_deref());
                Done::Forked { run, result: result.map_err(|error| format!("{error:#}")) }
            }),
            // The drivers may take seconds.
            Job::ListAdapters => self.aside("headlight-adapters", || Done::Adapters(device::survey())),
            Job::SaveSettings { path, text } => {
                let folder = path.parent().map_or(Ok(()), std::fs::create_dir_all);
                let result = folder.map_err(|error| format!("{}: {error}", path.display()));
                if let Err(why) = result.and_then(|()| write(&path, text.as_bytes())) {
                    self.answer(Done::Failed(format!("the settings were not saved: {why}")));
                }
            }
            // A folder on another machine may take its time.
            Job::List(search) => self.aside("headlight-listing", || {
                let listing = listing::list(&search);
                Done::Listed { search, listing }
            }),
            Job::Look(path) => {
                let kind = look(&path);
                self.answer(Done::Looked { path, kind });
            }
            Job::ClearAbandoned { root } => runs::clear_abandoned(&root.unwrap_or_else(runs::default_root)),
        }
    }

    /// Works on a thread of its own, so that saving need not wait for it.
    fn aside(&self, name: &str, work: impl FnOnce() -> Done + Send + 'static) {
        let (done, wake) = (self.done.clone(), Arc::clone(&self.wake));
        let started = std::thread::Builder::new().name(name.into()).spawn(move || {
            // A panic is a fault of the program's; the user waits for an answer all the same.
            let answer = catch_unwind(AssertUnwindSafe(work));
            let _ = done.send(answer.unwrap_or_else(|_| Done::Failed("the work failed inside the program".into())));
            wake();
        });
        if let Err(error) = started {
            self.answer(Done::Failed(format!("no thread could be started for {name}: {error}")));
        }
    }
}

/// Reads a preset file, refusing what cannot be one before taking memory for it.
///
/// # Errors
/// One sentence that names the file and what is wrong with it.
pub fn open_preset(path: &Path) -> Result<Preset, String> {
    let name = path.display();
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => match files::dangling_fault(path) {
            Some(fault) => format!("{name}: {fault}"),
            None => format!("{name}: there is no such file"),
        },
        ErrorKind::PermissionDenied => format!("{name}: not allowed to read this file"),
        _ => format!("{name}: {error}"),
    };
    let bytes = files::read(path, Links::Followed, PRESET_BYTES_MAX).map_err(|fault| match fault {
        FileFault::Io(error) => unreadable(error),
        FileFault::Folder => format!("{name} is a folder, not a preset file"),
        FileFault::TooLarge { bytes, most } => {
            format!("{name}: {} is too large for a preset (at most {})", bytes_text(bytes), bytes_text(most))
        }
        FileFault::StandIn(fault) => format!("{name}: {fault}"),
        other => format!("{name} is not a regular file: {other}"),
    })?;
    let text = String::from_utf8(bytes).map_err(|error| {
        format!("{name}: not UTF-8 text (at byte {}), so not a preset", error.utf8_error().valid_up_to())
    })?;
    Preset::parse(&text).map_err(|error| format!("{name}: {error}"))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    runs::write_file(path, bytes).map_err(|error| error.to_string())
}

fn look(path: &Path) -> PathKind {
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() && path.join("recipe.ron").is_file() => PathKind::Run,
        Ok(metadata) if metadata.is_dir() && path.join("config.json").is_file() => PathKind::Model,
        Ok(metadata) if metadata.is_dir() => PathKind::Folder,
        Ok(_) => PathKind::File,
        Err(_) => PathKind::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;

    fn answers(jobs: Vec<Job>) -> Vec<Done> {
        let desk = Desk::start(Arc::new(|| ()));
        let wanted = jobs.len();
        for job in jobs {
            assert!(desk.ask(job));
        }
        let mut done = Vec::new();
        while done.iter().filter(|done| !matches!(done, Done::Scanning { .. })).count() < wanted {
            done.push(desk.answers.recv_timeout(Duration::from_secs(20)).expect("an answer"));
        }
        desk.finish(Duration::from_secs(5));
        done
    }

    fn refusal(path: &Path) -> String {
        open_preset(path).expect_err("not a preset")
    }

    #[test]
    fn what_is_no_preset_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("thing.ron");
        assert!(refusal(&path).contains("thing.ron: there is no such file"), "{}", refusal(&path));
        assert!(refusal(folder.path()).contains("is a folder"), "{}", refusal(folder.path()));
        std::fs::write(&path, vec![b' '; 1_000_001]).expect("written");
        assert!(refusal(&path).contains("too large for a preset"), "{}", refusal(&path));
        std::fs::write(&path, b"(format: 1, name: \"\xff\")").expect("written");
        assert!(refusal(&path).contains("not UTF-8 text (at byte 19)"), "{}", refusal(&path));
        std::fs::write(&path, b"(format: 9)").expect("written");
        assert!(refusal(&path).contains("preset format 9"), "{}", refusal(&path));
    }

    #[test]
    fn a_saved_preset_opens_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mine.ron");
        let preset = preset::built_in().remove(1);
        let done = answers(vec![
            Job::SavePreset { path: path.clone(), preset: Box::new(preset.clone()) },
            Job::OpenPreset(path.clone()),
            Job::Look(path.clone()),
            Job::Look(folder.path().join("nothing")),
        ]);
        assert!(matches!(&done[0], Done::Written { result: Ok(()), .. }), "{done:?}");
        assert!(matches!(&done[1], Done::PresetOpened { result: Ok(read), .. } if **read == preset), "{done:?}");
        assert!(matches!(&done[2], Done::Looked { kind: PathKind::File, .. }), "{done:?}");
        assert!(matches!(&done[3], Done::Looked { kind: PathKind::Missing, .. }), "{done:?}");
    }

    #[test]
    fn a_file_that_cannot_be_written_says_so_and_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("none").join("curves.csv");
        let contents: Contents = Box::new(|| Ok(b"step,loss\n".to_vec()));
        let done = answers(vec![Job::WriteFile { path: path.clone(), contents, what: "curves".into() }]);
        assert!(matches!(&done[0], Done::Written { result: Err(why), .. } if why.contains("curves.csv")), "{done:?}");
        assert!(!path.exists());
    }

    #[test]
    fn what_killed_programs_left_among_the_runs_is_cleared_away() {
        let folder = tempfile::tempdir().expect("a folder");
        let (ours, strange) = (folder.path().join(".run.12-0.part"), folder.path().join(".run.12-1.part"));
        std::fs::create_dir(&ours).expect("made");
        std::fs::create_dir_all(strange.join("mine")).expect("made");
        let desk = Desk::start(Arc::new(|| ()));
        assert!(desk.ask(Job::ClearAbandoned { root: Some(folder.path().to_owned()) }));
        desk.finish(Duration::from_secs(20));
        assert!(!ours.exists() && strange.exists());
    }

    #[test]
    fn a_missing_text_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("poems.txt");
        let done = answers(vec![Job::ScanText(TextSource::File(path))]);
        assert!(
            matches!(&done[0], Done::Scanned { result: Err(why), .. } if why.contains("poems.txt")),
            "the file is named: {done:?}"
        );
    }
}
