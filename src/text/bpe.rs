//! Byte-level BPE, as a `tokenizer.json` of Hugging Face keeps it: pairs merged by rank (Sennrich et al. 2016) over
//! bytes written as characters (Radford et al. 2019, GPT-2).
//!
//! The `tokenizers` library cuts and merges. It gets only what was checked here: on some broken files it panics, and
//! truncation, padding or dropout in a file would change a corpus.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::{AddedToken, NormalizedString};

use super::tokenizer::{Encoded, TokenId, TokenizerFault, VOCABULARY_MAX, quoted, visible};

/// What stands at the start of a text, by the names that are in use.
const START_TOKENS: [&str; 5] = ["<|endoftext|>", "<|begin_of_text|>", "<|im_start|>", "<s>", "<bos>"];

/// A byte-level BPE tokenizer for a model of so many rows. A clone shares its tables.
#[derive(Clone)]
pub struct BpeTokenizer(Arc<Tables>);

struct Tables {
    json: String,
    /// SHA-256 of `json`, in hexadecimal.
    digest: String,
    library: tokenizers::Tokenizer,
    /// The bytes that each row stands for; `None` where the file has no token.
    rows: Vec<Option<Vec<u8>>>,
    /// Bytes that have a token of their own, so that any text of them can be encoded.
    known: [bool; 256],
}

#[derive(Deserialize)]
struct File {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<Added>,
}

/// Dropout is left out: it is for training a tokenizer's user, and would give other ids each time.
#[derive(Deserialize)]
struct Model {
    vocab: Vocab,
    merges: Vec<Merge>,
    #[serde(default)]
    ignore_merges: bool,
}

/// Newer files keep the pair, older ones both with a space between.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

#[derive(Deserialize)]
struct Added {
    id: u32,
    #[serde(flatten)]
    token: AddedToken,
}

impl BpeTokenizer {
    /// `value` is `json`, parsed.
    pub(super) fn from_json(json: &str, mut value: Value, rows: usize) -> Result<Self, TokenizerFault> {
        let malformed = |error: &dyn fmt::Display| TokenizerFault::Malformed(error.to_string());
        let normalizer = check_kind(&value)?;
        let pre_tokenizer = PreTokenizerWrapper::deserialize(value["pre_tokenizer"].take());
        let pre_tokenizer = pre_tokenizer.map_err(|error| malformed(&error))?;
        let File { model, added_tokens } = File::deserialize(value).map_err(|error| malformed(&error))?;
        let Model { vocab, merges, ignore_merges } = model;
        let rows = read_rows(&vocab, &added_tokens, rows)?;
        let merges = check_merges(&vocab, merges)?;
        let mut known = [false; 256];
        for (byte, symbol) in byte_symbols().into_iter().enumerate() {
            known[byte] = vocab.contains_key(symbol.to_string().as_str());
        }

        let model = BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(ignore_merges).build();
        let mut library = tokenizers::Tokenizer::new(model.map_err(|error| malformed(&error))?);
        library.with_normalizer(normalizer).map_err(|error| malformed(&error))?;
        library.with_pre_tokenizer(Some(pre_tokenizer));
        let tokens = added_tokens.iter().map(|added| added.token.clone());
        library.add_tokens(tokens).map_err(|error| malformed(&error))?;
        // The library counts added tokens itself, whatever number the file gives them.
        let moved = |added: &&Added| library.token_to_id(&added.token.content) != Some(added.id);
        if let Some(Added { id, token }) = added_tokens.iter().find(moved) {
            return Err(malformed(&format!("its added token {} cannot have number {id}", quoted(&token.content))));
        }
        let digest = format!("{:x}", Sha256::digest(json));
        Ok(Self(Arc::new(Tables { json: json.to_owned(), digest, library, rows, known })))
    }

    /// The file as it was read.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.0.json
    }

    /// SHA-256 of the file, in hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.0.digest
    }

    /// Rows of the model's embedding table, those without a token included.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.0.rows.len()
    }

    /// The ids as the library gives them without special tokens of its own. Characters of bytes that the vocabulary
    /// lacks are left out and named.
    #[must_use]
    pub fn encode(&self, text: &str) -> Encoded {
        let (text, unknown) = self.known_part(text);
        match self.0.library.encode_fast(&*text, false) {
            Ok(encoding) => Encoded { ids: encoding.get_ids().iter().map(|&id| TokenId(id)).collect(), unknown },
            // Nothing in the parts that are let in above fails; if it did, the text would be what is not known.
            Err(_) => Encoded { ids: Vec::new(), unknown: vec![text.into_owned()] },
        }
    }

    /// The text without the characters that no tokens can spell, and those.
    fn known_part<'a>(&self, text: &'a str) -> (Cow<'a, str>, Vec<String>) {
        if self.0.known == [true; 256] {
            return (text.into(), Vec::new());
        }
        let mut normalized = NormalizedString::from(text);
        if self.0.library.get_normalizer().is_some() {
            normalized.nfc();
        }
        let (mut kept, mut unknown, mut named) = (String::new(), Vec::new(), HashSet::new());
        for character in normalized.get().chars() {
            if character.encode_utf8(&mut [0; 4]).bytes().all(|byte| self.0.known[usize::from(byte)]) {
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
        self.0.rows.get(id.0 as usize)?.as_deref()
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
        START_TOKENS.iter().find_map(|name| self.0.library.token_to_id(name)).map(TokenId)
    }
}

impl PartialEq for BpeTokenizer {
    fn eq(&self, other: &Self) -> bool {
        self.vocabulary() == other.vocabulary() && self.json() == other.json()
    }
}

impl Eq for BpeTokenizer {}

impl fmt::Debug for BpeTokenizer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BpeTokenizer({} rows, {})", self.vocabulary(), self.digest())
    }
}

/// Whether the file is byte-level BPE that leaves the text whole. Returns its normalizer.
fn check_kind(value: &Value) -> Result<Option<NFC>, TokenizerFault> {
    let model = &value["model"];
    let kind = |part: &Value| part["type"].as_str().unwrap_or("unnamed").to_owned();
    // Files of GPT-2's time do not name the kind of their model.
    let unnamed_bpe = model["type"].is_null() && !model["merges"].is_null();
    if !model.is_object() {
        return Err(TokenizerFault::Malformed("it has no model".into()));
    }
    if model["type"] != "BPE" && !unnamed_bpe {
        return Err(TokenizerFault::Kind(kind(model)));
    }
    let not_byte_level = |why: String| Err(TokenizerFault::NotByteLevel(why));
    if model["byte_fallback"] == true {
        return not_byte_level("it falls back to bytes, as SentencePiece does".into());
    }
    for part in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[part].as_str().is_some_and(|mark| !mark.is_empty()) {
            return not_byte_level(format!("it marks words with {part}"));
        }
    }
    let mut steps = Vec::new();
    flatten(&value["pre_tokenizer"], &mut steps);
    if !steps.last().is_some_and(|step| step["type"] == "ByteLevel") {
        return not_byte_level(match steps.last() {
            None => "it has no pre-tokenizer".into(),
            Some(step) => format!("its pre-tokenizer is {}", kind(step)),
        });
    }
    for step in steps {
        match step["type"].as_str() {
            Some("ByteLevel") if step["add_prefix_space"] != false => return Err(TokenizerFault::PrefixSpace),
            Some("Split") if step["behavior"] == "Removed" => {
                return not_byte_level("its pre-tokenizer Split removes text".into());
            }
            Some("ByteLevel" | "Split" | "Digits") => {}
            _ => return not_byte_level(format!("its pre-tokenizer has {} in it", kind(step))),
        }
    }
    let decoder = &value["decoder"];
    // Without a decoder there is no doubt what the bytes mean.
    if !decoder.is_null() && decoder["type"] != "ByteLevel" {
        return not_byte_level(format!("its decoder is {}", kind(decoder)));
    }
    match &value["normalizer"] {
        Value::Null => Ok(None),
        normalizer if normalizer["type"] == "NFC" => Ok(Some(NFC)),
        normalizer => Err(TokenizerFault::Normalizer(kind(normalizer))),
    }
}

/// The steps of a pre-tokenizer one after the other.
fn flatten<'a>(step: &'a Value, steps: &mut Vec<&'a Value>) {
    match step["pretokenizers"].as_array() {
        Some(inner) if step["type"] == "Sequence" => inner.iter().for_each(|step| flatten(step, steps)),
        _ if step.is_null() => {}
        _ => steps.push(step),
    }
}

/// The merges as pairs of which both sides and the whole are tokens: the library panics on others.
fn check_merges(vocab: &Vocab, merges: Vec<Merge>) -> Result<Vec<(String, String)>, TokenizerFault> {
    let mut pairs = Vec::with_capacity(merges.len());
    for merge in merges {
        let pair = match merge {
            Merge::Pair(left, right) => Some((left, right)),
            Merge::Line(line) if line.starts_with("#version") => continue,
            Merge::Line(line) => line.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())),
        };
        let known = |(left, right): &(String, String)| {
            [left, right, &format!("{left}{right}")].iter().all(|token| vocab.contains_key(token.as_str()))
        };
        let fault = || TokenizerFault::Malformed("one of its merges names a token that is not there".into());
        pairs.push(pair.filter(known).ok_or_else(fault)?);
    }
    Ok(pairs)
}

/// What each of a model's rows stands for.
fn read_rows(vocab: &Vocab, added: &[Added], rows: usize) -> Result<Vec<Option<Vec<u8>>>, TokenizerFault> {
    let tokens = vocab.len().max(rows);
    if tokens > VOCABULARY_MAX {
        return Err(TokenizerFault::TooManyTokens(tokens));
    }
    let bytes: HashMap<char, u8> = byte_symbols().into_iter().zip(0..=u8::MAX).collect();
    let mut table: Vec<Option<Vec<u8>>> = vec![None; rows];
    let fault = |token: &str, id| TokenizerFault::Row { token: token.to_owned(), id, rows };
    // What is added stands for itself, not for bytes.
    let added_names: HashSet<&str> = added.iter().map(|added| added.token.content.as_str()).collect();
    for (token, &id) in vocab {
        let row = table.get_mut(id as usize).ok_or_else(|| fault(token, id))?;
        if row.is_some() {
            return Err(TokenizerFault::Malformed(format!("two of its tokens have number {id}")));
        }
        let spelled = token.chars().map(|symbol| bytes.get(&symbol).copied()).collect::<Option<Vec<u8>>>();
        *row = match spelled {
            Some(spelled) if !added_names.contains(token.as_str()) => Some(spelled),
            _ => Some(token.clone().into_bytes()),
        };
    }
    for Added { id, token } in added {
        if token.lstrip || token.rstrip {
            return Err(TokenizerFault::Strips(quoted(&token.content)));
        }
        let row = table.get_mut(*id as usize).ok_or_else(|| fault(&token.content, *id))?;
        if row.as_deref().is_some_and(|taken| taken != token.content.as_bytes()) {
            return Err(TokenizerFault::Malformed(format!("two of its tokens have number {id}")));
        }
        *row = Some(token.content.clone().into_bytes());
    }
    Ok(table)
}

/// The character that stands for each byte (GPT-2's `bytes_to_unicode`): its own where that has a glyph, else one past
/// U+00FF.
pub(super) fn byte_symbols() -> [char; 256] {
    let mut others = '\u{100}'..;
    std::array::from_fn(|byte| match u8::try_from(byte).unwrap_or_default() {
        byte @ (b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) => byte.into(),
        _ => others.next().unwrap_or_default(),
    })
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
        refused(|value| value["model"]["byte_fallback"] = json!(true), "as SentencePiece does");
        refused(|value| value["model"]["end_of_word_suffix"] = json!("</w>"), "end_of_word_suffix");
        refused(|value| value["pre_tokenizer"] = Value::Null, "it has no pre-tokenizer");
        refused(|value| value["pre_tokenizer"] = json!({"type": "Metaspace"}), "its pre-tokenizer is Metaspace");
        refused(|value| value["pre_tokenizer"]["add_prefix_space"] = json!(true), "add_prefix_space");
        refused(
            |value| {
                value["pre_tokenizer"] =
                    json!({"type": "Sequence", "pretokenizers": [{"type": "Punctuation"}, value["pre_tokenizer"]]});
            },
            "has Punctuation in it",
        );
        refused(|value| value["decoder"] = json!({"type": "Metaspace"}), "its decoder is Metaspace");
        refused(|value| value["normalizer"] = json!({"type": "NFKC"}), "normalizer NFKC");
        refused(|value| value["added_tokens"][0]["lstrip"] = json!(true), "'<|endoftext|>' takes the white space");
        refused(|value| value["added_tokens"][0]["id"] = json!(298), "'<|endoftext|>' cannot have number 298");
        refused(|value| value["added_tokens"][0]["id"] = json!(300), "token '<|endoftext|>' has number 300");
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
    }
}
