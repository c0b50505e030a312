//! Python objects that are needed again and again, looked up once.

use std::ffi::CString;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyInt, PyTuple};

/// Objects of the standard library and of our own Python modules.
pub(crate) struct Names {
    pub(crate) dumps: Py<PyAny>,
    pub(crate) loads: Py<PyAny>,
    pub(crate) five: Py<PyInt>,
    pub(crate) buffer_callback: Py<PyTuple>,
    pub(crate) buffers: Py<PyTuple>,
    pub(crate) nothing: Py<PyTuple>,
}

static NAMES: PyOnceLock<Names> = PyOnceLock::new();

/// The objects, imported at the first use.
pub(crate) fn names(py: Python<'_>) -> PyResult<&Names> {
    NAMES.get_or_try_init(py, || {
        let pickle = py.import("_pickle")?;
        Ok(Names {
            dumps: pickle.getattr("dumps")?.unbind(),
            loads: pickle.getattr("loads")?.unbind(),
            five: 5i32.into_pyobject(py)?.unbind(),
            buffer_callback: PyTuple::new(py, ["buffer_callback"])?.unbind(),
            buffers: PyTuple::new(py, ["buffers"])?.unbind(),
            nothing: PyTuple::empty(py).unbind(),
        })
    })
}

/// Whether cloudpickle was told of modules whose members travel by value.
pub(crate) fn has_modules_by_value(py: Python<'_>) -> bool {
    static MODULES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if MODULES.get(py).is_none() {
        let name = pyo3::intern!(py, "cloudpickle.cloudpickle");
        // SAFETY: attached, and `name` is a live string. The result is a new reference, or null
        // without an error when the module has not been imported.
        let module =
            unsafe { Bound::from_owned_ptr_or_opt(py, ffi::PyImport_GetModule(name.as_ptr())) };
        let found = module.and_then(|module| module.getattr("_PICKLE_BY_VALUE_MODULES").ok());
        let Some(found) = found else { return false };
        // Another thread may have been first, with the same object.
        let _ = MODULES.set(py, found.unbind());
    }
    MODULES
        .get(py)
        .is_some_and(|modules| modules.bind(py).len().is_ok_and(|count| count > 0))
}

/// Whether arrays arrive writable whatever they were: pickle's protocols before 5, which the
/// standard pool uses before Python 3.14, cannot say that an array is read-only.
pub(crate) fn arrays_become_writable(py: Python<'_>) -> bool {
    py.version_info() < (3, 14)
}

/// A function of one of our Python modules, for paths that are not hot.
pub(crate) fn function<'py>(
    py: Python<'py>,
    module: &str,
    name: &str,
) -> PyResult<Bound<'py, PyAny>> {
    py.import(module)?.getattr(name)
}

/// `callable(*positional, **{name: value})` without building a tuple or a dictionary.
///
/// `arguments` are the positional ones and then the values of `keywords`, in order.
pub(crate) fn call_with_keywords<'py>(
    py: Python<'py>,
    callable: &Py<PyAny>,
    arguments: &[*mut ffi::PyObject],
    keywords: &Py<PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let positional = arguments.len() - keywords.bind(py).len();
    // SAFETY: we are attached; `arguments` are borrowed references that the caller keeps alive,
    // and `keywords` names the last of them. A null result is an error that is set.
    unsafe {
        let result = ffi::PyObject_Vectorcall(
            callable.as_ptr(),
            arguments.as_ptr(),
            positional,
            keywords.as_ptr(),
        );
        Bound::from_owned_ptr_or_err(py, result)
    }
}

/// Raises an exception class of one of our Python modules with a text.
pub(crate) fn raise(py: Python<'_>, module: &str, class: &str, text: &str) -> PyErr {
    match function(py, module, class).and_then(|class| class.call1((text,))) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// A C string for `Py_buffer::format`: unsigned bytes.
pub(crate) fn byte_format() -> CString {
    c"B".to_owned()
}
