//! What a head is for: scores of the roles that attention heads are known to take.
//!
//! As TransformerLens's `head_detector` with `error_measure="mul"`: the attention that falls on a 0/1 pattern over all
//! attention. The patterns of Elhage et al. 2021 and Olsson et al. 2022.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::protocol::RoleScores;

/// Random tokens that the standard test has twice, where the context has room for them.
const TEST_TOKENS: usize = 50;
const TEST_SEED: u64 = 0;

/// Role scores of a head whose attention on the tokens `ids` is `pattern`, `[query, key]`, zero above the diagonal.
#[must_use]
pub fn scores(pattern: &[f32], ids: &[u32]) -> RoleScores {
    let mut sums = [0.0_f64; 5];
    let mut all = 0.0;
    for (query, row) in pattern.chunks_exact(ids.len().max(1)).enumerate() {
        for (key, &weight) in row.iter().enumerate().take(query + 1) {
            let weight = f64::from(weight);
            all += weight;
            let falls = [
                key + 1 == query,
                key == query,
                key == 0,
                key < query && ids[key] == ids[query],
                key > 0 && ids[key - 1] == ids[query],
            ];
            for (sum, falls) in sums.iter_mut().zip(falls) {
                *sum += if falls { weight } else { 0.0 };
            }
        }
    }
    // Of a pruned head all is 0. What is no number stays none.
    let share = |sum: f64| if all == 0.0 { 0.0 } else { (sum / all) as f32 };
    let [previous, current, first, duplicate, induction] = sums.map(share);
    RoleScores { previous, current, first, duplicate, induction }
}

/// Mean entropy of the rows of a pattern, in nats.
#[must_use]
pub fn entropy(pattern: &[f32], positions: usize) -> f32 {
    let nats = |&weight: &f32| if weight == 0.0 { 0.0 } else { -f64::from(weight) * f64::from(weight).ln() };
    (pattern.iter().map(nats).sum::<f64>() / positions.max(1) as f64) as f32
}

/// The standard test: `start`, then random tokens twice, as many as `context` has room for, at most 50. The same for
/// the same model always.
#[must_use]
pub fn repeated_random(vocabulary: usize, context: usize, start: u32) -> Vec<u32> {
    let length = TEST_TOKENS.min(context.saturating_sub(1) / 2);
    let mut rng = ChaCha8Rng::seed_from_u64(TEST_SEED);
    let random: Vec<u32> = (0..length).map(|_| rng.random_range(0..vocabulary as u32)).collect();
    std::iter::once(start).chain(random.iter().copied()).chain(random.iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_of_one_role_has_its_score_alone() {
        // Tokens a b c a b c after a start: the second half looks to where the first went on.
        let ids = [9, 1, 2, 3, 1, 2, 3];
        let one = |to: fn(usize) -> usize| {
            let mut pattern = vec![0.0; 49];
            (0..7).for_each(|query| pattern[query * 7 + to(query)] = 1.0);
            scores(&pattern, &ids)
        };
        let close = |found: f32, wanted: f32| assert!((found - wanted).abs() < 1e-6, "{found} is not {wanted}");
        let previous = one(|query| query.saturating_sub(1));
        close(previous.previous, 6.0 / 7.0);
        close(one(|query| query).current, 1.0);
        close(one(|_| 0).first, 1.0);
        let induction = one(|query| if query < 4 { 0 } else { query - 2 });
        close(induction.induction, 3.0 / 7.0);
        close(induction.duplicate, 0.0);
        let duplicate = one(|query| if query < 4 { 0 } else { query - 3 });
        close(duplicate.duplicate, 3.0 / 7.0);
        assert_eq!(one(|_| 0).role(), Some(crate::protocol::Role::First));
    }

    #[test]
    fn entropy_tells_a_sharp_head_from_an_even_one() {
        assert!(entropy(&[1.0, 0.0, 0.0, 1.0], 2).abs() < 1e-6);
        // Rows over one and over two places: the mean of 0 and ln 2.
        assert!((entropy(&[1.0, 0.0, 0.5, 0.5], 2) - 2.0_f32.ln() / 2.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_no_number_makes_no_score() {
        // Off the patterns of most roles: the whole sum is none, and so is each share of it.
        let found = scores(&[1.0, 0.0, f32::NAN, 0.5], &[1, 2]);
        assert!(found.previous.is_nan() && found.current.is_nan() && found.induction.is_nan(), "{found:?}");
        assert_eq!((found.role(), found.is_finite()), (None, false));
        assert!(entropy(&[1.0, 0.0, f32::NAN, 0.5], 2).is_nan());
        assert_eq!(scores(&[0.0; 4], &[1, 2]), RoleScores::default(), "pruned");
    }

    #[test]
    fn the_test_text_is_a_start_and_two_equal_halves() {
        for (context, length) in [(1024, 101), (101, 101), (64, 63), (2, 1), (1, 1)] {
            let ids = repeated_random(65, context, 3);
            assert_eq!(ids.len(), length, "context {context}");
            let half = (length - 1) / 2;
            assert!(ids[0] == 3 && ids[1..=half] == ids[half + 1..] && ids.iter().all(|&id| id < 65));
        }
    }
}
