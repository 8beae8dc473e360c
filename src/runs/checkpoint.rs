//! What resume needs, in one file: weights, both moments of each, and the training state in its metadata.
//!
//! One file means one rename: a checkpoint is the old one or the new one, never half of each. A digest over all that is in it
//! tells an altered file from a good one; `identity.rs` says how it is made.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::tensor::SafeTensors;
use serde::{Deserialize, Serialize};

use super::hold::Hold;
use super::identity::{self, FORMAT};
use super::weights::{Weight, load_weights, require_finite, shapes_of, weights_of};
use super::{RunError, read_own, write_atomic, write_whole};
use crate::model::{Gpt, values_of};
use crate::recipe::ModelRecipe;
use crate::runs::state::TrainingState;
use crate::runs::tensors::{Encoded, serialize};
use crate::text::Tokenizer;
use crate::train::{AdamW, Moments};

/// The largest checkpoint that is read, in bytes: three times the largest model.
pub(super) const BYTES_MAX: u64 = 3 * 4 * crate::recipe::PARAMETERS_MAX + (1 << 20);
const STATE_KEY: &str = "headlight";

/// A model with its optimizer at one moment.
#[derive(Debug)]
pub struct Checkpoint {
    pub model: Gpt,
    pub optimizer: AdamW,
    pub state: TrainingState,
}

/// Whose checkpoint it is: the model's shape and the tokenizer. A checkpoint only opens under the same.
#[derive(Debug, Clone, Copy)]
pub struct Owner<'a> {
    recipe: &'a ModelRecipe,
    tokenizer: &'a Tokenizer,
}

impl<'a> Owner<'a> {
    #[must_use]
    pub const fn new(recipe: &'a ModelRecipe, tokenizer: &'a Tokenizer) -> Self {
        Self { recipe, tokenizer }
    }

    fn digest(self, format: u32) -> String {
        identity::owner(format, self.recipe, self.tokenizer)
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    state: TrainingState,
    updates: u64,
    /// [`Owner::digest`] in this format.
    owner: String,
    /// Over all of the above and all tensors.
    sha256: String,
}

impl Header {
    fn require(&self, owner: &Owner<'_>) -> Result<(), String> {
        if self.owner == owner.digest(self.format) {
            return Ok(());
        }
        Err("it is of another model or another vocabulary than the run's".into())
    }

    /// The bytes of a file with these tensors.
    fn with(mut self, tensors: &[Encoded], path: &Path) -> Result<Vec<u8>, RunError> {
        self.sha256 = self.digest(tensors);
        let header = ron::to_string(&self).map_err(|error| RunError::damaged(path, error))?;
        serialize(path, tensors, HashMap::from([(STATE_KEY.to_owned(), header)]))
    }

    /// What [`Header::sha256`] is to be.
    fn digest(&self, tensors: &[Encoded]) -> String {
        identity::contents(self.format, &self.state, self.updates, &self.owner, tensors)
    }
}

/// The parts of a checkpoint's tensor names: `model.`, `first_moment.`, `second_moment.` before the weight's own name.
const PARTS: [&str; 3] = ["model.", "first_moment.", "second_moment."];

impl Checkpoint {
    /// Writes the checkpoint beside `path` and renames it there. `model` is the validation form.
    ///
    /// # Errors
    /// If the file cannot be written; the old one is untouched then.
    pub fn save(
        path: &Path,
        model: &Gpt,
        optimizer: &AdamW,
        state: TrainingState,
        owner: &Owner<'_>,
    ) -> Result<(), RunError> {
        let bytes = PreparedCheckpoint::new(model, optimizer, state, owner).encode(path)?;
        write_atomic(path, &bytes)
    }

    /// Reads a checkpoint of this owner's; the model lies on the autodiff form of `device`.
    ///
    /// # Errors
    /// Names the file and what is wrong with it: truncated, altered, of another shape or vocabulary.
    pub fn load(path: &Path, owner: &Owner<'_>, device: &Device) -> Result<Self, RunError> {
        let damaged = |fault: String| RunError::damaged(path, fault);
        let (header, [mut weights, mut first, mut second]) = Self::read(path, true)?;
        let model = Gpt::new(owner.recipe, owner.tokenizer.vocabulary(), 0, &device.clone().autodiff());
        let shapes = shapes_of(&model);
        let model = load_weights(model, &mut weights).map_err(&damaged)?;
        header.require(owner).map_err(&damaged)?;
        let moment = |part: &mut HashMap<String, Weight>, name: &str, size: usize| match part.remove(name) {
            Some(found) if found.values.len() == size => {
                Ok(Tensor::from_data(TensorData::new(found.values, [size]), device))
            }
            _ => Err(damaged(format!("the optimizer's state for '{name}' is missing or of another size"))),
        };
        let mut moments = Vec::new();
        if header.updates > 0 {
            for Weight { name, shape, .. } in shapes {
                let size = shape.iter().product();
                let (first, second) = (moment(&mut first, &name, size)?, moment(&mut second, &name, size)?);
                moments.push(Moments { first, second });
            }
        }
        Ok(Self { model, optimizer: AdamW::resume(moments, header.updates), state: header.state })
    }

    /// Reads the model of a checkpoint alone, into one of the same shape and on its device.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_model(path: &Path, owner: &Owner<'_>, model: Gpt) -> Result<Gpt, RunError> {
        let damaged = |fault: String| RunError::damaged(path, fault);
        let (header, [mut weights, ..]) = Self::read(path, false)?;
        header.require(owner).map_err(&damaged)?;
        load_weights(model, &mut weights).map_err(&damaged)
    }

    /// Header and tensors of a checkpoint, in the order of [`PARTS`], if they are whole: with `moments` or without.
    fn read(path: &Path, moments: bool) -> Result<(Header, [HashMap<String, Weight>; 3]), RunError> {
        let bytes = read_own(path, BYTES_MAX)?;
        let damaged = |fault: String| RunError::damaged(path, fault);
        let broken = |error| damaged(format!("not a whole safetensors file ({error}); it may be cut short"));
        let file = SafeTensors::deserialize(&bytes).map_err(broken)?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(broken)?;
        let header = metadata.metadata().as_ref().and_then(|pairs| pairs.get(STATE_KEY));
        let header =
            header.ok_or_else(|| damaged("not a checkpoint of Headlight (its metadata lacks the state)".into()))?;
        // RON reads back the very number that was written, which JSON's reader does not promise.
        let header: Header = ron::from_str(header).map_err(|error| damaged(format!("unreadable state: {error}")))?;
        if !(1..=FORMAT).contains(&header.format) {
            let fault = format!(
                "checkpoint format {} is not known to this program (it reads 1 to {FORMAT}): take the newer Headlight \
                 that wrote it",
                header.format
            );
            // It may be whole: nothing older stands in for it.
            return Err(RunError::Refused { path: path.to_owned(), fault });
        }
        let TrainingState { learning_rate, final_learning_rate, elapsed_secs, .. } = header.state;
        let best = header.state.best_validation_loss.is_none_or(f32::is_finite);
        if !best
            || ![learning_rate, final_learning_rate, elapsed_secs].iter().all(|number| (0.0..1e12).contains(number))
        {
            return Err(damaged("its learning rate, training time or best loss is no sensible number".into()));
        }
        let mut tensors = Vec::new();
        for (name, view) in file.iter() {
            tensors.push(Encoded::read(name, &view).map_err(&damaged)?);
        }
        if header.digest(&tensors) != header.sha256 {
            return Err(damaged("its contents were altered: the digest does not match".into()));
        }
        let mut parts = PARTS.map(|_| HashMap::new());
        for tensor in tensors {
            let Some(part) = PARTS.iter().position(|part| tensor.name.starts_with(part)) else {
                return Err(damaged(format!("unexpected tensor '{}'", tensor.name)));
            };
            if part == 0 || moments {
                let weight = tensor.into_weight(PARTS[part].len());
                let name = format!("{}{}", PARTS[part], weight.name);
                require_finite(&name, &weight.shape, &weight.values)
                    .map_err(|fault| damaged(format!("{fault}: use an earlier step or another copy of the run")))?;
                parts[part].insert(weight.name.clone(), weight);
            }
        }
        Ok((header, parts))
    }
}

/// A checkpoint off the device, to be written by any thread.
#[derive(Debug)]
pub struct PreparedCheckpoint {
    header: Header,
    weights: Vec<Weight>,
}

impl PreparedCheckpoint {
    /// Copies weights and moments. `model` is the validation form.
    #[must_use]
    pub fn new(model: &Gpt, optimizer: &AdamW, state: TrainingState, owner: &Owner<'_>) -> Self {
        let weights = weights_of(model);
        let mut all: Vec<Weight> = Vec::with_capacity(3 * weights.len());
        for (weight, moments) in weights.iter().zip(optimizer.moments()) {
            for (part, moment) in [(PARTS[1], &moments.first), (PARTS[2], &moments.second)] {
                let values = values_of(moment.clone());
                all.push(Weight { name: format!("{part}{}", weight.name), shape: vec![values.len()], values });
            }
        }
        all.extend(weights.into_iter().map(|weight| Weight { name: format!("{}{}", PARTS[0], weight.name), ..weight }));
        let (owner, sha256) = (owner.digest(FORMAT), String::new());
        Self { header: Header { format: FORMAT, state, updates: optimizer.updates(), owner, sha256 }, weights: all }
    }

    /// Writes it beside `path`, in the run folder that is held, and renames it there, without waiting for the disk.
    /// Returns its size in bytes.
    ///
    /// # Errors
    /// If the folder is gone or the file cannot be written; the old one is untouched then.
    pub fn write(self, path: &Path, hold: &Hold) -> Result<u64, RunError> {
        let bytes = self.encode(path)?;
        hold.check_for(path)?;
        write_whole(path, &bytes)?;
        Ok(bytes.len() as u64)
    }

    fn encode(self, path: &Path) -> Result<Vec<u8>, RunError> {
        let Self { header, weights } = self;
        // An update may have left f32 though its loss and gradient were numbers.
        header.with(&Encoded::all(weights, path)?, path)
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;

    use super::*;
    use crate::device;
    use crate::protocol::Step;
    use crate::text::CharTokenizer;

    #[test]
    fn a_checkpoint_that_says_what_it_holds_but_holds_no_numbers_is_refused_by_name() {
        let mut recipe = crate::preset::find("glass-box").expect("built in").recipe.model;
        (recipe.width, recipe.context, recipe.heads, recipe.layers) = (8, 4, 2, 1);
        let tokenizer = Tokenizer::Characters(CharTokenizer::from_chars("abcd".chars()));
        let model = Gpt::new(&recipe, 4, 1, &device::cpu().autodiff());
        let owner = Owner::new(&recipe, &tokenizer);
        let state = TrainingState {
            step: Step(1),
            learning_rate: 1e-3,
            final_learning_rate: 1e-4,
            elapsed_secs: 0.0,
            best_validation_loss: None,
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("step.safetensors");
        for (bad, said) in [(f32::NAN, "NaN at [1, 2]"), (f32::NEG_INFINITY, "-inf at [1, 2]")] {
            let mut prepared = PreparedCheckpoint::new(&model.valid(), &AdamW::default(), state, &owner);
            let weight = prepared.weights.iter_mut().find(|weight| weight.name == "model.transformer.wte.weight");
            weight.expect("an embedding").values[10] = bad;
            // The digest is over what is written: it is of this very file.
            let PreparedCheckpoint { header, weights } = prepared;
            let tensors: Vec<_> = weights.into_iter().map(Encoded::new).collect();
            std::fs::write(&path, header.with(&tensors, &path).expect("bytes")).expect("written");
            let whole = Checkpoint::load(&path, &owner, &device::cpu()).map(drop);
            let alone = Checkpoint::load_model(&path, &owner, model.valid()).map(drop);
            for loaded in [whole, alone] {
                let refusal = loaded.expect_err("refused").to_string();
                for word in ["step.safetensors", "'model.transformer.wte.weight'", said] {
                    assert!(refusal.contains(word), "{refusal}");
                }
            }
        }
    }
}
