//! Byte-level BPE, as a `tokenizer.json` of Hugging Face keeps it: pairs merged by rank (Sennrich et al. 2016) over
//! bytes written as characters (Radford et al. 2019, GPT-2).
//!
//! The `tokenizers` library merges and finds added tokens. It gets only what `bpe_file.rs` checked: on some broken files it
//! panics, and truncation, padding or dropout in a file would change a corpus.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tokenizers::NormalizedString;

use super::bpe_file::{Read, read};
use super::cutter::{PATIENCE, TooSlow};
use super::token::{Encoded, TokenId, TokenizerFault, listed, quoted, visible};

/// What stands at the start of a text, by the names that are in use.
const START_TOKENS: [&str; 5] = ["<|endoftext|>", "<|begin_of_text|>", "<|im_start|>", "<s>", "<bos>"];
/// A part of a text on which the library fails is halved and tried again, as long as it has so many bytes.
const HALVED_BYTES: usize = 4096;

/// A byte-level BPE tokenizer for a model of so many rows. A clone shares its tables.
#[derive(Clone)]
pub struct BpeTokenizer {
    tables: Arc<Tables>,
    /// Whether a whole text gets what the file puts around it.
    adds_around: bool,
}

struct Tables {
    json: String,
    /// SHA-256 of `json`, in hexadecimal.
    digest: String,
    read: Read,
}

impl BpeTokenizer {
    /// `value` is `json`, parsed.
    pub(super) fn from_json(json: &str, value: Value, rows: usize) -> Result<Self, TokenizerFault> {
        let read = read(value, rows)?;
        let digest = format!("{:x}", Sha256::digest(json));
        Ok(Self { tables: Arc::new(Tables { json: json.to_owned(), digest, read }), adds_around: true })
    }

    /// The file as it was read.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.tables.json
    }

    /// SHA-256 of the file, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.tables.digest
    }

    /// Rows of the model's embedding table, those without a token included.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.tables.read.rows.len()
    }

    /// What the user should know of the file, in sentences.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.tables.read.notes
    }

    /// What a whole text gets before and after it.
    #[must_use]
    pub fn around(&self) -> [&[TokenId]; 2] {
        if self.adds_around { self.tables.read.around.each_ref().map(Vec::as_slice) } else { [&[], &[]] }
    }

    /// The same tokenizer, that puts nothing around a text.
    #[must_use]
    pub fn without_special_tokens(&self) -> Self {
        Self { adds_around: false, ..self.clone() }
    }

    /// Whether the token stands beside the vocabulary: a text has it only where its own name stands.
    #[must_use]
    pub fn is_special(&self, id: TokenId) -> bool {
        self.tables.read.added.contains(&id.0)
    }

    /// The number of a token by its name.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<TokenId> {
        self.tables.read.library.token_to_id(name).map(TokenId)
    }

    /// Whether a space is put before a text that does not begin with one.
    pub(super) fn adds_space(&self) -> bool {
        self.tables.read.library.get_pre_tokenizer().is_some_and(super::cutter::Cutter::adds_space)
    }

    /// The ids as the library gives them without special tokens of its own. Characters of bytes that the vocabulary
    /// lacks are left out and named, as are tokens for which the model has no row.
    #[must_use]
    pub fn encode(&self, text: &str) -> Encoded {
        let (text, unknown) = self.known_part(text);
        let mut encoded = Encoded { unknown, ..Encoded::default() };
        self.encode_part(&text, Instant::now(), &mut encoded);
        let rows = self.vocabulary();
        let rowless: Vec<u32> = encoded.ids.iter().map(|id| id.0).filter(|&id| id as usize >= rows).collect();
        if !rowless.is_empty() {
            encoded.ids.retain(|id| (id.0 as usize) < rows);
            let name =
                |id: &u32| self.tables.read.library.id_to_token(*id).map(|name| format!("{} ({id})", quoted(&name)));
            let mut names: Vec<String> = rowless.iter().filter_map(name).collect();
            names.sort();
            names.dedup();
            encoded.fault =
                Some(format!("the model has {rows} rows and none for {}: take it out of the text", listed(&names)));
        }
        encoded
    }

    fn encode_part(&self, text: &str, since: Instant, encoded: &mut Encoded) {
        let error = match self.tables.read.library.encode_fast(text, false) {
            Ok(encoding) => return encoded.ids.extend(encoding.get_ids().iter().map(|&id| TokenId(id))),
            Err(error) => error,
        };
        // A pattern may give up on a long run of one kind, as a megabyte of white space: half of it is no trouble.
        let hopeless = error.is::<TooSlow>() || since.elapsed() > PATIENCE || self.adds_space();
        if text.len() >= HALVED_BYTES && !hopeless && encoded.fault.is_none() {
            let (left, right) = text.split_at(text.ceil_char_boundary(text.len() / 2));
            self.encode_part(left, since, encoded);
            self.encode_part(right, since, encoded);
        } else {
            let part = quoted(text);
            encoded
                .fault
                .get_or_insert_with(|| format!("{part} cannot be cut into tokens ({error}): take a shorter text"));
        }
    }

    /// The text without the characters that no tokens can spell, and those.
    fn known_part<'a>(&self, text: &'a str) -> (Cow<'a, str>, Vec<String>) {
        let Read { known, library, .. } = &self.tables.read;
        if *known == [true; 256] {
            return (text.into(), Vec::new());
        }
        let mut normalized = NormalizedString::from(text);
        if library.get_normalizer().is_some() {
            normalized.nfc();
        }
        let (mut kept, mut unknown, mut named) = (String::new(), Vec::new(), HashSet::new());
        for character in normalized.get().chars() {
            if character.encode_utf8(&mut [0; 4]).bytes().all(|byte| known[usize::from(byte)]) {
                kept.push(character);
            } else if named.insert(character) {
                unknown.push(character.to_string());
            }
        }
        (kept.into(), unknown)
    }

    /// The bytes of one token, which may be part of a character; those of U+FFFD for a row without a token.
    pub(super) fn bytes(&self, id: TokenId) -> &[u8] {
        self.row(id).unwrap_or("\u{FFFD}".as_bytes())
    }

    fn row(&self, id: TokenId) -> Option<&[u8]> {
        self.tables.read.rows.get(id.0 as usize)?.as_deref()
    }

    /// One token made visible: `␣the`, bytes that are no whole character as `0xE2`, a row without a token as `#1234`.
    #[must_use]
    pub fn label(&self, id: TokenId) -> String {
        let Some(bytes) = self.row(id) else { return format!("#{}", id.0) };
        let mut label = String::new();
        for chunk in bytes.utf8_chunks() {
            label.extend(chunk.valid().chars().map(visible));
            label.extend(chunk.invalid().iter().map(|byte| format!("0x{byte:02X}")));
        }
        label
    }

    /// The special token that stands at the start of a text, if the file has one.
    pub(super) fn start_token(&self) -> Option<TokenId> {
        let mut named = START_TOKENS.iter().filter_map(|name| self.number(name));
        named.find(|id| (id.0 as usize) < self.vocabulary())
    }
}

impl PartialEq for BpeTokenizer {
    fn eq(&self, other: &Self) -> bool {
        self.vocabulary() == other.vocabulary() && self.json() == other.json() && self.adds_around == other.adds_around
    }
}

impl Eq for BpeTokenizer {}

impl fmt::Debug for BpeTokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BpeTokenizer({} rows, {})", self.vocabulary(), self.digest())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::text::samples::{ROWS, llama_value, read, tokenizer, value};
    use crate::text::tokenizer::Tokenizer;

    proptest! {
        #[test]
        fn any_text_comes_back(text in any::<String>(), known in r"( |\n|the|a|b|é|😀|<é>|<\|endoftext\|>|12){0,20}") {
            for tokenizer in [tokenizer(), read(&llama_value()).unwrap()] {
                for text in [&text, &known] {
                    let encoded = tokenizer.encode(text);
                    prop_assert_eq!(encoded.unknown, [] as [&str; 0]);
                    prop_assert_eq!(&tokenizer.decode(&encoded.ids), text);
                    let lengths: usize = encoded.ids.iter().map(|&id| tokenizer.byte_length(id)).sum();
                    prop_assert_eq!(lengths, text.len());
                }
            }
        }

        /// Whatever happens to a file's bytes, reading it ends in a tokenizer or an error.
        #[test]
        fn altered_bytes_never_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = value().to_string().into_bytes();
            for (place, byte) in changes {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            if let Ok(tokenizer) = Tokenizer::from_json(&bytes, ROWS) {
                try_out(&tokenizer);
            }
        }

        /// The same with JSON that stays whole: any part of it replaced by something else.
        #[test]
        fn altered_values_never_panic(place in any::<prop::sample::Index>(), choice in 0_usize..13, llama: bool) {
            let mut value = if llama { llama_value() } else { value() };
            let pointer = place.get(&pointers(&value, String::new())).clone();
            let others = [
                json!(null), json!(true), json!(false), json!(0), json!(-1), json!(u32::MAX), json!(1e300), json!(""),
                json!("the the"), json!("é\n"), json!([]), json!({}), json!([["a", "b"], "a b", ["", ""]]),
            ];
            *value.pointer_mut(&pointer).unwrap() = others[choice].clone();
            if let Ok(tokenizer) = read(&value) {
                try_out(&tokenizer);
            }
        }
    }

    /// Asks a tokenizer of a damaged file everything.
    fn try_out(tokenizer: &Tokenizer) {
        let encoded = tokenizer.encode("the the\n\n é😀 <é> 12<|endoftext|>ab  \n");
        assert!(encoded.ids.iter().all(|id| (id.0 as usize) < tokenizer.vocabulary()));
        let _ = (tokenizer.decode(&encoded.ids), tokenizer.start_token());
        for id in 0..=tokenizer.vocabulary() as u32 {
            let _ = (tokenizer.label(TokenId(id)), tokenizer.text(TokenId(id)));
        }
    }

    /// Where each part of the JSON lies.
    fn pointers(value: &Value, here: String) -> Vec<String> {
        let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
        let mut found: Vec<String> = match value {
            Value::Array(parts) => {
                parts.iter().enumerate().flat_map(|(place, part)| pointers(part, format!("{here}/{place}"))).collect()
            }
            Value::Object(parts) => {
                parts.iter().flat_map(|(key, part)| pointers(part, format!("{here}/{}", escaped(key)))).collect()
            }
            _ => Vec::new(),
        };
        found.push(here);
        found
    }

    #[test]
    fn merges_and_special_tokens_are_found() {
        let tokenizer = tokenizer();
        let labels = |text| tokenizer.encode(text).ids.iter().map(|&id| tokenizer.label(id)).collect::<Vec<_>>();
        assert_eq!(labels("the the  the\n\na"), ["the", "␣the", "␣", "␣the", "⏎", "⏎", "a"]);
        assert_eq!(labels("é 😀"), ["é", "␣", "0xF00x9F", "0x98", "0x80"]);
        assert_eq!(labels("a<|endoftext|>\n<é>"), ["a", "<|endoftext|>", "⏎", "<é>"]);
        assert_eq!(tokenizer.label(TokenId(299)), "#299");
        assert_eq!(tokenizer.decode(&[TokenId(299)]), "\u{FFFD}");
        assert_eq!(tokenizer.vocabulary(), ROWS);
    }

    #[test]
    fn older_and_plainer_files_are_read() {
        let whole = tokenizer();
        let same = |change: fn(&mut Value)| {
            let mut value = value();
            change(&mut value);
            let tokenizer = read(&value).unwrap();
            assert_eq!(tokenizer.encode("the ab\n\n12"), whole.encode("the ab\n\n12"));
        };
        same(|value| {
            value["model"].as_object_mut().unwrap().remove("type");
            let lines = value["model"]["merges"].as_array().unwrap().iter();
            let lines = lines.map(|pair| format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()));
            value["model"]["merges"] = std::iter::once("#version: 0.2".to_owned()).chain(lines).collect();
        });
        same(|value| value["decoder"] = Value::Null);
        same(|value| value["added_tokens"] = json!([]));
        // What would make other ids of a long text, or others each time.
        same(|value| {
            value["truncation"] =
                json!({"direction": "Right", "max_length": 1, "strategy": "LongestFirst", "stride": 0});
            value["model"]["dropout"] = json!(0.9);
        });
        let mut composing = value();
        composing["normalizer"] = json!({"type": "NFC"});
        let composing = read(&composing).unwrap();
        assert_eq!(composing.encode("e\u{301}"), whole.encode("é"));
    }

    #[test]
    fn characters_that_cannot_be_spelled_are_named() {
        let mut value = value();
        let vocab = value["model"]["vocab"].as_object_mut().unwrap();
        vocab.retain(|token, _| token.chars().all(|symbol| symbol != 'ð' && symbol != 'x'));
        let merges = value["model"]["merges"].as_array_mut().unwrap();
        merges.retain(|pair| pair[0] != "ð");
        value["added_tokens"] = json!([]);
        let encoded = read(&value).unwrap().encode("x😀the😀é");
        assert_eq!(encoded.unknown, ["x", "😀"]);
        assert_eq!(read(&value).unwrap().decode(&encoded.ids), "theé");
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let refused = |change: fn(&mut Value), words: &str| {
            let mut value = value();
            change(&mut value);
            let message = read(&value).expect_err(words).to_string();
            assert!(message.contains(words), "not '{words}': {message}");
        };
        for kind in ["WordPiece", "Unigram", "WordLevel"] {
            let mut other = value();
            other["model"] = json!({"type": kind, "vocab": {}});
            let message = read(&other).unwrap_err().to_string();
            assert_eq!(
                message,
                format!(
                    "it is a {kind} tokenizer, but only byte-level BPE can be read: take a model \
                with GPT-2's kind of tokenizer, or put the file aside to work in token numbers"
                )
            );
        }
        refused(|value| *value = json!([1]), "not a whole tokenizer (it has no model)");
        refused(
            |value| {
                value["model"]["byte_fallback"] = json!(true);
                value["model"]["vocab"].as_object_mut().unwrap().remove("x");
            },
            "as SentencePiece does",
        );
        refused(|value| value["model"]["end_of_word_suffix"] = json!("</w>"), "end_of_word_suffix");
        refused(|value| value["pre_tokenizer"] = Value::Null, "it has no pre-tokenizer");
        refused(|value| value["pre_tokenizer"] = json!({"type": "Metaspace"}), "its pre-tokenizer is Metaspace");
        refused(
            |value| {
                value["pre_tokenizer"] =
                    json!({"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, value["pre_tokenizer"]]});
            },
            "has Whitespace in it",
        );
        refused(|value| value["decoder"] = json!({"type": "Metaspace"}), "its decoder is Metaspace");
        refused(|value| value["normalizer"] = json!({"type": "NFKC"}), "normalizer NFKC");
        refused(|value| value["post_processor"] = json!({"type": "Whatever"}), "its post-processor is Whatever");
        refused(|value| value["model"]["vocab"]["the"] = json!(300), "token 'the' has number 300, the model has 300");
        refused(|value| value["model"]["vocab"]["the"] = json!(0), "two of its tokens have number 0");
        refused(|value| value["model"]["merges"][1] = json!(["th", "x"]), "names a token that is not there");
        refused(|value| value["model"]["vocab"] = Value::Null, "not a whole tokenizer");
        refused(
            |value| value["model"]["vocab"] = (0..65_537).map(|id| (format!("a{id}"), json!(id))).collect(),
            "it has 65537 tokens, more than 65536",
        );
        let many = Tokenizer::from_json(value().to_string().as_bytes(), 65_537);
        assert_eq!(many, Err(TokenizerFault::TooManyTokens(65_537)));
        let template = |single: Value| json!({"type": "TemplateProcessing", "single": single, "special_tokens": {}});
        let nameless = template(json!([{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}]));
        let mut value = value();
        for (template, words) in [
            (nameless, "does not say what '<s>' is"),
            (template(json!([])), "gives a text 0 times"),
            (template(json!([{"Sequence": {"id": "B"}}])), "something else"),
            (json!({"type": "RobertaProcessing", "cls": ["<s>", 0]}), "lacks its 'sep'"),
        ] {
            value["post_processor"] = template;
            let message = read(&value).unwrap_err().to_string();
            assert!(message.contains(words), "not '{words}': {message}");
        }
    }
}
