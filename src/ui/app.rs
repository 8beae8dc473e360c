//! The window as a whole: what it holds, what it takes in each frame, how it is painted. What the user's wishes change
//! is in `apply`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use eframe::egui::{
    self, Align2, CentralPanel, Color32, Context, Frame, Id, Key, LayerId, Margin, Modal, Order, Panel, TextStyle, Ui,
};

use super::actions::Action;
use super::attention_view::AttentionView;
use super::dialogs::PathDialog;
use super::draft::Draft;
use super::layout::{Layout, Pane};
use super::loss_view::{LossView, Overlay};
use super::menus::{self, MenuState, Phase, Situation};
use super::notices::{self, Notices};
use super::picture::Picture;
use super::recipe_panel::{self, RecipeState};
use super::sample_view::SampleView;
use super::settings::{Loaded, Settings};
use super::theme;
use super::transport::{self, TransportState};
use crate::lab::desk::{Adapter, Desk, Job};
use crate::lab::handle::{RunHandle, Wake};
use crate::lab::protocol::{Command, DeviceChoice, Event, RunState};
use crate::preset::{self, Preset};
use crate::recipe::{Fault, Recipe};
use crate::store::{Level, RunStore};

/// How often the settings are looked at, and written if they changed.
const SETTINGS_INTERVAL: Duration = Duration::from_secs(2);
/// How long the end of the program waits for files that are still being written.
const FINISH_LIMIT: Duration = Duration::from_secs(3);
/// Events taken in one frame: more would make the frame late, the rest comes with the next.
const EVENTS_PER_FRAME: usize = 512;

/// What the window starts with.
#[derive(Debug, Clone, Default)]
pub struct AppOptions {
    pub settings: Loaded,
    /// Asked for on the command line; else the remembered choice.
    pub device: Option<DeviceChoice>,
    /// A run folder to open at once.
    pub open: Option<PathBuf>,
    /// Where new runs are kept instead of among the user's runs: for tests and pictures.
    pub runs_root: Option<PathBuf>,
}

/// The run that is there.
#[derive(Debug)]
pub(super) struct ActiveRun {
    pub handle: RunHandle,
    /// Opened from its folder: the draft becomes its recipe.
    pub opened: bool,
    /// Asked to stop, and what comes after.
    pub ending: Option<AfterEnd>,
}

/// What is done once a run has ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum AfterEnd {
    /// The curves go, the next Train starts anew.
    Clear,
    Open(PathBuf),
    Close,
}

/// Where the closing of the window stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Closing {
    #[default]
    No,
    Asking,
    /// The run is being saved; the window closes after it.
    Saving,
    Now,
}

/// The window.
pub struct App {
    pub(super) ctx: Context,
    pub(super) wake: Wake,
    pub(super) store: RunStore,
    pub(super) run: Option<ActiveRun>,
    pub(super) desk: Option<Desk>,
    pub(super) draft: Draft,
    pub(super) presets: Vec<Preset>,
    pub(super) adapters: Option<Vec<Adapter>>,
    pub(super) settings: Settings,
    pub(super) settings_path: Option<PathBuf>,
    settings_written: Settings,
    settings_looked: Instant,
    pub(super) layout: Layout,
    pub(super) overlays: Vec<Overlay>,
    loss_view: LossView,
    attention_view: AttentionView,
    sample_view: SampleView,
    notices: Notices,
    pub(super) picker: Option<PathDialog>,
    /// Pictures of the window, on their way to the desk.
    pub(super) pictures: (Sender<Picture>, Receiver<Picture>),
    pub(super) dropped: Vec<PathBuf>,
    pub(super) shortcuts_shown: bool,
    pub(super) about_shown: bool,
    pub(super) closing: Closing,
    pub(super) rolled_back: bool,
    pub(super) samples: u64,
    pub(super) runs_root: Option<PathBuf>,
    pub(super) runs_started: u64,
}

impl App {
    /// Makes the window's contents; needs no window, so that tests and pictures can have the real thing.
    #[must_use]
    pub fn new(ctx: &Context, options: AppOptions) -> Self {
        let Loaded { mut settings, path, notice } = options.settings;
        theme::install(ctx, settings.theme);
        ctx.set_zoom_factor(settings.zoom);
        // Zooming is one of the window's own commands.
        ctx.options_mut(|options| options.zoom_with_keyboard = false);
        if let Some(device) = options.device {
            settings.device = device;
        }
        let wake: Wake = {
            let ctx = ctx.clone();
            Arc::new(move || ctx.request_repaint())
        };
        let desk = Desk::start(Arc::clone(&wake));
        let presets = preset::built_in();
        let draft = Draft::remembered(settings.draft.take(), &settings.preset, &presets);
        let layout = std::mem::take(&mut settings.layout).checked();
        let mut app = Self {
            ctx: ctx.clone(),
            wake,
            store: RunStore::default(),
            run: None,
            desk: Some(desk),
            draft,
            presets,
            adapters: None,
            settings,
            settings_path: path,
            settings_written: Settings::default(),
            settings_looked: Instant::now(),
            layout,
            overlays: Vec::new(),
            loss_view: LossView::default(),
            attention_view: AttentionView::default(),
            sample_view: SampleView::default(),
            notices: Notices::default(),
            picker: None,
            pictures: bounded(4),
            dropped: Vec::new(),
            shortcuts_shown: false,
            about_shown: false,
            closing: Closing::No,
            rolled_back: false,
            samples: 0,
            runs_root: options.runs_root,
            runs_started: 0,
        };
        app.settings_written = app.settings_now();
        if let Some(notice) = notice {
            app.store.note(Level::Warning, notice);
        }
        app.ask(Job::ListAdapters);
        app.read_text();
        if let Some(folder) = options.open {
            app.apply(Action::OpenRun(folder));
        }
        app
    }

    /// What is known of the run.
    #[must_use]
    pub fn store(&self) -> &RunStore {
        &self.store
    }

    /// The recipe that the next run is made from.
    #[must_use]
    pub fn draft(&self) -> &Recipe {
        &self.draft.recipe
    }

    /// Whether the draft's text has been looked through, so that its vocabulary is known.
    #[must_use]
    pub fn text_is_read(&self) -> bool {
        self.draft.vocabulary().is_some()
    }

    pub(super) fn ask(&mut self, job: Job) {
        if !self.desk.as_ref().is_some_and(|desk| desk.ask(job)) {
            self.store.note(Level::Error, "too much file work is waiting; try again in a moment");
        }
    }

    pub(super) fn phase(&self) -> Phase {
        let Some(run) = &self.run else { return Phase::Idle };
        match self.store.state {
            _ if run.ending.is_some() => Phase::Ending,
            None | Some(RunState::Preparing) => Phase::Preparing,
            Some(RunState::Training) => Phase::Training,
            Some(RunState::Paused) => Phase::Paused,
            Some(RunState::Completed) => Phase::Completed,
        }
    }

    fn situation(&self) -> Situation {
        Situation {
            phase: self.phase(),
            hindrance: self.draft.hindrance(),
            has_curve: !self.store.loss.is_empty(),
            sampling: Some(self.draft.recipe.sampling.clone()),
        }
    }

    /// Takes in what the worker and the desk have to tell. Paints nothing and is called while the window is hidden too.
    fn take_in(&mut self, ctx: &Context) {
        self.take_events();
        while let Some(done) = self.desk.as_ref().and_then(Desk::try_next) {
            self.desk_done(done);
        }
        while let Ok(picture) = self.pictures.1.try_recv() {
            let path = picture.path.clone();
            self.ask(Job::WriteFile { path, contents: Box::new(move || picture.png()), what: "picture".into() });
        }
        if let Some(action) = self.picker.as_mut().and_then(PathDialog::poll) {
            self.apply(action);
        }
        self.look_after_settings(ctx);
        if ctx.input(|input| input.viewport().close_requested()) && self.close_requested() {
            ctx.send_viewport_cmd(egui::ViewportCommand::CancelClose);
        }
        if self.closing == Closing::Now {
            ctx.send_viewport_cmd(egui::ViewportCommand::Close);
        }
    }

    fn take_events(&mut self) {
        for taken in 0.. {
            let Some(event) = self.run.as_ref().and_then(|run| run.handle.try_next()) else { break };
            let finished = matches!(event, Event::Finished(_));
            match &event {
                Event::Ready(report) => self.run_is_ready(report.recipe.clone(), report.folder.clone()),
                Event::Diverged { .. } => self.rolled_back = false,
                _ => {}
            }
            self.store.apply(event);
            if finished {
                return self.run_has_ended();
            }
            if taken == EVENTS_PER_FRAME {
                self.ctx.request_repaint();
                break;
            }
        }
        if let Some(run) = &self.run {
            if let Some(snapshot) = run.handle.take_attention() {
                self.store.apply_attention(snapshot);
            }
            // A full channel may have refused the wish to stop.
            if run.ending.is_some() {
                run.handle.send(Command::Stop);
            }
        }
    }

    /// The settings as they are now, layout and draft included.
    pub(super) fn settings_now(&self) -> Settings {
        Settings {
            draft: Some(self.draft.recipe.clone()),
            preset: self.draft.name.clone(),
            layout: self.layout.clone(),
            ..self.settings.clone()
        }
    }

    fn look_after_settings(&mut self, ctx: &Context) {
        if self.settings_looked.elapsed() < SETTINGS_INTERVAL {
            return;
        }
        self.settings_looked = Instant::now();
        let inner = ctx.input(|input| input.viewport().inner_rect);
        if let Some(inner) = inner {
            let size = inner.size() * ctx.zoom_factor();
            self.settings.window = Some((size.x.round(), size.y.round()));
        }
        self.write_settings();
    }

    fn write_settings(&mut self) {
        let Some(path) = self.settings_path.clone() else { return };
        let settings = self.settings_now();
        if settings != self.settings_written {
            self.ask(Job::SaveSettings { path, text: settings.to_ron() });
            self.settings_written = settings;
        }
    }

    fn bars(&self, ui: &mut Ui, situation: &Situation) -> Vec<Action> {
        let mut actions = Vec::new();
        let panel = Frame::new().fill(ui.visuals().panel_fill).inner_margin(Margin::symmetric(10, 5));
        Panel::top("menus").frame(panel).show_separator_line(false).show(ui, |ui| {
            let state = MenuState {
                situation,
                theme: self.settings.theme,
                layout: &self.layout,
                recent_texts: &self.settings.recent_texts,
                recent_runs: &self.settings.recent_runs,
            };
            actions.extend(menus::bar(ui, &state, |ui, actions| {
                transport::device_ui(ui, &self.store, &self.settings.device, self.adapters.as_deref(), actions);
            }));
        });
        let panel = panel.inner_margin(Margin { left: 10, right: 10, top: 4, bottom: 10 });
        Panel::top("transport").frame(panel).show_separator_line(false).show(ui, |ui| {
            let can_reopen = self.store.ready.is_some();
            let diverged = self.store.diverged.as_deref().filter(|_| !self.rolled_back);
            let state =
                TransportState { store: &self.store, situation, draft: &self.draft.recipe, can_reopen, diverged };
            actions.extend(transport::ui(ui, &state));
        });
        actions
    }

    fn panes(&mut self, ui: &mut Ui, faults: &[Fault], phase: Phase) -> Vec<Action> {
        let mut actions = Vec::new();
        let Self {
            store, draft, presets, settings, layout, loss_view, attention_view, sample_view, run, overlays, ..
        } = self;
        let run_recipe = store.ready.as_ref().filter(|_| run.is_some()).map(|ready| &ready.recipe);
        let view = &settings.view;
        let head_title = match store.attention {
            Some(_) => format!("Layer {} · Head {}", view.selected.layer + 1, view.selected.head + 1),
            None => Pane::Head.title().to_owned(),
        };
        let can_sample = matches!(phase, Phase::Training | Phase::Paused | Phase::Completed);
        layout.ui(ui, &head_title, &mut |pane, ui| {
            actions.extend(match pane {
                Pane::Recipe => {
                    let recent_texts = &settings.recent_texts;
                    recipe_panel::ui(ui, &RecipeState { draft, presets, faults, run: run_recipe, recent_texts })
                }
                Pane::Loss => loss_view.ui(ui, store, view, overlays),
                Pane::Heads => attention_view.grid_ui(ui, store, view, &draft.recipe.data.probe),
                Pane::Head => attention_view.head_ui(ui, store, view),
                Pane::Sample => sample_view.ui(ui, store, &draft.recipe.sampling, can_sample),
                Pane::Log => notices::log_ui(ui, store),
            });
        });
        actions
    }

    /// Windows above the panes.
    fn windows(&mut self, ctx: &Context) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.shortcuts_shown {
            actions.extend(menus::shortcuts_window(ctx));
        }
        if self.about_shown {
            actions.extend(menus::about_window(ctx));
        }
        if let Some(picker) = &mut self.picker {
            actions.extend(picker.ui(ctx, &self.wake));
        }
        match self.closing {
            Closing::Asking => {
                Modal::new(Id::unique("closing")).show(ctx, |ui| {
                    ui.set_width(380.0);
                    ui.label(theme::heading("The model is still training."));
                    ui.label("It is saved before the window closes, and can be opened again to go on.");
                    ui.add_space(8.0);
                    ui.horizontal(|ui| {
                        let (enter, escape) =
                            ui.input(|input| (input.key_pressed(Key::Enter), input.key_pressed(Key::Escape)));
                        if ui.button("Save and quit").on_hover_text("Enter").clicked() || enter {
                            actions.push(Action::SaveAndQuit);
                        }
                        if ui.button("Go on training").on_hover_text("Escape").clicked() || escape {
                            actions.push(Action::KeepOpen);
                        }
                    });
                });
            }
            Closing::Saving => {
                Modal::new(Id::unique("closing")).show(ctx, |ui| {
                    ui.set_width(380.0);
                    ui.label(theme::heading("Saving the run…"));
                    ui.label("The window closes when it is whole.");
                });
            }
            Closing::No | Closing::Now => {}
        }
        actions
    }

    fn take_dropped_files(&mut self, ctx: &Context) {
        let (hovering, dropped) =
            ctx.input_mut(|input| (!input.raw.hovered_files.is_empty(), std::mem::take(&mut input.raw.dropped_files)));
        for path in dropped.into_iter().map(|file| file.path().to_path_buf()) {
            self.dropped.push(path.clone());
            self.ask(Job::Look(path));
        }
        if hovering {
            let painter = ctx.layer_painter(LayerId::new(Order::Foreground, Id::unique("drop")));
            let rect = ctx.content_rect();
            let style = ctx.global_style();
            painter.rect_filled(rect, 0.0, Color32::from_black_alpha(150));
            let font = TextStyle::Heading.resolve(&style);
            let words = "Drop a text to learn from, a preset (.ron) or a run's folder";
            painter.text(rect.center(), Align2::CENTER_CENTER, words, font, Color32::WHITE);
        }
    }
}

impl eframe::App for App {
    fn logic(&mut self, ctx: &Context, _frame: &mut eframe::Frame) {
        self.take_in(ctx);
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        let ctx = ui.ctx().clone();
        let mut actions = Vec::new();
        let situation = self.situation();
        if self.picker.is_none() && self.closing == Closing::No {
            actions.extend(menus::keys(&ctx, &situation));
        }
        let faults = self.draft.faults();
        actions.extend(self.bars(ui, &situation));
        let backdrop = Frame::new().fill(theme::backdrop(ui.visuals())).inner_margin(Margin::same(6));
        CentralPanel::default().frame(backdrop).show(ui, |ui| {
            actions.extend(self.panes(ui, &faults, situation.phase));
        });
        actions.extend(self.windows(&ctx));
        self.take_dropped_files(&ctx);
        for action in actions {
            self.apply(action);
        }
        let now = ctx.input(|input| input.time);
        self.notices.collect(&self.store, now);
        self.notices.ui(&ctx);
    }

    fn on_exit(&mut self) {
        self.write_settings();
        if let Some(desk) = self.desk.take() {
            desk.finish(FINISH_LIMIT);
        }
    }

    fn clear_color(&self, visuals: &egui::Visuals) -> [f32; 4] {
        theme::backdrop(visuals).to_normalized_gamma_f32()
    }
}

#[cfg(test)]
mod tests;
