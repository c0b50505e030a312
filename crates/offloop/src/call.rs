//! A call on its way into a lane, and the ways in which it can be turned away.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::arena::Block;
use crate::fault::Fault;
use crate::recorder::CallNote;

/// Bytes on their way to a worker.
#[derive(Debug, Default)]
pub struct Payload {
    /// What travels inside the ring.
    pub inline: Vec<u8>,
    /// What travels through the arena.
    pub blocks: Vec<Block>,
    /// Whether the first block takes the place of `inline`.
    pub in_block: bool,
}

impl Payload {
    pub(crate) fn bytes(&self) -> u64 {
        let blocks: u64 = self.blocks.iter().map(|block| block.address().len).sum();
        self.inline.len() as u64 + blocks
    }
}

/// Something that workers remember by its number: a function, or what functions use.
///
/// A worker gets it before the first call that needs it, and is told to forget it once the program
/// holds it no more.
#[derive(Debug)]
pub struct Definition {
    pub(crate) id: u32,
    pub(crate) payload: Payload,
    /// What a worker must know before it can use this one.
    pub(crate) needs: Vec<Arc<Definition>>,
    pub(crate) numbers: Arc<Numbers>,
}

impl Definition {
    /// Its number, never 0.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether it was made after definition `id`. Numbers wrap, so both must be recent.
    #[must_use]
    pub fn is_newer_than(&self, id: u32) -> bool {
        self.id.wrapping_sub(id).cast_signed() > 0
    }

    /// Its bytes.
    #[must_use]
    pub fn payload(&self) -> &Payload {
        &self.payload
    }
}

impl Drop for Definition {
    fn drop(&mut self) {
        self.numbers.give_back(self.id);
    }
}

/// The numbers of definitions. A number is given again only when its definition is no longer held,
/// which takes four billion further definitions.
#[derive(Debug, Default)]
pub(crate) struct Numbers(Mutex<Given>);

#[derive(Debug, Default)]
struct Given {
    last: u32,
    held: HashSet<u32>,
    /// Definitions that are no longer held, until the workers have been told.
    forgotten: Vec<u32>,
}

impl Numbers {
    fn lock(&self) -> MutexGuard<'_, Given> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(&self) -> u32 {
        let mut given = self.lock();
        loop {
            given.last = given.last.wrapping_add(1);
            let number = given.last;
            if number != 0 && given.held.insert(number) {
                return number;
            }
        }
    }

    fn give_back(&self, number: u32) {
        let mut given = self.lock();
        given.held.remove(&number);
        given.forgotten.push(number);
    }

    pub(crate) fn take_forgotten(&self) -> Vec<u32> {
        std::mem::take(&mut self.lock().forgotten)
    }
}

/// A call to submit.
#[derive(Debug)]
pub struct Call {
    /// The owner that fetches its outcome.
    pub owner: u8,
    /// The owner's name for it.
    pub token: u64,
    /// Whether any thread may resolve it when the owner does not come.
    pub any_thread: bool,
    /// Whether its items are wanted one by one: [`News::Arrived`](crate::News::Arrived).
    pub streams: bool,
    /// Its function, unless the payload holds it.
    pub function: Option<Arc<Definition>>,
    /// Definitions that its arguments need. What its function needs is in the function's own.
    pub needs: Vec<Arc<Definition>>,
    /// Its arguments.
    pub payload: Payload,
    /// What the program has changed of its surroundings since it began. The worker makes the same
    /// changes first, unless it has made these or later ones.
    pub surroundings: Option<Arc<Definition>>,
    /// What is noted of it, if calls are recorded.
    pub note: Option<Box<CallNote>>,
}

/// What a submitted call is known by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TaskAddress {
    /// Number of its fleet; 0 is none.
    pub(crate) fleet: u32,
    pub(crate) task: u64,
}

/// Limits of one call.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallOptions {
    /// From submission to the end.
    pub timeout: Option<Duration>,
    /// From the start of the call to its end.
    pub run_timeout: Option<Duration>,
    /// How many more times it is tried when its worker ends under it.
    pub retries: u32,
    /// Between interrupting it and killing its worker; the lane's unless set.
    pub grace: Option<Duration>,
}

/// Why a call was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// As many calls wait as may; it may be taken later.
    #[error("the queue is full: {queued} tasks wait, limit {limit}")]
    Full {
        /// Calls beyond those that the lane's workers can run at once.
        queued: u32,
        /// Calls that may wait.
        limit: u32,
        /// The call, given back.
        call: Box<Call>,
    },
    /// The lane's calls hold too many bytes for one more; it may be taken later.
    #[error("the queue is full: {held} bytes are held, {bytes} more exceed the limit {limit}")]
    FullBytes {
        /// Bytes of all calls that are not finished.
        held: u64,
        /// Bytes of this call.
        bytes: u64,
        /// Bytes that may be held.
        limit: u64,
        /// The call, given back.
        call: Box<Call>,
    },
    /// It can never be taken.
    #[error("a task of {bytes} bytes exceeds the queue's limit of {limit} bytes")]
    TooLarge {
        /// Bytes of this call.
        bytes: u64,
        /// Bytes that may be held.
        limit: u64,
    },
    /// The lane was closed.
    #[error("the lane is closed")]
    Closed,
    /// The lane has no workers, and gets none.
    #[error("{fault}")]
    Broken {
        /// Why.
        fault: Arc<Fault>,
    },
    /// This process is a fork of the process that made the lane.
    #[error("the lane belongs to the process that this one was forked from")]
    Forked,
}

/// A lane could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum LaneError {
    /// This process is a fork of the process that started the runtime.
    #[error("the runtime belongs to the process that this one was forked from")]
    Forked,
    /// The runtime has ended with the program.
    #[error("the runtime has stopped")]
    Stopped,
    /// The system refused.
    #[error("the system refused a descriptor or a thread: {source}")]
    System {
        /// What the system said.
        #[from]
        source: io::Error,
    },
}

/// An owner could not be added.
#[derive(Debug, thiserror::Error)]
pub enum OwnerError {
    /// No number is left.
    #[error("{count} event loops use the runtime at once, limit {limit}")]
    TooMany {
        /// Loops that there are.
        count: usize,
        /// Loops that there may be.
        limit: usize,
    },
    /// The system refused.
    #[error("the system refused a descriptor: {source}")]
    System {
        /// What the system said.
        #[from]
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_held_is_not_given_again() {
        let numbers = Arc::new(Numbers::default());
        let define = || Definition {
            id: numbers.take(),
            payload: Payload::default(),
            needs: Vec::new(),
            numbers: Arc::clone(&numbers),
        };
        let (first, second) = (define(), define());
        assert_eq!((first.id(), second.id()), (1, 2));
        numbers.lock().last = u32::MAX - 1;
        let last = define();
        assert_eq!(last.id(), u32::MAX);
        drop(second);
        assert_eq!(numbers.take_forgotten(), [2]);
        let next = define();
        assert_eq!(next.id(), 2);
        assert!(next.is_newer_than(last.id()));
        assert!(!last.is_newer_than(next.id()));
    }
}
