//! Which part of the enlarged head is in sight, and the cell that the keyboard is at. Paints nothing.

use eframe::egui::{Pos2, Vec2};

/// Tokens along a side where it is closest.
const SHOWN_MIN: f32 = 6.0;

/// A query and a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cell {
    pub query: usize,
    pub key: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Look {
    pub tokens: usize,
    /// The first key (x) and query (y) in sight; it may begin within a cell.
    pub first: Vec2,
    /// Tokens in sight along each side.
    pub shown: f32,
    /// Where the keyboard is, while it and not the pointer says which cell is read.
    pub marked: Option<Cell>,
    /// Where the pointer was last: at rest it takes nothing from the keyboard.
    pub pointer: Option<Pos2>,
}

impl Look {
    pub(super) fn whole(tokens: usize) -> Self {
        Self { tokens, first: Vec2::ZERO, shown: tokens as f32, marked: None, pointer: None }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.shown >= self.tokens as f32
    }

    /// Shows `factor` times as many tokens; the place `around` (in tokens) stays where it is.
    pub(super) fn zoom(&mut self, factor: f32, around: Vec2) {
        let tokens = self.tokens as f32;
        let shown = (self.shown * factor).clamp(SHOWN_MIN.min(tokens), tokens);
        let offset = (around - self.first) * (shown / self.shown);
        self.shown = shown;
        self.go_to(around - offset);
    }

    /// Moves over the map, up to its edges.
    pub(super) fn go_to(&mut self, first: Vec2) {
        let last = (self.tokens as f32 - self.shown).max(0.0);
        self.first = first.clamp(Vec2::ZERO, Vec2::splat(last));
    }

    /// Marks the cell beside `from`, so many keys and queries on, and brings it in sight.
    pub(super) fn step(&mut self, from: Cell, keys: isize, queries: isize) {
        let along = |index: usize, by| index.saturating_add_signed(by).min(self.tokens.saturating_sub(1));
        let cell = Cell { query: along(from.query, queries), key: along(from.key, keys) };
        self.marked = Some(cell);
        let place = Vec2::new(cell.key as f32, cell.query as f32);
        let nearest = place + Vec2::splat(1.0 - self.shown);
        self.go_to(self.first.clamp(nearest, place));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_is_done_the_look_stays_on_the_map(
            tokens in 1_usize..600,
            moves in prop::collection::vec((0.1_f32..8.0, -50.0_f32..600.0, -50.0_f32..600.0, -3_isize..4, -3_isize..4), 1..40),
        ) {
            let mut look = Look::whole(tokens);
            for (factor, x, y, keys, queries) in moves {
                look.zoom(factor, Vec2::new(x, y));
                look.go_to(look.first + Vec2::new(y, -x));
                look.step(look.marked.unwrap_or(Cell { query: 0, key: 0 }), keys, queries);
                let cell = look.marked.expect("a cell");
                let slack = 1e-3 * tokens as f32;
                for (first, index) in [(look.first.x, cell.key), (look.first.y, cell.query)] {
                    prop_assert!(first >= 0.0 && first + look.shown <= tokens as f32 + slack);
                    prop_assert!(index < tokens && first <= index as f32 + slack);
                    prop_assert!(index as f32 + 1.0 <= first + look.shown + slack);
                }
            }
        }

        #[test]
        fn zooming_keeps_the_place_under_the_pointer(factor in 0.2_f32..1.0, x in 0.0_f32..512.0, y in 0.0_f32..512.0) {
            let mut look = Look::whole(512);
            let (before, shown) = (Vec2::new(x, y) - look.first, look.shown);
            look.zoom(factor, Vec2::new(x, y));
            let after = Vec2::new(x, y) - look.first;
            prop_assert!((before / shown - after / look.shown).length() < 1e-3);
        }
    }
}
