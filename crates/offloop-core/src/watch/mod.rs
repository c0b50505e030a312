//! What a watch says of a stall: the record, its cause, the line that is to blame, the cure.
//!
//! A watchdog in `offloop` finds a stall (`event_loop/stall.rs` decides that), reads the stack and
//! asks the kernel; here the facts become words. Nothing here reads a file or a clock.
//!
//! The watchdog does this for each [`Stall`] that the policy reports:
//!
//! ```text
//! let diagnosis = Diagnosis::of(&stall, Catalogue::shipped(), &places, &mut sources);
//! culprits.handle(&stall, &diagnosis);
//! if let Some(words) = teller.tell(&stall, &diagnosis) { write(words) }
//! ```
//!
//! `places` says where the standard library and offloop are installed, `sources` gives the text of
//! files ([`Sources`]; a closure will do). [`Diagnosis::advice`] is what a program's callback gets.
//! What a comment allows is neither told nor counted; [`Diagnosis::is_allowed`] says so to the
//! callback. All reports of a stall go to both, also those without a stack. The catalogue is read
//! at its first use, which takes a millisecond: a watch does that as it starts.
//!
//! Shape:      `record.rs` what is known of a stall · `evidence.rs` what is known of a thread ·
//!             `cause.rs` why it does not go on · `places.rs`, `frameworks.rs`, `culprit.rs` whose
//!             code is to blame · `culprits.rs` the ranking · `text.rs`, `tokens.rs`, `calls.rs`,
//!             `site.rs` the source line · `allow.rs` the comment that silences ·
//!             `catalogue.toml`, `catalogue.rs`, `advice.rs` the cure · `diagnosis.rs` all of that
//!             · `words.rs` a block and a line · `teller.rs` which of them is said · `news.rs`
//!             what is said although there is too much · `looks.rs` when tasks are looked through.

mod advice;
mod allow;
mod calls;
mod catalogue;
mod cause;
mod culprit;
mod culprits;
mod diagnosis;
mod evidence;
mod frameworks;
mod looks;
mod news;
mod places;
mod record;
#[cfg(test)]
mod samples;
mod site;
mod teller;
mod text;
mod tokens;
mod words;

pub use advice::Advice;
pub use allow::{Allow, Allowance, allow};
pub use catalogue::{Blocks, Catalogue, CatalogueError, Cure, Fit, Function, Kind, Remedy};
pub use cause::{Cause, cause, cause_afterwards, cause_beside_delays, delay};
pub use culprit::{Blame, Culprit, Key};
pub use culprits::{Blocked, Culprits, Ranked};
pub use diagnosis::Diagnosis;
pub use evidence::{Evidence, GilHolder, Motion, Seen, ThreadState, Wait};
pub use looks::{EndedLooks, Look, Looks};
pub use news::News;
pub use places::{Owner, Places};
pub use record::{
    Entry, NativeEntry, Origin, Quality, Stack, Stall, StalledThread, TaskFacts, Told,
};
pub use teller::{KEYS_MAX as TOLD_MAX, Teller};
pub use text::{STATEMENT_LINES_MAX, Sources, Statement, Text};
pub use words::{COLUMNS_MIN, LINES_MAX, Style, block_of};
