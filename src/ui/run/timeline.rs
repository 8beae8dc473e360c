//! The bar under all views: the kept steps of the run, the one that the views show, the one that is held beside it.

use eframe::egui::{
    Align, Align2, Button, EventFilter, Id, Key, Label, Layout, Modifiers, Pos2, Rect, Response, Sense, Stroke,
    TextStyle, Ui, WidgetInfo, pos2, vec2,
};

use crate::protocol::{Pin, ReadyReport, Step, View};
use crate::recipe::{bytes_text, grouped};
use crate::store::RunStore;
use crate::ui::actions::{Action, Move, PickPurpose};
use crate::ui::recipe::draft::file_name;
use crate::ui::widgets::theme;

/// Seconds that a step is shown while the timeline is played.
const PLAY_SECS: f64 = 0.3;
/// How the steps that are marked in numbers grow.
const MARKS: [u64; 3] = [1, 2, 5];

/// The bar. Keeps whether it is playing, nothing of the run.
#[derive(Debug, Default)]
pub struct TimelineView {
    /// When the next step is due, while it is played.
    due: Option<f64>,
}

impl TimelineView {
    /// The step that the views show after a move from `viewed`; `None` is the live model.
    pub fn go(&mut self, to: Move, kept: &[Step], viewed: Option<Step>, now: f64) -> Option<Step> {
        let was_playing = self.due.take().is_some();
        if to != Move::Play {
            return target(to, kept, viewed);
        }
        if was_playing || kept.is_empty() {
            return viewed;
        }
        self.due = Some(now + PLAY_SECS);
        // From the end it begins anew.
        viewed.filter(|viewed| kept.last() != Some(viewed)).or_else(|| kept.first().copied())
    }

    /// The next step of a timeline that is played. A step that has not been shown yet is waited for.
    fn play(&mut self, ui: &Ui, store: &RunStore, looked: &View) -> Option<Action> {
        let due = self.due?;
        if looked.step.is_none() || looked.step.as_ref() >= store.kept.last() {
            self.due = None;
            return None;
        }
        let now = ui.input(|input| input.time);
        let shown = store.look.as_ref().is_some_and(|look| look.view.step == looked.step);
        if now < due || !shown {
            ui.ctx().request_repaint_after_secs((due - now).max(0.05) as f32);
            return None;
        }
        self.due = Some(now + PLAY_SECS);
        ui.ctx().request_repaint_after_secs(PLAY_SECS as f32);
        Some(look(looked, target(Move::Later, &store.kept, looked.step)))
    }

    /// The bar. `looked` is what was asked for last.
    pub fn ui(&mut self, ui: &mut Ui, store: &RunStore, looked: &View) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(ready) = &store.ready else { return actions };
        actions.extend(self.play(ui, store, looked));
        ui.horizontal(|ui| {
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                branches(ui, looked, &mut actions);
                pins(ui, looked, &mut actions);
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    self.moves(ui, store, looked, &mut actions);
                    ui.add(Label::new(theme::number(words(store, ready, looked))).truncate());
                });
            });
        });
        if !store.kept.is_empty() || ready.recipe.training.timeline_megabytes > 0 {
            actions.extend(scrubber(ui, store, ready, looked));
        }
        actions
    }

    fn moves(&self, ui: &mut Ui, store: &RunStore, looked: &View, actions: &mut Vec<Action>) {
        let any = !store.kept.is_empty();
        let (name, tip) = if self.due.is_some() {
            ("Stop", "Stays at this step.")
        } else {
            ("Play", "Shows the kept steps one after the other, from the viewed one on.")
        };
        // As wide for both names, so that nothing beside it moves.
        let play = ui.add_enabled(any, Button::new(name).min_size(vec2(46.0, 22.0))).on_hover_text(tip);
        if play.on_disabled_hover_text("No step is kept.").clicked() {
            actions.push(Action::Timeline(Move::Play));
        }
        let live = ui.selectable_label(looked.step.is_none(), "Live");
        if live.on_hover_text("Shows the model as it is now, while it trains.").clicked() {
            actions.push(Action::Timeline(Move::Live));
        }
    }
}

/// Where the keyboard is for the arrows of the timeline, and has no use for Space.
pub fn scrubber_id() -> Id {
    Id::unique("kept steps")
}

fn look(looked: &View, step: Option<Step>) -> Action {
    Action::Look(Box::new(View { step, ..looked.clone() }))
}

fn target(to: Move, kept: &[Step], viewed: Option<Step>) -> Option<Step> {
    let place = viewed.map_or(kept.len(), |viewed| kept.partition_point(|&step| step < viewed));
    match to {
        Move::First => kept.first().copied(),
        Move::Earlier => kept.get(place.saturating_sub(1)).copied(),
        Move::Later => viewed.and_then(|viewed| kept.iter().copied().find(|step| *step > viewed)),
        Move::Last => kept.last().copied(),
        Move::Live | Move::Play => None,
    }
}

fn nearest(kept: &[Step], step: f64) -> Option<Step> {
    let distance = |kept: &Step| (kept.0 as f64 - step).abs();
    kept.iter().copied().min_by(|one, other| distance(one).total_cmp(&distance(other)))
}

/// The kept step closest to another one.
#[must_use]
pub fn nearest_kept(store: &RunStore, step: f64) -> Option<Step> {
    nearest(&store.kept, step)
}

fn newest(store: &RunStore, ready: &ReadyReport) -> Step {
    store.latest.map_or(ready.step, |latest| latest.step)
}

fn words(store: &RunStore, ready: &ReadyReport, looked: &View) -> String {
    let total = grouped(ready.recipe.training.steps);
    let width = total.len();
    let at = match looked.step {
        Some(step) => format!("step {:>width$} of {total}", grouped(step.0)),
        None => format!("Live: step {:>width$} of {total}", grouped(newest(store, ready).0)),
    };
    let room = ready.recipe.training.timeline_megabytes;
    let kept = match store.kept.len() {
        0 if room == 0 => "no steps are kept: Timeline, MB in the recipe is 0 (for the next run)".into(),
        0 => {
            // Weights and the optimizer's two moments; two snapshots at least.
            let needed = 6 * ready.recipe.model.file_bytes(ready.vocabulary);
            if needed > room.saturating_mul(1_000_000) {
                let needed = needed.div_ceil(1_000_000);
                format!("no steps are kept: this model needs Timeline, MB of {} in the recipe", grouped(needed))
            } else {
                "no steps are kept yet: they are while it trains".into()
            }
        }
        1 => format!("kept 1 step, {}", bytes_text(store.kept_bytes)),
        count => format!("kept {} steps, {}", grouped(count as u64), bytes_text(store.kept_bytes)),
    };
    format!("{at} · {kept}")
}

/// What is held beside the viewed step.
fn pins(ui: &mut Ui, looked: &View, actions: &mut Vec<Action>) {
    let mut pin = |pin: Option<Pin>| actions.push(Action::Look(Box::new(View { pin, ..looked.clone() })));
    if let Some(pinned) = &looked.pin {
        if ui.button("Unpin").on_hover_text("Nothing is held beside the viewed step any more.").clicked() {
            pin(None);
        }
        let label = ui.label(format!("Pinned: {}", pin_text(pinned)));
        if let Some(run) = &pinned.run {
            label.on_hover_text(run.display().to_string());
        }
        return;
    }
    let tip = "Chooses another run of the same text, whose heads are then shown beside this one's.";
    if ui.button("Pin a run…").on_hover_text(tip).clicked() {
        actions.push(Action::Pick(PickPurpose::PinRun));
        return;
    }
    let button = ui.add_enabled(looked.step.is_some(), Button::new("Pin this step"));
    let button = button.on_hover_text("Holds this step, so that other ones can be compared with it.");
    let button = button.on_disabled_hover_text("Go to a kept step first: the live model does not stay as it is.");
    if button.clicked() {
        pin(Some(Pin { run: None, step: looked.step }));
    }
}

/// What is pinned, in a few words.
fn pin_text(pin: &Pin) -> String {
    let step = pin.step.map(|step| format!("step {}", grouped(step.0)));
    match (&pin.run, step) {
        (Some(run), Some(step)) => format!("{}, {step}", file_name(run)),
        (Some(run), None) => file_name(run),
        (None, step) => step.unwrap_or_default(),
    }
}

fn branches(ui: &mut Ui, looked: &View, actions: &mut Vec<Action>) {
    let menu = ui.add_enabled_ui(looked.step.is_some(), |ui| {
        ui.menu_button("Fork", |ui| {
            let Some(step) = looked.step else { return };
            for (changed, text, tip) in [
                (
                    false,
                    "Fork here",
                    "A new run goes on from this step with the same settings: on the processor it becomes the same run \
                     over again. It opens by itself, with this run's curve under its own.",
                ),
                (
                    true,
                    "Fork with the recipe's settings",
                    "A new run goes on from this step with training and sampling as the recipe has them now: what else \
                     would have become of the model? It opens by itself, with this run's curve under its own.",
                ),
            ] {
                if ui.button(text).on_hover_text(tip).clicked() {
                    actions.push(Action::Fork { step, changed });
                    ui.close();
                }
            }
        })
        .response
    });
    let tip = "Go to a kept step first: a new run can go on from there.";
    menu.inner.on_disabled_hover_text(tip);
}

/// Where the steps are along the bar. The root of the step gives the early ones, of which most are kept, room.
struct Track {
    rect: Rect,
    last: f64,
}

impl Track {
    fn x(&self, step: Step) -> f32 {
        self.rect.left() + self.rect.width() * (step.0 as f64 / self.last).sqrt().min(1.0) as f32
    }

    fn step_at(&self, pointer: Pos2) -> f64 {
        let share = f64::from((pointer.x - self.rect.left()) / self.rect.width()).clamp(0.0, 1.0);
        self.last * share * share
    }
}

fn scrubber(ui: &mut Ui, store: &RunStore, ready: &ReadyReport, looked: &View) -> Option<Action> {
    let small = TextStyle::Small.resolve(ui.style());
    let (area, _) = ui.allocate_exact_size(vec2(ui.available_width(), 17.0 + small.size), Sense::hover());
    let response = ui.interact(area, scrubber_id(), Sense::click_and_drag());
    let kept = &store.kept;
    let newest = newest(store, ready);
    let last = kept.last().copied().unwrap_or_default().max(newest).0.max(ready.recipe.training.steps).max(1);
    let rect = Rect::from_min_size(area.min + vec2(7.0, 8.0), vec2((area.width() - 14.0).max(1.0), 1.0));
    let track = Track { rect, last: last as f64 };
    response.widget_info(|| {
        let shown = looked.step.unwrap_or(newest);
        WidgetInfo::slider(true, shown.0 as f64, "Kept steps")
    });
    track.paint(ui, store, newest, looked, &response);

    let pointed = response.hover_pos().or_else(|| response.interact_pointer_pos());
    let under = pointed.and_then(|pointer| nearest(kept, track.step_at(pointer)));
    // A quick drag may end in the frame in which it moved last.
    if response.is_pointer_button_down_on() || response.clicked() || response.drag_stopped() {
        response.request_focus();
        let step = under.filter(|_| under != looked.step)?;
        return Some(look(looked, Some(step)));
    }
    let response = match under {
        Some(step) => response.on_hover_text_at_pointer(format!("step {}", grouped(step.0))),
        None => response,
    };
    // The arrows are the timeline's also where no widget has use for them.
    if !response.has_focus() && ui.memory(|memory| memory.focused().is_some()) {
        return None;
    }
    if response.has_focus() {
        let arrows = EventFilter { horizontal_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, arrows));
    }
    let keys = [
        (Key::ArrowLeft, Move::Earlier),
        (Key::ArrowRight, Move::Later),
        (Key::Home, Move::First),
        (Key::End, Move::Last),
    ];
    let pressed = keys.into_iter().find(|(key, _)| ui.input_mut(|input| input.consume_key(Modifiers::NONE, *key)));
    pressed.map(|(_, to)| Action::Timeline(to))
}

impl Track {
    fn paint(&self, ui: &Ui, store: &RunStore, newest: Step, looked: &View, response: &Response) {
        let (visuals, painter, y) = (ui.visuals(), ui.painter(), self.rect.center().y);
        let (accent, muted) = (theme::accent(visuals), theme::muted(visuals));
        let to_come = visuals.widgets.noninteractive.bg_stroke.color;
        painter.hline(self.rect.x_range(), y, Stroke::new(2.0, to_come));
        painter.hline(self.rect.left()..=self.x(newest), y, Stroke::new(2.0, muted));
        for step in &store.kept {
            painter.vline(self.x(*step), y - 4.0..=y + 4.0, Stroke::new(1.5, muted));
        }
        if let Some(Pin { run: None, step: Some(step) }) = &looked.pin {
            let corner = pos2(self.x(*step), y);
            painter.circle_filled(corner, 4.0, visuals.strong_text_color());
        }
        let shown = pos2(self.x(looked.step.unwrap_or(newest)), y);
        let ring = if response.has_focus() { visuals.strong_text_color() } else { visuals.panel_fill };
        if looked.step.is_some() {
            painter.circle(shown, 6.0, accent, Stroke::new(1.5, ring));
        } else {
            // Hollow: it moves by itself.
            painter.circle(shown, 5.0, visuals.panel_fill, Stroke::new(2.0, accent));
        }
        let font = TextStyle::Small.resolve(ui.style());
        let mut free = f32::INFINITY;
        for step in marked(self.last as u64) {
            let galley = painter.layout_no_wrap(grouped(step), font.clone(), muted);
            let text =
                Align2::CENTER_TOP.anchor_size(pos2(self.x(Step(step)), self.rect.bottom() + 6.0), galley.size());
            let left = text.left().clamp(self.rect.left() - 6.0, self.rect.right() + 6.0 - text.width());
            if left + text.width() + 10.0 <= free {
                free = left;
                painter.galley(pos2(left, text.top()), galley, muted);
            }
        }
    }
}

/// The steps that may be written below the bar, falling: the last, and round ones.
fn marked(last: u64) -> impl Iterator<Item = u64> {
    let powers = (0..19_u32).rev().flat_map(|power| MARKS.into_iter().rev().map(move |mark| mark * 10_u64.pow(power)));
    std::iter::once(last).chain(powers.filter(move |step| *step < last)).chain([0])
}

#[cfg(test)]
mod tests;
