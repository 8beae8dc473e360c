//! The rows of the training: its length and rates, the optimizer, the evaluation.

use eframe::egui::Ui;

use super::rows::{Named, Rows};
use crate::recipe::Field;

impl Rows<'_> {
    pub fn training(&mut self, ui: &mut Ui) {
        let named = Named { name: "Batch", tip: "Windows of text in one step." };
        self.number(ui, named, Some(Field::Batch), 0.2, |r| &mut r.training.batch);
        let named = Named { name: "Steps", tip: "Length of the run; the learning rate ends its fall here." };
        self.number(ui, named, Some(Field::Steps), 10.0, |r| &mut r.training.steps);
        let named = Named { name: "Learning rate", tip: "Size of a step at its peak; a change applies at once." };
        self.magnitude(ui, named, Field::LearningRate, |r| &mut r.training.learning_rate);
        let named = Named { name: "Final learning rate", tip: "Where the learning rate ends after its fall." };
        self.magnitude(ui, named, Field::FinalLearningRate, |r| &mut r.training.final_learning_rate);
        let named = Named { name: "Warm-up steps", tip: "Steps in which the learning rate climbs to its peak." };
        self.number(ui, named, Some(Field::WarmupSteps), 1.0, |r| &mut r.training.warmup_steps);
    }

    pub fn optimizer(&mut self, ui: &mut Ui) {
        let named = Named { name: "Weight decay", tip: "Pull of matrices towards zero, apart from the gradient." };
        self.fraction(ui, named, Field::WeightDecay, |r| &mut r.training.weight_decay);
        let tip = "Whether biases and norms are pulled towards zero too; nanoGPT leaves them out.";
        self.switch(ui, Named { name: "Decay vectors too", tip }, |r| &mut r.training.decay_vectors);
        let named = Named { name: "β1", tip: "How long AdamW remembers the gradient." };
        self.fraction(ui, named, Field::Beta1, |r| &mut r.training.beta_1);
        let named = Named { name: "β2", tip: "How long AdamW remembers the gradient's size." };
        self.fraction(ui, named, Field::Beta2, |r| &mut r.training.beta_2);
        let named = Named { name: "Gradient clip", tip: "Largest norm of the whole gradient; 0 leaves it as it is." };
        self.fraction(ui, named, Field::GradientClip, |r| &mut r.training.gradient_clip);
        let named = Named { name: "Seed", tip: "The same seed, recipe and text give the same run." };
        self.number(ui, named, None, 1.0, |r| &mut r.training.seed);
    }

    pub fn evaluation(&mut self, ui: &mut Ui) {
        let tip = "Steps from one measurement of the validation loss to the next.";
        let named = Named { name: "Evaluation interval", tip };
        self.number(ui, named, Some(Field::EvaluationInterval), 1.0, |r| &mut r.training.evaluation_interval);
        let named = Named { name: "Evaluation batches", tip: "Random batches of each part in one measurement." };
        self.number(ui, named, Some(Field::EvaluationBatches), 0.1, |r| &mut r.training.evaluation_batches);
        let tip = "Room on disk for the weights of earlier steps, in millions of bytes; 0 keeps none. The timeline goes back to them.";
        let named = Named { name: "Timeline, MB", tip };
        self.number(ui, named, Some(Field::Timeline), 10.0, |r| &mut r.training.timeline_megabytes);
    }

    /// Faults of fields that other panes edit.
    pub fn elsewhere(&self, ui: &mut Ui) {
        for field in [Field::Probe, Field::SampleTokens, Field::Temperature, Field::TopP] {
            self.fault(ui, field);
        }
    }
}
