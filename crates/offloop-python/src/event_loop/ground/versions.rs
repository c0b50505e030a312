//! The numbers that the interpreter gives to classes.
//!
//! A class gets another number when it, or one of its bases, is changed. So what was found in a
//! class holds for as long as the class has the number that it had then.
//!
//! Source:     Include/cpython/object.h (`tp_version_tag`; 0 stands for no number).

use pyo3::ffi;

/// The number of a class; 0 when it has none.
#[inline]
pub(crate) fn version(class: *mut ffi::PyTypeObject) -> u32 {
    // SAFETY: the caller has the class, or an object of it, and is attached; a plain field.
    unsafe { (*class).tp_version_tag }
}
