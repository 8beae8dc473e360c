//! Where every head looks: the grid of all of them, and one of them enlarged. Both show the newest snapshot in the store;
//! the pictures are textures, made anew only when there is something new to see.

mod grid;
mod head;
mod look;
mod picture;
mod probe;

use std::collections::HashMap;

use eframe::egui::{RichText, Ui};

use self::look::Look;
use self::picture::Picture;
use self::probe::ProbeField;
use super::actions::ViewSettings;
use super::colormap::WeightScale;
use crate::lab::protocol::{AttentionSnapshot, HeadId};

/// Both attention panes. Keeps textures, where one looks and the probe as it is being typed, nothing of the run.
#[derive(Default)]
pub struct AttentionView {
    thumbnails: HashMap<HeadId, Picture>,
    enlarged: Option<Picture>,
    look: Option<Look>,
    probe: ProbeField,
}

fn scale_of(view: &ViewSettings) -> WeightScale {
    if view.square_root { WeightScale::SquareRoot } else { WeightScale::Linear }
}

/// The chosen head, or the nearest one that this model has.
fn selected_in(snapshot: &AttentionSnapshot, view: &ViewSettings) -> HeadId {
    let HeadId { layer, head } = view.selected;
    HeadId { layer: layer.min(snapshot.layers.saturating_sub(1)), head: head.min(snapshot.heads.saturating_sub(1)) }
}

fn nothing_yet(ui: &mut Ui, sentence: &str) {
    ui.centered_and_justified(|ui| ui.label(RichText::new(sentence).weak()));
}

#[cfg(test)]
mod tests;
