//! The arguments of a call, borrowed where the caller has them.
//!
//! Calls with unusual keywords are left to Python code, which sorts them out and calls again.
//!
//! Invariants: 1. There are as many names as there are keywords.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use pyo3::{ffi, intern};

use super::cell::GilCell;
use crate::names::function;

/// An argument that need not be given.
pub(crate) type Given<'a, 'py, T = PyAny> = Option<&'a Bound<'py, T>>;

/// The arguments of a call; everything is borrowed from the caller.
pub(crate) struct Arguments<'a, 'py> {
    pub(crate) positional: &'a [Bound<'py, PyAny>],
    /// The values of the arguments that are given by name.
    pub(crate) keywords: &'a [Bound<'py, PyAny>],
    /// The names of `keywords`, in the same order.
    pub(crate) names: Given<'a, 'py, PyTuple>,
}

// An array of pointers is read as one of borrowed references.
const _: () = assert!(size_of::<Bound<'_, PyAny>>() == size_of::<*mut ffi::PyObject>());
const _: () = assert!(align_of::<Bound<'_, PyAny>>() == align_of::<*mut ffi::PyObject>());

impl<'a, 'py> Arguments<'a, 'py> {
    /// What C passes to a method that takes any arguments.
    ///
    /// # Safety
    /// `args` has `count` positional arguments, and after them one for each of `names`, which is a
    /// tuple of strings or null; all of that is *lent* for `'a`.
    #[inline]
    pub(super) unsafe fn lent(
        py: Python<'py>,
        args: &'a *const *mut ffi::PyObject,
        count: ffi::Py_ssize_t,
        names: &'a *mut ffi::PyObject,
    ) -> Self {
        // SAFETY: the caller's. `Bound` is a pointer that is not null, as `ref_from_ptr` has it
        // too, and these are only borrowed.
        unsafe {
            let (names, keywords) = if names.is_null() {
                (None, 0)
            } else {
                let keywords = ffi::PyTuple_GET_SIZE(*names).unsigned_abs();
                (
                    Some(Bound::ref_from_ptr(py, names).cast_unchecked()),
                    keywords,
                )
            };
            let count = count.unsigned_abs();
            let all: &[Bound<'py, PyAny>] = if args.is_null() {
                &[]
            } else {
                std::slice::from_raw_parts(args.cast(), count + keywords)
            };
            let (positional, keywords) = all.split_at(count.min(all.len()));
            Self {
                positional,
                keywords,
                names,
            }
        }
    }

    /// The names of the keywords, in their order.
    #[inline]
    pub(crate) fn names(&self) -> &'a [Bound<'py, PyAny>] {
        self.names.map_or(&[], |names| names.as_slice())
    }

    /// The context, if one is given by keyword; `None` when other keywords are given.
    #[inline]
    pub(crate) fn context(&self) -> Option<Given<'a, 'py>> {
        match (self.keywords, self.names()) {
            ([], _) => Some(None),
            ([context], [name]) => is_context(name).then_some(Some(context)),
            _ => None,
        }
    }

    /// The one argument of a call, which may be given by its name.
    #[inline]
    pub(crate) fn only(
        &self,
        method: &str,
        parameter: &Bound<'py, PyString>,
    ) -> PyResult<&'a Bound<'py, PyAny>> {
        match (self.positional, self.keywords) {
            ([one], []) => Ok(one),
            ([], [one]) if is_named(&self.names()[0], parameter) => Ok(one),
            _ => Err(PyTypeError::new_err(format!(
                "{method}() takes one argument: {parameter}"
            ))),
        }
    }

    /// Leaves an unusual call to Python, which sorts its keywords out and calls again.
    pub(crate) fn sort_out<T>(
        &self,
        receiver: &Bound<'py, T>,
        method: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = receiver.py();
        let positional = PyTuple::new(py, self.positional)?;
        let keywords = PyDict::new(py);
        for (name, value) in self.names().iter().zip(self.keywords) {
            keywords.set_item(name, value)?;
        }
        let sorted = function(py, "offloop._loop.handles", method)?;
        sorted.call1((receiver.as_any(), positional, keywords))
    }
}

/// Whether the name of a keyword is `wanted`: mostly both are the same interned string.
#[inline]
pub(crate) fn is_named(name: &Bound<'_, PyAny>, wanted: &Bound<'_, PyString>) -> bool {
    // Names of keywords are strings, which compare without running any code.
    name.is(wanted) || name.eq(wanted).unwrap_or(false)
}

/// The name `context` as tasks give it to `call_soon`: one string of `_asyncio`, not interned. It
/// is recognised by its address, and kept alive so that no other object gets that address.
static CONTEXT_OF_TASKS: GilCell<Option<Py<PyAny>>> = GilCell::new(None);

/// Whether the name of a keyword is `context`.
#[inline]
fn is_context(name: &Bound<'_, PyAny>) -> bool {
    let known = |kept: &mut Option<Py<PyAny>>| {
        let kept = kept.as_ref();
        kept.is_some_and(|kept| name.is(kept))
    };
    CONTEXT_OF_TASKS.with(name.py(), known) || is_context_at_first(name)
}

#[cold]
fn is_context_at_first(name: &Bound<'_, PyAny>) -> bool {
    let py = name.py();
    let wanted = intern!(py, "context");
    let is_named = is_named(name, wanted);
    if is_named && !name.is(wanted) {
        let kept = name.clone().unbind();
        CONTEXT_OF_TASKS.with(py, |first| first.get_or_insert(kept).as_ptr());
    }
    is_named
}

pub(crate) fn missing(method: &str, name: &str) -> PyErr {
    PyTypeError::new_err(format!(
        "{method}() missing 1 required positional argument: '{name}'"
    ))
}

/// What a flag is that a program sets, for the attributes of a class of ours: the standard classes
/// take any object, and ask it for its truth.
pub(crate) fn truth(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.is_truthy()
}
