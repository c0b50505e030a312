//! How late each loop ran, second by second.
//!
//! A document says how often each lag was measured since the loop began. What two documents differ
//! by was measured between them. A loop that is blocked measures nothing, but its stalls are told
//! with their times, so they stand in the picture from the first document on.
//!
//! Units:      seconds of the program's monotonic clock; a step is one of them.
//! Invariants: 1. At most `STEPS_MAX` steps are kept for each of `LOOPS_MAX` loops.
//!             2. A share is from 0 to 1.

use std::collections::{BTreeMap, HashMap};

use offloop_views::document::{Document, Loop, Stall};

/// Ranges of lags, from short to long.
pub const LEVELS: usize = 5;

/// Where each range but the first begins.
pub const LEVEL_SECONDS: [f64; LEVELS - 1] = [0.001, 0.01, 0.1, 1.0];

/// Steps that are kept: more than the columns of any terminal.
const STEPS_MAX: usize = 512;

/// Loops whose lags are kept.
const LOOPS_MAX: usize = 64;

/// A bucket counts lags up to its limit and above half of it; this part of the limit stands for
/// them.
const MIDST: f64 = 0.75;

/// How much each range of lags has of a step: of the measurements, or of the time if that is more.
pub type Shares = [f64; LEVELS];

/// The range that a lag is in.
#[must_use]
pub fn level_of(seconds: f64) -> usize {
    LEVEL_SECONDS
        .iter()
        .filter(|&&begin| seconds >= begin)
        .count()
}

#[derive(Clone, Copy, Debug, Default)]
struct Step {
    counts: [u64; LEVELS],
    seconds: [f64; LEVELS],
    utilisation: Option<f64>,
}

#[derive(Clone, Debug, Default)]
struct Track {
    last: Option<Vec<(f64, u64)>>,
    steps: BTreeMap<i64, Step>,
}

/// What was measured of all loops.
#[derive(Clone, Debug, Default)]
pub struct History {
    tracks: HashMap<u64, Track>,
}

/// The step that a time is in.
#[must_use]
pub fn step_of(at: f64) -> i64 {
    at.floor() as i64
}

impl History {
    /// Takes in what a document says.
    pub fn add(&mut self, document: &Document) {
        for each in &document.loops {
            if self.tracks.len() < LOOPS_MAX || self.tracks.contains_key(&each.number) {
                let track = self.tracks.entry(each.number).or_default();
                track.add(document.process.now, each);
            }
        }
    }

    /// How lags were spread in a step.
    #[must_use]
    pub fn shares(&self, number: u64, step: i64, stalls: &[Stall]) -> Shares {
        let measured = self
            .tracks
            .get(&number)
            .and_then(|track| track.steps.get(&step));
        let mut shares = measured.map_or([0.0; LEVELS], Step::shares);
        for stall in stalls
            .iter()
            .filter(|stall| stall.event_loop == Some(number))
        {
            let (begin, end) = (stall.started, stall.started + stall.seconds);
            let inside = end.min(step as f64 + 1.0) - begin.max(step as f64);
            if inside > 0.0 {
                let so_far = (step as f64 + 1.0).min(end) - begin;
                let level = level_of(so_far);
                shares[level] = (shares[level] + inside).min(1.0);
            }
        }
        shares
    }

    /// The part of a step in which the loop worked, if that was told.
    #[must_use]
    pub fn utilisation(&self, number: u64, step: i64) -> Option<f64> {
        self.tracks.get(&number)?.steps.get(&step)?.utilisation
    }
}

impl Track {
    fn add(&mut self, now: f64, each: &Loop) {
        let Some(statistics) = &each.statistics else {
            return;
        };
        let buckets = statistics.lag.buckets.clone();
        let step = self
            .steps
            .entry(step_of(now - statistics.age_seconds))
            .or_default();
        step.utilisation = Some(statistics.utilisation_1s);
        if let Some(last) = &self.last {
            for &(limit, count) in &buckets {
                let before = last.iter().find(|(known, _)| *known == limit);
                let new = count.saturating_sub(before.map_or(0, |(_, count)| *count));
                let lag = limit * MIDST;
                let level = level_of(lag);
                step.counts[level] += new;
                step.seconds[level] += new as f64 * lag;
            }
        }
        self.last = Some(buckets);
        while self.steps.len() > STEPS_MAX {
            self.steps.pop_first();
        }
    }
}

impl Step {
    fn shares(&self) -> Shares {
        let all: u64 = self.counts.iter().sum();
        let mut shares = [0.0; LEVELS];
        for (level, share) in shares.iter_mut().enumerate() {
            let of_count = self.counts[level] as f64 / all.max(1) as f64;
            *share = of_count.max(self.seconds[level]).min(1.0);
        }
        shares
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use offloop_views::document::{Lag, LoopStatistics, Process};

    fn document(now: f64, buckets: &[(f64, u64)]) -> Document {
        Document {
            process: Process {
                now,
                ..Process::default()
            },
            loops: vec![Loop {
                number: 1,
                statistics: Some(LoopStatistics {
                    utilisation_1s: 0.5,
                    lag: Lag {
                        buckets: buckets.to_vec(),
                        ..Lag::default()
                    },
                    ..LoopStatistics::default()
                }),
                ..Loop::default()
            }],
            ..Document::default()
        }
    }

    #[test]
    fn what_was_measured_before_the_first_document_is_in_no_step() {
        let mut history = History::default();
        history.add(&document(10.2, &[(0.000_511, 900), (0.131_071, 4)]));
        assert_eq!(history.shares(1, 10, &[]), [0.0; LEVELS]);
        history.add(&document(11.2, &[(0.000_511, 999), (0.131_071, 5)]));
        let shares = history.shares(1, 11, &[]);
        assert!(
            shares[0] > 0.9 && shares[2] > 0.0 && shares[2] < 0.2,
            "{shares:?}"
        );
        assert_eq!(history.utilisation(1, 11), Some(0.5));
        assert_eq!(history.utilisation(1, 12), None);
    }

    #[test]
    fn a_stall_grows_from_step_to_step() {
        let stall = Stall {
            event_loop: Some(1),
            started: 9.9,
            seconds: 2.3,
            ..Stall::default()
        };
        let history = History::default();
        let levels = |step| {
            let shares = history.shares(1, step, std::slice::from_ref(&stall));
            shares.map(|share| share > 0.0)
        };
        assert_eq!(levels(8), [false; LEVELS]);
        assert_eq!(levels(9), [false, false, true, false, false]);
        assert_eq!(levels(10), [false, false, false, false, true]);
        assert_eq!(levels(12), [false, false, false, false, true]);
        assert_eq!(levels(13), [false; LEVELS]);
        assert_eq!(
            history.shares(2, 10, std::slice::from_ref(&stall)),
            [0.0; LEVELS]
        );
    }

    #[test]
    fn steps_are_bounded() {
        let mut history = History::default();
        for second in 0..2000 {
            history.add(&document(f64::from(second), &[(0.001, second as u64)]));
        }
        assert_eq!(history.tracks[&1].steps.len(), STEPS_MAX);
    }
}
