use std::cell::RefCell;
use std::rc::Rc;

use eframe::egui::Vec2;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};

use super::*;
use crate::protocol::{EffectsReport, Event, HeadReport, RoleReport, RoleScores, RunState, Step};
use crate::store::tests::{look, snapshot, store_at_start};
use crate::ui::actions::Theme;

struct Shown {
    store: RunStore,
    view: ViewSettings,
    looked: View,
    roles: RolesView,
    actions: Vec<Action>,
}

type Shared = Rc<RefCell<Shown>>;

/// Two layers of two heads; induction of the second layer's first head grows to 0.9, the others' is 0.1.
fn pane() -> (Harness<'static>, Shared) {
    let mut store = store_at_start();
    store.apply(Event::StateChanged(RunState::Paused));
    let report = |induction, entropy| HeadReport {
        test: RoleScores { induction, ..RoleScores::default() },
        entropy,
        ..HeadReport::default()
    };
    for step in [0, 250, 500, 750, 1000] {
        let grown = 0.1 + 0.8 * step as f32 / 1000.0;
        let reports = vec![report(0.1, 1.0), report(0.1, 0.25), report(grown, 0.5), report(0.1, 2.0)];
        store.apply(Event::Roles(RoleReport { step: Step(step), heads: 2, reports }));
    }
    store.apply(Event::Kept { steps: [0, 500, 1000].map(Step).into(), bytes: 1000 });
    store.apply_look(look(snapshot(1000, &["a", "b"], 2, 2)));
    let (view, looked) = (ViewSettings::default(), View::default());
    let shown = Shown { store, view, looked, roles: RolesView::default(), actions: Vec::new() };
    let shared = Rc::new(RefCell::new(shown));
    let inside = Rc::clone(&shared);
    let builder = Harness::builder().with_size(Vec2::new(1000.0, 520.0));
    let mut harness = builder.with_context_setup(|ctx| theme::install(ctx, Theme::Dark)).build_ui(move |ui| {
        let Shown { store, view, looked, roles, actions } = &mut *inside.borrow_mut();
        for action in roles.ui(ui, store, view, looked) {
            match &action {
                Action::SetView(changed) => *view = (**changed).clone(),
                Action::Look(changed) => *looked = (**changed).clone(),
                _ => {}
            }
            actions.push(action);
        }
    });
    harness.run();
    (harness, shared)
}

fn click(harness: &mut Harness<'_>, label: &str) {
    harness.get_by_label(label).click();
    harness.run();
}

/// The rows' names from top to bottom.
fn order(harness: &Harness<'_>) -> Vec<String> {
    let mut rows: Vec<_> = harness
        .query_all_by_label_contains("Row of ")
        .map(|row| (row.rect().top(), row.accesskit_node().label().expect("a name")))
        .collect();
    rows.sort_by(|one, other| one.0.total_cmp(&other.0));
    rows.into_iter().map(|(_, name)| name.replace("Row of ", "")).collect()
}

#[test]
fn the_table_is_sorted_by_any_column_and_a_row_selects_its_head() {
    let (mut harness, shared) = pane();
    let by_place = [
        "layer 1 · head 1",
        "layer 1 · head 2",
        "layer 1 · MLP",
        "layer 2 · head 1",
        "layer 2 · head 2",
        "layer 2 · MLP",
    ];
    assert_eq!(order(&harness), by_place);
    click(&mut harness, "Sort by test induction");
    assert_eq!(order(&harness)[0], "layer 2 · head 1");
    click(&mut harness, "Sort by probe entropy");
    let entropy = ["layer 2 · head 2", "layer 1 · head 1", "layer 2 · head 1", "layer 1 · head 2"];
    assert_eq!(order(&harness)[..4], entropy);
    click(&mut harness, "Sort by probe entropy");
    assert_eq!(order(&harness)[0], "layer 1 · head 2", "turned, and MLPs have no entropy");
    assert!(order(&harness)[5].contains("MLP"));
    click(&mut harness, "Row of layer 2 · head 2");
    assert_eq!(shared.borrow().view.selected, HeadId { layer: 1, head: 1 });
    click(&mut harness, "Row of layer 1 · MLP");
    assert_eq!(shared.borrow().view.selected, HeadId { layer: 1, head: 1 }, "an MLP is no head");
}

#[test]
fn a_point_of_the_chart_is_named_and_a_click_goes_to_the_nearest_kept_step() {
    let (mut harness, shared) = pane();
    harness.get_by_label("layer 1 · head 1: induction 0.10 at step 1,000");
    let plot = harness.get_by_label("induction of every head by step").rect();
    // The line of the one that grows is above all others at the right.
    let mut found = None;
    for down in 0..60 {
        let place = egui_at(plot, 0.97, down as f32 / 60.0);
        harness.hover_at(place);
        harness.run();
        if harness.query_by_label("layer 2 · head 1: induction 0.90 at step 1,000").is_some() {
            found = Some(place);
            break;
        }
    }
    let place = found.expect("the line is found");
    harness.drag_at(place);
    harness.run();
    harness.drop_at(place);
    harness.run();
    let shown = shared.borrow();
    assert_eq!((shown.view.selected, shown.looked.step), (HeadId { layer: 1, head: 0 }, Some(Step(1000))));
}

fn egui_at(area: eframe::egui::Rect, right: f32, down: f32) -> eframe::egui::Pos2 {
    area.min + area.size() * eframe::egui::vec2(right, down)
}

#[test]
fn effects_are_measured_shown_and_given_up() {
    let (mut harness, shared) = pane();
    click(&mut harness, "mean");
    click(&mut harness, "Effect of every head");
    assert!(matches!(shared.borrow().actions.last(), Some(Action::MeasureEffects(Off::Mean))));
    let report = EffectsReport {
        step: Step(1000),
        off: Off::Mean,
        tokens: 640,
        loss: 2.0,
        heads_per_layer: 2,
        heads: vec![Some(0.01), Some(0.5), None, None],
        mlps: vec![Some(1.25), None],
        done: 3,
        total: 7,
    };
    shared.borrow_mut().store.apply(Event::Effects(report.clone()));
    harness.run();
    assert_eq!(harness.query_all_by_label("Effect of every head").count(), 0, "it is under way");
    harness.get_by_label_contains("effect at step 1,000: loss without the part (mean) less 2.0000, 640 tokens");
    click(&mut harness, "Sort by effect");
    assert_eq!(order(&harness)[..3], ["layer 1 · MLP", "layer 1 · head 2", "layer 1 · head 1"]);
    click(&mut harness, "Cancel");
    assert!(matches!(shared.borrow().actions.last(), Some(Action::StopMeasuring)));
    harness.get_by_label("Effect of every head");
    click(&mut harness, "Effect of every head");
    shared.borrow_mut().store.apply(Event::Effects(EffectsReport { done: 7, ..report }));
    harness.run();
    harness.get_by_label("Effect of every head");
}

#[test]
fn another_curve_is_chosen_by_name_and_without_kept_steps_the_pane_says_so() {
    let (mut harness, shared) = pane();
    click(&mut harness, "Curve");
    click(&mut harness, "entropy");
    harness.get_by_label("entropy of every head by step");
    shared.borrow_mut().store.roles.clear();
    harness.run();
    harness.get_by_label(
        "The heads' scores over training appear here: they are measured while it trains, often at first.",
    );
    shared.borrow_mut().store = RunStore::default();
    harness.run();
    harness.get_by_label("What each head does appears here when training starts.");
}

#[test]
fn what_is_no_number_sorts_first_and_is_not_hidden() {
    let (mut harness, shared) = pane();
    {
        let store = &mut shared.borrow_mut().store;
        let mut newest = store.roles.last().expect("roles").clone();
        newest.step = Step(1000);
        newest.reports[1].test.induction = -f32::NAN;
        newest.reports[3].entropy = f32::NAN;
        store.apply(Event::Roles(newest));
    }
    harness.run();
    click(&mut harness, "Sort by test induction");
    let rows = order(&harness);
    assert_eq!(rows[..2], ["layer 1 · head 2", "layer 2 · head 1"], "{rows:?}");
    click(&mut harness, "Sort by test induction");
    let rows = order(&harness);
    assert_eq!(rows[3], "layer 1 · head 2", "{rows:?}");
    assert_eq!(rows.len(), 6, "MLPs, which have none, come last: {rows:?}");
}
