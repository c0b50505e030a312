//! The thread that calls.
//!
//! Source:     gettid(2), pthread_sigmask(3), signal(7), pthread_exit(3), pthread_cleanup_push(3).

use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;

/// The kernel's number of the thread, as in `/proc/self/task`. A child that is forked has another.
#[must_use]
pub fn kernel_id() -> u32 {
    // SAFETY: the call takes nothing and cannot fail.
    let id = unsafe { libc::gettid() };
    id.unsigned_abs()
}

/// The calling thread gets no signals from now on: those of the process go to other threads, and a
/// write to a pipe without a reader is an error and nothing more.
pub fn block_signals() {
    // SAFETY: plain bits, which the first call fills.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `all` is valid for the calls to fill and to read; the old mask is not asked for.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, null_mut());
    }
}

/// What the C library keeps of a function that runs when the thread is ended from within.
#[repr(C)]
struct Cleanup {
    routine: Option<unsafe extern "C" fn(*mut c_void)>,
    argument: *mut c_void,
    cancel_type: c_int,
    previous: *mut Cleanup,
}

unsafe extern "C" {
    fn _pthread_cleanup_push(
        cleanup: *mut Cleanup,
        routine: unsafe extern "C" fn(*mut c_void),
        argument: *mut c_void,
    );
}

thread_local! {
    static IS_LINKED: Cell<bool> = const { Cell::new(false) };
    /// The calling thread's record, and what it calls.
    static ON_END: OnEnd = OnEnd {
        handler: Cell::new(None),
        cleanup: Box::new(UnsafeCell::new(Cleanup {
            routine: None,
            argument: null_mut(),
            cancel_type: 0,
            previous: null_mut(),
        })),
    };
}

struct OnEnd {
    handler: Cell<Option<fn()>>,
    cleanup: Box<UnsafeCell<Cleanup>>,
}

unsafe extern "C" fn thread_ends(_none: *mut c_void) {
    if let Some(handler) = ON_END.with(|on_end| on_end.handler.get()) {
        handler();
    }
}

/// From now on, a function is called when C code ends the calling thread by pthread_exit(3), before
/// any stack entry is left. The first one of a thread stays.
///
/// The C library leaves stack entries one by one, and calls a function when the entry that holds
/// its record is left. It compares addresses, counted from the upper end of the stack. This record
/// is on the heap, which is farther from there than any entry, so the function is called first.
#[inline]
pub fn before_end(handler: fn()) {
    if !IS_LINKED.get() {
        link(handler);
    }
}

#[cold]
fn link(handler: fn()) {
    IS_LINKED.set(true);
    ON_END.with(|on_end| {
        on_end.handler.set(Some(handler));
        // SAFETY: the record is the thread's own, does not move and was not linked. It is freed
        // when the thread has come to its end, after which the C library does not look at it.
        unsafe { _pthread_cleanup_push(on_end.cleanup.get(), thread_ends, null_mut()) };
    });
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use std::sync::OnceLock;
    use std::sync::mpsc::{Sender, channel};
    use std::thread;
    use std::time::Duration;

    use super::{before_end, kernel_id};

    const PATIENCE: Duration = Duration::from_secs(20);
    static ENDS: OnceLock<Sender<()>> = OnceLock::new();

    fn stay() {
        ENDS.get().expect("set before").send(()).expect("heard");
        loop {
            thread::park();
        }
    }

    /// Rust does not let a thread leave this by pthread_exit: it would abort the process.
    fn end_within() {
        let _kept = Box::new(1);
        // SAFETY: the call takes any value. It does not come back, and leaves no function.
        unsafe { libc::pthread_exit(std::ptr::null_mut()) }
    }

    #[test]
    fn a_thread_that_is_ended_from_within_calls_before_it_leaves_anything() {
        let (ends, heard) = channel();
        ENDS.set(ends).expect("once");
        thread::spawn(|| {
            before_end(stay);
            before_end(|| unreachable!("the first one's function is called"));
            end_within();
        });
        assert_eq!(heard.recv_timeout(PATIENCE), Ok(()));
    }

    #[test]
    fn a_thread_that_ends_by_itself_calls_nothing() {
        let ended = thread::spawn(|| before_end(|| unreachable!("it ends by itself")));
        ended.join().expect("it ends");
    }

    #[test]
    fn the_kernel_knows_the_thread() {
        let path = format!("/proc/self/task/{}", kernel_id());
        assert!(std::path::Path::new(&path).exists());
    }
}
