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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::kernel_id;

    #[test]
    fn the_kernel_knows_the_thread() {
        let path = format!("/proc/self/task/{}", kernel_id());
        assert!(std::path::Path::new(&path).exists());
    }
}
