//! Another run's curve beneath.

use std::path::PathBuf;

use crate::protocol::{StepReport, ValidationReport};
use crate::store::Series;

/// An earlier run drawn beside this one.
#[derive(Debug, Clone)]
pub struct Overlay {
    pub name: String,
    pub path: PathBuf,
    pub loss: Series,
    pub validation_loss: Series,
}

impl Overlay {
    #[must_use]
    pub fn new(name: String, path: PathBuf, history: &[StepReport], validations: &[ValidationReport]) -> Self {
        let mut overlay = Self { name, path, loss: Series::default(), validation_loss: Series::default() };
        history.iter().for_each(|report| overlay.loss.push(report.step.0, report.loss));
        validations.iter().for_each(|report| overlay.validation_loss.push(report.step.0, report.validation_loss));
        overlay
    }
}
