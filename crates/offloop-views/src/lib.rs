//! The views: what a person sees of a program while it runs, also while its event loop is stuck.
//!
//! ```text
//! offloop top ── private socket ─┐
//! a browser ──── loopback page ──┤ engine ── document ◄── snapshot, journal, watch   no GIL
//!                                └─ asks ──► reader ──► interpreter: tasks, loops    waits for it
//! ```
//!
//! Every view reads one [`document`]. The engine makes it without the interpreter. What only the
//! interpreter knows comes from the last reading, whose age is told.
//!
//! Shape:      `document.rs` what is told · `program.rs` what is asked of the program ·
//!             `building.rs` the one from the other · `measured.rs` what the kernel says ·
//!             `reading.rs` what the interpreter says · `answers.rs` what viewers get ·
//!             `address.rs`, `socket.rs` the private socket · `page/` the live page, `timeline.rs` its
//!             past · `views.rs` the engine.

#![forbid(unsafe_code)]

pub mod address;
mod answers;
mod building;
pub mod document;
mod measured;
mod page;
pub mod program;
mod reading;
mod socket;
mod timeline;
mod views;

pub use page::PageOptions;
pub use views::Views;
