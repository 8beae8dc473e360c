use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use eframe::egui::accesskit::Role;
use eframe::egui::{self, PointerButton, Vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};

use super::*;
use crate::protocol::Event;
use crate::store::tests::{look as seen, snapshot, step_report, store_at_start};
use crate::ui::actions::Theme;

struct Shown {
    store: RunStore,
    looked: View,
    timeline: TimelineView,
    actions: Vec<Action>,
}

type Shared = Rc<RefCell<Shown>>;

/// The bar of a run of 2,000 steps that is at step 900; what it asks of the view is done, as the app would.
fn bar(kept: &[u64], megabytes: u64) -> (Harness<'static>, Shared) {
    let mut store = store_at_start();
    let training = &mut store.ready.as_mut().expect("ready").recipe.training;
    (training.steps, training.timeline_megabytes) = (2000, megabytes);
    store.apply(Event::Progress(vec![step_report(900, 2.0)]));
    store.apply(Event::Kept { steps: kept.iter().map(|&step| Step(step)).collect(), bytes: 12_300_000 });
    let shown = Shown { store, looked: View::default(), timeline: TimelineView::default(), actions: Vec::new() };
    let shared = Rc::new(RefCell::new(shown));
    let inside = Rc::clone(&shared);
    let builder = Harness::builder().with_size(Vec2::new(1000.0, 60.0));
    let builder = builder.with_context_setup(|ctx| theme::install(ctx, Theme::Dark));
    let mut harness = builder.build_ui(move |ui| {
        let Shown { store, looked, timeline, actions } = &mut *inside.borrow_mut();
        for action in timeline.ui(ui, store, looked) {
            match &action {
                Action::Look(view) => *looked = (**view).clone(),
                Action::Timeline(to) => {
                    let now = ui.input(|input| input.time);
                    looked.step = timeline.go(*to, &store.kept, looked.step, now);
                }
                _ => {}
            }
            actions.push(action);
        }
    });
    harness.run();
    (harness, shared)
}

fn viewed(shared: &Shared) -> Option<u64> {
    shared.borrow().looked.step.map(|step| step.0)
}

/// Where a step is on the bar of 2,000.
fn place(harness: &Harness<'_>, step: f32) -> Pos2 {
    let area = harness.get_by_label("Kept steps").rect();
    pos2(area.left() + 7.0 + (area.width() - 14.0) * (step / 2000.0).sqrt(), area.top() + 8.0)
}

fn click(harness: &mut Harness<'_>, label: &str) {
    harness.get_by_label(label).click();
    harness.run();
}

#[test]
fn before_a_step_is_kept_the_bar_says_why() {
    let live = "Live: step   900 of 2,000";
    for (megabytes, why) in [
        (1000, "no steps are kept yet: they are while it trains"),
        (0, "no steps are kept: Timeline, MB in the recipe is 0 (for the next run)"),
    ] {
        let (harness, _shared) = bar(&[], megabytes);
        harness.get_by_label(&format!("{live} · {why}"));
        assert!(harness.get_by_label("Play").accesskit_node().is_disabled());
        assert_eq!(harness.query_all_by_label("Kept steps").count(), usize::from(megabytes > 0));
    }
    let (harness, _shared) = bar(&[], 1);
    harness.get_by_label_contains("no steps are kept: this model needs Timeline, MB of ");
}

#[test]
fn a_click_goes_to_the_nearest_kept_step_a_drag_along_and_live_back() {
    let (mut harness, shared) = bar(&[0, 100, 400, 800], 1000);
    harness.get_by_label("Live: step   900 of 2,000 · kept 4 steps, 12.3 MB");
    let from = place(&harness, 430.0);
    harness.hover_at(from);
    harness.drag_at(from);
    harness.run();
    harness.drop_at(from);
    harness.run();
    assert_eq!(viewed(&shared), Some(400));
    harness.get_by_label("step   400 of 2,000 · kept 4 steps, 12.3 MB");
    let to = place(&harness, 60.0);
    harness.drag_at(from);
    harness.run();
    harness.hover_at(to);
    harness.run();
    assert_eq!(viewed(&shared), Some(100), "while it is dragged");
    harness.drop_at(to);
    harness.run();
    click(&mut harness, "Live");
    assert_eq!(viewed(&shared), None);
    // A drag so quick that its end comes with its last move.
    harness.drag_at(from);
    harness.run();
    harness.hover_at(place(&harness, 900.0));
    harness.run();
    assert_eq!(viewed(&shared), Some(800));
    let (button, modifiers) = (PointerButton::Primary, Modifiers::NONE);
    let end = egui::Event::PointerButton { pos: to, button, pressed: false, modifiers };
    // In one frame.
    harness.input_mut().events.extend([egui::Event::PointerMoved(to), end]);
    harness.run();
    assert_eq!(viewed(&shared), Some(100));
}

#[test]
fn keys_go_from_kept_step_to_kept_step_and_the_live_model_is_after_the_last() {
    let (mut harness, shared) = bar(&[0, 100, 400, 800], 1000);
    // The first key also without focus, as no other widget has use for it.
    harness.key_press(Key::ArrowLeft);
    harness.run();
    assert_eq!(viewed(&shared), Some(800));
    click(&mut harness, "Live");
    harness.get_by_label("Kept steps").focus();
    harness.run();
    for (key, expected) in [
        (Key::ArrowLeft, Some(800)),
        (Key::ArrowLeft, Some(400)),
        (Key::Home, Some(0)),
        (Key::ArrowLeft, Some(0)),
        (Key::ArrowRight, Some(100)),
        (Key::End, Some(800)),
        (Key::ArrowRight, None),
        (Key::ArrowRight, None),
    ] {
        harness.key_press(key);
        harness.run();
        assert_eq!(viewed(&shared), expected, "after {key:?}");
    }
}

#[test]
fn playing_shows_each_step_once_it_has_come_and_ends_at_the_last() {
    let (mut harness, shared) = bar(&[0, 100, 400], 1000);
    click(&mut harness, "Play");
    assert_eq!(viewed(&shared), Some(0), "from the first");
    for _ in 0..20 {
        harness.step();
    }
    assert_eq!(viewed(&shared), Some(0), "it has not been shown yet");
    let mut seen_steps = Vec::new();
    for _ in 0..40 {
        let view = shared.borrow().looked.clone();
        seen_steps.extend(view.step.map(|step| step.0).filter(|step| seen_steps.last() != Some(step)));
        let mut answer = (*seen(snapshot(view.step.map_or(0, |step| step.0), &["a"], 1, 1))).clone();
        answer.view = view;
        shared.borrow_mut().store.apply_look(Arc::new(answer));
        harness.step();
    }
    assert_eq!(seen_steps, [0, 100, 400]);
    assert!(harness.query_by_label("Play").is_some(), "it has ended by itself");
    click(&mut harness, "Play");
    assert_eq!(viewed(&shared), Some(0), "from the end it begins anew");
    click(&mut harness, "Stop");
    assert!(harness.query_by_label("Play").is_some());
}

#[test]
fn a_kept_step_can_be_pinned_and_forked_the_live_model_cannot() {
    let (mut harness, shared) = bar(&[0, 100, 400], 1000);
    for name in ["Pin this step", "Fork"] {
        assert!(harness.get_by_role_and_label(Role::Button, name).accesskit_node().is_disabled(), "{name}");
    }
    shared.borrow_mut().looked.step = Some(Step(100));
    harness.run();
    click(&mut harness, "Pin this step");
    assert_eq!(shared.borrow().looked.pin, Some(Pin { run: None, step: Some(Step(100)) }));
    shared.borrow_mut().looked.step = Some(Step(400));
    harness.run();
    harness.get_by_label("Pinned: step 100");
    click(&mut harness, "Unpin");
    assert_eq!(shared.borrow().looked.pin, None);
    for (text, expected) in [("Fork here", false), ("Fork with the recipe's settings", true)] {
        click(&mut harness, "Fork");
        click(&mut harness, text);
        let action = shared.borrow_mut().actions.pop();
        assert!(
            matches!(action, Some(Action::Fork { step: Step(400), changed }) if changed == expected),
            "{text}: {action:?}"
        );
    }
    click(&mut harness, "Pin a run…");
    assert!(matches!(shared.borrow().actions.last(), Some(Action::Pick(PickPurpose::PinRun))));
}

#[test]
fn of_a_long_run_the_last_step_and_round_ones_are_written() {
    let written: Vec<u64> = marked(2000).take(6).collect();
    assert_eq!(written, [2000, 1000, 500, 200, 100, 50]);
    assert_eq!(marked(0).last(), Some(0));
    assert_eq!(marked(u64::MAX).next(), Some(u64::MAX));
}
