//! The records: what happened, when, and to which thread or process.
//!
//! Units: times are of the monotonic clock; threads are the kernel's ids.

use std::sync::Arc;

use offloop_core::Instant;

use crate::journal::Event;

/// What happened.
#[derive(Clone, Debug)]
pub enum What {
    /// What a loop did with a stretch of its time, about 50 ms, or longer where it waited or was
    /// blocked.
    Load {
        /// The number of the loop.
        event_loop: u64,
        /// The thread that runs it.
        thread: u32,
        /// When the stretch began; it ended when this was written.
        begin: Instant,
        /// For how long the loop ran callbacks.
        busy_ns: u64,
        /// For how long it ran, with what it waited.
        running_ns: u64,
        /// The longest time between two looks at what is ready.
        longest_ns: u64,
    },
    /// A callback, or a round of callbacks, that took 2 ms or longer.
    Slice {
        /// The number of the loop.
        event_loop: u64,
        /// The thread that runs it.
        thread: u32,
        /// When it began.
        begin: Instant,
        /// When it ended.
        end: Instant,
        /// The coroutine of the task, or the callback.
        name: Option<Arc<str>>,
        /// A round of many callbacks, none of which took that long or is known.
        is_round: bool,
    },
    /// A call on a worker is over.
    Call {
        /// Where it was submitted, where it ran.
        note: Box<CallNote>,
        /// Its fleet.
        fleet: u32,
        /// How it ended.
        end: CallEnd,
    },
    /// A call on a thread of a pool is over.
    ThreadCall {
        /// The function.
        function: Arc<str>,
        /// The thread that submitted it.
        submitter: u32,
        /// The thread that ran it.
        thread: u32,
        /// When it was submitted.
        submitted: Instant,
        /// When it began.
        begin: Instant,
        /// When it ended.
        end: Instant,
        /// Whether it raised.
        raised: bool,
    },
    /// The interpreter collected garbage: a generation that is rarely collected, or for long.
    Collection {
        /// The thread that had to do it.
        thread: u32,
        /// When it began.
        begin: Instant,
        /// When it ended.
        end: Instant,
        /// Which generation.
        generation: u8,
        /// Objects that were found.
        collected: u64,
    },
    /// What the journal tells, too.
    Event(Event),
}

/// One record.
#[derive(Clone, Debug)]
pub struct Record {
    /// From 1, one more than the record before.
    pub number: u64,
    /// When it was written.
    pub at: Instant,
    /// What happened.
    pub what: What,
}

/// What is noted of a call on its way, if calls are recorded.
#[derive(Clone, Debug)]
pub struct CallNote {
    /// The function, if it has a name.
    pub function: Option<Arc<str>>,
    /// The thread that submitted it.
    pub thread: u32,
    /// When it was submitted.
    pub submitted: Instant,
    /// Its lane in its fleet.
    pub lane: u32,
    /// The worker that ran it last, or was to run it.
    pub worker: Option<i32>,
    /// When that worker started it.
    pub started: Option<Instant>,
    /// When the worker was through with it.
    pub finished: Option<Instant>,
}

impl CallNote {
    /// Of a call that is submitted now, by this thread.
    #[must_use]
    pub fn new(function: Option<Arc<str>>, thread: u32, submitted: Instant) -> Self {
        Self {
            function,
            thread,
            submitted,
            lane: 0,
            worker: None,
            started: None,
            finished: None,
        }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallEnd {
    /// With a value.
    Returned,
    /// With an exception, or a value that could not travel.
    Raised,
    /// It was cancelled.
    Cancelled,
    /// Its time was over.
    Expired,
    /// Its worker ended under it.
    Lost,
    /// A full queue gave it up.
    Dropped,
    /// No worker could be had.
    Broken,
}

impl CallEnd {
    /// A word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Returned => "returned",
            Self::Raised => "raised",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Lost => "lost",
            Self::Dropped => "dropped",
            Self::Broken => "broken",
        }
    }
}

/// What an allocation and an `Arc` cost beside their content.
const ALLOCATION_BYTES: usize = 48;

impl Record {
    /// About how much memory it keeps. Names that records share count for each.
    pub(super) fn weight(&self) -> usize {
        size_of::<Self>()
            + match &self.what {
                What::Load { .. } | What::Collection { .. } => 0,
                What::Slice { name, .. } => name.as_ref().map_or(0, |name| name.len()),
                What::Call { note, .. } => {
                    let name = note.function.as_ref().map_or(0, |name| name.len());
                    size_of::<CallNote>() + name
                }
                What::ThreadCall { function, .. } => function.len(),
                What::Event(event) => weight_of(event),
            }
    }
}

fn weight_of(event: &Event) -> usize {
    match event {
        Event::Crash { crash, .. } => ALLOCATION_BYTES + crash.stderr_tail.len(),
        Event::LoopStall { told } => {
            let stall = &told.stall;
            let entries = stall.stack.entries.iter();
            let names = entries.map(|entry| entry.filename.len() + entry.function.len());
            let native = stall.native.iter();
            let native = native.map(|entry| entry.function.len() + entry.file.len());
            let task = stall.task.iter().flat_map(|task| &task.awaited_by);
            names
                .chain(native)
                .chain(task.map(|waits| waits.len()))
                .map(|length| length + ALLOCATION_BYTES)
                .sum::<usize>()
                + size_of_val(&**told)
        }
        _ => 0,
    }
}
