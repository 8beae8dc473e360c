//! Text in, windows of token ids out: the corpus, its tokenizer, the windows cut from it, and a corpus of our own.
//!
//! Pure: it knows no tensors, no threads, no recipe and nothing of the screen.

mod bpe;
mod characters;
mod corpus;
mod generated;
mod pieces;
#[cfg(test)]
mod samples;
mod tokenizer;
mod windows;

pub use bpe::BpeTokenizer;
pub use characters::{CharTokenizer, VocabularyError};
pub use corpus::{BYTES_MAX, Dataset, Progress, TextError, TextSummary};
pub use generated::dialogues;
pub use tokenizer::{
    Encoded, TOKENIZER_BYTES_MAX, TextStream, TokenId, Tokenizer, TokenizerError, TokenizerFault, VOCABULARY_MAX,
    unknown_note,
};
pub use windows::{Batch, consecutive, random_batch};
