//! Windows of tokens: what the model sees, and the token after each that it must predict.

use rand::{Rng, RngExt};

/// Windows of equal length, one after the other: `[row, position]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Token ids, `rows × context` of them.
    pub inputs: Vec<i32>,
    /// The token after each input.
    pub targets: Vec<i32>,
    pub rows: usize,
    pub context: usize,
}

/// Draws `rows` windows of `context` tokens, each start equally likely and drawn anew (nanoGPT's `get_batch`).
///
/// # Panics
/// If there are fewer than `context + 1` tokens; [`Dataset::require`](super::Dataset::require) rules that out.
#[must_use]
pub fn random_batch(tokens: &[u16], rows: usize, context: usize, rng: &mut impl Rng) -> Batch {
    assert!(tokens.len() > context, "{} tokens hold no window of {context}", tokens.len());
    let mut inputs = Vec::with_capacity(rows * context);
    let mut targets = Vec::with_capacity(rows * context);
    for _ in 0..rows {
        let start = rng.random_range(0..tokens.len() - context);
        inputs.extend(tokens[start..start + context].iter().map(|&id| i32::from(id)));
        targets.extend(tokens[start + 1..=start + context].iter().map(|&id| i32::from(id)));
    }
    Batch { inputs, targets, rows, context }
}

/// Windows without overlap, as (inputs, targets): each token but the first is a target exactly once. The last window
/// may be shorter; fewer than two tokens give none.
///
/// # Panics
/// If `context` is 0.
pub fn consecutive(tokens: &[u16], context: usize) -> impl Iterator<Item = (&[u16], &[u16])> {
    let inputs = tokens.split_last().map_or(&[][..], |(_, inputs)| inputs);
    let targets = tokens.split_first().map_or(&[][..], |(_, targets)| targets);
    inputs.chunks(context).zip(targets.chunks(context))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    proptest! {
        #[test]
        fn targets_are_the_next_tokens(length in 2_u16..60, rows in 1_usize..5, part in 0.0..1.0, seed: u64) {
            let context = 1 + (part * f64::from(length - 2)) as usize;
            // Each token is its own place, so that a window tells where it came from.
            let tokens: Vec<u16> = (0..length).collect();
            let batch = random_batch(&tokens, rows, context, &mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert_eq!(batch.inputs.len(), rows * context);
            prop_assert!(batch.targets.iter().all(|&target| target < i32::from(length)));
            for (inputs, targets) in batch.inputs.chunks(context).zip(batch.targets.chunks(context)) {
                prop_assert!((inputs[0]..).zip(inputs).all(|(place, &input)| input == place));
                prop_assert!(inputs.iter().zip(targets).all(|(input, target)| *target == input + 1));
            }
        }

        #[test]
        fn consecutive_windows_predict_each_token_once(length in 0_u16..60, context in 1_usize..20) {
            let tokens: Vec<u16> = (0..length).collect();
            let mut predicted = Vec::new();
            for (inputs, targets) in consecutive(&tokens, context) {
                prop_assert!(inputs.len() <= context);
                prop_assert!(inputs.iter().map(|input| input + 1).eq(targets.iter().copied()));
                predicted.extend_from_slice(targets);
            }
            prop_assert_eq!(predicted, (1..length).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_start_is_drawn() {
        let batch = random_batch(&[0, 1, 2, 3, 4], 200, 3, &mut ChaCha8Rng::seed_from_u64(0));
        let starts: std::collections::BTreeSet<i32> = batch.inputs.chunks(3).map(|window| window[0]).collect();
        assert_eq!(starts, [0, 1].into());
    }
}
