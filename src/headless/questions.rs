//! Jobs that ask something of a finished or running run.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::json;

use super::args::{
    BenchArguments, BenchKind, DoctorArguments, EvaluateArguments, ExportArguments, Format, ImportArguments,
    ModelArguments, ParityArguments, PromptArguments, SampleArguments,
};
use super::progress::Progress;
use super::terminal::printed;
use super::train;
use crate::lab::jobs::ask::{self, Moment, Opened, Prompt};
use crate::lab::jobs::trial::{Trial, UNSOUND};
use crate::lab::jobs::{bench, import};
use crate::preset;
use crate::protocol::{DeviceChoice, ExportFormat, HeadId, Place, Step, falling, largest_place};
use crate::recipe::{TextSource, bytes_text, grouped};
use crate::runs::{Kept, RunFolder};

/// Distinct characters of a common text, for a model that has not seen one yet.
const TRIAL_VOCABULARY: usize = 65;
/// What an imported model is trained further with: nanoGPT's recipe, at rates that do not undo what it has learned.
const IMPORT_PRESET: &str = "nanogpt-cpu";
const IMPORT_RATES: (f64, f64) = (3e-4, 3e-5);

pub(super) fn open(arguments: &ModelArguments) -> Result<Opened> {
    let kept = if arguments.best { Kept::Best } else { Kept::Last };
    let moment = arguments.step.map_or(Moment::Kept(kept), |step| Moment::Step(Step(step)));
    let opened = Opened::open(&arguments.run, moment, &DeviceChoice::from(arguments.device.as_str()))?;
    tell_note(opened.trouble.as_deref().unwrap_or_default());
    if arguments.step.is_none() {
        tell_stand_in(&arguments.run, kept)?;
    }
    Ok(if arguments.no_special_tokens { opened.without_special_tokens() } else { opened })
}

/// Says so where the best checkpoint answers for one that is not there.
fn tell_stand_in(run: &Path, kept: Kept) -> Result<()> {
    if RunFolder::read(run).is_ok() && ask::stand_in(run, kept)? != kept {
        tell_note(&format!("{} has no {kept} checkpoint: the best one is taken", run.display()));
    }
    Ok(())
}

pub(super) fn evaluate(arguments: &EvaluateArguments) -> Result<ExitCode> {
    let opened = open(&arguments.model)?;
    let mut progress = Progress::new("evaluating");
    let found = opened.evaluate(arguments.text.as_deref(), &mut |share| progress.tell(share))?;
    drop(progress);
    if !found.perplexity.is_finite() {
        tell!("warning: a loss of {} has a perplexity beyond what a number holds", found.loss);
    }
    if arguments.json {
        say!("{}", serde_json::to_string(&found)?);
    } else {
        say!("loss          {:.4} nats a token", found.loss);
        say!("perplexity    {:.4}", found.perplexity);
        say!("bits per byte {:.4}", found.bits_per_byte);
        if let Some(accuracy) = found.accuracy {
            say!("accuracy      {:.4} of the answers to unseen problems", accuracy);
        }
        say!("over {} tokens, model of step {}", grouped(found.tokens as u64), grouped(found.step.0));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn sample(arguments: &SampleArguments) -> Result<ExitCode> {
    let opened = open(&arguments.model)?;
    let mut recipe = opened.file.recipe.clone();
    let settings = &mut recipe.sampling;
    settings.prompt.clone_from(&arguments.prompt);
    settings.tokens = arguments.tokens.unwrap_or(settings.tokens);
    settings.temperature = arguments.temperature.unwrap_or(settings.temperature);
    settings.top_k = arguments.top_k.unwrap_or(settings.top_k);
    settings.top_p = arguments.top_p.unwrap_or(settings.top_p);
    settings.seed = arguments.seed.unwrap_or(settings.seed);
    settings.stop_at_end &= !arguments.ignore_eos;
    if let Some(fault) = recipe.validate(None).first() {
        bail!("{fault}");
    }
    opened.refuse_unreadable(&arguments.prompt)?;
    if arguments.json {
        let sampled = opened.sample(recipe.sampling, |_| anyhow::Ok(()))?;
        tell_note(&sampled.note);
        say!("{}", sampled.json(opened.step));
        return Ok(ExitCode::SUCCESS);
    }
    let mut stdout = std::io::stdout().lock();
    let mut begun = false;
    let drawn = opened.sample(recipe.sampling, |text| {
        begun = true;
        let text = if arguments.raw { text.into() } else { printed(text) };
        Ok(write!(stdout, "{text}").and_then(|()| stdout.flush())?)
    });
    if begun {
        writeln!(stdout)?;
    }
    let sampled = drawn?;
    tell_note(&sampled.note);
    if let Some(end) = sampled.end() {
        tell_note(&format!("the text is at its end with {end} (--ignore-eos goes on)"));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn prompt_of(text: Option<&str>, ids: Option<&[u32]>) -> Option<Prompt> {
    match (ids, text) {
        (Some(ids), _) => Some(Prompt::Ids(ids.to_vec())),
        (None, text) => text.map(|text| Prompt::Text(text.to_owned())),
    }
}

pub(super) fn prompt(arguments: &PromptArguments) -> Prompt {
    let given = prompt_of(arguments.prompt.as_deref(), arguments.ids.as_deref());
    given.expect("one of them is required")
}

/// What is no number is null in JSON: says so, and where it begins. A pass of its own, so only where there is some.
fn warn_non_finite(opened: &Opened, prompt: &Prompt) -> Result<()> {
    if let Some(found) = opened.non_finite(prompt)? {
        tell!("warning: {found}; such numbers are null in JSON");
    }
    Ok(())
}

pub(super) fn logits(arguments: &PromptArguments) -> Result<ExitCode> {
    let opened = open(&arguments.model)?;
    let prompt = prompt(arguments);
    let (logits, note) = opened.logits(&prompt)?;
    tell_note(&note);
    if !logits.iter().flatten().all(|logit| logit.is_finite()) {
        warn_non_finite(&opened, &prompt)?;
    }
    if arguments.json {
        let [tokens, special] = opened.tokens(&prompt)?;
        say!("{}", json!({ "tokens": tokens, "special": special, "logits": logits }));
        return Ok(ExitCode::SUCCESS);
    }
    let labels = opened.labels();
    for (position, row) in logits.iter().enumerate() {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|&a, &b| falling(row[a], row[b]));
        let best: Vec<_> = order.iter().take(5).map(|&id| format!("{} {:+.3}", labels[id], row[id])).collect();
        say!("{position:>4}  {}", best.join("   "));
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn attention(arguments: &PromptArguments) -> Result<ExitCode> {
    let (opened, prompt) = (open(&arguments.model)?, prompt(arguments));
    let snapshot = opened.attention(&prompt)?;
    tell_note(&snapshot.note);
    if !snapshot.non_finite.is_empty() {
        warn_non_finite(&opened, &prompt)?;
    }
    let length = snapshot.tokens.len();
    let heads = |layer| (0..snapshot.heads).map(move |head| HeadId { layer, head });
    if arguments.json {
        let weights: Vec<Vec<Vec<&[f32]>>> = (0..snapshot.layers)
            .map(|layer| heads(layer).map(|id| snapshot.head(id).chunks(length).collect()).collect())
            .collect();
        let [_, special] = opened.tokens(&prompt)?;
        let (step, tokens) = (snapshot.step, &snapshot.tokens);
        say!("{}", json!({ "step": step, "tokens": tokens, "special": special, "weights": weights }));
        return Ok(ExitCode::SUCCESS);
    }
    for head in (0..snapshot.layers).flat_map(heads) {
        say!("layer {} head {}: each token's strongest look", head.layer + 1, head.head + 1);
        for (query, row) in snapshot.head(head).chunks(length).enumerate() {
            let best = largest_place(&row[..=query]).unwrap_or(0);
            say!(
                "  {:>4} {:4} → {:>4} {:4} {:.3}",
                query,
                snapshot.tokens[query],
                best,
                snapshot.tokens[best],
                row[best]
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn export(arguments: &ExportArguments) -> Result<ExitCode> {
    let format = match arguments.format {
        Format::Hf => ExportFormat::Transformers(arguments.family.map(Into::into)),
        _ if arguments.family.is_some() => bail!("--family goes with --format hf"),
        Format::Checkpoint => ExportFormat::Checkpoint,
        Format::Safetensors => ExportFormat::Safetensors,
    };
    let kept = if arguments.best { Kept::Best } else { Kept::Last };
    tell_stand_in(&arguments.run, kept)?;
    let exported = ask::export(&arguments.run, kept, format, &arguments.out)?;
    if arguments.json {
        say!("{}", serde_json::to_string(&exported)?);
        return Ok(ExitCode::SUCCESS);
    }
    say!("wrote {} to {}", bytes_text(exported.bytes), arguments.out.display());
    if let Some(report) = exported.report {
        say!("{report}");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn import(arguments: &ImportArguments) -> Result<ExitCode> {
    let mut base = preset::find(IMPORT_PRESET).unwrap_or_else(preset::first).recipe;
    (base.training.learning_rate, base.training.final_learning_rate) = IMPORT_RATES;
    if let Some(path) = &arguments.text {
        base.data.text = TextSource::File(path.clone());
    }
    let place = Place::At(arguments.out.clone());
    let report = import::import(&arguments.model, &place, arguments.context, &base)?;
    if arguments.json {
        say!("{}", serde_json::to_string(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    let weights = grouped(report.parameters);
    say!("{}: {weights} weights, vocabulary {}; run folder {}", report.family, report.vocabulary, report.run.display());
    for note in &report.notes {
        say!("note: {note}");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn parity(arguments: &ParityArguments) -> Result<ExitCode> {
    let checks = import::parity(&arguments.folder)?;
    if arguments.json {
        let name = arguments.folder.file_name().unwrap_or_default().to_string_lossy();
        say!("{}", json!({ "case": name, "checks": checks }));
    } else {
        for check in &checks {
            let verdict = if check.passed { "passed" } else { "FAILED" };
            say!("{:10} {:9.2e}  (at most {:.0e})  {verdict}  {}", check.check, check.worst, check.bound, check.detail);
        }
    }
    Ok(if checks.iter().all(|check| check.passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn bench(arguments: &BenchArguments) -> Result<ExitCode> {
    let mut recipe = train::recipe_of(Some(&arguments.preset), None)?;
    let model = &mut recipe.model;
    for (size, wanted) in [
        (&mut model.layers, arguments.layers),
        (&mut model.heads, arguments.heads),
        (&mut model.width, arguments.width),
        (&mut model.context, arguments.context),
        (&mut recipe.training.batch, arguments.batch),
    ] {
        *size = wanted.unwrap_or(*size);
    }
    let choice = DeviceChoice::from(arguments.device.as_str());
    if let Some(threads) = arguments.threads {
        bench::limit_threads(threads);
    }
    let wanted = |kind| arguments.what == kind || arguments.what == BenchKind::All;
    if arguments.what == BenchKind::Ui {
        bail!("this build has no window to measure");
    }
    if wanted(BenchKind::Train) {
        say_timing(&bench::train(&recipe, arguments.vocabulary, arguments.steps, &choice)?, "step", arguments.json)?;
    }
    if wanted(BenchKind::Sample) {
        say_timing(&bench::sample(&recipe, arguments.vocabulary, &choice)?, "token", arguments.json)?;
    }
    if wanted(BenchKind::Watch) {
        say_watching(&bench::watch(&recipe, &choice)?, arguments.json)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn say_timing(timing: &bench::Timing, each: &str, json: bool) -> Result<()> {
    if json {
        say!("{}", serde_json::to_string(timing)?);
        return Ok(());
    }
    let ms = timing.ms_per_step.or(timing.ms_per_token).unwrap_or_default();
    let (weights, rate) = (grouped(timing.parameters), grouped(timing.tokens_per_sec as u64));
    let memory = timing.peak_memory_bytes.map_or_else(String::new, |bytes| format!(", at most {}", bytes_text(bytes)));
    say!(
        "{}, {} threads, {weights} weights: {ms:.2} ms a {each} (median), {rate} tokens/s{memory}",
        timing.engine,
        timing.threads
    );
    Ok(())
}

fn say_watching(found: &bench::Watching, json: bool) -> Result<()> {
    if json {
        say!("{}", serde_json::to_string(found)?);
        return Ok(());
    }
    let bench::Watching { heads, probe_tokens, tokens_per_sec, tokens_per_sec_watched, snapshots_per_sec, .. } = found;
    say!(
        "{heads} heads of {probe_tokens}² watched: {} tokens/s with {snapshots_per_sec:.1} snapshots a second, {} without \
         ({:+.1} %)",
        grouped(*tokens_per_sec_watched as u64),
        grouped(*tokens_per_sec as u64),
        100.0 * (tokens_per_sec_watched / tokens_per_sec - 1.0)
    );
    Ok(())
}

pub(super) fn doctor(arguments: &DoctorArguments) -> Result<ExitCode> {
    if arguments.list {
        say!("{}", serde_json::to_string(&ask::list_adapters())?);
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(name), Some(trial)) = (&arguments.probe, &arguments.trial) {
        // The parent reads the last line of what is printed.
        let (code, line) = match Trial::run(trial, name) {
            Ok(finding) if finding.is_sound() => (0, finding.to_string()),
            Ok(finding) => (UNSOUND, finding.to_string()),
            Err(error) => (1, format!("{error:#}")),
        };
        say!("{line}");
        return Ok(ExitCode::from(code));
    }
    let quiet = arguments.json;
    let model = train::recipe_of(arguments.preset.as_deref(), arguments.recipe.as_deref())?.model;
    let choice = DeviceChoice::from(arguments.device.as_str());
    let found = ask::diagnose(&choice, &model, TRIAL_VOCABULARY, arguments.fault, arguments.insist, &mut |what| {
        if !quiet {
            tell!("{what}");
        }
    });
    if arguments.json {
        say!("{}", serde_json::to_string(&found)?);
    } else {
        match (&found.trouble, found.adapters.as_slice()) {
            (Some(why), _) => say!("adapters: could not be listed: {why}"),
            (None, []) => say!("adapters: none"),
            (None, adapters) => {
                say!("adapters:");
                for adapter in adapters {
                    say!("  {} ({}, {:?})", adapter.name, adapter.engine, adapter.class);
                }
            }
        }
        match (&found.chosen, &found.error) {
            (Some(report), _) => say!("{}: {} through {}: {}", found.asked, report.name, report.engine, report.reason),
            (None, error) => say!("{}: {}", found.asked, error.as_deref().unwrap_or("nothing")),
        }
    }
    Ok(if found.error.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) fn tell_note(note: &str) {
    if !note.is_empty() {
        tell!("note: {note}");
    }
}
