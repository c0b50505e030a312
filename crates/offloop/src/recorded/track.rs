//! A track of a trace: its last slices.
//!
//! Times of its slices come from more than one clock's rounding, and they are told a little out of
//! order. Each is fitted between those that are there, or within and around them.
//!
//! Units:      nanoseconds.
//! Invariants: 1. No two of the last `KEPT_MAX` slices overlap, but where one holds the other.

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
        self.keep(index, fitted);
        fitted
    }

    /// Where a slice lies that may hold more slices, and lie within one: it begins where a slice
    /// ends that would end within it, and ends where a slice begins that would begin within it.
    pub(super) fn nest(&mut self, begin: u64, end: u64) -> (u64, u64) {
        let (mut begin, mut end) = (begin, end.max(begin));
        for &(one_begin, one_end) in &self.0 {
            if one_begin < begin && (begin + 1..end).contains(&one_end) {
                begin = one_end;
            } else if one_end > end && (begin + 1..end).contains(&one_begin) {
                end = one_begin;
            }
        }
        let index = self.0.partition_point(|slice| slice.0 <= begin);
        self.keep(index, (begin, end));
        (begin, end)
    }

    fn keep(&mut self, index: usize, slice: (u64, u64)) {
        self.0.insert(index, slice);
        if self.0.len() > KEPT_MAX {
            self.0.pop_front();
        }
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
    fn slices_are_cut_where_they_overlap_and_hold_each_other_whole() {
        let mut row = Row::default();
        assert_eq!(row.nest(512, 5120), (512, 5120));
        // It begins a little early, and holds one that was told before.
        assert_eq!(row.nest(6144, 7168), (6144, 7168));
        assert_eq!(row.nest(4608, 9216), (5120, 9216));
        // It lies within that one, and one around all of them is told last.
        assert_eq!(row.nest(8192, 9216), (8192, 9216));
        assert_eq!(row.nest(0, 10_240), (0, 10_240));
        // It ends a little late.
        assert_eq!(row.nest(20_480, 30_720), (20_480, 30_720));
        assert_eq!(row.nest(10_240, 20_992), (10_240, 20_480));
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
