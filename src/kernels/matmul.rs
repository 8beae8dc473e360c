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

/// Columns below which a product is not cut: what the `gemm` crate computes at a time with AVX-512.
const COLUMNS: usize = 64;

/// `out = left · right`, or added to what is there, on all cores; row-major.
///
/// Columns are cut first: the crate repacks `right`, so that rows alone would have every core pack all of it. Where
/// `left` lies across, it is repacked too, and the longer side is cut.
pub(super) fn product(out: &mut [f32], left: Matrix<'_>, right: Matrix<'_>, add: bool) {
    assert_eq!(out.len(), left.rows * right.columns, "size of the result");
    let (rows, columns) = (left.rows, right.columns);
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
    let parts = if out.len().saturating_mul(left.columns) < 100_000 { 1 } else { threads() };
    let by_columns = left.column_stride == 1 || columns >= rows;
    let wide = if by_columns { parts.min(columns / COLUMNS).max(1) } else { 1 };
    let high = parts.div_ceil(wide).min(rows);
    let (width, height) = (columns.div_ceil(wide), rows.div_ceil(high));
    let width = if wide > 1 { width.next_multiple_of(COLUMNS) } else { width };
    let (wide, high) = (columns.div_ceil(width), rows.div_ceil(height));
    let shared = Shared::new(out);
    spread(wide * high, |part| {
        let (first_row, first_column) = (part / wide * height, part % wide * width);
        let (height, width) = (height.min(rows - first_row), width.min(columns - first_column));
        let place = shared.pointer(first_row * columns + first_column, (height - 1) * columns + width);
        let left = Matrix { data: &left.data[first_row * left.row_stride..], rows: height, ..left };
        let right = Matrix { data: &right.data[first_column * right.column_stride..], columns: width, ..right };
        // SAFETY: each part has a rectangle of its own.
        unsafe { product_at(place, columns, left, right, 1.0, add) };
    });
}
