//! Culprits, ranked by the time for which they have blocked a loop.
//!
//! A stall counts from its first report on, with the time that it had lasted at its latest one.
//! The table is bounded. When it is full, the culprit with the least time gives way to a new one,
//! so that many small culprits at the start of a program cannot hide a large one later.
//!
//! Invariants: 1. The times of all culprits and of what was left out add up to those of all stalls
//!                that were handled and that no comment allows.
//!             2. At most `KEYS_MAX` culprits and `OPEN_MAX` stalls under way are kept.

use core::time::Duration;
use std::collections::HashMap;

use super::advice::Advice;
use super::cause::Cause;
use super::culprit::{Culprit, Key};
use super::diagnosis::Diagnosis;
use super::record::Stall;
use crate::event_loop::Moment;

/// Culprits that are kept: more than one reads, at about 200 bytes each.
pub const KEYS_MAX: usize = 256;

/// Stalls that are followed at once. Each loop has one or two; beyond this, the one that was heard
/// of least lately counts as it was told last.
pub const OPEN_MAX: usize = 64;

/// How often, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Blocked {
    /// How many stalls.
    pub count: u64,
    /// All of them together.
    pub total: Duration,
    /// The longest one.
    pub longest: Duration,
}

impl Blocked {
    fn add(&mut self, lasted: Duration) {
        self.count += 1;
        self.total = self.total.saturating_add(lasted);
        self.longest = self.longest.max(lasted);
    }

    fn join(&mut self, other: Self) {
        self.count += other.count;
        self.total = self.total.saturating_add(other.total);
        self.longest = self.longest.max(other.longest);
    }
}

/// One line of the ranking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranked {
    /// By this its repeats are known.
    pub key: Key,
    /// The culprit of the first stall; none where no code is to blame.
    pub culprit: Option<Culprit>,
    /// Why, as of the first stall.
    pub cause: Cause,
    /// The culprit's line, as its file has it.
    pub source: Option<String>,
    /// What to do.
    pub advice: Option<Advice>,
    /// How often, and for how long.
    pub blocked: Blocked,
}

/// A stall that is not over.
#[derive(Clone, Debug)]
struct Open {
    loop_thread: u64,
    number: u64,
    key: Key,
    culprit: Option<Culprit>,
    cause: Cause,
    source: Option<String>,
    advice: Option<Advice>,
    lasted: Duration,
    /// A comment allows it: it does not count.
    is_allowed: bool,
}

impl Open {
    /// Its line of the ranking, before it is counted.
    fn ranked(self) -> Ranked {
        Ranked {
            key: self.key,
            culprit: self.culprit,
            cause: self.cause,
            source: self.source,
            advice: self.advice,
            blocked: Blocked::default(),
        }
    }
}

/// The table.
#[derive(Debug)]
pub struct Culprits {
    keys_max: usize,
    settled: HashMap<Key, Ranked>,
    /// The one that was heard of least lately is first.
    open: Vec<Open>,
    left_out: Blocked,
}

impl Default for Culprits {
    fn default() -> Self {
        Self::new(KEYS_MAX)
    }
}

impl Culprits {
    /// An empty table for so many culprits.
    #[must_use]
    pub fn new(keys_max: usize) -> Self {
        Self {
            keys_max,
            settled: HashMap::new(),
            open: Vec::new(),
            left_out: Blocked::default(),
        }
    }

    /// A stall was told: it was found, goes on, or is over. The last culprit of a stall counts, of
    /// those that are not allowed: each look comes when the stall has lasted twice as long.
    pub fn handle(&mut self, stall: &Stall, diagnosis: &Diagnosis) {
        let culprit = diagnosis.culprit.as_ref();
        let place = self.open.iter().position(|open| {
            (open.loop_thread, open.number) == (stall.thread.native_id, stall.number)
        });
        let before = place.map(|place| self.open.remove(place));
        let mut open = before.unwrap_or_else(|| Open {
            loop_thread: stall.thread.native_id,
            number: stall.number,
            key: Key::of(stall, culprit),
            culprit: culprit.cloned(),
            cause: stall.cause.clone(),
            source: diagnosis.source.clone(),
            advice: diagnosis.advice.clone(),
            lasted: Duration::ZERO,
            is_allowed: diagnosis.is_allowed(),
        });
        open.lasted = stall.lasted;
        if culprit.is_some()
            && (open.culprit.is_none() || open.is_allowed || !diagnosis.is_allowed())
        {
            open.is_allowed = diagnosis.is_allowed();
            open.key = Key::of(stall, culprit);
            open.culprit = culprit.cloned();
            open.cause = stall.cause.clone();
            open.source.clone_from(&diagnosis.source);
            open.advice.clone_from(&diagnosis.advice);
        }
        if matches!(stall.moment, Moment::Over { .. }) {
            self.settle(open);
            return;
        }
        self.open.push(open);
        if self.open.len() > OPEN_MAX {
            let oldest = self.open.remove(0);
            self.settle(oldest);
        }
    }

    /// No more is told of the stalls that last: they count as they were told last.
    pub fn settle_open(&mut self) {
        for open in std::mem::take(&mut self.open) {
            self.settle(open);
        }
    }

    fn settle(&mut self, open: Open) {
        if open.is_allowed {
            return;
        }
        let lasted = open.lasted;
        let ranked = self.settled.entry(open.key.clone());
        let ranked = ranked.or_insert_with(|| open.ranked());
        ranked.blocked.add(lasted);
        if self.settled.len() <= self.keys_max {
            return;
        }
        let least = self
            .settled
            .iter()
            .min_by_key(|(_, ranked)| (ranked.blocked.total, ranked.blocked.count));
        if let Some(key) = least.map(|(key, _)| key.clone())
            && let Some(gone) = self.settled.remove(&key)
        {
            self.left_out.join(gone.blocked);
        }
    }

    /// All culprits, the longest time in all first. What still lasts counts as it was told last.
    #[must_use]
    pub fn rank(&self) -> Vec<Ranked> {
        let mut all = self.settled.clone();
        for open in self.open.iter().filter(|open| !open.is_allowed) {
            let ranked = all.entry(open.key.clone());
            let ranked = ranked.or_insert_with(|| open.clone().ranked());
            ranked.blocked.add(open.lasted);
        }
        let mut ranked: Vec<Ranked> = all.into_values().collect();
        // Equal times are put in the order of places, so that two looks show the same.
        ranked.sort_by(|one, other| {
            let place = |ranked: &Ranked| {
                let key = &ranked.key;
                (key.filename.clone(), key.line, key.function.clone())
            };
            let times = other.blocked.total.cmp(&one.blocked.total);
            times.then_with(|| place(one).cmp(&place(other)))
        });
        ranked
    }

    /// Stalls of culprits that the table had no room for.
    #[must_use]
    pub const fn left_out(&self) -> Blocked {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::super::allow::Allowance;
    use super::super::samples::{FOUND, OVER, at_line, sleeping, user_places};
    use super::*;

    fn told(culprits: &mut Culprits, number: u64, line: i32, moment: Moment, ms: u64) {
        let mut stall = sleeping(number, moment, ms);
        stall.stack = at_line(line);
        culprits.handle(&stall, &diagnosis(&stall));
    }

    fn diagnosis(stall: &Stall) -> Diagnosis {
        Diagnosis {
            culprit: Culprit::of(&stall.stack, &user_places()),
            ..Diagnosis::default()
        }
    }

    fn lines(culprits: &Culprits) -> Vec<(i32, u64, u128, u128)> {
        let line = |ranked: Ranked| {
            let blocked = ranked.blocked;
            let line = ranked.key.line.expect("a line");
            (
                line,
                blocked.count,
                blocked.total.as_millis(),
                blocked.longest.as_millis(),
            )
        };
        culprits.rank().into_iter().map(line).collect()
    }

    #[test]
    fn the_longest_time_in_all_comes_first() {
        let mut culprits = Culprits::default();
        told(&mut culprits, 1, 10, OVER, 60);
        told(&mut culprits, 2, 20, OVER, 100);
        told(&mut culprits, 3, 10, OVER, 70);
        assert_eq!(lines(&culprits), [(10, 2, 130, 70), (20, 1, 100, 100)]);
    }

    #[test]
    fn a_stall_counts_once_with_its_latest_time_and_culprit() {
        let mut culprits = Culprits::default();
        told(&mut culprits, 1, 10, FOUND, 50);
        assert_eq!(lines(&culprits), [(10, 1, 50, 50)]);
        told(&mut culprits, 1, 11, Moment::GoesOn { doubled: 1 }, 100);
        assert_eq!(lines(&culprits), [(11, 1, 100, 100)]);
        told(&mut culprits, 1, 12, OVER, 117);
        assert_eq!(lines(&culprits), [(12, 1, 117, 117)]);
    }

    #[test]
    fn a_culprit_that_is_found_later_is_put_in_the_place_of_none() {
        let mut culprits = Culprits::default();
        culprits.handle(&sleeping(1, FOUND, 50), &Diagnosis::default());
        told(&mut culprits, 1, 11, OVER, 100);
        assert_eq!(lines(&culprits), [(11, 1, 100, 100)]);
    }

    #[test]
    fn what_a_comment_allows_does_not_count() {
        let mut culprits = Culprits::default();
        let found = sleeping(1, FOUND, 50);
        let allowed = Diagnosis {
            allowance: Some(Allowance {
                entry: found.stack.entries[0].clone(),
                reason: Some("at the start".into()),
            }),
            ..diagnosis(&found)
        };
        culprits.handle(&found, &allowed);
        assert_eq!(lines(&culprits), []);
        // Its end comes without a stack.
        culprits.handle(&sleeping(1, OVER, 80), &Diagnosis::default());
        assert_eq!(lines(&culprits), []);
        // What goes on at another line counts by that one.
        let other = sleeping(2, FOUND, 50);
        culprits.handle(&other, &allowed);
        told(&mut culprits, 2, 77, Moment::GoesOn { doubled: 1 }, 100);
        culprits.handle(&sleeping(2, OVER, 120), &Diagnosis::default());
        assert_eq!(lines(&culprits), [(77, 1, 120, 120)]);
    }

    #[test]
    fn the_smallest_culprit_gives_way_and_is_counted() {
        let mut culprits = Culprits::new(2);
        told(&mut culprits, 1, 10, OVER, 60);
        told(&mut culprits, 2, 20, OVER, 70);
        told(&mut culprits, 3, 30, OVER, 500);
        assert_eq!(lines(&culprits), [(30, 1, 500, 500), (20, 1, 70, 70)]);
        told(&mut culprits, 4, 40, OVER, 55);
        let left_out = culprits.left_out();
        assert_eq!(
            (left_out.count, left_out.total.as_millis()),
            (2, 115),
            "{left_out:?}"
        );
        assert_eq!(left_out.longest.as_millis(), 60);
    }

    #[test]
    fn times_add_up_whatever_comes() {
        let mut random = crate::random::random_below(3);
        let mut culprits = Culprits::new(8);
        let (mut total, mut number) = (0, 0);
        let mut still_open = Vec::new();
        for _ in 0..5_000 {
            let ms = 50 + random(200);
            if random(3) == 0 && !still_open.is_empty() {
                let place = usize::try_from(random(still_open.len() as u64)).expect("small");
                let (old, line, before) = still_open.remove(place);
                total += u128::from(ms) - u128::from(ms.min(before));
                told(&mut culprits, old, line, OVER, ms.max(before));
                continue;
            }
            number += 1;
            let line = i32::try_from(random(30)).expect("small");
            let stays_open = still_open.len() < OPEN_MAX && random(2) == 0;
            let moment = if stays_open { FOUND } else { OVER };
            if stays_open {
                still_open.push((number, line, ms));
            }
            total += u128::from(ms);
            told(&mut culprits, number, line, moment, ms);
        }
        let ranked = culprits.rank();
        let kept: Duration = ranked.iter().map(|ranked| ranked.blocked.total).sum();
        assert_eq!((kept + culprits.left_out().total).as_millis(), total);
        let counted: u64 = ranked.iter().map(|ranked| ranked.blocked.count).sum();
        assert_eq!(counted + culprits.left_out().count, number);
    }

    #[test]
    fn stalls_that_never_end_are_bounded() {
        let mut culprits = Culprits::default();
        for number in 1..=1_000 {
            told(&mut culprits, number, 10, FOUND, 50);
        }
        assert_eq!(culprits.open.len(), OPEN_MAX);
        assert_eq!(lines(&culprits), [(10, 1_000, 50_000, 50)]);
    }
}
