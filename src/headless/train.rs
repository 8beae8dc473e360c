//! Training in the terminal: the events of a run as a progress line, or as JSON lines.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use serde_json::json;

use super::args::{ResumeArguments, TrainArguments, WindowArguments};
use super::terminal::printed;
use crate::lab::file_worker::open_preset;
use crate::lab::handle::RunHandle;
use crate::preset::{self, Preset};
use crate::protocol::{
    Command, DeviceChoice, Event, Origin, Outcome, Place, ReadyReport, RunSpec, RunState, SampleEvent, SampleRequest,
    Step, StepReport,
};
use crate::recipe::{Recipe, SamplingRecipe, TextSource, grouped};

/// The exit code of a program that was interrupted.
const INTERRUPTED: u8 = 130;
/// What a run that is being opened may take to end in order after a signal.
const OPENING_GRACE: Duration = Duration::from_secs(1);
/// Tokens of the sample that closes a run, for a person to read.
const CLOSING_SAMPLE_TOKENS: usize = 200;

pub(super) fn train(arguments: TrainArguments) -> Result<ExitCode> {
    ensure!(arguments.stop_at != Some(0), "--stop-at 0 lies before the first step: name a later one");
    let mut recipe = recipe_of(arguments.preset.as_deref(), arguments.recipe.as_deref())?;
    if let Some(path) = arguments.text {
        recipe.data.text = TextSource::File(path);
    }
    if let Some(steps) = arguments.steps {
        recipe.training.steps = steps;
        recipe.training.warmup_steps = recipe.training.warmup_steps.min(steps);
    }
    recipe.training.seed = arguments.seed.unwrap_or(recipe.training.seed);
    let origin = Origin::New { recipe: Box::new(recipe), place: Place::At(arguments.out) };
    follow(spec(origin, &arguments.device, arguments.insist, arguments.stop_at), arguments.json)
}

pub(super) fn resume(arguments: ResumeArguments) -> Result<ExitCode> {
    let origin = Origin::Open { folder: arguments.run, text: arguments.text };
    follow(spec(origin, &arguments.device, arguments.insist, arguments.stop_at), arguments.json)
}

/// What the window would have done, done here: opens the run or trains the default preset.
pub(super) fn instead_of_window(arguments: WindowArguments) -> Result<ExitCode> {
    let origin = match arguments.open {
        Some(folder) => Origin::Open { folder, text: None },
        None => {
            let Preset { name, recipe, .. } = preset::first();
            Origin::New { recipe: Box::new(recipe), place: Place::Named(name) }
        }
    };
    follow(spec(origin, arguments.device.as_deref().unwrap_or("auto"), false, None), false)
}

/// The recipe of a preset by name, of a file, or the first one.
pub(super) fn recipe_of(name: Option<&str>, file: Option<&Path>) -> Result<Recipe> {
    match (name, file) {
        (_, Some(path)) => {
            let recipe = open_preset(path).map_err(anyhow::Error::msg)?.recipe;
            match recipe.validate(None).first() {
                Some(fault) => bail!("{}: {fault}", path.display()),
                None => Ok(recipe),
            }
        }
        (Some(name), None) => Ok(preset::find(name).ok_or_else(|| unknown_preset(name))?.recipe),
        (None, None) => Ok(preset::first().recipe),
    }
}

fn unknown_preset(name: &str) -> anyhow::Error {
    let names: Vec<_> = preset::built_in().into_iter().map(|preset| preset.name).collect();
    anyhow!("there is no preset '{name}': try {}, or --recipe FILE", names.join(", "))
}

fn spec(origin: Origin, device: &str, insist: bool, stop_at: Option<u64>) -> RunSpec {
    RunSpec {
        origin,
        device: DeviceChoice::from(device),
        insist,
        stop_at: stop_at.map(Step),
        start_paused: false,
        despite_memory: true,
        attention_per_sec: 0.0,
    }
}

/// Runs to the end (or the stop), telling what happens. Ctrl-C saves a checkpoint and ends; a second one ends at once.
fn follow(spec: RunSpec, json: bool) -> Result<ExitCode> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&interrupted);
    // A second handler in one process is refused; the first one does.
    let _ = ctrlc::set_handler(move || {
        if seen.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
    });
    let asked = Asked { opens: matches!(spec.origin, Origin::Open { .. }), stop_at: spec.stop_at };
    let handle = RunHandle::start(spec, Arc::new(|| ()));
    let ended = tell_all(&handle, &asked, &mut Terminal::new(json), &interrupted);
    if matches!(ended, Ok(End::Interrupted)) {
        // Nothing is trained yet: there is nothing to wait for.
        return Ok(ExitCode::from(INTERRUPTED));
    }
    // Also when the output was closed: what was learned is saved first.
    handle.stop_and_wait();
    match ended? {
        End::Trouble(trouble) => bail!("{trouble}"),
        End::Done | End::Interrupted => Ok(ExitCode::SUCCESS),
    }
}

/// What of the command line's wishes depends on where the run stands.
struct Asked {
    /// A run that is there already is to go on.
    opens: bool,
    stop_at: Option<Step>,
}

/// A run that does not go on, and why.
struct NothingToDo {
    why: String,
    /// What was asked for cannot be had.
    impossible: bool,
}

impl Asked {
    /// Whether there is nothing to train in the run that was opened.
    fn nothing_to_do(&self, ready: &ReadyReport) -> Option<NothingToDo> {
        let (step, last) = (ready.step, Step(ready.recipe.training.steps));
        let run = ready.folder.display();
        let behind = self.stop_at.filter(|stop| *stop < step);
        if let Some(Step(stop)) = behind {
            let why = format!("--stop-at {stop} lies behind step {}, where {run} is: name a later step", step.0);
            return Some(NothingToDo { why, impossible: true });
        }
        if self.opens && step >= last {
            let why = format!(
                "{run} is finished: all {last} steps are done. To train it further, make a longer run of it: \
                 headlight fork {run} --step {last} --out NEW --steps MORE (more than {last}), and resume that",
                last = last.0
            );
            return Some(NothingToDo { why, impossible: self.stop_at.is_some_and(|stop| stop > last) });
        }
        (self.stop_at == Some(step)).then(|| {
            let why = format!("{run} is at step {} already, so there is nothing to do", step.0);
            NothingToDo { why, impossible: false }
        })
    }
}

/// How following a run ended.
enum End {
    Done,
    /// What went wrong, in words.
    Trouble(String),
    /// A signal came while the run was still being opened.
    Interrupted,
}

/// Tells the events up to the last one.
fn tell_all(handle: &RunHandle, asked: &Asked, terminal: &mut Terminal, interrupted: &AtomicBool) -> Result<End> {
    let mut trouble = None;
    let (mut stopping, mut ready, mut rests) = (None, false, false);
    loop {
        if interrupted.load(Ordering::Relaxed) && stopping.is_none() {
            stopping = Some(Instant::now());
            terminal.note(if ready { "stopping after a checkpoint…" } else { "stopping" })?;
            handle.send(Command::Stop);
        }
        if !ready && stopping.is_some_and(|since| since.elapsed() > OPENING_GRACE) {
            return Ok(End::Interrupted);
        }
        let Some(event) = handle.next_within(Duration::from_millis(100)) else {
            // A worker that is gone has sent its last event before.
            if handle.is_finished() && handle.has_no_more() {
                bail!("the worker is gone");
            }
            continue;
        };
        terminal.tell(&event)?;
        match event {
            // What went wrong first says more than that it could not be saved then.
            Event::Finished(Outcome::Failed(why) | Outcome::Tight(why)) => {
                return Ok(End::Trouble(trouble.map_or_else(|| why.clone(), |first| format!("{first}. {why}"))));
            }
            Event::Finished(Outcome::Stopped) if stopping.is_some() && !ready => return Ok(End::Interrupted),
            Event::Finished(Outcome::Stopped) => return Ok(trouble.map_or(End::Done, End::Trouble)),
            Event::Ready(report) => {
                let nothing = asked.nothing_to_do(&report);
                (ready, rests) = (true, nothing.is_some());
                trouble = report.blocked;
                match nothing {
                    Some(NothingToDo { why, impossible: true }) => trouble = Some(why),
                    Some(NothingToDo { why, .. }) if trouble.is_none() => tell!("note: {why}"),
                    _ => {}
                }
            }
            Event::FolderGone { message } => trouble = Some(message),
            Event::Diverged { message, .. } => {
                trouble = Some(message);
                handle.send(Command::Stop);
            }
            // Nobody else pauses a run of the command line: its stop is reached, or it cannot go on.
            Event::StateChanged(RunState::Paused) => {
                handle.send(Command::Stop);
            }
            Event::StateChanged(RunState::Completed) if !terminal.json && !rests => {
                let settings = terminal.closing_sample();
                handle.send(Command::Sample(SampleRequest { id: 0, settings }));
            }
            Event::StateChanged(RunState::Completed) | Event::Sampled(SampleEvent::Done { .. }) => {
                handle.send(Command::Stop);
            }
            _ => {}
        }
    }
}

/// Says events to a person or to a program.
struct Terminal {
    json: bool,
    /// Whether a progress line can be overwritten.
    live: bool,
    recipe: Option<Recipe>,
    line_open: bool,
}

impl Terminal {
    fn new(json: bool) -> Self {
        Self { json, live: std::io::stdout().is_terminal(), recipe: None, line_open: false }
    }

    fn closing_sample(&self) -> SamplingRecipe {
        let recipe = self.recipe.as_ref().map_or_else(|| preset::first().recipe, Recipe::clone);
        SamplingRecipe { tokens: CLOSING_SAMPLE_TOKENS, ..recipe.sampling }
    }

    fn tell(&mut self, event: &Event) -> Result<()> {
        if let Event::Ready(ready) = event {
            self.recipe = Some(ready.recipe.clone());
        }
        if self.json { print_json(event) } else { self.print(event) }
    }

    /// A line of its own, whatever the progress line is at.
    fn note(&mut self, text: &str) -> Result<()> {
        if !self.json {
            if std::mem::take(&mut self.line_open) {
                say!();
            }
            say!("{text}");
        }
        Ok(())
    }

    fn print(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Preparing(what) | Event::Warning(what) => self.note(what)?,
            Event::Ready(ready) => {
                let device = &ready.device;
                self.note(&format!("{} through {}: {}", device.name, device.engine, device.reason))?;
                self.note(&format!(
                    "{} weights, vocabulary {}, {} tokens to learn from; run folder {}",
                    grouped(ready.parameters),
                    ready.vocabulary,
                    grouped(ready.train_tokens as u64),
                    ready.folder.display()
                ))?;
            }
            Event::Progress(reports) if self.live => {
                if let Some(StepReport { step, loss, tokens_per_sec, .. }) = reports.last() {
                    let steps = self.recipe.as_ref().map_or(0, |recipe| recipe.training.steps);
                    let rate = grouped(*tokens_per_sec as u64);
                    write!(
                        std::io::stdout(),
                        "\rstep {:>7} of {}  loss {loss:.4}  {rate:>9} tokens/s ",
                        grouped(step.0),
                        grouped(steps)
                    )?;
                    std::io::stdout().flush()?;
                    self.line_open = true;
                }
            }
            Event::Validated(report) => {
                let best = if report.best { "  best" } else { "" };
                let (step, train, validation) = (grouped(report.step.0), report.train_loss, report.validation_loss);
                if self.live {
                    write!(std::io::stdout(), "\r\x1b[2K")?;
                    self.line_open = false;
                }
                let right = report.accuracy.map_or_else(String::new, |share| format!("  accuracy {share:.4}"));
                say!("step {step:>7}  train {train:.4}  val {validation:.4}{right}{best}");
            }
            Event::Sampled(SampleEvent::Started { prompt, .. }) => {
                self.note("")?;
                write!(std::io::stdout(), "{}", printed(prompt))?;
            }
            Event::Sampled(SampleEvent::Token { token, .. }) => {
                write!(std::io::stdout(), "{}", printed(&token.text))?;
                std::io::stdout().flush()?;
            }
            Event::Sampled(SampleEvent::Done { .. }) => say!(),
            Event::Saved { what, path } => self.note(&format!("saved {what}: {}", path.display()))?,
            Event::FolderMoved { folder } => self.note(&format!("saved in {} from now on", folder.display()))?,
            Event::Progress(_)
            | Event::StateChanged(_)
            | Event::EvaluatedWhole(_)
            | Event::Kept { .. }
            | Event::Roles(_)
            | Event::Effects(_)
            | Event::Switched(_)
            | Event::MeanAttention(_)
            | Event::Made { .. }
            | Event::Diverged { .. }
            | Event::FolderGone { .. }
            | Event::WentBack { .. } => {}
            Event::Finished(_) => {
                if std::mem::take(&mut self.line_open) {
                    say!();
                }
            }
        }
        Ok(())
    }
}

/// What a state is called in the JSON stream.
const fn state_name(state: RunState) -> &'static str {
    match state {
        RunState::Preparing => "preparing",
        RunState::Training => "training",
        RunState::Paused => "paused",
        RunState::Completed => "completed",
    }
}

/// One JSON object a line; `event` says which.
fn print_json(event: &Event) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let mut line = |mut value: serde_json::Value, name: &str| -> Result<()> {
        value["event"] = name.into();
        Ok(writeln!(stdout, "{}", printed(&value.to_string()))?)
    };
    match event {
        Event::Preparing(what) => line(json!({ "text": what }), "preparing"),
        Event::Ready(ready) => line(
            json!({
                "folder": ready.folder.display().to_string(),
                "device": ready.device,
                "parameters": ready.parameters,
                "vocabulary": ready.vocabulary,
                "train_tokens": ready.train_tokens,
                "validation_tokens": ready.validation_tokens,
                "step": ready.step,
            }),
            "ready",
        ),
        Event::StateChanged(state) => line(json!({ "state": state_name(*state) }), "state"),
        Event::Progress(reports) => reports.iter().try_for_each(|report| line(serde_json::to_value(report)?, "step")),
        Event::Validated(report) => line(serde_json::to_value(report)?, "validation"),
        Event::Saved { what, path } => line(json!({ "what": what, "path": path.display().to_string() }), "saved"),
        Event::Warning(text) => line(json!({ "text": text }), "warning"),
        Event::Diverged { step, message } => line(json!({ "step": step, "text": message }), "diverged"),
        Event::FolderGone { message } => line(json!({ "text": message }), "gone"),
        Event::FolderMoved { folder } => line(json!({ "path": folder.display().to_string() }), "moved"),
        Event::Finished(Outcome::Stopped) => line(json!({ "outcome": "stopped" }), "finished"),
        Event::Finished(Outcome::Failed(why) | Outcome::Tight(why)) => {
            line(json!({ "outcome": "failed", "text": why }), "finished")
        }
        // It is in the run's folder, or the command line does not ask for it.
        Event::Kept { .. }
        | Event::Roles(_)
        | Event::Effects(_)
        | Event::Switched(_)
        | Event::MeanAttention(_)
        | Event::Made { .. }
        | Event::Sampled(_)
        | Event::EvaluatedWhole(_)
        | Event::WentBack { .. } => Ok(()),
    }
}
