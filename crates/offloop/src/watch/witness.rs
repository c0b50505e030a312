//! The witness: a thread that may ask the interpreter about a stall, and calls what hears of it.
//!
//! While a C call keeps the GIL the witness waits for it, and the watchdog goes on without.
//!
//! Threads:    its own; the watchdog sends it messages and never waits longer than it said.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use offloop_core::watch::Told;

use super::watchdog::{Facts, Question};
use super::watched::Slice;

/// Messages that wait; the watchdog goes on without those beyond.
const WAITING_MAX: usize = 64;

/// What the interpreter is asked and told, on the witness's thread.
pub trait Hearing: Send {
    /// Its thread has begun.
    fn begin(&mut self) {}

    /// What it knows of a callback; `None` if it ends.
    fn answer(&mut self, question: &Question) -> Option<Facts>;

    /// A stall was found, or is over; false if the interpreter ends.
    fn tell(&mut self, slice: Slice, told: &Told) -> bool;
}

/// What the watchdog wants.
pub(super) enum Message {
    Ask(Question, SyncSender<Facts>),
    Tell(Slice, Arc<Told>),
    Settle(SyncSender<()>),
    Stop,
}

/// The thread.
#[derive(Debug)]
pub(super) struct Witness {
    pub(super) door: SyncSender<Message>,
    thread: JoinHandle<()>,
}

impl Witness {
    pub(super) fn start(hearing: Box<dyn Hearing>) -> io::Result<Self> {
        let (door, messages) = sync_channel(WAITING_MAX);
        let thread = thread::Builder::new()
            .name("offloop-witness".into())
            .spawn(move || run(hearing, &messages))?;
        Ok(Self { door, thread })
    }

    /// Asks the thread to end, and hands it out. If it is too busy to hear, it ends with the last
    /// sender.
    pub(super) fn stop(self) -> JoinHandle<()> {
        // The door closes with the watchdog, at the latest.
        let _ = self.door.try_send(Message::Stop);
        self.thread
    }
}

fn run(mut hearing: Box<dyn Hearing>, messages: &Receiver<Message>) {
    // A program may block signals in its own threads, and wait for them.
    offloop_sys::thread::block_signals();
    let generation = offloop_sys::fork::generation();
    hearing.begin();
    while let Ok(message) = messages.recv() {
        let goes_on = match message {
            Message::Stop => false,
            Message::Ask(question, reply) => match hearing.answer(&question) {
                Some(facts) => {
                    // The watchdog may have gone on without.
                    let _ = reply.try_send(facts);
                    true
                }
                None => false,
            },
            Message::Settle(reply) => {
                // It may not wait any more.
                let _ = reply.try_send(());
                true
            }
            Message::Tell(slice, told) => hearing.tell(slice, &told),
        };
        // What hears of a stall may have forked: its child came back, and this is its only thread.
        if !goes_on || offloop_sys::fork::generation() != generation {
            return;
        }
    }
}
