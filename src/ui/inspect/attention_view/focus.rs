//! The row of attention that chose a token of the sample, shown where the probe's attention else is.

use std::sync::Arc;

use eframe::egui::epaint::TextShape;
use eframe::egui::{Align2, FontId, Pos2, Rect, Role, Sense, StrokeKind, TextStyle, Ui, WidgetInfo, pos2, vec2};

use crate::protocol::{HeadId, TokenAttention, largest_place};
use crate::ui::widgets::colormap::{self, WeightScale};
use crate::ui::widgets::theme;
use crate::ui::widgets::words::{shortened, weight_text};

/// Where all heads looked when a token was drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Focus {
    /// The token that was drawn, printable.
    pub chosen: String,
    /// The tokens that were seen, printable, as many as the attention has keys.
    pub keys: Vec<String>,
    pub attention: Arc<TokenAttention>,
}

impl Focus {
    /// `row that chose 'e'`.
    pub(super) fn note(&self) -> String {
        format!("row that chose '{}'", self.chosen)
    }

    /// The token at a place of the row.
    #[must_use]
    pub fn key(&self, key: usize) -> &str {
        self.keys.get(key).map_or("", String::as_str)
    }

    /// One head's row as a strip across the middle of an area; bins of several keys show the largest weight.
    pub(super) fn paint(&self, ui: &Ui, area: Rect, head: HeadId, scale: WeightScale) {
        let row = self.attention.head(head);
        let strip = Rect::from_center_size(area.center(), vec2(area.width(), area.height().min(22.0)));
        if row.is_empty() {
            return;
        }
        let bins = row.len().min(area.width().max(1.0) as usize);
        for bin in 0..bins {
            let (first, end) = (bin * row.len() / bins, (bin + 1) * row.len() / bins);
            let largest = colormap::largest(&row[first..end]);
            let edge = |bin: usize| strip.left() + strip.width() * bin as f32 / bins as f32;
            let cell = Rect::from_x_y_ranges(edge(bin)..=edge(bin + 1), strip.y_range());
            ui.painter().rect_filled(cell, 0.0, scale.color(largest));
        }
        ui.painter().rect_stroke(strip, 0.0, ui.visuals().widgets.noninteractive.bg_stroke, StrokeKind::Outside);
    }

    /// One head's row across the pane, its tokens along it, with the weight under the pointer.
    pub(super) fn enlarged_ui(&self, ui: &mut Ui, head: HeadId, scale: WeightScale) {
        let row = self.attention.head(head);
        let line = ui.text_style_height(&TextStyle::Monospace) + 3.0;
        let (readout, told) = ui.allocate_exact_size(vec2(ui.available_width(), 2.0 * line), Sense::hover());
        let font = FontId::monospace(11.0);
        let character = ui.ctx().fonts_mut(|fonts| fonts.glyph_width(&font, 'm'));
        let longest = self.keys.iter().map(|token| token.chars().count()).max().unwrap_or(1).min(9);
        let turned = longest > 1;
        let above = if turned { longest as f32 * character } else { font.size } + 10.0;
        let size = vec2(ui.available_width(), above + 30.0);
        let (area, response) = ui.allocate_exact_size(size, Sense::hover());
        let strip = area.with_min_y(area.top() + above).shrink2(vec2(8.0, 4.0));
        let name = format!("Row of layer {}, head {} that chose '{}'", head.layer + 1, head.head + 1, self.chosen);
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &name));
        let visuals = ui.visuals();
        self.paint(ui, strip, head, scale);
        let cell = strip.width() / row.len().max(1) as f32;
        let key_at = |pointer: Pos2| strip.contains(pointer).then_some(((pointer.x - strip.left()) / cell) as usize);
        let pointed = response.hover_pos().and_then(key_at).filter(|key| *key < row.len());
        let strongest = largest_place(row);
        let stride = ((font.size + 1.0) / cell).ceil().max(1.0) as usize;
        for (key, token) in self.keys.iter().enumerate() {
            let marked = pointed.or(strongest);
            let hidden = marked.is_some_and(|marked| marked.abs_diff(key) < stride);
            if marked != Some(key) && (hidden || !key.is_multiple_of(stride)) {
                continue;
            }
            let color = if marked == Some(key) { theme::accent(visuals) } else { theme::muted(visuals) };
            let galley = ui.painter().layout_no_wrap(shortened(token), font.clone(), color);
            let (middle, bottom) = (strip.left() + (key as f32 + 0.5) * cell, strip.top() - 4.0);
            let shape = if turned {
                let place = pos2(middle - galley.size().y / 2.0, bottom);
                TextShape::new(place, galley, color).with_angle(-std::f32::consts::FRAC_PI_2)
            } else {
                let place = pos2(middle - galley.size().x / 2.0, bottom - galley.size().y);
                TextShape::new(place, galley, color)
            };
            ui.painter().add(shape);
        }
        let words = match pointed.or(strongest) {
            Some(key) => {
                let most = if pointed.is_none() { "most at " } else { "" };
                format!("{most}'{}'  {}", self.key(key), weight_text(row[key]))
            }
            None => "nothing was seen".to_owned(),
        };
        let place = format!(
            "{} · layer {} · head {} · one column for each token before it",
            self.note(),
            head.layer + 1,
            head.head + 1
        );
        let (mono, small) = (TextStyle::Monospace.resolve(ui.style()), TextStyle::Small.resolve(ui.style()));
        let clipped = ui.painter().with_clip_rect(readout.intersect(ui.clip_rect()));
        clipped.text(readout.left_top(), Align2::LEFT_TOP, &words, mono, visuals.strong_text_color());
        let below = readout.left_top() + vec2(0.0, line);
        clipped.text(below, Align2::LEFT_TOP, &place, small, theme::muted(visuals));
        told.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("{words}  {place}")));
    }
}
