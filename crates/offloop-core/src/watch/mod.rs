//! What a watch says of a stall: the record, its cause, the line that is to blame, the cure.
//!
//! A watchdog in `offloop` finds a stall (`event_loop/stall.rs` decides that), reads the stack and
//! asks the kernel; here the facts become words. Nothing here reads a file or a clock.
//!
//! Shape:      `record.rs` what is known of a stall · `evidence.rs` what is known of a
//!             thread · `cause.rs` why it does not go on.

mod cause;
mod evidence;
mod record;

pub use cause::{Cause, cause};
pub use evidence::{Evidence, GilHolder, Motion, Seen, ThreadState, Wait};
pub use record::{Entry, Origin, Quality, Stack, Stall, StalledThread, TaskFacts};
