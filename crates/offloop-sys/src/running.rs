//! What one thread is doing, for other threads to look at.
//!
//! The thread writes down each piece of work as it begins and as it ends. Other threads read it at
//! any moment without making the writer wait. A sequence lock: the version is odd while the words
//! change, and a reader that saw it change has read nothing.
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
    /// The kernel's number of the thread that does it.
    pub thread: u32,
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

    /// A piece of work has ended. False if it is not the one that is shown.
    #[inline]
    pub fn end(&self, number: u64) -> bool {
        // Relaxed: only this side writes.
        let is_shown = self.active.load(Ordering::Relaxed) == number;
        if is_shown {
            self.write(|| self.active.store(0, Ordering::Relaxed));
        }
        is_shown
    }

    /// Work goes on inside which other work was done.
    pub fn resume(&self, work: Work) {
        self.write(|| self.show(work.number, work.start, work.object));
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

    /// What runs now. `None` between two pieces of work, and while one begins or ends.
    #[must_use]
    pub fn read(&self) -> Option<Work> {
        let version = self.version.load(Ordering::Acquire);
        let number = self.active.load(Ordering::Relaxed);
        let work = Work {
            number,
            start: self.start.load(Ordering::Relaxed),
            object: self.object.load(Ordering::Relaxed),
            thread: self.thread.load(Ordering::Relaxed) as u32,
        };
        // The words were read before the second look at the version.
        fence(Ordering::Acquire);
        let same = self.version.load(Ordering::Relaxed) == version;
        (number != 0 && same && version.is_multiple_of(2)).then_some(work)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_seen_until_it_ends() {
        let running = Running::new();
        running.set_thread();
        assert_eq!(running.read(), None);
        for number in 1..=2 {
            assert_eq!(running.begin(7, 30), number);
            let work = Work {
                number,
                start: 30,
                object: 7,
                thread: crate::thread::kernel_id(),
            };
            assert_eq!(running.read(), Some(work));
            assert!(running.end(number));
            assert_eq!(running.read(), None);
        }
    }

    #[test]
    fn work_that_was_taken_over_does_not_end_what_is_shown() {
        let running = Running::new();
        let first = running.begin(7, 30);
        let outer = running.read().expect("the first goes on");
        let second = running.begin(8, 31);
        assert!(!running.end(first));
        assert_eq!(running.read().map(|work| work.number), Some(second));
        assert!(running.end(second));
        running.resume(outer);
        assert_eq!(running.read(), Some(outer));
        assert_eq!(running.begin(9, 32), 3);
    }
}
