//! The model and its training, held to what the papers say.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use headlight::lab::handle::RunHandle;
use headlight::protocol::{
    Command, DeviceChoice, Event, HeadId, Look, Outcome, RunState, SampleEvent, SampleRequest, Step, StepReport,
};
use headlight::protocol::{Origin, Place, RunSpec};
use headlight::recipe::{Recipe, TrainingRecipe};
use headlight::runs::{Checkpoint, Kept, Owner};
use headlight::text::TokenId;
use headlight::train::{Probe, Seen, logits};

use crate::{small_dataset, small_recipe, small_trainer};

/// burn's Flex has one generator of random numbers for the whole process: only one trainer with dropout at a time.
static DROPOUT: Mutex<()> = Mutex::new(());

fn ids(numbers: &[u32]) -> Vec<TokenId> {
    numbers.iter().map(|&number| TokenId(number)).collect()
}

#[test]
fn the_schedule_is_nanogpts() {
    let training = TrainingRecipe {
        learning_rate: 1e-3,
        final_learning_rate: 1e-4,
        warmup_steps: 100,
        steps: 2000,
        ..small_recipe().training
    };
    let close = |step, wanted: f64| {
        let found = training.learning_rate_at(step);
        assert!((found - wanted).abs() < 1e-12, "step {step}: {found} is not {wanted}");
    };
    close(0, 1e-3 / 101.0);
    close(99, 1e-3 * 100.0 / 101.0);
    close(100, 1e-3);
    close(1050, 5.5e-4);
    close(2000, 1e-4);
}

#[test]
fn attention_is_causal_and_a_later_token_changes_nothing_before_it() {
    let trainer = small_trainer(small_recipe());
    let (model, device) = (trainer.validation_model(), headlight::device::cpu());
    let one = logits(&model, &ids(&[1, 5, 3, 7]), &device);
    let other = logits(&model, &ids(&[1, 5, 3, 2]), &device);
    assert_eq!(one[..3], other[..3]);
    assert_ne!(one[3], other[3]);

    let probe = Probe { ids: ids(&[1, 5, 3, 7]), note: String::new() };
    let snapshot = Seen {
        model: &model,
        recipe: &trainer.recipe().model,
        tokenizer: &trainer.dataset().tokenizer,
        device: &device,
        step: Step(0),
    }
    .attention(&probe);
    assert_eq!((snapshot.layers, snapshot.heads, snapshot.weights.len()), (2, 2, 2 * 2 * 4 * 4));
    for (layer, head) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let rows = snapshot.head(HeadId { layer, head });
        for (query, row) in rows.chunks(4).enumerate() {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{row:?}");
            assert!(row[query + 1..].iter().all(|&weight| weight == 0.0), "{row:?}");
            assert!(row[..=query].iter().all(|&weight| weight > 0.0), "{row:?}");
        }
    }
}

#[test]
fn a_fresh_model_knows_nothing_and_learns() {
    let mut trainer = small_trainer(small_recipe());
    let uniform = (trainer.dataset().tokenizer.vocabulary() as f32).ln();
    let first = trainer.step().expect("finite").loss;
    assert!((first - uniform).abs() < 0.05, "{first} is not near {uniform}");
    let last = (0..39).map(|_| trainer.step().expect("finite").loss).last().expect("steps");
    assert!(last < first - 0.2, "{first} → {last}");
}

#[test]
fn dropout_changes_training_but_not_evaluation() {
    let _alone = DROPOUT.lock().unwrap_or_else(PoisonError::into_inner);
    let mut recipe = small_recipe();
    let plain = small_trainer(recipe.clone()).step().expect("finite").loss;
    recipe.model.dropout = 0.5;
    let mut trainer = small_trainer(recipe.clone());
    assert_eq!(trainer.evaluate(&mut || true), small_trainer(small_recipe()).evaluate(&mut || true));
    let dropped = trainer.step().expect("finite").loss;
    assert_ne!(plain, dropped);
    // The same seed drops the same activations.
    assert_eq!(dropped, small_trainer(recipe).step().expect("finite").loss);
}

#[test]
fn each_step_draws_a_batch_of_its_own() {
    let mut recipe = small_recipe();
    // Too small to change a weight: only the batch can make the loss differ.
    (recipe.training.learning_rate, recipe.training.final_learning_rate) = (1e-30, 0.0);
    recipe.training.weight_decay = 0.0;
    let mut trainer = small_trainer(recipe);
    let losses: Vec<f32> = (0..4).map(|_| trainer.step().expect("finite").loss).collect();
    for (index, loss) in losses.iter().enumerate() {
        assert!(!losses[index + 1..].contains(loss), "a batch came again: {losses:?}");
    }
}

#[test]
fn an_evaluation_can_be_called_off() {
    let trainer = small_trainer(small_recipe());
    let mut batches = 0;
    let found = trainer.evaluate(&mut || {
        batches += 1;
        batches < 3
    });
    assert_eq!((found, batches), (None, 3));
}

#[test]
fn interrupted_training_is_the_same_bit_for_bit() {
    let _alone = DROPOUT.lock().unwrap_or_else(PoisonError::into_inner);
    let mut recipe = small_recipe();
    recipe.model.dropout = 0.1;
    recipe.model.biases = true.into();
    recipe.model.tied_head = false;
    let mut whole = small_trainer(recipe.clone());
    let wanted: Vec<f32> = (0..8).map(|_| whole.step().expect("finite").loss).collect();

    let mut first = small_trainer(recipe.clone());
    let mut found: Vec<f32> = (0..4).map(|_| first.step().expect("finite").loss).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("last.safetensors");
    let state = headlight::runs::TrainingState {
        step: first.step_count(),
        learning_rate: recipe.training.learning_rate,
        final_learning_rate: recipe.training.final_learning_rate,
        elapsed_secs: 0.0,
        best_validation_loss: None,
    };
    let owner = Owner::new(&recipe.model, &first.dataset().tokenizer);
    Checkpoint::save(&path, &first.validation_model(), first.optimizer(), state, &owner).expect("saved");
    let device = headlight::device::cpu();
    let checkpoint = Checkpoint::load(&path, &owner, &device).expect("loaded");
    assert_eq!(checkpoint.state, state);
    let Checkpoint { model, optimizer, state } = checkpoint;
    let mut second = headlight::train::Trainer::resume(recipe, small_dataset(), device, model, optimizer, state.step);
    found.extend((0..4).map(|_| second.step().expect("finite").loss));
    assert_eq!(found, wanted);
}

/// A run in a folder of its own, followed until `until` says so.
pub(crate) struct Followed {
    pub handle: RunHandle,
    pub events: Vec<Event>,
    pub folder: tempfile::TempDir,
}

impl Followed {
    pub fn start(recipe: Recipe, start_paused: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let origin = Origin::New { recipe: Box::new(recipe), place: Place::At(folder.path().join("run")) };
        Self::open(origin, start_paused, folder)
    }

    pub fn open(origin: Origin, start_paused: bool, folder: tempfile::TempDir) -> Self {
        let spec = RunSpec {
            despite_memory: true,
            origin,
            device: DeviceChoice::Cpu,
            insist: false,
            stop_at: None,
            start_paused,
            attention_per_sec: 100.0,
        };
        Self { handle: RunHandle::start(spec, Arc::new(|| ())), events: Vec::new(), folder }
    }

    pub fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.handle.next_within(Duration::from_secs(60)).expect("the worker answers in time");
            self.events.push(event.clone());
            if wanted(&event) {
                return event;
            }
        }
    }

    /// The first look that is wanted.
    pub fn until_look(&self, wanted: impl Fn(&Look) -> bool) -> Arc<Look> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            match self.handle.take_look() {
                Some(look) if wanted(&look) => return look,
                _ => assert!(Instant::now() < end, "no such look came in time"),
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn until_state(&mut self, state: RunState) {
        self.until(|event| matches!(event, Event::StateChanged(found) if *found == state));
    }

    fn steps(&self) -> Vec<StepReport> {
        self.events
            .iter()
            .flat_map(|event| if let Event::Progress(steps) = event { steps.clone() } else { Vec::new() })
            .collect()
    }
}

#[test]
fn the_worker_steps_pauses_samples_and_finishes_once() {
    let mut run = Followed::start(small_recipe(), true);
    run.until_state(RunState::Paused);
    assert!(run.steps().is_empty());
    run.handle.send(Command::Step);
    run.until(|event| matches!(event, Event::Progress(_)));
    run.until_state(RunState::Paused);
    assert_eq!(run.steps().iter().map(|report| report.step).collect::<Vec<_>>(), [Step(1)]);

    let settings = headlight::recipe::SamplingRecipe { prompt: "Mira☃".into(), tokens: 5, ..small_recipe().sampling };
    run.handle.send(Command::Sample(SampleRequest { id: 7, settings }));
    let started = run.until(|event| matches!(event, Event::Sampled(SampleEvent::Started { .. })));
    assert!(
        matches!(&started, Event::Sampled(SampleEvent::Started { id: 7, prompt, note, .. }) if prompt == "Mira" && note.contains('☃')),
        "{started:?}"
    );
    run.until(|event| matches!(event, Event::Sampled(SampleEvent::Done { id: 7, .. })));
    let tokens = run.events.iter().filter(|event| matches!(event, Event::Sampled(SampleEvent::Token { .. }))).count();
    assert_eq!(tokens, 5);

    run.handle.send(Command::EvaluateWhole);
    let whole = run.until(|event| matches!(event, Event::EvaluatedWhole(_)));
    let tokens = headlight::text::Dataset::built_in(None).expect("sound").validation.len() - 1;
    assert!(
        matches!(&whole, Event::EvaluatedWhole(report) if report.step == Step(1) && report.tokens == tokens && report.loss < 4.0),
        "{whole:?}"
    );

    run.handle.send(Command::SetLearningRate(5e-4));
    run.handle.send(Command::Resume);
    run.until_state(RunState::Completed);
    let steps = run.steps();
    assert_eq!(steps.iter().map(|report| report.step.0).collect::<Vec<_>>(), (1..=40).collect::<Vec<_>>());
    assert!((steps[4].learning_rate - 5e-4).abs() < 1e-9, "{:?}", steps[4]);
    let snapshot = run.handle.take_look().expect("attention was recorded").attention.clone();
    assert!(snapshot.step > Step(0));

    run.handle.send(Command::Stop);
    assert!(matches!(run.until(|event| matches!(event, Event::Finished(_))), Event::Finished(Outcome::Stopped)));
    assert!(run.handle.next_within(Duration::from_secs(5)).is_none());
    assert!(Kept::Last.path(&run.folder.path().join("run")).is_file());
}

#[test]
fn a_pause_saves_what_was_learned() {
    let mut run = Followed::start(Recipe { training: long(), ..small_recipe() }, false);
    run.until(|event| matches!(event, Event::Progress(_)));
    run.handle.send(Command::Pause);
    run.until_state(RunState::Paused);
    // What comes after it is answered after it.
    run.handle.send(Command::SetLearningRate(9.0));
    run.until(|event| matches!(event, Event::Warning(why) if why.contains("learning rate 9")));
    let last = run.steps().last().expect("it trained").step;
    let path = Kept::Last.path(&run.folder.path().join("run"));
    let dataset = headlight::text::Dataset::built_in(None).expect("sound");
    let recipe = small_recipe();
    let owner = Owner::new(&recipe.model, &dataset.tokenizer);
    let saved = Checkpoint::load(&path, &owner, &headlight::device::cpu()).expect("it is there");
    assert_eq!(saved.state.step, last);
}

/// Long enough to be paused before its first look at the validation text.
fn long() -> headlight::recipe::TrainingRecipe {
    let training = small_recipe().training;
    headlight::recipe::TrainingRecipe { steps: 100_000, evaluation_interval: 100_000, ..training }
}

#[test]
fn a_loss_that_is_no_number_pauses_before_harm_is_done() {
    let mut run = Followed::start(small_recipe(), true);
    run.until_state(RunState::Paused);
    run.handle.send(Command::Step);
    run.until(|event| matches!(event, Event::Progress(_)));
    run.handle.send(Command::Stop);
    run.until(|event| matches!(event, Event::Finished(_)));

    // Weights that are numbers still, but of which a pass makes none, as those of a run that blows up.
    let Followed { folder, .. } = run;
    let path = Kept::Last.path(&folder.path().join("run"));
    let recipe = small_recipe();
    let dataset = headlight::text::Dataset::built_in(None).expect("sound");
    let device = headlight::device::cpu();
    let owner = Owner::new(&recipe.model, &dataset.tokenizer);
    let good = std::fs::read(&path).expect("readable");
    let checkpoint = Checkpoint::load(&path, &owner, &device).expect("loaded");
    let broken = blown_up(checkpoint.model);
    Checkpoint::save(&path, &broken, &checkpoint.optimizer, checkpoint.state, &owner).expect("saved");

    let origin = Origin::Open { folder: folder.path().join("run"), text: None };
    let mut run = Followed::open(origin, false, folder);
    let event = run.until(|event| matches!(event, Event::Diverged { .. }));
    assert!(matches!(&event, Event::Diverged { step: Step(1), message } if message.contains("step 2")), "{event:?}");
    assert!(run.steps().is_empty());

    // Not even a stop with something to save writes it down.
    let before = std::fs::read(&path).expect("readable");
    run.handle.send(Command::SetLearningRate(1e-4));
    run.handle.send(Command::Stop);
    assert!(matches!(run.until(|event| matches!(event, Event::Finished(_))), Event::Finished(Outcome::Stopped)));
    assert!(std::fs::read(&path).expect("readable") == before);
    let Followed { folder, .. } = run;
    let origin = Origin::Open { folder: folder.path().join("run"), text: None };
    let mut run = Followed::open(origin, false, folder);
    run.until(|event| matches!(event, Event::Diverged { .. }));

    // Nothing of it is saved, going on is refused, and going back mends it.
    std::fs::write(&path, &good).expect("written");
    run.handle.send(Command::Checkpoint);
    run.handle.send(Command::Resume);
    run.until(|event| matches!(event, Event::Warning(why) if why.contains("nothing was saved")));
    run.until(|event| matches!(event, Event::Warning(why) if why.contains("go back")));
    assert!(std::fs::read(&path).expect("readable") == good);
    run.handle.send(Command::Rollback);
    run.until(|event| matches!(event, Event::WentBack { step: Step(1), .. }));
    run.handle.send(Command::Resume);
    run.until_state(RunState::Completed);
    assert_eq!(run.steps().first().map(|report| report.step), Some(Step(2)));
}

fn blown_up(model: headlight::model::Gpt) -> headlight::model::Gpt {
    use burn::module::{Module, ModuleMapper, Param};
    use burn::tensor::Tensor;
    struct BlowUp;
    impl ModuleMapper for BlowUp {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| tensor.mul_scalar(1e30))
        }
    }
    model.valid().map(&mut BlowUp)
}
