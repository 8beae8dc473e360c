//! A head's weights as a texture.

use eframe::egui::{Color32, ColorImage, Context, TextureHandle, TextureOptions};

use super::super::colormap::WeightScale;
use crate::lab::protocol::{AttentionSnapshot, HeadId};

/// What a picture shows; one that shows something else is made anew.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::ui) struct Subject {
    /// [`crate::store::RunStore::attention_version`].
    pub version: u64,
    pub head: HeadId,
    pub scale: WeightScale,
    /// Length of a side at most; more tokens are drawn together.
    pub pixels_max: usize,
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
        snapshot: &AttentionSnapshot,
        subject: Subject,
    ) -> &'a TextureHandle {
        let fresh = || paint(snapshot, subject);
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
/// largest weight, so that a bright line survives.
fn paint(snapshot: &AttentionSnapshot, subject: Subject) -> ColorImage {
    let (weights, tokens) = (snapshot.head(subject.head), snapshot.tokens.len());
    let block = tokens.div_ceil(subject.pixels_max.max(1)).max(1);
    let side = tokens.div_ceil(block);
    let mut largest = vec![f32::NEG_INFINITY; side * side];
    for query in 0..tokens {
        let row = &mut largest[query / block * side..][..side];
        for (key, &weight) in weights[query * tokens..][..=query].iter().enumerate() {
            let pixel = &mut row[key / block];
            *pixel = pixel.max(weight);
        }
    }
    let color =
        |weight: f32| if weight == f32::NEG_INFINITY { Color32::TRANSPARENT } else { subject.scale.color(weight) };
    ColorImage::new([side, side], largest.into_iter().map(color).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::snapshot;

    fn subject(pixels_max: usize) -> Subject {
        Subject { version: 1, head: HeadId { layer: 1, head: 0 }, scale: WeightScale::Linear, pixels_max }
    }

    #[test]
    fn each_weight_has_its_pixel_and_later_keys_have_none() {
        let snapshot = snapshot(5, &["a", "b", "c"], 2, 2);
        let image = paint(&snapshot, subject(128));
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
        let image = paint(&snapshot, subject(128));
        assert_eq!(image.size, [100, 100]);
        let (row, column) = (50, 20);
        let head = HeadId { layer: 1, head: 0 };
        let block = (0..3).flat_map(|y| (0..3).map(move |x| (row * 3 + y, column * 3 + x)));
        let largest = block.map(|(query, key)| snapshot.weight(head, query, key)).fold(0.0, f32::max);
        assert_eq!(image.pixels[row * 100 + column], WeightScale::Linear.color(largest));
        assert_eq!(image.pixels[20 * 100 + 50], Color32::TRANSPARENT);
    }
}
