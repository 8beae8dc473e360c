//! What the worker writes: checkpoints to go on from, and what is taken away.

use std::path::Path;

use super::{Owner, Worker};
use crate::lab::worker::timeline::Timeline;
use crate::memory::Need;
use crate::protocol::{Event, ExportFormat, RunState, Step};
use crate::recipe::bytes_text;
use crate::runs::{Checkpoint, Kept, RunError, TrainingState, copy_run, export_safetensors, transformers};
use crate::train::{first_non_finite, proof_tokens};

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
        self.flush_log();
        if self.folder_gone && !self.folder_is_back() {
            return false;
        }
        if self.last_is_damaged {
            match self.folder.set_last_aside() {
                Ok(None) => {}
                Ok(Some(aside)) => self.warn(format!("the damaged checkpoint is kept as {}", aside.display())),
                Err(error) => {
                    self.warn(format!("nothing was saved, as the damaged checkpoint could not be put aside: {error}"));
                    return false;
                }
            }
            self.last_is_damaged = false;
        }
        let path = self.folder.checkpoint(Kept::Last);
        let saved = self.save_to(&path);
        if saved {
            (self.saved, self.unsaved) = (self.trainer.step_count(), false);
        }
        saved
    }

    /// Hands the log to the system, and tells when that begins to fail and when it goes again.
    pub(super) fn flush_log(&mut self) {
        let flushed = self.folder.flush();
        // Room that steps were given up for is used up soon.
        let works = flushed.is_ok() && !self.timeline.is_stopped();
        self.log_result(flushed);
        if works && std::mem::take(&mut self.log_failed) {
            let missing = self.folder.take_marked_gap().map_or_else(String::new, |gap| {
                format!("; steps {} to {} are missing in it, and marked as a gap", gap.from.0, gap.to.0)
            });
            self.warn(format!("the curve is written to disk again{missing}"));
        }
    }

    /// Tells a fault of the log once; training goes on without it, but not without its folder.
    pub(super) fn log_result(&mut self, result: Result<(), RunError>) {
        let Err(error) = result else { return };
        if error.is_gone() {
            self.lose_folder(&error);
        } else if !std::mem::replace(&mut self.log_failed, true) {
            self.warn(format!("the curve is no longer written to disk: {error}; training goes on"));
        }
    }

    /// The run's folder is not where it was: what is saved now would make another one, which is no run.
    pub(super) fn lose_folder(&mut self, error: &RunError) {
        if std::mem::replace(&mut self.folder_gone, true) {
            return;
        }
        let (step, saved) = (self.trainer.step_count(), self.saved);
        let unsaved = match (saved, self.unsaved) {
            (_, false) => "nothing is lost so far".to_owned(),
            (Step(0), true) => format!("no checkpoint of it was saved, and step {} is in memory alone", step.0),
            (saved, true) => format!("its last checkpoint is of step {}, step {} is in memory alone", saved.0, step.0),
        };
        let message = format!(
            "{error}. The run is paused and saves nothing: {unsaved}. Put the folder back, or save this run to another \
             place"
        );
        self.outbox.send(Event::FolderGone { message });
        if matches!(self.state, RunState::Training | RunState::Completed) {
            self.enter(RunState::Paused);
        }
    }

    /// Whether the folder lies where it was again; if not, that is said once more.
    pub(super) fn folder_is_back(&mut self) -> bool {
        match self.folder.check() {
            Ok(()) => {
                self.go_on_in_folder();
                true
            }
            Err(error) => {
                self.warn(format!("nothing is saved: {error}. Put the folder back, or save this run to another place"));
                false
            }
        }
    }

    fn go_on_in_folder(&mut self) {
        self.folder_gone = false;
        let folder = self.folder.path().to_owned();
        let megabytes = self.trainer.recipe().training.timeline_megabytes;
        self.timeline = Timeline::open(&folder, self.folder.hold(), megabytes);
        self.timeline.spare(self.looker.spared());
        self.looker.set_folder(&folder);
        self.outbox.send(Event::FolderMoved { folder });
        self.tell_kept();
    }

    /// Goes on saving in another place, after the folder was lost.
    pub(super) fn save_elsewhere(&mut self, path: &Path) {
        if !self.folder_gone {
            return self.warn(format!("the run is saved in {} as before", self.folder.path().display()));
        }
        if let Err(error) = self.folder.go_on_at(path) {
            return self.warn(format!("the run is not saved there: {error}"));
        }
        self.go_on_in_folder();
        if !self.folder.checkpoint(Kept::Best).is_file() {
            // What is not kept is not the best to beat.
            self.best = None;
        }
        if self.trainer.step_count() > Step(0) && self.save_checkpoint() {
            let path = self.folder.checkpoint(Kept::Last);
            self.tell_saved(format!("checkpoint of step {}", self.trainer.step_count().0), &path);
        }
        let state = self.resting_state();
        self.enter(state);
    }

    pub(super) fn save_to(&mut self, path: &Path) -> bool {
        let saved = match self.try_save(path) {
            Err(error) if error.disk_is_full() && self.timeline.make_room(2 * self.checkpoint_bytes()) => {
                self.tell_kept();
                if !std::mem::replace(&mut self.room_told, true) {
                    self.warn("the disk is full: steps of the timeline are given up for the checkpoints".into());
                }
                self.try_save(path)
            }
            Ok(()) => {
                self.timeline.saved_beside();
                self.room_told = self.timeline.is_stopped();
                Ok(())
            }
            saved => saved,
        };
        if let Err(error) = &saved {
            if error.is_gone() {
                self.lose_folder(error);
                return false;
            }
            let older = if path.is_file() { ", the older one is kept" } else { "" };
            self.warn(format!("the checkpoint could not be saved{older}: {error}"));
        }
        saved.is_ok()
    }

    fn try_save(&self, path: &Path) -> Result<(), RunError> {
        self.folder.check()?;
        self.folder.hold().check_for(path)?;
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
        let ids = proof_tokens(tokenizer.vocabulary(), recipe.context);
        if let Some(why) = first_non_finite(&model, &ids, &self.device) {
            return self.warn(format!("the export failed: {}", why.on_screen()));
        }
        let exported = match format {
            ExportFormat::Safetensors => export_safetensors(path, &model, recipe, tokenizer).map(|bytes| (bytes, None)),
            ExportFormat::Transformers(family) => {
                transformers::export(path, family, &model, recipe, tokenizer, &self.folder.file.around, &self.device)
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
