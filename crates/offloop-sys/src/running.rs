//! What one thread is doing, for other threads to look at.
//!
//! The thread writes down each piece of work as it begins and as it ends, and the round that the
//! piece belongs to. Other threads read it at any moment without making the writer wait. A sequence
//! lock: the version is odd while the words change, and a reader that saw it change has read
//! nothing.
//!
//! Invariants: one thread writes at a time; another may go on with it after a synchronisation of
//!             their own.
//! Threads:    any may read.
//! Source:     Boehm, "Can seqlocks get along with programming language memory models?" (2012);
//!             model-checked in tests/models.

use crate::sync::{AtomicU64, Ordering, fence};

/// A piece of work, as it was when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Counts from 1.
    pub number: u64,
    /// When it began, in the writer's unit.
    pub start: u64,
    /// What it is, in the writer's terms.
    pub object: u64,
}

/// A round of work, as it was when it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Round {
    /// Counts from 1.
    pub number: u64,
    /// When it began, in the writer's unit.
    pub start: u64,
}

/// What one thread is doing, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The kernel's number of the thread.
    pub thread: u32,
    /// The round that goes on; `None` while the thread waits for something to do.
    pub round: Option<Round>,
    /// The piece of work that goes on.
    pub work: Option<Work>,
}

/// The words that the two sides share.
#[derive(Debug)]
pub struct Running {
    /// Odd while the other words change.
    version: AtomicU64,
    /// The greatest number so far; only the writer looks.
    last: AtomicU64,
    start: AtomicU64,
    object: AtomicU64,
    thread: AtomicU64,
    /// The number of the piece of work that goes on, 0 between two.
    active: AtomicU64,
    /// The greatest number of a round so far; only the writer looks.
    last_round: AtomicU64,
    round_start: AtomicU64,
    /// The number of the round that goes on, 0 between two.
    active_round: AtomicU64,
}

impl Default for Running {
    fn default() -> Self {
        Self::new()
    }
}

impl Running {
    /// Nothing runs.
    #[must_use]
    pub fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            last: AtomicU64::new(0),
            start: AtomicU64::new(0),
            object: AtomicU64::new(0),
            thread: AtomicU64::new(0),
            active: AtomicU64::new(0),
            last_round: AtomicU64::new(0),
            round_start: AtomicU64::new(0),
            active_round: AtomicU64::new(0),
        }
    }

    /// The thread that calls does the pieces of work from now on.
    pub fn set_thread(&self) {
        let thread = crate::thread::kernel_id();
        self.write(|| self.thread.store(u64::from(thread), Ordering::Relaxed));
    }

    /// A piece of work begins; its number.
    #[inline]
    pub fn begin(&self, object: u64, start: u64) -> u64 {
        // Relaxed: only this side writes.
        let number = self.last.load(Ordering::Relaxed) + 1;
        self.last.store(number, Ordering::Relaxed);
        self.write(|| self.show(number, start, object));
        number
    }

    /// A piece of work has ended: when it began. `None` if it is not the one that is shown.
    #[inline]
    pub fn end(&self, number: u64) -> Option<u64> {
        // Relaxed: only this side writes.
        let is_shown = self.active.load(Ordering::Relaxed) == number;
        is_shown.then(|| {
            self.write(|| self.active.store(0, Ordering::Relaxed));
            self.start.load(Ordering::Relaxed)
        })
    }

    /// Work goes on inside which other work was done.
    pub fn resume(&self, work: Work) {
        self.write(|| self.show(work.number, work.start, work.object));
    }

    /// A round begins; its number.
    #[inline]
    pub fn begin_round(&self, start: u64) -> u64 {
        // Relaxed: only this side writes.
        let number = self.last_round.load(Ordering::Relaxed) + 1;
        self.last_round.store(number, Ordering::Relaxed);
        self.write(|| {
            self.round_start.store(start, Ordering::Relaxed);
            self.active_round.store(number, Ordering::Relaxed);
        });
        number
    }

    /// The round has ended: what it was, if one went on.
    #[inline]
    pub fn end_round(&self) -> Option<Round> {
        let round = self.own_round();
        if round.is_some() {
            self.write(|| self.active_round.store(0, Ordering::Relaxed));
        }
        round
    }

    /// The round that goes on, for the writer.
    #[inline]
    pub fn own_round(&self) -> Option<Round> {
        // Relaxed: only this side writes.
        let number = self.active_round.load(Ordering::Relaxed);
        let start = self.round_start.load(Ordering::Relaxed);
        (number != 0).then_some(Round { number, start })
    }

    #[inline]
    fn show(&self, number: u64, start: u64, object: u64) {
        self.start.store(start, Ordering::Relaxed);
        self.object.store(object, Ordering::Relaxed);
        self.active.store(number, Ordering::Relaxed);
    }

    #[inline]
    fn write(&self, change: impl FnOnce()) {
        // Relaxed: only this side writes.
        let version = self.version.load(Ordering::Relaxed);
        self.version
            .store(version.wrapping_add(1), Ordering::Relaxed);
        // A reader that sees a word of the change sees the odd version in its second look.
        fence(Ordering::Release);
        change();
        // A reader that sees this version in its first look sees the whole change.
        self.version
            .store(version.wrapping_add(2), Ordering::Release);
    }

    /// What goes on now. `None` while the words change.
    #[must_use]
    pub fn read(&self) -> Option<Seen> {
        let version = self.version.load(Ordering::Acquire);
        let number = self.active.load(Ordering::Relaxed);
        let work = Work {
            number,
            start: self.start.load(Ordering::Relaxed),
            object: self.object.load(Ordering::Relaxed),
        };
        let round = Round {
            number: self.active_round.load(Ordering::Relaxed),
            start: self.round_start.load(Ordering::Relaxed),
        };
        let thread = self.thread.load(Ordering::Relaxed) as u32;
        // The words were read before the second look at the version.
        fence(Ordering::Acquire);
        let same = self.version.load(Ordering::Relaxed) == version;
        (same && version.is_multiple_of(2)).then_some(Seen {
            thread,
            round: (round.number != 0).then_some(round),
            work: (work.number != 0).then_some(work),
        })
    }

    /// The piece of work that goes on. `None` between two pieces, and while one begins or ends.
    #[must_use]
    pub fn work(&self) -> Option<Work> {
        self.read()?.work
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_seen_until_it_ends() {
        let running = Running::new();
        running.set_thread();
        assert_eq!(running.work(), None);
        for number in 1..=2 {
            assert_eq!(running.begin(7, 30), number);
            let work = Work {
                number,
                start: 30,
                object: 7,
            };
            let seen = Seen {
                thread: crate::thread::kernel_id(),
                round: None,
                work: Some(work),
            };
            assert_eq!(running.read(), Some(seen));
            assert_eq!(running.end(number), Some(30));
            assert_eq!(running.work(), None);
        }
    }

    #[test]
    fn work_that_was_taken_over_does_not_end_what_is_shown() {
        let running = Running::new();
        let first = running.begin(7, 30);
        let outer = running.work().expect("the first goes on");
        let second = running.begin(8, 31);
        assert_eq!(running.end(first), None);
        assert_eq!(running.work().map(|work| work.number), Some(second));
        assert_eq!(running.end(second), Some(31));
        running.resume(outer);
        assert_eq!(running.work(), Some(outer));
        assert_eq!(running.begin(9, 32), 3);
    }

    #[test]
    fn a_round_is_seen_beside_the_work_in_it() {
        let running = Running::new();
        assert_eq!(running.end_round(), None);
        for number in 1..=2 {
            assert_eq!(running.begin_round(10 * number), number);
            let round = Round {
                number,
                start: 10 * number,
            };
            running.begin(7, 30);
            let seen = running.read().expect("no word changes");
            assert_eq!((seen.round, seen.work.is_some()), (Some(round), true));
            assert_eq!(running.own_round(), Some(round));
            assert_eq!(running.end_round(), Some(round));
            assert_eq!(running.read().and_then(|seen| seen.round), None);
        }
    }
}
