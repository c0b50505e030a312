//! Types in C's layout: the attributes and slots of a class whose objects are laid out by us.
//!
//! `Method` makes a row of C's table of a safe function. `Attribute` and `Slot` do the same for
//! computed attributes and for the slots of a type. The interpreter finds a slot through the type
//! of its object, so *receiver* holds for it as it does for a descriptor.
//!
//! Errors:     a panic becomes a `RuntimeError`; a panic at an object's end is reported as
//!             unraisable, and the object's memory leaks. Only a traversal must not panic: that
//!             would end the process, since the collector frees what it was not shown.
//! Source:     docs.python.org/3/c-api/typeobj.html.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{self, null_mut};

use pyo3::exceptions::PyAttributeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::CompareOp;

use super::arguments::Given;
use super::trampoline::{
    Answer, Item, Method, Receiver, enter, ffi_bound, panicked, without_arguments,
};

/// An attribute that is computed, for receivers of one kind.
pub(crate) struct Attribute<T> {
    definition: ffi::PyGetSetDef,
    receiver: PhantomData<fn(T)>,
}

impl<T: Receiver> Attribute<T> {
    /// An attribute that can be read.
    pub(crate) fn new<F, R>(name: &'static CStr, _get: F) -> Self
    where
        F: Item,
        F: for<'a, 'py> Fn(Python<'py>, &'a T::Borrowed<'py>) -> PyResult<R>,
        R: Answer,
    {
        Self {
            definition: ffi::PyGetSetDef {
                name: name.as_ptr(),
                get: Some(without_arguments::<T, F, R, c_void>),
                set: None,
                doc: ptr::null(),
                closure: null_mut(),
            },
            receiver: PhantomData,
        }
    }

    /// Lets the attribute be set too, but not deleted.
    pub(crate) fn changed_by<F>(mut self, _set: F) -> Self
    where
        F: Item,
        F: for<'a, 'py> Fn(
            Python<'py>,
            &'a T::Borrowed<'py>,
            &'a Bound<'py, PyAny>,
        ) -> PyResult<()>,
    {
        self.definition.set = Some(set::<T, F>);
        self
    }
}

/// A setter, as C calls it: a null value asks to delete the attribute.
unsafe extern "C" fn set<T, F>(
    slf: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    _: *mut c_void,
) -> c_int
where
    T: Receiver,
    F: Item,
    F: for<'a, 'py> Fn(Python<'py>, &'a T::Borrowed<'py>, &'a Bound<'py, PyAny>) -> PyResult<()>,
{
    // SAFETY: *called*, for an attribute that was made with a value of `F`; *receiver* and *lent*.
    unsafe {
        enter(|py| {
            let value: Given<'_, '_> = (!value.is_null()).then(|| ffi_bound(py, &value));
            let deleted = || PyAttributeError::new_err("the attribute cannot be deleted");
            F::again()(py, T::borrow(py, &slf), value.ok_or_else(deleted)?)?;
            Ok(0)
        })
    }
}

/// A slot of a type, for receivers of one kind.
pub(crate) struct Slot<T> {
    slot: ffi::PyType_Slot,
    receiver: PhantomData<fn(T)>,
}

impl<T: Receiver> Slot<T> {
    fn new(slot: c_int, function: *mut c_void) -> Self {
        Self {
            slot: ffi::PyType_Slot {
                slot,
                pfunc: function,
            },
            receiver: PhantomData,
        }
    }

    /// The methods.
    pub(crate) fn methods(methods: &[Method<T>]) -> Self {
        let end = [ffi::PyMethodDef::zeroed()];
        let rows = methods.iter().map(|method| method.definition());
        Self::new(ffi::Py_tp_methods, leak(rows.chain(end)))
    }

    /// The attributes that are computed.
    pub(crate) fn attributes(attributes: &[Attribute<T>]) -> Self {
        let end = [ffi::PyGetSetDef::default()];
        let rows = attributes.iter().map(|attribute| attribute.definition);
        Self::new(ffi::Py_tp_getset, leak(rows.chain(end)))
    }

    /// The field of an object for its weak references, `offset` bytes from the object's beginning.
    ///
    /// # Safety
    /// There is a field for a pointer, which is null when an object is made.
    pub(crate) unsafe fn weak_references(offset: usize) -> Self {
        let member = ffi::PyMemberDef {
            name: c"__weaklistoffset__".as_ptr(),
            type_code: ffi::Py_T_PYSSIZET,
            offset: offset as ffi::Py_ssize_t,
            flags: ffi::Py_READONLY,
            doc: ptr::null(),
        };
        let rows = [member, ffi::PyMemberDef::default()];
        Self::new(ffi::Py_tp_members, leak(rows.into_iter()))
    }

    /// What `repr` returns.
    pub(crate) fn repr<F, R>(_repr: F) -> Self
    where
        F: Item,
        F: for<'a, 'py> Fn(Python<'py>, &'a T::Borrowed<'py>) -> PyResult<R>,
        R: Answer,
    {
        Self::new(ffi::Py_tp_repr, repr::<T, F, R> as *mut c_void)
    }

    /// What `hash` returns.
    pub(crate) fn hash<F>(_hash: F) -> Self
    where
        F: Item,
        F: for<'a, 'py> Fn(Python<'py>, &'a T::Borrowed<'py>) -> PyResult<isize>,
    {
        Self::new(ffi::Py_tp_hash, hash::<T, F> as *mut c_void)
    }

    /// Comparisons with any object.
    pub(crate) fn compare<F, R>(_compare: F) -> Self
    where
        F: Item,
        F: for<'a, 'py> Fn(
            Python<'py>,
            &'a T::Borrowed<'py>,
            &'a Bound<'py, PyAny>,
            CompareOp,
        ) -> PyResult<R>,
        R: Answer,
    {
        Self::new(ffi::Py_tp_richcompare, compare::<T, F, R> as *mut c_void)
    }

    /// What the collector is shown.
    pub(crate) fn traverse<F>(_traverse: F) -> Self
    where
        F: Item,
        F: for<'a, 'py> Fn(&'a T::Borrowed<'py>, &'a Visitor) -> Result<(), Stopped>,
    {
        Self::new(ffi::Py_tp_traverse, traverse::<T, F> as *mut c_void)
    }

    /// Drops references of an object: so the collector cuts a cycle that nothing outside refers to.
    pub(crate) fn clear<F>(_clear: F) -> Self
    where
        F: Item,
        F: for<'a, 'py> Fn(Python<'py>, &'a T::Borrowed<'py>),
    {
        Self::new(ffi::Py_tp_clear, clear::<T, F> as *mut c_void)
    }

    /// The end of an object.
    pub(crate) fn end<F>(_end: F) -> Self
    where
        F: Item,
        F: for<'py> Fn(Python<'py>, Ended<T>),
    {
        Self::new(ffi::Py_tp_dealloc, end::<T, F> as *mut c_void)
    }
}

/// A table that a type points into for ever.
fn leak<R>(rows: impl Iterator<Item = R>) -> *mut c_void {
    Vec::leak(rows.collect()).as_mut_ptr().cast()
}

unsafe extern "C" fn repr<T, F, R>(slf: *mut ffi::PyObject) -> *mut ffi::PyObject
where
    T: Receiver,
    F: Item,
    F: for<'a, 'py> Fn(Python<'py>, &'a T::Borrowed<'py>) -> PyResult<R>,
    R: Answer,
{
    // SAFETY: *called*, for a slot that was made with a value of `F`; *receiver* and *lent*.
    unsafe {
        enter(|py| {
            let answer = F::again()(py, T::borrow(py, &slf))?;
            Ok(answer.into_answer(py)?.into_ptr())
        })
    }
}

unsafe extern "C" fn hash<T, F>(slf: *mut ffi::PyObject) -> ffi::Py_hash_t
where
    T: Receiver,
    F: Item,
    F: for<'a, 'py> Fn(Python<'py>, &'a T::Borrowed<'py>) -> PyResult<isize>,
{
    // SAFETY: *called*, for a slot that was made with a value of `F`; *receiver* and *lent*.
    unsafe { enter(|py| F::again()(py, T::borrow(py, &slf))) }
}

unsafe extern "C" fn compare<T, F, R>(
    slf: *mut ffi::PyObject,
    other: *mut ffi::PyObject,
    operation: c_int,
) -> *mut ffi::PyObject
where
    T: Receiver,
    F: Item,
    F: for<'a, 'py> Fn(
        Python<'py>,
        &'a T::Borrowed<'py>,
        &'a Bound<'py, PyAny>,
        CompareOp,
    ) -> PyResult<R>,
    R: Answer,
{
    // SAFETY: *called*, for a slot that was made with a value of `F`; *receiver* and *lent*.
    unsafe {
        enter(|py| {
            let operation = CompareOp::from_raw(operation).expect("one of six");
            let (receiver, other) = (T::borrow(py, &slf), ffi_bound(py, &other));
            let answer = F::again()(py, receiver, other, operation)?;
            Ok(answer.into_answer(py)?.into_ptr())
        })
    }
}

/// The collector: an object shows it what it holds.
pub(crate) struct Visitor {
    visit: ffi::visitproc,
    argument: *mut c_void,
}

/// The collector has asked to stop, with this result: the traversal returns it at once.
pub(crate) struct Stopped(c_int);

impl Visitor {
    /// Shows what a pointer leads to, if it is not null.
    ///
    /// # Safety
    /// The object whose traversal this is has a reference to it.
    pub(crate) unsafe fn show(&self, held: *mut ffi::PyObject) -> Result<(), Stopped> {
        if held.is_null() {
            return Ok(());
        }
        // SAFETY: *collected*; the function and its argument belong together, see `traverse`.
        match unsafe { (self.visit)(held, self.argument) } {
            0 => Ok(()),
            stopped => Err(Stopped(stopped)),
        }
    }
}

unsafe extern "C" fn traverse<T, F>(
    slf: *mut ffi::PyObject,
    visit: ffi::visitproc,
    argument: *mut c_void,
) -> c_int
where
    T: Receiver,
    F: Item,
    F: for<'a, 'py> Fn(&'a T::Borrowed<'py>, &'a Visitor) -> Result<(), Stopped>,
{
    let visitor = Visitor { visit, argument };
    // SAFETY: *called*, by the collector (*collected*), for a slot that was made with a value of
    // `F`; *receiver* and *lent*. The token makes the receiver and goes no further: nothing of
    // Python's may run.
    let result = unsafe { F::again()(T::borrow(Python::assume_attached(), &slf), &visitor) };
    result.map_or_else(|Stopped(stopped)| stopped, |()| 0)
}

unsafe extern "C" fn clear<T, F>(slf: *mut ffi::PyObject) -> c_int
where
    T: Receiver,
    F: Item,
    F: for<'a, 'py> Fn(Python<'py>, &'a T::Borrowed<'py>),
{
    // SAFETY: *called*, for a slot that was made with a value of `F`; *receiver* and *lent*.
    unsafe {
        enter(|py| {
            F::again()(py, T::borrow(py, &slf));
            Ok(0)
        })
    }
}

/// An object whose last reference was dropped: its fields are intact, and the owner of this value
/// owns it.
pub(crate) struct Ended<T> {
    object: *mut ffi::PyObject,
    kind: PhantomData<fn(T)>,
}

impl<T> Ended<T> {
    pub(crate) fn into_ptr(self) -> *mut ffi::PyObject {
        self.object
    }
}

unsafe extern "C" fn end<T, F>(object: *mut ffi::PyObject)
where
    T: Receiver,
    F: Item,
    F: for<'py> Fn(Python<'py>, Ended<T>),
{
    let ended = Ended {
        object,
        kind: PhantomData,
    };
    // SAFETY: *called*, for a slot that was made with a value of `F`.
    let (py, release) = unsafe { (Python::assume_attached(), F::again()) };
    if catch_unwind(AssertUnwindSafe(|| release(py, ended))).is_err() {
        panicked().write_unraisable(py, None);
    }
}

/// Makes a type whose instances only we make. The collector knows them, and Python code may derive
/// classes from the type.
///
/// # Safety
/// An instance has `size` bytes, and its slots may take it for a `T`. Slots that the type inherits
/// from `base` may take it for an instance of `base`.
pub(crate) unsafe fn make_type<T>(
    py: Python<'_>,
    name: &'static CStr,
    size: usize,
    slots: Vec<Slot<T>>,
    base: *mut ffi::PyTypeObject,
) -> PyResult<*mut ffi::PyTypeObject> {
    let mut slots: Vec<_> = slots.into_iter().map(|slot| slot.slot).collect();
    slots.push(ffi::PyType_Slot::default());
    let flags = ffi::Py_TPFLAGS_DEFAULT
        | ffi::Py_TPFLAGS_BASETYPE
        | ffi::Py_TPFLAGS_HAVE_GC
        | ffi::Py_TPFLAGS_DISALLOW_INSTANTIATION;
    let mut spec = ffi::PyType_Spec {
        name: name.as_ptr().cast::<c_char>(),
        basicsize: c_int::try_from(size).expect("a small struct"),
        itemsize: 0,
        flags: flags.try_into().expect("flags of 32 bits"),
        slots: slots.as_mut_ptr(),
    };
    // SAFETY: *attached*. Name and tables live for ever, the specification for the call, and each
    // slot has the signature that its number asks for: `Slot` makes no other ones.
    unsafe {
        let bases = if base.is_null() {
            null_mut()
        } else {
            ffi::PyTuple_Pack(1, base)
        };
        let class = ffi::PyType_FromSpecWithBases(&raw mut spec, bases);
        ffi::Py_XDECREF(bases);
        if class.is_null() {
            return Err(PyErr::fetch(py));
        }
        Ok(class.cast())
    }
}
