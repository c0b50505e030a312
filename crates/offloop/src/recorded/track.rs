//! A track of a trace on which one slice follows the other.
//!
//! Times of its slices come from more than one clock's rounding, and they are told a little out of
//! order. Each is fitted between those that are there.
//!
//! Units:      nanoseconds.
//! Invariants: 1. No two of the last `KEPT_MAX` slices overlap.

use std::collections::VecDeque;

/// Slices between which a later one may be fitted.
const KEPT_MAX: usize = 64;

/// The last slices of a track: begin and end, in the order of their begins.
#[derive(Debug, Default)]
pub(super) struct Row(VecDeque<(u64, u64)>);

impl Row {
    /// Where a slice lies that is told as from `begin` to `end`.
    pub(super) fn fit(&mut self, begin: u64, end: u64) -> (u64, u64) {
        let Self(slices) = self;
        let index = slices.partition_point(|slice| slice.0 <= begin);
        let before = index.checked_sub(1).map_or(0, |last| slices[last].1);
        let next = slices.get(index).map_or(u64::MAX, |slice| slice.0);
        let begin = begin.max(before).min(next);
        let fitted = (begin, end.clamp(begin, next));
        slices.insert(index, fitted);
        if slices.len() > KEPT_MAX {
            slices.pop_front();
        }
        fitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_fitted_between_each_other_in_whatever_order_they_are_told() {
        let mut row = Row::default();
        assert_eq!(row.fit(100, 200), (100, 200));
        // It begins a little early.
        assert_eq!(row.fit(199, 300), (200, 300));
        assert_eq!(row.fit(400, 500), (400, 500));
        // It is told late.
        assert_eq!(row.fit(290, 410), (300, 400));
        assert_eq!(row.fit(50, 101), (50, 100));
        // There is no room for it.
        assert_eq!(row.fit(250, 260), (300, 300));
    }

    #[test]
    fn the_last_slices_are_kept_and_no_more() {
        let mut row = Row::default();
        for begin in 0..1000 {
            assert_eq!(row.fit(begin * 10, begin * 10 + 12).1, begin * 10 + 12);
        }
        assert_eq!(row.0.len(), KEPT_MAX);
    }
}
