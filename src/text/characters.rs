//! One token per Unicode scalar value, as nanoGPT's `shakespeare_char`: the vocabulary is the text's distinct
//! characters sorted by code point, so that the same text always gives the same ids.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use super::token::{Encoded, TokenId, VOCABULARY_MAX, quoted, visible};

/// A character-level tokenizer. Serialized as the string of its characters, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CharTokenizer {
    /// Strictly rising: a character's place is its id.
    characters: Vec<char>,
}

/// Why a string is no vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VocabularyError {
    #[error("the vocabulary is empty")]
    Empty,
    #[error("the vocabulary has {0} characters, more than {VOCABULARY_MAX}")]
    TooLarge(usize),
    /// Ids follow the code points, so a vocabulary in another order belongs to another model.
    #[error("the vocabulary is not sorted by code point, or holds {} twice", quoted(&.0.to_string()))]
    Order(char),
}

impl CharTokenizer {
    /// The tokenizer of a text: its distinct characters, in any order and as often as they come.
    pub fn from_chars(characters: impl IntoIterator<Item = char>) -> Self {
        Self { characters: characters.into_iter().collect::<BTreeSet<_>>().into_iter().collect() }
    }

    /// Number of distinct tokens.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.characters.len()
    }

    /// The characters in the order of their ids.
    #[must_use]
    pub fn characters(&self) -> &[char] {
        &self.characters
    }

    /// The ids of the text's characters; those outside the vocabulary are left out and named.
    #[must_use]
    pub fn encode(&self, text: &str) -> Encoded {
        let (mut encoded, mut named) = (Encoded::default(), HashSet::new());
        for character in text.chars() {
            match self.characters.binary_search(&character) {
                Ok(place) => encoded.ids.push(TokenId(place as u32)),
                Err(_) if named.insert(character) => encoded.unknown.push(character.to_string()),
                Err(_) => {}
            }
        }
        encoded
    }

    /// One token's text; that of an id outside the vocabulary is U+FFFD, the replacement character.
    #[must_use]
    pub fn text(&self, id: TokenId) -> String {
        self.character(id).to_string()
    }

    /// One token's text made visible, for axes and lists: `␣`, `⏎`, `⇥`, `␍`, or `U+0007` where there is no glyph.
    #[must_use]
    pub fn label(&self, id: TokenId) -> String {
        visible(self.character(id))
    }

    fn character(&self, id: TokenId) -> char {
        self.characters.get(id.0 as usize).copied().unwrap_or(char::REPLACEMENT_CHARACTER)
    }
}

impl TryFrom<String> for CharTokenizer {
    type Error = VocabularyError;

    fn try_from(text: String) -> Result<Self, VocabularyError> {
        let characters: Vec<char> = text.chars().collect();
        if characters.is_empty() {
            return Err(VocabularyError::Empty);
        }
        if characters.len() > VOCABULARY_MAX {
            return Err(VocabularyError::TooLarge(characters.len()));
        }
        match characters.windows(2).find(|pair| pair[0] >= pair[1]) {
            Some(pair) => Err(VocabularyError::Order(pair[1])),
            None => Ok(Self { characters }),
        }
    }
}

impl From<CharTokenizer> for String {
    fn from(tokenizer: CharTokenizer) -> Self {
        tokenizer.characters.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(tokenizer: &CharTokenizer, ids: &[TokenId]) -> String {
        ids.iter().map(|&id| tokenizer.text(id)).collect()
    }

    proptest! {
        #[test]
        fn known_text_comes_back_whole_and_the_rest_is_named(known in "[a-m\n☃é]{1,30}", text in "[a-p\n☃é😀]{0,30}") {
            let tokenizer = CharTokenizer::from_chars(known.chars());
            let whole = tokenizer.encode(&known);
            prop_assert_eq!(decode(&tokenizer, &whole.ids), known.as_str());
            prop_assert!(whole.unknown.is_empty());

            let encoded = tokenizer.encode(&text);
            let kept: String = text.chars().filter(|&character| known.contains(character)).collect();
            let mut left_out = Vec::new();
            for character in text.chars().filter(|&character| !known.contains(character)).map(String::from) {
                if !left_out.contains(&character) {
                    left_out.push(character);
                }
            }
            prop_assert_eq!(decode(&tokenizer, &encoded.ids), kept);
            prop_assert_eq!(encoded.unknown, left_out);
        }

        #[test]
        fn a_file_keeps_the_vocabulary(text in any::<String>().prop_filter("not empty", |text| !text.is_empty())) {
            let tokenizer = CharTokenizer::from_chars(text.chars());
            let json = serde_json::to_string(&tokenizer).unwrap();
            prop_assert_eq!(serde_json::from_str::<CharTokenizer>(&json).unwrap(), tokenizer);
        }
    }

    #[test]
    fn a_broken_vocabulary_is_refused() {
        for (json, fault) in [(r#""""#, "empty"), (r#""abb""#, "holds 'b' twice"), (r#""ba""#, "not sorted")] {
            let error = serde_json::from_str::<CharTokenizer>(json).unwrap_err().to_string();
            assert!(error.contains(fault), "{json}: {error}");
        }
        let too_large = ('\0'..=char::MAX).take(VOCABULARY_MAX + 1).collect::<String>();
        assert_eq!(CharTokenizer::try_from(too_large), Err(VocabularyError::TooLarge(VOCABULARY_MAX + 1)));
    }

    #[test]
    fn labels_can_be_seen() {
        let tokenizer = CharTokenizer::from_chars(" \n\t\r\u{7}\u{200b}\u{301}'\\é".chars());
        let labels: Vec<String> = (0..11).map(|id| tokenizer.label(TokenId(id))).collect();
        assert_eq!(labels, ["U+0007", "⇥", "⏎", "␍", "␣", "'", "\\", "é", "U+0301", "U+200B", "\u{FFFD}"]);
        assert_eq!(decode(&tokenizer, &[TokenId(7), TokenId(u32::MAX)]), "é\u{FFFD}");
    }
}
