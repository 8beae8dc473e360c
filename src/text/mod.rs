//! Text in, windows of token ids out: the corpus, its tokenizer, the windows cut from it, and a corpus of our own.
//!
//! Pure: it knows no tensors, no threads, no recipe and nothing of the screen.

mod corpus;
mod generated;
mod tokenizer;
mod windows;

pub use corpus::{BYTES_MAX, Dataset, Progress, TextError, TextSummary};
pub use generated::dialogues;
pub use tokenizer::{CharTokenizer, Encoded, TokenId, VOCABULARY_MAX, VocabularyError, unknown_note};
pub use windows::{Batch, consecutive, random_batch};
