//! The one thread boundary: commands in, events out, and one named thread between them that owns every tensor.

pub mod file_worker;
pub mod handle;
pub mod jobs;
mod worker;
