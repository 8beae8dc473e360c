//! Findings as JSON: one object each, whose entry `shapes` says what the axes of its arrays are.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{head_name, label, lens_name, mlp_name, pattern_name};
use crate::protocol::{
    AttentionSnapshot, Attribution, Cut, EffectsReport, HeadId, HeadReport, Lens, Off, Role, RoleReport, RoleScores,
    Step, View,
};

type Shapes = BTreeMap<&'static str, &'static str>;

/// `{"step", "tokens", "shapes", "blocks.0.attn.pattern": [head][query][key], …}`
#[must_use]
pub fn attention(snapshot: &AttentionSnapshot, view: &View) -> String {
    #[derive(Serialize)]
    struct File<'a> {
        step: Step,
        #[serde(skip_serializing_if = "str::is_empty")]
        note: &'a str,
        tokens: &'a [String],
        #[serde(flatten)]
        changes: Changes<'a>,
        shapes: Shapes,
        #[serde(flatten)]
        patterns: BTreeMap<String, Vec<Vec<&'a [f32]>>>,
    }
    let length = snapshot.tokens.len().max(1);
    let rows = |layer, head| snapshot.head(HeadId { layer, head }).chunks(length).collect();
    let layer = |layer| (pattern_name(layer), (0..snapshot.heads).map(|head| rows(layer, head)).collect());
    text(&File {
        step: snapshot.step,
        note: &snapshot.note,
        tokens: &snapshot.tokens,
        changes: Changes::of(view),
        shapes: BTreeMap::from([
            ("tokens", "[position], printable"),
            (
                "blocks.N.attn.pattern",
                "[head, query, key] of layer N, counted from 0, after softmax: blocks.N.attn.hook_pattern of \
                 TransformerLens; a pruned head is all zero",
            ),
        ]),
        patterns: (0..snapshot.layers).map(layer).collect(),
    })
}

/// `{"step", "test": {"previous": [layer][head], …}, "probe": {…}, "entropy": [layer][head]}`
#[must_use]
pub fn roles(report: &RoleReport, view: &View) -> String {
    #[derive(Serialize)]
    struct File<'a> {
        #[serde(flatten)]
        roles: Roles,
        #[serde(flatten)]
        changes: Changes<'a>,
        shapes: Shapes,
    }
    text(&File { roles: Roles::of(report), changes: Changes::of(view), shapes: role_shapes() })
}

/// `{"shapes", "reports": [{"step", "test", "probe", "entropy"}, …]}`: as [`roles`], of many steps.
#[must_use]
pub fn role_history(reports: &[RoleReport]) -> String {
    #[derive(Serialize)]
    struct File {
        shapes: Shapes,
        reports: Vec<Roles>,
    }
    text(&File { shapes: role_shapes(), reports: reports.iter().map(Roles::of).collect() })
}

/// `{"step", "tokens", "blocks.0.hook_resid_pre": [position][rank] {"id", "token", "probability"},
/// "blocks.0.hook_resid_post": …}`
///
/// `labels` are the vocabulary's.
#[must_use]
pub fn lens(lens: &Lens, snapshot: &AttentionSnapshot, labels: &[String], view: &View) -> String {
    #[derive(Serialize)]
    struct File<'a> {
        step: Step,
        tokens: &'a [String],
        #[serde(flatten)]
        changes: Changes<'a>,
        shapes: Shapes,
        #[serde(flatten)]
        rows: BTreeMap<String, Vec<Vec<Likely<'a>>>>,
    }
    #[derive(Serialize)]
    struct Likely<'a> {
        id: u32,
        token: &'a str,
        probability: f32,
    }
    let likely = |&(id, probability): &(u32, f32)| Likely { id, token: label(labels, id), probability };
    let positions = |row| (0..lens.positions).map(move |position| lens.at(row, position));
    let row = |row| (lens_name(row), positions(row).map(|found| found.iter().map(likely).collect()).collect());
    text(&File {
        step: snapshot.step,
        tokens: &snapshot.tokens,
        changes: Changes::of(view),
        shapes: BTreeMap::from([
            ("tokens", "[position], printable"),
            (
                "blocks.0.hook_resid_pre",
                "[position, rank]: the tokens that the model would find likeliest after this position if it ended with \
                 the embedding, the position's included",
            ),
            ("blocks.N.hook_resid_post", "[position, rank]: the same after layer N, counted from 0"),
        ]),
        rows: (0..lens.rows()).map(row).collect(),
    })
}

/// `{"step", "position", "id", "token", "logit", "embedding", "blocks.0.attn.hook_result": [head],
/// "blocks.0.hook_mlp_out", …, "biases"}`: the parts sum to the logit.
#[must_use]
pub fn attribution(found: &Attribution, snapshot: &AttentionSnapshot, labels: &[String], view: &View) -> String {
    #[derive(Serialize)]
    struct File<'a> {
        step: Step,
        tokens: &'a [String],
        #[serde(flatten)]
        changes: Changes<'a>,
        shapes: Shapes,
        position: usize,
        id: u32,
        token: &'a str,
        logit: f32,
        embedding: f32,
        #[serde(flatten)]
        heads: BTreeMap<String, &'a [f32]>,
        #[serde(flatten)]
        mlps: BTreeMap<String, f32>,
        biases: f32,
    }
    let per_layer = found.heads.len() / found.mlps.len().max(1);
    let heads = found.heads.chunks(per_layer.max(1)).enumerate();
    let mlps = found.mlps.iter().enumerate();
    text(&File {
        step: snapshot.step,
        tokens: &snapshot.tokens,
        changes: Changes::of(view),
        shapes: BTreeMap::from([
            ("logit", "of token `id` after `position`; all parts sum to it, the last norm's scale taken as it was"),
            ("embedding", "of the token, and of the position where it is learned"),
            ("blocks.N.attn.hook_result", "[head] of layer N, counted from 0"),
            ("blocks.N.hook_mlp_out", "of layer N, counted from 0"),
        ]),
        position: found.position,
        id: found.token,
        token: label(labels, found.token),
        logit: found.logit,
        embedding: found.embedding,
        heads: heads.map(|(layer, heads)| (head_name(layer), heads)).collect(),
        mlps: mlps.map(|(layer, &part)| (mlp_name(layer), part)).collect(),
        biases: found.biases,
    })
}

/// `{"step", "off", "tokens", "loss", "heads": [layer][head], "mlps": [layer]}`; null is what was not measured.
#[must_use]
pub fn effects(report: &EffectsReport) -> String {
    #[derive(Serialize)]
    struct File<'a> {
        step: Step,
        off: Off,
        tokens: usize,
        loss: f32,
        heads: Vec<&'a [Option<f32>]>,
        mlps: &'a [Option<f32>],
        shapes: Shapes,
    }
    text(&File {
        step: report.step,
        off: report.off,
        tokens: report.tokens,
        loss: report.loss,
        heads: report.heads.chunks(report.heads_per_layer.max(1)).collect(),
        mlps: &report.mlps,
        shapes: BTreeMap::from([
            ("loss", "with all parts, in nats a token, over `tokens` tokens of the validation text"),
            ("heads", "[layer, head]: the loss without the head, less `loss`; null: not measured, or pruned"),
            ("mlps", "[layer]: the same without the layer's MLP"),
        ]),
    })
}

/// What the view changes in the model: without it the numbers could not be found again.
#[derive(Serialize)]
struct Changes<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    switched_off: Vec<Part>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    cuts: &'a BTreeSet<Cut>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    renormalised: bool,
}

#[derive(Serialize)]
struct Part {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<usize>,
    off: Off,
}

impl<'a> Changes<'a> {
    fn of(view: &'a View) -> Self {
        let head = |(id, &off): (&HeadId, &Off)| Part { name: head_name(id.layer), head: Some(id.head), off };
        let mlp = |(&layer, &off): (&usize, &Off)| Part { name: mlp_name(layer), head: None, off };
        let (heads, mlps) = (view.switches.heads.iter().map(head), view.switches.mlps.iter().map(mlp));
        let renormalised = view.renormalise && !view.cuts.is_empty();
        Self { switched_off: heads.chain(mlps).collect(), cuts: &view.cuts, renormalised }
    }
}

/// `[layer][head]`
type ByHead = Vec<Vec<f32>>;

#[derive(Serialize)]
struct Roles {
    step: Step,
    test: BTreeMap<&'static str, ByHead>,
    probe: BTreeMap<&'static str, ByHead>,
    entropy: ByHead,
}

impl Roles {
    fn of(report: &RoleReport) -> Self {
        let layers = || report.reports.chunks(report.heads.max(1));
        let by_head = |of: &dyn Fn(&HeadReport) -> f32| layers().map(|heads| heads.iter().map(of).collect()).collect();
        let scores = |of: fn(&HeadReport) -> &RoleScores| {
            Role::ALL.into_iter().map(|role| (role.name(), by_head(&|head| of(head).of(role)))).collect()
        };
        Self {
            step: report.step,
            test: scores(|head| &head.test),
            probe: scores(|head| &head.probe),
            entropy: by_head(&|head| head.entropy),
        }
    }
}

fn role_shapes() -> Shapes {
    BTreeMap::from([
        ("test", "each [layer, head]: the share of the head's attention where the role has it, on random tokens twice"),
        ("probe", "each [layer, head]: the same on the probe"),
        ("entropy", "[layer, head]: mean over the probe's rows, in nats"),
    ])
}

fn text(file: &impl Serialize) -> String {
    let mut text = serde_json::to_string(file).expect("plain data with names for keys becomes JSON");
    text.push('\n');
    text
}
