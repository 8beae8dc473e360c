//! Training, evaluation, probing and sampling: synchronous, one call at a time, no threads and no window.

mod finite;
mod lesson;
mod look;
mod optimizer;
mod probe;
pub mod roles;
mod sampler;
mod trainer;

pub use finite::{first_non_finite, first_non_finite_in, proof_tokens};
pub use lesson::{Question, accuracy, questions, share_right};
pub use look::{Means, Seen, likeliest, pruned, switched};
pub use optimizer::{AdamW, FlatGradients, Moments};
pub use probe::{Probe, logits};
pub use sampler::{Sampler, distribution};
pub use trainer::{NotFinite, Trainer, batch_loss, evaluate_whole, ids_tensor, validation_batches};
