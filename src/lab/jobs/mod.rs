//! What the window, the command line and an endpoint all ask for: one place each.

pub mod ask;
pub mod bench;
pub mod branch;
pub mod import;
pub mod trial;
