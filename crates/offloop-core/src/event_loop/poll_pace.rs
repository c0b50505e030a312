//! When a loop that has work to do looks whether descriptors are ready.
//!
//! The standard loop looks before every round. That costs a system call for each link of a chain of
//! callbacks, and can only matter if something has become ready since the last look. So a look is
//! left out while no descriptor of the program's is watched; and, once many looks in a row have
//! found nothing, after a round that was too short to have made anything ready. That takes a
//! system call which has more to do than a look that finds nothing. So a round which took less
//! than one and a half times such a look has made none.
//!
//! What other threads and processes make ready by themselves comes at no certain time, and is found
//! `EVERY_MAX` later at the latest.
//!
//! Units:      ticks of a counter of 0.2 to 1 ns each, which may jump.
//! Source:     asyncio/base_events.py (`_run_once`); docs/design/007-loop.md.

/// While callbacks are ready the loop looks this often: 5 to 25 us, so that looks cost below 5 %.
const EVERY: u64 = 25_000;
/// And this often while looks find nothing: each doubles the time to the next, up to 100 us or so.
const EVERY_MAX: u64 = 250_000;
/// So many looks in a row find nothing before the first is left out beside watched descriptors: a
/// chain of callbacks that lasts, and no exchange with a peer.
const QUIET: u32 = 256;

/// Decides when to look.
#[derive(Debug)]
pub struct PollPace {
    /// When the last look was.
    looked: u64,
    /// How long after that the next one is, while callbacks are ready.
    every: u64,
    /// When the callbacks of this round began to run.
    began: u64,
    /// Looks that have found nothing since one did.
    quiet: u32,
    /// What a look costs that finds nothing: the least so far.
    cost: u64,
}

impl PollPace {
    /// A loop begins to run: it looks before its first round.
    #[must_use]
    pub fn new(now: u64) -> Self {
        Self {
            looked: now.wrapping_sub(EVERY),
            every: EVERY,
            began: now,
            quiet: 0,
            cost: EVERY,
        }
    }

    /// A round with ready callbacks begins: whether to look before it. `watched` says that
    /// descriptors of the program's are.
    #[must_use]
    #[inline]
    pub fn is_due(&mut self, now: u64, watched: bool) -> bool {
        // A counter that went back counts as a long time.
        let round = now.wrapping_sub(self.began);
        self.began = now;
        if now.wrapping_sub(self.looked) >= self.every {
            return true;
        }
        watched && (self.quiet < QUIET || round >= self.cost + self.cost / 2)
    }

    /// A look without a wait was made.
    #[inline]
    pub fn looked(&mut self, began: u64, ended: u64, found: bool) {
        self.looked = began;
        self.began = ended;
        if found {
            self.quiet = 0;
            self.every = EVERY;
        } else {
            self.quiet = self.quiet.saturating_add(1);
            self.every = (self.every * 2).min(EVERY_MAX);
            self.cost = self.cost.min(ended.wrapping_sub(began));
        }
    }

    /// A wait has ended.
    #[inline]
    pub fn waited(&mut self, ended: u64, found: bool) {
        self.looked = ended;
        self.began = ended;
        self.every = EVERY;
        if found {
            self.quiet = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{EVERY, EVERY_MAX, PollPace, QUIET};

    const COST: u64 = 300;
    /// Shorter and longer than one and a half looks.
    const SHORT: u64 = COST;
    const LONG: u64 = 2 * COST;

    /// A loop whose rounds and looks take a given time.
    struct Simulated {
        now: u64,
        pace: PollPace,
        looks: u64,
    }

    impl Simulated {
        fn new() -> Self {
            // So that the counter wraps on the way.
            let now = u64::MAX - 1_000_000;
            Self {
                now,
                pace: PollPace::new(now),
                looks: 0,
            }
        }

        /// Begins a round, and lets its callbacks take so long; whether it has looked before.
        fn round(&mut self, takes: u64, watched: bool, found: bool) -> bool {
            let looks = self.pace.is_due(self.now, watched);
            if looks {
                let began = self.now;
                self.now = began.wrapping_add(COST);
                self.pace.looked(began, self.now, found);
                self.looks += 1;
            }
            self.now = self.now.wrapping_add(takes);
            looks
        }

        fn settle(&mut self) {
            for _ in 0..QUIET {
                assert!(self.round(SHORT, true, false));
            }
        }
    }

    #[test]
    fn every_round_looks_beside_watched_descriptors_until_it_is_quiet() {
        let mut event_loop = Simulated::new();
        event_loop.settle();
        assert!(!event_loop.round(SHORT, true, false));
    }

    #[test]
    fn a_long_round_is_followed_by_a_look_however_quiet_it_is() {
        let mut event_loop = Simulated::new();
        event_loop.settle();
        for _ in 0..10_000 {
            event_loop.round(SHORT, true, false);
            event_loop.round(LONG, true, false);
            assert!(event_loop.round(SHORT, true, false));
        }
    }

    #[test]
    fn a_look_that_finds_something_ends_the_quiet() {
        let mut event_loop = Simulated::new();
        event_loop.settle();
        event_loop.round(LONG, true, false);
        assert!(event_loop.round(SHORT, true, true));
        event_loop.settle();
        assert!(!event_loop.round(SHORT, true, false));
    }

    #[test]
    fn a_wait_that_finds_something_ends_the_quiet_too() {
        let mut event_loop = Simulated::new();
        event_loop.settle();
        event_loop.pace.waited(event_loop.now, false);
        assert!(!event_loop.round(SHORT, true, false));
        event_loop.pace.waited(event_loop.now, true);
        event_loop.settle();
    }

    #[test]
    fn a_chain_pays_for_few_looks() {
        let mut event_loop = Simulated::new();
        event_loop.settle();
        let before = event_loop.looks;
        let rounds = 100_000;
        for _ in 0..rounds {
            event_loop.round(SHORT, true, false);
        }
        let most = rounds * SHORT / EVERY_MAX + 5;
        assert!(event_loop.looks - before <= most);
    }

    #[test]
    fn nothing_is_late_by_more_than_the_longest_time_between_looks() {
        for watched in [true, false] {
            let mut event_loop = Simulated::new();
            let mut looked = event_loop.now;
            for round in 0..200_000_u64 {
                let began = event_loop.now;
                if event_loop.round(1 + round % SHORT, watched, round % 977 == 0) {
                    looked = began;
                }
                assert!(began.wrapping_sub(looked) < EVERY_MAX);
            }
        }
    }

    #[test]
    fn without_watched_descriptors_only_time_counts() {
        let mut event_loop = Simulated::new();
        assert!(event_loop.round(LONG, false, false));
        assert!(!event_loop.round(LONG, false, false));
        event_loop.now = event_loop.now.wrapping_add(2 * EVERY);
        assert!(event_loop.round(LONG, false, false));
    }

    #[test]
    fn a_counter_that_goes_back_is_followed_by_a_look() {
        let mut event_loop = Simulated::new();
        event_loop.settle();
        event_loop.now = event_loop.now.wrapping_sub(EVERY);
        assert!(event_loop.round(SHORT, true, false));
    }
}
