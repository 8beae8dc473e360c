use std::cell::RefCell;
use std::rc::Rc;

use eframe::egui::Vec2;
use eframe::egui::accesskit::{Role, Toggled};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT as _, Queryable as _};

use super::*;
use crate::lab::file_worker::TextSummary;
use crate::preset;
use crate::recipe::{Activation, Biases, Norm, Position};
use crate::ui::actions::Theme;

struct Shown {
    draft: Draft,
    run: Option<Recipe>,
}

type Shared = Rc<RefCell<Shown>>;

/// The pane with a preset; its edits are taken over, as the app would.
fn pane(preset: &str) -> (Harness<'static>, Shared) {
    let presets = preset::built_in();
    let mut draft = Draft::from_preset(preset::find(preset).expect("built in"));
    draft.text = TextState::Known(Box::new(TextSummary::built_in()));
    let shared = Rc::new(RefCell::new(Shown { draft, run: None }));
    let inside = Rc::clone(&shared);
    let builder = Harness::builder().with_size(Vec2::new(310.0, 1700.0));
    let builder = builder.with_context_setup(|ctx| theme::install(ctx, Theme::Dark));
    let mut harness = builder.build_ui(move |ui| {
        let Shown { draft, run } = &mut *inside.borrow_mut();
        let faults = draft.faults();
        let state = RecipeState {
            draft,
            vocabulary: draft.vocabulary(),
            presets: &presets,
            faults: &faults,
            run: run.as_ref(),
            opened: None,
            recent_texts: &[],
        };
        for action in super::ui(ui, &state) {
            match action {
                Action::EditRecipe(recipe) => draft.recipe = *recipe,
                Action::UseText(source) => draft.recipe.data.text = source,
                _ => {}
            }
        }
    });
    harness.run();
    (harness, shared)
}

fn click(harness: &mut Harness<'_>, role: Role, label: &str) {
    harness.get_by_role_and_label(role, label).click();
    harness.run();
}

fn unfold(harness: &mut Harness<'_>, group: &str) {
    harness.get_by_label(group).click();
    harness.run();
}

fn choose(harness: &mut Harness<'_>, combo: &str, choice: &str) {
    click(harness, Role::ComboBox, combo);
    harness.get_by_role_and_label(Role::Button, choice).click();
    harness.run();
}

fn enter(harness: &mut Harness<'_>, label: &str, value: f64) {
    harness.get_by_role_and_label(Role::SpinButton, label).set_value_accesskit(value);
    harness.run();
}

#[test]
fn a_lesson_is_chosen_as_another_text() {
    let (mut harness, shared) = pane("first-light");
    for (name, source) in
        [("Brackets lesson", TextSource::Generated(Lesson::Brackets)), ("Built-in dialogues", TextSource::BuiltIn)]
    {
        click(&mut harness, Role::Button, "Other texts");
        click(&mut harness, Role::Button, name);
        assert_eq!(shared.borrow().draft.recipe.data.text, source);
        harness.get_by_role_and_label(Role::Label, name);
    }
}

#[test]
fn a_gpt_2_is_made_a_llama_by_hand() {
    let (mut harness, shared) = pane("first-light");
    shared.borrow_mut().draft.recipe.model.biases = Biases::USUAL;
    harness.run();
    choose(&mut harness, "Positions", "Rotary");
    choose(&mut harness, "Norm", "RMSNorm");
    choose(&mut harness, "MLP", "SwiGLU");
    unfold(&mut harness, "Details of the block");
    click(&mut harness, Role::CheckBox, "as heads");
    enter(&mut harness, "Key/value heads", 2.0);
    click(&mut harness, Role::CheckBox, "4 × width");
    enter(&mut harness, "MLP width", 176.0);
    enter(&mut harness, "Rotary base", 100_000.0);
    enter(&mut harness, "Norm epsilon", 1e-6);
    click(&mut harness, Role::CheckBox, "Scaled residuals");
    let model = shared.borrow().draft.recipe.model.clone();
    assert_eq!(model.position, Position::Rotary { base: 100_000.0 });
    assert_eq!((model.norm, model.activation), (Norm::RmsNorm, Activation::SwiGlu));
    assert_eq!((model.key_value_heads, model.mlp_width), (Some(2), Some(176)));
    assert_eq!((model.norm_epsilon, model.scaled_residuals), (1e-6, false));
    assert_eq!(model.biases, Biases { norms: false, ..Biases::USUAL }, "an RMSNorm has no bias");
    assert_eq!(shared.borrow().draft.faults(), []);
    click(&mut harness, Role::CheckBox, "as heads");
    click(&mut harness, Role::CheckBox, "4 × width");
    let model = shared.borrow().draft.recipe.model.clone();
    assert_eq!((model.key_value_heads, model.mlp_width), (None, None));
    choose(&mut harness, "Positions", "Learned");
    assert_eq!(harness.query_all_by_label("Rotary base").count(), 0);
}

#[test]
fn each_choice_is_explained_when_it_is_made() {
    let (mut harness, _) = pane("first-light");
    harness.get_by_label_contains("Mean 0 and variance 1");
    choose(&mut harness, "Norm", "RMSNorm");
    harness.get_by_label_contains("Root mean square 1");
    assert_eq!(harness.query_all_by_label_contains("Mean 0 and variance 1").count(), 0);
}

#[test]
fn a_bias_that_makes_no_sense_is_off_and_says_why() {
    let (mut harness, shared) = pane("lecture-209k");
    unfold(&mut harness, "Biases");
    let disabled = |harness: &Harness<'_>, label| {
        harness.get_by_role_and_label(Role::CheckBox, label).accesskit_node().is_disabled()
    };
    assert!(!disabled(&harness, "Norms") && !disabled(&harness, "Head"));
    click(&mut harness, Role::CheckBox, "Tied head");
    assert!(!shared.borrow().draft.recipe.model.biases.head, "tying switches it off");
    assert!(disabled(&harness, "Head"));
    harness.get_by_label("a tied head has none");
    // One that came from a file stands with its fault and can be switched off.
    shared.borrow_mut().draft.recipe.model.biases.head = true;
    harness.run();
    harness.get_by_label("a tied head has no bias: switch its bias off, or untie it");
    assert!(!disabled(&harness, "Head"));
    click(&mut harness, Role::CheckBox, "Head");
    assert_eq!(shared.borrow().draft.faults(), []);
}

#[test]
fn faults_stand_at_their_fields_and_unfold_them() {
    let (mut harness, shared) = pane("smollm-micro");
    assert_eq!(harness.query_all_by_label("Rotary base").count(), 0, "folded");
    {
        let model = &mut shared.borrow_mut().draft.recipe.model;
        (model.key_value_heads, model.mlp_width) = (Some(4), Some(0));
        (model.norm_epsilon, model.position) = (0.0, Position::Rotary { base: 0.5 });
    }
    harness.run();
    let faults = shared.borrow().draft.faults();
    assert_eq!(faults.len(), 4);
    for (fault, row) in faults.iter().zip(["Key/value heads", "MLP width", "Norm epsilon", "Rotary base"]) {
        let field = harness.get_by_role_and_label(Role::SpinButton, row).rect();
        let words = harness.get_by_label(&fault.message).rect();
        assert!((0.0..60.0).contains(&(words.top() - field.bottom())), "{row}: {field:?}, {words:?}");
    }
}

#[test]
fn what_the_running_model_has_otherwise_is_marked() {
    let (mut harness, shared) = pane("smollm-micro");
    let run = shared.borrow().draft.recipe.clone();
    shared.borrow_mut().run = Some(run);
    for group in ["Details of the block", "Biases", "Optimizer and seed"] {
        unfold(&mut harness, group);
    }
    let marked = |harness: &Harness<'_>| harness.query_all_by_label("after Reset").count();
    assert_eq!(marked(&harness), 0);
    let changes: [fn(&mut Recipe); 11] = [
        |r| r.model.position = Position::Learned,
        |r| r.model.position = Position::Rotary { base: 20_000.0 },
        |r| r.model.norm = Norm::LayerNorm,
        |r| r.model.activation = Activation::Gelu,
        |r| r.model.key_value_heads = None,
        |r| r.model.mlp_width = None,
        |r| r.model.norm_epsilon = 1e-6,
        |r| r.model.biases.mlp = true,
        |r| r.model.scaled_residuals = true,
        |r| r.model.tied_head = false,
        |r| r.training.decay_vectors = true,
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let before = shared.borrow().draft.recipe.clone();
        change(&mut shared.borrow_mut().draft.recipe);
        harness.run();
        assert_eq!(marked(&harness), 1, "change {index}");
        shared.borrow_mut().draft.recipe = before;
        harness.run();
    }
}

#[test]
fn key_value_heads_keep_to_divisors_while_they_are_dragged() {
    let (mut harness, shared) = pane("llama-260k");
    unfold(&mut harness, "Details of the block");
    let place = harness.get_by_role_and_label(Role::SpinButton, "Key/value heads").rect().center();
    harness.drag_at(place);
    let mut seen = Vec::new();
    for moved in 1..14 {
        harness.hover_at(place + Vec2::new(4.0 * moved as f32, 0.0));
        harness.step();
        seen.extend(shared.borrow().draft.recipe.model.key_value_heads);
    }
    harness.drop_at(place + Vec2::new(56.0, 0.0));
    harness.run();
    assert!(seen.iter().all(|groups| [1, 2, 4, 8].contains(groups)) && seen.contains(&8), "{seen:?}");
}

#[test]
fn a_tick_shows_whether_a_number_follows_another() {
    let (mut harness, _) = pane("first-light");
    unfold(&mut harness, "Details of the block");
    let ticked = harness.get_by_role_and_label(Role::CheckBox, "as heads").accesskit_node().toggled();
    assert_eq!(ticked, Some(Toggled::True));
    assert!(harness.get_by_role_and_label(Role::SpinButton, "Key/value heads").accesskit_node().is_disabled());
}

#[test]
fn the_room_for_the_timeline_is_set_and_a_senseless_one_stands_with_its_fault() {
    let (mut harness, shared) = pane("first-light");
    unfold(&mut harness, "Evaluation and timeline");
    enter(&mut harness, "Timeline, MB", 0.0);
    assert_eq!(shared.borrow().draft.recipe.training.timeline_megabytes, 0);
    assert_eq!(shared.borrow().draft.faults(), []);
    enter(&mut harness, "Timeline, MB", 2e6);
    harness.get_by_label_contains("timeline megabytes");
}
