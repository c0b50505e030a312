//! Contexts: the one that a callback runs in, entered only where it makes a difference.
//!
//! Mostly the program never sees the context that was copied for a callback: it is there so that
//! what the callback sets does not show elsewhere. Two such copies with the same values cannot be
//! told apart. So handles that wait beside each other share one, and a callback runs in the copy of
//! the callback before it, as long as that copy is unchanged. A context that the program may have
//! in hand (a task's, one given by keyword, one that was asked for) is always the very object.
//!
//! Shape:      a context points to a map of its values, and a map never changes. Two contexts with
//!             the same map have the same values; of other contexts we do not know. The place of
//!             that pointer is no public interface: it is tried out when the module is imported,
//!             and where it is not as expected nothing is shared.
//! Source:     PEP 567; Python/context.c of CPython 3.11 to 3.15.

use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicIsize, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;

/// Where a context has its map: after the head of every object and the context before it.
const VARIABLES: usize = size_of::<ffi::PyObject>() + size_of::<usize>();
/// The size of a context: head, context before, map, weak references, and whether it is entered.
const SIZE: usize = VARIABLES + 3 * size_of::<usize>();

/// The reference count of an entered context that only we have; 0 if the layout is not known.
pub(super) static ALONE: AtomicIsize = AtomicIsize::new(0);

/// Tries out where a context has its map.
pub(crate) fn learn_layout(py: Python<'_>) -> PyResult<()> {
    let (context, variable);
    // SAFETY: *attached*; new references, or null for an error that is set.
    unsafe {
        if py.version_info() >= (3, 16) || ffi::PyContext_Type.tp_basicsize as usize != SIZE {
            return Ok(());
        }
        context = Bound::from_owned_ptr_or_err(py, ffi::PyContext_New())?;
        let name = c"offloop_layout".as_ptr();
        variable = Bound::from_owned_ptr_or_err(py, ffi::PyContextVar_New(name, null_mut()))?;
    }
    let pointer = context.as_ptr();
    let entered = Entered::default();
    entered.switch(&context)?;
    // SAFETY: *attached*; contexts of the size that was checked, both held here.
    let (references, is_copied, is_replaced) = unsafe {
        // Without the reference of `context`.
        let references = ffi::Py_REFCNT(pointer) - 1;
        let before = variables(pointer);
        let copy = copy_of_context(py)?;
        let token = ffi::PyContextVar_Set(variable.as_ptr(), variable.as_ptr());
        drop(Bound::from_owned_ptr_or_err(py, token)?);
        (
            references,
            variables(copy.as_ptr()) == before,
            variables(pointer) != before,
        )
    };
    entered.leave(py)?;
    if references == 2 && is_copied && is_replaced {
        ALONE.store(references, Ordering::Relaxed);
    }
    Ok(())
}

/// A copy of the current context.
pub(crate) fn copy_of_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: *attached*; a new reference, or an error that is set.
    let copy = unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_CopyCurrent())? };
    Ok(copy.unbind())
}

/// The map of a context.
///
/// # Safety
/// The caller is attached, and the pointer is that of a live context.
unsafe fn variables(context: *mut ffi::PyObject) -> *mut ffi::PyObject {
    // SAFETY: `learn_layout` has checked the size, which covers this place; nothing is done with
    // the pointer but comparing it.
    unsafe {
        context
            .byte_add(VARIABLES)
            .cast::<*mut ffi::PyObject>()
            .read()
    }
}

/// Whether two contexts hold the same values; false also if that is not known.
///
/// # Safety
/// The caller is attached, and the pointers are those of live contexts.
#[inline]
pub(crate) unsafe fn hold_the_same(one: *mut ffi::PyObject, two: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller's; a layout that is not known is not read.
    ALONE.load(Ordering::Relaxed) != 0 && unsafe { variables(one) == variables(two) }
}

/// The context that is entered. It stays entered over callbacks that can run in it.
///
/// It belongs to a run of the loop, which has it in the loop's state: another thread that takes the
/// loop over sees which contexts are entered. Only the thread of that run enters and leaves.
pub(crate) struct Entered {
    pub(super) context: Cell<*mut ffi::PyObject>,
    /// The loop has copied the context for a callback: only the loop has it, unless it has more
    /// references than `ALONE`. False when no context is entered.
    pub(super) is_copied: Cell<bool>,
}

// SAFETY: *attached*: the references in it may be dropped by any thread that has the GIL.
unsafe impl Send for Entered {}
// SAFETY: *attached*: of the threads that share it, one at a time reads or writes a field.
unsafe impl Sync for Entered {}

impl Default for Entered {
    /// No context.
    fn default() -> Self {
        Self {
            context: Cell::new(null_mut()),
            is_copied: Cell::new(false),
        }
    }
}

impl Entered {
    /// Enters exactly this context, if it is not the one that is entered.
    #[inline]
    pub(crate) fn switch(&self, context: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.context.get() == context.as_ptr() {
            self.is_copied.set(false);
            return Ok(());
        }
        self.exchange(context.clone(), false)
    }

    /// Leaves the context that is entered, and enters another one. Leaving may run any code.
    pub(super) fn exchange(&self, context: Bound<'_, PyAny>, is_copied: bool) -> PyResult<()> {
        let py = context.py();
        self.leave(py)?;
        // SAFETY: *attached*; an object that is no context is refused.
        if unsafe { ffi::PyContext_Enter(context.as_ptr()) } != 0 {
            return Err(PyErr::fetch(py));
        }
        self.context.set(context.into_ptr());
        self.is_copied.set(is_copied);
        Ok(())
    }

    /// The context that is entered, if the loop has copied it for a callback.
    pub(super) fn copied<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        // SAFETY: *attached*; the reference of `exchange`, and a new one is made.
        let context = unsafe { Bound::from_borrowed_ptr_or_opt(py, self.context.get()) };
        context.filter(|_| self.is_copied.get())
    }

    /// Leaves the context that is entered, unless the loop has copied it for a callback: code that
    /// has it in hand can enter it then.
    #[inline]
    pub(crate) fn leave_given(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_copied.get() {
            return Ok(());
        }
        self.leave(py)
    }

    /// Leaves the context that is entered, if there is one.
    #[inline]
    pub(crate) fn leave(&self, py: Python<'_>) -> PyResult<()> {
        let context = self.context.replace(null_mut());
        if context.is_null() {
            return Ok(());
        }
        self.is_copied.set(false);
        // SAFETY: *attached*; entered by `exchange`, whose reference this is.
        let exited = unsafe {
            let exited = ffi::PyContext_Exit(context);
            ffi::Py_DECREF(context);
            exited
        };
        if exited == 0 {
            Ok(())
        } else {
            Err(PyErr::fetch(py))
        }
    }
}
