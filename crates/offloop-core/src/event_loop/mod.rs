//! What an event loop decides, without the kernel and without Python.
//!
//! The loop itself is in `offloop-python`. It has the callbacks, the streams and the clock, and
//! asks here. Everything is generic over what waits, so it runs in tests with plain values and a
//! time that the test makes.
//!
//! Shape:      `timer_queue.rs` which timer is next · `descriptors.rs`, `interest.rs` who waits for
//!             a descriptor, and what the kernel is told of it · `poll_pace.rs` when the kernel is
//!             asked · `runs.rs` which run has the loop · `stall.rs` what stalls it · `write_policy.rs` what is sent now, and
//!             when the program is to pause · `load.rs`, `histogram.rs` how busy a loop is, and how
//!             late.

mod descriptors;
mod histogram;
mod interest;
mod load;
mod poll_pace;
mod runs;
mod stall;
mod timer_queue;
mod write_policy;

pub use descriptors::{Change, Descriptors, Gone, Refused, Target};
pub use histogram::Histogram;
pub use interest::{Interest, Kernel, Side, Watcher};
pub use load::LoopLoad;
pub use poll_pace::PollPace;
pub use runs::{Lost, NotRelieved, RunNumber, Runs, Turn};
pub use stall::{
    Activity, Moment, NextLook, Slice, StallLimits, StallPolicy, StallReport, Stalled,
};
pub use timer_queue::{Timer, TimerQueue};
pub use write_policy::{Gathering, Left, Outgoing, When, take_sent};
