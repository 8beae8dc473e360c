//! Headlight: a desktop lab for micro language models.
//!
//! The map of the house. The way of the data is a line:
//!
//! ```text
//! text file ─► corpus ─► tokenizer ─► windows ─► trainer ─► Event ─► channel ─► RunStore ─► panels
//!                                       ▲           │                              │
//!                                       └─ Command ◄┼───── channel ◄──── Action ◄──┘
//!                                                   └─► run folder (recipe, metrics, checkpoints)
//! ```

pub mod device;
pub mod headless;
pub mod lab;
pub mod model;
pub mod preset;
pub mod recipe;
pub mod runs;
pub mod store;
pub mod text;
pub mod train;
#[cfg(feature = "gui")]
pub mod ui;
