//! Single weights of attention that are cut, and what that does to the next token.

use std::collections::BTreeSet;
use std::sync::Arc;

use eframe::egui::{
    Align2, Button, Key, Modifiers, Rect, Response, Role, ScrollArea, Sense, TextStyle, Ui, Vec2, WidgetInfo, pos2,
    vec2,
};

use super::clicked_with;
use crate::protocol::{Cut, CutEffect, HeadId, Look, View, falling};
use crate::store::RunStore;
use crate::ui::actions::Action;
use crate::ui::inspect::attention_view::zoom::Cell;
use crate::ui::widgets::likeliest::percent;
use crate::ui::widgets::words::number_text;
use crate::ui::widgets::{colormap, theme};

/// Tokens whose change is shown.
const CHANGES_MAX: usize = 8;

/// Whether a cell's weight is cut, or will be.
pub(super) fn is_cut(looked: &View, head: HeadId, Cell { query, key }: Cell) -> bool {
    looked.cuts.contains(&Cut { head, query, key })
}

/// What pointer and keys ask for: a click with Ctrl or Alt and the key X cut a weight or restore it, and a menu does.
pub(super) fn asked(
    ui: &Ui,
    response: &Response,
    [pointed, read]: [Option<Cell>; 2],
    head: HeadId,
    looked: &View,
    menu: &mut Option<Cell>,
) -> Option<Action> {
    let toggled = |cell: Cell| {
        let (mut view, cut) = (looked.clone(), Cut { head, query: cell.query, key: cell.key });
        if !view.cuts.remove(&cut) {
            view.cuts.insert(cut);
        }
        Action::Look(Box::new(view))
    };
    // Later tokens have no weight to cut.
    let seen = |cell: Option<Cell>| cell.filter(|cell| cell.key <= cell.query);
    let mut asked = None;
    if clicked_with(ui, response, |held| held.alt || held.ctrl || held.command) {
        asked = seen(pointed).map(toggled);
    }
    if response.has_focus() && ui.input_mut(|input| input.consume_key(Modifiers::NONE, Key::X)) {
        asked = seen(read).map(toggled);
    }
    if response.secondary_clicked() {
        *menu = seen(pointed);
    }
    response.context_menu(|ui| {
        if let Some(cell) = *menu {
            let words = if is_cut(looked, head, cell) { "Restore this weight" } else { "Cut this weight" };
            if ui.button(words).clicked() {
                asked = Some(toggled(cell));
                ui.close();
            }
        }
        if ui.add_enabled(!looked.cuts.is_empty(), Button::new("Restore all cuts")).clicked() {
            asked = Some(restored(looked));
            ui.close();
        }
    });
    asked
}

fn restored(looked: &View) -> Action {
    Action::Look(Box::new(View { cuts: BTreeSet::new(), ..looked.clone() }))
}

/// How high the part under the map is.
pub(super) fn effect_height(ui: &Ui, pane: Vec2) -> f32 {
    let line = ui.text_style_height(&TextStyle::Monospace) + 2.0;
    let most = 2.0 * ui.spacing().interact_size.y + (CHANGES_MAX + 2) as f32 * line;
    // The rest scrolls: the map is to stay large enough for the next cut.
    most.min(pane.y * 0.33)
}

/// A token's probability without the cuts and with them; `None` is less than every one that is known.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Change {
    token: u32,
    before: Option<f32>,
    after: Option<f32>,
}

impl Change {
    /// NaN where one is.
    fn largest(&self) -> f32 {
        colormap::largest(&[self.before.unwrap_or(0.0), self.after.unwrap_or(0.0)])
    }
}

fn changes(before: &[(u32, f32)], after: &[(u32, f32)]) -> Vec<Change> {
    let of = |list: &[(u32, f32)], token: u32| list.iter().find(|known| known.0 == token).map(|known| known.1);
    let new = after.iter().filter(|known| of(before, known.0).is_none());
    let tokens = before.iter().chain(new).map(|known| known.0);
    let mut changes: Vec<Change> =
        tokens.map(|token| Change { token, before: of(before, token), after: of(after, token) }).collect();
    changes.sort_by(|one, other| falling(one.largest(), other.largest()));
    changes.truncate(CHANGES_MAX);
    changes
}

/// The part under the map: what the cuts do to the prediction.
pub(super) fn effect_ui(ui: &mut Ui, store: &RunStore, looked: &View) -> Vec<Action> {
    let mut actions = Vec::new();
    ui.horizontal_wrapped(|ui| {
        let count = looked.cuts.len();
        let weights = if count == 1 { "weight is" } else { "weights are" };
        ui.label(theme::heading(format!("{count} {weights} cut")));
        let mut renormalise = looked.renormalise;
        let hint = "What is left of a cut row is scaled up until it sums to 1 again";
        if ui.checkbox(&mut renormalise, "Scale the row up again").on_hover_text(hint).changed() {
            actions.push(Action::Look(Box::new(View { renormalise, ..looked.clone() })));
        }
        if ui.button("Restore all cuts").clicked() {
            actions.push(restored(looked));
        }
    });
    let asked = |look: &&Arc<Look>| look.view.cuts == looked.cuts && look.view.renormalise == looked.renormalise;
    let answered = store.look.as_ref().filter(asked).zip(store.ready.as_ref());
    let answered = answered.and_then(|(look, ready)| Some((&look.attention.tokens, &ready.labels, look.cut.as_ref()?)));
    let Some((tokens, labels, CutEffect { position, before, after })) = answered else {
        ui.weak("The prediction without these weights is being computed.");
        return actions;
    };
    let token = tokens.get(*position).map_or("?", String::as_str);
    let bars = "upper bar before the cuts, lower bar with them";
    let place = position + 1;
    ui.weak(format!("Next token after '{token}' (token {place}), the last row with a cut: {bars}."));
    let changes = changes(before, after);
    let finite = changes.iter().map(Change::largest).filter(|share| share.is_finite());
    let largest = finite.fold(f32::MIN_POSITIVE, f32::max);
    ui.spacing_mut().item_spacing.y = 1.0;
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        for change in &changes {
            let label = labels.get(change.token as usize).map_or("?", String::as_str);
            change_ui(ui, label, *change, largest);
        }
    });
    actions
}

fn change_ui(ui: &mut Ui, label: &str, change: Change, largest: f32) {
    let height = ui.text_style_height(&TextStyle::Monospace) + 2.0;
    let (area, response) = ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::hover());
    let number = |share: Option<f32>| share.map_or_else(|| "less".to_owned(), percent);
    let (before, after) = (number(change.before), number(change.after));
    let difference = change.before.zip(change.after).map(|(before, after)| 100.0 * (after - before));
    let difference =
        difference.map_or_else(String::new, |points| number_text(points, |points| format!("{points:+.2}")));
    let (font, visuals) = (TextStyle::Monospace.resolve(ui.style()), ui.visuals());
    let painter = ui.painter();
    let right = |x: f32, text: &str, color| {
        painter.text(pos2(area.left() + x, area.center().y), Align2::RIGHT_CENTER, text, font.clone(), color);
    };
    let token = crate::ui::widgets::words::shortened(label);
    painter.text(area.left_center(), Align2::LEFT_CENTER, token, font.clone(), visuals.strong_text_color());
    right(132.0, &before, theme::muted(visuals));
    right(198.0, &after, theme::accent(visuals));
    right(258.0, &difference, visuals.text_color());
    let room = (area.width() - 270.0).max(0.0);
    let bar = |top: f32, share: Option<f32>| {
        let share = share.map_or(0.0, |share| if share.is_finite() { share / largest } else { 1.0 });
        let size = vec2(room * share, height / 2.0 - 2.0);
        Rect::from_min_size(area.left_top() + vec2(268.0, top), size)
    };
    let fill = |share: Option<f32>, color| {
        if share.is_some_and(|share| !share.is_finite()) { colormap::NOT_A_NUMBER } else { color }
    };
    painter.rect_filled(bar(1.0, change.before), 1.0, fill(change.before, theme::muted(visuals)));
    painter.rect_filled(bar(height / 2.0, change.after), 1.0, fill(change.after, theme::accent(visuals)));
    let words = format!("{label}: before {before}, with the cuts {after}, difference {difference}");
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, &words));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_both_predictions_are_shown_the_likeliest_first() {
        let found = changes(&[(3, 0.5), (1, 0.2)], &[(1, 0.6), (7, 0.3)]);
        let change = |token, before, after| Change { token, before, after };
        assert_eq!(
            found,
            [change(1, Some(0.2), Some(0.6)), change(3, Some(0.5), None), change(7, None, Some(0.3))],
            "what is not among the likeliest has no number"
        );
    }
}
