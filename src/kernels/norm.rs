//! Layer norm (Ba et al. 2016) and root-mean-square norm (Zhang & Sennrich 2019) over the last axis.
//!
//! With n the normed row and g = dy ∘ gain: dx = (g − mean(g) − n · mean(g ∘ n)) / deviation; the RMS norm has no mean(g).

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;

use super::host::{Shared, contiguous, rows_and_width, tensor, values};
use super::memory::{buffer, zeros};
use super::team::spread;
use super::vector::{fma, sum_of, vectorised};

/// Rows that one part takes; also the rows whose gain gradients are summed first, whatever the number of threads.
const ROWS: usize = 32;

#[derive(Clone, Debug)]
pub(super) struct State {
    x: FlexTensor,    // [.., width]
    gain: FlexTensor, // [width]
    /// Mean and 1 / deviation of each row.
    statistics: Vec<f32>,
    centered: bool,
}

/// `centered`: layer norm; otherwise RMS norm.
pub(super) fn forward(
    x: FlexTensor,
    gain: FlexTensor,
    bias: Option<FlexTensor>,
    epsilon: f32,
    centered: bool,
) -> (FlexTensor, State) {
    let (x, gain, bias) = (contiguous(x), contiguous(gain), bias.map(contiguous));
    let (rows, width) = rows_and_width(&x.shape());
    let (mut y, mut statistics) = (buffer(rows * width), buffer(2 * rows));
    let (y_places, statistics_places) = (Shared::new(&mut y), Shared::new(&mut statistics));
    spread(rows.div_ceil(ROWS), |part| {
        let (first, end) = (part * ROWS, rows.min((part + 1) * ROWS));
        let data = &values(&x)[first * width..end * width];
        // SAFETY: each part has rows of its own.
        let (y, statistics) =
            unsafe { (y_places.slice(first * width..end * width), statistics_places.slice(2 * first..2 * end)) };
        norm_rows(y, statistics, data, values(&gain), bias.as_ref().map(values), width, epsilon, centered);
    });
    let y = tensor(y, x.shape());
    (y, State { x, gain, statistics, centered })
}

/// The gradients of x, the gain and the bias.
pub(super) fn backward(state: &State, gradient: FlexTensor) -> [FlexTensor; 3] {
    let gradient = contiguous(gradient);
    let (rows, width) = rows_and_width(&state.x.shape());
    let parts = rows.div_ceil(ROWS);
    let (mut of_x, mut sums) = (buffer(rows * width), zeros(2 * parts * width));
    let (x_places, sum_places) = (Shared::new(&mut of_x), Shared::new(&mut sums));
    spread(parts, |part| {
        let (first, end) = (part * ROWS, rows.min((part + 1) * ROWS));
        let places = first * width..end * width;
        // SAFETY: each part has rows of its own.
        let (of_x, sums) =
            unsafe { (x_places.slice(places.clone()), sum_places.slice(2 * part * width..2 * (part + 1) * width)) };
        let (of_gain, of_bias) = sums.split_at_mut(width);
        let (x, gradient) = (&values(&state.x)[places.clone()], &values(&gradient)[places]);
        let statistics = &state.statistics[2 * first..2 * end];
        gradient_rows(of_x, of_gain, of_bias, x, gradient, statistics, values(&state.gain), state.centered);
    });
    let mut totals = zeros(2 * width);
    for sums in sums.chunks_exact(2 * width) {
        totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
    }
    let of_bias = totals.split_off(width);
    [tensor(of_x, state.x.shape()), tensor(totals, [width]), tensor(of_bias, [width])]
}

vectorised! {
    fn norm_rows(
        y: &mut [f32],
        statistics: &mut [f32],
        x: &[f32],
        gain: &[f32],
        bias: Option<&[f32]>,
        width: usize,
        epsilon: f32,
        centered: bool,
    ), FUSED => {
        let rows = y.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(statistics.chunks_exact_mut(2));
        for ((y, x), statistics) in rows {
            let mean = if centered { sum_of([x], |[x]| x) / width as f32 } else { 0.0 };
            let variance = sum_of([x], |[x]| (x - mean) * (x - mean)) / width as f32;
            let scale = 1.0 / (variance + epsilon).sqrt();
            // As PyTorch's layer norm, where squares are past f32's end: its RMS norm, several operations, gives 0.
            let scale = if centered && variance == f32::INFINITY { f32::NAN } else { scale };
            statistics.copy_from_slice(&[mean, scale]);
            match bias {
                Some(bias) => {
                    for (((y, &x), &gain), &bias) in y.iter_mut().zip(x).zip(gain).zip(bias) {
                        *y = fma::<FUSED>((x - mean) * scale, gain, bias);
                    }
                }
                None => {
                    for ((y, &x), &gain) in y.iter_mut().zip(x).zip(gain) {
                        *y = (x - mean) * scale * gain;
                    }
                }
            }
        }
    }
    fn gradient_rows(
        of_x: &mut [f32],
        of_gain: &mut [f32],
        of_bias: &mut [f32],
        x: &[f32],
        gradient: &[f32],
        statistics: &[f32],
        gain: &[f32],
        centered: bool,
    ), FUSED => {
        let width = gain.len();
        let rows = of_x.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(gradient.chunks_exact(width));
        for (((of_x, x), gradient), statistics) in rows.zip(statistics.chunks_exact(2)) {
            let (mean, scale) = (statistics[0], statistics[1]);
            // g = dy ∘ gain, first put where dx goes.
            for ((of_x, &gradient), &gain) in of_x.iter_mut().zip(gradient).zip(gain) {
                *of_x = gradient * gain;
            }
            let of_mean = if centered { sum_of([&*of_x], |[g]| g) / width as f32 } else { 0.0 };
            let along = sum_of([&*of_x, x], |[g, x]| g * (x - mean)) * scale / width as f32;
            for (of_x, &x) in of_x.iter_mut().zip(x) {
                *of_x = (*of_x - of_mean - (x - mean) * scale * along) * scale;
            }
            for (((of_gain, of_bias), &x), &gradient) in of_gain.iter_mut().zip(&mut *of_bias).zip(x).zip(gradient) {
                *of_gain = fma::<FUSED>(gradient, (x - mean) * scale, *of_gain);
                *of_bias += gradient;
            }
        }
    }
}
