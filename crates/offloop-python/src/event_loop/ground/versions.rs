//! The version numbers that the interpreter gives to classes.
//!
//! A class gets another number when it, or one of its bases, is changed. So what was found in a
//! class holds for as long as the class has the number that it had then.
//!
//! Source:     Include/cpython/object.h (`tp_version_tag`; 0 stands for no number).

use std::sync::atomic::{AtomicU64, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyType;

/// The number of a class; 0 when it has none.
#[inline]
pub(crate) fn version(class: &Bound<'_, PyType>) -> u32 {
    // SAFETY: *attached*, a class that is held; a plain field.
    unsafe { (*class.as_type_ptr()).tp_version_tag }
}

/// The number of an object's class.
#[inline]
pub(crate) fn version_of(object: &Bound<'_, PyAny>) -> u32 {
    // SAFETY: *attached*; the class is alive as long as its object, which is held; a plain field.
    unsafe { (*object.get_type_ptr()).tp_version_tag }
}

/// The numbers of two classes in one; 0 when one of them has none.
#[inline]
fn both(classes: [&Bound<'_, PyType>; 2]) -> u64 {
    match classes.map(version) {
        [0, _] | [_, 0] => 0,
        [first, second] => u64::from(first) << 32 | u64::from(second),
    }
}

/// Whether two classes still have the methods that we know; the answer is kept with their numbers.
///
/// Where a program has replaced a method of one, our code in the place of that method would be
/// wrong. To look takes as long as a packet; the answer holds until one of the classes gets
/// another number.
pub(crate) struct Originals {
    /// The numbers with which the classes were last found unchanged.
    unchanged: AtomicU64,
    /// The numbers with which the program was last found to have changed them.
    changed: AtomicU64,
}

impl Originals {
    pub(crate) const fn new() -> Self {
        Self {
            unchanged: AtomicU64::new(0),
            changed: AtomicU64::new(0),
        }
    }

    /// Whether both are unchanged; `look` finds out when the numbers are not known.
    #[inline]
    pub(crate) fn are_there(
        &self,
        classes: [&Bound<'_, PyType>; 2],
        look: impl FnOnce() -> PyResult<bool>,
    ) -> PyResult<bool> {
        let numbers = both(classes);
        if numbers != 0 && numbers == self.unchanged.load(Ordering::Relaxed) {
            return Ok(true);
        }
        if numbers != 0 && numbers == self.changed.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let unchanged = look()?;
        let kept = if unchanged {
            &self.unchanged
        } else {
            &self.changed
        };
        // Read again: the interpreter gives a class its number when something is looked up in it.
        kept.store(both(classes), Ordering::Relaxed);
        Ok(unchanged)
    }
}
