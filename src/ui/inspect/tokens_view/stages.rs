//! How a head's weights come about: query · key, then the mask, then softmax.

use eframe::egui::{
    Align2, Color32, ColorImage, Context, Rect, RichText, Role, ScrollArea, Sense, Stroke, StrokeKind, TextStyle,
    TextureHandle, TextureId, TextureOptions, Ui, Vec2, WidgetInfo, pos2, vec2,
};

use super::super::attention_view::compare::{Drawn, Source};
use super::super::attention_view::picture::{self, Picture, Subject};
use super::{Chosen, Shown, name_of};
use crate::protocol::HeadId;
use crate::ui::widgets::colormap::{self, WeightScale, diverging, diverging_legend};
use crate::ui::widgets::theme;
use crate::ui::widgets::words::{nothing_yet, number_text, shortened, weight_text};

/// Pixels along a side: three maps stand beside each other.
const PIXELS_MAX: usize = 256;

#[derive(Default)]
pub(super) struct Stages {
    scores: Option<Scores>,
    weights: Option<Picture>,
}

/// Both pictures of the scores, before and after the mask.
struct Scores {
    of: (u64, HeadId, bool),
    /// The largest score that is a number, without its sign.
    limit: f32,
    textures: [TextureHandle; 2],
}

impl Scores {
    fn new(ctx: &Context, of: (u64, HeadId, bool), scores: &[f32], count: usize) -> Self {
        let finite = scores.iter().map(|score| score.abs()).filter(|score| score.is_finite());
        let limit = finite.fold(f32::MIN_POSITIVE, f32::max);
        let color = |score: f32| diverging(score / limit, of.2);
        let load = |masked| ctx.load_texture("scores", paint(scores, count, masked, &color), TextureOptions::NEAREST);
        Self { of, limit, textures: [load(false), load(true)] }
    }
}

impl Stages {
    /// `scores` are query · key / √head_width, `[query, key]`, if they have been computed.
    pub(super) fn ui(
        &mut self,
        ui: &mut Ui,
        shown: Shown<'_>,
        scores: Option<&[f32]>,
        chosen: &mut Chosen,
        scale: WeightScale,
    ) {
        let query = chosen.hovered.or(chosen.kept).unwrap_or(shown.count() - 1);
        let sentence = format!(
            "{}: scores, then later tokens are masked, then softmax makes shares of 1. Point at a row, or click to keep one.",
            name_of(shown.head)
        );
        ui.label(RichText::new(sentence).color(theme::muted(ui.visuals())));
        let Some(scores) = scores else {
            return nothing_yet(ui, "The scores of this head are being computed.");
        };
        let of = (shown.version, shown.head, ui.visuals().dark_mode);
        if self.scores.as_ref().is_none_or(|known| known.of != of) {
            self.scores = Some(Scores::new(ui.ctx(), of, scores, shown.count()));
        }
        let Some(Scores { limit, textures, .. }) = &self.scores else { return };
        let (version, head, source) = (shown.version, shown.head, Source::This);
        let subject =
            Subject { version, head, source, scale, dark: of.2, block: picture::block(shown.count(), PIXELS_MAX) };
        let drawn = Drawn { tokens: shown.count(), weights: shown.weights, less: None };
        let weights = Picture::texture(&mut self.weights, ui.ctx(), drawn, subject).id();
        let gap = 10.0;
        let side = ((ui.available_width() - 2.0 * gap) / 3.0).min((ui.available_height() - 60.0) * 0.55).max(40.0);
        let line = ui.text_style_height(&TextStyle::Small) + 3.0;
        let size = vec2(3.0 * side + 2.0 * gap, side + line);
        let (area, _) = ui.allocate_exact_size(size, Sense::hover());
        let (mut hovered, mut clicked) = (None, None);
        let maps = [("query · key / √d", textures[0].id()), ("masked", textures[1].id()), ("softmax", weights)];
        for (index, (title, texture)) in maps.into_iter().enumerate() {
            let corner = area.min + vec2(index as f32 * (side + gap), line);
            let square = Rect::from_min_size(corner, Vec2::splat(side));
            let small = TextStyle::Small.resolve(ui.style());
            let color = ui.visuals().text_color();
            ui.painter().text(square.left_top() - vec2(0.0, 2.0), Align2::LEFT_BOTTOM, title, small, color);
            let pointed = map_ui(ui, square, texture, shown.count(), query, title);
            hovered = hovered.or(pointed.0);
            clicked = clicked.or(pointed.1);
        }
        ui.horizontal_wrapped(|ui| {
            diverging_legend(ui, *limit, "the scores");
            ui.weak("scores");
            colormap::legend(ui, scale);
            ui.weak("weights");
        });
        numbers_ui(ui, shown, scores, query);
        chosen.take(ui, hovered, clicked);
    }
}

/// Values as colours; of several tokens in a pixel the one farthest from zero is shown.
fn paint(values: &[f32], count: usize, masked: bool, color: &impl Fn(f32) -> Color32) -> ColorImage {
    let block = picture::block(count, PIXELS_MAX);
    let side = count.div_ceil(block);
    let mut farthest = vec![None; side * side];
    for (query, row) in values.chunks_exact(count).enumerate() {
        let seen = if masked { query + 1 } else { count };
        for (key, &value) in row[..seen].iter().enumerate() {
            let pixel: &mut Option<f32> = &mut farthest[query / block * side + key / block];
            // Nothing is farther than what is no number.
            if pixel.is_none_or(|known| value.is_nan() || value.abs() > known.abs()) {
                *pixel = Some(value);
            }
        }
    }
    let pixels = farthest.into_iter().map(|value| value.map_or(Color32::TRANSPARENT, color));
    ColorImage::new([side, side], pixels.collect())
}

/// One of the maps; the query under the pointer, and whether it was clicked.
fn map_ui(
    ui: &Ui,
    square: Rect,
    texture: TextureId,
    count: usize,
    query: usize,
    title: &str,
) -> (Option<usize>, Option<usize>) {
    let response = ui.interact(square, ui.make_persistent_id(("stage", title)), Sense::click());
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, format!("Stage: {title}")));
    colormap::paint_map(ui.painter(), square, texture, colormap::WHOLE, 6.0, ui.visuals());
    let frame: Stroke = ui.visuals().widgets.noninteractive.bg_stroke;
    ui.painter().rect_stroke(square, 0.0, frame, StrokeKind::Outside);
    let cell = square.height() / count as f32;
    let top = square.top() + query as f32 * cell;
    colormap::mark_on_map(ui.painter(), Rect::from_x_y_ranges(square.x_range(), top..=top + cell.max(3.0)));
    let row = |y: f32| (((y - square.top()) / cell).max(0.0) as usize).min(count - 1);
    let hovered = response.hover_pos().map(|pointer| row(pointer.y));
    (hovered, hovered.filter(|_| response.clicked()))
}

/// The numbers of one row, a line for each key.
fn numbers_ui(ui: &mut Ui, shown: Shown<'_>, scores: &[f32], query: usize) {
    let count = shown.count();
    let (scores, weights) = (&scores[query * count..][..count], shown.row(query));
    let title = format!("'{}' (token {})", shown.token(query), query + 1);
    let line = ui.text_style_height(&TextStyle::Monospace) + 2.0;
    let row_ui = |ui: &mut Ui, cells: [&str; 4], strong: bool| {
        let (area, response) = ui.allocate_exact_size(vec2(ui.available_width(), line), Sense::hover());
        let font = TextStyle::Monospace.resolve(ui.style());
        let color = if strong { ui.visuals().strong_text_color() } else { ui.visuals().text_color() };
        for (index, cell) in cells.into_iter().enumerate() {
            let (x, align) = if index == 0 {
                (0.0, Align2::LEFT_CENTER)
            } else {
                (110.0 + 90.0 * index as f32, Align2::RIGHT_CENTER)
            };
            ui.painter().text(pos2(area.left() + x, area.center().y), align, cell, font.clone(), color);
        }
        response.widget_info(|| WidgetInfo::labeled(Role::Label, true, cells.join("  ")));
    };
    ui.spacing_mut().item_spacing.y = 1.0;
    row_ui(ui, [&title, "scores", "masked", "softmax"], true);
    ScrollArea::vertical().auto_shrink(false).show_rows(ui, line, count, |ui, rows| {
        for key in rows {
            let score = number_text(scores[key], |score| format!("{score:+.3}"));
            let (masked, weight) = if key > query {
                ("−∞".to_owned(), if weights[key] == 0.0 { "0".to_owned() } else { weight_text(weights[key]) })
            } else {
                (score.clone(), weight_text(weights[key]))
            };
            let token = format!("{:>4} {}", key + 1, shortened(shown.token(key)));
            row_ui(ui, [&token, &score, &masked, &weight], false);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_takes_later_keys_only() {
        let color = |value: f32| Color32::from_gray(value as u8);
        let values = [1.0, 2.0, 3.0, 4.0];
        let all = paint(&values, 2, false, &color);
        assert_eq!(all.pixels, [1.0, 2.0, 3.0, 4.0].map(color));
        let masked = paint(&values, 2, true, &color);
        assert_eq!(masked.pixels, [color(1.0), Color32::TRANSPARENT, color(3.0), color(4.0)]);
    }
}
