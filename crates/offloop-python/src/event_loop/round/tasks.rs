//! Futures and tasks of the loop: the standard library's C classes, made without a detour.
//!
//! `create_task` does here what it mostly is asked for: no task factory, not in debug mode, and no
//! other keywords than the class is known to have. Anything else is the standard method's.
//!
//! Source:     asyncio/base_events.py.

use std::ptr::null_mut;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{ffi, intern};

use super::super::ground::trampoline::{self, enter, ffi_bound, is_named};
use super::super::port::futures::{future, keywords};
use super::loop_core::LoopCore;

type Arguments<'a, 'py> = trampoline::Arguments<'a, 'py, LoopCore>;

/// Where the standard loop looks the class up at each call, and what stands there in C.
struct Classes {
    tasks: Py<PyDict>,
    task: Py<PyType>,
    /// `create_task` of the standard loop.
    standard: Py<PyAny>,
    /// The keywords that a task's class is known to have, each with the names of a call that
    /// gives it and the loop.
    keywords: Vec<(Py<PyString>, Py<PyTuple>)>,
}

/// Of a function that takes any keywords (`inspect.CO_VARKEYWORDS`).
const ANY_KEYWORDS: u32 = 8;
/// `name`, `context` and `eager_start`.
const KEYWORDS: usize = 3;

static CLASSES: PyOnceLock<Classes> = PyOnceLock::new();

fn classes(py: Python<'_>) -> PyResult<&'static Classes> {
    CLASSES.get_or_try_init(py, || {
        let base = py.import("asyncio.base_events")?.getattr("BaseEventLoop")?;
        let native = py.import("_asyncio")?;
        let standard = base.getattr("create_task")?;
        let flags = match standard.getattr_opt("__code__")? {
            Some(code) => code.getattr("co_flags")?.extract()?,
            None => 0,
        };
        let mut keywords = vec![intern!(py, "name"), intern!(py, "context")];
        // From Python 3.14 on it passes on to the class what it does not know.
        if flags & ANY_KEYWORDS != 0 {
            keywords.push(intern!(py, "eager_start"));
        }
        let with_loop = |name: &Bound<'_, PyString>| {
            let names = PyTuple::new(py, [intern!(py, "loop"), name])?;
            PyResult::Ok((name.clone().unbind(), names.unbind()))
        };
        Ok(Classes {
            tasks: py.import("asyncio.tasks")?.dict().unbind(),
            task: native.getattr("Task")?.cast_into::<PyType>()?.unbind(),
            standard: standard.unbind(),
            keywords: keywords
                .into_iter()
                .map(with_loop)
                .collect::<PyResult<_>>()?,
        })
    })
}

impl Classes {
    /// The keywords' names of a call of the class: `loop`, and those given to `create_task`.
    ///
    /// `None` when one is not known.
    fn names<'py>(
        &self,
        py: Python<'py>,
        call: &Arguments<'_, '_>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let mut known = (0..call.keywords.len()).map(|index| {
            // SAFETY: a tuple with as many names as there are keywords.
            let given = unsafe { ffi::PyTuple_GET_ITEM(call.names, index as ffi::Py_ssize_t) };
            let mut keywords = self.keywords.iter();
            // Mostly it is one of these very strings.
            let known = keywords.clone().find(|(name, _)| name.as_ptr() == given);
            known.or_else(|| keywords.find(|(name, _)| is_named(py, given, name.bind(py))))
        });
        if call.keywords.len() == 1 {
            let with_loop = known.next().flatten();
            return Ok(with_loop.map(|(_, names)| names.bind(py).clone()));
        }
        let Some(known) = known.collect::<Option<Vec<_>>>() else {
            return Ok(None);
        };
        let names = std::iter::once(intern!(py, "loop").as_unbound());
        let names: Vec<_> = names.chain(known.iter().map(|(name, _)| name)).collect();
        PyTuple::new(py, names).map(Some)
    }
}

/// `create_future()`.
pub(crate) unsafe extern "C" fn create_future(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter.
    unsafe {
        enter(slf, args, count, names, |py, call: &Arguments<'_, '_>| {
            if !call.positional.is_empty() || !call.keywords.is_empty() {
                return Err(PyTypeError::new_err("create_future() takes no arguments"));
            }
            Ok(future(py, call.slf.as_super())?.into_ptr())
        })
    }
}

/// `create_task(coro, *, name=None, context=None, ...)`.
pub(crate) unsafe extern "C" fn create_task(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: called by the interpreter.
    unsafe {
        enter(slf, args, count, names, |py, call: &Arguments<'_, '_>| {
            let rounds = &call.slf.get().state;
            let no_factory = rounds.with(py, |state| state.task_factory.is_none());
            let port = call.slf.as_super().get();
            let plain = port
                .state
                .with(py, |state| no_factory && !state.closed && !state.debug);
            if plain && let Some(task) = plain_task(py, call)? {
                return Ok(task);
            }
            standard_task(py, call)
        })
    }
}

/// Makes a task of the C class; `None` when it is to be made in another way.
fn plain_task(py: Python<'_>, call: &Arguments<'_, '_>) -> PyResult<Option<*mut ffi::PyObject>> {
    let classes = classes(py)?;
    let [coroutine] = call.positional else {
        return Ok(None);
    };
    let class = classes.tasks.bind(py).get_item(intern!(py, "Task"))?;
    if !class.is_some_and(|class| class.is(&classes.task)) {
        return Ok(None);
    }
    if call.keywords.is_empty() {
        // SAFETY: attached, a live object.
        let coroutine = unsafe { ffi_bound(py, coroutine) };
        let keywords = keywords(py, call.slf.as_super())?;
        let task = classes.task.bind(py);
        let task = task.call((coroutine,), Some(keywords.bind(py)))?;
        return Ok(Some(task.into_ptr()));
    }
    let Some(names) = classes.names(py, call)? else {
        return Ok(None);
    };
    let mut arguments = [null_mut(); 2 + KEYWORDS];
    arguments[..2].copy_from_slice(&[*coroutine, call.slf.as_ptr()]);
    let given = 2..2 + call.keywords.len();
    // Each is known, so there are not more unless one stands twice.
    let Some(places) = arguments.get_mut(given) else {
        return Ok(None);
    };
    places.copy_from_slice(call.keywords);
    make(py, classes, &arguments, names.as_ptr()).map(Some)
}

/// Calls the class with the coroutine and the keywords after it.
fn make(
    py: Python<'_>,
    classes: &Classes,
    arguments: &[*mut ffi::PyObject],
    names: *mut ffi::PyObject,
) -> PyResult<*mut ffi::PyObject> {
    // SAFETY: attached; borrowed objects, one positional, and as many names as there are others.
    let task =
        unsafe { ffi::PyObject_Vectorcall(classes.task.as_ptr(), arguments.as_ptr(), 1, names) };
    if task.is_null() {
        return Err(PyErr::fetch(py));
    }
    Ok(task)
}

/// The standard loop's `create_task`, with the arguments as they are.
fn standard_task(py: Python<'_>, call: &Arguments<'_, '_>) -> PyResult<*mut ffi::PyObject> {
    let mut arguments = vec![call.slf.as_ptr()];
    arguments.extend_from_slice(call.positional);
    arguments.extend_from_slice(call.keywords);
    let positional = call.positional.len() + 1;
    let standard = classes(py)?.standard.as_ptr();
    // SAFETY: attached; borrowed objects, and as many names as there are keywords.
    let task =
        unsafe { ffi::PyObject_Vectorcall(standard, arguments.as_ptr(), positional, call.names) };
    if task.is_null() {
        return Err(PyErr::fetch(py));
    }
    Ok(task)
}
