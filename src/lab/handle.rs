//! The window's and the command line's end of a run: starts the worker thread, carries commands and events.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::worker;
use crate::lab::worker::channel::Outbox;
use crate::protocol::{Command, Event, Look, LookSlot, Outcome, RunSpec, Wake};

/// A running worker. Dropping it closes the command channel, which ends the worker after a checkpoint.
#[derive(Debug)]
pub struct RunHandle {
    commands: Sender<Command>,
    events: Receiver<Event>,
    looks: LookSlot,
    thread: Option<JoinHandle<()>>,
}

impl RunHandle {
    /// Starts the worker thread. Everything that can go wrong arrives as [`Event::Finished`].
    #[must_use]
    pub fn start(spec: RunSpec, wake: Wake) -> Self {
        Self::start_with(wake, move |outbox, commands| worker::run(spec, outbox, commands))
    }

    fn start_with<F>(wake: Wake, body: F) -> Self
    where
        F: FnOnce(&Outbox, &Receiver<Command>) -> Outcome + Send + 'static,
    {
        let (command_sender, command_receiver) = bounded(256);
        let (event_sender, event_receiver) = bounded(256);
        let looks = LookSlot::default();
        let outbox = Outbox::new(event_sender, looks.clone(), wake);
        let thread = std::thread::Builder::new().name("headlight-worker".into()).spawn(move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| body(&outbox, &command_receiver))).unwrap_or_else(|panic| {
                // A device that failed is tried anew before it is used again.
                crate::device::forget_opened();
                Outcome::Failed(broke_off(&*panic))
            });
            outbox.finish(outcome);
        });
        let thread = thread.expect("the system starts a thread");
        Self { commands: command_sender, events: event_receiver, looks, thread: Some(thread) }
    }

    /// Hands a command over without waiting; `false` when the worker is gone or far behind.
    pub fn send(&self, command: Command) -> bool {
        self.commands.try_send(command).is_ok()
    }

    /// The next event, if one is there. Never waits.
    #[must_use]
    pub fn try_next(&self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// The next event, waiting for it at most so long: for the command line, never for the window.
    #[must_use]
    pub fn next_within(&self, limit: Duration) -> Option<Event> {
        self.events.recv_timeout(limit).ok()
    }

    /// The newest attention snapshot since the last call.
    #[must_use]
    pub fn take_look(&self) -> Option<Arc<Look>> {
        self.looks.take()
    }

    /// Ends the worker after a checkpoint and waits for it: for the end of the program.
    pub fn stop_and_wait(self) {
        let Self { commands, events, thread, .. } = self;
        // A closed channel means stop, also when it is full.
        drop(commands);
        // The worker may be waiting for room in the event channel.
        while events.recv().is_ok() {}
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    /// Whether nothing is left to take.
    #[must_use]
    pub fn has_no_more(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether the worker's thread has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

/// A device that disappears ends in a panic of burn's, as a bug of ours would.
fn broke_off(panic: &(dyn std::any::Any + Send)) -> String {
    let why = panic_text(panic);
    format!("the run broke off: {why}. What was saved is kept: open the run again to go on from its last checkpoint")
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events_of(body: impl FnOnce(&Outbox, &Receiver<Command>) -> Outcome + Send + 'static) -> Vec<Event> {
        let handle = RunHandle::start_with(Arc::new(|| ()), body);
        std::iter::from_fn(|| handle.next_within(Duration::from_secs(10))).collect()
    }

    #[test]
    fn a_panic_still_finishes_exactly_once() {
        let events = events_of(|outbox, _| {
            outbox.send(Event::Warning("one".into()));
            panic!("lost the thread");
        });
        assert_eq!(events.len(), 2, "{events:?}");
        assert!(
            matches!(&events[1], Event::Finished(Outcome::Failed(why)) if why.contains("lost the thread")),
            "{events:?}"
        );
    }

    #[test]
    fn a_dropped_handle_closes_the_channel() {
        let (tell, told) = bounded(1);
        let handle = RunHandle::start_with(Arc::new(|| ()), move |_, commands| {
            while commands.recv().is_ok() {}
            let _ = tell.send(());
            Outcome::Stopped
        });
        drop(handle);
        told.recv_timeout(Duration::from_secs(10)).expect("the worker saw the channel close");
    }
}
