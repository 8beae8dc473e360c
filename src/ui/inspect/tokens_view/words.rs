//! Words coloured by the weights of one query.

use eframe::egui::{Align2, FontId, Rect, ScrollArea, Sense, Stroke, StrokeKind, TextStyle, Ui, pos2, vec2};

use super::{Chosen, Shown, explain, most, pointed, tell};
use crate::ui::widgets::colormap::{self, WeightScale};
use crate::ui::widgets::theme;
use crate::ui::widgets::words::weight_text;

/// Where each token stands, from the corner of the text; as long as tokens and width stay the same.
#[derive(Default)]
pub(super) struct Words {
    tokens: Vec<String>,
    width: f32,
    places: Vec<Rect>,
    height: f32,
}

impl Words {
    /// `of` names what the weights are of.
    pub(super) fn ui(&mut self, ui: &mut Ui, shown: Shown<'_>, chosen: &mut Chosen, scale: WeightScale, of: &str) {
        // Where one is kept, the pointer asks for a weight of its row.
        let query = chosen.kept.or(chosen.hovered).unwrap_or(shown.count() - 1);
        let sentence = format!("{of}: what the framed word looks at. Point at another word, or click to keep one.");
        explain(ui, scale, &sentence);
        let told = match (chosen.kept, chosen.hovered) {
            (Some(query), Some(key)) if key > query => {
                format!("'{}' → '{}'  later token: never looked at", shown.token(query), shown.token(key))
            }
            (Some(query), Some(key)) => {
                let weight = weight_text(shown.row(query)[key]);
                format!("'{}' → '{}'  {weight}", shown.token(query), shown.token(key))
            }
            _ => most(shown, query),
        };
        tell(ui, &told);
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            let font = FontId::monospace(TextStyle::Monospace.resolve(ui.style()).size + 2.0);
            self.lay_out(ui, &shown.snapshot.tokens, &font);
            let (area, _) = ui.allocate_exact_size(vec2(ui.available_width(), self.height), Sense::hover());
            let group = ui.make_persistent_id("words");
            let (mut hovered, mut clicked) = (None, None);
            let row = shown.row(query);
            for (place, token) in shown.snapshot.tokens.iter().enumerate() {
                let chip = self.places[place].translate(area.min.to_vec2());
                if !ui.is_rect_visible(chip) {
                    continue;
                }
                let [is_hovered, is_clicked] =
                    pointed(ui, chip, group.with(place), &format!("Token {}: '{token}'", place + 1));
                hovered = hovered.or(is_hovered.then_some(place));
                clicked = clicked.or(is_clicked.then_some(place));
                let painter = ui.painter();
                let ink = if place <= query {
                    let ground = scale.color(row[place]);
                    painter.rect_filled(chip, 2.0, ground);
                    colormap::readable_on(ground)
                } else {
                    theme::muted(ui.visuals()).gamma_multiply(0.6)
                };
                painter.text(chip.center(), Align2::CENTER_CENTER, token, font.clone(), ink);
                if place == query {
                    let frame = Stroke::new(2.5, theme::accent(ui.visuals()));
                    painter.rect_stroke(chip, 2.0, frame, StrokeKind::Outside);
                }
            }
            chosen.take(ui, hovered, clicked);
        });
    }

    fn lay_out(&mut self, ui: &Ui, tokens: &[String], font: &FontId) {
        let width = ui.available_width();
        if self.width == width && self.tokens == tokens {
            return;
        }
        let (mut place, mut places) = (pos2(2.0, 2.0), Vec::with_capacity(tokens.len()));
        let size_of = |token: &str| {
            let galley = ui.painter().layout_no_wrap(token.to_owned(), font.clone(), ui.visuals().text_color());
            galley.size() + vec2(2.0, 2.0)
        };
        let line = size_of("m").y + 5.0;
        for token in tokens {
            let size = size_of(token);
            if place.x + size.x > width && place.x > 2.0 {
                place = pos2(2.0, place.y + line);
            }
            places.push(Rect::from_min_size(place, vec2(size.x, line - 5.0)));
            place.x += size.x + 1.0;
            if token.ends_with('⏎') {
                place = pos2(2.0, place.y + line);
            }
        }
        *self = Self { tokens: tokens.to_vec(), width, places, height: place.y + line };
    }
}
