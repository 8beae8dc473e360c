//! What the worker writes: checkpoints to go on from, and what is taken away.

use std::path::Path;

use super::super::protocol::ExportFormat;
use super::{Owner, Worker};
use crate::memory::Need;
use crate::recipe::bytes_text;
use crate::runs::{Checkpoint, Kept, RunError, TrainingState, copy_run, export_safetensors, transformers};

impl Worker<'_> {
    pub(super) fn state_now(&self) -> TrainingState {
        let training = &self.trainer.recipe().training;
        TrainingState {
            step: self.trainer.step_count(),
            learning_rate: training.learning_rate,
            final_learning_rate: training.final_learning_rate,
            elapsed_secs: self.elapsed_secs,
            best_validation_loss: self.best,
        }
    }

    /// Saves what resume needs; a fault is told and training goes on.
    pub(super) fn save_checkpoint(&mut self) -> bool {
        if self.diverged {
            self.warn("nothing was saved: the model's numbers are lost. Go back to the last checkpoint".into());
            return false;
        }
        let path = self.folder.checkpoint(Kept::Last);
        let flushed = self.folder.flush();
        self.log_result(flushed);
        let saved = self.save_to(&path);
        if saved {
            (self.saved, self.unsaved) = (self.trainer.step_count(), false);
        }
        saved
    }

    pub(super) fn save_to(&mut self, path: &Path) -> bool {
        let saved = match self.try_save(path) {
            Err(error) if error.disk_is_full() && self.timeline.make_room(2 * self.checkpoint_bytes()) => {
                self.tell_kept();
                self.warn("the disk is full: steps of the timeline were given up for the checkpoint".into());
                self.try_save(path)
            }
            saved => saved,
        };
        if let Err(error) = &saved {
            let older = if path.is_file() { ", the older one is kept" } else { "" };
            self.warn(format!("the checkpoint could not be saved{older}: {error}"));
        }
        saved.is_ok()
    }

    fn try_save(&self, path: &Path) -> Result<(), RunError> {
        let (model, tokenizer) = (self.trainer.validation_model(), &self.trainer.dataset().tokenizer);
        let owner = Owner::new(&self.trainer.recipe().model, tokenizer);
        Checkpoint::save(path, &model, self.trainer.optimizer(), self.state_now(), &owner)
    }

    /// About what a checkpoint takes: the weights, and two moments of each.
    pub(super) fn checkpoint_bytes(&self) -> u64 {
        3 * self.trainer.recipe().model.file_bytes(self.trainer.dataset().tokenizer.vocabulary())
    }

    pub(super) fn export(&mut self, format: ExportFormat, path: &Path) {
        let (model, recipe) = (self.trainer.validation_model(), &self.trainer.recipe().model);
        let tokenizer = &self.trainer.dataset().tokenizer;
        if let Err(short) = Need::exporting(recipe, tokenizer.vocabulary()).check() {
            return self.warn(format!("the export failed: {short}"));
        }
        let exported = match format {
            ExportFormat::Safetensors => export_safetensors(path, &model, recipe, tokenizer).map(|bytes| (bytes, None)),
            ExportFormat::Transformers(family) => {
                transformers::export(path, family, &model, recipe, tokenizer, &self.device)
                    .map(|report| (report.bytes, Some(report)))
            }
            ExportFormat::Checkpoint if !self.save_checkpoint() => return,
            ExportFormat::Checkpoint => copy_run(self.folder.path(), path).map(|bytes| (bytes, None)),
        };
        match exported {
            Ok((bytes, report)) => {
                let proof = report.map_or_else(String::new, |report| format!("; {report}"));
                let step = self.trainer.step_count().0;
                self.tell_saved(format!("export of step {step} ({}{proof})", bytes_text(bytes)), path);
            }
            Err(error) => self.warn(format!("the export failed: {error}")),
        }
    }
}
