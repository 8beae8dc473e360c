//! Training, evaluation, probing and sampling: synchronous, one call at a time, no threads and no window.
//!
//! ```
//! use std::sync::Arc;
//!
//! use headlight::text::{Dataset, dialogues};
//! use headlight::train::{Trainer, evaluate_whole};
//! use headlight::{device, preset};
//!
//! let mut recipe = preset::find("glass-box").expect("built in").recipe;
//! recipe.training.warmup_steps = 5;
//! let (context, data) = (recipe.model.context, Dataset::from_text("dialogues", &dialogues(8000))?);
//! let mut trainer = Trainer::new(recipe, Arc::new(data), device::cpu());
//!
//! let first = trainer.step()?.loss;
//! for _ in 0..20 {
//!     trainer.step()?;
//! }
//! let model = trainer.validation_model();
//! let loss = evaluate_whole(&model, &trainer.dataset().validation, context, trainer.device(), &mut || true);
//! assert!(loss.expect("not called off") < f64::from(first));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod finite;
mod inspect;
mod lesson;
mod optimizer;
mod probe;
pub mod roles;
mod sampler;
mod trainer;

pub use crate::train::inspect::{Means, Seen, likeliest, pruned, switched};
pub use batch::{batch_loss, ids_tensor};
pub use finite::{first_non_finite, first_non_finite_in, proof_tokens};
pub use lesson::{Question, accuracy, questions, share_right};
pub use optimizer::{AdamW, FlatGradients, Moments};
pub use probe::{Probe, logits};
pub use sampler::{Sampler, distribution};
pub use trainer::{NotFinite, Trainer, evaluate_whole, evaluation_batches, validation_batches};
