//! The window: egui panels that read the store and return actions. The only room that names egui, eframe and rfd.

pub mod actions;
