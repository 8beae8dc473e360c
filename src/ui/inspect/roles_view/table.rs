//! All parts of the model with their numbers, sorted by any of them. Only the rows in sight are drawn.

use eframe::egui::{
    Align2, FontId, Rect, Role as Widget, ScrollArea, Sense, TextStyle, Ui, Vec2, WidgetInfo, pos2, vec2,
};

use super::{head_text, small, table_words};
use crate::protocol::{AttentionSnapshot, EffectsReport, HeadId, Role, RoleReport, RoleScores, falling};
use crate::store::RunStore;
use crate::ui::widgets::theme;
use crate::ui::widgets::words::number_text;

const NAME_WIDTH: f32 = 112.0;
const NUMBER_WIDTH: f32 = 63.0;

/// What a column shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Column {
    #[default]
    Part,
    Effect,
    Test(Role),
    Entropy,
    Probe(Role),
}

impl Column {
    fn all() -> impl Iterator<Item = Self> {
        let first = [Self::Part, Self::Effect].into_iter().chain(Role::ALL.map(Self::Test));
        first.chain([Self::Entropy]).chain(Role::ALL.map(Self::Probe))
    }

    const fn width(self) -> f32 {
        if matches!(self, Self::Part) { NAME_WIDTH } else { NUMBER_WIDTH }
    }

    /// What stands above it, in two lines.
    const fn title(self) -> [&'static str; 2] {
        match self {
            Self::Part => ["", "part"],
            Self::Effect => ["", "effect"],
            Self::Test(role) => ["test", role.name()],
            Self::Entropy => ["probe", "entropy"],
            Self::Probe(role) => ["probe", role.name()],
        }
    }

    const fn tip(self) -> &'static str {
        match self {
            Self::Part => "By layer and number.",
            Self::Effect => "How much the validation loss rises without the part.",
            Self::Test(_) => "The role's score on the standard test: a start token, then random tokens twice.",
            Self::Entropy => "How widely the head looks on the probe, in nats: 0 is one token.",
            Self::Probe(_) => "The role's score on the probe.",
        }
    }
}

/// A head, or the MLP of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    layer: usize,
    head: Option<usize>,
}

/// What the rows are filled from.
struct Numbers<'a> {
    roles: Option<&'a RoleReport>,
    effects: Option<&'a EffectsReport>,
}

impl Numbers<'_> {
    fn value(&self, Row { layer, head }: Row, column: Column) -> Option<f32> {
        let Some(head) = head else {
            let effects = self.effects.filter(|_| column == Column::Effect)?;
            return effects.mlps.get(layer).copied().flatten();
        };
        let head = HeadId { layer, head };
        let report = self.roles.and_then(|roles| roles.head(head));
        match column {
            Column::Part => None,
            Column::Effect => self.effects?.head(head),
            Column::Test(role) => Some(report?.test.of(role)),
            Column::Entropy => Some(report?.entropy),
            Column::Probe(role) => Some(report?.probe.of(role)),
        }
    }
}

/// How the table is sorted.
#[derive(Debug, Default)]
pub(super) struct Table {
    by: Column,
    turned: bool,
}

impl Table {
    /// The table; returns the head whose row was clicked.
    pub fn ui(
        &mut self,
        ui: &mut Ui,
        store: &RunStore,
        attention: &AttentionSnapshot,
        selected: HeadId,
    ) -> Option<HeadId> {
        small(ui, table_words(store));
        let numbers = Numbers { roles: store.shown_roles(), effects: store.effects.as_ref() };
        let rows = self.sorted(rows(store, attention), &numbers);
        let width = Column::all().map(Column::width).sum::<f32>() + 6.0;
        let mut chosen = None;
        ScrollArea::horizontal().auto_shrink(false).show(ui, |ui| {
            ui.set_min_width(width);
            self.head(ui, width);
            let height = ui.text_style_height(&TextStyle::Monospace) + 4.0;
            ui.spacing_mut().item_spacing.y = 0.0;
            ScrollArea::vertical().auto_shrink(false).show_rows(ui, height, rows.len(), |ui, range| {
                for &row in &rows[range] {
                    if row_ui(ui, vec2(width, height), row, &numbers, selected) {
                        chosen = row.head.map(|head| HeadId { layer: row.layer, head });
                    }
                }
            });
        });
        chosen
    }

    fn sorted(&self, mut rows: Vec<Row>, numbers: &Numbers<'_>) -> Vec<Row> {
        // Largest first; what was not measured stays at the end.
        let key = |row: &Row| numbers.value(*row, self.by);
        if self.by != Column::Part {
            rows.sort_by(|one, other| match (key(one), key(other)) {
                (Some(one), Some(other)) => falling(one, other),
                (one, other) => other.is_some().cmp(&one.is_some()),
            });
            if self.turned {
                let known = rows.partition_point(|row| key(row).is_some());
                rows[..known].reverse();
            }
        } else if self.turned {
            rows.reverse();
        }
        rows
    }

    fn head(&mut self, ui: &mut Ui, width: f32) {
        let font = TextStyle::Small.resolve(ui.style());
        let line = font.size + 2.0;
        let (area, _) = ui.allocate_exact_size(vec2(width, 2.0 * line + 4.0), Sense::hover());
        let mut left = area.left();
        for column in Column::all() {
            let cell = Rect::from_min_size(pos2(left, area.top()), vec2(column.width(), area.height()));
            left = cell.right();
            let [group, name] = column.title();
            let response = ui.interact(cell, ui.make_persistent_id(("column", group, name)), Sense::click());
            let by = self.by == column;
            let label = format!("Sort by {group} {name}").replace("  ", " ");
            response.widget_info(|| WidgetInfo::selected(Widget::Button, true, by, &label));
            let visuals = ui.visuals();
            let color = if by {
                theme::accent(visuals)
            } else if response.hovered() || response.has_focus() {
                visuals.strong_text_color()
            } else {
                theme::muted(visuals)
            };
            let (align, x) = match column {
                Column::Part => (Align2::LEFT_BOTTOM, cell.left() + 4.0),
                _ => (Align2::RIGHT_BOTTOM, cell.right() - 6.0),
            };
            ui.painter().text(pos2(x, cell.bottom() - 2.0), align, name, font.clone(), color);
            ui.painter().text(pos2(x, cell.bottom() - 2.0 - line), align, group, font.clone(), color);
            if response.on_hover_text(column.tip()).clicked() {
                (self.by, self.turned) = (column, by && !self.turned);
            }
        }
        ui.painter().hline(area.x_range(), area.bottom(), ui.visuals().widgets.noninteractive.bg_stroke);
    }
}

fn rows(store: &RunStore, attention: &AttentionSnapshot) -> Vec<Row> {
    let pruned = store.ready.as_ref().map_or(&[][..], |ready| &ready.recipe.model.pruned);
    let of_layer = |layer| {
        let heads = (0..attention.heads).filter(move |&head| !pruned.contains(&(layer, head))).map(Some);
        heads.chain([None]).map(move |head| Row { layer, head })
    };
    (0..attention.layers).flat_map(of_layer).collect()
}

/// One row; true when it was clicked.
fn row_ui(ui: &mut Ui, size: Vec2, row: Row, numbers: &Numbers<'_>, selected: HeadId) -> bool {
    let (area, _) = ui.allocate_exact_size(size, Sense::hover());
    let response = ui.interact(area, ui.make_persistent_id(("part", row.layer, row.head)), Sense::click());
    let name = match row.head {
        Some(head) => head_text(HeadId { layer: row.layer, head }),
        None => format!("layer {} · MLP", row.layer + 1),
    };
    let is_selected = row.head == Some(selected.head) && row.layer == selected.layer;
    response.widget_info(|| WidgetInfo::selected(Widget::Button, true, is_selected, format!("Row of {name}")));
    let visuals = ui.visuals();
    if is_selected {
        ui.painter().rect_filled(area, 2.0, visuals.selection.bg_fill);
    } else if response.hovered() && row.head.is_some() || response.has_focus() {
        ui.painter().rect_filled(area, 2.0, visuals.widgets.hovered.weak_bg_fill);
    }
    let (small, mono) = (TextStyle::Small.resolve(ui.style()), FontId::monospace(11.5));
    let mut left = area.left();
    for column in Column::all() {
        let cell = Rect::from_min_size(pos2(left, area.top()), vec2(column.width(), area.height()));
        left = cell.right();
        if column == Column::Part {
            let place = cell.left_center() + vec2(4.0, 0.0);
            ui.painter().text(place, Align2::LEFT_CENTER, &name, small.clone(), visuals.text_color());
            continue;
        }
        let Some(value) = numbers.value(row, column) else { continue };
        let named = matches!(column, Column::Test(_)) && value >= RoleScores::NAMED_FROM;
        let color = match value.is_finite() {
            false => theme::warning(visuals),
            true if named => visuals.strong_text_color(),
            true => theme::muted(visuals),
        };
        let text = number_text(value, |value| match column {
            Column::Effect => format!("{value:+.4}"),
            _ => format!("{value:.2}"),
        });
        let place = cell.right_center() - vec2(6.0, 0.0);
        ui.painter().text(place, Align2::RIGHT_CENTER, text, mono.clone(), color);
    }
    response.clicked()
}
