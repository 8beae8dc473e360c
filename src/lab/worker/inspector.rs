//! What the views of a run look at, and the models that they see: the running one, or those of kept steps.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::module::Module;
use burn::tensor::Device;

use crate::memory::Need;
use crate::model::Gpt;
use crate::protocol::{AttentionSnapshot, Look, Pin, RoleReport, Step, View};
use crate::runs::{Checkpoint, Kept, Owner, RunFile, RunFolder, find_snapshot};
use crate::text::Batch;
use crate::train::{Means, Probe, Seen, Trainer, first_non_finite, switched};

/// The part of the time that looking may take from training, as one in so many.
const SHARE: u32 = 25;
/// Models of kept steps that stay in memory, so that going to and fro reads no file: this many, and this many bytes.
const MODELS_MAX: usize = 64;
const MODELS_BYTES_MAX: usize = 200_000_000;

/// A text as the run's model takes it.
fn probe_of(file: &RunFile, text: &str) -> Probe {
    let RunFile { recipe, tokenizer, .. } = file;
    let plain = (!recipe.data.probe_special_tokens).then(|| tokenizer.without_special_tokens());
    Probe::new(text, plain.as_ref().unwrap_or(tokenizer), recipe.model.context)
}

/// The state of the views.
pub(in crate::lab) struct Looker {
    folder: PathBuf,
    file: RunFile,
    device: Device,
    view: View,
    /// The running model does not change.
    pub at_rest: bool,
    probe: Probe,
    /// What was shown is older than the model, the view or the probe.
    stale: bool,
    due: Instant,
    /// Of kept steps, the one used last at the end.
    models: Vec<(Step, Gpt)>,
    /// What parts write on average, at a step.
    means: Option<(Step, Means)>,
    /// On which means are measured; `None` where there is no validation text.
    batch: Option<Batch>,
    pinned: Option<(Pin, Result<Arc<AttentionSnapshot>, String>)>,
    /// Why the probe is not looked at, not told yet; and whether it was told.
    short: Option<String>,
    short_told: bool,
}

impl Looker {
    pub fn new(folder: &RunFolder, trainer: &Trainer) -> Self {
        let file = folder.file.clone();
        Self {
            folder: folder.path().to_owned(),
            probe: probe_of(&file, &file.recipe.data.probe),
            file,
            device: trainer.device().clone(),
            view: View::default(),
            at_rest: true,
            stale: true,
            due: Instant::now(),
            models: Vec::new(),
            means: None,
            batch: trainer.validation_batches(1).pop(),
            pinned: None,
            short: None,
            short_told: false,
        }
    }

    pub const fn view(&self) -> &View {
        &self.view
    }

    /// Whether something is to be shown that has not been.
    pub const fn is_stale(&self) -> bool {
        self.stale
    }

    pub fn set_view(&mut self, view: View) {
        if view.pin != self.view.pin {
            // Pinned anew it is read anew: the other run may have gone on.
            self.pinned = None;
        }
        self.view = view;
        self.hurry();
    }

    /// The view of before, after another was shown in between.
    pub fn put_back(&mut self, view: View) {
        self.view = view;
    }

    /// The run's folder lies elsewhere now.
    pub fn set_folder(&mut self, folder: &Path) {
        folder.clone_into(&mut self.folder);
    }

    /// The running model is viewed again.
    pub fn go_live(&mut self) {
        self.view.step = None;
        self.hurry();
    }

    /// Whether what parts write on average can be measured on the validation text.
    pub const fn has_text(&self) -> bool {
        self.batch.is_some()
    }

    /// The steps that must stay in the timeline.
    pub fn spared(&self) -> Vec<Step> {
        let pinned = self.view.pin.as_ref().filter(|pin| pin.run.is_none()).and_then(|pin| pin.step);
        self.view.step.into_iter().chain(pinned).collect()
    }

    pub fn set_probe(&mut self, text: &str) {
        text.clone_into(&mut self.file.recipe.data.probe);
        self.probe = probe_of(&self.file, text);
        self.pinned = None;
        self.short_told = false;
        if self.batch.is_none() {
            // They were measured on the older probe.
            self.means = None;
        }
        self.hurry();
    }

    /// Whether the probe gets what the tokenizer puts around a text.
    pub fn set_probe_special(&mut self, special_tokens: bool) {
        self.file.recipe.data.probe_special_tokens = special_tokens;
        let probe = self.file.recipe.data.probe.clone();
        self.set_probe(&probe);
    }

    /// The running model has changed.
    pub fn model_changed(&mut self) {
        self.stale |= self.view.step.is_none();
    }

    /// The next look is due at once.
    pub fn hurry(&mut self) {
        self.stale = true;
        self.due = Instant::now();
    }

    /// Steps after this one are no longer what they were.
    pub fn forget_after(&mut self, step: Step) {
        self.models.retain(|(kept, _)| *kept <= step);
        (self.means, self.pinned) = (None, None);
        if self.view.step.is_some_and(|viewed| viewed > step) {
            self.view.step = None;
        }
        self.hurry();
    }

    /// The model of the viewed step, with what is switched off, and its step.
    ///
    /// # Errors
    /// If the step's file is gone or damaged, in one sentence; the step.
    pub fn viewed(&mut self, trainer: &Trainer) -> Result<(Gpt, Step), (Step, String)> {
        let (model, step) = self.whole(trainer)?;
        let switches = self.view.switches.clone();
        let means = switches.need_means().then(|| self.means_of(&model, step));
        Ok((switched(&model, &self.file.recipe.model, &switches, means.as_ref()), step))
    }

    /// The model of the viewed step with all its parts.
    ///
    /// # Errors
    /// As [`viewed`](Self::viewed).
    pub fn whole(&mut self, trainer: &Trainer) -> Result<(Gpt, Step), (Step, String)> {
        match self.view.step {
            Some(step) => self.kept(step, trainer).map(|model| (model, step)).map_err(|why| (step, why)),
            None => Ok((trainer.validation_model(), trainer.step_count())),
        }
    }

    /// What a model's parts write on average.
    pub fn means_of(&mut self, model: &Gpt, step: Step) -> Means {
        if let Some((measured, means)) = &self.means
            && *measured == step
        {
            return means.clone();
        }
        let probe = || {
            let ids: Vec<i32> = self.probe.ids.iter().map(|id| id.0 as i32).collect();
            Batch { rows: 1, context: ids.len(), targets: ids.clone(), inputs: ids }
        };
        // Without a validation text the probe has to do.
        let batch = self.batch.clone().unwrap_or_else(probe);
        let means = Means::of(model, &batch, &self.device);
        self.means = Some((step, means.clone()));
        means
    }

    fn kept(&mut self, step: Step, trainer: &Trainer) -> Result<Gpt, String> {
        let found = match self.models.iter().position(|(kept, _)| *kept == step) {
            Some(place) => self.models.remove(place).1,
            None => {
                let path = find_snapshot(&self.folder, step).map_err(|error| error.to_string())?;
                let owner = Owner::new(&self.file.recipe.model, &self.file.tokenizer);
                Checkpoint::load_model(&path, &owner, trainer.validation_model()).map_err(|error| error.to_string())?
            }
        };
        let most = MODELS_MAX.min(MODELS_BYTES_MAX / (4 * found.num_params()).max(1)).max(1);
        self.models.push((step, found.clone()));
        self.models.drain(..self.models.len().saturating_sub(most));
        Ok(found)
    }

    /// The next look, if there is something new and its time has come: at most `rate` a second, and a small part of
    /// the time.
    pub fn look(&mut self, trainer: &Trainer, rate: f64) -> Option<Result<Look, (Step, String)>> {
        if !self.stale || rate <= 0.0 || Instant::now() < self.due {
            return None;
        }
        let started = Instant::now();
        self.stale = false;
        if let Err(short) = self.need(&self.file).check() {
            let told = std::mem::replace(&mut self.short_told, true);
            self.short = (!told).then(|| short.to_string());
            return None;
        }
        let (model, step) = match self.viewed(trainer) {
            Ok(viewed) => viewed,
            Err(fault) => {
                self.view.step = None;
                self.hurry();
                return Some(Err(fault));
            }
        };
        // While it trains the running model's own roles are measured with the timeline.
        let with_roles = self.at_rest || self.view.step.is_some() || !self.view.switches.is_empty();
        let mut look = self.seen(&model, step).look(&self.probe, &self.view, with_roles);
        look.pinned = self.pinned(trainer);
        // Counted from when it was due: the step that was waited for would make it rarer.
        let (interval, late) = (Duration::from_secs_f64(1.0 / rate), started - self.due);
        self.due = started + (interval - late.min(interval)).max(started.elapsed() * SHARE);
        Some(Ok(look))
    }

    /// Why there is no look, if that is news.
    pub fn take_short(&mut self) -> Option<String> {
        self.short.take()
    }

    /// What a look at the probe takes in a run.
    fn need(&self, file: &RunFile) -> Need {
        Need::looking(&file.recipe.model, file.tokenizer.vocabulary(), self.probe.ids.len())
    }

    /// What every head of the running model does now; nothing where memory is short.
    pub fn roles(&self, trainer: &Trainer) -> Option<RoleReport> {
        self.need(&self.file).check().ok()?;
        let model = trainer.validation_model();
        let seen = self.seen(&model, trainer.step_count());
        Some(seen.roles(&seen.attention(&self.probe), &self.probe.ids))
    }

    /// Where the running model's numbers stop being finite, in words: on the probe, which stands in for other texts.
    pub fn non_finite(&self, trainer: &Trainer) -> String {
        let found = first_non_finite(&trainer.validation_model(), &self.probe.ids, &self.device);
        found.map_or_else(|| "on the probe all its numbers are finite".to_owned(), |found| found.on_screen())
    }

    fn seen<'a>(&'a self, model: &'a Gpt, step: Step) -> Seen<'a> {
        let (recipe, tokenizer) = (&self.file.recipe.model, &self.file.tokenizer);
        Seen { model, recipe, tokenizer, device: &self.device, step }
    }

    fn pinned(&mut self, trainer: &Trainer) -> Option<Result<Arc<AttentionSnapshot>, String>> {
        let pin = self.view.pin.clone()?;
        if let Some((known, found)) = &self.pinned
            && *known == pin
        {
            return Some(found.clone());
        }
        let found = self.look_at_pin(&pin, trainer).map(Arc::new);
        self.pinned = Some((pin, found.clone()));
        Some(found)
    }

    fn look_at_pin(&mut self, pin: &Pin, trainer: &Trainer) -> Result<AttentionSnapshot, String> {
        let Some(run) = &pin.run else {
            let step = pin.step.ok_or("no step is pinned")?;
            let model = self.kept(step, trainer)?;
            return Ok(self.seen(&model, step).attention(&self.probe));
        };
        let other = RunFolder::read(run).map_err(|error| error.to_string())?;
        let name = run.display();
        if other.tokenizer.identity() != self.file.tokenizer.identity() {
            return Err(format!("{name} has another vocabulary, so its attention cannot be laid beside this one's"));
        }
        let (context, length) = (other.recipe.model.context, self.probe.ids.len());
        if length > context {
            return Err(format!("{name} sees at most {context} tokens, the probe has {length}: shorten it"));
        }
        let path = match pin.step {
            Some(step) => find_snapshot(run, step).map_err(|error| error.to_string())?,
            None => Kept::Last.path(run),
        };
        let need = Need::opening(&other.recipe.model, other.tokenizer.vocabulary()).beside(&self.need(&other));
        need.check().map_err(|short| format!("{name}: {short}"))?;
        let owner = Owner::new(&other.recipe.model, &other.tokenizer);
        let checkpoint = Checkpoint::load(&path, &owner, &self.device).map_err(|error| error.to_string())?;
        let (model, step, device) = (checkpoint.model.valid(), checkpoint.state.step, &self.device);
        let (recipe, tokenizer) = (&other.recipe.model, &other.tokenizer);
        Ok(Seen { model: &model, recipe, tokenizer, device, step }.attention(&self.probe))
    }
}
