//! The ground: what every floor of the loop stands on, and which knows none of them.
//!
//! Shape:      `cell.rs` state guarded by the interpreter's lock · `trampoline.rs` methods in C's
//!             calling convention · `view.rs` the memory of an object · `address.rs` an address
//!             in little memory · `errors.rs` exceptions · `threads.rs` a number for each thread ·
//!             `versions.rs` the numbers of classes.

pub(crate) mod address;
pub(crate) mod cell;
pub(crate) mod errors;
pub(crate) mod threads;
pub(crate) mod trampoline;
pub(crate) mod versions;
pub(crate) mod view;
