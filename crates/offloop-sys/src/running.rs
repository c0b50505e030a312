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
}

/// The words that the two sides share.
#[derive(Debug)]
pub struct Running {
    /// Odd while the other words change.
    version: AtomicU64,
    number: AtomicU64,
    start: AtomicU64,
    object: AtomicU64,
    /// 0 between two pieces of work.
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
            number: AtomicU64::new(0),
            start: AtomicU64::new(0),
            object: AtomicU64::new(0),
            active: AtomicU64::new(0),
        }
    }

    /// A piece of work begins.
    #[inline]
    pub fn begin(&self, object: u64, start: u64) {
        self.write(|| {
            // Relaxed: only this side writes.
            let number = self.number.load(Ordering::Relaxed) + 1;
            self.number.store(number, Ordering::Relaxed);
            self.start.store(start, Ordering::Relaxed);
            self.object.store(object, Ordering::Relaxed);
            self.active.store(1, Ordering::Relaxed);
        });
    }

    /// It has ended.
    #[inline]
    pub fn end(&self) {
        self.write(|| self.active.store(0, Ordering::Relaxed));
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
        let work = Work {
            number: self.number.load(Ordering::Relaxed),
            start: self.start.load(Ordering::Relaxed),
            object: self.object.load(Ordering::Relaxed),
        };
        let active = self.active.load(Ordering::Relaxed) != 0;
        // The words were read before the second look at the version.
        fence(Ordering::Acquire);
        let same = self.version.load(Ordering::Relaxed) == version;
        (active && same && version.is_multiple_of(2)).then_some(work)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_seen_until_it_ends() {
        let running = Running::new();
        assert_eq!(running.read(), None);
        for number in 1..=2 {
            running.begin(7, 30);
            let work = Work {
                number,
                start: 30,
                object: 7,
            };
            assert_eq!(running.read(), Some(work));
            running.end();
            assert_eq!(running.read(), None);
        }
    }
}
