//! When a loop that has work to do looks whether descriptors are ready.
//!
//! The standard loop looks before every round. That costs a system call for each link of a chain of
//! callbacks, and can only matter if something has become ready since the last look. So a look is
//! left out where nothing has: while no descriptor of the program's is watched; and, once many looks
//! in a row have found nothing, after a round that was too short to have made anything ready. Who
//! makes a descriptor ready makes a system call, with more to do than a look that finds nothing; so
//! a round that took less than such a look, and half of one more, has made none.
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
/// chain of callbacks that lasts, and no exchange with somebody.
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
