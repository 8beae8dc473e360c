//! What the worker does for the views, between two steps of training: looks, samples, measurements, the timeline.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Owner, Sampler, TokenId, Trainer, Worker};
use crate::lab::jobs::branch;
use crate::lab::worker::channel::{Inbox, Outbox};
use crate::lab::worker::inspector::Looker;
use crate::lab::worker::measuring::{EFFECT_BATCHES, Effects, Mean, Measuring, Subject, SwitchedLoss};
use crate::lab::worker::timeline::Change;
use crate::memory::Need;
use crate::model::Gpt;
use crate::protocol::{Event, Off, RunState, SampleEvent, SampleRequest, Step, View};
use crate::recipe::TextSource;
use crate::runs::PreparedCheckpoint;
use crate::text::{Dataset, LineEnds};
use crate::train::{first_non_finite_in, pruned};

/// The windows of a mean over a text: so many at most, each of at most so many tokens.
const MEAN_WINDOWS_MAX: usize = 256;
const MEAN_TOKENS_MAX: usize = 256;
/// A longer text is not needed for a mean, and would keep the run waiting.
const MEAN_BYTES_MAX: u64 = 64_000_000;

/// Shows what is due.
pub(super) fn show(looker: &mut Looker, trainer: &Trainer, outbox: &Outbox, rate: f64) -> Option<(Step, String)> {
    match looker.look(trainer, rate)? {
        Ok(look) => {
            outbox.put_look(look);
            None
        }
        Err(fault) => Some(fault),
    }
}

impl Worker<'_> {
    pub(super) fn labels(&self) -> Arc<Vec<String>> {
        let tokenizer = &self.trainer.dataset().tokenizer;
        Arc::new((0..).map(TokenId).take(tokenizer.vocabulary()).map(|id| tokenizer.label(id)).collect())
    }

    pub(super) fn ends(&self) -> Vec<String> {
        let crate::runs::RunFile { tokenizer, around, .. } = &self.folder.file;
        around.ends.iter().map(|&id| tokenizer.label(id)).collect()
    }

    pub(super) fn set_view(&mut self, view: View) {
        let older = self.looker.view();
        let other_model = older.step != view.step || older.switches != view.switches;
        self.looker.set_view(view);
        self.timeline.spare(self.looker.spared());
        if other_model && let Some((_, sampler)) = &mut self.sampler {
            sampler.forget();
        }
        if other_model {
            self.viewed_changed();
        }
    }

    pub(super) fn look(&mut self) {
        let rate = self.spec.attention_per_sec;
        if let Some((step, why)) = show(&mut self.looker, &self.trainer, self.outbox, rate) {
            self.leave_out(step, why);
        }
        if let Some(why) = self.looker.take_short() {
            self.warn(why);
        }
    }

    /// Does long work that asks between its pieces whether it is to go on. The views are served there: nobody waits for a
    /// whole look at the validation text. Afterwards the queue is obeyed in its order, and what could not be read is told.
    pub(super) fn beside_views<R>(
        &mut self,
        inbox: &mut Inbox<'_>,
        work: impl FnOnce(&Trainer, &mut dyn FnMut() -> bool) -> R,
    ) -> R {
        let before = self.looker.view().clone();
        let (looker, mut tried) = (&mut self.looker, before.clone());
        let done = work(&self.trainer, &mut || {
            let goes_on = inbox.goes_on();
            if let Some(view) = inbox.newest_view()
                && *view != tried
            {
                tried = view.clone();
                looker.set_view(view.clone());
                let _ = show(looker, &self.trainer, self.outbox, self.spec.attention_per_sec);
            }
            goes_on
        });
        self.looker.put_back(before);
        done
    }

    /// A kept step cannot be read: the views go back to the running model.
    pub(super) fn leave_out(&mut self, step: Step, why: String) {
        self.looker.go_live();
        self.timeline.leave_out(step);
        self.tell_kept();
        self.warn(format!("step {} is left out of the timeline: {why}", step.0));
        self.viewed_changed();
    }

    /// The viewed model has become another: what its switches cost is to be measured anew. Not at once, as a drag along the
    /// timeline passes many steps.
    pub(super) fn viewed_changed(&mut self) {
        self.measuring.take_if(|measuring| matches!(measuring, Measuring::Switched(_)));
        self.switched_due = !self.looker.view().switches.is_empty();
        self.switched = None;
    }

    /// Whether what the switches cost was measured on a model that has learned more since. While it trains the measurement
    /// takes a tenth of the time at most.
    pub(super) fn switched_is_old(&self) -> bool {
        let view = self.looker.view();
        self.switched.is_some_and(|(step, began, took)| {
            view.step.is_none()
                && !view.switches.is_empty()
                && step != self.trainer.step_count()
                && (self.state != RunState::Training || began.elapsed() > 10 * took)
        })
    }

    /// The viewed model, or a word on why there is none.
    fn viewed(&mut self) -> Option<(Gpt, Step)> {
        match self.looker.viewed(&self.trainer) {
            Ok(viewed) => Some(viewed),
            Err((step, why)) => {
                self.leave_out(step, why);
                None
            }
        }
    }

    pub(super) fn start_sample(&mut self, SampleRequest { id, settings }: SampleRequest) {
        let tokenizer = &self.trainer.dataset().tokenizer;
        let sampler = Sampler::new(settings, tokenizer).ending_with(&self.folder.file.around.ends).watched();
        let (prompt, note) = (sampler.prompt.clone(), sampler.note.clone());
        let switches = self.looker.view().switches.clone();
        let tokens = sampler.tokens(tokenizer);
        let step = self.looker.view().step.unwrap_or_else(|| self.trainer.step_count());
        self.outbox.send(Event::Sampled(SampleEvent::Started { id, step, switches, prompt, tokens, note }));
        self.sampler = Some((id, sampler));
    }

    pub(super) fn sample(&mut self) {
        let Some((id, mut sampler)) = self.sampler.take() else { return };
        let started = Instant::now();
        let Some((model, step)) = self.viewed() else {
            return self.sample_done(id, None);
        };
        // While training, text gets a part of the time: half of what a step takes.
        let budget =
            Duration::from_secs_f64(if self.state == RunState::Training { self.step_secs / 2.0 } else { 0.02 });
        let recipe = &self.folder.file.recipe;
        loop {
            let token = sampler.next(&model, step, &recipe.model, &self.trainer.dataset().tokenizer, &self.device);
            let token = match token {
                Ok(Some(token)) => token,
                Ok(None) => return self.sample_done(id, None),
                Err(why) => return self.sample_done(id, Some(format!("nothing can be drawn: {}", why.on_screen()))),
            };
            self.outbox.send_quietly(Event::Sampled(SampleEvent::Token { id, token }));
            if started.elapsed() >= budget {
                break;
            }
        }
        self.sampler = Some((id, sampler));
    }

    fn sample_done(&self, id: u64, trouble: Option<String>) {
        if let Some(why) = &trouble {
            self.warn(why.clone());
        }
        self.outbox.send(Event::Sampled(SampleEvent::Done { id, trouble }));
    }

    /// The viewed step's whole model with what it is measured on, or a word on why not.
    fn subject(&mut self) -> Option<Subject> {
        let (model, step) = match self.looker.whole(&self.trainer) {
            Ok(whole) => whole,
            Err((step, why)) => {
                self.leave_out(step, why);
                return None;
            }
        };
        let recipe = self.trainer.recipe();
        let batches = self.trainer.validation_batches(EFFECT_BATCHES);
        let (recipe, device) = (recipe.model.clone(), self.device.clone());
        Some(Subject { model, recipe, step, batches: Arc::new(batches), device })
    }

    fn subject_with_text(&mut self) -> Option<Subject> {
        let vocabulary = self.trainer.dataset().tokenizer.vocabulary();
        if let Err(short) = Need::measuring(self.trainer.recipe(), vocabulary).check() {
            self.warn(short.to_string());
            return None;
        }
        let subject = self.subject()?;
        if subject.batches.is_empty() {
            self.warn(self.blocked.clone().unwrap_or_else(|| "there is no validation text to measure on".into()));
            return None;
        }
        Some(subject)
    }

    /// Gives up what was asked for. What the switches cost was not, and goes on.
    pub(super) fn stop_measuring(&mut self) {
        if matches!(self.measuring, Some(Measuring::Effects(_) | Measuring::Mean(_))) {
            self.give_up_measuring();
            self.end_measuring();
        }
    }

    /// What is being measured goes no further: a mean is then one over fewer windows.
    pub(super) fn give_up_measuring(&mut self) {
        if let Some(event) = self.measuring.as_mut().and_then(Measuring::cut_short) {
            self.outbox.send(event);
        }
    }

    pub(super) fn measure_effects(&mut self, off: Off) {
        let Some(subject) = self.subject_with_text() else { return };
        if let Some(why) = first_non_finite_in(&subject.model, &subject.batches[0], &subject.device) {
            return self.warn(format!("no effects were measured: {}", why.on_screen()));
        }
        let means = (off == Off::Mean).then(|| self.looker.means_of(&subject.model, subject.step));
        self.give_up_measuring();
        let effects = Effects::new(subject, off, means);
        self.outbox.send(Event::Effects(effects.report().clone()));
        self.measuring = Some(Measuring::Effects(Box::new(effects)));
    }

    fn measure_switched(&mut self) {
        let Some((without, _)) = self.viewed() else { return };
        let Some(whole) = self.subject_with_text() else { return };
        let switches = self.looker.view().switches.clone();
        self.measuring = Some(Measuring::Switched(Box::new(SwitchedLoss::new(whole, without, switches))));
    }

    pub(super) fn measure_mean(&mut self, path: &Path, inbox: &mut Inbox<'_>) {
        let Some((model, step)) = self.viewed() else { return };
        let Some(subject) = self.subject() else { return };
        let switches = self.looker.view().switches.clone();
        let tokenizer = self.trainer.dataset().tokenizer.clone();
        let length = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        if length > MEAN_BYTES_MAX {
            return self
                .warn(format!("{}: a mean needs no more than 64 MB of text: take a part of it", path.display()));
        }
        let line_ends = LineEnds::of_run(&self.folder.file.text_digest);
        let source = TextSource::File(path.to_owned());
        let text = self.beside_views(inbox, |_, goes_on| {
            Dataset::read_as(&source, line_ends, Some(&tokenizer), &mut |_| goes_on())
        });
        let ids: Vec<TokenId> = match text {
            Ok(text) => text.train.iter().chain(&text.validation).map(|&id| TokenId(id.into())).collect(),
            Err(error) => return self.warn(error.to_string()),
        };
        let positions = subject.recipe.context.min(MEAN_TOKENS_MAX);
        if let Err(short) = Need::looking(&subject.recipe, tokenizer.vocabulary(), positions).check() {
            return self.warn(short.to_string());
        }
        let subject = Subject { model, step, ..subject };
        match Mean::new(path.to_owned(), &ids, subject, switches, tokenizer, MEAN_WINDOWS_MAX, positions) {
            Ok(mean) => {
                self.give_up_measuring();
                self.measuring = Some(Measuring::Mean(Box::new(mean)));
            }
            Err(why) => self.warn(why),
        }
    }

    pub(super) fn measure(&mut self) {
        if self.measuring.is_none() && (std::mem::take(&mut self.switched_due) || self.switched_is_old()) {
            self.switched = None;
            self.measure_switched();
        }
        let Some(measuring) = &mut self.measuring else { return };
        let (told, more) = measuring.advance();
        if let Some(event) = told {
            self.outbox.send(event);
        }
        if !more {
            self.end_measuring();
        }
    }

    /// Nothing is measured any more; what the view's switches cost may have had to wait for it.
    pub(super) fn end_measuring(&mut self) {
        match self.measuring.take() {
            Some(Measuring::Switched(loss)) => {
                self.switched = Some((loss.whole.step, loss.began, loss.began.elapsed()));
            }
            _ => self.switched_due = !self.looker.view().switches.is_empty(),
        }
    }

    pub(super) fn prune(&mut self) {
        let (model, step) = match self.looker.whole(&self.trainer) {
            Ok(whole) => whole,
            Err((step, why)) => return self.leave_out(step, why),
        };
        let switches = self.looker.view().switches.clone();
        if switches.need_means() && !self.looker.has_text() {
            return self.warn("nothing was pruned: there is no validation text to measure the heads' mean on".into());
        }
        let shape = &self.folder.file.recipe.model;
        let means = switches.need_means().then(|| self.looker.means_of(&model, step));
        let made = pruned(&model, shape, &switches, means.as_ref());
        let made = made.map_err(anyhow::Error::msg).and_then(|(model, shape)| {
            branch::keep_pruned(&self.folder.file, &model, shape, &branch::beside(self.folder.path(), "pruned"))
        });
        match made {
            Ok(run) => {
                let what = format!("a run of step {} without {}", step.0, switches.counted());
                self.outbox.send(Event::Made { what, run });
            }
            Err(error) => self.warn(format!("nothing was pruned: {error}")),
        }
    }

    /// Puts the step that was just done into the timeline, if it is worth it, and says what the heads do there.
    pub(super) fn keep_step(&mut self) {
        let (step, bytes) = (self.trainer.step_count(), self.checkpoint_bytes());
        let is_last = step.0 >= self.trainer.recipe().training.steps;
        let training = Duration::from_secs_f64(self.elapsed_secs);
        if self.diverged || self.folder_gone || !self.timeline.is_due(step, training, is_last) {
            return;
        }
        let since = Instant::now();
        if let Some(roles) = self.looker.roles(&self.trainer) {
            match self.folder.log_roles(&roles) {
                Ok(()) if !self.timeline.is_stopped() && std::mem::take(&mut self.roles_log_failed) => {
                    self.warn("what the heads do is written to disk again".into());
                }
                Ok(()) => {}
                Err(error) if error.is_gone() => return self.lose_folder(&error),
                Err(_) if self.roles_log_failed => {}
                Err(error) => {
                    self.roles_log_failed = true;
                    self.warn(format!("what the heads do is no longer written to disk: {error}; training goes on"));
                }
            }
            self.outbox.send(Event::Roles(roles));
        }
        if self.timeline.has_room(bytes) {
            let owner = Owner::new(&self.trainer.recipe().model, &self.trainer.dataset().tokenizer);
            let (weights, optimizer) = (self.trainer.validation_model(), self.trainer.optimizer());
            self.timeline.keep(step, PreparedCheckpoint::new(&weights, optimizer, self.state_now(), &owner));
        }
        self.timeline.looked_at(step, since);
    }

    /// Takes in what the timeline's thread has done.
    pub(super) fn settle_timeline(&mut self, wait: bool) {
        match self.timeline.settle(wait) {
            Some(Change::Kept) => self.tell_kept(),
            Some(Change::Again(step)) => {
                self.tell_kept();
                self.warn(format!("the timeline goes on: there is room again, and step {} is kept", step.0));
            }
            Some(Change::Failed(error)) if error.is_gone() => self.lose_folder(&error),
            Some(Change::Failed(error)) => self.warn(format!("the timeline stops here: {error}. Training goes on")),
            None => {}
        }
    }

    pub(super) fn tell_kept(&self) {
        self.outbox.send(Event::Kept { steps: self.timeline.steps(), bytes: self.timeline.bytes() });
    }
}
