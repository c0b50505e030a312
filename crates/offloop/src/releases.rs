//! How memory finds its way back: blocks that the other side has read are released to their owner.
//!
//! A result's blocks lie in the worker's arena. The holder of the result holds a lease on them.
//! When the lease drops, on any thread, the release is noted in a list; the next thread that drains
//! tells the worker. A call's blocks lie in the parent's arena; a worker that still uses them after
//! the call releases them later. Either side pushes a release as a frame into its ring, and owes it
//! while the ring is full.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use offloop_core::WorkerId;
use offloop_sys::event::Event;
use offloop_sys::fork;
use offloop_sys::ring::Producer;
use offloop_sys::segment::SegmentRing;

use crate::frame::{Head, Header, Kind};

/// Results that are not read any more; told to their workers at the next opportunity.
#[derive(Debug)]
pub(crate) struct Releases {
    /// Fleet, worker, and the sequence number of the call whose result it was.
    list: Mutex<Vec<(u32, WorkerId, u64)>>,
    /// Bytes released since the supervisor was last woken for them.
    bytes: AtomicU64,
    /// Wakes the supervisor.
    wake: Arc<Event>,
}

impl Releases {
    pub(crate) fn new(wake: &Arc<Event>) -> Self {
        Self {
            list: Mutex::default(),
            bytes: AtomicU64::new(0),
            wake: Arc::clone(wake),
        }
    }

    /// Takes what the workers have not been told of: fleet, worker, sequence number.
    pub(crate) fn take(&self) -> Vec<(u32, WorkerId, u64)> {
        std::mem::take(&mut *self.list.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Bytes of released results above which the supervisor is woken to tell the worker at once.
const RELEASE_AT_ONCE_BYTES: u64 = 1 << 20;

/// Keeps a result's blocks in the worker's arena until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    releases: Arc<Releases>,
    fleet: u32,
    worker: WorkerId,
    sequence: u64,
    bytes: u64,
    generation: u32,
}

impl Lease {
    pub(crate) fn new(
        releases: &Arc<Releases>,
        fleet: u32,
        worker: WorkerId,
        sequence: u64,
        bytes: u64,
    ) -> Arc<Self> {
        let releases = Arc::clone(releases);
        Arc::new(Self {
            releases,
            fleet,
            worker,
            sequence,
            bytes,
            generation: fork::generation(),
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.generation != fork::generation() {
            // In a forked child: the blocks are the parent's, and so may the lock be, for ever.
            return;
        }
        let Releases { list, bytes, wake } = &*self.releases;
        let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push((self.fleet, self.worker, self.sequence));
        drop(list);
        let total = bytes.fetch_add(self.bytes, Ordering::Relaxed) + self.bytes;
        if total >= RELEASE_AT_ONCE_BYTES {
            bytes.store(0, Ordering::Relaxed);
            // The event is ours and open: signalling it cannot fail.
            let _ = wake.signal();
        }
    }
}

/// Releases on their way into a ring, oldest first. A full one takes them later.
#[derive(Debug, Default)]
pub(crate) struct OwedReleases(VecDeque<u64>);

impl OwedReleases {
    /// One more: the blocks of call `sequence` are used no more.
    pub(crate) fn add(&mut self, sequence: u64) {
        self.0.push_back(sequence);
    }

    /// Pushes as many as the ring takes.
    pub(crate) fn push(&mut self, ring: &mut Producer<SegmentRing>) {
        while let Some(sequence) = self.0.front() {
            let header = Header {
                kind: Kind::Release,
                flags: 0,
                detail: 0,
                function: 0,
                sequence: *sequence,
            };
            if ring.try_push(&Head::new(header, 0, &[]).parts()).is_err() {
                return;
            }
            self.0.pop_front();
        }
    }
}
