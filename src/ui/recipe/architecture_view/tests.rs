use std::cell::RefCell;
use std::rc::Rc;

use eframe::egui::Vec2;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable as _;

use super::parts::{Part, parts};
use super::*;
use crate::preset;
use crate::recipe::{Activation, Field, ModelRecipe, Norm, Position};
use crate::ui::actions::Theme;

fn recipe(preset: &str) -> Recipe {
    preset::find(preset).expect("built in").recipe
}

fn harness(recipe: Recipe, vocabulary: Option<usize>) -> (Harness<'static>, Rc<RefCell<Recipe>>) {
    let shared = Rc::new(RefCell::new(recipe));
    let inside = Rc::clone(&shared);
    let builder = Harness::builder().with_size(Vec2::new(420.0, 460.0));
    let builder = builder.with_context_setup(|ctx| theme::install(ctx, Theme::Dark));
    let harness = builder.build_ui(move |ui| super::ui(ui, &inside.borrow(), vocabulary));
    (harness, shared)
}

#[test]
fn the_parts_of_every_preset_add_up_to_its_weights() {
    let mut models: Vec<ModelRecipe> = preset::built_in().into_iter().map(|preset| preset.recipe.model).collect();
    let mut biased = recipe("lecture-209k").model;
    biased.activation = Activation::SwiGlu;
    biased.biases = crate::recipe::Biases { head: true, ..true.into() };
    models.push(biased);
    for model in models {
        let recipe = Recipe { model, ..recipe("first-light") };
        let total: u64 = parts(&recipe, Some(65)).iter().filter_map(Part::total).sum();
        assert_eq!(total, recipe.model.parameter_count(65), "{:?}", recipe.model);
        let unknown: Option<u64> = parts(&recipe, None).iter().map(Part::total).sum();
        assert_eq!(unknown, None, "without a vocabulary nobody knows");
    }
}

#[test]
fn every_part_can_be_found_with_its_shape_and_count() {
    let (mut harness, _) = harness(recipe("nanogpt-cpu"), Some(65));
    harness.run();
    for label in [
        "Token embedding: 65 → 128, 8,320 weights",
        "Position embedding: 64 → 128, 8,192 weights",
        "Residual stream: [batch, position, 128], no weights of its own",
        "LayerNorm before attention: 128, 128 weights in each of 4 layers",
        "Query, key, value: 128 → 384, 49,152 weights in each of 4 layers",
        "Attention of 4 heads: [batch, head, query, key], no weights of its own",
        "Projection: 128 → 128, 16,384 weights in each of 4 layers",
        "MLP up: 128 → 512, 65,536 weights in each of 4 layers",
        "MLP down: 512 → 128, 65,536 weights in each of 4 layers",
        "Final LayerNorm: 128, 128 weights",
        "Head, tied to the token embedding: 128 → 65, no weights of its own",
        "Logits: [batch, position, 65], no weights of its own",
    ] {
        harness.get_by_label(label);
    }
    assert_eq!(harness.query_all_by_label_contains("Rotary").count(), 0);
    assert_eq!(harness.query_all_by_label_contains("gate").count(), 0);
}

#[test]
fn the_drawing_follows_the_recipe() {
    let (mut harness, shared) = harness(recipe("nanogpt-cpu"), Some(65));
    harness.run();
    {
        let model = &mut shared.borrow_mut().model;
        (model.heads, model.key_value_heads) = (8, Some(4));
        model.position = Position::Rotary { base: 10_000.0 };
        (model.norm, model.activation, model.mlp_width) = (Norm::RmsNorm, Activation::SwiGlu, Some(344));
        model.tied_head = false;
    }
    harness.run();
    for label in [
        "Rotary positions: base 10000, no weights of its own",
        "Attention of 8 query heads that share 4 keys and values: [batch, head, query, key], no weights of its own",
        "Query, key, value: 128 → 256, 32,768 weights in each of 4 layers",
        "RMSNorm before the MLP: 128, 128 weights in each of 4 layers",
        "MLP gate: 128 → 344, 44,032 weights in each of 4 layers",
        "MLP up: 128 → 344, 44,032 weights in each of 4 layers",
        "Head: 128 → 65, 8,320 weights",
    ] {
        harness.get_by_label(label);
    }
    assert_eq!(harness.query_all_by_label_contains("Position embedding").count(), 0);
    let (gate, up) = (harness.get_by_label_contains("MLP gate").rect(), harness.get_by_label_contains("MLP up").rect());
    assert!(gate.right() < up.left() && gate.top() == up.top(), "side by side");
}

#[test]
fn pointing_at_a_part_tells_what_it_does_with_exact_numbers() {
    let (mut harness, _) = harness(recipe("smollm-micro"), Some(65));
    harness.run();
    harness.get_by_label_contains("Query, key, value").hover();
    harness.run_steps(60);
    harness.get_by_label("Makes 9 queries, 3 keys and 3 values of 16 numbers for each token.");
    harness.get_by_label("34,560 × 6 layers = 207,360 (15.5 %)");
    harness.get_by_label("[batch, position, 240] = [8, 128, 240]");
}

#[test]
fn a_shape_that_makes_no_sense_is_said_instead_of_drawn() {
    let (mut harness, shared) = harness(recipe("nanogpt-cpu"), None);
    shared.borrow_mut().model.width = 130;
    harness.run();
    let fault = shared.borrow().model.check(65).remove(0);
    assert_eq!(fault.field, Field::Width);
    harness.get_by_label(&fault.message);
    assert_eq!(harness.query_all_by_label_contains("Projection").count(), 0);
    // Numbers that would not fit the products are not multiplied.
    shared.borrow_mut().model.width = usize::MAX;
    harness.run();
    shared.borrow_mut().model = recipe("nanogpt-cpu").model;
    harness.run();
    harness.get_by_label("Token embedding: vocabulary → 128, weights not known yet");
}
