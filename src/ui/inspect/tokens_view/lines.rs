//! Lines from queries to keys, as BertViz (Vig 2019) draws attention.

use std::sync::Arc;

use eframe::egui::{Align2, Color32, FontId, Mesh, Pos2, Rect, RichText, ScrollArea, Sense, Shape, Ui, pos2, vec2};

use super::{Chosen, Shown, most, name_of, pointed, tell};
use crate::protocol::HeadId;
use crate::ui::widgets::colormap::NOT_A_NUMBER;
use crate::ui::widgets::theme;
use crate::ui::widgets::words::shortened;

/// Weights below this have no line: it could not be seen.
const DRAWN_FROM: f32 = 0.01;
const HALF_WIDTH: f32 = 1.0;

/// The lines that were drawn last: made anew when something else is to be seen.
#[derive(Default)]
pub(super) struct Lines {
    mesh: Option<(Subject, Arc<Mesh>)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Subject {
    version: u64,
    head: HeadId,
    query: Option<usize>,
    area: Rect,
    clip: Rect,
    color: Color32,
}

impl Lines {
    pub(super) fn ui(&mut self, ui: &mut Ui, shown: Shown<'_>, chosen: &mut Chosen) {
        let query = chosen.hovered.or(chosen.kept);
        let sentence = format!(
            "{}: lines from words (left) to what they look at (right); stronger: more, none below {DRAWN_FROM}. Point at a \
             word, or click to keep one.",
            name_of(shown.head)
        );
        ui.label(RichText::new(sentence).color(theme::muted(ui.visuals())));
        let told = query.map_or_else(|| "All queries".to_owned(), |query| most(shown, query));
        tell(ui, &told);
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            let font = FontId::monospace(13.0);
            let line = font.size + 5.0;
            let size = vec2(ui.available_width(), shown.count() as f32 * line + 2.0);
            let (area, _) = ui.allocate_exact_size(size, Sense::hover());
            let (left, right) = (area.left() + area.width() * 0.3, area.left() + area.width() * 0.7);
            let between = Rect::from_x_y_ranges(left + 6.0..=right - 6.0, area.y_range());
            let subject = Subject {
                version: shown.version,
                head: shown.head,
                query,
                area: between,
                clip: ui.clip_rect(),
                color: theme::accent(ui.visuals()),
            };
            ui.painter().add(Shape::Mesh(self.mesh(shown, subject, line)));
            let group = ui.make_persistent_id("lines");
            let (mut hovered, mut clicked) = (None, None);
            for (place, token) in shown.snapshot.tokens.iter().enumerate() {
                let top = area.top() + place as f32 * line;
                let row = |from: f32, to: f32| Rect::from_x_y_ranges(from..=to, top..=top + line);
                let [from, to] = [row(area.left(), left), row(right, area.right())];
                if !ui.is_rect_visible(from) {
                    continue;
                }
                let [is_hovered, is_clicked] =
                    pointed(ui, from, group.with(place), &format!("Query {}: '{token}'", place + 1));
                hovered = hovered.or(is_hovered.then_some(place));
                clicked = clicked.or(is_clicked.then_some(place));
                let (visuals, painter) = (ui.visuals(), ui.painter());
                let text = shortened(token);
                let ink = if query == Some(place) { theme::accent(visuals) } else { visuals.text_color() };
                painter.text(from.right_center(), Align2::RIGHT_CENTER, &text, font.clone(), ink);
                let seen = query.is_none_or(|query| place <= query);
                let ink = if seen { visuals.text_color() } else { theme::muted(visuals).gamma_multiply(0.6) };
                painter.text(to.left_center(), Align2::LEFT_CENTER, &text, font.clone(), ink);
            }
            chosen.take(ui, hovered, clicked);
        });
    }

    #[cfg(test)]
    pub(super) fn vertices(&self) -> usize {
        self.mesh.as_ref().map_or(0, |(_, mesh)| mesh.vertices.len())
    }

    fn mesh(&mut self, shown: Shown<'_>, subject: Subject, line: f32) -> Arc<Mesh> {
        if let Some((known, mesh)) = &self.mesh
            && *known == subject
        {
            return Arc::clone(mesh);
        }
        let mesh = Arc::new(drawn(shown, subject, line));
        self.mesh = Some((subject, Arc::clone(&mesh)));
        mesh
    }
}

/// The lines of one query, or of all, as far as they are in sight.
fn drawn(shown: Shown<'_>, subject: Subject, line: f32) -> Mesh {
    let mut mesh = Mesh::default();
    let Subject { area, clip, color, .. } = subject;
    let queries = subject.query.map_or(0..shown.count(), |query| query..query + 1);
    let middle = |place: usize| area.top() + (place as f32 + 0.5) * line;
    for query in queries {
        let from = middle(query);
        for (key, &weight) in shown.row(query)[..=query].iter().enumerate() {
            let to = middle(key);
            if weight < DRAWN_FROM || from < clip.top() || to > clip.bottom() {
                continue;
            }
            let color = if weight.is_finite() { color.gamma_multiply(weight.min(1.0)) } else { NOT_A_NUMBER };
            add_line(&mut mesh, pos2(area.left(), from), pos2(area.right(), to), color);
        }
    }
    mesh
}

/// A line with soft edges.
fn add_line(mesh: &mut Mesh, from: Pos2, to: Pos2, color: Color32) {
    let normal = (to - from).normalized().rot90();
    let first = mesh.vertices.len() as u32;
    for end in [from, to] {
        for (offset, color) in [
            (-HALF_WIDTH - 0.5, Color32::TRANSPARENT),
            (0.5 - HALF_WIDTH, color),
            (HALF_WIDTH - 0.5, color),
            (HALF_WIDTH + 0.5, Color32::TRANSPARENT),
        ] {
            mesh.colored_vertex(end + offset * normal, color);
        }
    }
    for band in first..first + 3 {
        mesh.add_triangle(band, band + 1, band + 4);
        mesh.add_triangle(band + 1, band + 4, band + 5);
    }
}
