//! Byte-level BPE held to the reference: ids that Hugging Face's Python library gave for a tokenizer that it trained.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use headlight::model::Gpt;
use headlight::protocol::Family;
use headlight::recipe::{Activation, Biases, ModelRecipe, Norm, Position};
use headlight::runs::Around;
use headlight::runs::transformers::{export, import};
use headlight::text::{Dataset, TokenId, Tokenizer, TokenizerError, TokenizerFault};
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

/// A folder of a model of so many rows without a tokenizer.
fn model(kind: Family, rows: usize, folder: &Path) {
    let (usual, device) = (headlight::preset::first().recipe.model, headlight::device::cpu());
    let small = ModelRecipe { layers: 1, heads: 2, width: 8, context: 64, dropout: 0.0, ..usual };
    let recipe = match kind {
        Family::Llama => ModelRecipe {
            norm: Norm::RmsNorm,
            position: Position::Rotary { base: 1e4 },
            activation: Activation::SwiGlu,
            biases: Biases::NONE,
            ..small
        },
        Family::Opt => ModelRecipe { activation: Activation::Relu, biases: Biases::USUAL, ..small },
        _ => ModelRecipe { biases: Biases::USUAL, ..small },
    };
    let model = Gpt::new(&recipe, rows, 3, &device);
    export(folder, Some(kind), &model, &recipe, &Tokenizer::Numbers(rows), &Around::default(), &device)
        .expect("exported");
}

struct Case {
    name: String,
    kind: Family,
    rows: usize,
    files: Vec<(String, String)>,
    /// Text, ids, and ids without special tokens.
    texts: Vec<(String, Value, Value)>,
}

/// The cases of `tests/golden/tokens.py`, with what transformers gave.
fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokens/reference.json");
    let all: Value = serde_json::from_slice(&fs::read(path).expect("readable")).expect("JSON");
    let read = |case: &Value| {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let files = case["files"].as_object().expect("files").iter();
        let mut files: Vec<_> = files.map(|(name, contents)| (name.clone(), text(contents))).collect();
        let mut tokenizer = all["base"].clone();
        for (part, value) in case["tokenizer"].as_object().expect("parts") {
            tokenizer[part] = value.clone();
            if part == "model" {
                tokenizer["model"]["vocab"] = all["base"]["model"]["vocab"].clone();
            }
        }
        if case["slow"] == true {
            files.push(("vocab.json".into(), tokenizer["model"]["vocab"].to_string()));
            let merges = tokenizer["model"]["merges"].as_array().expect("merges").iter();
            let lines = merges.map(|pair| format!("{} {}\n", text(&pair[0]), text(&pair[1])));
            files.push(("merges.txt".into(), format!("#version: 0.2\n{}", lines.collect::<String>())));
        } else {
            files.push(("tokenizer.json".into(), tokenizer.to_string()));
        }
        let texts = case["texts"].as_array().expect("texts").iter();
        let texts = texts.map(|entry| (text(&entry["text"]), entry["ids"].clone(), entry["plain"].clone()));
        let kind = serde_json::from_value(case["kind"].clone()).expect("a family");
        let rows = case["rows"].as_u64().expect("rows") as usize;
        Case { name: text(&case["name"]), kind, rows, files, texts: texts.collect() }
    };
    all["cases"].as_array().expect("a list").iter().map(read).collect()
}

fn numbers(ids: &[TokenId]) -> Value {
    ids.iter().map(|id| id.0).collect::<Vec<_>>().into()
}

fn holds(case: &Case, tokenizer: &Tokenizer) {
    for (text, ids, plain) in &case.texts {
        let whole = tokenizer.encode_whole(text);
        assert_eq!((&numbers(&whole.ids), whole.fault), (ids, None), "{}: {text:?}", case.name);
        let without = tokenizer.without_special_tokens().encode_whole(text);
        assert_eq!(numbers(&without.ids), *plain, "{}: {text:?} without special tokens", case.name);
    }
}

#[test]
fn a_folders_texts_are_what_transformers_makes_of_them() {
    let (device, models) = (headlight::device::cpu(), tempfile::tempdir().expect("a folder"));
    let cases = cases();
    assert!(cases.len() > 50, "{}", cases.len());
    for case in &cases {
        let base = models.path().join(format!("{:?}-{}", case.kind, case.rows));
        if !base.exists() {
            model(case.kind, case.rows, &base);
        }
        let folder = models.path().join("case");
        fs::create_dir(&folder).expect("made");
        for name in ["config.json", "model.safetensors"] {
            fs::copy(base.join(name), folder.join(name)).expect("copied");
        }
        for (name, contents) in &case.files {
            fs::write(folder.join(name), contents).expect("written");
        }
        let read = import(&folder, None, &device).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        holds(case, &read.tokenizer);
        // What is written again says the same, alone and with the files beside it.
        let again = models.path().join("again");
        let (model, kind) = (read.model.valid(), Some(case.kind));
        let report = export(&again, kind, &model, &read.recipe, &read.tokenizer, &read.around, &device);
        let report = report.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        assert!(report.texts >= 10, "{}: {report}", case.name);
        let second = import(&again, None, &device).unwrap_or_else(|error| panic!("{}: {error}", case.name));
        holds(case, &second.tokenizer);
        assert_eq!(second.tokenizer, read.tokenizer, "{}", case.name);
        let config: Value =
            serde_json::from_slice(&fs::read(again.join("tokenizer_config.json")).expect("there")).expect("JSON");
        assert_eq!(config["clean_up_tokenization_spaces"], false, "{}", case.name);
        fs::remove_dir_all(&folder).expect("removed");
        fs::remove_dir_all(&again).expect("removed");
    }
}

/// The text to learn from gets once what each text gets.
#[test]
fn a_corpus_has_one_begin_and_one_end() {
    let found = cases();
    for (name, before, after) in [("begin", 1, 0), ("begin and end", 1, 1), ("roberta", 1, 1), ("end twice", 0, 2)] {
        let case = found.iter().find(|case| case.name == name).expect(name);
        let (_, json) = case.files.iter().find(|(name, _)| name == "tokenizer.json").expect("there");
        let tokenizer = Tokenizer::from_json(json.as_bytes(), case.rows).expect("read");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("text.txt");
        let text = "the other\none here\n".repeat(8_000);
        fs::write(&path, &text).expect("written");
        let dataset = Dataset::from_file(&path, Some(&tokenizer), &mut |_| true).expect("read");
        let ids: Vec<u32> = dataset.train.iter().chain(&dataset.validation).map(|&id| id.into()).collect();
        assert_eq!(
            numbers(&ids.iter().map(|&id| TokenId(id)).collect::<Vec<_>>()),
            numbers(&tokenizer.encode_whole(&text).ids)
        );
        let [first, last] = tokenizer.around();
        assert_eq!((first.len(), last.len()), (before, after), "{name}");
        assert_eq!(ids.len(), tokenizer.encode(&text).ids.len() + before + after, "{name}");
        // What is put after the text is no text: bits are shared out over the text's own bytes.
        let own: usize = dataset.validation[..dataset.validation.len() - after]
            .iter()
            .map(|&id| tokenizer.byte_length(TokenId(id.into())))
            .sum();
        assert_eq!(dataset.validation_bytes, own as u64, "{name}");
    }
}

#[test]
fn a_token_without_a_row_is_an_error_only_where_a_text_uses_it() {
    let found = cases();
    let case = found.iter().find(|case| case.name == "begin and end").expect("there");
    let (_, json) = case.files.iter().find(|(name, _)| name == "tokenizer.json").expect("there");
    let tokenizer = Tokenizer::from_json(json.as_bytes(), 262).expect("read: 262 is the end token's number");
    let Tokenizer::Bpe(bpe) = &tokenizer else { panic!("it is BPE") };
    let notes = bpe.notes().join("\n");
    assert!(
        notes.contains("262 rows and none for '<|end|>' (262)") && notes.contains("token 262 after each text"),
        "{notes}"
    );
    assert_eq!(numbers(&tokenizer.encode_whole("the").ids), serde_json::json!([261, 259, 101]));
    let fault = tokenizer.encode("the <|end|>").fault.expect("it is used");
    assert!(fault.contains("none for '<|end|>' (262)"), "{fault}");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("text.txt");
    fs::write(&path, "the <|end|>").expect("written");
    let error = Dataset::from_file(&path, Some(&tokenizer), &mut |_| true).expect_err("it is used").to_string();
    assert!(error.contains("text.txt") && error.contains("'<|end|>' (262)"), "{error}");
}
