//! What resolves futures: one owner for each event loop that submits.
//!
//! The loop watches one descriptor for all workers. When it is readable, a batch of outcomes is
//! fetched and their futures are resolved right there, on the loop's own thread, without a helper
//! thread and without `call_soon_threadsafe`. A batch is bounded, so that the loop's other
//! callbacks get their turn. What the user has added with `add_done_callback` runs elsewhere.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use offloop::{Owner, Runtime};
use offloop_core::Stop;
use offloop_sys::clock::monotonic_ns;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::error::not_owned;
use crate::pending::{self, Pending, Waiter};
use crate::{forsaking, names, resolving};

/// Outcomes fetched at a time.
const BATCH: usize = 64;
/// How long one call may go on fetching. What it resolves makes callbacks of its own ready, which
/// take several times as long before the loop comes round again.
const TURN_NS: u64 = 150_000;

/// The owner of one event loop.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct LoopOwner {
    owner: Owner,
    event_loop: Py<PyAny>,
}

#[pymethods]
impl LoopOwner {
    /// Resolves what has been completed; the loop calls it when the descriptor is readable.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        forsaking::stay();
        let begun = monotonic_ns();
        let mut fetching = self.owner.fetch();
        let mut notices = Vec::with_capacity(BATCH);
        loop {
            let more = fetching.next(BATCH, &mut notices);
            let mut first_error = None;
            for notice in notices.drain(..) {
                if let Err(error) = resolving::resolve(py, notice, Some(&self.owner)) {
                    // If resolving one raises, the rest is resolved all the same.
                    first_error.get_or_insert(error);
                }
            }
            if let Some(error) = first_error {
                return Err(error);
            }
            if !more || monotonic_ns() - begun > TURN_NS {
                return Ok(());
            }
        }
    }
}

impl LoopOwner {
    pub(crate) fn index(&self) -> u8 {
        self.owner.index()
    }

    pub(crate) fn event_loop<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.event_loop.bind(py)
    }
}

#[derive(Default)]
struct Registry {
    generation: u32,
    by_loop: HashMap<usize, Py<LoopOwner>>,
}

static REGISTRY: Mutex<Option<Registry>> = Mutex::new(None);

fn registry() -> MutexGuard<'static, Option<Registry>> {
    let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    let generation = offloop_sys::fork::generation();
    if registry
        .as_ref()
        .is_none_or(|registry| registry.generation != generation)
    {
        // A forked child's loops are not the parent's; its owners are left alone.
        std::mem::forget(registry.replace(Registry {
            generation,
            ..Registry::default()
        }));
    }
    registry
}

static GET_RUNNING_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The owner of the loop that runs on this thread; `None` without one.
pub(crate) fn current(py: Python<'_>, runtime: &Runtime) -> PyResult<Option<Py<LoopOwner>>> {
    let getter = GET_RUNNING_LOOP.get_or_try_init(py, || {
        names::function(py, "asyncio.events", "_get_running_loop").map(Bound::unbind)
    })?;
    let event_loop = getter.bind(py).call0()?;
    if event_loop.is_none() {
        return Ok(None);
    }
    let key = event_loop.as_ptr() as usize;
    let known = registry()
        .as_ref()
        .and_then(|registry| registry.by_loop.get(&key).map(|owner| owner.clone_ref(py)));
    match known {
        Some(owner) => Ok(Some(owner)),
        None => add(py, runtime, &event_loop).map(Some),
    }
}

fn add(
    py: Python<'_>,
    runtime: &Runtime,
    event_loop: &Bound<'_, PyAny>,
) -> PyResult<Py<LoopOwner>> {
    drop_closed(py)?;
    let owner = runtime
        .add_patient_owner()
        .map_err(|error| not_owned(&error))?;
    let fd = owner.event().as_fd().as_raw_fd();
    let timer = owner.timer().map(|timer| timer.as_fd().as_raw_fd());
    let owner = Py::new(
        py,
        LoopOwner {
            owner,
            event_loop: event_loop.clone().unbind(),
        },
    )?;
    let drain = owner.bind(py).getattr("drain")?;
    event_loop.call_method1("add_reader", (fd, &drain))?;
    if let Some(timer) = timer {
        event_loop.call_method1("add_reader", (timer, &drain))?;
    }
    let key = event_loop.as_ptr() as usize;
    let mut registry = registry();
    let by_loop = &mut registry.as_mut().expect("made by `registry`").by_loop;
    let replaced = by_loop.insert(key, owner.clone_ref(py));
    drop(registry);
    // Only now: dropping it may run Python code.
    drop(replaced);
    Ok(owner)
}

/// Lets go of what a loop that is closed waited for, and stops its streams: no consumer will make
/// room for their items any more.
fn forget(waiting: Vec<Pending>) {
    for Pending { waiter, task, .. } in waiting {
        if let Waiter::Stream(incoming, lane) = waiter
            && let (Stop::Call, _arrival) = incoming.close()
        {
            lane.cancel(task);
        }
    }
}

/// Frees the owners of loops that are closed.
fn drop_closed(py: Python<'_>) -> PyResult<()> {
    let owners: Vec<(usize, Py<LoopOwner>)> = registry()
        .iter()
        .flat_map(|registry| &registry.by_loop)
        .map(|(key, owner)| (*key, owner.clone_ref(py)))
        .collect();
    for (key, owner) in owners {
        if owner
            .get()
            .event_loop
            .bind(py)
            .call_method0("is_closed")?
            .is_truthy()?
        {
            let removed = registry()
                .as_mut()
                .and_then(|registry| registry.by_loop.remove(&key));
            drop(removed);
            forget(pending::take_of(owner.get().index()));
        }
    }
    Ok(())
}
