use std::cell::RefCell;
use std::rc::Rc;

use eframe::egui::Vec2;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;
use egui_plot::GridInput;

use super::*;
use crate::protocol::{Event, ValidationReport};
use crate::store::tests::{step_report, store_at_start, validation};
use crate::ui::actions::Theme;
use crate::ui::widgets::marks::log_marks;

struct Shown {
    store: RunStore,
    view: ViewSettings,
    loss: LossView,
    overlays: Vec<Overlay>,
    viewed: Option<Step>,
    actions: Vec<Action>,
}

fn harness(steps: u64) -> (Harness<'static>, Rc<RefCell<Shown>>) {
    let mut store = store_at_start();
    if steps > 0 {
        store.apply(Event::Progress((1..=steps).map(|step| step_report(step, 1.0 + step as f32 / 1000.0)).collect()));
        store.apply(Event::Validated(validation(steps / 2, 1.5)));
        store.apply(Event::Validated(validation(steps, 1.75)));
    }
    let view = ViewSettings { smoothing: 0.0, ..ViewSettings::default() };
    let shown =
        Shown { store, view, loss: LossView::default(), overlays: Vec::new(), viewed: None, actions: Vec::new() };
    let shared = Rc::new(RefCell::new(shown));
    let inside = Rc::clone(&shared);
    let builder = Harness::builder().with_size(Vec2::new(700.0, 420.0));
    let harness = builder.with_context_setup(|ctx| theme::install(ctx, Theme::Dark)).build_ui(move |ui| {
        let Shown { store, view, loss, overlays, viewed, actions } = &mut *inside.borrow_mut();
        for action in loss.ui(ui, store, view, overlays, *viewed) {
            if let Action::SetView(changed) = &action {
                *view = (**changed).clone();
            }
            actions.push(action);
        }
    });
    (harness, shared)
}

#[test]
fn before_training_a_sentence_stands_in_for_the_curve() {
    let (mut harness, _shared) = harness(0);
    harness.run();
    harness.get_by_label("The loss curve appears here when training starts.");
}

#[test]
fn the_newest_values_are_read_out_and_the_hovered_ones_when_pointed_at() {
    let (mut harness, shared) = harness(1000);
    harness.run();
    harness.get_by_label("step 1,000  train 2.0000  smooth 2.0000  val 1.7500  rate 1.00e-3  gradient 0.500");
    shared
        .borrow_mut()
        .store
        .apply(Event::Validated(ValidationReport { accuracy: Some(0.875), ..validation(1000, 1.75) }));
    harness.run();
    let lesson = "step 1,000  train 2.0000  smooth 2.0000  val 1.7500  rate 1.00e-3  gradient 0.500  accuracy 0.8750";
    harness.get_by_label(lesson);
    let plot = harness.get_by_label("Loss by step").rect();
    harness.hover_at(plot.center());
    harness.run();
    let node = harness.get_by_label_contains("val 1.5");
    let words = node.value().expect("words");
    let step: f32 = words["step ".len()..].split_once(' ').expect("words").0.parse().expect("a step below 1,000");
    assert!((step - 500.0).abs() < 20.0, "{words}");
    assert!(words.contains(&format!("train {:.4}", 1.0 + step / 1000.0)), "{words}");
}

#[test]
fn the_plots_below_have_the_same_steps_below_each_other() {
    let (mut harness, _shared) = harness(1000);
    harness.run();
    let loss = harness.get_by_label("Loss by step").rect();
    for name in ["learning rate", "gradient norm"] {
        let below = harness.get_by_label(name).rect();
        assert_eq!((below.left(), below.right()), (loss.left(), loss.right()), "{name}");
        assert!(below.top() >= loss.bottom());
    }
}

#[test]
fn under_a_longer_overlay_all_plots_show_its_steps() {
    let (mut harness, shared) = harness(900);
    let steps: Vec<_> = (1..=3000).map(|step| step_report(step, 3.0)).collect();
    shared.borrow_mut().overlays.push(Overlay::new("longer".into(), PathBuf::from("runs/longer"), &steps, &[]));
    harness.run();
    // The same place is the same step in each; of the run's own 900 steps it would be a step below 200.
    for name in ["Loss by step", "learning rate", "gradient norm"] {
        let plot = harness.get_by_label(name).rect();
        harness.hover_at(plot.lerp_inside(Vec2::new(0.2, 0.5)));
        harness.run();
        let words = harness.get_by_label_contains("  smooth ").value().expect("words");
        let step: f32 = words["step ".len()..].split_once(' ').expect("words").0.parse().expect("a step below 1,000");
        assert!((300.0..600.0).contains(&step), "{name}: {words}");
    }
}

#[test]
fn controls_ask_for_what_they_say() {
    let (mut harness, shared) = harness(100);
    harness.run();
    harness.get_by_label("Log scale").click();
    harness.run();
    harness.get_by_label("Rates").click();
    harness.run();
    {
        let shown = shared.borrow();
        assert!(shown.view.log_loss && !shown.view.show_rates);
    }
    for (entry, purpose) in [
        ("Overlay a run…", PickPurpose::OverlayRun),
        ("Save as CSV…", PickPurpose::SaveCurves),
        ("Save as picture…", PickPurpose::SavePicture(Pane::Loss)),
    ] {
        harness.get_by_label("Curves").click();
        harness.run();
        harness.get_by_label(entry).click();
        harness.run();
        let shown = shared.borrow();
        assert!(matches!(shown.actions.last(), Some(Action::Pick(asked)) if *asked == purpose), "{entry}");
    }
}

#[test]
fn an_overlay_is_named_and_can_be_removed() {
    let (mut harness, shared) = harness(100);
    let path = PathBuf::from("runs/older");
    let older = Overlay::new("older".into(), path.clone(), &[step_report(1, 3.0)], &[validation(1, 3.0)]);
    shared.borrow_mut().overlays.push(older);
    harness.run();
    harness.get_by_label("older");
    harness.get_by_label("Remove the overlay older").click();
    harness.run();
    let shown = shared.borrow();
    assert!(matches!(&shown.actions[..], [Action::RemoveOverlay(asked)] if *asked == path), "{:?}", shown.actions);
}

#[test]
fn nanogpts_losses_stand_behind_the_curve_of_a_run_of_its_recipe_alone() {
    let (mut harness, shared) = harness(100);
    harness.run();
    assert_eq!(harness.query_all_by_label("nanoGPT").count(), 0);
    let mut report = crate::store::tests::ready("runs/parity");
    report.recipe = crate::preset::find("nanogpt-cpu").expect("built in").recipe;
    shared.borrow_mut().store.apply(Event::Ready(Box::new(report)));
    shared.borrow_mut().store.apply(Event::Progress(vec![step_report(1, 4.1), step_report(40, 3.0)]));
    harness.run();
    harness.get_by_label("nanoGPT");
    // The plot reaches to the end of the reference: two marks for each of its steps, at their places.
    let plot = harness.get_by_label("Loss by step").rect();
    let points: Vec<_> = harness.output().shapes.iter().flat_map(|clipped| painted_points(&clipped.shape)).collect();
    let x = |step: f32| plot.left() + plot.width() * (0.015 + step / 2060.0) / 1.03;
    for step in [250.0, 1000.0, 2000.0] {
        let near = points.iter().filter(|point| plot.contains(**point) && (point.x - x(step)).abs() < 9.0);
        assert!(near.count() >= 8, "step {step}");
    }
}

/// Where the curves of everything that was painted have their points.
fn painted_points(shape: &egui::Shape) -> Vec<egui::Pos2> {
    match shape {
        egui::Shape::Vec(shapes) => shapes.iter().flat_map(painted_points).collect(),
        egui::Shape::Path(path) => path.points.clone(),
        egui::Shape::Mesh(mesh) => mesh.vertices.iter().map(|vertex| vertex.pos).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn of_a_million_steps_some_points_a_pixel_are_painted_and_a_spike_is_among_them() {
    let (mut harness, shared) = harness(0);
    // A stretch that cannot be missed, and a step that must reach as high.
    let (stretch, spike) = (100_000..120_000, 654_321);
    let loss = |step| if step == spike || stretch.contains(&step) { 50.0 } else { 2.0 };
    let reports = (1..=1_000_000).map(|step| step_report(step, loss(step))).collect();
    shared.borrow_mut().store.apply(Event::Progress(reports));
    harness.run();
    let points: Vec<_> = harness.output().shapes.iter().flat_map(|clipped| painted_points(&clipped.shape)).collect();
    assert!((1000..20_000).contains(&points.len()), "{}", points.len());

    let plot = harness.get_by_label("Loss by step").rect();
    let top = plot.top() + 0.1 * plot.height();
    let high = points.iter().filter(|point| plot.contains(**point) && point.y < top);
    let expected = plot.left() + plot.width() * (0.015 + spike as f32 / 1e6) / 1.03;
    let right: Vec<_> = high.filter(|point| point.x > plot.center().x).collect();
    assert!(!right.is_empty() && right.iter().all(|point| (point.x - expected).abs() < 3.0), "{expected}: {right:?}");
}

#[test]
fn a_rate_has_zero_and_a_round_top_as_its_marks() {
    for (largest, top, label) in [
        (f64::from(1e-3_f32), 1e-3, "1e-3"),
        (2.61, 3.0, "3"),
        (0.47, 0.5, "0.5"),
        (1.2, 1.5, "1.5"),
        (83.0, 100.0, "100"),
    ] {
        assert!((round_above(largest) / top - 1.0).abs() < 1e-9, "{largest}");
        let bounds = (-0.15 * round_above(largest), HEADROOM * round_above(largest));
        let labels: Vec<_> =
            end_marks(GridInput { bounds, base_step_size: 1.0 }).iter().map(|m| short_label(m.value)).collect();
        assert_eq!(labels, ["0", label]);
    }
}

#[test]
fn smoothing_grows_from_none_to_a_thousand_steps() {
    assert_eq!(smoothing_window(0.0), 1.0);
    assert!((smoothing_window(1.0) - 1000.0).abs() < 1e-6);
    let mut series = Series::default();
    (0..100).for_each(|step| series.push(step, if step % 2 == 0 { 1.0 } else { 3.0 }));
    assert_eq!(smoothed(&series, 0.0, 1.0), Some(1.0), "the first value stands for itself");
    let middle = smoothed(&series, 90.0, 1.0).expect("a mean");
    assert!((middle - 2.0).abs() < 0.1, "{middle}");
}

#[test]
fn marks_of_the_log_scale_are_round_values_that_do_not_crowd() {
    for (low, high) in [(0.2, 0.6), (-0.1, 1.0), (-3.0, 2.0), (0.30, 0.301)] {
        let base_step_size = (high - low) / 25.0;
        let marks = log_marks(GridInput { bounds: (low, high), base_step_size });
        let inside = marks.iter().filter(|mark| (low..=high).contains(&mark.value)).count();
        assert!((2..=20).contains(&inside), "{low} to {high}: {inside}");
        assert!(marks.is_sorted_by(|one, other| one.value + 1.6 * base_step_size < other.value));
        for mark in &marks {
            let value: f64 = Scale::Log.label(*mark).parse().expect("a number");
            assert!((value.log10() - mark.value).abs() < 1e-6, "{mark:?}");
        }
    }
}

#[test]
fn the_wheel_zooms_into_the_steps_and_fit_shows_all_again() {
    let (mut harness, _shared) = harness(10_000);
    harness.run();
    let plot = harness.get_by_label("Loss by step").rect();
    let leftmost = |harness: &mut Harness<'_>| -> f32 {
        harness.hover_at(plot.left_center() + vec2(12.0, 0.0));
        harness.run();
        let words = harness.get_by_label_contains("smooth").value().expect("words");
        let step = words["step ".len()..].split_once(' ').expect("a step").0.replace(',', "");
        step.parse().expect("a number")
    };
    assert!(leftmost(&mut harness) < 200.0);
    harness.hover_at(plot.center());
    harness.run();
    for _ in 0..5 {
        let (unit, delta) = (egui::MouseWheelUnit::Point, vec2(0.0, 120.0));
        let source = egui::MouseWheelSource::Wheel;
        let (phase, modifiers) = (egui::TouchPhase::Move, egui::Modifiers::NONE);
        harness.event(egui::Event::MouseWheel { unit, delta, phase, modifiers, source });
        harness.run();
    }
    assert!(leftmost(&mut harness) > 2000.0);
    harness.get_by_label("Fit").click();
    harness.run();
    assert!(leftmost(&mut harness) < 200.0);
}

#[test]
fn the_viewed_step_is_a_line_at_its_place() {
    let (mut harness, shared) = harness(1000);
    harness.run();
    let upright = |harness: &Harness<'_>| {
        let points = harness.output().shapes.iter().flat_map(|shape| painted_points(&shape.shape));
        let points: Vec<_> = points.collect();
        points.windows(2).filter(|pair| pair[0].x == pair[1].x && (pair[0].y - pair[1].y).abs() > 100.0).count()
    };
    let before = upright(&harness);
    shared.borrow_mut().viewed = Some(Step(250));
    harness.run();
    assert_eq!(upright(&harness), before + 1);
}

#[test]
fn the_run_that_a_run_was_forked_from_is_called_so() {
    let (mut harness, shared) = harness(10);
    let history = [step_report(1, 3.0), step_report(2, 2.0)];
    shared.borrow_mut().overlays.push(Overlay::new("one".into(), "runs/one".into(), &history, &[]));
    shared.borrow_mut().store.ready.as_mut().expect("ready").parent = Some(("runs/one".into(), Step(1250)));
    harness.run();
    harness.get_by_label("one, forked from it at step 1,250");
}
