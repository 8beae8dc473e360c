//! Model folders as other programs and people leave them: what changes no number is taken, what does is said or refused by
//! name. Each is a golden case with something changed, held to the numbers of the case as it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::module::Module;
use headlight::runs::RunError;
use headlight::runs::transformers::{Imported, import};
use headlight::text::TokenId;
use headlight::train::logits;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};

use crate::transformers::{Copy, WEIGHTS, WHOLE, golden};
use crate::{headlight, text};

const HEAD: &str = "lm_head.weight";

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

impl Copy {
    fn with_text(self, name: &str, change: impl FnOnce(String) -> String) -> Self {
        let path = self.path(name);
        let changed = change(fs::read_to_string(&path).expect("read"));
        fs::write(path, changed).expect("written");
        self
    }

    fn with_tensors(self, change: impl FnOnce(&mut Tensors)) -> Self {
        let bytes = fs::read(self.path(WEIGHTS)).expect("read");
        let file = SafeTensors::deserialize(&bytes).expect("whole");
        let own = |view: TensorView<'_>| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        let mut tensors = file.iter().map(|(name, view)| (name.to_owned(), own(view))).collect();
        change(&mut tensors);
        let view = |(dtype, shape, bytes): &'static (Dtype, Vec<usize>, Vec<u8>)| {
            TensorView::new(*dtype, shape.clone(), bytes).expect("a tensor")
        };
        // Leaked: a test is short.
        let tensors: &'static Tensors = Box::leak(Box::new(tensors));
        let views = tensors.iter().map(|(name, tensor)| (name, view(tensor)));
        fs::write(self.path(WEIGHTS), safetensors::serialize(views, None).expect("serialized")).expect("written");
        self
    }

    fn import(&self, context: Option<usize>) -> Result<Imported, RunError> {
        import(self.0.path(), context, &headlight::device::cpu())
    }

    fn read(&self) -> Imported {
        self.import(None).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// The logits of a model on its whole context.
fn numbers(imported: &Imported) -> Vec<Vec<f32>> {
    let ids: Vec<_> = (0..imported.recipe.context as u32).map(|place| TokenId(place * 7 % 37)).collect();
    logits(&imported.model.valid(), &ids, &headlight::device::cpu())
}

fn says(imported: &Imported, words: &str) -> bool {
    imported.notes.iter().any(|note| note.contains(words))
}

/// The name of the embedding in a case's file.
fn embedding(tensors: &Tensors) -> String {
    tensors.keys().find(|name| name.contains("wte.") || name.contains("embed_tokens.")).expect("an embedding").clone()
}

fn f32s(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes")))
}

#[test]
fn a_head_that_the_config_ties_and_the_file_does_not_is_kept() {
    for case in WHOLE {
        let with_head = |tied: bool| {
            let other_head = |tensors: &mut Tensors| {
                let (dtype, shape, bytes) = tensors[&embedding(tensors)].clone();
                let bytes = f32s(&bytes).flat_map(|value| (1.5 * value + 0.1).to_le_bytes()).collect();
                tensors.insert(HEAD.into(), (dtype, shape, bytes));
            };
            let config = |config: &mut Value| config["tie_word_embeddings"] = tied.into();
            Copy::of(case).with_tensors(other_head).with_config(config).read()
        };
        let (tied, untied) = (with_head(true), with_head(false));
        assert!(!tied.recipe.tied_head && says(&tied, "another head") && !says(&untied, "another head"), "{case}");
        assert_eq!(numbers(&tied), numbers(&untied), "{case}");
        assert_ne!(numbers(&tied), numbers(&Copy::of(case).read()), "{case}");
    }
    // The golden case itself, whose config becomes a wrong one.
    let config = |config: &mut Value| config["tie_word_embeddings"] = true.into();
    assert_eq!(numbers(&Copy::of("gpt2-untied").with_config(config).read()), numbers(&Copy::of("gpt2-untied").read()));
}

#[test]
fn a_tied_head_in_the_file_is_the_embedding_or_is_looked_at_like_every_tensor() {
    for case in ["gpt2-tanh", "opt-relu", "llama-tied"] {
        let wanted = numbers(&Copy::of(case).read());
        let again = Copy::of(case).with_tensors(|tensors| {
            let head = tensors[&embedding(tensors)].clone();
            tensors.insert(HEAD.into(), head);
        });
        let again = again.read();
        assert!(again.recipe.tied_head && !says(&again, "head") && numbers(&again) == wanted, "{case}");
        let alone = Copy::of(case).with_tensors(|tensors| {
            let head = tensors.remove(&embedding(tensors)).expect("there");
            tensors.insert(HEAD.into(), head);
        });
        let alone = alone.read();
        assert!(alone.recipe.tied_head && !says(&alone, "head") && numbers(&alone) == wanted, "{case}");
        let neither = Copy::of(case).with_tensors(|tensors| drop(tensors.remove(&embedding(tensors))));
        neither.refused(WEIGHTS, &["is missing"]);

        let head = |dtype, shape: &[usize], bytes: Vec<u8>| {
            let shape = shape.to_vec();
            Copy::of(case).with_tensors(|tensors| drop(tensors.insert(HEAD.into(), (dtype, shape, bytes))))
        };
        head(Dtype::F32, &[36, 16], vec![0; 4 * 36 * 16]).refused(WEIGHTS, &[HEAD, "[36, 16]", "[37, 16]"]);
        head(Dtype::I32, &[37, 16], vec![0; 4 * 37 * 16]).refused(WEIGHTS, &[HEAD, "I32"]);
        let broken = f32::NAN.to_le_bytes().repeat(37 * 16);
        head(Dtype::F32, &[37, 16], broken).refused(WEIGHTS, &[HEAD, "no number"]);
    }
    // Where the config ties nothing, the head must be there.
    Copy::of("phi3").with_tensors(|tensors| drop(tensors.remove(HEAD))).refused(WEIGHTS, &[HEAD, "is missing"]);
}

#[test]
fn a_key_that_changes_no_number_is_no_hindrance() {
    let scaling = |kind: &str| json!({ "type": kind, "factor": 1.0 });
    let in_both = json!({ "rope_type": "linear", "type": "linear", "factor": 1, "rope_theta": 10_000 });
    let by_layer = json!({ "full_attention": { "rope_type": "default", "rope_theta": 10_000.0 } });
    let ones = json!({ "type": "longrope", "short_factor": [1.0, 1], "long_factor": [1.0, 1.0] });
    let yarn = json!({ "rope_type": "yarn", "factor": 1.0, "original_max_position_embeddings": 16 });
    let late = json!({ "rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 16 });
    for (case, key, value) in [
        ("phi3", "sliding_window", json!(16)),
        ("phi3", "sliding_window", json!(2047)),
        ("phi3", "sliding_window", json!(false)),
        ("llama-grouped", "sliding_window", json!(4096)),
        ("llama-grouped", "use_sliding_window", json!(true)),
        ("llama-grouped", "attention_chunk_size", json!(8192)),
        ("llama-grouped", "layer_types", json!(["full_attention", "full_attention"])),
        ("phi3", "layer_types", json!(["full_attention", "full_attention"])),
        ("llama-grouped", "rope_scaling", scaling("linear")),
        ("llama-grouped", "rope_scaling", scaling("dynamic")),
        ("llama-grouped", "rope_scaling", scaling("llama3")),
        ("llama-grouped", "rope_scaling", scaling("default")),
        ("llama-tied", "rope_scaling", scaling("linear")),
        ("phi3", "rope_scaling", scaling("linear")),
        ("llama-grouped", "rope_scaling", late),
        ("llama-grouped", "rope_scaling", yarn),
        ("llama-grouped", "rope_scaling", json!({})),
        ("llama-grouped", "rope_parameters", in_both),
        ("llama-grouped", "rope_parameters", by_layer),
        ("phi3", "rope_scaling", ones),
        ("llama-grouped", "rope_theta", json!(10_000)),
        ("llama-grouped", "partial_rotary_factor", json!(1)),
        ("llama-grouped", "type", json!("anything")),
        ("llama-grouped", "attention_multiplier", json!(1.0)),
        ("llama-grouped", "logits_scaling", json!(1)),
        ("llama-grouped", "residual_multiplier", json!(1.0)),
        ("llama-grouped", "pretraining_tp", json!(1)),
        ("llama-grouped", "attention_dropout", json!(0.1)),
        ("llama-grouped", "attention_bias", Value::Null),
        ("llama-grouped", "mlp_bias", Value::Null),
        ("llama-grouped", "hidden_act", json!("swish")),
        ("llama-grouped", "is_causal", json!(true)),
        ("phi3", "attention_bias", json!(false)),
        ("llama-grouped", "quantization_config", json!({})),
        ("gpt2-erf", "quantization_config", Value::Null),
        ("gpt2-tanh", "activation_function", json!("gelu_fast")),
        ("gpt2-tanh", "activation_function", json!("gelu_pytorch_tanh")),
        ("gpt2-erf", "activation_function", json!("gelu_python")),
        ("gpt2-erf", "scale_attn_weights", json!(true)),
        ("gpt2-erf", "reorder_and_upcast_attn", json!(true)),
        ("gpt2-erf", "n_ctx", json!(1024)),
        ("opt-relu", "activation_dropout", json!(0.5)),
        ("opt-relu", "layerdrop", json!(0.5)),
    ] {
        let changed = Copy::of(case).with_config(|config| config[key] = value.clone());
        let changed = changed.import(None).unwrap_or_else(|error| panic!("{case}, {key} {value}: {error}"));
        assert_eq!(numbers(&changed), numbers(&Copy::of(case).read()), "{case}, {key} {value}");
    }
    let both = |config: &mut Value| {
        config["use_sliding_window"] = json!(false);
        config["sliding_window"] = json!(4);
    };
    assert!(Copy::of("llama-grouped").with_config(both).import(None).is_ok(), "a window that is not used");
    // transformers' Phi-3 does not ask whether it is used.
    Copy::of("phi3").with_config(both).refused("config.json", &["sliding_window"]);
}

#[test]
fn a_window_counts_where_the_context_is_longer() {
    let window = |case: &str, window: usize| {
        Copy::of(case).with_config(|config| {
            config["sliding_window"] = window.into();
            config["layer_types"] = json!(["sliding_attention", "sliding_attention"]);
        })
    };
    for case in ["phi3", "llama-grouped"] {
        window(case, 15).refused("config.json", &["sliding_window", "15", "context of 16", "--context 15"]);
        window(case, 0).refused("config.json", &["sliding_window", "0"]);
        let wide = window(case, 16).read();
        assert!(says(&wide, "'sliding_window'") && says(&wide, "context of 16"), "{:?}", wide.notes);
        let short = window(case, 8).import(Some(8)).expect("it hides nothing there");
        assert_eq!(numbers(&short), numbers(&Copy::of(case).import(Some(8)).expect("shortened")));
        let message = window(case, 8).import(Some(9)).expect_err("it hides something").to_string();
        assert!(message.contains("context of 9") && message.contains("--context 8"), "{message}");
    }
}

#[test]
fn a_key_that_changes_a_number_is_refused_by_name() {
    let linear = json!({ "type": "linear", "factor": 2.0 });
    let late = json!({ "rope_type": "dynamic", "factor": 4.0, "original_max_position_embeddings": 8 });
    let half = json!({ "rope_type": "default", "partial_rotary_factor": 0.5 });
    let by_layer = json!({ "full_attention": { "rope_type": "linear", "factor": 8.0 } });
    let louder = json!({ "rope_type": "yarn", "factor": 1.0, "attention_factor": 1.1 });
    let longer = json!({ "rope_type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [1.0, 1.0] });
    for (case, key, value, words) in [
        ("llama-grouped", "rope_scaling", linear, ["'linear'", "factor 2.0"]),
        ("llama-grouped", "rope_scaling", json!({ "rope_type": "linear" }), ["'linear'", "scaled"]),
        ("llama-grouped", "rope_scaling", late, ["'dynamic'", "factor 4.0"]),
        ("llama-grouped", "rope_parameters", half, ["partial_rotary_factor", "0.5"]),
        ("llama-grouped", "rope_parameters", by_layer, ["'linear'", "factor 8.0"]),
        ("llama-grouped", "rope_scaling", louder, ["'yarn'", "scaled"]),
        ("phi3", "rope_scaling", longer, ["'longrope'", "scaled"]),
        ("llama-grouped", "rope_scaling", json!({ "type": "cube", "factor": 1.0 }), ["'cube'", "scaled"]),
        ("llama-grouped", "layer_types", json!(["linear_attention"]), ["layer_types", "linear_attention"]),
        ("llama-grouped", "is_causal", json!(false), ["is_causal", "false"]),
        ("gpt2-erf", "is_causal", json!(false), ["is_causal", "false"]),
        ("gpt2-tanh", "activation_function", json!("quick_gelu"), ["quick_gelu", "activation_function"]),
        ("gpt2-tanh", "activation_function", json!("silu"), ["'silu'", "activation_function"]),
        ("llama-grouped", "quantization_config", json!({ "bits": 8 }), ["quantized", "quantization_config"]),
        ("gpt2-erf", "hidden_size", json!(32), ["'n_embd' is 16", "'hidden_size'"]),
        ("gpt2-erf", "max_position_embeddings", json!(8), ["'n_positions' is 16", "'max_position_embeddings'"]),
    ] {
        Copy::of(case).with_config(|config| config[key] = value).refused("config.json", &words);
    }
}

#[test]
fn gpt2s_keys_may_have_the_names_that_all_families_use() {
    let wanted = numbers(&Copy::of("gpt2-erf").read());
    let renamed = |names: &[(&str, &str)]| {
        Copy::of("gpt2-erf").with_config(|config| {
            for (own, other) in names {
                config[other] = config.as_object_mut().expect("an object").remove(*own).expect("there");
            }
        })
    };
    let common = [
        ("n_embd", "hidden_size"),
        ("n_layer", "num_hidden_layers"),
        ("n_head", "num_attention_heads"),
        ("n_positions", "max_position_embeddings"),
    ];
    assert_eq!(numbers(&renamed(&common).read()), wanted);
    assert_eq!(numbers(&renamed(&[("n_positions", "n_ctx")]).read()), wanted);
    renamed(&[("n_layer", "layers")]).refused("config.json", &["'n_layer' is missing"]);
    let twice = Copy::of("gpt2-erf").with_config(|config| config["hidden_size"] = config["n_embd"].clone());
    assert_eq!(numbers(&twice.read()), wanted);
}

#[test]
fn what_is_no_number_is_refused_only_where_a_number_is_needed() {
    let with = |case: &str, key: &str, value: &str| {
        let line = format!("\"{key}\": {value},");
        Copy::of(case)
            .with_config(|config| drop(config.as_object_mut().expect("an object").remove(key)))
            .with_text("config.json", |text| text.replacen('{', &format!("{{ {line}"), 1))
    };
    for (case, key) in [("llama-grouped", "initializer_range"), ("opt-relu", "init_std"), ("gpt2-erf", "summary_value")]
    {
        for value in ["NaN", "Infinity", "-Infinity", "1e999", "[1, {\"deep\": NaN}]"] {
            assert_eq!(
                numbers(&with(case, key, value).read()),
                numbers(&Copy::of(case).read()),
                "{case} {key} {value}"
            );
        }
    }
    for (case, key) in [("llama-grouped", "rms_norm_eps"), ("gpt2-erf", "layer_norm_epsilon"), ("phi3", "hidden_size")]
    {
        for value in ["NaN", "Infinity", "-1e999"] {
            with(case, key, value).refused("config.json", &[key, if value == "NaN" { "NaN" } else { "Infinity" }]);
        }
    }
    with("llama-grouped", "initializer_range", "nan").refused("config.json", &["not JSON"]);
    // Left out, it is what transformers takes for that family.
    for (case, key, usual) in [("phi3", "rms_norm_eps", 1e-5), ("llama-grouped", "rms_norm_eps", 1e-6)] {
        let without = Copy::of(case).with_config(|config| drop(config.as_object_mut().expect("an object").remove(key)));
        assert_eq!(without.read().recipe.norm_epsilon, usual, "{case}");
    }
    let index = "model.safetensors.index.json";
    let shards = Copy::of("llama-sharded").with_text(index, |text| text.replacen('{', "{ \"total_size\": NaN,", 1));
    assert_eq!(numbers(&shards.read()), numbers(&Copy::of("llama-sharded").read()));
}

#[test]
fn what_wrappers_put_before_and_into_the_names_is_left_out() {
    for case in WHOLE {
        let wanted = numbers(&Copy::of(case).read());
        let renamed = |rename: &dyn Fn(&str) -> String| {
            let copy = Copy::of(case).with_tensors(|tensors| {
                *tensors = std::mem::take(tensors).into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect();
            });
            copy.import(None).unwrap_or_else(|error| panic!("{case}: {error}"))
        };
        for prefix in
            ["module.", "_orig_mod.", "module._orig_mod.", "base_model.", "base_model.model.", "net.", "a.b.c."]
        {
            let found = renamed(&|name| format!("{prefix}{name}"));
            assert_eq!(numbers(&found), wanted, "{case}, {prefix}");
            let wrapper = prefix.contains("module.") || prefix.contains("_orig_mod.");
            assert_eq!(says(&found, prefix), !wrapper, "{case}: {:?}", found.notes);
        }
        // A model in another's care, and the bare model without its head.
        assert_eq!(numbers(&renamed(&|name| format!("model.{name}"))), wanted, "{case}");
        let bare = |name: &str| match name.split_once('.') {
            Some(("transformer" | "model", rest)) => rest.to_owned(),
            _ => name.to_owned(),
        };
        assert_eq!(numbers(&renamed(&bare)), wanted, "{case}");
        assert_eq!(numbers(&renamed(&|name| format!("module.{}", bare(name)))), wanted, "{case}");
        let inside = |name: &str| name.replacen(".0.", ".0._checkpoint_wrapped_module.", 1);
        assert_eq!(numbers(&renamed(&inside)), wanted, "{case}");
    }
    let left_over = Copy::of("gpt2-erf").with_tensors(|tensors| {
        *tensors = std::mem::take(tensors).into_iter().map(|(name, tensor)| (format!("net.{name}"), tensor)).collect();
        let strange = tensors["net.transformer.ln_f.weight"].clone();
        tensors.insert("net.transformer.value_head".into(), strange.clone());
        tensors.insert("net.transformer.h.0.attn.bias".into(), strange);
    });
    left_over.refused(WEIGHTS, &["'net.transformer.value_head' is left over"]);
    let twice = Copy::of("gpt2-erf").with_tensors(|tensors| {
        let again = tensors["transformer.ln_f.weight"].clone();
        tensors.insert("module.transformer.ln_f.weight".into(), again);
    });
    twice.refused(WEIGHTS, &["'transformer.ln_f.weight' comes twice"]);
}

#[test]
fn weights_of_64_bits_are_rounded_and_that_is_said() {
    let wide = |case: &str, change: fn(f64) -> f64| {
        Copy::of(case).with_tensors(|tensors| {
            for (dtype, _, bytes) in tensors.values_mut() {
                *bytes = f32s(bytes).flat_map(|value| change(f64::from(value)).to_le_bytes()).collect();
                *dtype = Dtype::F64;
            }
        })
    };
    for case in ["gpt2-tanh", "llama-grouped"] {
        let wanted = numbers(&Copy::of(case).read());
        let exact = wide(case, |value| value).read();
        assert!(says(&exact, "64 bits are kept as 32") && numbers(&exact) == wanted, "{:?}", exact.notes);
        let rounded = wide(case, |value| value * (1.0 + 1e-9)).read();
        assert!(says(&rounded, "64 bits are rounded") && numbers(&rounded) == wanted, "{:?}", rounded.notes);
        wide(case, |value| if value.abs() > 0.5 { value * 1e301 } else { value })
            .refused(WEIGHTS, &["e30", "past what 32 bits hold"]);
        wide(case, |_| f64::NAN).refused(WEIGHTS, &["no number"]);
    }
}

#[test]
fn a_file_that_stands_for_another_says_what_to_do() {
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 548105171\n", "0".repeat(64));
    let copy_with = |case: &str, name: &str| {
        let copy = Copy::of(case);
        fs::write(copy.path(name), &pointer).expect("written");
        copy
    };
    let shard = "model-00002-of-00004.safetensors";
    for (case, name) in [
        ("gpt2-erf", WEIGHTS),
        ("gpt2-erf", "config.json"),
        ("gpt2-erf", "tokenizer.json"),
        ("llama-sharded", shard),
        ("llama-sharded", "model.safetensors.index.json"),
    ] {
        let copy = copy_with(case, name);
        copy.refused(name, &["Git LFS pointer", "548.1 MB", "git lfs pull", text(copy.0.path())]);
    }
    let place = tempfile::tempdir().expect("a folder");
    let file = place.path().join("text.txt");
    fs::write(&file, &pointer).expect("written");
    let out = place.path().join("out");
    for arguments in [
        &["train", "--text", text(&file), "--device", "cpu", "--out", text(&out)][..],
        &["train", "--recipe", text(&file), "--device", "cpu", "--out", text(&out)],
    ] {
        let said = String::from_utf8_lossy(&headlight(arguments).stderr).into_owned();
        let wanted = format!("{}: it is a Git LFS pointer", file.display());
        assert!(said.contains(&wanted) && said.contains("git lfs pull") && !out.exists(), "{said}");
    }
}

#[cfg(unix)]
#[test]
fn a_link_that_leads_nowhere_is_named_with_its_target() {
    use std::os::unix::fs::symlink;
    for (case, name) in [
        ("gpt2-erf", WEIGHTS),
        ("gpt2-erf", "config.json"),
        ("gpt2-erf", "tokenizer.json"),
        ("llama-sharded", "model-00002-of-00004.safetensors"),
        ("llama-sharded", "model.safetensors.index.json"),
    ] {
        let copy = Copy::of(case);
        let _ = fs::remove_file(copy.path(name));
        symlink("../../blobs/0123abc", copy.path(name)).expect("linked");
        copy.refused(name, &["a link to ../../blobs/0123abc, which is not there"]);
    }
    // As Hugging Face's cache has it: sound links are followed.
    let home = tempfile::tempdir().expect("a folder");
    let model = home.path().join("models--org--name");
    let snapshot = model.join("snapshots/0123abc");
    for folder in [&snapshot, &model.join("blobs"), &model.join("refs")] {
        fs::create_dir_all(folder).expect("made");
    }
    for name in ["config.json", WEIGHTS] {
        fs::copy(golden("gpt2-erf").join(name), model.join("blobs").join(name)).expect("copied");
        symlink(Path::new("../../blobs").join(name), snapshot.join(name)).expect("linked");
    }
    fs::write(model.join("refs/main"), "0123abc").expect("written");
    let device = headlight::device::cpu();
    assert_eq!(numbers(&import(&snapshot, None, &device).expect("a model")), numbers(&Copy::of("gpt2-erf").read()));
    for folder in [&model, &model.join("snapshots"), &home.path().to_owned()] {
        let message = import(folder, None, &device).expect_err("one level too high").to_string();
        assert!(
            message.starts_with(text(folder)) && message.ends_with(&format!("open {}", snapshot.display())),
            "{message}"
        );
    }
    let message = import(&snapshot.join(WEIGHTS), None, &device).expect_err("a file").to_string();
    assert!(message.contains("it is a file: name the folder"), "{message}");
}
