//! What a program has put in the place of ours, or of the standard loop's.
//!
//! Programs replace methods: in a subclass, in the class itself, in one loop, in the standard
//! library. Rounds heed a replacement that changes what they do. Looking is cheap: the interpreter
//! gives a class another number when the class or one of its bases is changed. So what was found
//! holds for as long as the class has the number that it had then.
//!
//! Errors:     those of looking an attribute up, and of a warning that the program made an error.

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyType};

use super::super::ground::versions::{version, version_of};
use super::found::{Found, NAMES, Seen};
use super::loop_core::LoopCore;
use crate::names::function;
use crate::watching::{self, CLOCK};

/// What was there when the loop's class was made: ours and the standard library's.
pub(super) struct Originals {
    methods: [Py<PyAny>; 3],
    pub(super) standard: Py<PyType>,
    standard_time: Py<PyAny>,
    /// The standard library's handles.
    pub(super) handle: Py<PyType>,
    /// The names of the module `time`, and of the module where the standard loop looks for it.
    time: Py<PyDict>,
    base_events: Py<PyDict>,
    time_module: Py<PyAny>,
}

static ORIGINALS: PyOnceLock<Originals> = PyOnceLock::new();
/// `time.monotonic`: the program may have replaced it before it imported us.
static MONOTONIC: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Remembers the originals, once: when the class of the loop is complete.
pub(crate) fn learn(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    ORIGINALS.get_or_try_init(py, || {
        let method = |name: &str| class.getattr(name).map(Bound::unbind);
        let asyncio = py.import("asyncio.selector_events")?;
        let standard = asyncio.getattr("BaseSelectorEventLoop")?;
        let handles = py.import("asyncio.events")?;
        let time = py.import("time")?;
        PyResult::Ok(Originals {
            methods: [method(NAMES[0])?, method(NAMES[1])?, method(NAMES[2])?],
            standard_time: standard.getattr("time")?.unbind(),
            standard: py
                .import("asyncio")?
                .getattr("SelectorEventLoop")?
                .cast_into::<PyType>()?
                .unbind(),
            handle: handles.getattr("Handle")?.cast_into::<PyType>()?.unbind(),
            time: time.dict().unbind(),
            base_events: py.import("asyncio.base_events")?.dict().unbind(),
            time_module: time.into_any().unbind(),
        })
    })?;
    Ok(())
}

pub(super) fn originals(py: Python<'_>) -> PyResult<&'static Originals> {
    ORIGINALS
        .get(py)
        .ok_or_else(|| PyRuntimeError::new_err("the loop's class is not complete"))
}

/// Which of the loop's methods are ours.
#[inline]
pub(super) fn found(event_loop: &Bound<'_, LoopCore>) -> PyResult<Found> {
    let py = event_loop.py();
    let class = version_of(event_loop);
    let (seen, found) = event_loop
        .get()
        .state
        .with(py, |state| (state.overrides.class, state.overrides.found));
    if class != 0 && class == seen {
        return Ok(found);
    }
    look(event_loop)
}

#[cold]
fn look(event_loop: &Bound<'_, LoopCore>) -> PyResult<Found> {
    let py = event_loop.py();
    let originals = originals(py)?;
    // This puts what the program replaced in the standard classes into our class.
    function(py, "offloop._loop.replaced", "make_way")?.call0()?;
    let class = event_loop.get_type();
    let mut ours = [true; 3];
    for ((ours, name), method) in ours.iter_mut().zip(NAMES).zip(&originals.methods) {
        *ours = class.getattr(name)?.is(method);
    }
    let standard_time = originals.standard.bind(py).getattr("time")?;
    let standard_time = standard_time.is(&originals.standard_time);
    // Looking has given the class its number.
    let seen = version_of(event_loop);
    Ok(event_loop.get().state.with(py, |state| {
        let overrides = &mut state.overrides;
        let [time, call_at, rounds] =
            std::array::from_fn(|index| ours[index] && !overrides.own[index]);
        overrides.class = seen;
        overrides.found = Found {
            clock: time,
            standard_clock: standard_time,
            call_at,
            rounds: rounds && !overrides.selector,
        };
        overrides.found
    }))
}

/// The program has put something into the loop itself, or has taken it away again.
pub(super) fn replace(core: &LoopCore, py: Python<'_>, name: &str, replaced: bool) {
    core.state.with(py, |state| {
        let overrides = &mut state.overrides;
        match NAMES.iter().position(|known| *known == name) {
            Some(index) => overrides.own[index] = replaced,
            None => overrides.selector = replaced,
        }
        // To be looked at anew.
        overrides.class = 0;
    });
}

/// The numbers as they are now.
#[inline]
pub(super) fn seen_of(event_loop: &Bound<'_, LoopCore>) -> Seen {
    let handles = ORIGINALS.get(event_loop.py());
    Seen {
        class: version_of(event_loop),
        handles: handles.map_or(0, |originals| {
            version(originals.handle.bind(event_loop.py()))
        }),
    }
}

/// Whether the module `time` tells the standard loop the real time.
#[inline]
pub(super) fn time_is_real(py: Python<'_>) -> PyResult<bool> {
    if !watching::has_changed(CLOCK) {
        return Ok(true);
    }
    let real = look_at_time(py)?;
    let originals = originals(py)?;
    if real && watching::begin::<CLOCK>(originals.base_events.bind(py)) {
        watching::begin::<CLOCK>(originals.time.bind(py));
    }
    Ok(real)
}

#[cold]
fn look_at_time(py: Python<'_>) -> PyResult<bool> {
    let originals = originals(py)?;
    let module = lookup(py, &originals.base_events, pyo3::intern!(py, "time"));
    let monotonic = lookup(py, &originals.time, pyo3::intern!(py, "monotonic"));
    if module != originals.time_module.as_ptr() {
        return Ok(false);
    }
    if let Some(real) = MONOTONIC.get(py) {
        return Ok(monotonic == real.as_ptr());
    }
    // SAFETY: *attached*; borrowed from the module's names, or null; a new reference is made
    // before anything else runs.
    let monotonic = unsafe { Bound::from_borrowed_ptr_or_opt(py, monotonic) };
    let Some(monotonic) = monotonic.filter(Bound::is_exact_instance_of::<PyCFunction>) else {
        return Ok(false);
    };
    MONOTONIC.get_or_init(py, || monotonic.unbind());
    Ok(true)
}

/// Borrowed from the names of a module; null when it is not there.
#[inline]
fn lookup(py: Python<'_>, names: &Py<PyDict>, name: &Bound<'_, PyAny>) -> *mut ffi::PyObject {
    let _attached = py;
    // SAFETY: *attached*; a dictionary, and a string, whose hash and comparison cannot fail.
    unsafe { ffi::PyDict_GetItemWithError(names.as_ptr(), name.as_ptr()) }
}

/// Whether the loop's time is the system's clock, so that no method of the program's gives it.
#[inline]
pub(super) fn clock_is_ours(py: Python<'_>, found: Found) -> PyResult<bool> {
    Ok(found.clock && found.standard_clock && time_is_real(py)?)
}
