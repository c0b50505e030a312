//! Why a program cannot be viewed, or not any more: one line, and the status that `offloop top`
//! ends with.

use std::io;

use thiserror::Error;

/// Why there is nothing to see.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Trouble {
    /// No process was named, and none of offloop's runs.
    #[error("no program of yours runs under offloop: name the process id of a Python program")]
    NothingRuns,
    /// No process was named, and there are several.
    #[error("several programs run under offloop, name one: {names}")]
    Several {
        /// Their process ids and names.
        names: String,
    },
    /// There is no process of this number.
    #[error("there is no process {pid}")]
    NoProcess {
        /// As it was asked for.
        pid: u32,
    },
    /// It is not a Python program.
    #[error("process {pid} ({program}) runs no Python that can be read")]
    NoPython {
        /// The process.
        pid: u32,
        /// Its name.
        program: String,
    },
    /// Its Python is another one.
    #[error("process {pid} runs Python {theirs}, and this is Python {ours}: use an offloop there")]
    Version {
        /// The process.
        pid: u32,
        /// Its minor version.
        theirs: String,
        /// The reader's.
        ours: String,
    },
    /// It is a build, or a release, whose memory is not known.
    #[error("process {pid} cannot be read: {reason}")]
    Unreadable {
        /// The process.
        pid: u32,
        /// Why.
        reason: String,
    },
    /// Its offloop speaks another version of the document.
    #[error(
        "process {pid} speaks version {theirs} of the document, and this offloop version {ours}"
    )]
    Document {
        /// The process.
        pid: u32,
        /// Its version.
        theirs: u32,
        /// The version that is read here.
        ours: u32,
    },
    /// What it answers is no document.
    #[error("process {pid} answers with something else than a document: {reason}")]
    Nonsense {
        /// The process.
        pid: u32,
        /// What is wrong with it.
        reason: String,
    },
    /// It answers no question of this viewer's.
    #[error("process {pid} answers no question now: {reason}")]
    Refused {
        /// The process.
        pid: u32,
        /// Its own words.
        reason: String,
    },
    /// It belongs to another user.
    #[error("process {pid} belongs to another user: run as that user or as root")]
    AnotherUser {
        /// The process.
        pid: u32,
    },
    /// The system does not let one process read another.
    #[error("the system does not let process {pid} be read: {cure}")]
    Forbidden {
        /// The process.
        pid: u32,
        /// What to do.
        cure: String,
    },
    /// It has ended.
    #[error("process {pid} has ended")]
    Ended {
        /// The process.
        pid: u32,
    },
    /// It does not answer.
    #[error("process {pid} has not answered for {seconds:.0} s: it may be stopped")]
    Silent {
        /// The process.
        pid: u32,
        /// How long it was waited for.
        seconds: f64,
    },
    /// The terminal, or the system, failed.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl Trouble {
    /// The exit status: 2 if a process is to be named, 3 if there is nothing that can be read, 4 if
    /// that is not allowed, 5 if it has ended or does not answer, 1 otherwise.
    #[must_use]
    pub fn status(&self) -> i32 {
        match self {
            Self::NothingRuns | Self::Several { .. } => 2,
            Self::NoProcess { .. }
            | Self::NoPython { .. }
            | Self::Version { .. }
            | Self::Unreadable { .. }
            | Self::Document { .. }
            | Self::Nonsense { .. }
            | Self::Refused { .. } => 3,
            Self::AnotherUser { .. } | Self::Forbidden { .. } => 4,
            Self::Ended { .. } | Self::Silent { .. } => 5,
            Self::System(_) => 1,
        }
    }
}
