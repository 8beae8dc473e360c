//! Where each part of the drawing stands. Knows sizes, not colours.

use eframe::egui::{Pos2, Rect, Vec2, pos2, vec2};

use super::parts::Kind;
use crate::recipe::{Activation, ModelRecipe, Position};

/// Heights and gaps at scale 1.
const ROW: f32 = 22.0;
const TALL_ROW: f32 = 35.0;
const GAP: f32 = 4.5;
const CAPTION: f32 = 17.0;
const HEADS: f32 = 45.0;
const PILL: f32 = 16.0;
/// From the left edge: the stream's name, the frame, the stream, the boxes.
const FRAME_LEFT: f32 = 16.0;
const STREAM: f32 = 31.0;
const BOXES_LEFT: f32 = 52.0;
/// Room at the right for the line of a tied head.
const TIED_LANE: f32 = 18.0;

/// The places of everything, from the corner `(0, 0)` on.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub size: Vec2,
    pub scale: f32,
    pub boxes: Vec<(Kind, Rect)>,
    pub top_caption: Pos2,
    /// Around the parts that each layer has.
    pub frame: Rect,
    /// The stream, as a line downwards.
    pub stream: Rect,
    /// Where the line of a tied head runs.
    pub tied_x: f32,
}

impl Plan {
    #[must_use]
    pub fn new(model: &ModelRecipe, width: f32, scale: f32) -> Self {
        let s = |length: f32| length * scale;
        let (left, right) = (s(BOXES_LEFT), width - s(TIED_LANE) - s(6.0));
        let stream = s(STREAM);
        let mut boxes = Vec::new();
        let mut y = 0.0;
        let mut row = |y: &mut f32, kind, left: f32, height: f32, gap: f32| {
            boxes.push((kind, Rect::from_min_max(pos2(left, *y), pos2(right, *y + s(height)))));
            *y += s(height + gap);
        };
        let top_caption = pos2(s(FRAME_LEFT), y);
        y += s(CAPTION);
        row(&mut y, Kind::TokenEmbedding, s(FRAME_LEFT), ROW, GAP);
        if model.position == Position::Learned {
            row(&mut y, Kind::PositionEmbedding, left, ROW, GAP);
        }
        let stream_top = s(CAPTION + ROW);
        y += s(2.0);
        let frame_top = y;
        y += s(CAPTION + 4.0);
        row(&mut y, Kind::AttentionNorm, left, ROW, GAP);
        row(&mut y, Kind::QueryKeyValue, left, ROW, GAP);
        row(&mut y, Kind::Heads, left, HEADS, GAP);
        row(&mut y, Kind::Projection, left, ROW, 2.0 * GAP);
        row(&mut y, Kind::MlpNorm, left, ROW, GAP);
        let gated = model.activation == Activation::SwiGlu;
        row(&mut y, Kind::Up, left, if gated { TALL_ROW } else { ROW }, GAP);
        row(&mut y, Kind::Activation, left, PILL, GAP);
        row(&mut y, Kind::Down, left, ROW, 0.0);
        y += s(7.0);
        let frame = Rect::from_min_max(pos2(s(FRAME_LEFT), frame_top), pos2(right + s(6.0), y));
        y += s(7.0);
        let stream_bottom = y;
        row(&mut y, Kind::FinalNorm, s(FRAME_LEFT), ROW, GAP);
        row(&mut y, Kind::Head, s(FRAME_LEFT), ROW, 1.0);
        row(&mut y, Kind::Logits, s(FRAME_LEFT), CAPTION, 0.0);
        let size = vec2(width, y);

        if gated && let Some(place) = boxes.iter().position(|(kind, _)| *kind == Kind::Up) {
            let whole = boxes[place].1;
            let (one, other) = whole.split_left_right_at_fraction(0.5);
            boxes[place].1 = other.with_min_x(other.left() + s(GAP / 2.0));
            boxes.insert(place, (Kind::Gate, one.with_max_x(one.right() - s(GAP / 2.0))));
        }
        if let (Position::Rotary { .. }, Some(heads)) = (model.position, rect_of(&boxes, Kind::Heads)) {
            // Over the rows of queries and keys.
            let sign = Rect::from_min_size(heads.right_top(), vec2(s(24.0), heads.height() * 2.0 / 3.0));
            boxes.push((Kind::Rotation, sign.translate(vec2(-s(28.0), 0.0))));
        }
        for (from, sum) in [(Kind::Projection, Kind::AttentionSum), (Kind::Down, Kind::MlpSum)] {
            if let Some(from) = rect_of(&boxes, from) {
                boxes.push((sum, Rect::from_center_size(pos2(stream, from.center().y), Vec2::splat(s(15.0)))));
            }
        }
        let stream = Rect::from_min_max(pos2(stream, stream_top), pos2(stream, stream_bottom));
        Self { size, scale, boxes, top_caption, frame, stream, tied_x: right + s(14.0) }
    }

    /// The same, begun at another corner.
    #[must_use]
    pub fn at(mut self, corner: Pos2) -> Self {
        let by = corner.to_vec2();
        for (_, rect) in &mut self.boxes {
            *rect = rect.translate(by);
        }
        self.top_caption += by;
        self.frame = self.frame.translate(by);
        self.stream = self.stream.translate(by);
        self.tied_x += by.x;
        self
    }

    #[must_use]
    pub fn rect(&self, kind: Kind) -> Option<Rect> {
        rect_of(&self.boxes, kind)
    }
}

fn rect_of(boxes: &[(Kind, Rect)], wanted: Kind) -> Option<Rect> {
    boxes.iter().find(|(kind, _)| *kind == wanted).map(|(_, rect)| *rect)
}
