//! A token's number, what encoding gives, and the words for a token on the screen.

use serde::{Deserialize, Serialize};

/// The most rows of a vocabulary: a corpus keeps each token in a `u16`.
pub const VOCABULARY_MAX: usize = 1 << 16;

/// The largest `tokenizer.json` that is read, in bytes: that of 65,536 tokens has about 4 MB.
pub const TOKENIZER_BYTES_MAX: u64 = 32 << 20;

/// Unknown parts named in a note before the rest is only counted.
pub(super) const NAMED_MAX: usize = 10;

/// Characters of an unknown part that a note shows.
pub(super) const QUOTED_MAX: usize = 20;

/// A row of the embedding table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenId(pub u32);

/// Text as token ids, and what had to be left out of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    pub ids: Vec<TokenId>,
    /// The distinct parts that have no token, in order of first appearance: characters, or words that are no number.
    pub unknown: Vec<String>,
    /// Why some of it could not be read at all, in a sentence: then the text must not be used as it is.
    pub fault: Option<String>,
}

impl Encoded {
    /// What is missing, in words for the user; empty when nothing is.
    #[must_use]
    pub fn note(&self) -> String {
        let unknown = Some(unknown_note(&self.unknown)).filter(|note| !note.is_empty());
        unknown.into_iter().chain(self.fault.clone()).collect::<Vec<_>>().join("; ")
    }
}

/// Why a tokenizer's JSON cannot be used, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerFault {
    #[error("{0} bytes are more than the {TOKENIZER_BYTES_MAX} of the largest tokenizer: is it the right file?")]
    TooLarge(u64),
    #[error("it is not JSON ({0}): get the file again")]
    NotJson(String),
    #[error("it is JSON, but not a whole tokenizer ({0}): get the file again")]
    Malformed(String),
    #[error("it is a {0} tokenizer, but only byte-level BPE can be read: {instead}", instead = INSTEAD)]
    Kind(String),
    #[error("it is BPE, but not the byte-level one ({0}): {instead}", instead = INSTEAD)]
    NotByteLevel(String),
    #[error("its post-processor {0}: {instead}", instead = INSTEAD)]
    Around(String),
    #[error("its pattern {0} takes too long on ordinary text: {instead}", instead = INSTEAD)]
    Pattern(String),
    #[error("it changes the text first (normalizer {0}), only NFC can be done here: {instead}", instead = INSTEAD)]
    Normalizer(String),
    #[error("it has {0} tokens, more than {VOCABULARY_MAX}: take a model with a smaller vocabulary")]
    TooManyTokens(usize),
    #[error("it belongs to another model: token '{token}' has number {id}, the model has {rows} rows")]
    Row { token: String, id: u32, rows: usize },
    #[error("it belongs to another model: it has {tokens} characters, the model has {rows} rows")]
    Rows { tokens: usize, rows: usize },
}

pub(super) const INSTEAD: &str =
    "take a model with GPT-2's kind of tokenizer, or put the file aside to work in token numbers";

/// What [`Encoded::unknown`] means in words for the user; empty when nothing was left out.
#[must_use]
pub fn unknown_note(unknown: &[String]) -> String {
    if unknown.is_empty() {
        return String::new();
    }
    format!("not in this model's vocabulary and left out: {}", named(unknown))
}

/// The first ten parts in quotes, and how many more there are.
pub(super) fn named(parts: &[String]) -> String {
    listed(&parts.iter().map(|part| quoted(part)).collect::<Vec<_>>())
}

/// The first ten parts, and how many more there are.
pub(super) fn listed(parts: &[String]) -> String {
    let list = parts[..parts.len().min(NAMED_MAX)].join(", ");
    match parts.len().saturating_sub(NAMED_MAX) {
        0 => list,
        more => format!("{list} and {more} more"),
    }
}

/// A part of a text in quotes and visible; a long one is cut short.
pub(super) fn quoted(part: &str) -> String {
    let shown: String = part.chars().take(QUOTED_MAX).map(visible).collect();
    let rest = if part.chars().nth(QUOTED_MAX).is_some() { "…" } else { "" };
    format!("'{shown}{rest}'")
}

pub(super) fn visible(character: char) -> String {
    match character {
        ' ' => "␣".into(),
        '\n' => "⏎".into(),
        '\t' => "⇥".into(),
        '\r' => "␍".into(),
        // The standard library knows what prints nothing or sits on its neighbour: it writes those as `\u{…}`.
        _ if character.is_control() || character.escape_debug().nth(1) == Some('u') => {
            format!("U+{:04X}", u32::from(character))
        }
        _ => character.into(),
    }
}

/// The largest one for a tokenizer that came with a model, in bytes: 1 GiB, which BPE is minutes at.
pub(super) const PIECES_BYTES_MAX: u64 = 1 << 30;
