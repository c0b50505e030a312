//! Where documents come from: a program that answers, or one that is read from outside.

mod foreign;
mod socket;

use std::io;
use std::time::Duration;

use crate::state::Act;
use crate::trouble::Trouble;
use foreign::Foreign;
use offloop_views::address;
use offloop_views::document::Document;
use socket::Attached;

/// Programs that are named where one is to be chosen.
const NAMED_MAX: usize = 16;

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
    let Some(pid) = pid else {
        return the_only_one();
    };
    if let Some(path) = address::find(pid) {
        match Attached::connect(pid, &path) {
            Ok(attached) => return Ok(Box::new(attached)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Trouble::AnotherUser { pid });
            }
            // It was left behind; a program without offloop may have the number by now.
            Err(_) => {}
        }
    }
    Ok(Box::new(Foreign::open(pid, version)?))
}

/// The program of this user that runs under offloop, if there is one alone.
fn the_only_one() -> Result<Box<dyn Source>, Trouble> {
    let sockets = address::all().into_iter();
    let mut found: Vec<Attached> = sockets
        .filter_map(|(pid, path)| Attached::connect(pid, &path).ok())
        .take(NAMED_MAX)
        .collect();
    if found.len() > 1 {
        let names = found.iter().map(|each| {
            let pid = each.pid();
            format!("{pid} ({})", foreign::program_of(pid))
        });
        return Err(Trouble::Several {
            names: names.collect::<Vec<_>>().join(", "),
        });
    }
    match found.pop() {
        Some(attached) => Ok(Box::new(attached)),
        None => Err(Trouble::NothingRuns),
    }
}
