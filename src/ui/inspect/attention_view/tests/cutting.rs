//! Cut weights, and rows that chose a token of a sample.

use eframe::egui::{self, Key, Modifiers, PointerButton, vec2};

use super::*;
use crate::protocol::{Cut, CutEffect, TokenAttention};
use crate::ui::inspect::attention_view::Focus;

const CUT: Cut = Cut { head: HeadId { layer: 0, head: 0 }, query: 2, key: 1 };

fn click_with(harness: &mut Harness<'_>, button: PointerButton, modifiers: Modifiers) {
    let pos = place(harness, CUT.query, CUT.key);
    for pressed in [true, false] {
        harness.event(egui::Event::PointerButton { pos, button, pressed, modifiers });
    }
    harness.run();
}

fn place(harness: &Harness<'_>, query: usize, key: usize) -> egui::Pos2 {
    let square = harness.get_by_label("Attention of layer 1, head 1").rect();
    square.min + square.width() / TOKENS.len() as f32 * vec2(key as f32 + 0.5, query as f32 + 0.5)
}

fn cuts(shared: &Shared) -> Vec<Cut> {
    shared.borrow().looked.cuts.iter().copied().collect()
}

#[test]
fn a_click_with_ctrl_or_alt_cuts_a_weight_and_restores_it() {
    for modifiers in [Modifiers::CTRL | Modifiers::COMMAND, Modifiers::ALT] {
        let (mut harness, shared) = head();
        harness.run();
        harness.hover_at(place(&harness, CUT.query, CUT.key));
        harness.run();
        click_with(&mut harness, PointerButton::Primary, Modifiers::NONE);
        assert_eq!(cuts(&shared), [], "a plain click cuts nothing");
        click_with(&mut harness, PointerButton::Primary, modifiers);
        assert_eq!(cuts(&shared), [CUT]);
        harness.hover_at(place(&harness, CUT.query, CUT.key));
        harness.run();
        harness.get_by_label_contains("  cut  query 3, key 2");
        click_with(&mut harness, PointerButton::Primary, modifiers);
        assert_eq!(cuts(&shared), []);
    }
}

#[test]
fn the_key_x_cuts_the_marked_cell_but_no_later_token() {
    let (mut harness, shared) = head();
    harness.run();
    harness.get_by_label("Attention of layer 1, head 1").focus();
    harness.run();
    for (key, expected) in [
        (Key::ArrowLeft, None),
        (Key::ArrowUp, None),
        (Key::X, Some(Cut { query: 2, key: 3, ..CUT })),
        (Key::ArrowLeft, None),
        (Key::X, Some(Cut { query: 2, key: 2, ..CUT })),
    ] {
        harness.key_press(key);
        harness.run();
        let expected: Vec<Cut> = expected.into_iter().filter(|cut| cut.key <= cut.query).collect();
        assert_eq!(cuts(&shared), expected, "after {key:?}");
    }
}

#[test]
fn the_menu_cuts_what_it_was_opened_on_and_restores_all() {
    let (mut harness, shared) = head();
    harness.run();
    for (words, expected) in
        [("Cut this weight", vec![CUT]), ("Restore this weight", vec![]), ("Cut this weight", vec![CUT])]
    {
        harness.hover_at(place(&harness, CUT.query, CUT.key));
        harness.run();
        click_with(&mut harness, PointerButton::Secondary, Modifiers::NONE);
        harness.get_by_label(words).click();
        harness.run();
        assert_eq!(cuts(&shared), expected, "{words}");
    }
    harness.get_by_label("Restore all cuts").click();
    harness.run();
    assert_eq!(cuts(&shared), []);
}

#[test]
fn what_cuts_do_to_the_next_token_is_told_and_rows_may_be_scaled_up_again() {
    let (mut harness, shared) = head();
    {
        let mut shown = shared.borrow_mut();
        shown.looked.cuts.insert(CUT);
    }
    harness.run();
    harness.get_by_label("1 weight is cut");
    harness.get_by_label("The prediction without these weights is being computed.");
    {
        let store = &mut shared.borrow_mut().store;
        let mut seen = (**store.look.as_ref().expect("a look")).clone();
        let (before, after) = (vec![(6, 0.625), (7, 0.125)], vec![(5, 0.5), (6, 0.25)]);
        seen.cut = Some(CutEffect { position: 2, before, after });
        store.apply_look(Arc::new(seen));
    }
    harness.run();
    // It is the answer to other cuts.
    harness.get_by_label("The prediction without these weights is being computed.");
    {
        let mut shown = shared.borrow_mut();
        let mut seen = (**shown.store.look.as_ref().expect("a look")).clone();
        seen.view.cuts.clone_from(&shown.looked.cuts);
        shown.store.apply_look(Arc::new(seen));
    }
    harness.run();
    harness.get_by_label_contains("Next token after 'e' (token 3)");
    harness.get_by_label("t6: before 62.50 %, with the cuts 25.00 %, difference -37.50");
    harness.get_by_label("t5: before less, with the cuts 50.00 %, difference ");
    harness.get_by_label("Scale the row up again").click();
    harness.run();
    assert!(shared.borrow().looked.renormalise);
    let [top, bottom] =
        ["Attention of layer 1, head 1", "1 weight is cut"].map(|name| harness.get_by_label(name).rect());
    assert!(top.bottom() <= bottom.top(), "the map makes room");
}

#[test]
fn the_row_that_chose_a_token_stands_in_place_of_the_probes() {
    let attention =
        TokenAttention { start: 3, layers: 2, heads: 2, weights: vec![0.25, 0.75, 0.5, 0.5, 0.9, 0.1, 1.0, 0.0] };
    let focus = Focus { chosen: "e".into(), keys: vec!["t".into(), "h".into()], attention: Arc::new(attention) };
    let focus = Arc::new(focus);
    for pane in [grid_pane as Pane, AttentionView::head_ui] {
        let (mut harness, shared) = harness(2, 2, pane);
        assert!(shared.borrow_mut().attention.set_focus(Some(Arc::clone(&focus))));
        assert!(!shared.borrow_mut().attention.set_focus(Some(Arc::clone(&focus))), "nothing new");
        harness.run();
        assert!(harness.query_all_by_label_contains("row that chose 'e'").count() >= 1);
        shared.borrow_mut().attention.set_focus(None);
        harness.run();
        assert_eq!(harness.query_all_by_label_contains("that chose").count(), 0);
    }
    let (mut harness, shared) = harness(2, 2, AttentionView::head_ui);
    shared.borrow_mut().attention.set_focus(Some(focus));
    shared.borrow_mut().view.selected = HeadId { layer: 1, head: 0 };
    harness.run();
    harness.get_by_label_contains("most at 't'  0.900  row that chose 'e' · layer 2 · head 1");
    let strip = harness.get_by_label("Row of layer 2, head 1 that chose 'e'").rect();
    harness.hover_at(strip.right_bottom() - vec2(40.0, 12.0));
    harness.run();
    harness.get_by_label_contains("'h'  0.100");
}
