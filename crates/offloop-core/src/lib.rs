//! The decisions of a process-lane runtime and of an event loop, as pure state machines.
//!
//! This crate decides and touches nothing: it has no clock, no I/O, no thread and no unsafe code.
//! Its centre is [`Pool`], which decides for one fleet of interchangeable worker processes: which
//! task is admitted, which worker gets it, when it expires, what becomes of it when its worker
//! ends, and when a worker is started or retired. A driver feeds it events with the time at which
//! they happened and carries out the actions that it asks for.
//!
//! What an event loop decides is in [`event_loop`]: when it polls, which timer is next, what it has
//! watched, what it sends. What is said of a loop that stalls is in [`watch`].
//!
//! The pattern is the same in every state machine here: commands and `handle_*` functions change
//! the state, [`Pool::poll_action`] hands out what is to be done, and [`Pool::poll_timeout`] says
//! when [`Pool::handle_timeout`] is due. The driver drains the actions after every call.

#![forbid(unsafe_code)]

mod action;
mod backoff;
mod estimate;
pub mod event_loop;
mod idle_pages;
mod ids;
mod inbox;
mod item_flow;
mod lane;
pub mod limits;
mod pool;
#[cfg(test)]
mod random;
mod ranges;
mod restart;
mod slab;
mod task;
mod time;
mod timers;
mod trim;
pub mod watch;
mod worker;

pub use action::{Action, Expiry, Outcome, SubmitError};
pub use backoff::Backoff;
pub use estimate::RunEstimate;
pub use idle_pages::IdlePages;
pub use ids::{LaneId, TaskId, WorkerId};
pub use inbox::{Inbox, Next, Stop};
pub use item_flow::{Announce, ITEMS_MAX, Inflow, ItemError, Outflow, WINDOW, item_cost};
pub use lane::{Close, LaneConfig, LaneStatistics, QueuePolicy};
pub use pool::{FleetStatistics, Pool, PoolConfig};
pub use ranges::{FreeError, PAGE_BYTES, RangeAllocator};
pub use restart::{RestartIntensity, RestartWindow, Verdict};
pub use task::TaskOptions;
pub use time::Instant;
pub use timers::Timers;
pub use trim::{Fill, TRIM_KEEP_BYTES, TRIM_WINDOW, TrimPolicy};
