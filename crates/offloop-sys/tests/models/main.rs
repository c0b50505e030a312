//! The rings, the handshakes and the sequence lock under a model checker: every interleaving, and
//! every value that the memory model lets a load return.
//!
//! Run with `make loom`: loom replaces the atomics of `sync.rs`. A missing release or acquire shows
//! as an access to a cell that the other side still owns, or as a frame that is not seen. A missing
//! fence shows as a deadlock, since a side that sleeps in these models sleeps for ever unless
//! woken.
#![cfg(loom)]
#![allow(missing_docs, reason = "a test")]

mod handshake_loom;
mod memory;
mod ring_loom;
mod running_loom;
