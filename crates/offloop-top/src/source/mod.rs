//! Where documents come from: a program that answers, or one that is read from outside.

mod foreign;
mod socket;

use std::time::Duration;

use crate::document::Document;
use crate::state::Act;
use crate::trouble::Trouble;
use foreign::Foreign;

/// What came.
#[derive(Debug)]
pub enum Answer {
    /// A new document.
    Document(Box<Document>),
    /// What came of an act, in words.
    Said(String),
}

/// A program under view. Nothing here waits.
pub trait Source {
    /// Asks for a document.
    ///
    /// # Errors
    /// Why none can come any more.
    fn ask_for_document(&mut self) -> Result<(), Trouble>;

    /// Asks the program to do something.
    ///
    /// # Errors
    /// As above.
    fn ask_for_act(&mut self, act: &Act) -> Result<(), Trouble>;

    /// What has come since.
    ///
    /// # Errors
    /// As above.
    fn poll(&mut self) -> Result<Option<Answer>, Trouble>;

    /// How long an answer has been waited for; `None` if none is.
    fn waits_for(&self) -> Option<Duration>;

    /// The process.
    fn pid(&self) -> u32;

    /// Why it is not asked to do anything.
    fn only_read(&self) -> Option<String>;
}

/// Finds the program to view, by its process id. `version` is the reader's own Python, in the form
/// of `PY_VERSION_HEX`: another one's memory is not understood.
///
/// # Errors
/// Why there is none that can be viewed.
pub fn open(pid: Option<u32>, version: u64) -> Result<Box<dyn Source>, Trouble> {
    let pid = pid.ok_or(Trouble::NothingRuns)?;
    Ok(Box::new(Foreign::open(pid, version)?))
}
