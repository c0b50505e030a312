//! Functions that workers remember, so that a call sends a number instead of a pickle.
//!
//! A function of an importable module is sent once by its name. `offloop._main` describes any other
//! function: its pickle, the definitions that it needs, and the objects on which both depend.
//! Before each call these objects are checked here, one by one; where something may have changed
//! in place, its pickle is compared.
//!
//! Invariants: 1. An entry is removed when its function is freed, so an address never names
//!                another function.
//!             2. The tables are bounded, in entries and in bytes.
//!             3. No Python object is made or dropped while the tables are locked.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offloop::{Definition, ExitStatus, Outcome, Runtime};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyCFunction, PyTuple, PyWeakrefReference};

use crate::blocks::Allocate;
use crate::coroutines;
use crate::definitions;
use crate::error::exit;
use crate::names::{self, call_with_keywords};

/// Functions in the table: far more than a program offloads, few enough to hold in memory.
const FUNCTIONS_MAX: usize = 4096;
/// Bytes of the definitions that are kept to be found again by their contents.
const DEFINITION_BYTES_MAX: usize = 32 << 20;

/// The name under which all those are counted that came when the table was full.
const OTHERS: &str = "(other functions)";

/// How often the functions of one name ran, for how long, and what else became of their calls.
pub(crate) struct FunctionStatistics {
    name: Arc<str>,
    calls: AtomicU64,
    run_ns: AtomicU64,
    /// Calls that were cancelled, expired, dropped or broken.
    stopped: AtomicU64,
    crashes: AtomicU64,
    last_crash: Mutex<Option<ExitStatus>>,
}

impl FunctionStatistics {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            calls: AtomicU64::new(0),
            run_ns: AtomicU64::new(0),
            stopped: AtomicU64::new(0),
            crashes: AtomicU64::new(0),
            last_crash: Mutex::new(None),
        }
    }

    /// The name under which they are counted.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Counts the end of a call.
    pub(crate) fn record(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Returned(returned) => {
                self.calls.fetch_add(1, Ordering::Relaxed);
                self.run_ns.fetch_add(returned.run_ns, Ordering::Relaxed);
            }
            Outcome::Lost { crash, .. } => {
                self.crashes.fetch_add(1, Ordering::Relaxed);
                *self.last_crash() = crash.status;
            }
            _ => {
                self.stopped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn last_crash(&self) -> MutexGuard<'_, Option<ExitStatus>> {
        self.last_crash
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A function as a call needs it.
#[derive(Clone)]
pub(crate) struct KnownFunction {
    pub(crate) function: Arc<Definition>,
    pub(crate) statistics: Arc<FunctionStatistics>,
    /// It is an asynchronous generator function, of which no value can be had.
    pub(crate) only_streams: bool,
}

/// A dictionary, a class or a cell, a name, and the very object that must stand there; none for the
/// function itself, which its own entry must not keep alive.
type Place = (Py<PyAny>, Py<PyAny>, Option<Py<PyAny>>);

/// What must hold for a function to be as it was sent.
struct Checks {
    places: Vec<Place>,
    /// An object, and its pickle or its length.
    probes: Vec<(Py<PyAny>, Py<PyAny>)>,
}

enum Validity {
    /// Sent by name: always the same.
    Name,
    Checked(Arc<Checks>),
    /// Depends on something that cannot be compared: described anew for each call.
    Volatile,
}

struct Entry {
    reference: Py<PyWeakrefReference>,
    known: KnownFunction,
    validity: Validity,
}

#[derive(Default)]
struct Tables {
    generation: u32,
    by_object: HashMap<usize, Entry>,
    /// The function's address, by that of its weak reference.
    by_reference: HashMap<usize, usize>,
    /// Only definitions without needs: what a definition needs would be kept alive, too.
    by_definition: HashMap<Arc<[u8]>, Arc<Definition>>,
    oldest_first: VecDeque<Arc<[u8]>>,
    definition_bytes: usize,
    statistics: HashMap<String, Arc<FunctionStatistics>>,
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
        // The parent's entries are leaked: a thread that this child does not have may have been
        // changing their reference counts.
        std::mem::forget(tables.replace(Tables {
            generation,
            ..Tables::default()
        }));
    }
    tables
}

/// The number of `callable`, if workers know it as it is now.
pub(crate) fn known(
    py: Python<'_>,
    callable: &Bound<'_, PyAny>,
) -> PyResult<Option<KnownFunction>> {
    let key = callable.as_ptr() as usize;
    let found = {
        let tables = tables();
        let entry = tables
            .as_ref()
            .and_then(|tables| tables.by_object.get(&key));
        match entry.map(|entry| (&entry.validity, &entry.known)) {
            Some((Validity::Name, known)) => return Ok(Some(known.clone())),
            Some((Validity::Checked(checks), known)) => (Arc::clone(checks), known.clone()),
            Some((Validity::Volatile, _)) | None => return Ok(None),
        }
    };
    let (checks, known) = found;
    Ok(checks.hold(py, callable)?.then_some(known))
}

impl Checks {
    fn hold(&self, py: Python<'_>, itself: &Bound<'_, PyAny>) -> PyResult<bool> {
        let missing = definitions::missing(py)?.as_ptr();
        for (place, name, value) in &self.places {
            let value = value.as_ref().map_or(itself.as_ptr(), Py::as_ptr);
            if !stands_at(place, name, value, missing) {
                return Ok(false);
            }
        }
        for (object, seen) in &self.probes {
            if !looks_like(py, object, seen)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether `value` is what `place` has at `name`; `missing` is when there is nothing.
fn stands_at(
    place: &Py<PyAny>,
    name: &Py<PyAny>,
    value: *mut ffi::PyObject,
    missing: *mut ffi::PyObject,
) -> bool {
    let place = place.as_ptr();
    // SAFETY: attached; all are live objects. A dictionary's item is a borrowed reference, which is
    // only compared, and a missing one sets no error; a class made by Python code has a dictionary
    // of its own; a cell's content is a reference that is given back at once.
    unsafe {
        let dictionary = if ffi::PyDict_Check(place) != 0 {
            place
        } else if ffi::PyType_Check(place) != 0 {
            (*place.cast::<ffi::PyTypeObject>()).tp_dict
        } else {
            let content = ffi::PyCell_Get(place);
            ffi::Py_XDECREF(content);
            let content = if content.is_null() { missing } else { content };
            return content == value;
        };
        if dictionary.is_null() {
            return false;
        }
        let found = ffi::PyDict_GetItem(dictionary, name.as_ptr());
        let found = if found.is_null() { missing } else { found };
        found == value
    }
}

/// Whether `object` has the length, or the pickle, that it had.
fn looks_like(py: Python<'_>, object: &Py<PyAny>, seen: &Py<PyAny>) -> PyResult<bool> {
    let Ok(pickle) = seen.bind(py).cast::<PyBytes>() else {
        let length = seen.extract::<usize>(py)?;
        return Ok(object.bind(py).len().is_ok_and(|now| now == length));
    };
    let names = names::names(py)?;
    let arguments = [object.as_ptr(), names.five.as_ptr()];
    match call_with_keywords(py, &names.dumps, &arguments, &names.nothing) {
        Ok(now) => Ok(now.cast::<PyBytes>()?.as_bytes() == pickle.as_bytes()),
        // It could be pickled once: what has changed is for the description to tell.
        Err(_changed) => Ok(false),
    }
}

/// Name, pickle, definitions that it needs, checks (none: described anew each time), probes.
type Description<'py> = (
    String,
    Bound<'py, PyBytes>,
    Bound<'py, PyTuple>,
    Option<Vec<(Py<PyAny>, Py<PyAny>, Py<PyAny>)>>,
    Vec<(Py<PyAny>, Py<PyAny>)>,
);

/// The number of `callable` when it is something that workers remember, sent as it is now; `None`
/// when it is to be pickled with its arguments (bound methods, partials, instances).
pub(crate) fn describe(
    py: Python<'_>,
    runtime: &Runtime,
    allocate: &Allocate,
    callable: &Bound<'_, PyAny>,
) -> PyResult<Option<KnownFunction>> {
    let described = names::function(py, "offloop._main", "describe")?.call1((callable,))?;
    if described.is_none() {
        return Ok(None);
    }
    let (name, pickle, needs, places, probes): Description<'_> = described.extract()?;
    let needs = definitions::from_tuple(&needs)?;
    let validity = match places {
        None => Validity::Volatile,
        Some(places) if places.is_empty() => Validity::Name,
        Some(places) => {
            let apart = |(place, name, value): (_, _, Py<PyAny>)| {
                (place, name, (!value.is(callable)).then_some(value))
            };
            let places = places.into_iter().map(apart).collect();
            Validity::Checked(Arc::new(Checks { places, probes }))
        }
    };
    let contents: Option<Arc<[u8]>> = needs.is_empty().then(|| pickle.as_bytes().into());
    let known = tables()
        .as_ref()
        .and_then(|tables| tables.by_definition.get(contents.as_ref()?))
        .cloned();
    let function = match known {
        Some(function) => function,
        None => definitions::define(py, runtime, allocate, pickle.as_bytes(), needs)?,
    };
    let forget = FORGET.get_or_try_init(py, || -> PyResult<_> {
        Ok(wrap_pyfunction!(forget, py)?.unbind())
    })?;
    let reference = PyWeakrefReference::new_with(callable, forget.bind(py))?.unbind();
    let known = KnownFunction {
        function,
        statistics: statistics_of(name),
        only_streams: coroutines::is_async_generator(callable)?,
    };
    let entry = Entry {
        reference,
        known: known.clone(),
        validity,
    };
    // Only after the lock: dropping an entry may run Python code.
    drop(remember(callable.as_ptr() as usize, entry, contents));
    Ok(Some(known))
}

static FORGET: PyOnceLock<Py<PyCFunction>> = pyo3::sync::PyOnceLock::new();

/// Puts an entry into the tables; returns what has to make room.
fn remember(
    key: usize,
    entry: Entry,
    contents: Option<Arc<[u8]>>,
) -> (Vec<Entry>, Vec<Arc<Definition>>) {
    let mut guard = tables();
    let tables = guard.as_mut().expect("made by `tables`");
    let (mut entries, mut definitions) = (Vec::new(), Vec::new());
    if tables.by_object.len() >= FUNCTIONS_MAX {
        entries.extend(tables.by_object.drain().map(|(_, entry)| entry));
        tables.by_reference.clear();
    }
    let function = Arc::clone(&entry.known.function);
    tables
        .by_reference
        .insert(entry.reference.as_ptr() as usize, key);
    if let Some(old) = tables.by_object.insert(key, entry) {
        tables
            .by_reference
            .remove(&(old.reference.as_ptr() as usize));
        entries.push(old);
    }
    if let Some(contents) = contents {
        let old = tables.by_definition.insert(Arc::clone(&contents), function);
        if old.is_none() {
            tables.definition_bytes += contents.len();
            tables.oldest_first.push_back(contents);
        }
    }
    while tables.definition_bytes > DEFINITION_BYTES_MAX
        || tables.oldest_first.len() > FUNCTIONS_MAX
    {
        let Some(oldest) = tables.oldest_first.pop_front() else {
            break;
        };
        tables.definition_bytes -= oldest.len();
        definitions.extend(tables.by_definition.remove(&oldest));
    }
    (entries, definitions)
}

/// Called by the weak reference to a function that was freed.
#[pyfunction]
fn forget(reference: &Bound<'_, PyAny>) {
    let entry = {
        let mut guard = tables();
        let tables = guard.as_mut().expect("made by `tables`");
        let key = tables.by_reference.remove(&(reference.as_ptr() as usize));
        key.and_then(|key| tables.by_object.remove(&key))
    };
    drop(entry);
}

/// Lets go of all functions, and of what they are checked by; their statistics stay.
#[pyfunction]
pub(crate) fn forget_functions() {
    let (entries, definitions) = {
        let mut guard = tables();
        let tables = guard.as_mut().expect("made by `tables`");
        tables.by_reference.clear();
        tables.oldest_first.clear();
        tables.definition_bytes = 0;
        (
            std::mem::take(&mut tables.by_object),
            std::mem::take(&mut tables.by_definition),
        )
    };
    // Only now: dropping an entry may run Python code.
    drop((entries, definitions));
}

fn statistics_of(name: String) -> Arc<FunctionStatistics> {
    let mut guard = tables();
    let statistics = &mut guard.as_mut().expect("made by `tables`").statistics;
    let full = statistics.len() >= FUNCTIONS_MAX && !statistics.contains_key(&name);
    let name = if full { OTHERS.into() } else { name };
    let fresh = || Arc::new(FunctionStatistics::new(&name));
    Arc::clone(statistics.entry(name.clone()).or_insert_with(fresh))
}

/// What gives a name to a callable that has none of its own.
static NAMED_BY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// From now on calls of what workers do not remember (methods, partials, instances) are counted
/// under the name that `namer` gives to the callable. The first one stays.
#[pyfunction]
pub(crate) fn name_functions_by(py: Python<'_>, namer: Py<PyAny>) {
    let _ = NAMED_BY.set(py, namer);
}

/// Where calls of `callable` are counted, which workers do not remember; `None` unless names are
/// given to such callables.
pub(crate) fn statistics_of_unnamed(
    py: Python<'_>,
    callable: &Bound<'_, PyAny>,
) -> PyResult<Option<Arc<FunctionStatistics>>> {
    let Some(namer) = NAMED_BY.get(py) else {
        return Ok(None);
    };
    let name = namer.bind(py).call1((callable,))?.extract()?;
    Ok(Some(statistics_of(name)))
}

/// A row of `function_statistics`.
#[derive(IntoPyObject)]
pub(crate) struct FunctionRow {
    name: String,
    calls: u64,
    run_seconds: f64,
    stopped: u64,
    crashes: u64,
    last_exit_code: Option<i32>,
    last_signal: Option<i32>,
}

/// What became of the calls of every function that was sent to a worker.
#[pyfunction]
pub(crate) fn function_statistics() -> Vec<FunctionRow> {
    let row = |(name, statistics): (&String, &Arc<FunctionStatistics>)| {
        let run_ns = statistics.run_ns.load(Ordering::Relaxed);
        let (last_exit_code, last_signal) = exit(*statistics.last_crash());
        FunctionRow {
            name: name.clone(),
            calls: statistics.calls.load(Ordering::Relaxed),
            run_seconds: std::time::Duration::from_nanos(run_ns).as_secs_f64(),
            stopped: statistics.stopped.load(Ordering::Relaxed),
            crashes: statistics.crashes.load(Ordering::Relaxed),
            last_exit_code,
            last_signal,
        }
    };
    let tables = tables();
    let statistics = tables.iter().flat_map(|tables| &tables.statistics);
    statistics.map(row).collect()
}
