//! The curves of a run as its log tells them.

use std::path::Path;

use crate::protocol::{Step, StepReport, ValidationReport};
use crate::recipe::Recipe;
use crate::runs::folder::Stored;
use crate::runs::hold::LOG_FILE;
use crate::runs::log::{Gap, LINE_BYTES_MAX, LOG_BYTES_MAX, Line, Lines};
use crate::runs::{RunError, RunFolder};

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

    pub(super) fn push(&mut self, line: Line) {
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
