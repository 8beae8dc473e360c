//! Text drawn from the model: the prompt, how to draw, and the text as it comes, each token with the ones that the model
//! weighed against it.

use std::sync::Arc;

use eframe::egui::{
    self, DragValue, FontId, Galley, PopupAnchor, Pos2, Rect, RichText, Role, ScrollArea, Sense, TextEdit, TextFormat,
    TextStyle, Tooltip, Ui, WidgetInfo, pos2, text::LayoutJob, vec2,
};

use super::actions::Action;
use super::theme;
use crate::lab::protocol::SampledToken;
use crate::recipe::{SamplingRecipe, grouped};
use crate::store::{RunStore, SampleState};

/// The sample pane. Keeps where the characters of each token end, which grows as the text does.
#[derive(Debug, Default)]
pub struct SampleView {
    sample: u64,
    /// Characters from the start of the text to the end of each token.
    ends: Vec<usize>,
}

impl SampleView {
    /// `settings` is the draft that the next sample is drawn with; `can_sample` whether there is a model to ask.
    pub fn ui(&mut self, ui: &mut Ui, store: &RunStore, settings: &SamplingRecipe, can_sample: bool) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut draft = settings.clone();
        ui.horizontal(|ui| {
            let name = ui.label("Prompt");
            let edit = TextEdit::multiline(&mut draft.prompt).desired_rows(1).desired_width(f32::INFINITY);
            ui.add(edit.hint_text("How the text begins")).labelled_by(name.id);
        });
        egui::Grid::new("how to draw").spacing(vec2(8.0, 4.0)).show(ui, |ui| how_to_draw(ui, &mut draft));
        if draft != *settings {
            actions.push(Action::EditSampling(Box::new(draft)));
        }
        let sample = &store.sample;
        ui.horizontal(|ui| {
            if sample.running {
                if ui.button("Stop").clicked() {
                    actions.push(Action::StopSampling);
                }
            } else {
                let button = ui.add_enabled(can_sample, egui::Button::new("Sample"));
                let button = button.on_disabled_hover_text("There is no model yet: train one first");
                if button.clicked() {
                    actions.push(Action::Sample(Box::new(settings.clone())));
                }
            }
            let any = !sample.tokens.is_empty();
            if ui.add_enabled(any, egui::Button::new("Copy")).on_hover_text("Copy the prompt and the text").clicked() {
                actions.push(Action::CopyText(sample.text()));
            }
            if any || sample.running {
                let (step, count) = (grouped(sample.step.0), grouped(sample.tokens.len() as u64));
                ui.label(theme::number(format!("step {step} · {count} tokens")).weak());
            }
        });
        if !sample.note.is_empty() {
            ui.label(RichText::new(&sample.note).color(theme::warning(ui.visuals())));
        }
        if sample.tokens.is_empty() && !sample.running {
            let sentence = "What the model writes appears here, while it trains or after.";
            ui.centered_and_justified(|ui| ui.label(RichText::new(sentence).weak()));
            return actions;
        }
        self.follow(sample);
        egui::Frame::new().fill(ui.visuals().extreme_bg_color).corner_radius(4).inner_margin(8).show(ui, |ui| {
            let scroll = ScrollArea::vertical().auto_shrink(false).stick_to_bottom(true);
            scroll.show(ui, |ui| self.text(ui, sample));
        });
        actions
    }

    fn follow(&mut self, sample: &SampleState) {
        if self.sample != sample.id || self.ends.len() > sample.tokens.len() {
            *self = Self { sample: sample.id, ends: Vec::new() };
        }
        let mut end = self.ends.last().copied().unwrap_or_else(|| sample.prompt.chars().count());
        for token in &sample.tokens[self.ends.len()..] {
            end += token.text.chars().count();
            self.ends.push(end);
        }
    }

    fn text(&self, ui: &mut Ui, sample: &SampleState) {
        let font = FontId::monospace(TextStyle::Monospace.resolve(ui.style()).size);
        let mut job = LayoutJob::default();
        job.wrap.max_width = ui.available_width();
        let mut drawn = String::new();
        sample.tokens.iter().for_each(|token| drawn.push_str(&token.text));
        job.append(&sample.prompt, 0.0, TextFormat::simple(font.clone(), theme::muted(ui.visuals())));
        job.append(&drawn, 0.0, TextFormat::simple(font, ui.visuals().text_color()));
        let galley = ui.ctx().fonts_mut(|fonts| fonts.layout_job(job));
        let (area, response) = ui.allocate_exact_size(galley.size(), Sense::hover());
        response.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("Sample: {}{drawn}", sample.prompt)));

        let hovered = response.hover_pos().and_then(|pointer| character_at(&galley, pointer - area.min.to_vec2()));
        // The prompt's characters lie before the first token's.
        let token = hovered.and_then(|character| {
            let index = self.ends.partition_point(|&end| end <= character);
            let start = self.ends.get(index)? - sample.tokens[index].text.chars().count();
            (start <= character).then_some((index, start))
        });
        if let Some((index, start)) = token {
            for place in glyphs(&galley, start..self.ends[index]) {
                let place = place.translate(area.min.to_vec2());
                ui.painter().rect_filled(place, 2.0, ui.visuals().selection.bg_fill);
            }
        }
        ui.painter().galley(area.min, Arc::clone(&galley), ui.visuals().text_color());
        if let Some((index, _)) = token {
            let anchor = PopupAnchor::Pointer;
            let tooltip = Tooltip::always_open(ui.ctx().clone(), ui.layer_id(), response.id, anchor);
            tooltip.gap(14.0).show(|ui| weighed(ui, &sample.tokens[index]));
        }
    }
}

fn how_to_draw(ui: &mut Ui, draft: &mut SamplingRecipe) {
    let mut field = |name: &str, hint: &str, value: DragValue<'_>| {
        let label = ui.label(name);
        ui.add(value).labelled_by(label.id).on_hover_text(hint);
        if name == "Top-p" {
            ui.end_row();
        }
    };
    let temperature = DragValue::new(&mut draft.temperature).range(0.0..=10.0).speed(0.01).fixed_decimals(2);
    field("Temperature", "0 always takes the likeliest token", temperature);
    let top_k = DragValue::new(&mut draft.top_k).range(0..=1_000_000).speed(0.2);
    field("Top-k", "Only so many of the likeliest tokens take part; 0 means all", top_k);
    let top_p = DragValue::new(&mut draft.top_p).range(0.01..=1.0).speed(0.005).fixed_decimals(2);
    field("Top-p", "Only the likeliest tokens that together reach this take part; 1 means all", top_p);
    field("Tokens", "Length of the sample", DragValue::new(&mut draft.tokens).range(1..=100_000).speed(5.0));
    field("Seed", "The same seed draws the same text", DragValue::new(&mut draft.seed).speed(0.1));
}

/// The tooltip of a token: how likely it was, and the ten likeliest with bars.
fn weighed(ui: &mut Ui, token: &SampledToken) {
    ui.label(theme::heading(format!("'{}'  {}", token.label, percent(token.probability))));
    let row = vec2(210.0, ui.text_style_height(&TextStyle::Monospace) + 1.0);
    let largest = token.alternatives.iter().map(|other| other.1).fold(f32::MIN_POSITIVE, f32::max);
    for (text, probability) in &token.alternatives {
        let (area, response) = ui.allocate_exact_size(row, Sense::hover());
        let drawn = *text == token.label;
        let visuals = ui.visuals();
        let color = if drawn { theme::accent(visuals) } else { visuals.text_color() };
        let font = TextStyle::Monospace.resolve(ui.style());
        let numbers = percent(*probability);
        let middle = area.center().y;
        let width = ui.painter().text(
            pos2(area.left() + 54.0, middle),
            egui::Align2::RIGHT_CENTER,
            &numbers,
            font.clone(),
            color,
        );
        let bar = Rect::from_min_size(
            pos2(width.right() + 8.0, area.top() + 3.0),
            vec2(80.0 * probability / largest, area.height() - 6.0),
        );
        let fill = if drawn { theme::accent(visuals) } else { theme::muted(visuals) };
        ui.painter().rect_filled(bar, 1.0, fill.gamma_multiply(0.8));
        let place = pos2(width.right() + 96.0, middle);
        ui.painter().text(place, egui::Align2::LEFT_CENTER, text, font, color);
        response.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("{text} {numbers}")));
    }
}

fn percent(probability: f32) -> String {
    format!("{:.2} %", probability * 100.0)
}

/// The character at a place in the text, newlines counted.
fn character_at(galley: &Galley, place: Pos2) -> Option<usize> {
    let mut first = 0;
    for row in &galley.rows {
        if row.rect().y_range().contains(place.y) {
            let x = place.x - row.pos.x;
            let column = row.glyphs.iter().position(|glyph| x >= glyph.pos.x && x < glyph.max_x())?;
            return Some(first + column);
        }
        first += row.char_count_including_newline().0;
    }
    None
}

/// Where a range of characters is.
fn glyphs(galley: &Galley, characters: std::ops::Range<usize>) -> Vec<Rect> {
    let mut first = 0;
    let mut places = Vec::new();
    for row in &galley.rows {
        for (column, glyph) in row.glyphs.iter().enumerate() {
            if characters.contains(&(first + column)) {
                let left = row.pos.x + glyph.pos.x;
                places.push(Rect::from_x_y_ranges(left..=left + glyph.advance_width, row.rect().y_range()));
            }
        }
        first += row.char_count_including_newline().0;
    }
    places
}

#[cfg(test)]
mod tests;
