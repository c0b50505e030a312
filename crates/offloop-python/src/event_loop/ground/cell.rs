//! State of the loop, guarded by the GIL.
//!
//! An attached thread may look, for as long as no Python code runs. Dropping a reference may run
//! any code, so references are moved out and dropped afterwards. A second look inside the first is
//! a bug, and panics.

use std::cell::{Cell, UnsafeCell};

use pyo3::prelude::*;

/// A value that only attached threads touch.
pub(crate) struct GilCell<T> {
    value: UnsafeCell<T>,
    busy: Cell<bool>,
}

// SAFETY: `with` asks for a token (*attached*), which one thread at a time has under the GIL, and
// the value may move between threads.
unsafe impl<T: Send> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            value: UnsafeCell::new(value),
            busy: Cell::new(false),
        }
    }

    /// Runs `look` on the value; it must not run Python code.
    #[inline]
    pub(crate) fn with<R>(&self, _py: Python<'_>, look: impl FnOnce(&mut T) -> R) -> R {
        assert!(
            !self.busy.replace(true),
            "the loop's state is in use already"
        );
        let release = Release(&self.busy);
        // SAFETY: *attached*, and `busy` was false: no other look is under way.
        let result = look(unsafe { &mut *self.value.get() });
        drop(release);
        result
    }
}

struct Release<'a>(&'a Cell<bool>);

impl Drop for Release<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
