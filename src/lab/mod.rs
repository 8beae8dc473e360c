//! The one thread boundary: commands in, events out, and one named thread between them that owns every tensor.

pub mod ask;
pub mod bench;
mod channel;
pub mod desk;
pub mod handle;
pub mod import;
pub mod protocol;
mod start;
pub mod trial;
mod worker;
