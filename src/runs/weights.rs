//! A model's weights by PyTorch's names and in its layout, as nanoGPT's `GPT` module names them.
//!
//! burn multiplies `x · W` with `W` as `[input, output]`; PyTorch's `nn.Linear` keeps `[output, input]`. So matrices of
//! linear layers are turned on the way out and in; embeddings are not.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor, TensorData};

use crate::model::{Gpt, values_of};

/// Values of one tensor, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Weight {
    pub name: String,
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// Refuses what is no number: asked of every tensor that comes out of a file, under its name there, and of every one that
/// goes into a checkpoint or an export.
///
/// # Errors
/// Names the tensor, the first such value and its place.
pub(super) fn require_finite(name: &str, shape: &[usize], values: &[f32]) -> Result<(), String> {
    // Without a branch for each first: a model has many.
    if values.iter().fold(true, |all, value| all & value.is_finite()) {
        return Ok(());
    }
    let first = values.iter().position(|value| !value.is_finite()).unwrap_or(0);
    let (mut rest, mut place) = (first, Vec::new());
    for size in shape.iter().rev() {
        place.insert(0, rest % size);
        rest /= size;
    }
    let value = values[first];
    Err(format!("'{name}' holds {value} at {place:?}, which is no number"))
}

/// Every weight of the model, in the model's order. Waits for the device and copies.
pub(super) fn weights_of(model: &Gpt) -> Vec<Weight> {
    collect(model, &What::Values)
}

/// Name and shape of every weight, in the model's order, without values.
pub(super) fn shapes_of(model: &Gpt) -> Vec<Weight> {
    collect(model, &What::Shapes)
}

/// The gradient of every weight, laid out as the weight.
///
/// # Panics
/// If a weight took no part in the loss.
pub(super) fn gradients_of(model: &Gpt, gradients: &Gradients) -> Vec<Weight> {
    collect(model, &What::Gradients(gradients))
}

enum What<'a> {
    Values,
    Shapes,
    Gradients(&'a Gradients),
}

fn collect(model: &Gpt, what: &What<'_>) -> Vec<Weight> {
    struct Collect<'a> {
        path: Vec<String>,
        what: &'a What<'a>,
        found: Vec<Weight>,
    }
    impl ModuleVisitor for Collect<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let (name, turned) = pytorch_name(&self.path);
            let mut shape = param.val().dims().to_vec();
            let mut values = match self.what {
                What::Values => values_of(param.val()),
                What::Shapes => Vec::new(),
                What::Gradients(all) => values_of(param.val().grad(all).expect("every weight takes part in the loss")),
            };
            if turned {
                if !values.is_empty() {
                    values = transposed(&values, shape[0], shape[1]);
                }
                shape.reverse();
            }
            self.found.push(Weight { name, shape, values });
        }
    }
    let mut collect = Collect { path: Vec::new(), what, found: Vec::new() };
    model.visit(&mut collect);
    collect.found
}

/// Puts weights into a model of the same shape. All or nothing: names, shapes and number must agree.
///
/// # Errors
/// Names what is missing, left over or of another shape.
pub(super) fn load_weights(model: Gpt, weights: &mut HashMap<String, Weight>) -> Result<Gpt, String> {
    let wanted = shapes_of(&model);
    let mut faults = Vec::new();
    for Weight { name, shape, .. } in &wanted {
        match weights.get(name) {
            None => faults.push(format!("'{name}' is missing")),
            Some(found) if found.shape != *shape => {
                faults.push(format!("'{name}' is {:?}, the recipe makes it {shape:?}", found.shape));
            }
            Some(_) => {}
        }
    }
    let mut left_over: Vec<_> =
        weights.keys().filter(|name| !wanted.iter().any(|known| known.name == **name)).collect();
    left_over.sort();
    faults.extend(left_over.iter().map(|name| format!("'{name}' is left over")));
    if !faults.is_empty() {
        return Err(format!("the weights do not fit the recipe: {}", listed(faults)));
    }
    struct Load<'a>(Vec<String>, &'a mut HashMap<String, Weight>);
    impl ModuleMapper for Load<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (name, turned) = pytorch_name(&self.0);
            let Weight { shape, mut values, .. } = self.1.remove(&name).expect("checked above");
            let (id, old, mapper) = param.consume();
            if turned {
                values = transposed(&values, shape[0], shape[1]);
            }
            let tensor = Tensor::from_data(TensorData::new(values, old.dims()), &old.device());
            let tensor = if old.device().is_autodiff() { tensor.require_grad() } else { tensor };
            Param::from_mapped_value(id, tensor, mapper)
        }
    }
    Ok(model.map(&mut Load(Vec::new(), weights)))
}

/// nanoGPT's name for a parameter's path, and whether its matrix lies the other way round there.
fn pytorch_name(path: &[String]) -> (String, bool) {
    let mut name = Vec::new();
    if path[0] != "head" {
        name.push("transformer");
    }
    name.extend(path.iter().map(|part| match part.as_str() {
        "token_embedding" => "wte",
        "position_embedding" => "wpe",
        "blocks" => "h",
        "attention_norm" => "ln_1",
        "attention" => "attn",
        "query_key_value" => "c_attn",
        "projection" | "down" => "c_proj",
        "mlp_norm" => "ln_2",
        "up" => "c_fc",
        // nanoGPT has no gated MLP; its other names are for matrices that come in turn.
        "gate" => "c_gate",
        "norm" => "ln_f",
        "head" => "lm_head",
        "gamma" => "weight",
        "beta" => "bias",
        other => other,
    }));
    let linear = ["query_key_value", "projection", "gate", "up", "down", "head"];
    let turned = path.last().is_some_and(|last| last == "weight") && linear.contains(&path[path.len() - 2].as_str());
    (name.join("."), turned)
}

/// The first five of a list, and how many more there are.
pub(super) fn listed(mut faults: Vec<String>) -> String {
    let more = faults.len().saturating_sub(5);
    faults.truncate(5);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{rest}", faults.join("; "))
}

/// A matrix of `rows × columns` the other way round.
pub(super) fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

/// Why a pruned model stays at home.
pub(super) const PRUNED: &str = "other programs know no model whose layers have different numbers of heads: export the \
                                 run that it was pruned from, or keep this one as a checkpoint";
