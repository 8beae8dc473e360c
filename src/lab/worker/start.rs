//! From a wish to a run that can work: text, device, model, folder, in the order in which each can still refuse.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use burn::tensor::Device;

use super::channel::{Inbox, Outbox};
use crate::device::{self, DeviceError};
use crate::lab::jobs::trial::Trial;
use crate::memory::{Need, Tight};
use crate::protocol::{DeviceClass, DeviceReport, Event, Origin, Place, RunSpec, RunState, Step};
use crate::recipe::{ModelRecipe, Recipe, TextSource};
use crate::runs::{
    Checkpoint, Curves, Kept, Owner, RunError, RunFile, RunFolder, TrainingState, kept_steps, path_of, read_curves,
};
use crate::text::{Dataset, Progress, TextError, Tokenizer};
use crate::train::Trainer;

pub(in crate::lab) struct Opened {
    pub trainer: Trainer,
    pub folder: RunFolder,
    pub device: Device,
    pub report: DeviceReport,
    pub history: Curves,
    /// Why training cannot go on, when the run can only be looked at.
    pub blocked: Option<String>,
    /// The checkpoint's state, when there was one.
    pub state: Option<TrainingState>,
    /// The last checkpoint is there and no good: what is saved next must not replace it.
    pub last_is_damaged: bool,
}

/// A run that fits into the memory only barely, and was not told to start all the same.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(in crate::lab) struct AskFirst(pub String);

/// Opens what `spec` asks for; `None` when it was called off meanwhile.
pub(in crate::lab) fn open(spec: &RunSpec, outbox: &Outbox, inbox: &mut Inbox<'_>) -> Result<Option<Opened>> {
    outbox.send(Event::StateChanged(RunState::Preparing));
    let opened = match &spec.origin {
        Origin::New { recipe, place } => create(recipe, place, spec, outbox, inbox),
        Origin::Open { folder, text } => reopen(folder, text.as_deref(), spec, outbox, inbox),
    };
    match opened {
        Err(error) if called_off(&error) => Ok(None),
        opened => opened.map(|opened| inbox.goes_on().then_some(opened)),
    }
}

fn called_off(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(TextError::Cancelled { .. }))
        || matches!(error.downcast_ref(), Some(DeviceError::Cancelled))
}

fn create(recipe: &Recipe, place: &Place, spec: &RunSpec, outbox: &Outbox, inbox: &mut Inbox<'_>) -> Result<Opened> {
    refuse_faults(recipe, None)?;
    if let Place::At(path) = place {
        RunFolder::refuse_occupied(path)?;
    }
    let mut recipe = recipe.clone();
    recipe.data.text = recipe.data.text.absolute()?;
    let source = recipe.data.text.clone();
    let dataset = telling(&source, outbox, inbox, |progress| Dataset::read(&source, None, progress))?;
    refuse_faults(&recipe, Some(dataset.tokenizer.vocabulary()))?;
    dataset.require(recipe.model.context, Path::new(&recipe.data.text.to_string()))?;
    let vocabulary = dataset.tokenizer.vocabulary();
    // Whatever computes, the weights come and go through the processor's memory.
    Need::training(&recipe, vocabulary, false).check()?;
    let (device, report) = open_device(spec, &recipe.model, vocabulary, outbox, inbox)?;
    let tight = Need::training(&recipe, vocabulary, report.kind != DeviceClass::Gpu).check()?;
    tell_tight(tight, spec, outbox)?;
    let path = path_of(place);
    let file = RunFile::new(recipe.clone(), dataset.tokenizer.clone(), dataset.digest.clone());
    let folder = RunFolder::create(&path, file)?;
    let history = Curves::new(recipe.clone());
    let trainer = trainer_at(recipe, Arc::new(dataset), &device, None);
    Ok(Opened { trainer, folder, device, report, history, blocked: None, state: None, last_is_damaged: false })
}

fn reopen(path: &Path, text: Option<&Path>, spec: &RunSpec, outbox: &Outbox, inbox: &mut Inbox<'_>) -> Result<Opened> {
    let mut folder = RunFolder::open(path)?;
    let (dataset, blocked) = match own_text(&mut folder, text, outbox, inbox) {
        Ok(dataset) => (dataset, None),
        Err(error) if called_off(&error) => return Err(error),
        Err(error) => (Dataset::empty(folder.file.tokenizer.clone()), Some(format!("{error:#}"))),
    };
    let RunFile { recipe, tokenizer, .. } = &folder.file;
    let of_file = matches!(recipe.data.text, TextSource::File(_));
    let blocked = blocked.map(|why| match of_file {
        true => format!("{}. Where its text lies elsewhere now: resume with --text", only_looked_at(&why)),
        false => only_looked_at(&why),
    });
    let vocabulary = tokenizer.vocabulary();
    Need::opening(&recipe.model, vocabulary).check()?;
    let (device, report) = open_device(spec, &recipe.model, vocabulary, outbox, inbox)?;
    let blocked = match Need::training(recipe, vocabulary, report.kind != DeviceClass::Gpu).check() {
        Err(why) if blocked.is_none() => Some(only_looked_at(&why)),
        // A run that may only be looked at takes no more.
        Ok(Some(tight)) if blocked.is_none() => {
            outbox.send(Event::Warning(tight.to_string()));
            None
        }
        _ => blocked,
    };
    let (checkpoint, last_is_damaged) = match load_last_good(&folder, &device, outbox)? {
        Some(found) => (Some(found.checkpoint), found.last_is_damaged),
        None => (None, false),
    };
    let history = read_curves(path)?;
    if history.unreadable > 0 {
        outbox.send(Event::Warning(format!("{} lines of the log were unreadable and left out", history.unreadable)));
    }
    for gap in &history.gaps {
        let steps = format!("steps {} to {}", gap.from.0, gap.to.0);
        outbox.send(Event::Warning(format!("{steps} are missing in the log: there was no room to write them")));
    }
    let state = checkpoint.as_ref().map(|checkpoint| checkpoint.state);
    let trainer = trainer_at(recipe.clone(), Arc::new(dataset), &device, checkpoint);
    Ok(Opened { trainer, folder, device, report, history, blocked, state, last_is_damaged })
}

/// Why a run does not train, in a sentence.
fn only_looked_at(why: &dyn std::fmt::Display) -> String {
    format!("training cannot go on in this run: {why}. Looking and sampling still work")
}

/// Says that memory is tight, or asks first.
fn tell_tight(tight: Option<Tight>, spec: &RunSpec, outbox: &Outbox) -> Result<()> {
    match tight {
        Some(tight) if !spec.despite_memory => Err(AskFirst(tight.to_string()).into()),
        Some(tight) => {
            outbox.send(Event::Warning(tight.to_string()));
            Ok(())
        }
        None => Ok(()),
    }
}

/// The text that the run learned from, from where it was or from where it is said to lie now: then the recipe says so too.
fn own_text(folder: &mut RunFolder, moved: Option<&Path>, outbox: &Outbox, inbox: &mut Inbox<'_>) -> Result<Dataset> {
    let RunFile { recipe, tokenizer, text_digest, .. } = &folder.file;
    let source = match (moved, &recipe.data.text) {
        (None, own) => own.clone(),
        (Some(path), TextSource::File(_)) => TextSource::File(path.to_owned()).absolute()?,
        (Some(path), own) => bail!("its text is the {own}, which no file stands for: leave {} out", path.display()),
    };
    let dataset =
        telling(&source, outbox, inbox, |progress| Dataset::read_of_run(&source, text_digest, tokenizer, progress))?;
    dataset.require(recipe.model.context, Path::new(&source.to_string()))?;
    if source != recipe.data.text {
        folder.set_text(source)?;
    }
    Ok(dataset)
}

/// A checkpoint to go on from.
pub(in crate::lab) struct Found {
    pub checkpoint: Checkpoint,
    /// It stands in for the last one, which is there and no good.
    pub last_is_damaged: bool,
}

/// The last checkpoint; where it is damaged or gone the best one, with a word; where there is none yet, nothing. One that
/// cannot be read, or is of a newer program, may be good: nothing stands in for it.
pub(in crate::lab) fn load_last_good(folder: &RunFolder, device: &Device, outbox: &Outbox) -> Result<Option<Found>> {
    let owner = Owner::new(&folder.file.recipe.model, &folder.file.tokenizer);
    let load = |kept: Kept| Checkpoint::load(&folder.checkpoint(kept), &owner, device);
    let (why, last_is_damaged) = match load(Kept::Last) {
        Ok(checkpoint) => return Ok(Some(Found { checkpoint, last_is_damaged: false })),
        Err(error) if error.is_absence() => {
            (format!("{} is not there", folder.checkpoint(Kept::Last).display()), false)
        }
        Err(error) if error.is_damage() => (error.to_string(), true),
        Err(error) => return Err(unreadable(error)),
    };
    match load(Kept::Best) {
        Ok(checkpoint) => {
            let step = checkpoint.state.step.0;
            outbox.send(Event::Warning(format!("{why}. Going on from the best checkpoint instead, of step {step}")));
            Ok(Some(Found { checkpoint, last_is_damaged }))
        }
        Err(error) if error.is_absence() && !last_is_damaged => refuse_lost(folder).map(|()| None),
        Err(error) if !last_is_damaged => Err(unreadable(error)),
        Err(_) => bail!("{why}"),
    }
}

/// Whether a run without any checkpoint had one: begun anew it would be another, and take the place of what is left of it.
fn refuse_lost(folder: &RunFolder) -> Result<()> {
    let RunFile { recipe, tokenizer, parent, .. } = &folder.file;
    let (run, last) = (folder.path(), folder.checkpoint(Kept::Last));
    // A text that a run begins with gives it characters; other tokenizers came with an imported model.
    let begins_anew = matches!(tokenizer, Tokenizer::Characters(_)) && recipe.model.pruned.is_empty();
    ensure!(
        parent.is_none() && begins_anew,
        "{} is not there, and this run began with the weights of another model: put the file back, or make the run again",
        last.display()
    );
    let curves = read_curves(run)?;
    // The step after the first look at the validation text is taken when the first checkpoint is saved.
    let first = curves.validations.iter().map(|report| report.step).find(|step| *step > Step(0));
    let reached = curves.steps.last().map(|report| report.step).filter(|step| first.is_some_and(|first| *step > first));
    let Some(reached) = reached else { return Ok(()) };
    let kept = kept_steps(run).last().map(|(step, _)| *step).filter(|step| *step > Step(0));
    let kept = kept.map_or_else(String::new, |kept| {
        format!(", or go on from a kept step: headlight fork {} --step {} --out NEW", run.display(), kept.0)
    });
    bail!(
        "{} is not there, although this run was at step {}; begun anew it would replace what is left of it. Put the file \
         back, or train a new run{kept}",
        last.display(),
        reached.0
    )
}

fn unreadable(error: RunError) -> anyhow::Error {
    match error {
        RunError::Io { .. } => anyhow::anyhow!(
            "{error}: the checkpoint may be good but cannot be read, so nothing is put in its place. Mend that and open the \
             run again"
        ),
        other => other.into(),
    }
}

/// A trainer from a checkpoint, or from the first weights.
pub(in crate::lab) fn trainer_at(
    mut recipe: Recipe,
    dataset: Arc<Dataset>,
    device: &Device,
    checkpoint: Option<Checkpoint>,
) -> Trainer {
    match checkpoint {
        None => Trainer::new(recipe, dataset, device.clone()),
        Some(Checkpoint { model, optimizer, state }) => {
            recipe.training.learning_rate = state.learning_rate;
            recipe.training.final_learning_rate = state.final_learning_rate;
            Trainer::resume(recipe, dataset, device.clone(), model, optimizer, state.step)
        }
    }
}

/// The device that the run asks for, if it passes its test with the run's own model.
fn open_device(
    spec: &RunSpec,
    model: &ModelRecipe,
    vocabulary: usize,
    outbox: &Outbox,
    inbox: &mut Inbox<'_>,
) -> Result<(Device, DeviceReport)> {
    let mut say = |what| {
        outbox.send(Event::Preparing(what));
    };
    let trial = Trial::new(model, vocabulary).to_text();
    let wish = device::Wish { choice: &spec.device, trial: &trial, insist: spec.insist };
    let device::Opened { device, report, trouble } = device::open(wish, &mut say, &mut || inbox.goes_on())?;
    if let Some(trouble) = trouble {
        outbox.send(Event::Warning(trouble));
    }
    Ok((device, report))
}

fn refuse_faults(recipe: &Recipe, vocabulary: Option<usize>) -> Result<()> {
    let faults = recipe.validate(vocabulary);
    if faults.is_empty() {
        return Ok(());
    }
    let messages: Vec<_> = faults.iter().map(ToString::to_string).collect();
    bail!("the recipe cannot be run: {}", messages.join("; "))
}

/// Reads a text, telling how far that is, until it is called off.
fn telling(
    source: &TextSource,
    outbox: &Outbox,
    inbox: &mut Inbox<'_>,
    read: impl FnOnce(&mut dyn FnMut(Progress) -> bool) -> Result<Dataset, TextError>,
) -> Result<Dataset> {
    if let TextSource::File(path) = source
        && let Ok(metadata) = std::fs::metadata(path)
    {
        Need::text(source, metadata.len()).check()?;
    }
    let mut told = Instant::now();
    read(&mut |progress: Progress| {
        if told.elapsed() > Duration::from_millis(100) {
            told = Instant::now();
            let percent = 100 * progress.done_bytes / progress.total_bytes.max(1);
            outbox.send(Event::Preparing(format!("reading {source}: {percent} %")));
        }
        inbox.goes_on()
    })
    .map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;
    use crate::memory::Free;
    use crate::preset;
    use crate::protocol::{DeviceChoice, LookSlot};

    #[test]
    fn a_run_that_barely_fits_asks_first_or_says_so() {
        let mut recipe = preset::first().recipe;
        recipe.training.batch = 512;
        let need = Need::training(&recipe, 65, true);
        let tight = || need.weigh(Some(Free::of(need.bytes + 1))).expect("it fits");
        assert!(tight().is_some() && need.weigh(Some(Free::of(need.bytes - 1))).is_err());
        let (events, told) = bounded(4);
        let outbox = Outbox::new(events, LookSlot::default(), Arc::new(|| ()));
        let spec = |despite_memory| RunSpec {
            origin: Origin::New { recipe: Box::new(recipe.clone()), place: Place::Named("none".into()) },
            device: DeviceChoice::Cpu,
            insist: false,
            stop_at: None,
            start_paused: true,
            despite_memory,
            attention_per_sec: 0.0,
        };
        let asked = tell_tight(tight(), &spec(false), &outbox).expect_err("it asks");
        assert!(asked.is::<AskFirst>() && asked.to_string().contains("training this recipe needs about"), "{asked}");
        tell_tight(tight(), &spec(true), &outbox).expect("it starts");
        assert!(matches!(told.try_recv(), Ok(Event::Warning(why)) if why.contains("are free")));
        assert!(told.try_recv().is_err());
    }
}
