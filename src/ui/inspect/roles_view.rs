//! What each head does, over training, and what it is worth.

mod chart;
mod table;

use eframe::egui::{Button, ComboBox, Label, ProgressBar, RichText, Ui};

use self::chart::Curve;
use self::table::Table;
use super::attention_view::non_finite_line;
use crate::protocol::{HeadId, Off, Role, View};
use crate::recipe::grouped;
use crate::store::RunStore;
use crate::ui::actions::{Action, ViewSettings};
use crate::ui::run::timeline::nearest_kept;
use crate::ui::widgets::theme;
use crate::ui::widgets::words::{number_text, without};

/// The pane. Keeps what is chosen in it, nothing of the run.
#[derive(Debug, Default)]
pub struct RolesView {
    curve: Curve,
    table: Table,
    /// What a part writes while its effect is measured.
    off: Off,
    /// The measurement was given up.
    cancelled: bool,
}

impl RolesView {
    /// The pane. `looked` is what was asked for last.
    pub fn ui(&mut self, ui: &mut Ui, store: &RunStore, view: &ViewSettings, looked: &View) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(attention) = &store.attention else {
            let sentence = "What each head does appears here when training starts.";
            ui.centered_and_justified(|ui| ui.label(RichText::new(sentence).weak()));
            return actions;
        };
        non_finite_line(ui, store);
        ui.horizontal_wrapped(|ui| {
            self.choice(ui);
            ui.separator();
            self.effects(ui, store, &mut actions);
        });
        let mut selected = view.selected;
        let height = (0.42 * ui.available_height()).clamp(90.0, 280.0);
        if let Some((head, step)) = chart::ui(ui, store, self.curve, view.selected, looked.step, height) {
            selected = head;
            let step = nearest_kept(store, step.0 as f64);
            if step != looked.step {
                actions.push(Action::Look(Box::new(View { step, ..looked.clone() })));
            }
        }
        selected = self.table.ui(ui, store, attention, selected).unwrap_or(selected);
        if selected != view.selected {
            actions.push(Action::SetView(Box::new(ViewSettings { selected, ..view.clone() })));
        }
        actions
    }

    fn choice(&mut self, ui: &mut Ui) {
        let name = ui.label("Curve");
        let curves = Role::ALL.map(Curve::Test).into_iter().chain([Curve::Entropy]);
        let combo = ComboBox::from_id_salt("curve of the roles").selected_text(self.curve.text()).width(124.0);
        let combo = combo.show_ui(ui, |ui| {
            for curve in curves {
                ui.selectable_value(&mut self.curve, curve, curve.text()).on_hover_text(curve.tip());
            }
        });
        combo.response.labelled_by(name.id).on_hover_text(self.curve.tip());
    }

    fn effects(&mut self, ui: &mut Ui, store: &RunStore, actions: &mut Vec<Action>) {
        let running = store
            .effects
            .as_ref()
            .filter(|effects| effects.done < effects.total && !self.cancelled && store.state.is_some());
        if let Some(effects) = running {
            let share = effects.done as f32 / effects.total.max(1) as f32;
            ui.add(ProgressBar::new(share).desired_width(120.0).text(format!("{:.0} %", 100.0 * share)));
            if ui.button("Cancel").on_hover_text("What was measured so far stays.").clicked() {
                self.cancelled = true;
                actions.push(Action::StopMeasuring);
            }
            return;
        }
        let blocked = store.ready.as_ref().and_then(|ready| ready.blocked.as_deref());
        let button = ui.add_enabled(blocked.is_none() && store.state.is_some(), Button::new("Effect of every head"));
        let button = button.on_hover_text(
            "Measures the viewed step's validation loss without each head and each MLP, one after the other. \
             Training goes on meanwhile, more slowly.",
        );
        if button.on_disabled_hover_text(blocked.unwrap_or("There is no model.")).clicked() {
            self.cancelled = false;
            actions.push(Action::MeasureEffects(self.off));
        }
        ui.radio_value(&mut self.off, Off::Zero, "zero").on_hover_text("A part that is off adds nothing.");
        let tip = "A part that is off adds what it adds on average on the validation text.";
        ui.radio_value(&mut self.off, Off::Mean, "mean").on_hover_text(tip);
    }
}

/// `layer 1 · head 2`.
fn head_text(HeadId { layer, head }: HeadId) -> String {
    format!("layer {} · head {}", layer + 1, head + 1)
}

/// Below the chart: which step the table is of, and what the effects were measured on.
fn table_words(store: &RunStore) -> String {
    let mut words = match store.shown_roles() {
        Some(roles) => format!("Scores at step {}{}", grouped(roles.step.0), without(&store.shown_switches())),
        None => "No scores yet: they are measured while it trains".to_owned(),
    };
    if let Some(effects) = &store.effects {
        let off = effects.off.name();
        let (step, tokens) = (grouped(effects.step.0), grouped(effects.tokens as u64));
        let loss = number_text(effects.loss, |loss| format!("{loss:.4}"));
        words += &format!(" · effect at step {step}: loss without the part ({off}) less {loss}");
        words += &format!(", {tokens} tokens");
    }
    words
}

fn small(ui: &mut Ui, words: String) {
    ui.add(Label::new(RichText::new(words).small().color(theme::muted(ui.visuals()))).truncate());
}

#[cfg(test)]
mod tests;
