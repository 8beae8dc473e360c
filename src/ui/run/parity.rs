//! The comparison on the screen: our losses beside nanoGPT's, and the verdict.

use eframe::egui::{Align2, Context, Grid, Label, RichText, Ui, Window};

use crate::findings::nanogpt::{LAST_STEP, Outcome, Row, Verdict, compare, departure, is_reference_run};
use crate::protocol::RunState;
use crate::recipe::{Recipe, TextSource, grouped};
use crate::store::RunStore;
use crate::ui::actions::{Action, PickPurpose};
use crate::ui::widgets::theme;

/// Where the parity run stands, apart from the run itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::ui) struct Parity {
    /// Whether the comparison is on the screen.
    pub shown: bool,
    /// A text that is being read for it.
    pub awaited: Option<TextSource>,
    /// Why the named text was not taken.
    pub refused: Option<String>,
    /// Whether the run that is there was started for the comparison, which is shown at its end.
    pub started: bool,
}

/// The window; `recipe` is the run's, with what it took over since it began.
pub(in crate::ui) fn ui(ctx: &Context, parity: &Parity, store: &RunStore, recipe: &Recipe) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut open = true;
    let window = Window::new("Parity run").open(&mut open).collapsible(false).auto_sized();
    window.pivot(Align2::CENTER_CENTER).default_pos(ctx.content_rect().center()).show(ctx, |ui| {
        ui.set_width(560.0);
        if let Some(why) = &parity.refused {
            refusal(ui, why, &mut actions);
        } else if store.ready.as_ref().is_some_and(is_reference_run) {
            let end = store.whole.filter(|whole| whole.step.0 == LAST_STEP).map(|whole| whole.loss as f32);
            let verdict = compare(&store.validations, end, departure(recipe, &store.learning_rate));
            let can_measure = store.state == Some(RunState::Completed) && verdict.whole.is_none();
            show(ui, &verdict, can_measure, &mut actions);
        } else {
            ui.label("There is no run of nanoGPT's recipe on tinyshakespeare.");
        }
    });
    if !open {
        actions.push(Action::CloseParity);
    }
    actions
}

fn refusal(ui: &mut Ui, why: &str, actions: &mut Vec<Action>) {
    let words = RichText::new(why).color(theme::warning(ui.visuals()));
    ui.add(Label::new(words).wrap());
    ui.add_space(4.0);
    ui.horizontal(|ui| {
        if ui.button("Choose another text…").clicked() {
            actions.extend([Action::CloseParity, Action::Pick(PickPurpose::ParityText)]);
        }
        if ui.button("Close").clicked() {
            actions.push(Action::CloseParity);
        }
    });
}

fn show(ui: &mut Ui, verdict: &Verdict, can_measure: bool, actions: &mut Vec<Action>) {
    let visuals = ui.visuals();
    let color = match verdict.outcome {
        Outcome::Open => visuals.strong_text_color(),
        Outcome::Passed => theme::accent(visuals),
        Outcome::NotPassed | Outcome::Departed => theme::warning(visuals),
    };
    ui.label(RichText::new(verdict.title()).heading().color(color));
    ui.add(Label::new(verdict.sentence()).wrap());
    ui.add_space(4.0);
    table(ui, &verdict.rows);
    ui.add_space(4.0);
    ui.add(Label::new(RichText::new(verdict.basis()).small().weak()).wrap());
    ui.add_space(4.0);
    ui.horizontal(|ui| {
        if ui.button("Copy as text").on_hover_text("The verdict with all its numbers.").clicked() {
            actions.push(Action::CopyText(verdict.text()));
        }
        let tip = "Measures the loss over all of the validation text, as nanoGPT's three seeds were.";
        if can_measure && ui.button("Measure the whole text").on_hover_text(tip).clicked() {
            actions.push(Action::EvaluateWhole);
        }
        if ui.button("Close").clicked() {
            actions.push(Action::CloseParity);
        }
    });
}

fn table(ui: &mut Ui, rows: &[Row]) {
    let (warning, muted) = (theme::warning(ui.visuals()), theme::muted(ui.visuals()));
    Grid::new("parity").num_columns(7).spacing([16.0, 4.0]).striped(true).show(ui, |ui| {
        for title in ["Step", "train", "validation", "nanoGPT train", "validation", "Difference", ""] {
            ui.label(RichText::new(title).small().weak());
        }
        ui.end_row();
        for row in rows {
            let ours = row.ours;
            let four = |loss: Option<f32>| loss.map_or_else(|| "–".into(), |loss| format!("{loss:.4}"));
            let difference = row.difference().map_or_else(|| "–".into(), |value| format!("{value:+.4}"));
            ui.label(theme::number(format!("{:>5}", grouped(row.reference.step))));
            ui.label(theme::number(four(ours.map(|ours| ours.train_loss))));
            ui.label(theme::number(four(ours.map(|ours| ours.validation_loss))).strong());
            ui.label(theme::number(four(Some(row.reference.train_loss))));
            ui.label(theme::number(four(Some(row.reference.validation_loss))).strong());
            let color = if row.is_beyond() { warning } else { ui.visuals().text_color() };
            ui.label(theme::number(difference).color(color));
            ui.label(RichText::new(row.remark()).color(if row.is_beyond() { warning } else { muted }));
            ui.end_row();
        }
    });
}

#[cfg(test)]
mod tests;
