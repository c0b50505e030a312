//! The memory that one worker shares with its parent: two rings and a few words.
//!
//! ```text
//! 0      magic, version                       one cache line each from here on
//! 64     submission head      (worker stores)
//! 128    submission tail      (parent stores)
//! 192    completion head      (parent stores)
//! 256    completion tail      (worker stores)
//! 320    worker sleeps        (both)          see `handshake`
//! 384    interrupt_for        (parent stores) sequence number of the call to stop
//! 448    started_at_ns        (worker stores) when the current call started
//! 512    backlog, spin_ns     (parent stores) tasks wait in the parent; how long to spin
//! 576    nudge armed          (both)          the completion timer runs
//! 640    pending[64]          (both)          one word per owner: a completion waits for it
//! 4096   states[1024]         (both)          sequence number and state of each call in flight
//! 12288  taken[1024]          (parent stores) what each call's consumer has taken of its items
//! 20480  submission ring, 256 KiB; then the completion ring, 256 KiB
//! ```
//!
//! Units:      sequence numbers count the calls of this segment from 1.
//! Invariants: 1. The mapping is exactly `SEGMENT_BYTES` long and stays mapped.
//!             2. A state word holds `sequence << 2 | state`, at index `sequence % STATES`.
//! Threads:    each word says above which side stores it; all are atomics.
//! Source:     docs/format/segment.md.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use crate::memory::Mapping;
use crate::ring::{Consumer, Producer, RingMemory};
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Bytes of each ring. 256 KiB take 1,024 calls of 256 bytes, or 16 of the largest inline payload.
pub const RING_BYTES: usize = 256 * 1024;
/// Calls that may be in flight in one segment.
pub const STATES: usize = 1024;
/// Owners (event loops, and one for plain threads) that a program may have at once.
pub const OWNERS_MAX: usize = 64;
/// Bytes of the whole segment.
pub const SEGMENT_BYTES: usize = RINGS_AT + 2 * RING_BYTES;

const SUBMISSION_HEAD_AT: usize = 64;
const SUBMISSION_TAIL_AT: usize = 128;
const COMPLETION_HEAD_AT: usize = 192;
const COMPLETION_TAIL_AT: usize = 256;
const SLEEPING_AT: usize = 320;
const INTERRUPT_AT: usize = 384;
const STARTED_AT: usize = 448;
const BACKLOG_AT: usize = 512;
const SPIN_AT: usize = 516;
const NUDGE_AT: usize = 576;
const PENDING_AT: usize = 640;
const STATES_AT: usize = 4096;
const TAKEN_AT: usize = STATES_AT + STATES * 8;
const RINGS_AT: usize = TAKEN_AT + STATES * 8;
const _: () = assert!(RING_BYTES.is_power_of_two());
const _: () = assert!(PENDING_AT + OWNERS_MAX * 4 <= STATES_AT);
const _: () = assert!(RINGS_AT.is_multiple_of(4096) && SEGMENT_BYTES.is_multiple_of(4096));

/// First word of a segment: `offl`, and the version of its layout.
const MAGIC: u64 = 0x6f66_666c_0000_0002;

/// What a call in flight is doing, as its state word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallState {
    /// In the worker's ring; it may still be taken back.
    Fetched,
    /// The worker has started it.
    Started,
    /// The parent took it back.
    Revoked,
}

const FETCHED: u64 = 0;
const STARTED: u64 = 1;
const REVOKED: u64 = 2;

/// One side's view of a segment; cloning it clones a reference.
#[derive(Clone, Debug)]
pub struct Segment(Arc<Mapping>);

impl Segment {
    /// Creates the memory of a new worker.
    ///
    /// # Errors
    /// The system's.
    pub fn create() -> io::Result<Self> {
        let segment = Self(Arc::new(Mapping::create(
            c"offloop-channel",
            SEGMENT_BYTES,
        )?));
        // Backed by pages now: a shortage of memory must be an error here, not a SIGBUS later.
        // Kernels before 5.14 cannot do it and fault on first touch.
        match segment.0.populate(0, SEGMENT_BYTES) {
            Err(error) if error.raw_os_error() != Some(libc::EINVAL) => return Err(error),
            _ => {}
        }
        segment.word64(0).store(MAGIC, Ordering::Release);
        Ok(segment)
    }

    /// Maps the memory that a parent passed to its worker.
    ///
    /// # Errors
    /// The system's, or `InvalidData` when it is of another version.
    pub fn open(fd: OwnedFd) -> io::Result<Self> {
        let mapping = Mapping::new(fd)?;
        if mapping.len() != SEGMENT_BYTES {
            let message = format!(
                "segment of {} bytes, expected {SEGMENT_BYTES}",
                mapping.len()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let segment = Self(Arc::new(mapping));
        let magic = segment.word64(0).load(Ordering::Acquire);
        if magic != MAGIC {
            let message = format!("segment of version {magic:#x}, expected {MAGIC:#x}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(segment)
    }

    /// The descriptor to pass to the worker.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }

    /// The ring of calls: the parent's end.
    #[must_use]
    pub fn submission_producer(&self) -> Producer<SegmentRing> {
        Producer::new(SegmentRing {
            segment: self.clone(),
            side: Side::Submission,
        })
    }

    /// The ring of calls: the worker's end.
    #[must_use]
    pub fn submission_consumer(&self) -> Consumer<SegmentRing> {
        Consumer::new(SegmentRing {
            segment: self.clone(),
            side: Side::Submission,
        })
    }

    /// The ring of outcomes: the worker's end.
    #[must_use]
    pub fn completion_producer(&self) -> Producer<SegmentRing> {
        Producer::new(SegmentRing {
            segment: self.clone(),
            side: Side::Completion,
        })
    }

    /// The ring of outcomes: the parent's end.
    #[must_use]
    pub fn completion_consumer(&self) -> Consumer<SegmentRing> {
        Consumer::new(SegmentRing {
            segment: self.clone(),
            side: Side::Completion,
        })
    }

    /// 1 while the worker sleeps and wants a message on its socket.
    #[must_use]
    pub fn sleeping(&self) -> &AtomicU32 {
        self.word32(SLEEPING_AT)
    }

    /// Sequence number of the call that is to stop, 0 for none.
    #[must_use]
    pub fn interrupt_for(&self) -> &AtomicU64 {
        self.word64(INTERRUPT_AT)
    }

    /// When the current call started, on the monotonic clock.
    #[must_use]
    pub fn started_at_ns(&self) -> &AtomicU64 {
        self.word64(STARTED_AT)
    }

    /// Not 0 while tasks wait in the parent that this worker could run.
    #[must_use]
    pub fn backlog(&self) -> &AtomicU32 {
        self.word32(BACKLOG_AT)
    }

    /// How long the worker may look for its next call before it sleeps, in nanoseconds.
    #[must_use]
    pub fn spin_ns(&self) -> &AtomicU32 {
        self.word32(SPIN_AT)
    }

    /// 1 while the timer that tells the supervisor of undrained completions is armed.
    #[must_use]
    pub fn nudge_armed(&self) -> &AtomicU32 {
        self.word32(NUDGE_AT)
    }

    /// 1 while a completion of `owner` waits and `owner` has been told.
    #[must_use]
    pub fn pending(&self, owner: u8) -> &AtomicU32 {
        assert!(usize::from(owner) < OWNERS_MAX);
        self.word32(PENDING_AT + usize::from(owner) * 4)
    }

    /// What the consumer of call `sequence` has taken of its items, as a sum of their costs. A word
    /// for each call, so that nothing that is told of an earlier one is taken for this one's.
    #[must_use]
    pub fn taken(&self, sequence: u64) -> &AtomicU64 {
        self.word64(TAKEN_AT + Self::index(sequence) * 8)
    }

    /// Marks call `sequence` as handed over, before its frame is pushed.
    pub fn mark_fetched(&self, sequence: u64) {
        self.taken(sequence).store(0, Ordering::Relaxed);
        // Relaxed: the release store of the ring's tail publishes it with the frame.
        self.state(sequence)
            .store(sequence << 2 | FETCHED, Ordering::Relaxed);
    }

    /// The worker's claim to start call `sequence`; false when the parent took it back.
    #[must_use]
    pub fn try_start(&self, sequence: u64) -> bool {
        self.exchange(sequence, STARTED)
    }

    /// The parent's attempt to take call `sequence` back; false when the worker has started it.
    #[must_use]
    pub fn try_revoke(&self, sequence: u64) -> bool {
        self.exchange(sequence, REVOKED)
    }

    /// What call `sequence` is doing; `None` when the word belongs to another call.
    #[must_use]
    pub fn call_state(&self, sequence: u64) -> Option<CallState> {
        let word = self.state(sequence).load(Ordering::Acquire);
        if word >> 2 != sequence {
            return None;
        }
        match word & 3 {
            FETCHED => Some(CallState::Fetched),
            STARTED => Some(CallState::Started),
            REVOKED => Some(CallState::Revoked),
            _ => None,
        }
    }

    fn exchange(&self, sequence: u64, state: u64) -> bool {
        let (from, to) = (sequence << 2 | FETCHED, sequence << 2 | state);
        // Acquire and release: the loser of the race sees what the winner did before.
        let result =
            self.state(sequence)
                .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        result.is_ok()
    }

    fn state(&self, sequence: u64) -> &AtomicU64 {
        self.word64(STATES_AT + Self::index(sequence) * 8)
    }

    fn index(sequence: u64) -> usize {
        usize::try_from(sequence % STATES as u64).expect("below STATES")
    }

    fn word32(&self, at: usize) -> &AtomicU32 {
        debug_assert!(at + 4 <= SEGMENT_BYTES);
        // SAFETY: in bounds (invariant 1), aligned by construction of the offsets, and only ever
        // accessed as an atomic, in every process.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().add(at).cast()) }
    }

    fn word64(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at + 8 <= SEGMENT_BYTES);
        // SAFETY: as for `word32`.
        unsafe { AtomicU64::from_ptr(self.0.as_ptr().add(at).cast()) }
    }
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Submission,
    Completion,
}

/// One of the two rings of a segment.
#[derive(Clone, Debug)]
pub struct SegmentRing {
    segment: Segment,
    side: Side,
}

impl SegmentRing {
    fn data(&self, offset: u64, len: usize) -> *mut u8 {
        let offset = usize::try_from(offset).expect("inside the ring");
        assert!(offset.checked_add(len).is_some_and(|end| end <= RING_BYTES));
        let start = match self.side {
            Side::Submission => RINGS_AT,
            Side::Completion => RINGS_AT + RING_BYTES,
        };
        // SAFETY: in bounds of the mapping by the assert and invariant 1.
        unsafe { self.segment.0.as_ptr().add(start + offset) }
    }
}

impl RingMemory for SegmentRing {
    fn capacity(&self) -> u64 {
        RING_BYTES as u64
    }

    fn head(&self) -> &AtomicU64 {
        self.segment.word64(match self.side {
            Side::Submission => SUBMISSION_HEAD_AT,
            Side::Completion => COMPLETION_HEAD_AT,
        })
    }

    fn tail(&self) -> &AtomicU64 {
        self.segment.word64(match self.side {
            Side::Submission => SUBMISSION_TAIL_AT,
            Side::Completion => COMPLETION_TAIL_AT,
        })
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        let to = self.data(offset, bytes.len());
        // SAFETY: `to` has room (checked by `data`); the ring's invariant 3 makes these bytes
        // ours. A peer that breaks it can spoil bytes, never types: the reader validates.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) {
        let from = self.data(offset, bytes.len());
        // SAFETY: as for `write`, in the other direction; the copy is validated before use.
        unsafe { std::ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), bytes.len()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parent_and_worker_see_one_segment() {
        let parent = Segment::create().unwrap();
        let worker = Segment::open(parent.fd().try_clone_to_owned().unwrap()).unwrap();
        let mut submissions = parent.submission_producer();
        let mut calls = worker.submission_consumer();
        submissions.try_push(&[b"call"]).unwrap();
        let mut out = Vec::new();
        assert!(calls.try_pop(&mut out).unwrap());
        assert_eq!(out, b"call");
        parent.pending(63).store(1, Ordering::Relaxed);
        assert_eq!(worker.pending(63).load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_call_is_started_or_revoked_but_never_both() {
        let segment = Segment::create().unwrap();
        segment.mark_fetched(1);
        segment.mark_fetched(2);
        assert!(segment.try_start(1) && !segment.try_revoke(1));
        assert!(segment.try_revoke(2) && !segment.try_start(2));
        assert_eq!(segment.call_state(1), Some(CallState::Started));
        assert_eq!(segment.call_state(2), Some(CallState::Revoked));
        assert_eq!(segment.call_state(1 + STATES as u64), None);
    }

    #[test]
    fn a_new_call_has_no_items_that_were_taken() {
        let segment = Segment::create().unwrap();
        segment.taken(1).store(7, Ordering::Relaxed);
        segment.mark_fetched(2);
        assert_eq!(segment.taken(1).load(Ordering::Relaxed), 7);
        segment.mark_fetched(1 + STATES as u64);
        assert_eq!(segment.taken(1).load(Ordering::Relaxed), 0);
    }

    #[test]
    fn memory_of_another_size_is_refused() {
        let fd = crate::memory::create_shared(c"other", 4096).unwrap();
        assert!(Segment::open(fd).is_err());
    }
}
