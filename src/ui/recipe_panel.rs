//! The recipe pane: preset, text and every number of the recipe, with what it costs and what is wrong with it.
//!
//! The fields take nonsense on purpose: [`Recipe::validate`] judges it, and the judgement stands where the mistake is.

use std::fmt::Write as _;
use std::path::PathBuf;

use eframe::egui::{
    self, Align, CollapsingHeader, ComboBox, DragValue, Label, Layout, RichText, ScrollArea, Stroke, Ui, vec2,
};

use super::actions::{Action, PickPurpose};
use super::draft::{Draft, TextState, file_name};
use super::theme;
use crate::preset::Preset;
use crate::recipe::{Fault, Field, Recipe, TextSource, bytes_text, grouped};

/// What the pane shows.
pub struct RecipeState<'a> {
    pub draft: &'a Draft,
    pub presets: &'a [Preset],
    pub faults: &'a [Fault],
    /// The recipe of the run that is there, as far as it has been changed since.
    pub run: Option<&'a Recipe>,
    pub recent_texts: &'a [PathBuf],
}

const VALUE_WIDTH: f32 = 92.0;

const OPTIMIZER: [Field; 4] = [Field::WeightDecay, Field::Beta1, Field::Beta2, Field::GradientClip];
const EVALUATION: [Field; 2] = [Field::EvaluationInterval, Field::EvaluationBatches];

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
        costs(ui, state);
        section(ui, "Training");
        rows.training(ui);
        folded("Optimizer and seed", &OPTIMIZER, state).show_unindented(ui, |ui| rows.optimizer(ui));
        folded("Evaluation", &EVALUATION, state).show_unindented(ui, |ui| rows.evaluation(ui));
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
    let combo = ComboBox::from_id_salt("preset").selected_text(title).width(width).truncate().show_ui(ui, |ui| {
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
        rows.after_reset(ui, |recipe| &mut recipe.data.text);
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
        matches!(fault.field, Field::Layers | Field::Heads | Field::Width | Field::Context | Field::Batch)
    });
    let vocabulary = state.draft.vocabulary().filter(|_| sound);
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

/// The rows of the recipe: the copy that is edited, what it is compared with, what is wrong with it.
struct Rows<'a> {
    edited: Recipe,
    run: Option<Recipe>,
    faults: &'a [Fault],
}

impl Rows<'_> {
    fn model(&mut self, ui: &mut Ui) {
        self.number(ui, "Layers", "Transformer blocks, one after the other.", Some(Field::Layers), 0.05, |r| {
            &mut r.model.layers
        });
        self.number(
            ui,
            "Heads",
            "Attention heads in each layer; they share the width equally.",
            Some(Field::Heads),
            0.05,
            |r| &mut r.model.heads,
        );
        let tip = "Numbers that stand for one token inside the model. Dragging keeps to multiples of the heads.";
        let dragged = self.number(ui, "Width", tip, Some(Field::Width), 0.5, |r| &mut r.model.width);
        if dragged {
            let (width, heads) = (self.edited.model.width, self.edited.model.heads.max(1));
            self.edited.model.width = (width.saturating_add(heads / 2) / heads).max(1).saturating_mul(heads);
        }
        self.number(ui, "Context", "How many tokens the model sees at once.", Some(Field::Context), 0.5, |r| {
            &mut r.model.context
        });
        self.fraction(
            ui,
            "Dropout",
            "Share of activations set to zero while training, against learning by heart.",
            Field::Dropout,
            |r| &mut r.model.dropout,
        );
        self.switch(ui, "Biases of query, key, value", "Whether they may add a constant.", |r| {
            &mut r.model.biases.query_key_value
        });
        self.switch(ui, "Tied head", "Whether reading tokens in and predicting them share their weights.", |r| {
            &mut r.model.tied_head
        });
    }

    fn training(&mut self, ui: &mut Ui) {
        self.number(ui, "Batch", "Windows of text in one step.", Some(Field::Batch), 0.2, |r| &mut r.training.batch);
        self.number(
            ui,
            "Steps",
            "Length of the run; the learning rate ends its fall here.",
            Some(Field::Steps),
            10.0,
            |r| &mut r.training.steps,
        );
        self.rate(
            ui,
            "Learning rate",
            "Size of a step at its peak; a change applies at once.",
            Field::LearningRate,
            |r| &mut r.training.learning_rate,
        );
        self.rate(
            ui,
            "Final learning rate",
            "Where the learning rate ends after its fall.",
            Field::FinalLearningRate,
            |r| &mut r.training.final_learning_rate,
        );
        self.number(
            ui,
            "Warm-up steps",
            "Steps in which the learning rate climbs to its peak.",
            Some(Field::WarmupSteps),
            1.0,
            |r| &mut r.training.warmup_steps,
        );
    }

    fn optimizer(&mut self, ui: &mut Ui) {
        self.fraction(
            ui,
            "Weight decay",
            "Pull of matrices towards zero, apart from the gradient.",
            Field::WeightDecay,
            |r| &mut r.training.weight_decay,
        );
        self.fraction(ui, "β1", "How long AdamW remembers the gradient.", Field::Beta1, |r| &mut r.training.beta_1);
        self.fraction(ui, "β2", "How long AdamW remembers the gradient's size.", Field::Beta2, |r| {
            &mut r.training.beta_2
        });
        self.fraction(
            ui,
            "Gradient clip",
            "Largest norm of the whole gradient; 0 leaves it as it is.",
            Field::GradientClip,
            |r| &mut r.training.gradient_clip,
        );
        self.number(ui, "Seed", "The same seed, recipe and text give the same run.", None, 1.0, |r| {
            &mut r.training.seed
        });
    }

    fn evaluation(&mut self, ui: &mut Ui) {
        self.number(
            ui,
            "Evaluation interval",
            "Steps from one measurement of the validation loss to the next.",
            Some(Field::EvaluationInterval),
            1.0,
            |r| &mut r.training.evaluation_interval,
        );
        self.number(
            ui,
            "Evaluation batches",
            "Random batches of each part in one measurement.",
            Some(Field::EvaluationBatches),
            0.1,
            |r| &mut r.training.evaluation_batches,
        );
    }

    /// Faults of fields that other panes edit.
    fn elsewhere(&self, ui: &mut Ui) {
        for field in [Field::Probe, Field::SampleTokens, Field::Temperature, Field::TopP] {
            self.fault(ui, field);
        }
    }

    /// A whole number; true while it is dragged.
    fn number<N: egui::emath::Numeric>(
        &mut self,
        ui: &mut Ui,
        name: &str,
        tip: &str,
        field: Option<Field>,
        speed: f64,
        pick: fn(&mut Recipe) -> &mut N,
    ) -> bool {
        self.row(ui, name, tip, field, pick, |value| {
            DragValue::new(value)
                .speed(speed)
                .range(N::from_f64(0.0)..=N::from_f64(1e12))
                .custom_formatter(|value, _| {
                    // Whole numbers up to 2^53 are exact.
                    if value < 1e15 { grouped(value.max(0.0) as u64) } else { format!("{value}") }
                })
                // As it is shown, so it may be typed.
                .custom_parser(|text| text.replace(|c: char| c == ',' || c.is_whitespace(), "").parse().ok())
        })
    }

    fn fraction(&mut self, ui: &mut Ui, name: &str, tip: &str, field: Field, pick: fn(&mut Recipe) -> &mut f64) {
        self.row(ui, name, tip, Some(field), pick, |value| {
            DragValue::new(value)
                .speed(0.005)
                .range(0.0..=1e6)
                .max_decimals(6)
                .custom_formatter(|value, _| format!("{value}"))
        });
    }

    /// A learning rate: dragging multiplies.
    fn rate(&mut self, ui: &mut Ui, name: &str, tip: &str, field: Field, pick: fn(&mut Recipe) -> &mut f64) {
        self.row(ui, name, tip, Some(field), pick, |value| {
            let speed = (*value * 0.01).max(1e-7);
            DragValue::new(value)
                .speed(speed)
                .range(0.0..=1e3)
                .max_decimals(9)
                .custom_formatter(|value, _| format!("{value}"))
        });
    }

    /// A field with its name and what is wrong with it; true while it is dragged.
    fn row<N: PartialEq>(
        &mut self,
        ui: &mut Ui,
        name: &str,
        tip: &str,
        field: Option<Field>,
        pick: fn(&mut Recipe) -> &mut N,
        widget: impl for<'v> FnOnce(&'v mut N) -> DragValue<'v>,
    ) -> bool {
        let mut dragged = false;
        let wrong = field.is_some_and(|field| self.faults.iter().any(|fault| fault.field == field));
        ui.horizontal(|ui| {
            let label = ui.label(name).on_hover_text(tip);
            // The main axis' alignment is that of the number in its field.
            ui.with_layout(Layout::right_to_left(Align::Center).with_main_align(Align::Max), |ui| {
                ui.scope(|ui| {
                    if wrong {
                        let stroke = Stroke::new(1.5, theme::warning(ui.visuals()));
                        ui.visuals_mut().widgets.inactive.bg_stroke = stroke;
                    }
                    // What is half typed is not meant yet, and a rate would go to the model at once.
                    let widget = widget(pick(&mut self.edited)).update_while_editing(false);
                    let response = ui.add(widget.min_size(vec2(VALUE_WIDTH, 22.0)));
                    dragged = response.dragged();
                    response.labelled_by(label.id).on_hover_text(tip);
                });
                self.after_reset(ui, pick);
            });
        });
        if let Some(field) = field {
            self.fault(ui, field);
        }
        dragged
    }

    fn switch(&mut self, ui: &mut Ui, name: &str, tip: &str, pick: fn(&mut Recipe) -> &mut bool) {
        ui.horizontal(|ui| {
            ui.checkbox(pick(&mut self.edited), name).on_hover_text(tip);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| self.after_reset(ui, pick));
        });
    }

    /// Says of a value that it is not the running model's.
    fn after_reset<N: PartialEq>(&mut self, ui: &mut Ui, pick: fn(&mut Recipe) -> &mut N) {
        if let Some(run) = &mut self.run
            && *pick(run) != *pick(&mut self.edited)
        {
            let note = RichText::new("after Reset").small().color(theme::accent(ui.visuals()));
            ui.label(note).on_hover_text("The running model keeps its own value; this one applies after Reset.");
        }
    }

    fn fault(&self, ui: &mut Ui, field: Field) {
        let mut message = String::new();
        for fault in self.faults.iter().filter(|fault| fault.field == field) {
            let _ = write!(message, "{}{fault}", if message.is_empty() { "" } else { "\n" });
        }
        if !message.is_empty() {
            ui.add(Label::new(RichText::new(message).color(theme::warning(ui.visuals()))).wrap());
        }
    }
}
