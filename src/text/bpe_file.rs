//! A `tokenizer.json` of byte-level BPE, checked and taken apart. What a file has and this program lacks is refused only where
//! it would change a token of some text.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::processors::PostProcessorWrapper;
use tokenizers::{AddedToken, DecoderWrapper, TokenizerImpl};

use super::cutter::Cutter;
use super::token::{TokenId, TokenizerFault, VOCABULARY_MAX, listed, quoted};

/// Tokens that a file may put around each text.
const AROUND_MAX: usize = 64;

/// The library's tokenizer, with cuts of our own.
pub(super) type Library = TokenizerImpl<BPE, NFC, Cutter, PostProcessorWrapper, DecoderWrapper>;

/// What a file amounts to for a model of so many rows.
pub(super) struct Read {
    pub library: Library,
    /// The bytes that each row stands for; `None` where the file has no token.
    pub rows: Vec<Option<Vec<u8>>>,
    /// Added tokens that have a row.
    pub added: HashSet<u32>,
    /// Bytes that have a token of their own, so that any text of them can be encoded.
    pub known: [bool; 256],
    /// What the file puts before and after each text.
    pub around: [Vec<TokenId>; 2],
    /// What the user should know, in sentences.
    pub notes: Vec<String>,
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
    ignore_merges: Option<bool>,
    #[serde(default)]
    unk_token: Option<String>,
    #[serde(default)]
    fuse_unk: Option<bool>,
}

/// Newer files keep the pair, older ones both with a space between.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

/// A token beside the vocabulary. What is left out is as the library has it for a new one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Added {
    pub id: u32,
    pub content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    normalized: Option<bool>,
    #[serde(default)]
    special: bool,
}

impl Added {
    fn token(&self) -> AddedToken {
        AddedToken::from(self.content.clone(), self.special)
            .normalized(self.normalized.unwrap_or(!self.special))
            .single_word(self.single_word)
            .lstrip(self.lstrip)
            .rstrip(self.rstrip)
    }
}

/// Reads a file that is JSON already.
pub(super) fn read(mut value: Value, rows: usize) -> Result<Read, TokenizerFault> {
    let malformed = |error: &dyn fmt::Display| TokenizerFault::Malformed(error.to_string());
    let (normalizer, cutter) = check_kind(&value)?;
    let (before, after) = around(&value["post_processor"])?;
    let byte_fallback = value["model"]["byte_fallback"] == true;
    if value["added_tokens"].is_null() {
        value["added_tokens"] = Value::Array(Vec::new());
    }
    let File { model, added_tokens } = File::deserialize(value).map_err(|error| malformed(&error))?;
    let Model { vocab, merges, ignore_merges, unk_token, fuse_unk } = model;
    if vocab.len().max(rows) > VOCABULARY_MAX {
        return Err(TokenizerFault::TooManyTokens(vocab.len().max(rows)));
    }
    let mut table = read_rows(&vocab, &added_tokens, rows)?;
    let merges = check_merges(&vocab, merges)?;
    let mut known = [false; 256];
    for (byte, symbol) in byte_symbols().into_iter().enumerate() {
        known[byte] = vocab.contains_key(symbol.to_string().as_str());
    }
    if byte_fallback && known != [true; 256] {
        return Err(TokenizerFault::NotByteLevel("it falls back to bytes, as SentencePiece does".into()));
    }
    let mut builder = BPE::builder();
    // Where each byte has a token nothing is unknown.
    if known != [true; 256]
        && let Some(unknown) = unk_token.filter(|unknown| vocab.get(unknown).is_some_and(|&id| (id as usize) < rows))
    {
        builder = builder.unk_token(unknown).fuse_unk(fuse_unk.unwrap_or(false));
        known = [true; 256];
    }
    let model = builder.vocab_and_merges(vocab, merges).ignore_merges(ignore_merges.unwrap_or(false)).build();
    let mut library = Library::new(model.map_err(|error| malformed(&error))?);
    library.with_normalizer(normalizer).map_err(|error| malformed(&error))?;
    library.with_pre_tokenizer(Some(cutter));
    library.add_tokens(added_tokens.iter().map(Added::token)).map_err(|error| malformed(&error))?;

    let (mut added, mut notes, mut moved, mut rowless) = (HashSet::new(), Vec::new(), Vec::new(), Vec::new());
    for token in added_tokens.iter().filter(|token| !token.content.is_empty()) {
        let Some(id) = library.token_to_id(&token.content) else { continue };
        // The library counts added tokens itself, whatever number the file gives them: so does every program that uses it.
        if id != token.id {
            moved.push(format!("{} ({} in the file) is {id}", quoted(&token.content), token.id));
        }
        let Some(row) = table.get_mut(id as usize) else {
            rowless.push(format!("{} ({id})", quoted(&token.content)));
            continue;
        };
        if row.as_deref().is_some_and(|taken| taken != token.content.as_bytes()) {
            return Err(malformed(&format!("two of its tokens have number {id}")));
        }
        *row = Some(token.content.clone().into_bytes());
        added.insert(id);
    }
    if !moved.is_empty() {
        notes.push(format!(
            "the numbers of added tokens have a gap, and are counted on as tokenizers does: {}",
            listed(&moved)
        ));
    }
    if !rowless.is_empty() {
        let named = listed(&rowless);
        notes.push(format!("the model has {rows} rows and none for {named}: a text must not use what has no row"));
    }
    let mut around = [before, after];
    for (side, where_) in around.iter_mut().zip(["before", "after"]) {
        let lost: Vec<String> = side.iter().filter(|id| id.0 as usize >= rows).map(|id| id.0.to_string()).collect();
        if !lost.is_empty() {
            side.retain(|id| (id.0 as usize) < rows);
            let lost = listed(&lost);
            notes.push(format!(
                "the tokenizer puts token {lost} {where_} each text, for which the model has no row: it is left out"
            ));
        }
    }
    Ok(Read { library, rows: table, added, known, around, notes })
}

/// Whether the file is byte-level BPE that leaves the text whole. Returns its normalizer and its cuts.
fn check_kind(value: &Value) -> Result<(Option<NFC>, Cutter), TokenizerFault> {
    let model = &value["model"];
    // Files of GPT-2's time do not name the kind of their model.
    let unnamed_bpe = model["type"].is_null() && !model["merges"].is_null();
    if !model.is_object() {
        return Err(TokenizerFault::Malformed("it has no model".into()));
    }
    if model["type"] != "BPE" && !unnamed_bpe {
        return Err(TokenizerFault::Kind(kind(model)));
    }
    let not_byte_level = |why: String| Err(TokenizerFault::NotByteLevel(why));
    for part in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model[part].as_str().is_some_and(|mark| !mark.is_empty()) {
            return not_byte_level(format!("it marks words with {part}"));
        }
    }
    let mut steps = Vec::new();
    flatten(&value["pre_tokenizer"], "pretokenizers", &mut steps);
    if !steps.last().is_some_and(|step| step["type"] == "ByteLevel") {
        return not_byte_level(match steps.last() {
            None => "it has no pre-tokenizer".into(),
            Some(step) => format!("its pre-tokenizer is {}", kind(step)),
        });
    }
    for (place, step) in steps.iter().enumerate() {
        match step["type"].as_str() {
            Some("Split" | "Punctuation") if step["behavior"] == "Removed" => {
                return not_byte_level(format!("its pre-tokenizer {} removes text", kind(step)));
            }
            Some("ByteLevel") if place + 1 < steps.len() => {
                return not_byte_level("its pre-tokenizer has ByteLevel in it twice".into());
            }
            Some("ByteLevel" | "Split" | "Digits" | "Punctuation") => {}
            _ => return not_byte_level(format!("its pre-tokenizer has {} in it", kind(step))),
        }
    }
    let mut decoders = Vec::new();
    flatten(&value["decoder"], "decoders", &mut decoders);
    // What only shows a text changes no token, but another kind of decoder tells of other tokens than bytes.
    let plain = |step: &&Value| step["type"] == "ByteLevel" || step["type"] == "Fuse" || changes_nothing(step);
    if let Some(decoder) = decoders.into_iter().find(|step| !plain(step)) {
        return not_byte_level(format!("its decoder is {}", kind(decoder)));
    }
    let mut normalizers = Vec::new();
    flatten(&value["normalizer"], "normalizers", &mut normalizers);
    normalizers.retain(|step| !changes_nothing(step));
    if let Some(other) = normalizers.iter().find(|step| step["type"] != "NFC") {
        return Err(TokenizerFault::Normalizer(kind(other)));
    }
    Ok(((!normalizers.is_empty()).then_some(NFC), Cutter::new(&steps)?))
}

fn kind(part: &Value) -> String {
    part["type"].as_str().unwrap_or("unnamed").to_owned()
}

/// The steps of a part one after the other, which a `Sequence` lists under `inner`.
fn flatten<'a>(step: &'a Value, inner: &str, steps: &mut Vec<&'a Value>) {
    match step[inner].as_array() {
        Some(parts) if step["type"] == "Sequence" => parts.iter().for_each(|step| flatten(step, inner, steps)),
        _ if step.is_null() => {}
        _ => steps.push(step),
    }
}

/// Whether a step is there and does nothing.
fn changes_nothing(step: &Value) -> bool {
    match step["type"].as_str() {
        Some("Strip") if step["strip_left"].is_boolean() => step["strip_left"] == false && step["strip_right"] == false,
        Some("Strip") => step["start"] == 0 && step["stop"] == 0,
        Some("Replace") => step["pattern"]["String"].is_string() && step["pattern"]["String"] == step["content"],
        _ => false,
    }
}

/// What a post-processor puts before and after a text by itself.
fn around(value: &Value) -> Result<(Vec<TokenId>, Vec<TokenId>), TokenizerFault> {
    let malformed = |why: &str| TokenizerFault::Around(why.to_owned());
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut steps = Vec::new();
    flatten(value, "processors", &mut steps);
    for step in steps {
        let number = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok()).map(TokenId);
        let (mut first, mut last) = (Vec::new(), Vec::new());
        match step["type"].as_str() {
            Some("ByteLevel") => {}
            Some("RobertaProcessing" | "BertProcessing") => {
                let named =
                    |part: &str| number(&step[part][1]).ok_or_else(|| malformed(&format!("lacks its '{part}'")));
                first.push(named("cls")?);
                last.push(named("sep")?);
            }
            Some("TemplateProcessing") => {
                let mut texts = 0;
                for piece in step["single"].as_array().ok_or_else(|| malformed("lacks its 'single'"))? {
                    if piece["Sequence"]["id"] == "A" {
                        texts += 1;
                        continue;
                    }
                    let Some(name) = piece["SpecialToken"]["id"].as_str() else {
                        return Err(malformed("has something else than a text and special tokens in 'single'"));
                    };
                    let ids = step["special_tokens"][name]["ids"].as_array();
                    let ids = ids.and_then(|ids| ids.iter().map(number).collect::<Option<Vec<_>>>());
                    let ids = ids.ok_or_else(|| malformed(&format!("does not say what {} is", quoted(name))))?;
                    let side = if texts == 0 { &mut first } else { &mut last };
                    side.extend(ids);
                }
                if texts != 1 {
                    return Err(malformed(&format!("gives a text {texts} times")));
                }
            }
            _ => return Err(malformed(&format!("is {}, which is not known here", kind(step)))),
        }
        if first.is_empty() && last.is_empty() {
            continue;
        }
        // The library takes what a first step made for a pair of texts.
        if !(before.is_empty() && after.is_empty()) {
            return Err(malformed("puts tokens around a text in two steps"));
        }
        if first.len() + last.len() > AROUND_MAX {
            return Err(malformed(&format!("puts more than {AROUND_MAX} tokens around a text")));
        }
        (before, after) = (first, last);
    }
    Ok((before, after))
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

/// What each of a model's rows stands for, added tokens left out.
fn read_rows(vocab: &Vocab, added: &[Added], rows: usize) -> Result<Vec<Option<Vec<u8>>>, TokenizerFault> {
    let bytes: HashMap<char, u8> = byte_symbols().into_iter().zip(0..=u8::MAX).collect();
    let mut table: Vec<Option<Vec<u8>>> = vec![None; rows];
    // What is added stands for itself, not for bytes.
    let added_names: HashSet<&str> = added.iter().map(|added| added.content.as_str()).collect();
    for (token, &id) in vocab {
        let is_added = added_names.contains(token.as_str());
        let Some(row) = table.get_mut(id as usize) else {
            if is_added {
                continue;
            }
            return Err(TokenizerFault::Row { token: token.clone(), id, rows });
        };
        if row.is_some() {
            return Err(TokenizerFault::Malformed(format!("two of its tokens have number {id}")));
        }
        let spelled = token.chars().map(|symbol| bytes.get(&symbol).copied()).collect::<Option<Vec<u8>>>();
        *row = match spelled {
            Some(spelled) if !is_added => Some(spelled),
            _ => Some(token.clone().into_bytes()),
        };
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
