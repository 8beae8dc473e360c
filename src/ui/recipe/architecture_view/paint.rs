//! How the drawing looks, and what its parts tell when pointed at.

use std::f32::consts::{FRAC_PI_2, PI};

use eframe::egui::epaint::TextShape;
use eframe::egui::{
    Align2, Color32, CornerRadius, FontId, Painter, Pos2, Rect, Role, Sense, Shape, Stroke, StrokeKind, Ui, Vec2,
    WidgetInfo, pos2, vec2,
};

use super::parts::{Kind, Part};
use super::plan::Plan;
use crate::recipe::{ModelRecipe, Recipe, grouped};
use crate::ui::widgets::theme::{self, Tone};

struct Canvas<'a> {
    painter: Painter,
    visuals: eframe::egui::Visuals,
    plan: &'a Plan,
    parts: &'a [Part],
    model: &'a ModelRecipe,
}

/// Draws the network and has its parts answer to the pointer.
pub(super) fn network(ui: &Ui, plan: &Plan, parts: &[Part], recipe: &Recipe) {
    let canvas =
        Canvas { painter: ui.painter().clone(), visuals: ui.visuals().clone(), plan, parts, model: &recipe.model };
    canvas.frame();
    canvas.stream();
    canvas.connections();
    let total: Option<u64> = parts.iter().map(Part::total).sum();
    canvas.top_caption(total);
    for part in parts {
        let Some(rect) = canvas.rect(part.kind) else { continue };
        let response = ui.interact(rect, ui.scope_id().with(("part", part.kind)), Sense::hover());
        response.widget_info(|| WidgetInfo::labeled(Role::GraphicsObject, true, part.label()));
        canvas.part(part, rect, response.hovered());
        response.on_hover_ui(|ui| explain(ui, part, total));
    }
}

fn explain(ui: &mut Ui, part: &Part, total: Option<u64>) {
    ui.label(theme::heading(&part.name));
    ui.label(&part.sentence);
    let counted = match (part.weights, part.total(), total) {
        (Some(0), ..) => "none of its own".to_owned(),
        (Some(one), Some(all), Some(total)) => {
            let each = if part.times > 1 {
                format!("{} × {} layers = {}", grouped(one), part.times, grouped(all))
            } else {
                grouped(one)
            };
            format!("{each} ({:.1} %)", 100.0 * all as f64 / total.max(1) as f64)
        }
        _ => "known once the text is read".to_owned(),
    };
    for (name, value) in [("Shape", &part.shape), ("Weights", &counted), ("Gives", &part.output)] {
        ui.horizontal_wrapped(|ui| {
            ui.weak(name);
            ui.label(theme::number(value));
        });
    }
}

const fn tone(kind: Kind) -> Tone {
    match kind {
        Kind::TokenEmbedding | Kind::PositionEmbedding | Kind::Head | Kind::Logits | Kind::Stream => Tone::Embedding,
        Kind::AttentionNorm | Kind::MlpNorm | Kind::FinalNorm => Tone::Norm,
        Kind::QueryKeyValue | Kind::Rotation | Kind::Heads | Kind::Projection | Kind::AttentionSum => Tone::Attention,
        Kind::Gate | Kind::Up | Kind::Activation | Kind::Down | Kind::MlpSum => Tone::Mlp,
    }
}

impl Canvas<'_> {
    fn s(&self, length: f32) -> f32 {
        length * self.plan.scale
    }

    fn words(&self) -> FontId {
        FontId::proportional(self.s(12.5))
    }

    fn small(&self) -> FontId {
        FontId::proportional(self.s(11.0))
    }

    fn figures(&self) -> FontId {
        FontId::monospace(self.s(10.5))
    }

    fn line_color(&self) -> Color32 {
        theme::muted(&self.visuals)
    }

    fn stream_color(&self) -> Color32 {
        theme::tone_color(Tone::Embedding, &self.visuals)
    }

    /// The stream answers along its whole line and in its name.
    fn rect(&self, kind: Kind) -> Option<Rect> {
        if kind == Kind::Stream {
            let line = self.plan.stream;
            return Some(Rect::from_min_max(pos2(line.left() - self.s(31.0), line.top()), line.right_bottom()));
        }
        self.plan.rect(kind)
    }

    fn top_caption(&self, total: Option<u64>) {
        let (corner, muted) = (self.plan.top_caption, theme::muted(&self.visuals));
        self.painter.text(corner, Align2::LEFT_TOP, "tokens [batch, position]", self.small(), muted);
        let right = self.rect(Kind::TokenEmbedding).map_or(corner.x, |rect| rect.right());
        let words = total.map_or_else(|| "reading the text…".into(), |total| format!("{} weights", grouped(total)));
        let strong = self.visuals.strong_text_color();
        self.painter.text(pos2(right, corner.y), Align2::RIGHT_TOP, words, self.small(), strong);
    }

    fn frame(&self) {
        let frame = self.plan.frame;
        let (fill, line) = (theme::backdrop(&self.visuals), self.visuals.widgets.inactive.bg_stroke.color);
        let rounding = CornerRadius::same(self.s(7.0) as u8);
        self.painter.rect(frame, rounding, fill.gamma_multiply(0.6), Stroke::new(1.0, line), StrokeKind::Inside);
        let layers = self.model.layers;
        let title = if layers == 1 { "Block".to_owned() } else { format!("Block × {layers}") };
        let y = frame.top() + self.s(4.0);
        let left = self.rect(Kind::AttentionNorm).map_or(frame.left(), |rect| rect.left());
        let strong = self.visuals.strong_text_color();
        self.painter.text(pos2(left, y), Align2::LEFT_TOP, title, self.words(), strong);
        let each: Option<u64> = self.parts.iter().filter(|part| in_block(part.kind)).map(|part| part.weights).sum();
        let each = each.map(|each| format!("{} weights{}", grouped(each), if layers == 1 { "" } else { " each" }));
        let right = pos2(frame.right() - self.s(6.0), y + self.s(1.0));
        let muted = theme::muted(&self.visuals);
        self.painter.text(right, Align2::RIGHT_TOP, each.unwrap_or_default(), self.small(), muted);
    }

    fn stream(&self) {
        let (line, color) = (self.plan.stream, self.stream_color());
        self.arrow(line.left_top(), line.left_bottom(), self.s(2.4), color);
        let words = format!("residual stream [batch, position, {}]", grouped(self.model.width as u64));
        let text = self.painter.layout_no_wrap(words, self.small(), color);
        let middle = self.plan.frame.center().y + text.size().x / 2.0;
        let place = pos2(line.left() - self.s(31.0), middle);
        self.painter.add(TextShape::new(place, text, color).with_angle(-FRAC_PI_2));
    }

    /// The lines between the boxes: what reads the stream, what writes to it, what follows on what.
    fn connections(&self) {
        let (stream, color) = (self.plan.stream.left(), self.line_color());
        let thin = self.s(1.3);
        for kind in [Kind::AttentionNorm, Kind::MlpNorm] {
            if let Some(to) = self.rect(kind) {
                self.arrow(pos2(stream, to.center().y), to.left_center(), thin, color);
            }
        }
        let radius = self.s(7.5);
        for kind in [Kind::Projection, Kind::Down] {
            if let Some(from) = self.rect(kind) {
                self.arrow(from.left_center(), pos2(stream + radius, from.center().y), thin, color);
            }
        }
        if let Some(from) = self.rect(Kind::PositionEmbedding) {
            self.arrow(from.left_center(), pos2(stream + radius, from.center().y), thin, color);
            self.plus(pos2(stream, from.center().y), radius, Tone::Embedding, false);
        }
        let follows = [
            (Kind::AttentionNorm, Kind::QueryKeyValue),
            (Kind::QueryKeyValue, Kind::Heads),
            (Kind::Heads, Kind::Projection),
            (Kind::MlpNorm, Kind::Gate),
            (Kind::MlpNorm, Kind::Up),
            (Kind::Activation, Kind::Down),
            (Kind::FinalNorm, Kind::Head),
        ];
        for (from, to) in follows {
            if let (Some(from), Some(to)) = (self.rect(from), self.rect(to)) {
                let x = if from.width() < to.width() { from.center().x } else { to.center().x };
                self.painter.line_segment([pos2(x, from.bottom()), pos2(x, to.top())], Stroke::new(thin, color));
            }
        }
        for from in [Kind::Gate, Kind::Up] {
            if let (Some(from), Some(to)) = (self.rect(from), self.rect(Kind::Activation)) {
                let corner = pos2(from.center().x, to.center().y);
                self.painter.line(vec![from.center_bottom(), corner, to.center()], Stroke::new(thin, color));
            }
        }
        if self.model.tied_head {
            self.tied_line();
        }
    }

    /// From the head back to the embedding whose weights it has.
    fn tied_line(&self) {
        let (Some(head), Some(embedding)) = (self.rect(Kind::Head), self.rect(Kind::TokenEmbedding)) else { return };
        let (x, color) = (self.plan.tied_x, self.stream_color());
        let corners = [
            head.right_center(),
            pos2(x, head.center().y),
            pos2(x, embedding.center().y),
            embedding.right_center() + vec2(self.s(5.0), 0.0),
        ];
        let stroke = Stroke::new(self.s(1.3), color);
        self.painter.extend(Shape::dashed_line(&corners, stroke, self.s(4.0), self.s(3.0)));
        self.tip(embedding.right_center(), vec2(-1.0, 0.0), color);
    }

    fn arrow(&self, from: Pos2, to: Pos2, width: f32, color: Color32) {
        let direction = (to - from).normalized();
        self.painter.line_segment([from, to - direction * self.s(4.0)], Stroke::new(width, color));
        self.tip(to, direction, color);
    }

    fn tip(&self, to: Pos2, direction: Vec2, color: Color32) {
        let (back, side) = (direction * self.s(6.0), direction.rot90() * self.s(3.4));
        let corners = vec![to, to - back + side, to - back - side];
        self.painter.add(Shape::convex_polygon(corners, color, Stroke::NONE));
    }

    fn plus(&self, center: Pos2, radius: f32, tone: Tone, hovered: bool) {
        let color = theme::tone_color(tone, &self.visuals);
        let stroke = Stroke::new(self.s(if hovered { 2.2 } else { 1.4 }), color);
        self.painter.circle(center, radius, self.visuals.panel_fill, stroke);
        let (arm, stroke) = (radius * 0.55, Stroke::new(self.s(1.6), color));
        self.painter.hline(center.x - arm..=center.x + arm, center.y, stroke);
        self.painter.vline(center.x, center.y - arm..=center.y + arm, stroke);
    }

    fn part(&self, part: &Part, rect: Rect, hovered: bool) {
        match part.kind {
            Kind::Stream => {}
            Kind::AttentionSum | Kind::MlpSum => {
                self.plus(rect.center(), rect.width() / 2.0, tone(part.kind), hovered);
            }
            Kind::Rotation => self.rotation(rect, hovered),
            Kind::Heads => self.heads(rect, hovered),
            Kind::Activation => self.pill(part, rect, hovered),
            Kind::Logits => {
                let words = format!("logits {}", part.shape);
                let at = rect.left_center();
                self.painter.text(at, Align2::LEFT_CENTER, words, self.small(), theme::muted(&self.visuals));
            }
            _ => self.weights(part, rect, hovered),
        }
    }

    fn surface(&self, kind: Kind, rect: Rect, rounding: f32, hovered: bool) {
        let color = theme::tone_color(tone(kind), &self.visuals);
        let stroke = Stroke::new(self.s(if hovered { 2.0 } else { 1.0 }), color);
        let fill = theme::tone_fill(tone(kind), &self.visuals);
        self.painter.rect(rect, CornerRadius::same(rounding as u8), fill, stroke, StrokeKind::Inside);
    }

    /// A box with a name, the shape of its weights and their number; what does not fit is left to the pointer.
    fn weights(&self, part: &Part, rect: Rect, hovered: bool) {
        self.surface(part.kind, rect, self.s(4.0), hovered);
        let (text, strong) = (self.visuals.text_color(), self.visuals.strong_text_color());
        let inner = rect.shrink2(vec2(self.s(8.0), self.s(3.0)));
        let count = match part.weights {
            _ if part.kind == Kind::Head && self.model.tied_head => "tied".to_owned(),
            Some(count) => grouped(count),
            None => "–".to_owned(),
        };
        let tall = rect.height() > self.s(30.0);
        let align = |x| if tall { x } else { inner.center().y };
        let (name_at, count_at) =
            if tall { (Align2::LEFT_TOP, Align2::RIGHT_TOP) } else { (Align2::LEFT_CENTER, Align2::RIGHT_CENTER) };
        let name = pos2(inner.left(), align(inner.top()));
        let name = self.painter.text(name, name_at, &part.short, self.words(), strong);
        let place = pos2(inner.right(), align(inner.top() + self.s(1.0)));
        self.painter.text(place, count_at, count, self.figures(), text);
        let shape = self.painter.layout_no_wrap(part.shape.clone(), self.figures(), text);
        let (x, y) = if tall {
            (inner.left(), inner.bottom() - shape.size().y)
        } else {
            // A column of its own, so that the shapes stand below each other.
            (inner.right() - self.s(68.0) - shape.size().x, inner.center().y - shape.size().y / 2.0)
        };
        if tall || x > name.right() + self.s(6.0) {
            self.painter.galley(pos2(x, y), shape, text);
        }
    }

    fn pill(&self, part: &Part, rect: Rect, hovered: bool) {
        let galley = self.painter.layout_no_wrap(part.short.clone(), self.small(), self.visuals.text_color());
        let size = vec2(galley.size().x + self.s(20.0), rect.height());
        let pill = Rect::from_center_size(rect.center(), size);
        self.surface(part.kind, pill, pill.height() / 2.0, hovered);
        self.painter.galley(pill.center() - galley.size() / 2.0, galley, self.visuals.text_color());
    }

    /// A square for each query head, below them the keys and values, each as wide as the queries that it serves.
    fn heads(&self, rect: Rect, hovered: bool) {
        self.surface(Kind::Heads, rect, self.s(4.0), hovered);
        let (heads, groups) = (self.model.heads, self.model.key_value_heads());
        let color = theme::tone_color(Tone::Attention, &self.visuals);
        let text = self.visuals.text_color();
        let inner = rect.shrink2(vec2(self.s(8.0), self.s(4.0)));
        let rotated = self.rect(Kind::Rotation).is_some();
        let left = inner.left() + self.s(64.0);
        let right = inner.right() - if rotated { self.s(24.0) } else { 0.0 };
        let row = inner.height() / 3.0;
        let rows = [(heads, "queries", "query", 1.0), (groups, "keys", "key", 0.55), (groups, "values", "value", 0.3)];
        for (index, (count, many, one, strength)) in rows.into_iter().enumerate() {
            let middle = inner.top() + (index as f32 + 0.5) * row;
            let words = format!("{count} {}", if count == 1 { one } else { many });
            self.painter.text(pos2(inner.left(), middle), Align2::LEFT_CENTER, words, self.small(), text);
            let (group, each) = ((right - left) / groups as f32, count / groups);
            let between = (group * 0.18).min(self.s(5.0));
            let step = (group - between) / each as f32;
            let gap = if each == 1 { 0.0 } else { (step * 0.2).min(self.s(2.0)) };
            for head in 0..count {
                let x = left + (head / each) as f32 * group + (head % each) as f32 * step;
                let low = pos2(x, middle - row * 0.36);
                let cell = Rect::from_min_max(low, pos2(x + step - gap, middle + row * 0.36));
                self.painter.rect_filled(cell, self.s(2.0), color.gamma_multiply(strength));
            }
        }
    }

    /// Three quarters of a turn with a tip, for the queries and for the keys.
    fn rotation(&self, rect: Rect, hovered: bool) {
        let color = theme::tone_color(Tone::Attention, &self.visuals);
        let stroke = Stroke::new(self.s(if hovered { 2.2 } else { 1.5 }), color);
        for share in [0.27, 0.73] {
            let center = pos2(rect.center().x, rect.top() + share * rect.height());
            let radius = self.s(4.6);
            let at = |turn: f32| center + Vec2::angled(turn * 2.0 * PI) * radius;
            let points: Vec<Pos2> = (0..=18).map(|index| at(-0.35 + 0.72 * index as f32 / 18.0)).collect();
            let end = *points.last().unwrap_or(&center);
            self.painter.line(points, stroke);
            let direction = Vec2::angled(0.37 * 2.0 * PI + FRAC_PI_2);
            self.tip(end + direction * self.s(3.0), direction, color);
        }
    }
}

const fn in_block(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::TokenEmbedding | Kind::PositionEmbedding | Kind::Stream | Kind::FinalNorm | Kind::Head | Kind::Logits
    )
}
