//! Which stalls are news: a limit on how many are told must not hide these.
//!
//! A program may block its loop in one line many times a minute. Then a stall that another line
//! causes is one of too many, and it may be the one that matters. So a stall is news if nothing was
//! told of its culprit yet, or if it lasts much longer than all that was told of it.
//!
//! Invariants: 1. What a comment allows is no news, nor is a stall whose culprit is not known.
//!             2. At most `TOLD_MAX` culprits are remembered. Beyond these no other one is news.

use core::time::Duration;
use std::collections::HashMap;

use super::culprit::Key;
use super::diagnosis::Diagnosis;
use super::record::Stall;
use super::teller::KEYS_MAX;

/// A stall of a known culprit is news if it lasts so many times as long as the longest one that was
/// told.
const MUCH_LONGER: u32 = 8;

/// What was told.
#[derive(Debug, Default)]
pub struct News {
    /// The longest stall of each culprit.
    told: HashMap<Key, Duration>,
}

impl News {
    /// Whether a stall is news.
    #[must_use]
    pub fn is_news(&self, stall: &Stall, diagnosis: &Diagnosis) -> bool {
        let Some(culprit) = diagnosis.culprit.as_ref() else {
            return false;
        };
        if diagnosis.is_allowed() {
            return false;
        }
        let longest = self.told.get(&Key::of(stall, Some(culprit)));
        match longest {
            Some(longest) => stall.lasted >= longest.saturating_mul(MUCH_LONGER),
            None => self.told.len() < KEYS_MAX,
        }
    }

    /// A stall is told.
    pub fn told(&mut self, stall: &Stall, diagnosis: &Diagnosis) {
        let key = Key::of(stall, diagnosis.culprit.as_ref());
        if self.told.len() < KEYS_MAX || self.told.contains_key(&key) {
            let longest = self.told.entry(key).or_default();
            *longest = stall.lasted.max(*longest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::allow::Allowance;
    use super::super::culprit::Culprit;
    use super::super::samples::{FOUND, at_line, sleeping, user_places};
    use super::*;

    fn stall(line: i32, ms: u64) -> (Stall, Diagnosis) {
        let mut stall = sleeping(1, FOUND, ms);
        stall.stack = at_line(line);
        let diagnosis = Diagnosis {
            culprit: Culprit::of(&stall.stack, &user_places()),
            ..Diagnosis::default()
        };
        (stall, diagnosis)
    }

    fn is_news(news: &News, line: i32, ms: u64) -> bool {
        let (stall, diagnosis) = stall(line, ms);
        news.is_news(&stall, &diagnosis)
    }

    #[test]
    fn a_culprit_is_news_until_it_was_told_and_then_if_it_blocks_much_longer() {
        let mut news = News::default();
        assert!(is_news(&news, 10, 60));
        let (found, diagnosis) = stall(10, 60);
        news.told(&found, &diagnosis);
        assert!(!is_news(&news, 10, 60) && !is_news(&news, 10, 400));
        assert!(is_news(&news, 10, 480) && is_news(&news, 11, 60));
    }

    #[test]
    fn what_is_not_known_or_allowed_is_no_news() {
        let news = News::default();
        let (found, mut diagnosis) = stall(10, 60);
        assert!(!news.is_news(&found, &Diagnosis::default()));
        diagnosis.allowance = Some(Allowance {
            entry: found.stack.entries[0].clone(),
            reason: Some("at the start".into()),
        });
        assert!(!news.is_news(&found, &diagnosis));
    }

    #[test]
    fn the_memory_of_what_was_told_is_bounded() {
        let mut news = News::default();
        for line in 1..=i32::try_from(KEYS_MAX).expect("small") + 5 {
            let (found, diagnosis) = stall(line, 60);
            news.told(&found, &diagnosis);
        }
        assert_eq!(news.told.len(), KEYS_MAX);
        assert!(!is_news(&news, 5_000, 60));
    }
}
