//! A prediction: the likeliest tokens, each with its probability as number and bar.

use eframe::egui::{Align2, Rect, Role, Sense, TextStyle, Ui, WidgetInfo, pos2, vec2};

use super::colormap::NOT_A_NUMBER;
use super::theme;
use crate::ui::widgets::words::number_text;

/// The tokens in the order given; `marked` is the one that is spoken of.
pub fn ui<'a>(ui: &mut Ui, tokens: impl Iterator<Item = (&'a str, f32)> + Clone, marked: Option<&str>) {
    let row = vec2(210.0, ui.text_style_height(&TextStyle::Monospace) + 1.0);
    let finite = tokens.clone().map(|other| other.1).filter(|probability| probability.is_finite());
    let largest = finite.fold(f32::MIN_POSITIVE, f32::max);
    for (text, probability) in tokens {
        let (area, response) = ui.allocate_exact_size(row, Sense::hover());
        let is_marked = marked == Some(text);
        let visuals = ui.visuals();
        let color = if is_marked { theme::accent(visuals) } else { visuals.text_color() };
        let font = TextStyle::Monospace.resolve(ui.style());
        let numbers = percent(probability);
        let middle = area.center().y;
        let place = pos2(area.left() + 54.0, middle);
        let width = ui.painter().text(place, Align2::RIGHT_CENTER, &numbers, font.clone(), color);
        let bar = Rect::from_min_size(
            pos2(width.right() + 8.0, area.top() + 3.0),
            vec2(if probability.is_finite() { 80.0 * probability / largest } else { 80.0 }, area.height() - 6.0),
        );
        let fill = match probability.is_finite() {
            false => NOT_A_NUMBER,
            true if is_marked => theme::accent(visuals),
            true => theme::muted(visuals),
        };
        ui.painter().rect_filled(bar, 1.0, fill.gamma_multiply(0.8));
        ui.painter().text(pos2(width.right() + 96.0, middle), Align2::LEFT_CENTER, text, font, color);
        response.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("{text} {numbers}")));
    }
}

/// `41.20 %`, or `NaN`.
#[must_use]
pub fn percent(probability: f32) -> String {
    number_text(probability, |probability| format!("{:.2} %", probability * 100.0))
}
