//! Colours of weights: viridis (Smith and van der Walt 2015), which grows evenly brighter for every eye; colours of
//! differences, which leave the ground towards blue or orange; the void of what cannot be seen; and a colour of no scale for
//! what is no number.

use std::sync::{Arc, LazyLock};

use eframe::egui::{
    Color32, Galley, Mesh, Painter, Pos2, Rect, Response, Rgba, Role, Sense, Shape, Stroke, StrokeKind, TextStyle,
    TextureId, Ui, Vec2, Visuals, WidgetInfo, pos2, vec2,
};

use super::theme;

/// Matplotlib's viridis at 17 even places; in between, a straight line is within two levels of it.
const VIRIDIS: [[u8; 3]; 17] = [
    [68, 1, 84],
    [72, 24, 106],
    [71, 45, 123],
    [66, 64, 134],
    [59, 82, 139],
    [51, 99, 141],
    [44, 114, 142],
    [38, 130, 142],
    [33, 145, 140],
    [31, 160, 136],
    [40, 174, 128],
    [63, 188, 115],
    [94, 201, 98],
    [132, 212, 75],
    [173, 220, 48],
    [216, 226, 25],
    [253, 231, 37],
];

static TABLE: LazyLock<[Color32; 256]> =
    LazyLock::new(|| std::array::from_fn(|index| between(&VIRIDIS, index as f32 / 255.0)));

/// NaN and infinities: magenta, which is on none of the scales, on a dark ground and on a light one.
pub const NOT_A_NUMBER: Color32 = Color32::from_rgb(255, 0, 200);

/// The colour of a value between 0 and 1; values outside take the nearer end.
#[must_use]
pub fn viridis(value: f32) -> Color32 {
    if !value.is_finite() {
        return NOT_A_NUMBER;
    }
    TABLE[(value.clamp(0.0, 1.0) * 255.0).round() as usize]
}

/// Less, zero, more: a pair of colours that every eye tells apart, on the theme's own ground.
const DIVERGING: [[[u8; 3]; 5]; 2] = [
    [[12, 70, 160], [120, 170, 225], [250, 250, 248], [235, 160, 80], [160, 70, 0]],
    [[140, 205, 255], [55, 120, 200], [24, 26, 30], [200, 110, 25], [255, 195, 95]],
];

static DIVERGING_TABLES: LazyLock<[[Color32; 511]; 2]> =
    LazyLock::new(|| DIVERGING.map(|stops| std::array::from_fn(|index| between(&stops, index as f32 / 510.0))));

/// The colour of a difference between -1 and 1, on a light or a dark ground; values outside take the nearer end.
#[must_use]
pub fn diverging(value: f32, dark: bool) -> Color32 {
    if !value.is_finite() {
        return NOT_A_NUMBER;
    }
    DIVERGING_TABLES[usize::from(dark)][((value.clamp(-1.0, 1.0) + 1.0) * 255.0).round() as usize]
}

/// The colour at a place (0 to 1) along even stops.
fn between(stops: &[[u8; 3]], place: f32) -> Color32 {
    let place = place * (stops.len() - 1) as f32;
    let below = (place as usize).min(stops.len() - 2);
    let [red, green, blue] = std::array::from_fn(|channel| {
        let (low, high) = (f32::from(stops[below][channel]), f32::from(stops[below + 1][channel]));
        (low + (high - low) * (place - below as f32)).round() as u8
    });
    Color32::from_rgb(red, green, blue)
}

/// Black or white: what is better read on a colour.
#[must_use]
pub fn readable_on(color: Color32) -> Color32 {
    // Where both have the same contrast (WCAG 2.1): √(1.05 × 0.05) - 0.05.
    let [red, green, blue, _] = Rgba::from(color).to_array();
    if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 { Color32::BLACK } else { Color32::WHITE }
}

/// How a weight becomes a place in the colour map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightScale {
    Linear,
    /// Shows faint attention.
    SquareRoot,
}

impl WeightScale {
    #[must_use]
    pub fn color(self, weight: f32) -> Color32 {
        viridis(match self {
            Self::Linear => weight,
            // Not `max`, which would make 0 of NaN.
            Self::SquareRoot => if weight < 0.0 { 0.0 } else { weight }.sqrt(),
        })
    }

    /// The colour of a difference between two weights.
    #[must_use]
    pub fn difference_color(self, difference: f32, dark: bool) -> Color32 {
        diverging(
            match self {
                Self::Linear => difference,
                Self::SquareRoot => difference.signum() * difference.abs().sqrt(),
            },
            dark,
        )
    }

    /// The weight at a place (0 to 1) of the colour map.
    #[must_use]
    pub fn weight_at(self, place: f32) -> f32 {
        match self {
            Self::Linear => place,
            Self::SquareRoot => place * place,
        }
    }
}

/// The largest of some weights, 0 of none; NaN where one is, so that it is seen.
#[must_use]
pub fn largest(weights: &[f32]) -> f32 {
    let larger = |most: f32, &weight: &f32| if weight > most || weight.is_nan() { weight } else { most };
    weights.iter().fold(0.0, larger)
}

/// A bar of the colour map with the weights at its ends and its middle.
pub fn legend(ui: &mut Ui, scale: WeightScale) {
    let words = [0.0, 0.5, 1.0].map(|place| format!("{}", scale.weight_at(place)));
    let response = bar(ui, 88.0, &[(0.0, &words[0]), (0.5, &words[1]), (1.0, &words[2])], viridis);
    let name = match scale {
        WeightScale::Linear => "Colours of the weights, from 0 to 1, linear",
        WeightScale::SquareRoot => "Colours of the weights, from 0 to 1, by their square root",
    };
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, name));
}

/// The same for the differences of two weights: as much to either side of zero.
pub fn difference_legend(ui: &mut Ui, scale: WeightScale) {
    let dark = ui.visuals().dark_mode;
    let half = scale.weight_at(0.5);
    let (less, more) = (format!("-{half}"), format!("+{half}"));
    let words = [(0.0, "-1"), (0.25, &less), (0.5, "0"), (0.75, &more), (1.0, "+1")];
    let response = bar(ui, 136.0, &words, |place| diverging(2.0 * place - 1.0, dark));
    let name = match scale {
        WeightScale::Linear => "Colours of the differences, from -1 to 1, linear",
        WeightScale::SquareRoot => "Colours of the differences, from -1 to 1, by their square root",
    };
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, name));
}

/// The same for numbers of any size about zero. `what` says of what.
pub fn diverging_legend(ui: &mut Ui, limit: f32, what: &str) {
    let dark = ui.visuals().dark_mode;
    let (less, more) = (format!("{:.2}", -limit), format!("+{limit:.2}"));
    let response =
        bar(ui, 110.0, &[(0.0, &less), (0.5, "0"), (1.0, &more)], |place| diverging(2.0 * place - 1.0, dark));
    let name = format!("Colours of {what}, from {less} to {more}, zero in the middle");
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &name));
}

/// A bar of colours with words at places from 0 to 1, the first and the last at its ends.
fn bar(ui: &mut Ui, width: f32, words: &[(f32, &str)], color_at: impl Fn(f32) -> Color32) -> Response {
    let font = TextStyle::Small.resolve(ui.style());
    let color = theme::muted(ui.visuals());
    let labels: Vec<_> = words
        .iter()
        .map(|(place, text)| (*place, ui.painter().layout_no_wrap((*text).to_owned(), font.clone(), color)))
        .collect();
    let half = |label: Option<&(f32, Arc<Galley>)>| label.map_or(0.0, |(_, galley)| galley.size().x / 2.0);
    let (before, after) = (half(labels.first()), half(labels.last()));
    let bar = vec2(width, 8.0);
    let size = vec2(bar.x + before + after, bar.y + ui.text_style_height(&TextStyle::Small) + 1.0);
    let (area, response) = ui.allocate_exact_size(size, Sense::hover());
    let bar = Rect::from_min_size(area.min + vec2(before, 1.0), bar);
    let mut mesh = Mesh::default();
    for part in 0..=32 {
        let place = part as f32 / 32.0;
        for y in [bar.top(), bar.bottom()] {
            mesh.colored_vertex(pos2(bar.left() + place * bar.width(), y), color_at(place));
        }
        if part > 0 {
            let last = 2 * part;
            mesh.add_triangle(last - 2, last - 1, last);
            mesh.add_triangle(last - 1, last, last + 1);
        }
    }
    ui.painter().add(Shape::mesh(mesh));
    for (place, galley) in labels {
        let x = bar.left() + place * bar.width() - galley.size().x / 2.0;
        ui.painter().galley(pos2(x, bar.bottom()), galley, color);
    }
    response
}

/// A map of attention, or the `part` of it (of a picture from 0 to 1) that is in sight: the picture on a hatched ground,
/// so that what is not drawn is seen to be nothing, not zero.
pub fn paint_map(painter: &Painter, square: Rect, picture: TextureId, part: Rect, hatch: f32, visuals: &Visuals) {
    painter.rect_filled(square, 0.0, visuals.extreme_bg_color);
    let stroke = Stroke::new(1.0, visuals.widgets.noninteractive.bg_stroke.color);
    // Lines across the diagonal (x - y = offset), in the half above it only: x + y = sum, x - y > offset.
    let side = square.width();
    let offset = (part.top() - part.left()) / part.width() * side;
    let at = |x: f32, sum: f32| square.min + Vec2::new(x, sum - x);
    let lines = (1..(2.0 * side / hatch) as usize).filter_map(|line| {
        let sum = line as f32 * hatch;
        let (start, end) = (((sum + offset) / 2.0).max(sum - side).max(0.0), sum.min(side));
        (start < end).then(|| Shape::line_segment([at(start, sum), at(end, sum)], stroke))
    });
    painter.extend(lines);
    painter.image(picture, square, part, Color32::WHITE);
}

/// All of a picture.
pub const WHOLE: Rect = Rect::from_min_max(Pos2::ZERO, pos2(1.0, 1.0));

/// A frame in two tones, which shows on every colour of the map.
pub fn mark_on_map(painter: &Painter, area: Rect) {
    painter.rect_stroke(area, 0.0, Stroke::new(1.0, Color32::from_black_alpha(150)), StrokeKind::Outside);
    painter.rect_stroke(area, 0.0, Stroke::new(1.0, Color32::WHITE), StrokeKind::Inside);
}

/// A cross through a cell, which shows on every colour of the map.
pub fn cross_on_map(painter: &Painter, area: Rect) {
    for (width, color) in [(3.0, Color32::from_black_alpha(180)), (1.4, Color32::WHITE)] {
        painter.line_segment([area.left_top(), area.right_bottom()], Stroke::new(width, color));
        painter.line_segment([area.right_top(), area.left_bottom()], Stroke::new(width, color));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_can_be_read_on_every_level() {
        let luminance = |color: Color32| {
            let [red, green, blue, _] = Rgba::from(color).to_array();
            0.2126 * red + 0.7152 * green + 0.0722 * blue
        };
        for level in 0..256 {
            let ground = viridis(level as f32 / 255.0);
            let (ink, ground) = (luminance(readable_on(ground)), luminance(ground));
            assert!((ink.max(ground) + 0.05) / (ink.min(ground) + 0.05) >= 4.5, "level {level}");
        }
    }

    #[test]
    fn brighter_means_more_at_every_level() {
        let luminance = |color: Color32| {
            let [red, green, blue, _] = color.to_array().map(f32::from);
            0.2126 * red + 0.7152 * green + 0.0722 * blue
        };
        let levels: Vec<f32> = (0..256).map(|level| luminance(viridis(level as f32 / 255.0))).collect();
        assert!(levels.windows(4).all(|levels| levels[3] > levels[0]), "{levels:?}");
    }

    #[test]
    fn further_from_zero_is_further_from_the_ground_on_both_sides() {
        let luminance = |color: Color32| {
            let [red, green, blue, _] = color.to_array().map(f32::from);
            0.2126 * red + 0.7152 * green + 0.0722 * blue
        };
        for (dark, sign) in [(true, 1.0), (false, -1.0)] {
            for side in [-1.0, 1.0] {
                let levels: Vec<f32> =
                    (0..=50).map(|level| sign * luminance(diverging(side * level as f32 / 50.0, dark))).collect();
                assert!(levels.windows(2).all(|pair| pair[1] > pair[0]), "dark {dark}, side {side}: {levels:?}");
            }
            let blue_less = diverging(-0.7, dark).b() > diverging(-0.7, dark).r();
            assert!(blue_less && diverging(0.7, dark).r() > diverging(0.7, dark).b());
        }
    }

    #[test]
    fn a_saved_page_has_the_same_colours() {
        let page = include_str!("../../../assets/page.html");
        let (_, table) = page.split_once("const VIRIDIS = [").expect("its colours");
        let table = table.split_once(";").expect("their end").0;
        let numbers = table.split(|character: char| !character.is_ascii_digit()).filter_map(|text| text.parse().ok());
        assert_eq!(numbers.collect::<Vec<u8>>(), VIRIDIS.as_flattened());
    }

    #[test]
    fn values_outside_take_the_nearer_end() {
        assert_eq!(viridis(-1.0), viridis(0.0));
        assert_eq!(viridis(7.0), viridis(1.0));
        assert_eq!((diverging(-3.0, true), diverging(3.0, true)), (diverging(-1.0, true), diverging(1.0, true)));
        assert_eq!(viridis(0.0), Color32::from_rgb(68, 1, 84));
        assert_eq!(viridis(1.0), Color32::from_rgb(253, 231, 37));
    }

    #[test]
    fn what_is_no_number_has_a_colour_of_no_scale() {
        let apart = |one: Color32, other: Color32| {
            let channels = one.to_array().into_iter().zip(other.to_array());
            channels.map(|(a, b)| u32::from(a.abs_diff(b))).sum::<u32>()
        };
        let places = (0..=100).map(|level| level as f32 / 100.0);
        for place in places {
            for known in [viridis(place), diverging(2.0 * place - 1.0, true), diverging(2.0 * place - 1.0, false)] {
                assert!(apart(known, NOT_A_NUMBER) > 150, "{known:?} at {place}");
            }
        }
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!([viridis(bad), diverging(bad, true), diverging(bad, false)], [NOT_A_NUMBER; 3]);
        }
        for scale in [WeightScale::Linear, WeightScale::SquareRoot] {
            assert_eq!([scale.color(f32::NAN), scale.difference_color(f32::NAN, true)], [NOT_A_NUMBER; 2]);
        }
        assert!(largest(&[0.5, f32::NAN, 0.9]).is_nan());
        assert_eq!((largest(&[0.5, 0.9]), largest(&[])), (0.9, 0.0));
    }

    #[test]
    fn the_legend_tells_the_weight_of_the_colour_beside_it() {
        for scale in [WeightScale::Linear, WeightScale::SquareRoot] {
            for place in [0.0, 0.25, 0.5, 1.0] {
                assert_eq!(scale.color(scale.weight_at(place)), viridis(place));
            }
        }
    }
}
