//! The window: egui panels that read the store and return actions. The only room that names egui, eframe and rfd.

mod accessible;
pub mod actions;
mod app;
mod harness;
mod inspect;
mod recipe;
mod run;
mod sample;
mod termination;
mod widgets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use egui::{IconData, ViewportBuilder};

pub use crate::ui::harness::bench::bench;
pub use crate::ui::harness::screenshots::screenshots;

use crate::protocol::DeviceChoice;
use crate::ui::app::settings::Loaded;
use app::{App, AppOptions};
use termination::Termination;

/// What the command line asks of the window.
#[derive(Debug, Clone, Default)]
pub struct WindowOptions {
    /// `None` takes the remembered choice.
    pub device: Option<DeviceChoice>,
    /// A run folder to open at once.
    pub open: Option<PathBuf>,
}

/// Why there is no window any more, other than that it was closed.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    /// There never was one: no display, no graphics driver, missing libraries. The terminal can do the job instead.
    #[error("no window can be opened here: {0}")]
    Unavailable(String),
    /// It was there, and stopped.
    #[error("the window stopped: {0}")]
    Lost(String),
}

/// Opens the window and stays until it is closed.
///
/// # Errors
/// If there can be no window, or it was lost; never panics for that.
pub fn run_window(options: WindowOptions) -> Result<(), WindowError> {
    let loaded = Loaded::from_home();
    let viewport = ViewportBuilder::default()
        .with_title("Headlight")
        .with_app_id("headlight")
        .with_icon(icon())
        .with_inner_size(loaded.settings.window_size())
        .with_min_inner_size([960.0, 600.0])
        .with_drag_and_drop(true);
    let native = eframe::NativeOptions { viewport, renderer: eframe::Renderer::Wgpu, ..Default::default() };
    let opened = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&opened);
    let make = move |creation: &eframe::CreationContext<'_>| -> Result<Box<dyn eframe::App>, _> {
        seen.store(true, Ordering::Relaxed);
        let termination = Termination::by_signals(&creation.egui_ctx);
        let WindowOptions { device, open } = options;
        let options = AppOptions { settings: loaded, device, open, runs_root: None, termination };
        Ok(Box::new(App::new(&creation.egui_ctx, options)))
    };
    // The window libraries panic where a shared library is missing.
    let result = catch_unwind(AssertUnwindSafe(|| eframe::run_native("headlight", native, Box::new(make))));
    let why = match result {
        Ok(Ok(())) => return Ok(()),
        // The library's message begins with a place in its source; the end says what is missing.
        Ok(Err(error)) => {
            let text = error.to_string();
            text.rsplit(": ").next().unwrap_or(&text).trim_end_matches(['.', ')']).to_owned()
        }
        Err(panic) => {
            let text =
                panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            text.unwrap_or("a library it needs failed").to_owned()
        }
    };
    Err(if opened.load(Ordering::Relaxed) { WindowError::Lost(why) } else { WindowError::Unavailable(why) })
}

/// The program's picture for title bars and task lists; an empty one where it cannot be read.
fn icon() -> IconData {
    eframe::icon_data::from_png_bytes(include_bytes!("../../assets/icon.png")).unwrap_or_default()
}
