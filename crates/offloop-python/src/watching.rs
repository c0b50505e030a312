//! Being told of changes of dictionaries, in place of looking again and again.
//!
//! An interpreter before 3.12 does not tell: there a dictionary always counts as changed.
//!
//! Threads:    attached ones.
//! Source:     `PyDict_AddWatcher` and `PyDict_Watch` of the C API.

/// The environment variables of the program.
pub(crate) const ENVIRONMENT: usize = 0;
/// The modules where the standard loop finds its clock.
pub(crate) const CLOCK: usize = 1;

#[cfg(Py_3_12)]
mod telling {
    use std::ffi::c_int;
    use std::sync::atomic::{AtomicBool, Ordering};

    use pyo3::ffi::{PyDict_Watch, PyObject};
    use pyo3::prelude::*;
    use pyo3::sync::PyOnceLock;
    use pyo3::types::PyDict;

    /// Of an interpreter's eight watchers.
    const SUBJECTS: usize = 2;

    type Callback =
        unsafe extern "C" fn(c_int, *mut PyObject, *mut PyObject, *mut PyObject) -> c_int;

    unsafe extern "C" {
        fn PyDict_AddWatcher(callback: Callback) -> c_int;
    }

    static CHANGED: [AtomicBool; SUBJECTS] = [const { AtomicBool::new(true) }; SUBJECTS];
    static WATCHERS: [PyOnceLock<Option<c_int>>; SUBJECTS] =
        [const { PyOnceLock::new() }; SUBJECTS];

    unsafe extern "C" fn note<const SUBJECT: usize>(
        _event: c_int,
        _dictionary: *mut PyObject,
        _key: *mut PyObject,
        _value: *mut PyObject,
    ) -> c_int {
        CHANGED[SUBJECT].store(true, Ordering::Relaxed);
        0
    }

    /// Notices changes from now on; false when an interpreter has no watcher left to give.
    pub(crate) fn begin<const SUBJECT: usize>(dictionary: &Bound<'_, PyDict>) -> bool {
        let py = dictionary.py();
        let watcher = WATCHERS[SUBJECT].get_or_init(py, || {
            // SAFETY: attached; `note` touches nothing of the interpreter's, and lives for ever.
            let watcher = unsafe { PyDict_AddWatcher(note::<SUBJECT>) };
            if watcher < 0 {
                PyErr::take(py);
            }
            (watcher >= 0).then_some(watcher)
        });
        let Some(watcher) = *watcher else {
            return false;
        };
        CHANGED[SUBJECT].store(false, Ordering::Relaxed);
        // SAFETY: attached, with a watcher of ours and a live dictionary.
        let watched = unsafe { PyDict_Watch(watcher, dictionary.as_ptr()) } == 0;
        if !watched {
            PyErr::take(py);
            CHANGED[SUBJECT].store(true, Ordering::Relaxed);
        }
        watched
    }

    #[inline]
    pub(crate) fn has_changed(subject: usize) -> bool {
        CHANGED[subject].load(Ordering::Relaxed)
    }
}

#[cfg(not(Py_3_12))]
mod telling {
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    pub(crate) fn begin<const SUBJECT: usize>(_dictionary: &Bound<'_, PyDict>) -> bool {
        false
    }

    pub(crate) fn has_changed(_subject: usize) -> bool {
        true
    }
}

pub(crate) use telling::{begin, has_changed};
