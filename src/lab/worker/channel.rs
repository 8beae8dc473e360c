//! The worker's ends of the channels.

use std::collections::VecDeque;

use crossbeam_channel::{Receiver, Sender, TryRecvError};

use crate::protocol::{Command, Event, Look, LookSlot, Outcome, View, Wake};

/// The worker's way out: events in order, attention as a latest value, a wake for who waits.
pub struct Outbox {
    events: Sender<Event>,
    looks: LookSlot,
    wake: Wake,
}

impl Outbox {
    pub(in crate::lab) const fn new(events: Sender<Event>, looks: LookSlot, wake: Wake) -> Self {
        Self { events, looks, wake }
    }

    /// Sends in order, waiting for room; `false` when nobody listens any more, which ends the run.
    pub fn send(&self, event: Event) -> bool {
        let sent = self.send_quietly(event);
        (self.wake)();
        sent
    }

    /// As [`send`](Self::send), and leaves it to the next one to wake who waits.
    pub(in crate::lab) fn send_quietly(&self, event: Event) -> bool {
        self.events.send(event).is_ok()
    }

    pub(in crate::lab) fn put_look(&self, look: Look) {
        self.looks.put(look);
        (self.wake)();
    }

    /// Wakes who waits for what was sent quietly.
    pub(in crate::lab) fn wake(&self) {
        (self.wake)();
    }

    pub(in crate::lab) fn finish(&self, outcome: Outcome) {
        self.send(Event::Finished(outcome));
    }
}

/// Commands as they come, with those that came while the run was being opened.
pub(in crate::lab) struct Inbox<'a> {
    channel: &'a Receiver<Command>,
    early: VecDeque<Command>,
    stopped: bool,
}

impl<'a> Inbox<'a> {
    pub(in crate::lab) const fn new(channel: &'a Receiver<Command>) -> Self {
        Self { channel, early: VecDeque::new(), stopped: false }
    }

    /// Whether the run is to go on: asked in the middle of long work. Other commands are kept for later.
    pub(in crate::lab) fn goes_on(&mut self) -> bool {
        while !self.stopped {
            match self.channel.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => self.stopped = true,
                Ok(command) => self.early.push_back(command),
                Err(TryRecvError::Empty) => return true,
            }
        }
        false
    }

    /// The newest of the views that were asked for in the middle of long work. It stays in the queue, as other commands
    /// may rest on those before it.
    pub(in crate::lab) fn newest_view(&self) -> Option<&View> {
        self.early.iter().rev().find_map(|command| match command {
            Command::Look(view) => Some(&**view),
            _ => None,
        })
    }

    /// The next command; waits for it if `wait`, else `None` when there is none. A closed channel means stop.
    pub(in crate::lab) fn next(&mut self, wait: bool) -> Option<Command> {
        if self.stopped {
            return Some(Command::Stop);
        }
        if let Some(command) = self.early.pop_front() {
            return Some(command);
        }
        if wait {
            return Some(self.channel.recv().unwrap_or(Command::Stop));
        }
        match self.channel.try_recv() {
            Ok(command) => Some(command),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Command::Stop),
        }
    }
}
