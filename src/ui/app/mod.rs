//! The window as a whole: what it holds, what it takes in each frame, how it is painted. What the user's wishes change
//! is in `apply`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use eframe::egui::{
    self, Align2, CentralPanel, Color32, Context, Frame, Id, LayerId, Margin, Order, Panel, TextStyle, Ui,
};

use super::accessible::SendableText;
use super::actions::Action;
use super::termination::Termination;
use crate::findings::nanogpt;
use crate::lab::file_worker::{Adapter, Desk, Job};
use crate::preset::{self, Preset};
use crate::protocol::{
    AttentionSnapshot, Command, DeviceChoice, Event, HeadId, Look, Origin, RunState, View, Wake, Wants,
};
use crate::recipe::{Fault, Recipe};
use crate::store::{Level, RunStore};
use crate::ui::actions::Pane;
use crate::ui::actions::commands::{self, Phase, Situation};
use crate::ui::app::dialogs::PathDialog;
use crate::ui::app::layout::Layout;
use crate::ui::app::menu_bar::MenuState;
use crate::ui::app::open_run::{ActiveRun, Closing};
use crate::ui::app::question::Question;
use crate::ui::app::settings::{Loaded, Settings};
use crate::ui::inspect::attention_view::{AttentionState, AttentionView};
use crate::ui::inspect::findings::found;
use crate::ui::inspect::lens_view::LensView;
use crate::ui::inspect::roles_view::RolesView;
use crate::ui::inspect::tokens_view::TokensView;
use crate::ui::recipe::architecture_view;
use crate::ui::recipe::draft::{Draft, file_name};
use crate::ui::recipe::recipe_panel::{self, OpenedRun, RecipeState};
use crate::ui::run::loss_view::LossView;
use crate::ui::run::notices::{self, Notices};
use crate::ui::run::parity::{self as run_parity, Parity};
use crate::ui::run::timeline::{self, TimelineView};
use crate::ui::run::transport::{self, TransportState};
use crate::ui::sample::sample_view::SampleView;
use crate::ui::widgets::overlay::Overlay;
use crate::ui::widgets::picture::Picture;
use crate::ui::widgets::theme;

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
    /// Whether the system asks the program to end.
    pub termination: Termination,
    /// Where new runs are kept instead of among the user's runs: for tests and pictures.
    pub runs_root: Option<PathBuf>,
}

/// How a run was started, to start it again.
#[derive(Debug, Clone)]
pub(super) struct Start {
    pub origin: Origin,
    pub paused: bool,
    pub opened: bool,
    /// One step was asked for.
    pub steps_once: bool,
    /// Also where memory is tight.
    pub despite_memory: bool,
}

/// The window.
pub struct App {
    pub(super) ctx: Context,
    pub(super) wake: Wake,
    pub(super) store: RunStore,
    pub(super) run: Option<ActiveRun>,
    /// How the newest run was started.
    pub(super) started: Option<Start>,
    pub(super) desk: Option<Desk>,
    pub(super) draft: Draft,
    pub(super) presets: Vec<Preset>,
    pub(super) adapters: Option<Vec<Adapter>>,
    /// Asked for on the command line: not remembered.
    pub(super) device: Option<DeviceChoice>,
    pub(super) settings: Settings,
    pub(super) settings_path: Option<PathBuf>,
    settings_written: Settings,
    settings_looked: Instant,
    pub(super) layout: Layout,
    pub(super) overlays: Vec<Overlay>,
    /// The run whose curve is being read because the open one was forked from it.
    pub(super) parent_awaited: Option<PathBuf>,
    /// What the views of the run show.
    pub(super) view: View,
    /// The views before each switch and cut, the newest last.
    pub(super) changed_before: Vec<View>,
    pub(super) timeline: TimelineView,
    roles_view: RolesView,
    loss_view: LossView,
    attention_view: AttentionView,
    pub(super) tokens_view: TokensView,
    pub(super) lens_view: LensView,
    sample_view: SampleView,
    notices: Notices,
    pub(super) picker: Option<PathDialog>,
    /// Pictures of the window, on their way to the desk.
    pub(super) pictures: (Sender<Picture>, Receiver<Picture>),
    pub(super) dropped: Vec<PathBuf>,
    /// A run that is to be opened if there is one.
    pub(super) opening: Option<PathBuf>,
    pub(super) question: Option<Question>,
    pub(super) shortcuts_shown: bool,
    pub(super) about_shown: bool,
    pub(super) closing: Closing,
    pub(super) termination: Termination,
    pub(super) parity: Parity,
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
        ctx.add_plugin(SendableText);
        ctx.set_zoom_factor(settings.zoom);
        // Zooming is one of the window's own commands.
        ctx.options_mut(|options| options.zoom_with_keyboard = false);
        let wake: Wake = {
            let ctx = ctx.clone();
            Arc::new(move || ctx.request_repaint())
        };
        let desk = Desk::start(Arc::clone(&wake));
        let presets = preset::built_in();
        let draft = Draft::remembered(settings.draft.take(), &settings.preset, &settings.title);
        let layout = std::mem::take(&mut settings.layout).checked();
        let mut app = Self {
            ctx: ctx.clone(),
            wake,
            store: RunStore::default(),
            run: None,
            started: None,
            desk: Some(desk),
            draft,
            presets,
            adapters: None,
            device: options.device,
            settings,
            settings_path: path,
            settings_written: Settings::default(),
            settings_looked: Instant::now(),
            layout,
            overlays: Vec::new(),
            parent_awaited: None,
            view: View::default(),
            changed_before: Vec::new(),
            timeline: TimelineView::default(),
            roles_view: RolesView::default(),
            loss_view: LossView::default(),
            attention_view: AttentionView::default(),
            tokens_view: TokensView::default(),
            lens_view: LensView::default(),
            sample_view: SampleView::default(),
            notices: Notices::default(),
            picker: None,
            pictures: bounded(4),
            dropped: Vec::new(),
            opening: None,
            question: None,
            shortcuts_shown: false,
            about_shown: false,
            closing: Closing::No,
            termination: options.termination,
            parity: Parity::default(),
            samples: 0,
            runs_root: options.runs_root,
            runs_started: 0,
        };
        app.settings_written = app.settings_now();
        if let Some(notice) = notice {
            app.store.note(Level::Warning, notice);
        }
        app.ask(Job::ClearAbandoned { root: app.runs_root.clone() });
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
            waiting: self.draft.is_waiting(),
            blocked: self.store.ready.as_ref().and_then(|ready| ready.blocked.clone()),
            has_curve: !self.store.loss.is_empty(),
            found: found(&self.store),
            is_parity_run: self.run.is_some() && self.store.ready.as_ref().is_some_and(nanogpt::is_reference_run),
            sampling: self.recipe_on_screen().sampling.clone(),
            has_kept: self.run.is_some() && !self.store.kept.is_empty(),
            can_undo: !self.changed_before.is_empty(),
        }
    }

    /// The run's, as long as there is one.
    fn recipe_on_screen(&self) -> &Recipe {
        self.run.as_ref().map_or(&self.draft.recipe, |run| &run.recipe)
    }

    pub(super) fn device(&self) -> &DeviceChoice {
        self.device.as_ref().unwrap_or(&self.settings.device)
    }

    /// Takes in what the worker and the desk have to tell. Paints nothing and is called while the window is hidden too.
    fn take_in(&mut self, ctx: &Context) {
        self.take_events();
        while let Some(done) = self.desk.as_ref().and_then(Desk::try_next) {
            self.desk_done(done);
        }
        while let Ok(picture) = self.pictures.1.try_recv() {
            self.picture_taken(picture);
        }
        if let Some(action) = self.picker.as_mut().and_then(PathDialog::poll) {
            self.apply(action);
        }
        self.look_after_settings(ctx);
        if self.termination.is_asked() {
            self.terminate();
        }
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
            if self.parity.started && matches!(event, Event::StateChanged(RunState::Completed)) {
                self.parity.shown = true;
                // What the verdict rests on.
                self.send(Command::EvaluateWhole);
            }
            if let Event::Ready(report) = &event {
                self.run_is_ready(report);
            }
            if let Event::FolderMoved { folder } = &event {
                self.run_has_moved(folder);
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
            if let Some(look) = run.handle.take_look() {
                let fault = |look: &Look| look.pinned.as_ref()?.as_ref().err().cloned();
                if let Some(why) = fault(&look)
                    && self.store.look.as_deref().and_then(fault).as_ref() != Some(&why)
                {
                    self.store.note(Level::Warning, why);
                }
                self.store.apply_look(look);
            }
            // A full channel may have refused the wish to stop.
            if run.ending.is_some() {
                run.handle.send(Command::Stop);
            }
        }
        self.hand_over();
    }

    /// The settings as they are now, layout and draft included.
    pub(super) fn settings_now(&self) -> Settings {
        Settings {
            draft: Some(self.draft.recipe.clone()),
            preset: self.draft.name.clone(),
            title: self.draft.title.clone(),
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

    /// What no pane in sight shows is not computed, and a step that is no longer kept is not shown.
    fn look_after_view(&mut self) {
        if self.run.is_none() || self.store.ready.is_none() {
            return;
        }
        let mut view = self.view.clone();
        let in_sight = |pane| self.layout.rect(pane).is_some();
        let lens = in_sight(Pane::Lens);
        let attribution = self.lens_view.target(&self.store).filter(|_| lens);
        let wants = Wants { lens, attribution, ..view.wants };
        view.wants = TokensView::wants(wants, &self.store, &self.settings.view, in_sight(Pane::Tokens));
        view.step = view.step.filter(|step| self.store.kept.binary_search(step).is_ok());
        if view != self.view {
            self.apply(Action::Look(Box::new(view)));
        }
    }

    /// Saves what there is, and waits for it.
    fn finish(&mut self) {
        // Still there if the window was taken away without asking.
        if let Some(run) = self.run.take() {
            run.handle.stop_and_wait();
        }
        if self.desk.is_some() {
            self.write_settings();
        }
        if let Some(desk) = self.desk.take() {
            desk.finish(FINISH_LIMIT);
        }
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
            actions.extend(menu_bar::bar(ui, &state, |ui, actions| {
                let (device, insist) = (self.device(), self.settings.insist);
                transport::device_ui(ui, &self.store, device, insist, self.adapters.as_deref(), actions);
            }));
        });
        let panel = panel.inner_margin(Margin { left: 10, right: 10, top: 4, bottom: 10 });
        Panel::top("transport").frame(panel).show_separator_line(false).show(ui, |ui| {
            let last_run = self.settings.recent_runs.first().map(PathBuf::as_path);
            let state = TransportState { store: &self.store, situation, draft: &self.draft.recipe, last_run };
            actions.extend(transport::ui(ui, &state));
        });
        actions
    }

    fn panes(&mut self, ui: &mut Ui, faults: &[Fault], phase: Phase) -> Vec<Action> {
        let mut actions = Vec::new();
        let Self {
            store,
            draft,
            presets,
            settings,
            layout,
            loss_view,
            attention_view,
            tokens_view,
            lens_view,
            sample_view,
            roles_view,
            changed_before,
            run,
            overlays,
            view: looked,
            ..
        } = self;
        let on_screen = run.as_ref().map_or(&draft.recipe, |run| &run.recipe);
        let apart = run.as_ref().is_some_and(|run| run.apart);
        let of_run = store.ready.as_ref().filter(|_| run.is_some());
        let run_recipe = of_run.filter(|_| !apart).map(|_| on_screen);
        let opened = of_run.filter(|_| apart).map(|ready| OpenedRun {
            name: file_name(&ready.folder),
            recipe: on_screen,
            vocabulary: ready.vocabulary,
        });
        let ready = store.ready.as_ref().map(|ready| ready.vocabulary);
        let vocabulary = draft.vocabulary_beside(run_recipe.zip(ready));
        let view = &settings.view;
        let head_title = head_title(store.attention.as_deref(), view.selected);
        let can_sample = matches!(phase, Phase::Training | Phase::Paused | Phase::Completed);
        let mut focus = None;
        let asked = layout.ui(ui, &head_title, &mut |pane, ui| {
            actions.extend(match pane {
                Pane::Recipe => {
                    let recent_texts = &settings.recent_texts;
                    let run = run_recipe;
                    let opened = opened.as_ref();
                    recipe_panel::ui(ui, &RecipeState { draft, vocabulary, presets, faults, run, opened, recent_texts })
                }
                Pane::Loss => loss_view.ui(ui, store, view, overlays, looked.step),
                Pane::Heads => {
                    let data = &on_screen.data;
                    let can_undo = !changed_before.is_empty();
                    attention_view.grid_ui(ui, &AttentionState { store, view, looked, can_undo }, data)
                }
                Pane::Head => attention_view.head_ui(ui, &AttentionState { store, view, looked, can_undo: false }),
                Pane::Tokens => tokens_view.ui(ui, store, view),
                Pane::Lens => lens_view.ui(ui, store, view),
                Pane::Roles => roles_view.ui(ui, store, view, looked),
                Pane::Architecture => {
                    match &opened {
                        Some(opened) => architecture_view::ui(ui, opened.recipe, Some(opened.vocabulary)),
                        None => architecture_view::ui(ui, &draft.recipe, vocabulary),
                    }
                    Vec::new()
                }
                Pane::Sample => {
                    let asked = sample_view.ui(ui, store, view, &on_screen.sampling, can_sample);
                    focus = sample_view.focus();
                    asked
                }
                Pane::Log => notices::log_ui(ui, store),
            });
        });
        if attention_view.set_focus(focus) {
            ui.ctx().request_repaint();
        }
        actions.extend(asked);
        actions
    }

    /// Windows above the panes.
    fn windows(&mut self, ctx: &Context) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.shortcuts_shown {
            actions.extend(menu_bar::shortcuts_window(ctx));
        }
        if self.about_shown {
            actions.extend(menu_bar::about_window(ctx));
        }
        if self.parity.shown {
            actions.extend(run_parity::ui(ctx, &self.parity, &self.store, self.recipe_on_screen()));
        }
        if let Some(picker) = &mut self.picker {
            actions.extend(picker.ui(ctx, &self.wake));
        }
        let phase = self.phase();
        if let Some(question) = &mut self.question {
            actions.extend(question.ui(ctx, phase));
        }
        if self.closing == Closing::Saving {
            question::saving_ui(ctx);
        }
        actions
    }

    /// Whether Space is for the widget that has focus. A head or the timeline has it for the arrows, and no use for Space.
    /// Heads are told from the switches above them by their size.
    fn space_clicks(&self, ctx: &Context) -> bool {
        let Some(focused) = ctx.memory(|memory| memory.focused()) else { return false };
        if focused == timeline::scrubber_id() {
            return false;
        }
        let Some(widget) = ctx.read_response(focused).map(|response| response.rect) else { return true };
        let mut panes = [Pane::Heads, Pane::Head].into_iter().filter_map(|pane| self.layout.rect(pane));
        !(widget.height() > 28.0 && panes.any(|pane| pane.intersects(widget)))
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

/// Also where the window system is gone before the window was closed.
impl Drop for App {
    fn drop(&mut self) {
        self.finish();
    }
}

fn head_title(snapshot: Option<&AttentionSnapshot>, selected: HeadId) -> String {
    let Some(snapshot) = snapshot else { return Pane::Head.title().to_owned() };
    // The choice may be of a larger model.
    let (layer, head) = (selected.layer + 1, selected.head + 1);
    format!("Layer {} · Head {}", layer.min(snapshot.layers), head.min(snapshot.heads))
}

impl eframe::App for App {
    fn logic(&mut self, ctx: &Context, _frame: &mut eframe::Frame) {
        self.take_in(ctx);
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        let ctx = ui.ctx().clone();
        let mut actions = Vec::new();
        let situation = self.situation();
        if self.picker.is_none() && self.question.is_none() && self.closing == Closing::No {
            actions.extend(commands::keys(&ctx, &situation, self.space_clicks(&ctx)));
        }
        let faults = self.draft.faults();
        actions.extend(self.bars(ui, &situation));
        let panel = Frame::new().fill(ui.visuals().panel_fill).inner_margin(Margin::symmetric(10, 5));
        if self.run.is_some() {
            Panel::bottom("timeline").frame(panel).show_separator_line(false).show(ui, |ui| {
                actions.extend(self.timeline.ui(ui, &self.store, &self.view));
            });
        }
        let backdrop = Frame::new().fill(theme::backdrop(ui.visuals())).inner_margin(Margin::same(6));
        let panes = CentralPanel::default().frame(backdrop).show(ui, |ui| {
            actions.extend(self.panes(ui, &faults, situation.phase));
        });
        actions.extend(self.windows(&ctx));
        self.take_dropped_files(&ctx);
        for action in actions {
            self.apply(action);
        }
        self.look_after_view();
        let now = ctx.input(|input| input.time);
        self.notices.collect(&self.store, now);
        self.notices.ui(&ctx, panes.response.rect);
    }

    fn on_exit(&mut self) {
        self.finish();
    }

    fn clear_color(&self, visuals: &egui::Visuals) -> [f32; 4] {
        theme::backdrop(visuals).to_normalized_gamma_f32()
    }
}

pub(super) mod answers;
pub(super) mod apply;
pub(super) mod dialogs;
pub(super) mod export;
pub(super) mod layout;
pub mod menu_bar;
pub(super) mod open_run;
pub(super) mod parity;
pub(super) mod question;
pub mod settings;
#[cfg(test)]
pub(super) mod tests;
