//! The journal: what happened to workers, with numbers, so that a reader can ask what came since.
//!
//! It is written when a worker starts, ends or is killed, when calls are dropped, when a callback
//! keeps a thread and when an event loop stalls. It is never written for a call that ends well. The
//! counts go on when entries are forgotten.
//!
//! Units:      entries are numbered from 1, without gaps.
//! Invariants: 1. At most `JOURNAL_ENTRIES_MAX` entries are kept: the last ones.
//!             2. An entry never changes.
//! Threads:    only under the runtime's lock.

use std::collections::VecDeque;
use std::sync::Arc;

use offloop_core::Instant;
use offloop_core::event_loop::Moment;
use offloop_core::watch::Told;

use crate::fault::{Crash, Fault, StderrFault};

/// Entries that are kept. A reader that looks every second misses none of a program that loses a
/// few hundred workers in it; each may hold 4 KiB of standard error.
pub const JOURNAL_ENTRIES_MAX: usize = 512;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A worker is ready for calls.
    Start {
        /// Its fleet's number.
        fleet: u32,
        /// Its process id.
        pid: i32,
    },
    /// A worker is ready for calls, the first since another one of its fleet crashed.
    Restart {
        /// Its fleet's number.
        fleet: u32,
        /// Its process id.
        pid: i32,
        /// The process id of the worker that crashed.
        replaces: i32,
    },
    /// A worker could not be started, or ended before it was ready.
    StartFailure {
        /// Its fleet's number.
        fleet: u32,
        /// Why, as far as it is known.
        fault: Option<Arc<Fault>>,
    },
    /// A worker was killed: its call did not stop in time, or it broke the protocol.
    Kill {
        /// Its fleet's number.
        fleet: u32,
        /// Its process id.
        pid: i32,
    },
    /// A worker ended as it was meant to: it was asked to exit, or had been killed.
    End {
        /// Its fleet's number.
        fleet: u32,
        /// Its process id.
        pid: i32,
    },
    /// A worker ended that should have gone on.
    Crash {
        /// Its fleet's number.
        fleet: u32,
        /// What is known of it.
        crash: Arc<Crash>,
        /// Whether it had started a call.
        in_call: bool,
    },
    /// A full queue gave up its oldest calls; told once a second for each fleet at most.
    Drop {
        /// The fleet's number.
        fleet: u32,
        /// Calls that were dropped in the fleet since it exists.
        dropped: u64,
    },
    /// A thread that resolves outcomes is kept by a callback, and another one takes over.
    Stall {
        /// Threads that resolve outcomes, including those that callbacks keep.
        threads: u32,
    },
    /// An event loop stalls, or its stall is over.
    LoopStall {
        /// What is known of it.
        told: Arc<Told>,
    },
    /// The supervisor has failed: every call ends with this, and no worker is left.
    Failure {
        /// Why.
        fault: Arc<Fault>,
    },
    /// What workers write to their standard error is not passed on any more; their calls go on.
    StderrFailure {
        /// Why.
        fault: Arc<StderrFault>,
    },
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// From 1, one more than the entry before.
    pub number: u64,
    /// When it was written.
    pub at: Instant,
    /// What happened.
    pub event: Event,
}

/// What a reader has not seen yet.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// Entries that were forgotten before the reader came.
    pub missed: u64,
    /// The entries that the reader has not seen, oldest first.
    pub entries: Vec<Entry>,
}

/// How often each thing happened since the runtime exists; nothing is forgotten here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Workers that became ready, restarts included.
    pub starts: u64,
    /// Workers that became ready in place of a crashed one.
    pub restarts: u64,
    /// Starts that failed.
    pub start_failures: u64,
    /// Workers that were killed.
    pub kills: u64,
    /// Workers that ended as they were meant to.
    pub ends: u64,
    /// Workers that ended although they should have gone on.
    pub crashes: u64,
    /// Times that another thread took over from a thread that a callback kept.
    pub stalls: u64,
    /// Stalls of event loops that the watch has told.
    pub loop_stalls: u64,
}

/// What hears of each event, under the runtime's lock.
pub(crate) type Echo = Box<dyn Fn(Instant, &Event) + Send>;

/// The last entries, and how many there have been of each kind.
#[derive(Default)]
pub(crate) struct Journal {
    /// Hears of each event, too.
    echo: Option<Echo>,
    entries: VecDeque<Entry>,
    last: u64,
    counts: EventCounts,
}

impl Journal {
    /// Empty; each event is passed on.
    pub(crate) fn with_echo(echo: Echo) -> Self {
        Self {
            echo: Some(echo),
            ..Self::default()
        }
    }

    /// Writes an entry: rarely, beside calls that are many.
    #[cold]
    pub(crate) fn write(&mut self, at: Instant, event: Event) {
        let counts = &mut self.counts;
        match &event {
            Event::Start { .. } => counts.starts += 1,
            Event::Restart { .. } => {
                counts.starts += 1;
                counts.restarts += 1;
            }
            Event::StartFailure { .. } => counts.start_failures += 1,
            Event::Kill { .. } => counts.kills += 1,
            Event::End { .. } => counts.ends += 1,
            Event::Crash { .. } => counts.crashes += 1,
            Event::Stall { .. } => counts.stalls += 1,
            Event::LoopStall { told } => counts.loop_stalls += u64::from(is_first(told)),
            Event::Drop { .. } | Event::Failure { .. } | Event::StderrFailure { .. } => {}
        }
        if let Some(echo) = &self.echo {
            echo(at, &event);
        }
        self.last += 1;
        if self.entries.len() == JOURNAL_ENTRIES_MAX {
            self.entries.pop_front();
        }
        let number = self.last;
        self.entries.push_back(Entry { number, at, event });
    }

    pub(crate) fn counts(&self) -> EventCounts {
        self.counts
    }

    /// The number of the last entry; 0 before the first.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    /// What came after entry `number`, 0 for all. A number that is yet to come has nothing after.
    pub(crate) fn after(&self, number: u64) -> Entries {
        let first_kept = self.last - self.entries.len() as u64 + 1;
        let missed = first_kept.saturating_sub(number.saturating_add(1));
        let seen = self.entries.partition_point(|entry| entry.number <= number);
        let entries = self.entries.range(seen..).cloned().collect();
        Entries { missed, entries }
    }
}

/// Whether a stall was not told before.
fn is_first(told: &Told) -> bool {
    match told.stall.moment {
        Moment::Found { .. } => true,
        Moment::GoesOn { .. } => false,
        Moment::Over { was_found } => !was_found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(starts: usize) -> Journal {
        let mut journal = Journal::default();
        for pid in 1..=starts {
            let pid = i32::try_from(pid).unwrap();
            journal.write(Instant::ZERO, Event::Start { fleet: 1, pid });
        }
        journal
    }

    fn numbers(entries: &Entries) -> Vec<u64> {
        entries.entries.iter().map(|entry| entry.number).collect()
    }

    #[test]
    fn a_reader_gets_what_came_after_its_last_number() {
        let journal = journal(3);
        assert_eq!(journal.last(), 3);
        for (number, expected) in [(0, vec![1, 2, 3]), (2, vec![3]), (3, vec![])] {
            let entries = journal.after(number);
            assert_eq!((numbers(&entries), entries.missed), (expected, 0));
        }
    }

    #[test]
    fn an_empty_journal_and_a_number_yet_to_come_have_nothing() {
        for (journal, number) in [(journal(0), 0), (journal(0), 7), (journal(3), u64::MAX)] {
            let entries = journal.after(number);
            assert_eq!((numbers(&entries), entries.missed), (vec![], 0));
        }
    }

    #[test]
    fn a_reader_that_comes_late_learns_how_many_it_missed() {
        let journal = journal(JOURNAL_ENTRIES_MAX + 10);
        let all = journal.after(0);
        assert_eq!((all.entries.len(), all.missed), (JOURNAL_ENTRIES_MAX, 10));
        assert_eq!(all.entries[0].number, 11);
        assert_eq!(journal.after(4).missed, 6);
        let in_time = journal.after(10);
        assert_eq!(
            (in_time.entries.len(), in_time.missed),
            (all.entries.len(), 0)
        );
        assert_eq!(
            numbers(&journal.after(journal.last() - 1)),
            [journal.last()]
        );
    }

    #[test]
    fn counts_go_on_when_entries_are_forgotten() {
        let mut journal = journal(JOURNAL_ENTRIES_MAX);
        for _ in 0..JOURNAL_ENTRIES_MAX {
            let (fleet, pid, replaces) = (1, 2, 1);
            let event = Event::Restart {
                fleet,
                pid,
                replaces,
            };
            journal.write(Instant::ZERO, event);
        }
        let each = JOURNAL_ENTRIES_MAX as u64;
        let expected = EventCounts {
            starts: 2 * each,
            restarts: each,
            ..EventCounts::default()
        };
        assert_eq!(journal.counts(), expected);
    }
}
