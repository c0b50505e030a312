//! When an arena gives memory back, and how much of it.
//!
//! Pages that were used once are kept, since fresh ones are several times slower; what the last
//! window of time did not need goes back. A window runs only while there is something to give back,
//! so an idle program has no timer: the first window ends with the peak of the work before it, the
//! next one saw no work, and after it there is nothing left to watch.
//!
//! ```text
//!             something is freed                 the window needed less than is held
//!   Quiet ─────────────────────────► Watching ───────────────────────────────────────► Trimming
//!     ▲                               │  ▲  └─ it needed all: another window              │  │
//!     └─── nothing is left to give ───┘  └───── more is needed than was to be kept ───────┘  │
//!     └────────────────────────────────────── given back ────────────────────────────────────┘
//! ```
//!
//! Units:      bytes.
//! Invariants: 1. What is held never falls below the peak of the last whole window.
//!             2. Without allocations, two windows and the steps of one trim end in `Quiet`.

use core::time::Duration;

use crate::time::Instant;

/// A window of time, whose peak is kept. Work that returns within it finds its pages still mapped;
/// after a longer pause it pays a second of page faults for every gigabyte.
pub const TRIM_WINDOW: Duration = Duration::from_secs(10);
/// Never given back: a burst of small payloads after a pause pays no faults, and a program with
/// few processes does not notice it.
pub const TRIM_KEEP_BYTES: u64 = 4 << 20;
/// Given back at once: freeing so many pages takes a quarter of a millisecond, in which a thread
/// that needs the arena waits.
pub const TRIM_STEP_BYTES: u64 = 1 << 20;

/// How full an arena is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// Bytes in live blocks.
    pub in_use: u64,
    /// Bytes that are backed by memory: in use, or idle.
    pub held: u64,
    /// Bytes that stay even when nothing needs them.
    pub floor: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Quiet,
    Watching { until: Instant },
    Trimming { keep: u64, at: Instant },
}

/// Decides for one arena.
#[derive(Debug, Clone)]
pub struct TrimPolicy {
    window: Duration,
    windows: u64,
    peak: u64,
    phase: Phase,
}

impl TrimPolicy {
    /// A policy with windows of this length.
    #[must_use]
    pub const fn new(window: Duration) -> Self {
        Self {
            window,
            windows: 0,
            peak: 0,
            phase: Phase::Quiet,
        }
    }

    /// Windows that have ended: tells what was used in the last one from what was not.
    #[must_use]
    pub const fn windows(&self) -> u64 {
        self.windows
    }

    /// A block was allocated; `in_use` counts it.
    pub fn handle_allocated(&mut self, in_use: u64) {
        self.peak = self.peak.max(in_use);
    }

    /// Whether the driver must call [`watch`](Self::watch): there may be something to give back
    /// in a while, and no timer runs. Asked after every free, so it needs no clock.
    #[must_use]
    pub const fn wants_watch(&self, held: u64) -> bool {
        held > TRIM_KEEP_BYTES && matches!(self.phase, Phase::Quiet)
    }

    /// Begins a window.
    pub fn watch(&mut self, now: Instant) {
        let until = now.saturating_add(self.window);
        self.phase = Phase::Watching { until };
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    #[must_use]
    pub const fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Quiet => None,
            Phase::Watching { until } => Some(until),
            Phase::Trimming { at, .. } => Some(at),
        }
    }

    /// Says how many bytes to give back now, at most a step of them. As long as some are, it is
    /// due again at once.
    pub fn handle_timeout(&mut self, now: Instant, fill: Fill) -> u64 {
        match self.phase {
            Phase::Quiet => 0,
            Phase::Watching { until } if now < until => 0,
            Phase::Watching { .. } => {
                let keep = self.peak.max(fill.floor);
                self.peak = fill.in_use;
                self.windows += 1;
                self.step(now, keep, fill)
            }
            Phase::Trimming { keep, .. } if self.peak > keep => {
                self.watch(now);
                0
            }
            Phase::Trimming { keep, .. } => self.step(now, keep, fill),
        }
    }

    /// The system takes nothing back: wait for the next free, and do not try in circles.
    pub fn give_up(&mut self) {
        self.phase = Phase::Quiet;
    }

    fn step(&mut self, now: Instant, keep: u64, fill: Fill) -> u64 {
        let excess = fill.held.saturating_sub(keep);
        if excess > 0 {
            self.phase = Phase::Trimming { keep, at: now };
        } else if fill.held > fill.in_use.max(fill.floor) {
            self.watch(now);
        } else {
            self.phase = Phase::Quiet;
        }
        excess.min(TRIM_STEP_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::random_below;

    const MIB: u64 = 1 << 20;
    const WINDOW: Duration = Duration::from_secs(10);

    /// An arena of numbers, with the clock that the policy sees.
    struct Arena {
        policy: TrimPolicy,
        now: Instant,
        in_use: u64,
        held: u64,
    }

    impl Arena {
        fn new() -> Self {
            Self {
                policy: TrimPolicy::new(WINDOW),
                now: Instant::ZERO,
                in_use: 0,
                held: 0,
            }
        }

        fn allocate(&mut self, bytes: u64) {
            self.in_use += bytes;
            self.held = self.held.max(self.in_use);
            self.policy.handle_allocated(self.in_use);
        }

        fn free(&mut self, bytes: u64) {
            self.in_use -= bytes;
            if self.policy.wants_watch(self.held) {
                self.policy.watch(self.now);
            }
        }

        /// One timeout; the bytes given back.
        fn turn(&mut self) -> u64 {
            let fill = Fill {
                in_use: self.in_use,
                held: self.held,
                floor: TRIM_KEEP_BYTES,
            };
            let bytes = self.policy.handle_timeout(self.now, fill);
            self.held -= bytes;
            assert!(self.held >= self.in_use, "gave back what is in use");
            bytes
        }

        /// Everything that is due until `limit` has passed; the number of timeouts.
        fn run_for(&mut self, limit: Duration) -> u32 {
            let end = self.now.saturating_add(limit);
            let mut turns = 0;
            while let Some(at) = self.policy.poll_timeout().filter(|at| *at <= end) {
                self.now = self.now.max(at);
                self.turn();
                turns += 1;
            }
            self.now = end;
            turns
        }
    }

    #[test]
    fn a_burst_is_given_back_after_a_window_without_it_and_then_no_timer_is_left() {
        let mut arena = Arena::new();
        arena.allocate(500 * MIB);
        arena.free(500 * MIB);
        arena.run_for(WINDOW);
        assert_eq!(
            arena.held,
            500 * MIB,
            "the window that saw the burst keeps it"
        );
        let turns = arena.run_for(WINDOW);
        assert_eq!(arena.held, TRIM_KEEP_BYTES);
        assert_eq!(u64::from(turns), 496 + 1, "steps of one MiB");
        assert_eq!(arena.policy.poll_timeout(), None);
    }

    #[test]
    fn work_that_comes_back_within_a_window_keeps_its_pages() {
        let mut arena = Arena::new();
        for _ in 0..100 {
            arena.allocate(80 * MIB);
            arena.free(80 * MIB);
            arena.run_for(WINDOW * 9 / 10);
            assert_eq!(arena.held, 80 * MIB);
        }
    }

    #[test]
    fn what_the_last_window_needed_stays_when_it_needed_less() {
        let mut arena = Arena::new();
        arena.allocate(300 * MIB);
        arena.free(300 * MIB);
        for _ in 0..10 {
            arena.run_for(WINDOW / 2);
            arena.allocate(50 * MIB);
            arena.free(50 * MIB);
        }
        assert_eq!(arena.held, 50 * MIB);
    }

    #[test]
    fn a_burst_in_the_middle_of_a_trim_ends_it() {
        let mut arena = Arena::new();
        arena.allocate(100 * MIB);
        arena.free(100 * MIB);
        arena.run_for(WINDOW);
        arena.now = arena.now.saturating_add(WINDOW);
        for _ in 0..10 {
            assert_eq!(arena.turn(), TRIM_STEP_BYTES);
        }
        arena.allocate(60 * MIB);
        assert_eq!(arena.turn(), 0);
        assert_eq!(arena.held, 90 * MIB);
        arena.free(60 * MIB);
        arena.run_for(WINDOW);
        assert_eq!(arena.held, 60 * MIB, "the window's own peak");
    }

    #[test]
    fn a_program_with_little_never_has_a_timer() {
        let mut arena = Arena::new();
        arena.allocate(TRIM_KEEP_BYTES);
        arena.free(TRIM_KEEP_BYTES);
        assert_eq!(arena.policy.poll_timeout(), None);
    }

    #[test]
    fn a_long_lived_block_is_given_back_when_it_ends() {
        let mut arena = Arena::new();
        arena.allocate(100 * MIB);
        arena.allocate(100 * MIB);
        arena.free(100 * MIB);
        arena.run_for(WINDOW * 100);
        assert_eq!((arena.held, arena.policy.poll_timeout()), (100 * MIB, None));
        arena.free(100 * MIB);
        arena.run_for(WINDOW * 2);
        assert_eq!(
            (arena.held, arena.policy.poll_timeout()),
            (TRIM_KEEP_BYTES, None)
        );
    }

    #[test]
    fn a_system_that_takes_nothing_back_is_not_asked_in_circles() {
        let mut arena = Arena::new();
        arena.allocate(100 * MIB);
        arena.free(100 * MIB);
        arena.policy.give_up();
        assert_eq!(arena.run_for(WINDOW * 5), 0);
    }

    #[test]
    fn any_history_keeps_the_last_window_and_ends_quietly() {
        for seed in 1..=300_u64 {
            let mut next = random_below(seed);
            let mut arena = Arena::new();
            let mut peaks = Vec::new();
            for _ in 0..200 {
                match next(3) {
                    0 => arena.allocate(next(40) * MIB),
                    1 => arena.free(next(arena.in_use / MIB + 1) * MIB),
                    _ => drop(arena.run_for(Duration::from_secs(next(8)))),
                }
                peaks.push((arena.now, arena.in_use));
                // Invariant 1, for the part of the last window that is sure to lie in it.
                let needed = peaks
                    .iter()
                    .filter(|(at, _)| arena.now.saturating_duration_since(*at) < WINDOW);
                let needed = needed.map(|(_, in_use)| *in_use).max().unwrap_or(0);
                assert!(arena.held >= needed, "seed {seed}");
            }
            let left = arena.in_use;
            arena.free(left);
            arena.run_for(WINDOW * 2 + Duration::from_secs(1));
            assert_eq!(
                arena.policy.poll_timeout(),
                None,
                "seed {seed}: invariant 2"
            );
            assert!(arena.held <= TRIM_KEEP_BYTES, "seed {seed}");
        }
    }
}
