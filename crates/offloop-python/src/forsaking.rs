//! Python code called on a thread that the end of the program may leave behind in it.
//!
//! Before Python 3.14, a thread that wants the interpreter back after its end is ended by
//! `pthread_exit`, which unwinds its stack. Rust's stack entries do not allow that: the process
//! would be aborted on its way out. So the thread sleeps instead until the process is gone, as from
//! 3.14 on. PyO3 does the same where it takes the interpreter itself.

/// From now on the calling thread sleeps for ever where the interpreter would end it.
#[inline]
#[cfg_attr(Py_3_14, allow(clippy::missing_const_for_fn))]
pub(crate) fn stay() {
    #[cfg(not(Py_3_14))]
    offloop_sys::thread::before_end(sleep_if_finalizing);
}

#[cfg(not(Py_3_14))]
fn sleep_if_finalizing() {
    // SAFETY: it reads an atomic word, in any thread and at any time.
    while unsafe { is_finalizing() } != 0 {
        std::thread::park();
    }
}

#[cfg(not(Py_3_14))]
unsafe extern "C" {
    #[cfg_attr(Py_3_13, link_name = "Py_IsFinalizing")]
    #[cfg_attr(not(Py_3_13), link_name = "_Py_IsFinalizing")]
    fn is_finalizing() -> std::ffi::c_int;
}
