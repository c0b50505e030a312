//! What the program changes while it runs, noticed as it submits a call.
//!
//! Its users and groups are asked for (`offloop_sys::identity`). `sys.path` is compared object by
//! object with what it held when it was last seen; the dictionary inside of `os.environ` is watched
//! by the interpreter from Python 3.12 on, and compared in the same way before. Every way to change
//! them puts another object into the list or the dictionary.
//!
//! Invariants: 1. What was seen is kept referenced, so that no new object has its address.
//!             2. The lock is never held while Python code runs.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offloop::Definition;
use offloop_sys::fork;
use offloop_sys::identity::Identity;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::codec;
use crate::home::Home;
use crate::names;
use crate::watching::{self, ENVIRONMENT};

/// The objects behind `sys.path` and `os.environ` at one time.
struct Seen {
    path: Py<PyAny>,
    entries: Vec<Py<PyAny>>,
    environ: Py<PyAny>,
    /// The dictionary inside of `environ`, unless the program has put something else in its place.
    data: Option<Py<PyDict>>,
    pairs: Vec<(Py<PyAny>, Py<PyAny>)>,
    /// The interpreter says when that dictionary changes.
    watched: bool,
    /// The dictionaries of the modules `sys` and `os`.
    sys: Py<PyDict>,
    os: Py<PyDict>,
}

#[derive(Default)]
struct State {
    generation: u32,
    seen: Option<Seen>,
    /// What has changed since this process was first looked at, for its workers.
    newest: Option<Arc<Definition>>,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

fn state() -> MutexGuard<'static, Option<State>> {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    let generation = fork::generation();
    if state
        .as_ref()
        .is_none_or(|state| state.generation != generation)
    {
        // The parent's memory is not to be given back here, and its workers are not ours.
        std::mem::forget(state.replace(State {
            generation,
            ..State::default()
        }));
    }
    state
}

/// What workers are to follow, if the program has changed its path or environment at all.
pub(crate) fn newest(py: Python<'_>, home: &Home) -> PyResult<Option<Arc<Definition>>> {
    {
        let mut guard = state();
        let state = guard.as_mut().expect("made by `state`");
        if let Some(seen) = &state.seen
            && seen.is_current(py)
        {
            return Ok(state.newest.clone());
        }
    }
    let seen = Seen::now(py)?;
    let first = state().as_ref().is_none_or(|state| state.seen.is_none());
    let newest = if first {
        None
    } else {
        let pickle = names::function(py, "_offloop_worker.surroundings", "look_again")?.call0()?;
        let pickle = pickle.cast_into::<PyBytes>()?;
        let payload = codec::Encoded::from_pickle(pickle).into_payload(py, &home.allocate)?;
        Some(home.runtime.define(payload, Vec::new()))
    };
    let old = {
        let mut guard = state();
        let state = guard.as_mut().expect("made by `state`");
        // A thread that looked at the same time may have been later, and is then believed.
        let later = |other: &Arc<Definition>| {
            newest
                .as_ref()
                .is_none_or(|new| other.is_newer_than(new.id()))
        };
        if !state.newest.as_ref().is_some_and(later) {
            state.newest.clone_from(&newest);
        }
        state.seen.replace(seen)
    };
    // Only now: dropping what was seen may run Python code.
    drop(old);
    Ok(state().as_ref().and_then(|state| state.newest.clone()))
}

impl Seen {
    fn now(py: Python<'_>) -> PyResult<Self> {
        let (sys, os) = (py.import("sys")?, py.import("os")?);
        let path = sys.getattr(intern!(py, "path"))?;
        let entries = path.try_iter()?.map(|entry| Ok(entry?.unbind()));
        let entries = entries.collect::<PyResult<_>>()?;
        let environ = os.getattr(intern!(py, "environ"))?;
        let data = environ
            .getattr(intern!(py, "_data"))
            .unwrap_or_else(|_| environ.clone());
        let data = data.cast_into::<PyDict>().ok();
        // Before it is looked at, so that no change is missed.
        let watched = data.as_ref().is_some_and(watching::begin::<ENVIRONMENT>);
        let pairs = data.as_ref().map(|data| {
            let pairs = data.iter();
            pairs.map(|(name, value)| (name.unbind(), value.unbind()))
        });
        Ok(Self {
            entries,
            path: path.unbind(),
            pairs: pairs.into_iter().flatten().collect(),
            data: data.map(Bound::unbind),
            watched,
            environ: environ.unbind(),
            sys: sys.dict().unbind(),
            os: os.dict().unbind(),
        })
    }

    fn is_current(&self, py: Python<'_>) -> bool {
        is_in(&self.sys, intern!(py, "path"), &self.path)
            && is_in(&self.os, intern!(py, "environ"), &self.environ)
            && self.path_is_current(py)
            && self.environ_is_current(py)
    }

    fn path_is_current(&self, py: Python<'_>) -> bool {
        let Ok(path) = self.path.bind(py).cast::<PyList>() else {
            return true;
        };
        path.len() == self.entries.len()
            && self.entries.iter().enumerate().all(|(index, entry)| {
                // SAFETY: attached, and `index` is below the length, which nothing changes here;
                // the item is borrowed, and only its address is used.
                let item = unsafe { ffi::PyList_GET_ITEM(path.as_ptr(), index.cast_signed()) };
                item == entry.as_ptr()
            })
    }

    fn environ_is_current(&self, py: Python<'_>) -> bool {
        let Some(data) = &self.data else {
            return true;
        };
        if self.watched {
            return !watching::has_changed(ENVIRONMENT);
        }
        let data = data.bind(py);
        if data.len() != self.pairs.len() {
            return false;
        }
        let mut position = 0;
        let (mut name, mut value) = (std::ptr::null_mut(), std::ptr::null_mut());
        self.pairs.iter().all(|(seen_name, seen_value)| {
            // SAFETY: attached; the three places are valid to fill, nothing changes the dictionary
            // meanwhile, and of the borrowed objects only the addresses are used.
            let found = unsafe {
                ffi::PyDict_Next(
                    data.as_ptr(),
                    &raw mut position,
                    &raw mut name,
                    &raw mut value,
                )
            };
            found != 0 && name == seen_name.as_ptr() && value == seen_value.as_ptr()
        })
    }
}

fn is_in(module: &Py<PyDict>, name: &Bound<'_, PyAny>, value: &Py<PyAny>) -> bool {
    // SAFETY: attached, for `name` is bound; the result is borrowed, and only its address is used.
    // A name that is missing sets no error.
    unsafe { ffi::PyDict_GetItem(module.as_ptr(), name.as_ptr()) == value.as_ptr() }
}

/// The number of the process's current identity (its users and groups), from 1. Workers that began
/// under an earlier identity end with their calls.
pub(crate) fn identity_number(home: &Home) -> u32 {
    static LAST: Mutex<Option<Identity>> = Mutex::new(None);
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if !last.as_ref().is_some_and(Identity::is_current) {
        *last = Some(Identity::now());
        if NUMBER.fetch_add(1, Ordering::Relaxed) > 0 {
            home.runtime.leave_fleets();
        }
    }
    NUMBER.load(Ordering::Relaxed)
}
