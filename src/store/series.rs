//! A curve of any length that can be drawn at any zoom: every point is kept, and a pyramid of summaries above the
//! points answers for a range of a million of them in a few dozen look-ups.

use std::ops::{Range, RangeInclusive};

/// Children of a node of the pyramid: eight keeps it below a sixth of the points' own size.
const BRANCHES: usize = 8;

/// A value per step, in the order of the steps.
#[derive(Debug, Clone, Default)]
pub struct Series {
    steps: Vec<u64>,
    values: Vec<f32>,
    /// Steps with a value that is no number, which no curve goes through, and what it is.
    non_finite: Vec<(u64, f32)>,
    /// `levels[k][i]` sums up the points `[i · 8^(k+1), (i + 1) · 8^(k+1))`; only whole nodes are stored.
    levels: Vec<Vec<Summary>>,
}

/// Points that lie next to each other, drawn as one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    pub first: u64,
    pub last: u64,
    pub count: usize,
    pub min: f32,
    pub max: f32,
    pub mean: f32,
}

impl Bucket {
    /// Where the bucket is drawn: the middle of its steps.
    #[must_use]
    pub fn step(&self) -> f64 {
        (self.first as f64 + self.last as f64) / 2.0
    }
}

#[derive(Debug, Clone, Copy)]
struct Summary {
    min: f32,
    max: f32,
    sum: f64,
}

impl Summary {
    const EMPTY: Self = Self { min: f32::INFINITY, max: f32::NEG_INFINITY, sum: 0.0 };

    fn with(self, other: Self) -> Self {
        Self { min: self.min.min(other.min), max: self.max.max(other.max), sum: self.sum + other.sum }
    }

    fn of(value: f32) -> Self {
        Self { min: value, max: value, sum: f64::from(value) }
    }
}

impl Series {
    /// Adds a point. A step that was passed already (a run that goes on from an older checkpoint) first takes that
    /// step and all later ones away. A value that is not finite is kept beside the curve.
    pub fn push(&mut self, step: u64, value: f32) {
        let last_bad = self.non_finite.last().map(|point| point.0);
        if self.last_step().max(last_bad).is_some_and(|last| step <= last) {
            self.truncate_from(step);
        }
        if !value.is_finite() {
            self.non_finite.push((step, value));
            return;
        }
        self.steps.push(step);
        self.values.push(value);
        let mut below = self.values.len();
        for level in 0.. {
            if !below.is_multiple_of(BRANCHES) {
                break;
            }
            let whole = below / BRANCHES;
            let children = below - BRANCHES..below;
            let node = match level {
                0 => self.values[children].iter().fold(Summary::EMPTY, |sum, &value| sum.with(Summary::of(value))),
                _ => self.levels[level - 1][children].iter().fold(Summary::EMPTY, |sum, &node| sum.with(node)),
            };
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(node);
            debug_assert_eq!(self.levels[level].len(), whole);
            below = whole;
        }
    }

    /// Takes the points from `step` on away.
    pub fn truncate_from(&mut self, step: u64) {
        self.non_finite.truncate(self.non_finite.partition_point(|point| point.0 < step));
        let mut length = self.steps.partition_point(|&kept| kept < step);
        self.steps.truncate(length);
        self.values.truncate(length);
        for level in &mut self.levels {
            length /= BRANCHES;
            level.truncate(length);
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    #[must_use]
    pub fn first_step(&self) -> Option<u64> {
        self.steps.first().copied()
    }

    #[must_use]
    pub fn last_step(&self) -> Option<u64> {
        self.steps.last().copied()
    }

    #[must_use]
    pub fn last(&self) -> Option<(u64, f32)> {
        self.iter().next_back()
    }

    /// All points, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, f32)> + '_ {
        self.steps.iter().copied().zip(self.values.iter().copied())
    }

    /// The steps whose value is no number, and what it is; [`iter`](Self::iter) leaves them out.
    #[must_use]
    pub fn non_finite(&self) -> &[(u64, f32)] {
        &self.non_finite
    }

    /// The value at exactly this step, whatever it is.
    #[must_use]
    pub fn at(&self, step: u64) -> Option<f32> {
        let bad = || self.non_finite.binary_search_by_key(&step, |point| point.0).ok();
        let finite = self.steps.binary_search(&step).ok().map(|index| self.values[index]);
        finite.or_else(|| bad().map(|index| self.non_finite[index].1))
    }

    /// The point closest to a step; the earlier of two that are equally close.
    #[must_use]
    pub fn nearest(&self, step: f64) -> Option<(u64, f32)> {
        let after = self.steps.partition_point(|&kept| (kept as f64) < step);
        let candidates = after.saturating_sub(1)..(after + 1).min(self.len());
        let distance = |index: &usize| (self.steps[*index] as f64 - step).abs();
        let index = candidates.min_by(|one, other| distance(one).total_cmp(&distance(other)))?;
        Some((self.steps[index], self.values[index]))
    }

    /// Mean of the points that are at most `radius` steps away.
    #[must_use]
    pub fn mean_around(&self, step: f64, radius: f64) -> Option<f32> {
        let range = self.indices(&(step - radius..=step + radius));
        let count = range.len();
        (count > 0).then(|| (self.summary(range).sum / count as f64) as f32)
    }

    /// The points in a range of steps, and one neighbour on either side so that a line reaches the edge of the view,
    /// drawn together into at most `buckets_max` buckets. No point is left out: a spike stays visible at any zoom.
    #[must_use]
    pub fn envelope(&self, steps: RangeInclusive<f64>, buckets_max: usize) -> Vec<Bucket> {
        let inside = self.indices(&steps);
        if self.is_empty() || buckets_max == 0 {
            return Vec::new();
        }
        let (start, end) = (inside.start.saturating_sub(1), (inside.end + 1).min(self.len()));
        // A power of two at multiples of itself: while one pans or new points come, the buckets stay as they are.
        let mut size = (end - start).div_ceil(buckets_max).next_power_of_two();
        while (end - 1) / size - start / size >= buckets_max {
            size *= 2;
        }
        (start / size..=(end - 1) / size)
            .map(|place| {
                let range = start.max(place * size)..end.min((place + 1) * size);
                let (first, last, count) = (self.steps[range.start], self.steps[range.end - 1], range.len());
                let Summary { min, max, sum } = self.summary(range);
                Bucket { first, last, count, min, max, mean: (sum / count as f64) as f32 }
            })
            .collect()
    }

    fn indices(&self, steps: &RangeInclusive<f64>) -> Range<usize> {
        let start = self.steps.partition_point(|&step| (step as f64) < *steps.start());
        let end = self.steps.partition_point(|&step| step as f64 <= *steps.end());
        start..end.max(start)
    }

    /// Climbs the pyramid from both ends of the range at once.
    fn summary(&self, range: Range<usize>) -> Summary {
        let Range { mut start, mut end } = range;
        let mut sum = Summary::EMPTY;
        let mut level = 0;
        let node = |level: usize, index: usize| match level {
            0 => Summary::of(self.values[index]),
            _ => self.levels[level - 1][index],
        };
        while start < end {
            while start < end && (!start.is_multiple_of(BRANCHES) || end - start < BRANCHES) {
                sum = sum.with(node(level, start));
                start += 1;
            }
            while start < end && !end.is_multiple_of(BRANCHES) {
                end -= 1;
                sum = sum.with(node(level, end));
            }
            start /= BRANCHES;
            end /= BRANCHES;
            level += 1;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn series(points: impl IntoIterator<Item = (u64, f32)>) -> Series {
        let mut series = Series::default();
        points.into_iter().for_each(|(step, value)| series.push(step, value));
        series
    }

    /// Points with growing steps, with and without holes between them.
    fn points() -> impl Strategy<Value = Vec<(u64, f32)>> {
        prop::collection::vec((1_u64..5, -100.0_f32..100.0), 1..700).prop_map(|points| {
            let climb = |step: &mut u64, (stride, value)| {
                *step += stride;
                Some((*step, value))
            };
            points.into_iter().scan(0, climb).collect()
        })
    }

    proptest! {
        #[test]
        fn an_envelope_covers_each_point_of_its_range_once(
            points in points(), low in 0.0..1500.0, width in 0.0..3000.0, buckets_max in 1_usize..100,
        ) {
            let series = series(points.iter().copied());
            let buckets = series.envelope(low..=low + width, buckets_max);
            prop_assert!(buckets.len() <= buckets_max);
            for &(step, _) in points.iter().filter(|(step, _)| (low..=low + width).contains(&(*step as f64))) {
                prop_assert_eq!(buckets.iter().filter(|b| (b.first..=b.last).contains(&step)).count(), 1);
            }
            for bucket in &buckets {
                let covered: Vec<f32> =
                    points.iter().filter(|(step, _)| (bucket.first..=bucket.last).contains(step)).map(|p| p.1).collect();
                prop_assert_eq!(bucket.count, covered.len());
                prop_assert_eq!(bucket.min, covered.iter().copied().fold(f32::INFINITY, f32::min));
                prop_assert_eq!(bucket.max, covered.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                let mean = covered.iter().map(|&value| f64::from(value)).sum::<f64>() / covered.len() as f64;
                prop_assert!((f64::from(bucket.mean) - mean).abs() < 1e-4);
            }
            prop_assert!(buckets.windows(2).all(|pair| pair[0].last < pair[1].first));
        }

        #[test]
        fn truncating_equals_never_having_seen_the_rest(points in points(), from in 0_u64..1500) {
            let mut cut = series(points.iter().copied());
            cut.truncate_from(from);
            let fresh = series(points.iter().copied().filter(|(step, _)| *step < from));
            prop_assert_eq!(cut.envelope(0.0..=1e9, 7), fresh.envelope(0.0..=1e9, 7));
            // What comes after must build on whole nodes only.
            for step in from..from + 100 {
                cut.push(step, step as f32);
            }
            prop_assert_eq!(cut.envelope(0.0..=1e9, 1)[0].max, cut.iter().map(|p| p.1).fold(f32::MIN, f32::max));
            prop_assert_eq!(cut.envelope(0.0..=1e9, 1)[0].min, cut.iter().map(|p| p.1).fold(f32::MAX, f32::min));
        }

        #[test]
        fn the_nearest_point_is_the_nearest(points in points(), step in -10.0_f64..3500.0) {
            let series = series(points.iter().copied());
            let distance = |found: u64| (found as f64 - step).abs();
            let best = points.iter().map(|p| distance(p.0)).fold(f64::INFINITY, f64::min);
            prop_assert_eq!(distance(series.nearest(step).expect("not empty").0), best);
        }

        #[test]
        fn a_windowed_mean_is_the_mean_of_the_window(points in points(), step in 0.0_f64..1500.0, radius in 0.0_f64..300.0) {
            let window: Vec<f32> = points.iter().filter(|p| (p.0 as f64 - step).abs() <= radius).map(|p| p.1).collect();
            let mean = series(points).mean_around(step, radius);
            prop_assert_eq!(mean.is_none(), window.is_empty());
            if let Some(mean) = mean {
                let expected = window.iter().map(|&value| f64::from(value)).sum::<f64>() / window.len() as f64;
                prop_assert!((f64::from(mean) - expected).abs() < 1e-3);
            }
        }
    }

    #[test]
    fn one_spike_among_a_million_points_stays_visible() {
        let series = series((0..1_000_000).map(|step| (step, if step == 654_321 { 50.0 } else { 2.0 })));
        let buckets = series.envelope(0.0..=1e6, 500);
        assert!(buckets.len() <= 500, "{}", buckets.len());
        let spikes: Vec<_> = buckets.iter().filter(|bucket| bucket.max > 49.0).collect();
        assert_eq!(spikes.len(), 1);
        assert!((spikes[0].first..=spikes[0].last).contains(&654_321));
        assert_eq!(spikes[0].min, 2.0);
    }

    #[test]
    fn a_value_that_is_not_a_number_is_left_out() {
        let series = series([(1, 3.0), (2, f32::NAN), (3, 2.0), (4, f32::INFINITY)]);
        assert_eq!(series.len(), 2);
        let all = series.envelope(0.0..=10.0, 1)[0];
        assert_eq!((all.min, all.max, all.count), (2.0, 3.0, 2));
        // Of the curve, not of what is known.
        assert!(series.at(2).is_some_and(f32::is_nan));
        assert_eq!((series.at(4), series.at(5), series.non_finite().len()), (Some(f32::INFINITY), None, 2));
        let mut again = series.clone();
        again.push(2, 2.5);
        assert_eq!((again.at(2), again.non_finite().len()), (Some(2.5), 0));
    }

    #[test]
    fn a_step_seen_before_replaces_what_followed_it() {
        let series = series([(1, 3.0), (2, 2.9), (3, f32::NAN), (2, 2.5)]);
        assert_eq!(series.iter().collect::<Vec<_>>(), [(1, 3.0), (2, 2.5)]);
    }

    #[test]
    fn an_empty_series_answers_with_nothing() {
        let series = Series::default();
        assert!(series.envelope(0.0..=1.0, 10).is_empty());
        assert_eq!(series.nearest(3.0), None);
        assert_eq!(series.mean_around(3.0, 10.0), None);
        assert_eq!(series.last(), None);
    }
}
