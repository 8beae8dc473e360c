//! The window driven by the program itself: pictures and frame times.

pub(super) mod bench;
pub(super) mod screenshots;
