//! Who resolves futures: one owner for each event loop that submits.
//!
//! The loop watches one descriptor for all workers. When it is readable, a batch of outcomes is
//! fetched and their futures are resolved right there, on the loop's own thread, without a helper
//! thread and without `call_soon_threadsafe`. A batch is bounded, so that the loop's other
//! callbacks get their turn.

use std::collections::HashMap;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use offloop::{Finished, Outcome, Owner, Runtime, Status};
use offloop_sys::clock::monotonic_ns;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::codec::{self, Decoded};
use crate::names;
use crate::pending::{self, Pending, Waiter};

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
        let begun = monotonic_ns();
        loop {
            let mut finished = Vec::with_capacity(BATCH);
            let more = self.owner.drain(BATCH, &mut finished);
            resolve_all(py, finished)?;
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
        .map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
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
    by_loop.insert(key, owner.clone_ref(py));
    Ok(owner)
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
        }
    }
    Ok(())
}

/// Resolves the futures of `finished`. A future whose resolving raises (a callback of the user's
/// never does, since futures catch those) does not keep the others from theirs.
pub(crate) fn resolve_all(py: Python<'_>, finished: Vec<Finished>) -> PyResult<()> {
    let mut first_error = None;
    for finished in finished {
        let Some(pending) = pending::take(finished.token) else {
            continue;
        };
        let unresolved = pending.unresolved.clone();
        if let Err(error) = resolve(py, pending, finished.outcome) {
            first_error.get_or_insert(error);
        }
        if let Some(unresolved) = unresolved {
            unresolved.remove();
        }
    }
    first_error.map_or(Ok(()), Err)
}

fn resolve(py: Python<'_>, pending: Pending, outcome: Outcome) -> PyResult<()> {
    let future = pending.future.bind(py);
    if let (Outcome::Returned { run_ns, .. }, Some(statistics)) = (&outcome, &pending.statistics) {
        statistics.record(*run_ns);
    }
    if matches!(outcome, Outcome::Cancelled) {
        let name = match pending.waiter {
            Waiter::Asyncio => "cancel",
            Waiter::Concurrent => "_cancelled_by_pool",
        };
        future.call_method0(name)?;
        return Ok(());
    }
    let result = translate(py, outcome);
    match pending.waiter {
        Waiter::Concurrent => {
            let (value, exception) = match result {
                Ok(value) => (value, py.None().into_bound(py)),
                Err(error) => (
                    py.None().into_bound(py),
                    error.into_value(py).into_bound(py).into_any(),
                ),
            };
            future.call_method1(pyo3::intern!(py, "_resolve"), (value, exception))?;
        }
        Waiter::Asyncio => {
            if future
                .call_method0(pyo3::intern!(py, "done"))?
                .is_truthy()?
            {
                return Ok(());
            }
            match result {
                Ok(value) => future.call_method1(pyo3::intern!(py, "set_result"), (value,))?,
                Err(error) => set_exception(py, future, error)?,
            };
        }
    }
    Ok(())
}

/// `future.set_exception(error)`; asyncio refuses StopIteration, which becomes a RuntimeError.
fn set_exception<'py>(
    py: Python<'py>,
    future: &Bound<'py, PyAny>,
    error: PyErr,
) -> PyResult<Bound<'py, PyAny>> {
    if error.is_instance_of::<pyo3::exceptions::PyStopIteration>(py) {
        let wrapped = PyRuntimeError::new_err("the call raised StopIteration");
        wrapped.set_cause(py, Some(error));
        return future.call_method1("set_exception", (wrapped.into_value(py),));
    }
    future.call_method1("set_exception", (error.into_value(py),))
}

/// The value of an outcome, or the exception that it is.
fn translate<'py>(py: Python<'py>, outcome: Outcome) -> PyResult<Bound<'py, PyAny>> {
    let (status, payload, blocks) = match outcome {
        Outcome::Returned {
            status,
            payload,
            blocks,
            ..
        } => (status, payload, blocks),
        Outcome::Room => return Ok(py.None().into_bound(py)),
        other => return Err(failure(py, other)),
    };
    if status == Status::Value && payload.is_empty() && blocks.is_none() {
        return Ok(py.None().into_bound(py));
    }
    let lease = blocks.as_ref().map(|(blocks, _)| blocks.lease());
    let received = codec::Received {
        inline: &payload,
        blocks: blocks.as_ref().map_or(&[], |(blocks, _)| blocks.blocks()),
        in_block: blocks.as_ref().is_some_and(|(_, in_block)| *in_block),
        copy: false,
    };
    let decoded = codec::decode(py, &received, lease.as_ref(), &mut refuse_needs)
        .and_then(Decoded::into_value);
    let build = |name: &str, value: Bound<'py, PyAny>| {
        let built = names::function(py, "offloop._outcomes", name).and_then(|f| f.call1((value,)));
        built.map_or_else(|error| error, PyErr::from_value)
    };
    match (status, decoded) {
        (Status::Value, Ok(value)) => Ok(value),
        (Status::Raised | Status::Interrupted, Ok(value)) => Err(build("raised", value)),
        (Status::Undecodable | Status::Unencodable, Ok(value)) => {
            Err(build("undecodable_call", value))
        }
        (_, Err(error)) => Err(build(
            "undecodable_result",
            error.into_value(py).into_bound(py).into_any(),
        )),
    }
}

/// A worker defines nothing in its program.
fn refuse_needs(_numbers: Vec<u32>) -> PyResult<()> {
    Err(PyRuntimeError::new_err(
        "a worker's outcome names definitions",
    ))
}

/// The exception of a call that no worker finished.
fn failure(py: Python<'_>, outcome: Outcome) -> PyErr {
    let build = || -> PyResult<Bound<'_, PyAny>> {
        let function = |name| names::function(py, "offloop._outcomes", name);
        match outcome {
            Outcome::Expired { deadline } => function("expired")?.call1((deadline,)),
            Outcome::Dropped => function("dropped")?.call0(),
            Outcome::Broken { reason } => function("broken")?.call1((reason,)),
            Outcome::Lost {
                may_have_started,
                attempts,
                crash,
            } => {
                let crash = crash.map(|crash| {
                    let (code, signal) = match crash.status {
                        Some(offloop::ExitStatus::Code(code)) => (Some(code), None),
                        Some(offloop::ExitStatus::Signal(signal)) => (None, Some(signal)),
                        None => (None, None),
                    };
                    let peak = crash.peak_memory_bytes;
                    (
                        crash.pid,
                        code,
                        signal,
                        peak,
                        crash.stderr_tail,
                        crash.reason,
                    )
                });
                function("crashed")?.call1((may_have_started, attempts, crash))
            }
            Outcome::Returned { .. } | Outcome::Cancelled | Outcome::Room => {
                unreachable!("handled by the callers")
            }
        }
    };
    build().map_or_else(|error| error, PyErr::from_value)
}
