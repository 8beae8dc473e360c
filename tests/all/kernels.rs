//! Every fused operation held to its plain twin: values and gradients, over shapes at the edges.

use burn::tensor::{Device, Int, Tensor, TensorData};
use headlight::device;
use headlight::kernels::{self, Activation, AdamWUpdate, DropoutMask, plain};
use headlight::model::{attend, split, values_of};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Norm of the difference over norm.
const TOLERANCE: f64 = 1e-5;

fn numbers(rng: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| rng.random_range(-2.0..2.0)).collect()
}

fn apart(found: &[f32], wanted: &[f32]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let square = |value: f64| value * value;
    let difference: f64 = found.iter().zip(wanted).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    let norm: f64 = wanted.iter().map(|&value| square(f64::from(value))).sum();
    if norm == 0.0 { difference.sqrt() } else { (difference / norm).sqrt() }
}

/// The output's values without and with autodiff, and the gradients of all leaves under a loss that weighs each output
/// by a number of its own.
fn run(leaves: &[Vec<f32>], operation: &dyn Fn(&[Tensor<1>]) -> Tensor<1>) -> (Vec<f32>, Vec<f32>, Vec<Vec<f32>>) {
    let on = |device: &Device| -> Vec<Tensor<1>> {
        leaves.iter().map(|leaf| Tensor::from_data(TensorData::new(leaf.clone(), [leaf.len()]), device)).collect()
    };
    let alone = values_of(operation(&on(&device::cpu())));
    let device = device::cpu().autodiff();
    let leaves: Vec<_> = on(&device).into_iter().map(Tensor::require_grad).collect();
    let output = operation(&leaves);
    let weights = numbers(&mut ChaCha8Rng::seed_from_u64(9), output.dims()[0]);
    let loss = (output.clone() * Tensor::from_data(TensorData::new(weights, output.dims()), &device)).sum();
    let gradients = loss.backward();
    let of = |leaf: &Tensor<1>| values_of(leaf.grad(&gradients).expect("every leaf takes part"));
    (alone, values_of(output), leaves.iter().map(of).collect())
}

/// Holds `fused` to `twin` on leaves of the given sizes, and to itself: a second run gives the same bits.
fn agree(
    name: &str,
    sizes: &[usize],
    fused: impl Fn(&[Tensor<1>]) -> Tensor<1>,
    twin: impl Fn(&[Tensor<1>]) -> Tensor<1>,
) {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let leaves: Vec<_> = sizes.iter().map(|&size| numbers(&mut rng, size)).collect();
    let found = run(&leaves, &fused);
    assert_eq!(found, run(&leaves, &fused), "{name}: two runs differ");
    let wanted = run(&leaves, &twin);
    for (what, found, wanted) in [("alone", &found.0, &wanted.0), ("under autodiff", &found.1, &wanted.1)] {
        let apart = apart(found, wanted);
        assert!(apart < TOLERANCE, "{name}, {what}: {apart}");
    }
    for (leaf, (found, wanted)) in found.2.iter().zip(&wanted.2).enumerate() {
        let apart = apart(found, wanted);
        assert!(apart < TOLERANCE, "{name}, gradient of input {leaf}: {apart}");
    }
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    tensor.flatten(0, D - 1)
}

#[test]
fn linear() {
    for [rows, input, output] in [[1, 1, 1], [1, 7, 3], [5, 16, 33], [70, 48, 65], [768, 128, 50]] {
        let name = format!("linear {rows} × {input} × {output}");
        let sizes = [rows * input, input * output, output];
        let call = |of: fn(Tensor<2>, Tensor<2>, Option<Tensor<1>>) -> Tensor<2>, bias: bool| {
            move |leaves: &[Tensor<1>]| {
                let bias = bias.then(|| leaves[2].clone());
                let weight = leaves[1].clone().reshape([input, output]);
                flat(of(leaves[0].clone().reshape([rows, input]), weight, bias))
            }
        };
        agree(&name, &sizes, call(kernels::linear, true), call(plain::linear, true));
        agree(&name, &sizes[..2], call(kernels::linear, false), call(plain::linear, false));
        let call = |of: fn(Tensor<2>, Tensor<2>, Tensor<2>, Option<Tensor<1>>) -> Tensor<2>, bias: bool| {
            move |leaves: &[Tensor<1>]| {
                let bias = bias.then(|| leaves[3].clone());
                let residual = leaves[2].clone().reshape([output, rows]).transpose();
                let weight = leaves[1].clone().reshape([input, output]);
                flat(of(residual, leaves[0].clone().reshape([rows, input]), weight, bias))
            }
        };
        let onto_sizes = [rows * input, input * output, rows * output, output];
        agree(&name, &onto_sizes, call(kernels::linear_onto, true), call(plain::linear_onto, true));
        agree(&name, &onto_sizes[..3], call(kernels::linear_onto, false), call(plain::linear_onto, false));
        let call = |of: fn(Tensor<3>, Tensor<2>) -> Tensor<3>| {
            move |leaves: &[Tensor<1>]| {
                // Neither is contiguous.
                let x = leaves[0].clone().reshape([input, rows, 1]).swap_dims(0, 2).swap_dims(0, 1);
                flat(of(x, leaves[1].clone().reshape([input, output]).transpose()))
            }
        };
        agree(&name, &sizes[..2], call(kernels::linear_transposed), call(plain::linear_transposed));
    }
}

fn fused_attention(joined: Tensor<3>, heads: usize, groups: usize) -> Tensor<3> {
    kernels::causal_attention(&joined, heads, groups, None).expect("the CPU has it")
}

/// The model's own, which is the truth.
fn plain_attention(joined: Tensor<3>, heads: usize, groups: usize) -> Tensor<3> {
    let [query, keys_values] = split(joined, heads, groups);
    attend(query, keys_values, heads, groups, None, |pattern| pattern)
}

#[test]
fn rotation() {
    // batch, position, heads turned, heads as they are, half a head's width
    for [batch, length, heads, others, half] in [[1, 1, 1, 1, 1], [2, 3, 2, 1, 5], [3, 40, 6, 4, 16], [1, 70, 1, 3, 9]]
    {
        let width = (heads + others) * 2 * half;
        let angles = numbers(&mut ChaCha8Rng::seed_from_u64(3), length * half);
        let call = |of: fn(Tensor<3>, Tensor<2>, Tensor<2>, usize) -> Tensor<3>| {
            let angles = angles.clone();
            move |leaves: &[Tensor<1>]| {
                let table = |function: fn(f32) -> f32| {
                    let values: Vec<f32> = angles.iter().map(|&angle| function(angle)).collect();
                    Tensor::<2>::from_data(TensorData::new(values, [length, half]), &leaves[0].device())
                };
                // The input is used again, so that it must not be changed in place.
                let joined = leaves[0].clone().reshape([batch, length, width]);
                flat(of(joined.clone(), table(f32::cos), table(f32::sin), heads) + joined * 0.5)
            }
        };
        let name = format!("rotation {:?}", [batch, length, heads, others, half]);
        agree(&name, &[batch * length * width], call(kernels::rotate), call(plain::rotate));
    }
}

#[test]
fn causal_attention() {
    // batch, position, heads, groups, head width
    let shapes =
        [[1, 1, 1, 1, 1], [2, 1, 2, 1, 4], [1, 5, 1, 1, 3], [3, 64, 4, 4, 32], [2, 65, 6, 2, 20], [1, 200, 3, 1, 8]];
    for [batch, length, heads, groups, head_width] in shapes {
        let width = (heads + 2 * groups) * head_width;
        let name = format!("attention {:?}", [batch, length, heads, groups, head_width]);
        let call = |of: fn(Tensor<3>, usize, usize) -> Tensor<3>| {
            move |leaves: &[Tensor<1>]| flat(of(leaves[0].clone().reshape([batch, length, width]), heads, groups))
        };
        agree(&name, &[batch * length * width], call(fused_attention), call(plain_attention));
        let call = |of: fn(Tensor<3>, usize, usize) -> Tensor<3>| {
            move |leaves: &[Tensor<1>]| {
                let fused = leaves[0].clone().reshape([length, batch, width]).swap_dims(0, 1);
                flat(of(fused, heads, groups).swap_dims(1, 2))
            }
        };
        agree(&name, &[batch * length * width], call(fused_attention), call(plain_attention));
    }
}

#[test]
fn traced_attention() {
    // batch, position, heads, groups, head width
    for [batch, length, heads, groups, head_width] in
        [[1, 1, 1, 1, 1], [2, 5, 2, 1, 3], [1, 64, 4, 4, 8], [3, 65, 2, 2, 20], [1, 200, 3, 1, 8]]
    {
        let width = (heads + 2 * groups) * head_width;
        let values = numbers(&mut ChaCha8Rng::seed_from_u64(2), batch * length * width);
        let joined = Tensor::<3>::from_data(TensorData::new(values, [batch, length, width]), &device::cpu());
        let (mixed, pattern) = kernels::traced_attention(&joined, heads, groups).expect("the CPU has it");
        let (mut wanted_pattern, [query, keys_values]) = (None, split(joined.clone(), heads, groups));
        let wanted = attend(query, keys_values, heads, groups, None, |pattern| {
            wanted_pattern = Some(pattern.clone());
            pattern
        });
        assert!(apart(&values_of(mixed), &values_of(wanted)) < TOLERANCE);
        let (found, wanted) = (values_of(pattern), values_of(wanted_pattern.expect("it was shown")));
        assert!(apart(&found, &wanted) < TOLERANCE);
        let later = |&(place, _): &(usize, &f32)| place % length > place / length % length;
        assert!(found.iter().enumerate().filter(later).all(|(_, &weight)| weight == 0.0), "a later key has a weight");
        let graded = Tensor::<3>::zeros([batch, length, width], &device::cpu().autodiff());
        assert!(kernels::traced_attention(&graded, heads, groups).is_none(), "it is not in the graph of gradients");
    }
}

#[test]
fn causal_attention_with_dropout() {
    // batch, position, heads, groups, head width
    let shapes =
        [[1, 1, 1, 1, 1], [2, 1, 2, 1, 4], [1, 5, 1, 1, 3], [3, 64, 4, 4, 32], [2, 65, 6, 2, 20], [1, 200, 3, 1, 8]];
    for (seed, [batch, length, heads, groups, head_width]) in shapes.into_iter().enumerate() {
        let width = (heads + 2 * groups) * head_width;
        let mask = DropoutMask::new(0.3, seed as u64);
        let name = format!("attention with dropout {:?}", [batch, length, heads, groups, head_width]);
        let joined = move |leaves: &[Tensor<1>]| leaves[0].clone().reshape([batch, length, width]);
        agree(
            &name,
            &[batch * length * width],
            |leaves| {
                flat(kernels::causal_attention(&joined(leaves), heads, groups, Some(mask)).expect("the CPU has it"))
            },
            |leaves| {
                let [query, keys_values] = split(joined(leaves), heads, groups);
                flat(attend(query, keys_values, heads, groups, None, |pattern| plain::dropout(pattern, mask)))
            },
        );
    }
}

#[test]
fn dropout() {
    for (seed, [batch, length, width]) in [[1, 1, 1], [3, 5, 7], [2, 33, 130], [1, 3, 20_000]].into_iter().enumerate() {
        let mask = DropoutMask::new(0.2, seed as u64);
        let call = |of: fn(Tensor<3>, DropoutMask) -> Tensor<3>| {
            move |leaves: &[Tensor<1>]| {
                flat(of(leaves[0].clone().reshape([length, batch, width]).swap_dims(0, 1), mask))
            }
        };
        let name = format!("dropout {:?}", [batch, length, width]);
        agree(&name, &[batch * length * width], call(kernels::dropout), call(plain::dropout));
    }
}

/// Where a mask leaves ones standing: 0 or 1 a number.
fn left_by(mask: DropoutMask, rows: usize, width: usize) -> Vec<u8> {
    let left = values_of(kernels::dropout(Tensor::<2>::ones([rows, width], &device::cpu()), mask));
    left.into_iter().map(|factor| u8::from(factor > 0.0)).collect()
}

#[test]
fn dropout_drops_its_share_and_no_place_tells_of_another() {
    let [rows, width] = [300, 256];
    let count = (rows * width) as f64;
    for probability in [0.1, 0.5, 0.9] {
        let keep = 1.0 - probability;
        let left = left_by(DropoutMask::new(probability, 7), rows, width);
        let share = |found: &mut dyn Iterator<Item = bool>| found.filter(|&found| found).count() as f64 / count;
        let near = |what: &str, share: f64, wanted: f64| {
            // Five standard deviations of so many independent draws.
            let slack = 5.0 * (wanted * (1.0 - wanted) / count).sqrt();
            assert!((share - wanted).abs() < slack, "{what}: {share} is not near {wanted}");
        };
        near("kept", share(&mut left.iter().map(|&left| left == 1)), keep);
        let other = left_by(DropoutMask::new(probability, 8), rows, width);
        near("under two seeds", share(&mut left.iter().zip(&other).map(|(a, b)| a & b == 1)), keep * keep);
        for (what, distance) in [("neighbours", 1), ("next but one", 2), ("rows", width), ("64 rows on", 64 * width)] {
            let later = left.iter().cycle().skip(distance);
            near(what, share(&mut left.iter().zip(later).map(|(a, b)| a & b == 1)), keep * keep);
        }
        let scaled = values_of(kernels::dropout(
            Tensor::<2>::ones([1, width], &device::cpu()),
            DropoutMask::new(probability, 7),
        ));
        let largest = scaled.into_iter().fold(0.0, f32::max);
        assert!((f64::from(largest) * keep - 1.0).abs() < 1e-6, "what stays grows by 1 / (1 - p)");
    }
}

#[test]
fn norms() {
    for [rows, width] in [[1, 2], [1, 16], [3, 5], [33, 48], [100, 129]] {
        let name = format!("norm {rows} × {width}");
        let sizes = [rows * width, width, width];
        let call = |of: fn(Tensor<3>, Tensor<1>, Option<Tensor<1>>, f64) -> Tensor<3>, bias: bool| {
            move |leaves: &[Tensor<1>]| {
                let x = leaves[0].clone().reshape([rows, 1, width]);
                flat(of(x, leaves[1].clone(), bias.then(|| leaves[2].clone()), 1e-5))
            }
        };
        agree(&name, &sizes, call(kernels::layer_norm, true), call(plain::layer_norm, true));
        agree(&name, &sizes[..2], call(kernels::layer_norm, false), call(plain::layer_norm, false));
        let call = |of: fn(Tensor<2>, Tensor<1>, f64) -> Tensor<2>| {
            move |leaves: &[Tensor<1>]| {
                flat(of(leaves[0].clone().reshape([width, rows]).transpose(), leaves[1].clone(), 1e-6))
            }
        };
        agree(&name, &sizes[..2], call(kernels::rms_norm), call(plain::rms_norm));
    }
}

#[test]
fn activations() {
    for activation in [Activation::Gelu, Activation::GeluTanh, Activation::Relu, Activation::Silu] {
        for shape in [[1, 5], [3, 7], [130, 127]] {
            let call = |of: fn(Tensor<2>, Activation) -> Tensor<2>| {
                move |leaves: &[Tensor<1>]| {
                    flat(of(leaves[0].clone().mul_scalar(4.0).reshape(shape).transpose(), activation))
                }
            };
            let name = format!("{activation:?} {shape:?}");
            agree(&name, &[shape[0] * shape[1]], call(kernels::activation), call(plain::activation));
        }
    }
}

#[test]
fn swiglu() {
    for shape in [[1, 1], [3, 7], [130, 127]] {
        let call = |of: fn(Tensor<2>, Tensor<2>) -> Tensor<2>| {
            move |leaves: &[Tensor<1>]| {
                let [gate, up] = [0, 1].map(|leaf| leaves[leaf].clone().reshape(shape));
                flat(of(gate.transpose(), up.transpose()))
            }
        };
        let size = shape[0] * shape[1];
        agree(&format!("swiglu {shape:?}"), &[size, size], call(kernels::swiglu), call(plain::swiglu));
    }
}

fn integers<const D: usize>(values: &[i32], shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

#[test]
fn cross_entropy() {
    for [rows, vocabulary] in [[1, 1], [1, 9], [3, 65], [130, 70]] {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let targets: Vec<i32> = (0..rows).map(|_| rng.random_range(0..vocabulary as i32)).collect();
        let call = |of: fn(Tensor<2>, Tensor<1, Int>) -> Tensor<1>| {
            let targets = targets.clone();
            move |leaves: &[Tensor<1>]| {
                let logits = leaves[0].clone().mul_scalar(5.0).reshape([rows, vocabulary]);
                of(logits, integers(&targets, [rows], &leaves[0].device()))
            }
        };
        let name = format!("cross-entropy {rows} × {vocabulary}");
        agree(&name, &[rows * vocabulary], call(kernels::cross_entropy), call(plain::cross_entropy));
    }
}

#[test]
fn embedding() {
    for [batch, length, vocabulary, context, width] in [[1, 1, 1, 1, 1], [2, 3, 5, 4, 7], [9, 16, 20, 16, 48]] {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        let ids: Vec<i32> = (0..batch * length).map(|_| rng.random_range(0..vocabulary as i32)).collect();
        let call = |of: fn(Tensor<2>, Option<Tensor<2>>, Tensor<2, Int>) -> Tensor<3>, positions: bool| {
            let ids = ids.clone();
            move |leaves: &[Tensor<1>]| {
                let tokens = leaves[0].clone().reshape([vocabulary, width]);
                let positions = positions.then(|| leaves[1].clone().reshape([context, width]));
                flat(of(tokens, positions, integers(&ids, [batch, length], &leaves[0].device())))
            }
        };
        let sizes = [vocabulary * width, context * width];
        let name = format!("embedding {:?}", [batch, length, vocabulary, context, width]);
        agree(&name, &sizes, call(kernels::embedding, true), call(plain::embedding, true));
        agree(&name, &sizes[..1], call(kernels::embedding, false), call(plain::embedding, false));
    }
}

#[test]
fn adamw() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let device = device::cpu();
    for shape in [[1, 1], [3, 7], [200, 130]] {
        let size = shape[0] * shape[1];
        let mut draw = || Tensor::<1>::from_data(TensorData::new(numbers(&mut rng, size), [size]), &device);
        let (weight, gradient, first) = (draw().reshape::<2, _>(shape), draw(), draw());
        let second = draw().powi_scalar(2);
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
        let before = values_of(weight.clone());
        let arguments = || (weight.clone(), gradient.clone(), first.clone(), second.clone());
        let of = |(weight, first, second): (Tensor<2>, Tensor<1>, Tensor<1>)| {
            [values_of(weight), values_of(first), values_of(second)]
        };
        let (w, g, m, v) = arguments();
        let found = of(kernels::adamw(w, g, m, v, update));
        let (w, g, m, v) = arguments();
        let wanted = of(plain::adamw(w, g, m, v, update));
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!(apart(found, wanted) < TOLERANCE);
        }
        assert_eq!(values_of(weight), before, "a tensor that is held elsewhere was written to");
        let (found, wanted) = (kernels::square_sum(gradient.clone()), plain::square_sum(gradient.clone()));
        assert!(apart(&values_of(found), &values_of(wanted)) < TOLERANCE);
    }
}
