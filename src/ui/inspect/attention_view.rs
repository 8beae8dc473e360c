//! Where every head looks: the grid of all of them, and one of them enlarged. Both show the newest look in the store, or
//! hold it against a pinned moment; the pictures are textures, made anew only when there is something new to see.

pub(in crate::ui) mod compare;
mod cuts;
mod focus;
mod grid;
pub(in crate::ui) mod head;
pub(in crate::ui) mod picture;
mod probe;
mod switches;
mod thumbnail;
mod zoom;

use std::collections::HashMap;
use std::sync::Arc;

use eframe::egui::{Event, Modifiers, Response, RichText, Ui};

pub use self::focus::Focus;

use self::compare::Source;
use self::picture::Picture;
use self::probe::ProbeField;
use crate::protocol::{HeadId, View};
use crate::store::RunStore;
use crate::ui::actions::ViewSettings;
use crate::ui::inspect::attention_view::zoom::{Cell, Look};
use crate::ui::widgets::theme;

/// Both attention panes. Keeps textures, where one looks and the probe as it is being typed, nothing of the run.
#[derive(Default)]
pub struct AttentionView {
    thumbnails: HashMap<(HeadId, Source), Picture>,
    enlarged: HashMap<Source, Picture>,
    look: Option<Look>,
    probe: ProbeField,
    /// The cell that the menu is about.
    menu: Option<Cell>,
    /// Shown in place of the probe's attention.
    focus: Option<Arc<Focus>>,
}

impl AttentionView {
    /// Shows the row that chose a token in place of the probe's attention, from the next frame on. True when that is
    /// something new.
    pub(in crate::ui) fn set_focus(&mut self, focus: Option<Arc<Focus>>) -> bool {
        let same = self.focus.as_ref().map(Arc::as_ptr) == focus.as_ref().map(Arc::as_ptr);
        self.focus = focus;
        !same
    }
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

/// Whether this was clicked with such keys held. They are those of the moment when the button was let go: in a slow frame
/// they may be up again when it is drawn.
fn clicked_with(ui: &Ui, response: &Response, held: fn(&Modifiers) -> bool) -> bool {
    let released =
        |event: &Event| matches!(event, Event::PointerButton { pressed: false, modifiers, .. } if held(modifiers));
    response.clicked() && ui.input(|input| input.events.iter().any(released))
}

/// Where the shown model stops giving numbers, if it does: above whatever is made of them.
pub(in crate::ui) fn non_finite_line(ui: &mut Ui, store: &RunStore) {
    if let Some(found) = store.look.as_ref().and_then(|look| look.non_finite) {
        // The first word of a sentence.
        let words = found.on_screen().replacen("the", "The", 1);
        ui.label(RichText::new(format!("{words}.")).color(theme::warning(ui.visuals())));
    }
}

#[cfg(test)]
mod tests;
