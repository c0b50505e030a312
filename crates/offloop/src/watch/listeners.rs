//! What the watchdog tells: words on standard error, an entry of the journal, and the witness.
//!
//! All on the watchdog's thread, which is never attached: a stall is told while the loop's thread
//! keeps the GIL.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};

use offloop_core::Instant;
use offloop_core::event_loop::Moment;
use offloop_core::watch::Stall;
use offloop_sys::clock::monotonic_ns;

use super::watchdog::{Audience, Facts, Question};
use super::watched::Slice;
use super::witness::Message;
use crate::runtime::Runtime;

/// Questions that are kept until they are answered: more than loops that stall at once.
const ASKED_MAX: usize = 16;

/// Those that hear of stalls.
pub(super) struct Listeners {
    witness: SyncSender<Message>,
    /// Questions that were not answered yet.
    asked: VecDeque<(Slice, Receiver<Facts>)>,
    words: bool,
    runtime: Runtime,
}

impl Listeners {
    pub(super) fn new(witness: SyncSender<Message>, words: bool, runtime: Runtime) -> Self {
        Self {
            witness,
            asked: VecDeque::new(),
            words,
            runtime,
        }
    }
}

impl Audience for Listeners {
    fn ask(&mut self, question: Question) {
        let (reply, answer) = sync_channel(1);
        let slice = question.slice;
        // A witness that is too busy is not asked.
        if self.witness.try_send(Message::Ask(question, reply)).is_ok() {
            self.asked.retain(|(asked, _)| *asked != slice);
            if self.asked.len() == ASKED_MAX {
                self.asked.pop_front();
            }
            self.asked.push_back((slice, answer));
        }
    }

    fn answer(&mut self, slice: Slice, until: Instant) -> Option<Facts> {
        let index = self.asked.iter().position(|(asked, _)| *asked == slice)?;
        let left = until.saturating_duration_since(Instant::from_nanos(monotonic_ns()));
        match self.asked[index].1.recv_timeout(left) {
            // It may answer later.
            Err(RecvTimeoutError::Timeout) => None,
            answered => {
                self.asked.remove(index);
                answered.ok()
            }
        }
    }

    fn tell(&mut self, slice: Slice, stall: &Stall) {
        let told = Arc::new(stall.clone());
        if self.words {
            eprintln!("{stall:?}");
        }
        if !matches!(stall.moment, Moment::GoesOn { .. }) {
            self.runtime.note_stall(&told);
            // A witness that is too busy hears of it no more; the journal has it.
            let _ = self.witness.try_send(Message::Tell(slice, told));
        }
    }
}
