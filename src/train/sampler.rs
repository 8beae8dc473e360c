//! Text from the model, one token at a time.

use std::sync::Arc;

use burn::tensor::Device;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::finite::{all_finite, first_non_finite};
use crate::model::{Cache, Gpt, Trace, values_of};
use crate::protocol::{NonFinite, SampledToken, Stage, Step, TokenAttention, falling};
use crate::recipe::{ModelRecipe, SamplingRecipe};
use crate::text::{TextStream, TokenId, Tokenizer};
use crate::train::ids_tensor;

/// Tokens that a prediction lists.
pub(super) const LIKELIEST: usize = 10;
/// Tokens that are looked at first for the likeliest that make up top-p.
const NUCLEUS: usize = 64;
/// What the tokens of one text may remember, in bytes.
const WATCH_BYTES_MAX: usize = 200_000_000;

/// A text being written.
#[derive(Debug)]
pub struct Sampler {
    ids: Vec<TokenId>,
    stream: TextStream,
    remaining: usize,
    settings: SamplingRecipe,
    rng: ChaCha8Rng,
    cached: Option<Cached>,
    /// Room for what the tokens remember of where the heads looked.
    watch_bytes: usize,
    /// Tokens that end the text.
    ends: Vec<TokenId>,
    /// The prompt as the model sees it.
    pub prompt: String,
    /// What of the prompt was left out, in words; empty when none.
    pub note: String,
}

impl Sampler {
    #[must_use]
    pub fn new(settings: SamplingRecipe, tokenizer: &Tokenizer) -> Self {
        let prompt = &settings.prompt;
        let encoded = if settings.special_tokens { tokenizer.encode_whole(prompt) } else { tokenizer.encode(prompt) };
        let note = encoded.note();
        let mut stream = TextStream::default();
        let prompt = encoded.ids.iter().map(|&id| stream.push(tokenizer, id)).collect();
        let ids = if encoded.ids.is_empty() { vec![tokenizer.start_token()] } else { encoded.ids };
        Self {
            ids,
            stream,
            remaining: settings.tokens,
            rng: ChaCha8Rng::seed_from_u64(settings.seed),
            cached: None,
            watch_bytes: 0,
            ends: Vec::new(),
            settings,
            prompt,
            note,
        }
    }

    /// From now on each token remembers where the heads looked, until that takes too much memory; this takes more time.
    #[must_use]
    pub fn watched(mut self) -> Self {
        self.watch_bytes = WATCH_BYTES_MAX;
        self
    }

    /// With one of these tokens the text is at its end, if the settings have it so.
    #[must_use]
    pub fn ending_with(mut self, ends: &[TokenId]) -> Self {
        if self.settings.stop_at_end {
            self.ends = ends.to_vec();
        }
        self
    }

    /// The tokens so far.
    #[must_use]
    pub fn ids(&self) -> &[TokenId] {
        &self.ids
    }

    /// The tokens so far, printable.
    #[must_use]
    pub fn tokens(&self, tokenizer: &Tokenizer) -> Vec<String> {
        self.ids.iter().map(|&id| tokenizer.label(id)).collect()
    }

    /// The next token is drawn by another model than the last, at the same step.
    pub fn forget(&mut self) {
        self.cached = None;
    }

    /// The next token, or `None` when the asked-for length is reached. `model` may change from call to call: `step` says
    /// which one it is, so that what was kept of another is not used.
    ///
    /// # Errors
    /// If the model's logits are no numbers, so that there is nothing to draw from: says from where on.
    pub fn next(
        &mut self,
        model: &Gpt,
        step: Step,
        recipe: &ModelRecipe,
        tokenizer: &Tokenizer,
        device: &Device,
    ) -> Result<Option<SampledToken>, NonFinite> {
        let Some(remaining) = self.remaining.checked_sub(1) else { return Ok(None) };
        let (logits, attention) = self.logits(model, step, recipe, device);
        if !all_finite(&logits) {
            // The whole pass again, seen stage by stage.
            let seen = &self.ids[self.ids.len().saturating_sub(recipe.context)..];
            let last = NonFinite { stage: Stage::Logits, position: seen.len() - 1 };
            return Err(first_non_finite(model, seen, device).unwrap_or(last));
        }
        self.remaining = remaining;
        let plain = softmax(&logits, 1.0);
        let id = draw(&distribution(&logits, &self.settings), self.rng.random::<f64>());
        let token = |index: usize| TokenId(index as u32);
        let shown = |index: usize| (tokenizer.label(token(index)), plain[index] as f32);
        let alternatives = largest(&logits, LIKELIEST).into_iter().map(shown).collect();
        self.ids.push(token(id));
        let mut text = self.stream.push(tokenizer, token(id));
        let ends = self.ends.contains(&token(id));
        if ends {
            self.remaining = 0;
        }
        if self.remaining == 0 {
            text.push_str(&self.stream.finish());
        }
        let label = tokenizer.label(token(id));
        let (probability, special) = (plain[id] as f32, tokenizer.is_special(token(id)));
        Ok(Some(SampledToken { text, label, id: id as u32, special, ends, probability, alternatives, attention }))
    }
}

impl Sampler {
    /// Logits of the token after the text, and where the heads looked. What the cache holds is not computed again.
    fn logits(
        &mut self,
        model: &Gpt,
        step: Step,
        recipe: &ModelRecipe,
        device: &Device,
    ) -> (Vec<f32>, Option<Arc<TokenAttention>>) {
        let (length, context) = (self.ids.len(), recipe.context);
        let usable = |cached: &Cached| {
            cached.step == step && cached.cache.length() < context && cached.start + cached.cache.length() < length
        };
        let mut cached = self.cached.take().filter(usable).unwrap_or_else(|| {
            // Where the context is full, its last three quarters are read again, so that this is not done at each token.
            let kept = if length > context { context - context / 4 } else { length };
            Cached { cache: model.cache(context), start: length - kept, step }
        });
        let new = &self.ids[cached.start + cached.cache.length()..];
        let ids = ids_tensor(new.iter().map(|id| id.0 as i32).collect(), 1, new.len(), device);
        let mut trace = (self.watch_bytes > 0).then(Trace::default);
        let rows = model.forward_cached(ids, &mut cached.cache, trace.as_mut()); // [1, new, vocabulary]
        let last = rows.narrow(1, new.len() - 1, 1);
        let attention = trace.map(|trace| Arc::new(last_rows(trace, recipe, cached.start)));
        let remembered: &[f32] = attention.as_ref().map_or(&[], |attention| &attention.weights);
        self.watch_bytes = self.watch_bytes.saturating_sub(size_of_val(remembered));
        self.cached = Some(cached);
        (values_of(last), attention)
    }
}

/// Where each head looked from the last position.
fn last_rows(trace: Trace, recipe: &ModelRecipe, start: usize) -> TokenAttention {
    let ModelRecipe { layers, heads, .. } = *recipe;
    let mut weights = Vec::new();
    for (layer, pattern) in trace.into_patterns().into_iter().enumerate() {
        let [_, _, queries, keys] = pattern.dims(); // [1, head, query, key]
        let rows = values_of(pattern.narrow(2, queries - 1, 1));
        weights.resize((layer + 1) * heads * keys, 0.0);
        for (head, row) in recipe.heads_of(layer).into_iter().zip(rows.chunks_exact(keys)) {
            weights[(layer * heads + head) * keys..][..keys].copy_from_slice(row);
        }
    }
    TokenAttention { start, layers, heads, weights }
}

/// What is kept of a text that is being written.
#[derive(Debug)]
struct Cached {
    cache: Cache,
    /// The text's token at the cache's first place.
    start: usize,
    /// The model that filled it.
    step: Step,
}

/// The distribution that is drawn from: temperature first, then top-k, then top-p (nucleus, Holtzman et al. 2020) on
/// what is left. Sums to 1; temperature 0 puts everything on the likeliest token. The logits are numbers.
#[must_use]
pub fn distribution(logits: &[f32], settings: &SamplingRecipe) -> Vec<f64> {
    let mut probabilities = vec![0.0; logits.len()];
    if settings.temperature == 0.0 {
        largest(logits, 1).into_iter().for_each(|best| probabilities[best] = 1.0);
        return probabilities;
    }
    let all = softmax(logits, settings.temperature);
    let (top_k, top_p) = (settings.top_k, settings.top_p);
    if top_k == 0 && top_p >= 1.0 {
        return all;
    }
    let mass_of = |order: &[usize]| order.iter().map(|&index| all[index]).sum::<f64>();
    // Sorting a whole vocabulary would take as long as a layer: the nucleus is mostly small.
    let mut order = largest(logits, if top_k == 0 { NUCLEUS } else { top_k });
    while top_k == 0 && order.len() < logits.len() && mass_of(&order) < top_p {
        order = largest(logits, 8 * order.len());
    }
    let kept_mass = if top_k == 0 { 1.0 } else { mass_of(&order) };
    let mut mass = 0.0;
    for index in order {
        probabilities[index] = all[index];
        mass += all[index];
        if mass >= top_p * kept_mass {
            break;
        }
    }
    probabilities.iter_mut().for_each(|probability| *probability /= mass);
    probabilities
}

/// The places of the `count` largest values, the largest first, of equal ones the earlier; what is no number before all.
pub(super) fn largest(values: &[f32], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    let better = |a: &usize, b: &usize| falling(values[*a], values[*b]).then(a.cmp(b));
    if order.len() > count {
        order.select_nth_unstable_by(count, better);
        order.truncate(count);
    }
    order.sort_unstable_by(better);
    order
}

fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&logit| (f64::from(logit - highest) / temperature).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / total).collect()
}

fn draw(probabilities: &[f64], point: f64) -> usize {
    let mut mass = 0.0;
    let chosen = probabilities.iter().position(|probability| {
        mass += probability;
        *probability > 0.0 && point < mass
    });
    // Rounding may leave the sum a hair below the point: then it is the last token that can be drawn at all.
    chosen.or_else(|| probabilities.iter().rposition(|&probability| probability > 0.0)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(temperature: f64, top_k: usize, top_p: f64) -> SamplingRecipe {
        let usual = crate::preset::first().recipe.sampling;
        SamplingRecipe { prompt: String::new(), tokens: 1, temperature, top_k, top_p, seed: 0, ..usual }
    }

    /// Logits whose softmax is 0.5, 0.3, 0.15, 0.05, out of order.
    fn logits() -> Vec<f32> {
        [0.15_f32, 0.5, 0.05, 0.3].map(f32::ln).to_vec()
    }

    fn close(found: &[f64], wanted: [f64; 4]) {
        assert!(found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?} is not {wanted:?}");
    }

    #[test]
    fn cuts_keep_the_likeliest_and_sum_to_one() {
        close(&distribution(&logits(), &settings(1.0, 0, 1.0)), [0.15, 0.5, 0.05, 0.3]);
        close(&distribution(&logits(), &settings(0.0, 0, 1.0)), [0.0, 1.0, 0.0, 0.0]);
        close(&distribution(&logits(), &settings(1.0, 2, 1.0)), [0.0, 0.625, 0.0, 0.375]);
        close(&distribution(&logits(), &settings(1.0, 0, 0.7)), [0.0, 0.625, 0.0, 0.375]);
        // Half the temperature squares the odds.
        close(&distribution(&logits(), &settings(0.5, 2, 1.0)), [0.0, 0.25 / 0.34, 0.0, 0.09 / 0.34]);
    }

    #[test]
    fn a_nucleus_larger_than_what_is_sorted_first_is_whole() {
        // Nearly even: 900 of 1,000 are needed.
        let logits: Vec<f32> = (0..1000).map(|index| (index * 7919 % 1000) as f32 * 1e-4).collect();
        let found = distribution(&logits, &settings(1.0, 0, 0.9));
        let all = softmax(&logits, 1.0);
        let mut order: Vec<usize> = (0..1000).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let mut mass = 0.0;
        let needed = 1 + order
            .iter()
            .take_while(|&&index| {
                mass += all[index];
                mass < 0.9
            })
            .count();
        assert!((850..900).contains(&needed), "{needed}");
        assert!(order[..needed].iter().all(|&index| found[index] > 0.0));
        assert!(order[needed..].iter().all(|&index| found[index] == 0.0));
        assert!((found.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_draw_never_takes_what_was_cut() {
        for point in [0.0, 0.3, 0.6249, 0.6251, 0.999_999_999, 1.0] {
            let id = draw(&distribution(&logits(), &settings(1.0, 2, 1.0)), point);
            assert_eq!(id, if point < 0.625 { 1 } else { 3 }, "point {point}");
        }
    }
}
