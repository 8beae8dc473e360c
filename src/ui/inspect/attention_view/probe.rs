//! The field in which the probe text is typed.

use eframe::egui::{TextEdit, TextStyle, Ui};

use crate::recipe::DataRecipe;
use crate::ui::actions::Action;

/// Seconds without a key after which a typed probe is taken.
const PAUSE_SECS: f64 = 0.3;

/// Stands for a line break in the field.
const LINE_BREAK: &str = "⏎";

/// The probe as it is typed: it becomes an action when one pauses, leaves the field or presses Enter.
#[derive(Debug, Default)]
pub(super) struct ProbeField {
    draft: String,
    /// What the recipe holds; when that changes elsewhere, the field follows.
    known: String,
    edited_at: Option<f64>,
}

impl ProbeField {
    /// `adds_special`: whether the model's tokenizer puts anything around a text.
    pub(super) fn ui(&mut self, ui: &mut Ui, data: &DataRecipe, adds_special: bool) -> Option<Action> {
        let probe = shown(&data.probe);
        if self.known != probe {
            *self = Self { draft: probe.clone(), known: probe, edited_at: None };
        }
        if adds_special {
            let mut special = data.probe_special_tokens;
            let tip = "Before or after the probe stand the tokens that the model's tokenizer puts around every text.";
            if ui.checkbox(&mut special, "Special tokens").on_hover_text(tip).changed() {
                return Some(Action::SetProbeSpecial(special));
            }
        }
        let name = ui.label("Probe");
        let edit = TextEdit::singleline(&mut self.draft).font(TextStyle::Monospace);
        let edit =
            edit.desired_width(f32::INFINITY).hint_text("Empty: the views stay at the last text. Type one to look at.");
        let field = ui.add(edit).labelled_by(name.id);
        let field = field.on_hover_text("The text whose attention is shown. Type \\n for a line break.");
        let now = ui.input(|input| input.time);
        if field.changed() {
            self.edited_at = Some(now);
            self.draft = shown(&self.draft.replace("\\n", "\n"));
        }
        let edited_at = self.edited_at?;
        let left = PAUSE_SECS - (now - edited_at);
        if left > 0.0 && !field.lost_focus() {
            ui.ctx().request_repaint_after_secs(left as f32);
            return None;
        }
        self.edited_at = None;
        if self.draft == self.known || self.draft.is_empty() {
            return None;
        }
        self.known.clone_from(&self.draft);
        Some(Action::SetProbe(self.draft.replace(LINE_BREAK, "\n")))
    }
}

fn shown(probe: &str) -> String {
    probe.replace("\r\n", "\n").replace('\n', LINE_BREAK)
}
