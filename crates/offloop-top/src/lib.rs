//! `offloop top`: a program that runs, in a terminal.
//!
//! ```text
//! terminal ── keys ──► state ──► draw ──► terminal
//!                        ▲
//! another process ── source ── document
//! ```
//!
//! A picture is made of one document, which the program under view answers with, and of what the
//! documents before it have said. `state.rs` changes by keys and documents, `draw/` makes cells of
//! it; neither touches anything.

pub mod canvas;
pub mod draw;
pub mod history;
pub mod look;
pub mod print;
mod screen;
mod source;
pub mod state;
mod top;
pub mod tree;
mod trouble;
pub mod words;

pub use top::{Options, top};
pub use trouble::Trouble;
