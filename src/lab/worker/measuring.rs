//! Measurements that take longer than a step: done a batch at a time, between two steps of training.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::Device;

use crate::model::{Gpt, values_of};
use crate::protocol::{
    AttentionSnapshot, EffectsReport, Event, HeadId, MeanAttention, Off, Step, SwitchedReport, Switches,
};
use crate::recipe::ModelRecipe;
use crate::text::{Batch, TokenId, Tokenizer};
use crate::train::{Means, Probe, Seen, batch_loss, switched};

/// How often a measurement tells how far it is.
const TELL_INTERVAL: Duration = Duration::from_millis(100);

/// Validation batches that a part's effect is measured on, at most.
pub(in crate::lab) const EFFECT_BATCHES: usize = 20;

/// A measurement that is under way.
pub(in crate::lab) enum Measuring {
    Effects(Box<Effects>),
    Switched(Box<SwitchedLoss>),
    Mean(Box<Mean>),
}

impl Measuring {
    /// Does a piece. Says what is to be told, and whether there is more to do.
    pub fn advance(&mut self) -> (Option<Event>, bool) {
        match self {
            Self::Effects(effects) => {
                let more = effects.advance();
                let tell = !more || effects.told.elapsed() >= TELL_INTERVAL;
                (tell.then(|| effects.tell()), more)
            }
            Self::Switched(loss) => {
                let done = loss.advance();
                let more = done.is_none();
                (done, more)
            }
            Self::Mean(mean) => {
                let more = mean.advance();
                let tell = !more || mean.told.elapsed() >= 3 * TELL_INTERVAL;
                (tell.then(|| mean.tell()), more)
            }
        }
    }

    /// Of which model.
    pub fn step(&self) -> Step {
        match self {
            Self::Effects(effects) => effects.subject.step,
            Self::Switched(loss) => loss.whole.step,
            Self::Mean(mean) => mean.step,
        }
    }

    /// What is to be told where it is given up: what was found so far is all.
    pub fn cut_short(&mut self) -> Option<Event> {
        match self {
            Self::Mean(mean) if mean.done > 0 => {
                mean.windows.truncate(mean.done);
                Some(mean.tell())
            }
            Self::Effects(effects) => {
                effects.report.total = effects.report.done;
                Some(effects.tell())
            }
            Self::Mean(_) | Self::Switched(_) => None,
        }
    }
}

/// A model and the validation batches that it is measured on.
#[derive(Clone)]
pub(in crate::lab) struct Subject {
    pub model: Gpt,
    pub recipe: ModelRecipe,
    pub step: Step,
    pub batches: Arc<Vec<Batch>>,
    pub device: Device,
}

impl Subject {
    fn tokens(&self) -> usize {
        self.batches.iter().map(|batch| batch.rows * batch.context).sum()
    }

    fn loss(&self, model: &Gpt, batch: usize) -> f64 {
        f64::from(values_of(batch_loss(model, &self.batches[batch], &self.device))[0])
    }
}

/// Loss without each head and each MLP, one after the other.
pub(in crate::lab) struct Effects {
    subject: Subject,
    means: Option<Means>,
    /// The whole model first.
    parts: Vec<Option<Part>>,
    part: usize,
    without: Gpt,
    sum: f64,
    batch: usize,
    report: EffectsReport,
    told: Instant,
}

#[derive(Clone, Copy)]
enum Part {
    Head(HeadId),
    Mlp(usize),
}

impl Effects {
    /// `means` is there where parts are to write their mean.
    pub fn new(subject: Subject, off: Off, means: Option<Means>) -> Self {
        let (layers, heads) = (subject.recipe.layers, subject.recipe.heads);
        let mut parts = vec![None];
        for layer in 0..layers {
            parts.extend(
                subject.recipe.heads_of(layer).into_iter().map(|head| Some(Part::Head(HeadId { layer, head }))),
            );
            parts.push(Some(Part::Mlp(layer)));
        }
        let report = EffectsReport {
            step: subject.step,
            off,
            tokens: subject.tokens(),
            loss: 0.0,
            heads_per_layer: heads,
            heads: vec![None; layers * heads],
            mlps: vec![None; layers],
            done: 0,
            total: parts.len() * subject.batches.len(),
        };
        let without = subject.model.clone();
        Self { subject, means, parts, part: 0, without, sum: 0.0, batch: 0, report, told: Instant::now() }
    }

    /// What was found so far.
    pub const fn report(&self) -> &EffectsReport {
        &self.report
    }

    /// One batch; `false` when all is done.
    pub fn advance(&mut self) -> bool {
        self.sum += self.subject.loss(&self.without, self.batch);
        self.batch += 1;
        self.report.done += 1;
        if self.batch < self.subject.batches.len() {
            return true;
        }
        let loss = (self.sum / self.batch as f64) as f32;
        let effect = Some(loss - self.report.loss);
        match self.parts[self.part] {
            None => self.report.loss = loss,
            Some(Part::Head(head)) => self.report.heads[head.layer * self.report.heads_per_layer + head.head] = effect,
            Some(Part::Mlp(layer)) => self.report.mlps[layer] = effect,
        }
        self.part += 1;
        (self.sum, self.batch) = (0.0, 0);
        let Some(part) = self.parts.get(self.part) else { return false };
        let mut switches = Switches::default();
        match *part {
            Some(Part::Head(head)) => drop(switches.heads.insert(head, self.report.off)),
            Some(Part::Mlp(layer)) => drop(switches.mlps.insert(layer, self.report.off)),
            None => {}
        }
        self.without = switched(&self.subject.model, &self.subject.recipe, &switches, self.means.as_ref());
        true
    }

    fn tell(&mut self) -> Event {
        self.told = Instant::now();
        Event::Effects(self.report.clone())
    }
}

/// Loss of the viewed model beside the whole one's.
pub(in crate::lab) struct SwitchedLoss {
    pub whole: Subject,
    pub began: Instant,
    without: Gpt,
    switches: Switches,
    sums: [f64; 2],
    batch: usize,
}

impl SwitchedLoss {
    pub fn new(whole: Subject, without: Gpt, switches: Switches) -> Self {
        Self { whole, began: Instant::now(), without, switches, sums: [0.0; 2], batch: 0 }
    }

    fn advance(&mut self) -> Option<Event> {
        self.sums[0] += self.whole.loss(&self.whole.model, self.batch);
        self.sums[1] += self.whole.loss(&self.without, self.batch);
        self.batch += 1;
        if self.batch < self.whole.batches.len() {
            return None;
        }
        let [whole_loss, loss] = self.sums.map(|sum| (sum / self.batch as f64) as f32);
        let (step, switches, tokens) = (self.whole.step, self.switches.clone(), self.whole.tokens());
        Some(Event::Switched(SwitchedReport { step, switches, loss, whole_loss, tokens }))
    }
}

/// Mean attention over the windows of a text.
pub(in crate::lab) struct Mean {
    path: PathBuf,
    model: Gpt,
    recipe: ModelRecipe,
    tokenizer: Tokenizer,
    device: Device,
    step: Step,
    /// What the model does without.
    switches: Switches,
    windows: Vec<Vec<TokenId>>,
    done: usize,
    sums: Vec<f64>,
    positions: usize,
    told: Instant,
}

impl Mean {
    /// `ids` is the text; its windows have `positions` tokens each, at most `windows_max` of them, spread over the text.
    ///
    /// # Errors
    /// If there is not one whole window in it.
    pub fn new(
        path: PathBuf,
        ids: &[TokenId],
        subject: Subject,
        switches: Switches,
        tokenizer: Tokenizer,
        windows_max: usize,
        positions: usize,
    ) -> Result<Self, String> {
        let all: Vec<&[TokenId]> = ids.chunks_exact(positions).collect();
        if all.is_empty() {
            let length = ids.len();
            return Err(format!("{}: {length} tokens are not one window of {positions}", path.display()));
        }
        let every = all.len().div_ceil(windows_max);
        let windows = all.into_iter().step_by(every).map(<[TokenId]>::to_vec).collect();
        let sums = vec![0.0; subject.recipe.layers * subject.recipe.heads * positions * positions];
        let Subject { model, recipe, step, device, .. } = subject;
        Ok(Self {
            path,
            model,
            recipe,
            tokenizer,
            device,
            step,
            switches,
            windows,
            done: 0,
            sums,
            positions,
            told: Instant::now(),
        })
    }

    fn advance(&mut self) -> bool {
        let probe = Probe { ids: self.windows[self.done].clone(), note: String::new() };
        let (model, recipe, tokenizer) = (&self.model, &self.recipe, &self.tokenizer);
        let found = Seen { model, recipe, tokenizer, device: &self.device, step: self.step }.attention(&probe);
        self.sums.iter_mut().zip(found.weights).for_each(|(sum, weight)| *sum += f64::from(weight));
        self.done += 1;
        self.done < self.windows.len()
    }

    fn tell(&mut self) -> Event {
        self.told = Instant::now();
        let count = self.done as f64;
        let attention = AttentionSnapshot {
            step: self.step,
            tokens: (0..self.positions).map(|place| place.to_string()).collect(),
            layers: self.recipe.layers,
            heads: self.recipe.heads,
            weights: self.sums.iter().map(|sum| (sum / count) as f32).collect(),
            note: String::new(),
            non_finite: Vec::new(),
        }
        .looked_through();
        let (path, switches) = (self.path.clone(), self.switches.clone());
        let (windows, total) = (self.done, self.windows.len());
        Event::MeanAttention(MeanAttention { path, switches, windows, total, attention: Arc::new(attention) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::preset;
    use crate::text::CharTokenizer;

    #[test]
    fn a_mean_that_is_given_up_is_one_over_the_windows_that_were_seen() {
        let mut recipe = preset::find("glass-box").expect("built in").recipe.model;
        (recipe.width, recipe.context) = (8, 4);
        let device = crate::device::cpu();
        let tokenizer = Tokenizer::Characters(CharTokenizer::from_chars("abcd".chars()));
        let model = Gpt::new(&recipe, tokenizer.vocabulary(), 1, &device);
        let subject = Subject { model, recipe, step: Step(7), batches: Arc::new(Vec::new()), device };
        let ids: Vec<TokenId> = (0..40).map(|index| TokenId(index % 4)).collect();
        let mean =
            Mean::new("poem.txt".into(), &ids, subject, Switches::default(), tokenizer, 256, 4).expect("ten windows");
        let mut measuring = Measuring::Mean(Box::new(mean));
        assert!(measuring.cut_short().is_none(), "nothing was seen");
        for _ in 0..3 {
            assert!(measuring.advance().1);
        }
        let Some(Event::MeanAttention(told)) = measuring.cut_short() else { panic!("not told") };
        assert_eq!((told.windows, told.total), (3, 3));
        let row: f32 = told.attention.weights[12..16].iter().sum();
        assert!((row - 1.0).abs() < 1e-5, "a mean of rows that sum to 1: {row}");
    }
}
