//! Words that several views use.

use eframe::egui::{RichText, Ui};

use crate::protocol::{AttentionSnapshot, HeadId, Switches};
use crate::ui::actions::ViewSettings;
use crate::ui::widgets::colormap::WeightScale;

/// Characters of a token along an axis; the readout shows all of it.
pub(in crate::ui) const LABEL_CHARACTERS_MAX: usize = 8;

/// The scale that weights are coloured by.
pub(in crate::ui) fn scale_of(view: &ViewSettings) -> WeightScale {
    if view.square_root { WeightScale::SquareRoot } else { WeightScale::Linear }
}

/// The chosen head, or the nearest one that this model has.
pub(in crate::ui) fn selected_in(snapshot: &AttentionSnapshot, view: &ViewSettings) -> HeadId {
    let HeadId { layer, head } = view.selected;
    HeadId { layer: layer.min(snapshot.layers.saturating_sub(1)), head: head.min(snapshot.heads.saturating_sub(1)) }
}

/// ` · 1 head off` behind what was said of a model, or nothing where it was whole.
pub(in crate::ui) fn without(switches: &Switches) -> String {
    if switches.is_empty() { String::new() } else { format!(" · {} off", switches.counted()) }
}

/// One sentence in the middle of a pane that has nothing to show.
pub(in crate::ui) fn nothing_yet(ui: &mut Ui, sentence: &str) {
    ui.centered_and_justified(|ui| ui.label(RichText::new(sentence).weak()));
}

/// A weight for the screen, faint ones not as zero.
pub(in crate::ui) fn weight_text(weight: f32) -> String {
    if !weight.is_finite() {
        return not_finite_text(weight).to_owned();
    }
    if weight > 0.0 && weight < 0.001 { format!("{weight:.1e}") } else { format!("{weight:.3}") }
}

/// A token for an axis.
pub(in crate::ui) fn shortened(token: &str) -> String {
    if token.chars().count() <= LABEL_CHARACTERS_MAX {
        return token.to_owned();
    }
    token.chars().take(LABEL_CHARACTERS_MAX).chain(['…']).collect()
}

/// What is no number, as what it is.
pub(in crate::ui) fn not_finite_text(value: f32) -> &'static str {
    match value {
        f32::INFINITY => "∞",
        f32::NEG_INFINITY => "−∞",
        _ => "NaN",
    }
}

/// A number for the screen as `finite` writes it, or what it is instead.
pub(in crate::ui) fn number_text(value: f32, finite: impl FnOnce(f32) -> String) -> String {
    if value.is_finite() { finite(value) } else { not_finite_text(value).to_owned() }
}
