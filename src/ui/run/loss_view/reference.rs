//! nanoGPT's own losses behind the curve of a run that is to match them.

use eframe::egui::{Color32, Sense, Ui, pos2, vec2};
use egui_plot::{FilledArea, Line, MarkerShape, PlotUi, Points};

use crate::findings::nanogpt::{FINAL_RANGE, LAST_STEP, REFERENCE, TOLERANCE};
use crate::ui::widgets::marks::Scale;
use crate::ui::widgets::theme;

/// Steps before the end over which the range of the last loss is drawn.
const FINAL_STEPS: f64 = 60.0;

pub(super) fn draw(plot: &mut PlotUi<'_>, scale: Scale, color: Color32) {
    let (end, low, high) = (LAST_STEP as f64, *FINAL_RANGE.start(), *FINAL_RANGE.end());
    let sides = [end - FINAL_STEPS, end + FINAL_STEPS];
    let area = FilledArea::new("nanoGPT, range at the end", &sides, &[scale.height(low); 2], &[scale.height(high); 2]);
    plot.add(area.fill_color(color.gamma_multiply(0.3)).allow_hover(false));
    for point in REFERENCE.into_iter().filter(|point| point.step > 0) {
        let (step, loss) = (point.step as f64, point.validation_loss);
        let ends = [loss - TOLERANCE, loss + TOLERANCE].map(|loss| [step, scale.height(loss)]);
        let bar = Line::new(format!("nanoGPT, tolerance at {step}"), ends.to_vec()).color(color.gamma_multiply(0.8));
        plot.line(bar.width(1.4).allow_hover(false));
    }
    let points = |loss: fn(&crate::findings::nanogpt::Reference) -> f32| -> Vec<[f64; 2]> {
        REFERENCE.iter().map(|point| [point.step as f64, scale.height(loss(point))]).collect()
    };
    let marks = |name: &'static str, points| Points::new(name, points).shape(MarkerShape::Diamond).color(color);
    let train = marks("nanoGPT, train", points(|point| point.train_loss));
    plot.points(train.filled(false).radius(5.0).allow_hover(false));
    let validation = marks("nanoGPT, validation", points(|point| point.validation_loss));
    plot.points(validation.radius(6.0).allow_hover(false));
}

/// The legend.
pub(super) fn chip(ui: &mut Ui) {
    let color = theme::reference_color(ui.visuals());
    let (swatch, _) = ui.allocate_exact_size(vec2(14.0, 14.0), Sense::hover());
    let (middle, side) = (swatch.center(), 4.5);
    let corners = [(0.0, -side), (side, 0.0), (0.0, side), (-side, 0.0)].map(|(x, y)| pos2(middle.x + x, middle.y + y));
    ui.painter().add(eframe::egui::Shape::convex_polygon(corners.to_vec(), color, eframe::egui::Stroke::NONE));
    ui.label("nanoGPT").on_hover_text(format!(
        "nanoGPT's own run of this recipe: validation filled, training hollow, each the mean of 20 random batches. The \
         bars are ±{TOLERANCE}, this program's tolerance for our mean distance; the box at the end is {}–{}, where nanoGPT's three seeds end \
         on the whole validation text.",
        FINAL_RANGE.start(),
        FINAL_RANGE.end()
    ));
}
