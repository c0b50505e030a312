//! The watch: threads that find loops which stall, and say so.
//!
//! Shape:      `pulse.rs` what a loop's thread writes down, `blocked.rs` how long it was blocked
//!             · `watched.rs` one loop, and its stalls · `examined.rs` what it does then,
//!             `rounds.rs` what it did earlier in a round · `native.rs` its functions of C ·
//!             `watchdog.rs` the thread that looks, `lateness.rs` when it could not ·
//!             `listeners.rs` what it tells · `source.rs` the text of files · `witness.rs` the
//!             thread that asks the interpreter · `roll.rs` which loops there are. The whole is
//!             here.

mod blocked;
mod examined;
mod lateness;
mod listeners;
mod native;
mod pulse;
mod roll;
mod rounds;
mod source;
mod watchdog;
mod watched;
mod witness;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use offloop_core::event_loop::StallLimits;
use offloop_core::watch::{Catalogue, Places, Style};

use crate::runtime::Runtime;
use listeners::Listeners;
use witness::Witness;

pub use blocked::Moment;
pub use listeners::Ranking;
pub use native::NativeReader;
pub use pulse::{Ended, Line, Pulse, long_slices};
pub use roll::LoopSeen;
pub use source::SourceFiles;
pub use watchdog::{Audience, Facts, Question, Reader, Watchdog};
pub use watched::{Slice, Subject};
pub use witness::Hearing;

/// How long the end of the watch waits for its threads, and how often it looks.
const END_BOUND: Duration = Duration::from_secs(1);
const END_SLICE: Duration = Duration::from_millis(1);

/// How a watch is to be.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// What is a stall, and how many are told.
    pub limits: StallLimits,
    /// How stalls are told on standard error; `None` if they are not.
    pub style: Option<Style>,
    /// Whose code is whose.
    pub places: Places,
    /// Whether functions of C are named, for which a signal interrupts the thread that runs.
    pub native: bool,
}

/// A watch that is on.
#[derive(Debug)]
pub struct Watch {
    watchdog: Watchdog,
    witness: Witness,
    options: WatchOptions,
}

impl Watch {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system's, when there is no room for a thread.
    pub fn start(
        options: WatchOptions,
        reader: Reader,
        runtime: Runtime,
        hearing: Box<dyn Hearing>,
        ranking: Ranking,
    ) -> io::Result<Self> {
        // It is read here once: not while a loop stalls, nor by a thread that a fork leaves behind.
        let _ready = Catalogue::shipped();
        let witness = Witness::start(hearing)?;
        let listeners = Listeners::new(
            witness.door.clone(),
            runtime,
            options.places.clone(),
            options.style,
            ranking,
        );
        let native = options.native.then(NativeReader::new).transpose()?;
        let watchdog = Watchdog::start(options.limits, reader, native, Box::new(listeners))?;
        Ok(Self {
            watchdog,
            witness,
            options,
        })
    }

    /// How it is.
    #[must_use]
    pub fn options(&self) -> &WatchOptions {
        &self.options
    }

    /// Watches a loop from now on.
    #[must_use]
    pub fn watch(&self, pulse: &Arc<Pulse>, subject: Subject) -> Line {
        self.watchdog.watch(pulse, subject)
    }

    /// What each loop that is watched does now; no thread waits for that.
    #[must_use]
    pub fn loops(&self) -> Vec<LoopSeen> {
        self.watchdog.loops()
    }

    /// Says something on standard error, soon; control characters in it are made harmless.
    pub fn say(&self, text: &str) {
        let harmless = |letter: char| match letter {
            '\n' => '\n',
            letter if letter.is_control() => char::REPLACEMENT_CHARACTER,
            letter => letter,
        };
        self.watchdog.say(text.chars().map(harmless).collect());
    }

    /// Has all told that is over by now. What is returned gets a word behind the last report; it is
    /// closed without one if the threads are too busy.
    #[must_use]
    pub fn settle(&self) -> Receiver<()> {
        let (reply, settled) = sync_channel(1);
        self.watchdog.settle(reply);
        settled
    }

    /// Ends the threads. What is being told is told to its end, or left after a second.
    pub fn stop(self) {
        let until = Instant::now() + END_BOUND;
        // The witness hears what the watchdog says at its end.
        wait(&self.watchdog.stop(), until);
        wait(&self.witness.stop(), until);
    }
}

fn wait(thread: &JoinHandle<()>, until: Instant) {
    if thread.thread().id() == thread::current().id() {
        // A program's callback turns the watch off.
        return;
    }
    while !thread.is_finished() && Instant::now() < until {
        thread::park_timeout(END_SLICE);
    }
}
