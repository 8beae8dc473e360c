use std::cell::RefCell;
use std::rc::Rc;

use eframe::egui::Vec2;
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};

use super::*;
use crate::protocol::{Event, SampleEvent, Step, Switches, TokenAttention};
use crate::store::tests::store_at_start;
use crate::ui::actions::Theme;

struct Shown {
    store: RunStore,
    view: ViewSettings,
    settings: SamplingRecipe,
    can_sample: bool,
    sample: SampleView,
    actions: Vec<Action>,
}

fn harness() -> (Harness<'static>, Rc<RefCell<Shown>>) {
    let store = store_at_start();
    let settings = store.ready.as_ref().expect("ready").recipe.sampling.clone();
    let shown = Shown {
        store,
        view: ViewSettings::default(),
        settings,
        can_sample: true,
        sample: SampleView::default(),
        actions: Vec::new(),
    };
    let shared = Rc::new(RefCell::new(shown));
    let inside = Rc::clone(&shared);
    let builder = Harness::builder().with_size(Vec2::new(420.0, 360.0));
    let harness = builder.with_context_setup(|ctx| theme::install(ctx, Theme::Dark)).build_ui(move |ui| {
        let Shown { store, view, settings, can_sample, sample, actions } = &mut *inside.borrow_mut();
        for action in sample.ui(ui, store, view, settings, *can_sample) {
            if let Action::EditSampling(changed) = &action {
                *settings = (**changed).clone();
            }
            actions.push(action);
        }
    });
    (harness, shared)
}

fn draw(store: &mut RunStore, tokens: &[&str]) {
    store.sample_started(1);
    let note = "left out: 'ß'".to_owned();
    store.apply(Event::Sampled(SampleEvent::Started {
        id: 1,
        step: Step(1250),
        switches: Switches::default(),
        prompt: "To".into(),
        tokens: vec!["T".into(), "o".into()],
        note,
    }));
    for (index, &text) in tokens.iter().enumerate() {
        let probability = 0.5 / (index + 1) as f32;
        let label = text.replace('\n', "⏎").replace(' ', "␣");
        let alternatives = vec![(label.clone(), probability), ("q".into(), 0.0125)];
        let token = SampledToken {
            text: text.into(),
            label,
            id: 0,
            special: false,
            ends: false,
            probability,
            alternatives,
            attention: None,
        };
        store.apply(Event::Sampled(SampleEvent::Token { id: 1, token }));
    }
}

#[test]
fn sample_asks_with_the_settings_and_stop_ends_it() {
    let (mut harness, shared) = harness();
    harness.run();
    harness.get_by_label("Sample").click();
    harness.run();
    {
        let mut shown = shared.borrow_mut();
        let Shown { actions, settings, store, .. } = &mut *shown;
        assert!(matches!(&actions[..], [Action::Sample(asked)] if **asked == *settings), "{actions:?}");
        store.sample_started(1);
    }
    harness.run();
    harness.get_by_label("Stop").click();
    harness.run();
    assert!(matches!(shared.borrow().actions.last(), Some(Action::StopSampling)));
}

#[test]
fn without_a_model_there_is_nothing_to_sample() {
    let (mut harness, shared) = harness();
    shared.borrow_mut().can_sample = false;
    harness.run();
    assert!(harness.get_by_label("Sample").accesskit_node().is_disabled());
}

#[test]
fn a_typed_prompt_becomes_an_edit() {
    let (mut harness, shared) = harness();
    shared.borrow_mut().settings.prompt.clear();
    harness.run();
    harness.get_by_label("Prompt").focus();
    harness.run();
    harness.get_by_label("Prompt").type_text("Once");
    harness.run();
    assert_eq!(shared.borrow().settings.prompt, "Once");
}

#[test]
fn a_model_with_tokens_around_its_texts_has_switches_for_them() {
    let (mut harness, shared) = harness();
    harness.run();
    assert!(harness.query_by_label("Special tokens").is_none(), "this model has none");
    {
        let mut shown = shared.borrow_mut();
        let ready = shown.store.ready.as_mut().expect("ready");
        (ready.adds_special, ready.ends) = (true, vec!["<|end|>".into()]);
    }
    harness.run();
    harness.get_by_label("Special tokens").click();
    harness.run();
    harness.get_by_label("Stop at an end token").click();
    harness.run();
    let shown = shared.borrow();
    assert!(!shown.settings.special_tokens && !shown.settings.stop_at_end);
}

#[test]
fn why_a_text_is_at_its_end_is_said() {
    let (mut harness, shared) = harness();
    draw(&mut shared.borrow_mut().store, &[" be", "<|end|>"]);
    shared.borrow_mut().store.sample.tokens[1].ends = true;
    harness.run();
    harness.get_by_label("step 1,250 · 2 tokens · at its end with <|end|>");
}

#[test]
fn the_text_is_shown_with_its_note_and_copied_whole() {
    let (mut harness, shared) = harness();
    draw(&mut shared.borrow_mut().store, &[" be", "\n", "or"]);
    harness.run();
    harness.get_by_label("Sample: To be\nor");
    harness.get_by_label("left out: 'ß'");
    harness.get_by_label("step 1,250 · 3 tokens");
    harness.get_by_label("Copy").click();
    harness.run();
    let shown = shared.borrow();
    assert!(matches!(&shown.actions[..], [Action::CopyText(text)] if text == "To be\nor"), "{:?}", shown.actions);
}

#[test]
fn a_hovered_token_tells_its_probability_and_what_else_was_likely() {
    let (mut harness, shared) = harness();
    draw(&mut shared.borrow_mut().store, &[" be", "\n", "or"]);
    harness.run();
    let text = harness.get_by_label("Sample: To be\nor").rect();
    // The second line starts with the third token.
    harness.hover_at(text.left_bottom() + vec2(4.0, -4.0));
    harness.run();
    harness.get_by_label("'or'  16.67 %");
    harness.get_by_label("q 1.25 %");
    // The prompt was not drawn.
    harness.hover_at(text.left_top() + vec2(4.0, 4.0));
    harness.run();
    assert!(harness.query_by_label("q 1.25 %").is_none());
    // One line further right: the first token.
    harness.hover_at(text.left_top() + vec2(7.5 * 3.5, 4.0));
    harness.run();
    harness.get_by_label("'␣be'  50.00 %");
}

#[test]
fn a_hovered_token_shows_where_the_head_looked_and_a_click_keeps_it() {
    let (mut harness, shared) = harness();
    {
        let mut shown = shared.borrow_mut();
        draw(&mut shown.store, &[" be", "\n", "or"]);
        // 'or' was chosen by looking at 'o', ' be' and the new line; 'T' is too far back.
        let weights = vec![0.25, 0.5, 0.25, 0.125, 0.125, 0.75];
        let attention = TokenAttention { start: 1, layers: 1, heads: 2, weights };
        shown.store.sample.tokens[2].attention = Some(Arc::new(attention));
        shown.view.selected.head = 1;
    }
    harness.run();
    let text = harness.get_by_label("Sample: To be\nor").rect();
    let third = text.left_bottom() + vec2(4.0, -4.0);
    harness.hover_at(third);
    harness.run();
    let focus = shared.borrow().sample.focus().expect("a row");
    assert_eq!((focus.chosen.as_str(), focus.keys.join("")), ("or", "o␣be⏎".to_owned()));
    harness.get_by_label("Layer 1 · head 2 looked at '⏎' 0.750, 'o' 0.125, '␣be' 0.125");

    let away = text.left_top() + vec2(300.0, -60.0);
    harness.hover_at(away);
    harness.run();
    assert!(shared.borrow().sample.focus().is_none(), "let go with the pointer");
    let press = |harness: &mut Harness<'_>| {
        harness.drag_at(third);
        harness.drop_at(third);
        harness.run();
        harness.hover_at(away);
        harness.run();
    };
    press(&mut harness);
    assert!(shared.borrow().sample.focus().is_some(), "kept");
    harness.key_press(Key::Escape);
    harness.run();
    assert!(shared.borrow().sample.focus().is_none());
    press(&mut harness);
    press(&mut harness);
    assert!(shared.borrow().sample.focus().is_none(), "a second click lets go");

    press(&mut harness);
    shared.borrow_mut().store.sample_started(2);
    harness.run();
    assert!(shared.borrow().sample.focus().is_none(), "an older sample's row");
}

#[test]
fn a_token_whose_row_was_not_recorded_says_so() {
    let (mut harness, shared) = harness();
    draw(&mut shared.borrow_mut().store, &[" be", "\n", "or"]);
    harness.run();
    let text = harness.get_by_label("Sample: To be\nor").rect();
    harness.hover_at(text.left_bottom() + vec2(4.0, -4.0));
    harness.run();
    harness.get_by_label("Where the heads looked was not recorded.");
}

#[test]
fn why_nothing_could_be_drawn_is_said() {
    let (mut harness, shared) = harness();
    shared.borrow_mut().store.sample_started(1);
    let trouble = Some("nothing can be drawn: the model's numbers are not finite".to_owned());
    shared.borrow_mut().store.apply(Event::Sampled(SampleEvent::Done { id: 1, trouble }));
    harness.run();
    harness.get_by_label("nothing can be drawn: the model's numbers are not finite");
    harness.get_by_label("Sample");
}
