//! Futures and tasks of the loop: the standard library's C classes, made without a detour.
//!
//! `create_task` makes the usual task here: without a task factory, not in debug mode, and with no
//! other keywords than the class is known to have. Any other call goes to the standard method.
//!
//! Source:     asyncio/base_events.py.

use std::ptr::null_mut;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use pyo3::{ffi, intern};

use super::super::ground::arguments::{Arguments, is_named};
use super::super::port::futures::{future, keywords};
use super::loop_core::LoopCore;
use super::makers;

/// The names among which the standard loop looks the class up at each call, and the C class.
struct Classes {
    tasks: Py<PyDict>,
    task: Py<PyType>,
    /// `create_task` of the standard loop.
    standard: Py<PyAny>,
    /// The keywords that a task's class is known to have, each with the names of a call that
    /// gives it and the loop.
    keywords: Vec<(Py<PyString>, Py<PyTuple>)>,
}

/// The flag of a function that takes any keywords (`inspect.CO_VARKEYWORDS`).
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
        // From Python 3.14 on `create_task` passes unknown keywords on to the class.
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
    /// `None` when a keyword is not known.
    fn names<'py>(
        &self,
        py: Python<'py>,
        call: &Arguments<'_, '_>,
    ) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let mut known = call.names().iter().map(|given| {
            let mut keywords = self.keywords.iter();
            // Mostly it is one of these very strings.
            let known = keywords.clone().find(|(name, _)| given.is(name));
            known.or_else(|| keywords.find(|(name, _)| is_named(given, name.bind(py))))
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
pub(super) fn create_future(
    py: Python<'_>,
    event_loop: &Bound<'_, LoopCore>,
    call: &Arguments<'_, '_>,
) -> PyResult<Py<PyAny>> {
    if !call.positional.is_empty() || !call.keywords.is_empty() {
        return Err(PyTypeError::new_err("create_future() takes no arguments"));
    }
    Ok(future(py, event_loop.as_super())?.unbind())
}

/// `create_task(coro, *, name=None, context=None, ...)`.
pub(super) fn create_task(
    py: Python<'_>,
    event_loop: &Bound<'_, LoopCore>,
    call: &Arguments<'_, '_>,
) -> PyResult<Py<PyAny>> {
    let rounds = &event_loop.get().state;
    let (no_factory, endings) = rounds.with(py, |state| {
        (state.task_factory.is_none(), state.endings.clone())
    });
    let port = event_loop.as_super().get();
    let plain = port
        .state
        .with(py, |state| no_factory && !state.closed && !state.debug);
    let plain = if plain {
        plain_task(event_loop, call)?
    } else {
        None
    };
    let task = match plain {
        Some(task) => task,
        None => standard_task(event_loop, call)?,
    };
    if let Some(endings) = endings {
        if let [coroutine, ..] = call.positional {
            makers::note(task.bind(py), coroutine);
        }
        endings.look_at_new(task.bind(py))?;
    }
    Ok(task)
}

/// Makes a task of the C class; `None` when it is to be made in another way.
fn plain_task(
    event_loop: &Bound<'_, LoopCore>,
    call: &Arguments<'_, '_>,
) -> PyResult<Option<Py<PyAny>>> {
    let py = event_loop.py();
    let classes = classes(py)?;
    let [coroutine] = call.positional else {
        return Ok(None);
    };
    let class = classes.tasks.bind(py).get_item(intern!(py, "Task"))?;
    if !class.is_some_and(|class| class.is(&classes.task)) {
        return Ok(None);
    }
    if call.keywords.is_empty() {
        let keywords = keywords(py, event_loop.as_super())?;
        let task = classes.task.bind(py);
        let task = task.call((coroutine,), Some(keywords.bind(py)))?;
        return Ok(Some(task.unbind()));
    }
    let Some(names) = classes.names(py, call)? else {
        return Ok(None);
    };
    let mut arguments = [null_mut(); 2 + KEYWORDS];
    arguments[..2].copy_from_slice(&[coroutine.as_ptr(), event_loop.as_ptr()]);
    // Each is known, so there are no more than that unless one is given twice.
    let Some(places) = arguments[2..].get_mut(..call.keywords.len()) else {
        return Ok(None);
    };
    for (place, value) in places.iter_mut().zip(call.keywords) {
        *place = value.as_ptr();
    }
    // SAFETY: *lent*: the caller's objects: one positional, and after it one for each name.
    let task = unsafe { vectorcall(classes.task.bind(py), &arguments, 1, Some(&names))? };
    Ok(Some(task))
}

/// The standard loop's `create_task`, with the arguments as they are.
fn standard_task(
    event_loop: &Bound<'_, LoopCore>,
    call: &Arguments<'_, '_>,
) -> PyResult<Py<PyAny>> {
    let given = call.positional.iter().chain(call.keywords);
    let arguments = std::iter::once(event_loop.as_ptr()).chain(given.map(Bound::as_ptr));
    let arguments: Vec<_> = arguments.collect();
    let positional = call.positional.len() + 1;
    let standard = classes(event_loop.py())?.standard.bind(event_loop.py());
    // SAFETY: *lent*: the caller's objects, and as many names as there are keywords.
    unsafe { vectorcall(standard, &arguments, positional, call.names) }
}

/// Calls something with positional arguments, and after them those that are named.
///
/// # Safety
/// The arguments are alive; as many as there are positional ones and names, or more.
unsafe fn vectorcall(
    called: &Bound<'_, PyAny>,
    arguments: &[*mut ffi::PyObject],
    positional: usize,
    names: Option<&Bound<'_, PyTuple>>,
) -> PyResult<Py<PyAny>> {
    let names = names.map_or(null_mut(), Bound::as_ptr);
    // SAFETY: *attached*; the caller's.
    let result = unsafe {
        let result =
            ffi::PyObject_Vectorcall(called.as_ptr(), arguments.as_ptr(), positional, names);
        Bound::from_owned_ptr_or_err(called.py(), result)?
    };
    Ok(result.unbind())
}
