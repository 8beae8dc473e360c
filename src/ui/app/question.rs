//! The questions that the window asks: before something that ends a run, before one that barely fits into the memory, how much
//! longer a finished one is to go on; and the word while a run is saved.

use eframe::egui::{Context, DragValue, Id, Modal, ModalResponse, Ui};

use crate::recipe::grouped;
use crate::ui::actions::commands::Phase;
use crate::ui::actions::{Action, AfterEnd};
use crate::ui::widgets::theme;

/// The longest run that a recipe may ask for.
const STEPS_MAX: u64 = 10_000_000;

/// Asked once; the answer is an action.
#[derive(Debug)]
pub(in crate::ui) struct Question {
    asked: Asked,
    fresh: bool,
}

/// What is asked.
#[derive(Debug)]
pub(in crate::ui) enum Asked {
    /// A run is to end, and what comes after.
    End(AfterEnd),
    /// A run that was not begun, as memory is tight: in a sentence with the numbers.
    Memory(String),
    /// How many steps the run is to have that goes on from a finished one of so many.
    Longer { done: u64, steps: u64 },
}

impl Question {
    pub(in crate::ui) const fn new(asked: Asked) -> Self {
        Self { asked, fresh: true }
    }

    /// What comes after the run that is to end.
    pub(in crate::ui) fn into_end(self) -> Option<AfterEnd> {
        match self.asked {
            Asked::End(then) => Some(then),
            Asked::Memory(_) | Asked::Longer { .. } => None,
        }
    }

    pub(in crate::ui) fn ui(&mut self, ctx: &Context, phase: Phase) -> Option<Action> {
        let fresh = std::mem::take(&mut self.fresh);
        match &mut self.asked {
            Asked::End(then) => end(ctx, then, phase, fresh),
            Asked::Memory(why) => {
                let words = format!(
                    "{}{}. If it is not enough, the system ends the program, and what was not saved is lost.",
                    why.chars().next().into_iter().flat_map(char::to_uppercase).collect::<String>(),
                    why.chars().skip(1).collect::<String>(),
                );
                let shown = dialog(ctx, "Memory is tight.", &words, |ui| {
                    // What is safe has the focus.
                    let answers = [("Start anyway", ""), ("Cancel", "Escape")];
                    pressed(ui, answers, fresh.then_some(1))
                });
                answered(&shown, Action::StartAnyway)
            }
            Asked::Longer { done, steps } => {
                let words = format!(
                    "A new run goes on from step {} with the same settings, and opens by itself. This one stays as it is.",
                    grouped(*done)
                );
                let least = done.saturating_add(1).min(STEPS_MAX);
                let shown = dialog(ctx, "All steps are done.", &words, |ui| {
                    ui.add_space(6.0);
                    ui.horizontal(|ui| {
                        let label = ui.label("Steps of the new run");
                        let value = DragValue::new(steps).range(least..=STEPS_MAX).speed(10.0);
                        ui.add(value).labelled_by(label.id);
                    });
                    pressed(ui, [("Go on", "Enter"), ("Cancel", "Escape")], fresh.then_some(0))
                });
                answered(&shown, Action::ForkLonger { steps: *steps })
            }
        }
    }
}

fn end(ctx: &Context, then: &AfterEnd, phase: Phase, fresh: bool) -> Option<Action> {
    let (title, go_on) = match phase {
        Phase::Training => ("The model is still training.", "Go on training"),
        Phase::Preparing => ("The run is being prepared.", "Go on preparing"),
        _ => ("The run is still open.", "Go on"),
    };
    let (words, end) = match (then, phase) {
        (AfterEnd::Close, Phase::Preparing) => ("Nothing is trained yet; the window closes without it.", "Quit"),
        (AfterEnd::Close, _) => {
            ("It is saved before the window closes, and can be opened again to go on.", "Save and quit")
        }
        (AfterEnd::Open { .. } | AfterEnd::Clear, _) => {
            ("It is saved before the other run opens, and can be opened again to go on.", "Save and open")
        }
    };
    let shown = dialog(ctx, title, words, |ui| pressed(ui, [(end, "Enter"), (go_on, "Escape")], fresh.then_some(0)));
    answered(&shown, Action::EndRun)
}

/// The two answers; which of them were pressed. Enter and Space press what has focus.
fn pressed(ui: &mut Ui, answers: [(&str, &str); 2], focus: Option<usize>) -> [bool; 2] {
    ui.add_space(8.0);
    let mut place = 0;
    ui.horizontal(|ui| {
        answers.map(|(text, key)| {
            let mut button = ui.button(text);
            if !key.is_empty() {
                button = button.on_hover_text(key);
            }
            if focus == Some(place) {
                button.request_focus();
            }
            place += 1;
            button.clicked()
        })
    })
    .inner
}

fn answered(shown: &ModalResponse<[bool; 2]>, yes: Action) -> Option<Action> {
    match shown.inner {
        [true, _] => Some(yes),
        [_, true] => Some(Action::KeepRun),
        _ => shown.should_close().then_some(Action::KeepRun),
    }
}

/// Shown while the window waits for the run's files.
pub(in crate::ui) fn saving_ui(ctx: &Context) {
    dialog(ctx, "Saving the run…", "The window closes when it is whole.", |_| ());
}

fn dialog<R>(ctx: &Context, title: &str, words: &str, rest: impl FnOnce(&mut Ui) -> R) -> ModalResponse<R> {
    Modal::new(Id::unique("question")).show(ctx, |ui| {
        ui.set_width(380.0);
        ui.label(theme::heading(title));
        ui.label(words);
        rest(ui)
    })
}
