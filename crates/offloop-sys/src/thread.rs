//! The thread that calls.

/// The kernel's number of the thread, as in `/proc/self/task`. A child that is forked has another.
///
/// Source: gettid(2).
#[must_use]
pub fn kernel_id() -> u32 {
    // SAFETY: the call takes nothing and cannot fail.
    let id = unsafe { libc::gettid() };
    id.unsigned_abs()
}

/// The calling thread gets no signals from now on: those of the process go to other threads, and a
/// write to a pipe without a reader is an error and nothing more.
///
/// Source: pthread_sigmask(3), signal(7).
pub fn block_signals() {
    // SAFETY: plain bits, which the first call fills.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `all` is valid for the calls to fill and to read; the old mask is not asked for.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::kernel_id;

    #[test]
    fn the_kernel_knows_the_thread() {
        let path = format!("/proc/self/task/{}", kernel_id());
        assert!(std::path::Path::new(&path).exists());
    }
}
