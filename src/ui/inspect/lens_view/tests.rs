use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use eframe::egui::Vec2;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;

use super::*;
use crate::protocol::{Attribution, HeadId, NonFinite, Stage};
use crate::store::tests::{look, snapshot, store_at_start};
use crate::ui::actions::Theme;

struct Shown {
    store: RunStore,
    view: ViewSettings,
    lens: LensView,
    actions: Vec<Action>,
}

/// The probe is t1 t2 t3; the model has two layers of two heads, and after the last it is right once.
fn harness() -> (Harness<'static>, Rc<RefCell<Shown>>) {
    let mut store = store_at_start();
    let mut seen = (*look(snapshot(1250, &["t1", "t2", "t3"], 2, 2))).clone();
    let row = |tokens: [u32; 3]| tokens.map(|token| vec![(token, 0.5), (9, 0.25)]);
    let likeliest = [row([7, 7, 7]), row([8, 7, 7]), row([2, 8, 5])].concat();
    seen.lens = Some(Lens { positions: 3, likeliest });
    store.apply_look(Arc::new(seen));
    let shown = Shown { store, view: ViewSettings::default(), lens: LensView::default(), actions: Vec::new() };
    let shared = Rc::new(RefCell::new(shown));
    let inside = Rc::clone(&shared);
    let builder = Harness::builder().with_size(Vec2::new(560.0, 520.0));
    let mut harness = builder.with_context_setup(|ctx| theme::install(ctx, Theme::Dark)).build_ui(move |ui| {
        let Shown { store, view, lens, actions } = &mut *inside.borrow_mut();
        actions.extend(lens.ui(ui, store, view));
    });
    harness.run();
    (harness, shared)
}

fn answer(shared: &Rc<RefCell<Shown>>, position: usize, token: u32) {
    let store = &mut shared.borrow_mut().store;
    let mut seen = (**store.look.as_ref().expect("a look")).clone();
    let (heads, mlps) = (vec![0.5, -0.25, 0.0, 2.0], vec![0.125, -1.0]);
    let attribution = Attribution { position, token, logit: 1.5, embedding: 0.0625, heads, mlps, biases: 0.0625 };
    seen.attribution = Some(attribution);
    store.apply_look(Arc::new(seen));
}

#[test]
fn each_layers_prediction_is_told_and_whether_the_probe_goes_on_like_that() {
    let (mut harness, _) = harness();
    harness.get_by_label("after layer 2, position 1: 't2' 50.00 %, right");
    harness.get_by_label("after layer 2, position 2: 't8' 50.00 %, wrong");
    harness.get_by_label("after layer 2, position 3: 't5' 50.00 %");
    harness.get_by_label("embedding, position 1: 't7' 50.00 %, wrong").hover();
    harness.run();
    harness.get_by_label("embedding, after 't1' (position 1)");
    harness.get_by_label("The probe goes on with 't2'.");
    harness.get_by_label("t9 25.00 %");
}

#[test]
fn the_last_places_likeliest_token_is_taken_apart_until_another_place_is_clicked() {
    let (mut harness, shared) = harness();
    let target = |shared: &Rc<RefCell<Shown>>| {
        let shown = shared.borrow();
        shown.lens.target(&shown.store)
    };
    assert_eq!(target(&shared), Some(Target { position: 2, token: None }));
    harness.get_by_label("after layer 1, position 2: 't7' 50.00 %, wrong").click();
    harness.run();
    assert_eq!(target(&shared), Some(Target { position: 1, token: None }));
    harness.get_by_label("The parts of this logit are being computed.");
    answer(&shared, 1, 8);
    harness.run();
    harness.get_by_label("sum of the parts 1.500 · logit 1.500");
    harness.get_by_label("layer 2 · MLP -1.000");
    shared.borrow_mut().lens.forget_places();
    assert_eq!(target(&shared), Some(Target { position: 2, token: None }));
}

#[test]
fn another_tokens_logit_can_be_chosen() {
    let (mut harness, shared) = harness();
    harness.get_by_label("Position 1: 't1'").click();
    harness.run();
    answer(&shared, 0, 2);
    harness.run();
    for (choice, token) in [("the probe's next: 't2'", Some(2)), ("'t9'  25.00 %", Some(9)), ("the likeliest", None)] {
        harness.get_by_role(eframe::egui::accesskit::Role::ComboBox).click();
        harness.run();
        harness.get_by_label(choice).click();
        harness.run();
        assert_eq!(shared.borrow().lens.token, token, "{choice}");
    }
}

#[test]
fn bars_are_by_layer_or_sorted_and_a_heads_selects_it() {
    let (mut harness, shared) = harness();
    answer(&shared, 2, 5);
    harness.run();
    let top = |harness: &Harness<'_>, label: &str| harness.get_by_label(label).rect().top();
    let (best, first) = ("layer 2 · head 2 +2.000", "layer 1 · head 1 +0.500");
    assert!(top(&harness, best) > top(&harness, first));
    harness.get_by_label("Sorted").click();
    harness.run();
    assert!(top(&harness, best) < top(&harness, first));
    harness.get_by_label(best).click();
    harness.run();
    let shown = shared.borrow();
    let expected = HeadId { layer: 1, head: 1 };
    assert!(
        matches!(shown.actions.last(), Some(Action::SetView(view)) if view.selected == expected),
        "{:?}",
        shown.actions
    );
}

#[test]
fn what_is_no_number_is_shown_as_such_and_sorts_first() {
    let (mut harness, shared) = harness();
    answer(&shared, 2, 5);
    {
        let store = &mut shared.borrow_mut().store;
        let mut seen = (**store.look.as_ref().expect("a look")).clone();
        seen.non_finite = Some(NonFinite { stage: Stage::Mlp(1), position: 2 });
        let lens = seen.lens.as_mut().expect("a lens");
        lens.likeliest[8] = vec![(0, f32::NAN), (1, f32::NAN)];
        let parts = seen.attribution.as_mut().expect("parts");
        (parts.logit, parts.heads[1], parts.mlps[1]) = (f32::NAN, f32::NEG_INFINITY, -f32::NAN);
        store.apply_look(Arc::new(seen));
    }
    shared.borrow_mut().lens.sorted = true;
    harness.run();
    harness.get_by_label_contains("not finite from layer 2's MLP on (position 3)");
    harness.get_by_label("after layer 2, position 3: NaN");
    harness.get_by_label("sum of the parts NaN · logit NaN");
    let top = |label: &str| harness.get_by_label(label).rect().top();
    assert!(top("layer 2 · MLP NaN") < top("layer 2 · head 2 +2.000"));
    assert!(top("layer 1 · head 2 −∞") > top("layer 2 · head 2 +2.000"));
}
