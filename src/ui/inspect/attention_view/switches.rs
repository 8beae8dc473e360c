//! Switching heads and MLPs off, and what that costs.

use eframe::egui::{Align, Button, Label, Layout, Response, RichText, Ui};

use super::AttentionState;
use crate::protocol::{HeadId, Off, Switches, View};
use crate::recipe::grouped;
use crate::ui::actions::Action;
use crate::ui::recipe::draft::file_name;
use crate::ui::widgets::words::number_text;

/// A part of the model that can be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Head(HeadId),
    /// Of a layer.
    Mlp(usize),
}

impl Part {
    /// What the part writes instead, if it is off.
    pub fn off(self, switches: &Switches) -> Option<Off> {
        match self {
            Self::Head(head) => switches.heads.get(&head).copied(),
            Self::Mlp(layer) => switches.mlps.get(&layer).copied(),
        }
    }

    /// `layer 2, head 3`, for the screen.
    pub fn text(self) -> String {
        match self {
            Self::Head(HeadId { layer, head }) => format!("Layer {}, head {}", layer + 1, head + 1),
            Self::Mlp(layer) => format!("Layer {}, MLP", layer + 1),
        }
    }

    /// Switches the part off, or on again where it is off.
    pub fn toggle(self, looked: &View) -> Action {
        let off = if self.off(&looked.switches).is_some() { None } else { Some(Off::Zero) };
        self.switch(looked, off)
    }

    fn switch(self, looked: &View, off: Option<Off>) -> Action {
        let mut view = looked.clone();
        match (self, off) {
            (Self::Head(head), Some(off)) => drop(view.switches.heads.insert(head, off)),
            (Self::Head(head), None) => drop(view.switches.heads.remove(&head)),
            (Self::Mlp(layer), Some(off)) => drop(view.switches.mlps.insert(layer, off)),
            (Self::Mlp(layer), None) => drop(view.switches.mlps.remove(&layer)),
        }
        Action::Look(Box::new(view))
    }

    /// The menu under the right button.
    pub fn menu(self, response: &Response, looked: &View, actions: &mut Vec<Action>) {
        response.context_menu(|ui| {
            let now = self.off(&looked.switches);
            for (off, text, tip) in [
                (Some(Off::Zero), "Switch off (zero)", "It adds nothing to the residual stream."),
                (
                    Some(Off::Mean),
                    "Switch off (mean)",
                    "It adds what it adds on average on the validation text, whatever it reads.",
                ),
                (None, "On again", "It works as it was trained."),
            ] {
                if ui.add_enabled(now != off, Button::new(text)).on_hover_text(tip).clicked() {
                    actions.push(self.switch(looked, off));
                    ui.close();
                }
            }
        });
    }
}

/// The line above the grid: what is off, what that costs, and the ways on from there.
pub(super) fn line(ui: &mut Ui, state: &AttentionState<'_>, actions: &mut Vec<Action>) {
    let AttentionState { store, looked, can_undo, .. } = *state;
    let switches = &looked.switches;
    ui.horizontal(|ui| {
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let mut button = |ui: &mut Ui, enabled: bool, text: &str, tip: &str, why_not: &str, action: Action| {
                let button = ui.add_enabled(enabled, Button::new(text));
                if button.on_hover_text(tip).on_disabled_hover_text(why_not).clicked() {
                    actions.push(action);
                }
            };
            let undo = "Takes back the last switch or cut (Ctrl+Z).";
            button(ui, can_undo, "Undo", undo, "Nothing was switched off or cut.", Action::UndoSwitches);
            let all_on = Action::Look(Box::new(View { switches: Switches::default(), ..looked.clone() }));
            button(ui, !switches.is_empty(), "All on", "Switches all parts on again.", "All are on.", all_on);
            let why_not = cannot_prune(state);
            let tip = "Makes a new, smaller run of the viewed step's model without the heads that are off.";
            let why_not = why_not.as_deref().unwrap_or_default();
            button(ui, why_not.is_empty(), "Prune", tip, why_not, Action::Prune);
            if let Some(made) = &store.made {
                let tip = format!("Opens {} in place of this run.", made.display());
                button(ui, true, "Open pruned run", &tip, "", Action::OpenRun(made.clone()));
            }
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                let text = if switches.is_empty() {
                    match &store.made {
                        Some(made) => RichText::new(format!("made: {}", file_name(made))),
                        None => RichText::new("Ctrl+click switches a head or MLP off").weak(),
                    }
                } else {
                    RichText::new(cost(state))
                };
                ui.add(Label::new(text).truncate());
            });
        });
    });
}

/// `2 heads off: validation loss 2.1034 (+0.0512 without them)`.
fn cost(state: &AttentionState<'_>) -> String {
    let AttentionState { store, looked, .. } = *state;
    let Switches { heads, mlps } = &looked.switches;
    let parts = looked.switches.counted();
    // The live model moves on from the step that was measured.
    let measured = store
        .switched
        .as_ref()
        .filter(|report| report.switches == looked.switches && looked.step.is_none_or(|step| step == report.step));
    let Some(report) = measured else {
        let blocked = store.ready.as_ref().is_some_and(|ready| ready.blocked.is_some());
        let why = if blocked { "there is no validation text to measure on" } else { "measuring…" };
        return format!("{parts} off: {why}");
    };
    let without = if heads.len() + mlps.len() == 1 { "it" } else { "them" };
    let shown = store.attention.as_ref().map(|attention| attention.step);
    let at = if shown == Some(report.step) { String::new() } else { format!(" at step {}", grouped(report.step.0)) };
    let more = number_text(report.loss - report.whole_loss, |more| format!("{more:+.4}"));
    let loss = number_text(report.loss, |loss| format!("{loss:.4}"));
    format!("{parts} off: validation loss {loss} ({more} without {without}){at}")
}

/// Why no run can be made without what is off.
fn cannot_prune(state: &AttentionState<'_>) -> Option<String> {
    let Switches { heads, mlps } = &state.looked.switches;
    if let Some(layer) = mlps.keys().next() {
        return Some(format!("Only heads can be pruned: switch the MLP of layer {} on again.", layer + 1));
    }
    if heads.is_empty() {
        return Some("Switch off the heads that the new run is to do without.".into());
    }
    let recipe = &state.store.ready.as_ref()?.recipe.model;
    let mut pruned = recipe.pruned.clone();
    pruned.extend(heads.keys().map(|head| (head.layer, head.head)));
    pruned.sort_unstable();
    recipe.check_pruned(&pruned).err()
}
