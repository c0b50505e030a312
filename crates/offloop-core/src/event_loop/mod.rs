//! What an event loop decides, without the kernel and without Python.
//!
//! The loop itself is in `offloop-python`. It has the callbacks, the streams and the clock, and
//! asks here. Everything is generic over what waits, so it runs in tests with plain values and a
//! time that the test makes.
//!
//! Shape:      `timer_queue.rs` which timer is next · `descriptors.rs`, `interest.rs` what waits
//!             for a descriptor, and what the kernel is told of it · `poll_pace.rs` when the kernel
//!             is asked · `runs.rs` which run has the loop · `stall.rs` what stalls it, for a watch
//!             · `write_policy.rs` what is sent now, and when the program is to pause ·
//!             `stream_phases.rs` where a stream is with its connection and its sending ·
//!             `under_way.rs` which thread is in a callback of a stream · `load.rs`, `histogram.rs`
//!             how busy a loop is, and how late.

mod descriptors;
mod histogram;
mod interest;
mod load;
mod poll_pace;
mod runs;
mod stall;
mod stream_phases;
mod timer_queue;
mod under_way;
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
pub use stream_phases::{Life, Sending};
pub use timer_queue::{Timer, TimerQueue};
pub use under_way::{Admission, Missed, SendAgain, UnderWay};
pub use write_policy::{Gathering, Left, Outgoing, When, take_sent};
