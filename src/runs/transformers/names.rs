//! Where each of our weights lies in a family's files.
//!
//! Ours have nanoGPT's names and PyTorch's layout, `[output, input]`. One rule covers every difference: some rows of ours,
//! one tensor below the other, are some rows of theirs, one tensor below the other.

use std::collections::HashMap;

use super::super::weights::{Weight, transposed};
use super::Family;
use crate::recipe::ModelRecipe;

/// Our names of the two that are one where the head is tied.
pub(super) const EMBEDDING: &str = "transformer.wte.weight";
pub(super) const HEAD: &str = "lm_head.weight";

/// Tensors of ours and of theirs that hold the same rows.
#[derive(Debug)]
pub(super) struct Entry {
    /// Name and shape; empty where a family has a bias and the model has none, which stands for zeros.
    ours: Vec<(String, Vec<usize>)>,
    /// Name and shape in the file.
    pub theirs: Vec<(String, Vec<usize>)>,
    /// Matrices lie the other way round: GPT-2's `Conv1D`.
    turned: bool,
    /// Rows of theirs before the first of ours: OPT's positions begin at 2.
    skipped: usize,
}

impl Entry {
    /// Whether it is of this one of our tensors.
    pub fn is(&self, ours: &str) -> bool {
        self.ours.first().is_some_and(|(name, _)| name == ours)
    }

    /// Takes a model's weights out of `ours` and gives the file's tensors.
    pub fn give(&self, ours: &mut HashMap<String, Weight>) -> Vec<Weight> {
        let columns = self.columns();
        let mut values = vec![0.0; self.skipped * columns];
        for (name, _) in &self.ours {
            values.extend(ours.remove(name).map(|weight| weight.values).unwrap_or_default());
        }
        let wanted: usize = self.theirs.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
        values.resize(wanted, 0.0);
        let mut rest = &values[..];
        let mut given = Vec::new();
        for (name, shape) in &self.theirs {
            let (own, after) = rest.split_at(shape.iter().product());
            let values = if self.is_turned(shape) { transposed(own, shape[1], shape[0]) } else { own.to_vec() };
            given.push(Weight { name: name.clone(), shape: shape.clone(), values });
            rest = after;
        }
        given
    }

    /// The file's tensors, in the order of [`theirs`](Self::theirs), as the model's weights.
    pub fn take(&self, theirs: Vec<Vec<f32>>) -> Vec<Weight> {
        let mut joined = Vec::new();
        for ((_, shape), values) in self.theirs.iter().zip(theirs) {
            joined.extend(if self.is_turned(shape) { transposed(&values, shape[0], shape[1]) } else { values });
        }
        let mut rest = &joined[self.skipped * self.columns()..];
        let mut taken = Vec::new();
        for (name, shape) in &self.ours {
            let (own, after) = rest.split_at(shape.iter().product());
            taken.push(Weight { name: name.clone(), shape: shape.clone(), values: own.to_vec() });
            rest = after;
        }
        taken
    }

    fn is_turned(&self, shape: &[usize]) -> bool {
        self.turned && shape.len() == 2
    }

    fn columns(&self) -> usize {
        self.ours.first().map_or(1, |(_, shape)| shape[1..].iter().product())
    }
}

/// Every tensor of the family's file, with the weights of ours in it. `shapes` are the model's, in its order.
pub(super) fn entries(family: Family, recipe: &ModelRecipe, shapes: &[Weight]) -> Vec<Entry> {
    let mut plan = Plan { family, recipe, shapes, entries: Vec::new() };
    let [tokens, positions, norm, head] = match family {
        Family::Gpt2 => ["transformer.wte", "transformer.wpe", "transformer.ln_f", "lm_head"],
        Family::Opt => {
            ["model.decoder.embed_tokens", "model.decoder.embed_positions", "model.decoder.final_layer_norm", "lm_head"]
        }
        Family::Llama | Family::Phi3 => ["model.embed_tokens", "", "model.norm", "lm_head"],
    };
    plan.add(&["transformer.wte"], &[(tokens, None)], false);
    if plan.has("transformer.wpe.weight") {
        plan.add(&["transformer.wpe"], &[(positions, None)], false);
        if family == Family::Opt
            && let Some(entry) = plan.entries.last_mut()
        {
            entry.skipped = OPT_OFFSET;
            entry.theirs[0].1[0] += OPT_OFFSET;
        }
    }
    for layer in 0..recipe.layers {
        plan.block(layer);
    }
    let always = matches!(family, Family::Gpt2 | Family::Opt);
    plan.add(&["transformer.ln_f"], &[(norm, None)], always);
    if plan.has(HEAD) {
        plan.add(&["lm_head"], &[(head, None)], false);
    }
    plan.entries
}

/// OPT counts positions from 2 (`OPTLearnedPositionalEmbedding`).
const OPT_OFFSET: usize = 2;

struct Plan<'a> {
    family: Family,
    recipe: &'a ModelRecipe,
    shapes: &'a [Weight],
    entries: Vec<Entry>,
}

impl Plan<'_> {
    fn has(&self, name: &str) -> bool {
        self.shapes.iter().any(|weight| weight.name == name)
    }

    fn block(&mut self, layer: usize) {
        let ModelRecipe { width, biases, .. } = *self.recipe;
        let shared = self.recipe.key_value_heads() * self.recipe.head_width();
        let ours = |part: &str| format!("transformer.h.{layer}.{part}");
        let (prefix, [norm_1, query_key_value, projection, norm_2]) = match self.family {
            Family::Gpt2 => ("transformer.h", ["ln_1", "attn.c_attn", "attn.c_proj", "ln_2"]),
            Family::Opt => (
                "model.decoder.layers",
                ["self_attn_layer_norm", "self_attn.", "self_attn.out_proj", "final_layer_norm"],
            ),
            Family::Llama => {
                ("model.layers", ["input_layernorm", "self_attn.", "self_attn.o_proj", "post_attention_layernorm"])
            }
            Family::Phi3 => (
                "model.layers",
                ["input_layernorm", "self_attn.qkv_proj", "self_attn.o_proj", "post_attention_layernorm"],
            ),
        };
        let theirs = |part: &str| format!("{prefix}.{layer}.{part}");
        // Whether the family's linear layers and norms have biases even where the model has none.
        let (attention, mlp, norms) = match self.family {
            Family::Gpt2 => (true, true, true),
            Family::Opt => {
                let any = biases.query_key_value || biases.projection || biases.mlp;
                (any, any, true)
            }
            Family::Llama => (biases.query_key_value || biases.projection, biases.mlp, false),
            Family::Phi3 => (false, false, false),
        };
        self.add(&[&ours("ln_1")], &[(&theirs(norm_1), None)], norms);
        if query_key_value.ends_with('.') {
            let [q, k, v] = ["q_proj", "k_proj", "v_proj"].map(|part| theirs(&format!("{query_key_value}{part}")));
            let split = [(q.as_str(), Some(width)), (k.as_str(), Some(shared)), (v.as_str(), Some(shared))];
            self.add(&[&ours("attn.c_attn")], &split, attention);
        } else {
            self.add(&[&ours("attn.c_attn")], &[(&theirs(query_key_value), None)], attention);
        }
        self.add(&[&ours("attn.c_proj")], &[(&theirs(projection), None)], attention);
        self.add(&[&ours("ln_2")], &[(&theirs(norm_2), None)], norms);
        let (gate, up, down) = (ours("mlp.c_gate"), ours("mlp.c_fc"), ours("mlp.c_proj"));
        let into: &[(&[&str], &str)] = match self.family {
            Family::Gpt2 => &[(&[&up], "mlp.c_fc"), (&[&down], "mlp.c_proj")],
            Family::Opt => &[(&[&up], "fc1"), (&[&down], "fc2")],
            Family::Llama => &[(&[&gate], "mlp.gate_proj"), (&[&up], "mlp.up_proj"), (&[&down], "mlp.down_proj")],
            Family::Phi3 => &[(&[&gate, &up], "mlp.gate_up_proj"), (&[&down], "mlp.down_proj")],
        };
        for (ours, part) in into {
            self.add(ours, &[(&theirs(part), None)], mlp);
        }
    }

    /// A layer's weight and bias. `theirs` are names with their rows, where those are not all; `zeros` writes a bias that
    /// the model has not.
    fn add(&mut self, ours: &[&str], theirs: &[(&str, Option<usize>)], zeros: bool) {
        let shape =
            |name: &str| self.shapes.iter().find(|weight| weight.name == name).map(|weight| weight.shape.clone());
        let mut weight_rows = 0;
        for kind in ["weight", "bias"] {
            let found: Vec<_> = ours
                .iter()
                .map(|name| format!("{name}.{kind}"))
                .filter_map(|name| shape(&name).map(|shape| (name, shape)))
                .collect();
            if found.is_empty() && (kind == "weight" || !zeros) {
                continue;
            }
            let rows = found.iter().map(|(_, shape)| shape[0]).sum::<usize>();
            let rows = if found.is_empty() { weight_rows } else { rows };
            weight_rows = rows;
            let columns = found.first().and_then(|(_, shape)| shape.get(1).copied());
            let embedding =
                ours.iter().any(|name| name.ends_with("wte") || name.ends_with("wpe") || *name == "lm_head");
            let turned = self.family == Family::Gpt2 && !embedding && columns.is_some();
            let lay = |rows: usize| match columns {
                None => vec![rows],
                Some(columns) if turned => vec![columns, rows],
                Some(columns) => vec![rows, columns],
            };
            let theirs =
                theirs.iter().map(|(name, own)| (format!("{name}.{kind}"), lay(own.unwrap_or(rows)))).collect();
            self.entries.push(Entry { ours: found, theirs, turned, skipped: 0 });
        }
    }
}
