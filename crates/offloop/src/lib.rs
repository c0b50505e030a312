//! The runtime that drives process lanes: it starts workers, feeds them, watches them, and hands
//! every outcome to the owner that asked for it.
//!
//! ```text
//! caller's thread   submit ─ encode ─ assign ─► ring ─► worker
//! owner's thread    drain  ◄────── ring ◄──────────────┘      an owner is an event loop, or the
//! supervisor thread expires, kills, restarts, accounts        resolver for plain threads
//! ```
//!
//! The files stand in floors, and none imports from a higher one (`tests/tidy` has the table):
//!
//! ```text
//! watch                               what looks at event loops
//! runtime                             what a user holds
//! lane, owner, crew, supervisor       what takes the lock
//! shared                              all fleets and mailboxes, under one lock
//! fleet                               workers that were started alike
//! channel, zygote, worker             one worker, from both sides
//! call, task, outcome, item, fault, notice, mailboxes, journal, recorder, snapshot, stderr
//! arena, releases                     memory for large payloads
//! causes, frame, launch, roster, …     what knows nothing else of ours
//! ```
//!
//! One lock guards the decisions ([`offloop_core::Pool`]); the thread that holds it executes them
//! at once. No Python is known here: payloads and outcomes are bytes, and a token names their
//! future.

#![deny(unsafe_code)]

pub mod arena;
mod call;
pub mod causes;
mod channel;
mod crew;
#[cfg(feature = "test-doors")]
mod doors;
mod fault;
mod fleet;
pub mod frame;
mod item;
mod journal;
mod lane;
pub mod launch;
pub mod loads;
mod mailboxes;
mod notice;
mod outcome;
mod owner;
pub mod recorder;
mod releases;
mod roster;
mod runtime;
mod shared;
mod snapshot;
mod stderr;
mod supervisor;
mod task;
mod tracker;
mod unresolved;
pub mod watch;
pub mod worker;
mod zygote;

pub use call::{
    Call, CallOptions, Definition, LaneError, OwnerError, Payload, SubmitError, TaskAddress,
};
pub use crew::{After, Taken, Turn};
pub use fault::{Crash, Fault, StderrFault, Violation, WorkerFault};
pub use item::{Item, Source};
pub use journal::{Entries, Entry, Event, EventCounts, JOURNAL_ENTRIES_MAX};
pub use lane::Lane;
pub use launch::{FleetConfig, Launch};
pub use notice::{News, Notice};
pub use offloop_core::{Close, LaneConfig, LaneStatistics, QueuePolicy};
pub use offloop_sys::process::{ExitStatus, Program};
pub use outcome::{Outcome, Returned, ReturnedBlocks, Status};
pub use owner::{Fetching, Owner};
pub use roster::CREW_MAX;
pub use runtime::Runtime;
pub use snapshot::{
    ArenaSnapshot, FleetSnapshot, LaneSnapshot, OwnerSnapshot, Snapshot, WorkerSnapshot,
    WorkerState,
};
pub use unresolved::Unresolved;
