//! The ground: what every floor of the loop stands on. It knows none of them.
//!
//! Shape:      `cell.rs` state guarded by the GIL · `trampoline.rs` the way from C into Rust,
//!             `arguments.rs` the arguments of a call from C, `slots.rs` types in C's layout ·
//!             `view.rs` the memory of an object · `address.rs` an address in little memory ·
//!             `errors.rs` exceptions · `threads.rs` a number for each thread · `versions.rs` the
//!             version numbers of classes.
//! Invariants: the SAFETY notes of all floors rest on these, and name them in italics:
//!             *attached*: a thread that has a `Python` token, a `Bound`, or the loop's state by
//!             `GilCell::with`, is attached to the interpreter. No other thread changes reference
//!             counts or objects meanwhile.
//!             *called*: C calls a function of ours with its thread attached, and with the
//!             arguments that the function's table or slot asks for.
//!             *receiver*: C has found the function through a descriptor or a type, which has
//!             checked the class of the receiver.
//!             *lent*: C keeps the receiver and all arguments alive until the call returns.
//!             *held*: while a `View` is held, its object keeps the bytes of the view in place.
//!             *collected*: the garbage collector visits objects on an attached thread, while no
//!             Python code runs. It never starts inside `GilCell::with`, where no object is
//!             allocated that the collector counts.

pub(crate) mod address;
pub(crate) mod arguments;
pub(crate) mod cell;
pub(crate) mod errors;
pub(crate) mod slots;
pub(crate) mod threads;
pub(crate) mod trampoline;
pub(crate) mod versions;
pub(crate) mod view;
