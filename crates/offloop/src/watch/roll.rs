//! Which loops are watched, and what each does now, for a thread that never attaches.
//!
//! Invariants: no loop is kept alive, and one that is gone is forgotten at the next look.
//! Threads:    any; the lock is held for the length of a list.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use offloop_sys::clock::{TickScale, ticks};

use super::pulse::Pulse;
use super::watched::Subject;

/// How often the words of a pulse are read, if they change each time.
const READS_MAX: u32 = 64;

/// A loop at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopSeen {
    /// Its number.
    pub number: u64,
    /// The name of its thread.
    pub thread_name: Arc<str>,
    /// The kernel's id of its thread.
    pub native_id: u32,
    /// How long the round has lasted that goes on; `None` while the loop waits.
    pub round: Option<Duration>,
    /// The same of the callback that runs, for a loop that tells its callbacks.
    pub callback: Option<Duration>,
}

/// The loops that were given to a watchdog.
#[derive(Debug, Default)]
pub(super) struct Roll(Mutex<Vec<(Subject, Weak<Pulse>)>>);

impl Roll {
    fn lock(&self) -> MutexGuard<'_, Vec<(Subject, Weak<Pulse>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, pulse: &Arc<Pulse>, subject: &Subject) {
        let mut subjects = self.lock();
        subjects.retain(|(known, pulse)| {
            known.number != subject.number && pulse.upgrade().is_some_and(|it| !it.is_closed())
        });
        subjects.push((subject.clone(), Arc::downgrade(pulse)));
    }

    /// What each loop does now, by their numbers.
    pub(super) fn call(&self) -> Vec<LoopSeen> {
        let subjects = self.lock().clone();
        let scale = TickScale::measure();
        let now = ticks();
        let lasted =
            |start: u64| Duration::from_nanos(scale.nanoseconds(now.saturating_sub(start)));
        let mut seen: Vec<LoopSeen> = subjects
            .into_iter()
            .filter_map(|(subject, pulse)| {
                let pulse = pulse.upgrade().filter(|pulse| !pulse.is_closed())?;
                let seen = (0..READS_MAX).find_map(|_| pulse.running.read());
                Some(LoopSeen {
                    number: subject.number,
                    thread_name: subject.thread_name,
                    native_id: seen.map_or(0, |seen| seen.thread),
                    round: seen
                        .and_then(|seen| seen.round)
                        .map(|round| lasted(round.start)),
                    callback: seen
                        .and_then(|seen| seen.work)
                        .map(|work| lasted(work.start)),
                })
            })
            .collect();
        seen.sort_by_key(|seen| seen.number);
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(number: u64) -> Subject {
        Subject {
            number,
            thread_name: "the test".into(),
            tells_callbacks: true,
        }
    }

    #[test]
    fn loops_are_told_by_their_numbers_until_they_are_gone() {
        let roll = Roll::default();
        let pulses: Vec<Arc<Pulse>> = (0..3).map(|_| Arc::default()).collect();
        for (number, pulse) in [3, 1, 2].into_iter().zip(&pulses) {
            roll.add(pulse, &subject(number));
        }
        pulses[1].running.set_thread();
        pulses[1].running.begin_round(ticks());
        let seen = roll.call();
        let numbers: Vec<_> = seen.iter().map(|seen| seen.number).collect();
        assert_eq!(numbers, [1, 2, 3]);
        assert!(seen[0].round.is_some() && seen[0].native_id > 0);
        assert_eq!((seen[1].round, seen[1].callback), (None, None));
        pulses[0].close();
        assert_eq!(roll.call().len(), 2);
        drop(pulses);
        assert_eq!(roll.call(), []);
    }

    #[test]
    fn a_loop_that_joins_again_is_told_once() {
        let roll = Roll::default();
        let pulse = Arc::default();
        roll.add(&pulse, &subject(1));
        roll.add(&pulse, &subject(1));
        assert_eq!(roll.call().len(), 1);
    }
}
