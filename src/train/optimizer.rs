//! AdamW with decay groups and one global gradient norm, as nanoGPT sets PyTorch's up.
//!
//! burn's own optimizer clips each tensor by itself and keeps its state in records that open on the default device;
//! here the norm is that of all gradients together and the state is plain tensors with the weights' names.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor};

use crate::kernels::{self, AdamWUpdate};
use crate::model::{Gpt, values_of};
use crate::recipe::TrainingRecipe;

/// Added to the root of the second moment (nanoGPT and PyTorch: 1e-8).
const EPSILON: f64 = 1e-8;

/// First and second moment of one weight tensor, flat, in the order of the model's parameters.
#[derive(Debug, Clone)]
pub struct Moments {
    pub first: Tensor<1>,
    pub second: Tensor<1>,
}

/// Decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2). Tensors of one axis are only decayed
/// where the recipe says so.
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

    /// The numbers of each, on the host.
    #[must_use]
    pub fn values(self) -> Vec<Vec<f32>> {
        self.0.into_iter().map(values_of).collect()
    }

    /// Sum of the squares of all gradients, `[1]`.
    #[must_use]
    pub fn square_sum(&self) -> Tensor<1> {
        let sums = self.0.iter().map(|gradient| kernels::square_sum(gradient.clone()));
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
            decay_vectors: recipe.decay_vectors,
            numbers: AdamWUpdate {
                gradient_scale: scale,
                learning_rate,
                weight_decay: recipe.weight_decay,
                beta_1: recipe.beta_1,
                beta_2: recipe.beta_2,
                epsilon: EPSILON,
                correction_1: 1.0 - recipe.beta_1.powi(updates),
                correction_2: 1.0 - recipe.beta_2.powi(updates),
            },
        };
        let model = model.map(&mut update);
        self.moments = update.done;
        model
    }
}

struct Update {
    pairs: std::iter::Zip<std::vec::IntoIter<Moments>, std::vec::IntoIter<Tensor<1>>>,
    done: Vec<Moments>,
    decay_vectors: bool,
    numbers: AdamWUpdate,
}

impl ModuleMapper for Update {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let (id, weight, mapper) = param.consume();
        let (Moments { first, second }, gradient) = self.pairs.next().expect("a gradient for each weight");
        let decay = if D >= 2 || self.decay_vectors { self.numbers.weight_decay } else { 0.0 };
        let numbers = AdamWUpdate { weight_decay: decay, ..self.numbers };
        let (weight, first, second) = kernels::adamw(weight.inner(), gradient, first, second, numbers);
        self.done.push(Moments { first, second });
        Param::from_mapped_value(id, Tensor::from_inner(weight).require_grad(), mapper)
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;

    use super::*;
    use crate::device;
    use crate::train::ids_tensor;

    /// Every weight with its number of axes, in the model's order.
    fn weights(model: &Gpt) -> Vec<(usize, Vec<f32>)> {
        struct Collect(Vec<(usize, Vec<f32>)>);
        impl ModuleVisitor for Collect {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                self.0.push((D, values_of(param.val())));
            }
        }
        let mut collect = Collect(Vec::new());
        model.visit(&mut collect);
        collect.0
    }

    /// Two updates against the formula written out once more, number by number in f64.
    #[test]
    fn updates_are_those_of_the_formula() {
        let recipe = crate::preset::built_in().swap_remove(0).recipe;
        let shape = crate::recipe::ModelRecipe {
            layers: 1,
            heads: 2,
            width: 4,
            context: 3,
            biases: true.into(),
            ..recipe.model
        };
        let training = TrainingRecipe { weight_decay: 0.3, beta_1: 0.8, beta_2: 0.95, ..recipe.training };
        let device = device::cpu();
        let mut model = Gpt::new(&shape, 5, 1, &device.clone().autodiff());
        let mut optimizer = AdamW::default();
        let (rate, scale) = (0.01, 0.7);
        let mut wanted: Vec<(usize, Vec<f64>)> = weights(&model)
            .into_iter()
            .map(|(axes, values)| (axes, values.into_iter().map(f64::from).collect()))
            .collect();
        let mut moments: Vec<Vec<(f64, f64)>> =
            wanted.iter().map(|(_, values)| vec![(0.0, 0.0); values.len()]).collect();
        for update in 1..=2 {
            let ids = ids_tensor(vec![0, 3, 1], 1, 3, &device.clone().autodiff());
            let mut gradients = (model.forward(ids).powi_scalar(2).sum()).backward();
            let gradients = FlatGradients::of(&model, &mut gradients);
            let flat: Vec<Vec<f32>> = gradients.0.iter().cloned().map(values_of).collect();
            let squares: f64 = flat.iter().flatten().map(|&gradient| f64::from(gradient).powi(2)).sum();
            let found = f64::from(values_of(gradients.square_sum())[0]);
            assert!((found / squares - 1.0).abs() < 1e-5, "{found} is not {squares}");
            model = optimizer.update(model, gradients, scale, rate, &training);
            for (((axes, values), moments), gradients) in wanted.iter_mut().zip(&mut moments).zip(flat) {
                for ((value, (first, second)), gradient) in values.iter_mut().zip(moments).zip(gradients) {
                    let gradient = f64::from(gradient) * scale;
                    *first = 0.8 * *first + 0.2 * gradient;
                    *second = 0.95 * *second + 0.05 * gradient * gradient;
                    let (mean, variance) =
                        (*first / (1.0 - 0.8_f64.powi(update)), *second / (1.0 - 0.95_f64.powi(update)));
                    let decay = if *axes >= 2 { 0.3 } else { 0.0 };
                    *value -= rate * (mean / (variance.sqrt() + 1e-8) + decay * *value);
                }
            }
            for ((_, found), (_, wanted)) in weights(&model).into_iter().zip(&wanted) {
                let apart = found.iter().zip(wanted).map(|(&a, &b)| (f64::from(a) - b).abs()).fold(0.0, f64::max);
                assert!(apart < 1e-6, "update {update}: {apart}");
            }
        }
    }
}
