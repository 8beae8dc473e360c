//! Models in and out in the format of `transformers`, held to what that program and PyTorch computed
//! (`tests/golden`, made by its `make.py`), and files that are not what they say.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use headlight::model::{Gpt, values_of};
use headlight::protocol::{Family, Step};
use headlight::recipe::{Activation, Biases, ModelRecipe, Norm, Position, SamplingRecipe};
use headlight::runs::Around;
use headlight::runs::transformers::{Imported, check, export, import};
use headlight::text::{TokenId, Tokenizer};
use headlight::train::{Sampler, ids_tensor, logits};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{headlight, headlight_ok, small_recipe, text};

pub(crate) fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case)
}

/// Cases with everything in their reference, and those with logits alone.
pub(crate) const WHOLE: [&str; 7] =
    ["gpt2-tanh", "gpt2-erf", "gpt2-untied", "opt-relu", "llama-grouped", "llama-tied", "phi3"];
const LOGITS_ONLY: [&str; 2] = ["llama-sharded", "gpt2-bf16"];

pub(crate) const WEIGHTS: &str = "model.safetensors";

/// A copy of a case that can be spoiled.
pub(crate) struct Copy(pub tempfile::TempDir);

impl Copy {
    pub fn of(case: &str) -> Self {
        let copy = Self(tempfile::tempdir().expect("a folder"));
        for entry in fs::read_dir(golden(case)).expect("the case is there") {
            let entry = entry.expect("an entry");
            fs::copy(entry.path(), copy.path(&entry.file_name().to_string_lossy())).expect("copied");
        }
        copy
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn with_config(self, change: impl FnOnce(&mut Value)) -> Self {
        let path = self.path("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
        change(&mut config);
        fs::write(path, config.to_string()).expect("written");
        self
    }

    /// Writes the weights again: the header as JSON, changed, before the same bytes.
    pub fn with_header(self, change: impl FnOnce(&mut Value)) -> Self {
        let path = self.path(WEIGHTS);
        let bytes = fs::read(&path).expect("read");
        let (mut header, data) = split(&bytes);
        change(&mut header);
        let header = header.to_string().into_bytes();
        fs::write(path, [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()).expect("written");
        self
    }

    /// The refusal, which must name `file` and hold each of `words`.
    pub fn refused(&self, file: &str, words: &[&str]) {
        let error = import(self.0.path(), None, &headlight::device::cpu()).expect_err("it is no model").to_string();
        let named = if file.is_empty() { self.0.path().to_owned() } else { self.path(file) };
        assert!(error.contains(text(&named)), "{error} does not name {file}");
        for word in words {
            assert!(error.contains(word), "{error} does not say '{word}'");
        }
    }
}

fn split(bytes: &[u8]) -> (Value, &[u8]) {
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).expect("a header"), &bytes[8 + length..])
}

/// The tensors of a file, by name: shape and values.
fn tensors(path: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(path).expect("read");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a whole file");
    file.iter().map(|(name, view)| (name.to_owned(), (view.shape().to_vec(), view.data().to_vec()))).collect()
}

#[test]
fn every_family_computes_what_transformers_and_pytorch_do() {
    for case in WHOLE.into_iter().chain(LOGITS_ONLY) {
        let checks = check(&golden(case), &headlight::device::cpu()).expect(case);
        let names: Vec<_> = checks.iter().map(|check| check.check).collect();
        let wanted: &[_] = &["logits", "attention", "loss", "gradients", "greedy", "training"];
        assert_eq!(names, if WHOLE.contains(&case) { wanted } else { &wanted[..1] }, "{case}");
        for check in checks {
            assert!(check.passed, "{case}: {check:?}");
        }
    }
}

#[test]
fn what_is_cached_changes_nothing() {
    let device = headlight::device::cpu();
    for case in WHOLE {
        let imported = import(&golden(case), None, &device).expect(case);
        let (model, ids) = (imported.model.valid(), [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]);
        let tensor = |ids: &[i32]| ids_tensor(ids.to_vec(), 1, ids.len(), &device);
        let whole = values_of(model.forward(tensor(&ids)));
        // One after the other, and in pieces of other lengths.
        for pieces in [vec![1; 12], vec![5, 1, 6], vec![12]] {
            let (mut cache, mut found) = (model.cache(12), Vec::new());
            for length in pieces {
                let start = cache.length();
                found.extend(values_of(model.forward_cached(tensor(&ids[start..start + length]), &mut cache, None)));
            }
            let apart = found.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(found.len() == whole.len() && apart < 1e-5, "{case}: {apart}");
        }
    }
}

#[test]
fn a_sample_is_what_the_logits_say_and_goes_on_past_the_context() {
    let device = headlight::device::cpu();
    let Imported { model, recipe, tokenizer, .. } = import(&golden("llama-grouped"), None, &device).expect("a model");
    let model = model.valid();
    let settings = SamplingRecipe { prompt: "5 7 9".into(), temperature: 0.0, tokens: 40, ..small_recipe().sampling };
    let mut sampler = Sampler::new(settings, &tokenizer);
    let mut ids = vec![TokenId(5), TokenId(7), TokenId(9)];
    for count in 0..40 {
        let token = sampler.next(&model, Step(0), &recipe, &tokenizer, &device).expect("finite").expect("a token");
        // Past the context at least three quarters of it are seen, all of it at most.
        let seen = ids.len().min(recipe.context);
        let least = if ids.len() > recipe.context { recipe.context * 3 / 4 } else { seen };
        let best = (least..=seen).map(|seen| {
            let row = logits(&model, &ids[ids.len() - seen..], &device).pop().expect("a row");
            (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("a token").to_string()
        });
        assert!(best.collect::<Vec<_>>().contains(&token.label), "token {count} is {}", token.label);
        ids.push(TokenId(token.label.parse().expect("a number")));
    }
    assert!(sampler.next(&model, Step(0), &recipe, &tokenizer, &device).expect("finite").is_none());
}

#[test]
fn what_another_model_left_in_the_cache_is_not_used() {
    let device = headlight::device::cpu();
    let model = |case: &str| import(&golden(case), None, &device).expect(case);
    // Of the same shape, but for the weights.
    let (one, other) = (model("llama-grouped"), model("llama-sharded"));
    assert_eq!(one.recipe, other.recipe);
    let after = |first: &Imported| {
        let settings =
            SamplingRecipe { prompt: "5 7 9".into(), temperature: 0.0, tokens: 2, ..small_recipe().sampling };
        let mut sampler = Sampler::new(settings, &one.tokenizer);
        let mut next = |model: &Imported, step| {
            let token = sampler.next(&model.model.valid(), Step(step), &one.recipe, &one.tokenizer, &device);
            let token = token.expect("finite").expect("a token");
            (token.label, token.alternatives)
        };
        let (label, _) = next(first, 0);
        (label, next(&other, 1).1)
    };
    let (label, found) = after(&one);
    let ids = [5, 7, 9, label.parse().expect("a number")].map(TokenId);
    let row = logits(&other.model.valid(), &ids, &device).pop().expect("a row");
    let best = (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("a token");
    let total: f32 = row.iter().map(|logit| (logit - row[best]).exp()).sum();
    assert_eq!(found[0].0, best.to_string());
    assert!((found[0].1 - 1.0 / total).abs() < 1e-5, "{found:?}, not {}", 1.0 / total);
}

#[test]
fn what_was_read_is_written_again_bit_for_bit() {
    let device = headlight::device::cpu();
    for case in WHOLE {
        let imported = import(&golden(case), None, &device).expect(case);
        let folder = tempfile::tempdir().expect("a folder");
        let model = imported.model.valid();
        let family = Some(imported.family);
        let report =
            export(folder.path(), family, &model, &imported.recipe, &imported.tokenizer, &imported.around, &device);
        let report = report.expect(case);
        assert_eq!((report.largest_difference, report.top1_agreement, report.tokens), (0.0, 1.0, 16), "{case}");
        let (mut theirs, ours) = (tensors(&golden(case).join(WEIGHTS)), tensors(&folder.path().join(WEIGHTS)));
        if let Some((shape, bytes)) = theirs.get_mut("model.decoder.embed_positions.weight") {
            // OPT counts places from 2 and never looks at the rows before.
            bytes[..2 * 4 * shape[1]].fill(0);
        }
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{case}");
        assert!(ours == theirs, "{case}: a tensor is not the same");
    }
}

#[test]
fn a_family_that_a_model_does_not_fit_says_what_it_lacks() {
    let device = headlight::device::cpu();
    let refusal = |case: &str, family| {
        let imported = import(&golden(case), None, &device).expect(case);
        let folder = tempfile::tempdir().expect("a folder");
        let exported = export(
            folder.path(),
            Some(family),
            &imported.model.valid(),
            &imported.recipe,
            &imported.tokenizer,
            &imported.around,
            &device,
        );
        assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0, "nothing is left of it");
        exported.expect_err("it does not fit").to_string()
    };
    assert!(refusal("llama-grouped", Family::Gpt2).contains("GPT-2 has no rotary positions"));
    assert!(refusal("gpt2-erf", Family::Llama).contains("Llama has no learned positions"));
    assert!(refusal("llama-tied", Family::Phi3).contains("Phi-3 has no biases"));
}

#[test]
fn a_config_with_a_feature_that_is_lacking_is_refused_by_name() {
    for (case, key, value, words) in [
        ("phi3", "sliding_window", json!(8), ["sliding-window", "sliding_window"]),
        ("llama-grouped", "hidden_act", json!("gelu"), ["'gelu'", "silu"]),
        ("gpt2-erf", "activation_function", json!("quick_gelu"), ["quick_gelu", "activation_function"]),
        ("llama-grouped", "rope_scaling", json!({"rope_type": "yarn", "factor": 4.0}), ["yarn", "rotary"]),
        ("llama-grouped", "rope_parameters", json!({"rope_type": "llama3", "rope_theta": 1e4}), ["llama3", "rotary"]),
        ("llama-tied", "rope_scaling", json!({"rope_theta": 7.0}), ["rope_theta", "7.0"]),
        ("phi3", "partial_rotary_factor", json!(0.5), ["partial_rotary_factor", "0.5"]),
        ("llama-grouped", "head_dim", json!(8), ["head_dim", "8"]),
        ("opt-relu", "do_layer_norm_before", json!(false), ["do_layer_norm_before", "false"]),
        ("opt-relu", "word_embed_proj_dim", json!(8), ["word_embed_proj_dim", "8"]),
        ("gpt2-erf", "scale_attn_by_inverse_layer_idx", json!(true), ["scale_attn_by_inverse_layer_idx", "true"]),
        ("llama-grouped", "quantization_config", json!({"bits": 4}), ["quantized", "quantization_config"]),
        ("llama-grouped", "model_type", json!("mistral"), ["'mistral'", "llama"]),
        ("llama-grouped", "hidden_size", json!("wide"), ["hidden_size", "wide"]),
        ("llama-grouped", "num_key_value_heads", json!(3), ["3 key/value heads", "4 heads"]),
        ("gpt2-erf", "n_layer", Value::Null, ["n_layer", "missing"]),
        ("gpt2-erf", "n_embd", json!(1_000_000_000_000_u64), ["width", "4096"]),
        ("gpt2-erf", "vocab_size", json!(90_000), ["90,000", "65,536"]),
    ] {
        Copy::of(case).with_config(|config| config[key] = value).refused("config.json", &words);
    }
}

#[test]
fn weights_that_are_not_what_they_say_are_named() {
    let file = WEIGHTS;
    let case = "llama-grouped";
    let bytes = fs::read(golden(case).join(file)).expect("read");
    let raw = |bytes: &[u8]| {
        let copy = Copy::of(case);
        fs::write(copy.path(file), bytes).expect("written");
        copy
    };
    raw(&bytes[..bytes.len() - 10]).refused(file, &["cut short"]);
    raw(&bytes[..5]).refused(file, &["cut short"]);
    // A header of nine terabytes.
    raw(&[&(9_u64 << 40).to_le_bytes()[..], &bytes[8..]].concat()).refused(file, &["header"]);
    let norm = "model.norm.weight";
    let overlapping = |header: &mut Value| {
        let offsets = header[norm]["data_offsets"].clone();
        let start = offsets[0].as_u64().expect("a place");
        header[norm]["data_offsets"] = json!([start - 64, start]);
    };
    Copy::of(case).with_header(overlapping).refused(file, &[]);
    Copy::of(case).with_header(|header| header[norm]["dtype"] = json!("I32")).refused(file, &[norm, "I32", "BF16"]);
    Copy::of(case).with_header(|header| header[norm]["shape"] = json!([4, 4])).refused(file, &[norm, "[4, 4]", "[16]"]);
    let renamed = |header: &mut Value| {
        let tensor = header.as_object_mut().expect("an object").remove(norm).expect("there");
        header["model.tail"] = tensor;
    };
    Copy::of(case).with_header(renamed).refused(file, &["'model.tail' is left over"]);
    let mut broken = bytes.clone();
    let end = broken.len();
    broken[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    raw(&broken).refused(file, &["'model.norm.weight'", "NaN at [15]", "no number"]);
    // A config that asks for more than the file holds is found out before any memory is taken for it.
    let more = Copy::of(case).with_config(|config| config["num_hidden_layers"] = json!(60));
    more.refused(file, &["too small"]);
    let fewer = Copy::of(case).with_config(|config| config["num_hidden_layers"] = json!(1));
    fewer.refused(file, &["model.layers.1.", "left over", "more"]);
    let gone = Copy::of(case);
    fs::remove_file(gone.path(file)).expect("removed");
    gone.refused("", &["model.safetensors.index.json"]);
}

#[test]
fn shards_are_all_there_or_named() {
    let case = "llama-sharded";
    let listing = "model.safetensors.index.json";
    let index: Value = serde_json::from_slice(&fs::read(golden(case).join(listing)).expect("read")).expect("JSON");
    let shard = index["weight_map"]["model.norm.weight"].as_str().expect("a shard").to_owned();
    let copy = Copy::of(case);
    fs::remove_file(copy.path(&shard)).expect("removed");
    copy.refused(&shard, &["shard is missing"]);
    for name in ["../escape.safetensors", "/etc/hostname", ""] {
        let copy = Copy::of(case);
        let mut index = index.clone();
        index["weight_map"]["model.norm.weight"] = json!(name);
        fs::write(copy.path(listing), index.to_string()).expect("written");
        copy.refused(listing, &["not the name of a file beside it"]);
    }
    let copy = Copy::of(case);
    fs::write(copy.path(listing), b"{\"weight_map\": 7}").expect("written");
    copy.refused(listing, &["not an index"]);
}

#[test]
fn a_tokenizer_of_another_kind_is_named() {
    let copy = Copy::of("llama-grouped");
    fs::copy(golden("tokenizer/wordlevel.json"), copy.path("tokenizer.json")).expect("copied");
    copy.refused("tokenizer.json", &["WordLevel"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    /// Whatever a file holds, there is a model or a sentence, never a panic.
    #[test]
    fn altered_files_never_panic(
        case in prop::sample::select(vec!["gpt2-erf", "opt-relu", "phi3", "llama-sharded"]),
        which in 0_usize..4,
        places in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 1..6),
        cut in prop::option::of(0.0..1.0_f64),
    ) {
        let copy = Copy::of(case);
        let mut names: Vec<_> = fs::read_dir(copy.0.path()).expect("the folder").flatten().collect();
        names.sort_by_key(fs::DirEntry::file_name);
        let path = names[which % names.len()].path();
        let mut bytes = fs::read(&path).expect("read");
        for (place, byte) in places {
            // Most of a weights file is numbers: its header is met as often as the rest.
            let end = if byte % 2 == 0 { bytes.len() } else { bytes.len().min(600) };
            bytes[(place * end as f64) as usize] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate((cut * bytes.len() as f64) as usize);
        }
        fs::write(path, bytes).expect("written");
        if let Err(error) = import(copy.0.path(), None, &headlight::device::cpu()) {
            prop_assert!(error.to_string().contains(text(copy.0.path())), "{}", error);
        }
        let _ = check(copy.0.path(), &headlight::device::cpu());
    }
}

#[test]
fn an_imported_model_is_a_run_like_any_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let (run, again) = (folder.path().join("run"), folder.path().join("again"));
    let numbers: String = (0..3000).map(|place| format!("{} ", place * place % 37)).collect();
    let learned = folder.path().join("numbers.txt");
    fs::write(&learned, numbers).expect("written");
    let model = golden("llama-grouped");
    headlight_ok(&["import", text(&model), "--text", text(&learned), "--out", text(&run)]);
    // On the built-in dialogues it could not be trained, and that is said.
    let lettered = headlight_ok(&["import", text(&model), "--out", text(&folder.path().join("lettered"))]);
    assert!(lettered.contains("not trained") && lettered.contains("token numbers"), "{lettered}");
    // A text of which the validation part is shorter than the context: the run opens, and says why it does not train.
    let (few, short) = (folder.path().join("few.txt"), folder.path().join("short"));
    fs::write(&few, "1 2 3 4 5 6 7 8 9 10 11 12").expect("written");
    let imported = headlight_ok(&["import", text(&model), "--text", text(&few), "--out", text(&short)]);
    assert!(imported.contains("not trained") && imported.contains("few.txt"), "{imported}");
    let resumed = headlight(&["resume", text(&short), "--device", "cpu"]);
    let said = String::from_utf8_lossy(&resumed.stderr);
    assert!(!resumed.status.success() && said.contains("few.txt") && said.contains("training cannot go on"), "{said}");
    let sampled = headlight_ok(&["sample", text(&run), "--prompt", "5 7 9", "--tokens", "4", "--temperature", "0"]);
    assert!(sampled.starts_with("5 7 9 "), "{sampled}");
    let logits: Value =
        serde_json::from_str(&headlight_ok(&["logits", text(&run), "--ids", "1,2,3", "--json"])).expect("JSON");
    assert_eq!(logits["logits"].as_array().map(Vec::len), Some(3));
    let before: Value = serde_json::from_str(&headlight_ok(&["evaluate", text(&run), "--json"])).expect("JSON");
    headlight_ok(&["resume", text(&run), "--device", "cpu", "--stop-at", "30", "--json"]);
    let after: Value = serde_json::from_str(&headlight_ok(&["evaluate", text(&run), "--json"])).expect("JSON");
    let loss = |found: &Value| found["loss"].as_f64().expect("a loss");
    assert!(loss(&after) < loss(&before) - 0.1, "{before} → {after}");
    let exported = headlight_ok(&["export", text(&run), "--format", "hf", "--out", text(&again), "--json"]);
    let report: Value = serde_json::from_str(&exported).expect("JSON");
    assert_eq!((&report["family"], &report["largest_difference"]), (&json!("llama"), &json!(0.0)));
    assert!(import(&again, None, &headlight::device::cpu()).is_ok());

    // Nothing that is there is written over.
    for arguments in [
        &["import", text(&model), "--out", text(&run)][..],
        &["export", text(&run), "--format", "hf", "--out", text(&again)],
        &["export", text(&run), "--format", "safetensors", "--family", "phi3", "--out", text(&folder.path().join("x"))],
    ] {
        assert!(!headlight(arguments).status.success(), "{arguments:?}");
    }
}

/// A Llama of 263 rows with a byte tokenizer: 261 begins a text and 262 ends one.
fn with_ends(folder: &Path, change: impl FnOnce(&mut Value, &mut Value)) {
    let usual = small_recipe().model;
    let recipe = ModelRecipe {
        norm: Norm::RmsNorm,
        position: Position::Rotary { base: 1e4 },
        activation: Activation::SwiGlu,
        biases: Biases::NONE,
        ..usual
    };
    let device = headlight::device::cpu();
    let model = Gpt::new(&recipe, 263, 5, &device);
    let numbers = Tokenizer::Numbers(263);
    export(folder, Some(Family::Llama), &model, &recipe, &numbers, &Around::default(), &device).expect("exported");
    let golden: Value =
        serde_json::from_slice(&fs::read(golden("tokens/reference.json")).expect("read")).expect("JSON");
    let mut tokenizer = golden["base"].clone();
    let begin = golden["cases"].as_array().expect("cases").iter().find(|case| case["name"] == "begin").expect("there");
    tokenizer["post_processor"] = begin["tokenizer"]["post_processor"].clone();
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    change(&mut config, &mut tokenizer);
    fs::write(path, config.to_string()).expect("written");
    fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).expect("written");
}

fn json_of(arguments: &[&str]) -> Value {
    serde_json::from_str(&headlight_ok(arguments)).expect("JSON")
}

#[test]
fn prompts_get_the_begin_token_and_show_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, run) = (folder.path().join("model"), folder.path().join("run"));
    with_ends(&model, |_, _| ());
    headlight_ok(&["import", text(&model), "--out", text(&run)]);
    let run = text(&run);
    let begun = json_of(&["attention", run, "--prompt", "the other", "--json"]);
    assert_eq!(begun["tokens"], json!(["<|begin|>", "th", "e", "␣", "o", "th", "er"]));
    assert_eq!(begun["special"], json!([0]));
    let plain = json_of(&["attention", run, "--prompt", "the other", "--no-special-tokens", "--json"]);
    assert_eq!((&plain["tokens"][0], &plain["special"]), (&json!("th"), &json!([])));
    // Numbers are what they are.
    let logits = |arguments: &[&str]| json_of(&[&["logits", run, "--json"][..], arguments].concat())["logits"].clone();
    assert_eq!(logits(&["--ids", "259,101"]).as_array().map(Vec::len), Some(2));
    assert_eq!(logits(&["--prompt", "the"]), logits(&["--ids", "261,259,101"]));
    assert_eq!(logits(&["--prompt", "the", "--no-special-tokens"]), logits(&["--ids", "259,101"]));
    let lens = json_of(&["lens", run, "--prompt", "the", "--json"]);
    assert_eq!((&lens["tokens"][0], &lens["special"]), (&json!("<|begin|>"), &json!([0])));
    for command in ["heads", "page", "evaluate", "effects"] {
        assert!(headlight_ok(&[command, "--help"]).contains("--no-special-tokens"), "{command}");
    }
    let sampled = |more: &[&str]| {
        json_of(&[&["sample", run, "--prompt", "the", "--tokens", "3", "--ignore-eos", "--json"][..], more].concat())
    };
    assert_eq!(sampled(&[])["prompt_tokens"][0], json!({"id": 261, "token": "<|begin|>", "special": true}));
    assert_eq!(sampled(&["--no-special-tokens"])["prompt_tokens"][0]["id"], json!(259));
}

#[test]
fn a_sample_stops_at_an_end_token_unless_told_otherwise() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, run) = (folder.path().join("model"), folder.path().join("run"));
    // Whatever is drawn ends the text.
    with_ends(&model, |config, _| config["eos_token_id"] = (0..64).chain([262, 262, 900]).collect());
    let all: Value = (0..263).collect();
    let imported = headlight_ok(&["import", text(&model), "--out", text(&run)]);
    assert!(imported.contains("'eos_token_id' names 900"), "{imported}");
    fs::remove_dir_all(&run).expect("removed");
    fs::write(model.join("generation_config.json"), json!({"eos_token_id": all, "pad_token_id": -1}).to_string())
        .expect("written");
    headlight_ok(&["import", text(&model), "--out", text(&run)]);
    let around: Value = serde_json::from_slice(&fs::read(run.join("around.json")).expect("kept")).expect("JSON");
    assert_eq!(around["ends"].as_array().map(Vec::len), Some(64), "the first of too many");
    let arguments = ["sample", text(&run), "--prompt", "the", "--tokens", "30", "--top-k", "0", "--json"];
    let kept = Around { ends: (0..263).map(TokenId).collect(), ..Around::default() };
    fs::write(run.join("around.json"), serde_json::to_string(&kept).expect("JSON")).expect("written");
    let sampled = json_of(&arguments);
    let drawn = sampled["tokens"].as_array().expect("tokens").clone();
    let ends = |token: &Value| token["id"].as_u64().is_some_and(|id| id < 64);
    assert!(drawn.len() == 30 || drawn.last().is_some_and(|last| ends(last) && sampled["end"] == last["token"]));
    assert!(drawn[..drawn.len() - 1].iter().all(|token| !ends(token)), "{sampled}");
    let on = json_of(&[&arguments[..], &["--ignore-eos"]].concat());
    assert_eq!((on["tokens"].as_array().map(Vec::len), &on["end"]), (Some(30), &Value::Null));
}

#[test]
fn what_stands_around_the_weights_is_kept_and_written_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let model = at("model");
    with_ends(&model, |config, _| {
        config["bos_token_id"] = json!(261);
        config["eos_token_id"] = json!([262, 261]);
    });
    let template = "{% for message in messages %}{{ message.content }}<|end|>{% endfor %}";
    let says = json!({
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin|>", "eos_token": "<|end|>", "model_max_length": 64,
        "chat_template": template, "clean_up_tokenization_spaces": true,
    });
    let files = [
        ("tokenizer_config.json", says.to_string()),
        ("special_tokens_map.json", json!({"bos_token": "<|begin|>", "eos_token": "<|end|>"}).to_string()),
        ("generation_config.json", json!({"eos_token_id": [262, 261], "temperature": 0.7}).to_string()),
        ("chat_template.jinja", template.to_owned()),
    ];
    for (name, contents) in &files {
        fs::write(model.join(name), contents).expect("written");
    }
    headlight_ok(&["import", text(&model), "--out", text(&at("run"))]);
    headlight_ok(&["prune", text(&at("run")), "--heads", "1.1", "--out", text(&at("pruned"))]);
    headlight_ok(&["export", text(&at("run")), "--format", "checkpoint", "--out", text(&at("copied"))]);
    let kept = fs::read(at("run").join("around.json")).expect("kept");
    assert_eq!(fs::read(at("pruned").join("around.json")).expect("kept"), kept);
    assert_eq!(fs::read(at("copied").join("around.json")).expect("kept"), kept);
    let report = json_of(&["export", text(&at("copied")), "--format", "hf", "--out", text(&at("out")), "--json"]);
    assert!(report["texts"].as_u64().is_some_and(|texts| texts >= 10), "{report}");
    let config: Value = serde_json::from_slice(&fs::read(at("out").join("config.json")).expect("there")).expect("JSON");
    assert_eq!((&config["bos_token_id"], &config["eos_token_id"]), (&json!(261), &json!([262, 261])));
    assert_eq!(config["pad_token_id"], Value::Null);
    for (name, contents) in &files[1..] {
        assert_eq!(&fs::read_to_string(at("out").join(name)).expect("there"), contents, "{name}");
    }
    let written: Value =
        serde_json::from_slice(&fs::read(at("out").join("tokenizer_config.json")).expect("there")).expect("JSON");
    assert_eq!(written, says, "what the source says stays");
    // A run of before this was kept opens, and names none.
    fs::remove_file(at("copied").join("around.json")).expect("removed");
    headlight_ok(&["export", text(&at("copied")), "--format", "hf", "--out", text(&at("older"))]);
    let config: Value =
        serde_json::from_slice(&fs::read(at("older").join("config.json")).expect("there")).expect("JSON");
    assert_eq!(config["eos_token_id"], Value::Null);
}

#[test]
fn the_class_of_a_tokenizer_that_only_the_kind_of_model_or_its_config_names_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let there_and_back = |model: &Path, name: &str| -> Value {
        let run = at(&format!("{name}-run"));
        headlight_ok(&["import", text(model), "--out", text(&run)]);
        headlight_ok(&["export", text(&run), "--format", "hf", "--out", text(&at(name))]);
        serde_json::from_slice(&fs::read(at(name).join("tokenizer_config.json")).expect("there")).expect("JSON")
    };
    let model = at("model");
    with_ends(&model, |config, _| config["tokenizer_class"] = "TokenizersBackend".into());
    let named = json!({"tokenizer_class": "TokenizersBackend", "clean_up_tokenization_spaces": false});
    assert_eq!(there_and_back(&model, "named"), named);
    fs::write(model.join("tokenizer_config.json"), r#"{"model_max_length": 9}"#).expect("written");
    assert_eq!(there_and_back(&model, "beside")["model_max_length"], 9);
    assert_eq!(there_and_back(&model, "again")["tokenizer_class"], "TokenizersBackend");
    // Of GPT-2's kind transformers makes its own class, whose texts begin and end with <|endoftext|>.
    fs::remove_file(model.join("tokenizer_config.json")).expect("removed");
    let (gpt2, device, numbers) = (at("gpt2"), headlight::device::cpu(), Tokenizer::Numbers(263));
    let recipe = small_recipe().model;
    let network = Gpt::new(&recipe, 263, 5, &device);
    export(&gpt2, Some(Family::Gpt2), &network, &recipe, &numbers, &Around::default(), &device).expect("exported");
    fs::copy(model.join("tokenizer.json"), gpt2.join("tokenizer.json")).expect("copied");
    assert_eq!(there_and_back(&gpt2, "kind")["tokenizer_class"], "GPT2Tokenizer");
}

#[test]
fn files_beside_a_model_that_are_not_what_they_say_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("model");
    with_ends(&model, |_, _| ());
    let said = |name: &str, contents: &[u8]| {
        fs::write(model.join(name), contents).expect("written");
        let read = import(&model, None, &headlight::device::cpu());
        fs::remove_file(model.join(name)).expect("removed");
        read.map(|read| read.notes.join("\n")).map_err(|error| error.to_string())
    };
    let refused = said("tokenizer_config.json", b"[1]").expect_err("it may say something of the tokenizer");
    assert!(refused.contains("tokenizer_config.json") && refused.contains("not a JSON object"), "{refused}");
    let oid = "0".repeat(64);
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 1234\n");
    let pointer = said("tokenizer_config.json", pointer.as_bytes()).expect_err("a pointer");
    assert!(pointer.contains("git lfs pull"), "{pointer}");
    for name in ["generation_config.json", "special_tokens_map.json", "added_tokens.json"] {
        let note = said(name, b"{").expect("it goes without");
        assert!(note.contains(name) && note.contains("left out"), "{note}");
    }
    fs::remove_file(model.join("tokenizer.json")).expect("removed");
    let note = said("vocab.json", b"{}").expect("numbers go");
    assert!(note.contains("not both of vocab.json and merges.txt"), "{note}");
    fs::write(model.join("merges.txt"), "#version: 0.2\na b c\n").expect("written");
    let refused = said("vocab.json", b"{\"a\": 0}").expect_err("no pair");
    assert!(refused.contains("merges.txt") && refused.contains("'a b c'"), "{refused}");
    for (merges, fault) in [("", "it is empty"), ("<html>", "no pair"), ("#version: 0.2\na b\n", "lacks")] {
        fs::write(model.join("merges.txt"), merges).expect("written");
        let refused = said("vocab.json", b"{\"a\": 0}").expect_err("no merges of this vocabulary");
        assert!(refused.contains("merges.txt: its") || refused.contains("merges.txt: it is"), "{refused}");
        assert!(refused.contains(fault) && refused.contains("get the file again"), "{refused}");
    }
    fs::write(model.join("merges.txt"), "#version: 0.2\n").expect("written");
    let refused = said("vocab.json", b"{\"a\": 263}").expect_err("no row");
    assert!(refused.contains("vocab.json") && refused.contains("number 263"), "{refused}");
}
