//! Token rows out of an embedding, with the positions' rows added.

use burn::backend::TensorMetadata;
use burn::backend::flex::FlexTensor;
use burn::tensor::DType;

use super::host::{Shared, contiguous, spread_chunks, tensor, values};
use super::memory::{buffer, zeros};
use super::team::{spread, threads};

/// Rows that one part takes.
const ROWS: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct State {
    ids: Vec<usize>,
    batch: usize,
    length: usize,
    /// Rows and width of the token embedding.
    tokens: [usize; 2],
    /// Rows of the position embedding.
    positions: usize,
}

/// Numbers of an integer tensor, as places.
pub(super) fn indices(tensor: &FlexTensor) -> Vec<usize> {
    let tensor = contiguous(tensor.clone());
    match tensor.dtype() {
        DType::I64 => tensor.as_slice::<i64>().unwrap_or_default().iter().map(|&id| id as usize).collect(),
        _ => tensor.as_slice::<i32>().expect("ids are i32 or i64").iter().map(|&id| id as usize).collect(),
    }
}

/// `[batch, position, width]`
pub(super) fn forward(tokens: FlexTensor, positions: Option<FlexTensor>, ids: &FlexTensor) -> (FlexTensor, State) {
    let (tokens, positions) = (contiguous(tokens), positions.map(contiguous));
    let (shape, [rows, width]) = (ids.shape(), [tokens.shape()[0], tokens.shape()[1]]);
    let (batch, length) = (shape[0], shape[1]);
    let ids = indices(ids);
    let mut y = buffer(batch * length * width);
    let table = values(&tokens);
    spread_chunks(&mut y, ROWS * width, |part, y| {
        for (row, y) in (part * ROWS..).zip(y.chunks_exact_mut(width)) {
            y.copy_from_slice(&table[ids[row] * width..(ids[row] + 1) * width]);
            if let Some(positions) = &positions {
                let place = row % length * width;
                y.iter_mut().zip(&values(positions)[place..place + width]).for_each(|(y, &position)| *y += position);
            }
        }
    });
    let positions = positions.map_or(0, |positions| positions.shape()[0]);
    (tensor(y, [batch, length, width]), State { ids, batch, length, tokens: [rows, width], positions })
}

/// The token embedding's gradient: each row of the result's is added to its token's, in order.
pub(super) fn of_tokens(state: &State, gradient: &FlexTensor) -> FlexTensor {
    let [rows, width] = state.tokens;
    let mut found = zeros(rows * width);
    let data = values(gradient);
    let places = Shared::new(&mut found);
    // Columns are split, so that no two parts add to the same place.
    let columns = width.div_ceil(threads()).next_multiple_of(16);
    spread(width.div_ceil(columns), |part| {
        let (first, end) = (part * columns, width.min((part + 1) * columns));
        for (row, &id) in state.ids.iter().enumerate() {
            // SAFETY: each part has columns of its own.
            let sums = unsafe { places.slice(id * width + first..id * width + end) };
            sums.iter_mut().zip(&data[row * width + first..row * width + end]).for_each(|(sum, &value)| *sum += value);
        }
    });
    tensor(found, [rows, width])
}

/// The position embedding's gradient: the sum over the batch, and 0 past the longest sequence.
pub(super) fn of_positions(state: &State, gradient: &FlexTensor) -> FlexTensor {
    let width = state.tokens[1];
    let mut found = zeros(state.positions * width);
    let data = values(gradient);
    let used = state.length * width;
    for sequence in 0..state.batch {
        let rows = &data[sequence * used..(sequence + 1) * used];
        found.iter_mut().zip(rows).for_each(|(sum, &value)| *sum += value);
    }
    tensor(found, [state.positions, width])
}
