//! The loop's time, which the program may have replaced.
//!
//! Units:      seconds.

use std::time::Duration;

use offloop_sys::clock::monotonic_ns;
use pyo3::IntoPyObjectExt as _;
use pyo3::prelude::*;

use super::found::Found;
use super::loop_core::LoopCore;
use super::overrides::{clock_is_ours, found, originals, time_is_real};
use crate::names::function;

/// The standard loop's bound of one wait: a day.
const WAIT_MAX_S: f64 = 24.0 * 3600.0;

/// Seconds of the monotonic clock.
pub(crate) fn monotonic_s() -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a float has 53 bits: 104 days in nanoseconds, and more beyond with microseconds"
    )]
    let ns = monotonic_ns() as f64;
    ns * 1e-9
}

/// The time of one wait: `seconds`, within the bound.
pub(crate) fn wait_of(seconds: f64) -> Duration {
    let seconds = seconds.clamp(0.0, WAIT_MAX_S);
    Duration::from_secs_f64(if seconds.is_nan() { 0.0 } else { seconds })
}

/// The loop's time, as the program sees it.
pub(crate) fn clock(event_loop: &Bound<'_, LoopCore>) -> PyResult<f64> {
    clock_as(event_loop, found(event_loop)?)
}

/// As `clock`, for a caller that knows already which methods are ours.
#[inline]
pub(crate) fn clock_as(event_loop: &Bound<'_, LoopCore>, found: Found) -> PyResult<f64> {
    let py = event_loop.py();
    if clock_is_ours(py, found)? {
        return Ok(monotonic_s());
    }
    time_object(event_loop)?.extract()
}

/// The loop's time as an object, asked from as deep a stack as the standard loop has.
pub(crate) fn time_object<'py>(event_loop: &Bound<'py, LoopCore>) -> PyResult<Bound<'py, PyAny>> {
    function(event_loop.py(), "offloop._loop.handles", "time_of")?.call1((event_loop,))
}

/// `loop.time()`: what the standard loop's method returns. It is called only if that may differ.
#[inline]
pub(crate) fn time<'py>(event_loop: &Bound<'py, LoopCore>) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    if found(event_loop)?.standard_clock && time_is_real(py)? {
        return monotonic_s().into_bound_py_any(py);
    }
    let standard = originals(py)?.standard.bind(py);
    standard.call_method1(pyo3::intern!(py, "time"), (event_loop,))
}
