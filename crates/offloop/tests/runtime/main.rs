//! The runtime and its workers, with real processes and without Python.
//!
//! The worker program is `tests/support/worker`; `fixture.rs` starts it and waits for what it does.

mod blocks;
mod chaos;
mod crashes;
mod crew;
mod fixture;
mod lies;
mod limits;
mod looking;
mod orphans;
mod owners;
mod starting;
mod stderr;
mod stopping;
mod streams;
mod submitting;
mod supervisor;
mod trimming;
mod zygotes;
