//! The question before something that ends a run, and the word while it is saved.

use eframe::egui::{Context, Id, Modal, Ui};

use super::actions::Action;
use super::app::AfterEnd;
use super::menus::Phase;
use super::theme;

/// Asked once; the answer is an action.
#[derive(Debug)]
pub(super) struct Question {
    pub then: AfterEnd,
    fresh: bool,
}

impl Question {
    pub(super) const fn new(then: AfterEnd) -> Self {
        Self { then, fresh: true }
    }

    pub(super) fn ui(&mut self, ctx: &Context, phase: Phase) -> Option<Action> {
        let (title, go_on) = match phase {
            Phase::Training => ("The model is still training.", "Go on training"),
            Phase::Preparing => ("The run is being prepared.", "Go on preparing"),
            _ => ("The run is still open.", "Go on"),
        };
        let (words, end) = match (&self.then, phase) {
            (AfterEnd::Close, Phase::Preparing) => ("Nothing is trained yet; the window closes without it.", "Quit"),
            (AfterEnd::Close, _) => {
                ("It is saved before the window closes, and can be opened again to go on.", "Save and quit")
            }
            (AfterEnd::Open(_) | AfterEnd::Clear, _) => {
                ("It is saved before the other run opens, and can be opened again to go on.", "Save and open")
            }
        };
        let shown = dialog(ctx, title, words, |ui| {
            ui.add_space(8.0);
            let answers = ui.horizontal(|ui| {
                let end = ui.button(end).on_hover_text("Enter");
                // Enter and Space press what has focus.
                if std::mem::take(&mut self.fresh) {
                    end.request_focus();
                }
                (end.clicked(), ui.button(go_on).on_hover_text("Escape").clicked())
            });
            answers.inner
        });
        match (shown.inner, shown.should_close()) {
            ((true, _), _) => Some(Action::EndRun),
            ((_, true), _) | (_, true) => Some(Action::KeepRun),
            _ => None,
        }
    }
}

/// Shown while the window waits for the run's files.
pub(super) fn saving_ui(ctx: &Context) {
    dialog(ctx, "Saving the run…", "The window closes when it is whole.", |_| ());
}

fn dialog<R>(
    ctx: &Context,
    title: &str,
    words: &str,
    rest: impl FnOnce(&mut Ui) -> R,
) -> eframe::egui::ModalResponse<R> {
    Modal::new(Id::unique("question")).show(ctx, |ui| {
        ui.set_width(380.0);
        ui.label(theme::heading(title));
        ui.label(words);
        rest(ui)
    })
}
