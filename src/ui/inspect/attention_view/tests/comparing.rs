//! A pinned moment beside the shown one, roles and switches on the grid.

use eframe::egui::accesskit::Role as Widget;
use eframe::egui::{Modifiers, PointerButton};
use egui_kittest::kittest::NodeT as _;

use super::*;
use crate::protocol::{
    EffectsReport, Event, HeadReport, Look, Off, Pin, RoleReport, RoleScores, Step, SwitchedReport, Switches,
};
use crate::ui::actions::Compare;

fn pin(shared: &Shared, pinned: Result<Arc<AttentionSnapshot>, String>) {
    let mut shown = shared.borrow_mut();
    shown.looked.pin = Some(Pin { run: None, step: Some(Step(100)) });
    let mut answer = Look::clone(shown.store.look.as_ref().expect("a look"));
    answer.view = shown.looked.clone();
    answer.pinned = Some(pinned);
    shown.store.apply_look(Arc::new(answer));
}

fn click(harness: &mut Harness<'_>, label: &str) {
    harness.get_by_label(label).click();
    harness.run();
}

#[test]
fn a_pinned_moment_is_read_beside_the_shown_one() {
    let (mut harness, shared) = head();
    harness.run();
    assert_eq!(harness.query_all_by_label("Difference").count(), 0, "nothing is pinned");
    let other = snapshot(100, &TOKENS, 2, 2);
    pin(&shared, Ok(Arc::clone(&other)));
    harness.run();
    let head = HeadId::default();
    let this = shared.borrow().store.attention.as_ref().expect("attention").weight(head, 3, 1);
    let pinned = other.weight(head, 3, 1);
    let expected = format!("'␣' → 'h'  {this:.3}  pinned {pinned:.3}  difference {:+.3}", this - pinned);
    let both = harness.get_by_label("Attention of layer 1, head 1").rect();
    assert!(both.width() > 1.5 * both.height(), "two maps: {both}");
    for (name, left_half, squares) in [("Side by side", true, 2), ("Difference", false, 1), ("Pinned", false, 1)] {
        click(&mut harness, name);
        let area = harness.get_by_label("Attention of layer 1, head 1").rect();
        let square = if left_half { area.with_max_x(area.left() + area.height()) } else { area };
        point_at(&mut harness, square, 3, 1);
        harness.get_by_label_contains(&expected);
        assert_eq!(shared.borrow().attention.enlarged.len(), squares, "{name}");
    }
    click(&mut harness, "Side by side");
    let area = harness.get_by_label("Attention of layer 1, head 1").rect();
    point_at(&mut harness, area.with_min_x(area.right() - area.height()), 3, 1);
    harness.get_by_label_contains(&expected);
    click(&mut harness, "Difference");
    harness.get_by_label("Colours of the differences, from -1 to 1, by their square root");
}

#[test]
fn what_is_pinned_and_cannot_be_shown_says_why_in_its_place() {
    for pane in [grid_pane as Pane, AttentionView::head_ui] {
        let (mut harness, shared) = harness(2, 2, pane);
        harness.run();
        let why = "runs/other has another vocabulary";
        pin(&shared, Err(why.into()));
        harness.run();
        harness.get_by_label(why);
        click(&mut harness, "This");
        assert_eq!(harness.query_all_by_label(why).count(), 0, "what is shown needs no pin");
        shared.borrow_mut().looked.pin = Some(Pin { run: None, step: Some(Step(7)) });
        click(&mut harness, "Difference");
        harness.get_by_label("Reading what is pinned…");
    }
}

#[test]
fn models_of_other_shapes_are_compared_where_both_have_heads() {
    let (mut harness, shared) = head();
    pin(&shared, Ok(snapshot(100, &TOKENS, 1, 2)));
    shared.borrow_mut().view.compare = Compare::Difference;
    shared.borrow_mut().view.selected = HeadId { layer: 1, head: 0 };
    harness.run();
    harness.get_by_label("The pinned model has no such head: it has 1 layers of 2 heads.");
    let (mut harness, shared) = grid(2, 2);
    pin(&shared, Ok(snapshot(100, &TOKENS, 1, 2)));
    harness.run();
    harness.get_by_label_contains("This model has 2 layers of 2 heads, the pinned one 1 of 2");
    assert_eq!(shared.borrow().attention.thumbnails.len(), 4 + 2);
}

fn roles(step: u64, induction: f32) -> RoleReport {
    let test = RoleScores { previous: 0.1, induction, ..RoleScores::default() };
    RoleReport { step: Step(step), heads: 2, reports: vec![HeadReport { test, ..HeadReport::default() }; 4] }
}

#[test]
fn a_head_is_called_by_its_role_of_the_step_before_and_says_what_it_is_worth() {
    let (mut harness, shared) = grid(2, 2);
    {
        let store = &mut shared.borrow_mut().store;
        for (step, score) in [(1000, 0.2), (1200, 0.83), (1300, 0.1)] {
            store.apply(Event::Roles(roles(step, score)));
        }
        let heads = vec![None, Some(0.0512), None, None];
        let (heads_per_layer, mlps) = (2, vec![Some(1.5), None]);
        store.apply(Event::Effects(EffectsReport {
            step: Step(1250),
            heads,
            heads_per_layer,
            mlps,
            ..EffectsReport::default()
        }));
    }
    harness.run();
    harness.get_by_label("Layer 1, head 2").hover();
    harness.run_steps(8);
    harness.get_by_label(
        "Layer 1, head 2\ninduction: 0.83 on the standard test\nvalidation loss +0.0512 without it (zero)",
    );
    harness.get_by_label("Layer 1, MLP").hover();
    harness.run_steps(8);
    harness.get_by_label_contains("Layer 1, MLP\nvalidation loss +1.5000 without it (zero)");
}

#[test]
fn heads_and_mlps_are_switched_and_the_cost_is_told_once_it_is_measured() {
    let (mut harness, shared) = grid(2, 2);
    harness.run();
    harness.get_by_label("Ctrl+click switches a head or MLP off");
    for name in ["Undo", "All on", "Prune"] {
        assert!(harness.get_by_label(name).accesskit_node().is_disabled(), "{name}");
    }
    // The key is up again before the frame is drawn.
    let pos = harness.get_by_label("Layer 1, head 2").rect().center();
    harness.hover_at(pos);
    harness.run();
    for pressed in [true, false] {
        let (button, modifiers) = (PointerButton::Primary, Modifiers::COMMAND);
        harness.event(egui::Event::PointerButton { pos, button, pressed, modifiers });
    }
    harness.run();
    assert_eq!(shared.borrow().view.selected, HeadId::default(), "it is not selected by that");
    harness.get_by_label("Layer 2, head 1").click_secondary();
    harness.run();
    click(&mut harness, "Switch off (mean)");
    let switches = shared.borrow().looked.switches.clone();
    let (one, other) = (HeadId { layer: 0, head: 1 }, HeadId { layer: 1, head: 0 });
    assert_eq!(
        switches.heads.iter().map(|(head, off)| (*head, *off)).collect::<Vec<_>>(),
        [(one, Off::Zero), (other, Off::Mean)]
    );
    harness.get_by_label("2 heads off: measuring…");
    let report = SwitchedReport { step: Step(1250), switches, loss: 2.1034, whole_loss: 2.0522, tokens: 640 };
    shared.borrow_mut().store.apply(Event::Switched(report));
    harness.run();
    harness.get_by_label("2 heads off: validation loss 2.1034 (+0.0512 without them)");
    click(&mut harness, "Prune");
    assert!(matches!(shared.borrow().actions.last(), Some(Action::Prune)));

    click(&mut harness, "Layer 2, MLP");
    harness.get_by_label("2 heads and 1 MLP off: measuring…");
    assert!(harness.get_by_label("Prune").accesskit_node().is_disabled(), "MLPs cannot be pruned");
    shared.borrow_mut().looked.step = Some(Step(500));
    click(&mut harness, "Layer 2, MLP");
    harness.get_by_label("2 heads off: measuring…");
    click(&mut harness, "All on");
    assert!(shared.borrow().looked.switches.is_empty());
    shared.borrow_mut().can_undo = true;
    harness.run();
    click(&mut harness, "Undo");
    assert!(matches!(shared.borrow().actions.last(), Some(Action::UndoSwitches)));
}

#[test]
fn a_pruned_head_is_an_empty_cell_that_cannot_be_switched_and_a_made_run_can_be_opened() {
    let (mut harness, shared) = grid(2, 2);
    shared.borrow_mut().store.ready.as_mut().expect("ready").recipe.model.pruned = vec![(0, 1)];
    shared.borrow_mut().attention.thumbnails.clear();
    shared.borrow_mut().store.apply(Event::Made { what: "a run".into(), run: "runs/one-pruned".into() });
    harness.run();
    assert_eq!(shared.borrow().attention.thumbnails.len(), 3);
    harness.get_by_label("Layer 1, head 2").click_modifiers(Modifiers::COMMAND);
    harness.run();
    assert!(shared.borrow().looked.switches.is_empty());
    harness.get_by_role_and_label(Widget::Button, "Open pruned run").click();
    harness.run();
    let shown = shared.borrow();
    assert!(matches!(shown.actions.last(), Some(Action::OpenRun(run)) if run.ends_with("one-pruned")));
}

#[test]
fn a_head_that_one_of_two_models_lacks_is_shown_of_the_other_alone() {
    let (mut harness, shared) = head();
    let mut other = (*snapshot(100, &TOKENS, 2, 2)).clone();
    let size = TOKENS.len() * TOKENS.len();
    other.weights[..size].fill(0.0);
    pin(&shared, Ok(Arc::new(other)));
    harness.run();
    harness.get_by_label("The pinned model has no such head: it was pruned.");
    assert_eq!(shared.borrow().attention.enlarged.len(), 1);
    shared.borrow_mut().view.selected = HeadId { layer: 1, head: 1 };
    shared.borrow_mut().store.ready.as_mut().expect("ready").recipe.model.pruned = vec![(1, 1)];
    harness.run();
    harness.get_by_label("This head was pruned: the model does not have it any more.");
    let area = harness.get_by_label("Attention of layer 2, head 2").rect();
    point_at(&mut harness, area.with_max_x(area.left() + area.height()), 3, 1);
    harness.get_by_label_contains("'␣' → 'h'  pruned  pinned 0.");
}

#[test]
fn the_last_head_of_a_layer_is_not_pruned() {
    let (mut harness, shared) = grid(2, 2);
    {
        let mut shown = shared.borrow_mut();
        let model = &mut shown.store.ready.as_mut().expect("ready").recipe.model;
        (model.layers, model.heads, model.key_value_heads) = (2, 2, None);
        let off = [0, 1].map(|head| (HeadId { layer: 0, head }, Off::Zero));
        shown.looked.switches = Switches { heads: off.into(), ..Switches::default() };
    }
    harness.run();
    harness.get_by_label("Prune").hover();
    harness.run_steps(8);
    harness.get_by_label("layer 1 must keep one of its heads");
}
