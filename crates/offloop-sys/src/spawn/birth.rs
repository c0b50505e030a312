//! Making the child: one call, from which it returns when it has become the program.
//!
//! Invariants: every signal is blocked in the calling thread, and so in the child as it is born (2
//!             of [`super`]).
//! Errors:     what the system answered to the call itself.
//! Threads:    any, at the same time: each has its own plan and stack.
//! Source:     clone(2), signal(7).

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::null_mut;

use super::plan::{Plan, become_program};
use crate::check;

/// Makes the child; returns when it has carried out its plan, or has ended.
pub(super) fn bear(plan: &mut Plan<'_>, _blocked: &BlockedSignals) -> io::Result<(i32, OwnedFd)> {
    let mut stack = Stack::new();
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: the child runs `become_program` on a stack of its own, with a plan that outlives it:
    // this thread goes on only when the child has become the program, or has ended. The call
    // stores the new descriptor where the last pointer says.
    let pid = check(unsafe {
        let plan = (&raw mut *plan).cast::<c_void>();
        libc::clone(become_program, stack.top(), flags, plan, &raw mut pidfd)
    });
    // SAFETY: if the call succeeded, the descriptor is ours alone.
    pid.map(|pid| (pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Every signal is blocked in this thread while this lives.
pub(super) struct BlockedSignals {
    /// Those that were blocked before.
    pub(super) before: libc::sigset_t,
}

impl BlockedSignals {
    pub(super) fn new() -> Self {
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: both sets are valid for the calls to fill; with these arguments they succeed.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr());
            Self {
                before: before.assume_init(),
            }
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set is what the same call has filled.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, null_mut()) };
    }
}

/// Where the child runs until it becomes the program.
struct Stack(Vec<MaybeUninit<StackLine>>);

/// The alignment that the processor's calling convention wants of a stack.
#[repr(C, align(16))]
struct StackLine {
    _bytes: [u8; 16],
}

/// Far more than the few frames of the child need: a page for them, and what a sanitizer adds.
const STACK_BYTES: usize = 64 * 1024;

impl Stack {
    fn new() -> Self {
        // Not filled: only the pages that the child touches cost anything.
        Self(Vec::with_capacity(STACK_BYTES / size_of::<StackLine>()))
    }

    /// Stacks grow downwards on all processors that we are built for.
    fn top(&mut self) -> *mut c_void {
        // SAFETY: one past the end of what was allocated.
        unsafe { self.0.as_mut_ptr().cast::<c_void>().byte_add(STACK_BYTES) }
    }
}
