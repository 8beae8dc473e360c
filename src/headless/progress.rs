//! How far a long job is, on standard error: what a program reads on standard output stays clean.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often a line on a terminal is written over.
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);
/// How often a file or another program gets a line; a short job says nothing.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// The share of a job that is done, told now and then.
pub(super) struct Progress {
    what: &'static str,
    interval: Duration,
    /// A line can be written over.
    live: bool,
    told: Instant,
    line_open: bool,
}

impl Progress {
    pub fn new(what: &'static str) -> Self {
        let live = std::io::stderr().is_terminal();
        let interval = if live { REDRAW_INTERVAL } else { LINE_INTERVAL };
        Self { what, interval, live, told: Instant::now(), line_open: false }
    }

    /// Tells the share, from 0 to 1, if it is time.
    pub fn tell(&mut self, share: f64) {
        if let Some(line) = self.line_at(share, Instant::now()) {
            // Who closed standard error does not want to know.
            let _ = write!(std::io::stderr(), "{line}");
        }
    }

    fn line_at(&mut self, share: f64, now: Instant) -> Option<String> {
        if now.duration_since(self.told) < self.interval {
            return None;
        }
        self.told = now;
        self.line_open = self.live;
        let percent = (100.0 * share).clamp(0.0, 100.0) as u32;
        let what = self.what;
        Some(if self.live { format!("\r{what}: {percent:>3} % ") } else { format!("{what}: {percent} %\n") })
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.line_open {
            // What comes next begins where this line began.
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_job_is_told_of_now_and_then_and_a_short_one_is_not() {
        let begun = Instant::now();
        let progress = |live, interval| Progress { what: "evaluating", interval, live, told: begun, line_open: false };
        let after = |millis| begun + Duration::from_millis(millis);
        let mut file = progress(false, LINE_INTERVAL);
        assert_eq!(file.line_at(0.1, after(4999)), None);
        assert_eq!(file.line_at(0.205, after(5000)).as_deref(), Some("evaluating: 20 %\n"));
        assert_eq!(file.line_at(0.5, after(6000)), None);
        assert_eq!(file.line_at(f64::NAN, after(10_000)).as_deref(), Some("evaluating: 0 %\n"));
        let mut terminal = progress(true, REDRAW_INTERVAL);
        assert_eq!(terminal.line_at(0.07, after(300)).as_deref(), Some("\revaluating:   7 % "));
        terminal.line_open = false;
    }
}
