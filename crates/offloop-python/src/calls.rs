//! From Python's arguments to a call of the runtime.

use std::sync::Arc;
use std::time::Duration;

use offloop::{Call, CallOptions};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::codec;
use crate::functions::{self, FunctionStatistics};
use crate::lane::Home;

/// An encoded call, not yet submitted.
pub(crate) struct EncodedCall {
    pub(crate) call: Call,
    pub(crate) statistics: Option<Arc<FunctionStatistics>>,
}

/// Encodes `callable(*arguments, **keywords)`; owner and token are filled in at submission.
pub(crate) fn encode(
    py: Python<'_>,
    home: &Home,
    callable: &Bound<'_, PyAny>,
    arguments: &Bound<'_, PyTuple>,
    keywords: Option<&Bound<'_, PyDict>>,
) -> PyResult<EncodedCall> {
    let known = functions::lookup(py, &home.runtime, &home.allocate, callable)?;
    let arguments_only =
        arguments.is_empty() && keywords.is_none_or(|keywords| keywords.is_empty());
    let payload = match &known {
        Some(_) if arguments_only => offloop::Payload::default(),
        Some(_) => {
            let object = functions::arguments(py, arguments, keywords)?;
            codec::encode(py, &object, &home.allocate)?.into_payload(py, &home.allocate)?
        }
        None => {
            let object = functions::arguments(py, arguments, keywords)?;
            let whole = PyTuple::new(py, [callable, &object])?;
            codec::encode(py, whole.as_any(), &home.allocate)?.into_payload(py, &home.allocate)?
        }
    };
    let (function, statistics) = known
        .map(|known| (known.function, known.statistics))
        .unzip();
    let call = Call {
        owner: 0,
        token: 0,
        any_thread: false,
        function,
        payload,
    };
    Ok(EncodedCall { call, statistics })
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
