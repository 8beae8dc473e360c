use std::cell::RefCell;
use std::rc::Rc;

use eframe::egui::Vec2;
use eframe::egui::accesskit::Role;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;

use super::*;
use crate::findings::nanogpt::tests::{points, recipe};
use crate::findings::nanogpt::{REFERENCE, VALIDATION_TOKENS, text_fault};
use crate::protocol::{Event, Step, StepReport, ValidationReport, WholeReport};
use crate::store::tests::{ready, step_report, store_at_start};
use crate::ui::actions::{Action, PickPurpose, Theme};

/// A store of a parity run with these losses.
fn store(points: Vec<ValidationReport>) -> RunStore {
    let (mut store, mut report) = (store_at_start(), ready("runs/parity"));
    report.recipe = recipe();
    store.apply(Event::Ready(Box::new(report)));
    let training = recipe().training;
    let rate = |step: u64| training.learning_rate_at(step - 1);
    let steps = (1..=2000).map(|step| StepReport { learning_rate: rate(step), ..step_report(step, 2.0) });
    store.apply(Event::Progress(steps.collect()));
    let measured = points.len() == REFERENCE.len();
    points.into_iter().for_each(|point| store.apply(Event::Validated(point)));
    if measured {
        let step = Step(LAST_STEP);
        store.apply(Event::EvaluatedWhole(WholeReport { step, loss: 1.9, tokens: VALIDATION_TOKENS - 1 }));
    }
    store
}

fn shown(parity: Parity, store: RunStore) -> (Harness<'static>, Rc<RefCell<Vec<Action>>>) {
    let actions = Rc::new(RefCell::new(Vec::new()));
    let inside = Rc::clone(&actions);
    let builder = Harness::builder().with_size(Vec2::new(700.0, 460.0));
    let builder = builder.with_context_setup(|ctx| theme::install(ctx, Theme::Dark));
    let mut harness = builder.build_ui(move |ui| {
        let found = super::ui(ui.ctx(), &parity, &store, &recipe());
        inside.borrow_mut().extend(found);
    });
    harness.run();
    (harness, actions)
}

#[test]
fn the_verdict_is_shown_with_its_numbers_and_can_be_copied_and_closed() {
    let (mut harness, actions) = shown(Parity::default(), store(points(0.0123)));
    harness.get_by_label("Passed");
    assert_eq!(harness.query_all_by_label("+0.0123").count(), 6);
    assert_eq!(harness.query_all_by_label("within 0.05").count(), 5);
    harness.get_by_label("1.8980");
    harness.get_by_role_and_label(Role::Button, "Copy as text").click();
    harness.run();
    harness.get_by_role_and_label(Role::Button, "Close").click();
    harness.run();
    let actions = actions.borrow();
    assert!(matches!(&actions[..], [Action::CopyText(text), Action::CloseParity] if text.contains("1.8857")));
}

#[test]
fn a_refused_text_is_said_and_another_can_be_chosen() {
    let refused = Some(format!("poem.txt: {}", text_fault(9, 3).expect("refused")));
    let (mut harness, actions) = shown(Parity { refused, ..Parity::default() }, RunStore::default());
    harness.get_by_label_contains("poem.txt: it has 9 characters, 3 of them distinct.");
    harness.get_by_role_and_label(Role::Button, "Choose another text…").click();
    harness.run();
    assert!(matches!(&actions.borrow()[..], [Action::CloseParity, Action::Pick(PickPurpose::ParityText)]));
}
