//! A small byte-level BPE tokenizer, as a file would have it, for this room's tests.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::bpe_file::byte_symbols;
use super::token::TokenizerFault;
use super::tokenizer::Tokenizer;

pub const ROWS: usize = 300;

/// Merges inside and across characters, over white space and over line ends; as the file has them.
const MERGES: [(&str, &str); 14] = [
    ("t", "h"),
    ("th", "e"),
    ("Ġ", "the"),
    ("Ġ", "Ġ"),
    ("Ċ", "Ċ"),
    ("Ġ", "Ċ"),
    ("a", "Ċ"),
    ("Ċ", "b"),
    (",", "Ċ"),
    ("Ã", "©"),
    ("ð", "Ł"),
    ("1", "2"),
    ("Ġ", "a"),
    ("a", "b"),
];

pub fn value() -> Value {
    let mut vocab: HashMap<String, usize> = byte_symbols().iter().map(char::to_string).zip(0..).collect();
    for (left, right) in MERGES {
        vocab.insert(format!("{left}{right}"), vocab.len());
    }
    let special = |id: usize, content: &str| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    };
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [special(vocab.len(), "<|endoftext|>"), special(vocab.len() + 1, "<é>")],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": "",
            "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false,
            "vocab": vocab, "merges": MERGES,
        },
    })
}

/// The pattern of Llama 3 (and, but for digits, of Qwen 2) before the bytes.
pub fn llama_value() -> Value {
    let mut value = value();
    let pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
    value["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
    ]});
    value
}

pub fn json() -> String {
    value().to_string()
}

pub fn read(value: &Value) -> Result<Tokenizer, TokenizerFault> {
    Tokenizer::from_json(value.to_string().as_bytes(), ROWS)
}

pub fn tokenizer() -> Tokenizer {
    read(&value()).expect("the sample is sound")
}
