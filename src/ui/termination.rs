//! The system asks the program to end: a signal, at log-out or by hand. The window then closes as at its close button, but
//! asks nothing: the run is saved first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use eframe::egui::Context;

/// How long saving may take: a session that ends does not wait much longer.
const LIMIT: Duration = Duration::from_secs(20);

/// Whether the program is to end.
#[derive(Debug, Clone, Default)]
pub struct Termination(Arc<AtomicBool>);

impl Termination {
    /// Waits for signals: the first one wakes the window, a second one ends the program at once.
    pub(super) fn by_signals(ctx: &Context) -> Self {
        let asked = Self::default();
        let (seen, ctx) = (asked.clone(), ctx.clone());
        // Another handler in this process would be the command line's, which saves as well.
        let _ = ctrlc::set_handler(move || {
            if seen.0.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            ctx.request_repaint();
            let _ = std::thread::Builder::new().name("headlight-termination".into()).spawn(|| {
                std::thread::sleep(LIMIT);
                // What was there before is whole.
                std::process::exit(1);
            });
        });
        asked
    }

    pub(super) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// As a signal does.
    #[cfg(test)]
    pub(super) fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
