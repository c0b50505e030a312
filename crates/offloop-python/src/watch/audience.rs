//! What the watchdog tells: words on standard error, an entry of the journal, and the witness.
//!
//! All on the watchdog's thread, which is never attached: a stall is told while the loop's thread
//! keeps the GIL.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use offloop::watch::{Audience, Facts, Slice};
use offloop::{Event, Runtime};
use offloop_core::Instant;
use offloop_core::event_loop::Moment;
use offloop_core::watch::Stall;
use offloop_sys::clock::monotonic_ns;

use super::witness::Message;

/// Those that hear of stalls.
pub(super) struct Listeners {
    witness: SyncSender<Message>,
    words: bool,
    runtime: Runtime,
}

impl Listeners {
    pub(super) fn new(witness: SyncSender<Message>, words: bool, runtime: Runtime) -> Self {
        Self {
            witness,
            words,
            runtime,
        }
    }
}

impl Audience for Listeners {
    fn facts(&mut self, slice: Slice, until: Instant) -> Option<Facts> {
        let (reply, answer) = sync_channel(1);
        let asked = self.witness.try_send(Message::Ask(slice, reply));
        let left = until.saturating_duration_since(Instant::from_nanos(monotonic_ns()));
        asked.ok()?;
        answer.recv_timeout(left.max(Duration::ZERO)).ok()
    }

    fn tell(&mut self, slice: Slice, stall: &Stall) {
        if self.words {
            eprintln!("{stall:?}");
        }
        if !matches!(stall.moment, Moment::GoesOn { .. }) {
            let stall = Box::new(stall.clone());
            match self.witness.try_send(Message::Tell(slice, stall)) {
                Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
    }
}
