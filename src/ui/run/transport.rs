//! The bar on top: start, pause, step and reset a run, see how far it is, choose where it computes.

use std::path::Path;

use eframe::egui::{
    Align, Atom, Button, Color32, ComboBox, IdSalt, Label, Layout, Rect, Response, RichText, Role, Sense, Shape,
    Stroke, Ui, WidgetInfo, pos2, vec2,
};

use crate::lab::file_worker::Adapter;
use crate::protocol::{DeviceChoice, DeviceClass, Outcome};
use crate::recipe::{Recipe, TextSource, grouped};
use crate::store::RunStore;
use crate::ui::actions::commands::{MenuCommand, Phase, Situation};
use crate::ui::actions::{Action, PickPurpose};
use crate::ui::recipe::draft::file_name;
use crate::ui::widgets::theme;

/// Letters of a run's name that a button has room for.
const LAST_RUN_LETTERS: usize = 40;

/// What the bar shows.
pub struct TransportState<'a> {
    pub store: &'a RunStore,
    pub situation: &'a Situation,
    pub draft: &'a Recipe,
    /// The run that was open last.
    pub last_run: Option<&'a Path>,
}

/// The bar of buttons and progress.
pub fn ui(ui: &mut Ui, state: &TransportState<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.horizontal(|ui| {
        ui.spacing_mut().button_padding = vec2(12.0, 6.0);
        command(ui, MenuCommand::TrainOrPause, state, &mut actions);
        command(ui, MenuCommand::Step, state, &mut actions);
        command(ui, MenuCommand::Reset, state, &mut actions);
        ui.spacing_mut().button_padding = vec2(8.0, 3.0);
        ui.add_space(8.0);
        ui.vertical(|ui| {
            ui.spacing_mut().item_spacing.y = 4.0;
            ui.horizontal(|ui| {
                ui.set_min_height(22.0);
                ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                    if state.store.latest.is_some() {
                        speed(ui, state);
                    }
                    ui.with_layout(Layout::left_to_right(Align::Center), |ui| status(ui, state, &mut actions));
                });
            });
            progress(ui, state);
        });
    });
    actions
}

/// One of the large buttons. Train is the one that is lit.
fn command(ui: &mut Ui, command: MenuCommand, state: &TransportState<'_>, actions: &mut Vec<Action>) {
    let training = state.situation.phase == Phase::Training;
    let main = command == MenuCommand::TrainOrPause;
    let name = match (main, state.situation.phase) {
        (true, Phase::Training) => "Pause",
        (true, Phase::Paused) => "Go on",
        (true, _) => "Train",
        (false, _) => command.text(),
    };
    let action = command.action(state.situation);
    let lit = main && action.is_ok() && !training;
    let color = if lit { theme::on_accent(ui.visuals()) } else { ui.visuals().strong_text_color() };
    let text = if action.is_ok() { RichText::new(name).color(color) } else { RichText::new(name) };
    let icon = IdSalt::new("icon");
    let button =
        if main { Button::new((Atom::custom(icon, vec2(12.0, 12.0)), text.strong())) } else { Button::new(text) };
    // As wide for "Pause" and "Go on" as for "Train", so that nothing beside it moves.
    let mut button = button.min_size(vec2(if main { 96.0 } else { 0.0 }, 34.0));
    if lit {
        button = button.fill(theme::accent(ui.visuals()));
    }
    let shown = ui.add_enabled_ui(action.is_ok(), |ui| button.atom_ui(ui)).inner;
    if let Some(rect) = shown.rect(icon) {
        let color = if action.is_ok() { color } else { theme::muted(ui.visuals()) };
        if training { paint_pause(ui, rect, color) } else { paint_play(ui, rect, color) }
    }
    let key = command.keys().first().map(|key| ui.ctx().format_shortcut(key)).unwrap_or_default();
    let response = shown.response.on_hover_text(format!("{} ({key})", command.tip()));
    match action {
        Ok(action) if response.clicked() => actions.push(action),
        Ok(_) => {}
        Err(why) => {
            response.on_disabled_hover_text(why);
        }
    }
}

fn paint_play(ui: &Ui, rect: Rect, color: Color32) {
    let corners = vec![rect.left_top() + vec2(1.0, 0.0), rect.right_center(), rect.left_bottom() + vec2(1.0, 0.0)];
    ui.painter().add(Shape::convex_polygon(corners, color, Stroke::NONE));
}

fn paint_pause(ui: &Ui, rect: Rect, color: Color32) {
    for left in [rect.left() + 1.0, rect.right() - 4.5] {
        let bar = Rect::from_min_size(pos2(left, rect.top()), vec2(3.5, rect.height()));
        ui.painter().rect_filled(bar, 1.0, color);
    }
}

/// The words at the left: what the run is doing, or what stands in its way.
fn status(ui: &mut Ui, state: &TransportState<'_>, actions: &mut Vec<Action>) {
    let (store, phase) = (state.store, state.situation.phase);
    let warning = theme::warning(ui.visuals());
    match (phase, &store.outcome) {
        (Phase::Ending, _) => line(ui, RichText::new("Saving the run…")),
        (Phase::Preparing, _) => line(ui, RichText::new(store.preparing.as_deref().unwrap_or("preparing the run…"))),
        (Phase::Idle, Some(Outcome::Failed(why))) => {
            if let Some(ready) = &store.ready
                && ui.button("Open the run again").on_hover_text("Goes on from its last checkpoint.").clicked()
            {
                actions.push(Action::OpenRun(ready.folder.clone()));
            }
            line(ui, RichText::new(why).color(warning))
        }
        (Phase::Paused, _) if let Some(why) = &store.diverged => {
            let tip = "Takes model and optimizer back to the newest checkpoint.";
            if ui.button("Back to the last good checkpoint").on_hover_text(tip).clicked() {
                actions.push(Action::Rollback);
            }
            line(ui, RichText::new(why).color(warning))
        }
        (Phase::Paused, _) if let Some(why) = &store.folder_gone => {
            let tip = "The run's own folder where that lies now, or a new one, which gets all that is still known.";
            if ui.button("Save this run to another place…").on_hover_text(tip).clicked() {
                actions.push(Action::Pick(PickPurpose::SaveElsewhere));
            }
            line(ui, RichText::new(why).color(warning))
        }
        (Phase::Paused, _) if let Some(why) = &state.situation.blocked => {
            let of_file =
                store.ready.as_ref().is_some_and(|ready| matches!(ready.recipe.data.text, TextSource::File(_)));
            let tip = "Chooses the text that the run learned from: it may have been moved or renamed.";
            if of_file && ui.button("Where is it now?").on_hover_text(tip).clicked() {
                actions.push(Action::Pick(PickPurpose::MovedText));
            }
            line(ui, RichText::new(why).color(warning))
        }
        (Phase::Training, _) if let Some(preparing) = &store.preparing => line(ui, RichText::new(preparing)),
        (Phase::Completed, _) if state.situation.blocked.is_none() => {
            let tip = "Makes a longer run that goes on from this one's last step.";
            if ui.button("Go on with more steps…").on_hover_text(tip).clicked() {
                actions.push(Action::AskLonger);
            }
            step(ui, state)
        }
        (Phase::Idle, _) => {
            if let Some(run) = state.last_run {
                let name = file_name(run);
                let words = match name.char_indices().nth(LAST_RUN_LETTERS) {
                    Some((end, _)) => format!("Open the last run: {}…", &name[..end]),
                    None => format!("Open the last run: {name}"),
                };
                if ui.button(words).on_hover_text(run.display().to_string()).clicked() {
                    actions.push(Action::OpenRun(run.to_owned()));
                }
            }
            let muted = theme::muted(ui.visuals());
            let (words, color) = match &state.situation.hindrance {
                Some(why) => (why.as_str(), if state.situation.waiting { muted } else { warning }),
                None => ("No run yet. Train starts one from the recipe.", muted),
            };
            line(ui, RichText::new(words).color(color))
        }
        (Phase::Training | Phase::Paused | Phase::Completed, _) => step(ui, state),
    };
}

fn line(ui: &mut Ui, text: RichText) -> Response {
    ui.add(Label::new(text).truncate())
}

fn step(ui: &mut Ui, state: &TransportState<'_>) -> Response {
    let (done, total) = steps(state);
    let total = grouped(total);
    let word = match state.situation.phase {
        Phase::Paused => "paused",
        Phase::Completed => "all steps done",
        _ => "training",
    };
    // As wide as the last step's number.
    ui.label(theme::number(format!("step {:>width$} of {total}", grouped(done), width = total.len())).strong());
    ui.weak(word)
}

fn speed(ui: &mut Ui, state: &TransportState<'_>) {
    let Some(latest) = state.store.latest else { return };
    let (done, total) = steps(state);
    let rate = if latest.tokens_per_sec.is_finite() { latest.tokens_per_sec.max(0.0) } else { 0.0 };
    ui.label(theme::number(format!("{:>7} tokens/s", count_text(rate))));
    let left = remaining_secs(state, latest.tokens_per_sec, total.saturating_sub(done));
    let left = left.map_or_else(|| "–".to_owned(), clock_text);
    ui.add_space(12.0);
    ui.label(theme::number(format!("{:>7} elapsed  {left:>7} left", clock_text(latest.elapsed_secs))));
}

/// From the run's own recipe, as the draft may have changed since.
fn steps(state: &TransportState<'_>) -> (u64, u64) {
    let recipe = state.store.ready.as_ref().map_or(state.draft, |ready| &ready.recipe);
    let begun = state.store.ready.as_ref().map_or(0, |ready| ready.step.0);
    (state.store.latest.map_or(begun, |latest| latest.step.0), recipe.training.steps)
}

fn remaining_secs(state: &TransportState<'_>, tokens_per_sec: f64, steps_left: u64) -> Option<f64> {
    let recipe = &state.store.ready.as_ref()?.recipe;
    let tokens = steps_left as f64 * (recipe.training.batch * recipe.model.context) as f64;
    (tokens_per_sec > 0.0).then(|| tokens / tokens_per_sec)
}

fn progress(ui: &mut Ui, state: &TransportState<'_>) {
    let (done, total) = steps(state);
    let share = if total == 0 { 0.0 } else { (done as f64 / total as f64).clamp(0.0, 1.0) as f32 };
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), 6.0), Sense::hover());
    response.widget_info(|| {
        let mut info = WidgetInfo::labeled(Role::ProgressIndicator, true, "Progress of the run");
        info.value = Some(f64::from(share) * 100.0);
        info
    });
    let done = Rect::from_min_size(rect.min, vec2(rect.width() * share, rect.height()));
    let (empty, full) = (ui.visuals().widgets.inactive.bg_fill, theme::accent(ui.visuals()));
    ui.painter().rect_filled(rect, 3.0, empty);
    ui.painter().rect_filled(done, 3.0, full);
}

/// The device at the right end of the menu bar: what computes and why, and the choice.
pub fn device_ui(
    ui: &mut Ui,
    store: &RunStore,
    choice: &DeviceChoice,
    mut insist: bool,
    adapters: Option<&[Adapter]>,
    actions: &mut Vec<Action>,
) {
    let running = store.ready.as_ref().filter(|_| store.state.is_some()).map(|ready| &ready.device);
    let shown = running.map_or_else(|| choice_text(choice), |device| device.name.clone());
    // The menu bar's own style takes the frame off.
    ui.reset_style();
    let response = ComboBox::from_id_salt("device").selected_text(shown).width(180.0).truncate().show_ui(ui, |ui| {
        let mut offer = |ui: &mut Ui, offered: DeviceChoice, text: String| {
            if ui.selectable_label(*choice == offered, text).clicked() && *choice != offered {
                actions.push(Action::SetDevice(offered));
            }
        };
        offer(ui, DeviceChoice::Auto, "Auto: a real GPU, else the CPU".into());
        offer(ui, DeviceChoice::Cpu, "CPU".into());
        offer(ui, DeviceChoice::Gpu, "GPU".into());
        for adapter in adapters.unwrap_or_default() {
            let slow = if adapter.class == DeviceClass::Software { ", in software: right, but slow" } else { "" };
            let text = format!("{} ({}{slow})", adapter.name, adapter.engine);
            offer(ui, DeviceChoice::Named(adapter.name.clone()), text);
        }
        if adapters.is_none() {
            ui.weak("looking for adapters…");
        }
        ui.separator();
        let tip = "A device whose numbers differ from the CPU's is not taken, unless this is on. Only until the end of the program.";
        if ui.checkbox(&mut insist, "Use it even if its test fails").on_hover_text(tip).changed() {
            actions.push(Action::SetInsist(insist));
        }
        if running.is_some() {
            ui.weak("Another device is taken at the next start.");
        }
    });
    let why = match running {
        Some(device) => format!("{} ({}): {}", device.name, device.engine, device.reason),
        None => "Where the next run computes; it says why when it starts.".into(),
    };
    let label = ui.label("Device").on_hover_text(&why);
    response.response.on_hover_text(why).labelled_by(label.id);
}

fn choice_text(choice: &DeviceChoice) -> String {
    match choice {
        DeviceChoice::Auto => "Auto".into(),
        DeviceChoice::Cpu => "CPU".into(),
        DeviceChoice::Gpu => "GPU".into(),
        DeviceChoice::Named(name) => name.clone(),
    }
}

/// `0:41`, `12:05`, `3:07:00`.
fn clock_text(seconds: f64) -> String {
    // A saturating cast: nonsense shows as a number, not as a panic.
    let seconds = seconds.max(0.0) as u64;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{rest:02}") } else { format!("{minutes}:{rest:02}") }
}

/// `870`, `24.1k`, `1.32M`.
fn count_text(count: f64) -> String {
    match count {
        0.0..1e3 => format!("{count:.0}"),
        1e3..1e6 => format!("{:.1}k", count / 1e3),
        _ => format!("{:.2}M", count / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_counts_read_well() {
        assert_eq!([41.2, 725.0, 11_220.0].map(clock_text), ["0:41", "12:05", "3:07:00"]);
        assert_eq!([870.0, 24_123.0, 1_320_000.0].map(count_text), ["870", "24.1k", "1.32M"]);
        assert_eq!(clock_text(f64::NAN), "0:00");
    }
}
