//! The attributes of handles, private ones included: libraries and test suites read them.
//!
//! Source:     asyncio/events.py.

use pyo3::IntoPyObjectExt as _;
use pyo3::prelude::*;

use super::reference::Handle;
use super::timer::TimerHandle;
use super::types::THREAD_SAFE;
use crate::names::function;

type Attribute = PyResult<Option<Py<PyAny>>>;

/// `get_context()` and `_context`.
pub(super) fn context(py: Python<'_>, handle: &Handle) -> PyResult<Py<PyAny>> {
    handle.own_context(py).map(Bound::unbind)
}

/// `when()` and `_when`.
pub(super) fn when(py: Python<'_>, timer: &TimerHandle) -> PyResult<Py<PyAny>> {
    match timer.given(py) {
        Some(given) => Ok(given),
        None => timer.when(py).into_py_any(py),
    }
}

pub(super) fn callback(py: Python<'_>, handle: &Handle) -> Attribute {
    Ok(handle.called(py))
}

pub(super) fn args(py: Python<'_>, handle: &Handle) -> Attribute {
    handle.args(py)
}

pub(super) fn cancelled(py: Python<'_>, handle: &Handle) -> PyResult<bool> {
    Ok(handle.is_cancelled(py))
}

pub(super) fn scheduled(py: Python<'_>, timer: &TimerHandle) -> PyResult<bool> {
    Ok(timer.is_scheduled(py))
}

/// For the standard loop's rounds, which take timers out of the heap.
pub(super) fn set_scheduled(
    py: Python<'_>,
    timer: &TimerHandle,
    scheduled: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let scheduled = scheduled.is_truthy()?;
    timer.set_scheduled(py, scheduled);
    Ok(())
}

pub(super) fn event_loop(py: Python<'_>, handle: &Handle) -> PyResult<Py<PyAny>> {
    Ok(handle.event_loop(py))
}

pub(super) fn traceback(py: Python<'_>, handle: &Handle) -> Attribute {
    Ok(handle.origin(py, |origin| Some(origin.traceback.as_ref()?.clone_ref(py))))
}

/// In debug mode: the text of the handle from before it was cancelled or had run.
pub(super) fn text(py: Python<'_>, handle: &Handle) -> Attribute {
    Ok(handle.origin(py, |origin| Some(origin.text.as_ref()?.clone_ref(py))))
}

/// `__class__`: `isinstance` takes a handle for one of the standard class.
pub(super) fn class(py: Python<'_>, handle: &Handle) -> PyResult<Py<PyAny>> {
    let is_timer = TimerHandle::from_object(handle.to_object(py).into_bound(py)).is_ok();
    let name = match (is_timer, handle.is_shared(py)) {
        (true, _) => "TimerHandle",
        (false, true) => THREAD_SAFE,
        (false, false) => "Handle",
    };
    function(py, "asyncio.events", name).map(Bound::unbind)
}
