//! What the embedding, each head, each MLP and the biases add to one logit.

use eframe::egui::{Align2, ComboBox, Rect, RichText, Role, Sense, TextStyle, Ui, WidgetInfo, pos2, vec2};

use super::{LensView, Table};
use crate::protocol::{Attribution, HeadId, Target, falling};
use crate::ui::actions::{Action, ViewSettings};
use crate::ui::widgets::colormap::{diverging, diverging_legend};
use crate::ui::widgets::words::number_text;
use crate::ui::widgets::{likeliest, theme};

/// A part of the model and what it adds.
#[derive(Debug, Clone, PartialEq)]
struct Part {
    name: String,
    value: f32,
    head: Option<HeadId>,
}

/// From the embedding up; what was pruned is left out.
fn parts(attribution: &Attribution, pruned: &[(usize, usize)]) -> Vec<Part> {
    let part = |name: String, value: f32| Part { name, value, head: None };
    let mut parts = vec![part("embedding".to_owned(), attribution.embedding)];
    let heads = attribution.heads.len() / attribution.mlps.len().max(1);
    for (layer, &mlp) in attribution.mlps.iter().enumerate() {
        let there = (0..heads).filter(|&head| !pruned.contains(&(layer, head)));
        parts.extend(there.map(|head| Part {
            name: format!("layer {} · head {}", layer + 1, head + 1),
            value: attribution.heads[layer * heads + head],
            head: Some(HeadId { layer, head }),
        }));
        parts.push(part(format!("layer {} · MLP", layer + 1), mlp));
    }
    parts.push(part("biases".to_owned(), attribution.biases));
    parts
}

impl LensView {
    pub(super) fn attribution_ui(
        &mut self,
        ui: &mut Ui,
        table: &Table<'_>,
        attribution: Option<&Attribution>,
        target: Target,
        pruned: &[(usize, usize)],
        view: &ViewSettings,
    ) -> Vec<Action> {
        let position = target.position;
        let last = table.lens.at(table.lens.rows() - 1, position);
        let found = attribution
            .filter(|found| found.position == position && target.token.is_none_or(|token| token == found.token));
        ui.horizontal_wrapped(|ui| {
            ui.label(theme::heading("What adds to the logit of"));
            let likeliest = last.first().map(|known| known.0);
            let shown = target.token.or(found.map(|found| found.token)).or(likeliest);
            let shown = shown.map_or_else(String::new, |token| format!("'{}'", table.label(token)));
            let combo = ComboBox::from_id_salt("logit").selected_text(RichText::new(shown).monospace());
            let response = combo.show_ui(ui, |ui| self.choices_ui(ui, table, position, last)).response;
            response.on_hover_text("Another token's logit");
            ui.label(format!("after '{}' (position {})", table.snapshot.tokens[position], position + 1));
            ui.checkbox(&mut self.sorted, "Sorted").on_hover_text("What adds most comes first, else layer by layer");
        });
        let Some(found) = found else {
            ui.weak("The parts of this logit are being computed.");
            return Vec::new();
        };
        let mut parts = parts(found, pruned);
        let sum: f32 = parts.iter().map(|part| part.value).sum();
        let finite = parts.iter().map(|part| part.value.abs()).filter(|value| value.is_finite());
        let limit = finite.fold(f32::MIN_POSITIVE, f32::max);
        ui.horizontal_wrapped(|ui| {
            let [sum, logit] = [sum, found.logit].map(|value| number_text(value, |value| format!("{value:.3}")));
            ui.label(theme::number(format!("sum of the parts {sum} · logit {logit}")));
            diverging_legend(ui, limit, "what the parts add");
        });
        ui.weak("The last norm's scale is taken as it was. A click on a head selects it.");
        if self.sorted {
            parts.sort_by(|one, other| falling(one.value, other.value));
        }
        ui.spacing_mut().item_spacing.y = 1.0;
        let chosen = parts.iter().filter(|part| part_ui(ui, part, limit, part.head == Some(view.selected)));
        let chosen = chosen.filter_map(|part| part.head).last();
        let changed = chosen.map(|selected| ViewSettings { selected, ..view.clone() });
        changed.map(|view| Action::SetView(Box::new(view))).into_iter().collect()
    }

    /// The tokens whose logit may be taken apart.
    fn choices_ui(&mut self, ui: &mut Ui, table: &Table<'_>, position: usize, last: &[(u32, f32)]) {
        if ui.selectable_label(self.token.is_none(), "the likeliest").clicked() {
            self.token = None;
        }
        if let Some(next) = table.next(position) {
            let words = format!("the probe's next: '{next}'");
            if ui.button(words).clicked() {
                let id = table.labels.iter().position(|label| label == next);
                self.token = id.map(|id| id as u32);
            }
        }
        ui.separator();
        for &(token, probability) in last {
            let words = format!("'{}'  {}", table.label(token), likeliest::percent(probability));
            if ui.selectable_label(self.token == Some(token), RichText::new(words).monospace()).clicked() {
                self.token = Some(token);
            }
        }
        if ui.ui_contains_pointer() {
            // What was chosen is asked for in the next frame.
            ui.ctx().request_repaint();
        }
    }
}

/// One part's bar about zero; true when it is a head and was clicked.
fn part_ui(ui: &mut Ui, part: &Part, limit: f32, selected: bool) -> bool {
    let height = ui.text_style_height(&TextStyle::Monospace) + 3.0;
    let sense = if part.head.is_some() { Sense::click() } else { Sense::hover() };
    let (area, response) = ui.allocate_exact_size(vec2(ui.available_width(), height), sense);
    let value = number_text(part.value, |value| format!("{value:+.3}"));
    let words = format!("{} {value}", part.name);
    response.widget_info(|| match part.head {
        Some(_) => WidgetInfo::selected(Role::Button, true, selected, &words),
        None => WidgetInfo::labeled(Role::Label, true, &words),
    });
    if !ui.is_rect_visible(area) {
        return false;
    }
    let visuals = ui.visuals();
    if response.hovered() && part.head.is_some() || response.has_focus() {
        ui.painter().rect_filled(area, 2.0, visuals.widgets.hovered.weak_bg_fill);
    }
    let ink = if selected { theme::accent(visuals) } else { visuals.text_color() };
    let font = TextStyle::Monospace.resolve(ui.style());
    let middle = area.center().y;
    ui.painter().text(pos2(area.left() + 4.0, middle), Align2::LEFT_CENTER, &part.name, font.clone(), ink);
    let number = pos2(area.left() + 196.0, middle);
    ui.painter().text(number, Align2::RIGHT_CENTER, value, font, ink);
    let room = (area.width() - 212.0).max(0.0) / 2.0;
    let zero = area.left() + 206.0 + room;
    // What is no number has the longest bar, in a colour of its own.
    let share = if part.value.is_finite() { part.value / limit } else { 1.0_f32.copysign(part.value) };
    let end = zero + room * share;
    let bar = Rect::from_x_y_ranges(zero.min(end)..=zero.max(end), area.top() + 2.5..=area.bottom() - 2.5);
    // The faintest bars could not be seen in their own colour.
    let strength = 0.4 + 0.6 * part.value.abs() / limit;
    let color = diverging(strength.copysign(part.value), visuals.dark_mode);
    ui.painter().rect_filled(bar, 1.0, color);
    ui.painter().vline(zero, area.y_range(), visuals.widgets.noninteractive.bg_stroke);
    response.clicked()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_that_is_there_has_its_bar() {
        let attribution = Attribution {
            position: 1,
            token: 3,
            logit: 2.1,
            embedding: 0.1,
            heads: vec![0.2, 0.3, 0.4, 0.0],
            mlps: vec![0.5, 0.6],
            biases: 0.0,
        };
        let names: Vec<String> = parts(&attribution, &[(1, 1)]).into_iter().map(|part| part.name).collect();
        let expected = [
            "embedding",
            "layer 1 · head 1",
            "layer 1 · head 2",
            "layer 1 · MLP",
            "layer 2 · head 1",
            "layer 2 · MLP",
            "biases",
        ];
        assert_eq!(names, expected);
        let sum: f32 = parts(&attribution, &[]).iter().map(|part| part.value).sum();
        assert!((sum - attribution.logit).abs() < 1e-6);
    }
}
