//! Looking into a model: what a view shows of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};

use super::finite::{all_finite, in_trace};
use super::probe::{Probe, as_i32};
use super::roles;
use super::sampler::{LIKELIEST, largest};
use crate::model::{CutWeight, Gpt, Trace, append_values, rollout, values_of};
use crate::protocol::{
    AttentionSnapshot, Attribution, Cut, CutEffect, HeadId, HeadReport, Lens, Look, Off, RoleReport, Step, Switches,
    Target, View,
};
use crate::recipe::ModelRecipe;
use crate::text::{Batch, TokenId, Tokenizer};
use crate::train::ids_tensor;

/// A model and what is needed to read it. `model` is the validation form, on `device`.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub model: &'a Gpt,
    pub recipe: &'a ModelRecipe,
    pub tokenizer: &'a Tokenizer,
    pub device: &'a Device,
    pub step: Step,
}

impl Seen<'_> {
    /// Everything that the view wants, on the probe, but what is pinned. The view's switches are already in the model.
    /// `with_roles` measures what the heads do.
    #[must_use]
    pub fn look(&self, probe: &Probe, view: &View, with_roles: bool) -> Look {
        let mut trace = self.trace_for(view);
        let logits = self.trace(&probe.ids, &mut trace); // [1, position, vocabulary]
        let (positions, vocabulary) = (probe.ids.len(), logits.dims()[2]);
        let row = |logits: &Tensor<3>, position: usize| {
            values_of(logits.clone().slice([0..1, position..position + 1, 0..vocabulary]))
        };
        let reached = view.cuts.iter().map(|cut| cut.query).filter(|query| *query < positions).max();
        let cut = reached.map(|position| {
            let uncut = self.model.forward(self.tensor(&probe.ids));
            let (before, after) = (likeliest(&row(&uncut, position)), likeliest(&row(&logits, position)));
            CutEffect { position, before, after }
        });
        let wants = &view.wants;
        let scores = wants.scores.and_then(|head| Some((head, self.scores(head, &trace)?)));
        let target = wants.attribution.filter(|target| target.position < positions);
        let attribution = target.and_then(|target| self.attribution(&trace, target, &row(&logits, target.position)));
        let lens = wants.lens.then(|| self.lens(&trace));
        let rollout = wants.rollout.then(|| rollout(&trace));
        let last = row(&logits, positions - 1);
        // What is no number at a position stays none up to the last stream there.
        let stream = trace.layers.last().and_then(|layer| layer.resid_post.clone()).map(values_of).unwrap_or_default();
        let non_finite = (!all_finite(&stream) || !all_finite(&last)).then(|| in_trace(self.model, &trace));
        let attention = Arc::new(self.snapshot(probe, trace));
        Look {
            view: view.clone(),
            non_finite,
            roles: with_roles.then(|| self.roles(&attention, &probe.ids)),
            next: likeliest(&last),
            cut,
            lens,
            attribution,
            scores,
            rollout,
            attention,
            pinned: None,
        }
    }

    /// Attention of every head on the probe.
    #[must_use]
    pub fn attention(&self, probe: &Probe) -> AttentionSnapshot {
        let mut trace = Trace::default();
        let _ = self.trace(&probe.ids, &mut trace);
        self.snapshot(probe, trace)
    }

    /// What every head does, on the probe and on the standard test. `attention` is of the probe's tokens `ids`.
    #[must_use]
    pub fn roles(&self, attention: &AttentionSnapshot, ids: &[TokenId]) -> RoleReport {
        let test = self.test();
        self.report(&test, &self.attention(&test), attention, ids)
    }

    /// What every head does on the standard test, which stands in for the probe too.
    #[must_use]
    pub fn tested_roles(&self) -> RoleReport {
        let test = self.test();
        let tested = self.attention(&test);
        self.report(&test, &tested, &tested, &test.ids)
    }

    /// The standard test's tokens.
    #[must_use]
    pub fn test(&self) -> Probe {
        let (vocabulary, context) = (self.tokenizer.vocabulary(), self.recipe.context);
        let ids = roles::repeated_random(vocabulary, context, self.tokenizer.start_token().0);
        Probe { ids: ids.into_iter().map(TokenId).collect(), note: String::new() }
    }

    fn report(
        &self,
        test: &Probe,
        tested: &AttentionSnapshot,
        attention: &AttentionSnapshot,
        ids: &[TokenId],
    ) -> RoleReport {
        let numbers = |ids: &[TokenId]| -> Vec<u32> { ids.iter().map(|id| id.0).collect() };
        let (probe_ids, test_ids) = (numbers(ids), numbers(&test.ids));
        let report = |head| HeadReport {
            test: roles::scores(tested.head(head), &test_ids),
            probe: roles::scores(attention.head(head), &probe_ids),
            entropy: roles::entropy(attention.head(head), ids.len()),
        };
        let (layers, heads) = (attention.layers, attention.heads);
        let reports = (0..layers).flat_map(|layer| (0..heads).map(move |head| HeadId { layer, head })).map(report);
        RoleReport { step: self.step, heads, reports: reports.collect() }
    }

    fn tensor(&self, ids: &[TokenId]) -> Tensor<2, Int> {
        ids_tensor(as_i32(ids), 1, ids.len(), self.device)
    }

    fn trace(&self, ids: &[TokenId], trace: &mut Trace) -> Tensor<3> {
        self.model.forward_traced(self.tensor(ids), trace)
    }

    fn trace_for(&self, view: &View) -> Trace {
        let place = |cut: &Cut| {
            let (layer, head) = self.place_of(cut.head)?;
            Some(CutWeight { layer, head, query: cut.query, key: cut.key })
        };
        let trace = Trace::cutting(view.cuts.iter().filter_map(place).collect(), view.renormalise);
        if view.wants.scores.is_some() { trace.with_scores() } else { trace }
    }

    /// Where a head stands among those that its layer has; `None` if it is not there.
    fn place_of(&self, head: HeadId) -> Option<(usize, usize)> {
        place_of(self.recipe, head)
    }

    /// Takes the trace, so that the weights are copied once: off the tensors.
    fn snapshot(&self, probe: &Probe, trace: Trace) -> AttentionSnapshot {
        let (layers, heads, positions) = (self.recipe.layers, self.recipe.heads, probe.ids.len());
        let size = positions * positions;
        let mut weights = Vec::with_capacity(layers * heads * size);
        for (layer, pattern) in trace.into_patterns().into_iter().enumerate() {
            let places = self.recipe.heads_of(layer);
            if places.len() == heads {
                append_values(pattern, &mut weights); // [head, query, key]
                continue;
            }
            let patterns = values_of(pattern);
            let mut there = patterns.chunks_exact(size);
            for head in 0..heads {
                match places.contains(&head).then(|| there.next()).flatten() {
                    Some(pattern) => weights.extend_from_slice(pattern),
                    None => weights.resize(weights.len() + size, 0.0),
                }
            }
        }
        let tokens = probe.ids.iter().map(|&id| self.tokenizer.label(id)).collect();
        let (note, non_finite) = (probe.note.clone(), Vec::new());
        AttentionSnapshot { step: self.step, tokens, layers, heads, weights, note, non_finite }.looked_through()
    }

    /// A head's scores before the mask.
    fn scores(&self, head: HeadId, trace: &Trace) -> Option<Vec<f32>> {
        let (layer, head) = self.place_of(head)?;
        let scores = trace.layers[layer].scores.clone()?;
        let [_, _, queries, keys] = scores.dims();
        Some(values_of(scores.slice([0..1, head..head + 1, 0..queries, 0..keys])))
    }

    /// The prediction from the embedding alone, and after each layer.
    fn lens(&self, trace: &Trace) -> Lens {
        let streams = trace.embedding.iter().chain(trace.layers.iter().filter_map(|layer| layer.resid_post.as_ref()));
        let mut likeliest_of = Vec::new();
        let mut positions = 0;
        for stream in streams {
            let logits = self.model.unembed(stream.clone()); // [1, position, vocabulary]
            let [_, length, vocabulary] = logits.dims();
            positions = length;
            likeliest_of.extend(values_of(logits).chunks_exact(vocabulary).map(likeliest));
        }
        Lens { positions, likeliest: likeliest_of }
    }

    fn attribution(&self, trace: &Trace, target: Target, logits: &[f32]) -> Option<Attribution> {
        let token = match target.token {
            Some(token) => token,
            None => likeliest(logits).first()?.0,
        };
        let logit = *logits.get(token as usize)?;
        let parts = self.model.attribute(trace, target.position, token as usize);
        let (layers, count) = (self.recipe.layers, self.recipe.heads);
        let mut heads = vec![0.0; layers * count];
        for (layer, found) in parts.heads.iter().enumerate() {
            for (head, &part) in self.recipe.heads_of(layer).into_iter().zip(found) {
                heads[layer * count + head] = part;
            }
        }
        let (embedding, mlps, biases) = (parts.embedding, parts.mlps, parts.biases);
        Some(Attribution { position: target.position, token, logit, embedding, heads, mlps, biases })
    }
}

/// Where a head stands among those that its layer has; `None` if it is not there.
fn place_of(recipe: &ModelRecipe, head: HeadId) -> Option<(usize, usize)> {
    if head.layer >= recipe.layers {
        return None;
    }
    Some((head.layer, recipe.heads_of(head.layer).iter().position(|&there| there == head.head)?))
}

/// The likeliest tokens, ten at most, with their probabilities. Where a logit is no number, no probability is one.
#[must_use]
pub fn likeliest(logits: &[f32]) -> Vec<(u32, f32)> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f64 = logits.iter().map(|&logit| f64::from(logit - highest).exp()).sum();
    let probability = |id: usize| (f64::from(logits[id] - highest).exp() / total) as f32;
    largest(logits, LIKELIEST).into_iter().map(|id| (id as u32, probability(id))).collect()
}

/// What the parts of a model write on average: `[layer]`, heads side by side `[heads × head_width]`, and MLPs `[width]`.
#[derive(Debug, Clone)]
pub struct Means {
    z: Vec<Vec<f32>>,
    mlps: Vec<Vec<f32>>,
}

impl Means {
    /// Over every position of a batch.
    ///
    /// # Panics
    /// Never: a traced pass records every layer.
    #[must_use]
    pub fn of(model: &Gpt, batch: &Batch, device: &Device) -> Self {
        let mut trace = Trace::default();
        let _ = model.forward_traced(ids_tensor(batch.inputs.clone(), batch.rows, batch.context, device), &mut trace);
        let mean = |x: Tensor<3>| values_of(x.mean_dim(0).mean_dim(1));
        let stream = |x: &Option<Tensor<3>>| x.clone().expect("recorded in each layer");
        Self {
            z: trace.layers.iter().map(|layer| mean(stream(&layer.z))).collect(),
            mlps: trace.layers.iter().map(|layer| mean(stream(&layer.resid_post) - stream(&layer.resid_mid))).collect(),
        }
    }
}

/// The model with parts switched off; without `means` all of them write nothing. What is not there is left out.
#[must_use]
pub fn switched(model: &Gpt, recipe: &ModelRecipe, switches: &Switches, means: Option<&Means>) -> Gpt {
    let mut model = model.clone();
    for (&head, &off) in &switches.heads {
        let Some((layer, place)) = place_of(recipe, head) else { continue };
        let size = recipe.head_width();
        let mean = means.filter(|_| off == Off::Mean);
        let mean = mean.map(|means| &means.z[layer][place * size..(place + 1) * size]);
        model = model.without_head(layer, place, mean);
    }
    for (&layer, &off) in switches.mlps.iter().filter(|(layer, _)| **layer < recipe.layers) {
        let mean = means.filter(|_| off == Off::Mean).map(|means| means.mlps[layer].as_slice());
        model = model.without_mlp(layer, mean);
    }
    model
}

/// The model without the heads that are switched off, and its recipe: the same logits in fewer weights.
///
/// # Errors
/// If the switches hold something else than heads, or heads that cannot go; one sentence that says what to do.
pub fn pruned(
    model: &Gpt,
    recipe: &ModelRecipe,
    switches: &Switches,
    means: Option<&Means>,
) -> Result<(Gpt, ModelRecipe), String> {
    if let Some((layer, _)) = switches.mlps.first_key_value() {
        return Err(format!("only heads can be pruned: switch the MLP of layer {} on again", layer + 1));
    }
    if switches.heads.is_empty() {
        return Err("no head is switched off: switch off those that are to go".into());
    }
    if let Some(head) = switches.heads.keys().find(|&&head| place_of(recipe, head).is_none()) {
        return Err(format!("there is no head {} in layer {}", head.head + 1, head.layer + 1));
    }
    let mut without = recipe.clone();
    without.pruned.extend(switches.heads.keys().map(|head| (head.layer, head.head)));
    without.pruned.sort_unstable();
    without.check_pruned(&without.pruned)?;
    let mut model = switched(model, recipe, switches, means);
    if switches.need_means() && !recipe.biases.projection {
        // What the heads wrote on average goes on in a bias, which every layer has or none.
        without.biases.projection = true;
        model = model.with_projection_biases();
    }
    let mut by_layer: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &head in switches.heads.keys() {
        let (layer, place) = place_of(recipe, head).expect("looked for above");
        by_layer.entry(layer).or_default().push(place);
    }
    for (layer, heads) in by_layer {
        model = model.pruned(layer, &heads);
    }
    Ok((model, without))
}
