//! One head, as large as the pane allows: a row for each query, a column for each key. Wheel and drag go closer, arrow
//! keys go from cell to cell.

use std::collections::HashMap;

use eframe::egui::epaint::TextShape;
use eframe::egui::{
    Align2, EventFilter, FontId, Key, Label, Modifiers, Painter, Pos2, Rect, Response, RichText, Role, Sense, Stroke,
    StrokeKind, TextStyle, Ui, Vec2, Visuals, WidgetInfo, pos2, vec2,
};

use super::compare::{self, Moments, Source};
use super::picture::{self, Picture, Subject};
use super::{AttentionState, AttentionView, cuts};
use crate::protocol::{AttentionSnapshot, HeadId, View, non_finite_words};
use crate::recipe::grouped;
use crate::ui::actions::Action;
use crate::ui::inspect::attention_view::zoom::{Cell, Look};
use crate::ui::widgets::words::{
    LABEL_CHARACTERS_MAX, nothing_yet, number_text, scale_of, selected_in, shortened, weight_text, without,
};
use crate::ui::widgets::{colormap, theme};

impl AttentionView {
    /// The selected head, enlarged, with the weight under the pointer.
    pub fn head_ui(&mut self, ui: &mut Ui, state: &AttentionState<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        let moments = Moments::new(state).filter(|moments| !moments.this.tokens.is_empty());
        let Some(moments) = moments else {
            (self.enlarged, self.look) = (HashMap::new(), None);
            nothing_yet(ui, "The head chosen in the grid appears here, enlarged.");
            return actions;
        };
        let head = selected_in(moments.this, state.view);
        if let Some(focus) = &self.focus {
            focus.enlarged_ui(ui, head, scale_of(state.view));
            return actions;
        }
        let looked = state.looked;
        compare::switch_ui(ui, state, &mut actions);
        let bad = moments.this.non_finite.iter().find(|(bad, _)| *bad == head).map(|&(_, query)| query);
        if let Some(query) = bad {
            let words = non_finite_words(head, query);
            ui.label(RichText::new(words).color(theme::warning(ui.visuals())));
        }
        let line = ui.text_style_height(&TextStyle::Monospace) + 3.0;
        let (readout, readout_response) =
            ui.allocate_exact_size(vec2(ui.available_width(), 2.0 * line), Sense::hover());
        let room = ui.available_size();
        let below = if looked.cuts.is_empty() { 0.0 } else { cuts::effect_height(ui, room) };
        let (pane, _) = ui.allocate_exact_size(room - vec2(0.0, below), Sense::hover());
        let sources = moments.sources();
        let panes = shared_out(pane, sources.len());
        let tokens = moments.this.tokens.len();
        let look = self.look.filter(|look| look.tokens == tokens);
        let mut map = Map::new(ui, panes[0], moments.this, look.unwrap_or(Look::whole(tokens)));
        map.beside = panes.get(1).map(|pane| pane.min - panes[0].min);
        let area = map.beside.map_or(map.square, |offset| map.square.union(map.square.translate(offset)));
        let response = ui.interact(area, ui.make_persistent_id("enlarged head"), Sense::click_and_drag());
        let name = format!("Attention of layer {}, head {}", head.layer + 1, head.head + 1);
        let name =
            name + &bad.map_or_else(String::new, |query| format!(": not a number from position {} on", query + 1));
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &name));
        map.steer(ui, &response);
        self.look = Some(map.look);
        let pointed = response.hover_pos().and_then(|pointer| map.cell_at(pointer));
        let read = map.look.marked.or(pointed);
        actions.extend(cuts::asked(ui, &response, [pointed, read], head, looked, &mut self.menu));

        // Closer, every token has its pixel; the picture then stays the same wherever one looks.
        let pixels = (map.square.width() * ui.ctx().pixels_per_point()).max(1.0) as usize;
        let block = if map.look.is_whole() { picture::block(tokens, pixels) } else { 1 };
        self.enlarged.retain(|source, _| sources.contains(source));
        for (source, map) in sources.iter().copied().zip([map.clone(), map.moved()]) {
            let drawn = match moments.drawn(head, source) {
                Ok(drawn) => drawn,
                Err(why) => {
                    ui.put(map.square, Label::new(why).wrap());
                    continue;
                }
            };
            let (version, dark) = (state.store.attention_version, ui.visuals().dark_mode);
            let subject = Subject { version, head, source, scale: scale_of(state.view), dark, block };
            let mut slot = self.enlarged.remove(&source);
            let texture = Picture::texture(&mut slot, ui.ctx(), drawn, subject).id();
            self.enlarged.extend(slot.map(|picture| (source, picture)));
            let painter = ui.painter().with_clip_rect(pane.intersect(ui.clip_rect()));
            let shown = Vec2::splat(map.look.shown / tokens as f32);
            let part = Rect::from_min_size((map.look.first / tokens as f32).to_pos2(), shown);
            colormap::paint_map(&painter, map.square, texture, part, 8.0, ui.visuals());
            let focused = Stroke::new(2.0, theme::accent(ui.visuals()));
            let frame = if response.has_focus() { focused } else { ui.visuals().widgets.noninteractive.bg_stroke };
            painter.rect_stroke(map.square, 0.0, frame, StrokeKind::Outside);
            for cut in looked.cuts.iter().filter(|cut| cut.head == head && source != Source::Pinned) {
                map.cross(&painter, Cell { query: cut.query, key: cut.key });
            }
            if let Some(cell) = read {
                map.mark(&painter, cell);
            }
            map.labels(&painter, moments.this, read, ui.visuals());
        }

        let [weight, place] = words(&moments, head, read, looked);
        let place = place + &without(&state.store.shown_switches());
        let (mono, small) = (TextStyle::Monospace.resolve(ui.style()), TextStyle::Small.resolve(ui.style()));
        let clipped = ui.painter().with_clip_rect(readout.intersect(ui.clip_rect()));
        clipped.text(readout.left_top(), Align2::LEFT_TOP, &weight, mono, ui.visuals().strong_text_color());
        let below = readout.left_top() + vec2(0.0, line);
        clipped.text(below, Align2::LEFT_TOP, &place, small, theme::muted(ui.visuals()));
        readout_response.widget_info(|| WidgetInfo::labeled(Role::Label, true, format!("{weight}  {place}")));
        if !looked.cuts.is_empty() {
            actions.extend(cuts::effect_ui(ui, state.store, looked));
        }
        actions
    }
}

/// A part of the pane for each picture: beside each other, or below where that leaves more room.
fn shared_out(pane: Rect, pictures: usize) -> Vec<Rect> {
    if pictures == 1 {
        return vec![pane];
    }
    let (one, other) = if pane.width() >= pane.height() {
        pane.split_left_right_at_fraction(0.5)
    } else {
        pane.split_top_bottom_at_fraction(0.5)
    };
    vec![one, other]
}

/// The readout's two lines. The weight is the snapshot's own, never a colour read back.
fn words(moments: &Moments<'_>, head: HeadId, read: Option<Cell>, looked: &View) -> [String; 2] {
    let this = moments.this;
    let mut place = format!("layer {} · head {} · step {}", head.layer + 1, head.head + 1, grouped(this.step.0));
    if let Some(Ok(pinned)) = moments.pinned {
        place = format!("{place}, pinned step {}", grouped(pinned.step.0));
    }
    let Some(cell @ Cell { query, key }) = read else {
        return [
            "Point at a cell; the wheel zooms, Ctrl-click cuts".into(),
            format!("rows: queries · columns: keys · {place}"),
        ];
    };
    let (from, to) = (&this.tokens[query], &this.tokens[key]);
    let weight = if key > query {
        "later token: never looked at".to_owned()
    } else {
        let weight = this.weight(head, query, key);
        let cut = if cuts::is_cut(looked, head, cell) { "  cut" } else { "" };
        let there = moments.drawn(head, Source::This).is_ok();
        let text = if there { weight_text(weight) + cut } else { "pruned".to_owned() };
        match moments.pinned_weight(head, query, key) {
            Some(pinned) if there => {
                let difference = number_text(weight - pinned, |difference| format!("{difference:+.3}"));
                format!("{text}  pinned {}  difference {difference}", weight_text(pinned))
            }
            Some(pinned) => format!("{text}  pinned {}", weight_text(pinned)),
            None => text,
        }
    };
    [format!("'{from}' → '{to}'  {weight}"), format!("query {}, key {} · {place}", query + 1, key + 1)]
}

/// Where the heatmap and its labels are in the pane.
#[derive(Clone)]
struct Map {
    square: Rect,
    /// How far from it the same part of the pinned head is, where that is shown too.
    beside: Option<Vec2>,
    look: Look,
    font: FontId,
    /// Tokens of one character stand upright along the top; longer ones are turned.
    turned: bool,
}

impl Map {
    fn new(ui: &Ui, pane: Rect, snapshot: &AttentionSnapshot, look: Look) -> Self {
        let tokens = snapshot.tokens.len();
        let longest = snapshot.tokens.iter().map(|token| token.chars().count()).max().unwrap_or(1);
        let longest = longest.min(LABEL_CHARACTERS_MAX + 1);
        let turned = longest > 1;
        let rough = pane.width().min(pane.height()) / (tokens + 1) as f32;
        let font = FontId::monospace((rough * 0.8).floor().clamp(9.0, 14.0));
        let character = ui.ctx().fonts_mut(|fonts| fonts.glyph_width(&font, 'm'));
        let left = longest as f32 * character + 8.0;
        let top = if turned { left } else { font.size + 6.0 };
        let room = (pane.size() - vec2(left + 2.0, top + 2.0)).max(Vec2::splat(16.0));
        let pixels_per_point = ui.ctx().pixels_per_point();
        let pixels = (room.x.min(room.y) * pixels_per_point).floor();
        // Cells of whole pixels are all equally large; small ones would leave too much of the pane empty.
        let cell = (pixels / tokens as f32).floor();
        let pixels = if cell >= 6.0 { cell * tokens as f32 } else { pixels };
        let side = pixels / pixels_per_point;
        let spare = (room.x - side).max(0.0) / 2.0;
        let corner = pane.min + vec2(left + spare, top);
        let corner = (corner * pixels_per_point).round() / pixels_per_point;
        Self { square: Rect::from_min_size(corner, Vec2::splat(side)), beside: None, look, font, turned }
    }

    /// Does what the pointer and the keys ask for.
    fn steer(&mut self, ui: &Ui, response: &Response) {
        if response.clicked() {
            response.request_focus();
        }
        if response.double_clicked() {
            self.look = Look::whole(self.look.tokens);
        }
        self.look.go_to(self.look.first - response.drag_delta() / self.cell_side());
        let hovered = response.hover_pos();
        let moved = std::mem::replace(&mut self.look.pointer, hovered) != hovered;
        if let Some(pointer) = hovered {
            let wheel = ui.input(|input| input.smooth_scroll_delta.y);
            if wheel != 0.0 {
                self.look.zoom((-wheel / 240.0).exp(), self.token_at(pointer));
            }
            if moved || wheel != 0.0 {
                self.look.marked = None;
            }
        }
        if !response.has_focus() {
            self.look.marked = None;
            return;
        }
        let arrows = EventFilter { horizontal_arrows: true, vertical_arrows: true, ..EventFilter::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, arrows));
        for (key, keys, queries) in
            [(Key::ArrowLeft, -1, 0), (Key::ArrowRight, 1, 0), (Key::ArrowUp, 0, -1), (Key::ArrowDown, 0, 1)]
        {
            for _ in 0..ui.input_mut(|input| input.count_and_consume_key(Modifiers::NONE, key)) {
                let last = self.look.tokens - 1;
                let from = self.look.marked.or_else(|| self.cell_at(response.hover_pos()?));
                match from {
                    Some(from) => self.look.step(from, keys, queries),
                    // The newest token's look at itself.
                    None => self.look.step(Cell { query: last, key: last }, 0, 0),
                }
            }
        }
    }

    /// The other map: of the pinned head.
    fn moved(&self) -> Self {
        Self { square: self.square.translate(self.beside.unwrap_or_default()), ..self.clone() }
    }

    fn cell_side(&self) -> f32 {
        self.square.width() / self.look.shown
    }

    /// The key (x) and the query (y) at a place, with parts of a cell.
    fn token_at(&self, pointer: Pos2) -> Vec2 {
        let beside = self.square.translate(self.beside.unwrap_or_default());
        let square = if beside.contains(pointer) { beside } else { self.square };
        self.look.first + (pointer - square.min) / self.cell_side()
    }

    fn cell_at(&self, pointer: Pos2) -> Option<Cell> {
        let place = self.token_at(pointer);
        let inside = |place: f32| (place >= 0.0 && place < self.look.tokens as f32).then_some(place as usize);
        Some(Cell { query: inside(place.y)?, key: inside(place.x)? })
    }

    /// How far the middle of a row or column is from the edge of the map where tokens from `first` on are in sight.
    fn middle(&self, index: usize, first: f32) -> f32 {
        (index as f32 + 0.5 - first) * self.cell_side()
    }

    /// Crosses out a cell, as far as it is in sight.
    fn cross(&self, painter: &Painter, Cell { query, key }: Cell) {
        let middle = vec2(self.middle(key, self.look.first.x), self.middle(query, self.look.first.y));
        let cell = Rect::from_center_size(self.square.min + middle, Vec2::splat(self.cell_side().max(7.0)));
        if self.square.contains(cell.center()) {
            colormap::cross_on_map(painter, cell.shrink(1.0));
        }
    }

    /// Marks the row of the query and the column of the key.
    fn mark(&self, painter: &Painter, Cell { query, key }: Cell) {
        let (square, thickness) = (self.square, self.cell_side().max(3.0));
        let middle = square.min + vec2(self.middle(key, self.look.first.x), self.middle(query, self.look.first.y));
        let row = Rect::from_center_size(pos2(square.center().x, middle.y), vec2(square.width(), thickness));
        let column = Rect::from_center_size(pos2(middle.x, square.center().y), vec2(thickness, square.height()));
        let painter = painter.with_clip_rect(painter.clip_rect().intersect(square.expand(1.0)));
        colormap::mark_on_map(&painter, row);
        colormap::mark_on_map(&painter, column);
    }

    /// Tokens along both axes; when they stand too close, every second, third… one.
    fn labels(&self, painter: &Painter, snapshot: &AttentionSnapshot, read: Option<Cell>, visuals: &Visuals) {
        let stride = ((self.font.size + 1.0) / self.cell_side()).ceil().max(1.0) as usize;
        let Vec2 { x: first_key, y: first_query } = self.look.first;
        let axes = [(true, first_query, read.map(|cell| cell.query)), (false, first_key, read.map(|cell| cell.key))];
        for (vertical, first, marked) in axes {
            let last = ((first + self.look.shown).ceil() as usize).min(snapshot.tokens.len());
            for index in first as usize..last {
                let is_marked = marked == Some(index);
                let hidden = marked.is_some_and(|marked| marked.abs_diff(index) < stride);
                let middle = self.middle(index, first);
                let outside = !(0.0..=self.square.width()).contains(&middle);
                if outside || !is_marked && (hidden || !index.is_multiple_of(stride)) {
                    continue;
                }
                let token = shortened(&snapshot.tokens[index]);
                let color = if is_marked { theme::accent(visuals) } else { theme::muted(visuals) };
                let galley = painter.layout_no_wrap(token, self.font.clone(), color);
                let size = galley.size();
                let shape = if vertical {
                    let place = pos2(self.square.left() - 5.0 - size.x, self.square.top() + middle - size.y / 2.0);
                    TextShape::new(place, galley, color)
                } else if self.turned {
                    let place = pos2(self.square.left() + middle - size.y / 2.0, self.square.top() - 5.0);
                    TextShape::new(place, galley, color).with_angle(-std::f32::consts::FRAC_PI_2)
                } else {
                    let place = pos2(self.square.left() + middle - size.x / 2.0, self.square.top() - 3.0 - size.y);
                    TextShape::new(place, galley, color)
                };
                painter.add(shape);
            }
        }
    }
}
