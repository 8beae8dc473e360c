mod comparing;
mod cutting;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use eframe::egui::{self, Key, Rect, Vec2};
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;

use super::{AttentionState, AttentionView};
use crate::protocol::{AttentionSnapshot, HeadId, NonFinite, Stage, View};
use crate::store::RunStore;
use crate::store::tests::{look, snapshot, store_at_start};
use crate::ui::actions::{Action, Theme, ViewSettings};
use crate::ui::widgets::theme;

const TOKENS: [&str; 4] = ["t", "h", "e", "␣"];

/// What the panes are shown, and what they asked for.
struct Shown {
    store: RunStore,
    view: ViewSettings,
    looked: View,
    can_undo: bool,
    attention: AttentionView,
    actions: Vec<Action>,
}

type Shared = Rc<RefCell<Shown>>;
type Pane = fn(&mut AttentionView, &mut egui::Ui, &AttentionState<'_>) -> Vec<Action>;

/// A pane with a run of that many layers and heads; what it asks of the view is done, as the app would.
fn harness(layers: usize, heads: usize, pane: Pane) -> (Harness<'static>, Shared) {
    let mut store = store_at_start();
    store.apply_look(look(snapshot(1250, &TOKENS, layers, heads)));
    let shown = Shown {
        store,
        view: ViewSettings::default(),
        looked: View::default(),
        can_undo: false,
        attention: AttentionView::default(),
        actions: Vec::new(),
    };
    let shared = Rc::new(RefCell::new(shown));
    let inside = Rc::clone(&shared);
    let builder = Harness::builder().with_size(Vec2::new(600.0, 500.0));
    let builder = builder.with_context_setup(|ctx| theme::install(ctx, Theme::Dark));
    let harness = builder.build_ui(move |ui| {
        let Shown { store, view, looked, can_undo, attention, actions } = &mut *inside.borrow_mut();
        for action in pane(attention, ui, &AttentionState { store, view, looked, can_undo: *can_undo }) {
            match &action {
                Action::SetView(changed) => *view = (**changed).clone(),
                Action::Look(changed) => *looked = (**changed).clone(),
                _ => {}
            }
            actions.push(action);
        }
    });
    (harness, shared)
}

fn grid_pane(attention: &mut AttentionView, ui: &mut egui::Ui, state: &AttentionState<'_>) -> Vec<Action> {
    let data = crate::preset::first().recipe.data;
    attention.grid_ui(ui, state, &crate::recipe::DataRecipe { probe: "the".into(), ..data })
}

fn grid(layers: usize, heads: usize) -> (Harness<'static>, Shared) {
    harness(layers, heads, grid_pane)
}

fn head() -> (Harness<'static>, Shared) {
    harness(2, 2, AttentionView::head_ui)
}

fn point_at(harness: &mut Harness<'_>, square: Rect, query: usize, key: usize) {
    let cell = square.size() / TOKENS.len() as f32;
    harness.hover_at(square.min + cell * Vec2::new(key as f32 + 0.5, query as f32 + 0.5));
    harness.run();
}

fn replace(shared: &Shared, change: impl FnOnce(&mut AttentionSnapshot)) {
    let store = &mut shared.borrow_mut().store;
    let mut newer = (**store.attention.as_ref().expect("attention")).clone();
    change(&mut newer);
    store.apply_look(look(Arc::new(newer)));
}

#[test]
fn a_click_on_a_thumbnail_selects_that_head() {
    let (mut harness, shared) = grid(3, 4);
    harness.run();
    harness.get_by_label("Layer 2, head 3").click();
    harness.run();
    let expected = HeadId { layer: 1, head: 2 };
    let shown = shared.borrow();
    assert!(matches!(&shown.actions[..], [Action::SetView(view)] if view.selected == expected), "{:?}", shown.actions);
}

#[test]
fn arrows_walk_over_the_grid_and_stop_at_its_edge() {
    let (mut harness, shared) = grid(2, 2);
    harness.run();
    harness.get_by_label("Layer 1, head 1").click();
    harness.run();
    for (key, layer, head) in [
        (Key::ArrowRight, 0, 1),
        (Key::ArrowRight, 0, 1),
        (Key::ArrowDown, 1, 1),
        (Key::ArrowLeft, 1, 0),
        (Key::ArrowUp, 0, 0),
        (Key::ArrowUp, 0, 0),
    ] {
        harness.key_press(key);
        harness.run();
        assert_eq!(shared.borrow().view.selected, HeadId { layer, head }, "after {key:?}");
    }
}

#[test]
fn of_many_heads_only_the_visible_ones_are_drawn() {
    let (mut harness, shared) = grid(40, 40);
    harness.run();
    let drawn = shared.borrow().attention.thumbnails.len();
    assert!((1..300).contains(&drawn), "{drawn}");
}

#[test]
fn the_colour_scale_is_chosen_by_name() {
    let (mut harness, shared) = grid(1, 1);
    harness.run();
    harness.get_by_label("Linear").click();
    harness.run();
    assert!(!shared.borrow().view.square_root);
}

#[test]
fn a_typed_probe_is_taken_once_after_enter() {
    let (mut harness, shared) = grid(1, 1);
    harness.run();
    harness.get_by_label("Probe").focus();
    harness.run();
    harness.key_combination_modifiers(egui::Modifiers::COMMAND, &[Key::A]);
    harness.get_by_label("Probe").type_text("two\\nlines");
    harness.step();
    assert!(shared.borrow().actions.is_empty(), "still typing");
    harness.key_press(Key::Enter);
    harness.run();
    let shown = shared.borrow();
    assert!(matches!(&shown.actions[..], [Action::SetProbe(probe)] if probe == "two\nlines"), "{:?}", shown.actions);
}

#[test]
fn a_probe_can_do_without_the_tokens_around_it() {
    let (mut harness, shared) = grid(1, 1);
    shared.borrow_mut().store.ready.as_mut().expect("ready").adds_special = true;
    harness.run();
    harness.get_by_label("Special tokens").click();
    harness.run();
    let shown = shared.borrow();
    assert!(matches!(&shown.actions[..], [Action::SetProbeSpecial(false)]), "{:?}", shown.actions);
}

#[test]
fn the_hovered_weight_is_the_snapshots_and_goes_on_changing_under_a_resting_pointer() {
    let (mut harness, shared) = head();
    shared.borrow_mut().view.selected = HeadId { layer: 1, head: 0 };
    harness.run();
    let square = harness.get_by_label("Attention of layer 2, head 1").rect();
    point_at(&mut harness, square, 2, 1);
    let weight = {
        let shown = shared.borrow();
        shown.store.attention.as_ref().expect("attention").weight(HeadId { layer: 1, head: 0 }, 2, 1)
    };
    let expected = format!("'e' → 'h'  {weight:.3}  query 3, key 2 · layer 2 · head 1 · step 1,250");
    harness.get_by_label(&expected);

    replace(&shared, |newer| {
        newer.step.0 = 1300;
        let size = TOKENS.len() * TOKENS.len();
        newer.weights[2 * size + 2 * TOKENS.len() + 1] = 0.875;
    });
    harness.run();
    harness.get_by_label("'e' → 'h'  0.875  query 3, key 2 · layer 2 · head 1 · step 1,300");
}

#[test]
fn later_tokens_are_said_to_be_never_looked_at() {
    let (mut harness, _shared) = head();
    harness.run();
    let square = harness.get_by_label("Attention of layer 1, head 1").rect();
    point_at(&mut harness, square, 0, 3);
    harness.get_by_label_contains("'t' → '␣'  later token: never looked at");
}

/// The query and the key that the readout tells of.
fn read(harness: &Harness<'_>) -> (usize, usize) {
    let words = harness.get_by_label_contains("query ").value().expect("words");
    let number = |name: &str| -> usize {
        let rest = words.split_once(name).expect("the name").1;
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
    };
    (number("query "), number("key "))
}

#[test]
fn the_wheel_goes_closer_a_drag_along_and_a_double_click_back() {
    let (mut harness, shared) = head();
    replace(&shared, |newer| *newer = (*snapshot(9, &["a"; 512], 2, 2)).clone());
    harness.run();
    let square = harness.get_by_label("Attention of layer 1, head 1").rect();
    let place = square.min + square.size() * egui::vec2(0.3, 0.7);
    harness.hover_at(place);
    harness.run();
    let (query, key) = read(&harness);
    for _ in 0..20 {
        let (unit, delta) = (egui::MouseWheelUnit::Point, egui::vec2(0.0, 120.0));
        let source = egui::MouseWheelSource::Wheel;
        let (phase, modifiers) = (egui::TouchPhase::Move, egui::Modifiers::NONE);
        harness.event(egui::Event::MouseWheel { unit, delta, phase, modifiers, source });
        harness.run();
    }
    assert_eq!(read(&harness), (query, key), "what was under the pointer stays there");
    let cell = egui::vec2(square.width() / 6.0, 0.0);
    harness.hover_at(place + cell);
    harness.run();
    assert_eq!(read(&harness), (query, key + 1), "six cells fill the map");

    harness.drag_at(place + cell);
    harness.run();
    harness.hover_at(place);
    harness.run();
    harness.drop_at(place);
    harness.hover_at(place);
    harness.run();
    assert_eq!(read(&harness), (query, key + 1), "the map moved with the pointer");

    // Here each frame takes a quarter of a second.
    harness.ctx.options_mut(|options| options.input_options.max_double_click_delay = 10.0);
    for pressed in [true, false, true, false] {
        let (button, modifiers) = (egui::PointerButton::Primary, egui::Modifiers::NONE);
        harness.event(egui::Event::PointerButton { pos: place, button, pressed, modifiers });
        harness.run();
    }
    harness.hover_at(square.left_bottom() + egui::vec2(0.2, -0.2));
    harness.run();
    assert_eq!(read(&harness), (512, 1));
}

#[test]
fn arrow_keys_go_from_cell_to_cell_until_the_pointer_moves() {
    let (mut harness, _shared) = head();
    harness.run();
    harness.get_by_label("Attention of layer 1, head 1").focus();
    harness.run();
    for (key, expected) in [
        (Key::ArrowLeft, (4, 4)),
        (Key::ArrowLeft, (4, 3)),
        (Key::ArrowUp, (3, 3)),
        (Key::ArrowRight, (3, 4)),
        (Key::ArrowRight, (3, 4)),
        (Key::ArrowDown, (4, 4)),
    ] {
        harness.key_press(key);
        harness.run();
        assert_eq!(read(&harness), expected, "after {key:?}");
    }
    let square = harness.get_by_label("Attention of layer 1, head 1").rect();
    point_at(&mut harness, square, 1, 0);
    assert_eq!(read(&harness), (2, 1));
}

#[test]
fn the_readout_keeps_its_place_and_the_map_fits_any_context() {
    for count in [8, 64, 512] {
        let (mut harness, shared) = head();
        replace(&shared, |newer| *newer = (*snapshot(9, &vec!["ab"; count], 2, 2)).clone());
        harness.run();
        let square = harness.get_by_label("Attention of layer 1, head 1").rect();
        assert!(square.right() <= 600.0 && square.bottom() <= 500.0 && square.width() > 300.0, "{count}: {square}");
        point_at(&mut harness, square, 0, 0);
        let hovered = harness.get_by_label("Attention of layer 1, head 1").rect();
        assert_eq!(square, hovered, "{count}");
    }
}

#[test]
fn before_the_first_snapshot_both_panes_say_what_will_come() {
    for (pane, words) in [
        (grid_pane as Pane, "Every head's attention appears here when training starts."),
        (AttentionView::head_ui, "The head chosen in the grid appears here, enlarged."),
    ] {
        let (mut harness, shared) = harness(1, 1, pane);
        shared.borrow_mut().store = RunStore::default();
        harness.run();
        harness.get_by_label(words);
    }
}

/// Small pictures of both panes in both themes, held to those in `tests/snapshots` (made anew with
/// `UPDATE_SNAPSHOTS=1 cargo test --release pictures`).
#[test]
fn pictures_of_the_panes_are_as_they_were() {
    if crate::device::list_here().is_empty() {
        assert!(std::env::var_os("CI").is_none(), "CI must have a graphics adapter (llvmpipe will do)");
        // Past the test runner, which keeps what a passing test prints with `eprintln!`.
        let note = "*** NOT TESTED: there is no graphics adapter here to draw the panes' pictures with ***";
        std::io::Write::write_all(&mut std::io::stderr(), format!("{note}\n").as_bytes()).expect("said");
        return;
    }
    let mut results = egui_kittest::SnapshotResults::new();
    let themes = [(Theme::Dark, egui::Theme::Dark, "dark"), (Theme::Light, egui::Theme::Light, "light")];
    for (theme, shown, name) in themes {
        for (pane, what) in [(grid_pane as Pane, "heads"), (AttentionView::head_ui, "head")] {
            let mut store = store_at_start();
            store.apply_look(look(snapshot(1250, &TOKENS, 2, 3)));
            let (mut attention, view, looked) = (AttentionView::default(), ViewSettings::default(), View::default());
            let builder = Harness::builder().with_size(Vec2::new(330.0, 220.0)).with_theme(shown).wgpu();
            let builder = builder.with_context_setup(move |ctx| theme::install(ctx, theme));
            let mut harness = builder.build_ui(move |ui| {
                let state = AttentionState { store: &store, view: &view, looked: &looked, can_undo: false };
                drop(pane(&mut attention, ui, &state));
            });
            harness.run();
            harness.snapshot(format!("{what}-{name}"));
            results.extend_harness(&mut harness);
        }
    }
    results.unwrap();
}

#[test]
fn what_is_no_number_is_named_with_layer_head_and_position() {
    let spoil = |shared: &Shared| {
        replace(shared, |newer| {
            let size = TOKENS.len() * TOKENS.len();
            // Layer 2, head 1, from the third token on.
            for place in [2 * TOKENS.len() + 1, 3 * TOKENS.len()] {
                newer.weights[2 * size + place] = f32::NAN;
            }
            *newer = newer.clone().looked_through();
        });
        let store = &mut shared.borrow_mut().store;
        let mut look = (**store.look.as_ref().expect("a look")).clone();
        look.non_finite = Some(NonFinite { stage: Stage::Attention(1), position: 2 });
        store.apply_look(Arc::new(look));
    };
    let words = "Layer 2, head 1: not a number from position 3 on";
    let (mut harness, shared) = grid(2, 2);
    spoil(&shared);
    harness.run();
    // The sentence, and the thumbnail's own name.
    assert_eq!(harness.query_all_by_label(words).count(), 2);
    harness.get_by_label_contains("not finite from layer 2's attention on (position 3)");
    harness.get_by_label("Layer 1, head 1");

    let (mut harness, shared) = head();
    spoil(&shared);
    shared.borrow_mut().view.selected = HeadId { layer: 1, head: 0 };
    harness.run();
    harness.get_by_label(words);
    let square = harness.get_by_label("Attention of layer 2, head 1: not a number from position 3 on").rect();
    point_at(&mut harness, square, 2, 1);
    harness.get_by_label_contains("'e' → 'h'  NaN  query 3, key 2");
}
