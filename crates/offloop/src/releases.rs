//! How memory finds its way back: blocks that the other side has read are released to their owner.
//!
//! A result's blocks lie in the worker's arena. The holder of the result holds a lease on them.
//! When the lease drops, on any thread, the release is noted in a list; the next thread that drains
//! tells the worker. A call's blocks lie in the parent's arena; a worker that still uses them after
//! the call releases them later. The items of a stream are like results, each with its own lease.
//! Either side pushes a release as a frame into its ring, and owes it while the ring is full.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use offloop_core::WorkerId;
use offloop_sys::event::Event;
use offloop_sys::fork;
use offloop_sys::ring::Producer;
use offloop_sys::segment::SegmentRing;

use crate::frame::{Head, Header, Kind};

/// Whose blocks are released: those of a call's result or arguments, or those of one of its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lent {
    /// Sequence number of the call.
    pub(crate) sequence: u64,
    /// Number of the item; 0 for the call itself.
    pub(crate) item: u64,
}

impl Lent {
    /// The blocks of a call's result, or of its arguments.
    pub(crate) const fn of_call(sequence: u64) -> Self {
        Self { sequence, item: 0 }
    }
}

/// Results that are not read any more; told to their workers at the next opportunity.
#[derive(Debug)]
pub(crate) struct Releases {
    /// Fleet, worker, and what its blocks were.
    list: Mutex<Vec<(u32, WorkerId, Lent)>>,
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

    /// Takes what the workers have not been told of: fleet, worker, what was released.
    pub(crate) fn take(&self) -> Vec<(u32, WorkerId, Lent)> {
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
    lent: Lent,
    bytes: u64,
    generation: u32,
}

impl Lease {
    pub(crate) fn new(
        releases: &Arc<Releases>,
        fleet: u32,
        worker: WorkerId,
        lent: Lent,
        bytes: u64,
    ) -> Arc<Self> {
        let releases = Arc::clone(releases);
        Arc::new(Self {
            releases,
            fleet,
            worker,
            lent,
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
        list.push((self.fleet, self.worker, self.lent));
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
pub(crate) struct OwedReleases(VecDeque<Lent>);

impl OwedReleases {
    /// One more: these blocks are used no more.
    pub(crate) fn add(&mut self, lent: Lent) {
        self.0.push_back(lent);
    }

    /// Pushes as many as the ring takes.
    pub(crate) fn push(&mut self, ring: &mut Producer<SegmentRing>) {
        while let Some(lent) = self.0.front() {
            let header = Header {
                kind: Kind::Release,
                flags: 0,
                detail: 0,
                function: 0,
                sequence: lent.sequence,
            };
            let head = Head::new(header, 0, &[]);
            let [first, more] = head.parts();
            let item = lent.item.to_ne_bytes();
            let item = if lent.item == 0 { &[] } else { item.as_slice() };
            if ring.try_push(&[first, more, item]).is_err() {
                return;
            }
            self.0.pop_front();
        }
    }
}
