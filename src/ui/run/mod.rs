//! One run: loss, timeline, transport, notices, the parity run.

pub mod loss_view;
pub(super) mod notices;
pub(super) mod parity;
pub(super) mod timeline;
pub(super) mod transport;
