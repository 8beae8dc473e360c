//! All heads at once: a row for each layer, a column for each head, the MLP at its end.

use eframe::egui::{
    Align2, CornerRadius, EventFilter, Id, Key, Modifiers, Rect, Response, RichText, Role, ScrollArea, Sense, Stroke,
    StrokeKind, TextStyle, Ui, Vec2, WidgetInfo, pos2, vec2,
};

use super::compare::{self, Moments, Source};
use super::picture::{self, Picture, Subject};
use super::switches::{self, Part};
use super::thumbnail::{self, Known};
use super::{AttentionState, AttentionView, clicked_with, non_finite_line};
use crate::protocol::{AttentionSnapshot, HeadId, non_finite_words};
use crate::recipe::{DataRecipe, grouped};
use crate::ui::actions::{Action, ViewSettings};
use crate::ui::widgets::words::{nothing_yet, scale_of, selected_in};
use crate::ui::widgets::{colormap, theme};

const GAP: f32 = 5.0;
const CELL_MIN: f32 = 32.0;
const CELL_MAX: f32 = 400.0;
/// The MLP's cell at the end of a layer.
const MLP_WIDTH: f32 = 40.0;
/// Pixels along a thumbnail at most: more could hardly be seen, and many heads have to be drawn.
const THUMBNAIL_PIXELS_MAX: usize = 128;

/// What the cells show.
struct Shown<'a> {
    state: &'a AttentionState<'a>,
    moments: &'a Moments<'a>,
    known: Known<'a>,
    group: Id,
    /// Tokens along the side of a thumbnail's pixel.
    block: usize,
}

impl AttentionView {
    /// The grid of all heads, with the probe (as the recipe has it) and the colours above it.
    pub fn grid_ui(&mut self, ui: &mut Ui, state: &AttentionState<'_>, probe: &DataRecipe) -> Vec<Action> {
        let mut actions = Vec::new();
        let AttentionState { store, view, .. } = *state;
        let adds_special = store.ready.as_ref().is_some_and(|ready| ready.adds_special);
        ui.horizontal(|ui| actions.extend(self.probe.ui(ui, probe, adds_special)));
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
        let Some(moments) = Moments::new(state) else {
            self.thumbnails.clear();
            nothing_yet(ui, "Every head's attention appears here when training starts.");
            return actions;
        };
        compare::switch_ui(ui, state, &mut actions);
        switches::line(ui, state, &mut actions);
        let snapshot = moments.this;
        let failed = moments.pinned.and_then(Result::err).filter(|_| moments.sources() != [Source::This]);
        let note = Some(snapshot.note.clone()).filter(|note| !note.is_empty());
        let pinned = moments.pinned.and_then(Result::ok).filter(|_| moments.sources() != [Source::This]);
        let pinned = pinned.and_then(AttentionSnapshot::non_finite_words).map(|words| format!("Pinned: {words}"));
        let bad = [snapshot.non_finite_words(), pinned];
        non_finite_line(ui, store);
        for words in [note, moments.caveat(), failed.map(str::to_owned)].into_iter().chain(bad).flatten() {
            ui.label(RichText::new(words).color(theme::warning(ui.visuals())));
        }
        self.thumbnails.retain(|(id, source), _| {
            id.layer < snapshot.layers && id.head < snapshot.heads && moments.sources().contains(source)
        });
        let scroll = ScrollArea::both().auto_shrink(false);
        let chosen = scroll.show(ui, |ui| self.cells(ui, state, &moments, &mut actions)).inner;
        if let Some(selected) = chosen.filter(|head| *head != view.selected) {
            actions.push(Action::SetView(Box::new(ViewSettings { selected, ..view.clone() })));
        }
        actions
    }

    fn cells(
        &mut self,
        ui: &mut Ui,
        state: &AttentionState<'_>,
        moments: &Moments<'_>,
        actions: &mut Vec<Action>,
    ) -> Option<HeadId> {
        let snapshot = moments.this;
        let grid = Grid::new(ui, snapshot, moments.sources().len());
        grid.labels(ui);
        let selected = selected_in(snapshot, state.view);
        let pixels = (grid.cell.y * ui.ctx().pixels_per_point()) as usize;
        let block = picture::block(snapshot.tokens.len(), pixels.min(THUMBNAIL_PIXELS_MAX));
        let group = ui.make_persistent_id("attention heads");
        let shown = Shown { state, moments, known: Known::new(state), group, block };
        let mut chosen = None;
        for layer in 0..snapshot.layers {
            for head in 0..snapshot.heads {
                let head = HeadId { layer, head };
                let cell = grid.cell(head);
                // The selected one stays in reach of the keyboard while it is scrolled away.
                if !ui.is_rect_visible(cell) && head != selected {
                    continue;
                }
                let response = self.thumbnail(ui, &shown, cell, head);
                chosen = chosen.or(used(ui, &shown, &response, head, actions));
            }
            if ui.is_rect_visible(grid.mlp(layer)) {
                mlp(ui, &shown, grid.mlp(layer), layer, actions);
            }
        }
        if let Some(head) = chosen {
            // Last of all: a head that is not selected yet gives focus back when it is drawn.
            ui.memory_mut(|memory| memory.request_focus(group.with(head)));
        }
        chosen
    }

    /// Draws one head.
    fn thumbnail(&mut self, ui: &mut Ui, shown: &Shown<'_>, cell: Rect, head: HeadId) -> Response {
        let Shown { state, moments, ref known, group, block } = *shown;
        let selected = head == selected_in(moments.this, state.view);
        // Tab stops once in the grid, at the selected head; arrows go on from there.
        let sense = if selected { Sense::click() } else { Sense::CLICK };
        let response = ui.interact(cell, group.with(head), sense);
        let part = Part::Head(head);
        let bad = moments.this.non_finite.iter().find(|(bad, _)| *bad == head);
        let name = bad.map_or_else(|| part.text(), |&(_, query)| non_finite_words(head, query));
        response.widget_info(|| WidgetInfo::selected(Role::Button, true, selected, &name));

        let pruned = state.is_pruned(head);
        if let Some(focus) = &self.focus {
            focus.paint(ui, Grid::square(cell, 0), head, scale_of(state.view));
        }
        let sources = if self.focus.is_none() { moments.sources() } else { &[] };
        for (place, &source) in sources.iter().enumerate() {
            let square = Grid::square(cell, place);
            let Ok(drawn) = moments.drawn(head, source) else {
                thumbnail::middle(ui, square, if pruned && source != Source::Pinned { "pruned" } else { "none" });
                continue;
            };
            let subject = Subject {
                version: state.store.attention_version,
                head,
                source,
                scale: scale_of(state.view),
                dark: ui.visuals().dark_mode,
                block,
            };
            let mut slot = self.thumbnails.remove(&(head, source));
            let texture = Picture::texture(&mut slot, ui.ctx(), drawn, subject).id();
            self.thumbnails.extend(slot.map(|picture| ((head, source), picture)));
            colormap::paint_map(ui.painter(), square, texture, colormap::WHOLE, 6.0, ui.visuals());
        }
        let off = part.off(&state.looked.switches);
        let response = if pruned {
            response.on_hover_text(format!("{}\npruned: the model does not have it any more", part.text()))
        } else {
            known.paint(ui, Grid::square(cell, 0), part);
            if let Some(off) = off {
                thumbnail::paint_off(ui, cell, off);
            }
            response.on_hover_ui(|ui| drop(ui.label(known.words(part, off))))
        };
        frame(ui, cell, &response, selected);
        response
    }
}

fn frame(ui: &Ui, cell: Rect, response: &Response, selected: bool) {
    let visuals = ui.visuals();
    let stroke = if selected {
        Stroke::new(if response.has_focus() { 3.0 } else { 2.0 }, theme::accent(visuals))
    } else if response.hovered() {
        Stroke::new(1.5, visuals.strong_text_color())
    } else {
        visuals.widgets.noninteractive.bg_stroke
    };
    ui.painter().rect_stroke(cell, CornerRadius::same(1), stroke, StrokeKind::Outside);
}

/// What is done with a head: returns the head that it leads to when it is used.
fn used(ui: &Ui, shown: &Shown<'_>, response: &Response, head: HeadId, actions: &mut Vec<Action>) -> Option<HeadId> {
    let state = shown.state;
    let part = Part::Head(head);
    let can_switch = !state.is_pruned(head);
    if can_switch {
        part.menu(response, state.looked, actions);
    }
    if clicked_with(ui, response, |held| held.command) {
        actions.extend(can_switch.then(|| part.toggle(state.looked)));
        return None;
    }
    if response.clicked() {
        return Some(head);
    }
    if !response.has_focus() {
        return None;
    }
    if can_switch && ui.input_mut(|input| input.consume_key(Modifiers::NONE, Key::Delete)) {
        actions.push(part.toggle(state.looked));
    }
    let arrows = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..EventFilter::default() };
    ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, arrows));
    let next = neighbour(ui, shown.moments.this, head)?;
    let towards = vec2(next.head as f32 - head.head as f32, next.layer as f32 - head.layer as f32);
    let cell = response.rect;
    ui.scroll_to_rect(cell.translate(towards * (cell.size() + vec2(GAP, GAP))), None);
    Some(next)
}

/// The MLP after a layer's heads: a click switches it.
fn mlp(ui: &mut Ui, shown: &Shown<'_>, cell: Rect, layer: usize, actions: &mut Vec<Action>) {
    let Shown { state, ref known, group, .. } = *shown;
    let part = Part::Mlp(layer);
    let response = ui.interact(cell, group.with(("MLP", layer)), Sense::click());
    let off = part.off(&state.looked.switches);
    response.widget_info(|| WidgetInfo::selected(Role::Button, true, off.is_some(), part.text()));
    ui.painter().rect_filled(cell, 1.0, ui.visuals().extreme_bg_color);
    match off {
        Some(off) => thumbnail::paint_off(ui, cell, off),
        None => known.paint_mlp(ui, cell, part),
    }
    let response = response.on_hover_ui(|ui| {
        ui.label(known.words(part, off));
        ui.weak("a click switches it");
    });
    frame(ui, cell, &response, false);
    part.menu(&response, state.looked, actions);
    if response.clicked() {
        actions.push(part.toggle(state.looked));
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
    /// A cell holds one square, or two beside each other.
    cell: Vec2,
    layers: usize,
    heads: usize,
}

impl Grid {
    fn new(ui: &mut Ui, snapshot: &AttentionSnapshot, squares: usize) -> Self {
        let (layers, heads, squares) = (snapshot.layers.max(1), snapshot.heads.max(1), squares as f32);
        let line = ui.text_style_height(&TextStyle::Small);
        let margin = vec2(line * 3.6, line + 3.0);
        let room = ui.available_size() - margin - vec2(MLP_WIDTH + GAP, 0.0);
        let side = ((room.x / heads as f32 - GAP) / squares).min(room.y / layers as f32 - GAP);
        let side = side.floor().clamp(CELL_MIN, CELL_MAX);
        let cell = vec2(squares * side + (squares - 1.0), side);
        let cells = (cell + Vec2::splat(GAP)) * vec2(heads as f32, layers as f32);
        let size = margin + cells + vec2(MLP_WIDTH + GAP, 0.0);
        let (area, _) = ui.allocate_exact_size(size.max(vec2(ui.available_width(), 0.0)), Sense::hover());
        let area = area.with_min_x(area.left() + ((area.width() - size.x) / 2.0).floor());
        Self { area, margin, cell, layers, heads }
    }

    fn cell(&self, HeadId { layer, head }: HeadId) -> Rect {
        let place = vec2(head as f32, layer as f32) * (self.cell + Vec2::splat(GAP));
        let corner = self.area.min + self.margin + place;
        Rect::from_min_size(pos2(corner.x.round(), corner.y.round()), self.cell)
    }

    /// The first or the second square of a cell.
    fn square(cell: Rect, place: usize) -> Rect {
        let side = cell.height();
        Rect::from_min_size(cell.min + vec2((side + 1.0) * place as f32, 0.0), Vec2::splat(side))
    }

    /// Right of a layer's heads.
    fn mlp(&self, layer: usize) -> Rect {
        let cell = self.cell(HeadId { layer, head: self.heads });
        let corner = pos2(cell.left() + GAP, cell.center().y - MLP_WIDTH.min(cell.height()) / 2.0);
        Rect::from_min_size(corner.round(), vec2(MLP_WIDTH, MLP_WIDTH.min(cell.height())))
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
            let words = if self.cell.x < 44.0 { format!("{}", head + 1) } else { format!("head {}", head + 1) };
            let place = pos2(cell.center().x, cell.top() - 3.0);
            ui.painter().text(place, Align2::CENTER_BOTTOM, words, font.clone(), color);
        }
    }
}
