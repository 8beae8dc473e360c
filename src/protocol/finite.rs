//! Where numbers stop being numbers: plain data, for whoever shows it or refuses because of it.

use std::cmp::Ordering;

use serde::{Deserialize, Deserializer};

/// What a pass over the model comes to, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Embedding,
    /// Of a layer, counted from 0.
    Attention(usize),
    Mlp(usize),
    FinalNorm,
    Logits,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Embedding => formatter.write_str("the embedding"),
            Self::Attention(layer) => write!(formatter, "layer {}'s attention", layer + 1),
            Self::Mlp(layer) => write!(formatter, "layer {}'s MLP", layer + 1),
            Self::FinalNorm => formatter.write_str("the final norm"),
            Self::Logits => formatter.write_str("the logits"),
        }
    }
}

/// A pass over the model gave NaN or an infinity: where that began. In its words positions count from 0, as in files and on
/// the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the model's numbers are not finite from {stage} on (position {position}): its weights are too large, or spoiled"
)]
pub struct NonFinite {
    pub stage: Stage,
    /// The first one at that stage, counted from 0.
    pub position: usize,
}

impl NonFinite {
    /// The same for the screen, where positions count from 1.
    #[must_use]
    pub fn on_screen(&self) -> String {
        Self { position: self.position + 1, ..*self }.to_string()
    }
}

/// The larger first, as sorting wants it; what is no number comes before all, so that it is not overlooked.
#[must_use]
pub fn falling(one: f32, other: f32) -> Ordering {
    let key = |value: f32| if value.is_nan() { f32::NAN.copysign(1.0) } else { value };
    key(other).total_cmp(&key(one))
}

/// The place of the largest, of equal ones the first; of what is no number where there is some, as PyTorch's `argmax`.
#[must_use]
pub fn largest_place(values: &[f32]) -> Option<usize> {
    (0..values.len()).min_by(|&one, &other| falling(values[one], values[other]))
}

/// JSON has no word for what is no number: serde writes null, and this reads it back.
pub(super) fn or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    Ok(Option::<f32>::deserialize(deserializer)?.unwrap_or(f32::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_comes_first_whatever_its_sign() {
        let mut values = [1.0, f32::NEG_INFINITY, -f32::NAN, 3.0, f32::NAN, f32::INFINITY];
        values.sort_by(|&one, &other| falling(one, other));
        assert!(values[0].is_nan() && values[1].is_nan(), "{values:?}");
        assert_eq!(values[2..], [f32::INFINITY, 3.0, 1.0, f32::NEG_INFINITY]);
        assert_eq!(largest_place(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(largest_place(&[1.0, -f32::NAN, 3.0]), Some(1));
        assert_eq!(largest_place(&[]), None);
    }

    #[test]
    fn it_names_the_layer_from_one_and_the_position_as_asked() {
        let found = NonFinite { stage: Stage::Attention(1), position: 0 };
        let words = "the model's numbers are not finite from layer 2's attention on (position";
        assert!(found.to_string().starts_with(&format!("{words} 0)")), "{found}");
        assert!(found.on_screen().starts_with(&format!("{words} 1)")), "{}", found.on_screen());
    }
}
