//! The prediction after each layer (the logit lens, nostalgebraist 2020), and what each part of the model adds to one
//! logit.

mod attribution;

use eframe::egui::{
    self, Align2, FontId, Painter, Rect, RichText, Role, ScrollArea, Sense, Shape, Stroke, StrokeKind, TextStyle, Ui,
    WidgetInfo, pos2, vec2,
};

use super::attention_view::non_finite_line;
use crate::protocol::{AttentionSnapshot, Lens, Target};
use crate::store::RunStore;
use crate::ui::actions::{Action, ViewSettings};
use crate::ui::widgets::colormap::{self, WeightScale, viridis};
use crate::ui::widgets::words::{nothing_yet, shortened, without};
use crate::ui::widgets::{likeliest, theme};

/// Characters of a token in a cell; the tooltip shows all of it.
const CELL_CHARACTERS_MAX: usize = 9;

/// The pane. Keeps which logit is taken apart.
#[derive(Debug, Default)]
pub struct LensView {
    /// The probe's last place where nothing was chosen.
    position: Option<usize>,
    token: Option<u32>,
    sorted: bool,
    /// The place that was brought into sight, of so many.
    in_sight: Option<(usize, usize)>,
}

impl LensView {
    /// The logit that is to be taken apart, as soon as there is a probe.
    #[must_use]
    pub fn target(&self, store: &RunStore) -> Option<Target> {
        let last = store.attention.as_ref()?.tokens.len().checked_sub(1)?;
        Some(Target { position: self.position.map_or(last, |position| position.min(last)), token: self.token })
    }

    /// The probe is another one: places in the old one mean nothing.
    pub fn forget_places(&mut self) {
        (self.position, self.token) = (None, None);
    }

    pub fn ui(&mut self, ui: &mut Ui, store: &RunStore, view: &ViewSettings) -> Vec<Action> {
        let Some((look, ready)) = store.look.as_ref().zip(store.ready.as_ref()) else {
            nothing_yet(ui, "What the model would predict after each layer appears here when training starts.");
            return Vec::new();
        };
        let snapshot = &look.attention;
        let lens = look.lens.as_ref().filter(|lens| lens.positions == snapshot.tokens.len() && lens.rows() > 0);
        let (Some(lens), Some(target)) = (lens, self.target(store)) else {
            nothing_yet(ui, "The prediction after each layer is being computed.");
            return Vec::new();
        };
        if !snapshot.note.is_empty() {
            ui.label(RichText::new(&snapshot.note).color(theme::warning(ui.visuals())));
        }
        non_finite_line(ui, store);
        ui.horizontal_wrapped(|ui| {
            colormap::legend(ui, WeightScale::Linear);
            let sentence = "The likeliest next token if the model ended after a layer, coloured by its probability; a \
                            tick where the probe goes on like that";
            let sentence = format!("{sentence}{}.", without(&look.view.switches));
            ui.label(RichText::new(sentence).color(theme::muted(ui.visuals())));
        });
        let scroll = ScrollArea::vertical().auto_shrink(false);
        scroll
            .show(ui, |ui| {
                let at = Some((target.position, lens.positions));
                let reveal = std::mem::replace(&mut self.in_sight, at) != at;
                let table = Table { lens, snapshot, labels: &ready.labels, chosen: target.position, reveal };
                if let Some(position) = table.ui(ui) {
                    (self.position, self.token) = (Some(position), None);
                }
                ui.separator();
                let pruned = &ready.recipe.model.pruned;
                self.attribution_ui(ui, &table, look.attribution.as_ref(), target, pruned, view)
            })
            .inner
    }
}

/// The table of predictions: a row for each layer, a column for each place of the probe.
struct Table<'a> {
    lens: &'a Lens,
    snapshot: &'a AttentionSnapshot,
    labels: &'a [String],
    chosen: usize,
    /// Scrolls to the chosen place.
    reveal: bool,
}

impl Table<'_> {
    fn label(&self, token: u32) -> &str {
        self.labels.get(token as usize).map_or("?", String::as_str)
    }

    /// The token that follows in the probe.
    fn next(&self, position: usize) -> Option<&str> {
        self.snapshot.tokens.get(position + 1).map(String::as_str)
    }

    /// Paints the table; the position that was clicked.
    fn ui(&self, ui: &mut Ui) -> Option<usize> {
        let font = FontId::monospace(12.0);
        let small = TextStyle::Small.resolve(ui.style());
        let line = font.size + 9.0;
        let rows = self.lens.rows();
        let names: Vec<String> = (0..rows).map(row_name).collect();
        let muted = theme::muted(ui.visuals());
        let width_of = |name: &String| ui.painter().layout_no_wrap(name.clone(), small.clone(), muted).size().x;
        let names_width = names.iter().map(width_of).fold(0.0, f32::max) + 8.0;
        let character = ui.ctx().fonts_mut(|fonts| fonts.glyph_width(&font, 'm'));
        let longest = self.snapshot.tokens.iter().map(|token| token.chars().count()).max().unwrap_or(1);
        // Room for the tick.
        let column = longest.clamp(2, CELL_CHARACTERS_MAX) as f32 * character + 22.0;
        let height = line * (rows + 1) as f32;
        let mut clicked = None;
        ui.horizontal_top(|ui| {
            let (area, _) = ui.allocate_exact_size(vec2(names_width, height), Sense::hover());
            for (row, name) in names.iter().enumerate() {
                let place = pos2(area.right() - 6.0, area.top() + (row as f32 + 1.5) * line);
                ui.painter().text(place, Align2::RIGHT_CENTER, name, small.clone(), muted);
            }
            ScrollArea::horizontal().auto_shrink([false, true]).show(ui, |ui| {
                let size = vec2(column * self.lens.positions as f32, height);
                let (area, _) = ui.allocate_exact_size(size, Sense::hover());
                if self.reveal {
                    let left = area.left() + self.chosen as f32 * column;
                    let chosen = Rect::from_x_y_ranges(left..=left + column, area.y_range());
                    ui.scroll_to_rect_animation(chosen, None, egui::style::ScrollAnimation::none());
                }
                let seen = ui.clip_rect();
                let first = ((seen.left() - area.left()) / column).floor().max(0.0) as usize;
                let end = ((seen.right() - area.left()) / column).ceil().max(0.0) as usize;
                for position in first..end.min(self.lens.positions) {
                    let left = area.left() + position as f32 * column;
                    let cell = |row: usize| {
                        let corner = pos2(left, area.top() + row as f32 * line);
                        Rect::from_min_size(corner, vec2(column, line)).shrink(1.0)
                    };
                    let is_chosen = position == self.chosen;
                    let token = &self.snapshot.tokens[position];
                    let head = ui.interact(cell(0), ui.make_persistent_id(("place", position)), Sense::click());
                    let name = format!("Position {}: '{token}'", position + 1);
                    head.widget_info(|| WidgetInfo::selected(Role::Button, true, is_chosen, &name));
                    let ink = if is_chosen { theme::accent(ui.visuals()) } else { ui.visuals().text_color() };
                    ui.painter().text(cell(0).center(), Align2::CENTER_CENTER, shortened(token), font.clone(), ink);
                    if head.on_hover_text(name).clicked() {
                        clicked = Some(position);
                    }
                    for (row, name) in names.iter().enumerate() {
                        if self.cell_ui(ui, cell(row + 1), row, position, name, &font) {
                            clicked = Some(position);
                        }
                    }
                    if is_chosen {
                        let frame = Stroke::new(2.0, theme::accent(ui.visuals()));
                        let column = cell(0).union(cell(rows));
                        ui.painter().rect_stroke(column, 2.0, frame, StrokeKind::Outside);
                    }
                }
            });
        });
        clicked
    }

    /// One prediction; true when it was clicked.
    fn cell_ui(&self, ui: &Ui, cell: Rect, row: usize, position: usize, name: &str, font: &FontId) -> bool {
        let likeliest = self.lens.at(row, position);
        let Some(&(token, probability)) = likeliest.first() else { return false };
        // Where nothing is a number, no token is likeliest.
        let finite = probability.is_finite();
        let label = if finite { self.label(token) } else { "NaN" };
        let right = self.next(position).filter(|_| finite).map(|next| next == label);
        let response = ui.interact(cell, ui.make_persistent_id(("lens", row, position)), Sense::click());
        let verdict = match right {
            Some(true) => ", right",
            Some(false) => ", wrong",
            None => "",
        };
        let percent = likeliest::percent(probability);
        response.widget_info(|| {
            let label = if finite { format!("'{label}' ") } else { String::new() };
            let words = format!("{name}, position {}: {label}{percent}{verdict}", position + 1);
            WidgetInfo::labeled(Role::Button, true, words)
        });
        let ground = viridis(probability);
        let ink = colormap::readable_on(ground);
        ui.painter().rect_filled(cell, 2.0, ground);
        let painter = ui.painter().with_clip_rect(cell.intersect(ui.clip_rect()));
        let text: String = label.chars().take(CELL_CHARACTERS_MAX).collect();
        painter.text(cell.left_center() + vec2(4.0, 0.0), Align2::LEFT_CENTER, text, font.clone(), ink);
        if right == Some(true) {
            tick(&painter, pos2(cell.right() - 8.0, cell.center().y), Stroke::new(1.8, ink));
        }
        let response = response.on_hover_ui(|ui| {
            let after = &self.snapshot.tokens[position];
            ui.label(theme::heading(format!("{name}, after '{after}' (position {})", position + 1)));
            if let Some(next) = self.next(position) {
                ui.weak(format!("The probe goes on with '{next}'."));
            }
            if finite {
                let tokens = likeliest.iter().map(|&(token, probability)| (self.label(token), probability));
                likeliest::ui(ui, tokens, self.next(position));
            } else {
                ui.label("The probabilities are no numbers: no token is the likeliest.");
            }
        });
        response.clicked()
    }
}

fn row_name(row: usize) -> String {
    if row == 0 { "embedding".to_owned() } else { format!("after layer {row}") }
}

/// Drawn, as not every font has one.
fn tick(painter: &Painter, center: eframe::egui::Pos2, stroke: Stroke) {
    let at = |x: f32, y: f32| center + vec2(x, y);
    painter.add(Shape::line(vec![at(-3.5, 0.0), at(-1.0, 3.0), at(4.0, -3.5)], stroke));
}

#[cfg(test)]
mod tests;
