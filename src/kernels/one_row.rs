//! One row times a matrix: what a model computes when it writes token after token. It is bound by reading the matrix once,
//! so that its columns are split over the cores.

use super::host::spread_chunks;
use super::team::threads;
use super::vector::{fma, sum_of, vectorised};

/// Numbers of the matrix below which waking another core costs more than it gives.
const ALONE: usize = 50_000;

/// `out = x · matrix`, or added to what is there. `matrix` has `x.len()` rows of `out.len()` numbers, `stride` apart.
pub(super) fn times_rows(out: &mut [f32], x: &[f32], matrix: &[f32], stride: usize, add: bool) {
    if !add {
        out.fill(0.0);
    }
    let chunk = chunk(out.len(), x.len());
    spread_chunks(out, chunk, |part, out| add_rows(out, x, &matrix[part * chunk..], stride));
}

/// `out = x · matrixᵀ`, or added to what is there. `matrix` has `out.len()` rows of `x.len()` numbers, `stride` apart.
pub(super) fn times_columns(out: &mut [f32], x: &[f32], matrix: &[f32], stride: usize, add: bool) {
    if !add {
        out.fill(0.0);
    }
    let chunk = chunk(out.len(), x.len());
    spread_chunks(out, chunk, |part, out| add_products(out, x, &matrix[part * chunk * stride..], stride));
}

fn chunk(outputs: usize, inputs: usize) -> usize {
    let parts = if outputs * inputs < ALONE { 1 } else { threads() };
    outputs.div_ceil(parts).next_multiple_of(16)
}

vectorised! {
    fn add_rows(out: &mut [f32], x: &[f32], matrix: &[f32], stride: usize), FUSED => {
        let width = out.len();
        let row = |index: usize| &matrix[index * stride..][..width];
        let mut index = 0;
        // Four rows at a time: the sums are read and written a quarter as often.
        while index + 4 <= x.len() {
            let (a, b, c, d) = (row(index), row(index + 1), row(index + 2), row(index + 3));
            let (x0, x1, x2, x3) = (x[index], x[index + 1], x[index + 2], x[index + 3]);
            for column in 0..width {
                let sum = fma::<FUSED>(x0, a[column], out[column]);
                let sum = fma::<FUSED>(x1, b[column], sum);
                let sum = fma::<FUSED>(x2, c[column], sum);
                out[column] = fma::<FUSED>(x3, d[column], sum);
            }
            index += 4;
        }
        for (rest, &x) in x.iter().enumerate().skip(index) {
            for (out, &weight) in out.iter_mut().zip(row(rest)) {
                *out = fma::<FUSED>(x, weight, *out);
            }
        }
    }
    fn add_products(out: &mut [f32], x: &[f32], matrix: &[f32], stride: usize), FUSED => {
        for (index, out) in out.iter_mut().enumerate() {
            let row = &matrix[index * stride..][..x.len()];
            *out += sum_of([x, row], |[x, weight]| x * weight);
        }
    }
}
