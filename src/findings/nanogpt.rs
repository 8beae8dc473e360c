//! The parity run: nanoGPT's recipe for a CPU on nanoGPT's text, and how far our losses are from nanoGPT's own.
//!
//! Here stand the reference and the comparison, as plain numbers; the window starts such a run and shows them.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use crate::preset;
use crate::protocol::{ReadyReport, ValidationReport};
use crate::recipe::{Recipe, TrainingRecipe, grouped};
use crate::store::Series;

/// The preset that is run.
pub const PRESET: &str = "nanogpt-cpu";

static RECIPE: LazyLock<Option<Recipe>> = LazyLock::new(|| preset::find(PRESET).map(|preset| preset.recipe));

/// Losses of nanoGPT's own run (seed 1337) after a number of steps, each the mean of 20 random batches.
///
/// Step 0 is shown and not judged: an untrained model's loss is ln 65 = 4.174 and what the first random weights add, and
/// nothing of it is the recipe's doing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reference {
    pub step: u64,
    pub train_loss: f32,
    pub validation_loss: f32,
}

const fn reference(step: u64, train_loss: f32, validation_loss: f32) -> Reference {
    Reference { step, train_loss, validation_loss }
}

pub const REFERENCE: [Reference; 6] = [
    reference(0, 4.1676, 4.1649),
    reference(250, 2.4293, 2.4447),
    reference(500, 2.2732, 2.3141),
    reference(1000, 1.9714, 2.0528),
    reference(1500, 1.8557, 1.9225),
    reference(2000, 1.7648, 1.8857),
];
pub const LAST_STEP: u64 = REFERENCE[REFERENCE.len() - 1].step;

/// How far our validation losses may be from the reference on average. Our choice: nanoGPT's seeds lie within 0.02 of
/// each other.
pub const TOLERANCE: f32 = 0.05;
/// How far a single one may be. A mean of 20 batches is no exact figure: nanoGPT's last one is 0.0125 below its loss on the
/// whole validation text, and of a run of ours that ended at 1.9007 there the last mean was 1.9188.
const SINGLE_TOLERANCE: f32 = 0.1;
/// Where a right implementation ends on the whole validation text: nanoGPT's three seeds give 1.8982, 1.9027, 1.9128.
pub const FINAL_RANGE: RangeInclusive<f32> = 1.87..=1.93;

const CHARACTERS: usize = 1_115_394;
const VOCABULARY: usize = 65;
const TRAIN_TOKENS: usize = 1_003_854;
pub(crate) const VALIDATION_TOKENS: usize = 111_540;

/// Why a text is not the one of the reference, if so, and where that one is found.
#[must_use]
pub fn text_fault(characters: usize, vocabulary: usize) -> Option<String> {
    if (characters, vocabulary) == (CHARACTERS, VOCABULARY) {
        return None;
    }
    let [found, wanted, train, validation] =
        [characters, CHARACTERS, TRAIN_TOKENS, VALIDATION_TOKENS].map(|count| grouped(count as u64));
    Some(format!(
        "it has {found} characters, {vocabulary} of them distinct. The parity run needs tinyshakespeare: {wanted} \
         characters, {VOCABULARY} of them distinct, the first {train} to train on and the last {validation} to validate. \
         nanoGPT keeps it as data/shakespeare_char/input.txt."
    ))
}

/// Whether a run began as nanoGPT's, so that the reference says something about it. The seed is free.
#[must_use]
pub fn is_reference_run(ready: &ReadyReport) -> bool {
    let counts = (ready.vocabulary, ready.train_tokens, ready.validation_tokens);
    counts == (VOCABULARY, TRAIN_TOKENS, VALIDATION_TOKENS) && is_reference_recipe(&ready.recipe)
}

fn is_reference_recipe(recipe: &Recipe) -> bool {
    RECIPE.as_ref().is_some_and(|reference| {
        let seed = reference.training.seed;
        recipe.model == reference.model && TrainingRecipe { seed, ..recipe.training.clone() } == reference.training
    })
}

/// Why a run is not nanoGPT's recipe any more, if so. `now` is the run's recipe with what it took over since, `rates`
/// the learning rate of each step done.
#[must_use]
pub fn departure(now: &Recipe, rates: &Series) -> Option<String> {
    let training = &RECIPE.as_ref()?.training;
    let planned = |step: u64| training.learning_rate_at(step.saturating_sub(1));
    let other = |(step, rate): &(u64, f32)| (f64::from(*rate) / planned(*step) - 1.0).abs() > 1e-4;
    if let Some((step, rate)) = rates.iter().find(other) {
        let planned = planned(step);
        return Some(format!(
            "at step {} the learning rate was {rate:.2e} where nanoGPT's is {planned:.2e}",
            grouped(step)
        ));
    }
    (!is_reference_recipe(now)).then(|| "its recipe was changed while it ran".to_owned())
}

/// A step of the reference beside ours.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    pub reference: Reference,
    /// `None` as long as the run has not come so far.
    pub ours: Option<ValidationReport>,
}

impl Row {
    /// Our validation loss less nanoGPT's.
    #[must_use]
    pub fn difference(&self) -> Option<f32> {
        self.ours.map(|ours| ours.validation_loss - self.reference.validation_loss)
    }

    #[must_use]
    pub const fn is_judged(&self) -> bool {
        self.reference.step > 0
    }

    /// What is thought of it.
    #[must_use]
    pub fn remark(&self) -> String {
        match [TOLERANCE, SINGLE_TOLERANCE].map(|tolerance| self.is_within(tolerance)) {
            [None, _] => "to come".into(),
            [Some(_), _] if !self.is_judged() => "not judged".into(),
            [Some(true), _] => format!("within {TOLERANCE}"),
            [_, Some(true)] => format!("within {SINGLE_TOLERANCE}"),
            _ => format!("beyond {SINGLE_TOLERANCE}"),
        }
    }

    /// Whether it alone decides against the run.
    #[must_use]
    pub fn is_beyond(&self) -> bool {
        self.is_judged() && self.is_within(SINGLE_TOLERANCE) == Some(false)
    }

    /// Whether the difference is at most so large.
    #[must_use]
    pub fn is_within(&self, tolerance: f32) -> Option<bool> {
        self.difference().map(|difference| difference.abs() <= tolerance)
    }
}

/// What the comparison comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Steps are still to come.
    Open,
    Passed,
    NotPassed,
    /// The run was changed on the way: its losses say nothing.
    Departed,
}

/// The comparison, with its numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub rows: [Row; REFERENCE.len()],
    /// Our loss on the whole validation text at the end, where it was measured.
    pub whole: Option<f32>,
    pub departure: Option<String>,
    pub outcome: Outcome,
}

/// Compares a run with nanoGPT's: each step of the reference with the mean of its 20 batches, and the end with the whole
/// validation text where that was measured.
#[must_use]
pub fn compare(points: &[ValidationReport], whole: Option<f32>, departure: Option<String>) -> Verdict {
    let rows = REFERENCE
        .map(|reference| Row { reference, ours: points.iter().find(|point| point.step.0 == reference.step).copied() });
    let whole_is_right = whole.is_some_and(|loss| FINAL_RANGE.contains(&loss));
    let judged = || rows.iter().filter(|row| row.is_judged());
    let near = mean(judged()).is_some_and(|mean| mean <= TOLERANCE)
        && judged().all(|row| row.is_within(SINGLE_TOLERANCE) == Some(true));
    let outcome = if departure.is_some() {
        Outcome::Departed
    } else if judged().any(|row| row.ours.is_none()) {
        Outcome::Open
    } else if !near || whole.is_some() && !whole_is_right {
        Outcome::NotPassed
    } else if whole_is_right {
        Outcome::Passed
    } else {
        Outcome::Open
    };
    Verdict { rows, whole, departure, outcome }
}

/// The mean size of the difference, of those that were reached.
fn mean<'a>(rows: impl Iterator<Item = &'a Row>) -> Option<f32> {
    let differences: Vec<f32> = rows.filter_map(Row::difference).map(f32::abs).collect();
    (!differences.is_empty()).then(|| differences.iter().sum::<f32>() / differences.len() as f32)
}

impl Verdict {
    /// One or two words.
    #[must_use]
    pub const fn title(&self) -> &'static str {
        match self.outcome {
            Outcome::Open => "Not finished",
            Outcome::Passed => "Passed",
            Outcome::NotPassed => "Not passed",
            Outcome::Departed => "Not nanoGPT's recipe any more",
        }
    }

    /// What it comes to, in a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        if let Some(why) = &self.departure {
            return format!("The run left nanoGPT's recipe: {why}. Its losses say nothing about parity.");
        }
        let judged = || self.rows.iter().filter(|row| row.is_judged());
        let (all, reached) = (judged().count(), judged().filter_map(Row::difference));
        let furthest = reached.clone().max_by(|one, other| one.abs().total_cmp(&other.abs()));
        let (Some(mean), Some(furthest)) = (mean(judged()), furthest) else {
            return format!("None of the {all} steps with a reference is reached yet.");
        };
        format!(
            "{} of {all} validation losses: on average {mean:.4} from nanoGPT's (tolerance ±{TOLERANCE}), the furthest \
             {furthest:+.4} (tolerance ±{SINGLE_TOLERANCE}).",
            reached.count()
        )
    }

    /// What the numbers are, and what was not measured.
    #[must_use]
    pub fn basis(&self) -> String {
        let (low, high) = (FINAL_RANGE.start(), FINAL_RANGE.end());
        let end = match self.whole {
            Some(loss) => {
                let place = if FINAL_RANGE.contains(&loss) { "inside" } else { "outside" };
                format!(
                    "On the whole validation text the run ends at {loss:.4}, {place} {low}–{high}, where nanoGPT's \
                     three seeds end (1.8982, 1.9027, 1.9128)."
                )
            }
            None => format!(
                "The whole validation text, on which nanoGPT's three seeds end within {low}–{high}, is not \
                 measured yet: it decides."
            ),
        };
        format!(
            "Each loss is the mean of 20 random batches, and two such means of equal models differ by about 0.02. The \
             tolerances are this program's choice. Step 0 is not judged: the loss of an untrained model hangs on its \
             first random weights. {end}"
        )
    }

    /// All of it as plain text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "Parity with nanoGPT, recipe for a CPU, tinyshakespeare: {}\n{}\n\n\
             step   ours: train  val     nanoGPT: train  val     difference\n",
            self.title(),
            self.sentence()
        );
        for row in &self.rows {
            let Reference { step, train_loss, validation_loss } = row.reference;
            let [train, validation] = row.ours.map_or_else(
                || ["–".to_owned(), "–".to_owned()],
                |ours| [ours.train_loss, ours.validation_loss].map(|loss| format!("{loss:.4}")),
            );
            let difference = row.difference().map_or_else(|| "–".into(), |difference| format!("{difference:+.4}"));
            let _ = writeln!(
                text,
                "{:>5}   {train:>10}  {validation:>6}  {train_loss:>13.4}  {validation_loss:>6.4}  {difference:>10}  {}",
                grouped(step),
                row.remark()
            );
        }
        let _ = writeln!(text, "\n{}", self.basis());
        text
    }
}

#[cfg(test)]
pub(crate) mod tests;
