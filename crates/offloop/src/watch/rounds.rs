//! What ran earlier in a round, where a loop tells its rounds and no callbacks.
//!
//! A stack that is read when the round has become too long names the callback that runs then. That
//! callback may have begun a moment ago, and another one have taken the time. So a stack is read
//! before that, when the round has lasted for a part of the threshold, and the two are compared. A
//! round that begins between two looks is seen half a threshold later at the latest.
//!
//! ```text
//! round  0 ──────── 2/5 ─────────────── 1      of the threshold
//!                   reading             report: a callback of both took three fifths
//! ```
//!
//! Invariants: 1. Nothing is read of a round that is shorter than that.
//!             2. A callback is blamed for a round alone only if it was seen twice, and to run for
//!                a fifth of it in between.

use std::time::Duration;

use offloop_core::Instant;
use offloop_core::event_loop::Slice;
use offloop_core::watch::{Quality, Stack};
use offloop_sys::interpreter::StackEntry;

/// A round is read when it has lasted for so many fifths of the threshold.
const READ_AT_FIFTHS: u32 = 2;

/// A callback is blamed for a round if it was seen to run for so many fifths of it. These are three
/// or more, unless a reading was late.
const BLAMED_FROM_FIFTHS: u32 = 1;

/// A callback, as far as it can be told from another one by its stack, from the outermost entry
/// inward. A coroutine is where no other one is. Functions that are called in turn are in the same
/// place; so what asyncio calls belongs to it, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Callback(Vec<StackEntry>);

impl Callback {
    /// The callback whose entries these are, innermost first.
    pub(super) fn of(entries: &[StackEntry]) -> Self {
        let mut named = Vec::new();
        for entry in entries.iter().rev() {
            let is_known = entry.of_generator || !entry.filename.contains("/asyncio/");
            named.push(StackEntry {
                position: Default::default(),
                ..entry.clone()
            });
            if is_known {
                break;
            }
        }
        Self(named)
    }
}

/// What is known of a round that goes on.
#[derive(Debug)]
struct Seen {
    /// The number of the round.
    round: u64,
    callback: Callback,
    stack: Stack,
    /// Since when this callback was seen.
    since: Instant,
    /// The stack of another callback that was seen before it.
    earlier: Option<Stack>,
}

/// The round of one loop.
#[derive(Debug, Default)]
pub(super) struct RoundsSeen {
    seen: Option<Seen>,
    /// The callback of what was reported last is known.
    is_seen: bool,
    /// It could not be read, but another one could.
    is_lost: bool,
}

/// How much of a round is known to be of the callback that runs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// Enough to blame it.
    Large,
    /// It may have begun a moment ago; before it another one was seen, if this is known.
    Unknown(Option<Stack>),
}

impl RoundsSeen {
    /// When a round is to be read; `None` if it was.
    pub(super) fn due(&self, round: Slice, threshold: Duration) -> Option<Instant> {
        let is_read = self
            .seen
            .as_ref()
            .is_some_and(|it| it.round == round.number);
        let after = threshold / 5 * READ_AT_FIFTHS;
        (!is_read).then(|| round.began.saturating_add(after))
    }

    /// A round was read.
    pub(super) fn read(&mut self, round: u64, at: Instant, (callback, stack): (Callback, Stack)) {
        let before = self.seen.take().filter(|seen| seen.round == round);
        let (since, earlier) = match before {
            Some(before) if before.callback == callback => (before.since, before.earlier),
            // A loop that waited has run nothing.
            Some(before) => (at, Some(before.stack).filter(|it| !it.entries.is_empty())),
            None => (at, None),
        };
        self.seen = Some(Seen {
            round,
            callback,
            stack,
            since,
            earlier,
        });
    }

    /// A round was read that is to be reported; there is no callback where its stack is another
    /// thread's, or could not be read.
    pub(super) fn report(
        &mut self,
        (round, at): (u64, Instant),
        callback: Option<Callback>,
        stack: &Stack,
    ) {
        let is_unread = matches!(stack.quality, Quality::Missing(_));
        self.is_seen = callback.is_some();
        // Where no stack can be read, ever, a round of one callback is the usual one.
        self.is_lost = is_unread && self.seen.is_some();
        if let Some(callback) = callback {
            self.read(round, at, (callback, stack.clone()));
        }
    }

    /// How much of a round that has lasted for so long is of the callback that was reported last.
    pub(super) fn share(&self, (round, at): (u64, Instant), lasted: Duration) -> Share {
        if self.is_lost {
            return Share::Unknown(None);
        }
        let seen = self.seen.as_ref().filter(|seen| seen.round == round);
        let Some(seen) = seen.filter(|_| self.is_seen) else {
            return Share::Large;
        };
        let ran = at.saturating_duration_since(seen.since);
        if ran >= lasted / 5 * BLAMED_FROM_FIFTHS {
            Share::Large
        } else {
            Share::Unknown(seen.earlier.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use offloop_core::watch::Entry;

    use super::*;

    const THRESHOLD: Duration = Duration::from_millis(50);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn entry(filename: &str, function: &str, frame: u64) -> StackEntry {
        StackEntry {
            filename: filename.into(),
            function: function.into(),
            first_line: 1,
            position: Default::default(),
            frame,
            of_generator: !filename.contains("/asyncio/"),
        }
    }

    fn stack(line: i32) -> Stack {
        let entry = Entry {
            filename: "app.py".into(),
            function: "work".into(),
            line: Some(line),
        };
        Stack {
            entries: vec![entry],
            cut: 0,
            hidden: 0,
            unsettled: 0,
            quality: Quality::Exact,
        }
    }

    fn coroutine(frame: u64) -> (Callback, Stack) {
        let entries = [entry("app.py", "work", 7), entry("app.py", "main", frame)];
        (
            Callback::of(&entries),
            stack(i32::try_from(frame).expect("small")),
        )
    }

    /// What is said of round 3, which began at 100 ms, if it is reported then.
    fn reported(rounds: &mut RoundsSeen, ms_now: u64, frame: u64) -> Share {
        let (callback, stack) = coroutine(frame);
        rounds.report((3, at(ms_now)), Some(callback), &stack);
        rounds.share((3, at(ms_now)), ms(ms_now - 100))
    }

    #[test]
    fn a_callback_that_was_seen_from_early_on_is_blamed() {
        let mut rounds = RoundsSeen::default();
        let round = Slice {
            number: 3,
            began: at(100),
        };
        assert_eq!(rounds.due(round, THRESHOLD), Some(at(120)));
        rounds.read(3, at(120), coroutine(1));
        assert_eq!(rounds.due(round, THRESHOLD), None);
        assert_eq!(reported(&mut rounds, 150, 1), Share::Large);
    }

    #[test]
    fn a_callback_that_may_have_begun_a_moment_ago_is_not_blamed_yet() {
        let mut rounds = RoundsSeen::default();
        rounds.read(2, at(90), coroutine(2));
        rounds.read(3, at(120), coroutine(1));
        let share = reported(&mut rounds, 150, 2);
        assert_eq!(share, Share::Unknown(Some(stack(1))));
        assert_eq!(reported(&mut rounds, 200, 2), Share::Large);
    }

    #[test]
    fn a_round_that_was_not_read_early_is_not_known() {
        let mut rounds = RoundsSeen::default();
        assert_eq!(reported(&mut rounds, 150, 1), Share::Unknown(None));
    }

    #[test]
    fn a_stack_that_cannot_be_read_is_no_reason_where_none_ever_can() {
        let mut rounds = RoundsSeen::default();
        let unread = Stack {
            quality: Quality::Missing("forbidden".into()),
            ..stack(1)
        };
        let share = |rounds: &mut RoundsSeen| {
            rounds.report((3, at(150)), None, &unread);
            rounds.share((3, at(150)), ms(50))
        };
        assert_eq!(share(&mut rounds), Share::Large);
        rounds.read(2, at(90), coroutine(2));
        assert_eq!(share(&mut rounds), Share::Unknown(None));
    }

    #[test]
    fn what_asyncio_calls_tells_its_callbacks_apart() {
        let of = |inner| {
            let transport = entry("/lib/asyncio/selector_events.py", "_read_ready", 8);
            Callback::of(&[entry("app.py", "inside", 5), inner, transport])
        };
        let one = of(entry("app.py", "One.data_received", 6));
        assert_eq!(one, of(entry("app.py", "One.data_received", 6)));
        assert_ne!(one, of(entry("app.py", "Other.data_received", 6)));
    }
}
