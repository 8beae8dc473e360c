//! The one thread boundary: commands in, events out, and one named thread between them that owns every tensor.

pub mod ask;
pub mod bench;
pub mod branch;
mod channel;
pub mod desk;
pub mod handle;
pub mod import;
mod looking;
mod measuring;
mod start;
mod timeline;
pub mod trial;
mod worker;
