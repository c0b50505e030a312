//! Futures of the loop: the standard library's C class, made without a detour.
//!
//! Source:     asyncio/base_events.py.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};

use super::state::LoopPort;

/// The names among which the standard loop looks the class up at each call, and the C class.
struct Classes {
    futures: Py<PyDict>,
    future: Py<PyType>,
}

static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();

fn classes(py: Python<'_>) -> PyResult<&'static Classes> {
    CLASSES.get_or_try_init(py, || {
        let native = py.import("_asyncio")?.getattr("Future")?;
        Ok(Classes {
            futures: py.import("asyncio.futures")?.dict().unbind(),
            future: native.cast_into::<PyType>()?.unbind(),
        })
    })
}

/// `{"loop": event_loop}`, for C classes, which take it apart and do not keep it.
pub(crate) fn keywords(py: Python<'_>, event_loop: &Bound<'_, LoopPort>) -> PyResult<Py<PyDict>> {
    let place = &event_loop.get().keywords;
    let kept = place.with(py, |kept| kept.as_ref().map(|kept| kept.clone_ref(py)));
    if let Some(kept) = kept {
        return Ok(kept);
    }
    let keywords = PyDict::new(py);
    keywords.set_item(intern!(py, "loop"), event_loop)?;
    let keywords = keywords.unbind();
    let again = keywords.clone_ref(py);
    let old = place.with(py, |kept| kept.replace(again));
    drop(old);
    Ok(keywords)
}

/// A future of this loop.
pub(crate) fn future<'py>(
    py: Python<'py>,
    event_loop: &Bound<'py, LoopPort>,
) -> PyResult<Bound<'py, PyAny>> {
    let classes = classes(py)?;
    let class = classes.futures.bind(py).get_item(intern!(py, "Future"))?;
    let class = class.ok_or_else(|| PyTypeError::new_err("asyncio.futures has no Future"))?;
    let keywords = keywords(py, event_loop)?;
    let keywords = keywords.bind(py);
    if class.is(&classes.future) {
        class.call((), Some(keywords))
    } else {
        // A class of the program's, which may keep the keywords that it gets.
        class.call((), Some(&keywords.copy()?))
    }
}
