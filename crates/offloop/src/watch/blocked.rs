//! For how long a loop was blocked while something else waited for it.
//!
//! A round that is a stall counts from its beginning to its end. What asks is a piece of work of
//! the same loop, such as a request: it notes the moment at which it began, and asks later how much
//! of the time since then belongs to such rounds.
//!
//! Units:      ticks of `offloop_sys::clock`.
//! Invariants: 1. The sum never falls.
//!             2. At most `RECENT_MAX` rounds are kept.
//! Threads:    the loop's writes and asks.

use std::collections::VecDeque;

use offloop_sys::running::Round;

/// Rounds whose beginnings are kept. Of an older one all counts, also what was before the moment.
const RECENT_MAX: usize = 64;

/// The rounds of one loop that took long and are over.
#[derive(Debug, Default)]
pub(super) struct BlockedRounds {
    total: u64,
    recent: VecDeque<Round>,
}

/// When something began, as the loop's rounds have it.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    at: u64,
    total: u64,
    round: Option<Round>,
}

impl BlockedRounds {
    /// A round took long, and is over.
    pub(super) fn add(&mut self, round: Round, end: u64) {
        self.total += end.saturating_sub(round.start);
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(round);
    }

    pub(super) fn moment(&self, at: u64, round: Option<Round>) -> Moment {
        Moment {
            at,
            total: self.total,
            round,
        }
    }

    /// How much of the time from `since` until `now` is part of rounds that last `limit` or longer;
    /// `round` is the one that goes on.
    pub(super) fn since(&self, since: &Moment, now: u64, round: Option<Round>, limit: u64) -> u64 {
        let mut blocked = self.total.saturating_sub(since.total);
        if let Some(first) = since.round
            && self.recent.contains(&first)
        {
            // What it had lasted before.
            blocked = blocked.saturating_sub(since.at.saturating_sub(first.start));
        }
        if let Some(round) = round
            && now.saturating_sub(round.start) >= limit
        {
            blocked += now.saturating_sub(round.start.max(since.at));
        }
        blocked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 50;

    fn round(number: u64, start: u64) -> Option<Round> {
        Some(Round { number, start })
    }

    /// A request begins at 130, in a round that has begun at 100.
    fn begun() -> (BlockedRounds, Moment) {
        let mut rounds = BlockedRounds::default();
        rounds.add(
            Round {
                number: 1,
                start: 0,
            },
            90,
        );
        let moment = rounds.moment(130, round(2, 100));
        (rounds, moment)
    }

    #[test]
    fn round_that_goes_on_counts_from_the_moment_once_it_is_long() {
        let (rounds, moment) = begun();
        assert_eq!(rounds.since(&moment, 149, round(2, 100), LIMIT), 0);
        assert_eq!(rounds.since(&moment, 190, round(2, 100), LIMIT), 60);
    }

    #[test]
    fn round_that_is_over_counts_from_the_moment() {
        let (mut rounds, moment) = begun();
        rounds.add(
            Round {
                number: 2,
                start: 100,
            },
            190,
        );
        assert_eq!(rounds.since(&moment, 200, round(3, 195), LIMIT), 60);
    }

    #[test]
    fn later_rounds_count_whole_and_short_ones_not_at_all() {
        let (mut rounds, moment) = begun();
        rounds.add(
            Round {
                number: 4,
                start: 200,
            },
            300,
        );
        assert_eq!(rounds.since(&moment, 330, round(5, 310), LIMIT), 100);
        assert_eq!(rounds.since(&moment, 370, round(5, 310), LIMIT), 160);
        assert_eq!(rounds.since(&moment, 370, None, LIMIT), 100);
    }

    #[test]
    fn few_rounds_are_kept() {
        let mut rounds = BlockedRounds::default();
        for number in 0..1_000 {
            rounds.add(
                Round {
                    number,
                    start: number * 100,
                },
                number * 100 + 60,
            );
        }
        assert_eq!((rounds.recent.len(), rounds.total), (RECENT_MAX, 60_000));
    }
}
