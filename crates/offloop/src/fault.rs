//! What fails in the processes of a fleet, as types: which step, which process, and the cause.
//!
//! A call that raises is no fault: its outcome is the exception. These are the failures that end
//! calls which could not run, or did not run to their end.
//!
//! Errors: `Violation`: a worker broke the protocol. `WorkerFault`: why a worker was ended.
//!         `Fault`: why a fleet has no workers. `StderrFault`: why their standard error is lost.

use std::any::Any;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use offloop_core::ItemError;
use offloop_sys::process::ExitStatus;
use offloop_sys::ring::RingCorrupt;

use crate::frame::{BlockAddress, FrameError};

/// How a worker broke the protocol.
#[derive(Debug, thiserror::Error)]
pub enum Violation {
    /// The positions in its ring are impossible.
    #[error(transparent)]
    Ring(#[from] RingCorrupt),
    /// A frame in its ring cannot be read.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It released the blocks of a call that holds none.
    #[error("released call {sequence}, not held")]
    NotHeld {
        /// The call's place in the order of the worker's calls.
        sequence: u64,
    },
    /// It completed a call that it does not run.
    #[error("call {sequence} is not the one it runs")]
    NotRunning {
        /// The call's place in the order of the worker's calls.
        sequence: u64,
    },
    /// It sent an item of a call of which only the outcome is wanted.
    #[error("an item of call {sequence}, which is no stream")]
    NoStream {
        /// The call's place in the order of the worker's calls.
        sequence: u64,
    },
    /// An item breaks the order or the window of its stream.
    #[error(transparent)]
    Item(#[from] ItemError),
    /// A completion says something unknown.
    #[error("unknown status {status}")]
    Status {
        /// The byte found.
        status: u8,
    },
    /// A result lies in a chunk that the worker did not pass.
    #[error("chunk {chunk} was never passed")]
    NoChunk {
        /// The chunk's number.
        chunk: u32,
    },
    /// A result lies outside of the worker's arena.
    #[error("no block {address:?} in its arena")]
    NoBlock {
        /// Where the result is said to lie.
        address: BlockAddress,
    },
    /// It said something on its socket out of turn.
    #[error("said {said} {instead}")]
    Said {
        /// What it said.
        said: &'static str,
        /// What was due.
        instead: &'static str,
    },
    /// Its socket cannot be read, or what it sent there.
    #[error("its socket: {source}")]
    Socket {
        /// What the system said.
        source: io::Error,
    },
}

/// Why a worker was ended, when it did not end by itself.
#[derive(Debug, thiserror::Error)]
pub enum WorkerFault {
    /// It broke the protocol.
    #[error("broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// It did not become ready in time.
    #[error("was not ready within {limit:?}")]
    NotReady {
        /// How long it was given.
        limit: Duration,
    },
    /// It closed its end of the channel and ran on.
    #[error("closed its channel")]
    ClosedChannel,
}

/// A worker that ended while it ran a call, or before it took one.
#[derive(Debug)]
pub struct Crash {
    /// Its process id.
    pub pid: i32,
    /// How it ended; `None` when that could not be found out.
    pub status: Option<ExitStatus>,
    /// Most memory that it held, in bytes; `None` when that could not be found out.
    pub peak_memory_bytes: Option<u64>,
    /// The end of what it wrote to its standard error.
    pub stderr_tail: String,
    /// What broke, when it was not the process itself that ended.
    pub fault: Option<WorkerFault>,
}

/// Why a fleet has no workers: what its calls end with, and what later ones are refused with.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The workers' program could not be run.
    #[error("the workers' program cannot be started: {source}")]
    StartZygote {
        /// What the system said.
        source: io::Error,
    },
    /// A worker's memory, sockets or pipes could not be made.
    #[error("a worker cannot be prepared: {source}")]
    PrepareWorker {
        /// What the system said.
        source: io::Error,
    },
    /// The zygote could not be asked for a worker.
    #[error("the zygote {pid} cannot be asked for a worker: {source}")]
    RequestFork {
        /// The zygote's process id.
        pid: i32,
        /// What the system said.
        source: io::Error,
    },
    /// The zygote could not fork.
    #[error("the zygote cannot fork: {source}")]
    Fork {
        /// The zygote's process id.
        pid: i32,
        /// What the system said in the zygote.
        source: io::Error,
    },
    /// The zygote ended before its setup was done.
    #[error("the workers' program {} in its setup", Ended(*status))]
    SetupEnded {
        /// The zygote's process id.
        pid: i32,
        /// How it ended; `None` when that could not be found out.
        status: Option<ExitStatus>,
    },
    /// The zygote's setup failed, and says why.
    #[error("{text}")]
    SetupFailed {
        /// The zygote's process id.
        pid: i32,
        /// What the zygote said.
        text: String,
    },
    /// A worker says that it cannot begin: its initializer failed.
    #[error("{text}")]
    BeginFailed {
        /// The worker's process id; 0 when the zygote had not named it yet.
        pid: i32,
        /// What the worker said.
        text: String,
    },
    /// A worker ended before it took a call.
    #[error("worker {} {}\n{}", .crash.pid, BeforeItsFirstCall(.crash), .crash.stderr_tail)]
    WorkerEnded {
        /// What is known of the worker.
        crash: Arc<Crash>,
    },
    /// Its starts failed, or its workers died, more often than is tolerated.
    #[error("the lane is broken: its workers could not be kept alive")]
    GivenUp,
    /// The lane's owner has ended its workers.
    #[error("its workers were terminated")]
    Terminated,
    /// The supervisor could not wait for events.
    #[error("the supervisor cannot wait: {source}")]
    SupervisorWait {
        /// What the system said.
        source: io::Error,
    },
    /// The supervisor panicked, which is a bug of ours.
    #[error("the supervisor panicked: {message}")]
    SupervisorPanic {
        /// What the panic said.
        message: String,
    },
}

/// Why the workers' standard error is not passed on any more. That ends no call.
#[derive(Debug, thiserror::Error)]
pub enum StderrFault {
    /// Its thread could not wait for events.
    #[error("the workers' standard error is not passed on any more: {source}")]
    Wait {
        /// What the system said.
        source: io::Error,
    },
    /// Its thread panicked, which is a bug of ours.
    #[error(
        "the workers' standard error is not passed on any more: its thread panicked: {message}"
    )]
    Panic {
        /// What the panic said.
        message: String,
    },
}

/// What a panic said.
pub(crate) fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").into()
}

/// How a process ended, as a part of a sentence.
struct Ended(Option<ExitStatus>);

impl fmt::Display for Ended {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(ExitStatus::Code(code)) => write!(out, "ended with exit code {code}"),
            Some(ExitStatus::Signal(signal)) => write!(out, "was ended by signal {signal}"),
            None => out.write_str("ended"),
        }
    }
}

/// What became of a worker that took no call.
struct BeforeItsFirstCall<'crash>(&'crash Crash);

impl fmt::Display for BeforeItsFirstCall<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.fault {
            Some(fault) => fault.fmt(out),
            None => write!(out, "{} before it took a call", Ended(self.0.status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(status: Option<ExitStatus>, fault: Option<WorkerFault>) -> String {
        let crash = Arc::new(Crash {
            pid: 7,
            status,
            peak_memory_bytes: None,
            stderr_tail: "last words".into(),
            fault,
        });
        Fault::WorkerEnded { crash }.to_string()
    }

    #[test]
    fn a_worker_that_took_no_call_is_told_with_its_end_and_its_last_words() {
        let killed = Some(ExitStatus::Signal(9));
        let limit = Duration::from_millis(50);
        let cases = [
            (text(None, None), "worker 7 ended before it took a call"),
            (
                text(Some(ExitStatus::Code(5)), None),
                "worker 7 ended with exit code 5 before it took a call",
            ),
            (
                text(killed, None),
                "worker 7 was ended by signal 9 before it took a call",
            ),
            (
                text(killed, Some(WorkerFault::NotReady { limit })),
                "worker 7 was not ready within 50ms",
            ),
            (
                text(killed, Some(Violation::Status { status: 9 }.into())),
                "worker 7 broke the protocol: unknown status 9",
            ),
        ];
        for (told, expected) in cases {
            assert_eq!(told, format!("{expected}\nlast words"));
        }
    }

    #[test]
    fn a_fault_of_the_system_keeps_its_source() {
        use std::error::Error;
        let refused = io::Error::from_raw_os_error(11);
        let fault = Fault::Fork {
            pid: 3,
            source: refused,
        };
        let source = fault.source().expect("the system's error");
        assert!(fault.to_string().contains(&source.to_string()));
    }
}
