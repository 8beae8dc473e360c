//! The signs that make white space visible, drawn here: none of egui's own fonts has them, and a bare machine has no other.

use eframe::egui::epaint::text::{GlyphBitmap, GlyphRasterizer, GlyphRasterizerRequest, RasterizedGlyph};
use eframe::egui::{Color32, ColorImage, Vec2, vec2};

/// Lines from point to point, in parts of the font's size: x to the right, y up from the base line.
type Lines = &'static [&'static [(f32, f32)]];

/// As wide as a character of the monospaced font.
const ADVANCE: f32 = 0.602;
/// How far above the base line the picture begins.
const TOP: f32 = 0.8;
const HALF_STROKE: f32 = 0.038;

const fn lines(sign: char) -> Option<Lines> {
    Some(match sign {
        '␣' => &[&[(0.07, 0.12), (0.07, -0.07), (0.53, -0.07), (0.53, 0.12)]],
        '⏎' => &[&[(0.5, 0.58), (0.5, 0.22), (0.1, 0.22)], &[(0.25, 0.37), (0.1, 0.22), (0.25, 0.07)]],
        '␍' => &[&[(0.53, 0.3), (0.1, 0.3)], &[(0.25, 0.45), (0.1, 0.3), (0.25, 0.15)]],
        '⇥' => &[&[(0.07, 0.3), (0.44, 0.3)], &[(0.3, 0.44), (0.44, 0.3), (0.3, 0.16)], &[(0.53, 0.5), (0.53, 0.1)]],
        _ => return None,
    })
}

/// Draws the signs wherever no font has them.
#[must_use]
pub fn rasterizer() -> GlyphRasterizer {
    GlyphRasterizer::new("headlight::ui::glyphs", |request: &GlyphRasterizerRequest<'_>| {
        let mut characters = request.cluster.chars();
        let sign = characters.next().filter(|_| characters.next().is_none())?;
        Some(draw(lines(sign)?, request.font_size_px))
    })
}

fn draw(lines: Lines, size: f32) -> RasterizedGlyph {
    let (columns, rows) = ((ADVANCE * size).ceil() as usize, size.ceil() as usize);
    let half = (HALF_STROKE * size).max(0.5);
    let mut image = ColorImage::filled([columns, rows], Color32::TRANSPARENT);
    for row in 0..rows {
        for column in 0..columns {
            let point = vec2(column as f32 + 0.5, TOP * size - row as f32 - 0.5);
            let segments = lines.iter().flat_map(|line| line.windows(2));
            let distance = segments.map(|ends| distance(point, at(ends[0], size), at(ends[1], size)));
            let nearest = distance.fold(f32::INFINITY, f32::min);
            // A pixel is covered as far as the stroke reaches into it.
            let cover = (half + 0.5 - nearest).clamp(0.0, 1.0);
            image[(column, row)] = Color32::from_white_alpha((cover * 255.0).round() as u8);
        }
    }
    let bitmap = GlyphBitmap { image, offset_px: vec2(0.0, -TOP * size), is_color: false };
    RasterizedGlyph { bitmap, advance_px: ADVANCE * size }
}

fn at(point: (f32, f32), size: f32) -> Vec2 {
    vec2(point.0, point.1) * size
}

/// From a point to a line between two ends.
fn distance(point: Vec2, one: Vec2, other: Vec2) -> f32 {
    let along = other - one;
    let share = ((point - one).dot(along) / along.length_sq()).clamp(0.0, 1.0);
    (point - one - along * share).length()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_space_sign_is_a_bracket_below() {
        let glyph = draw(lines('␣').expect("drawn"), 20.0);
        let image = &glyph.bitmap.image;
        let row_of = |height: f32| ((TOP - height) * 20.0) as usize;
        let ink = |row: usize| (0..image.width()).filter(|column| image[(*column, row)].a() > 128).count();
        assert!(ink(row_of(-0.07)) >= 8, "the bar");
        assert!((2..=4).contains(&ink(row_of(0.05))), "two ends");
        assert_eq!(ink(row_of(0.4)), 0, "nothing above");
    }
}
