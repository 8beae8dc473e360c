//! Jobs that look into a model: what its heads do, what they are worth, what is predicted on the way; and runs made from it.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use serde_json::{Map, Value, json};

use super::args::{
    EffectsArguments, ForkArguments, HeadsArguments, LensArguments, OffName, PageArguments, PruneArguments,
};
use super::progress::Progress;
use super::questions::{open, prompt, prompt_of, tell_note};
use crate::findings::{Page, lens_name};
use crate::lab::jobs::branch;
use crate::protocol::{HeadId, Off, Place, Role, RoleScores, Step, Switches, Target, View, falling};
use crate::recipe::bytes_text;
use crate::runs::{RunFolder, write_file};

impl From<OffName> for Off {
    fn from(name: OffName) -> Self {
        match name {
            OffName::Zero => Self::Zero,
            OffName::Mean => Self::Mean,
        }
    }
}

pub(super) fn heads(arguments: &HeadsArguments) -> Result<ExitCode> {
    let opened = open(&arguments.model)?;
    let prompt = prompt_of(arguments.prompt.as_deref(), arguments.ids.as_deref());
    let (scores, note) = opened.heads(prompt.as_ref())?;
    tell_note(&note);
    if arguments.json {
        let table = |role: Role| -> Value {
            let layer = |layer: &Vec<RoleScores>| layer.iter().map(|head| head.of(role)).collect::<Vec<f32>>();
            json!(scores.iter().map(layer).collect::<Vec<_>>())
        };
        let mut all: Map<String, Value> =
            Role::ALL.into_iter().map(|role| (role.name().to_owned(), table(role))).collect();
        all.insert("step".into(), json!(opened.step));
        say!("{}", Value::Object(all));
        return Ok(ExitCode::SUCCESS);
    }
    say!("head     previous  current    first  duplicate  induction");
    for (layer, heads) in scores.iter().enumerate() {
        for (head, scores) in heads.iter().enumerate() {
            let RoleScores { previous, current, first, duplicate, induction } = scores;
            let role = scores.role().map_or("", Role::text);
            say!(
                "{:<8} {previous:8.3} {current:8.3} {first:8.3} {duplicate:10.3} {induction:10.3}  {role}",
                format!("{}.{}", layer + 1, head + 1)
            );
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn effects(arguments: &EffectsArguments) -> Result<ExitCode> {
    let opened = open(&arguments.model)?;
    let mut progress = Progress::new("measuring");
    let text = arguments.text.as_deref();
    let found = opened.effects(arguments.off.into(), text, &mut |share| progress.tell(share))?;
    drop(progress);
    let without = found.heads.iter().chain(&found.mlps).flatten().filter(|effect| !effect.is_finite()).count();
    if without > 0 {
        tell!("warning: without {without} of its parts the model's loss is no number; such effects are null in JSON");
    }
    if arguments.json {
        let heads: Vec<_> = found.heads.chunks(found.heads_per_layer).collect();
        let (step, off, loss, tokens) = (found.step, found.off, found.loss, found.tokens);
        say!(
            "{}",
            json!({ "step": step, "off": off, "loss": loss, "tokens": tokens, "heads": heads, "mlps": found.mlps })
        );
        return Ok(ExitCode::SUCCESS);
    }
    say!("loss {:.4} over {} tokens; without a part it is so much higher:", found.loss, found.tokens);
    let mut parts: Vec<(String, f32)> = Vec::new();
    for (place, effect) in found.heads.iter().enumerate() {
        let (layer, head) = (place / found.heads_per_layer + 1, place % found.heads_per_layer + 1);
        parts.extend(effect.map(|effect| (format!("layer {layer} head {head}"), effect)));
    }
    for (layer, effect) in found.mlps.iter().enumerate() {
        parts.extend(effect.map(|effect| (format!("layer {} MLP", layer + 1), effect)));
    }
    parts.sort_by(|one, other| falling(one.1, other.1));
    for (name, effect) in parts {
        say!("{name:<20} {effect:+.4}");
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn lens(arguments: &LensArguments) -> Result<ExitCode> {
    let opened = open(&arguments.prompt.model)?;
    let prompt = prompt_of(arguments.prompt.prompt.as_deref(), arguments.prompt.ids.as_deref());
    let target = arguments.attribute.map(|position| Target { position, token: arguments.token });
    let prompt = prompt.expect("one of them is required");
    let (look, note) = opened.lens(&prompt, target)?;
    tell_note(&note);
    if let Some(found) = look.non_finite {
        tell!("warning: {found}; such numbers are null in JSON");
    }
    let (Some(lens), labels) = (look.lens, opened.labels()) else { return Ok(ExitCode::FAILURE) };
    let cells = |row: usize| (0..lens.positions).map(move |position| (row, position));
    if arguments.prompt.json {
        let token = |&(id, probability): &(u32, f32)| json!({ "id": id, "token": labels[id as usize], "probability": probability });
        let mut all = Map::new();
        all.insert("step".into(), json!(opened.step));
        all.insert("tokens".into(), json!(look.attention.tokens));
        let [_, special] = opened.tokens(&prompt)?;
        all.insert("special".into(), special);
        for row in 0..lens.rows() {
            let likeliest = |(row, position)| lens.at(row, position).iter().map(token).collect::<Vec<_>>();
            all.insert(lens_name(row), json!(cells(row).map(likeliest).collect::<Vec<_>>()));
        }
        if let Some(found) = &look.attribution {
            all.insert("attribution".into(), json!(found));
        }
        say!("{}", Value::Object(all));
        return Ok(ExitCode::SUCCESS);
    }
    for row in 0..lens.rows() {
        let best = cells(row).filter_map(|(row, position)| lens.at(row, position).first());
        let best: Vec<String> =
            best.map(|(id, probability)| format!("{} {:.0}%", labels[*id as usize], 100.0 * probability)).collect();
        say!("{:<24} {}", lens_name(row), best.join("  "));
    }
    if let Some(found) = &look.attribution {
        let label = &labels[found.token as usize];
        say!("logit of '{label}' after position {}: {:.4}, of which", found.position, found.logit);
        let per_layer = found.heads.len() / found.mlps.len().max(1);
        say!("{:<20} {:+.4}", "embedding", found.embedding);
        for (layer, mlp) in found.mlps.iter().enumerate() {
            for (head, part) in found.heads[layer * per_layer..][..per_layer].iter().enumerate() {
                say!("{:<20} {part:+.4}", format!("layer {} head {}", layer + 1, head + 1));
            }
            say!("{:<20} {mlp:+.4}", format!("layer {} MLP", layer + 1));
        }
        say!("{:<20} {:+.4}", "biases", found.biases);
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn page(PageArguments { prompt: arguments, out }: &PageArguments) -> Result<ExitCode> {
    let (attention, roles) = open(&arguments.model)?.attention_and_roles(&prompt(arguments))?;
    tell_note(&attention.note);
    // A run may be named `.` or `..`.
    let folder = std::fs::canonicalize(&arguments.model.run)?;
    let run = folder.file_name().unwrap_or_default().to_string_lossy();
    let (view, roles) = (View::default(), Some(&roles));
    let page = Page { run: &run, attention: &attention, view: &view, roles, effects: None };
    let html = page.html().map_err(anyhow::Error::msg)?;
    write_file(out, html.as_bytes())?;
    if arguments.json {
        say!("{}", json!({ "bytes": html.len() }));
    } else {
        say!("wrote {} to {}", bytes_text(html.len() as u64), out.display());
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn fork(arguments: &ForkArguments) -> Result<ExitCode> {
    let mut changed = RunFolder::read(&arguments.run)?.recipe;
    let base = changed.clone();
    if let Some(path) = &arguments.recipe {
        let preset = crate::lab::file_worker::open_preset(path).map_err(anyhow::Error::msg)?;
        let crate::recipe::Recipe { model, training, .. } = preset.recipe;
        changed = crate::recipe::Recipe { model, training, ..changed };
    }
    let training = &mut changed.training;
    if let Some(steps) = arguments.steps {
        training.steps = steps;
        // As for a new run.
        training.warmup_steps = training.warmup_steps.min(steps);
    }
    training.seed = arguments.seed.unwrap_or(training.seed);
    if let Some(rate) = arguments.learning_rate {
        training.final_learning_rate *= rate / training.learning_rate;
        training.learning_rate = rate;
    }
    let changes = (changed != base).then_some(&changed);
    let run = branch::fork(&arguments.run, Step(arguments.step), &Place::At(arguments.out.clone()), changes)?;
    say!("{}: goes on from step {} of {}", run.display(), arguments.step, arguments.run.display());
    Ok(ExitCode::SUCCESS)
}

pub(super) fn prune(arguments: &PruneArguments) -> Result<ExitCode> {
    let opened = open(&arguments.model)?;
    let mut switches = Switches::default();
    for name in &arguments.heads {
        let numbers = name.split_once('.').and_then(|(layer, head)| Some((layer.parse().ok()?, head.parse().ok()?)));
        let numbers = numbers.filter(|&(layer, head): &(usize, usize)| layer > 0 && head > 0);
        ensure!(numbers.is_some(), "'{name}' is no head: write layer.head, counted from 1, as 2.1");
        let (layer, head) = numbers.unwrap_or_default();
        switches.heads.insert(HeadId { layer: layer - 1, head: head - 1 }, arguments.off.into());
    }
    let run = opened.prune(&switches, &Place::At(arguments.out.clone()))?;
    say!("{}: step {} without {}", run.display(), opened.step.0, switches.counted());
    Ok(ExitCode::SUCCESS)
}
