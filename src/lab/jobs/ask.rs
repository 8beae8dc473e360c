//! One question about a run or a device, answered at once and without a worker: for the command line.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::module::Module;
use burn::tensor::Device;
use serde::Serialize;

use super::branch;
use super::trial::Trial;
use crate::device::{self, Adapter};
use crate::lab::worker::measuring::{EFFECT_BATCHES, Effects, Subject};
use crate::memory::Need;
use crate::model::Gpt;
use crate::protocol::{
    AttentionSnapshot, DeviceChoice, DeviceReport, EffectsReport, ExportFormat, ExportReport, HeadReport, Look,
    NonFinite, Off, Place, RoleReport, RoleScores, SampledToken, Step, Switches, Target, View, Wants,
};
use crate::recipe::{ModelRecipe, SamplingRecipe, TextSource};
use crate::runs::{
    Checkpoint, Kept, Owner, RunError, RunFile, RunFolder, copy_run, export_safetensors, find_snapshot, transformers,
};
use crate::text::{Dataset, LineEnds, TokenId, Tokenizer, consecutive};
use crate::train::{
    Means, Probe, Sampler, Seen, accuracy, evaluate_whole, evaluation_batches, first_non_finite, first_non_finite_in,
    proof_tokens, pruned, validation_batches,
};

/// The model of a run's last (or best) checkpoint. Training may go on in the folder meanwhile.
pub struct Opened {
    model: Gpt,
    pub file: RunFile,
    pub step: Step,
    device: Device,
    /// What was found wrong with the device that was asked for.
    pub trouble: Option<String>,
}

/// Which of a run's models.
#[derive(Debug, Clone, Copy)]
pub enum Moment {
    /// The last or the best checkpoint.
    Kept(Kept),
    /// A step of its timeline.
    Step(Step),
}

/// A whole-validation result. Losses in nats a token.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Evaluation {
    pub loss: f64,
    pub perplexity: f64,
    pub bits_per_byte: f64,
    pub tokens: usize,
    /// Where the text is the run's own and a lesson: the share of answers that are right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f32>,
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
    pub fn open(folder: &Path, moment: Moment, choice: &DeviceChoice) -> Result<Self> {
        let file = RunFolder::read(folder)?;
        let path = match moment {
            Moment::Step(step) => find_snapshot(folder, step)?,
            Moment::Kept(kept) => stand_in(folder, kept)?.path(folder),
        };
        let vocabulary = file.tokenizer.vocabulary();
        Need::opening(&file.recipe.model, vocabulary).check()?;
        let trial = Trial::new(&file.recipe.model, vocabulary).to_text();
        let wish = device::Wish { choice, trial: &trial, insist: false };
        let device::Opened { device, trouble, .. } = device::open(wish, &mut |_| (), &mut || true)?;
        let checkpoint = Checkpoint::load(&path, &Owner::new(&file.recipe.model, &file.tokenizer), &device)?;
        Ok(Self { model: checkpoint.model.valid(), file, step: checkpoint.state.step, device, trouble })
    }

    /// Loss over the whole validation part of the run's own text or of another, in windows without overlap. `progress` is
    /// told the share that is done.
    ///
    /// # Errors
    /// If the text is unreadable, too short, or has characters that the model does not know.
    pub fn evaluate(&self, text: Option<&Path>, progress: &mut dyn FnMut(f64)) -> Result<Evaluation> {
        let tokenizer = &self.file.tokenizer;
        let dataset = self.text(text)?;
        let tokens = dataset.validation.len().saturating_sub(1);
        ensure!(tokens > 0, "the validation part of the text is too short to evaluate");
        let (context, validation) = (self.file.recipe.model.context, &dataset.validation);
        Need::evaluating(&self.file.recipe.model, tokenizer.vocabulary()).check()?;
        let (mut begun, batches) = (0, evaluation_batches(tokens, context));
        let mut tell = || {
            progress(begun as f64 / batches as f64);
            begun += 1;
            true
        };
        let loss = evaluate_whole(&self.model, validation, context, &self.device, &mut tell).unwrap_or(f64::NAN);
        if !loss.is_finite() {
            let found = consecutive(validation, context).find_map(|(inputs, _)| {
                let ids: Vec<_> = inputs.iter().map(|&id| TokenId(id.into())).collect();
                first_non_finite(&self.model, &ids, &self.device)
            });
            found.map_or(Ok(()), Err)?;
            bail!("the loss is {loss}, though the model's logits are numbers: they are too far apart");
        }
        let first = tokenizer.byte_length(TokenId(dataset.validation[0].into())) as u64;
        let bytes = (dataset.validation_bytes - first) as f64;
        let bits_per_byte = loss * tokens as f64 / std::f64::consts::LN_2 / bytes;
        let own_text = if text.is_none() { Some(&self.file.recipe) } else { None };
        let accuracy = own_text.and_then(|recipe| accuracy(&self.model, recipe, &dataset, &self.device, &mut || true));
        Ok(Evaluation { loss, perplexity: loss.exp(), bits_per_byte, tokens, accuracy, step: self.step })
    }

    /// The run's own text, or another for its tokenizer.
    fn text(&self, text: Option<&Path>) -> Result<Dataset> {
        let tokenizer = &self.file.tokenizer;
        let own = &self.file.recipe.data.text;
        let digest = &self.file.text_digest;
        Ok(match text {
            None => Dataset::read_of_run(own, digest, tokenizer, &mut |_| true)
                .with_context(|| "the run's own text cannot be read (another one, or where it is now: --text)")?,
            Some(path) => {
                let other = TextSource::File(path.to_owned());
                Dataset::read_as(&other, LineEnds::of_run(digest), Some(tokenizer), &mut |_| true)?
            }
        })
    }

    /// What every head does: on the prompt, or on the standard test where there is none. `[layer][head]`, a pruned head
    /// has zeros. With it what was left out of the prompt.
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    pub fn heads(&self, prompt: Option<&Prompt>) -> Result<(Vec<Vec<RoleScores>>, String)> {
        let (report, note) = match prompt {
            Some(prompt) => self.attention_and_roles(prompt).map(|(attention, report)| (report, attention.note))?,
            None => {
                self.require_finite(&self.seen().test().ids)?;
                (self.seen().tested_roles(), String::new())
            }
        };
        let scores = |head: &HeadReport| if prompt.is_some() { head.probe } else { head.test };
        let layers = report.reports.chunks(report.heads.max(1));
        Ok((layers.map(|layer| layer.iter().map(scores).collect()).collect(), note))
    }

    /// The prediction after each layer, and the parts of the logit of `attribute`.
    ///
    /// # Errors
    /// As [`logits`](Self::logits), or if there is no such position or token.
    pub fn lens(&self, prompt: &Prompt, attribute: Option<Target>) -> Result<(Look, String)> {
        let probe = self.read(prompt)?;
        if let Some(Target { position, token }) = attribute {
            let (length, vocabulary) = (probe.ids.len(), self.file.tokenizer.vocabulary());
            ensure!(position < length, "there is no position {position}: the prompt has {length}, from 0");
            if let Some(token) = token.filter(|&token| token as usize >= vocabulary) {
                bail!("token number {token} is not there: the vocabulary has {vocabulary}");
            }
        }
        let wants = Wants { lens: true, attribution: attribute, ..Wants::default() };
        let look = self.seen().look(&probe, &View { wants, ..View::default() }, false);
        Ok((look, probe.note))
    }

    /// Loss without each head and each MLP, less the loss, on random batches of the validation text.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    pub fn effects(&self, off: Off, text: Option<&Path>, progress: &mut dyn FnMut(f64)) -> Result<EffectsReport> {
        let dataset = self.text(text)?;
        let recipe = &self.file.recipe;
        Need::measuring(recipe, self.file.tokenizer.vocabulary()).check()?;
        let batches = validation_batches(recipe, &dataset.validation, EFFECT_BATCHES);
        ensure!(!batches.is_empty(), "the validation part of the text is too short to measure on");
        if let Some(why) = first_non_finite_in(&self.model, &batches[0], &self.device) {
            return Err(why.into());
        }
        let means = (off == Off::Mean).then(|| Means::of(&self.model, &batches[0], &self.device));
        let subject = Subject {
            model: self.model.clone(),
            recipe: recipe.model.clone(),
            step: self.step,
            batches: batches.into(),
            device: self.device.clone(),
        };
        let mut effects = Effects::new(subject, off, means);
        while effects.advance() {
            progress(effects.report().done as f64 / effects.report().total as f64);
        }
        Ok(effects.report().clone())
    }

    /// Makes a new run without these heads. Returns its folder.
    ///
    /// # Errors
    /// If they cannot go, or the place is occupied or cannot be written.
    pub fn prune(&self, switches: &Switches, place: &Place) -> Result<PathBuf> {
        let vocabulary = self.file.tokenizer.vocabulary();
        Need::forking(&self.file.recipe.model, vocabulary).check()?;
        let means = match switches.need_means() {
            true => {
                let batch = validation_batches(&self.file.recipe, &self.text(None)?.validation, 1).pop();
                let batch = batch.context("the validation part of the text is too short to measure means on")?;
                Some(Means::of(&self.model, &batch, &self.device))
            }
            false => None,
        };
        let pruned = pruned(&self.model, &self.file.recipe.model, switches, means.as_ref());
        let (model, shape) = pruned.map_err(anyhow::Error::msg)?;
        branch::keep_pruned(&self.file, &model, shape, place)
    }

    /// The same, with nothing put around a text.
    #[must_use]
    pub fn without_special_tokens(mut self) -> Self {
        self.file.tokenizer = self.file.tokenizer.without_special_tokens();
        self
    }

    /// Draws text, handing over each piece as it comes, until `write` fails.
    ///
    /// # Errors
    /// As `write` says, or if the model's numbers are not finite, so that there is nothing to draw from.
    pub fn sample(&self, settings: SamplingRecipe, mut write: impl FnMut(&str) -> Result<()>) -> Result<Sampled> {
        let (tokenizer, recipe) = (&self.file.tokenizer, &self.file.recipe.model);
        let mut sampler = Sampler::new(settings, tokenizer).ending_with(&self.file.around.ends);
        // Before the prompt is written: what cannot be continued is not begun.
        let mut drawn = sampler.next(&self.model, self.step, recipe, tokenizer, &self.device)?;
        let given = sampler.ids().len() - usize::from(drawn.is_some());
        write(&sampler.prompt)?;
        let prompt_tokens = sampler.ids()[..given].iter().map(|&id| NamedToken::new(id, tokenizer)).collect();
        let mut tokens = Vec::new();
        while let Some(token) = drawn {
            write(&token.text)?;
            tokens.push(token);
            drawn = sampler.next(&self.model, self.step, recipe, tokenizer, &self.device)?;
        }
        Ok(Sampled { prompt: sampler.prompt, prompt_tokens, tokens, note: sampler.note })
    }

    /// Refuses a text of which the tokenizer cannot make tokens that the model has.
    ///
    /// # Errors
    /// Says what it is in the text.
    pub fn refuse_unreadable(&self, text: &str) -> Result<()> {
        self.file.tokenizer.encode(text).fault.map_or(Ok(()), |fault| bail!("the prompt: {fault}"))
    }

    /// A prompt's tokens, printable, and the places of those that are none of the text's own, both as JSON lists.
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    pub fn tokens(&self, prompt: &Prompt) -> Result<[serde_json::Value; 2]> {
        let (tokenizer, ids) = (&self.file.tokenizer, self.read(prompt)?.ids);
        let labels: Vec<_> = ids.iter().map(|&id| tokenizer.label(id)).collect();
        let special: Vec<_> = (0..ids.len()).filter(|&place| tokenizer.is_special(ids[place])).collect();
        Ok([labels.into(), special.into()])
    }

    /// What each token of the vocabulary looks like, by number.
    #[must_use]
    pub fn labels(&self) -> Vec<String> {
        (0..).map(TokenId).take(self.file.tokenizer.vocabulary()).map(|id| self.file.tokenizer.label(id)).collect()
    }

    /// Where the numbers of a pass over the prompt stop being finite, if they do.
    ///
    /// # Errors
    /// As [`logits`](Self::logits).
    pub fn non_finite(&self, prompt: &Prompt) -> Result<Option<NonFinite>> {
        Ok(first_non_finite(&self.model, &self.read(prompt)?.ids, &self.device))
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
        Ok(self.seen().attention(&probe))
    }

    fn require_finite(&self, ids: &[TokenId]) -> Result<(), NonFinite> {
        first_non_finite(&self.model, ids, &self.device).map_or(Ok(()), Err)
    }

    /// Attention of every head on the prompt, and what every head does there and on the standard test.
    ///
    /// # Errors
    /// As [`logits`](Self::logits), or if the model's numbers are not finite there.
    pub fn attention_and_roles(&self, prompt: &Prompt) -> Result<(AttentionSnapshot, RoleReport)> {
        let probe = self.read(prompt)?;
        self.require_finite(&probe.ids)?;
        self.require_finite(&self.seen().test().ids)?;
        let attention = self.seen().attention(&probe);
        let roles = self.seen().roles(&attention, &probe.ids);
        Ok((attention, roles))
    }

    fn seen(&self) -> Seen<'_> {
        let RunFile { recipe, tokenizer, .. } = &self.file;
        Seen { model: &self.model, recipe: &recipe.model, tokenizer, device: &self.device, step: self.step }
    }

    /// Whether the attention on so many tokens fits into the memory.
    fn require_look(&self, tokens: usize) -> Result<()> {
        Need::looking(&self.file.recipe.model, self.file.tokenizer.vocabulary(), tokens).check()?;
        Ok(())
    }

    fn read(&self, prompt: &Prompt) -> Result<Probe> {
        let (tokenizer, context) = (&self.file.tokenizer, self.file.recipe.model.context);
        match prompt {
            Prompt::Text(text) => {
                self.refuse_unreadable(text)?;
                let encoded = tokenizer.encode_whole(text);
                ensure!(!encoded.ids.is_empty(), "the prompt has nothing in it that this model knows");
                let length = encoded.ids.len();
                ensure!(
                    length <= context,
                    "the prompt has {length} tokens, the model sees at most {context}: shorten it"
                );
                self.require_look(length)?;
                Ok(Probe::new(text, tokenizer, context))
            }
            Prompt::Ids(ids) => {
                ensure!(!ids.is_empty(), "no token number was given");
                let length = ids.len();
                ensure!(length <= context, "{length} tokens were given, the model sees at most {context}");
                self.require_look(length)?;
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

/// The checkpoint that answers for one: the best where there is no last one, as after a restored backup.
///
/// # Errors
/// If there is none.
pub fn stand_in(run: &Path, kept: Kept) -> Result<Kept, RunError> {
    let is_there = |kept: Kept| kept.path(run).symlink_metadata().is_ok();
    match kept {
        kept if is_there(kept) => Ok(kept),
        Kept::Last if is_there(Kept::Best) => Ok(Kept::Best),
        kept => Err(RunError::NoCheckpoint { path: run.to_owned(), kept }),
    }
}

/// A token with its name.
#[derive(Debug, Clone, Serialize)]
pub struct NamedToken {
    pub id: TokenId,
    /// Printable.
    pub token: String,
    /// It is none of the text's own: it begins, ends or marks one.
    pub special: bool,
}

impl NamedToken {
    fn new(id: TokenId, tokenizer: &Tokenizer) -> Self {
        Self { id, token: tokenizer.label(id), special: tokenizer.is_special(id) }
    }
}

/// A text that was drawn.
#[derive(Debug, Clone)]
pub struct Sampled {
    /// The prompt as the model sees it.
    pub prompt: String,
    pub prompt_tokens: Vec<NamedToken>,
    pub tokens: Vec<SampledToken>,
    /// What was left out of the prompt, in words.
    pub note: String,
}

impl Sampled {
    /// The token with which the text was at its end, if it was.
    #[must_use]
    pub fn end(&self) -> Option<&str> {
        self.tokens.last().filter(|token| token.ends).map(|token| token.label.as_str())
    }

    /// As JSON, for other programs.
    #[must_use]
    pub fn json(&self, step: Step) -> serde_json::Value {
        let token = |token: &SampledToken| {
            let SampledToken { id, label, special, probability, .. } = token;
            serde_json::json!({ "id": id, "token": label, "special": special, "probability": probability })
        };
        let text: String = self.tokens.iter().map(|token| token.text.as_str()).collect();
        serde_json::json!({
            "step": step,
            "prompt": self.prompt,
            "prompt_tokens": self.prompt_tokens,
            "text": text,
            "tokens": self.tokens.iter().map(token).collect::<Vec<_>>(),
            "end": self.end(),
        })
    }
}

/// What was written of a run.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Exported {
    pub bytes: u64,
    /// How a folder for `transformers` compares with the run's model.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub report: Option<ExportReport>,
}

/// Takes a run's last (or best) checkpoint away in another form.
///
/// # Errors
/// If the run has no checkpoint, the form cannot hold it, or the place cannot be written to.
pub fn export(folder: &Path, kept: Kept, format: ExportFormat, to: &Path) -> Result<Exported> {
    let kept = if format == ExportFormat::Checkpoint { Kept::Last } else { kept };
    let opened = Opened::open(folder, Moment::Kept(kept), &DeviceChoice::Cpu)?;
    let ids = proof_tokens(opened.file.tokenizer.vocabulary(), opened.file.recipe.model.context);
    opened.require_finite(&ids)?;
    if format == ExportFormat::Checkpoint {
        return Ok(Exported { bytes: copy_run(folder, to)?, report: None });
    }
    let Opened { model, file, device, .. } = opened;
    let (recipe, tokenizer) = (&file.recipe.model, &file.tokenizer);
    Need::exporting(recipe, tokenizer.vocabulary()).check()?;
    Ok(match format {
        ExportFormat::Transformers(family) => {
            let report = transformers::export(to, family, &model, recipe, tokenizer, &file.around, &device)?;
            Exported { bytes: report.bytes, report: Some(report) }
        }
        _ => Exported { bytes: export_safetensors(to, &model, recipe, tokenizer)?, report: None },
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
    /// `None` when nothing can be had.
    pub chosen: Option<DeviceReport>,
    /// What is wrong with what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Lists the adapters and tries the chosen one in a child process, with a model of that shape.
#[must_use]
pub fn diagnose(
    choice: &DeviceChoice,
    model: &ModelRecipe,
    vocabulary: usize,
    fault: bool,
    insist: bool,
    say: &mut dyn FnMut(String),
) -> Diagnosis {
    let (adapters, trouble) = match device::survey() {
        Ok(adapters) => (adapters, None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let trial = Trial { fault, ..Trial::new(model, vocabulary) }.to_text();
    let wish = device::Wish { choice, trial: &trial, insist };
    let (chosen, error) = match device::open(wish, say, &mut || true) {
        Ok(opened) => (Some(opened.report), opened.trouble),
        Err(error) => (None, Some(error.to_string())),
    };
    Diagnosis { adapters, trouble, asked: choice.to_string(), chosen, error }
}

/// The adapters as this process sees them: what the child process of a listing does.
#[must_use]
pub fn list_adapters() -> Vec<Adapter> {
    device::list_here()
}
