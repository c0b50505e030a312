//! The methods of a stream transport that are called for each packet.
//!
//! They belong to the Python class, whose instances keep their stream in the slot `_native`. The
//! place of that slot in an instance is learned once.
//!
//! Source:     asyncio/selector_events.py; Include/cpython/descrobject.h for the slot.

use std::sync::atomic::{AtomicIsize, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use pyo3::{ffi, intern};

use super::super::ground::arguments::Arguments;
use super::super::ground::trampoline::{Method, Receiver, ffi_bound, put};
use super::stream::Stream;
use super::writing;

/// The hot methods of a transport class whose instances keep their stream in `_native`. There is
/// one such class.
#[pyfunction]
pub(crate) fn add_stream_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    let py = class.py();
    let known = CLASS.get_or_init(py, || class.clone().unbind());
    if !class.is(known) {
        let text = "another class is that of the transports of streams";
        return Err(PyRuntimeError::new_err(text));
    }
    learn_place(class)?;
    put(class, &METHODS)
}

const METHODS: [Method<Transport<'_>>; 4] = [
    Method::new(
        c"write",
        c"write($self, data)\n--\n\nSend data, without waiting for it to be sent.",
        write,
    ),
    Method::new(
        c"writelines",
        c"writelines($self, list_of_data)\n--\n\nSend one after the other.",
        writelines,
    ),
    Method::plain(
        c"is_closing",
        c"is_closing($self)\n--\n\nReturn whether the connection is closing or closed.",
        is_closing,
    ),
    Method::plain(
        c"get_write_buffer_size",
        c"get_write_buffer_size($self)\n--\n\nReturn how many bytes wait to be sent.",
        get_write_buffer_size,
    ),
];

/// The class of the transports.
static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
/// Where its instances have `_native`, in bytes from their beginning; 0 while that is not known.
static PLACE: AtomicIsize = AtomicIsize::new(0);

fn learn_place(class: &Bound<'_, PyType>) -> PyResult<()> {
    let slot = class.getattr(intern!(class.py(), "_native"))?;
    // SAFETY: *attached*; an object that is held, whose type is checked before it is read.
    unsafe {
        if ffi::Py_TYPE(slot.as_ptr()) == &raw mut ffi::PyMemberDescr_Type {
            let member = (*slot.as_ptr().cast::<ffi::PyMemberDescrObject>()).d_member;
            if (*member).type_code == ffi::Py_T_OBJECT_EX {
                PLACE.store((*member).offset, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

/// An instance of that class.
#[repr(transparent)]
struct Transport<'py>(Bound<'py, PyAny>);

// SAFETY: `Transport` has the layout of a `Bound`, and every instance of the class is one.
unsafe impl Receiver for Transport<'_> {
    type Borrowed<'py> = Transport<'py>;

    fn class(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
        let missing = || PyRuntimeError::new_err("there is no class of transports");
        let class = CLASS.get(py).ok_or_else(missing)?;
        Ok(class.bind(py).clone())
    }

    #[inline]
    unsafe fn borrow<'a, 'py>(
        py: Python<'py>,
        object: &'a *mut ffi::PyObject,
    ) -> &'a Transport<'py> {
        // SAFETY: the caller's; the result is borrowed for as long as the pointer.
        unsafe { &*std::ptr::from_ref(ffi_bound(py, object)).cast() }
    }
}

impl<'py> Transport<'py> {
    /// The attribute `_native`.
    #[inline]
    fn native(&self) -> PyResult<Bound<'py, Stream>> {
        let py = self.0.py();
        let place = PLACE.load(Ordering::Relaxed);
        if place > 0 {
            // SAFETY: *attached*; a slot of the class, of which this is an instance: a reference
            // that the instance has, or null. A new one is made.
            let native = unsafe {
                let slot = self.0.as_ptr().byte_offset(place);
                Bound::from_borrowed_ptr_or_opt(py, *slot.cast::<*mut ffi::PyObject>())
            };
            if let Some(native) = native {
                return Ok(native.cast_into()?);
            }
        }
        // Raises that it is missing.
        Ok(self.0.getattr(intern!(py, "_native"))?.cast_into()?)
    }
}

fn write(py: Python<'_>, transport: &Transport<'_>, call: &Arguments<'_, '_>) -> PyResult<()> {
    let stream = transport.native()?;
    let data = call.only("write", intern!(py, "data"))?;
    writing::write(&transport.0, &stream, data)
}

fn writelines(py: Python<'_>, transport: &Transport<'_>, call: &Arguments<'_, '_>) -> PyResult<()> {
    let stream = transport.native()?;
    let lines = call.only("writelines", intern!(py, "list_of_data"))?;
    writing::writelines(&transport.0, &stream, lines)
}

fn is_closing(py: Python<'_>, transport: &Transport<'_>) -> PyResult<bool> {
    Ok(transport.native()?.get().closing(py))
}

fn get_write_buffer_size(py: Python<'_>, transport: &Transport<'_>) -> PyResult<usize> {
    Ok(transport.native()?.get().size(py))
}
