//! The prediction after each layer, and what each part adds to it.

use eframe::egui::Ui;

use super::actions::{Action, ViewSettings};
use crate::lab::protocol::View;
use crate::store::RunStore;

/// The pane. `looked` is what was asked for last.
pub fn ui(ui: &mut Ui, store: &RunStore, _view: &ViewSettings, _looked: &View) -> Vec<Action> {
    if store.look.is_none() {
        ui.weak("Nothing to show yet: press Train.");
    }
    Vec::new()
}
