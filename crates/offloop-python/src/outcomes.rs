//! What became of a call, in Python's terms: its value, or the exception that it is.

use offloop::{Outcome, Status};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::codec::{self, Decoded};
use crate::names;

/// The value of an outcome, or the exception that it is.
pub(crate) fn translate<'py>(py: Python<'py>, outcome: Outcome) -> PyResult<Bound<'py, PyAny>> {
    let (status, payload, blocks) = match outcome {
        Outcome::Returned {
            status,
            payload,
            blocks,
            ..
        } => (status, payload, blocks),
        Outcome::Room => return Ok(py.None().into_bound(py)),
        other => return Err(failure(py, other)),
    };
    if status == Status::Value && payload.is_empty() && blocks.is_none() {
        return Ok(py.None().into_bound(py));
    }
    let lease = blocks.as_ref().map(|(blocks, _)| blocks.lease());
    let received = codec::Received {
        inline: &payload,
        blocks: blocks.as_ref().map_or(&[], |(blocks, _)| blocks.blocks()),
        in_block: blocks.as_ref().is_some_and(|(_, in_block)| *in_block),
        copy: false,
    };
    let decoded = codec::decode(py, &received, lease.as_ref(), &mut refuse_needs)
        .and_then(Decoded::into_value);
    let build = |name: &str, value: Bound<'py, PyAny>| {
        let built = names::function(py, "offloop._outcomes", name).and_then(|f| f.call1((value,)));
        built.map_or_else(|error| error, PyErr::from_value)
    };
    match (status, decoded) {
        (Status::Value, Ok(value)) => Ok(value),
        (Status::Raised | Status::Interrupted, Ok(value)) => Err(build("raised", value)),
        (Status::Undecodable | Status::Unencodable, Ok(value)) => {
            Err(build("undecodable_call", value))
        }
        (_, Err(error)) => Err(build(
            "undecodable_result",
            error.into_value(py).into_bound(py).into_any(),
        )),
    }
}

/// A worker defines nothing in its program.
fn refuse_needs(_numbers: Vec<u32>) -> PyResult<()> {
    Err(PyRuntimeError::new_err(
        "a worker's outcome names definitions",
    ))
}

/// The exception of a call that no worker finished.
fn failure(py: Python<'_>, outcome: Outcome) -> PyErr {
    let build = || -> PyResult<Bound<'_, PyAny>> {
        let function = |name| names::function(py, "offloop._outcomes", name);
        match outcome {
            Outcome::Expired { deadline } => function("expired")?.call1((deadline,)),
            Outcome::Dropped => function("dropped")?.call0(),
            Outcome::Broken { reason } => function("broken")?.call1((reason,)),
            Outcome::Lost {
                may_have_started,
                attempts,
                crash,
            } => {
                let crash = crash.map(|crash| {
                    let (code, signal) = match crash.status {
                        Some(offloop::ExitStatus::Code(code)) => (Some(code), None),
                        Some(offloop::ExitStatus::Signal(signal)) => (None, Some(signal)),
                        None => (None, None),
                    };
                    let peak = crash.peak_memory_bytes;
                    (
                        crash.pid,
                        code,
                        signal,
                        peak,
                        crash.stderr_tail,
                        crash.reason,
                    )
                });
                function("crashed")?.call1((may_have_started, attempts, crash))
            }
            Outcome::Returned { .. } | Outcome::Cancelled | Outcome::Room => {
                unreachable!("handled by the callers")
            }
        }
    };
    build().map_or_else(|error| error, PyErr::from_value)
}
