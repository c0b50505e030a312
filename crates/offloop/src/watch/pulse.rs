//! The pulse of a loop: what its thread writes down, and how a watchdog hears of what took long.
//!
//! The loop's thread writes; it never waits for a watchdog. While a loop waits for something to do
//! the watchdog sleeps without a limit, and the loop's thread wakes it when there is something to
//! watch again.
//!
//! Units:      ticks of `offloop_sys::clock`.
//! Invariants: 1. A watchdog that sleeps without a limit has said so in each pulse, and has looked
//!                at each once more afterwards.
//!             2. At most `ENDED_MAX` slices wait for the watchdog; those beyond are counted.
//! Threads:    the loop's writes; one watchdog reads.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;

use offloop_core::event_loop::Stalled;
use offloop_sys::running::{Round, Running};

use super::blocked::{BlockedRounds, Moment};

/// Slices that took long and wait for the watchdog: as many as end while it writes a report.
const ENDED_MAX: usize = 256;

/// Slices of this process that took long and are over, of all loops and watches.
static LONG: AtomicU64 = AtomicU64::new(0);

/// How many slices of this process took long so far, told or not: they are counted by the loops'
/// threads, so whatever a loop has done before this call is in it.
#[must_use]
pub fn long_slices() -> u64 {
    LONG.load(Ordering::Relaxed)
}

/// What a loop's thread and a watchdog share.
#[derive(Debug, Default)]
pub struct Pulse {
    /// What runs now.
    pub running: Running,
    /// The watchdog sleeps until it is woken.
    sleeping: AtomicBool,
    /// The loop is gone.
    closed: AtomicBool,
    /// Slices that found no room.
    missed: AtomicU64,
    /// What the loop's own work asks for; no other thread takes the lock.
    blocked: Mutex<BlockedRounds>,
}

impl Pulse {
    /// The loop is gone, and is not watched any more.
    pub fn close(&self) {
        // A watchdog that sees it sees what was told before.
        self.closed.store(true, Ordering::Release);
    }

    /// A round took long, and is over.
    #[cold]
    pub fn note_blocked(&self, round: Round, end: u64) {
        let blocked = self.blocked.lock();
        blocked
            .unwrap_or_else(PoisonError::into_inner)
            .add(round, end);
    }

    /// This moment, for `blocked_since`; on the loop's thread.
    #[must_use]
    pub fn moment(&self, now: u64) -> Moment {
        let blocked = self.blocked.lock();
        blocked
            .unwrap_or_else(PoisonError::into_inner)
            .moment(now, self.running.own_round())
    }

    /// For how long the loop was blocked since then, by rounds of `limit` or longer; on the loop's
    /// thread.
    #[must_use]
    pub fn blocked_since(&self, since: &Moment, now: u64, limit: u64) -> u64 {
        let blocked = self.blocked.lock();
        blocked.unwrap_or_else(PoisonError::into_inner).since(
            since,
            now,
            self.running.own_round(),
            limit,
        )
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The watchdog is about to sleep without a limit; false if there is something to watch.
    pub(super) fn may_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        // Either the loop's thread sees the word, or its round is seen here (`begin_round`).
        fence(Ordering::SeqCst);
        self.running.read().is_some_and(|seen| seen.round.is_none())
    }

    /// The watchdog is awake.
    pub(super) fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn is_slept_on(&self) -> bool {
        self.sleeping.load(Ordering::Relaxed)
    }

    /// Slices that were missed since the last question.
    pub(super) fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }
}

/// A slice that took long, and is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What it was.
    pub stalled: Stalled,
    /// Its number.
    pub number: u64,
    /// When it began.
    pub start: u64,
    /// When it ended.
    pub end: u64,
    /// The round that it belongs to.
    pub round: u64,
}

/// The way from a loop's thread to its watchdog.
#[derive(Clone, Debug)]
pub struct Line {
    pulse: Arc<Pulse>,
    sender: Sender<Ended>,
    /// Slices on the way. They have no memory before one comes: a test suite makes a loop for each
    /// test, and nearly none of these stalls.
    waiting: Arc<AtomicUsize>,
    watchdog: Thread,
}

/// The watchdog's end of a line.
#[derive(Debug)]
pub(super) struct LineEnd {
    receiver: Receiver<Ended>,
    waiting: Arc<AtomicUsize>,
}

impl LineEnd {
    /// The next slice that took long.
    pub(super) fn next(&self) -> Option<Ended> {
        let ended = self.receiver.try_recv().ok()?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(ended)
    }
}

impl Line {
    pub(super) fn new(pulse: &Arc<Pulse>, watchdog: Thread) -> (Self, LineEnd) {
        let (sender, receiver) = channel();
        let waiting = Arc::<AtomicUsize>::default();
        let end = LineEnd {
            receiver,
            waiting: Arc::clone(&waiting),
        };
        let line = Self {
            pulse: Arc::clone(pulse),
            sender,
            waiting,
            watchdog,
        };
        (line, end)
    }

    /// A round begins after the loop has waited.
    #[inline]
    pub fn begin_round(&self, start: u64) {
        self.pulse.running.begin_round(start);
        // Either the watchdog sees the round, or its word is seen here (`may_sleep`).
        fence(Ordering::SeqCst);
        if self.pulse.sleeping.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        if self.pulse.sleeping.swap(false, Ordering::Relaxed) {
            self.watchdog.unpark();
        }
    }

    /// Tells the watchdog of a slice that took long.
    #[cold]
    pub fn tell(&self, ended: Ended) {
        LONG.fetch_add(1, Ordering::Relaxed);
        // The number is taken first, so what is on the way is never more.
        let has_room = self.waiting.fetch_add(1, Ordering::Relaxed) < ENDED_MAX;
        // The watchdog may be gone: in a forked child, for one.
        if !has_room || self.sender.send(ended).is_err() {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.pulse.missed.fetch_add(1, Ordering::Relaxed);
        }
        self.watchdog.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const ENDED: Ended = Ended {
        stalled: Stalled::Callback,
        number: 1,
        start: 2,
        end: 3,
        round: 1,
    };

    #[test]
    fn a_watchdog_may_sleep_only_while_no_round_goes_on() {
        let pulse = Arc::new(Pulse::default());
        let (line, _end) = Line::new(&pulse, thread::current());
        assert!(pulse.may_sleep());
        line.begin_round(1);
        assert!(!pulse.sleeping.load(Ordering::Relaxed), "it was woken");
        assert!(!pulse.may_sleep());
        pulse.running.end_round();
        assert!(pulse.may_sleep());
    }

    #[test]
    fn slices_beyond_the_limit_are_counted() {
        let pulse = Arc::new(Pulse::default());
        let (line, end) = Line::new(&pulse, thread::current());
        for _ in 0..ENDED_MAX + 3 {
            line.tell(ENDED);
        }
        assert_eq!(std::iter::from_fn(|| end.next()).count(), ENDED_MAX);
        assert_eq!((pulse.take_missed(), pulse.take_missed()), (3, 0));
        line.tell(ENDED);
        assert_eq!((end.next(), end.next()), (Some(ENDED), None));
    }
}
