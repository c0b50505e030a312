//! Resolves a future, and knows what a resolving thread has in progress when it waits.
//!
//! To resolve runs the user's code: callbacks, what unpickling calls, and whatever the garbage
//! collector finds to end. Any of that may close a pool or wait for another call. So nothing is
//! held meanwhile but the outcome that is resolved. A thread of the crew that waits in one of our
//! functions gives its turn away. If no other thread can resolve what it waits for, it does so
//! itself. An outcome that a waiting thread has taken and not set yet is not waited for by other
//! threads that are resolving.
//!
//! Invariants: 1. No lock is held while Python code runs.
//!             2. A future's result is set, and its waiting threads are told, before its
//!                callbacks run.
//! Source:     docs/design/004-who-resolves.md.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use offloop::{News, Notice, Outcome, Owner, Runtime, TaskAddress, Unresolved};
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::prelude::*;

use crate::home::existing_home;
use crate::incoming::{is_done, set_done};
use crate::outcomes::translate;
use crate::pending::{self, Pending, Waiter};

/// How long a wait lasts before Python may look at signals (Ctrl-C).
pub(crate) const WAIT_SLICE: Duration = Duration::from_millis(100);
/// The same for a thread that waits in the middle of resolving: it may be the only thread that can
/// resolve what it waits for.
const INSIDE_SLICE: Duration = Duration::from_millis(20);
/// How long a thread waits for a bell, which rings by itself.
const BELL_SLICE: Duration = Duration::from_secs(60);

/// What the thread is at.
#[derive(Default)]
struct Here {
    /// How many outcomes it resolves, one inside of the other.
    depth: Cell<u32>,
    /// Its last turn in the crew; 0 for a thread that has none.
    turn: Cell<u64>,
    /// The lanes of the outcomes that it has taken and not set.
    unset: RefCell<Vec<Arc<Unresolved>>>,
}

thread_local! {
    static HERE: Here = Here::default();
}

/// The thread has this turn in the crew from now on; 0 for none.
pub(crate) fn set_turn(turn: u64) {
    HERE.with(|here| here.turn.set(turn));
}

/// One outcome on its way to its future.
struct Resolving(Option<Arc<Unresolved>>);

impl Resolving {
    fn begin(unresolved: Option<Arc<Unresolved>>) -> Self {
        HERE.with(|here| {
            here.depth.set(here.depth.get() + 1);
            here.unset.borrow_mut().extend(unresolved.clone());
        });
        Self(unresolved)
    }

    /// The future is set; returns what counts its callbacks if those are to run.
    fn set(&mut self, calls_back: bool) -> Option<Arc<Unresolved>> {
        let unresolved = self.0.take()?;
        HERE.with(|here| here.unset.borrow_mut().pop());
        unresolved.set(calls_back);
        Some(unresolved).filter(|_| calls_back)
    }
}

impl Drop for Resolving {
    fn drop(&mut self) {
        self.set(false);
        HERE.with(|here| here.depth.set(here.depth.get() - 1));
    }
}

/// Does what a notice asks for: resolves a future, or runs its callbacks. A thread that is not the
/// crew's gives an owner in `outside`, which passes callbacks that may take long to the crew.
pub(crate) fn resolve(py: Python<'_>, notice: Notice, outside: Option<&Owner>) -> PyResult<()> {
    let Notice { token, news, .. } = notice;
    let news = match news {
        News::Arrived(item) => {
            // Its call goes on, and so does what waits for that.
            return pending::stream(token).map_or(Ok(()), |stream| stream.arrive(py, item));
        }
        news => news,
    };
    let Some(pending) = pending::take(token) else {
        return Ok(());
    };
    let Pending {
        waiter,
        statistics,
        unresolved,
        task: _,
        owner: _,
    } = pending;
    if let (News::Ended(outcome), Some(statistics)) = (&news, &statistics) {
        statistics.record(outcome);
    }
    match (waiter, news) {
        (Waiter::Asyncio(future), News::Ended(outcome)) => {
            let _resolving = Resolving::begin(None);
            resolve_asyncio(py, future.bind(py), outcome)
        }
        (Waiter::Stream(stream, _), News::Ended(outcome)) => {
            let _resolving = Resolving::begin(None);
            stream.end(py, outcome)
        }
        (Waiter::Concurrent(future), News::Ended(outcome)) => {
            let future = future.bind(py);
            let mut resolving = Resolving::begin(unresolved);
            let (calls_back, result) = set(py, future, outcome);
            let unresolved = resolving.set(calls_back);
            if !calls_back {
                return result;
            }
            result.and(match outside {
                None => call_back(future, unresolved.as_deref()),
                Some(owner) => {
                    leave_callbacks(future, unresolved, owner);
                    Ok(())
                }
            })
        }
        (Waiter::Asyncio(future), News::Room) => {
            let _resolving = Resolving::begin(None);
            set_done(future.bind(py))
        }
        (Waiter::Callbacks(future), News::PassedOn) => {
            let _resolving = Resolving::begin(None);
            call_back(future.bind(py), unresolved.as_deref())
        }
        (_, News::Room | News::PassedOn | News::Arrived(_)) | (Waiter::Callbacks(_), _) => {
            unreachable!("a token names one thing that waits, and news of its own kind come")
        }
    }
}

/// As `resolve`, but callbacks do not run any more.
pub(crate) fn resolve_quietly(py: Python<'_>, notice: Notice) -> PyResult<()> {
    let Some(pending) = pending::take(notice.token) else {
        return Ok(());
    };
    match (pending.waiter, notice.news) {
        (Waiter::Concurrent(future), News::Ended(outcome)) => set(py, future.bind(py), outcome).1,
        _ => Ok(()),
    }
}

fn call_back(future: &Bound<'_, PyAny>, unresolved: Option<&Unresolved>) -> PyResult<()> {
    let call = || {
        let py = future.py();
        future
            .call_method0(pyo3::intern!(py, "_invoke_callbacks"))
            .map(drop)
    };
    let generation = offloop_sys::fork::generation();
    let mut called = call();
    if offloop_sys::fork::generation() != generation {
        // A callback has forked, and its child came back: what it waits for is not here.
        return called;
    }
    if called.is_err() {
        // What comes out is no mere `Exception`. It ends one callback; the rest is run.
        let left = future
            .getattr("_done_callbacks")
            .and_then(|left| left.len());
        for _ in 0..left.unwrap_or(0) {
            called = called.and(call());
        }
    }
    if let Some(unresolved) = unresolved {
        unresolved.called_back();
    }
    called
}

/// Has the crew run the callbacks of a future that is set.
fn leave_callbacks(future: &Bound<'_, PyAny>, unresolved: Option<Arc<Unresolved>>, owner: &Owner) {
    let token = pending::insert(Pending {
        waiter: Waiter::Callbacks(future.clone().unbind()),
        statistics: None,
        unresolved,
        task: TaskAddress::default(),
        owner: None,
    });
    owner.pass_on(token);
}

fn resolve_asyncio(py: Python<'_>, future: &Bound<'_, PyAny>, outcome: Outcome) -> PyResult<()> {
    if matches!(outcome, Outcome::Cancelled) {
        future.call_method0(pyo3::intern!(py, "cancel"))?;
        return Ok(());
    }
    let result = translate(py, outcome);
    if is_done(future)? {
        return Ok(());
    }
    match result {
        Ok(value) => future.call_method1(pyo3::intern!(py, "set_result"), (value,))?,
        Err(error) => set_exception(py, future, error)?,
    };
    Ok(())
}

/// `future.set_exception(error)`; asyncio refuses StopIteration, which becomes a RuntimeError.
fn set_exception<'py>(
    py: Python<'py>,
    future: &Bound<'py, PyAny>,
    error: PyErr,
) -> PyResult<Bound<'py, PyAny>> {
    if error.is_instance_of::<PyStopIteration>(py) {
        let wrapped = PyRuntimeError::new_err("the call raised StopIteration");
        wrapped.set_cause(py, Some(error));
        return future.call_method1("set_exception", (wrapped.into_value(py),));
    }
    future.call_method1("set_exception", (error.into_value(py),))
}

/// Sets the result of a `concurrent.futures.Future`: whether callbacks are left to be run, and
/// what was raised.
fn set(py: Python<'_>, future: &Bound<'_, PyAny>, outcome: Outcome) -> (bool, PyResult<()>) {
    if matches!(outcome, Outcome::Cancelled) {
        return twice(|| future.call_method0(pyo3::intern!(py, "_resolve_cancelled")));
    }
    let (value, exception) = match translate(py, outcome) {
        Ok(value) => (value, py.None().into_bound(py)),
        Err(error) => {
            let error = error.into_value(py).into_bound(py).into_any();
            (py.None().into_bound(py), error)
        }
    };
    let arguments = (&value, &exception);
    twice(|| future.call_method1(pyo3::intern!(py, "_resolve"), arguments))
}

/// Calls a method that has an effect once only, and once more if it raised. A signal's handler may
/// raise anywhere, and threads that wait for the future would wait for ever.
fn twice<'py>(call: impl Fn() -> PyResult<Bound<'py, PyAny>>) -> (bool, PyResult<()>) {
    let is_true = |result: Bound<'py, PyAny>| result.is_truthy();
    match call().and_then(is_true) {
        Ok(calls_back) => (calls_back, Ok(())),
        Err(error) => (call().and_then(is_true).unwrap_or(false), Err(error)),
    }
}

/// A thread that waits in one of our functions, be it in the middle of resolving or not.
pub(crate) struct Waiting<'runtime> {
    runtime: &'runtime Runtime,
    /// It is resolving, so it must not wait for what it resolves itself.
    inside: bool,
    stalled: Vec<Arc<Unresolved>>,
}

impl<'runtime> Waiting<'runtime> {
    pub(crate) fn begin(runtime: &'runtime Runtime) -> Self {
        HERE.with(|here| {
            if here.turn.get() != 0 {
                runtime.step_aside(here.turn.get());
            }
            let stalled = here.unset.borrow().clone();
            stalled.iter().for_each(|unresolved| unresolved.stall());
            Self {
                runtime,
                inside: here.depth.get() > 0,
                stalled,
            }
        })
    }

    pub(crate) fn is_inside(&self) -> bool {
        self.inside
    }

    /// How long to wait before `go_on`.
    pub(crate) fn slice(&self) -> Duration {
        if self.inside {
            INSIDE_SLICE
        } else {
            WAIT_SLICE
        }
    }

    /// To be called between two slices by a thread that waits for the futures of `unresolved`.
    pub(crate) fn go_on(&self, py: Python<'_>, unresolved: &Arc<Unresolved>) -> PyResult<()> {
        let is_wanted = |token| pending::is_counted_by(token, unresolved);
        while let Some(notice) = self.runtime.take_stranded(is_wanted) {
            resolve(py, notice, Some(&self.runtime.resolver()))?;
        }
        py.check_signals()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.stalled
            .iter()
            .for_each(|unresolved| unresolved.resume());
    }
}

/// Rings when a future is done that a thread of the crew waits for. It is one of the future's
/// waiters, like those of `concurrent.futures.wait`.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct Bell {
    runtime: Runtime,
    rung: AtomicBool,
}

#[pymethods]
impl Bell {
    fn add_result(&self, _future: &Bound<'_, PyAny>) {
        self.ring();
    }

    fn add_exception(&self, _future: &Bound<'_, PyAny>) {
        self.ring();
    }

    fn add_cancelled(&self, _future: &Bound<'_, PyAny>) {
        self.ring();
    }

    /// Waits until it has rung, and returns what is left of `timeout`. If no other thread can
    /// resolve the call of `token`, this thread does.
    fn wait(&self, py: Python<'_>, token: u64, timeout: Option<f64>) -> PyResult<Option<f64>> {
        let begun = Instant::now();
        let _waiting = Waiting::begin(&self.runtime);
        let is_over = || self.rung.load(Ordering::Acquire);
        loop {
            let left = timeout.map(|timeout| (timeout - begun.elapsed().as_secs_f64()).max(0.0));
            if is_over() || left == Some(0.0) {
                return Ok(left);
            }
            let limit = left.map_or(BELL_SLICE, |left| {
                Duration::from_secs_f64(left.min(BELL_SLICE.as_secs_f64()))
            });
            let notice = py.detach(|| self.runtime.wait_stranded(limit, token, is_over));
            if let Some(notice) = notice {
                resolve(py, notice, Some(&self.runtime.resolver()))?;
            }
        }
    }
}

impl Bell {
    fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.runtime.tell_waiting();
    }
}

/// A bell for a thread of the crew, whose turn other threads need while it waits; `None` for any
/// other thread.
#[pyfunction]
pub(crate) fn bell() -> Option<Bell> {
    if HERE.with(|here| here.turn.get()) == 0 {
        return None;
    }
    existing_home().map(|home| Bell {
        runtime: home.runtime,
        rung: AtomicBool::new(false),
    })
}
