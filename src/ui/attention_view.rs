//! Where every head looks: the grid of all of them, and one of them enlarged. Both show the newest look in the store, or
//! hold it against a pinned moment; the pictures are textures, made anew only when there is something new to see.

mod compare;
mod grid;
mod head;
mod look;
mod picture;
mod probe;
mod switches;
mod thumbnail;

use std::collections::HashMap;

use eframe::egui::{RichText, Ui};

use self::compare::Source;
use self::look::Look;
use self::picture::Picture;
use self::probe::ProbeField;
use super::actions::ViewSettings;
use super::colormap::WeightScale;
use crate::lab::protocol::{AttentionSnapshot, HeadId, View};
use crate::store::RunStore;

/// Both attention panes. Keeps textures, where one looks and the probe as it is being typed, nothing of the run.
#[derive(Default)]
pub struct AttentionView {
    thumbnails: HashMap<(HeadId, Source), Picture>,
    enlarged: HashMap<Source, Picture>,
    look: Option<Look>,
    probe: ProbeField,
}

/// What both panes show.
#[derive(Clone, Copy)]
pub struct AttentionState<'a> {
    pub store: &'a RunStore,
    pub view: &'a ViewSettings,
    /// What was asked for last.
    pub looked: &'a View,
    /// Whether something was switched off or on.
    pub can_undo: bool,
}

impl AttentionState<'_> {
    fn is_pruned(&self, HeadId { layer, head }: HeadId) -> bool {
        self.store.ready.as_ref().is_some_and(|ready| ready.recipe.model.pruned.contains(&(layer, head)))
    }
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
