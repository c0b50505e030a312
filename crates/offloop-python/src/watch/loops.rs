//! The loops that have joined the watch, by the numbers under which the watchdog has them.
//!
//! Invariants: no loop is kept alive.
//! Threads:    under the GIL, which the lock's holder never gives away.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;

#[derive(Default)]
struct Loops {
    by_number: HashMap<u64, Py<PyWeakrefReference>>,
    last: u64,
}

static LOOPS: Mutex<Option<Loops>> = Mutex::new(None);

fn loops() -> MutexGuard<'static, Option<Loops>> {
    LOOPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number of a loop, which it keeps. Those of loops that are gone are forgotten.
pub(super) fn number_of(event_loop: &Bound<'_, PyAny>) -> PyResult<u64> {
    let py = event_loop.py();
    let reference = PyWeakrefReference::new(event_loop)?.unbind();
    let mut loops = loops();
    let Loops { by_number, last } = loops.get_or_insert_default();
    let mut known = None;
    by_number.retain(|&number, reference| {
        let found = reference.bind(py).upgrade();
        if found.as_ref().is_some_and(|found| found.is(event_loop)) {
            known = Some(number);
        }
        found.is_some()
    });
    let number = known.unwrap_or_else(|| {
        *last += 1;
        by_number.insert(*last, reference);
        *last
    });
    Ok(number)
}

/// The loops that have joined a watch and still exist, with their numbers.
#[pyfunction]
pub(crate) fn watched_loops(py: Python<'_>) -> Vec<(u64, Bound<'_, PyAny>)> {
    let references: Vec<_> = {
        let loops = loops();
        let known = loops.iter().flat_map(|loops| &loops.by_number);
        known
            .map(|(number, reference)| (*number, reference.clone_ref(py)))
            .collect()
    };
    let mut found: Vec<_> = references
        .into_iter()
        .filter_map(|(number, reference)| Some((number, reference.into_bound(py).upgrade()?)))
        .collect();
    found.sort_by_key(|(number, _)| *number);
    found
}

/// The loop of this number, if it still exists.
pub(super) fn loop_of(py: Python<'_>, number: u64) -> Option<Bound<'_, PyAny>> {
    let loops = loops();
    let reference = loops.as_ref()?.by_number.get(&number)?.clone_ref(py);
    drop(loops);
    reference.into_bound(py).upgrade()
}

/// The number of a loop, for a reader that tells loops by these.
#[pyfunction]
pub(crate) fn loop_number(event_loop: &Bound<'_, PyAny>) -> PyResult<u64> {
    number_of(event_loop)
}

/// The loops that have a number and still exist.
#[pyfunction]
pub(crate) fn numbered_loops(py: Python<'_>) -> Vec<(u64, Bound<'_, PyAny>)> {
    let references: Vec<(u64, Py<PyWeakrefReference>)> = {
        let loops = loops();
        let known = loops.iter().flat_map(|loops| &loops.by_number);
        known
            .map(|(&number, reference)| (number, reference.clone_ref(py)))
            .collect()
    };
    let found = references.into_iter();
    found
        .filter_map(|(number, reference)| Some((number, reference.into_bound(py).upgrade()?)))
        .collect()
}
