//! What is no number stays none: every fused operation held to its plain twin on NaN, infinities and numbers at the end of
//! f32, in each input and in the gradient that comes back. What the twin does is what PyTorch does.

use burn::tensor::{Device, Int, Tensor, TensorData};
use headlight::device;
use headlight::kernels::{self, Activation, AdamWUpdate, DropoutMask, plain};
use headlight::model::{attend, split, values_of};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;
const BAD: [f32; 5] = [NAN, INF, -INF, 3e38, -3e38];

fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-2.0..2.0)).collect()
}

type Operation<'a> = dyn Fn(&[Tensor<1>]) -> Tensor<1> + 'a;

/// The output without and with autodiff, and the gradients of all leaves where the output's is `upstream`.
fn run(leaves: &[Vec<f32>], upstream: &[f32], operation: &Operation<'_>) -> Vec<(String, Vec<f32>)> {
    let on = |device: &Device| -> Vec<Tensor<1>> {
        leaves.iter().map(|leaf| Tensor::from_data(TensorData::new(leaf.clone(), [leaf.len()]), device)).collect()
    };
    let alone = values_of(operation(&on(&device::cpu())));
    let device = device::cpu().autodiff();
    let leaves: Vec<_> = on(&device).into_iter().map(Tensor::require_grad).collect();
    let output = operation(&leaves);
    let upstream = Tensor::from_data(TensorData::new(upstream.to_vec(), output.dims()), &device);
    let gradients = (output.clone() * upstream).sum().backward();
    let mut found = vec![("alone".to_owned(), alone), ("under autodiff".to_owned(), values_of(output))];
    for (place, leaf) in leaves.iter().enumerate() {
        let gradient = values_of(leaf.grad(&gradients).expect("every leaf takes part"));
        found.push((format!("gradient of input {place}"), gradient));
    }
    found
}

/// How a number at the end of f32 is held to.
#[derive(Clone, Copy, PartialEq)]
enum Held {
    Exactly,
    /// Noise is as large as what it is the noise of, 3e38.
    Loosely,
    /// And what is multiplied first may overflow on the way, or not, in one order or another: PyTorch's differs from both.
    WhereNumbers,
    /// Both are numbers or neither is: a twin that is several operations takes one infinity from another where PyTorch, as
    /// we, has one factor for all.
    NoNumber,
}

/// NaN where the other is NaN, the same infinity where it is infinite, and close where it is a number. Says where not.
fn unlike(name: &str, found: &[f32], wanted: &[f32], held: Held) -> Option<String> {
    assert_eq!(found.len(), wanted.len(), "{name}");
    let finite = wanted.iter().filter(|value| value.is_finite());
    let most = finite.fold(1.0_f32, |most, value| if value.abs() > most { value.abs() } else { most });
    let huge = matches!(held, Held::Loosely | Held::WhereNumbers);
    let close = if huge { 3e34_f32.max(most * 1e-4) } else { most * 1e-4 };
    let same = |a: f32, b: f32| match (a.is_finite(), b.is_finite()) {
        (true, true) => (a - b).abs() <= close,
        (false, false) if held == Held::NoNumber => true,
        _ => a == b || (a.is_nan() && b.is_nan()) || held == Held::WhereNumbers,
    };
    let place = (0..found.len()).find(|&place| !same(found[place], wanted[place]))?;
    Some(format!("{name}, value {place} of {}: {:e} is not {:e}", found.len(), found[place], wanted[place]))
}

fn same_kind(name: &str, found: &[f32], wanted: &[f32], huge: bool) {
    let fault = unlike(name, found, wanted, if huge { Held::Loosely } else { Held::Exactly });
    assert_eq!(fault, None);
}

/// What is compared: the fused operation and its twin.
struct Pair<'a> {
    name: &'a str,
    fused: &'a Operation<'a>,
    twin: &'a Operation<'a>,
    /// How the gradients of infinities are held.
    infinite: Held,
    faults: Vec<String>,
}

impl Pair<'_> {
    fn compare(&mut self, at: &str, bad: f32, leaves: &[Vec<f32>], upstream: &[f32]) {
        let (found, wanted) = (run(leaves, upstream, self.fused), run(leaves, upstream, self.twin));
        for ((what, found), (_, wanted)) in found.iter().zip(&wanted) {
            let of_gradient = what.starts_with("gradient");
            let held = match (bad.is_finite(), of_gradient) {
                (true, true) => Held::WhereNumbers,
                (true, false) => Held::Loosely,
                (false, true) if bad.is_infinite() => self.infinite,
                (false, _) => Held::Exactly,
            };
            let name = format!("{}, {bad:e} {at}, {what}", self.name);
            self.faults.extend(unlike(&name, found, wanted, held));
        }
    }
}

/// The table: each bad number at the start, in the middle, in what is left over from whole vectors and at the end, of each
/// leaf and of the gradient that comes back; and a whole row of −∞. A leaf is its rows and its width.
fn hold(name: &str, leaves: &[[usize; 2]], fused: &Operation<'_>, twin: &Operation<'_>) {
    hold_with(Held::Exactly, name, leaves, fused, twin);
}

fn hold_with(infinite: Held, name: &str, leaves: &[[usize; 2]], fused: &Operation<'_>, twin: &Operation<'_>) {
    let whole: Vec<Vec<f32>> =
        leaves.iter().enumerate().map(|(seed, [rows, width])| numbers(seed as u64, rows * width)).collect();
    let on_cpu = |leaf: &Vec<f32>| Tensor::from_data(TensorData::new(leaf.clone(), [leaf.len()]), &device::cpu());
    let output = values_of(fused(&whole.iter().map(on_cpu).collect::<Vec<_>>()));
    assert!(output.iter().all(|value| value.is_finite()), "{name}: numbers give numbers");
    let upstream = numbers(99, output.len());
    let mut pair = Pair { name, fused, twin, infinite, faults: Vec::new() };
    let places = |count: usize| {
        let mut places = vec![0, count / 2, count.saturating_sub(2), count - 1];
        places.dedup();
        places
    };
    for (leaf, [rows, width]) in leaves.iter().enumerate() {
        for (bad, place) in BAD.into_iter().flat_map(|bad| places(rows * width).into_iter().map(move |at| (bad, at))) {
            let mut spoiled = whole.clone();
            spoiled[leaf][place] = bad;
            pair.compare(&format!("at {place} of input {leaf}"), bad, &spoiled, &upstream);
        }
        for row in [0, rows - 1] {
            let mut spoiled = whole.clone();
            spoiled[leaf][row * width..(row + 1) * width].fill(-INF);
            pair.compare(&format!("in row {row} of input {leaf}"), -INF, &spoiled, &upstream);
        }
    }
    for (bad, place) in BAD.into_iter().flat_map(|bad| places(output.len()).into_iter().map(move |at| (bad, at))) {
        let mut upstream = upstream.clone();
        upstream[place] = bad;
        pair.compare(&format!("at {place} of the gradient"), bad, &whole, &upstream);
    }
    let faults = pair.faults;
    assert!(faults.is_empty(), "{} faults: {:#?}", faults.len(), &faults[..faults.len().min(20)]);
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    tensor.flatten(0, D - 1)
}

fn integers<const D: usize>(values: &[i32], shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

#[test]
fn linear() {
    // One row is what a model writes with; many are split over the cores.
    for [rows, input, output] in [[1, 19, 37], [5, 19, 37], [70, 48, 65]] {
        let name = format!("linear {rows} × {input} × {output}");
        let sizes = [[rows, input], [input, output], [1, output], [rows, output]];
        type Plain = fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>) -> Tensor<2>;
        let call = |of: Plain, bias: bool| {
            move |leaves: &[Tensor<1>]| {
                let bias = bias.then(|| leaves[2].clone());
                let weight = leaves[1].clone().reshape([input, output]);
                flat(of(leaves[0].clone().reshape([rows, input]), weight, bias))
            }
        };
        hold(&name, &sizes[..3], &call(kernels::linear, true), &call(plain::linear, true));
        hold(&name, &sizes[..2], &call(kernels::linear, false), &call(plain::linear, false));
        type Onto = fn(Tensor<2>, Tensor<2>, Tensor<2>, Option<Tensor<1>>) -> Tensor<2>;
        let call = |of: Onto| {
            move |leaves: &[Tensor<1>]| {
                let (x, weight) =
                    (leaves[0].clone().reshape([rows, input]), leaves[1].clone().reshape([input, output]));
                flat(of(leaves[2].clone().reshape([rows, output]), x, weight, None))
            }
        };
        let onto = [sizes[0], sizes[1], sizes[3]];
        hold(&format!("{name} onto"), &onto, &call(kernels::linear_onto), &call(plain::linear_onto));
        let call = |of: fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
            move |leaves: &[Tensor<1>]| {
                flat(of(leaves[0].clone().reshape([rows, input]), leaves[1].clone().reshape([output, input])))
            }
        };
        let sizes = [[rows, input], [output, input]];
        let name = format!("{name} transposed");
        hold(&name, &sizes, &call(kernels::linear_transposed), &call(plain::linear_transposed));
    }
}

/// The model's own, which is the truth, with the weights that it used.
fn plain_attention(joined: Tensor<3>, heads: usize, groups: usize, mask: Option<DropoutMask>) -> Tensor<3> {
    let [query, keys_values] = split(joined, heads, groups);
    let drop = |pattern: Tensor<4>| match mask {
        Some(mask) => plain::dropout(pattern, mask),
        None => pattern,
    };
    attend(query, keys_values, heads, groups, None, drop)
}

#[test]
fn attention() {
    // batch, position, heads, groups, head width; one block of queries, and several
    for [batch, length, heads, groups, size] in [[2, 5, 2, 1, 3], [1, 18, 1, 1, 4], [1, 70, 2, 1, 5], [1, 130, 1, 1, 2]]
    {
        let width = (heads + 2 * groups) * size;
        for mask in [None, Some(DropoutMask::new(0.3, 4))] {
            let joined = |leaves: &[Tensor<1>]| leaves[0].clone().reshape([batch, length, width]);
            let name = format!("attention {:?}, dropout {}", [batch, length, heads, groups, size], mask.is_some());
            let fused = |leaves: &[Tensor<1>]| {
                flat(kernels::causal_attention(&joined(leaves), heads, groups, mask).expect("the CPU has it"))
            };
            let twin = |leaves: &[Tensor<1>]| flat(plain_attention(joined(leaves), heads, groups, mask));
            hold(&name, &[[batch * length, width]], &fused, &twin);
        }
    }
}

/// A spoiled tensor of each kind in the table, `[1, positions, width]`.
fn spoiled(positions: usize, width: usize) -> Vec<(String, bool, Tensor<3>)> {
    let whole = numbers(1, positions * width);
    let tensor = |values| Tensor::from_data(TensorData::new(values, [1, positions, width]), &device::cpu());
    let mut all = Vec::new();
    for bad in BAD {
        for place in [0, 1, positions * width / 2, positions * width - width, positions * width - 1] {
            let mut values = whole.clone();
            values[place] = bad;
            all.push((format!("{bad} at {place}"), bad.is_finite(), tensor(values)));
        }
    }
    for row in [0, positions - 1] {
        let mut values = whole.clone();
        values[row * width..(row + 1) * width].fill(-INF);
        all.push((format!("row {row} of −∞"), false, tensor(values)));
    }
    all
}

#[test]
fn traced_attention_shows_what_is_no_number() {
    for [length, heads, groups, size] in [[5, 2, 1, 3], [18, 1, 1, 4], [70, 2, 2, 5]] {
        for (name, huge, joined) in spoiled(length, (heads + 2 * groups) * size) {
            let (mixed, pattern) = kernels::traced_attention(&joined, heads, groups).expect("the CPU has it");
            let mut wanted_pattern = None;
            let [query, keys_values] = split(joined, heads, groups);
            let wanted = attend(query, keys_values, heads, groups, None, |pattern| {
                wanted_pattern = Some(pattern.clone());
                pattern
            });
            let name = format!("traced attention over {length}, {name}");
            same_kind(
                &format!("{name}, weights"),
                &values_of(pattern),
                &values_of(wanted_pattern.expect("seen")),
                huge,
            );
            same_kind(&name, &values_of(mixed), &values_of(wanted), huge);
        }
    }
}

#[test]
fn cached_attention() {
    let (heads, groups, size, places) = (2, 1, 5, 40);
    let kept_width = 2 * groups * size;
    for [filled, new] in [[0, 1], [7, 1], [0, 20], [7, 18]] {
        let of_cache = spoiled(places, kept_width).into_iter().map(|case| (case, true));
        let of_new = spoiled(new, (heads + 2 * groups) * size).into_iter().map(|case| (case, false));
        for ((name, huge, tensor), in_cache) in of_cache.chain(of_new) {
            let calm = |positions: usize, width: usize| {
                let values = numbers(2, positions * width);
                Tensor::<3>::from_data(TensorData::new(values, [1, positions, width]), &device::cpu())
            };
            let (joined, cache) = match in_cache {
                true => (calm(new, (heads + 2 * groups) * size), tensor),
                false => (tensor, calm(places, kept_width)),
            };
            let mut kept = cache.clone();
            let found = kernels::cached_attention(&joined, &mut kept, filled, heads, groups).expect("the CPU has it");
            let [query, fresh] = split(joined, heads, groups);
            let all = cache.slice_assign([0..1, filled..filled + new, 0..kept_width], fresh);
            let wanted = attend(query, all.narrow(1, 0, filled + new), heads, groups, None, |pattern| pattern);
            let name = format!("{new} after {filled} that are cached, {name}, in the cache: {in_cache}");
            same_kind(&name, &values_of(found), &values_of(wanted), huge);
        }
    }
}

#[test]
fn rotation() {
    let (length, heads, others, half) = (3, 2, 1, 5);
    let width = (heads + others) * 2 * half;
    let angles = numbers(3, length * half);
    let call = |of: fn(Tensor<3>, Tensor<2>, Tensor<2>, usize) -> Tensor<3>| {
        let angles = angles.clone();
        move |leaves: &[Tensor<1>]| {
            let table = |function: fn(f32) -> f32| {
                let values: Vec<f32> = angles.iter().map(|&angle| function(angle)).collect();
                Tensor::<2>::from_data(TensorData::new(values, [length, half]), &leaves[0].device())
            };
            flat(of(leaves[0].clone().reshape([1, length, width]), table(f32::cos), table(f32::sin), heads))
        }
    };
    hold("rotation", &[[length, width]], &call(kernels::rotate), &call(plain::rotate));
}

#[test]
fn norms() {
    for [rows, width] in [[3, 5], [2, 37], [33, 48]] {
        let name = format!("norm {rows} × {width}");
        let sizes = [[rows, width], [1, width], [1, width]];
        let call = |of: fn(Tensor<2>, Tensor<1>, Option<Tensor<1>>, f64) -> Tensor<2>, bias: bool| {
            move |leaves: &[Tensor<1>]| {
                let bias = bias.then(|| leaves[2].clone());
                flat(of(leaves[0].clone().reshape([rows, width]), leaves[1].clone(), bias, 1e-5))
            }
        };
        let either = Held::NoNumber;
        hold_with(either, &name, &sizes, &call(kernels::layer_norm, true), &call(plain::layer_norm, true));
        hold_with(either, &name, &sizes[..2], &call(kernels::layer_norm, false), &call(plain::layer_norm, false));
        let call = |of: fn(Tensor<2>, Tensor<1>, f64) -> Tensor<2>| {
            move |leaves: &[Tensor<1>]| flat(of(leaves[0].clone().reshape([rows, width]), leaves[1].clone(), 1e-6))
        };
        hold_with(either, &format!("rms {name}"), &sizes[..2], &call(kernels::rms_norm), &call(plain::rms_norm));
    }
}

#[test]
fn activations() {
    for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu] {
        for [rows, width] in [[1, 5], [3, 37]] {
            let call = |of: fn(Tensor<2>, Activation) -> Tensor<2>| {
                move |leaves: &[Tensor<1>]| flat(of(leaves[0].clone().reshape([rows, width]), activation))
            };
            let name = format!("{activation:?} {rows} × {width}");
            let either = if activation == Activation::Relu { Held::Exactly } else { Held::NoNumber };
            hold_with(either, &name, &[[rows, width]], &call(kernels::activation), &call(plain::activation));
        }
    }
}

#[test]
fn swiglu() {
    for [rows, width] in [[1, 5], [3, 37]] {
        let call = |of: fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
            move |leaves: &[Tensor<1>]| {
                let [gate, up] = [0, 1].map(|leaf| leaves[leaf].clone().reshape([rows, width]));
                flat(of(gate, up))
            }
        };
        let name = format!("swiglu {rows} × {width}");
        hold_with(Held::NoNumber, &name, &[[rows, width]; 2], &call(kernels::swiglu), &call(plain::swiglu));
    }
}

#[test]
fn cross_entropy() {
    for [rows, vocabulary] in [[1, 9], [3, 65], [70, 20]] {
        let targets: Vec<i32> = (0..rows as i32).map(|row| row * 7 % vocabulary as i32).collect();
        let call = |of: fn(Tensor<2>, Tensor<1, Int>) -> Tensor<1>| {
            let targets = targets.clone();
            move |leaves: &[Tensor<1>]| {
                of(leaves[0].clone().reshape([rows, vocabulary]), integers(&targets, [rows], &leaves[0].device()))
            }
        };
        let name = format!("cross-entropy {rows} × {vocabulary}");
        hold(&name, &[[rows, vocabulary]], &call(kernels::cross_entropy), &call(plain::cross_entropy));
    }
}

#[test]
fn embedding() {
    let [batch, length, vocabulary, context, width] = [2, 3, 5, 4, 19];
    let ids = [0, 4, 2, 2, 4, 0];
    let call = |of: fn(Tensor<2>, Option<Tensor<2>>, Tensor<2, Int>) -> Tensor<3>| {
        move |leaves: &[Tensor<1>]| {
            let tokens = leaves[0].clone().reshape([vocabulary, width]);
            let positions = Some(leaves[1].clone().reshape([context, width]));
            flat(of(tokens, positions, integers(&ids, [batch, length], &leaves[0].device())))
        }
    };
    let sizes = [[vocabulary, width], [context, width]];
    hold("embedding", &sizes, &call(kernels::embedding), &call(plain::embedding));
}

#[test]
fn dropout() {
    let mask = DropoutMask::new(0.5, 3);
    let call = |of: fn(Tensor<2>, DropoutMask) -> Tensor<2>| {
        move |leaves: &[Tensor<1>]| flat(of(leaves[0].clone().reshape([3, 37]), mask))
    };
    hold("dropout", &[[3, 37]], &call(kernels::dropout), &call(plain::dropout));
}

#[test]
fn adamw() {
    let size = 37;
    let update = AdamWUpdate {
        gradient_scale: 0.7,
        learning_rate: 0.01,
        weight_decay: 0.1,
        beta_1: 0.9,
        beta_2: 0.99,
        epsilon: 1e-8,
        correction_1: 0.19,
        correction_2: 0.02,
    };
    for leaf in 0..4 {
        for (bad, place) in BAD.into_iter().flat_map(|bad| [0, size / 2, size - 1].map(|place| (bad, place))) {
            let mut leaves: Vec<_> = (0..4).map(|seed| numbers(seed, size)).collect();
            leaves[3].iter_mut().for_each(|second| *second = second.abs());
            leaves[leaf][place] = bad;
            let tensor =
                |leaf: usize| Tensor::<1>::from_data(TensorData::new(leaves[leaf].clone(), [size]), &device::cpu());
            let of =
                |(weight, first, second): (Tensor<1>, Tensor<1>, Tensor<1>)| [weight, first, second].map(values_of);
            let found = of(kernels::adamw(tensor(0), tensor(1), tensor(2), tensor(3), update));
            let wanted = of(plain::adamw(tensor(0), tensor(1), tensor(2), tensor(3), update));
            for (found, wanted) in found.iter().zip(&wanted) {
                same_kind(&format!("adamw, {bad} at {place} of input {leaf}"), found, wanted, bad.is_finite());
            }
            let (found, wanted) = (kernels::square_sum(tensor(leaf)), plain::square_sum(tensor(leaf)));
            same_kind(&format!("square sum, {bad} at {place}"), &values_of(found), &values_of(wanted), bad.is_finite());
        }
    }
}

#[test]
fn the_twins_do_as_pytorch_does() {
    let tensor =
        |values: &[f32]| Tensor::<1>::from_data(TensorData::new(values.to_vec(), [values.len()]), &device::cpu());
    let of = |activation, values: &[f32]| values_of(plain::activation(tensor(values), activation));
    let kinds = |found: Vec<f32>, wanted: &[f32]| same_kind("PyTorch", &found, wanted, false);
    kinds(of(Activation::Relu, &[NAN, INF, -INF, -0.5]), &[NAN, INF, 0.0, 0.0]);
    for smooth in [Activation::Gelu, Activation::GeluTanh, Activation::Silu] {
        kinds(of(smooth, &[NAN, INF, -INF, -3e38]), &[NAN, INF, NAN, 0.0]);
    }
    for row in [[1.0, NAN, 2.0], [1.0, INF, 2.0], [-INF, -INF, -INF]] {
        let softmax = burn::tensor::activation::softmax(tensor(&row), 0);
        kinds(values_of(softmax), &[NAN; 3]);
    }
    kinds(values_of(burn::tensor::activation::softmax(tensor(&[0.0, -INF]), 0)), &[1.0, 0.0]);
    // Finite numbers whose squares are not: the layer norm of a row is none, the root-mean-square norm is 0.
    let ones = || tensor(&[1.0; 3]);
    for row in [[1e20, -1e20, 0.0], [-3e25, 1.0, 2.0], [3e38, 0.0, -3e38]] {
        let x = || tensor(&row).unsqueeze::<2>();
        for norm in [kernels::layer_norm, plain::layer_norm] {
            kinds(values_of(norm(x(), ones(), None, 1e-5)), &[NAN; 3]);
            kinds(values_of(norm(x(), ones(), Some(ones()), 1e-5)), &[NAN; 3]);
        }
        for norm in [kernels::rms_norm, plain::rms_norm] {
            kinds(values_of(norm(x(), ones(), 1e-6)), &[0.0; 3]);
        }
    }
    let targets = |target: i32| integers(&[target], [1], &device::cpu());
    let loss = |row: &[f32], target| values_of(plain::cross_entropy(tensor(row).unsqueeze(), targets(target)));
    kinds(loss(&[0.0, NAN], 0), &[NAN]);
    kinds(loss(&[0.0, INF], 0), &[NAN]);
    kinds(loss(&[0.0, -INF], 0), &[0.0]);
    kinds(loss(&[0.0, -INF], 1), &[INF]);
}
