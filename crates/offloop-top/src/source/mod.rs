//! Where documents come from: a program that answers, or one that is read from outside.

mod foreign;
mod socket;

use std::io;
use std::time::{Duration, Instant};

use crate::state::Act;
use crate::trouble::Trouble;
use crate::words;
use foreign::Foreign;
use offloop_views::address;
use offloop_views::document::Document;
use socket::Attached;

/// Programs that are named where one is to be chosen.
const NAMED_MAX: usize = 16;
/// How long their own names are waited for, and how often it is looked for them.
const NAMES_WITHIN: Duration = Duration::from_millis(300);
const NAMES_LOOK: Duration = Duration::from_millis(5);

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
    for path in address::find(pid) {
        match Attached::connect(&path) {
            Ok(attached) if attached.pid() == pid => return Ok(Box::new(attached)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(Trouble::AnotherUser { pid });
            }
            // It was left behind, or is that of a container that has the number, too.
            _ => {}
        }
    }
    Ok(Box::new(Foreign::open(pid, version)?))
}

/// The program of this user that runs under offloop, if there is one alone.
fn the_only_one() -> Result<Box<dyn Source>, Trouble> {
    let sockets = address::all().into_iter();
    let mut found: Vec<Attached> = sockets
        .filter_map(|(_, path)| Attached::connect(&path).ok())
        .filter(|attached| attached.pid() != 0)
        .take(NAMED_MAX)
        .collect();
    if found.len() > 1 {
        return Err(Trouble::Several {
            names: names(&mut found),
        });
    }
    match found.pop() {
        Some(attached) => Ok(Box::new(attached)),
        None => Err(Trouble::NothingRuns),
    }
}

/// The programs, by the names that they have for themselves. One that says nothing in time is named
/// by how it was started.
fn names(found: &mut [Attached]) -> String {
    let mut names: Vec<Option<String>> = vec![None; found.len()];
    for each in &mut *found {
        // One that has ended has no name to tell.
        let _ = each.ask_for_document();
    }
    let until = Instant::now() + NAMES_WITHIN;
    while names.contains(&None) && Instant::now() < until {
        for (each, name) in found.iter_mut().zip(&mut names) {
            if name.is_none()
                && let Ok(Some(Answer::Document(document))) = each.poll()
            {
                *name = Some(document.process.program).filter(|name| !name.is_empty());
            }
        }
        std::thread::sleep(NAMES_LOOK);
    }
    let named = found.iter().zip(names).map(|(each, name)| {
        let pid = each.pid();
        let name = name.unwrap_or_else(|| foreign::program_of(pid));
        format!("{pid} ({})", words::clean(&name))
    });
    named.collect::<Vec<_>>().join(", ")
}
