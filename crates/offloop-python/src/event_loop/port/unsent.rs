//! What is sent at the end of a round: which streams have listed themselves, and when they do.
//!
//! Invariants: 1. A child that the program forks has nothing to send that its parent gathered.

use std::collections::VecDeque;

use offloop_core::event_loop::Gathering;
use offloop_sys::fork;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;

use super::chunk::Chunk;

/// Empty queues kept for streams that begin to write: as many as write in a busy round.
const SPARE_QUEUES: usize = 64;
/// Longer queues are not kept, in chunks.
const SPARE_QUEUE_MAX: usize = 16;

/// A queue of what a stream has to send.
type Queue = VecDeque<Chunk>;

/// Streams that wait for the end of the round, and queues for what they send.
pub(crate) struct Unsent {
    gathering: Gathering,
    /// The number of forks before the streams' queues were last known to be ours.
    forks: u32,
    /// Streams that have something to send at the end of the round.
    unsent: VecDeque<Py<PyAny>>,
    /// Empty queues for streams that begin to write.
    spare: Vec<Queue>,
}

impl Default for Unsent {
    fn default() -> Self {
        Self {
            gathering: Gathering::Off,
            forks: fork::generation(),
            unsent: VecDeque::new(),
            spare: Vec::new(),
        }
    }
}

impl Unsent {
    /// Whether what is written now waits for the end of the round.
    #[inline]
    pub(crate) fn gathering(&self) -> Gathering {
        self.gathering
    }

    /// The loop runs rounds that have an end, or does not.
    pub(crate) fn set_running(&mut self, running: bool) {
        if self.gathering != Gathering::Off {
            self.gathering = if running {
                Gathering::Running
            } else {
                Gathering::Idle
            };
        }
    }

    /// The program has the loop gather writes, or not.
    pub(crate) fn set_gathers(&mut self, gathers: bool, running: bool) {
        self.gathering = match (gathers, running) {
            (false, _) => Gathering::Off,
            (true, false) => Gathering::Idle,
            (true, true) => Gathering::Running,
        };
    }

    /// A stream has something to send at the end of the round.
    pub(crate) fn list(&mut self, stream: Py<PyAny>) {
        self.unsent.push_back(stream);
    }

    #[inline]
    pub(crate) fn is_listed(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// The next stream that has something to send.
    pub(crate) fn next(&mut self) -> Option<Py<PyAny>> {
        self.unsent.pop_front()
    }

    /// In a child that was forked since the last look: the streams that the parent has listed.
    #[inline]
    pub(crate) fn take_of_parent(&mut self) -> Option<VecDeque<Py<PyAny>>> {
        if self.gathering == Gathering::Off {
            return None;
        }
        let forks = fork::generation();
        let is_child = std::mem::replace(&mut self.forks, forks) != forks;
        is_child.then(|| std::mem::take(&mut self.unsent))
    }

    /// An empty queue.
    #[inline]
    pub(crate) fn queue(&mut self) -> Queue {
        self.spare.pop().unwrap_or_default()
    }

    /// Keeps an empty queue for the next stream, if it is worth it.
    #[inline]
    pub(crate) fn keep_queue(&mut self, queue: Queue) {
        if queue.capacity() <= SPARE_QUEUE_MAX && self.spare.len() < SPARE_QUEUES {
            self.spare.push(queue);
        }
    }

    /// Everything that is kept, for the caller to drop.
    pub(crate) fn take_all(&mut self) -> impl Sized + use<> {
        (
            std::mem::take(&mut self.unsent),
            std::mem::take(&mut self.spare),
        )
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let mut unsent = self.unsent.iter();
        unsent.try_for_each(|stream| visit.call(stream))
    }
}
