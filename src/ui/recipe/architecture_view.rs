//! The network of the recipe as a drawing that follows each edit: the residual stream from the tokens down to the
//! logits, beside it what reads from it and writes to it, each part with its shape and its number of weights.
//!
//! `parts` says what there is, `plan` where it stands, `paint` how it looks.

mod paint;
mod parts;
mod plan;

use eframe::egui::{Label, RichText, ScrollArea, Sense, Ui, vec2};

use self::plan::Plan;
use crate::recipe::Recipe;
use crate::ui::widgets::theme;

/// Larger is not read better.
const SCALE_MAX: f32 = 1.45;
/// Smaller is not read any more: then one scrolls.
const SCALE_MIN: f32 = 0.92;
const WIDTH_MIN: f32 = 300.0;
const WIDTH_MAX: f32 = 480.0;

/// Draws the network; `vocabulary` is known once the text is.
pub fn ui(ui: &mut Ui, recipe: &Recipe, vocabulary: Option<usize>) {
    let faults = recipe.model.check(vocabulary.unwrap_or(256));
    if !faults.is_empty() {
        ui.weak("The network is drawn here as soon as its recipe makes sense.");
        for fault in faults {
            ui.add(Label::new(RichText::new(fault.message).color(theme::warning(ui.visuals()))).wrap());
        }
        return;
    }
    let parts = parts::parts(recipe, vocabulary);
    ScrollArea::both().auto_shrink(false).show(ui, |ui| {
        let room = ui.available_size();
        let natural = Plan::new(&recipe.model, WIDTH_MAX, 1.0).size;
        let scale = (room.y / natural.y).min(room.x / 400.0).clamp(SCALE_MIN, SCALE_MAX);
        let width = room.x.clamp(WIDTH_MIN * scale, WIDTH_MAX * scale);
        let plan = Plan::new(&recipe.model, width, scale);
        let (area, _) = ui.allocate_exact_size(vec2(room.x.max(width), plan.size.y), Sense::hover());
        let corner = area.min + vec2((area.width() - width) / 2.0, 0.0);
        paint::network(ui, &plan.at(corner), &parts, recipe);
    });
}

#[cfg(test)]
mod tests;
