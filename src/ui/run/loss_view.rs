//! How the run is doing: training and validation loss, and below them learning rate and gradient norm on the same axis
//! of steps. The plot never gets more points than it has pixels; the series sum up the rest.

mod readout;
mod reference;

use std::ops::RangeInclusive;
use std::path::PathBuf;

use eframe::egui::epaint::TextShape;
use eframe::egui::{
    self, Align2, Color32, Id, PointerButton, Rect, RichText, Role, Sense, Stroke, TextStyle, Ui, Vec2, Vec2b,
    WidgetInfo, pos2, vec2,
};
use egui_plot::{FilledArea, Line, LineStyle, Plot, PlotUi, Points, VLine};

pub(in crate::ui) use crate::ui::widgets::marks::{even_marks, plain_label, step_marks};

use self::readout::Readout;
use crate::findings::nanogpt;
use crate::protocol::Step;
use crate::recipe::grouped;
use crate::store::{Bucket, RunStore, Series};
use crate::ui::actions::{Action, Pane, PickPurpose, ViewSettings};
use crate::ui::widgets::colormap::NOT_A_NUMBER;
use crate::ui::widgets::marks::{HEADROOM, Scale, end_marks, round_above, short_label};
use crate::ui::widgets::overlay::Overlay;
use crate::ui::widgets::theme;

/// The loss pane. Keeps nothing of the run, only how the plot was last seen.
#[derive(Debug, Default)]
pub struct LossView {
    /// What the plot was fitted to: another run or another scale is fitted anew.
    fitted: Option<(Option<PathBuf>, bool)>,
    fit: bool,
    /// Whether the height follows the curve: then a drag moves sideways only.
    height_follows: bool,
}

/// Width of all vertical axes, so that the plots below each other have the same steps below each other.
const AXIS_WIDTH: f32 = 58.0;

impl LossView {
    /// The pane. `viewed` is the kept step that the other views show, if they show one.
    pub fn ui(
        &mut self,
        ui: &mut Ui,
        store: &RunStore,
        view: &ViewSettings,
        overlays: &[Overlay],
        viewed: Option<Step>,
    ) -> Vec<Action> {
        let mut actions = Vec::new();
        self.controls(ui, store, view, &mut actions);
        let with_reference = store.ready.as_ref().is_some_and(nanogpt::is_reference_run);
        chips(ui, store, overlays, with_reference, &mut actions);
        if store.loss.is_empty() && store.validation_loss.is_empty() && overlays.is_empty() && !with_reference {
            let sentence = RichText::new("The loss curve appears here when training starts.").weak();
            ui.centered_and_justified(|ui| ui.label(sentence));
            return actions;
        }
        let subject = (store.ready.as_ref().map(|ready| ready.folder.clone()), view.log_loss);
        if self.fitted.as_ref() != Some(&subject) {
            self.fitted = Some(subject);
            self.fit = true;
        }
        let readout = Readout::allocate(ui, store);
        let hovered = self.plots(ui, store, view, overlays, with_reference, viewed);
        readout.fill(ui, store, view, hovered);
        actions
    }

    fn controls(&mut self, ui: &mut Ui, store: &RunStore, view: &ViewSettings, actions: &mut Vec<Action>) {
        let mut changed = view.clone();
        ui.horizontal_wrapped(|ui| {
            let name = ui.label("Smoothing");
            ui.spacing_mut().slider_width = 80.0;
            let slider = egui::Slider::new(&mut changed.smoothing, 0.0..=1.0).show_value(false);
            ui.add(slider).labelled_by(name.id).on_hover_text("Each value is averaged with its neighbours");
            let window = smoothing_window(changed.smoothing);
            let words = if window < 2.0 { "off".to_owned() } else { format!("{window:.0} steps") };
            ui.add_sized([66.0, 18.0], egui::Label::new(theme::number(words)));
            ui.checkbox(&mut changed.log_loss, "Log scale");
            ui.checkbox(&mut changed.show_rates, "Rates").on_hover_text("Learning rate and gradient norm below");
            if ui.button("Fit").on_hover_text("Show everything (double click)").clicked() {
                self.fit = true;
            }
            ui.menu_button("Curves", |ui| {
                let mut pick = |ui: &mut Ui, enabled, text: &str, purpose| {
                    if ui.add_enabled(enabled, egui::Button::new(text)).clicked() {
                        actions.push(Action::Pick(purpose));
                        ui.close();
                    }
                };
                let any = !store.loss.is_empty();
                pick(ui, true, "Overlay a run…", PickPurpose::OverlayRun);
                pick(ui, any, "Save as CSV…", PickPurpose::SaveCurves);
                pick(ui, any, "Save as picture…", PickPurpose::SavePicture(Pane::Loss));
            });
        });
        if changed != *view {
            actions.push(Action::SetView(Box::new(changed)));
        }
    }

    /// Draws the plots and returns the step under the pointer.
    fn plots(
        &mut self,
        ui: &mut Ui,
        store: &RunStore,
        view: &ViewSettings,
        overlays: &[Overlay],
        with_reference: bool,
        viewed: Option<Step>,
    ) -> Option<f64> {
        let height = ui.available_height();
        let rates = view.show_rates && height > 170.0;
        let rate_height = (height * 0.125).clamp(34.0, 72.0);
        let gap = ui.spacing().item_spacing.y;
        let axis_height = ui.text_style_height(&TextStyle::Body) + 2.0;
        let loss_height = if rates { height - 2.0 * (rate_height + gap) - axis_height } else { height };
        let group = ui.make_persistent_id("steps of the loss view");
        let scale = if view.log_loss { Scale::Log } else { Scale::Linear };
        let full = full_range(store, overlays, with_reference);
        let fit = std::mem::take(&mut self.fit);
        let height_follows = self.height_follows || fit;

        let plot = quiet_plot("loss", group, &full, ui)
            .height(loss_height.max(60.0))
            .show_axes([!rates, true])
            .allow_drag([true, !height_follows])
            .y_grid_spacer(move |input| scale.marks(input))
            .y_axis_formatter(move |mark, _| scale.label(mark));
        let drawn = plot.show(ui, |plot| {
            steer(plot, &full, fit);
            let visible = Visible::of(plot, &full);
            let colors = plot.ctx().global_style().visuals.clone();
            if with_reference {
                reference::draw(plot, scale, theme::reference_color(&colors));
            }
            for (index, overlay) in overlays.iter().enumerate() {
                let color = theme::overlay_color(index, &colors);
                overlay_curves(plot, &visible, overlay, view, scale, color);
            }
            training_curve(plot, &visible, &store.loss, view, scale, theme::train_color(&colors));
            validation_curve(plot, &visible, store, scale, theme::validation_color(&colors), colors.extreme_bg_color);
            // On no curve: steps at which a loss was no number.
            for (step, _) in store.loss.non_finite().iter().chain(store.validation_loss.non_finite()).take(100) {
                let line = VLine::new("not a number", *step as f64).color(NOT_A_NUMBER).width(1.5);
                plot.vline(line.allow_hover(false));
            }
            if let Some(step) = viewed {
                let line = VLine::new("viewed step", step.0 as f64).color(theme::accent(&colors)).width(1.5);
                plot.vline(line.allow_hover(false));
            }
            plot.auto_bounds().y
        });
        self.height_follows = drawn.inner;
        name_plot(ui, &drawn.response, "Loss by step", "loss");
        if let Some(best) = store.best {
            let words = format!("best {:.4} @ {}", best.validation_loss, grouped(best.step.0));
            corner_words(ui, drawn.response.rect, &words, theme::validation_color(ui.visuals()));
        }
        let mut hovered = step_under_pointer(&drawn);

        if rates {
            let muted = theme::muted(ui.visuals());
            let below = [
                ("learning rate", "rate", &store.learning_rate, false),
                ("gradient norm", "norm", &store.gradient_norm, true),
            ];
            for (name, title, series, last) in below {
                let plot = quiet_plot(name, group, &full, ui)
                    .height(rate_height + if last { axis_height } else { 0.0 })
                    .show_axes([last, true])
                    .allow_drag([true, false])
                    .y_grid_spacer(end_marks)
                    .y_axis_formatter(|mark, _| short_label(mark.value));
                let drawn = plot.show(ui, |plot| {
                    steer(plot, &full, fit);
                    let buckets = Visible::of(plot, &full).buckets(series);
                    let top = round_above(buckets.iter().map(|bucket| f64::from(bucket.max)).fold(0.0, f64::max));
                    plot.set_plot_bounds_y(-0.15 * top..=HEADROOM * top);
                    curve(plot, name, &buckets, Scale::Linear, muted);
                });
                name_plot(ui, &drawn.response, name, title);
                hovered = hovered.or_else(|| step_under_pointer(&drawn));
            }
        }
        hovered
    }
}

/// Steps over which a value is averaged: from 1 (off) to 1,000, a factor of ten for each third of the slider.
fn smoothing_window(smoothing: f32) -> f64 {
    1000.0_f64.powf(f64::from(smoothing.clamp(0.0, 1.0)))
}

/// The averaged loss at a step. Near the start, where the loss falls fast, the window is narrower: a wide one would
/// draw the line above its own points.
fn smoothed(series: &Series, step: f64, smoothing: f32) -> Option<f32> {
    let first = series.first_step()? as f64;
    series.mean_around(step, (smoothing_window(smoothing) / 2.0).min(0.15 * (step - first).max(0.0)))
}

/// The steps that can be seen, with some more at both sides, and how finely they are drawn.
struct Visible {
    steps: RangeInclusive<f64>,
    buckets_max: usize,
}

impl Visible {
    fn of(plot: &PlotUi<'_>, full: &RangeInclusive<f64>) -> Self {
        let pixels = f64::from(plot.transform().frame().width() * plot.ctx().pixels_per_point()).clamp(100.0, 4000.0);
        if plot.auto_bounds().x {
            return Self { steps: full.clone(), buckets_max: pixels as usize };
        }
        // The bounds are those of the last frame: the margin is there when a drag uncovers it.
        let bounds = plot.plot_bounds();
        let margin = bounds.width() * 0.25;
        Self { steps: bounds.min()[0] - margin..=bounds.max()[0] + margin, buckets_max: (pixels * 1.5) as usize }
    }

    fn buckets(&self, series: &Series) -> Vec<Bucket> {
        series.envelope(self.steps.clone(), self.buckets_max)
    }
}

fn full_range(store: &RunStore, overlays: &[Overlay], with_reference: bool) -> RangeInclusive<f64> {
    let own = [&store.loss, &store.validation_loss];
    let others = overlays.iter().flat_map(|overlay| [&overlay.loss, &overlay.validation_loss]);
    let all = own.into_iter().chain(others);
    let (first, last) = all.fold((u64::MAX, 0), |(first, last), series| {
        (first.min(series.first_step().unwrap_or(u64::MAX)), last.max(series.last_step().unwrap_or(0)))
    });
    let (first, last) = if with_reference { (0, last.max(nanogpt::LAST_STEP)) } else { (first, last) };
    first.min(last) as f64..=last as f64
}

/// A plot over the steps; all of them show the whole `full` range, also where their own curve ends earlier.
fn quiet_plot<'a>(name: &'static str, group: Id, full: &RangeInclusive<f64>, ui: &Ui) -> Plot<'a> {
    Plot::new(name)
        .include_x(*full.start())
        .include_x(*full.end())
        // Room for half of the last label, which stands under the edge.
        .width((ui.available_width() - 20.0).max(60.0))
        .link_axis(group, [true, false])
        .link_cursor(group, [true, false])
        .show_y(false)
        .allow_scroll(false)
        .allow_boxed_zoom(true)
        .boxed_zoom_pointer_button(PointerButton::Secondary)
        .set_margin_fraction(vec2(0.015, 0.08))
        .y_axis_min_width(AXIS_WIDTH)
        .grid_spacing(egui::Rangef::new(16.0, 240.0))
        .x_grid_spacer(step_marks)
        .y_grid_spacer(even_marks)
        .cursor_color(theme::muted(ui.visuals()).gamma_multiply(0.7))
        .grid_color(ui.visuals().text_color().gamma_multiply(0.35))
        .x_axis_formatter(|mark, _| {
            if mark.value < 0.0 || mark.value.fract() != 0.0 { String::new() } else { grouped(mark.value as u64) }
        })
        .min_size(Vec2::splat(40.0))
}

/// Fit, and the wheel: it zooms into the steps around the pointer, sideways it pans.
fn steer(plot: &mut PlotUi<'_>, full: &RangeInclusive<f64>, fit: bool) {
    if fit {
        plot.set_auto_bounds(Vec2b::TRUE);
        return;
    }
    let Some(pointer) = plot.pointer_coordinate().filter(|_| plot.response().contains_pointer()) else { return };
    let wheel = plot.ctx().input(|input| input.smooth_scroll_delta);
    if wheel == Vec2::ZERO {
        return;
    }
    let bounds = plot.plot_bounds();
    let (low, high) = (bounds.min()[0], bounds.max()[0]);
    let factor = f64::from(-wheel.y / 240.0).exp();
    let pan = f64::from(-wheel.x) * plot.transform().dvalue_dpos()[0];
    let (low, high) = (pointer.x + (low - pointer.x) * factor + pan, pointer.x + (high - pointer.x) * factor + pan);
    if high - low >= 1.2 * (full.end() - full.start()) {
        plot.set_auto_bounds(Vec2b::new(true, plot.auto_bounds().y));
    } else if high - low > 2.0 {
        plot.set_plot_bounds_x(low..=high);
    }
}

fn training_curve(
    plot: &mut PlotUi<'_>,
    visible: &Visible,
    loss: &Series,
    view: &ViewSettings,
    scale: Scale,
    color: Color32,
) {
    let buckets = visible.buckets(loss);
    if smoothing_window(view.smoothing) < 2.0 {
        curve(plot, "train", &buckets, scale, color);
        return;
    }
    curve(plot, "train, each batch", &buckets, scale, color.gamma_multiply(0.3));
    let points = smoothed_points(loss, &buckets, view.smoothing, scale);
    plot.line(Line::new("train", points).color(color).width(1.8).allow_hover(false));
}

fn smoothed_points(loss: &Series, buckets: &[Bucket], smoothing: f32, scale: Scale) -> Vec<[f64; 2]> {
    let points = buckets.iter().map(|bucket| {
        // A bucket wider than the window is its own average.
        let wide = (bucket.last - bucket.first) as f64 > smoothing_window(smoothing);
        let mean = if wide { None } else { smoothed(loss, bucket.step(), smoothing) };
        [bucket.step(), scale.height(mean.unwrap_or(bucket.mean))]
    });
    points.collect()
}

/// A curve as it was measured: a line, and where a pixel holds several steps, the band between their extremes.
fn curve(plot: &mut PlotUi<'_>, name: &'static str, buckets: &[Bucket], scale: Scale, color: Color32) {
    let points: Vec<_> = buckets.iter().map(|bucket| [bucket.step(), scale.height(bucket.mean)]).collect();
    if buckets.iter().any(|bucket| bucket.count > 1) {
        let steps: Vec<f64> = buckets.iter().map(Bucket::step).collect();
        let low: Vec<f64> = buckets.iter().map(|bucket| scale.height(bucket.min)).collect();
        let high: Vec<f64> = buckets.iter().map(|bucket| scale.height(bucket.max)).collect();
        let band = FilledArea::new(format!("{name}, range"), &steps, &low, &high).allow_hover(false);
        let faint = color.gamma_multiply(0.6);
        plot.add(band.fill_color(faint).stroke(Stroke::new(0.6, faint)));
    }
    plot.line(Line::new(name, points).color(color).width(1.1).allow_hover(false));
}

fn validation_curve(
    plot: &mut PlotUi<'_>,
    visible: &Visible,
    store: &RunStore,
    scale: Scale,
    color: Color32,
    ground: Color32,
) {
    let buckets = visible.buckets(&store.validation_loss);
    let points: Vec<_> = buckets.iter().map(|bucket| [bucket.step(), scale.height(bucket.mean)]).collect();
    plot.line(Line::new("validation", points.clone()).color(color).width(1.8).allow_hover(false));
    if points.len() <= 120 {
        plot.points(Points::new("validation points", points).color(color).radius(2.6).allow_hover(false));
    }
    let Some(best) = store.best else { return };
    let (step, height) = (best.step.0 as f64, scale.height(best.validation_loss));
    let mark = |radius, color| Points::new("best", vec![[step, height]]).color(color).radius(radius).allow_hover(false);
    plot.points(mark(5.5, color).id("best, ring"));
    plot.points(mark(3.5, ground).id("best, hole"));
}

/// Words in the corner that a falling curve leaves free.
fn corner_words(ui: &Ui, plot: Rect, words: &str, color: Color32) {
    let text = ui.painter().layout_no_wrap(words.into(), TextStyle::Monospace.resolve(ui.style()), color);
    let place = Align2::RIGHT_TOP.align_size_within_rect(text.size(), plot.shrink2(vec2(7.0, 2.0)));
    ui.painter().rect_filled(place.expand2(vec2(2.0, 0.0)), 2.0, ui.visuals().extreme_bg_color.gamma_multiply(0.75));
    ui.painter().galley(place.min, text, color);
}

fn overlay_curves(
    plot: &mut PlotUi<'_>,
    visible: &Visible,
    overlay: &Overlay,
    view: &ViewSettings,
    scale: Scale,
    color: Color32,
) {
    let name = overlay.path.display().to_string();
    let points = smoothed_points(&overlay.loss, &visible.buckets(&overlay.loss), view.smoothing, scale);
    plot.line(
        Line::new(format!("{name}, train"), points).color(color.gamma_multiply(0.7)).width(1.0).allow_hover(false),
    );
    let buckets = visible.buckets(&overlay.validation_loss);
    let points: Vec<_> = buckets.iter().map(|bucket| [bucket.step(), scale.height(bucket.mean)]).collect();
    let line = Line::new(format!("{name}, validation"), points).color(color).width(1.4).allow_hover(false);
    plot.line(line.style(LineStyle::dashed_dense()));
}

/// What is drawn besides this run.
fn chips(ui: &mut Ui, store: &RunStore, overlays: &[Overlay], with_reference: bool, actions: &mut Vec<Action>) {
    if overlays.is_empty() && !with_reference {
        return;
    }
    ui.horizontal_wrapped(|ui| {
        if with_reference {
            reference::chip(ui);
        }
        for (index, overlay) in overlays.iter().enumerate() {
            let color = theme::overlay_color(index, ui.visuals());
            let (swatch, _) = ui.allocate_exact_size(vec2(14.0, 14.0), Sense::hover());
            ui.painter().hline(swatch.x_range(), swatch.center().y, Stroke::new(2.0, color));
            ui.label(chip_text(store, overlay)).on_hover_text("Training thin, validation dashed");
            let remove = ui.small_button("Remove");
            let name = format!("Remove the overlay {}", overlay.name);
            remove.widget_info(|| WidgetInfo::labeled(Role::Button, true, &name));
            if remove.clicked() {
                actions.push(Action::RemoveOverlay(overlay.path.clone()));
            }
        }
    });
}

/// The name of an overlaid run; of one that this run was forked from, that too.
fn chip_text(store: &RunStore, overlay: &Overlay) -> String {
    let parent = store.ready.as_ref().and_then(|ready| ready.parent.as_ref());
    match parent.filter(|(path, _)| *path == overlay.path) {
        Some((_, step)) => format!("{}, forked from it at step {}", overlay.name, grouped(step.0)),
        None => overlay.name.clone(),
    }
}

/// Names a plot, and writes its title upwards along the axis, left of the numbers.
fn name_plot(ui: &Ui, response: &egui::Response, name: &str, title: &str) {
    response.widget_info(|| WidgetInfo::labeled(Role::Canvas, true, name));
    let color = theme::muted(ui.visuals());
    let text = ui.painter().layout_no_wrap(title.into(), TextStyle::Small.resolve(ui.style()), color);
    let place = pos2(ui.max_rect().left(), response.rect.center().y + text.size().x / 2.0);
    ui.painter().add(TextShape::new(place, text, color).with_angle(-std::f32::consts::FRAC_PI_2));
}

fn step_under_pointer<R>(drawn: &egui_plot::PlotResponse<R>) -> Option<f64> {
    drawn.response.hover_pos().map(|pointer| drawn.transform.value_from_position(pointer).x)
}

#[cfg(test)]
mod tests;
