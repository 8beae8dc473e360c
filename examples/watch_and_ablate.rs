//! Trains a small model, watches what its attention heads come to do, and ablates one after the other: no window, no files.
//!
//! `cargo run --release --example watch_and_ablate` takes some seconds; a number behind `--` asks for other steps than 700.
//!
//! The text is of random letters that come again, so that a model of two layers has to find induction (Olsson et al. 2022):
//! a head of layer 0 looks one token back, and heads of layer 1 look to what followed the same letter before. Without either
//! the loss goes back to what it was before they found each other.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use headlight::model::Gpt;
use headlight::protocol::{HeadId, Off, Role, RoleScores, Switches};
use headlight::text::Dataset;
use headlight::train::{Seen, Trainer, evaluate_whole, switched};
use headlight::{device, preset};

fn main() -> Result<(), Box<dyn Error>> {
    let steps = std::env::args().nth(1).map_or(Ok(700), |steps| steps.parse())?;
    for line in watch_and_ablate(steps)? {
        println!("{line}");
    }
    Ok(())
}

/// Trains for so many steps; returns what was seen, a line each.
pub fn watch_and_ablate(steps: u64) -> Result<Vec<String>, Box<dyn Error>> {
    let recipe = preset::find("induction").ok_or("there is no such preset")?.recipe;
    let dataset = Dataset::read(&recipe.data.text, None, &mut |_progress| true)?;
    let faults = recipe.validate(Some(dataset.tokenizer.vocabulary()));
    if let Some(fault) = faults.into_iter().next() {
        return Err(fault.into());
    }
    let mut trainer = Trainer::new(recipe, Arc::new(dataset), device::cpu());
    let mut lines = Vec::new();

    // Train, and watch: the loss, and for each head the role that it comes closest to, by its score on the standard test.
    for step in 1..=steps {
        let found = trainer.step()?;
        if step % 100 == 0 || step == steps {
            lines.push(format!("step {step}: loss {:.3}, {}", found.loss, roles(&trainer).join(", ")));
        }
    }

    // Ablate: the loss on text that was not trained on, with each head in turn writing nothing.
    let (recipe, model) = (&trainer.recipe().model, trainer.validation_model());
    let loss = loss_of(&trainer, &model);
    lines.push(format!("validation loss {loss:.3}"));
    for head in heads(&trainer) {
        let switches = Switches { heads: BTreeMap::from([(head, Off::Zero)]), ..Switches::default() };
        let without = loss_of(&trainer, &switched(&model, recipe, &switches, None));
        let HeadId { layer, head } = head;
        lines.push(format!("without head {layer}.{head}: {without:.3} ({:+.3})", without - loss));
    }
    Ok(lines)
}

fn heads(trainer: &Trainer) -> impl Iterator<Item = HeadId> {
    let (layers, heads) = (trainer.recipe().model.layers, trainer.recipe().model.heads);
    (0..layers).flat_map(move |layer| (0..heads).map(move |head| HeadId { layer, head }))
}

fn roles(trainer: &Trainer) -> Vec<String> {
    let (model, device) = (trainer.validation_model(), trainer.device());
    let (recipe, tokenizer) = (&trainer.recipe().model, &trainer.dataset().tokenizer);
    let report = Seen { model: &model, recipe, tokenizer, device, step: trainer.step_count() }.tested_roles();
    let highest = |scores: &RoleScores| Role::ALL.into_iter().max_by(|a, b| scores.of(*a).total_cmp(&scores.of(*b)));
    let named = heads(trainer).zip(&report.reports).filter_map(|(HeadId { layer, head }, found)| {
        highest(&found.test).map(|role| format!("{layer}.{head} {} {:.2}", role.name(), found.test.of(role)))
    });
    named.collect()
}

fn loss_of(trainer: &Trainer, model: &Gpt) -> f64 {
    let context = trainer.recipe().model.context;
    evaluate_whole(model, &trainer.dataset().validation, context, trainer.device(), &mut || true).unwrap_or(f64::NAN)
}
