//! `y = x · W + b` over the last axis, and its three gradients.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::Shape;

use super::host::{contiguous, rows_and_width, spread_chunks, tensor, values};
use super::matmul::{Matrix, product};
use super::memory::{buffer, zeros};
use super::vector::vectorised;

/// Rows that one part copies.
const ROWS: usize = 64;

/// What the forward pass reads and the backward pass needs again.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    x: FlexTensor,      // [.., input]
    weight: FlexTensor, // [input, output], or [output, input] when `transposed`
    transposed: bool,
}

impl Inputs {
    pub(super) fn new(x: FlexTensor, weight: FlexTensor, transposed: bool) -> Self {
        Self { x: contiguous(x), weight: contiguous(weight), transposed }
    }

    fn x(&self) -> Matrix<'_> {
        let (rows, width) = rows_and_width(&self.x.shape());
        Matrix::new(values(&self.x), rows, width)
    }

    /// As [input, output], however it is stored.
    fn weight(&self) -> Matrix<'_> {
        let shape = self.weight.shape();
        let matrix = Matrix::new(values(&self.weight), shape[0], shape[1]);
        if self.transposed { matrix.transposed() } else { matrix }
    }
}

fn with_width(shape: &Shape, width: usize) -> Shape {
    let mut shape = shape.clone();
    let last = shape.num_dims() - 1;
    shape[last] = width;
    shape
}

/// What the product is added to.
pub(super) enum Onto {
    Nothing,
    /// `[output]`
    Bias(FlexTensor),
    /// `[.., output]`: the residual stream.
    Residual(FlexTensor),
}

pub(super) fn forward(inputs: &Inputs, onto: Onto) -> FlexTensor {
    let (x, weight) = (inputs.x(), inputs.weight());
    let mut y = buffer(x.rows * weight.columns);
    let chunk = weight.columns * ROWS;
    let add = match onto {
        Onto::Nothing => false,
        Onto::Bias(bias) => {
            let bias = contiguous(bias);
            spread_chunks(&mut y, chunk, |_, y| {
                y.chunks_exact_mut(weight.columns).for_each(|row| row.copy_from_slice(values(&bias)));
            });
            true
        }
        Onto::Residual(residual) => {
            let residual = contiguous(residual);
            assert_eq!(values(&residual).len(), y.len(), "size of the residual");
            spread_chunks(&mut y, chunk, |part, y| y.copy_from_slice(&values(&residual)[part * chunk..][..y.len()]));
            true
        }
    };
    product(&mut y, x, weight, add);
    tensor(y, with_width(&inputs.x.shape(), weight.columns))
}

/// The gradient of `y`.
pub(super) struct Gradient(FlexTensor);

impl Gradient {
    pub(super) fn new(gradient: FlexTensor) -> Self {
        Self(contiguous(gradient))
    }

    fn matrix(&self) -> Matrix<'_> {
        let (rows, width) = rows_and_width(&self.0.shape());
        Matrix::new(values(&self.0), rows, width)
    }

    /// `dy · Wᵀ`
    pub(super) fn of_x(&self, inputs: &Inputs) -> FlexTensor {
        let (gradient, weight) = (self.matrix(), inputs.weight());
        let mut found = buffer(gradient.rows * weight.rows);
        product(&mut found, gradient, weight.transposed(), false);
        tensor(found, inputs.x.shape())
    }

    /// `xᵀ · dy`, stored as the weight is.
    pub(super) fn of_weight(&self, inputs: &Inputs) -> FlexTensor {
        let (gradient, x) = (self.matrix(), inputs.x());
        let mut found = buffer(x.columns * gradient.columns);
        if inputs.transposed {
            product(&mut found, gradient.transposed(), x, false);
        } else {
            product(&mut found, x.transposed(), gradient, false);
        }
        tensor(found, inputs.weight.shape())
    }

    /// The sum of `dy` over all rows.
    pub(super) fn of_bias(&self) -> FlexTensor {
        let (rows, width) = rows_and_width(&self.0.shape());
        let mut found = zeros(width);
        // Columns are split, not rows: each sum runs down its column in order.
        spread_chunks(&mut found, width.div_ceil(2).max(256), |part, sums| {
            add_columns(sums, values(&self.0), part * width.div_ceil(2).max(256), rows, width);
        });
        tensor(found, [width])
    }
}

vectorised! {
    /// Adds to `sums` the columns from `first` on of a matrix of `rows` × `width`.
    fn add_columns(sums: &mut [f32], matrix: &[f32], first: usize, rows: usize, width: usize), FUSED => {
        for row in 0..rows {
            for (sum, &value) in sums.iter_mut().zip(&matrix[row * width + first..(row + 1) * width]) {
                *sum += value;
            }
        }
    }
}
