//! Matrix products on the `gemm` crate: the rows of the result are split over the cores.

use super::host::Shared;
use super::one_row;
use super::team::{spread, threads};

/// A matrix in memory, with its distances from row to row and from column to column.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    pub(super) rows: usize,
    pub(super) columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `rows` × `columns` numbers, row after row, `row_stride` apart.
    pub(super) fn with_stride(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(rows == 0 || columns == 0 || (rows - 1) * row_stride + columns <= data.len());
        Self { data, rows, columns, row_stride, column_stride: 1 }
    }

    pub(super) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::with_stride(data, rows, columns, columns)
    }

    pub(super) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// `out = scale · left · right`, or added to what is there; on the calling thread. `out` holds
/// `left.rows` × `right.columns` numbers, rows `row_stride` apart.
///
/// # Safety
/// `out` points to memory of that extent that nothing else touches meanwhile.
pub(super) unsafe fn product_at(
    out: *mut f32,
    row_stride: usize,
    left: Matrix<'_>,
    right: Matrix<'_>,
    scale: f32,
    add: bool,
) {
    assert_eq!(left.columns, right.rows, "inner sizes");
    if left.rows == 0 || right.columns == 0 {
        return;
    }
    // SAFETY: `Matrix` holds its extent within its slice; `out` is the caller's promise. Nothing aliases: `out` is
    // unshared, the other two are only read.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            out,
            1,
            row_stride as isize,
            add,
            left.data.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.data.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// `out = left · right`, or added to what is there, on all cores; row-major.
pub(super) fn product(out: &mut [f32], left: Matrix<'_>, right: Matrix<'_>, add: bool) {
    assert_eq!(out.len(), left.rows * right.columns, "size of the result");
    let columns = right.columns;
    if out.is_empty() {
        return;
    }
    if left.rows == 1 && left.column_stride == 1 {
        let x = &left.data[..left.columns];
        return match (right.row_stride, right.column_stride) {
            (stride, 1) => one_row::times_rows(out, x, right.data, stride, add),
            (1, stride) => one_row::times_columns(out, x, right.data, stride, add),
            _ => unreachable!("a matrix is stored row after row, or is the transpose of one that is"),
        };
    }
    // Below some 100,000 multiplications waking another core costs more than it gives.
    let work = out.len().saturating_mul(left.columns);
    let parts = if work < 100_000 { 1 } else { threads() };
    let rows = left.rows.div_ceil(parts).next_multiple_of(8);
    let shared = Shared::new(out);
    spread(left.rows.div_ceil(rows), |part| {
        let first = part * rows;
        let count = rows.min(left.rows - first);
        let place = shared.pointer(first * columns, count * columns);
        let part = Matrix { data: &left.data[first * left.row_stride..], rows: count, ..left };
        // SAFETY: each part has rows of its own.
        unsafe { product_at(place, columns, part, right, 1.0, add) };
    });
}
