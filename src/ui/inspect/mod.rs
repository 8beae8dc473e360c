//! The views into the model.

pub mod attention_view;
pub(super) mod findings;
pub(super) mod lens_view;
pub(super) mod roles_view;
pub(super) mod tokens_view;
