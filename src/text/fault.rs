//! What can be wrong with a text, and how far the reading of one is.

use std::io;
use std::path::PathBuf;

use super::token::VOCABULARY_MAX;

/// Why a text cannot be learned from, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    #[error("{}: cannot be read ({cause}): check the name, and that you may open it", .path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("{}: is a folder: choose a text file in it", .path.display())]
    Folder { path: PathBuf },
    /// It stands for another file, which is not there.
    #[error("{}: {fault}", .path.display())]
    StandIn { path: PathBuf, fault: String },
    #[error("{}: holds no text: choose a file with something to learn from", .path.display())]
    Empty { path: PathBuf },
    /// `offset` of the first byte that is no UTF-8, counted from 0.
    #[error("{}: is not UTF-8 text (bad byte at offset {offset}): save it as UTF-8 and open it again", .path.display())]
    NotUtf8 { path: PathBuf, offset: u64 },
    /// `needed` tokens in the `part`, which a text of `total` characters has.
    #[error("{}: its {part} part has {tokens} {unit}, but the context needs {needed}: \
        take a text of at least {total} {unit} or a shorter context", .path.display())]
    TooShort { path: PathBuf, part: &'static str, unit: &'static str, tokens: usize, needed: usize, total: usize },
    /// `most` bytes is what this tokenizer takes.
    #[error("{}: {bytes} bytes are more than {most} or than the memory holds: take a part of it", .path.display())]
    TooLarge { path: PathBuf, bytes: u64, most: u64 },
    #[error("{}: has {distinct} different characters, more than {VOCABULARY_MAX}: is it a text?", .path.display())]
    TooManyCharacters { path: PathBuf, distinct: usize },
    #[error("{}: changed while it was read: wait until nothing writes to it and open it again", .path.display())]
    Changed { path: PathBuf },
    #[error("{}: reading was cancelled: open it again to read it whole", .path.display())]
    Cancelled { path: PathBuf },
    /// `parts`: characters, or words where numbers should be.
    #[error("{}: the model does not know {parts}: take them out or train a new model on it", .path.display())]
    UnknownParts { path: PathBuf, parts: String },
    #[error("{} is not the text that this run learned from", .path.display())]
    Another { path: PathBuf },
    /// What the tokenizer says of it.
    #[error("{}: {why}", .path.display())]
    Tokenizer { path: PathBuf, why: String },
    #[error("{}: a model of {rows} tokens cannot read a text, {VOCABULARY_MAX} is the most", .path.display())]
    VocabularyTooLarge { path: PathBuf, rows: usize },
}

/// How far the reading is, over all its passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub done_bytes: u64,
    pub total_bytes: u64,
}
