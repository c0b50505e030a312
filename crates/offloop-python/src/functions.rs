//! Functions that workers remember, so that a call sends a number instead of a pickle.
//!
//! A function of an importable module is sent once by its name. Any other is sent by value with
//! the globals that it uses, as they are at the time of the submission: before each call the
//! objects behind those names are compared with the ones that were sent. Where one of them can
//! change in place (a list, a dictionary), the function is pickled again and compared by content.
//!
//! Invariants: 1. An entry holds a reference to its function, so an address is never reused while
//!                it is a key.
//!             2. The tables are bounded; a full one starts anew.
//!             3. No Python code runs while they are locked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offloop::{Function, Payload, Runtime};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::codec::{self, Allocate};
use crate::names;

/// Functions in the table: far more than a program offloads, few enough to hold in memory.
const FUNCTIONS_MAX: usize = 4096;

/// How often a function ran, and for how long.
pub(crate) struct FunctionStatistics {
    name: String,
    calls: AtomicU64,
    run_ns: AtomicU64,
}

impl FunctionStatistics {
    pub(crate) fn record(&self, run_ns: u64) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.run_ns.fetch_add(run_ns, Ordering::Relaxed);
    }
}

/// A function as a call needs it.
#[derive(Clone)]
pub(crate) struct KnownFunction {
    pub(crate) function: Arc<Function>,
    pub(crate) statistics: Arc<FunctionStatistics>,
}

/// A dictionary or a cell, what it is asked for, and what it held.
type Place = (Py<PyAny>, Py<PyAny>, Py<PyAny>);

#[derive(Clone)]
enum Validity {
    /// Sent by name: always the same.
    Name,
    /// Sent by value: valid while each place holds the very object that was sent.
    Places(Arc<Vec<Place>>),
    /// Sent by value, and depends on something that can change in place.
    Volatile,
}

struct Entry {
    _object: Py<PyAny>,
    known: KnownFunction,
    validity: Validity,
}

#[derive(Default)]
struct Tables {
    generation: u32,
    by_object: HashMap<usize, Entry>,
    by_definition: HashMap<Vec<u8>, KnownFunction>,
}

static TABLES: Mutex<Option<Tables>> = Mutex::new(None);

/// The tables of this process: a forked child starts with none.
fn tables() -> MutexGuard<'static, Option<Tables>> {
    let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
    let generation = offloop_sys::fork::generation();
    if tables
        .as_ref()
        .is_none_or(|tables| tables.generation != generation)
    {
        // The parent's entries are leaked: their references may belong to a dead thread's work.
        std::mem::forget(tables.replace(Tables {
            generation,
            ..Tables::default()
        }));
    }
    tables
}

/// The number of `callable`, when it is something that workers remember; `None` when it is to be
/// pickled with its arguments (bound methods, partials, instances).
pub(crate) fn lookup(
    py: Python<'_>,
    runtime: &Runtime,
    allocate: &Allocate,
    callable: &Bound<'_, PyAny>,
) -> PyResult<Option<KnownFunction>> {
    let key = callable.as_ptr() as usize;
    let found = tables()
        .as_ref()
        .and_then(|tables| tables.by_object.get(&key))
        .map(|entry| (entry.known.clone(), entry.validity.clone()));
    // The table is free again: looking at places may run Python code.
    match found {
        Some((known, Validity::Name)) => return Ok(Some(known)),
        Some((known, Validity::Places(places))) if are_unchanged(py, &places) => {
            return Ok(Some(known));
        }
        _ => {}
    }
    describe(py, runtime, allocate, callable)
}

fn are_unchanged(py: Python<'_>, places: &[Place]) -> bool {
    places.iter().all(|(place, name, value)| {
        // SAFETY: attached; all three are live objects, and both results are borrowed (the cell's
        // is taken through the owning call). A missing name sets no error with `GetItem`.
        unsafe {
            if ffi::PyDict_Check(place.as_ptr()) != 0 {
                return ffi::PyDict_GetItem(place.as_ptr(), name.as_ptr()) == value.as_ptr();
            }
        }
        place
            .bind(py)
            .getattr("cell_contents")
            .is_ok_and(|now| now.is(value.bind(py)))
    })
}

fn describe(
    py: Python<'_>,
    runtime: &Runtime,
    allocate: &Allocate,
    callable: &Bound<'_, PyAny>,
) -> PyResult<Option<KnownFunction>> {
    let described = names::function(py, "_offloop_worker.codec", "describe")?.call1((callable,))?;
    if described.is_none() {
        return Ok(None);
    }
    let (name, definition, places): (String, Bound<'_, PyBytes>, Bound<'_, PyAny>) =
        described.extract()?;
    let validity = if places.is_none() {
        Validity::Volatile
    } else {
        let places: Vec<Place> = places.extract()?;
        if places.is_empty() {
            Validity::Name
        } else {
            Validity::Places(Arc::new(places))
        }
    };
    let bytes = definition.as_bytes();
    let mut guard = tables();
    let known = guard
        .as_ref()
        .and_then(|tables| tables.by_definition.get(bytes))
        .cloned();
    let known = match known {
        Some(known) => known,
        None => {
            drop(guard);
            let payload = definition_payload(py, &definition, allocate)?;
            let known = KnownFunction {
                function: runtime.define(payload),
                statistics: Arc::new(FunctionStatistics {
                    name,
                    calls: AtomicU64::new(0),
                    run_ns: AtomicU64::new(0),
                }),
            };
            guard = tables();
            known
        }
    };
    let tables = guard.as_mut().expect("made by `tables`");
    let mut dropped = Vec::new();
    if tables.by_definition.len() >= FUNCTIONS_MAX {
        tables.by_definition.clear();
    }
    if tables.by_object.len() >= FUNCTIONS_MAX {
        dropped.extend(tables.by_object.drain().map(|(_, entry)| entry));
    }
    tables.by_definition.insert(bytes.to_vec(), known.clone());
    let entry = Entry {
        _object: callable.clone().unbind(),
        known: known.clone(),
        validity,
    };
    dropped.extend(tables.by_object.insert(callable.as_ptr() as usize, entry));
    drop(guard);
    // Only now: dropping an entry may run Python code.
    drop(dropped);
    Ok(Some(known))
}

fn definition_payload(
    py: Python<'_>,
    definition: &Bound<'_, PyBytes>,
    allocate: &Allocate,
) -> PyResult<Payload> {
    codec::Encoded::from_pickle(definition.clone()).into_payload(py, allocate)
}

/// (name, calls, seconds) of every function that ran in a process lane.
#[pyfunction]
pub(crate) fn function_statistics(py: Python<'_>) -> PyResult<Bound<'_, PyList>> {
    let known: Vec<KnownFunction> = tables()
        .iter()
        .flat_map(|tables| tables.by_definition.values().cloned())
        .collect();
    let rows = known.iter().map(|known| {
        let FunctionStatistics {
            name,
            calls,
            run_ns,
        } = &*known.statistics;
        let seconds = std::time::Duration::from_nanos(run_ns.load(Ordering::Relaxed)).as_secs_f64();
        (name.clone(), calls.load(Ordering::Relaxed), seconds)
    });
    PyList::new(py, rows.collect::<Vec<_>>())
}
