//! The watch: a thread that finds loops which stall, and says so.
//!
//! Shape:      `pulse.rs` what a loop's thread writes down · `watched.rs` one loop, and its stalls ·
//!             `watchdog.rs` the thread.

mod pulse;
mod watchdog;
mod watched;

pub use pulse::{Ended, Line, Pulse};
pub use watchdog::{Audience, Facts, Question, Reader, Watchdog};
pub use watched::{Slice, Subject};
