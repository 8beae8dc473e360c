//! What the user's wishes change. [`App::apply`] is the only way in for panels; the desk's answers are in `answers`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::dialogs::PathDialog;
use super::layout::Layout;
use super::question::{Asked, Question};
use super::settings::remember;
use crate::findings::Finding;
use crate::lab::file_worker::Job;
use crate::lab::handle::RunHandle;
use crate::preset::{FORMAT, Preset};
use crate::protocol::{
    Command, DeviceChoice, ExportFormat, Origin, Outcome, Pin, Place, ReadyReport, RunSpec, SampleRequest, Step, View,
};
use crate::recipe::{Field, Recipe, SamplingRecipe, TextSource};
use crate::store::{Level, curves_csv};
use crate::ui::actions::commands::Phase;
use crate::ui::actions::{Action, AfterEnd, PickPurpose};
use crate::ui::app::open_run::{ActiveRun, Closing};
use crate::ui::app::{App, Start};
use crate::ui::recipe::draft::{Candidate, TextState, file_name, slug};
use crate::ui::run::parity::Parity;
use crate::ui::widgets::theme;

/// More is not seen, and recording attention takes time from training.
const ATTENTION_PER_SEC: f64 = 10.0;
const ZOOM_STEP: f32 = 0.1;
/// Changes of what is switched off that can be taken back.
const UNDO_MAX: usize = 100;
/// How soon a full channel is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

impl App {
    /// Does what a panel asks for. The only place where the window's own state changes.
    pub fn apply(&mut self, action: Action) {
        match action {
            Action::Train => self.train(),
            Action::Pause => self.send(Command::Pause),
            Action::StepOnce => self.step_once(),
            Action::Reset => self.end_run(AfterEnd::Clear),
            Action::Checkpoint => self.send(Command::Checkpoint),
            Action::EvaluateWhole => self.send(Command::EvaluateWhole),
            Action::Rollback => self.send(Command::Rollback),
            Action::OpenRun(path) => self.path_chosen(PickPurpose::OpenRun, path),
            Action::ParityRun => self.parity_run(),
            Action::CloseParity => (self.parity.shown, self.parity.refused) = (false, None),
            Action::SetProbe(text) => self.set_probe(text),
            Action::SetProbeSpecial(special) => self.set_probe_special(special),
            Action::Sample(settings) => self.sample(*settings),
            Action::StopSampling => self.send(Command::StopSampling),
            Action::Look(view) => self.look_otherwise(*view),
            Action::Timeline(to) => {
                let now = self.ctx.input(|input| input.time);
                let step = self.timeline.go(to, &self.store.kept, self.view.step, now);
                if step != self.view.step {
                    self.set_looked(View { step, ..self.view.clone() });
                }
            }
            Action::UndoSwitches => {
                if let Some(View { switches, cuts, renormalise, .. }) = self.changed_before.pop() {
                    self.set_looked(View { switches, cuts, renormalise, ..self.view.clone() });
                }
            }
            Action::MeasureEffects(off) => self.send(Command::MeasureEffects(off)),
            Action::StopMeasuring => self.send(Command::StopMeasuring),
            Action::Prune => self.send(Command::Prune),
            Action::Fork { step, changed } => self.fork(step, changed),
            Action::AskLonger => self.ask_longer(),
            Action::ForkLonger { steps } => self.fork_longer(steps),
            Action::StartAnyway => self.start_anyway(),
            Action::UseRunRecipe => self.use_run_recipe(),
            Action::EditRecipe(recipe) => self.edit(*recipe),
            Action::EditSampling(sampling) => self.set_sampling(*sampling),
            Action::UsePreset(preset) => self.use_preset(*preset),
            Action::UseText(source) => self.use_text(source),
            Action::SetInsist(insist) => self.settings.insist = insist,
            Action::SetDevice(device) => {
                self.device = None;
                self.settings.device = device;
            }
            Action::Pick(purpose) => self.pick(purpose),
            Action::OpenPath(purpose, path) => self.path_chosen(purpose, path),
            Action::CopyPicture(pane) => self.take_picture(pane, None),
            Action::RemoveOverlay(path) => self.overlays.retain(|overlay| overlay.path != path),
            Action::SetView(view) => self.settings.view = *view,
            Action::CopyText(text) => self.ctx.copy_text(text),
            Action::ToggleShortcuts => self.shortcuts_shown = !self.shortcuts_shown,
            Action::ToggleAbout => self.about_shown = !self.about_shown,
            Action::SetTheme(theme) => {
                self.settings.theme = theme;
                theme::choose(&self.ctx, theme);
            }
            Action::ZoomIn => self.zoom(self.settings.zoom + ZOOM_STEP),
            Action::ZoomOut => self.zoom(self.settings.zoom - ZOOM_STEP),
            Action::ZoomReset => self.zoom(1.0),
            Action::ResetLayout => self.layout = Layout::default(),
            Action::TogglePane(pane) => self.layout.toggle(pane),
            Action::LookAt(path) => self.ask(Job::Look(path)),
            Action::ListFolder(search) => self.ask(Job::List(search)),
            Action::ClosePicker => self.picker = None,
            Action::Quit => {
                if !self.close_requested() {
                    self.closing = Closing::Now;
                }
            }
            Action::EndRun => {
                if let Some(then) = self.question.take().and_then(Question::into_end) {
                    self.end_run(then);
                }
            }
            Action::KeepRun => self.question = None,
        }
        // What changed is written a little later.
        self.ctx.request_repaint_after(Duration::from_millis(2200));
    }

    /// True when the run took it.
    fn try_send(&mut self, command: Command) -> bool {
        let Some(run) = &self.run else { return false };
        let taken = run.handle.send(command);
        if !taken {
            self.store.note(Level::Warning, "the run is busy and did not take the command; try again");
        }
        taken
    }

    pub(in crate::ui) fn send(&mut self, command: Command) {
        self.try_send(command);
    }

    /// Hands over what the running model is to follow, as soon as it can: only the newest value counts. A rate waits
    /// until it makes sense.
    pub(in crate::ui) fn hand_over(&mut self) {
        let Some(run) = &mut self.run else { return };
        if self.store.ready.is_none() || !(run.rate_unsent || run.probe_unsent || run.view_unsent) {
            return;
        }
        let wrong = |field| matches!(field, Field::LearningRate | Field::FinalLearningRate);
        if run.rate_unsent && !self.draft.recipe.validate(None).iter().any(|fault| wrong(fault.field)) {
            run.rate_unsent = !run.handle.send(Command::SetLearningRate(run.recipe.training.learning_rate));
        }
        if run.probe_unsent {
            let data = &run.recipe.data;
            run.probe_unsent = !(run.handle.send(Command::SetProbeSpecial(data.probe_special_tokens))
                && run.handle.send(Command::SetProbe(data.probe.clone())));
        }
        if run.view_unsent {
            run.view_unsent = !run.handle.send(Command::Look(Box::new(self.view.clone())));
        }
        if run.rate_unsent || run.probe_unsent || run.view_unsent {
            self.ctx.request_repaint_after(RETRY_INTERVAL);
        }
    }

    fn train(&mut self) {
        match self.phase() {
            Phase::Idle => self.start_new(false),
            Phase::Paused => self.send(Command::Resume),
            Phase::Preparing | Phase::Training | Phase::Completed | Phase::Ending => {}
        }
    }

    fn step_once(&mut self) {
        match self.phase() {
            Phase::Idle => self.start_new(true),
            Phase::Paused | Phase::Training => {}
            Phase::Preparing | Phase::Completed | Phase::Ending => return,
        }
        if let (Phase::Preparing, Some(started)) = (self.phase(), &mut self.started) {
            started.steps_once = true;
        }
        self.send(Command::Step);
    }

    pub(in crate::ui) fn start_new(&mut self, paused: bool) {
        if let Some(why) = self.draft.hindrance() {
            return self.store.note(Level::Warning, why);
        }
        let name = self.draft.run_name();
        self.runs_started += 1;
        let place = match &self.runs_root {
            Some(root) => Place::At(root.join(format!("{name}-{}", self.runs_started))),
            None => Place::Named(name),
        };
        let recipe = Box::new(self.draft.recipe.clone());
        let origin = Origin::New { recipe, place };
        self.start(Start { origin, paused, opened: false, steps_once: false, despite_memory: false });
    }

    /// Memory is tight, and the user wants it all the same.
    fn start_anyway(&mut self) {
        self.question = None;
        let Some(start) = self.started.clone().filter(|_| self.run.is_none()) else { return };
        let steps_once = start.steps_once;
        self.start(Start { despite_memory: true, ..start });
        if steps_once {
            self.send(Command::Step);
        }
    }

    /// Nothing is known of a run any more. The curve of a fork's parent came with it, and goes with it.
    fn forget_run(&mut self) {
        if let Some((parent, _)) = self.store.ready.as_ref().and_then(|ready| ready.parent.as_ref()) {
            self.overlays.retain(|overlay| overlay.path != *parent);
        }
        self.store.clear();
    }

    fn start(&mut self, start: Start) {
        self.started = Some(start.clone());
        let Start { origin, paused: start_paused, opened, despite_memory, .. } = start;
        self.forget_run();
        self.view = View { wants: std::mem::take(&mut self.view.wants), ..View::default() };
        self.forget_places();
        self.changed_before.clear();
        let device = self.device().clone();
        let spec = RunSpec {
            origin,
            device,
            insist: self.settings.insist,
            stop_at: None,
            start_paused,
            despite_memory,
            attention_per_sec: ATTENTION_PER_SEC,
        };
        let handle = RunHandle::start(spec, self.wake.clone());
        let recipe = self.draft.recipe.clone();
        let (rate_unsent, probe_unsent, view_unsent) = (false, false, true);
        let (apart, ending) = (false, None);
        self.run = Some(ActiveRun { handle, recipe, opened, apart, rate_unsent, probe_unsent, view_unsent, ending });
    }

    /// Asks the run to stop and does the rest once it has; at once when there is none.
    pub(in crate::ui) fn end_run(&mut self, then: AfterEnd) {
        if then == AfterEnd::Close {
            self.closing = Closing::Saving;
        }
        match &mut self.run {
            Some(run) => {
                run.handle.send(Command::Stop);
                run.ending = Some(then);
            }
            None => self.after_end(then),
        }
    }

    fn after_end(&mut self, then: AfterEnd) {
        match then {
            AfterEnd::Clear => self.forget_run(),
            AfterEnd::Open { folder, text } => {
                let origin = Origin::Open { folder, text };
                self.start(Start { origin, paused: true, opened: true, steps_once: false, despite_memory: false });
            }
            AfterEnd::Close => self.closing = Closing::Now,
        }
    }

    pub(in crate::ui) fn run_is_ready(&mut self, report: &ReadyReport) {
        let Some(run) = &mut self.run else { return };
        if run.opened {
            run.recipe = report.recipe.clone();
            (run.rate_unsent, run.probe_unsent) = (false, false);
            // What one was writing stays; the run shows its own recipe beside it.
            run.apart = !self.draft.makes(&report.recipe);
        } else {
            // As it was made: the text's path is a whole one.
            run.recipe.data.text.clone_from(&report.recipe.data.text);
        }
        // Of a parent that does not lie beside the run only the name is known.
        if let Some((parent, _)) = report.parent.as_ref().filter(|(parent, _)| parent.is_absolute()) {
            // Both branches are seen from the fork on.
            self.parent_awaited = Some(parent.clone());
            self.ask(Job::ReadCurves(parent.clone()));
        }
        remember(&mut self.settings.recent_runs, &report.folder);
        if matches!(self.device(), DeviceChoice::Auto | DeviceChoice::Gpu) {
            self.store.note(Level::Info, format!("{} computes: {}", report.device.name, report.device.reason));
        }
    }

    /// The run is saved there from now on; where it was lies nothing that could be opened.
    pub(in crate::ui) fn run_has_moved(&mut self, folder: &Path) {
        if let Some(ready) = &self.store.ready {
            self.settings.recent_runs.retain(|other| *other != ready.folder);
        }
        remember(&mut self.settings.recent_runs, folder);
    }

    pub(in crate::ui) fn run_has_ended(&mut self) {
        // The thread is done or about to be: dropping the handle waits for nothing.
        let failed = matches!(self.store.outcome, Some(Outcome::Failed(_))) && !self.termination.is_asked();
        let tight = match &self.store.outcome {
            Some(Outcome::Tight(why)) => Some(Question::new(Asked::Memory(why.clone()))),
            _ => None,
        };
        self.question = None;
        self.parity = Parity::default();
        match self.run.take().and_then(|run| run.ending) {
            // What went wrong is read before the window goes.
            Some(AfterEnd::Close) if failed => self.closing = Closing::No,
            Some(then) => self.after_end(then),
            None => self.question = tight,
        }
    }

    /// The system asks the program to end: as at the close button, but nobody is there to be asked.
    pub(in crate::ui) fn terminate(&mut self) {
        (self.question, self.picker) = (None, None);
        match (self.closing, self.phase()) {
            (Closing::No, Phase::Idle) => self.closing = Closing::Now,
            (Closing::No, _) => self.end_run(AfterEnd::Close),
            (Closing::Saving | Closing::Now, _) => {}
        }
    }

    /// The window is to be closed; true when that has to wait.
    pub(in crate::ui) fn close_requested(&mut self) -> bool {
        match (self.closing, self.phase()) {
            (Closing::Now, _) | (_, Phase::Idle) => return false,
            // Closing before the files are whole would cut them off.
            (Closing::Saving, _) => {}
            (Closing::No, Phase::Training | Phase::Preparing) => {
                self.question = Some(Question::new(Asked::End(AfterEnd::Close)));
            }
            (Closing::No, Phase::Paused | Phase::Completed | Phase::Ending) => self.end_run(AfterEnd::Close),
        }
        true
    }

    fn sample(&mut self, settings: SamplingRecipe) {
        self.set_sampling(settings.clone());
        let id = self.samples + 1;
        if self.try_send(Command::Sample(SampleRequest { id, settings })) {
            self.samples = id;
            self.store.sample_started(id);
        }
    }

    /// Whether the next run learns from the text of the one that is there, so that it can have its probe and prompt.
    fn same_text(&self) -> bool {
        self.run.as_ref().is_none_or(|run| !run.apart && run.recipe.data.text == self.draft.recipe.data.text)
    }

    fn set_sampling(&mut self, sampling: SamplingRecipe) {
        let same_text = self.same_text();
        if let Some(run) = &mut self.run {
            run.recipe.sampling.clone_from(&sampling);
            if run.apart {
                return;
            }
        }
        let older = std::mem::replace(&mut self.draft.recipe.sampling, sampling);
        if !same_text {
            self.draft.recipe.sampling.prompt = older.prompt;
        }
    }

    fn set_probe_special(&mut self, special_tokens: bool) {
        self.draft.recipe.data.probe_special_tokens = special_tokens;
        let Some(run) = &mut self.run else { return };
        run.recipe.data.probe_special_tokens = special_tokens;
        // Cuts and chosen places are those of the other tokens.
        let probe = run.recipe.data.probe.clone();
        self.set_probe(probe);
    }

    fn set_probe(&mut self, probe: String) {
        if self.same_text() {
            self.draft.recipe.data.probe.clone_from(&probe);
        }
        // Cuts and chosen places are those of the older probe.
        let cut = !std::mem::take(&mut self.view.cuts).is_empty();
        self.changed_before.iter_mut().for_each(|before| before.cuts.clear());
        self.changed_before.dedup_by(|one, other| one.changes() == other.changes());
        self.changed_before.pop_if(|last| last.changes() == self.view.changes());
        self.forget_places();
        if let Some(run) = &mut self.run {
            run.recipe.data.probe = probe;
            run.probe_unsent = true;
            run.view_unsent |= cut;
        }
        self.hand_over();
    }

    fn look_otherwise(&mut self, view: View) {
        if view.changes() != self.view.changes() {
            self.changed_before.push(self.view.clone());
            let too_many = self.changed_before.len().saturating_sub(UNDO_MAX);
            self.changed_before.drain(..too_many);
        }
        self.set_looked(view);
    }

    /// What was chosen in the panes belongs to the older probe.
    fn forget_places(&mut self) {
        self.lens_view.forget_places();
        self.tokens_view.forget_places();
    }

    fn set_looked(&mut self, view: View) {
        self.view = view;
        if let Some(run) = &mut self.run {
            run.view_unsent = true;
        }
        self.hand_over();
    }

    fn fork(&mut self, step: Step, changed: bool) {
        let Some(ready) = &self.store.ready else { return };
        let changes = changed.then(|| Box::new(self.draft.recipe.clone()));
        self.ask(Job::Fork { run: ready.folder.clone(), step, changes });
    }

    /// Asks how much longer the finished run is to go on.
    fn ask_longer(&mut self) {
        let done = self.run.as_ref().map_or(0, |run| run.recipe.training.steps);
        let steps = done.saturating_mul(2);
        self.question = Some(Question::new(Asked::Longer { done, steps }));
    }

    /// Makes a run that goes on from the end of the finished one.
    fn fork_longer(&mut self, steps: u64) {
        self.question = None;
        let (Some(run), Some(ready)) = (&self.run, &self.store.ready) else { return };
        let step = self.store.latest.map_or(ready.step, |latest| latest.step);
        let mut changed = run.recipe.clone();
        changed.training.steps = steps;
        self.ask(Job::Fork { run: ready.folder.clone(), step, changes: Some(Box::new(changed)) });
    }

    /// The run's own text was found elsewhere: the run is opened anew with it, if it is the same.
    fn text_is_at(&mut self, text: PathBuf) {
        let Some(ready) = &self.store.ready else { return };
        self.end_run(AfterEnd::Open { folder: ready.folder.clone(), text: Some(text) });
    }

    /// The recipe of the run that was opened becomes the draft.
    fn use_run_recipe(&mut self) {
        let (Some(run), Some(ready)) = (&mut self.run, &self.store.ready) else { return };
        run.apart = false;
        self.draft.name.clear();
        self.draft.title = file_name(&ready.folder);
        self.draft.recipe = run.recipe.clone();
        self.read_text();
    }

    /// The draft is edited. The running model takes over its learning rate.
    fn edit(&mut self, recipe: Recipe) {
        let old = std::mem::replace(&mut self.draft.recipe, recipe);
        let new = &self.draft.recipe;
        let rate = new.training.learning_rate;
        let text_changed = new.data.text != old.data.text;
        if let Some(run) = &mut self.run
            && !run.apart
            && rate != old.training.learning_rate
        {
            run.recipe.training.learning_rate = rate;
            run.rate_unsent = true;
        }
        self.hand_over();
        if text_changed {
            self.read_text();
        }
    }

    /// For the next run: the one that is there keeps what it has.
    fn use_preset(&mut self, preset: Preset) {
        if let Some(run) = &mut self.run {
            run.rate_unsent = false;
        }
        if self.draft.use_preset(preset) {
            self.read_text();
        }
    }

    /// Takes another text once it is read.
    pub(in crate::ui) fn use_text(&mut self, source: TextSource) {
        self.parity.awaited.take_if(|awaited| *awaited != source);
        self.draft.candidate = Some(Candidate { source: source.clone(), done_bytes: 0, total_bytes: 0 });
        self.ask(Job::ScanText(source));
    }

    /// Has the draft's text counted.
    pub(in crate::ui) fn read_text(&mut self) {
        self.draft.text = TextState::Reading { done_bytes: 0, total_bytes: 0 };
        (self.draft.candidate, self.parity.awaited) = (None, None);
        self.ask(Job::ScanText(self.draft.recipe.data.text.clone()));
    }

    fn zoom(&mut self, zoom: f32) {
        self.settings.zoom = ((zoom * 10.0).round() / 10.0).clamp(0.5, 3.0);
        self.ctx.set_zoom_factor(self.settings.zoom);
    }

    pub(in crate::ui) fn pick(&mut self, purpose: PickPurpose) {
        let recent = match purpose {
            PickPurpose::OpenText | PickPurpose::ParityText | PickPurpose::MeanAttention | PickPurpose::MovedText => {
                self.settings.recent_texts.clone()
            }
            PickPurpose::OpenRun | PickPurpose::OverlayRun | PickPurpose::PinRun => self.settings.recent_runs.clone(),
            _ => Vec::new(),
        };
        let runs = self.settings.recent_runs.first().and_then(|run| run.parent()).map(Path::to_path_buf);
        let runs =
            runs.filter(|_| matches!(purpose, PickPurpose::OpenRun | PickPurpose::OverlayRun | PickPurpose::PinRun));
        let folder = runs.or_else(|| self.settings.folder.clone()).or_else(|| std::env::current_dir().ok());
        let folder = folder.unwrap_or_default();
        let run = self.store.ready.as_ref().map_or_else(|| "run".to_owned(), |ready| file_name(&ready.folder));
        let name = match purpose {
            PickPurpose::OpenText
            | PickPurpose::ParityText
            | PickPurpose::OpenPreset
            | PickPurpose::OpenRun
            | PickPurpose::OpenModel
            | PickPurpose::OverlayRun
            | PickPurpose::PinRun
            | PickPurpose::MovedText
            | PickPurpose::MeanAttention => String::new(),
            PickPurpose::SavePreset => format!("{}.ron", slug(&self.draft.name)),
            PickPurpose::Export(ExportFormat::Checkpoint) => format!("{run}-checkpoint"),
            PickPurpose::Export(ExportFormat::Transformers(_)) => format!("{run}-transformers"),
            PickPurpose::Export(ExportFormat::Safetensors) => format!("{run}-safetensors"),
            PickPurpose::SaveElsewhere => run,
            PickPurpose::SaveCurves => format!("{run}-curves.csv"),
            PickPurpose::SavePicture(pane) => format!("{run}-{}.png", slug(pane.title())),
            PickPurpose::SaveFinding(finding) => format!("{run}-{}.csv", self.finding_name(finding)),
            PickPurpose::SavePage => format!("{run}-{}.html", self.finding_name(Finding::Attention)),
        };
        // Joining an empty name leaves the separator that one goes on typing after.
        self.picker = Some(PathDialog::new(purpose, &folder.join(name), recent));
    }

    pub(in crate::ui) fn path_chosen(&mut self, purpose: PickPurpose, path: PathBuf) {
        self.picker = None;
        // The program may be started elsewhere next time.
        let path = std::path::absolute(&path).unwrap_or(path);
        match purpose {
            PickPurpose::OpenText => self.use_text(TextSource::File(path)),
            PickPurpose::ParityText => self.parity_text_chosen(path),
            PickPurpose::MovedText => self.text_is_at(path),
            PickPurpose::OpenPreset => self.ask(Job::OpenPreset(path)),
            PickPurpose::OpenRun => {
                self.opening = Some(path.clone());
                self.ask(Job::Look(path));
            }
            PickPurpose::OpenModel => self.import(path),
            PickPurpose::OverlayRun => self.ask(Job::ReadCurves(path)),
            PickPurpose::MeanAttention => self.send(Command::MeanAttention(path)),
            PickPurpose::PinRun => {
                let pin = Some(Pin { run: Some(path), step: None });
                self.set_looked(View { pin, ..self.view.clone() });
            }
            PickPurpose::Export(format) => {
                self.remember_folder(&path);
                self.send(Command::Export { format, path });
            }
            PickPurpose::SaveElsewhere => self.send(Command::SaveElsewhere(path)),
            PickPurpose::SavePreset => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let known = self.presets.iter().find(|preset| preset.name == self.draft.name);
                let commentary = known.map_or_else(String::new, |preset| preset.commentary.clone());
                let recipe = self.draft.recipe.clone();
                let preset = Preset { format: FORMAT, name: slug(&stem), title: stem, commentary, recipe };
                self.ask(Job::SavePreset { path, preset: Box::new(preset) });
            }
            PickPurpose::SaveCurves => {
                let curves = self.store.curves();
                let contents = Box::new(move || Ok(curves_csv(&curves).into_bytes()));
                self.ask(Job::WriteFile { path, contents, what: "curves".into() });
            }
            PickPurpose::SavePicture(pane) => self.take_picture(pane, Some(path)),
            PickPurpose::SaveFinding(finding) => self.save_finding(finding, path),
            PickPurpose::SavePage => self.save_page(path),
        }
    }
}
