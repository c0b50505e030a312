//! Which pages of an arena are in use: offsets only, no memory.
//!
//! Best fit, and of equally good places the lowest: what was freed last near the start is used
//! again first, so payloads keep landing on pages that are faulted in and warm in the cache,
//! while the end of the arena stays untouched until it is needed.
//!
//! Shape:      the ranges tile [0, capacity); `ranges` has them by offset, `free_ends` the free
//!             ones by their end, `free_by_len` the free ones by length and then offset.
//! Units:      bytes; offsets and lengths are multiples of [`PAGE_BYTES`].
//! Invariants: 1. every byte of the capacity lies in exactly one range.
//!             2. two neighbours are never both free.
//!             3. free_by_len and free_ends hold exactly the free ranges.
//! Errors:     [`FreeError`]; a refused `free` changes nothing.

use std::collections::{BTreeSet, HashMap};

use core::hash::{BuildHasherDefault, Hasher};

/// Granularity of every range: the smallest page that Linux uses on our platforms.
pub const PAGE_BYTES: u64 = 4_096;

/// Why a range could not be freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FreeError {
    /// Nothing in use starts there: it was freed before, or never handed out.
    #[error("no range in use starts at offset {offset}")]
    NotInUse {
        /// Where the range was said to start.
        offset: u64,
    },
    /// A range in use starts there, but it has another length.
    #[error("the range at offset {offset} has {actual} bytes, not {given}")]
    WrongLength {
        /// Where the range starts.
        offset: u64,
        /// The length given, rounded up to pages.
        given: u64,
        /// The length that was handed out.
        actual: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    len: u64,
    is_free: bool,
}

/// Hands out ranges of pages of `[0, capacity)`.
#[derive(Debug, Clone)]
pub struct RangeAllocator {
    ranges: HashMap<u64, Range, OffsetHash>,
    free_ends: HashMap<u64, u64, OffsetHash>,
    free_by_len: BTreeSet<(u64, u64)>,
    capacity: u64,
    used: u64,
    high_water: u64,
}

impl RangeAllocator {
    /// All free; a capacity that is not a multiple of the page is rounded down.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        let capacity = capacity / PAGE_BYTES * PAGE_BYTES;
        let mut ranges = Self {
            ranges: HashMap::default(),
            free_ends: HashMap::default(),
            free_by_len: BTreeSet::new(),
            capacity,
            used: 0,
            high_water: 0,
        };
        if capacity > 0 {
            ranges.insert_free(0, capacity);
        }
        ranges
    }

    /// Takes a range of at least `len` bytes, whole pages and at least one, and returns its
    /// offset; `None` if no free range is long enough.
    pub fn alloc(&mut self, len: u64) -> Option<u64> {
        let len = whole_pages(len)?;
        let &(found, offset) = self.free_by_len.range((len, 0)..).next()?;
        self.free_by_len.remove(&(found, offset));
        self.free_ends.remove(&(offset + found));
        self.ranges.insert(
            offset,
            Range {
                len,
                is_free: false,
            },
        );
        if found > len {
            self.insert_free(offset + len, found - len);
        }
        self.used += len;
        self.high_water = self.high_water.max(offset + len);
        Some(offset)
    }

    /// Gives a range back, with the length that was asked for.
    pub fn free(&mut self, offset: u64, len: u64) -> Result<(), FreeError> {
        let in_use = self.ranges.get(&offset).filter(|range| !range.is_free);
        let Some(&Range { len: actual, .. }) = in_use else {
            return Err(FreeError::NotInUse { offset });
        };
        let given = whole_pages(len).unwrap_or(u64::MAX);
        if given != actual {
            return Err(FreeError::WrongLength {
                offset,
                given,
                actual,
            });
        }
        self.used -= actual;
        let (mut start, mut end) = (offset, offset + actual);
        if let Some(&Range { len, is_free: true }) = self.ranges.get(&end) {
            self.remove_free(end, len);
            end += len;
        }
        if let Some(&previous) = self.free_ends.get(&offset) {
            self.ranges.remove(&offset);
            self.remove_free(previous, offset - previous);
            start = previous;
        }
        self.insert_free(start, end - start);
        Ok(())
    }

    /// Bytes in use, in whole pages.
    #[must_use]
    pub const fn used(&self) -> u64 {
        self.used
    }

    /// Bytes that can be in use at most.
    #[must_use]
    pub const fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Length of the longest range that could be handed out now.
    #[must_use]
    pub fn largest_free(&self) -> u64 {
        self.free_by_len.last().map_or(0, |&(len, _)| len)
    }

    /// Whether nothing is in use.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Where the highest range ended that was ever handed out: memory beyond it was never used.
    #[must_use]
    pub const fn high_water(&self) -> u64 {
        self.high_water
    }

    fn insert_free(&mut self, offset: u64, len: u64) {
        self.ranges.insert(offset, Range { len, is_free: true });
        self.free_ends.insert(offset + len, offset);
        self.free_by_len.insert((len, offset));
    }

    fn remove_free(&mut self, offset: u64, len: u64) {
        self.ranges.remove(&offset);
        self.free_ends.remove(&(offset + len));
        self.free_by_len.remove(&(len, offset));
    }
}

/// Spreads offsets over a table with one multiplication. They come from this allocator, never from
/// another process, so no peer can choose them to collide.
#[derive(Debug, Clone, Copy, Default)]
struct OffsetHasher(u64);

type OffsetHash = BuildHasherDefault<OffsetHasher>;

impl Hasher for OffsetHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte) * PAGE_BYTES);
        }
    }

    fn write_u64(&mut self, word: u64) {
        let spread = (self.0 ^ (word / PAGE_BYTES)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        // The low bits choose the place in the table, and they are the least mixed ones.
        self.0 = spread ^ (spread >> 32);
    }
}

/// `len` rounded up to pages, at least one; `None` beyond u64.
fn whole_pages(len: u64) -> Option<u64> {
    len.max(1).checked_next_multiple_of(PAGE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::random_below;
    use std::collections::BTreeMap;

    const PAGE: u64 = PAGE_BYTES;

    #[test]
    fn lengths_are_rounded_up_to_whole_pages() {
        let mut ranges = RangeAllocator::new(10 * PAGE + 17);
        assert_eq!(ranges.capacity(), 10 * PAGE);
        assert_eq!(ranges.alloc(0), Some(0));
        assert_eq!(ranges.alloc(PAGE + 1), Some(PAGE));
        assert_eq!(ranges.used(), 3 * PAGE);
        assert_eq!(ranges.alloc(u64::MAX), None);
        assert_eq!(ranges.free(PAGE, PAGE + 1), Ok(()));
    }

    #[test]
    fn the_tightest_place_is_taken_and_the_lowest_of_equal_ones() {
        let mut ranges = RangeAllocator::new(20 * PAGE);
        let sizes = [4, 1, 2, 1, 2, 1];
        let offsets = sizes.map(|pages| ranges.alloc(pages * PAGE).unwrap());
        for hole in [4, 2, 0] {
            ranges.free(offsets[hole], sizes[hole] * PAGE).unwrap();
        }
        assert_eq!(
            ranges.alloc(2 * PAGE),
            Some(offsets[2]),
            "the lower of two holes that fit"
        );
        assert_eq!(ranges.alloc(2 * PAGE), Some(offsets[4]));
        assert_eq!(
            ranges.alloc(2 * PAGE),
            Some(offsets[0]),
            "then the next longer hole"
        );
    }

    #[test]
    fn recycled_pages_keep_the_high_water_low() {
        let mut ranges = RangeAllocator::new(1_000 * PAGE);
        for _ in 0..100 {
            let offset = ranges.alloc(3 * PAGE).unwrap();
            ranges.free(offset, 3 * PAGE).unwrap();
        }
        assert_eq!(ranges.high_water(), 3 * PAGE);
        assert!(ranges.is_empty());
    }

    #[test]
    fn neighbours_grow_together_again() {
        let mut ranges = RangeAllocator::new(3 * PAGE);
        for order in [[0, 1, 2], [2, 1, 0], [0, 2, 1], [1, 0, 2]] {
            let offsets = [0, 1, 2].map(|_| ranges.alloc(PAGE).unwrap());
            assert_eq!(ranges.largest_free(), 0);
            for index in order {
                ranges.free(offsets[index], PAGE).unwrap();
            }
            assert_eq!(ranges.largest_free(), 3 * PAGE);
        }
    }

    #[test]
    fn a_wrong_free_is_refused_and_changes_nothing() {
        let mut ranges = RangeAllocator::new(8 * PAGE);
        let offset = ranges.alloc(2 * PAGE).unwrap();
        let actual = 2 * PAGE;
        let wrong = FreeError::WrongLength {
            offset,
            given: PAGE,
            actual,
        };
        assert_eq!(ranges.free(offset, PAGE), Err(wrong));
        let inside = FreeError::NotInUse {
            offset: offset + PAGE,
        };
        assert_eq!(ranges.free(offset + PAGE, PAGE), Err(inside));
        assert_eq!(ranges.free(offset, 2 * PAGE), Ok(()));
        assert_eq!(
            ranges.free(offset, 2 * PAGE),
            Err(FreeError::NotInUse { offset })
        );
        assert_eq!((ranges.used(), ranges.largest_free()), (0, 8 * PAGE));
    }

    #[test]
    fn an_arena_without_a_page_gives_nothing() {
        let mut ranges = RangeAllocator::new(PAGE - 1);
        assert_eq!(ranges.alloc(1), None);
        assert_eq!(ranges.largest_free(), 0);
    }

    #[test]
    fn any_history_keeps_ranges_apart_and_the_tiling_whole() {
        for seed in 1..=200_u64 {
            let mut next = random_below(seed);
            let mut ranges = RangeAllocator::new(64 * PAGE);
            let mut live: Vec<(u64, u64)> = Vec::new();
            for _ in 0..300 {
                if next(5) < 3 {
                    let len = (1 + next(9)) * PAGE - next(PAGE);
                    match ranges.alloc(len) {
                        Some(offset) => live.push((offset, len)),
                        None => assert!(ranges.largest_free() < len, "seed {seed}"),
                    }
                } else if !live.is_empty() {
                    let (offset, len) = live.swap_remove(next(live.len() as u64) as usize);
                    assert_eq!(ranges.free(offset, len), Ok(()), "seed {seed}");
                }
                check(&ranges, &live, seed);
            }
        }
    }

    fn check(ranges: &RangeAllocator, live: &[(u64, u64)], seed: u64) {
        let mut expected = 0;
        let mut free = BTreeSet::new();
        let mut previous_free = false;
        let by_offset: BTreeMap<_, _> = ranges.ranges.iter().collect();
        for (&offset, range) in by_offset {
            assert_eq!(offset, expected, "seed {seed}: invariant 1");
            assert!(
                !(previous_free && range.is_free),
                "seed {seed}: invariant 2"
            );
            previous_free = range.is_free;
            expected += range.len;
            if range.is_free {
                free.insert((range.len, offset));
            }
        }
        assert_eq!(expected, ranges.capacity(), "seed {seed}: invariant 1");
        assert_eq!(free, ranges.free_by_len, "seed {seed}: invariant 3");
        let by_end = ranges
            .free_ends
            .iter()
            .map(|(&end, &offset)| (end - offset, offset));
        assert_eq!(free, by_end.collect(), "seed {seed}: invariant 3");
        let used: u64 = live
            .iter()
            .map(|&(_, len)| len.next_multiple_of(PAGE))
            .sum();
        assert_eq!(ranges.used(), used, "seed {seed}");
        assert_eq!(ranges.ranges.len() - free.len(), live.len(), "seed {seed}");
    }
}
