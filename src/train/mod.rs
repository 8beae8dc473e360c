//! Training, evaluation, probing and sampling: synchronous, one call at a time, no threads and no window.

mod lesson;
mod look;
mod optimizer;
mod probe;
pub mod roles;
mod sampler;
mod trainer;

pub use lesson::{Question, accuracy, questions, share_right};
pub use look::{Means, Seen, likeliest, pruned, switched};
pub use optimizer::{AdamW, FlatGradients, Moments};
pub use probe::{Probe, logits};
pub use sampler::{Sampler, distribution};
pub use trainer::{NotFinite, Trainer, batch_loss, evaluate_whole, evaluation_batches, ids_tensor, validation_batches};
