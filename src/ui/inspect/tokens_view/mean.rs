//! Where the chosen head looks on average over a text, place by place.

use std::sync::Arc;

use eframe::egui::{Align2, ProgressBar, Role, Sense, StrokeKind, TextStyle, Ui, Vec2, WidgetInfo, vec2};

use super::super::attention_view::compare::{Drawn, Source};
use super::super::attention_view::picture::{self, Picture, Subject};
use super::{explain, name_of, non_finite_weights};
use crate::protocol::{AttentionSnapshot, HeadId, MeanAttention};
use crate::recipe::grouped;
use crate::store::RunStore;
use crate::ui::actions::{Action, PickPurpose};
use crate::ui::widgets::colormap::{self, WeightScale};
use crate::ui::widgets::words::{nothing_yet, weight_text, without};

#[derive(Default)]
pub(super) struct Mean {
    picture: Option<Picture>,
    /// What the picture shows, and how often that changed.
    of: Option<Arc<AttentionSnapshot>>,
    version: u64,
}

impl Mean {
    pub(super) fn ui(&mut self, ui: &mut Ui, store: &RunStore, head: HeadId, scale: WeightScale) -> Vec<Action> {
        let mut actions = Vec::new();
        let mean = store.mean_attention.as_ref();
        ui.horizontal_wrapped(|ui| {
            let hint = "Reads a text file and averages the attention over its windows";
            if ui.button("Choose a text…").on_hover_text(hint).clicked() {
                actions.push(Action::Pick(PickPurpose::MeanAttention));
            }
            let Some(MeanAttention { windows, total, .. }) = mean else { return };
            if windows < total {
                if ui.button("Cancel").on_hover_text("What was found so far stays").clicked() {
                    actions.push(Action::StopMeasuring);
                }
                let words = format!("{windows} of {total} windows");
                ui.add(ProgressBar::new(*windows as f32 / *total as f32).desired_width(160.0).text(words));
            }
        });
        let Some(MeanAttention { path, switches, windows, attention, .. }) = mean else {
            nothing_yet(ui, "Choose a text file: where does this head look on average, place by place?");
            return actions;
        };
        let head = HeadId {
            layer: head.layer.min(attention.layers.saturating_sub(1)),
            head: head.head.min(attention.heads.saturating_sub(1)),
        };
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let sentence = format!(
            "{}: mean over {} windows of {name} at step {}{}. Rows: place of the query, columns: place of the key.",
            name_of(head),
            grouped(*windows as u64),
            grouped(attention.step.0),
            without(switches)
        );
        explain(ui, scale, &sentence);
        if self.of.as_ref().is_none_or(|known| !Arc::ptr_eq(known, attention)) {
            self.of = Some(Arc::clone(attention));
            self.version += 1;
        }
        non_finite_weights(ui, attention.head(head), attention.tokens.len(), head);
        self.map_ui(ui, attention, head, scale);
        actions
    }

    fn map_ui(&mut self, ui: &mut Ui, attention: &AttentionSnapshot, head: HeadId, scale: WeightScale) {
        let count = attention.tokens.len();
        let line = vec2(ui.available_width(), ui.text_style_height(&TextStyle::Monospace));
        let (readout, told) = ui.allocate_exact_size(line, Sense::hover());
        let side = ui.available_width().min(ui.available_height()).max(32.0);
        let (area, response) = ui.allocate_exact_size(Vec2::splat(side - 2.0), Sense::hover());
        let name = format!("Mean attention of layer {}, head {}", head.layer + 1, head.head + 1);
        let bad = attention.non_finite.iter().find(|(bad, _)| *bad == head);
        let name =
            name + &bad.map_or_else(String::new, |(_, query)| format!(": not a number from position {} on", query + 1));
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &name));
        let (version, dark, block) = (self.version, ui.visuals().dark_mode, picture::block(count, side as usize));
        let subject = Subject { version, head, source: Source::This, scale, dark, block };
        let drawn = Drawn { tokens: count, weights: attention.head(head), less: None };
        let texture = Picture::texture(&mut self.picture, ui.ctx(), drawn, subject).id();
        colormap::paint_map(ui.painter(), area, texture, colormap::WHOLE, 8.0, ui.visuals());
        ui.painter().rect_stroke(area, 0.0, ui.visuals().widgets.noninteractive.bg_stroke, StrokeKind::Outside);
        let cell = side / count as f32;
        let place = |offset: f32| ((offset / cell).max(0.0) as usize).min(count - 1);
        let words = match response.hover_pos() {
            Some(pointer) => {
                let (key, query) = (place(pointer.x - area.left()), place(pointer.y - area.top()));
                let weight = if key > query {
                    "later place: never looked at".to_owned()
                } else {
                    weight_text(attention.weight(head, query, key))
                };
                format!("place {query} → place {key}  {weight}")
            }
            None => "Point at a cell for its mean weight".to_owned(),
        };
        let (font, color) = (TextStyle::Monospace.resolve(ui.style()), ui.visuals().strong_text_color());
        ui.painter().text(readout.left_top(), Align2::LEFT_TOP, &words, font, color);
        told.widget_info(|| WidgetInfo::labeled(Role::Label, true, &words));
    }
}
