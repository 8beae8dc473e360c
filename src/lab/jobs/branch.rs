//! Runs made from another: forked at a step, or pruned of heads.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use burn::module::Module;

use crate::device;
use crate::memory::Need;
use crate::model::Gpt;
use crate::protocol::{Place, Step};
use crate::recipe::{ModelRecipe, Recipe};
use crate::runs::{
    Checkpoint, Kept, Owner, Parent, Part, RunError, RunFile, RunFolder, TrainingState, copy_log, find_snapshot,
    path_of, read_roles,
};
use crate::train::AdamW;

/// Makes a new run that goes on from a kept step of another. Without `changes` it becomes the same run over again, bit for
/// bit on the CPU; with them it trains as they say. The curves up to the step are copied. Returns its folder, which
/// appears whole or not at all.
///
/// # Errors
/// If the step is not kept, the changes are of another model or make no sense, or the place is occupied or cannot be
/// written.
pub fn fork(run: &Path, step: Step, place: &Place, changes: Option<&Recipe>) -> Result<PathBuf> {
    let mut file = RunFolder::read(run)?;
    Need::forking(&file.recipe.model, file.tokenizer.vocabulary()).check()?;
    let owner = Owner::new(&file.recipe.model, &file.tokenizer);
    let Checkpoint { model, optimizer, mut state } = moment(run, step, &owner)?;
    // The best so far goes along if it is of the past that both share. What cannot be kept is not the best to beat.
    let best = match Checkpoint::load(&Kept::Best.path(run), &owner, &device::cpu()) {
        Ok(best) => Some(best),
        Err(error) if error.is_damage() || error.is_absence() => None,
        Err(error) => return Err(error.into()),
    };
    let best = best.filter(|best| best.state.step <= step);
    state.best_validation_loss = state.best_validation_loss.filter(|_| best.is_some());
    if let Some(changed) = changes {
        let shape = ModelRecipe { dropout: file.recipe.model.dropout, ..changed.model.clone() };
        ensure!(
            shape == file.recipe.model && changed.data.text.absolute()? == file.recipe.data.text,
            "a fork keeps the model's shape and its text, and the recipe has others: change training, dropout or sampling \
             only, or start a new run"
        );
        if let Some(fault) = changed.validate(Some(file.tokenizer.vocabulary())).first() {
            anyhow::bail!("{fault}");
        }
        state.learning_rate = changed.training.learning_rate;
        state.final_learning_rate = changed.training.final_learning_rate;
        let data = crate::recipe::DataRecipe { text: file.recipe.data.text, ..changed.data.clone() };
        file.recipe = Recipe { data, ..changed.clone() };
    }
    let steps = file.recipe.training.steps;
    ensure!(
        steps > step.0,
        "the settings end at step {steps}: a fork from step {} needs more steps (--steps, or Steps in the recipe)",
        step.0
    );
    let made = path_of(place);
    // It is made elsewhere first, and its parent lies beside its own place.
    file.parent = Some(Parent { run: std::path::absolute(run)?, step }.seen_from(&made)?);
    whole(&made, |beside| {
        let mut folder = RunFolder::create(beside, file)?;
        copy_log(run, &mut folder, step)?;
        read_roles(run, step).iter().try_for_each(|report| folder.log_roles(report))?;
        save(&folder, Kept::Last, &model.valid(), &optimizer, state)?;
        best.map_or(Ok(()), |best| save(&folder, Kept::Best, &best.model.valid(), &best.optimizer, best.state))
    })
}

/// A kept step of a run; also its last checkpoint, where the timeline has no room for it.
fn moment(run: &Path, step: Step, owner: &Owner<'_>) -> Result<Checkpoint> {
    match find_snapshot(run, step) {
        Ok(snapshot) => Ok(Checkpoint::load(&snapshot, owner, &device::cpu())?),
        Err(not_kept) => {
            let last = Checkpoint::load(&Kept::Last.path(run), owner, &device::cpu()).ok();
            Ok(last.filter(|last| last.state.step == step).ok_or(not_kept)?)
        }
    }
}

/// Makes a new run of a model from which heads were taken out. It begins at step 0, as an imported model does.
///
/// # Errors
/// If the place is occupied or cannot be written.
pub fn keep_pruned(file: &RunFile, model: &Gpt, shape: ModelRecipe, place: &Place) -> Result<PathBuf> {
    let recipe = Recipe { model: shape, ..file.recipe.clone() };
    let new = RunFile::new(recipe, file.tokenizer.clone(), file.text_digest.clone());
    let file = RunFile { around: file.around.clone(), ..new };
    whole(&path_of(place), |beside| first_checkpoint(beside, file, model))
}

/// A place for a run made from another, in the same folder: its name with this behind it.
#[must_use]
pub fn beside(run: &Path, what: &str) -> Place {
    let name = run.file_name().map_or_else(|| "run".into(), |name| name.to_string_lossy());
    let name = |number: u32| match number {
        1 => format!("{name}-{what}"),
        _ => format!("{name}-{what}-{number}"),
    };
    let free = (1..).map(|number| run.with_file_name(name(number))).find(|path| !path.exists());
    Place::At(free.unwrap_or_default())
}

/// Makes the folder of a run whose weights are there before its first step.
pub(in crate::lab) fn first_checkpoint(folder: &Path, file: RunFile, model: &Gpt) -> Result<()> {
    let training = &file.recipe.training;
    let state = TrainingState {
        step: Step(0),
        learning_rate: training.learning_rate,
        final_learning_rate: training.final_learning_rate,
        elapsed_secs: 0.0,
        best_validation_loss: None,
    };
    save(&RunFolder::create(folder, file)?, Kept::Last, model, &AdamW::default(), state)
}

fn save(folder: &RunFolder, kept: Kept, model: &Gpt, optimizer: &AdamW, state: TrainingState) -> Result<()> {
    let owner = Owner::new(&folder.file.recipe.model, &folder.file.tokenizer);
    Ok(Checkpoint::save(&folder.checkpoint(kept), model, optimizer, state, &owner)?)
}

/// Makes a run's folder beside its place and renames it there: half a run would open with weights that nobody trained.
pub(in crate::lab) fn whole(run: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    RunFolder::refuse_occupied(run)?;
    let part = Part::of_folder(run)?;
    make(&part.path()).map_err(|error| match error.downcast::<RunError>() {
        Ok(error) => part.blamed(error).into(),
        Err(error) => error,
    })?;
    part.put()?;
    Ok(run.to_owned())
}
