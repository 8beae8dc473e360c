//! The worker: the loop of the one thread that owns every tensor of a run.

pub(super) mod channel;
pub(super) mod inspector;
pub(super) mod measuring;
mod saving;
pub(super) mod start;
pub(super) mod timeline;
mod views;

use std::path::Path;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use crossbeam_channel::Receiver;

use crate::lab::worker::channel::{Inbox, Outbox};
use crate::lab::worker::inspector::Looker;
use crate::lab::worker::measuring::Measuring;
use crate::lab::worker::start::Opened;
use crate::lab::worker::timeline::Timeline;
use crate::memory::Need;
use crate::protocol::{
    Command, DeviceClass, Event, Outcome, ReadyReport, RunSpec, RunState, SampleEvent, Step, StepReport,
    ValidationReport, WholeReport,
};
use crate::runs::{Gap, Kept, Owner, RunFolder, read_roles};
use crate::text::TokenId;
use crate::train::{Sampler, Trainer, evaluate_whole};

/// Events wait at most so long before they are sent: about 30 times a second.
const FLUSH_INTERVAL: Duration = Duration::from_millis(33);

/// Opens the run and works until it is stopped.
pub(super) fn run(spec: RunSpec, outbox: &Outbox, commands: &Receiver<Command>) -> Outcome {
    let mut inbox = Inbox::new(commands);
    match start::open(&spec, outbox, &mut inbox) {
        Ok(Some(opened)) => Worker::new(spec, opened, outbox).work(&mut inbox),
        Ok(None) => Outcome::Stopped,
        Err(error) if error.is::<start::AskFirst>() => Outcome::Tight(error.to_string()),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}

struct Worker<'a> {
    spec: RunSpec,
    outbox: &'a Outbox,
    trainer: Trainer,
    folder: RunFolder,
    device: Device,
    /// Why training cannot go on in this run, when it can only be looked at.
    blocked: Option<String>,
    /// The log has not been told yet that training goes on from here.
    resumed: bool,
    state: RunState,
    /// What the first look at the validation text is called: on a GPU it compiles the kernels.
    first_look: String,
    looker: Looker,
    timeline: Timeline,
    measuring: Option<Measuring>,
    sampler: Option<(u64, Sampler)>,
    pending: Vec<StepReport>,
    sent_at: Instant,
    elapsed_secs: f64,
    step_secs: f64,
    evaluated: Option<u64>,
    /// The step of the checkpoint in the folder, and whether there is more to save than it holds.
    saved: Step,
    unsaved: bool,
    /// The weights or what follows from them are no numbers any more: nothing of it is saved.
    diverged: bool,
    best: Option<f32>,
    /// The last checkpoint is there and no good: it is put aside before another takes its place.
    last_is_damaged: bool,
    /// The run's folder is not where it was: nothing is saved.
    folder_gone: bool,
    /// The last step in the log when the run was opened.
    logged: Step,
    log_failed: bool,
    roles_log_failed: bool,
    /// It was told that steps are given up for want of room, and there has been none since.
    room_told: bool,
    /// What the view's switches cost is to be measured.
    switched_due: bool,
    /// Of which step it was measured last, when that began, and how long it took.
    switched: Option<(Step, Instant, Duration)>,
}

impl<'a> Worker<'a> {
    fn new(spec: RunSpec, opened: Opened, outbox: &'a Outbox) -> Self {
        let Opened { trainer, folder, device, report, history, blocked, state, last_is_damaged } = opened;
        let first_look = match report.kind {
            DeviceClass::Cpu => "first look at the validation text".to_owned(),
            DeviceClass::Gpu | DeviceClass::Software => format!("preparing kernels on {}", report.name),
        };
        let looker = Looker::new(&folder, &trainer);
        let timeline = Timeline::open(folder.path(), folder.hold(), trainer.recipe().training.timeline_megabytes);
        let evaluated =
            history.validations.last().map(|last| last.step.0).filter(|&step| step == trainer.step_count().0);
        let mut worker = Self {
            spec,
            outbox,
            trainer,
            folder,
            device,
            blocked,
            resumed: true,
            state: RunState::Paused,
            first_look,
            looker,
            timeline,
            measuring: None,
            sampler: None,
            pending: Vec::new(),
            sent_at: Instant::now(),
            elapsed_secs: state.map_or(0.0, |state| state.elapsed_secs),
            step_secs: 0.0,
            evaluated,
            saved: state.map_or(Step(0), |state| state.step),
            unsaved: false,
            diverged: false,
            best: state.and_then(|state| state.best_validation_loss),
            last_is_damaged,
            folder_gone: false,
            logged: history.steps.last().map_or(Step(0), |last| last.step),
            log_failed: false,
            roles_log_failed: false,
            room_told: false,
            switched_due: false,
            switched: None,
        };
        worker.outbox.send(Event::Ready(Box::new(ReadyReport {
            folder: worker.folder.path().to_owned(),
            recipe: worker.trainer.recipe().clone(),
            device: report,
            parameters: burn::module::Module::num_params(&worker.trainer.validation_model()) as u64,
            vocabulary: worker.trainer.dataset().tokenizer.vocabulary(),
            labels: worker.labels(),
            adds_special: worker.folder.file.tokenizer.around().iter().any(|side| !side.is_empty()),
            ends: worker.ends(),
            train_tokens: worker.trainer.dataset().train.len(),
            validation_tokens: worker.trainer.dataset().validation.len(),
            step: worker.trainer.step_count(),
            parent: worker.folder.file.parent.clone().map(|parent| (parent.run, parent.step)),
            history: history.steps,
            validations: history.validations,
            kept: worker.timeline.steps(),
            kept_bytes: worker.timeline.bytes(),
            roles: read_roles(worker.folder.path(), worker.trainer.step_count()),
            elapsed_secs: worker.elapsed_secs,
            blocked: worker.blocked.clone(),
        })));
        let stopped = worker.spec.stop_at.is_some_and(|stop| stop <= worker.trainer.step_count());
        let rests = worker.spec.start_paused || stopped || worker.blocked.is_some();
        match worker.resting_state() {
            RunState::Paused if !rests => worker.enter(RunState::Training),
            state => worker.enter(state),
        }
        worker
    }

    fn work(mut self, inbox: &mut Inbox<'_>) -> Outcome {
        loop {
            let looking = self.looker.is_stale() && self.spec.attention_per_sec > 0.0;
            let busy = self.state == RunState::Training
                || self.sampler.is_some()
                || self.measuring.is_some()
                || self.switched_due
                || self.switched_is_old()
                || looking;
            if !busy {
                // Nothing else will ask what became of a step that is being written.
                self.settle_timeline(true);
            }
            while let Some(command) = inbox.next(!busy) {
                if matches!(command, Command::Stop) {
                    return self.stop();
                }
                self.obey(command, inbox);
                if !busy {
                    break;
                }
            }
            // Before the step: who asked for another view waits for no more than the step that was under way.
            self.look();
            if self.state == RunState::Training {
                self.train(inbox);
            }
            self.sample();
            self.measure();
            self.settle_timeline(false);
            if self.sent_at.elapsed() >= FLUSH_INTERVAL && !self.flush() {
                return self.stop();
            }
        }
    }

    fn obey(&mut self, command: Command, inbox: &mut Inbox<'_>) {
        match command {
            Command::Stop => {}
            Command::Pause => {
                if self.state == RunState::Training {
                    self.enter(RunState::Paused);
                    // Nobody knows for how long.
                    if self.unsaved {
                        self.save_checkpoint();
                    }
                }
            }
            Command::Resume => self.resume(),
            Command::Step => {
                self.resume();
                if self.state == RunState::Training {
                    self.train(inbox);
                    if self.state == RunState::Training {
                        self.enter(RunState::Paused);
                    }
                }
            }
            Command::SetProbe(text) => self.looker.set_probe(&text),
            Command::SetProbeSpecial(special_tokens) => self.looker.set_probe_special(special_tokens),
            Command::Look(view) => self.set_view(*view),
            Command::SetLearningRate(rate) if rate > 0.0 && rate <= 1.0 => {
                self.trainer.set_learning_rate(rate);
                self.unsaved = self.trainer.step_count() > Step(0);
            }
            Command::SetLearningRate(rate) => self.warn(format!("learning rate {rate} is not above 0 and at most 1")),
            Command::Sample(request) => self.start_sample(request),
            Command::StopSampling => {
                if let Some((id, _)) = self.sampler.take() {
                    self.outbox.send(Event::Sampled(SampleEvent::Done { id, trouble: None }));
                }
            }
            Command::Checkpoint => {
                if self.save_checkpoint() {
                    let path = self.folder.checkpoint(Kept::Last);
                    self.tell_saved(format!("checkpoint of step {}", self.trainer.step_count().0), &path);
                }
            }
            Command::Export { format, path } => self.export(format, &path),
            Command::EvaluateWhole => self.evaluate_whole(inbox),
            Command::MeasureEffects(off) => self.measure_effects(off),
            Command::MeanAttention(path) => self.measure_mean(&path, inbox),
            Command::StopMeasuring => self.stop_measuring(),
            Command::Prune => self.prune(),
            Command::Rollback => self.rollback(),
            Command::SaveElsewhere(path) => self.save_elsewhere(&path),
        }
    }

    fn resume(&mut self) {
        if self.folder_gone && !self.folder_is_back() {
            return;
        }
        match (&self.blocked, self.state) {
            (Some(why), _) => self.warn(why.clone()),
            (None, RunState::Paused) if self.diverged => {
                self.warn("the next step would fail again: go back to the last checkpoint first".into());
            }
            (None, RunState::Paused) => {
                // Past a stop the run goes on to its end.
                if self.spec.stop_at.is_some_and(|stop| stop <= self.trainer.step_count()) {
                    self.spec.stop_at = None;
                }
                self.enter(RunState::Training);
            }
            (None, _) => {}
        }
    }

    /// What the run is when it does not train.
    fn resting_state(&self) -> RunState {
        let done = self.trainer.step_count().0 >= self.trainer.recipe().training.steps;
        if done { RunState::Completed } else { RunState::Paused }
    }

    fn enter(&mut self, state: RunState) {
        self.state = state;
        self.looker.at_rest = state != RunState::Training;
        self.looker.hurry();
        self.flush();
        self.outbox.send(Event::StateChanged(state));
    }

    /// One step with what belongs to it: log, evaluation, checkpoint, and the end of the run.
    fn train(&mut self, inbox: &mut Inbox<'_>) {
        if std::mem::take(&mut self.resumed) {
            let step = self.trainer.step_count();
            if self.logged < step {
                // They were made, and there was no room to write them down.
                let gap = Gap { from: Step(self.logged.0 + 1), to: step };
                let written = self.folder.log_gap(gap);
                self.log_result(written);
            }
            let written = self.folder.log_resumed(step).and_then(|()| self.folder.flush());
            self.log_result(written);
            if self.folder_gone {
                self.resumed = true;
                return;
            }
            self.timeline.forget_after(step);
            self.looker.forget_after(step);
            let cleaned = self.folder.cut_roles(step);
            self.log_result(cleaned);
            self.tell_kept();
            self.viewed_changed();
        }
        if self.trainer.step_count().0 == 0 {
            self.outbox.send(Event::Preparing(format!("{}…", self.first_look)));
            if !self.evaluate(inbox) {
                return;
            }
            self.keep_step();
        }
        let started = Instant::now();
        let result = match self.trainer.step() {
            Ok(result) => result,
            Err(not_finite) => return self.diverged(&format!("{not_finite}, so that step was not made")),
        };
        let step = self.trainer.step_count();
        let secs = started.elapsed().as_secs_f64();
        self.elapsed_secs += secs;
        // The first step compiles kernels or warms caches; after it a running mean keeps the figure calm.
        self.step_secs = if step.0 < 3 || self.step_secs == 0.0 { secs } else { 0.95 * self.step_secs + 0.05 * secs };
        let report = StepReport {
            step,
            loss: result.loss,
            learning_rate: result.learning_rate,
            gradient_norm: result.gradient_norm,
            elapsed_secs: self.elapsed_secs,
            tokens_per_sec: self.trainer.tokens_per_step() as f64 / self.step_secs,
        };
        let written = self.folder.log_step(report);
        self.log_result(written);
        self.pending.push(report);
        self.looker.model_changed();
        self.unsaved = true;
        if self.folder_gone {
            return;
        }
        let training = &self.trainer.recipe().training;
        let done = step.0 >= training.steps;
        if done || step.0.is_multiple_of(training.evaluation_interval) {
            if !self.evaluate(inbox) || self.folder_gone {
                return;
            }
            self.save_checkpoint();
        }
        self.keep_step();
        if self.folder_gone {
            // It waits for a place to be saved at, also when it is done.
        } else if done {
            self.enter(RunState::Completed);
        } else if self.spec.stop_at.is_some_and(|stop| stop <= step) {
            self.save_checkpoint();
            if !self.folder_gone {
                self.enter(RunState::Paused);
            }
        }
    }

    /// A look at the validation text; `false` when what it finds is no number, or the run is to end.
    fn evaluate(&mut self, inbox: &mut Inbox<'_>) -> bool {
        let step = self.trainer.step_count();
        if self.evaluated == Some(step.0) {
            return true;
        }
        let started = Instant::now();
        let (mut batch, mut told) = (0, Instant::now());
        let batches = 2 * self.trainer.recipe().training.evaluation_batches;
        let (outbox, first_look) = (self.outbox, self.first_look.clone());
        let mut tell = || {
            batch += 1;
            if step == Step(0) && batch <= batches && told.elapsed() >= 10 * FLUSH_INTERVAL {
                told = Instant::now();
                outbox.send(Event::Preparing(format!("{first_look}: batch {batch} of {batches}")));
            }
        };
        let found = self.beside_views(inbox, |trainer, goes_on| {
            let mut goes_on = || {
                tell();
                goes_on()
            };
            trainer.evaluate(&mut goes_on).map(|losses| (losses, trainer.accuracy(&mut goes_on)))
        });
        let Some(((train_loss, validation_loss), accuracy)) = found else { return false };
        self.elapsed_secs += started.elapsed().as_secs_f64();
        if !(train_loss.is_finite() && validation_loss.is_finite()) {
            let why = self.looker.non_finite(&self.trainer);
            self.diverged(&format!(
                "the loss is {train_loss} and on the validation text {validation_loss} after step {}: {why}",
                step.0
            ));
            return false;
        }
        let best = self.best.is_none_or(|best| validation_loss < best);
        let report = ValidationReport { step, train_loss, validation_loss, best, accuracy };
        self.evaluated = Some(step.0);
        let written = self.folder.log_validation(report);
        self.log_result(written);
        self.flush();
        self.outbox.send(Event::Validated(report));
        if best {
            let older = self.best.replace(validation_loss);
            // The first weights are not worth keeping, but those of an imported model are: it came with a checkpoint.
            // What could not be kept is not the best to beat.
            let path = self.folder.checkpoint(Kept::Best);
            let worth_keeping = step.0 > 0 || self.folder.checkpoint(Kept::Last).is_file();
            if worth_keeping && !self.save_to(&path) {
                self.best = older;
            }
        }
        true
    }

    fn evaluate_whole(&mut self, inbox: &mut Inbox<'_>) {
        let (dataset, context) = (self.trainer.dataset(), self.trainer.recipe().model.context);
        let tokens = dataset.validation.len().saturating_sub(1);
        if tokens == 0 {
            return self.warn(self.blocked.clone().unwrap_or_else(|| "there is no validation text".into()));
        }
        let need = Need::evaluating(&self.trainer.recipe().model, dataset.tokenizer.vocabulary());
        if let Err(short) = need.check() {
            return self.warn(short.to_string());
        }
        self.outbox.send(Event::Preparing("reading the whole validation text…".into()));
        let found = self.beside_views(inbox, |trainer, goes_on| {
            let (model, dataset) = (trainer.validation_model(), trainer.dataset());
            evaluate_whole(&model, &dataset.validation, context, trainer.device(), goes_on)
        });
        if let Some(loss) = found {
            let step = self.trainer.step_count();
            if !loss.is_finite() {
                let why = self.looker.non_finite(&self.trainer);
                return self.warn(format!("the loss over the whole validation text is {loss}: {why}"));
            }
            self.outbox.send(Event::EvaluatedWhole(WholeReport { step, loss, tokens }));
        }
    }

    fn diverged(&mut self, what: &str) {
        self.diverged = true;
        self.enter(RunState::Paused);
        let message =
            format!("{what}. The run is paused: go back to the last checkpoint, and try a lower learning rate");
        self.outbox.send(Event::Diverged { step: self.trainer.step_count(), message });
    }

    /// Goes back to the last checkpoint, or to the first weights where there is none.
    fn rollback(&mut self) {
        let checkpoint = match start::load_last_good(&self.folder, &self.device, self.outbox) {
            Ok(Some(found)) => {
                self.last_is_damaged = found.last_is_damaged;
                Some(found.checkpoint)
            }
            Ok(None) => None,
            Err(error) => return self.warn(error.to_string()),
        };
        let (recipe, dataset) = (self.folder.file.recipe.clone(), self.trainer.shared_dataset());
        let learning_rate = self.trainer.recipe().training.learning_rate;
        let state = checkpoint.as_ref().map(|checkpoint| checkpoint.state);
        self.best = state.and_then(|state| state.best_validation_loss);
        self.elapsed_secs = state.map_or(0.0, |state| state.elapsed_secs);
        self.trainer = start::trainer_at(recipe, dataset, &self.device, checkpoint);
        // The user may have lowered it meanwhile, which is what will help.
        self.trainer.set_learning_rate(learning_rate);
        let step = self.trainer.step_count();
        (self.saved, self.unsaved, self.diverged) = (step, false, false);
        self.evaluated = (step > Step(0)).then_some(step.0);
        self.resumed = true;
        self.logged = step;
        self.looker.hurry();
        // What is measured of a later step is of a past that no longer is.
        self.measuring.take_if(|measuring| measuring.step() > step);
        self.outbox.send(Event::WentBack { step, elapsed_secs: self.elapsed_secs });
        let state = self.resting_state();
        self.enter(state);
    }

    fn stop(mut self) -> Outcome {
        self.flush();
        self.settle_timeline(true);
        if self.unsaved && !self.diverged && !self.save_checkpoint() {
            let (step, saved) = (self.trainer.step_count().0, self.saved.0);
            let last = if self.folder.checkpoint(Kept::Last).is_file() {
                format!("its last checkpoint is of step {saved}")
            } else {
                "no checkpoint could be saved".to_owned()
            };
            return Outcome::Failed(format!("the run stopped at step {step}, but {last}"));
        }
        Outcome::Stopped
    }

    /// Sends what waits; `false` when nobody listens any more.
    fn flush(&mut self) -> bool {
        self.sent_at = Instant::now();
        self.flush_log();
        if self.sampler.is_some() {
            self.outbox.wake();
        }
        self.pending.is_empty() || self.outbox.send(Event::Progress(std::mem::take(&mut self.pending)))
    }

    fn tell_saved(&self, what: String, path: &Path) {
        self.outbox.send(Event::Saved { what, path: path.to_owned() });
    }

    fn warn(&self, text: String) {
        self.outbox.send(Event::Warning(text));
    }
}
