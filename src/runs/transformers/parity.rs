//! Holding ourselves to another program: a model's folder with `reference.safetensors` beside it, which says what
//! `transformers` and PyTorch compute with that model. `tests/golden/make.py` writes such folders and says what each
//! tensor is.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::Serialize;

use super::super::weights::{Weight, gradients_of};
use super::super::{RunError, read_bounded};
use super::{Imported, import, theirs};
use crate::model::{Trace, relative_difference, values_of};
use crate::protocol::{Step, largest_place};
use crate::recipe::{Recipe, TrainingRecipe};
use crate::text::{Batch, Dataset, TokenId};
use crate::train::{AdamW, Trainer, batch_loss, ids_tensor, logits};

/// References are of tiny models: at most so many bytes.
const REFERENCE_BYTES_MAX: u64 = 64 << 20;
/// How far a logit, an attention weight, a loss, or a gradient (relative to its norm) may be apart.
const BOUND: f64 = 1e-4;

/// One thing that was compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    pub check: &'static str,
    /// The largest error that was found.
    pub worst: f64,
    pub bound: f64,
    pub passed: bool,
    /// Where the largest error is.
    pub detail: String,
}

impl Check {
    fn new(check: &'static str, (worst, detail): (f64, String)) -> Self {
        // What is no number has not passed.
        Self { check, worst, bound: BOUND, passed: worst <= BOUND, detail }
    }
}

/// Compares a model's folder with its `reference.safetensors`: whatever the reference holds of logits, attention, loss and
/// gradients, a greedy continuation, and twenty steps of training.
///
/// # Errors
/// If the model or the reference cannot be read: names the file and the fault.
pub fn check(folder: &Path, device: &Device) -> Result<Vec<Check>, RunError> {
    let path = folder.join("reference.safetensors");
    if !path.exists() {
        return Err(RunError::damaged(
            &path,
            "there is no reference to compare with: tests/golden/make.py makes such folders",
        ));
    }
    let bytes = read_bounded(&path, REFERENCE_BYTES_MAX)?;
    let damaged = |fault: &dyn std::fmt::Display| RunError::damaged(&path, fault);
    let file = SafeTensors::deserialize(&bytes).map_err(|error| damaged(&error))?;
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| damaged(&error))?;
    let imported = import(folder, None, device)?;
    let reference = Reference { tensors: file.iter().collect(), imported: &imported, device };
    let mut checks = vec![Check::new("logits", reference.logits().map_err(|fault| damaged(&fault))?)];
    if reference.has("attention.0") {
        checks.push(Check::new("attention", reference.attention().map_err(|fault| damaged(&fault))?));
    }
    if reference.has("loss") {
        let [loss, gradients] = reference.gradients().map_err(|fault| damaged(&fault))?;
        checks.extend([Check::new("loss", loss), Check::new("gradients", gradients)]);
    }
    if reference.has("greedy") {
        checks.push(Check::new("greedy", reference.greedy().map_err(|fault| damaged(&fault))?));
    }
    if reference.has("training.losses") {
        let recipe = metadata.metadata().as_ref().and_then(|pairs| pairs.get("training"));
        let recipe = recipe.ok_or_else(|| damaged(&"its metadata lacks the training's settings"))?;
        let recipe: serde_json::Value = serde_json::from_str(recipe).map_err(|error| damaged(&error))?;
        checks.push(Check::new("training", reference.training(&recipe).map_err(|fault| damaged(&fault))?));
    }
    Ok(checks)
}

struct Reference<'a> {
    tensors: HashMap<&'a str, TensorView<'a>>,
    imported: &'a Imported,
    device: &'a Device,
}

impl Reference<'_> {
    fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    fn view(&self, name: &str, dtype: Dtype) -> Result<&TensorView<'_>, String> {
        match self.tensors.get(name) {
            Some(view) if view.dtype() == dtype => Ok(view),
            Some(view) => Err(format!("'{name}' holds {:?} numbers, not {dtype:?}", view.dtype())),
            None => Err(format!("'{name}' is missing")),
        }
    }

    fn floats(&self, name: &str) -> Result<Vec<f32>, String> {
        let data = self.view(name, Dtype::F32)?.data();
        Ok(data.chunks_exact(4).map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect())
    }

    /// Token numbers, row by row; the model must know them.
    fn ids(&self, name: &str) -> Result<Vec<Vec<i32>>, String> {
        let view = self.view(name, Dtype::I64)?;
        let vocabulary = self.imported.tokenizer.vocabulary();
        let mut ids = Vec::new();
        for eight in view.data().chunks_exact(8) {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(eight);
            let id = i64::from_le_bytes(bytes);
            let known = usize::try_from(id).is_ok_and(|id| id < vocabulary);
            ids.push(i32::try_from(id).ok().filter(|_| known).ok_or_else(|| format!("'{name}' holds the token {id}"))?);
        }
        let length = view.shape().last().copied().unwrap_or(0).max(1);
        if ids.len() < length || length > self.imported.recipe.context + 1 {
            return Err(format!("'{name}' is {:?}, which is no batch for this model", view.shape()));
        }
        Ok(ids.chunks(length).map(<[i32]>::to_vec).collect())
    }

    fn logits(&self) -> Result<(f64, String), String> {
        let rows = self.ids("ids")?;
        let (count, length) = (rows.len(), rows[0].len());
        let ids = ids_tensor(rows.concat(), count, length, self.device);
        let found = values_of(self.imported.model.valid().forward(ids));
        Ok(furthest("logits", &found, &self.floats("logits")?))
    }

    fn attention(&self) -> Result<(f64, String), String> {
        let rows = self.ids("ids")?;
        let mut trace = Trace::default();
        let ids = ids_tensor(rows.concat(), rows.len(), rows[0].len(), self.device);
        let _ = self.imported.model.valid().forward_traced(ids, &mut trace);
        let mut worst = (0.0, String::new());
        for (layer, pattern) in trace.into_patterns().into_iter().enumerate() {
            let name = format!("attention.{layer}");
            worst = larger(worst, furthest(&name, &values_of(pattern), &self.floats(&name)?));
        }
        Ok(worst)
    }

    /// Loss, and the gradient of every tensor relative to its norm.
    fn gradients(&self) -> Result<[(f64, String); 2], String> {
        let Imported { family, recipe, model, .. } = self.imported;
        let loss = batch_loss(model, &batch(&self.ids("ids")?), &self.device.clone().autodiff());
        let found = values_of(loss.clone().inner());
        let losses = furthest("loss", &found, &self.floats("loss")?);
        let gradients = gradients_of(model, &loss.backward());
        let mut worst = (0.0, String::new());
        for Weight { name, shape, values } in theirs(*family, recipe, gradients) {
            let wanted = self.floats(&format!("gradient.{name}"))?;
            if wanted.len() != values.len() {
                return Err(format!("'gradient.{name}' is not {shape:?}"));
            }
            worst = larger(worst, (relative_difference(&values, &wanted), name));
        }
        Ok([losses, worst])
    }

    /// The number of tokens of a greedy continuation that differ.
    fn greedy(&self) -> Result<(f64, String), String> {
        let (wanted, prompt) = (self.ids("greedy")?.concat(), self.ids("ids")?);
        let model = self.imported.model.valid();
        let mut ids: Vec<_> = prompt[0].iter().take(4).map(|&id| TokenId(id as u32)).collect();
        let mut found = Vec::new();
        for _ in &wanted {
            let row = logits(&model, &ids, self.device).pop().unwrap_or_default();
            let best = largest_place(&row).unwrap_or(0);
            ids.push(TokenId(best as u32));
            found.push(best as i32);
        }
        let differing = wanted.iter().zip(&found).filter(|(a, b)| a != b).count();
        Ok((differing as f64, if differing == 0 { String::new() } else { format!("{found:?} is not {wanted:?}") }))
    }

    /// The loss of each of some steps, and the gradient's norm relative to its own size.
    fn training(&self, settings: &serde_json::Value) -> Result<(f64, String), String> {
        let number = |key: &str| settings[key].as_f64().ok_or_else(|| format!("the training's '{key}' is missing"));
        let batches = self.ids("batches")?;
        let (losses, norms) = (self.floats("training.losses")?, self.floats("training.norms")?);
        if losses.is_empty() || losses.len() != norms.len() || !batches.len().is_multiple_of(losses.len()) {
            return Err("'batches', 'training.losses' and 'training.norms' are not of the same steps".into());
        }
        let usual = crate::preset::first().recipe;
        let rows = batches.len() / losses.len();
        let training = TrainingRecipe {
            batch: rows,
            steps: number("steps")? as u64,
            learning_rate: number("learning_rate")?,
            final_learning_rate: number("final_learning_rate")?,
            warmup_steps: number("warmup_steps")? as u64,
            weight_decay: number("weight_decay")?,
            decay_vectors: settings["decay_vectors"].as_bool().unwrap_or(false),
            beta_1: number("beta_1")?,
            beta_2: number("beta_2")?,
            gradient_clip: number("gradient_clip")?,
            ..usual.training.clone()
        };
        let Imported { recipe: model_recipe, tokenizer, model, .. } = self.imported;
        let recipe = Recipe { model: model_recipe.clone(), training, ..usual };
        let dataset = Arc::new(Dataset::empty(tokenizer.clone()));
        let optimizer = AdamW::default();
        let mut trainer = Trainer::resume(recipe, dataset, self.device.clone(), model.clone(), optimizer, Step(0));
        let mut worst = (0.0, String::new());
        for (step, rows) in batches.chunks(rows).enumerate() {
            let found = trainer.learn(&batch(rows)).map_err(|error| error.to_string())?;
            let apart = f64::from((found.loss - losses[step]).abs());
            let norm = f64::from((found.gradient_norm / norms[step] - 1.0).abs());
            worst = larger(worst, (apart.max(norm), format!("step {}", step + 1)));
        }
        Ok(worst)
    }
}

/// Rows of tokens as a batch: each token but the last is followed by the one to predict.
fn batch(rows: &[Vec<i32>]) -> Batch {
    let context = rows[0].len() - 1;
    let inputs = rows.iter().flat_map(|row| row[..context].to_vec()).collect();
    let targets = rows.iter().flat_map(|row| row[1..].to_vec()).collect();
    Batch { inputs, targets, rows: rows.len(), context }
}

fn furthest(name: &str, found: &[f32], wanted: &[f32]) -> (f64, String) {
    if found.len() != wanted.len() {
        return (f64::INFINITY, format!("{name}: {} values instead of {}", found.len(), wanted.len()));
    }
    // What is no number on both sides is the same; an infinity less itself is no number.
    let same = |a: f32, b: f32| a == b || (a.is_nan() && b.is_nan());
    let apart = found.iter().zip(wanted).map(|(&a, &b)| if same(a, b) { 0.0 } else { f64::from((a - b).abs()) });
    let places = apart.enumerate().map(|(place, apart)| (apart, format!("{name}, value {place}")));
    let (worst, mut detail) = places.fold((0.0, String::new()), larger);
    let none = wanted.iter().filter(|value| !value.is_finite()).count();
    if none > 0 {
        detail = format!("{detail} ({name}: {none} of {} are not finite in the reference)", wanted.len());
    }
    (worst, detail.trim().to_owned())
}

/// The larger error; what is no number is larger than any. Of equal ones the first that says where.
fn larger(a: (f64, String), b: (f64, String)) -> (f64, String) {
    if b.0.is_nan() {
        (f64::INFINITY, b.1)
    } else if b.0 > a.0 || (b.0 == a.0 && a.1.is_empty()) {
        b
    } else {
        a
    }
}
