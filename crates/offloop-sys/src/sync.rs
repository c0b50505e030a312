//! Atomics, from the standard library or from loom.
//!
//! Every atomic of this crate comes from here, so that the model checker can take its place with
//! one compiler flag (`RUSTFLAGS="--cfg loom"`).

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
