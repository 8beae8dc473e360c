//! Each fused operation of the CPU beside its plain twin, forward and backward, at the sizes of nanoGPT's recipe for a
//! CPU: `cargo bench`.

use burn::tensor::{Device, Int, Tensor, TensorData};
use divan::Bencher;
use headlight::device;
use headlight::kernels::{Activation, AdamWUpdate, DropoutMask};
use headlight::model::{attend, split};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 12;
const CONTEXT: usize = 64;
const HEADS: usize = 4;
const WIDTH: usize = 128;
const VOCABULARY: usize = 65;
const ROWS: usize = BATCH * CONTEXT;

fn main() {
    divan::main();
}

fn numbers(count: usize, device: &Device) -> Tensor<1> {
    let mut rng = ChaCha8Rng::seed_from_u64(count as u64);
    let values: Vec<f32> = (0..count).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

fn integers<const D: usize>(below: usize, shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let values: Vec<i32> = (0..shape.iter().product()).map(|_| rng.random_range(0..below as i32)).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// Times the operation on leaves of these sizes, with the gradients of all of them.
fn both_ways<const D: usize>(
    bencher: Bencher<'_, '_>,
    sizes: &[usize],
    operation: impl Fn(&[Tensor<1>], &Device) -> Tensor<D>,
) {
    let device = device::cpu().autodiff();
    let leaves: Vec<_> = sizes.iter().map(|&size| numbers(size, &device).require_grad()).collect();
    bencher.bench_local(|| operation(&leaves, &device).sum().backward());
}

/// A module with a bench for each of the two functions of this name; `of` stands for the one or the other.
macro_rules! beside_its_twin {
    ($name:ident, $sizes:expr, |$of:ident, $leaves:pat_param, $device:pat_param| $body:expr) => {
        mod $name {
            use super::*;

            #[divan::bench]
            fn fused(bencher: Bencher<'_, '_>) {
                use headlight::kernels::$name as $of;
                both_ways(bencher, &$sizes, |$leaves, $device| $body);
            }

            #[divan::bench]
            fn plain(bencher: Bencher<'_, '_>) {
                use headlight::kernels::plain::$name as $of;
                both_ways(bencher, &$sizes, |$leaves, $device| $body);
            }
        }
    };
}

beside_its_twin!(linear, [ROWS * WIDTH, WIDTH * 3 * WIDTH], |of, leaves, _| {
    of(leaves[0].clone().reshape([ROWS, WIDTH]), leaves[1].clone().reshape([WIDTH, 3 * WIDTH]), None)
});
beside_its_twin!(linear_onto, [ROWS * WIDTH, ROWS * 4 * WIDTH, 4 * WIDTH * WIDTH], |of, leaves, _| {
    let (residual, x) = (leaves[0].clone().reshape([ROWS, WIDTH]), leaves[1].clone().reshape([ROWS, 4 * WIDTH]));
    of(residual, x, leaves[2].clone().reshape([4 * WIDTH, WIDTH]), None)
});
beside_its_twin!(linear_transposed, [ROWS * WIDTH, VOCABULARY * WIDTH], |of, leaves, _| {
    of(leaves[0].clone().reshape([ROWS, WIDTH]), leaves[1].clone().reshape([VOCABULARY, WIDTH]))
});
beside_its_twin!(layer_norm, [ROWS * WIDTH, WIDTH], |of, leaves, _| {
    of(leaves[0].clone().reshape([ROWS, WIDTH]), leaves[1].clone(), None, 1e-5)
});
beside_its_twin!(rms_norm, [ROWS * WIDTH, WIDTH], |of, leaves, _| {
    of(leaves[0].clone().reshape([ROWS, WIDTH]), leaves[1].clone(), 1e-5)
});
beside_its_twin!(activation, [ROWS * 4 * WIDTH], |of, leaves, _| of(leaves[0].clone(), Activation::Gelu));
beside_its_twin!(swiglu, [ROWS * 4 * WIDTH, ROWS * 4 * WIDTH], |of, leaves, _| {
    of(leaves[0].clone(), leaves[1].clone())
});
beside_its_twin!(rotate, [ROWS * 3 * WIDTH], |of, leaves, device| {
    let half = WIDTH / HEADS / 2;
    let table = || numbers(CONTEXT * half, device).reshape([CONTEXT, half]);
    of(leaves[0].clone().reshape([BATCH, CONTEXT, 3 * WIDTH]), table(), table(), 2 * HEADS)
});
beside_its_twin!(dropout, [ROWS * WIDTH], |of, leaves, _| {
    of(leaves[0].clone().reshape([ROWS, WIDTH]), DropoutMask::new(0.1, 1))
});
beside_its_twin!(embedding, [VOCABULARY * WIDTH, CONTEXT * WIDTH], |of, leaves, device| {
    let positions = leaves[1].clone().reshape([CONTEXT, WIDTH]);
    let ids = integers(VOCABULARY, [BATCH, CONTEXT], device);
    of(leaves[0].clone().reshape([VOCABULARY, WIDTH]), Some(positions), ids)
});
beside_its_twin!(cross_entropy, [ROWS * VOCABULARY], |of, leaves, device| {
    of(leaves[0].clone().reshape([ROWS, VOCABULARY]), integers(VOCABULARY, [ROWS], device))
});

/// Its twin is the model's own.
mod causal_attention {
    use super::*;

    fn time(bencher: Bencher<'_, '_>, attention: impl Fn(Tensor<3>) -> Tensor<3>) {
        both_ways(bencher, &[ROWS * 3 * WIDTH], |leaves, _| {
            attention(leaves[0].clone().reshape([BATCH, CONTEXT, 3 * WIDTH]))
        });
    }

    fn fused(bencher: Bencher<'_, '_>, mask: Option<DropoutMask>) {
        time(bencher, |joined| {
            headlight::kernels::causal_attention(&joined, HEADS, HEADS, mask).expect("the CPU has it")
        });
    }

    #[divan::bench]
    fn without_dropout(bencher: Bencher<'_, '_>) {
        fused(bencher, None);
    }

    #[divan::bench]
    fn with_dropout(bencher: Bencher<'_, '_>) {
        fused(bencher, Some(DropoutMask::new(0.1, 1)));
    }

    #[divan::bench]
    fn plain(bencher: Bencher<'_, '_>) {
        time(bencher, |joined| {
            let [query, keys_values] = split(joined, HEADS, HEADS);
            attend(query, keys_values, HEADS, HEADS, None, |pattern| pattern)
        });
    }
}

/// One update of an MLP's matrix, outside of any graph.
mod adamw {
    use super::*;

    type Moved = (Tensor<2>, Tensor<1>, Tensor<1>);

    fn time(bencher: Bencher<'_, '_>, update: fn(Tensor<2>, Tensor<1>, Tensor<1>, Tensor<1>, AdamWUpdate) -> Moved) {
        let device = device::cpu();
        let draw = || numbers(WIDTH * 4 * WIDTH, &device);
        let gradient = draw();
        let mut moved = (draw().reshape([WIDTH, 4 * WIDTH]), draw(), draw().powi_scalar(2));
        let how = AdamWUpdate {
            gradient_scale: 0.7,
            learning_rate: 1e-3,
            weight_decay: 0.1,
            beta_1: 0.9,
            beta_2: 0.99,
            epsilon: 1e-8,
            correction_1: 0.19,
            correction_2: 0.02,
        };
        let nothing = || (Tensor::empty([0, 0], &device), Tensor::empty([0], &device), Tensor::empty([0], &device));
        bencher.bench_local(move || {
            // Taken out, so that it can be written over.
            let (weight, first, second) = std::mem::replace(&mut moved, nothing());
            moved = update(weight, gradient.clone(), first, second, how);
        });
    }

    #[divan::bench]
    fn fused(bencher: Bencher<'_, '_>) {
        time(bencher, headlight::kernels::adamw);
    }

    #[divan::bench]
    fn plain(bencher: Bencher<'_, '_>) {
        time(bencher, headlight::kernels::plain::adamw);
    }
}
