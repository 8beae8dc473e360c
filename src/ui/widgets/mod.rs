//! What several views share: colours, marks, pictures, words.

pub mod colormap;
pub(super) mod glyphs;
pub(super) mod likeliest;
pub(super) mod marks;
pub(super) mod overlay;
pub(super) mod picture;
pub mod theme;
pub(super) mod words;
