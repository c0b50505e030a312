//! Refuses callables of which a worker could run nothing: a call would only make a coroutine.
//!
//! The coroutine cannot leave its process, so the standard pool fails to pickle it, long after the
//! mistake. Here it is named at the submission, for the price of one attribute of the code object.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// Partials of partials that are looked into.
const LAYERS_MAX: usize = 8;

static PARTIAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static METHOD: PyOnceLock<Py<PyType>> = PyOnceLock::new();

/// What is wanted of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// What it returns.
    Value,
    /// The items of what it returns, which may be an asynchronous generator.
    Items,
}

/// Whether `callable` is an asynchronous generator function itself.
pub(crate) fn is_async_generator(callable: &Bound<'_, PyAny>) -> PyResult<bool> {
    let flags = flags(callable)?;
    Ok(flags.is_some_and(|flags| flags & ffi::CO_ASYNC_GENERATOR != 0))
}

/// Raises `TypeError` if a call of `callable` would make a coroutine, or an asynchronous generator
/// where a value is wanted.
pub(crate) fn refuse(callable: &Bound<'_, PyAny>, wanted: Wanted) -> PyResult<()> {
    match flags(callable)? {
        Some(flags) => refuse_flags(callable, flags, wanted),
        // Calls of C functions and of classes make no coroutine.
        None if is_builtin(callable) || callable.is_instance_of::<PyType>() => Ok(()),
        None => refuse_wrapped(callable, wanted),
    }
}

/// A method, a partial, or an instance that can be called: the function that it calls counts.
fn refuse_wrapped(callable: &Bound<'_, PyAny>, wanted: Wanted) -> PyResult<()> {
    let py = callable.py();
    let partial = PARTIAL.import(py, "functools", "partial")?;
    let method = METHOD.import(py, "types", "MethodType")?;
    let mut inner = callable.clone();
    for _ in 0..LAYERS_MAX {
        inner = if inner.is_instance(method)? {
            inner.getattr(intern!(py, "__func__"))?
        } else if inner.is_instance(partial)? {
            inner.getattr(intern!(py, "func"))?
        } else {
            break;
        };
    }
    if let Some(flags) = flags(&inner)? {
        return refuse_flags(&inner, flags, wanted);
    }
    if is_builtin(&inner) || inner.is_instance_of::<PyType>() {
        return Ok(());
    }
    match inner.get_type().getattr(intern!(py, "__call__")) {
        Ok(call) => flags(&call)?.map_or(Ok(()), |flags| refuse_flags(&call, flags, wanted)),
        // What cannot be called says so when it is.
        Err(_) => Ok(()),
    }
}

fn is_builtin(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: attached, and `object` is alive; the check reads its type.
    unsafe { ffi::PyCFunction_Check(object.as_ptr()) != 0 }
}

/// The flags of a function's code; `None` for what is no function.
fn flags(object: &Bound<'_, PyAny>) -> PyResult<Option<i32>> {
    let py = object.py();
    // SAFETY: attached; a function's code is borrowed from the function, which is alive.
    let code = unsafe {
        if ffi::PyFunction_Check(object.as_ptr()) == 0 {
            return Ok(None);
        }
        Bound::from_borrowed_ptr(py, ffi::PyFunction_GetCode(object.as_ptr()))
    };
    code.getattr(intern!(py, "co_flags"))?.extract().map(Some)
}

fn refuse_flags(function: &Bound<'_, PyAny>, flags: i32, wanted: Wanted) -> PyResult<()> {
    let (kind, advice) = if flags & ffi::CO_COROUTINE != 0 {
        let advice = "await it here, or call it with asyncio.run inside a plain function";
        ("a coroutine function", advice)
    } else if flags & ffi::CO_ASYNC_GENERATOR != 0 && wanted == Wanted::Value {
        let advice = "iterate over it here, or over pool.stream, which runs it in a worker";
        ("an asynchronous generator function", advice)
    } else {
        return Ok(());
    };
    let name = names_of(function)?;
    let text = format!("`{name}` is {kind}, and workers run plain functions: {advice}");
    Err(PyTypeError::new_err(text))
}

/// The name of a function with its module, which is left out for the program itself.
fn names_of(function: &Bound<'_, PyAny>) -> PyResult<String> {
    let py = function.py();
    let name = function.getattr(intern!(py, "__qualname__"))?.str()?;
    let module = function.getattr(intern!(py, "__module__"))?.str()?;
    let (name, module) = (name.to_string(), module.to_string());
    Ok(match module.as_str() {
        "__main__" | "None" => name,
        _ => format!("{module}.{name}"),
    })
}
