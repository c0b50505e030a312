//! What became of a call, in Python's terms: its value, or the exception that it is.

use offloop::{Item, Outcome, Returned, ReturnedBlocks, Status};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::codec::{self, Decoded};
use crate::error::not_finished;
use crate::names;

/// The value of an outcome, or the exception that it is. A cancelled call has neither: its future
/// is cancelled, too.
pub(crate) fn translate<'py>(py: Python<'py>, outcome: Outcome) -> PyResult<Bound<'py, PyAny>> {
    match outcome {
        Outcome::Returned(returned) => decode(py, returned),
        other => {
            Err(not_finished(py, &other).unwrap_or_else(|| PyRuntimeError::new_err("cancelled")))
        }
    }
}

fn decode(py: Python<'_>, returned: Returned) -> PyResult<Bound<'_, PyAny>> {
    let Returned {
        status,
        payload,
        blocks,
        ..
    } = returned;
    let value = decode_payload(py, &payload, blocks)?;
    match status {
        Status::Value => Ok(value),
        Status::Raised | Status::Interrupted => Err(build("raised", value)),
        Status::Undecodable | Status::Unencodable => Err(build("undecodable_call", value)),
    }
}

/// The value of an item.
pub(crate) fn translate_item(py: Python<'_>, item: Item) -> PyResult<Bound<'_, PyAny>> {
    decode_payload(py, &item.payload, item.blocks)
}

fn decode_payload<'py>(
    py: Python<'py>,
    payload: &[u8],
    blocks: Option<(ReturnedBlocks, bool)>,
) -> PyResult<Bound<'py, PyAny>> {
    if payload.is_empty() && blocks.is_none() {
        return Ok(py.None().into_bound(py));
    }
    let lease = blocks.as_ref().map(|(blocks, _)| blocks.lease());
    let received = codec::Received {
        inline: payload,
        blocks: blocks.as_ref().map_or(&[], |(blocks, _)| blocks.blocks()),
        in_block: blocks.as_ref().is_some_and(|(_, in_block)| *in_block),
        copy: false,
    };
    codec::decode(py, &received, lease.as_ref(), &mut refuse_needs)
        .and_then(Decoded::into_value)
        .map_err(|error| {
            let error = error.into_value(py).into_bound(py).into_any();
            build("undecodable_result", error)
        })
}

/// The exception that a function of `offloop._outcomes` makes of a value.
fn build(name: &str, value: Bound<'_, PyAny>) -> PyErr {
    let function = names::function(value.py(), "offloop._outcomes", name);
    let built = function.and_then(|function| function.call1((value,)));
    built.map_or_else(|error| error, PyErr::from_value)
}

/// A worker defines nothing in its program.
fn refuse_needs(_numbers: Vec<u32>) -> PyResult<()> {
    Err(PyRuntimeError::new_err(
        "a worker's outcome names definitions",
    ))
}
