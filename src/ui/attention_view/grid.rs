//! All heads at once: a row for each layer, a column for each head.

use eframe::egui::{
    Align2, CornerRadius, EventFilter, Id, Key, Modifiers, Rect, RichText, Role, ScrollArea, Sense, Stroke, StrokeKind,
    TextStyle, Ui, Vec2, WidgetInfo, pos2, vec2,
};

use super::super::actions::{Action, ViewSettings};
use super::super::{colormap, theme};
use super::picture::{Picture, Subject};
use super::{AttentionView, nothing_yet, scale_of, selected_in};
use crate::lab::protocol::{AttentionSnapshot, HeadId};
use crate::recipe::grouped;
use crate::store::RunStore;

const GAP: f32 = 5.0;
const CELL_MIN: f32 = 32.0;
const CELL_MAX: f32 = 400.0;
/// Pixels along a thumbnail: more could hardly be seen, and many heads have to be drawn.
const THUMBNAIL_PIXELS_MAX: usize = 128;

impl AttentionView {
    /// The grid of all heads, with the probe (as the recipe has it) and the colours above it.
    pub fn grid_ui(&mut self, ui: &mut Ui, store: &RunStore, view: &ViewSettings, probe: &str) -> Vec<Action> {
        let mut actions = Vec::new();
        ui.horizontal(|ui| actions.extend(self.probe.ui(ui, probe)));
        ui.horizontal_wrapped(|ui| {
            let mut changed = view.clone();
            ui.label("Colours");
            ui.radio_value(&mut changed.square_root, true, "Square root").on_hover_text("Shows faint attention");
            ui.radio_value(&mut changed.square_root, false, "Linear");
            colormap::legend(ui, scale_of(view));
            if let Some(focus) = &self.focus {
                ui.label(RichText::new(focus.note()).color(theme::accent(ui.visuals())));
            } else if let Some(snapshot) = &store.attention {
                ui.label(theme::number(format!("step {:>7}", grouped(snapshot.step.0))).weak());
            }
            if changed != *view {
                actions.push(Action::SetView(Box::new(changed)));
            }
        });
        let Some(snapshot) = &store.attention else {
            self.thumbnails.clear();
            nothing_yet(ui, "Every head's attention appears here when training starts.");
            return actions;
        };
        if !snapshot.note.is_empty() {
            ui.label(RichText::new(&snapshot.note).color(theme::warning(ui.visuals())));
        }
        self.thumbnails.retain(|id, _| id.layer < snapshot.layers && id.head < snapshot.heads);
        let chosen = ScrollArea::both().auto_shrink(false).show(ui, |ui| self.cells(ui, store, snapshot, view)).inner;
        if let Some(selected) = chosen.filter(|head| *head != view.selected) {
            actions.push(Action::SetView(Box::new(ViewSettings { selected, ..view.clone() })));
        }
        actions
    }

    fn cells(
        &mut self,
        ui: &mut Ui,
        store: &RunStore,
        snapshot: &AttentionSnapshot,
        view: &ViewSettings,
    ) -> Option<HeadId> {
        let grid = Grid::new(ui, snapshot);
        grid.labels(ui);
        let selected = selected_in(snapshot, view);
        let group = ui.make_persistent_id("attention heads");
        let mut chosen = None;
        for layer in 0..snapshot.layers {
            for head in 0..snapshot.heads {
                let head = HeadId { layer, head };
                let cell = grid.cell(head);
                // The selected one stays in reach of the keyboard while it is scrolled away.
                if !ui.is_rect_visible(cell) && head != selected {
                    continue;
                }
                let subject = Subject {
                    version: store.attention_version,
                    head,
                    scale: scale_of(view),
                    pixels_max: THUMBNAIL_PIXELS_MAX,
                };
                chosen = chosen.or(self.thumbnail(ui, group, cell, snapshot, subject, head == selected));
            }
        }
        if let Some(head) = chosen {
            // Last of all: a head that is not selected yet gives focus back when it is drawn.
            ui.memory_mut(|memory| memory.request_focus(group.with(head)));
        }
        chosen
    }

    /// Draws one head and returns the head that it leads to when it is used.
    fn thumbnail(
        &mut self,
        ui: &Ui,
        group: Id,
        cell: Rect,
        snapshot: &AttentionSnapshot,
        subject: Subject,
        selected: bool,
    ) -> Option<HeadId> {
        let head = subject.head;
        // Tab stops once in the grid, at the selected head; arrows go on from there.
        let sense = if selected { Sense::click() } else { Sense::CLICK };
        let response = ui.interact(cell, group.with(head), sense);
        let name = format!("Layer {}, head {}", head.layer + 1, head.head + 1);
        response.widget_info(|| WidgetInfo::selected(Role::Button, true, selected, &name));

        let visuals = ui.visuals();
        if let Some(focus) = &self.focus {
            let ground = visuals.widgets.noninteractive.bg_stroke;
            focus.paint(ui.painter(), cell, head, subject.scale, ground);
        } else {
            let mut slot = self.thumbnails.remove(&head);
            let texture = Picture::texture(&mut slot, ui.ctx(), snapshot, subject).id();
            self.thumbnails.extend(slot.map(|picture| (head, picture)));
            colormap::paint_map(ui.painter(), cell, texture, colormap::WHOLE, 6.0, visuals);
        }
        let frame = if selected {
            Stroke::new(if response.has_focus() { 3.0 } else { 2.0 }, theme::accent(visuals))
        } else if response.hovered() {
            Stroke::new(1.5, visuals.strong_text_color())
        } else {
            visuals.widgets.noninteractive.bg_stroke
        };
        ui.painter().rect_stroke(cell, CornerRadius::same(1), frame, StrokeKind::Outside);

        let response = response.on_hover_text(&name);
        if response.clicked() {
            return Some(head);
        }
        if !response.has_focus() {
            return None;
        }
        let arrows = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, arrows));
        let next = neighbour(ui, snapshot, head)?;
        let towards = vec2(next.head as f32 - head.head as f32, next.layer as f32 - head.layer as f32);
        ui.scroll_to_rect(cell.translate(towards * (cell.size() + vec2(GAP, GAP))), None);
        Some(next)
    }
}

fn neighbour(ui: &Ui, snapshot: &AttentionSnapshot, HeadId { layer, head }: HeadId) -> Option<HeadId> {
    // Taken away, or the neighbour would answer to the same key.
    let pressed = |key| ui.input_mut(|input| input.consume_key(Modifiers::NONE, key));
    let next = if pressed(Key::ArrowLeft) {
        HeadId { layer, head: head.checked_sub(1)? }
    } else if pressed(Key::ArrowRight) {
        HeadId { layer, head: head + 1 }
    } else if pressed(Key::ArrowUp) {
        HeadId { layer: layer.checked_sub(1)?, head }
    } else if pressed(Key::ArrowDown) {
        HeadId { layer: layer + 1, head }
    } else {
        return None;
    };
    (next.layer < snapshot.layers && next.head < snapshot.heads).then_some(next)
}

/// Where the thumbnails are: they fill the pane while they are few, and scroll when they are many.
struct Grid {
    area: Rect,
    margin: Vec2,
    cell: f32,
    layers: usize,
    heads: usize,
}

impl Grid {
    fn new(ui: &mut Ui, snapshot: &AttentionSnapshot) -> Self {
        let (layers, heads) = (snapshot.layers.max(1), snapshot.heads.max(1));
        let line = ui.text_style_height(&TextStyle::Small);
        let margin = vec2(line * 3.6, line + 3.0);
        let room = ui.available_size() - margin;
        let cell = (room.x / heads as f32).min(room.y / layers as f32) - GAP;
        let cell = cell.floor().clamp(CELL_MIN, CELL_MAX);
        let size = margin + (cell + GAP) * vec2(heads as f32, layers as f32);
        let (area, _) = ui.allocate_exact_size(size.max(vec2(ui.available_width(), 0.0)), Sense::hover());
        let area = area.with_min_x(area.left() + ((area.width() - size.x) / 2.0).floor());
        Self { area, margin, cell, layers, heads }
    }

    fn cell(&self, HeadId { layer, head }: HeadId) -> Rect {
        let place = vec2(head as f32, layer as f32) * (self.cell + GAP);
        let corner = self.area.min + self.margin + place;
        Rect::from_min_size(pos2(corner.x.round(), corner.y.round()), vec2(self.cell, self.cell))
    }

    fn labels(&self, ui: &Ui) {
        let (font, color) = (TextStyle::Small.resolve(ui.style()), theme::muted(ui.visuals()));
        for layer in 0..self.layers {
            let cell = self.cell(HeadId { layer, head: 0 });
            let place = pos2(cell.left() - 6.0, cell.center().y);
            ui.painter().text(place, Align2::RIGHT_CENTER, format!("layer {}", layer + 1), font.clone(), color);
        }
        for head in 0..self.heads {
            let cell = self.cell(HeadId { layer: 0, head });
            let words = if self.cell < 44.0 { format!("{}", head + 1) } else { format!("head {}", head + 1) };
            let place = pos2(cell.center().x, cell.top() - 3.0);
            ui.painter().text(place, Align2::CENTER_BOTTOM, words, font.clone(), color);
        }
    }
}
