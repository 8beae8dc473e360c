use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::*;
use crate::protocol::{
    AttentionSnapshot, Attribution, Cut, EffectsReport, HeadId, HeadReport, Lens, Off, Role, RoleReport, RoleScores,
    Step, View,
};
use crate::store::tests::snapshot;

/// Tokens that every format has to write with care.
const TOKENS: [&str; 5] = ["a,b", "\"", "</script>", "⏎", " &{{data}}"];

fn attention() -> Arc<AttentionSnapshot> {
    snapshot(1250, &TOKENS, 2, 3)
}

fn changed_view() -> View {
    let mut view = View { renormalise: true, ..View::default() };
    view.switches.heads.insert(HeadId { layer: 1, head: 2 }, Off::Mean);
    view.switches.mlps.insert(0, Off::Zero);
    view.cuts.insert(Cut { head: HeadId { layer: 0, head: 1 }, query: 3, key: 1 });
    view
}

fn roles_at(step: u64) -> RoleReport {
    let scores = |base: f32| RoleScores {
        previous: base,
        current: base / 3.0,
        first: base / 7.0,
        duplicate: base / 9.0,
        induction: base / 11.0,
    };
    let head = |index: usize| HeadReport {
        test: scores(0.15 * index as f32),
        probe: scores(0.07 * index as f32),
        entropy: 1.0 / (index + 3) as f32,
    };
    RoleReport { step: Step(step), heads: 3, reports: (0..6).map(head).collect() }
}

fn effects_report() -> EffectsReport {
    EffectsReport {
        step: Step(1000),
        off: Off::Mean,
        tokens: 4096,
        loss: 1.894_237_6,
        heads_per_layer: 3,
        heads: vec![Some(0.1), Some(-1.0 / 3.0), None, Some(0.0), Some(1e-7), Some(2.5)],
        mlps: vec![Some(0.7), None],
        done: 3,
        total: 8,
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn number(value: &Value) -> f32 {
    value.as_f64().expect("a number") as f32
}

/// Lines of fields, as RFC 4180 has them.
fn fields(text: &str) -> Vec<Vec<String>> {
    let (mut lines, mut line, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => line.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                line.push(std::mem::take(&mut field));
                lines.push(std::mem::take(&mut line));
            }
            other => field.push(other),
        }
    }
    assert!(!quoted && field.is_empty() && line.is_empty(), "the last line is whole");
    lines
}

/// The lines below the first as maps from the names that it gives.
fn records(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut lines = fields(text).into_iter();
    let names = lines.next().expect("a first line");
    let record = |line: Vec<String>| {
        assert_eq!(line.len(), names.len(), "{line:?}");
        names.iter().cloned().zip(line).collect()
    };
    lines.map(record).collect()
}

fn read<T: std::str::FromStr>(text: &str) -> T {
    text.parse().ok().expect("a number")
}

#[test]
fn attention_reads_back_from_json_under_transformerlens_names() {
    let snapshot = attention();
    let file = parsed(&json::attention(&snapshot, &View::default()));
    assert_eq!(file["step"], 1250);
    let tokens: Vec<_> = file["tokens"].as_array().expect("tokens").iter().filter_map(Value::as_str).collect();
    assert_eq!(tokens, TOKENS);
    assert!(
        file["shapes"]["blocks.N.attn.pattern"].as_str().is_some_and(|axes| axes.starts_with("[head, query, key]"))
    );
    for layer in 0..2 {
        let heads = file[format!("blocks.{layer}.attn.pattern")].as_array().expect("heads");
        assert_eq!(heads.len(), 3);
        for (head, rows) in heads.iter().enumerate() {
            let weights: Vec<f32> = rows
                .as_array()
                .expect("rows")
                .iter()
                .flat_map(|row| row.as_array().expect("keys"))
                .map(number)
                .collect();
            assert!(weights == snapshot.head(HeadId { layer, head }), "layer {layer} head {head}");
        }
    }
    let entries: Vec<&String> = file.as_object().expect("an object").keys().collect();
    assert_eq!(entries.len(), 5, "a plain view says nothing of changes: {entries:?}");
}

#[test]
fn what_a_view_changes_is_written_beside_the_numbers() {
    let file = parsed(&json::attention(&attention(), &changed_view()));
    let switched = serde_json::json!([
        { "name": "blocks.1.attn.hook_result", "head": 2, "off": "mean" },
        { "name": "blocks.0.hook_mlp_out", "off": "zero" },
    ]);
    assert_eq!(file["switched_off"], switched);
    assert_eq!(file["cuts"], serde_json::json!([{ "head": { "layer": 0, "head": 1 }, "query": 3, "key": 1 }]));
    assert_eq!(file["renormalised"], true);
}

#[test]
fn attention_reads_back_from_csv_up_to_the_diagonal() {
    let snapshot = attention();
    let records = records(&csv::attention(&snapshot));
    assert_eq!(records.len(), 2 * 3 * 15);
    for record in &records {
        let index = |name: &str| read::<usize>(&record[name]);
        let (query, key) = (index("query"), index("key"));
        let head = HeadId { layer: index("layer"), head: index("head") };
        assert!(key <= query && record["step"] == "1250");
        assert_eq!(read::<f32>(&record["weight"]), snapshot.weight(head, query, key));
        assert_eq!((record["query_token"].as_str(), record["key_token"].as_str()), (TOKENS[query], TOKENS[key]));
    }
}

#[test]
fn roles_read_back_from_both_formats() {
    let report = roles_at(500);
    let file = parsed(&json::roles(&report, &View::default()));
    assert_eq!(file["step"], 500);
    let history = parsed(&json::role_history(&[roles_at(0), report.clone()]));
    assert_eq!(history["reports"][1]["probe"], file["probe"]);
    let records = records(&csv::roles(&[roles_at(0), report.clone()]));
    assert_eq!((records.len(), records[6]["step"].as_str()), (12, "500"));
    for (index, record) in records[6..].iter().enumerate() {
        let (layer, head) = (index / 3, index % 3);
        assert_eq!((read::<usize>(&record["layer"]), read::<usize>(&record["head"])), (layer, head));
        let wanted = report.head(HeadId { layer, head }).expect("there");
        for role in Role::ALL {
            for (text, scores) in [("test", wanted.test), ("probe", wanted.probe)] {
                assert_eq!(number(&file[text][role.name()][layer][head]), scores.of(role));
                assert_eq!(read::<f32>(&record[&format!("{text}_{}", role.name())]), scores.of(role));
            }
        }
        assert_eq!(number(&file["entropy"][layer][head]), wanted.entropy);
        assert_eq!(read::<f32>(&record["entropy"]), wanted.entropy);
    }
}

#[test]
fn a_table_of_a_changed_model_says_what_was_changed() {
    let plain = csv::attention(&attention());
    assert_eq!(csv::with_changes(plain.clone(), &View::default()), plain);
    let mut view = View::default();
    view.switches.heads.insert(HeadId { layer: 1, head: 2 }, Off::Mean);
    view.cuts.insert(Cut { head: HeadId::default(), query: 3, key: 1 });
    let (before, after) = (records(&plain), records(&csv::with_changes(plain, &view)));
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(after["changes"], "blocks.1.attn.hook_result 2 mean; blocks.0.attn.pattern 0 cut 3 1");
        assert!(before.iter().all(|(column, value)| after[column] == *value));
    }
}

#[test]
fn the_lens_reads_back_from_both_formats() {
    let labels: Vec<String> = TOKENS.map(String::from).into();
    let guess = |index: usize| vec![(index as u32 % 5, 1.0 / (index + 2) as f32), (4, 0.01)];
    let lens = Lens { positions: 5, likeliest: (0..15).map(guess).collect() };
    let file = parsed(&json::lens(&lens, &attention(), &labels, &View::default()));
    let records = records(&csv::lens(&lens, &attention(), &labels));
    assert_eq!(records.len(), 30);
    for (row, name) in
        ["blocks.0.hook_resid_pre", "blocks.0.hook_resid_post", "blocks.1.hook_resid_post"].into_iter().enumerate()
    {
        assert_eq!(file[name].as_array().map(Vec::len), Some(5), "{name}");
        for position in 0..5 {
            for (rank, &(id, probability)) in lens.at(row, position).iter().enumerate() {
                let found = &file[name][position][rank];
                assert_eq!((found["id"].as_u64(), number(&found["probability"])), (Some(id.into()), probability));
                assert_eq!(found["token"], TOKENS[id as usize]);
                let record = &records[(row * 5 + position) * 2 + rank];
                assert_eq!((record["activation"].as_str(), record["token"].as_str()), (name, TOKENS[position]));
                assert_eq!((read::<u32>(&record["likely_id"]), read(&record["probability"])), (id, probability));
                assert_eq!(record["likely_token"], TOKENS[id as usize]);
            }
        }
    }
}

#[test]
fn the_parts_of_a_logit_read_back_from_both_formats() {
    let labels: Vec<String> = TOKENS.map(String::from).into();
    let (heads, mlps) = (vec![0.1, -0.2, 0.3, 0.4, 0.5, 1.0 / 3.0], vec![-1.5, 0.125]);
    let found =
        Attribution { position: 3, token: 1, logit: 1.5, embedding: 0.25, heads: heads.clone(), mlps, biases: 0.75 };
    let file = parsed(&json::attribution(&found, &attention(), &labels, &View::default()));
    assert_eq!((file["token"].as_str(), file["position"].as_u64()), (Some("\""), Some(3)));
    assert_eq!(number(&file["blocks.1.attn.hook_result"][2]), heads[5]);
    assert_eq!((number(&file["blocks.0.hook_mlp_out"]), number(&file["biases"])), (-1.5, 0.75));
    let records = records(&csv::attribution(&found, &attention(), &labels));
    let part = |part: &str, head: &str| {
        let found = records.iter().find(|record| record["part"] == part && record["head"] == head);
        read::<f32>(&found.expect("there")["logit"])
    };
    assert_eq!((part("blocks.1.attn.hook_result", "2"), part("blocks.1.hook_mlp_out", "")), (heads[5], 0.125));
    assert_eq!((part("embedding", ""), part("logit", ""), records.len()), (0.25, 1.5, 11));
}

#[test]
fn effects_read_back_and_what_was_not_measured_is_no_number() {
    let report = effects_report();
    let file = parsed(&json::effects(&report));
    assert_eq!((&file["off"], number(&file["loss"])), (&"mean".into(), report.loss));
    assert_eq!(number(&file["heads"][0][1]), -1.0 / 3.0);
    assert!(file["heads"][0][2].is_null() && file["mlps"][1].is_null());
    let records = records(&csv::effects(&report));
    assert_eq!(records.len(), 8);
    let found = |index: usize| &records[index];
    assert_eq!((found(4)["part"].as_str(), found(4)["head"].as_str()), ("blocks.1.attn.hook_result", "1"));
    assert_eq!(read::<f32>(&found(4)["loss_increase"]), 1e-7);
    assert_eq!((found(2)["loss_increase"].as_str(), found(7)["part"].as_str()), ("", "blocks.1.hook_mlp_out"));
}

#[test]
fn the_ending_says_the_format_and_another_is_refused() {
    assert_eq!(Format::of(Path::new("a/b.CSV")), Ok(Format::Csv));
    assert_eq!(Format::of(Path::new("b.json")), Ok(Format::Json));
    for wrong in ["b.txt", "b", "json"] {
        assert!(Format::of(Path::new(wrong)).is_err_and(|why| why.contains(wrong) && why.contains(".csv or .json")));
    }
}

/// A page, and the data in it as the browser would read it.
fn page(run: &str, snapshot: &AttentionSnapshot) -> (String, Value) {
    let (view, roles, effects) = (changed_view(), roles_at(1000), effects_report());
    let page = Page { run, attention: snapshot, view: &view, roles: Some(&roles), effects: Some(&effects) };
    let html = page.html().expect("numbers");
    let (_, rest) = html.split_once(r#"<script type="application/json" id="data">"#).expect("data");
    let data = parsed(rest.split_once("</script>").expect("its end").0);
    (html, data)
}

#[test]
fn nothing_in_a_token_or_a_name_leaves_its_place_in_a_page() {
    let (html, data) = page("a<b>\"&'{{data}}", &attention());
    let tokens: Vec<_> = data["tokens"].as_array().expect("tokens").iter().filter_map(Value::as_str).collect();
    assert_eq!(tokens, TOKENS);
    assert_eq!(html.matches("</script>").count(), 2, "the data's and the script's own");
    assert_eq!(html.matches("<title>a&lt;b&gt;&quot;&amp;&#39;{{data}} · step 1,250</title>").count(), 1);
    assert!(!html.contains("http:") && !html.contains("https:") && !html.contains("<link"), "nothing is loaded");
}

#[test]
fn a_page_holds_every_weight_badge_and_change() {
    let snapshot = attention();
    let (_, data) = page("run", &snapshot);
    assert_eq!(
        (data["layers"].as_u64(), data["heads"].as_u64(), data["step"].as_u64()),
        (Some(2), Some(3), Some(1250))
    );
    let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (index, text) in data["weights"].as_array().expect("weights").iter().enumerate() {
        let text = text.as_str().expect("base64").trim_end_matches('=');
        let bits: Vec<bool> = text
            .chars()
            .map(|digit| digits.find(digit).expect("a digit"))
            .flat_map(|value| (0..6).rev().map(move |bit| value >> bit & 1 == 1))
            .collect();
        let bytes: Vec<usize> =
            bits.chunks_exact(8).map(|bits| bits.iter().fold(0, |byte, &bit| byte << 1 | usize::from(bit))).collect();
        let mut weights = bytes.chunks_exact(2).map(|pair| (pair[0] | pair[1] << 8) as f32 / 65_535.0);
        let head = HeadId { layer: index / 3, head: index % 3 };
        for (query, key) in (0..5).flat_map(|query| (0..=query).map(move |key| (query, key))) {
            let difference = weights.next().expect("a weight") - snapshot.weight(head, query, key);
            assert!(difference.abs() <= 0.51 / 65_535.0, "head {index}, query {query}, key {key}: {difference}");
        }
        assert_eq!(weights.next(), None);
    }
    assert_eq!(data["weights"].as_array().map(Vec::len), Some(6));
    assert_eq!(
        (&data["roles"]["heads"][4]["role"], &data["roles"]["heads"][1]["role"]),
        (&"previous token".into(), &Value::Null)
    );
    assert_eq!(number(&data["effects"]["heads"][5]), 2.5);
    let notes = data["notes"].as_array().expect("notes");
    assert_eq!(notes[0], "Switched off: layer 2 head 3 (writes its mean), MLP of layer 1 (writes nothing).");
    assert_eq!(notes[1], "Weights made zero: 1; the rest of their rows scaled up to 1.");
}

#[test]
fn roles_of_another_shape_are_left_out_of_a_page() {
    let snapshot = snapshot(1, &["a", "b"], 1, 2);
    let (_, data) = page("run", &snapshot);
    assert!(data["roles"].is_null() && data["effects"].is_null());
}

#[test]
fn a_page_of_36_heads_on_256_tokens_stays_below_4_mb() {
    let large = snapshot(9, &["ab"; 256], 6, 6);
    let (html, _) = page("run", &large);
    assert!((3_100_000..4_000_000).contains(&html.len()), "{} bytes", html.len());
}
