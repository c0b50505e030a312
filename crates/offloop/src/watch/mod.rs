//! What a watch needs of the system: so far the source lines of the program.
//!
//! What is decided and said of a stall is in [`offloop_core::watch`].
//!
//! Shape:      `source.rs` reads source files, within a bound of time.

mod source;

pub use source::{Allowed, FILE_BYTES_MAX, PATIENCE, SourceFiles};
