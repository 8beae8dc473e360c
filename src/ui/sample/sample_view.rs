//! Text drawn from the model: the prompt, how to draw, and the text as it comes, each token with the ones that the model
//! weighed against it and with the earlier tokens that the chosen head looked at for it.

use std::sync::Arc;

use eframe::egui::text::LayoutJob;
use eframe::egui::{
    self, Color32, DragValue, FontId, Galley, Key, PopupAnchor, Pos2, Rect, RichText, Role, ScrollArea, Sense,
    TextEdit, TextFormat, TextStyle, Tooltip, Ui, WidgetInfo, vec2,
};

use crate::protocol::{HeadId, ReadyReport, SampledToken, falling};
use crate::recipe::{SamplingRecipe, grouped};
use crate::store::{RunStore, SampleState};
use crate::ui::actions::{Action, ViewSettings};
use crate::ui::inspect::attention_view::Focus;
use crate::ui::widgets::likeliest::{self, percent};
use crate::ui::widgets::words::{scale_of, weight_text, without};
use crate::ui::widgets::{colormap, theme};

/// The sample pane. Keeps where the characters of each token end, which grows as the text does.
#[derive(Debug, Default)]
pub struct SampleView {
    sample: u64,
    /// Characters from the start of the text to the end of each token.
    ends: Vec<usize>,
    /// The token whose row of attention is shown, and whether a click keeps it.
    shown: Option<usize>,
    kept: bool,
    /// That row, with the number of the token that it chose.
    focus: Option<(usize, Arc<Focus>)>,
}

impl SampleView {
    /// `settings` is the draft that the next sample is drawn with; `can_sample` whether there is a model to ask.
    pub fn ui(
        &mut self,
        ui: &mut Ui,
        store: &RunStore,
        view: &ViewSettings,
        settings: &SamplingRecipe,
        can_sample: bool,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut draft = settings.clone();
        ui.horizontal(|ui| {
            let name = ui.label("Prompt");
            let edit = TextEdit::multiline(&mut draft.prompt).desired_rows(1).desired_width(f32::INFINITY);
            ui.add(edit.hint_text("How the text begins")).labelled_by(name.id);
        });
        egui::Grid::new("how to draw").spacing(vec2(8.0, 4.0)).show(ui, |ui| how_to_draw(ui, &mut draft));
        if let Some(ready) = store.ready.as_ref().filter(|ready| ready.adds_special || !ready.ends.is_empty()) {
            ui.horizontal(|ui| around(ui, &mut draft, ready));
        }
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
                let without = without(&sample.switches);
                let last = sample.tokens.last().filter(|token| token.ends);
                let end = last.map_or_else(String::new, |last| format!(" · at its end with {}", last.label));
                ui.label(theme::number(format!("step {step} · {count} tokens{without}{end}")).weak());
            }
        });
        if !sample.note.is_empty() {
            ui.label(RichText::new(&sample.note).color(theme::warning(ui.visuals())));
        }
        if let Some(why) = &sample.trouble {
            ui.label(RichText::new(why).color(theme::warning(ui.visuals())));
        }
        self.follow(sample);
        if sample.tokens.is_empty() && !sample.running {
            let sentence = "What the model writes appears here, while it trains or after.";
            ui.centered_and_justified(|ui| ui.label(RichText::new(sentence).weak()));
            return actions;
        }
        egui::Frame::new().fill(ui.visuals().extreme_bg_color).corner_radius(4).inner_margin(8).show(ui, |ui| {
            let scroll = ScrollArea::vertical().auto_shrink(false).stick_to_bottom(true);
            scroll.show(ui, |ui| self.text(ui, sample, view));
        });
        actions
    }

    /// The row of attention that chose the token under the pointer, or the kept one.
    #[must_use]
    pub fn focus(&self) -> Option<Arc<Focus>> {
        self.focus.as_ref().map(|(_, focus)| Arc::clone(focus))
    }

    fn follow(&mut self, sample: &SampleState) {
        if self.sample != sample.id || self.ends.len() > sample.tokens.len() {
            *self = Self { sample: sample.id, ..Self::default() };
        }
        let mut end = self.ends.last().copied().unwrap_or_else(|| sample.prompt.chars().count());
        for token in &sample.tokens[self.ends.len()..] {
            end += token.text.chars().count();
            self.ends.push(end);
        }
    }

    /// The text, and behind its words the weights of the row that is shown.
    fn job(&self, ui: &Ui, sample: &SampleState, view: &ViewSettings) -> LayoutJob {
        let font = FontId::monospace(TextStyle::Monospace.resolve(ui.style()).size);
        let plain = |color: Color32| TextFormat::simple(font.clone(), color);
        let (asked, drawn) = (theme::muted(ui.visuals()), ui.visuals().text_color());
        let mut job = LayoutJob::default();
        job.wrap.max_width = ui.available_width();
        let row = self.focus.as_ref().map(|(_, focus)| (focus.attention.start, weights(focus, view.selected)));
        let format = |place: usize, color: Color32| {
            let weight = row.and_then(|(start, row)| row.get(place.checked_sub(start)?));
            weight.map_or_else(
                || plain(color),
                |weight| {
                    let background = scale_of(view).color(*weight);
                    TextFormat { background, ..plain(colormap::readable_on(background)) }
                },
            )
        };
        let prompt = &sample.prompt_tokens;
        let mut characters = sample.prompt.chars();
        // A label stands for as many characters as its token has, but for pieces of characters and an empty prompt.
        let lengths: Vec<usize> = prompt.iter().map(|label| label.chars().count()).collect();
        if row.is_some() && lengths.iter().sum::<usize>() == sample.prompt.chars().count() {
            for (place, length) in lengths.into_iter().enumerate() {
                let piece: String = characters.by_ref().take(length).collect();
                job.append(&piece, 0.0, format(place, asked));
            }
        } else {
            job.append(&sample.prompt, 0.0, plain(asked));
        }
        if row.is_some() {
            for (index, token) in sample.tokens.iter().enumerate() {
                job.append(&token.text, 0.0, format(prompt.len() + index, drawn));
            }
        } else {
            let text: String = sample.tokens.iter().map(|token| token.text.as_str()).collect();
            job.append(&text, 0.0, plain(drawn));
        }
        job
    }

    fn text(&mut self, ui: &mut Ui, sample: &SampleState, view: &ViewSettings) {
        let job = self.job(ui, sample, view);
        let galley = ui.ctx().fonts_mut(|fonts| fonts.layout_job(job));
        let (area, response) = ui.allocate_exact_size(galley.size(), Sense::click());
        response.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("Sample: {}", sample.text())));

        let hovered = response.hover_pos().and_then(|pointer| character_at(&galley, pointer - area.min.to_vec2()));
        // The prompt's characters lie before the first token's.
        let hovered = hovered.and_then(|character| {
            let index = self.ends.partition_point(|&end| end <= character);
            (self.start_of(sample, index)? <= character).then_some(index)
        });
        if self.kept && (response.clicked() || ui.input(|input| input.key_pressed(Key::Escape))) {
            self.kept = false;
        } else if response.clicked() && hovered.is_some() {
            self.kept = true;
        }
        self.show(ui, sample, hovered);
        ui.painter().galley(area.min, Arc::clone(&galley), ui.visuals().text_color());
        for (index, color) in
            [(hovered, theme::muted(ui.visuals())), (self.shown.filter(|_| self.kept), theme::accent(ui.visuals()))]
        {
            let Some((index, start)) = index.and_then(|index| Some((index, self.start_of(sample, index)?))) else {
                continue;
            };
            for place in glyphs(&galley, start..self.ends[index]) {
                let place = place.translate(area.min.to_vec2());
                let stroke = egui::Stroke::new(1.5, color);
                ui.painter().rect_stroke(place, 2.0, stroke, egui::StrokeKind::Outside);
            }
        }
        if let Some(index) = hovered {
            let anchor = PopupAnchor::Pointer;
            let tooltip = Tooltip::always_open(ui.ctx().clone(), ui.layer_id(), response.id, anchor);
            let looked =
                self.focus.as_ref().filter(|(of, _)| *of == index).map(|(_, focus)| said(focus, view.selected));
            let elsewhere = (self.kept && self.shown != Some(index))
                .then(|| "Another token's row is kept: click or Escape lets go.".to_owned());
            tooltip.gap(14.0).show(|ui| weighed(ui, &sample.tokens[index], looked.or(elsewhere).as_deref()));
        }
    }

    /// The character that a drawn token begins with.
    fn start_of(&self, sample: &SampleState, index: usize) -> Option<usize> {
        Some(self.ends.get(index)? - sample.tokens[index].text.chars().count())
    }

    /// Shows the row of the token under the pointer, unless one is kept.
    fn show(&mut self, ui: &Ui, sample: &SampleState, hovered: Option<usize>) {
        if self.kept || self.shown == hovered {
            return;
        }
        self.shown = hovered;
        // What is coloured is known only now that the text is laid out.
        ui.ctx().request_repaint();
        self.focus = self.shown.and_then(|index| {
            let token = &sample.tokens[index];
            let attention = Arc::clone(token.attention.as_ref()?);
            let drawn = sample.tokens.iter().map(|token| &token.label);
            let seen = sample.prompt_tokens.iter().chain(drawn).skip(attention.start).take(attention.keys());
            let keys = seen.cloned().collect();
            Some((index, Arc::new(Focus { chosen: token.label.clone(), keys, attention })))
        });
    }
}

/// The chosen head's row, or that of the nearest head that the model has.
fn weights(focus: &Focus, selected: HeadId) -> &[f32] {
    focus.attention.head(nearest(focus, selected))
}

fn nearest(focus: &Focus, HeadId { layer, head }: HeadId) -> HeadId {
    let last = |count: usize| count.saturating_sub(1);
    HeadId { layer: layer.min(last(focus.attention.layers)), head: head.min(last(focus.attention.heads)) }
}

/// Where the chosen head looked, in words.
fn said(focus: &Focus, selected: HeadId) -> String {
    let HeadId { layer, head } = nearest(focus, selected);
    let row = weights(focus, selected);
    let mut keys: Vec<usize> = (0..row.len()).collect();
    keys.sort_by(|&one, &other| falling(row[one], row[other]));
    let most: Vec<String> =
        keys.iter().take(3).map(|&key| format!("'{}' {}", focus.key(key), weight_text(row[key]))).collect();
    format!("Layer {} · head {} looked at {}", layer + 1, head + 1, most.join(", "))
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

/// What is put around the prompt, and where the text ends: for models that have tokens for that.
fn around(ui: &mut Ui, draft: &mut SamplingRecipe, ready: &ReadyReport) {
    if ready.adds_special {
        let tip = "Before or after the prompt stand the tokens that the model's tokenizer puts around every text.";
        ui.checkbox(&mut draft.special_tokens, "Special tokens").on_hover_text(tip);
    }
    if !ready.ends.is_empty() {
        let tip = format!("The text is at its end when the model writes {}.", ready.ends.join(" or "));
        ui.checkbox(&mut draft.stop_at_end, "Stop at an end token").on_hover_text(tip);
    }
}

/// The tooltip of a token: how likely it was, the ten likeliest with bars, and where the chosen head looked.
fn weighed(ui: &mut Ui, token: &SampledToken, looked: Option<&str>) {
    ui.label(theme::heading(format!("'{}'  {}", token.label, percent(token.probability))));
    let alternatives = token.alternatives.iter().map(|(text, probability)| (text.as_str(), *probability));
    likeliest::ui(ui, alternatives, Some(&token.label));
    ui.weak(looked.unwrap_or("Where the heads looked was not recorded."));
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
