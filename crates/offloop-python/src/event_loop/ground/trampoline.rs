//! C's calling convention: how the interpreter calls a method of ours without building a tuple.
//!
//! A method is a safe function. It takes the token, the receiver and, unless its table says that it
//! has none, the arguments; `Answer` makes an object of what it returns. `Method` makes a row of a
//! class's table of it. The row points to a function in C's convention, which the compiler makes
//! for this method of one of the generic ones here: a call looks nothing up, and allocates nothing.
//! Every call enters through `enter`.
//!
//! Methods are put on a class as method descriptors, which is what the interpreter calls fastest:
//! the arguments stay where the caller has them, and none is converted.
//!
//! Invariants: those of the ground. `enter` begins with *called*, which makes the token; a
//!             receiver is borrowed by *receiver* and *lent*.
//! Errors:     a panic becomes a `RuntimeError`, and never unwinds into C.
//! Source:     docs.python.org/3/c-api/structures.html (METH_FASTCALL, METH_NOARGS).

use std::ffi::{CStr, c_int};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{NonNull, null_mut};

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyType};
use pyo3::{IntoPyObjectExt as _, PyTypeInfo, ffi};

use super::arguments::Arguments;
use crate::forsaking;

/// What C gets from a call that has failed. The exception is set before.
pub(super) trait Failed {
    const FAILED: Self;
}

impl Failed for *mut ffi::PyObject {
    const FAILED: Self = null_mut();
}

impl Failed for c_int {
    const FAILED: Self = -1;
}

impl Failed for ffi::Py_hash_t {
    const FAILED: Self = -1;
}

/// The one way from C into Rust: runs a body, and sets what it raises.
///
/// # Safety
/// The caller is a function that C has called (*called*).
#[inline]
pub(super) unsafe fn enter<C: Failed>(body: impl FnOnce(Python<'_>) -> PyResult<C>) -> C {
    // SAFETY: *called*: attached, until the function returns, which has the token no longer.
    let py = unsafe { Python::assume_attached() };
    forsaking::stay();
    // A body that panics may leave wrong state in a `GilCell`, which is free again. The exception
    // says that this is a bug of offloop.
    match catch_unwind(AssertUnwindSafe(|| body(py))) {
        Ok(Ok(answer)) => return answer,
        Ok(Err(error)) => error.restore(py),
        Err(_) => panicked().restore(py),
    }
    C::FAILED
}

/// The exception in place of a panic.
#[cold]
pub(super) fn panicked() -> PyErr {
    PyRuntimeError::new_err("offloop's event loop panicked: this is a bug of offloop")
}

/// A function that is known by its type alone: a function item, or a closure that holds nothing.
///
/// C gets the address of a function that is made for this type, and no value beside it. That
/// function makes the value again, see `again`.
pub(crate) trait Item: Copy + Send + Sync + 'static {
    /// The function.
    ///
    /// # Safety
    /// There was a value of the type.
    #[inline]
    unsafe fn again() -> Self {
        const { assert!(size_of::<Self>() == 0, "a function without captured values") };
        // SAFETY: a value without size is read from any address that is aligned. There was one,
        // which could be copied, kept for ever, and sent to any thread: this is one more copy.
        unsafe { NonNull::<Self>::dangling().read() }
    }
}

impl<F: Copy + Send + Sync + 'static> Item for F {}

/// What methods are called on: how it is borrowed from the pointer that C passes.
///
/// # Safety
/// Every instance of `class` can be borrowed by `borrow`.
pub(crate) unsafe trait Receiver {
    /// The form in which methods get the receiver.
    type Borrowed<'py>;

    /// The class of the receivers.
    fn class(py: Python<'_>) -> PyResult<Bound<'_, PyType>>;

    /// Borrows a receiver for as long as the place of its pointer is borrowed.
    ///
    /// # Safety
    /// The pointer is that of an instance of `class`, which lives as long as `'a` (*receiver*,
    /// *lent*).
    unsafe fn borrow<'a, 'py>(
        py: Python<'py>,
        object: &'a *mut ffi::PyObject,
    ) -> &'a Self::Borrowed<'py>;
}

// SAFETY: a class of PyO3's stands for what its instances can be taken for.
unsafe impl<T: PyTypeInfo> Receiver for T {
    type Borrowed<'py> = Bound<'py, T>;

    fn class(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
        Ok(T::type_object(py))
    }

    #[inline]
    unsafe fn borrow<'a, 'py>(
        py: Python<'py>,
        object: &'a *mut ffi::PyObject,
    ) -> &'a Bound<'py, T> {
        // SAFETY: the caller's: a live instance of the class.
        unsafe { ffi_bound(py, object).cast_unchecked::<T>() }
    }
}

/// What a method returns, and how it becomes an object.
pub(crate) trait Answer {
    fn into_answer(self, py: Python<'_>) -> PyResult<Py<PyAny>>;
}

impl Answer for () {
    #[inline]
    fn into_answer(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(py.None())
    }
}

impl Answer for bool {
    #[inline]
    fn into_answer(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(PyBool::new(py, self).to_owned().into_any().unbind())
    }
}

impl Answer for usize {
    fn into_answer(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.into_py_any(py)
    }
}

impl Answer for Py<PyAny> {
    #[inline]
    fn into_answer(self, _py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self)
    }
}

/// `None`, or an object.
impl Answer for Option<Py<PyAny>> {
    #[inline]
    fn into_answer(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        Ok(self.unwrap_or_else(|| py.None()))
    }
}

/// A row of a class's table of methods, for receivers of one kind.
pub(crate) struct Method<T> {
    definition: ffi::PyMethodDef,
    receiver: PhantomData<fn(T)>,
}

impl<T: Receiver> Method<T> {
    /// A method that takes arguments: its name, and its text with the signature that `inspect`
    /// reads.
    pub(crate) const fn new<F, R>(name: &'static CStr, text: &'static CStr, _method: F) -> Self
    where
        F: Item,
        F: for<'a, 'py> Fn(
            Python<'py>,
            &'a T::Borrowed<'py>,
            &'a Arguments<'a, 'py>,
        ) -> PyResult<R>,
        R: Answer,
    {
        Self::of(ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer {
                PyCFunctionFastWithKeywords: with_arguments::<T, F, R>,
            },
            ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ml_doc: text.as_ptr(),
        })
    }

    /// A method without arguments.
    pub(crate) const fn plain<F, R>(name: &'static CStr, text: &'static CStr, _method: F) -> Self
    where
        F: Item,
        F: for<'a, 'py> Fn(Python<'py>, &'a T::Borrowed<'py>) -> PyResult<R>,
        R: Answer,
    {
        Self::of(ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer {
                PyCFunction: without_arguments::<T, F, R, ffi::PyObject>,
            },
            ml_flags: ffi::METH_NOARGS,
            ml_doc: text.as_ptr(),
        })
    }

    const fn of(definition: ffi::PyMethodDef) -> Self {
        Self {
            definition,
            receiver: PhantomData,
        }
    }

    pub(super) fn definition(&self) -> ffi::PyMethodDef {
        self.definition
    }
}

/// Puts methods on a class of such receivers.
pub(crate) fn put<T: Receiver>(class: &Bound<'_, PyType>, methods: &[Method<T>]) -> PyResult<()> {
    if !class.is_subclass(T::class(class.py())?.as_any())? {
        let text = format!("the methods are not for instances of {class}");
        return Err(PyTypeError::new_err(text));
    }
    for method in methods {
        let definition = Box::leak(Box::new(method.definition));
        // SAFETY: *attached*. The definition lives for ever, its flags say how its function is
        // called, and the descriptor lets only instances of the class through, which was checked.
        let (name, descriptor) = unsafe {
            let descriptor = ffi::PyDescr_NewMethod(class.as_type_ptr(), definition);
            let descriptor = Bound::from_owned_ptr_or_err(class.py(), descriptor)?;
            (CStr::from_ptr(definition.ml_name), descriptor)
        };
        class.setattr(name.to_str().expect("ASCII"), descriptor)?;
    }
    Ok(())
}

/// A method with arguments, as C calls it.
unsafe extern "C" fn with_arguments<T, F, R>(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject
where
    T: Receiver,
    F: Item,
    F: for<'a, 'py> Fn(Python<'py>, &'a T::Borrowed<'py>, &'a Arguments<'a, 'py>) -> PyResult<R>,
    R: Answer,
{
    // SAFETY: *called*, for a row that was made with a value of `F`; *receiver* and *lent*.
    unsafe {
        enter(|py| {
            let arguments = Arguments::lent(py, &args, count, &names);
            let answer = F::again()(py, T::borrow(py, &slf), &arguments)?;
            Ok(answer.into_answer(py)?.into_ptr())
        })
    }
}

/// A method without arguments, or a getter, as C calls it; neither uses the last argument.
pub(super) unsafe extern "C" fn without_arguments<T, F, R, X>(
    slf: *mut ffi::PyObject,
    _: *mut X,
) -> *mut ffi::PyObject
where
    T: Receiver,
    F: Item,
    F: for<'a, 'py> Fn(Python<'py>, &'a T::Borrowed<'py>) -> PyResult<R>,
    R: Answer,
{
    // SAFETY: *called*, for a row that was made with a value of `F`; *receiver* and *lent*.
    unsafe {
        enter(|py| {
            let answer = F::again()(py, T::borrow(py, &slf))?;
            Ok(answer.into_answer(py)?.into_ptr())
        })
    }
}

/// Borrows an object behind a pointer for as long as the pointer is borrowed.
///
/// # Safety
/// The object lives as long as the pointer is borrowed.
#[inline]
pub(crate) unsafe fn ffi_bound<'a, 'py>(
    py: Python<'py>,
    pointer: &'a *mut ffi::PyObject,
) -> &'a Bound<'py, PyAny> {
    // SAFETY: *attached*; the caller's.
    unsafe { Bound::ref_from_ptr(py, pointer) }
}
