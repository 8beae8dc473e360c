//! The MLP's functions, element by element.
//!
//! When gradients are wanted, the forward pass keeps the slope instead of the input: it needs the same exponentials, and
//! the backward pass is then one product.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;

use super::host::{Shared, contiguous, owned, spread_chunks, tensor, values};
use super::memory::buffer;
use super::team::spread;
use super::vector::{erf, exp, fma, vectorised};

/// Elements that one part takes.
const CHUNK: usize = 1 << 14;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// x · Φ(x) with Φ the normal distribution's cumulative (Hendrycks & Gimpel 2016).
    Gelu,
    /// Its approximation with tanh, as GPT-2 has it.
    GeluTanh,
    Relu,
    /// x · σ(x), as in SwiGLU (Shazeer 2020).
    Silu,
}

/// The activation, and with `keep` its slope at each input.
pub(super) fn forward(x: FlexTensor, activation: Activation, keep: bool) -> (FlexTensor, Option<FlexTensor>) {
    let x = contiguous(x);
    let data = values(&x);
    let mut y = buffer(data.len());
    if !keep {
        spread_chunks(&mut y, CHUNK, |part, y| {
            let x = &data[part * CHUNK..][..y.len()];
            match activation {
                Activation::Gelu => gelu(y, x),
                Activation::GeluTanh => gelu_tanh(y, x),
                Activation::Relu => relu(y, x),
                Activation::Silu => silu(y, x),
            }
        });
        return (tensor(y, x.shape()), None);
    }
    let mut slopes = buffer(data.len());
    let (y_places, slope_places) = (Shared::new(&mut y), Shared::new(&mut slopes));
    spread(data.len().div_ceil(CHUNK), |part| {
        let places = part * CHUNK..data.len().min((part + 1) * CHUNK);
        let x = &data[places.clone()];
        // SAFETY: each part has places of its own.
        let (y, slopes) = unsafe { (y_places.slice(places.clone()), slope_places.slice(places)) };
        match activation {
            Activation::Gelu => gelu_and_slope(y, slopes, x),
            Activation::GeluTanh => gelu_tanh_and_slope(y, slopes, x),
            Activation::Relu => relu_and_slope(y, slopes, x),
            Activation::Silu => silu_and_slope(y, slopes, x),
        }
    });
    (tensor(y, x.shape()), Some(tensor(slopes, x.shape())))
}

pub(super) fn backward(slopes: &FlexTensor, activation: Activation, gradient: FlexTensor) -> FlexTensor {
    let mut gradient = owned(gradient);
    let slopes = values(slopes);
    spread_chunks(gradient.storage_mut(), CHUNK, |part, found| {
        let slopes = &slopes[part * CHUNK..][..found.len()];
        match activation {
            Activation::Relu => keep_where(found, slopes),
            _ => multiply(found, slopes),
        }
    });
    gradient
}

/// silu(gate) · up
pub(super) fn swiglu(gate: &FlexTensor, up: &FlexTensor) -> FlexTensor {
    let (gates, ups) = (values(gate), values(up));
    let mut y = buffer(gates.len());
    spread_chunks(&mut y, CHUNK, |part, y| {
        swiglu_rows(y, &gates[part * CHUNK..][..y.len()], &ups[part * CHUNK..][..y.len()]);
    });
    tensor(y, gate.shape())
}

/// The gradients of gate and up.
pub(super) fn swiglu_backward(gate: &FlexTensor, up: &FlexTensor, gradient: FlexTensor) -> [FlexTensor; 2] {
    let gradient = contiguous(gradient);
    let (gates, ups, gradients) = (values(gate), values(up), values(&gradient));
    let (mut of_gate, mut of_up) = (buffer(gates.len()), buffer(gates.len()));
    let (gate_places, up_places) = (Shared::new(&mut of_gate), Shared::new(&mut of_up));
    spread(gates.len().div_ceil(CHUNK), |part| {
        let places = part * CHUNK..gates.len().min((part + 1) * CHUNK);
        // SAFETY: each part has places of its own.
        let (of_gate, of_up) = unsafe { (gate_places.slice(places.clone()), up_places.slice(places.clone())) };
        swiglu_gradients(of_gate, of_up, &gates[places.clone()], &ups[places.clone()], &gradients[places]);
    });
    [tensor(of_gate, gate.shape()), tensor(of_up, gate.shape())]
}

#[inline(always)]
fn gelu_at<const FUSED: bool>(x: f32) -> (f32, f32) {
    const INVERSE_ROOT_TWO_PI: f32 = 0.398_942_3;
    let cumulative = fma::<FUSED>(erf::<FUSED>(x * std::f32::consts::FRAC_1_SQRT_2), 0.5, 0.5);
    let density = exp::<FUSED>(-0.5 * x * x) * INVERSE_ROOT_TWO_PI;
    (x * cumulative, fma::<FUSED>(x, density, cumulative))
}

#[inline(always)]
fn gelu_tanh_at<const FUSED: bool>(x: f32) -> (f32, f32) {
    const ROOT_TWO_OVER_PI: f32 = 0.797_884_6;
    const CUBIC: f32 = 0.044_715;
    // (1 + tanh u) / 2 = σ(2u)
    let u = ROOT_TWO_OVER_PI * fma::<FUSED>(CUBIC * x * x, x, x);
    let sigmoid = 1.0 / (1.0 + exp::<FUSED>(-2.0 * u));
    let slope_of_u = ROOT_TWO_OVER_PI * fma::<FUSED>(3.0 * CUBIC * x, x, 1.0);
    (x * sigmoid, fma::<FUSED>(2.0 * x * slope_of_u * sigmoid, 1.0 - sigmoid, sigmoid))
}

#[inline(always)]
fn silu_at<const FUSED: bool>(x: f32) -> (f32, f32) {
    let sigmoid = 1.0 / (1.0 + exp::<FUSED>(-x));
    (x * sigmoid, sigmoid * fma::<FUSED>(x, 1.0 - sigmoid, 1.0))
}

#[inline(always)]
fn relu_at<const FUSED: bool>(x: f32) -> (f32, f32) {
    // NaN is not below zero, and stays.
    if x <= 0.0 { (0.0, 0.0) } else { (x, 1.0) }
}

macro_rules! elementwise {
    ($($name:ident, $with_slope:ident, $at:ident;)*) => {
        vectorised! {
            $(
            fn $name(y: &mut [f32], x: &[f32]), FUSED => {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = $at::<FUSED>(x).0;
                }
            }
            fn $with_slope(y: &mut [f32], slopes: &mut [f32], x: &[f32]), FUSED => {
                for ((y, slope), &x) in y.iter_mut().zip(slopes).zip(x) {
                    (*y, *slope) = $at::<FUSED>(x);
                }
            }
            )*
        }
    };
}

elementwise! {
    gelu, gelu_and_slope, gelu_at;
    gelu_tanh, gelu_tanh_and_slope, gelu_tanh_at;
    relu, relu_and_slope, relu_at;
    silu, silu_and_slope, silu_at;
}

vectorised! {
    fn multiply(out: &mut [f32], factors: &[f32]), FUSED => {
        for (out, &factor) in out.iter_mut().zip(factors) {
            *out *= factor;
        }
    }
    /// Numbers where the slope is 1, and 0 where it is 0, whatever was there.
    fn keep_where(out: &mut [f32], slopes: &[f32]), FUSED => {
        for (out, &slope) in out.iter_mut().zip(slopes) {
            *out = if slope == 0.0 { 0.0 } else { *out };
        }
    }
    fn swiglu_rows(y: &mut [f32], gate: &[f32], up: &[f32]), FUSED => {
        for ((y, &gate), &up) in y.iter_mut().zip(gate).zip(up) {
            *y = silu_at::<FUSED>(gate).0 * up;
        }
    }
    fn swiglu_gradients(of_gate: &mut [f32], of_up: &mut [f32], gate: &[f32], up: &[f32], gradient: &[f32]), FUSED => {
        let inputs = gate.iter().zip(up).zip(gradient);
        for ((of_gate, of_up), ((&gate, &up), &gradient)) in of_gate.iter_mut().zip(of_up).zip(inputs) {
            let (value, slope) = silu_at::<FUSED>(gate);
            (*of_gate, *of_up) = (gradient * up * slope, gradient * value);
        }
    }
}
