//! One sample of each row of the table, for the tests, which have no other way to all of them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use offloop::arena::ArenaError;
use offloop::frame::{BlockAddress, FrameError};
use offloop::{
    Call, Crash, ExitStatus, Fault, LaneError, Outcome, OwnerError, Payload, SubmitError,
    Violation, WorkerFault,
};
use offloop_core::ItemError;
use pyo3::prelude::*;

use super::{not_allocated, not_finished, not_opened, not_owned, not_submitted};

/// (type::variant, exception) of each error that the runtime has.
#[pyfunction]
pub(crate) fn error_samples(py: Python<'_>) -> Vec<(String, Py<PyAny>)> {
    let mut samples = Vec::new();
    let mut add =
        |name: String, error: PyErr| samples.push((name, error.into_value(py).into_any()));
    for error in submit_errors() {
        add(
            format!("SubmitError::{}", variant(&error)),
            not_submitted(py, &error),
        );
    }
    for error in [LaneError::Forked, LaneError::Stopped, refused().into()] {
        add(
            format!("LaneError::{}", variant(&error)),
            not_opened(&error),
        );
    }
    let (count, limit) = (64, 64);
    for error in [OwnerError::TooMany { count, limit }, refused().into()] {
        add(
            format!("OwnerError::{}", variant(&error)),
            not_owned(&error),
        );
    }
    for error in arena_errors() {
        add(
            format!("ArenaError::{}", variant(&error)),
            not_allocated(py, &error),
        );
    }
    for fault in faults() {
        let name = format!("Fault::{}", variant(&fault));
        let error = SubmitError::Broken {
            fault: Arc::new(fault),
        };
        add(name, not_submitted(py, &error));
    }
    for fault in worker_faults() {
        let name = match &fault {
            WorkerFault::Violation(violation) => format!("Violation::{}", variant(violation)),
            fault => format!("WorkerFault::{}", variant(fault)),
        };
        add(name, lost(py, fault));
    }
    for outcome in outcomes() {
        let name = format!("Outcome::{}", variant(&outcome));
        // The other outcomes are no errors.
        if let Some(error) = not_finished(py, &outcome) {
            add(name, error);
        }
    }
    samples
}

/// The name of a value's variant, as its debugging text begins.
fn variant(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    let name: String = text.chars().take_while(|c| c.is_alphanumeric()).collect();
    name
}

fn refused() -> io::Error {
    io::ErrorKind::PermissionDenied.into()
}

fn lost(py: Python<'_>, fault: WorkerFault) -> PyErr {
    let outcome = Outcome::Lost {
        may_have_started: true,
        attempts: 2,
        crash: Arc::new(crash(Some(fault))),
    };
    not_finished(py, &outcome).expect("a lost call is not finished")
}

fn crash(fault: Option<WorkerFault>) -> Crash {
    Crash {
        pid: 7,
        status: Some(ExitStatus::Signal(9)),
        peak_memory_bytes: Some(3 << 20),
        stderr_tail: "last words".into(),
        fault,
    }
}

fn call() -> Box<Call> {
    Box::new(Call {
        owner: 0,
        token: 0,
        any_thread: false,
        streams: false,
        function: None,
        needs: Vec::new(),
        payload: Payload::default(),
        surroundings: None,
        note: None,
    })
}

fn submit_errors() -> Vec<SubmitError> {
    vec![
        SubmitError::Full {
            queued: 8,
            limit: 8,
            call: call(),
        },
        SubmitError::FullBytes {
            held: 90,
            bytes: 20,
            limit: 100,
            call: call(),
        },
        SubmitError::TooLarge {
            bytes: 200,
            limit: 100,
        },
        SubmitError::Closed,
        SubmitError::Broken {
            fault: Arc::new(Fault::Terminated),
        },
        SubmitError::Forked,
    ]
}

fn arena_errors() -> [ArenaError; 2] {
    [
        ArenaError::Full {
            wanted: 3,
            used: 1,
            limit: 2,
        },
        ArenaError::System {
            wanted: 3,
            source: refused(),
        },
    ]
}

fn faults() -> Vec<Fault> {
    vec![
        Fault::StartZygote { source: refused() },
        Fault::PrepareWorker { source: refused() },
        Fault::RequestFork {
            pid: 7,
            source: refused(),
        },
        Fault::Fork {
            pid: 7,
            source: refused(),
        },
        Fault::SetupEnded {
            pid: 7,
            status: Some(ExitStatus::Code(3)),
        },
        Fault::SetupFailed {
            pid: 7,
            text: "the setup raised".into(),
        },
        Fault::BeginFailed {
            pid: 7,
            text: "the initializer raised".into(),
        },
        Fault::WorkerEnded {
            crash: Arc::new(crash(None)),
        },
        Fault::GivenUp,
        Fault::Terminated,
        Fault::SupervisorWait { source: refused() },
        Fault::SupervisorPanic {
            message: "a bug".into(),
        },
    ]
}

fn worker_faults() -> Vec<WorkerFault> {
    let address = BlockAddress {
        chunk: 1,
        offset: 2,
        len: 3,
    };
    let corrupt = offloop_sys::ring::RingCorrupt {
        head: 1,
        tail: 2,
        frame: 3,
        capacity: 4,
    };
    let limit = Duration::from_millis(50);
    let (said, instead) = ("hello", "after its hello");
    let (number, expected) = (9, 2);
    let violations = [
        Violation::Ring(corrupt),
        Violation::Frame(FrameError::Kind { kind: 99 }),
        Violation::NotHeld { sequence: 5 },
        Violation::NotRunning { sequence: 5 },
        Violation::NoStream { sequence: 5 },
        Violation::Item(ItemError::Number { number, expected }),
        Violation::Status { status: 9 },
        Violation::NoChunk { chunk: 1 },
        Violation::NoBlock { address },
        Violation::Said { said, instead },
        Violation::Socket { source: refused() },
    ];
    let mut faults: Vec<_> = violations.into_iter().map(WorkerFault::Violation).collect();
    faults.extend([WorkerFault::NotReady { limit }, WorkerFault::ClosedChannel]);
    faults
}

fn outcomes() -> Vec<Outcome> {
    vec![
        Outcome::Expired { deadline: true },
        Outcome::Lost {
            may_have_started: true,
            attempts: 1,
            crash: Arc::new(crash(None)),
        },
        Outcome::Dropped,
        Outcome::Broken {
            fault: Arc::new(Fault::Terminated),
        },
    ]
}
