//! Between burn's tensors and plain memory.

use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{DType, Shape};

use super::memory;
use super::team::spread;

/// Memory that the parts of a job write to, each to places of its own.
pub(super) struct Shared<'a> {
    start: *mut f32,
    length: usize,
    _memory: std::marker::PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a `&mut [f32]`, which may go to other threads; `slice` leaves it to the caller that no two of
// them touch the same place.
unsafe impl Sync for Shared<'_> {}
// SAFETY: as above.
unsafe impl Send for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(super) fn new(memory: &'a mut [f32]) -> Self {
        Self { start: memory.as_mut_ptr(), length: memory.len(), _memory: std::marker::PhantomData }
    }

    /// The places `range`.
    ///
    /// # Safety
    /// While the result lives, nothing else reads or writes these places.
    #[allow(clippy::mut_from_ref)] // what the type is for
    pub(super) unsafe fn slice(&self, range: std::ops::Range<usize>) -> &mut [f32] {
        assert!(range.start <= range.end && range.end <= self.length, "{range:?} of {}", self.length);
        // SAFETY: inside the memory, as was just asserted; unshared, as the caller promises.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start) }
    }

    /// The first place of `offset..offset + length`, for a matrix with strides.
    pub(super) fn pointer(&self, offset: usize, length: usize) -> *mut f32 {
        assert!(offset + length <= self.length, "{offset} + {length} of {}", self.length);
        // SAFETY: inside the memory.
        unsafe { self.start.add(offset) }
    }
}

/// Cuts `out` into chunks of `chunk` numbers and calls `work` with each one's place and memory, on all cores.
pub(super) fn spread_chunks(out: &mut [f32], chunk: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let length = out.len();
    if length == 0 {
        return;
    }
    let shared = Shared::new(out);
    spread(length.div_ceil(chunk), |part| {
        let start = part * chunk;
        // SAFETY: each part has its own range, and `out` is borrowed until all are done.
        work(part, unsafe { shared.slice(start..length.min(start + chunk)) });
    });
}

/// The tensor with its numbers in one row-major run.
pub(super) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// The tensor with its numbers in one row-major run that fills its memory and that nobody else holds: to be written to.
pub(super) fn owned(tensor: FlexTensor) -> FlexTensor {
    let whole = tensor.is_contiguous() && tensor.bytes().len() == tensor.layout().num_elements() * size_of::<f32>();
    if whole && tensor.is_unique() {
        return tensor;
    }
    let tensor = contiguous(tensor);
    let source = values(&tensor);
    let mut copy = memory::buffer(source.len());
    spread_chunks(&mut copy, 1 << 14, |part, copy| copy.copy_from_slice(&source[part << 14..][..copy.len()]));
    self::tensor(copy, tensor.layout().shape().clone())
}

/// The numbers of a contiguous tensor.
pub(super) fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("a contiguous tensor of f32")
}

pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    let shape = shape.into();
    assert_eq!(values.len(), shape.num_elements());
    FlexTensor::new(memory::into_bytes(values), Layout::contiguous(shape), DType::F32)
}

/// All axes but the last one, taken together, and the last one.
pub(super) fn rows_and_width(shape: &Shape) -> (usize, usize) {
    let width = shape.last().copied().unwrap_or(1);
    (shape.num_elements().checked_div(width).unwrap_or(0), width)
}
