//! The recorder: what happens over time, for whatever draws it or writes it down.
//!
//! The journal has what is rare; here is also what is many: how busy each loop is, its long slices,
//! calls, collections of garbage. It is off until a reader begins to record, and off again when the
//! last one is gone. Off, it costs its writers the look at one word.
//!
//! Units:      records are numbered from 1, without gaps, for as long as the process lives.
//! Invariants: 1. The records that are kept weigh `RECORDED_BYTES_MAX` at most: the last ones.
//!             2. A record never changes.
//!             3. The lock is held for one record, or while `COPIED_AT_ONCE` are copied.
//! Threads:    any; none needs the GIL.
//! Source:     docs/design/019-recording.md.

mod record;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use offloop_core::Instant;

pub use record::{CallEnd, CallNote, Record, What};

/// What the records may weigh that are kept: about 30,000 of them. A reader that looks once a
/// second misses none of a program that makes 20,000 calls in it.
pub const RECORDED_BYTES_MAX: usize = 4 << 20;
/// Records that are copied under the lock at once, in about 20 us: a loop may wait for it.
const COPIED_AT_ONCE: usize = 256;

/// What a reader has not seen yet.
#[derive(Clone, Debug, Default)]
pub struct Records {
    /// Records that were forgotten before the reader came.
    pub missed: u64,
    /// The records that the reader has not seen, oldest first.
    pub records: Vec<Record>,
    /// The number to ask after the next time.
    pub last: u64,
}

#[derive(Debug, Default)]
struct Ring {
    records: VecDeque<Record>,
    /// What they weigh.
    bytes: usize,
    last: u64,
    /// Readers that wait for the next record.
    waiting: u32,
}

impl Ring {
    /// The number of the oldest record that is kept.
    fn first(&self) -> u64 {
        self.last - self.records.len() as u64 + 1
    }

    fn push(&mut self, at: Instant, what: What) {
        self.last += 1;
        let record = Record {
            number: self.last,
            at,
            what,
        };
        self.bytes += record.weight();
        self.records.push_back(record);
        while self.bytes > RECORDED_BYTES_MAX {
            let Some(oldest) = self.records.pop_front() else {
                break;
            };
            self.bytes -= oldest.weight();
        }
    }
}

/// What happens over time.
#[derive(Debug, Default)]
pub struct Recorder {
    readers: AtomicU32,
    ring: Mutex<Ring>,
    written: Condvar,
}

impl Recorder {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether anything reads.
    #[inline]
    #[must_use]
    pub fn is_on(&self) -> bool {
        // Relaxed: what is written a moment too early or too late is not missed.
        self.readers.load(Ordering::Relaxed) > 0
    }

    /// Writes a record down, if anything reads.
    pub fn record(&self, at: Instant, what: What) {
        if !self.is_on() {
            return;
        }
        let mut ring = self.ring();
        ring.push(at, what);
        if ring.waiting > 0 {
            ring.waiting = 0;
            self.written.notify_all();
        }
    }

    /// The number of the last record; 0 before the first.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.ring().last
    }

    /// What came after record `number`, 0 for all that is kept. Of what is written meanwhile the
    /// reader hears the next time.
    #[must_use]
    pub fn after(&self, number: u64) -> Records {
        let last = self.last();
        let mut found = Records {
            last: last.max(number),
            ..Records::default()
        };
        let mut next = number.saturating_add(1);
        while next <= last {
            let ring = self.ring();
            let first = ring.first();
            // Records may have been forgotten since the last portion.
            found.missed += first.saturating_sub(next).min(last + 1 - next);
            next = next.max(first);
            let begin = usize::try_from(next - first).unwrap_or(usize::MAX);
            let portion = ring.records.iter().skip(begin);
            let portion = portion.take_while(|record| record.number <= last);
            let before = found.records.len();
            found.records.extend(portion.take(COPIED_AT_ONCE).cloned());
            next += (found.records.len() - before) as u64;
        }
        found
    }

    /// Waits until something came after record `number`, at most `limit`; false when it passed.
    #[must_use]
    pub fn wait_after(&self, number: u64, limit: Duration) -> bool {
        let until = std::time::Instant::now() + limit;
        let mut ring = self.ring();
        while ring.last <= number {
            let left = until.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return false;
            }
            ring.waiting += 1;
            let waited = self.written.wait_timeout(ring, left);
            ring = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Readers that wait look whether they are to end.
    pub fn wake(&self) {
        self.written.notify_all();
    }
}

/// A reader: while it is there, what happens is recorded.
#[derive(Debug)]
pub struct Recording(Arc<Recorder>);

impl Recording {
    /// Begins to record.
    #[must_use]
    pub fn begin(recorder: &Arc<Recorder>) -> Self {
        recorder.readers.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(recorder))
    }

    /// Where the records are.
    #[must_use]
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.0
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let Self(recorder) = self;
        let mut ring = recorder.ring();
        if recorder.readers.fetch_sub(1, Ordering::Relaxed) == 1 {
            // The memory goes back; the numbers go on.
            ring.records = VecDeque::new();
            ring.bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Instant = Instant::ZERO;

    fn collection(generation: u8) -> What {
        What::Collection {
            thread: 1,
            begin: AT,
            end: AT,
            generation,
            collected: 0,
        }
    }

    fn numbers(records: &Records) -> Vec<u64> {
        records.records.iter().map(|record| record.number).collect()
    }

    #[test]
    fn nothing_is_written_unless_something_reads_and_numbers_go_on() {
        let recorder = Arc::new(Recorder::default());
        recorder.record(AT, collection(0));
        assert_eq!((recorder.last(), recorder.is_on()), (0, false));
        let recording = Recording::begin(&recorder);
        recorder.record(AT, collection(0));
        assert_eq!(numbers(&recorder.after(0)), [1]);
        drop(recording);
        assert_eq!(
            (numbers(&recorder.after(0)), recorder.is_on()),
            (vec![], false)
        );
        let _recording = Recording::begin(&recorder);
        recorder.record(AT, collection(0));
        let records = recorder.after(0);
        assert_eq!(
            (numbers(&records), records.missed, records.last),
            (vec![2], 1, 2)
        );
    }

    #[test]
    fn a_reader_gets_what_came_after_its_last_number() {
        let recorder = Arc::new(Recorder::default());
        let _recording = Recording::begin(&recorder);
        let count = 3 * COPIED_AT_ONCE as u64 + 7;
        (0..count).for_each(|_| recorder.record(AT, collection(2)));
        for number in [0, 1, count - 1, count] {
            let records = recorder.after(number);
            let expected: Vec<u64> = (number + 1..=count).collect();
            assert_eq!((numbers(&records), records.missed), (expected, 0));
            assert_eq!(records.last, count);
        }
        let ahead = recorder.after(u64::MAX);
        assert_eq!(
            (ahead.records.len(), ahead.missed, ahead.last),
            (0, 0, u64::MAX)
        );
    }

    #[test]
    fn records_that_weigh_too_much_are_forgotten_oldest_first_and_counted() {
        let recorder = Arc::new(Recorder::default());
        let _recording = Recording::begin(&recorder);
        let each = 1 << 16;
        let long: Arc<str> = "x".repeat(each).into();
        for _ in 0..100 {
            let what = What::Slice {
                event_loop: 1,
                thread: 1,
                begin: AT,
                end: AT,
                name: Some(Arc::clone(&long)),
                is_round: false,
            };
            recorder.record(AT, what);
        }
        let records = recorder.after(0);
        let kept = records.records.len();
        assert!(kept * each <= RECORDED_BYTES_MAX && (kept + 2) * each > RECORDED_BYTES_MAX);
        assert_eq!(records.missed, 100 - kept as u64);
        assert_eq!(records.records[0].number, records.missed + 1);
    }

    #[test]
    fn a_reader_that_waits_is_woken_by_the_next_record() {
        let recorder = Arc::new(Recorder::default());
        let recording = Recording::begin(&recorder);
        assert!(!recorder.wait_after(0, Duration::ZERO));
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| recorder.wait_after(0, Duration::from_secs(20)));
            while recorder.ring().waiting == 0 {
                std::thread::yield_now();
            }
            recording.recorder().record(AT, collection(1));
            assert!(waits.join().expect("it ends"));
        });
        assert!(recorder.wait_after(0, Duration::ZERO));
    }
}
