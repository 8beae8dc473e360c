//! A head's weights as a texture.

use eframe::egui::{Color32, ColorImage, Context, TextureHandle, TextureOptions};

use super::compare::{Drawn, Source};
use crate::protocol::HeadId;
use crate::ui::widgets::colormap::WeightScale;

/// What a picture shows; one that shows something else is made anew.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::ui) struct Subject {
    /// [`crate::store::RunStore::attention_version`].
    pub version: u64,
    pub head: HeadId,
    pub source: Source,
    pub scale: WeightScale,
    /// Differences have other colours on a dark ground.
    pub dark: bool,
    /// Tokens along the side of a pixel.
    pub block: usize,
}

/// Tokens to draw together where so many of them have so many pixels: a texture with more pixels than the screen has
/// would lose some of them.
pub(in crate::ui) fn block(tokens: usize, pixels: usize) -> usize {
    tokens.div_ceil(pixels.max(1)).max(1)
}

pub(in crate::ui) struct Picture {
    texture: TextureHandle,
    subject: Subject,
}

impl Picture {
    /// The picture of a subject, taken from `slot` if it is there.
    pub(in crate::ui) fn texture<'a>(
        slot: &'a mut Option<Self>,
        ctx: &Context,
        drawn: Drawn<'_>,
        subject: Subject,
    ) -> &'a TextureHandle {
        let fresh = || paint(drawn, subject);
        let picture = slot.get_or_insert_with(|| {
            let texture = ctx.load_texture("attention", fresh(), TextureOptions::NEAREST);
            Self { texture, subject }
        });
        if picture.subject != subject {
            picture.texture.set(fresh(), TextureOptions::NEAREST);
            picture.subject = subject;
        }
        &picture.texture
    }
}

/// Weights as colours; what lies after the query is left clear. Where a pixel stands for several tokens it shows the
/// largest weight, or the difference furthest from zero, so that a bright line survives; and before all what is no number.
fn paint(drawn: Drawn<'_>, subject: Subject) -> ColorImage {
    let (tokens, block) = (drawn.tokens, subject.block);
    let side = tokens.div_ceil(block);
    let mut furthest = vec![f32::NEG_INFINITY; side * side];
    for (query, weights) in drawn.weights.chunks_exact(tokens.max(1)).enumerate() {
        let row = &mut furthest[query / block * side..][..side];
        let pixels = row.iter_mut().zip(weights[..=query].chunks(block));
        let Some(less) = drawn.less else {
            // Asked of the whole row at once, so that the usual one is as quick as if nothing were asked.
            let sound = !weights[..=query].iter().fold(false, |bad, weight| bad | weight.is_nan());
            for (pixel, weights) in pixels {
                for &weight in weights {
                    // Quicker than `max`, which minds numbers that are none. Nothing is larger than a pixel that is none.
                    let larger = if sound { weight > *pixel } else { weight > *pixel || weight.is_nan() };
                    *pixel = if larger { weight } else { *pixel };
                }
            }
            continue;
        };
        for ((pixel, weights), less) in pixels.zip(less[query * tokens..][..=query].chunks(block)) {
            for (weight, less) in weights.iter().zip(less) {
                let difference = weight - less;
                if *pixel == f32::NEG_INFINITY || difference.is_nan() || difference.abs() > pixel.abs() {
                    *pixel = difference;
                }
            }
        }
    }
    let color = |value: f32| match drawn.less {
        _ if value == f32::NEG_INFINITY => Color32::TRANSPARENT,
        None => subject.scale.color(value),
        Some(_) => subject.scale.difference_color(value, subject.dark),
    };
    ColorImage::new([side, side], furthest.into_iter().map(color).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::AttentionSnapshot;
    use crate::store::tests::snapshot;

    fn subject(tokens: usize) -> Subject {
        let (head, block) = (HeadId { layer: 1, head: 0 }, block(tokens, 128));
        Subject { version: 1, head, source: Source::This, scale: WeightScale::Linear, dark: true, block }
    }

    fn drawn(snapshot: &AttentionSnapshot) -> Drawn<'_> {
        Drawn { tokens: snapshot.tokens.len(), weights: snapshot.head(HeadId { layer: 1, head: 0 }), less: None }
    }

    #[test]
    fn each_weight_has_its_pixel_and_later_keys_have_none() {
        let snapshot = snapshot(5, &["a", "b", "c"], 2, 2);
        let image = paint(drawn(&snapshot), subject(3));
        assert_eq!(image.size, [3, 3]);
        for query in 0..3 {
            for key in 0..3 {
                let weight = snapshot.weight(HeadId { layer: 1, head: 0 }, query, key);
                let expected = if key > query { Color32::TRANSPARENT } else { WeightScale::Linear.color(weight) };
                assert_eq!(image.pixels[query * 3 + key], expected, "query {query}, key {key}");
            }
        }
    }

    #[test]
    fn a_pixel_of_several_tokens_shows_the_largest_weight() {
        let tokens: Vec<&str> = (0..300).map(|_| "x").collect();
        let snapshot = snapshot(5, &tokens, 2, 2);
        let image = paint(drawn(&snapshot), subject(300));
        assert_eq!(image.size, [100, 100]);
        let (row, column) = (50, 20);
        let head = HeadId { layer: 1, head: 0 };
        let block = (0..3).flat_map(|y| (0..3).map(move |x| (row * 3 + y, column * 3 + x)));
        let largest = block.map(|(query, key)| snapshot.weight(head, query, key)).fold(0.0, f32::max);
        assert_eq!(image.pixels[row * 100 + column], WeightScale::Linear.color(largest));
        assert_eq!(image.pixels[20 * 100 + 50], Color32::TRANSPARENT);
    }

    #[test]
    fn what_is_no_number_is_seen_whatever_is_beside_it() {
        let tokens: Vec<&str> = (0..300).map(|_| "x").collect();
        let mut this = (*snapshot(5, &tokens, 2, 2)).clone();
        let first = (this.heads) * 300 * 300;
        // In the middle of a pixel of nine weights, and in one that is half after the query.
        for (query, key) in [(151, 61), (90, 90)] {
            this.weights[first + query * 300 + key] = f32::NAN;
        }
        let other = snapshot(9, &tokens, 2, 2);
        for less in [None, Some(drawn(&other).weights)] {
            let image = paint(Drawn { less, ..drawn(&this) }, subject(300));
            let bad: Vec<usize> = (0..100 * 100)
                .filter(|&pixel| image.pixels[pixel] == crate::ui::widgets::colormap::NOT_A_NUMBER)
                .collect();
            assert_eq!(bad, [30 * 100 + 30, 50 * 100 + 20], "difference: {}", less.is_some());
        }
    }

    #[test]
    fn a_difference_is_zero_in_the_middle_and_the_furthest_of_a_pixel_is_shown() {
        let tokens: Vec<&str> = (0..300).map(|_| "x").collect();
        let (this, other) = (snapshot(5, &tokens, 2, 2), snapshot(9, &tokens, 2, 2));
        let same = paint(Drawn { less: Some(drawn(&this).weights), ..drawn(&this) }, subject(300));
        let zero = WeightScale::Linear.difference_color(0.0, true);
        assert!(same.pixels.iter().all(|pixel| [zero, Color32::TRANSPARENT].contains(pixel)));
        let difference = Drawn { less: Some(drawn(&other).weights), ..drawn(&this) };
        let image = paint(difference, subject(300));
        let (row, column) = (2, 1);
        let block = (0..3).flat_map(|y| (0..3).map(move |x| (row * 3 + y) * 300 + column * 3 + x));
        let furthest = block
            .map(|index| drawn(&this).weights[index] - drawn(&other).weights[index])
            .max_by(|a, b| a.abs().total_cmp(&b.abs()));
        let expected = WeightScale::Linear.difference_color(furthest.expect("nine weights"), true);
        assert_eq!(image.pixels[row * 100 + column], expected);
    }
}
