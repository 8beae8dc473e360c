//! Byte-level BPE held to the reference: ids that Hugging Face's Python library gave for a tokenizer that it trained.

use std::fs;
use std::path::PathBuf;

use headlight::text::{Tokenizer, TokenizerError, TokenizerFault};
use serde_json::Value;

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizer").join(name)
}

#[test]
fn ids_are_those_of_the_reference() {
    let path = golden("tokenizer.json");
    let json: Value = serde_json::from_slice(&fs::read(&path).expect("readable")).expect("JSON");
    let rows = json["model"]["vocab"].as_object().expect("a vocabulary").len();
    let tokenizer = Tokenizer::from_json_file(&path, rows).expect("read");
    let reference = fs::read(golden("reference.json")).expect("readable");
    let reference: Vec<Value> = serde_json::from_slice(&reference).expect("a list");
    assert!(!reference.is_empty());
    for entry in reference {
        let text = entry["text"].as_str().expect("a text");
        let encoded = tokenizer.encode(text);
        let ids: Vec<u32> = encoded.ids.iter().map(|id| id.0).collect();
        assert_eq!(Value::from(ids), entry["ids"], "{text:?}");
        assert_eq!(tokenizer.decode(&encoded.ids), text);
    }
    let fewer = Tokenizer::from_json_file(&path, rows - 1).expect_err("a token has no row").to_string();
    assert!(fewer.contains("tokenizer.json: it belongs to another model"), "{fewer}");
}

#[test]
fn another_kind_is_refused_by_name() {
    let error = Tokenizer::from_json_file(&golden("wordlevel.json"), 100).expect_err("refused");
    let kind = TokenizerFault::Kind("WordLevel".into());
    assert!(matches!(error, TokenizerError::Refused { fault, .. } if fault == kind));
}
