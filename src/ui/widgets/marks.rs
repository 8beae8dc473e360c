//! Heights in the plot and the labels beside them.

use egui_plot::{GridInput, GridMark};

/// Linear, or by powers of ten: the plot then holds logarithms, and its labels are turned back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scale {
    Linear,
    Log,
}

impl Scale {
    pub(crate) fn height(self, loss: f32) -> f64 {
        match self {
            Self::Linear => f64::from(loss),
            Self::Log => f64::from(loss).max(1e-6).log10(),
        }
    }

    pub(crate) fn label(self, mark: GridMark) -> String {
        match self {
            Self::Linear => plain_label(mark),
            Self::Log => format!("{}", (10.0_f64.powf(mark.value) * 1e6).round() / 1e6),
        }
    }

    pub(crate) fn marks(self, input: GridInput) -> Vec<GridMark> {
        match self {
            Self::Linear => even_marks(input),
            Self::Log => log_marks(input),
        }
    }
}

/// The round number (1, 2 or 5 times a power of ten) at or above `rough`.
fn round_stride(rough: f64) -> f64 {
    let decade = 10.0_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0].map(|digit| digit * decade).into_iter().find(|stride| *stride >= rough).unwrap_or(10.0 * decade)
}

/// Marks at multiples of a round number, two of the thinnest grid spacings apart or more.
pub(in crate::ui) fn even_marks(input: GridInput) -> Vec<GridMark> {
    let stride = round_stride((2.0 * input.base_step_size).max(1e-12));
    let first = (input.bounds.0 / stride).ceil();
    let marks = (0..200).map(|index| GridMark { value: (first + f64::from(index)) * stride, step_size: stride });
    marks.take_while(|mark| mark.value <= input.bounds.1).collect()
}

/// Marks of whole steps, wide enough apart for `100,000`.
pub(in crate::ui) fn step_marks(input: GridInput) -> Vec<GridMark> {
    even_marks(GridInput { base_step_size: (2.5 * input.base_step_size).max(0.5), ..input })
}

/// Marks at round values of 10^y: even ones within a decade or two, else 1, 2 and 5 of each decade. Where they would
/// crowd, the rounder ones stay.
pub(crate) fn log_marks(input: GridInput) -> Vec<GridMark> {
    let (low, high) = (input.bounds.0.clamp(-9.0, 9.0), input.bounds.1.clamp(-9.0, 9.0));
    if high <= low {
        return Vec::new();
    }
    let (least, most) = (10.0_f64.powf(low), 10.0_f64.powf(high));
    let values: Vec<f64> = if high - low < 1.5 {
        let finest = round_stride((most - least) / 8.0);
        let decade = 10.0_f64.powf((finest * 1.001).log10().floor());
        let strides = [10.0, 5.0, 2.0, 1.0].map(|digit| digit * decade).into_iter();
        let multiples = |stride: f64| {
            let first = (least / stride).ceil().max(1.0);
            (0..20).map(move |index| (first + f64::from(index)) * stride).take_while(move |value| *value <= most)
        };
        strides.filter(|stride| *stride > 0.999 * finest).flat_map(multiples).collect()
    } else {
        let decades = low.floor() as i32..=high.ceil() as i32;
        let each = |digit: f64| decades.clone().map(move |decade| digit * 10.0_f64.powi(decade));
        [1.0, 2.0, 5.0].into_iter().flat_map(each).collect()
    };
    let mut places: Vec<f64> = Vec::new();
    for place in values.into_iter().map(f64::log10) {
        if places.iter().all(|taken| (taken - place).abs() >= 1.7 * input.base_step_size) {
            places.push(place);
        }
    }
    places.sort_by(f64::total_cmp);
    let gap = |index: usize| {
        let before = index.checked_sub(1).map_or(f64::INFINITY, |before| places[index] - places[before]);
        let after = places.get(index + 1).map_or(f64::INFINITY, |after| after - places[index]);
        before.min(after).min(1.0)
    };
    places.iter().enumerate().map(|(index, &value)| GridMark { value, step_size: gap(index) }).collect()
}

/// As many decimals as the distance of the marks asks for.
pub(in crate::ui) fn plain_label(mark: GridMark) -> String {
    let decimals = (-(mark.step_size * 1.001).log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{:.decimals$}", mark.value.abs())
}

/// How far a rate's plot goes past its top mark, so that the label stays beside its own plot.
pub(crate) const HEADROOM: f64 = 1.25;

/// The round number at or above the largest value, for the top mark.
pub(crate) fn round_above(largest: f64) -> f64 {
    let decade = 10.0_f64.powf(largest.max(1e-12).log10().floor());
    // A hair of tolerance: a rate of 1e-3 stored as f32 is a little more than that.
    let above = |digit: &f64| digit * decade >= largest * (1.0 - 1e-6);
    [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0].into_iter().find(above).unwrap_or(10.0) * decade
}

/// Two marks: zero, and the top that the plot's height was made for.
pub(crate) fn end_marks(input: GridInput) -> Vec<GridMark> {
    // Their distance is given as the whole height, so that neither is thought to crowd the other.
    [0.0, input.bounds.1 / HEADROOM].map(|value| GridMark { value, step_size: input.bounds.1 - input.bounds.0 }).into()
}

pub(crate) fn short_label(value: f64) -> String {
    // The nearest f32 is written without the crumbs of the arithmetic.
    let value = value as f32;
    if value == 0.0 || (0.01..10_000.0).contains(&value) { format!("{value}") } else { format!("{value:e}") }
}
