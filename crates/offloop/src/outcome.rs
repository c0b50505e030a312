//! How a call ended, as its owner gets it.

use std::sync::Arc;

use crate::arena::MappedBlock;
use crate::fault::{Crash, Fault};

/// What the worker said of a call that it finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The payload is the value.
    Value = 0,
    /// The payload is the exception.
    Raised = 1,
    /// The call was stopped by an interrupt.
    Interrupted = 2,
    /// The call could not be decoded in the worker; the payload says why.
    Undecodable = 3,
    /// The value or the exception could not be encoded; the payload says why.
    Unencodable = 4,
}

impl Status {
    /// The status behind a byte of a frame.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        [
            Self::Value,
            Self::Raised,
            Self::Interrupted,
            Self::Undecodable,
            Self::Unencodable,
        ]
        .into_iter()
        .find(|status| *status as u8 == byte)
    }
}

/// Blocks of a result, which the worker keeps until this is dropped.
#[derive(Debug)]
pub struct ReturnedBlocks {
    pub(crate) blocks: Vec<MappedBlock>,
    pub(crate) lease: Arc<dyn Send + Sync + std::fmt::Debug>,
}

impl ReturnedBlocks {
    /// The blocks, in the order in which the worker named them.
    #[must_use]
    pub fn blocks(&self) -> &[MappedBlock] {
        &self.blocks
    }

    /// Keeps the blocks alive while a clone of it lives.
    #[must_use]
    pub fn lease(&self) -> Arc<dyn Send + Sync + std::fmt::Debug> {
        Arc::clone(&self.lease)
    }
}

/// What a worker made of a call that it ran to the end.
#[derive(Debug)]
pub struct Returned {
    /// What the worker said.
    pub status: Status,
    /// Inline payload.
    pub payload: Vec<u8>,
    /// Blocks, and whether the first one holds the payload.
    pub blocks: Option<(ReturnedBlocks, bool)>,
    /// How long it ran.
    pub run_ns: u64,
}

/// How a call ended.
#[derive(Debug)]
pub enum Outcome {
    /// The worker finished it.
    Returned(Returned),
    /// It was cancelled, and runs no more.
    Cancelled,
    /// It passed its deadline (`true`) or its run time limit (`false`), and runs no more.
    Expired {
        /// Whether the deadline passed, and not the limit of its run time.
        deadline: bool,
    },
    /// Its worker ended.
    Lost {
        /// Whether the call may have started.
        may_have_started: bool,
        /// How many times it was tried.
        attempts: u32,
        /// What is known of the worker.
        crash: Arc<Crash>,
    },
    /// A full queue made room for a newer call.
    Dropped,
    /// The lane cannot start workers.
    Broken {
        /// Why.
        fault: Arc<Fault>,
    },
}
