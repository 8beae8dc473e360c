//! Text in, windows of token ids out: the corpus, its tokenizer, the windows cut from it, and texts of our own.
//!
//! Pure: it knows no tensors, no threads, nothing of the screen, and of the recipe only which text is wanted.

mod bpe;
mod characters;
mod corpus;
mod generated;
mod pieces;
#[cfg(test)]
mod samples;
mod stand_in;
mod tokenizer;
mod windows;

pub use bpe::BpeTokenizer;
pub use characters::{CharTokenizer, VocabularyError};
pub use corpus::{BYTES_MAX, Dataset, Progress, TextError, TextSummary};
pub use generated::{Problem, dialogues, problems};
pub use stand_in::{LFS_BYTES_MAX, dangling_fault, lfs_fault};
pub use tokenizer::{
    Encoded, TOKENIZER_BYTES_MAX, TextStream, TokenId, Tokenizer, TokenizerError, TokenizerFault, VOCABULARY_MAX,
    unknown_note,
};
pub use windows::{Batch, consecutive, random_batch};
