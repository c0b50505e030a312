//! Whose the next round is: ours, the program's, or the standard loop's.

use pyo3::prelude::*;

use super::super::ground::versions::version;
use super::lending;
use super::loop_core::LoopCore;
use super::overrides::{found, originals, seen_of};
use crate::names::function;

/// Whether the next round is ours: neither the program's, nor one over the containers that it was
/// lent.
///
/// This also warns a program that has replaced a method which the loop does not call.
#[cold]
pub(crate) fn rounds_are_ours(event_loop: &Bound<'_, LoopCore>) -> PyResult<bool> {
    let py = event_loop.py();
    let seen = seen_of(event_loop);
    let (known, lent) = event_loop
        .get()
        .state
        .with(py, |state| (state.overrides.handles, state.lent.is_some()));
    if seen.handles == 0 || seen.handles != known {
        look_at_handles(event_loop)?;
    }
    Ok(found(event_loop)?.rounds && (!lent || lending::take_back(event_loop)?))
}

/// Warns a program that has replaced `Handle._run` of the standard library: the loop does not call
/// that.
#[cold]
fn look_at_handles(event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
    let py = event_loop.py();
    let class = originals(py)?.handle.bind(py);
    let run = class.getattr(pyo3::intern!(py, "_run"))?;
    let seen = version(class);
    event_loop
        .get()
        .state
        .with(py, |state| state.overrides.handles = seen);
    function(py, "offloop._loop.handles", "check_run")?.call1((run,))?;
    Ok(())
}

/// A round of the standard library's `_run_once`, over the deque and the heap: if the program has
/// replaced the selector, or was lent what is to be run. False when the round is to be ours.
pub(crate) fn standard_round(event_loop: &Bound<'_, LoopCore>) -> PyResult<bool> {
    let py = event_loop.py();
    let (selector, lent) = event_loop
        .get()
        .state
        .with(py, |state| (state.overrides.selector, state.lent.is_some()));
    if !selector && (!lent || lending::take_back(event_loop)?) {
        return Ok(false);
    }
    let standard = originals(py)?.standard.bind(py);
    standard.call_method1(pyo3::intern!(py, "_run_once"), (event_loop,))?;
    Ok(true)
}
