//! The runtime that drives process lanes: it starts workers, feeds them, watches them, and hands
//! every outcome to the one who asked for it.
//!
//! ```text
//! caller's thread   submit ─ encode ─ assign ─► ring ─► worker
//! owner's thread    drain  ◄────── ring ◄──────────────┘      an owner is an event loop, or the
//! supervisor thread expires, kills, restarts, accounts        resolver for plain threads
//! ```
//!
//! One lock guards the decisions ([`offloop_core::Pool`]); whoever holds it executes them at once.
//! No Python is known here: payloads and outcomes are bytes, and a token says whose they are.

#![deny(unsafe_code)]

pub mod arena;
mod call;
mod channel;
mod crew;
#[cfg(feature = "test-doors")]
mod doors;
mod fault;
mod fleet;
pub mod frame;
mod lane;
pub mod launch;
mod notice;
mod outcome;
mod owners;
mod releases;
mod roster;
mod runtime;
mod stderr;
mod supervisor;
mod tracker;
mod unresolved;
pub mod worker;
mod zygote;

pub use call::{
    Call, CallOptions, Definition, LaneError, OwnerError, Payload, SubmitError, TaskAddress,
};
pub use crew::{After, Taken, Turn};
pub use fault::{Crash, Fault, Violation, WorkerFault};
pub use lane::Lane;
pub use launch::{FleetConfig, Launch};
pub use notice::{News, Notice};
pub use offloop_core::{Close, LaneConfig, LaneStatistics, QueuePolicy};
pub use offloop_sys::process::{ExitStatus, Program};
pub use outcome::{Outcome, Returned, ReturnedBlocks, Status};
pub use owners::{Fetching, Owner};
pub use roster::CREW_MAX;
pub use runtime::Runtime;
pub use unresolved::Unresolved;
