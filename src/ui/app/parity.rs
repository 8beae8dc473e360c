//! From the wish for a parity run to its start: the text is found and judged, then nanoGPT's recipe is trained on it.

use std::path::PathBuf;

use super::App;
use crate::findings::nanogpt::{PRESET, text_fault};
use crate::lab::file_worker::TextSummary;
use crate::preset;
use crate::recipe::TextSource;
use crate::ui::actions::PickPurpose;
use crate::ui::actions::commands::Phase;
use crate::ui::recipe::draft::TextState;
use crate::ui::run::parity::Parity;

impl App {
    /// Begins a parity run with the draft's text or asks for the right one; shows the comparison of a run that is there.
    pub(in crate::ui) fn parity_run(&mut self) {
        if self.phase() != Phase::Idle {
            self.parity.shown = true;
            return;
        }
        match &self.draft.text {
            TextState::Known(summary) if text_fault(summary.characters, summary.vocabulary).is_none() => {
                self.start_parity_run();
            }
            _ => self.pick(PickPurpose::ParityText),
        }
    }

    /// Has the named text read.
    pub(in crate::ui) fn parity_text_chosen(&mut self, path: PathBuf) {
        let source = TextSource::File(path);
        self.parity = Parity { awaited: Some(source.clone()), ..Parity::default() };
        self.use_text(source);
    }

    /// Takes the text that was read for the parity run, or says why not.
    pub(in crate::ui) fn parity_text_read(&mut self, source: TextSource, summary: TextSummary) {
        self.draft.candidate.take_if(|candidate| candidate.source == source);
        if let Some(why) = text_fault(summary.characters, summary.vocabulary) {
            self.parity = Parity { shown: true, refused: Some(format!("{source}: {why}")), ..Parity::default() };
            // The scan had ended the one of the draft's own text.
            if !matches!(self.draft.text, TextState::Known(_)) {
                self.read_text();
            }
            return;
        }
        self.draft.take_text(source, summary);
        if self.phase() == Phase::Idle {
            self.start_parity_run();
        }
    }

    fn start_parity_run(&mut self) {
        let Some(preset) = preset::find(PRESET) else { return };
        self.draft.use_preset(preset);
        self.start_new(false);
        self.parity = Parity { started: self.run.is_some(), ..Parity::default() };
    }
}
