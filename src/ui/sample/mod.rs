//! The sampled text.

pub mod sample_view;
