//! Keeping a run's timeline while it trains: the weights are copied between two steps, and written by a thread of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::protocol::Step;
use crate::runs::{Hold, PreparedCheckpoint, RunError, is_worth_keeping, kept_steps, missed_least, snapshot_path};

/// The part of training's time that the timeline may take, as one in so many: with the credit under 2 % of half a minute.
const SHARE: u32 = 75;
/// What the first steps, which are worth most, may take at once.
const CREDIT: Duration = Duration::from_millis(200);

/// A timeline that had no room is tried again after so many checkpoints at most.
const PATIENCE_MAX: u32 = 8;

/// The timeline of an open run.
pub(in crate::lab) struct Timeline {
    run: PathBuf,
    hold: Hold,
    kept: Vec<(Step, u64)>,
    budget_bytes: u64,
    writer: Option<Writer>,
    /// The step that is being written.
    writing: Option<Step>,
    /// The last step that was looked at closer.
    last: Option<Step>,
    spent: Duration,
    /// Nothing is kept for want of room, until so many checkpoints were saved without giving up steps for them.
    stopped: Option<u32>,
    /// After how many the stop ends: where there is soon no room again it is tried more and more seldom.
    patience: u32,
    /// It was told that it stops, and not yet that it goes on.
    told_stopped: bool,
    /// Steps that are looked at, which no thinning takes.
    spared: Vec<Step>,
    /// Not told yet.
    news: Option<Change>,
}

struct Writer {
    jobs: Sender<(PathBuf, Hold, PreparedCheckpoint)>,
    done: Receiver<(Result<u64, RunError>, Duration)>,
    thread: JoinHandle<()>,
}

/// What became of the timeline.
pub(in crate::lab) enum Change {
    Kept,
    /// It goes on with this step after it had stopped.
    Again(Step),
    /// It stopped, and why.
    Failed(RunError),
}

impl Timeline {
    /// Of the run folder `run`, which is held.
    pub fn open(run: &Path, hold: &Hold, budget_megabytes: u64) -> Self {
        let kept = kept_steps(run);
        Self {
            run: run.to_owned(),
            hold: hold.clone(),
            last: kept.last().map(|(step, _)| *step),
            kept,
            budget_bytes: budget_megabytes.saturating_mul(1_000_000),
            writer: None,
            writing: None,
            spent: Duration::ZERO,
            stopped: None,
            patience: 0,
            told_stopped: false,
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

    /// Whether this step is worth a closer look, and to be kept where there is room: asked after each, with the time that
    /// training has taken.
    pub fn is_due(&self, step: Step, training: Duration, is_last: bool) -> bool {
        let has_time = self.writing.is_none() && self.spent * SHARE <= training + CREDIT * SHARE;
        self.last != Some(step) && (is_last || (has_time && is_worth_keeping(step, self.last)))
    }

    /// Whether there is room for steps of so many bytes: for two at least, or for none.
    pub const fn has_room(&self, bytes: u64) -> bool {
        self.stopped.is_none() && 2 * bytes <= self.budget_bytes
    }

    /// A step that was due was looked at; `since` is when that began.
    pub fn looked_at(&mut self, step: Step, since: Instant) {
        self.last = Some(step);
        self.spent += since.elapsed();
    }

    /// Hands a step's weights to the writer.
    pub fn keep(&mut self, step: Step, prepared: PreparedCheckpoint) {
        self.take_in(true);
        let writer = self.writer.get_or_insert_with(Writer::start);
        if writer.jobs.try_send((snapshot_path(&self.run, step), self.hold.clone(), prepared)).is_ok() {
            self.writing = Some(step);
        }
    }

    /// Gives up steps that take so many bytes, for something that is needed more on a disk that is full, and keeps no
    /// others for now. Whether there were any.
    pub fn make_room(&mut self, bytes: u64) -> bool {
        self.take_in(true);
        self.stop();
        self.told_stopped = true;
        let mut freed = 0;
        while freed < bytes && !self.kept.is_empty() {
            let place = missed_least(&self.steps(), &self.spared).unwrap_or(0);
            let (step, size) = self.kept.remove(place);
            freed += fs::remove_file(snapshot_path(&self.run, step)).map_or(0, |()| size);
        }
        freed > 0
    }

    /// A checkpoint was saved, and no step was given up for it: after some of these there is room for steps again.
    pub fn saved_beside(&mut self) {
        self.stopped = self.stopped.and_then(|left| left.checked_sub(1)).filter(|&left| left > 0);
    }

    /// Whether nothing is kept for want of room.
    pub const fn is_stopped(&self) -> bool {
        self.stopped.is_some()
    }

    fn stop(&mut self) {
        if self.stopped.is_none() {
            self.patience = (2 * self.patience).clamp(1, PATIENCE_MAX);
        }
        self.stopped = Some(self.patience);
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
                let again = std::mem::take(&mut self.told_stopped);
                self.news = Some(if again { Change::Again(step) } else { Change::Kept });
            }
            Err(error) => {
                self.stop();
                if !std::mem::replace(&mut self.told_stopped, true) || error.is_gone() {
                    self.news = Some(Change::Failed(error));
                }
            }
        }
    }

    /// Forgets the steps after this one: training goes on from here, perhaps another way.
    pub fn forget_after(&mut self, step: Step) {
        self.take_in(true);
        self.kept.retain(|(kept, _)| *kept <= step);
        self.last = self.steps().last().copied();
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
        let (jobs, to_do) = bounded::<(PathBuf, Hold, PreparedCheckpoint)>(1);
        let (tell, done) = bounded(1);
        let thread = std::thread::Builder::new().name("headlight-timeline".into()).spawn(move || {
            for (path, hold, prepared) in to_do {
                let started = Instant::now();
                let written = prepared.write(&path, &hold);
                let _ = tell.send((written, started.elapsed()));
            }
        });
        Self { jobs, done, thread: thread.expect("the system starts a thread") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs::{RunFile, RunFolder};
    use crate::text::Tokenizer;

    /// A timeline of these steps, of so many bytes each.
    fn of(folder: &Path, steps: [u64; 4], bytes: usize) -> Timeline {
        let file = RunFile::new(crate::preset::first().recipe, Tokenizer::Numbers(9), String::new());
        let run = RunFolder::create(folder, file).expect("made");
        let files = steps.map(|step| snapshot_path(folder, Step(step)));
        files.iter().for_each(|file| fs::write(file, vec![0; bytes]).expect("written"));
        Timeline::open(folder, run.hold(), 100)
    }

    fn there(folder: &Path, steps: [u64; 4]) -> [bool; 4] {
        steps.map(|step| snapshot_path(folder, Step(step)).exists())
    }

    #[test]
    fn going_on_from_a_step_forgets_later_ones_also_where_they_were_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut timeline = of(folder.path(), [50, 100, 150, 160], 5);
        timeline.leave_out(Step(150));
        timeline.leave_out(Step(50));
        timeline.forget_after(Step(100));
        assert_eq!(timeline.steps(), [Step(100)]);
        assert_eq!(there(folder.path(), [50, 100, 150, 160]), [true, true, false, false]);
    }

    #[test]
    fn room_is_made_of_the_steps_that_are_missed_least_and_no_others_are_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut timeline = of(folder.path(), [0, 100, 110, 200], 1000);
        timeline.spare(vec![Step(100)]);
        assert!(timeline.has_room(1000) && timeline.make_room(1500) && !timeline.has_room(1000));
        assert_eq!(there(folder.path(), [0, 100, 110, 200]), [false, true, false, true]);
        assert!(timeline.make_room(9000) && timeline.steps().is_empty() && !timeline.make_room(1));
    }

    #[test]
    fn where_there_is_room_again_steps_are_kept_again_and_a_disk_that_stays_full_is_asked_ever_more_seldom() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut timeline = of(folder.path(), [0, 100, 110, 200], 1000);
        for patience in [1, 2, 4] {
            assert!(timeline.make_room(1));
            for _ in 0..patience {
                assert!(!timeline.has_room(10));
                timeline.saved_beside();
            }
            assert!(timeline.has_room(10));
        }
    }
}
