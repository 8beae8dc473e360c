//! A tokenizer of characters as a `tokenizer.json` that `transformers` opens: a word for each character, and every
//! character a word.

use serde_json::{Map, Value, json};

use crate::text::CharTokenizer;

pub(super) fn to_json(tokenizer: &CharTokenizer) -> Value {
    let words = tokenizer.characters().iter().enumerate().map(|(id, word)| (word.to_string(), id.into()));
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": { "type": "Split", "pattern": { "Regex": "[\\s\\S]" }, "behavior": "Isolated", "invert": false },
        "post_processor": null,
        "decoder": { "type": "Fuse" },
        // A name that no character has: what is unknown is an error there.
        "model": { "type": "WordLevel", "vocab": words.collect::<Map<_, _>>(), "unk_token": "<unknown>" },
    })
}

/// The characters of such a file; `None` when it is of another kind.
pub(super) fn from_json(value: &Value) -> Option<CharTokenizer> {
    if value["model"]["type"] != "WordLevel" || value["pre_tokenizer"]["pattern"]["Regex"] != "[\\s\\S]" {
        return None;
    }
    let words = value["model"]["vocab"].as_object()?;
    let mut by_id = vec![None; words.len()];
    for (word, id) in words {
        let mut characters = word.chars();
        let (Some(character), None) = (characters.next(), characters.next()) else { return None };
        *by_id.get_mut(usize::try_from(id.as_u64()?).ok()?)? = Some(character);
    }
    by_id.into_iter().collect::<Option<String>>()?.try_into().ok()
}
