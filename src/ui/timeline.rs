//! The bar under all views: the kept steps of the run, and the one that the views show.

use eframe::egui::Ui;

use super::actions::Action;
use crate::lab::protocol::View;
use crate::store::RunStore;

/// The bar. `looked` is what was asked for last.
pub fn ui(ui: &mut Ui, store: &RunStore, _looked: &View) -> Vec<Action> {
    ui.weak(format!("{} steps are kept", store.kept.len()));
    Vec::new()
}
