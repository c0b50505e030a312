//! On which thread a callback of a stream is under way, and what becomes ready meanwhile.
//!
//! A protocol's callbacks come one after the other. On one thread that is so by itself, but for a
//! callback that runs the loop inside of itself: there the stream goes on as in the standard loop.
//! A loop that goes on in another thread, while one of its callbacks still runs in the first, must
//! leave the stream of that callback alone. So the mark has an owner, the thread.
//!
//! What becomes ready meanwhile is not lost: the kernel is not asked for it any more, since it
//! would answer at once, again and again; and when the callback has returned it is asked again.
//!
//! Invariants: 1. Of the calls that begin while none is under way, one ends the mark: itself.
//!             2. What was missed is settled once, by the call that ends the mark.

use super::interest::Side;
use super::stream_phases::{Life, Sending};

/// Whether a callback is under way, and on which thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UnderWay<T> {
    /// None is.
    #[default]
    Nowhere,
    /// On this one.
    On(T),
}

/// What a thread may do that is about to call a stream's protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Admission {
    /// Call, and end the mark afterwards.
    Begins,
    /// Call: a callback further down on its own stack goes on afterwards, and ends the mark.
    Nested,
    /// Leave the stream alone: a callback of it is under way on another thread.
    Refused,
}

impl<T: Copy + PartialEq> UnderWay<T> {
    /// A thread is about to call.
    #[must_use]
    #[inline]
    pub fn enter(&mut self, thread: T) -> Admission {
        match *self {
            Self::Nowhere => {
                *self = Self::On(thread);
                Admission::Begins
            }
            Self::On(other) if other == thread => Admission::Nested,
            Self::On(_) => Admission::Refused,
        }
    }

    /// Whether a thread would be refused.
    #[must_use]
    #[inline]
    pub fn refuses(self, thread: T) -> bool {
        matches!(self, Self::On(other) if other != thread)
    }

    /// The call that began has returned.
    #[inline]
    pub const fn leave(&mut self) {
        *self = Self::Nowhere;
    }
}

/// What became ready while a callback was under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Missed {
    reader: bool,
    writer: bool,
}

/// What a stream does for its sending, once the callback has returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendAgain {
    /// Nothing.
    No,
    /// It goes into the list for the end of the round.
    List,
    /// The loop watches for room again.
    Watch,
}

impl Missed {
    /// A side is ready, or its turn to be sent has come.
    pub const fn note(&mut self, side: Side) {
        match side {
            Side::Reader => self.reader = true,
            Side::Writer => self.writer = true,
        }
    }

    /// Whether the loop watches for data again: the callback may have paused or closed.
    #[must_use]
    pub const fn reads_again(self, life: Life, paused: bool) -> bool {
        self.reader && life.reads() && !paused
    }

    /// What becomes of what waits to be sent; the callback may have aborted the connection.
    #[must_use]
    pub fn sends_again(self, life: Life, sending: &mut Sending) -> SendAgain {
        if !self.writer || !life.sends() {
            SendAgain::No
        } else if sending.is_blocked() {
            SendAgain::Watch
        } else if sending.list() {
            SendAgain::List
        } else {
            SendAgain::No
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Admission, Missed, SendAgain, UnderWay};
    use crate::event_loop::interest::Side;
    use crate::event_loop::stream_phases::{Life, Sending};
    use crate::random::random_below;

    #[test]
    fn a_call_begins_and_ends_the_mark() {
        let mut mark = UnderWay::default();
        assert_eq!(mark.enter(1), Admission::Begins);
        mark.leave();
        assert_eq!(mark, UnderWay::Nowhere);
        assert_eq!(mark.enter(2), Admission::Begins);
    }

    #[test]
    fn a_thread_enters_again_what_it_is_in_and_another_does_not() {
        let mut mark = UnderWay::default();
        assert_eq!(mark.enter(1), Admission::Begins);
        assert_eq!(mark.enter(1), Admission::Nested);
        assert!(!mark.refuses(1));
        assert!(mark.refuses(2));
        assert_eq!(mark.enter(2), Admission::Refused);
        assert_eq!(mark, UnderWay::On(1));
    }

    #[test]
    fn what_was_missed_is_watched_again_if_it_is_still_wanted() {
        let mut missed = Missed::default();
        assert!(!missed.reads_again(Life::Open, false));
        missed.note(Side::Reader);
        assert!(missed.reads_again(Life::Open, false));
        assert!(!missed.reads_again(Life::Open, true), "paused");
        assert!(!missed.reads_again(Life::Closing, false));
        let mut sending = Sending::Blocked;
        assert_eq!(missed.sends_again(Life::Open, &mut sending), SendAgain::No);
    }

    #[test]
    fn what_waits_is_sent_when_it_would_have_been() {
        let mut missed = Missed::default();
        missed.note(Side::Writer);
        let again = |life, mut sending| missed.sends_again(life, &mut sending);
        assert_eq!(again(Life::Open, Sending::Blocked), SendAgain::Watch);
        assert_eq!(again(Life::Closing, Sending::Blocked), SendAgain::Watch);
        assert_eq!(again(Life::Open, Sending::Idle), SendAgain::List);
        // The callback has written more, so it is in the list already.
        assert_eq!(again(Life::Open, Sending::Listed), SendAgain::No);
        let (times, closing) = (1, true);
        let lost = Life::Lost { times, closing };
        assert_eq!(again(lost, Sending::Blocked), SendAgain::No);
    }

    /// A stream whose peer sends, and a loop that may go on in another thread during a callback.
    #[derive(Default)]
    struct Simulated {
        mark: UnderWay<u64>,
        missed: Missed,
        /// What has arrived, and was not read.
        arrived: u64,
        watched: bool,
        read: u64,
        /// The threads that are in a callback, each as often as it has entered.
        inside: Vec<u64>,
        began: Vec<bool>,
    }

    impl Simulated {
        /// The loop polls on a thread, and runs the stream if it is told of it.
        fn turn(&mut self, thread: u64) {
            if !self.watched || self.arrived == 0 {
                return;
            }
            match self.mark.enter(thread) {
                Admission::Refused => {
                    self.missed.note(Side::Reader);
                    self.watched = false;
                }
                admission => {
                    let others = self.inside.iter().any(|other| *other != thread);
                    assert!(!others, "two threads are in one stream");
                    self.read += std::mem::take(&mut self.arrived);
                    self.inside.push(thread);
                    self.began.push(admission == Admission::Begins);
                }
            }
        }

        /// The innermost callback returns.
        fn finish(&mut self) {
            self.inside.pop();
            if self.began.pop() == Some(true) {
                self.mark.leave();
                let missed = std::mem::take(&mut self.missed);
                self.watched |= missed.reads_again(Life::Open, false);
            }
        }
    }

    #[test]
    fn whatever_thread_runs_the_loop_all_data_is_read_and_no_two_are_in_one_stream() {
        let mut refused = 0;
        for seed in 1..=300 {
            let mut random = random_below(seed);
            let mut stream = Simulated {
                watched: true,
                ..Simulated::default()
            };
            let mut sent = 0;
            for _ in 0..200 {
                match random(4) {
                    0 => {
                        stream.arrived += 1;
                        sent += 1;
                    }
                    1 => stream.finish(),
                    _ => {
                        stream.turn(random(3));
                        refused += u64::from(!stream.watched);
                    }
                }
            }
            while !stream.inside.is_empty() {
                stream.finish();
            }
            assert_eq!(stream.mark, UnderWay::Nowhere, "seed {seed}");
            stream.turn(1);
            assert_eq!(stream.read, sent, "seed {seed}");
        }
        assert!(refused > 1_000, "a second thread hardly ever came");
    }
}
