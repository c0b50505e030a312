//! Which free pages of a chunk are backed by memory: offsets only, no memory.
//!
//! A page that was used and freed keeps its memory: the next block that lands on it costs no page
//! fault, and until then the memory is unused. One bit for each page says so. A page in use is not
//! idle, nor is a page that was never touched or was given back.
//!
//! Shape:      64 pages in a word, low pages in low bits.
//! Units:      bytes; offsets and lengths are multiples of [`PAGE_BYTES`].
//! Invariants: `pages` counts the bits that are set.

use crate::ranges::PAGE_BYTES;

const WORD_PAGES: u64 = 64;

/// The idle pages of `[0, capacity)`.
#[derive(Debug, Clone)]
pub struct IdlePages {
    words: Vec<u64>,
    pages: u64,
}

impl IdlePages {
    /// None is idle yet.
    ///
    /// # Panics
    /// When this machine could not address the capacity.
    #[must_use]
    pub fn new(capacity: u64) -> Self {
        let words = capacity.div_ceil(PAGE_BYTES * WORD_PAGES);
        let words = usize::try_from(words).expect("a chunk fits into the address space");
        Self {
            words: vec![0; words],
            pages: 0,
        }
    }

    /// Bytes in idle pages.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.pages * PAGE_BYTES
    }

    /// The pages of a range are idle from now on: it was freed.
    pub fn insert(&mut self, offset: u64, len: u64) {
        self.for_each_word(offset, len, |word, mask| *word |= mask);
    }

    /// The pages of a range are not idle any more: they are in use, or were given back.
    pub fn remove(&mut self, offset: u64, len: u64) {
        self.for_each_word(offset, len, |word, mask| *word &= !mask);
    }

    /// The end, at most `len_max` long, of the idle range that lies highest: its offset and its
    /// length. High pages go back first, as low ones are handed out first.
    #[must_use]
    pub fn highest(&self, len_max: u64) -> Option<(u64, u64)> {
        let last = self.words.iter().rposition(|word| *word != 0)?;
        let top_bit = u64::from(self.words[last].ilog2());
        let end = last as u64 * WORD_PAGES + top_bit + 1;
        let pages_max = (len_max / PAGE_BYTES).max(1);
        let mut start = end - 1;
        while start > 0 && end - start < pages_max && self.is_idle(start - 1) {
            start -= 1;
        }
        Some((start * PAGE_BYTES, (end - start) * PAGE_BYTES))
    }

    fn is_idle(&self, page: u64) -> bool {
        let word = usize::try_from(page / WORD_PAGES).expect("below the number of words");
        self.words[word] >> (page % WORD_PAGES) & 1 == 1
    }

    fn for_each_word(&mut self, offset: u64, len: u64, change: impl Fn(&mut u64, u64)) {
        let end = (offset + len).div_ceil(PAGE_BYTES);
        let mut page = offset / PAGE_BYTES;
        while page < end {
            let bit = page % WORD_PAGES;
            let count = (WORD_PAGES - bit).min(end - page);
            let mask = u64::MAX >> (WORD_PAGES - count) << bit;
            let index = usize::try_from(page / WORD_PAGES).expect("below the number of words");
            let word = &mut self.words[index];
            let before = word.count_ones();
            change(word, mask);
            self.pages = self.pages + u64::from(word.count_ones()) - u64::from(before);
            page += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::random_below;
    use std::collections::BTreeSet;

    const PAGE: u64 = PAGE_BYTES;

    #[test]
    fn the_highest_range_comes_first_and_in_steps() {
        let mut idle = IdlePages::new(1_000 * PAGE);
        idle.insert(10 * PAGE, 5 * PAGE);
        idle.insert(60 * PAGE, 140 * PAGE);
        assert_eq!(idle.bytes(), 145 * PAGE);
        assert_eq!(idle.highest(100 * PAGE), Some((100 * PAGE, 100 * PAGE)));
        idle.remove(100 * PAGE, 100 * PAGE);
        assert_eq!(idle.highest(100 * PAGE), Some((60 * PAGE, 40 * PAGE)));
        idle.remove(60 * PAGE, 40 * PAGE);
        assert_eq!(idle.highest(u64::MAX), Some((10 * PAGE, 5 * PAGE)));
        idle.remove(10 * PAGE, 5 * PAGE);
        assert_eq!((idle.highest(PAGE), idle.bytes()), (None, 0));
    }

    #[test]
    fn a_step_is_never_empty() {
        let mut idle = IdlePages::new(PAGE);
        idle.insert(0, PAGE);
        assert_eq!(idle.highest(0), Some((0, PAGE)));
    }

    #[test]
    fn any_history_agrees_with_a_set_of_pages() {
        for seed in 1..=100_u64 {
            let mut next = random_below(seed);
            let mut idle = IdlePages::new(300 * PAGE);
            let mut model = BTreeSet::new();
            for _ in 0..200 {
                let start = next(300);
                let pages = 1 + next(300 - start);
                let range = start..start + pages;
                if next(2) == 0 {
                    idle.insert(start * PAGE, pages * PAGE);
                    model.extend(range);
                } else {
                    idle.remove(start * PAGE, pages * PAGE);
                    model.retain(|page| !range.contains(page));
                }
                assert_eq!(idle.bytes(), model.len() as u64 * PAGE, "seed {seed}");
                let top = idle.highest(u64::MAX).map(|(offset, len)| offset + len);
                let expected = model.last().map(|page| (page + 1) * PAGE);
                assert_eq!(top, expected, "seed {seed}");
                let (offset, len) = idle.highest(7 * PAGE).unwrap_or((0, 0));
                let pages = offset / PAGE..(offset + len) / PAGE;
                assert!(pages.clone().count() <= 7, "seed {seed}");
                assert!(
                    pages.clone().all(|page| model.contains(&page)),
                    "seed {seed}"
                );
            }
        }
    }
}
