//! Text in, windows of token ids out: the corpus, its tokenizer, the windows cut from it, and texts of our own.
//!
//! Pure: it knows no tensors, nothing of the screen, no threads but the one that a tokenizer's pattern is tried on, and of the
//! recipe only which text is wanted.
//!
//! ```
//! use headlight::text::{Dataset, consecutive};
//!
//! let data = Dataset::from_text("a rhyme", "one for sorrow, two for joy")?;
//! let ids = data.tokenizer.encode("for joy").ids;
//! assert_eq!(ids.len(), 7);
//! assert_eq!(data.tokenizer.decode(&ids), "for joy");
//!
//! // Windows of four tokens, each with the token that comes next at every place.
//! let (inputs, targets) = consecutive(&data.train, 4).next().expect("there are more than four");
//! assert_eq!(inputs[1..], targets[..3]);
//! # Ok::<(), headlight::text::TextError>(())
//! ```

mod bpe;
mod bpe_file;
mod characters;
mod corpus;
mod cutter;
mod fault;
mod generated;
mod pieces;
mod reference;
#[cfg(test)]
mod samples;
mod token;
mod tokenizer;
mod windows;

pub use bpe::BpeTokenizer;
pub use characters::{CharTokenizer, VocabularyError};
pub use corpus::{BYTES_MAX, Dataset, LineEnds, TEXT_DIGEST, TextSummary};
pub use fault::{Progress, TextError};
pub use generated::{Problem, dialogues, problems};
pub use reference::Reference;
pub use token::{Encoded, TOKENIZER_BYTES_MAX, TokenId, TokenizerFault, VOCABULARY_MAX};
pub use tokenizer::{TextStream, Tokenizer, TokenizerError};
pub use windows::{Batch, consecutive, random_batch};
