//! Models whose numbers overflow, and weights that are none: said and refused, never shown as calm numbers.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Module;
use headlight::device;
use headlight::model::Gpt;
use headlight::protocol::Origin;
use headlight::protocol::{Command, Event, ExportFormat, NonFinite, RunState, SampleEvent, SampleRequest, Stage, Step};
use headlight::runs::transformers::{export, import};
use headlight::runs::{Around, Checkpoint, Owner, TrainingState};
use headlight::text::TokenId;
use headlight::train::{Sampler, first_non_finite, logits};
use serde_json::Value;

use crate::command_line::{Place, refused};
use crate::engine::Followed;
use crate::{headlight, small_recipe, small_trainer, text};

/// A golden case with some weights multiplied by 1e25, which leaves them finite.
fn overflowing(place: &Place, case: &str, parts: &[&str]) -> PathBuf {
    let (from, to) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(case), place.path("model"));
    fs::create_dir(&to).expect("made");
    fs::copy(from.join("config.json"), to.join("config.json")).expect("copied");
    let bytes = fs::read(from.join("model.safetensors")).expect("read");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("a whole file");
    let mut changed = 0;
    let mut tensors = Vec::new();
    for (name, view) in file.iter() {
        let mut data = view.data().to_vec();
        if name.ends_with("weight") && parts.iter().any(|part| name.contains(part)) {
            changed += 1;
            for four in data.chunks_exact_mut(4) {
                let value = f32::from_le_bytes(four.try_into().expect("four bytes")) * 1e25;
                assert!(value.is_finite());
                four.copy_from_slice(&value.to_le_bytes());
            }
        }
        tensors.push((name.to_owned(), view.dtype(), view.shape().to_vec(), data));
    }
    assert!(changed > 0, "{case} has none of {parts:?}");
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), data).expect("a tensor"))
    });
    fs::write(to.join("model.safetensors"), safetensors::serialize(views, None).expect("bytes")).expect("written");
    to
}

/// A run of such a model, imported by the program.
fn run_of(place: &Place, case: &str, parts: &[&str]) -> String {
    let (model, run) = (overflowing(place, case, parts), place.argument("run"));
    let output = headlight(&["import", text(&model), "--out", &run]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    run
}

/// JSON and warnings of a job that shows what is there.
fn shown(arguments: &[&str]) -> (Value, String) {
    let output = headlight(arguments);
    let warnings = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(output.status.success(), "{arguments:?}: {warnings}");
    (serde_json::from_slice(&output.stdout).expect("JSON"), warnings)
}

fn rows(value: &Value) -> &Vec<Value> {
    value.as_array().expect("an array")
}

const ATTENTION: [(&str, &[&str]); 4] = [
    ("gpt2-tanh", &["h.1.attn.c_attn"]),
    ("llama-grouped", &["layers.1.self_attn.q_proj", "layers.1.self_attn.k_proj", "layers.1.self_attn.v_proj"]),
    ("opt-relu", &["layers.1.self_attn.q_proj", "layers.1.self_attn.k_proj", "layers.1.self_attn.v_proj"]),
    ("phi3", &["layers.1.self_attn.qkv_proj"]),
];

#[test]
fn what_overflows_is_null_with_one_warning_that_names_the_layer() {
    for (case, parts) in ATTENTION {
        let place = Place::new();
        let run = run_of(&place, case, parts);
        let prompt = ["--ids", "3,1,4,1,5", "--device", "cpu", "--json"];
        let ask = |job: &str| shown(&[&[job, &run][..], &prompt].concat());

        let (found, warnings) = ask("logits");
        assert!(rows(&found["logits"]).iter().flat_map(rows).all(Value::is_null), "{case}: {found}");
        assert_eq!(warnings.matches("warning: ").count(), 1, "{warnings}");
        assert!(warnings.contains("not finite from layer 2's attention on (position 0)"), "{warnings}");

        let (found, warnings) = ask("attention");
        assert_eq!(warnings.matches("layer 2's attention").count(), 1, "{warnings}");
        let [first, second] = [0, 1].map(|layer| rows(&found["weights"][layer]).iter().flat_map(rows).flat_map(rows));
        assert!(first.into_iter().all(Value::is_number), "{case}: {found}");
        // As in PyTorch a row of softmax with one that is none has no number at all, masked places included.
        assert!(second.into_iter().all(Value::is_null), "{case}: {found}");

        let (found, warnings) = ask("lens");
        assert_eq!(warnings.matches("layer 2's attention").count(), 1, "{warnings}");
        let likeliest =
            |name: &str| rows(&found[name]).iter().map(|at| at[0]["probability"].clone()).collect::<Vec<_>>();
        assert!(likeliest("blocks.0.hook_resid_post").iter().all(Value::is_number), "{case}: {found}");
        assert!(likeliest("blocks.1.hook_resid_post").iter().all(Value::is_null), "{case}: {found}");

        let told = headlight(&["logits", &run, "--ids", "3,1", "--device", "cpu"]);
        assert!(String::from_utf8_lossy(&told.stdout).contains("NaN"), "in words it is what it is");
    }
}

#[test]
fn what_would_be_made_of_them_is_refused_and_leaves_nothing() {
    for (case, parts) in &ATTENTION[..2] {
        let place = Place::new();
        let (run, out) = (run_of(&place, case, parts), place.argument("out"));
        let words = &["not finite from layer 2's attention on (position 0)"];
        let numbers = place.file("numbers.txt", "3 1 4 1 5 9 2 6 ".repeat(200).as_bytes());
        let sample = headlight(&["sample", &run, "--prompt", "3 1 4", "--device", "cpu"]);
        assert_eq!((sample.status.code(), sample.stdout.len()), (Some(1), 0), "nothing is drawn");
        refused(&["sample", &run, "--prompt", "3 1 4", "--device", "cpu"], words);
        refused(&["sample", &run, "--prompt", "3", "--temperature", "0", "--device", "cpu"], words);
        refused(&["evaluate", &run, "--text", &numbers, "--device", "cpu"], words);
        refused(&["effects", &run, "--text", &numbers, "--device", "cpu", "--json"], words);
        refused(&["heads", &run, "--device", "cpu"], words);
        refused(&["heads", &run, "--ids", "3,1,4", "--device", "cpu", "--json"], words);
        refused(&["page", &run, "--ids", "3,1,4", "--out", &out, "--device", "cpu"], words);
        for format in ["hf", "safetensors", "checkpoint"] {
            refused(&["export", &run, "--format", format, "--out", &out], words);
            assert!(!Path::new(&out).exists(), "{format} left something");
        }
        let left: Vec<_> =
            fs::read_dir(place.path("")).expect("listed").flatten().map(|entry| entry.file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().contains(".part")), "{left:?}");
    }
}

#[test]
fn an_open_run_is_looked_at_and_says_why_nothing_is_drawn_or_exported() {
    let (place, folder) = (Place::new(), tempfile::tempdir().expect("a folder"));
    let model = overflowing(&place, "gpt2-tanh", &["h.1.attn.c_attn"]);
    let (run, out) = (folder.path().join("run"), folder.path().join("out"));
    assert!(headlight(&["import", text(&model), "--out", text(&run)]).status.success());
    let mut run = Followed::open(Origin::Open { text: None, folder: run }, true, folder);
    run.until_state(RunState::Paused);
    let look = run.until_look(|look| look.roles.is_some());
    assert_eq!(look.non_finite, Some(NonFinite { stage: Stage::Attention(1), position: 0 }));
    let bad: Vec<_> = look.attention.non_finite.iter().map(|(head, query)| (head.layer, head.head, *query)).collect();
    assert_eq!(bad, [(1, 0, 0), (1, 1, 0), (1, 2, 0), (1, 3, 0)]);
    assert!(!look.roles.as_ref().expect("asked for").is_finite());

    // On the screen positions count from 1.
    let words = "layer 2's attention on (position 1)";
    let settings = headlight::recipe::SamplingRecipe { prompt: "3 1".into(), ..small_recipe().sampling };
    run.handle.send(Command::Sample(SampleRequest { id: 3, settings }));
    let done = run.until(|event| matches!(event, Event::Sampled(SampleEvent::Done { id: 3, .. })));
    assert!(
        matches!(&done, Event::Sampled(SampleEvent::Done { trouble: Some(why), .. }) if why.contains(words)),
        "{done:?}"
    );
    assert!(!run.events.iter().any(|event| matches!(event, Event::Sampled(SampleEvent::Token { .. }))));
    for format in [ExportFormat::Transformers(None), ExportFormat::Safetensors, ExportFormat::Checkpoint] {
        run.handle.send(Command::Export { format, path: out.clone() });
        run.until(
            |event| matches!(event, Event::Warning(why) if why.contains("the export failed") && why.contains(words)),
        );
        assert!(!out.exists());
    }
}

#[test]
fn the_first_stage_is_named_wherever_it_is() {
    let cases: [(&str, &[&str], Option<Stage>); 5] = [
        ("gpt2-tanh", &["h.0.attn.c_attn"], Some(Stage::Attention(0))),
        ("gpt2-tanh", &["h.1.mlp"], Some(Stage::Mlp(1))),
        ("gpt2-untied", &["ln_f", "lm_head"], Some(Stage::Logits)),
        // Large numbers alone are numbers; a layer norm's variance of them is none, as in PyTorch.
        ("gpt2-tanh", &["h.0.mlp.c_proj"], Some(Stage::Attention(1))),
        // An RMS norm takes them back.
        ("llama-grouped", &["layers.0.mlp.down_proj"], None),
    ];
    for (case, parts, wanted) in cases {
        let place = Place::new();
        let model = import(&overflowing(&place, case, parts), None, &device::cpu()).expect("taken").model.valid();
        let found = first_non_finite(&model, &[3, 1, 4].map(TokenId), &device::cpu());
        assert_eq!(
            found.map(|found| (found.stage, found.position)),
            wanted.map(|stage| (stage, 0)),
            "{case} {parts:?}"
        );
    }
}

/// A model whose first MLP writes NaN.
fn spoiled(model: Gpt, width: usize) -> Gpt {
    model.without_mlp(0, Some(&vec![f32::NAN; width]))
}

#[test]
fn a_sampler_says_where_it_begins_and_draws_nothing() {
    let recipe = small_recipe();
    let trainer = small_trainer(recipe.clone());
    let (tokenizer, device) = (&trainer.dataset().tokenizer, device::cpu());
    let model = spoiled(trainer.validation_model(), recipe.model.width);
    for temperature in [0.0, 1.0] {
        let settings = headlight::recipe::SamplingRecipe { temperature, ..recipe.sampling.clone() };
        let mut sampler = Sampler::new(settings, tokenizer);
        let found = sampler.next(&model, Step(0), &recipe.model, tokenizer, &device);
        assert_eq!(found, Err(NonFinite { stage: Stage::Mlp(0), position: 0 }));
    }
    assert!(logits(&model, &[TokenId(1)], &device)[0].iter().all(|logit| logit.is_nan()));
}

#[test]
fn weights_that_are_none_are_neither_saved_nor_exported() {
    let mut recipe = small_recipe();
    recipe.model.biases = true.into();
    let trainer = small_trainer(recipe.clone());
    let (tokenizer, folder) = (&trainer.dataset().tokenizer, tempfile::tempdir().expect("a folder"));
    let model = spoiled(trainer.validation_model(), recipe.model.width);
    let state = TrainingState {
        step: Step(3),
        learning_rate: 1e-3,
        final_learning_rate: 1e-4,
        elapsed_secs: 1.0,
        best_validation_loss: None,
    };
    let path = folder.path().join("last.safetensors");
    let owner = Owner::new(&recipe.model, tokenizer);
    let refusal = Checkpoint::save(&path, &model, trainer.optimizer(), state, &owner).expect_err("refused").to_string();
    for word in ["last.safetensors", "h.0.mlp.c_proj.bias", "NaN at [0]"] {
        assert!(refusal.contains(word), "{refusal}");
    }
    assert!(!path.exists());
    let out = folder.path().join("out");
    let refusal = export(&out, None, &model, &recipe.model, tokenizer, &Around::default(), &device::cpu())
        .expect_err("refused")
        .to_string();
    assert!(refusal.contains("h.0.mlp.c_proj.bias") && refusal.contains("NaN at [0]"), "{refusal}");
    assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 0, "nothing is left");
}
