//! From Python's arguments to a call of the runtime.

use std::sync::Arc;
use std::time::Duration;

use offloop::{Call, CallOptions, Definition, Payload};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::blocks::Allocate;
use crate::codec::{self, Receiver};
use crate::functions::{self, FunctionStatistics, KnownFunction};
use crate::home::Home;
use crate::lifted::Parts;
use crate::recording;

/// An encoded call, not yet submitted.
pub(crate) struct EncodedCall {
    pub(crate) call: Call,
    pub(crate) statistics: Option<Arc<FunctionStatistics>>,
}

/// Encodes a call of `callable` with `parts`; `known` is what workers know it as, if they do.
/// Owner and token are filled in at submission.
pub(crate) fn encode<'py>(
    py: Python<'py>,
    home: &Home,
    callable: &Bound<'py, PyAny>,
    known: Option<KnownFunction>,
    mut parts: Parts<'py>,
) -> PyResult<EncodedCall> {
    let known = match known {
        Some(known) => Some(known),
        None => functions::describe(py, &home.runtime, &home.allocate, callable)?,
    };
    parts.callable = known.is_none().then(|| callable.clone());
    let (payload, needs) = payload(py, &parts, &home.allocate)?;
    let (function, statistics) = match known {
        Some(known) => (Some(known.function), Some(known.statistics)),
        None => (None, functions::statistics_of_unnamed(py, callable)?),
    };
    let name = statistics.as_ref().map(|statistics| statistics.name());
    let note = recording::note_of(home, name);
    let call = Call {
        owner: 0,
        token: 0,
        any_thread: false,
        streams: false,
        function,
        needs,
        payload,
        surroundings: None,
        note,
    };
    Ok(EncodedCall { call, statistics })
}

fn payload<'py>(
    py: Python<'py>,
    parts: &Parts<'py>,
    allocate: &Allocate,
) -> PyResult<(Payload, Vec<Arc<Definition>>)> {
    let nothing = parts.callable.is_none() && parts.keywords.is_none() && parts.carried.is_none();
    if nothing && parts.arguments.is_empty() {
        return Ok((Payload::default(), Vec::new()));
    }
    let mut encoded = match parts.lift(py, allocate)? {
        Some(lifted) => codec::encode_lifted(py, lifted, allocate, Receiver::Worker)?,
        None => codec::encode(py, &parts.pickled(py)?, allocate, Receiver::Worker)?,
    };
    let needs = encoded.take_needs();
    Ok((encoded.into_payload(py, allocate)?, needs))
}

/// The limits of a call, checked.
pub(crate) fn options(
    timeout: Option<f64>,
    run_timeout: Option<f64>,
    retries: u32,
) -> PyResult<CallOptions> {
    Ok(CallOptions {
        timeout: timeout
            .map(|seconds| duration("timeout", seconds))
            .transpose()?,
        run_timeout: run_timeout
            .map(|seconds| duration("run_timeout", seconds))
            .transpose()?,
        retries,
        grace: None,
    })
}

/// Seconds as a duration.
pub(crate) fn duration(name: &str, seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|_| {
        PyValueError::new_err(format!(
            "{name} must be a number of seconds >= 0, not {seconds}"
        ))
    })
}
