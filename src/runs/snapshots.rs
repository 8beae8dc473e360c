//! The timeline of a run: checkpoints of many of its steps, in `snapshots/`, and which of them are worth keeping.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::hold::{ROLES_FILE, SNAPSHOTS};
use super::log::Lines;
use super::{RunError, RunFolder, write_atomic};
use crate::files;
use crate::protocol::{RoleReport, Step};

/// The largest record of roles that is read, in bytes.
const ROLES_BYTES_MAX: u64 = 4 << 30;
/// A line of roles of the largest model stays under this.
const ROLES_LINE_MAX: u64 = 4 << 20;

/// Where a step's checkpoint is kept, whether or not it is there.
#[must_use]
pub fn snapshot_path(run: &Path, step: Step) -> PathBuf {
    run.join(SNAPSHOTS).join(format!("step-{:06}.safetensors", step.0))
}

/// Where a kept step's checkpoint is.
///
/// # Errors
/// If it is not kept; says which are.
pub fn find_snapshot(run: &Path, step: Step) -> Result<PathBuf, RunError> {
    let path = snapshot_path(run, step);
    if fs::symlink_metadata(&path).is_ok_and(|found| found.is_file()) {
        return Ok(path);
    }
    Err(RunError::NotKept { path: run.to_owned(), step: step.0, kept: kept_text(run) })
}

/// The kept steps of a run in rising order, with the bytes of each.
#[must_use]
pub fn kept_steps(run: &Path) -> Vec<(Step, u64)> {
    let entries = fs::read_dir(run.join(SNAPSHOTS)).into_iter().flatten().flatten();
    let mut kept: Vec<_> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let step = name.to_str()?.strip_prefix("step-")?.strip_suffix(".safetensors")?.parse().ok()?;
            // Of the entry itself: a link is no kept step.
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((Step(step), metadata.len()))
        })
        .collect();
    kept.sort_unstable();
    kept
}

/// Whether `step` is worth keeping after `last`: each early step, later every round one (a multiple of 1, 2 or 5 times a
/// power of ten) at distances that grow with the run.
#[must_use]
pub fn is_worth_keeping(step: Step, last: Option<Step>) -> bool {
    let Some(last) = last else { return true };
    let round = (0..19).flat_map(|power| [1, 2, 5].map(|times| times * 10_u64.pow(power)));
    let distance = round.take_while(|&round| round <= last.0 / 16).last().unwrap_or(0).max(1);
    step > last && step.0.is_multiple_of(distance)
}

/// The place of the kept step that is missed least: the one whose neighbours are closest to each other for how early they
/// are. The first and the last stay, and those that are `spared`.
#[must_use]
pub fn missed_least(kept: &[Step], spared: &[Step]) -> Option<usize> {
    let end = kept.last()?.0 as f64;
    // Not quite in proportion: else a long run would have most of its steps in its first minute.
    let gap = |place: usize| {
        let before = kept[place - 1].0 as f64;
        (kept[place + 1].0 as f64 - before) / (before + 1.0 + end / 32.0)
    };
    let may_go = (1..kept.len().saturating_sub(1)).filter(|&place| !spared.contains(&kept[place]));
    may_go.min_by(|&one, &other| gap(one).total_cmp(&gap(other)))
}

impl RunFolder {
    /// Appends what the heads did at a step to the run's record.
    ///
    /// # Errors
    /// If the disk is full or gone, or the folder is.
    pub fn log_roles(&self, report: &RoleReport) -> Result<(), RunError> {
        self.check()?;
        append_roles(self.path(), report)
    }

    /// Takes what is later than `last` out of the record: training goes on from there, perhaps another way.
    ///
    /// # Errors
    /// As [`log_roles`](Self::log_roles).
    pub fn cut_roles(&self, last: Step) -> Result<(), RunError> {
        self.check()?;
        cut_roles(self.path(), last)
    }
}

fn append_roles(run: &Path, report: &RoleReport) -> Result<(), RunError> {
    let path = run.join(ROLES_FILE);
    let mut line = serde_json::to_string(report).map_err(|error| RunError::damaged(&path, error))?;
    line.push('\n');
    let mut file = files::open_to_append(&path).map_err(RunError::file(&path))?;
    let before = file.metadata().map_err(RunError::io(&path))?.len();
    file.write_all(line.as_bytes()).map_err(|cause| {
        // Half a line would swallow the next one.
        let _ = file.set_len(before);
        RunError::Io { path, cause }
    })
}

fn cut_roles(run: &Path, last: Step) -> Result<(), RunError> {
    let path = run.join(ROLES_FILE);
    if fs::symlink_metadata(&path).is_err() {
        return Ok(());
    }
    let mut text = String::new();
    // What cannot be read is not replaced by less.
    for report in try_read_roles(run, last)? {
        text += &serde_json::to_string(&report).map_err(|error| RunError::damaged(&path, error))?;
        text.push('\n');
    }
    write_atomic(&path, text.as_bytes())
}

/// What the heads did at kept steps up to `last`, in rising order. Lines that cannot be read are left out.
#[must_use]
pub fn read_roles(run: &Path, last: Step) -> Vec<RoleReport> {
    try_read_roles(run, last).unwrap_or_default()
}

fn try_read_roles(run: &Path, last: Step) -> Result<Vec<RoleReport>, RunError> {
    let mut reports = Vec::<RoleReport>::new();
    let lines = Lines::open(&run.join(ROLES_FILE), ROLES_BYTES_MAX, ROLES_LINE_MAX)?;
    let Some(mut lines) = lines else { return Ok(reports) };
    while let Some(line) = lines.next_line()? {
        if let Ok(report) = serde_json::from_slice::<RoleReport>(line)
            && report.step <= last
        {
            while reports.pop_if(|later| later.step >= report.step).is_some() {}
            reports.push(report);
        }
    }
    Ok(reports)
}

/// The kept steps in words, for an error.
fn kept_text(run: &Path) -> String {
    let kept = kept_steps(run);
    let few: Vec<String> = kept.iter().map(|(step, _)| step.0.to_string()).collect();
    match few.len() {
        0 => "no step is kept".into(),
        1..=12 => format!("kept are {}", few.join(", ")),
        count => format!("{count} are kept, from {} to {}: {} …", few[0], few[count - 1], few[..12].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a run of that many steps keeps, with room for so many.
    fn kept(steps: u64, room: usize) -> Vec<u64> {
        let mut kept: Vec<Step> = Vec::new();
        for step in (0..=steps).map(Step) {
            if is_worth_keeping(step, kept.last().copied()) {
                kept.push(step);
                while kept.len() > room {
                    kept.remove(missed_least(&kept, &[]).expect("more than two"));
                }
            }
        }
        kept.into_iter().map(|step| step.0).collect()
    }

    #[test]
    fn a_timeline_is_dense_at_first_round_later_and_spans_the_run() {
        let all = kept(2000, usize::MAX);
        assert!(all[..32] == (0..32).collect::<Vec<_>>()[..] && all.len() < 140, "{all:?}");
        assert!(all.ends_with(&[1700, 1800, 1900, 2000]), "{all:?}");
        let few = kept(2000, 12);
        assert!(few.len() == 12 && few[0] == 0 && few[11] == 2000, "{few:?}");
        assert!(few.iter().filter(|&&step| step < 200).count() >= 5, "{few:?}");
        assert!(few.windows(2).all(|pair| pair[1] - pair[0] <= 600), "{few:?}");
    }

    #[test]
    fn the_first_and_the_last_are_always_kept() {
        assert_eq!(missed_least(&[Step(0), Step(5)], &[]), None);
        assert_eq!(missed_least(&[Step(0), Step(1), Step(5)], &[Step(1)]), None);
        assert_eq!(missed_least(&[0, 1, 2, 9].map(Step), &[Step(1)]), Some(2));
        assert_eq!(kept(50, 2), [0, 50]);
    }

    #[test]
    fn the_record_of_roles_reads_back_up_to_a_step_and_skips_what_was_cut_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let report = |step| RoleReport { step: Step(step), heads: 1, reports: Vec::new() };
        for step in [0, 1, 2, 1] {
            append_roles(folder.path(), &report(step)).expect("written");
        }
        let path = folder.path().join(ROLES_FILE);
        let mut text = fs::read_to_string(&path).expect("read");
        text.push_str("{\"step\":4,\"hea");
        fs::write(&path, text).expect("written");
        // The run went back to 0 and came by 1 again: 2 is void.
        let steps = |last| -> Vec<u64> { read_roles(folder.path(), Step(last)).iter().map(|it| it.step.0).collect() };
        assert_eq!(steps(9), [0, 1]);
        assert_eq!(steps(0), [0]);
        // Training goes on from 1, another way, and what was cut off swallows no line.
        cut_roles(folder.path(), Step(1)).expect("written");
        append_roles(folder.path(), &report(5)).expect("written");
        assert_eq!(steps(9), [0, 1, 5]);
        // A record that cannot be read as a whole is not replaced by what could be read.
        let file = fs::File::options().write(true).open(&path).expect("there");
        let before = file.metadata().expect("there").len();
        if file.set_len(ROLES_BYTES_MAX + 1).is_ok() {
            cut_roles(folder.path(), Step(0)).expect_err("too long");
            file.set_len(before).expect("cut");
            assert_eq!(steps(9), [0, 1, 5]);
        }
    }
}
