//! Connections: what is read for their protocols, and what they write.
//!
//! The transport is the standard library's, in Python; it does what happens once for each
//! connection. A `Stream` is its native half.
//!
//! Shape:      `stream.rs`, `state.rs`, `uncommon.rs` what a stream knows · `receiver.rs` the
//!             protocol to call · `reading.rs`, `feeding.rs` from the socket to the protocol ·
//!             `writing.rs`, `flushing.rs` from `write` to the socket · `transport_calls.rs`
//!             methods in C's calling convention · `calling.rs` what a stream calls ·
//!             `under_way.rs` the mark of a call that has not returned.

mod calling;
pub(crate) mod feeding;
pub(crate) mod flushing;
pub(crate) mod reading;
pub(crate) mod receiver;
mod state;
pub(crate) mod stream;
pub(crate) mod transport_calls;
mod uncommon;
mod under_way;
pub(crate) mod writing;
