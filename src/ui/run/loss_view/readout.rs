//! The values at one step, above the plots.

use eframe::egui::{Align2, Rect, Response, Role, Sense, TextStyle, Ui, WidgetInfo, pos2, vec2};

use super::smoothed;
use crate::recipe::grouped;
use crate::store::{RunStore, Series};
use crate::ui::actions::ViewSettings;
use crate::ui::widgets::theme;
use crate::ui::widgets::words::number_text;

/// The values at one step, in cells that stay where they are.
pub(super) struct Readout {
    area: Rect,
    response: Response,
}

/// Names in the readout, and characters that their values take at most.
const CELLS: [(&str, usize); 7] =
    [("step", 9), ("train", 7), ("smooth", 7), ("val", 7), ("rate", 7), ("gradient", 8), ("accuracy", 7)];

/// The cells that a run has: only a lesson has an accuracy.
fn cells_of(store: &RunStore) -> &'static [(&'static str, usize)] {
    let lesson = store.validations.iter().any(|report| report.accuracy.is_some());
    if lesson { &CELLS } else { &CELLS[..CELLS.len() - 1] }
}

impl Readout {
    pub(super) fn allocate(ui: &mut Ui, store: &RunStore) -> Self {
        let rows = if cell_widths(ui, cells_of(store)).iter().sum::<f32>() <= ui.available_width() { 1.0 } else { 2.0 };
        let height = rows * (ui.text_style_height(&TextStyle::Monospace) + 3.0);
        let (area, response) = ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::hover());
        Self { area, response }
    }

    /// Fills in the values at the hovered step, or the newest ones.
    pub(super) fn fill(&self, ui: &Ui, store: &RunStore, view: &ViewSettings, hovered: Option<f64>) {
        let steps = &store.loss;
        let newest = || steps.last().map(|point| point.0).max(steps.non_finite().last().map(|point| point.0));
        let nearest = |step: f64| {
            let bad = steps.non_finite().iter().copied();
            let points = bad.chain(steps.nearest(step)).map(|point| point.0);
            points.min_by(|&one, &other| (one as f64 - step).abs().total_cmp(&(other as f64 - step).abs()))
        };
        let step = hovered.map_or_else(newest, nearest);
        let at = |series: &Series| step.and_then(|step| series.at(step));
        let validation = step.and_then(|step| store.validation_loss.nearest(step as f64));
        let accuracy = validation.and_then(|(looked, _)| {
            let place = store.validations.binary_search_by_key(&looked, |report| report.step.0).ok()?;
            store.validations[place].accuracy
        });
        let smooth = step.and_then(|step| smoothed(steps, step as f64, view.smoothing));
        let write = |value: Option<f32>, format: fn(f32) -> String| value.map_or_else(|| "–".into(), format);
        let four = |loss: f32| number_text(loss, |loss| format!("{loss:.4}"));
        let values = [
            step.map_or_else(|| "–".into(), grouped),
            write(at(steps), four),
            write(smooth, four),
            write(validation.map(|point| point.1), four),
            write(at(&store.learning_rate), |rate| number_text(rate, |rate| format!("{rate:.2e}"))),
            write(at(&store.gradient_norm), |norm| number_text(norm, |norm| format!("{norm:.3}"))),
            write(accuracy, four),
        ];
        let (small, mono) = (TextStyle::Small.resolve(ui.style()), TextStyle::Monospace.resolve(ui.style()));
        let visuals = ui.visuals();
        let cells = cells_of(store);
        let widths = cell_widths(ui, cells);
        let line = ui.text_style_height(&TextStyle::Monospace) + 3.0;
        let one_row = self.area.height() < 1.5 * line;
        let (column, columns) = (widths.iter().copied().fold(0.0, f32::max), cells.len().div_ceil(2));
        for (index, ((name, _), value)) in cells.iter().zip(&values).enumerate() {
            let corner = if one_row {
                vec2(widths[..index].iter().sum(), 0.0)
            } else {
                vec2((index % columns) as f32 * column, (index / columns) as f32 * line)
            };
            let middle = self.area.min + corner + vec2(0.0, line / 2.0);
            let color = match *name {
                "train" => theme::train_color(visuals),
                "val" => theme::validation_color(visuals),
                _ => theme::muted(visuals),
            };
            let written = ui.painter().text(middle, Align2::LEFT_CENTER, name, small.clone(), color);
            let right = pos2(written.right() + 6.0, middle.y);
            ui.painter().text(right, Align2::LEFT_CENTER, value, mono.clone(), visuals.text_color());
        }
        let words: Vec<String> =
            cells.iter().zip(&values).map(|((name, _), value)| format!("{name} {value}")).collect();
        self.response.widget_info(|| WidgetInfo::labeled(Role::Label, true, words.join("  ")));
    }
}

fn cell_widths(ui: &Ui, cells: &[(&str, usize)]) -> Vec<f32> {
    let (small, mono) = (TextStyle::Small.resolve(ui.style()), TextStyle::Monospace.resolve(ui.style()));
    let digit = ui.ctx().fonts_mut(|fonts| fonts.glyph_width(&mono, '0'));
    let width = |&(name, characters): &(&str, usize)| {
        let name = ui.painter().layout_no_wrap(name.into(), small.clone(), ui.visuals().text_color());
        (name.size().x + 6.0 + (characters as f32 + 1.5) * digit).ceil()
    };
    cells.iter().map(width).collect()
}
