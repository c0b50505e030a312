//! Handles: callbacks that wait to be run, and that may be cancelled.
//!
//! A handle is made for every callback, so it costs as little as an object can: its memory comes
//! from a free list, up to two arguments lie in it, and it is called without building a tuple.
//! To Python it looks like `asyncio.Handle` or `asyncio.TimerHandle`, private names included, and
//! says so when `isinstance` asks.
//!
//! Shape:      `raw.rs` one C struct for both types; `TimerHandle` adds the time and is ordered by
//!             it (`timer.rs`, `order.rs`) · `reference.rs` what the loop does with a handle ·
//!             `memory.rs` where their memory comes from, `collected.rs` how they end ·
//!             `sharing.rs` handles that two threads use · `context.rs` the contexts of callbacks ·
//!             `run.rs` a handle's run · `class.rs`, `attributes.rs`, `types.rs` what Python sees.
//! Threads:    any attached one.
//! Source:     asyncio/events.py for what a handle can do.

mod attributes;
pub(crate) mod class;
mod collected;
pub(crate) mod context;
pub(crate) mod memory;
mod order;
mod raw;
mod reference;
pub(crate) mod run;
pub(crate) mod sharing;
mod timer;
mod types;

pub(crate) use reference::{Callback, Handle, Owner};
pub(crate) use timer::TimerHandle;
