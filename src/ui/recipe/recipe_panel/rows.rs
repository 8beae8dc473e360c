//! What a row of the recipe looks like: a name, a value, whether the running model has another, what is wrong with it.

use std::fmt::Write as _;
use std::mem::discriminant;

use eframe::egui::{Align, Checkbox, ComboBox, DragValue, Label, Layout, Response, RichText, Stroke, Ui, emath, vec2};

use crate::recipe::{Fault, Field, Recipe, grouped};
use crate::ui::widgets::theme;

const VALUE_WIDTH: f32 = 92.0;
const CHOICE_WIDTH: f32 = 142.0;

/// The rows of the recipe: the copy that is edited, what it is compared with, what is wrong with it.
pub(super) struct Rows<'a> {
    pub edited: Recipe,
    pub run: Option<Recipe>,
    pub faults: &'a [Fault],
}

/// The name of a row, and a sentence on it.
#[derive(Clone, Copy)]
pub(super) struct Named {
    pub name: &'static str,
    pub tip: &'static str,
}

/// One of several variants of a part.
pub(super) struct Choice<T> {
    pub value: T,
    pub name: &'static str,
    pub sentence: &'static str,
}

impl Rows<'_> {
    /// A whole number; true while it is dragged.
    pub fn number<N: emath::Numeric>(
        &mut self,
        ui: &mut Ui,
        named: Named,
        field: Option<Field>,
        speed: f64,
        pick: fn(&mut Recipe) -> &mut N,
    ) -> bool {
        let changed = self.differs(pick);
        self.row(ui, named, field, changed, |ui, recipe| add_value(ui, whole(pick(recipe), speed))).dragged()
    }

    pub fn fraction(&mut self, ui: &mut Ui, named: Named, field: Field, pick: fn(&mut Recipe) -> &mut f64) {
        let changed = self.differs(pick);
        self.row(ui, named, Some(field), changed, |ui, recipe| {
            let value = DragValue::new(pick(recipe)).speed(0.005).range(0.0..=1e6).max_decimals(6);
            add_value(ui, value.custom_formatter(|value, _| format!("{value}")))
        });
    }

    /// A number whose size alone says little, such as a learning rate: dragging multiplies.
    pub fn magnitude(&mut self, ui: &mut Ui, named: Named, field: Field, pick: fn(&mut Recipe) -> &mut f64) {
        let changed = self.differs(pick);
        self.row(ui, named, Some(field), changed, |ui, recipe| add_value(ui, magnitude(pick(recipe))));
    }

    /// A whole number that follows another one as long as the box below it is ticked; true while it is dragged.
    pub fn following(
        &mut self,
        ui: &mut Ui,
        named: Named,
        field: Field,
        follows: &'static str,
        pick: fn(&mut Recipe) -> &mut Option<usize>,
        meant: fn(&Recipe) -> usize,
    ) -> bool {
        let changed = self.differs(pick);
        let dragged = self.row(ui, named, None, changed, |ui, recipe| {
            let mut value = meant(recipe);
            let own = pick(recipe);
            let shown = ui.add_enabled_ui(own.is_some(), |ui| add_value(ui, whole(&mut value, 0.1))).inner;
            if own.is_some() {
                *own = Some(value);
            }
            shown
        });
        ui.with_layout(Layout::top_down(Align::Max), |ui| {
            let mut ticked = pick(&mut self.edited).is_none();
            if ui.checkbox(&mut ticked, RichText::new(follows).small()).changed() {
                let value = meant(&self.edited);
                *pick(&mut self.edited) = (!ticked).then_some(value);
            }
        });
        self.fault(ui, field);
        dragged.dragged()
    }

    /// One of several variants, with a sentence on the one that is chosen. True when another one was chosen just now.
    pub fn choice<T: Copy>(
        &mut self,
        ui: &mut Ui,
        named: Named,
        choices: &[Choice<T>],
        pick: fn(&mut Recipe) -> &mut T,
    ) -> bool {
        let kind = |recipe: &mut Recipe| discriminant(pick(recipe));
        let now = kind(&mut self.edited);
        let changed = self.run.as_mut().is_some_and(|run| kind(run) != now);
        let chosen = choices.iter().find(|choice| discriminant(&choice.value) == now);
        let mut taken = None;
        self.row(ui, named, None, changed, |ui, _| {
            let title = chosen.map_or("", |choice| choice.name);
            let combo = ComboBox::from_id_salt(named.name).selected_text(title).width(CHOICE_WIDTH);
            let combo = combo.show_ui(ui, |ui| {
                for choice in choices {
                    let is_chosen = discriminant(&choice.value) == now;
                    let label = ui.selectable_label(is_chosen, choice.name).on_hover_text(choice.sentence);
                    if label.clicked() && !is_chosen {
                        taken = Some(choice.value);
                    }
                }
            });
            combo.response
        });
        if let Some(choice) = chosen {
            ui.add(Label::new(RichText::new(choice.sentence).small().weak()).wrap());
        }
        if let Some(value) = taken {
            *pick(&mut self.edited) = value;
        }
        taken.is_some()
    }

    pub fn switch(&mut self, ui: &mut Ui, named: Named, pick: fn(&mut Recipe) -> &mut bool) {
        self.switch_unless(ui, named, None, pick);
    }

    /// A switch that can only be turned off as long as there is a reason against it.
    pub fn switch_unless(
        &mut self,
        ui: &mut Ui,
        named: Named,
        reason: Option<&'static str>,
        pick: fn(&mut Recipe) -> &mut bool,
    ) {
        let changed = self.differs(pick);
        ui.horizontal(|ui| {
            let value = pick(&mut self.edited);
            let usable = reason.is_none() || *value;
            let response = ui.add_enabled(usable, Checkbox::new(value, named.name)).on_hover_text(named.tip);
            if let Some(reason) = reason {
                response.on_disabled_hover_text(reason);
                ui.add(Label::new(RichText::new(reason).small().weak()).truncate());
            }
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| after_reset(ui, changed));
        });
    }

    /// A field with its name and what is wrong with it.
    pub fn row(
        &mut self,
        ui: &mut Ui,
        named: Named,
        field: Option<Field>,
        changed: bool,
        add: impl FnOnce(&mut Ui, &mut Recipe) -> Response,
    ) -> Response {
        let wrong = field.is_some_and(|field| self.faults.iter().any(|fault| fault.field == field));
        let row = ui.horizontal(|ui| {
            let label = ui.label(named.name).on_hover_text(named.tip);
            // The main axis' alignment is that of the number in its field.
            let at_right = Layout::right_to_left(Align::Center).with_main_align(Align::Max);
            let added = ui.with_layout(at_right, |ui| {
                let added = ui.scope(|ui| {
                    if wrong {
                        let stroke = Stroke::new(1.5, theme::warning(ui.visuals()));
                        ui.visuals_mut().widgets.inactive.bg_stroke = stroke;
                    }
                    add(ui, &mut self.edited).labelled_by(label.id).on_hover_text(named.tip)
                });
                after_reset(ui, changed);
                added.inner
            });
            added.inner
        });
        if let Some(field) = field {
            self.fault(ui, field);
        }
        row.inner
    }

    /// Whether the running model has another value.
    pub fn differs<N: PartialEq>(&mut self, pick: fn(&mut Recipe) -> &mut N) -> bool {
        self.run.as_mut().is_some_and(|run| *pick(run) != *pick(&mut self.edited))
    }

    pub fn fault(&self, ui: &mut Ui, field: Field) {
        let mut message = String::new();
        for fault in self.faults.iter().filter(|fault| fault.field == field) {
            let _ = write!(message, "{}{fault}", if message.is_empty() { "" } else { "\n" });
        }
        if !message.is_empty() {
            ui.add(Label::new(RichText::new(message).color(theme::warning(ui.visuals()))).wrap());
        }
    }
}

/// Says of a value that it is not the running model's.
pub(super) fn after_reset(ui: &mut Ui, changed: bool) {
    if changed {
        let note = RichText::new("after Reset").small().color(theme::accent(ui.visuals()));
        ui.label(note).on_hover_text("The running model keeps its own value; this one applies after Reset.");
    }
}

/// A value in its field. What is half typed is not meant yet, and a rate would go to the model at once.
pub(super) fn add_value(ui: &mut Ui, value: DragValue<'_>) -> Response {
    ui.add_sized(vec2(VALUE_WIDTH, 22.0), value.update_while_editing(false))
}

fn whole<N: emath::Numeric>(value: &mut N, speed: f64) -> DragValue<'_> {
    DragValue::new(value)
        .speed(speed)
        .range(N::from_f64(0.0)..=N::from_f64(1e12))
        .custom_formatter(|value, _| {
            // Whole numbers up to 2^53 are exact.
            if value < 1e15 { grouped(value.max(0.0) as u64) } else { format!("{value}") }
        })
        // As it is shown, so it may be typed.
        .custom_parser(|text| text.replace(|c: char| c == ',' || c.is_whitespace(), "").parse().ok())
}

pub(super) fn magnitude(value: &mut f64) -> DragValue<'_> {
    let speed = (*value * 0.01).max(1e-7);
    let value = DragValue::new(value).speed(speed).range(0.0..=1e10).max_decimals(9);
    value.custom_formatter(|value, _| format!("{value}"))
}
