use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use eframe::egui::{self, Vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;

use super::*;
use crate::protocol::{Event, Look, MeanAttention, Off, Switches};
use crate::store::tests::{look, snapshot, store_at_start};
use crate::ui::actions::{PickPurpose, Theme};

const TOKENS: [&str; 4] = ["t", "h", "e", "␣"];

struct Shown {
    store: RunStore,
    view: ViewSettings,
    tokens: TokensView,
    actions: Vec<Action>,
}

type Shared = Rc<RefCell<Shown>>;

fn harness(words: WordsMode, change: impl FnOnce(&mut Look)) -> (Harness<'static>, Shared) {
    let mut store = store_at_start();
    let mut seen = (*look(snapshot(1250, &TOKENS, 2, 2))).clone();
    change(&mut seen);
    store.apply_look(Arc::new(seen));
    let view = ViewSettings { words, selected: HeadId { layer: 1, head: 0 }, ..ViewSettings::default() };
    let shared = Rc::new(RefCell::new(Shown { store, view, tokens: TokensView::default(), actions: Vec::new() }));
    let inside = Rc::clone(&shared);
    let builder = Harness::builder().with_size(Vec2::new(560.0, 480.0));
    let mut harness = builder.with_context_setup(|ctx| theme::install(ctx, Theme::Dark)).build_ui(move |ui| {
        let Shown { store, view, tokens, actions } = &mut *inside.borrow_mut();
        actions.extend(tokens.ui(ui, store, view));
    });
    harness.run();
    (harness, shared)
}

fn weight(shared: &Shared, query: usize, key: usize) -> String {
    let shown = shared.borrow();
    weight_text(shown.store.attention.as_ref().expect("attention").weight(shown.view.selected, query, key))
}

#[test]
fn words_tell_the_last_ones_row_until_another_is_pointed_at_and_a_click_keeps_it() {
    let (mut harness, shared) = harness(WordsMode::Words, |_| ());
    harness.get_by_label_contains("'␣' (token 4) → ");
    harness.get_by_label("Token 2: 'h'").hover();
    harness.run();
    let told = harness.get_by_label_contains("'h' (token 2) → ").value().expect("words");
    let largest = if weight(&shared, 1, 0) > weight(&shared, 1, 1) { "t" } else { "h" };
    assert!(told.contains(&format!("→ '{largest}'")), "the largest weight comes first: {told}");

    harness.get_by_label("Token 3: 'e'").click();
    harness.run();
    harness.get_by_label("Token 1: 't'").hover();
    harness.run();
    harness.get_by_label(&format!("'e' → 't'  {}", weight(&shared, 2, 0)));
    harness.get_by_label("Token 4: '␣'").hover();
    harness.run();
    harness.get_by_label("'e' → '␣'  later token: never looked at");
    harness.get_by_label("Token 3: 'e'").click();
    harness.run();
    harness.get_by_label("Token 1: 't'").hover();
    harness.run();
    harness.get_by_label_contains("'t' (token 1) → 't' 1.000");
}

#[test]
fn lines_are_those_of_the_word_pointed_at() {
    let (mut harness, shared) = harness(WordsMode::Lines, |_| ());
    let lines = |shared: &Shared| {
        let shown = shared.borrow();
        shown.tokens.lines.vertices() / 8
    };
    assert_eq!(lines(&shared), 10, "each of four queries has its keys");
    harness.get_by_label("Query 3: 'e'").hover();
    harness.run();
    assert_eq!(lines(&shared), 3);
    harness.get_by_label_contains("'e' (token 3) → ");
}

#[test]
fn stages_tell_the_numbers_of_a_row_before_and_after_the_mask() {
    let scores: Vec<f32> = (0..16).map(|index| index as f32 / 4.0 - 2.0).collect();
    let of = HeadId { layer: 1, head: 0 };
    let (mut harness, shared) = harness(WordsMode::Stages, |look| look.scores = Some((of, scores)));
    for stage in ["query · key / √d", "masked", "softmax"] {
        harness.get_by_label(&format!("Stage: {stage}"));
    }
    harness.get_by_label("Colours of the scores, from -2.00 to +2.00, zero in the middle");
    let square = harness.get_by_label("Stage: masked").rect();
    harness.hover_at(square.left_top() + square.size() * egui::vec2(0.9, 0.4));
    harness.run();
    harness.get_by_label_contains("'h' (token 2)");
    harness.get_by_label(&format!("   1 t  -1.000  -1.000  {}", weight(&shared, 1, 0)));
    harness.get_by_label("   3 e  -0.500  −∞  0");
}

#[test]
fn another_heads_scores_are_not_taken_for_this_ones() {
    let of = HeadId { layer: 0, head: 0 };
    let (harness, _) = harness(WordsMode::Stages, |look| look.scores = Some((of, vec![0.0; 16])));
    harness.get_by_label("The scores of this head are being computed.");
}

#[test]
fn all_layers_are_the_rollout() {
    let (harness, _) = harness(WordsMode::AllLayers, |look| {
        look.rollout = Some((0..16).map(|index| if index == 13 { 0.75 } else { 0.0625 }).collect());
    });
    harness.get_by_label_contains("'␣' (token 4) → 'h' 0.750");
}

#[test]
fn a_mean_names_its_file_tells_how_far_it_is_and_can_be_given_up() {
    let (mut harness, shared) = harness(WordsMode::Mean, |_| ());
    harness.get_by_label("Choose a text…").click();
    harness.run();
    assert!(matches!(shared.borrow().actions.last(), Some(Action::Pick(PickPurpose::MeanAttention))));
    let attention = snapshot(1250, &["0", "1", "2"], 2, 2);
    let tell = |windows| {
        let switches = Switches { heads: BTreeMap::from([(HeadId::default(), Off::Zero)]), ..Switches::default() };
        let (path, attention) = ("texts/poem.txt".into(), Arc::clone(&attention));
        let mean = MeanAttention { path, switches, windows, total: 40, attention };
        shared.borrow_mut().store.apply(Event::MeanAttention(mean));
    };
    tell(12);
    harness.run();
    harness.get_by_label_contains("mean over 12 windows of poem.txt at step 1,250 · 1 head off");
    let square = harness.get_by_label("Mean attention of layer 2, head 1").rect();
    harness.hover_at(square.left_top() + square.size() * egui::vec2(0.5, 0.8));
    harness.run();
    let weight = weight_text(attention.weight(HeadId { layer: 1, head: 0 }, 2, 1));
    harness.get_by_label(&format!("place 2 → place 1  {weight}"));
    harness.get_by_label("Cancel").click();
    harness.run();
    assert!(matches!(shared.borrow().actions.last(), Some(Action::StopMeasuring)));
    tell(40);
    harness.run();
    assert!(harness.query_by_label("Cancel").is_none(), "there is nothing left to give up");
}

#[test]
fn one_token_is_enough_for_every_mode_and_what_was_left_out_is_said() {
    for words in [WordsMode::Words, WordsMode::Lines, WordsMode::Stages, WordsMode::AllLayers] {
        let (harness, _) = harness(words, |look| {
            let mut one = (*snapshot(9, &["t"], 2, 2)).clone();
            one.note = "left out: 'ß'".into();
            look.attention = Arc::new(one);
            look.scores = Some((HeadId { layer: 1, head: 0 }, vec![-0.5]));
            look.rollout = Some(vec![1.0]);
        });
        harness.get_by_label("left out: 'ß'");
    }
}

#[test]
fn a_pruned_head_is_said_to_be_one() {
    let (mut harness, shared) = harness(WordsMode::Words, |_| ());
    shared.borrow_mut().store.ready.as_mut().expect("ready").recipe.model.pruned = vec![(1, 0)];
    harness.run();
    harness.get_by_label("Layer 2 · head 1 was pruned: it looks at nothing. Choose another one in the grid.");
}

#[test]
fn only_what_is_in_sight_is_asked_for() {
    let (_, shared) = harness(WordsMode::Stages, |_| ());
    let shown = shared.borrow();
    let wants = |words, in_sight| {
        TokensView::wants(Wants::default(), &shown.store, &ViewSettings { words, ..shown.view.clone() }, in_sight)
    };
    let scores = Some(HeadId { layer: 1, head: 0 });
    assert_eq!(wants(WordsMode::Stages, true), Wants { scores, ..Wants::default() });
    assert_eq!(wants(WordsMode::AllLayers, true), Wants { rollout: true, ..Wants::default() });
    for hidden in [wants(WordsMode::Stages, false), wants(WordsMode::AllLayers, false), wants(WordsMode::Lines, true)] {
        assert_eq!(hidden, Wants::default());
    }
}

#[test]
fn a_row_that_is_no_number_is_told_as_such_in_every_mode() {
    for mode in [WordsMode::Words, WordsMode::Lines, WordsMode::Stages] {
        let (harness, _) = harness(mode, |look| {
            let mut spoiled = (*look.attention).clone();
            let row = 2 * 16 + 3 * 4;
            spoiled.weights[row..row + 4].fill(f32::NAN);
            look.attention = Arc::new(spoiled.looked_through());
            look.scores = Some((HeadId { layer: 1, head: 0 }, vec![f32::INFINITY; 16]));
        });
        harness.get_by_label("Layer 2, head 1: not a number from position 4 on");
        if mode == WordsMode::Words {
            harness.get_by_label_contains("'␣' (token 4) → 't' NaN");
        }
        if mode == WordsMode::Stages {
            assert!(harness.query_all_by_label_contains("∞  ∞  NaN").count() > 0);
        }
    }
}
