//! The names of the thread that calls.

/// The kernel's number of the thread, as in `/proc/self/task`. A child that is forked has another.
///
/// Source: gettid(2).
#[must_use]
pub fn kernel_id() -> u32 {
    // SAFETY: the call takes nothing and cannot fail.
    let id = unsafe { libc::gettid() };
    id.unsigned_abs()
}

/// The C library's name of the thread, which `threading.get_ident()` returns too. The thread that
/// forks keeps it in the child; a thread that has ended leaves it to later ones.
///
/// Source: `pthread_self(3)`.
#[must_use]
pub fn ident() -> u64 {
    // SAFETY: the call takes nothing and cannot fail.
    unsafe { libc::pthread_self() }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{ident, kernel_id};

    #[test]
    fn names_of_a_thread_stay() {
        let path = format!("/proc/self/task/{}", kernel_id());
        assert!(std::path::Path::new(&path).exists());
        assert_eq!((kernel_id(), ident()), (kernel_id(), ident()));
    }
}
