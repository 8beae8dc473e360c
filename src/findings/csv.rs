//! Findings as comma-separated values (RFC 4180): a line for each number, the first line names the columns.

use std::fmt::Write as _;

use super::{head_name, label, lens_name, mlp_name, pattern_name};
use crate::protocol::{AttentionSnapshot, Attribution, Cut, EffectsReport, HeadId, Lens, Role, RoleReport, View};

/// Every weight that may be other than zero: no key after its query.
#[must_use]
pub fn attention(snapshot: &AttentionSnapshot) -> String {
    let mut text = String::from("step,layer,head,query,key,query_token,key_token,weight\n");
    let tokens: Vec<String> = snapshot.tokens.iter().map(|token| field(token)).collect();
    let (step, length) = (snapshot.step.0, tokens.len().max(1));
    for layer in 0..snapshot.layers {
        for head in 0..snapshot.heads {
            for (query, row) in snapshot.head(HeadId { layer, head }).chunks(length).enumerate() {
                for (key, weight) in row.iter().enumerate().take(query + 1) {
                    let (from, to) = (&tokens[query], &tokens[key]);
                    let _ = writeln!(text, "{step},{layer},{head},{query},{key},{from},{to},{weight}");
                }
            }
        }
    }
    text
}

/// A line for each head at each step.
#[must_use]
pub fn roles(reports: &[RoleReport]) -> String {
    let mut text = String::from("step,layer,head");
    for of in ["test", "probe"] {
        Role::ALL.iter().for_each(|role| text.extend([",", of, "_", role.name()]));
    }
    text.push_str(",entropy\n");
    for report in reports {
        for (index, head) in report.reports.iter().enumerate() {
            let (layer, place) = (index / report.heads.max(1), index % report.heads.max(1));
            let _ = write!(text, "{},{layer},{place}", report.step.0);
            for score in [&head.test, &head.probe].into_iter().flat_map(|scores| Role::ALL.map(|role| scores.of(role)))
            {
                let _ = write!(text, ",{score}");
            }
            let _ = writeln!(text, ",{}", head.entropy);
        }
    }
    text
}

/// A line for each of the likeliest tokens, from rank 0 on. `labels` are the vocabulary's.
#[must_use]
pub fn lens(lens: &Lens, snapshot: &AttentionSnapshot, labels: &[String]) -> String {
    let mut text = String::from("step,activation,position,token,rank,likely_id,likely_token,probability\n");
    let step = snapshot.step.0;
    for row in 0..lens.rows() {
        let activation = lens_name(row);
        for position in 0..lens.positions {
            let token = snapshot.tokens.get(position).map_or_else(String::new, |token| field(token));
            for (rank, &(id, probability)) in lens.at(row, position).iter().enumerate() {
                let likely = field(label(labels, id));
                let _ = writeln!(text, "{step},{activation},{position},{token},{rank},{id},{likely},{probability}");
            }
        }
    }
    text
}

/// A line for each part of the model; all but the last, the logit itself, sum to it.
#[must_use]
pub fn attribution(found: &Attribution, snapshot: &AttentionSnapshot, labels: &[String]) -> String {
    let mut text = String::from("step,position,id,token,part,head,logit\n");
    let (step, position, id) = (snapshot.step.0, found.position, found.token);
    let token = field(label(labels, id));
    let mut line = |part: &str, head: &str, logit: f32| {
        let _ = writeln!(text, "{step},{position},{id},{token},{part},{head},{logit}");
    };
    line("embedding", "", found.embedding);
    let per_layer = found.heads.len() / found.mlps.len().max(1);
    for (layer, (heads, mlp)) in found.heads.chunks(per_layer.max(1)).zip(&found.mlps).enumerate() {
        for (head, part) in heads.iter().enumerate() {
            line(&head_name(layer), &head.to_string(), *part);
        }
        line(&mlp_name(layer), "", *mlp);
    }
    line("biases", "", found.biases);
    line("logit", "", found.logit);
    text
}

/// A line for each part of the model; an empty increase was not measured.
#[must_use]
pub fn effects(report: &EffectsReport) -> String {
    let mut text = String::from("step,off,tokens,loss,part,head,loss_increase\n");
    let off = report.off.name();
    let EffectsReport { step, tokens, loss, .. } = report;
    let mut line = |part: String, head: &str, increase: Option<f32>| {
        let increase = increase.map_or_else(String::new, |increase| increase.to_string());
        let _ = writeln!(text, "{},{off},{tokens},{loss},{part},{head},{increase}", step.0);
    };
    for (index, &increase) in report.heads.iter().enumerate() {
        let (layer, head) = (index / report.heads_per_layer.max(1), index % report.heads_per_layer.max(1));
        line(head_name(layer), &head.to_string(), increase);
    }
    for (layer, &increase) in report.mlps.iter().enumerate() {
        line(mlp_name(layer), "", increase);
    }
    text
}

/// Adds what the view changes in the model as a last column; nothing where it changes nothing.
#[must_use]
pub fn with_changes(text: String, view: &View) -> String {
    let heads =
        view.switches.heads.iter().map(|(id, off)| format!("{} {} {}", head_name(id.layer), id.head, off.name()));
    let mlps = view.switches.mlps.iter().map(|(&layer, off)| format!("{} {}", mlp_name(layer), off.name()));
    let cut = |cut: &Cut| format!("{} {} cut {} {}", pattern_name(cut.head.layer), cut.head.head, cut.query, cut.key);
    let renormalised = (view.renormalise && !view.cuts.is_empty()).then(|| "renormalised".to_owned());
    let changes: Vec<_> = heads.chain(mlps).chain(view.cuts.iter().map(cut)).chain(renormalised).collect();
    if changes.is_empty() {
        return text;
    }
    let (mut column, changes) = ("changes".to_owned(), changes.join("; "));
    let (mut added, mut quoted) = (String::with_capacity(2 * text.len()), false);
    for character in text.chars() {
        quoted ^= character == '"';
        if character == '\n' && !quoted {
            added.extend([",", &column]);
            column.clone_from(&changes);
        }
        added.push(character);
    }
    added
}

/// A field, quoted where it has to be.
fn field(text: &str) -> String {
    // Spaces at the ends are quoted too: some readers strip them.
    let plain = !text.contains([',', '"', '\n', '\r']) && text.trim() == text;
    if plain { text.to_owned() } else { format!("\"{}\"", text.replace('"', "\"\"")) }
}
