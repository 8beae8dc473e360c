//! A text of any length as the ids of a tokenizer that wants to see more than one character at a time.

use std::path::Path;

use super::fault::TextError;
use super::token::named;
use super::tokenizer::Tokenizer;
use crate::text::token::PIECES_BYTES_MAX;

/// Bytes after which a piece is encoded at the next good place.
const PIECE_BYTES: usize = 1 << 16;
/// Bytes after which it is encoded anywhere: the library takes about a hundred bytes of memory for each.
const FORCED_BYTES: usize = 1 << 20;

/// Takes characters and gives the ids that the whole text has: pieces are cut only where byte-level BPE cuts anyway.
///
/// That is after the line end in `word⏎word`: the patterns of GPT-2, Llama 3 and their kin never join its two sides. A
/// file with a pattern or an added token of its own may; then, as in a text without such line ends, a token beside the
/// cut may be another one. The text that the ids stand for is always the same.
pub(super) struct Pieces<'a> {
    tokenizer: &'a Tokenizer,
    /// For errors.
    path: &'a Path,
    piece_bytes: usize,
    forced_bytes: usize,
    piece: String,
    ids: Vec<u16>,
}

impl<'a> Pieces<'a> {
    /// `tokenizer` has at most [`VOCABULARY_MAX`](super::VOCABULARY_MAX) rows, the text about `text_bytes`.
    ///
    /// # Errors
    /// If the memory is too small for such a text.
    pub fn new(tokenizer: &'a Tokenizer, path: &'a Path, text_bytes: u64) -> Result<Self, TextError> {
        let mut ids = Vec::new();
        // A token has a byte at least.
        ids.try_reserve_exact(text_bytes as usize).map_err(|_| TextError::TooLarge {
            path: path.to_owned(),
            bytes: text_bytes,
            most: PIECES_BYTES_MAX,
        })?;
        let (piece_bytes, forced_bytes) = (PIECE_BYTES, FORCED_BYTES);
        ids.extend(tokenizer.around()[0].iter().map(|id| id.0 as u16));
        Ok(Self { tokenizer, path, piece_bytes, forced_bytes, piece: String::new(), ids })
    }

    /// The next character of the text.
    ///
    /// # Errors
    /// If the piece that ends here has parts without a token.
    pub fn push(&mut self, character: char) -> Result<(), TextError> {
        let length = self.piece.len();
        if length >= self.forced_bytes || length >= self.piece_bytes && self.good_place(character) {
            self.encode()?;
        }
        self.piece.push(character);
        Ok(())
    }

    /// The ids of the whole text.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(mut self) -> Result<Vec<u16>, TextError> {
        self.encode()?;
        if self.ids.len() > self.tokenizer.around()[0].len() {
            self.ids.extend(self.tokenizer.around()[1].iter().map(|id| id.0 as u16));
        } else {
            // No text has nothing around it either.
            self.ids.clear();
        }
        self.ids.shrink_to_fit();
        Ok(self.ids)
    }

    fn good_place(&self, next: char) -> bool {
        let mut back = self.piece.chars().rev();
        match self.tokenizer {
            Tokenizer::Numbers(_) => next.is_whitespace(),
            Tokenizer::Characters(_) => true,
            // A piece that begins with a space gets no other before it, which the text's beginning does.
            Tokenizer::Bpe(bpe) if bpe.adds_space() => {
                next == ' ' && back.next().is_some_and(|before| !before.is_whitespace())
            }
            Tokenizer::Bpe(_) => {
                back.next() == Some('\n')
                    && back.next().is_some_and(|before| !before.is_whitespace())
                    && next.is_alphanumeric()
            }
        }
    }

    fn encode(&mut self) -> Result<(), TextError> {
        let encoded = self.tokenizer.encode(&self.piece);
        if let Some(why) = encoded.fault {
            return Err(TextError::Tokenizer { path: self.path.to_owned(), why });
        }
        if !encoded.unknown.is_empty() {
            return Err(TextError::UnknownParts { path: self.path.to_owned(), parts: named(&encoded.unknown) });
        }
        self.ids.extend(encoded.ids.iter().map(|id| id.0 as u16));
        self.piece.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::samples;

    fn encode(tokenizer: &Tokenizer, text: &str, piece_bytes: usize, forced_bytes: usize) -> Vec<u16> {
        let mut pieces =
            Pieces { piece_bytes, forced_bytes, ..Pieces::new(tokenizer, Path::new("a text"), 0).unwrap() };
        text.chars().try_for_each(|character| pieces.push(character)).unwrap();
        pieces.finish().unwrap()
    }

    fn whole(tokenizer: &Tokenizer, text: &str) -> Vec<u16> {
        tokenizer.encode_whole(text).ids.iter().map(|id| id.0 as u16).collect()
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            text in r"(\n|\n\n|a\nb|b\na| |\t|\u{a0}|the|a|'s|,|,\n|/|12|é|\u{301}|😀|<é>|<\|endoftext\|>){0,60}",
            piece_bytes in 1_usize..20,
        ) {
            for tokenizer in [samples::tokenizer(), samples::read(&samples::llama_value()).unwrap()] {
                prop_assert_eq!(encode(&tokenizer, &text, piece_bytes, usize::MAX), whole(&tokenizer, &text));
            }
        }

        #[test]
        fn pieces_of_numbers_make_no_difference(text in "([0-9]{1,3}[ \n]{1,3}){0,40}", piece_bytes in 1_usize..20) {
            let tokenizer = Tokenizer::Numbers(1000);
            prop_assert_eq!(encode(&tokenizer, &text, piece_bytes, usize::MAX), whole(&tokenizer, &text));
        }

        /// Tokens at such a cut may differ, the text may not.
        #[test]
        fn a_text_without_line_ends_stays_whole(text in "(the| |é|😀){0,60}", forced_bytes in 1_usize..20) {
            let tokenizer = samples::tokenizer();
            let ids = encode(&tokenizer, &text, 1, forced_bytes);
            let ids: Vec<_> = ids.into_iter().map(|id| crate::text::TokenId(id.into())).collect();
            prop_assert_eq!(tokenizer.decode(&ids), text);
        }
    }

    #[test]
    fn cuts_are_made_and_unknown_parts_end_it() {
        let tokenizer = samples::tokenizer();
        let mut pieces = Pieces { piece_bytes: 4, ..Pieces::new(&tokenizer, Path::new("a text"), 0).unwrap() };
        "the\na the a".chars().try_for_each(|character| pieces.push(character)).unwrap();
        assert_eq!((pieces.piece.as_str(), pieces.ids.len()), ("a the a", 2));

        let numbers = Tokenizer::Numbers(10);
        let mut pieces = Pieces::new(&numbers, Path::new("a text"), 0).unwrap();
        "1 2 ten".chars().try_for_each(|character| pieces.push(character)).unwrap();
        let error = pieces.finish().unwrap_err().to_string();
        assert_eq!(error, "a text: the model does not know 'ten': take them out or train a new model on it");
    }
}
