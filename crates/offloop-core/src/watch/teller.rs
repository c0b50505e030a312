//! What is said of a stall when: a block for a new culprit, and lines for the rest.
//!
//! | the stall | of a new culprit | of one that is known |
//! |---|---|---|
//! | is found | the block | nothing yet: its end is told |
//! | goes on | a line | a line, once it lasts four times the threshold |
//! | is over | a line; the block if it was not found before | a line |
//!
//! So a culprit gets one block, a short repeat one line, and a loop that does not come back is told
//! of whether it is known or not.
//!
//! Of a thread that is stopped, as by a debugger, nothing but the first block is said: a prompt is
//! on the terminal.
//!
//! Nothing is said of a stall that a comment allows. A comment without a reason is told as an
//! error, once for each line.
//!
//! Invariants: 1. No culprit gets two blocks.
//!             2. At most `KEYS_MAX` culprits are remembered. Beyond these no block is written,
//!                only lines.
//!             3. A count of stalls that were not told is said with the next text.

use core::time::Duration;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::cause::Cause;
use super::culprit::Key;
use super::diagnosis::Diagnosis;
use super::places::Places;
use super::record::Stall;
use super::words::{At, Style, Writer, duration, line_of, suppressed};
use crate::event_loop::Moment;

/// Culprits that are remembered, at about 200 bytes each. A program that blocks its loop in more
/// places is not helped by another block.
pub const KEYS_MAX: usize = 1_024;

/// Stalls that are followed at once; each loop has one or two.
const OPEN_MAX: usize = 64;

/// A repeat is told of while it lasts from its second doubling on.
const PATIENCE: u32 = 2;

/// What was said of a culprit.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    count: u64,
    total: Duration,
}

/// A stall that is not over.
#[derive(Debug)]
struct Open {
    loop_thread: u64,
    number: u64,
    key: Key,
    /// Whether a culprit was known when the key was made.
    has_culprit: bool,
    /// Where.
    at: At,
    /// Whether anything was said of it.
    is_told: bool,
    /// A comment allows it: nothing is said of it.
    is_allowed: bool,
}

/// Decides what is said, for all loops of a program.
#[derive(Debug)]
pub struct Teller {
    style: Style,
    places: Places,
    keys_max: usize,
    told: HashMap<Key, Told>,
    /// The one that was heard of least lately is first.
    open: Vec<Open>,
    suppressed: u64,
    /// Lines whose comment lacks a reason, which was told.
    without_reason: HashSet<(Arc<str>, Option<i32>)>,
}

impl Teller {
    /// Nothing was said yet.
    #[must_use]
    pub fn new(style: Style, places: Places) -> Self {
        Self {
            style,
            places,
            keys_max: KEYS_MAX,
            told: HashMap::new(),
            open: Vec::new(),
            suppressed: 0,
            without_reason: HashSet::new(),
        }
    }

    /// Another style from now on: the terminal has got another size.
    pub const fn set_style(&mut self, style: Style) {
        self.style = style;
    }

    /// A report of a stall. What is to be written, if anything: one or several lines, without a
    /// line end behind the last one.
    pub fn tell(&mut self, stall: &Stall, diagnosis: &Diagnosis) -> Option<String> {
        self.suppressed += stall.suppressed;
        let place = self.open.iter().position(|open| {
            (open.loop_thread, open.number) == (stall.thread.native_id, stall.number)
        });
        let before = place.map(|place| self.open.remove(place));
        // What was allowed, and has gone on at a line that is not, is a new stall.
        let before = before.filter(|open| !open.is_allowed || diagnosis.culprit.is_none());
        let is_over = matches!(stall.moment, Moment::Over { .. });
        let is_known = before.is_some() || !self.is_new(&Key::of(stall, None));
        let (open, text) = match before {
            Some(open) if open.is_allowed => (open, None),
            Some(open) => self.tell_again(open, stall, diagnosis),
            None => self.tell_first(stall, diagnosis),
        };
        let text = text.filter(|_| !is_known || stall.cause != Cause::Stopped);
        if is_over {
            if !open.is_allowed
                && let Some(told) = self.told.get_mut(&open.key)
            {
                told.count += 1;
                told.total = told.total.saturating_add(stall.lasted);
            }
        } else {
            self.open.push(open);
            if self.open.len() > OPEN_MAX {
                self.open.remove(0);
            }
        }
        match (self.error(diagnosis), text) {
            (Some(error), Some(text)) => Some(format!("{error}\n{text}")),
            (error, text) => error.or(text),
        }
    }

    /// What is wrong with a comment that allows nothing.
    fn error(&mut self, diagnosis: &Diagnosis) -> Option<String> {
        let allowance = diagnosis.allowance.as_ref()?;
        let entry = &allowance.entry;
        let line = (entry.filename.clone(), entry.line);
        let is_first = allowance.reason.is_none()
            && self.without_reason.len() < self.keys_max
            && self.without_reason.insert(line);
        is_first.then(|| {
            let what = "`# offloop: allow` needs a reason";
            let at = At::of(entry, &self.places, self.style);
            line_of(self.style, what, &at, "")
        })
    }

    fn tell_first(&mut self, stall: &Stall, diagnosis: &Diagnosis) -> (Open, Option<String>) {
        let mut open = Open {
            loop_thread: stall.thread.native_id,
            number: stall.number,
            key: Key::of(stall, diagnosis.culprit.as_ref()),
            has_culprit: diagnosis.culprit.is_some(),
            at: self.writer(stall, diagnosis).at(),
            is_told: false,
            is_allowed: diagnosis.is_allowed(),
        };
        if open.is_allowed {
            return (open, None);
        }
        if self.is_new(&open.key) {
            let text = self.block(&mut open, stall, diagnosis);
            return (open, Some(text));
        }
        let text = match stall.moment {
            Moment::Over { .. } => Some(self.repeat(&open, stall)),
            Moment::GoesOn { doubled } => self.goes_on(&mut open, stall, doubled),
            Moment::Found { .. } => None,
        };
        (open, text)
    }

    fn tell_again(
        &mut self,
        mut open: Open,
        stall: &Stall,
        diagnosis: &Diagnosis,
    ) -> (Open, Option<String>) {
        if !open.has_culprit && diagnosis.culprit.is_some() {
            // Only now the stack could be read.
            open.key = Key::of(stall, diagnosis.culprit.as_ref());
            open.has_culprit = true;
            open.at = self.writer(stall, diagnosis).at();
            open.is_allowed = diagnosis.is_allowed() && !open.is_told;
            if open.is_allowed {
                return (open, None);
            }
            if self.is_new(&open.key) {
                let text = self.block(&mut open, stall, diagnosis);
                return (open, Some(text));
            }
        }
        let key = Key::of(stall, diagnosis.culprit.as_ref());
        if diagnosis.culprit.is_some() && key != open.key && !diagnosis.is_allowed() {
            // The callback has gone on, and something else keeps it now.
            open.key = key;
            open.at = self.writer(stall, diagnosis).at();
            if open.is_told && self.is_new(&open.key) {
                let text = self.block(&mut open, stall, diagnosis);
                return (open, Some(text));
            }
        }
        let text = match stall.moment {
            Moment::Over { .. } if open.is_told => {
                let what = format!("it was {}", duration(stall.lasted));
                Some(self.line(&what, &open.at, ""))
            }
            Moment::Over { .. } => Some(self.repeat(&open, stall)),
            Moment::GoesOn { doubled } => self.goes_on(&mut open, stall, doubled),
            Moment::Found { .. } => None,
        };
        (open, text)
    }

    fn is_new(&self, key: &Key) -> bool {
        self.told.len() < self.keys_max && !self.told.contains_key(key)
    }

    const fn writer<'a>(&'a self, stall: &'a Stall, diagnosis: &'a Diagnosis) -> Writer<'a> {
        Writer {
            stall,
            diagnosis,
            places: &self.places,
            style: self.style,
        }
    }

    fn block(&mut self, open: &mut Open, stall: &Stall, diagnosis: &Diagnosis) -> String {
        self.told.insert(open.key.clone(), Told::default());
        open.is_told = true;
        let stall = Stall {
            suppressed: std::mem::take(&mut self.suppressed),
            ..stall.clone()
        };
        self.writer(&stall, diagnosis).block()
    }

    fn goes_on(&mut self, open: &mut Open, stall: &Stall, doubled: u32) -> Option<String> {
        if !open.is_told && doubled < PATIENCE {
            return None;
        }
        open.is_told = true;
        let what = format!("still blocked: {}", duration(stall.lasted));
        Some(self.line(&what, &open.at, ""))
    }

    fn repeat(&mut self, open: &Open, stall: &Stall) -> String {
        let lasted = duration(stall.lasted);
        let Some(told) = self.told.get(&open.key) else {
            return self.line(&format!("blocked for {lasted}"), &open.at, "");
        };
        let total = duration(told.total.saturating_add(stall.lasted));
        let times = format!(" ({} times, {total})", told.count + 1);
        self.line(&format!("blocked again for {lasted}"), &open.at, &times)
    }

    fn line(&mut self, what: &str, at: &At, behind: &str) -> String {
        let text = line_of(self.style, what, at, behind);
        match std::mem::take(&mut self.suppressed) {
            0 => text,
            count => {
                let more = line_of(self.style, &suppressed(count), &At::Unknown, "");
                format!("{more}\n{text}")
            }
        }
    }
}

#[cfg(test)]
mod tests;
