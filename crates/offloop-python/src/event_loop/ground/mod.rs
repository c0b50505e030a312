//! The ground: what every floor of the loop stands on, and which knows none of them.
//!
//! Shape:      `cell.rs` state guarded by the interpreter's lock · `trampoline.rs` the way from C
//!             into Rust, `arguments.rs` what it brings, `slots.rs` types that are made of it ·
//!             `view.rs` the memory of an object · `address.rs` an address in little memory ·
//!             `errors.rs` exceptions · `threads.rs` a number for each thread · `versions.rs` the
//!             numbers of classes.
//! Invariants: the SAFETY notes of all floors rest on these, and name them in italics:
//!             *attached*: a thread that has a `Python` token, a `Bound`, or the loop's state by
//!             `GilCell::with`, is attached to the interpreter. No other thread changes reference
//!             counts or objects meanwhile.
//!             *called*: C calls a function of ours with its thread attached, and only as the
//!             table or the slot says that the function stands in.
//!             *receiver*: the descriptor or the type through which C has found the function has
//!             checked the class of the receiver.
//!             *lent*: C keeps the receiver and all arguments alive until the call returns.
//!             *held*: while a `View` is held, its object keeps so many bytes in that place.
//!             *collected*: the garbage collector visits objects on an attached thread, while no
//!             Python code runs. It never comes inside `GilCell::with`, where nothing is
//!             allocated that it counts.

pub(crate) mod address;
pub(crate) mod arguments;
pub(crate) mod cell;
pub(crate) mod errors;
pub(crate) mod slots;
pub(crate) mod threads;
pub(crate) mod trampoline;
pub(crate) mod versions;
pub(crate) mod view;
