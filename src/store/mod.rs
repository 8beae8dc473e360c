//! What is known of a run: the events applied one after the other. The panels read it; nothing here paints or computes.
//!
//! ```
//! use headlight::protocol::{Event, Outcome, Step, ValidationReport};
//! use headlight::store::RunStore;
//!
//! let mut store = RunStore::default();
//! for (step, validation_loss) in [(0, 4.2), (100, 2.1), (200, 2.3)] {
//!     let (step, train_loss) = (Step(step), 2.0);
//!     let report = ValidationReport { step, train_loss, validation_loss, best: false, accuracy: None };
//!     store.apply(Event::Validated(report));
//! }
//! store.apply(Event::Finished(Outcome::Stopped));
//! assert_eq!(store.best.map(|best| best.step), Some(Step(100)));
//! assert_eq!(store.validation_loss.last(), Some((200, 2.3)));
//! assert_eq!(store.log.back().map(|line| line.text.as_str()), Some("the run has ended"));
//! ```

mod series;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

pub use series::{Bucket, Series};

use crate::protocol::{
    AttentionSnapshot, DeviceClass, EffectsReport, Event, Look, MeanAttention, Outcome, ReadyReport, RoleReport,
    RunState, SampleEvent, SampledToken, Step, StepReport, SwitchedReport, Switches, ValidationReport, WholeReport,
};
use crate::recipe::grouped;

/// Lines kept in the log; older ones go.
const LOG_LINES_MAX: usize = 500;

/// A run as it has been told so far. Only [`RunStore::apply`] and its three neighbours change it.
#[derive(Debug, Clone)]
pub struct RunStore {
    pub state: Option<RunState>,
    /// Something slow before the first measurement, in words: kernels are compiled by the work that needs them.
    pub preparing: Option<String>,
    /// How the run began. Its history is not here but in the series.
    pub ready: Option<ReadyReport>,
    /// The step that the model is at. The curves of an opened run may go on past it, until the next step.
    pub latest: Option<StepReport>,
    pub loss: Series,
    pub learning_rate: Series,
    pub gradient_norm: Series,
    pub validations: Vec<ValidationReport>,
    /// The same as a curve, for drawing.
    pub validation_loss: Series,
    /// The lowest validation loss.
    pub best: Option<ValidationReport>,
    /// The newest measurement over the whole validation text.
    pub whole: Option<WholeReport>,
    /// The newest answer to what is looked at, for the view that it names.
    pub look: Option<Arc<Look>>,
    /// Its attention.
    pub attention: Option<Arc<AttentionSnapshot>>,
    /// Grows with each look, so that a picture of one is drawn once.
    pub attention_version: u64,
    /// The steps whose weights are kept, rising, and their size together.
    pub kept: Vec<Step>,
    pub kept_bytes: u64,
    /// What the heads did at kept steps, rising. Steps stay that are no longer kept.
    pub roles: Vec<RoleReport>,
    /// What each part of the model is worth, as far as it was measured last.
    pub effects: Option<EffectsReport>,
    /// What the switched off parts cost, measured last.
    pub switched: Option<SwitchedReport>,
    pub mean_attention: Option<MeanAttention>,
    /// The run that was made from this one last.
    pub made: Option<std::path::PathBuf>,
    pub sample: SampleState,
    pub log: VecDeque<LogLine>,
    pub outcome: Option<Outcome>,
    /// Why the run cannot go on from where it is, while it waits for [`Command::Rollback`].
    ///
    /// [`Command::Rollback`]: crate::protocol::Command::Rollback
    pub diverged: Option<String>,
    /// Why the run saves nothing, while it waits for [`Command::SaveElsewhere`].
    ///
    /// [`Command::SaveElsewhere`]: crate::protocol::Command::SaveElsewhere
    pub folder_gone: Option<String>,
    serial: u64,
    clock: fn() -> String,
}

/// The newest sample, as far as it has been drawn.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SampleState {
    pub id: u64,
    pub step: Step,
    /// What the model does without.
    pub switches: Switches,
    /// The prompt as the model sees it.
    pub prompt: String,
    /// Its tokens, printable.
    pub prompt_tokens: Vec<String>,
    /// What was left out of the prompt, or empty.
    pub note: String,
    pub tokens: Vec<SampledToken>,
    pub running: bool,
    /// Why no more could be drawn, if that is so.
    pub trouble: Option<String>,
}

impl SampleState {
    /// The prompt and what was drawn after it.
    #[must_use]
    pub fn text(&self) -> String {
        let drawn = self.tokens.iter().map(|token| token.text.as_str());
        std::iter::once(self.prompt.as_str()).chain(drawn).collect()
    }
}

/// How much a line of the log asks for attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Info,
    Warning,
    Error,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Counts up from 1, so that a reader knows which lines are new to it.
    pub serial: u64,
    /// The time of day, `14:03:07`.
    pub at: String,
    pub level: Level,
    /// Whether it is worth a word on the screen when it happens; the other lines wait in the log.
    pub notice: bool,
    pub text: String,
}

impl Default for RunStore {
    fn default() -> Self {
        Self::with_clock(|| jiff::Zoned::now().strftime("%H:%M:%S").to_string())
    }
}

impl RunStore {
    /// An empty store whose log tells the time by `clock`: a standing one makes pictures that do not change.
    #[must_use]
    pub fn with_clock(clock: fn() -> String) -> Self {
        Self {
            state: None,
            preparing: None,
            ready: None,
            latest: None,
            loss: Series::default(),
            learning_rate: Series::default(),
            gradient_norm: Series::default(),
            validations: Vec::new(),
            validation_loss: Series::default(),
            best: None,
            whole: None,
            look: None,
            attention: None,
            attention_version: 0,
            kept: Vec::new(),
            kept_bytes: 0,
            roles: Vec::new(),
            effects: None,
            switched: None,
            mean_attention: None,
            made: None,
            sample: SampleState::default(),
            log: VecDeque::new(),
            outcome: None,
            diverged: None,
            folder_gone: None,
            serial: 0,
            clock,
        }
    }

    /// Takes in what the worker tells.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Preparing(text) => {
                self.outcome = None;
                let words = |text: &str| text.replace(|character: char| character.is_ascii_digit(), "");
                // A figure that counts up is not news.
                if self.preparing.as_deref().map(words) != Some(words(&text)) {
                    self.write(Level::Info, false, text.clone());
                }
                self.preparing = Some(text);
            }
            Event::Ready(report) => self.start(*report),
            Event::StateChanged(state) => self.change(state),
            Event::Progress(reports) => {
                self.preparing = None;
                reports.into_iter().for_each(|report| self.progress(report));
            }
            Event::Validated(report) => {
                self.preparing = None;
                self.validated(report);
            }
            Event::EvaluatedWhole(report) => {
                self.preparing = None;
                let WholeReport { step, loss, tokens } = report;
                let (step, tokens) = (grouped(step.0), grouped(tokens as u64));
                let perplexity = loss.exp();
                let text = format!(
                    "step {step}: loss {loss:.4} over the whole validation text ({tokens} tokens), perplexity {perplexity:.3}"
                );
                self.write(Level::Info, true, text);
                self.whole = Some(report);
            }
            Event::Kept { steps, bytes } => (self.kept, self.kept_bytes) = (steps, bytes),
            Event::Roles(report) => {
                // The run may have gone back and come by again.
                self.roles.retain(|earlier| earlier.step < report.step);
                self.roles.push(report);
            }
            Event::Effects(report) => self.effects = Some(report),
            Event::Switched(report) => self.switched = Some(report),
            Event::MeanAttention(mean) => self.mean_attention = Some(mean),
            Event::Made { what, run } => {
                self.write(Level::Info, true, format!("made {what}: {}", run.display()));
                self.made = Some(run);
            }
            Event::Sampled(event) => self.sampled(event),
            Event::Saved { what, path } => self.write(Level::Info, true, format!("saved {what}: {}", path.display())),
            Event::Diverged { message, .. } => {
                self.write(Level::Error, true, message.clone());
                self.diverged = Some(message);
            }
            Event::WentBack { step, elapsed_secs } => self.go_back(step, elapsed_secs),
            Event::FolderGone { message } => {
                self.write(Level::Error, true, message.clone());
                self.folder_gone = Some(message);
            }
            Event::FolderMoved { folder } => {
                self.write(Level::Info, true, format!("the run is saved in {} from now on", folder.display()));
                self.folder_gone = None;
                if let Some(ready) = &mut self.ready {
                    ready.folder = folder;
                }
            }
            Event::Warning(text) => self.write(Level::Warning, true, text),
            Event::Finished(outcome) => {
                match &outcome {
                    Outcome::Stopped => self.write(Level::Info, false, "the run has ended".into()),
                    Outcome::Failed(why) => self.write(Level::Error, true, why.clone()),
                    Outcome::Tight(why) => self.write(Level::Warning, false, why.clone()),
                }
                self.state = None;
                self.preparing = None;
                self.sample.running = false;
                self.outcome = Some(outcome);
            }
        }
    }

    /// Takes in the newest look. Events that came before it are to be applied first.
    pub fn apply_look(&mut self, look: Arc<Look>) {
        self.attention = Some(Arc::clone(&look.attention));
        self.look = Some(look);
        self.attention_version += 1;
    }

    /// Writes what the window itself has to say.
    pub fn note(&mut self, level: Level, text: impl Into<String>) {
        self.write(level, true, text.into());
    }

    /// Forgets the run, not what was said: the log stays.
    pub fn clear(&mut self) {
        let (log, serial, version) = (std::mem::take(&mut self.log), self.serial, self.attention_version);
        *self = Self { log, serial, attention_version: version + 1, ..Self::with_clock(self.clock) };
    }

    /// Makes room for a sample that was asked for: pieces of older ones no longer count.
    pub fn sample_started(&mut self, id: u64) {
        self.sample = SampleState { id, running: true, ..SampleState::default() };
    }

    /// What the heads of the shown model do, or did at the kept step before it.
    #[must_use]
    pub fn shown_roles(&self) -> Option<&RoleReport> {
        let look = self.look.as_ref()?;
        let earlier = || self.roles.iter().rfind(|report| report.step <= look.attention.step);
        look.roles.as_ref().or_else(earlier)
    }

    /// What the shown model does without.
    #[must_use]
    pub fn shown_switches(&self) -> Switches {
        self.look.as_ref().map(|look| look.view.switches.clone()).unwrap_or_default()
    }

    /// A copy of the curves.
    #[must_use]
    pub fn curves(&self) -> Curves {
        Curves([&self.loss, &self.learning_rate, &self.gradient_norm, &self.validation_loss].map(Series::clone))
    }

    /// The log's lines after the one with this number, oldest first.
    pub fn log_after(&self, serial: u64) -> impl Iterator<Item = &LogLine> {
        let known = self.log.partition_point(|line| line.serial <= serial);
        self.log.iter().skip(known)
    }

    fn write(&mut self, level: Level, notice: bool, text: String) {
        self.serial += 1;
        self.log.push_back(LogLine { serial: self.serial, at: (self.clock)(), level, notice, text });
        if self.log.len() > LOG_LINES_MAX {
            self.log.pop_front();
        }
    }

    fn start(&mut self, mut report: ReadyReport) {
        let (log, serial, version) = (std::mem::take(&mut self.log), self.serial, self.attention_version);
        let state = self.state;
        *self = Self { log, serial, state, attention_version: version + 1, ..Self::with_clock(self.clock) };
        let history = std::mem::take(&mut report.history);
        let latest = history.iter().rfind(|step| step.step <= report.step).copied();
        history.into_iter().for_each(|step| self.progress(step));
        self.latest = latest.map(|latest| StepReport { elapsed_secs: report.elapsed_secs, ..latest });
        for validation in std::mem::take(&mut report.validations) {
            self.validated(validation);
        }
        (self.kept, self.kept_bytes) = (std::mem::take(&mut report.kept), report.kept_bytes);
        self.roles = std::mem::take(&mut report.roles);
        let (weights, device) = (grouped(report.parameters), &report.device);
        self.write(Level::Info, false, format!("{weights} weights on {}: {}", device.name, device.reason));
        self.preparing =
            (device.kind != DeviceClass::Cpu).then(|| format!("preparing kernels on {}…", report.device.name));
        self.ready = Some(report);
    }

    fn change(&mut self, state: RunState) {
        self.state = Some(state);
        match state {
            RunState::Preparing => self.outcome = None,
            RunState::Completed => self.write(Level::Info, true, "all steps are done".into()),
            RunState::Training => self.diverged = None,
            RunState::Paused => {}
        }
    }

    /// The model is that of an earlier step again: what was measured later belongs to a past that no longer is.
    fn go_back(&mut self, step: Step, elapsed_secs: f64) {
        for series in [&mut self.loss, &mut self.learning_rate, &mut self.gradient_norm] {
            series.truncate_from(step.0 + 1);
        }
        self.forget_validations_from(Step(step.0 + 1));
        self.roles.retain(|report| report.step <= step);
        self.effects.take_if(|report| report.step > step);
        self.switched.take_if(|report| report.step > step);
        self.mean_attention.take_if(|mean| mean.attention.step > step);
        self.whole.take_if(|report| report.step > step);
        self.latest = self.latest.zip(self.loss.last()).map(|(latest, (step, loss))| StepReport {
            step: Step(step),
            loss,
            learning_rate: self.learning_rate.at(step).map_or(latest.learning_rate, f64::from),
            gradient_norm: self.gradient_norm.at(step).unwrap_or(latest.gradient_norm),
            elapsed_secs,
            tokens_per_sec: latest.tokens_per_sec,
        });
        self.diverged = None;
        self.write(Level::Info, true, format!("back at step {}", grouped(step.0)));
    }

    fn progress(&mut self, report: StepReport) {
        let step = report.step.0;
        if self.validations.last().is_some_and(|last| report.step < last.step) {
            // The run goes on from before its curve's end.
            self.forget_validations_from(report.step);
        }
        self.loss.push(step, report.loss);
        self.learning_rate.push(step, report.learning_rate as f32);
        self.gradient_norm.push(step, report.gradient_norm);
        self.latest = Some(report);
    }

    fn validated(&mut self, report: ValidationReport) {
        if self.validations.last().is_some_and(|last| report.step <= last.step) {
            self.forget_validations_from(report.step);
        }
        self.validations.push(report);
        self.validation_loss.push(report.step.0, report.validation_loss);
        self.best = lowest([self.best, Some(report)].into_iter().flatten());
    }

    fn forget_validations_from(&mut self, step: Step) {
        self.validations.truncate(self.validations.partition_point(|earlier| earlier.step < step));
        self.validation_loss.truncate_from(step.0);
        self.best = lowest(self.validations.iter().copied());
    }

    fn sampled(&mut self, event: SampleEvent) {
        let sample = &mut self.sample;
        match event {
            SampleEvent::Started { id, step, switches, prompt, tokens: prompt_tokens, note } if id >= sample.id => {
                let tokens = Vec::new();
                let (running, trouble) = (true, None);
                *sample = SampleState { id, step, switches, prompt, prompt_tokens, note, tokens, running, trouble };
            }
            SampleEvent::Token { id, token } if id == sample.id => sample.tokens.push(token),
            SampleEvent::Done { id, trouble } if id == sample.id => (sample.running, sample.trouble) = (false, trouble),
            // A late piece of a sample that was given up.
            SampleEvent::Started { .. } | SampleEvent::Token { .. } | SampleEvent::Done { .. } => {}
        }
    }
}

fn lowest(reports: impl Iterator<Item = ValidationReport>) -> Option<ValidationReport> {
    let finite = reports.filter(|report| report.validation_loss.is_finite());
    finite.min_by(|one, other| one.validation_loss.total_cmp(&other.validation_loss))
}

/// The curves by themselves, to be written elsewhere than where they grow.
#[derive(Debug, Clone)]
pub struct Curves([Series; 4]);

/// All curves as comma-separated values, a line for each step. An empty field was not measured at that step.
#[must_use]
pub fn curves_csv(curves: &Curves) -> String {
    let mut text = String::from("step,loss,learning_rate,gradient_norm,validation_loss\n");
    let points = |series: &Series| {
        let mut points: Vec<_> = series.iter().chain(series.non_finite().iter().copied()).collect();
        points.sort_by_key(|point| point.0);
        points
    };
    let mut columns = curves.0.each_ref().map(|series| points(series).into_iter().peekable());
    while let Some(step) = columns.iter_mut().filter_map(|column| column.peek()).map(|point| point.0).min() {
        let _ = write!(text, "{step}");
        for column in &mut columns {
            text.push(',');
            if let Some((_, value)) = column.next_if(|point| point.0 == step) {
                let _ = write!(text, "{value}");
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
pub(crate) mod tests;
