//! What Python has recorded: long callbacks, collections of garbage, calls on threads.
//!
//! No code of the program runs here: names are taken from objects of known classes alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use offloop::recorder::{CallNote, What};
use offloop_core::Instant;
use offloop_sys::clock::monotonic_ns;
use offloop_sys::thread::kernel_id;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyFunction, PyString, PyType};
use pyo3::{ffi, intern};

use crate::home::{Home, existing_home, home};

/// What lasts as long is a slice of its own in a timeline.
pub(crate) const SLICE_NS: u64 = 2_000_000;
/// Collections that are recorded: those of the oldest generation, and what lasts as long as this.
const COLLECTION_NS: u64 = 500_000;
const OLDEST: u8 = 2;
/// Callables within each other that are looked into.
const NESTED_MAX: usize = 8;

/// Whether anything records.
pub(crate) fn is_on() -> bool {
    existing_home().is_some_and(|home| home.runtime.recorder().is_on())
}

fn instant(ns: u64) -> Instant {
    Instant::from_nanos(ns)
}

/// Records something that ends now.
pub(crate) fn record(what: What) {
    if let Some(home) = existing_home() {
        home.runtime
            .recorder()
            .record(instant(monotonic_ns()), what);
    }
}

/// What is noted of a call that this thread submits now, if calls are recorded.
#[inline]
pub(crate) fn note_of(home: &Home, name: Option<&Arc<str>>) -> Option<Box<CallNote>> {
    home.runtime.recorder().is_on().then(|| {
        let submitted = instant(monotonic_ns());
        Box::new(CallNote::new(name.cloned(), kernel_id(), submitted))
    })
}

/// A slice of a loop's time is over: `length_ns` long, and what it was.
#[cold]
pub(crate) fn note_slice(
    event_loop: u64,
    length_ns: u64,
    called: Option<&Bound<'_, PyAny>>,
    is_round: bool,
) {
    let end = monotonic_ns();
    record(What::Slice {
        event_loop,
        thread: kernel_id(),
        begin: instant(end.saturating_sub(length_ns)),
        end: instant(end),
        name: called.and_then(name_of),
        is_round,
    });
}

/// Classes by which callables are known.
struct Known {
    partial: Py<PyType>,
    task: Py<PyType>,
}

fn known(py: Python<'_>) -> Option<&Known> {
    static KNOWN: PyOnceLock<Known> = PyOnceLock::new();
    let make = || -> PyResult<Known> {
        Ok(Known {
            partial: py
                .import("functools")?
                .getattr("partial")?
                .cast_into()?
                .unbind(),
            task: py
                .import("_asyncio")?
                .getattr("Task")?
                .cast_into()?
                .unbind(),
        })
    };
    KNOWN.get_or_try_init(py, make).ok()
}

/// The name of the coroutine whose step a callback is, or of the callback.
fn name_of(called: &Bound<'_, PyAny>) -> Option<Arc<str>> {
    let py = called.py();
    let known = known(py)?;
    let mut called = called.clone();
    for _ in 0..NESTED_MAX {
        let class = called.get_type();
        let next = if class.is(&known.task) {
            called.call_method0(intern!(py, "get_coro"))
        } else if class.is(&known.partial) {
            called.getattr(intern!(py, "func"))
        } else if class.name().is_ok_and(|name| name == "method") {
            called.getattr(intern!(py, "__func__"))
        } else if class.name().is_ok_and(|name| name == "TaskStepMethWrapper") {
            called.getattr(intern!(py, "__self__"))
        } else if let Ok(function) = called.cast_exact::<PyCFunction>() {
            match function.getattr(intern!(py, "__self__")) {
                Ok(task) if task.get_type().is(&known.task) => Ok(task),
                _ => return text(called.getattr(intern!(py, "__name__"))),
            }
        } else if called.is_exact_instance_of::<PyFunction>()
            || is_a(&called, &raw mut ffi::PyCoro_Type)
            || is_a(&called, &raw mut ffi::PyGen_Type)
        {
            return text(called.getattr(intern!(py, "__qualname__")));
        } else {
            return text(class.name().map(Bound::into_any));
        };
        called = next.ok()?;
    }
    None
}

fn is_a(object: &Bound<'_, PyAny>, class: *mut ffi::PyTypeObject) -> bool {
    object.get_type_ptr() == class
}

fn text(name: PyResult<Bound<'_, PyAny>>) -> Option<Arc<str>> {
    let name = name.ok()?;
    let name = name.cast_exact::<PyString>().ok()?;
    name.to_str().ok().map(Arc::from)
}

/// A function in `gc.callbacks`: each collection is timed, and those that last are recorded.
#[pyfunction]
pub(crate) fn note_collection(phase: &str, facts: &Bound<'_, PyDict>) -> PyResult<()> {
    // One collection at a time: it holds the GIL, and does not nest.
    static BEGAN: AtomicU64 = AtomicU64::new(0);
    let now = monotonic_ns();
    if phase == "start" {
        BEGAN.store(now, Ordering::Relaxed);
        return Ok(());
    }
    let began = BEGAN.swap(0, Ordering::Relaxed);
    if began == 0 || !is_on() {
        return Ok(());
    }
    let number = |name: &str| -> PyResult<u64> {
        let value = facts.get_item(name)?;
        value.map_or(Ok(0), |value| value.extract())
    };
    let generation = u8::try_from(number("generation")?).unwrap_or(OLDEST);
    if generation >= OLDEST || now.saturating_sub(began) >= COLLECTION_NS {
        record(What::Collection {
            thread: kernel_id(),
            begin: instant(began),
            end: instant(now),
            generation,
            collected: number("collected")?,
        });
    }
    Ok(())
}

/// A thread of a pool has run a call, of which the submitting thread and the times are given: in
/// seconds on the clock of `time.monotonic`.
#[pyfunction]
pub(crate) fn note_thread_call(
    function: &str,
    submitter: u32,
    submitted: f64,
    began: f64,
    ended: f64,
    raised: bool,
) {
    if is_on() {
        let at = |seconds: f64| instant((seconds * 1e9) as u64);
        record(What::ThreadCall {
            function: function.into(),
            submitter,
            thread: kernel_id(),
            submitted: at(submitted),
            begin: at(began),
            end: at(ended),
            raised,
        });
    }
}

/// Whether anything records.
#[pyfunction]
pub(crate) fn is_recording() -> bool {
    is_on()
}

/// Records while it is there.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct Recording {
    recording: offloop::recorder::Recording,
}

#[pymethods]
impl Recording {
    #[new]
    fn new() -> PyResult<Self> {
        let home = home()?;
        Ok(Self {
            recording: offloop::recorder::Recording::begin(home.runtime.recorder()),
        })
    }

    /// Kinds and names of what was recorded after a number; what was forgotten; the last number.
    fn after(&self, number: u64) -> (u64, Vec<(&'static str, Option<String>)>, u64) {
        let found = self.recording.recorder().after(number);
        let records = found.records.iter().map(|record| summary(&record.what));
        (found.missed, records.collect(), found.last)
    }
}

fn summary(what: &What) -> (&'static str, Option<String>) {
    let text = |name: &Option<Arc<str>>| name.as_deref().map(str::to_owned);
    match what {
        What::Load { .. } => ("load", None),
        What::Slice { name, .. } => ("slice", text(name)),
        What::Call { note, .. } => ("call", text(&note.function)),
        What::ThreadCall { function, .. } => ("thread_call", Some(function.to_string())),
        What::Collection { .. } => ("collection", None),
        What::Event(_) => ("event", None),
    }
}
