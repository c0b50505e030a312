//! A loop of Python's with a selector asks that what is ready: between two such calls lies a round.
//!
//! What is here stands in the place of that method, `select`, of the one selector of a loop that
//! runs. It tells the loop's `Heartbeat` of each call, and looks which tasks are over. A loop of
//! the standard library's is looked through for circles of tasks before it waits. Its wait may get
//! a limit for either.
//!
//! Invariants: 1. What the method is asked, returns and raises is as without us, but for the limit.
//! Threads:    the loop's.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use offloop_core::watch::Looks;
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::heartbeat::{Heartbeat, Idle, nanoseconds};
use crate::event_loop::{Looked, NextRound, TaskEnds};
use crate::forsaking;

/// What the standard loop watches for itself: the socket that wakes it.
const OWN_DESCRIPTORS: usize = 1;

/// What is asked of a loop that is about to wait.
struct Look {
    /// `idle(loop, for_ever)` looks for tasks that never go on.
    idle: Py<PyAny>,
    /// Seconds after which the loop goes on by its own lists; `None` for never.
    due_in: Py<PyAny>,
    /// What the selector watches.
    watched: Py<PyAny>,
    /// The code object of the one function whose waits may get a limit.
    round: Py<PyAny>,
}

/// The same from Python: `idle`, `due_in`, `watched`, `round`.
type LookParts = (Py<PyAny>, Py<PyAny>, Py<PyAny>, Py<PyAny>);

/// `select` of one selector, while its loop is watched.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct WatchedSelect {
    heartbeat: Py<Heartbeat>,
    select: Py<PyAny>,
    look: Option<Look>,
    /// Sees which tasks of the loop are over.
    ends: Mutex<Option<Py<TaskEnds>>>,
    is_on: AtomicBool,
}

impl WatchedSelect {
    /// Looks which tasks are over, and what never goes on. For how many seconds the loop is to
    /// wait, where that is less than it asks for.
    fn limit(&self, args: &Bound<'_, PyTuple>) -> PyResult<Option<f64>> {
        let py = args.py();
        let asked = wait_of(args);
        let is_idle = asked.is_some_and(|wait| wait.is_none_or(|wait| wait > 0.0));
        let ends = self.ends().as_ref().map(|ends| ends.clone_ref(py));
        let takes_limit = |look: &&Look| is_idle && is_called_by(py, &look.round);
        let look = self.look.as_ref().filter(takes_limit);
        let looked = match ends {
            Some(ends) => ends.get().look(
                py,
                match look {
                    Some(_) => NextRound::AfterLimitedWait,
                    None if is_idle => NextRound::AfterAnyWait,
                    None => NextRound::AtOnce,
                },
            )?,
            None => Looked::Nothing,
        };
        match (look, asked) {
            (Some(look), Some(wait)) => self.limit_of(py, look, wait, &looked),
            _ => Ok(None),
        }
    }

    fn limit_of(
        &self,
        py: Python<'_>,
        look: &Look,
        wait: Option<f64>,
        looked: &Looked,
    ) -> PyResult<Option<f64>> {
        let for_ever = wait.is_none() && look.watched.bind(py).call0()?.len()? <= OWN_DESCRIPTORS;
        let wait_ns = wait.map(nanoseconds);
        let idle = self.heartbeat.get().idle(look.idle.bind(py), for_ever)?;
        let was_told = matches!(looked, Looked::Told);
        let (next, has_heard) = match idle {
            Idle::TooEarly { next } => (Some(next), was_told),
            Idle::Looked { next } => (next, true),
        };
        let due_ns = if has_heard {
            // A callback that has heard of what was found may have scheduled something.
            let due = look.due_in.bind(py).call0()?;
            due.extract::<Option<f64>>()?.map(nanoseconds)
        } else {
            wait_ns
        };
        let mut limit = next.map_or(due_ns, |next| Some(Looks::wait_ns(due_ns, next)));
        if let Looked::TooEarly(next) = *looked {
            limit = Some(limit.map_or(next, |limit| limit.min(next)));
        }
        Ok(limit.filter(|_| limit != wait_ns).map(seconds))
    }

    fn ends(&self) -> MutexGuard<'_, Option<Py<TaskEnds>>> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For how many seconds a loop asks to wait, where it says so the way asyncio does; `Some(None)` is
/// for ever.
fn wait_of(args: &Bound<'_, PyTuple>) -> Option<Option<f64>> {
    let wait = args.get_item(0).ok().filter(|_| args.len() == 1)?;
    wait.extract().ok()
}

fn seconds(nanoseconds: u64) -> f64 {
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// Whether the innermost function of Python's has this code object.
fn is_called_by(py: Python<'_>, code: &Py<PyAny>) -> bool {
    // SAFETY: *attached*: a borrowed reference or null, and a new one to its code.
    unsafe {
        let frame = ffi::PyEval_GetFrame();
        if frame.is_null() {
            return false;
        }
        let own = Bound::from_owned_ptr(py, ffi::PyFrame_GetCode(frame).cast());
        own.is(code)
    }
}

#[pymethods]
impl WatchedSelect {
    /// `look` is what is asked of a loop that is about to wait: `idle`, `due_in`, `watched` and
    /// `round`.
    #[new]
    #[pyo3(signature = (heartbeat, select, look=None))]
    fn new(heartbeat: Py<Heartbeat>, select: Py<PyAny>, look: Option<LookParts>) -> Self {
        Self {
            heartbeat,
            select,
            look: look.map(|(idle, due_in, watched, round)| Look {
                idle,
                due_in,
                watched,
                round,
            }),
            ends: Mutex::new(None),
            is_on: AtomicBool::new(true),
        }
    }

    #[pyo3(signature = (*args, **kwargs))]
    fn __call__(
        &self,
        args: &Bound<'_, PyTuple>,
        kwargs: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let py = args.py();
        let select = self.select.bind(py);
        forsaking::stay();
        // Relaxed: only the loop's thread turns it off.
        if !self.is_on.load(Ordering::Relaxed) {
            return select.call(args, kwargs).map(Bound::unbind);
        }
        let limit = if kwargs.is_none() {
            self.limit(args)?
        } else {
            None
        };
        let heartbeat = self.heartbeat.get();
        heartbeat.waits(py)?;
        let ready = match limit {
            Some(limit) => select.call1((limit,)),
            None => select.call(args, kwargs),
        };
        heartbeat.goes_on(py)?;
        ready.map(Bound::unbind)
    }

    /// Sees from now on which tasks are over.
    fn look_through(&self, ends: Py<TaskEnds>) {
        let replaced = self.ends().replace(ends);
        drop(replaced);
    }

    /// Tells nothing any more: what covers this may stay, and is passed through.
    fn stop(&self) {
        self.is_on.store(false, Ordering::Relaxed);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The selector's own dictionary ends the circle that these are in.
        visit.call(&self.heartbeat)?;
        visit.call(&self.select)?;
        if let Some(Some(ends)) = self.ends.try_lock().ok().as_deref() {
            visit.call(ends)?;
        }
        match &self.look {
            Some(look) => {
                visit.call(&look.idle)?;
                visit.call(&look.due_in)?;
                visit.call(&look.watched)?;
                visit.call(&look.round)
            }
            None => Ok(()),
        }
    }
}
