//! Keeping a run's timeline while it trains: the weights are copied between two steps, and written by a thread of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::protocol::Step;
use crate::runs::{PreparedCheckpoint, RunError, is_worth_keeping, kept_steps, missed_least, snapshot_path};

/// The part of training's time that the timeline may take, as one in so many: with the credit under 2 % of half a minute.
const SHARE: u32 = 75;
/// What the first steps, which are worth most, may take at once.
const CREDIT: Duration = Duration::from_millis(200);

/// The timeline of an open run.
pub(super) struct Timeline {
    run: PathBuf,
    kept: Vec<(Step, u64)>,
    budget_bytes: u64,
    writer: Option<Writer>,
    /// The step that is being written.
    writing: Option<Step>,
    spent: Duration,
    stopped: bool,
    /// Steps that are looked at, which no thinning takes.
    spared: Vec<Step>,
    /// Not told yet.
    news: Option<Change>,
}

struct Writer {
    jobs: Sender<(PathBuf, PreparedCheckpoint)>,
    done: Receiver<(Result<u64, RunError>, Duration)>,
    thread: JoinHandle<()>,
}

/// What became of the timeline.
pub(super) enum Change {
    Kept,
    /// It stopped, and why.
    Failed(String),
}

impl Timeline {
    pub fn open(run: &Path, budget_megabytes: u64) -> Self {
        Self {
            run: run.to_owned(),
            kept: kept_steps(run),
            budget_bytes: budget_megabytes.saturating_mul(1_000_000),
            writer: None,
            writing: None,
            spent: Duration::ZERO,
            stopped: false,
            spared: Vec::new(),
            news: None,
        }
    }

    pub fn steps(&self) -> Vec<Step> {
        self.kept.iter().map(|(step, _)| *step).collect()
    }

    pub fn bytes(&self) -> u64 {
        self.kept.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Whether this step is to be kept: asked after each, with the time that training has taken and an estimate of
    /// the bytes. The run's last step is kept if there is room at all.
    pub fn wants(&self, step: Step, training: Duration, bytes: u64, is_last: bool) -> bool {
        let last = self.writing.or(self.kept.last().map(|(step, _)| *step));
        let has_time = self.writing.is_none() && self.spent * SHARE <= training + CREDIT * SHARE;
        // Two snapshots at least, or none.
        let has_room = !self.stopped && 2 * bytes <= self.budget_bytes;
        has_room && last != Some(step) && (is_last || (has_time && is_worth_keeping(step, last)))
    }

    /// Hands a step's weights to the writer; `since` is when their copying began.
    pub fn keep(&mut self, step: Step, prepared: PreparedCheckpoint, since: Instant) {
        self.take_in(true);
        let writer = self.writer.get_or_insert_with(Writer::start);
        if writer.jobs.try_send((snapshot_path(&self.run, step), prepared)).is_ok() {
            self.writing = Some(step);
        }
        self.spent += since.elapsed();
    }

    /// What the writer has done since it was asked last. `wait`: until it has nothing left to do.
    pub fn settle(&mut self, wait: bool) -> Option<Change> {
        self.take_in(wait);
        self.news.take()
    }

    /// Takes in what the writer did, and makes room.
    fn take_in(&mut self, wait: bool) {
        let (Some(writer), Some(step)) = (&self.writer, self.writing) else { return };
        let done = if wait { writer.done.recv().ok() } else { writer.done.try_recv().ok() };
        let Some((written, took)) = done else { return };
        self.writing = None;
        self.spent += took;
        match written {
            Ok(bytes) => {
                self.kept.retain(|(kept, _)| *kept < step);
                self.kept.push((step, bytes));
                self.thin();
                self.news = Some(Change::Kept);
            }
            Err(error) => {
                self.stopped = true;
                self.news = Some(Change::Failed(format!("the timeline stops here: {error}. Training goes on")));
            }
        }
    }

    /// Forgets the steps after this one: training goes on from here, perhaps another way.
    pub fn forget_after(&mut self, step: Step) {
        self.take_in(true);
        self.kept.retain(|(kept, _)| *kept <= step);
        // Those that were left out as well: one that can be read again is of another branch.
        for (later, _) in kept_steps(&self.run).into_iter().filter(|(kept, _)| *kept > step) {
            let _ = fs::remove_file(snapshot_path(&self.run, later));
        }
    }

    /// These steps are looked at.
    pub fn spare(&mut self, steps: Vec<Step>) {
        self.spared = steps;
    }

    /// Leaves a step out that cannot be read. Its file stays.
    pub fn leave_out(&mut self, step: Step) {
        self.kept.retain(|(kept, _)| *kept != step);
    }

    fn thin(&mut self) {
        while self.bytes() > self.budget_bytes {
            let Some(place) = missed_least(&self.steps(), &self.spared) else { return };
            let (step, _) = self.kept.remove(place);
            let _ = fs::remove_file(snapshot_path(&self.run, step));
        }
    }
}

impl Drop for Timeline {
    fn drop(&mut self) {
        if let Some(Writer { jobs, done, thread }) = self.writer.take() {
            drop((jobs, done));
            let _ = thread.join();
        }
    }
}

impl Writer {
    fn start() -> Self {
        let (jobs, to_do) = bounded::<(PathBuf, PreparedCheckpoint)>(1);
        let (tell, done) = bounded(1);
        let thread = std::thread::Builder::new().name("headlight-timeline".into()).spawn(move || {
            for (path, prepared) in to_do {
                let started = Instant::now();
                let written = prepared.write(&path);
                let _ = tell.send((written, started.elapsed()));
            }
        });
        Self { jobs, done, thread: thread.expect("the system starts a thread") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_on_from_a_step_forgets_later_ones_also_where_they_were_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |step| snapshot_path(folder.path(), Step(step));
        fs::create_dir(file(0).parent().expect("a folder")).expect("made");
        for step in [50, 100, 150, 160] {
            fs::write(file(step), "bytes").expect("written");
        }
        let mut timeline = Timeline::open(folder.path(), 100);
        timeline.leave_out(Step(150));
        timeline.leave_out(Step(50));
        timeline.forget_after(Step(100));
        assert_eq!(timeline.steps(), [Step(100)]);
        assert_eq!([50, 100, 150, 160].map(|step| file(step).exists()), [true, true, false, false]);
    }
}
