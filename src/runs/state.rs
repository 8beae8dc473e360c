//! What training needs besides weights and moments.

use serde::{Deserialize, Serialize};

use crate::protocol::Step;

/// What training needs besides weights and moments. The data's order and all randomness follow from seed and step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TrainingState {
    pub step: Step,
    /// The schedule's ends as they are now: the user may have moved them.
    pub learning_rate: f64,
    pub final_learning_rate: f64,
    /// Seconds of training so far.
    pub elapsed_secs: f64,
    pub best_validation_loss: Option<f32>,
}
