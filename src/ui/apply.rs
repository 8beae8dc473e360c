//! What the user's wishes and the desk's answers change. [`App::apply`] is the only way in for panels.

use std::path::{Path, PathBuf};

use super::actions::{Action, PickPurpose};
use super::app::{ActiveRun, AfterEnd, App, Closing};
use super::dialogs::PathDialog;
use super::draft::{Candidate, TextState, slug};
use super::layout::{Layout, Pane};
use super::loss_view::Overlay;
use super::menus::Phase;
use super::picture;
use super::settings::remember;
use super::theme;
use crate::lab::desk::{Done, Job, PathKind};
use crate::lab::handle::{Origin, Place, RunHandle, RunSpec};
use crate::lab::protocol::{Command, ExportFormat, Outcome, SampleRequest};
use crate::preset::{FORMAT, Preset};
use crate::recipe::{Recipe, TextSource};
use crate::store::{Level, curves_csv};

/// More is not seen, and recording attention takes time from training.
const ATTENTION_PER_SEC: f64 = 10.0;
const ZOOM_STEP: f32 = 0.1;

impl App {
    /// Does what a panel asks for. The only place where the window's own state changes.
    pub fn apply(&mut self, action: Action) {
        match action {
            Action::Train => self.train(),
            Action::Pause => self.send(Command::Pause),
            Action::StepOnce => self.step_once(),
            Action::Reset => self.end_run(AfterEnd::Clear),
            Action::Checkpoint => self.send(Command::Checkpoint),
            Action::Rollback => {
                self.rolled_back = true;
                self.send(Command::Rollback);
            }
            Action::OpenRun(path) => self.end_run(AfterEnd::Open(path)),
            Action::SetProbe(text) => {
                let mut recipe = self.draft.recipe.clone();
                recipe.data.probe = text;
                self.edit(recipe);
            }
            Action::Sample(settings) => self.sample(*settings),
            Action::StopSampling => self.send(Command::StopSampling),
            Action::EditRecipe(recipe) => self.edit(*recipe),
            Action::EditSampling(sampling) => self.draft.recipe.sampling = *sampling,
            Action::UsePreset(preset) => {
                self.draft.name.clone_from(&preset.name);
                self.draft.title.clone_from(&preset.title);
                self.edit(preset.recipe);
            }
            Action::SetDevice(device) => self.settings.device = device,
            Action::Pick(purpose) => self.pick(purpose),
            Action::OpenPath(purpose, path) => self.path_chosen(purpose, path),
            Action::OverlayRun(path) => self.ask(Job::ReadCurves(path)),
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
            Action::TogglePane(pane) => self.layout.show(pane, !self.layout.is_shown(pane)),
            Action::LookAt(path) => self.ask(Job::Look(path)),
            Action::ClosePicker => self.picker = None,
            Action::Quit => {
                if !self.close_requested() {
                    self.closing = Closing::Now;
                }
            }
            Action::SaveAndQuit => self.save_and_close(),
            Action::KeepOpen => self.closing = Closing::No,
        }
        // What changed is written a little later.
        self.ctx.request_repaint_after(std::time::Duration::from_millis(2200));
    }

    fn send(&mut self, command: Command) {
        let taken = self.run.as_ref().is_none_or(|run| run.handle.send(command));
        if !taken {
            self.store.note(Level::Warning, "the run is busy and did not take the command; try again");
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
        self.send(Command::Step);
    }

    fn start_new(&mut self, paused: bool) {
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
        self.start(Origin::New { recipe, place }, paused, false);
    }

    fn start(&mut self, origin: Origin, start_paused: bool, opened: bool) {
        self.store.clear();
        self.rolled_back = false;
        let device = self.settings.device.clone();
        let spec = RunSpec { origin, device, stop_at: None, start_paused, attention_per_sec: ATTENTION_PER_SEC };
        let handle = RunHandle::start(spec, self.wake.clone());
        self.run = Some(ActiveRun { handle, opened, ending: None });
    }

    /// Asks the run to stop and does the rest once it has; at once when there is none.
    fn end_run(&mut self, then: AfterEnd) {
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
            AfterEnd::Clear => self.store.clear(),
            AfterEnd::Open(folder) => self.start(Origin::Open { folder }, true, true),
            AfterEnd::Close => self.closing = Closing::Now,
        }
    }

    pub(super) fn run_is_ready(&mut self, recipe: Recipe, folder: PathBuf) {
        if self.run.as_ref().is_some_and(|run| run.opened) {
            self.draft.name.clear();
            self.draft.title = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
            self.draft.recipe = recipe;
            self.read_text();
        }
        remember(&mut self.settings.recent_runs, &folder);
    }

    pub(super) fn run_has_ended(&mut self) {
        // The thread is done or about to be: dropping the handle waits for nothing.
        let failed = matches!(self.store.outcome, Some(Outcome::Failed(_)));
        match self.run.take().and_then(|run| run.ending) {
            // What went wrong is read before the window goes.
            Some(AfterEnd::Close) if failed => self.closing = Closing::No,
            Some(then) => self.after_end(then),
            None => {}
        }
    }

    /// The window is to be closed; true when that has to wait.
    pub(super) fn close_requested(&mut self) -> bool {
        match (self.closing, self.phase()) {
            (Closing::Now | Closing::Saving, _) | (_, Phase::Idle) => return false,
            (_, Phase::Training | Phase::Preparing) => self.closing = Closing::Asking,
            (_, Phase::Paused | Phase::Completed | Phase::Ending) => self.save_and_close(),
        }
        true
    }

    fn save_and_close(&mut self) {
        self.closing = Closing::Saving;
        self.end_run(AfterEnd::Close);
    }

    fn sample(&mut self, settings: crate::recipe::SamplingRecipe) {
        if self.run.is_none() {
            return;
        }
        self.samples += 1;
        let id = self.samples;
        self.store.sample_started(id);
        self.draft.recipe.sampling = settings.clone();
        self.send(Command::Sample(SampleRequest { id, settings }));
    }

    /// A new draft. What the running model can take over it takes at once.
    fn edit(&mut self, recipe: Recipe) {
        let old = std::mem::replace(&mut self.draft.recipe, recipe);
        let new = &self.draft.recipe;
        let (rate, probe) = (new.training.learning_rate, new.data.probe.clone());
        let rate_fits = rate > 0.0 && rate <= 1.0 && rate != old.training.learning_rate;
        let text_changed = new.data.text != old.data.text;
        if self.run.is_some() {
            if rate_fits {
                self.send(Command::SetLearningRate(rate));
            }
            if probe != old.data.probe && !probe.is_empty() {
                self.send(Command::SetProbe(probe));
            }
        }
        if text_changed {
            self.read_text();
        }
    }

    /// Has the draft's text counted.
    pub(super) fn read_text(&mut self) {
        self.draft.text = TextState::Reading { done_bytes: 0, total_bytes: 0 };
        self.draft.candidate = None;
        self.ask(Job::ScanText(self.draft.recipe.data.text.clone()));
    }

    fn zoom(&mut self, zoom: f32) {
        self.settings.zoom = ((zoom * 10.0).round() / 10.0).clamp(0.5, 3.0);
        self.ctx.set_zoom_factor(self.settings.zoom);
    }

    fn pick(&mut self, purpose: PickPurpose) {
        let recent = match purpose {
            PickPurpose::OpenText => self.settings.recent_texts.clone(),
            PickPurpose::OpenRun | PickPurpose::OverlayRun => self.settings.recent_runs.clone(),
            _ => Vec::new(),
        };
        let folder = self.settings.folder.clone().or_else(|| std::env::current_dir().ok()).unwrap_or_default();
        let run = self.store.ready.as_ref().and_then(|ready| ready.folder.file_name());
        let run = run.map_or_else(|| "run".to_owned(), |name| name.to_string_lossy().into_owned());
        let name = match purpose {
            PickPurpose::OpenText | PickPurpose::OpenPreset | PickPurpose::OpenRun | PickPurpose::OverlayRun => {
                String::new()
            }
            PickPurpose::SavePreset => format!("{}.ron", slug(&self.draft.name)),
            PickPurpose::Export(ExportFormat::Checkpoint) => format!("{run}-checkpoint"),
            PickPurpose::Export(ExportFormat::Safetensors) => format!("{run}-safetensors"),
            PickPurpose::SaveCurves => format!("{run}-curves.csv"),
            PickPurpose::SaveLossPicture => format!("{run}-loss.png"),
        };
        // Joining an empty name leaves the separator that one goes on typing after.
        self.picker = Some(PathDialog::new(purpose, &folder.join(name), recent));
    }

    fn path_chosen(&mut self, purpose: PickPurpose, path: PathBuf) {
        self.picker = None;
        match purpose {
            PickPurpose::OpenText => {
                let source = TextSource::File(path);
                self.draft.candidate = Some(Candidate { source: source.clone(), done_bytes: 0, total_bytes: 0 });
                self.ask(Job::ScanText(source));
            }
            PickPurpose::OpenPreset => self.ask(Job::OpenPreset(path)),
            PickPurpose::OpenRun => self.end_run(AfterEnd::Open(path)),
            PickPurpose::OverlayRun => self.ask(Job::ReadCurves(path)),
            PickPurpose::Export(format) => {
                self.remember_folder(&path);
                self.send(Command::Export { format, path });
            }
            PickPurpose::SavePreset => {
                let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                let known = self.presets.iter().find(|preset| preset.name == self.draft.name);
                let commentary = known.map_or_else(String::new, |preset| preset.commentary.clone());
                let recipe = self.draft.recipe.clone();
                let preset = Preset { format: FORMAT, name: slug(&stem), title: stem, commentary, recipe };
                self.ask(Job::SavePreset { path, preset: Box::new(preset) });
            }
            PickPurpose::SaveCurves => {
                let store = self.store.clone();
                let contents = Box::new(move || Ok(curves_csv(&store).into_bytes()));
                self.ask(Job::WriteFile { path, contents, what: "curves".into() });
            }
            PickPurpose::SaveLossPicture => match self.layout.rect(Pane::Loss) {
                Some(rect) => picture::request(&self.ctx, rect, path, self.pictures.0.clone()),
                None => self.store.note(Level::Warning, "the loss pane is hidden: show it, then save its picture"),
            },
        }
    }

    /// Takes an answer of the file desk's.
    pub(super) fn desk_done(&mut self, done: Done) {
        match done {
            Done::Scanning { source, done_bytes, total_bytes } => {
                if self.draft.candidate.as_ref().is_some_and(|candidate| candidate.source == source) {
                    self.draft.candidate = Some(Candidate { source, done_bytes, total_bytes });
                } else if source == self.draft.recipe.data.text {
                    self.draft.text = TextState::Reading { done_bytes, total_bytes };
                }
            }
            Done::Scanned { source, result: Ok(summary) } => {
                if let TextSource::File(path) = &source {
                    remember(&mut self.settings.recent_texts, path);
                    self.remember_folder(path);
                }
                if self.draft.candidate.take().is_some_and(|candidate| candidate.source == source) {
                    self.draft.take_text(source, summary);
                } else if source == self.draft.recipe.data.text {
                    self.draft.text = TextState::Known(Box::new(summary));
                }
            }
            Done::Scanned { source, result: Err(why) } => {
                self.store.note(Level::Error, &why);
                self.draft.candidate = None;
                if source == self.draft.recipe.data.text {
                    self.draft.text = TextState::Failed(why);
                } else if !matches!(self.draft.text, TextState::Known(_)) {
                    // The newer scan had ended the one of the draft's own text.
                    self.read_text();
                }
            }
            Done::PresetOpened { path, result: Ok(preset) } => {
                self.remember_folder(&path);
                let preset = self.add_preset(*preset);
                self.store.note(Level::Info, format!("opened the preset {}", path.display()));
                self.apply(Action::UsePreset(Box::new(preset)));
            }
            Done::CurvesRead { path, result: Ok(curves) } => {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
                self.overlays.retain(|overlay| overlay.path != path);
                self.overlays.push(Overlay::new(name, path, &curves.steps, &curves.validations));
            }
            Done::Written { what, path, result: Ok(()) } => {
                self.remember_folder(&path);
                self.store.note(Level::Info, format!("saved {what}: {}", path.display()));
            }
            Done::PresetOpened { result: Err(why), .. }
            | Done::CurvesRead { result: Err(why), .. }
            | Done::Written { result: Err(why), .. } => self.store.note(Level::Error, why),
            Done::Adapters(found) => self.adapters = Some(found.unwrap_or_default()),
            Done::SettingsFailed(why) => self.store.note(Level::Warning, format!("the settings were not saved: {why}")),
            Done::Looked { path, kind } => self.looked(path, kind),
        }
    }

    /// Where a file was, the next one is looked for.
    fn remember_folder(&mut self, path: &Path) {
        if let Some(folder) = path.parent().filter(|folder| folder.is_absolute()) {
            self.settings.folder = Some(folder.to_path_buf());
        }
    }

    /// A preset of the same name is replaced, but a built-in one keeps its name for itself.
    fn add_preset(&mut self, mut preset: Preset) -> Preset {
        if crate::preset::find(&preset.name).is_some_and(|own| own != preset) {
            preset.name = format!("{}-file", preset.name);
        }
        self.presets.retain(|known| known.name != preset.name);
        self.presets.push(preset.clone());
        preset
    }

    fn looked(&mut self, path: PathBuf, kind: PathKind) {
        let before = self.dropped.len();
        self.dropped.retain(|dropped| *dropped != path);
        if self.dropped.len() < before {
            let preset = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("ron"));
            let purpose = match kind {
                PathKind::Run => PickPurpose::OpenRun,
                PathKind::File if preset => PickPurpose::OpenPreset,
                _ => PickPurpose::OpenText,
            };
            self.path_chosen(purpose, path);
        } else if let Some(picker) = &mut self.picker {
            picker.looked_at(path, kind);
        }
    }
}
