//! What a program has put in the place of ours, or of the standard loop's.
//!
//! Programs replace methods: in a subclass, in the class itself, in one loop, in the standard
//! library. Where that changes what a round does it is heeded. Looking is cheap: the interpreter
//! numbers a class anew when the class or one of its bases is changed, so as long as the number is
//! the one that was seen, what was found then holds.
//!
//! Errors:     those of looking an attribute up, and of a warning that is to be an error.

use pyo3::IntoPyObjectExt as _;
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyType};

use super::super::ground::versions::version;
use super::clock::monotonic_s;
use super::{LoopCore, lending};
use crate::names::function;
use crate::watching::{self, CLOCK};

/// What is ours, as far as a round is concerned.
#[derive(Clone, Copy)]
pub(crate) struct Found {
    /// `time` is ours.
    clock: bool,
    /// `time` of the standard loop is the standard library's.
    standard_clock: bool,
    /// `call_at` is ours.
    pub(crate) call_at: bool,
    /// `_run_once` is ours.
    rounds: bool,
}

/// What was found, and what cannot be seen from the class.
pub(crate) struct Overrides {
    /// The number of the loop's class when it was looked at.
    class: u32,
    /// The number of the standard library's class of handles when it was looked at.
    handles: u32,
    found: Found,
    /// Attributes of the loop itself: `time`, `call_at`, `_run_once`.
    own: [bool; 3],
    /// The selector is not ours, or its `select` is not.
    selector: bool,
}

impl Default for Overrides {
    fn default() -> Self {
        Self {
            class: 0,
            handles: 0,
            found: Found {
                clock: true,
                standard_clock: true,
                call_at: true,
                rounds: true,
            },
            own: [false; 3],
            selector: false,
        }
    }
}

/// The names that `Overrides::own` is about.
const NAMES: [&str; 3] = ["time", "call_at", "_run_once"];

/// What stands there unless somebody replaces it.
struct Originals {
    methods: [Py<PyAny>; 3],
    standard: Py<PyType>,
    standard_time: Py<PyAny>,
    /// The standard library's handles.
    handle: Py<PyType>,
    /// The names of the module `time`, and of the module where the standard loop looks for it.
    time: Py<PyDict>,
    base_events: Py<PyDict>,
    time_module: Py<PyAny>,
}

static ORIGINALS: PyOnceLock<Originals> = PyOnceLock::new();
/// `time.monotonic`: the program may have replaced it before it imported us.
static MONOTONIC: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Remembers what stands where; once, when the class of the loop is complete.
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

fn originals(py: Python<'_>) -> PyResult<&'static Originals> {
    ORIGINALS
        .get(py)
        .ok_or_else(|| PyRuntimeError::new_err("the loop's class is not complete"))
}

/// What is ours of the loop's methods.
#[inline]
pub(crate) fn found(event_loop: &Bound<'_, LoopCore>) -> PyResult<Found> {
    let py = event_loop.py();
    let class = version(event_loop.get_type_ptr());
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
    // What was replaced in the standard classes is put into ours, which this looks at.
    function(py, "offloop._loop.replaced", "make_way")?.call0()?;
    let class = event_loop.get_type();
    let mut ours = [true; 3];
    for ((ours, name), method) in ours.iter_mut().zip(NAMES).zip(&originals.methods) {
        *ours = class.getattr(name)?.is(method);
    }
    let standard_time = originals.standard.bind(py).getattr("time")?;
    let standard_time = standard_time.is(&originals.standard_time);
    // Looking has given the class its number.
    let seen = version(event_loop.get_type_ptr());
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
pub(crate) fn replace(core: &LoopCore, py: Python<'_>, name: &str, replaced: bool) {
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

/// The numbers of the classes that rounds depend on, as they are now; 0 where there is none.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    class: u32,
    handles: u32,
}

impl Seen {
    #[inline]
    pub(crate) fn of(event_loop: &Bound<'_, LoopCore>) -> Self {
        let handles = ORIGINALS.get(event_loop.py());
        Self {
            class: version(event_loop.get_type_ptr()),
            handles: handles.map_or(0, |originals| version(originals.handle.as_ptr().cast())),
        }
    }
}

impl Overrides {
    /// Whether rounds were ours when these numbers were seen, and nobody has to be told anything.
    #[inline]
    pub(crate) fn rounds_were_ours(&self, seen: Seen) -> bool {
        self.found.rounds
            && seen.class != 0
            && seen.class == self.class
            && seen.handles != 0
            && seen.handles == self.handles
    }
}

/// Whether the next round is ours: neither the program's, nor one over what it has been lent.
///
/// It is also the place where a program hears that it has changed something in vain.
#[cold]
pub(crate) fn rounds_are_ours(event_loop: &Bound<'_, LoopCore>) -> PyResult<bool> {
    let py = event_loop.py();
    let seen = Seen::of(event_loop);
    let (known, lent) = event_loop
        .get()
        .state
        .with(py, |state| (state.overrides.handles, state.lent.is_some()));
    if seen.handles == 0 || seen.handles != known {
        look_at_handles(event_loop)?;
    }
    Ok(found(event_loop)?.rounds && (!lent || lending::take_back(event_loop)?))
}

/// A program that has replaced `Handle._run` of the standard library is told that nobody calls it.
#[cold]
fn look_at_handles(event_loop: &Bound<'_, LoopCore>) -> PyResult<()> {
    let py = event_loop.py();
    let class = originals(py)?.handle.bind(py);
    let run = class.getattr(pyo3::intern!(py, "_run"))?;
    let seen = version(class.as_type_ptr());
    event_loop
        .get()
        .state
        .with(py, |state| state.overrides.handles = seen);
    function(py, "offloop._loop.handles", "check_run")?.call1((run,))?;
    Ok(())
}

/// `_run_once`, when somebody else waits for the loop or has what it is to run: the standard
/// library's, over the deque and the heap. False when the round is to be ours.
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

/// Whether the module `time` tells the standard loop the real time.
#[inline]
fn time_is_real(py: Python<'_>) -> PyResult<bool> {
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
    // SAFETY: attached; borrowed from the module's names, or null.
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
    // SAFETY: attached; a dictionary, and a string, whose hash and comparison cannot fail.
    unsafe { ffi::PyDict_GetItemWithError(names.as_ptr(), name.as_ptr()) }
}

/// Whether the loop's time is that of the system, and nobody else has to be asked.
#[inline]
pub(crate) fn clock_is_ours(py: Python<'_>, found: Found) -> PyResult<bool> {
    Ok(found.clock && found.standard_clock && time_is_real(py)?)
}

/// `loop.time()`: what the standard loop's method says, which is asked only if that may differ.
#[inline]
pub(crate) fn time<'py>(event_loop: &Bound<'py, LoopCore>) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    if found(event_loop)?.standard_clock && time_is_real(py)? {
        return monotonic_s().into_bound_py_any(py);
    }
    let standard = originals(py)?.standard.bind(py);
    standard.call_method1(pyo3::intern!(py, "time"), (event_loop,))
}
