//! AdamW with decay groups and one global gradient norm, as nanoGPT sets PyTorch's up.
//!
//! burn's own optimizer clips each tensor by itself and keeps its state in records that open on the default device;
//! here the norm is that of all gradients together and the state is plain tensors with the weights' names.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

use crate::model::Gpt;
use crate::recipe::TrainingRecipe;

/// Added to the root of the second moment (nanoGPT and PyTorch: 1e-8).
const EPSILON: f64 = 1e-8;

/// First and second moment of one weight tensor, flat, in the order of the model's parameters.
#[derive(Debug, Clone)]
pub struct Moments {
    pub first: Tensor<1>,
    pub second: Tensor<1>,
}

/// Decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2). Only tensors of two or more axes are decayed.
#[derive(Debug, Clone, Default)]
pub struct AdamW {
    moments: Vec<Moments>,
    updates: u64,
}

/// The gradient of every parameter, flat, in the order of the model's parameters.
pub struct FlatGradients(Vec<Tensor<1>>);

impl FlatGradients {
    /// Takes the gradients of `model` out of a backward pass.
    ///
    /// # Panics
    /// If a parameter took no part in the loss.
    pub fn of(model: &Gpt, gradients: &mut Gradients) -> Self {
        struct Collect<'a>(&'a mut Gradients, Vec<Tensor<1>>);
        impl ModuleVisitor for Collect<'_> {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                let gradient = param.val().grad_remove(self.0).expect("every weight takes part in the loss");
                self.1.push(gradient.flatten(0, D - 1));
            }
        }
        let mut collect = Collect(gradients, Vec::new());
        model.visit(&mut collect);
        Self(collect.1)
    }

    /// Sum of the squares of all gradients, `[1]`.
    #[must_use]
    pub fn square_sum(&self) -> Tensor<1> {
        let sums = self.0.iter().map(|gradient| (gradient.clone() * gradient.clone()).sum());
        sums.reduce(|total, sum| total + sum).expect("a model has weights")
    }
}

impl AdamW {
    /// Goes on from a saved state: the moments in the model's order, and the updates done so far.
    #[must_use]
    pub fn resume(moments: Vec<Moments>, updates: u64) -> Self {
        Self { moments, updates }
    }

    #[must_use]
    pub fn moments(&self) -> &[Moments] {
        &self.moments
    }

    #[must_use]
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// One update of every weight. `scale` multiplies the gradients first: the clip's coefficient.
    #[must_use]
    pub fn update(
        &mut self,
        model: Gpt,
        gradients: FlatGradients,
        scale: f64,
        learning_rate: f64,
        recipe: &TrainingRecipe,
    ) -> Gpt {
        self.updates += 1;
        if self.moments.is_empty() {
            let zeros = |gradient: &Tensor<1>| Moments { first: gradient.zeros_like(), second: gradient.zeros_like() };
            self.moments = gradients.0.iter().map(zeros).collect();
        }
        let updates = i32::try_from(self.updates).unwrap_or(i32::MAX);
        let mut update = Update {
            pairs: std::mem::take(&mut self.moments).into_iter().zip(gradients.0),
            done: Vec::new(),
            scale,
            learning_rate,
            decay: recipe.weight_decay,
            beta_1: recipe.beta_1,
            beta_2: recipe.beta_2,
            correction_1: 1.0 - recipe.beta_1.powi(updates),
            correction_2: 1.0 - recipe.beta_2.powi(updates),
        };
        let model = model.map(&mut update);
        self.moments = update.done;
        model
    }
}

struct Update {
    pairs: std::iter::Zip<std::vec::IntoIter<Moments>, std::vec::IntoIter<Tensor<1>>>,
    done: Vec<Moments>,
    scale: f64,
    learning_rate: f64,
    decay: f64,
    beta_1: f64,
    beta_2: f64,
    correction_1: f64,
    correction_2: f64,
}

impl ModuleMapper for Update {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, weight, mapper) = param.consume();
        let (Moments { first, second }, gradient) = self.pairs.next().expect("a gradient for each weight");
        let gradient = if self.scale == 1.0 { gradient } else { gradient * self.scale };
        let first = first * self.beta_1 + gradient.clone() * (1.0 - self.beta_1);
        let second = second * self.beta_2 + gradient.clone() * gradient * (1.0 - self.beta_2);
        let denominator = second.clone().sqrt() / self.correction_2.sqrt() + EPSILON;
        let change = first.clone() / denominator * (self.learning_rate / self.correction_1);
        let shape = weight.shape();
        let mut weight = weight.inner();
        if D >= 2 {
            weight = weight * (1.0 - self.learning_rate * self.decay);
        }
        let weight = weight - change.reshape(shape);
        self.done.push(Moments { first, second });
        Param::from_mapped_value(id, Tensor::from_inner(weight).require_grad(), mapper)
    }
}
