//! Texts that the program makes itself: dialogues, and lessons made of problems.
//!
//! Every byte is part of a run's identity (its digest is kept), so the generator is fixed; it is our own because a
//! library's may change with its version.

mod dialogues;
mod lessons;

pub use dialogues::dialogues;
pub use lessons::{Problem, lesson, problems};

/// Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators".
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (((self.next() >> 32) * limit as u64) >> 32) as usize
    }

    /// Fisher-Yates, until the first `count` are drawn.
    fn shuffle<T>(&mut self, items: &mut [T], count: usize) {
        for place in 0..count.min(items.len()) {
            items.swap(place, place + self.below(items.len() - place));
        }
    }
}
