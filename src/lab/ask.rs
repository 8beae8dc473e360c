//! One question about a run or a device, answered at once and without a worker: for the command line.

use std::path::Path;

use anyhow::{Result, bail, ensure};
use burn::module::Module;
use burn::tensor::Device;
use serde::Serialize;

use super::protocol::{AttentionSnapshot, DeviceChoice, DeviceReport, ExportFormat, Step};
use crate::device::{self, Adapter};
use crate::model::Gpt;
use crate::recipe::{SamplingRecipe, TextSource};
use crate::runs::{Checkpoint, Kept, Owner, RunError, RunFile, RunFolder, copy_run, export_safetensors};
use crate::text::{Dataset, TokenId};
use crate::train::{Probe, Sampler, Trainer, evaluate_whole, record_attention};

/// The model of a run's last (or best) checkpoint. Training may go on in the folder meanwhile.
pub struct Opened {
    model: Gpt,
    pub file: RunFile,
    pub step: Step,
    device: Device,
}

/// A whole-validation result. Losses in nats a token.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Evaluation {
    pub loss: f64,
    pub perplexity: f64,
    pub bits_per_byte: f64,
    pub tokens: usize,
    pub step: Step,
}

/// What a text is asked about with: words, or token numbers.
#[derive(Debug, Clone)]
pub enum Prompt {
    Text(String),
    Ids(Vec<u32>),
}

impl Opened {
    /// Opens a run folder.
    ///
    /// # Errors
    /// If there is no run, no checkpoint or no such device; names the file and the fault.
    pub fn open(folder: &Path, kept: Kept, choice: &DeviceChoice) -> Result<Self> {
        let file = RunFolder::read(folder)?;
        let path = kept.path(folder);
        if !path.is_file() {
            return Err(RunError::NoCheckpoint { path: folder.to_owned(), kept }.into());
        }
        let (device, _) = device::open(choice, &mut |_| (), &mut || true)?;
        let checkpoint = Checkpoint::load(&path, &Owner::new(&file.recipe.model, &file.tokenizer), &device)?;
        Ok(Self { model: checkpoint.model.valid(), file, step: checkpoint.state.step, device })
    }

    /// Loss over the whole validation part of the run's own text or of another, in windows without overlap.
    ///
    /// # Errors
    /// If the text is unreadable, too short, or has characters that the model does not know.
    pub fn evaluate(&self, text: Option<&Path>) -> Result<Evaluation> {
        let tokenizer = &self.file.tokenizer;
        let own = &self.file.recipe.data.text;
        let dataset = match (text, own) {
            (Some(path), _) => Dataset::from_file(path, Some(tokenizer), &mut |_| true)?,
            (None, TextSource::File(path)) => Dataset::from_file(path, Some(tokenizer), &mut |_| true)?,
            (None, TextSource::BuiltIn) => Dataset::built_in(),
        };
        let same = text.is_some() || dataset.digest == self.file.text_digest;
        ensure!(same, "{own} is not the text that this run learned from: name it with --text");
        let tokens = dataset.validation.len().saturating_sub(1);
        ensure!(tokens > 0, "the validation part of the text is too short to evaluate");
        let loss = evaluate_whole(&self.model, &dataset.validation, self.file.recipe.model.context, &self.device);
        ensure!(loss.is_finite(), "the loss is {loss}: the weights of this checkpoint are no numbers any more");
        let first = tokenizer.text(TokenId(dataset.validation[0].into())).len() as u64;
        let bytes = (dataset.validation_bytes - first) as f64;
        let bits_per_byte = loss * tokens as f64 / std::f64::consts::LN_2 / bytes;
        Ok(Evaluation { loss, perplexity: loss.exp(), bits_per_byte, tokens, step: self.step })
    }

    /// Draws text, handing over each piece as it comes, until `write` fails. Returns what was left out of the prompt, in
    /// words.
    ///
    /// # Errors
    /// As `write` says.
    pub fn sample<E>(
        &self,
        settings: SamplingRecipe,
        mut write: impl FnMut(&str) -> Result<(), E>,
    ) -> Result<String, E> {
        let tokenizer = &self.file.tokenizer;
        let mut sampler = Sampler::new(settings, tokenizer);
        write(&sampler.prompt)?;
        while let Some(token) = sampler.next(&self.model, self.file.recipe.model.context, tokenizer, &self.device) {
            write(&token.text)?;
        }
        Ok(sampler.note)
    }

    /// What each token of the vocabulary looks like, by number.
    #[must_use]
    pub fn labels(&self) -> Vec<String> {
        (0..).map(TokenId).take(self.file.tokenizer.vocabulary()).map(|id| self.file.tokenizer.label(id)).collect()
    }

    /// Logits after each token of the prompt, `[position][vocabulary]`, and what was left out of it.
    ///
    /// # Errors
    /// If the prompt is empty, longer than the context, or names a token that is not there.
    pub fn logits(&self, prompt: &Prompt) -> Result<(Vec<Vec<f32>>, String)> {
        let probe = self.read(prompt)?;
        Ok((crate::train::logits(&self.model, &probe.ids, &self.device), probe.note))
    }

    /// Attention of every head on the prompt.
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    pub fn attention(&self, prompt: &Prompt) -> Result<AttentionSnapshot> {
        let probe = self.read(prompt)?;
        Ok(record_attention(&self.model, &probe, &self.file.tokenizer, self.step, &self.device))
    }

    fn read(&self, prompt: &Prompt) -> Result<Probe> {
        let (tokenizer, context) = (&self.file.tokenizer, self.file.recipe.model.context);
        match prompt {
            Prompt::Text(text) => {
                let encoded = tokenizer.encode(text);
                ensure!(!encoded.ids.is_empty(), "the prompt has no character that this model knows");
                let length = encoded.ids.len();
                ensure!(
                    length <= context,
                    "the prompt has {length} tokens, the model sees at most {context}: shorten it"
                );
                Ok(Probe::new(text, tokenizer, context))
            }
            Prompt::Ids(ids) => {
                ensure!(!ids.is_empty(), "no token number was given");
                let length = ids.len();
                ensure!(length <= context, "{length} tokens were given, the model sees at most {context}");
                let vocabulary = tokenizer.vocabulary();
                if let Some(wrong) = ids.iter().find(|&&id| id as usize >= vocabulary) {
                    bail!(
                        "token number {wrong} is not there: the vocabulary has {vocabulary}, from 0 to {}",
                        vocabulary - 1
                    );
                }
                Ok(Probe { ids: ids.iter().map(|&id| TokenId(id)).collect(), note: String::new() })
            }
        }
    }
}

/// Takes a run's last checkpoint away in another form. Returns the bytes written.
///
/// # Errors
/// If the run has no checkpoint or the place cannot be written to.
pub fn export(folder: &Path, format: ExportFormat, to: &Path) -> Result<u64> {
    Ok(match format {
        ExportFormat::Checkpoint => copy_run(folder, to)?,
        ExportFormat::Safetensors => {
            let opened = Opened::open(folder, Kept::Last, &DeviceChoice::Cpu)?;
            export_safetensors(to, &opened.model, &opened.file.recipe.model, &opened.file.tokenizer)?
        }
    })
}

/// What this machine has to compute on, and what a choice comes to.
#[derive(Debug, Serialize)]
pub struct Diagnosis {
    pub adapters: Vec<Adapter>,
    /// Why the adapters could not be listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    pub asked: String,
    /// `None` when what was asked for cannot be had.
    pub chosen: Option<DeviceReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Lists the adapters and tries the chosen one in a child process.
#[must_use]
pub fn diagnose(choice: &DeviceChoice, say: &mut dyn FnMut(String)) -> Diagnosis {
    let (adapters, trouble) = match device::survey() {
        Ok(adapters) => (adapters, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let (chosen, error) = match device::open(choice, say, &mut || true) {
        Ok((_, report)) => (Some(report), None),
        Err(error) => (None, Some(error.to_string())),
    };
    Diagnosis { adapters, trouble, asked: choice.to_string(), chosen, error }
}

/// The adapters as this process sees them: what the child process of a listing does.
#[must_use]
pub fn list_adapters() -> Vec<Adapter> {
    device::list_here()
}

/// Trains a tiny model for three steps on an adapter, in this process, and holds its losses to the CPU's: what the
/// child process of a device's test does.
///
/// # Errors
/// If there is no such adapter, it cannot be opened, or it computes something else than the CPU.
pub fn probe_adapter(name: &str) -> Result<()> {
    let adapters = device::list_here();
    let Some(adapter) = adapters.iter().find(|adapter| adapter.name == name) else {
        bail!("there is no adapter '{name}'");
    };
    let mut recipe = crate::preset::first().recipe;
    recipe.model = crate::recipe::ModelRecipe { layers: 1, heads: 2, width: 16, context: 16, ..recipe.model };
    recipe.training.batch = 4;
    let dataset = std::sync::Arc::new(Dataset::from_text("the test text", &crate::text::dialogues(4000))?);
    let losses = |device: Device| -> Result<Vec<f32>> {
        let mut trainer = Trainer::new(recipe.clone(), dataset.clone(), device);
        (0..3).map(|_| Ok(trainer.step()?.loss)).collect()
    };
    let (ours, cpu) = (losses(device::open_here(adapter)?)?, losses(device::cpu())?);
    let difference = ours.iter().zip(&cpu).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    ensure!(difference < 1e-3, "its losses {ours:?} differ from the CPU's {cpu:?} by {difference}");
    Ok(())
}
