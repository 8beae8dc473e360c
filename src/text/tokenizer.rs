//! Text as token ids and back: the three kinds of tokenizer under one name, and what they share.
//!
//! What tells them apart lies in `characters.rs` and `bpe.rs`; token numbers are small enough to stand here.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::bpe::BpeTokenizer;
use super::characters::CharTokenizer;
use super::token::{Encoded, TOKENIZER_BYTES_MAX, TokenId, TokenizerFault};
use crate::files::{self, FileFault, Links};

/// How a model's text becomes token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tokenizer {
    /// What a model that is made here learns from.
    Characters(CharTokenizer),
    /// What came with a model from elsewhere.
    Bpe(BpeTokenizer),
    /// For a model of so many rows that came without a tokenizer: its text is token numbers between white space.
    Numbers(usize),
}

/// A fault with the file that has it.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    #[error("{}: cannot be read ({cause}): check the name, and that you may open it", .path.display())]
    Unreadable { path: PathBuf, cause: io::Error },
    #[error("{}: {fault}", .path.display())]
    Refused { path: PathBuf, fault: TokenizerFault },
}

impl Tokenizer {
    /// Reads a `tokenizer.json`, Hugging Face's or an exported one of this program's, for a model of `rows` rows.
    ///
    /// # Errors
    /// If the file is unreadable or too large, or holds no tokenizer that can be used with this model.
    pub fn from_json_file(path: &Path, rows: usize) -> Result<Self, TokenizerError> {
        let unreadable = |cause| TokenizerError::Unreadable { path: path.to_owned(), cause };
        let refused = |fault| TokenizerError::Refused { path: path.to_owned(), fault };
        let json = match files::read(path, Links::Followed, TOKENIZER_BYTES_MAX) {
            Ok(json) => json,
            Err(FileFault::TooLarge { bytes, .. }) => return Err(refused(TokenizerFault::TooLarge(bytes))),
            Err(fault) => return Err(unreadable(fault.into())),
        };
        Self::from_json(&json, rows).map_err(refused)
    }

    /// As [`Self::from_json_file`], from memory.
    ///
    /// # Errors
    /// As [`Self::from_json_file`], without the file's name.
    pub fn from_json(json: &[u8], rows: usize) -> Result<Self, TokenizerFault> {
        if json.len() as u64 > TOKENIZER_BYTES_MAX {
            return Err(TokenizerFault::TooLarge(json.len() as u64));
        }
        let text = str::from_utf8(json).map_err(|error| TokenizerFault::NotJson(error.to_string()))?;
        let value: Value = serde_json::from_str(text).map_err(|error| TokenizerFault::NotJson(error.to_string()))?;
        if value["kind"] != "characters" {
            return BpeTokenizer::from_json(text, value, rows).map(Self::Bpe);
        }
        let malformed = |error: &dyn ToString| TokenizerFault::Malformed(error.to_string());
        let characters: Vec<char> =
            Deserialize::deserialize(&value["characters"]).map_err(|error| malformed(&error))?;
        let tokenizer: CharTokenizer =
            characters.into_iter().collect::<String>().try_into().map_err(|error| malformed(&error))?;
        match tokenizer.vocabulary() {
            tokens if tokens == rows => Ok(Self::Characters(tokenizer)),
            tokens => Err(TokenizerFault::Rows { tokens, rows }),
        }
    }

    /// Number of rows of the model's embedding table; some of them may have no token.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        match self {
            Self::Characters(characters) => characters.vocabulary(),
            Self::Bpe(bpe) => bpe.vocabulary(),
            Self::Numbers(rows) => *rows,
        }
    }

    /// The ids of a whole text, as `tokenizer(text)` of transformers gives them: with what the tokenizer puts before and
    /// after it.
    #[must_use]
    pub fn encode_whole(&self, text: &str) -> Encoded {
        let encoded = self.encode(text);
        let [before, after] = self.around();
        Encoded { ids: [before, &encoded.ids, after].concat(), ..encoded }
    }

    /// What a whole text gets before and after it.
    #[must_use]
    pub fn around(&self) -> [&[TokenId]; 2] {
        if let Self::Bpe(bpe) = self { bpe.around() } else { [&[], &[]] }
    }

    /// The same tokenizer, that puts nothing around a text.
    #[must_use]
    pub fn without_special_tokens(&self) -> Self {
        if let Self::Bpe(bpe) = self { Self::Bpe(bpe.without_special_tokens()) } else { self.clone() }
    }

    /// Whether the token is none of a text's own: it begins, ends or marks one.
    #[must_use]
    pub fn is_special(&self, id: TokenId) -> bool {
        matches!(self, Self::Bpe(bpe) if bpe.is_special(id))
    }

    /// The ids of a part of a text; what has no token is left out and named. No special tokens are added, but those that
    /// stand in the text are recognised.
    #[must_use]
    pub fn encode(&self, text: &str) -> Encoded {
        match self {
            Self::Characters(characters) => characters.encode(text),
            Self::Bpe(bpe) => bpe.encode(text),
            Self::Numbers(rows) => encode_numbers(*rows, text),
        }
    }

    /// The text of the ids. A row without a token and bytes that are no UTF-8 become U+FFFD, the replacement character.
    #[must_use]
    pub fn decode(&self, ids: &[TokenId]) -> String {
        let mut stream = TextStream::default();
        let mut text: String = ids.iter().map(|&id| stream.push(self, id)).collect();
        text.push_str(&stream.finish());
        text
    }

    /// The text of one token by itself; of tokens in a row, [`TextStream`] knows more.
    #[must_use]
    pub fn text(&self, id: TokenId) -> String {
        self.decode(&[id])
    }

    /// How many bytes of text the token stands for, the white space after a number included.
    #[must_use]
    pub fn byte_length(&self, id: TokenId) -> usize {
        self.bytes(id).len() + usize::from(matches!(self, Self::Numbers(_)))
    }

    /// One token's text made visible, for axes and lists: `␣the`, `⏎`, `U+0007` where there is no glyph, `0xE2` for a
    /// byte of a character, `#1234` for a row without a token.
    #[must_use]
    pub fn label(&self, id: TokenId) -> String {
        match self {
            Self::Characters(characters) => characters.label(id),
            Self::Bpe(bpe) => bpe.label(id),
            Self::Numbers(_) => id.0.to_string(),
        }
    }

    /// Where a text starts from when there is nothing before it: a new line, as nanoGPT's samples do, else what the
    /// tokenizer has for it, else the first row.
    #[must_use]
    pub fn start_token(&self) -> TokenId {
        let newline = self.encode("\n").ids.first().copied();
        let special = match self {
            Self::Bpe(bpe) => bpe.start_token(),
            Self::Characters(_) | Self::Numbers(_) => None,
        };
        newline.or(special).unwrap_or(TokenId(0))
    }

    /// What tells this tokenizer from every other, for a digest. Of characters it is the characters, in the order of
    /// their ids, as it was before there were other kinds.
    #[must_use]
    pub fn identity(&self) -> String {
        match self {
            Self::Characters(characters) => characters.characters().iter().collect(),
            Self::Bpe(bpe) => format!("bpe {} {}", bpe.vocabulary(), bpe.digest()),
            Self::Numbers(rows) => format!("numbers {rows}"),
        }
    }

    fn bytes(&self, id: TokenId) -> Vec<u8> {
        match self {
            Self::Characters(characters) => characters.text(id).into_bytes(),
            Self::Bpe(bpe) => bpe.bytes(id).to_vec(),
            Self::Numbers(_) => id.0.to_string().into_bytes(),
        }
    }
}

impl From<CharTokenizer> for Tokenizer {
    fn from(characters: CharTokenizer) -> Self {
        Self::Characters(characters)
    }
}

fn encode_numbers(rows: usize, text: &str) -> Encoded {
    let (mut encoded, mut named) = (Encoded::default(), HashSet::new());
    for word in text.split_whitespace() {
        // The standard library would take a sign.
        let number = word.parse().ok().filter(|_| !word.starts_with('+'));
        match number.filter(|&number: &u32| (number as usize) < rows) {
            Some(number) => encoded.ids.push(TokenId(number)),
            None if named.insert(word) => encoded.unknown.push(word.to_owned()),
            None => {}
        }
    }
    encoded
}

/// Text that comes token by token. A token may end inside a character: its bytes wait here for the rest, so that the
/// pieces together are what [`Tokenizer::decode`] makes of all the tokens.
#[derive(Debug, Clone, Default)]
pub struct TextStream {
    begun: bool,
    /// The beginning of a character.
    waiting: Vec<u8>,
}

impl TextStream {
    /// The text that is certain with this token.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: TokenId) -> String {
        if matches!(tokenizer, Tokenizer::Numbers(_)) && self.begun {
            self.waiting.push(b' ');
        }
        self.begun = true;
        self.waiting.extend(tokenizer.bytes(id));
        let (mut text, mut done) = (String::new(), 0);
        for chunk in self.waiting.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            let invalid = chunk.invalid();
            let last = done + invalid.len() == self.waiting.len();
            // Without a length of the error more bytes could make it a character.
            if last && str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none()) {
                break;
            }
            if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
                done += invalid.len();
            }
        }
        self.waiting.drain(..done);
        text
    }

    /// What waits for a rest that will not come.
    #[must_use]
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.waiting)).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use proptest::prelude::*;

    use super::super::token::unknown_note;
    use super::*;
    use crate::text::samples;

    fn ids(numbers: &[u32]) -> Vec<TokenId> {
        numbers.iter().map(|&number| TokenId(number)).collect()
    }

    proptest! {
        /// Any ids at all, so that characters are cut in two and rows without a token come up.
        #[test]
        fn streamed_pieces_are_the_decoded_text(numbers in prop::collection::vec(0_u32..320, 0..40)) {
            let ids = ids(&numbers);
            for tokenizer in [samples::tokenizer(), Tokenizer::Numbers(320), CharTokenizer::from_chars("aé☃".chars()).into()] {
                let mut stream = TextStream::default();
                let mut streamed: String = ids.iter().map(|&id| stream.push(&tokenizer, id)).collect();
                streamed += &stream.finish();
                prop_assert_eq!(&streamed, &tokenizer.decode(&ids));
                if !matches!(tokenizer, Tokenizer::Numbers(_)) {
                    let bytes: Vec<u8> = ids.iter().flat_map(|&id| tokenizer.bytes(id)).collect();
                    prop_assert_eq!(streamed, String::from_utf8_lossy(&bytes));
                }
            }
        }

        #[test]
        fn numbers_come_back(numbers in prop::collection::vec(0_u32..300, 0..20)) {
            let tokenizer = Tokenizer::Numbers(300);
            let text = tokenizer.decode(&ids(&numbers));
            prop_assert_eq!(tokenizer.encode(&text), Encoded { ids: ids(&numbers), ..Encoded::default() });
        }
    }

    #[test]
    fn a_character_of_several_tokens_is_streamed_whole() {
        let tokenizer = samples::tokenizer();
        let encoded = tokenizer.encode("a😀b");
        assert!(encoded.ids.len() > 3);
        let mut stream = TextStream::default();
        let pieces: Vec<String> = encoded.ids.iter().map(|&id| stream.push(&tokenizer, id)).collect();
        assert_eq!(pieces.iter().filter(|piece| !piece.is_empty()).collect::<Vec<_>>(), ["a", "😀", "b"]);
    }

    #[test]
    fn what_is_no_number_of_a_row_is_named() {
        let encoded = Tokenizer::Numbers(10).encode(" 5\n7 ten +1 10 -1 9 ten");
        assert_eq!(encoded.ids, ids(&[5, 7, 9]));
        assert_eq!(encoded.unknown, ["ten", "+1", "10", "-1"]);
        assert_eq!(Tokenizer::Numbers(10).decode(&encoded.ids), "5 7 9");
        assert_eq!(Tokenizer::Numbers(10).label(TokenId(7)), "7");
        let lengths: usize = encoded.ids.iter().map(|&id| Tokenizer::Numbers(10).byte_length(id)).sum();
        assert_eq!(lengths, "5 7 9 ".len());
    }

    #[test]
    fn an_empty_prompt_starts_somewhere() {
        let characters = |text: &str| Tokenizer::from(CharTokenizer::from_chars(text.chars()));
        assert_eq!(characters("a\nb").start_token(), TokenId(0));
        assert_eq!(characters("\t\nb").start_token(), TokenId(1));
        assert_eq!(characters("ab").start_token(), TokenId(0));
        assert_eq!(Tokenizer::Numbers(9).start_token(), TokenId(0));
        let newline = samples::tokenizer().start_token();
        assert_eq!(samples::tokenizer().label(newline), "⏎");
    }

    /// A checkpoint opens only under the identity that it was saved under.
    #[test]
    fn an_identity_never_changes() {
        let (characters, other): (Tokenizer, Tokenizer) =
            (CharTokenizer::from_chars("b☃a".chars()).into(), CharTokenizer::from_chars("bca".chars()).into());
        assert_eq!((characters.identity(), other.identity()), ("ab☃".into(), "abc".into()));
        assert_eq!(Tokenizer::Numbers(3).identity(), "numbers 3");
        let json = br#"{"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
            "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}"#;
        let identity = |rows| Tokenizer::from_json(json, rows).unwrap().identity();
        assert_eq!(identity(2).replacen("bpe 2", "bpe 3", 1), identity(3));
        assert!(identity(2).starts_with("bpe 2 ") && identity(2).len() == 70);
    }

    #[test]
    fn an_exported_vocabulary_is_read_again() {
        let read = |json: &str, rows| Tokenizer::from_json(json.as_bytes(), rows);
        let json = r#"{"kind": "characters", "characters": ["\n", "a", "é"]}"#;
        assert_eq!(read(json, 3), Ok(CharTokenizer::from_chars("\naé".chars()).into()));
        let other = read(json, 4).unwrap_err().to_string();
        assert_eq!(other, "it belongs to another model: it has 3 characters, the model has 4 rows");
        for broken in [r#"{"kind": "characters"}"#, &json.replace('a', "é"), &json.replace('a', "aa")] {
            assert!(matches!(read(broken, 3), Err(TokenizerFault::Malformed(_))), "{broken}");
        }
    }

    #[test]
    fn a_file_that_is_no_tokenizer_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokenizer.json");
        let message = |path: &Path| {
            let message = Tokenizer::from_json_file(path, 300).unwrap_err().to_string();
            assert!(message.starts_with(&path.display().to_string()), "{message}");
            message
        };
        assert!(message(&path).contains("cannot be read"), "{}", message(&path));
        assert!(message(folder.path()).contains("not a regular file"), "{}", message(folder.path()));
        fs::write(&path, "{").unwrap();
        assert!(message(&path).contains("it is not JSON (EOF"), "{}", message(&path));
        fs::write(&path, b"\"\xff\"").unwrap();
        assert!(message(&path).contains("it is not JSON (invalid utf-8"), "{}", message(&path));
        File::create(&path).unwrap().set_len(TOKENIZER_BYTES_MAX + 1).unwrap();
        assert!(message(&path).contains("33554433 bytes are more than"), "{}", message(&path));
        fs::write(&path, samples::json()).unwrap();
        assert_eq!(Tokenizer::from_json_file(&path, samples::ROWS).unwrap(), samples::tokenizer());
    }

    #[test]
    fn notes_name_ten_parts_at_most() {
        let parts = |characters: &str| characters.chars().map(String::from).collect::<Vec<_>>();
        assert_eq!(unknown_note(&[]), "");
        assert_eq!(unknown_note(&parts("é\u{7}")), "not in this model's vocabulary and left out: 'é', 'U+0007'");
        let many = unknown_note(&parts("abcdefghijklmno"));
        assert!(many.ends_with("'i', 'j' and 5 more"), "{many}");
        assert!(unknown_note(&["x".repeat(21)]).ends_with(": 'xxxxxxxxxxxxxxxxxxxx…'"));
    }
}
