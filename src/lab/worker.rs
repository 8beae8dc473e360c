//! The worker: the loop that owns every tensor.

use crossbeam_channel::{Receiver, Sender};

use super::handle::{RunSpec, Wake};
use super::protocol::{AttentionSlot, AttentionSnapshot, Command, Event, Outcome};

/// The worker's way out: events in order, attention as a latest value, a wake for who waits.
pub struct Outbox {
    events: Sender<Event>,
    attention: AttentionSlot,
    wake: Wake,
}

impl Outbox {
    pub(super) fn new(events: Sender<Event>, attention: AttentionSlot, wake: Wake) -> Self {
        Self { events, attention, wake }
    }

    /// Sends in order, waiting for room; `false` when nobody listens any more, which ends the run.
    pub fn send(&self, event: Event) -> bool {
        let sent = self.events.send(event).is_ok();
        (self.wake)();
        sent
    }

    pub fn put_attention(&self, snapshot: AttentionSnapshot) {
        self.attention.put(snapshot);
        (self.wake)();
    }

    pub(super) fn finish(&self, outcome: Outcome) {
        self.send(Event::Finished(outcome));
    }
}

pub(super) fn run(_spec: RunSpec, _outbox: &Outbox, _commands: &Receiver<Command>) -> Outcome {
    Outcome::Stopped
}
