//! Memory for results that is used again: a training step asks for the same sizes as the one before.
//!
//! Fresh memory costs a tenth of a step: the allocator gives large blocks back to the system, which clears every page
//! before it lends it again. Each thread keeps the blocks that it let go, up to a limit; they end with the thread.

use std::cell::RefCell;
use std::collections::HashMap;
use std::mem::MaybeUninit;

use burn::tensor::{AllocationProperty, Bytes};
use burn_std::{AccessError, AccessPolicy, AllocationController};

/// Smaller blocks are left to the allocator, which is good at them.
const SMALLEST: usize = 1 << 12;

/// The most that a thread keeps, in numbers: 512 MiB.
const LIMIT: usize = 1 << 27;

#[derive(Default)]
struct Kept {
    blocks: HashMap<usize, Vec<Vec<f32>>>,
    total: usize,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// `count` numbers, whatever they are: to be written over.
pub(super) fn buffer(count: usize) -> Vec<f32> {
    let kept = |kept: &RefCell<Kept>| {
        let mut kept = kept.borrow_mut();
        let block = kept.blocks.get_mut(&count)?.pop()?;
        kept.total -= count;
        Some(block)
    };
    let found = if count < SMALLEST { None } else { KEPT.try_with(kept).ok().flatten() };
    found.unwrap_or_else(|| fresh(count))
}

/// New memory. Where there is none the work is broken off; left to the allocator the whole program would end.
fn fresh(count: usize) -> Vec<f32> {
    let mut block = Vec::new();
    let taken = block.try_reserve_exact(count);
    assert!(taken.is_ok(), "there is not enough memory for {} MB more", count / 250_000);
    block.resize(count, 0.0);
    block
}

/// `count` zeros.
pub(super) fn zeros(count: usize) -> Vec<f32> {
    let mut block = buffer(count);
    if count >= SMALLEST {
        block.fill(0.0);
    }
    block
}

fn give_back(block: Vec<f32>) {
    // A thread that ends has no place for it any more, and it is freed.
    let _ = KEPT.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.total + block.len() > LIMIT {
            // Most likely sizes that nobody asks for any more.
            *kept = Kept::default();
        }
        kept.total += block.len();
        kept.blocks.entry(block.len()).or_default().push(block);
    });
}

/// The block as a tensor's memory, to come back when the last tensor that holds it goes.
pub(super) fn into_bytes(block: Vec<f32>) -> Bytes {
    if block.len() < SMALLEST {
        return Bytes::from_elems(block);
    }
    let size = size_of_val(block.as_slice());
    // SAFETY: all `size` bytes of the block are initialised numbers.
    unsafe { Bytes::from_controller(Box::new(Block(block)), size) }
}

/// A block that comes back; a scratch derefs to its numbers.
pub(super) struct Block(Vec<f32>);

/// `count` numbers, whatever they are, that are only needed for a while.
pub(super) fn scratch(count: usize) -> Block {
    Block(buffer(count))
}

impl std::ops::Deref for Block {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl std::ops::DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.0.len() >= SMALLEST {
            give_back(std::mem::take(&mut self.0));
        }
    }
}

impl AllocationController for Block {
    fn alloc_align(&self) -> usize {
        align_of::<f32>()
    }

    fn property(&self) -> AllocationProperty {
        AllocationProperty::Other
    }

    unsafe fn memory_mut(&mut self, _: AccessPolicy) -> Result<&mut [MaybeUninit<u8>], AccessError> {
        let bytes = size_of_val(self.0.as_slice());
        // SAFETY: the same memory, borrowed as long; whoever takes it writes initialised bytes, of which any make an f32.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), bytes) })
    }

    fn memory(&self, _: AccessPolicy) -> Result<&[MaybeUninit<u8>], AccessError> {
        // SAFETY: the same memory, borrowed as long.
        Ok(unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), size_of_val(self.0.as_slice())) })
    }
}
