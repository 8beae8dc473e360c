//! The recipe pane: preset, text and every number of the recipe, with what it costs and what is wrong with it.
//!
//! The fields take nonsense on purpose: [`Recipe::validate`] judges it, and the judgement stands where the mistake is.

mod model;
mod rows;
mod training;

use std::path::PathBuf;

use eframe::egui::{Align, CollapsingHeader, ComboBox, Frame, Label, Layout, RichText, ScrollArea, Ui};

use self::rows::Rows;
use super::draft::{Draft, TextState, file_name};
use crate::preset::Preset;
use crate::recipe::{Fault, Field, Lesson, Recipe, TextSource, bytes_text, grouped};
use crate::ui::actions::{Action, PickPurpose};
use crate::ui::widgets::theme;

/// What the pane shows.
pub struct RecipeState<'a> {
    pub draft: &'a Draft,
    /// Distinct tokens of the model that is counted.
    pub vocabulary: Option<usize>,
    pub presets: &'a [Preset],
    pub faults: &'a [Fault],
    /// The recipe of the run that is there, as far as it has been changed since.
    pub run: Option<&'a Recipe>,
    /// A run of another recipe than the draft.
    pub opened: Option<&'a OpenedRun<'a>>,
    pub recent_texts: &'a [PathBuf],
}

/// A run that was opened to be looked at.
pub struct OpenedRun<'a> {
    pub name: String,
    pub recipe: &'a Recipe,
    pub vocabulary: usize,
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
        if let Some(opened) = state.opened {
            opened_run(ui, opened, &mut actions);
            ui.add_space(8.0);
        }
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

/// The recipe of the run that is looked at, which is not the one below.
fn opened_run(ui: &mut Ui, opened: &OpenedRun<'_>, actions: &mut Vec<Action>) {
    let Recipe { model, data, training, .. } = opened.recipe;
    Frame::group(ui.style()).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.label(theme::heading("Opened run"));
        ui.add(Label::new(&opened.name).truncate());
        let weights = grouped(model.parameter_count(opened.vocabulary));
        for line in [
            format!(
                "Layers {}, heads {}, width {}, context {}: {weights} weights",
                model.layers, model.heads, model.width, model.context
            ),
            format!("Text: {}", text_name(&data.text)),
            format!(
                "{} steps of batch {}, learning rate {}",
                grouped(training.steps),
                training.batch,
                training.learning_rate
            ),
        ] {
            ui.add(Label::new(RichText::new(line).weak()).wrap());
        }
        let tip = "The recipe below is the one you were writing. This puts the opened run's in its place.";
        if ui.button("Use this recipe").on_hover_text(tip).clicked() {
            actions.push(Action::UseRunRecipe);
        }
    });
    ui.weak("The recipe for the next run:");
}

fn text_name(source: &TextSource) -> String {
    match source {
        TextSource::File(path) => file_name(path),
        own => own.to_string(),
    }
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
        TextSource::File(_) => text_name(source),
        own => capitalised(&text_name(own)),
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
            let dialogues = (TextSource::BuiltIn, "Short dialogues that the program makes itself.");
            let lessons = Lesson::ALL.map(|lesson| (TextSource::Generated(lesson), lesson.task()));
            for (source, what) in [dialogues].into_iter().chain(lessons) {
                if ui.button(capitalised(&source.to_string())).on_hover_text(what).clicked() {
                    actions.push(Action::UseText(source));
                    ui.close();
                }
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

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().into_iter().flat_map(char::to_uppercase).chain(characters).collect()
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
