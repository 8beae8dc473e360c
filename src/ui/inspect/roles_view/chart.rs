//! One score of every head over the kept steps.

use eframe::egui::{Color32, Pos2, Rangef, Role as Widget, Sense, TextStyle, Ui, UiBuilder, WidgetInfo, vec2};
use egui_plot::{Line, Plot, PlotPoint, PlotUi, Points, VLine};

use super::{head_text, small};
use crate::protocol::{HeadId, HeadReport, Role, RoleReport, Step};
use crate::recipe::grouped;
use crate::store::RunStore;
use crate::ui::run::loss_view::{even_marks, plain_label, step_marks};
use crate::ui::widgets::colormap::NOT_A_NUMBER;
use crate::ui::widgets::theme;
use crate::ui::widgets::words::number_text;

/// How far from a line the pointer means it, in points.
const REACH: f32 = 14.0;

/// What is drawn of each head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    /// A role's score on the standard test.
    Test(Role),
    Entropy,
}

impl Default for Curve {
    fn default() -> Self {
        Self::Test(Role::Induction)
    }
}

impl Curve {
    pub const fn text(self) -> &'static str {
        match self {
            Self::Test(role) => role.text(),
            Self::Entropy => "entropy",
        }
    }

    pub const fn tip(self) -> &'static str {
        match self {
            Self::Test(Role::Previous) => "The share of its attention that falls on the token before.",
            Self::Test(Role::Current) => "The share of its attention that falls on the token itself.",
            Self::Test(Role::First) => "The share of its attention that falls on the first token.",
            Self::Test(Role::Duplicate) => "The share of its attention that falls on earlier places of the same token.",
            Self::Test(Role::Induction) => "The share that falls on what followed the same token earlier.",
            Self::Entropy => "How widely it looks on the probe, in nats: 0 is one token.",
        }
    }

    fn value(self, report: &HeadReport) -> f32 {
        match self {
            Self::Test(role) => report.test.of(role),
            Self::Entropy => report.entropy,
        }
    }
}

/// The chart, with a line of words above it. Returns the head and the step of a point that was clicked.
pub(super) fn ui(
    ui: &mut Ui,
    store: &RunStore,
    curve: Curve,
    selected: HeadId,
    viewed: Option<Step>,
    height: f32,
) -> Option<(HeadId, Step)> {
    let Some(newest) = store.roles.last() else {
        small(
            ui,
            "The heads' scores over training appear here: they are measured while it trains, often at first.".into(),
        );
        return None;
    };
    let pruned = store.ready.as_ref().map_or(&[][..], |ready| &ready.recipe.model.pruned);
    let heads: Vec<HeadId> = (0..newest.reports.len())
        .map(|place| HeadId { layer: place / newest.heads.max(1), head: place % newest.heads.max(1) })
        .filter(|head| !pruned.contains(&(head.layer, head.head)))
        .collect();
    // The place is taken before it is known what is hovered.
    let line = ui.text_style_height(&TextStyle::Small);
    let (words_area, _) = ui.allocate_exact_size(vec2(ui.available_width(), line), Sense::hover());
    let plot = Plot::new("roles")
        .height(height)
        .show_y(false)
        .show_x(false)
        .allow_scroll(false)
        .y_axis_min_width(40.0)
        .grid_spacing(Rangef::new(12.0, 240.0))
        .x_grid_spacer(step_marks)
        .y_grid_spacer(even_marks)
        .y_axis_formatter(|mark, _| plain_label(mark))
        .include_x(0.0)
        .include_y(0.0)
        .set_margin_fraction(vec2(0.015, 0.06))
        .grid_color(ui.visuals().text_color().gamma_multiply(0.35))
        .x_axis_formatter(|mark, _| {
            if mark.value < 0.0 || mark.value.fract() != 0.0 { String::new() } else { grouped(mark.value as u64) }
        });
    let drawn = plot.show(ui, |plot| {
        let visuals = plot.ctx().global_style().visuals.clone();
        let pointer = plot.response().hover_pos();
        let near = pointer.and_then(|pointer| under(plot, pointer, &store.roles, curve, &heads));
        let mut draw = |head: HeadId, color: Color32, width: f32| {
            let points: Vec<_> = points(&store.roles, curve, head).collect();
            plot.line(Line::new(head_text(head), points).color(color).width(width).allow_hover(false));
        };
        let muted = theme::muted(&visuals).gamma_multiply(0.55);
        for &head in heads.iter().filter(|head| **head != selected) {
            draw(head, muted, 1.0);
        }
        if let Some((head, _)) = near.filter(|(head, _)| *head != selected) {
            draw(head, visuals.strong_text_color(), 1.6);
        }
        if heads.contains(&selected) {
            draw(selected, theme::accent(&visuals), 2.2);
        }
        // Off the curve, so that it is not taken for one of its points.
        let bad = store
            .roles
            .iter()
            .filter(|report| report.head(selected).is_some_and(|report| !curve.value(report).is_finite()));
        let bad: Vec<[f64; 2]> = bad.map(|report| [report.step.0 as f64, 0.0]).collect();
        plot.points(Points::new("not a number", bad).color(NOT_A_NUMBER).radius(4.0).allow_hover(false));
        if let Some(step) = viewed {
            let line = VLine::new("viewed step", step.0 as f64).color(theme::accent(&visuals)).width(1.0);
            plot.vline(line.allow_hover(false));
        }
        if let Some((head, report)) = near {
            let point = [report.step.0 as f64, f64::from(report.head(head).map_or(0.0, |head| curve.value(head)))];
            let mark = Points::new("pointed at", vec![point]).color(visuals.strong_text_color()).radius(4.0);
            plot.points(mark.allow_hover(false));
        }
        near.map(|(head, report)| (head, report.step))
    });
    let name = format!("{} of every head by step", curve.text());
    drawn.response.widget_info(|| WidgetInfo::labeled(Widget::Canvas, true, &name));
    let near = drawn.inner;
    let words = near.map_or_else(
        || last_words(newest, curve, selected),
        |(head, step)| {
            let report = store.roles.iter().find(|report| report.step == step);
            report.map_or_else(String::new, |report| last_words(report, curve, head))
        },
    );
    let mut above = ui.new_child(UiBuilder::new().max_rect(words_area));
    small(&mut above, words);
    near.filter(|_| drawn.response.clicked())
}

/// `layer 1 · head 2: induction 0.84 at step 250`.
fn last_words(report: &RoleReport, curve: Curve, head: HeadId) -> String {
    let value = report.head(head).map(|report| curve.value(report));
    let Some(value) = value else { return "Point at a line to read it; a click goes there.".into() };
    let value = number_text(value, |value| format!("{value:.2}"));
    format!("{}: {} {value} at step {}", head_text(head), curve.text(), grouped(report.step.0))
}

fn points(roles: &[RoleReport], curve: Curve, head: HeadId) -> impl Iterator<Item = [f64; 2]> {
    let point = move |report: &RoleReport| {
        Some([report.step.0 as f64, f64::from(curve.value(report.head(head)?))]).filter(|point| point[1].is_finite())
    };
    roles.iter().filter_map(point)
}

/// The head and the report that the pointer is at.
fn under<'a>(
    plot: &PlotUi<'_>,
    pointer: Pos2,
    roles: &'a [RoleReport],
    curve: Curve,
    heads: &[HeadId],
) -> Option<(HeadId, &'a RoleReport)> {
    let at =
        |report: &RoleReport, value: f32| plot.screen_from_plot(PlotPoint::new(report.step.0 as f64, f64::from(value)));
    let aside = |report: &RoleReport| (at(report, 0.0).x - pointer.x).abs();
    let report = roles.iter().min_by(|one, other| aside(one).total_cmp(&aside(other)))?;
    let distance = |head: HeadId| {
        report.head(head).map_or(f32::INFINITY, |head| (at(report, curve.value(head)).y - pointer.y).abs())
    };
    let nearest = heads.iter().copied().min_by(|one, other| distance(*one).total_cmp(&distance(*other)))?;
    (distance(nearest) <= REACH).then_some((nearest, report))
}
