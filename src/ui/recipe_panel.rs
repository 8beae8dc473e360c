//! The recipe pane: preset, text and every number of the recipe, with what it costs and what is wrong with it.
//!
//! The fields take nonsense on purpose: [`Recipe::validate`] judges it, and the judgement stands where the mistake is.

mod model;
mod rows;
mod training;

use std::path::PathBuf;

use eframe::egui::{Align, CollapsingHeader, ComboBox, Label, Layout, RichText, ScrollArea, Ui};

use self::rows::Rows;
use super::actions::{Action, PickPurpose};
use super::draft::{Draft, TextState, file_name};
use super::theme;
use crate::preset::Preset;
use crate::recipe::{Fault, Field, Recipe, TextSource, bytes_text, grouped};

/// What the pane shows.
pub struct RecipeState<'a> {
    pub draft: &'a Draft,
    /// Distinct tokens of the model that is counted.
    pub vocabulary: Option<usize>,
    pub presets: &'a [Preset],
    pub faults: &'a [Fault],
    /// The recipe of the run that is there, as far as it has been changed since.
    pub run: Option<&'a Recipe>,
    pub recent_texts: &'a [PathBuf],
}

/// Room for all built-in presets and some of the user's.
const PRESETS_HEIGHT: f32 = 480.0;
const DETAILS: [Field; 5] =
    [Field::KeyValueHeads, Field::MlpWidth, Field::NormEpsilon, Field::RotaryBase, Field::Dropout];
const BIASES: [Field; 1] = [Field::Biases];
const OPTIMIZER: [Field; 4] = [Field::WeightDecay, Field::Beta1, Field::Beta2, Field::GradientClip];
const EVALUATION: [Field; 3] = [Field::EvaluationInterval, Field::EvaluationBatches, Field::Timeline];

pub fn ui(ui: &mut Ui, state: &RecipeState<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut rows = Rows { edited: state.draft.recipe.clone(), run: state.run.cloned(), faults: state.faults };
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        // Room for the scroll bar.
        ui.set_max_width(ui.available_width() - 8.0);
        preset(ui, state, &mut actions);
        section(ui, "Text");
        text(ui, state, &mut rows, &mut actions);
        section(ui, "Model");
        rows.model(ui);
        folded("Details of the block", &DETAILS, state).show_unindented(ui, |ui| rows.details(ui));
        folded("Biases", &BIASES, state).show_unindented(ui, |ui| rows.biases(ui));
        costs(ui, state);
        section(ui, "Training");
        rows.training(ui);
        folded("Optimizer and seed", &OPTIMIZER, state).show_unindented(ui, |ui| rows.optimizer(ui));
        folded("Evaluation and timeline", &EVALUATION, state).show_unindented(ui, |ui| rows.evaluation(ui));
        rows.elsewhere(ui);
        ui.add_space(8.0);
    });
    if rows.edited != state.draft.recipe {
        actions.push(Action::EditRecipe(Box::new(rows.edited)));
    }
    actions
}

/// A section that may be folded away, but not while something in it is wrong.
fn folded(title: &str, fields: &[Field], state: &RecipeState<'_>) -> CollapsingHeader {
    let wrong = state.faults.iter().any(|fault| fields.contains(&fault.field));
    CollapsingHeader::new(title).open(wrong.then_some(true))
}

fn section(ui: &mut Ui, title: &str) {
    ui.add_space(8.0);
    ui.label(theme::heading(title));
}

fn preset(ui: &mut Ui, state: &RecipeState<'_>, actions: &mut Vec<Action>) {
    let draft = state.draft;
    let known = state.presets.iter().find(|preset| preset.name == draft.name);
    let changed = known.is_some_and(|preset| draft.differs_from(preset));
    let title = if changed { format!("{} (changed)", draft.title) } else { draft.title.clone() };
    let label = ui.label(theme::heading("Preset"));
    let width = ui.available_width();
    let combo = ComboBox::from_id_salt("preset").selected_text(title).width(width).height(PRESETS_HEIGHT).truncate();
    let combo = combo.show_ui(ui, |ui| {
        for preset in state.presets {
            let choice = ui.selectable_label(known == Some(preset) && !changed, &preset.title);
            if choice.on_hover_text(&preset.commentary).clicked() {
                actions.push(Action::UsePreset(Box::new(preset.clone())));
            }
        }
        ui.separator();
        for (text, purpose) in [("Open preset…", PickPurpose::OpenPreset), ("Save preset…", PickPurpose::SavePreset)]
        {
            if ui.selectable_label(false, text).clicked() {
                actions.push(Action::Pick(purpose));
            }
        }
    });
    combo.response.labelled_by(label.id).on_hover_text("A recipe that somebody tried out, with what to look for.");
    if let Some(preset) = known {
        ui.add(Label::new(RichText::new(&preset.commentary).small().weak()).wrap());
    }
}

fn text(ui: &mut Ui, state: &RecipeState<'_>, rows: &mut Rows<'_>, actions: &mut Vec<Action>) {
    let source = &state.draft.recipe.data.text;
    let name = match source {
        TextSource::File(path) => file_name(path),
        TextSource::BuiltIn => "Built-in dialogues".into(),
    };
    ui.horizontal(|ui| {
        ui.add(Label::new(name).truncate()).on_hover_text(source.to_string());
        rows::after_reset(ui, rows.differs(|recipe| &mut recipe.data.text));
    });
    match (&state.draft.candidate, &state.draft.text) {
        (Some(candidate), _) => {
            let far = far_text(candidate.done_bytes, candidate.total_bytes);
            ui.add(Label::new(RichText::new(format!("reading{far}: {}", candidate.source)).weak()).truncate());
        }
        (None, TextState::Known(summary)) => {
            let (characters, distinct) = (grouped(summary.characters as u64), summary.vocabulary);
            let counts = ui.weak(format!("{characters} characters, {distinct} distinct"));
            counts.on_hover_text(format!("It begins: {}", summary.excerpt));
        }
        (None, TextState::Reading { done_bytes, total_bytes }) => {
            ui.weak(format!("reading{}", far_text(*done_bytes, *total_bytes)));
        }
        (None, TextState::Failed(_) | TextState::Unknown) => {}
    }
    rows.fault(ui, Field::Text);
    ui.horizontal(|ui| {
        if ui
            .button("Open text…")
            .on_hover_text("Chooses a UTF-8 text file; it can also be dropped on the window.")
            .clicked()
        {
            actions.push(Action::Pick(PickPurpose::OpenText));
        }
        ui.menu_button("Other texts", |ui| {
            if ui.button("Built-in dialogues").on_hover_text("Short dialogues that the program makes itself.").clicked()
            {
                actions.push(Action::UseText(TextSource::BuiltIn));
                ui.close();
            }
            for path in state.recent_texts {
                if ui.button(file_name(path)).on_hover_text(path.display().to_string()).clicked() {
                    actions.push(Action::OpenPath(PickPurpose::OpenText, path.clone()));
                    ui.close();
                }
            }
        });
    });
}

/// How far a long reading is, or nothing for a short one.
fn far_text(done_bytes: u64, total_bytes: u64) -> String {
    if total_bytes == 0 {
        return "…".into();
    }
    format!(" {:.0} % of {}", 100.0 * done_bytes as f64 / total_bytes as f64, bytes_text(total_bytes))
}

/// Weights, file and memory, as one types.
fn costs(ui: &mut Ui, state: &RecipeState<'_>) {
    let recipe = &state.draft.recipe;
    // Without sense there is nothing to count, and the products could overflow.
    let sound = !state.faults.iter().any(|fault| {
        let counted = [Field::Layers, Field::Heads, Field::Width, Field::Context, Field::Batch];
        counted.contains(&fault.field) || matches!(fault.field, Field::KeyValueHeads | Field::MlpWidth)
    });
    let vocabulary = state.vocabulary.filter(|_| sound);
    let rows = [
        ("Weights", vocabulary.map(|size| grouped(recipe.model.parameter_count(size)))),
        ("File", vocabulary.map(|size| bytes_text(recipe.model.file_bytes(size)))),
        ("Memory to train, about", vocabulary.map(|size| bytes_text(recipe.training_bytes(size)))),
    ];
    for (name, value) in rows {
        ui.horizontal(|ui| {
            ui.weak(name);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                ui.label(theme::number(value.unwrap_or_else(|| "–".into())));
            });
        });
    }
}

#[cfg(test)]
mod tests;
