//! Delay before the next attempt: exponential, capped, with seeded jitter.
//!
//! The jitter spreads attempts that failed together. It comes from a seed, not from the system,
//! so that a simulated history can be replayed.
//!
//! Invariants: half of the exponential delay <= delay <= the exponential delay <= the cap.

use core::time::Duration;

use crate::time::saturating_nanos;

/// A sequence of growing delays.
#[derive(Debug, Clone)]
pub struct Backoff {
    base_ns: u64,
    max_ns: u64,
    attempts: u32,
    seed: u64,
}

impl Backoff {
    /// Delays from `base` that double up to `max`; equal seeds give equal delays.
    #[must_use]
    pub fn new(base: Duration, max: Duration, seed: u64) -> Self {
        Self {
            base_ns: saturating_nanos(base),
            max_ns: saturating_nanos(max),
            attempts: 0,
            seed,
        }
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let factor = 1_u64.checked_shl(self.attempts).unwrap_or(u64::MAX);
        let full = self.base_ns.saturating_mul(factor).min(self.max_ns);
        self.attempts = self.attempts.saturating_add(1);
        let spread = full / 2;
        let jitter = if spread == 0 {
            0
        } else {
            self.next_random() % (spread + 1)
        };
        Duration::from_nanos(full - jitter)
    }

    /// Starts the sequence anew after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// How many delays were handed out since the last success.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// SplitMix64: one multiplication chain, good enough to spread delays.
    fn next_random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.seed;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_secs(5);

    #[test]
    fn delays_double_within_their_jitter_up_to_the_cap() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(BASE, MAX, seed);
            for attempt in 0..80 {
                let full = BASE.saturating_mul(1 << attempt.min(20)).min(MAX);
                let delay = backoff.next_delay();
                assert!(
                    delay <= full && delay >= full / 2,
                    "seed {seed}: {delay:?} of {full:?}"
                );
            }
        }
    }

    #[test]
    fn equal_seeds_give_equal_delays() {
        let (mut one, mut two) = (Backoff::new(BASE, MAX, 9), Backoff::new(BASE, MAX, 9));
        for _ in 0..10 {
            assert_eq!(one.next_delay(), two.next_delay());
        }
    }

    #[test]
    fn success_starts_the_sequence_anew() {
        let mut backoff = Backoff::new(BASE, MAX, 1);
        for _ in 0..6 {
            backoff.next_delay();
        }
        backoff.reset();
        assert_eq!(backoff.attempts(), 0);
        assert!(backoff.next_delay() <= BASE);
    }

    #[test]
    fn a_zero_base_never_waits() {
        assert_eq!(
            Backoff::new(Duration::ZERO, MAX, 1).next_delay(),
            Duration::ZERO
        );
    }
}
