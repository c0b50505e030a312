//! What the child does until it is the program: only what was prepared, and system calls.
//!
//! The memory belongs to the parent (1 of [`super`]): nothing here allocates, panics or locks once
//! the child has been made.
//!
//! Errors:  the system's number, and at which step.
//! Source:  close_range(2), execve(2), sigaction(2).

use std::ffi::{CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::ptr::{null, null_mut};

use super::{Order, Step};

/// What the child needs, without anything left to compute.
pub(super) struct Plan<'a> {
    order: &'a Order,
    arguments: Vec<*const c_char>,
    environment: Option<Vec<*const c_char>>,
    /// The signals to be blocked in the program.
    mask: libc::sigset_t,
    failure: Option<(Step, c_int)>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(order: &'a Order, mask: libc::sigset_t) -> Self {
        let pointers = |texts: &[CString]| {
            let pointers = texts.iter().map(|text| text.as_ptr());
            pointers.chain([null()]).collect::<Vec<_>>()
        };
        Self {
            order,
            arguments: pointers(&order.arguments),
            environment: order.environment.as_deref().map(pointers),
            mask,
            failure: None,
        }
    }

    /// Why the child did not become the program, once [`become_program`] is through with it.
    pub(super) fn failure(&self) -> Option<(Step, c_int)> {
        // SAFETY: the child has finished with it; read as memory that another process has written.
        unsafe { (&raw const self.failure).read_volatile() }
    }

    /// The child's life up to the program, or to what went wrong. Only system calls: the memory
    /// belongs to the parent.
    fn carry_out(&self) -> (Step, c_int) {
        if let Err(failure) = self.prepare() {
            return failure;
        }
        (Step::Program, self.execute())
    }

    fn prepare(&self) -> Result<(), (Step, c_int)> {
        let order = self.order;
        let failed = |step| move |code| (step, code);
        if order.restore_signals {
            restore_ignored();
        }
        forget_handlers();
        for &fd in &order.inherited {
            keep(fd).map_err(failed(Step::Preparation))?;
        }
        place_standard(order.standard).map_err(failed(Step::Preparation))?;
        if let Some(directory) = &order.directory {
            // SAFETY: a text that ends with a zero.
            done(unsafe { libc::chdir(directory.as_ptr()) }).map_err(failed(Step::Directory))?;
        }
        // SAFETY: no pointers in any of these calls.
        unsafe {
            if let Some(umask) = order.umask {
                libc::umask(umask);
            }
            if order.new_session {
                done(libc::setsid()).map_err(failed(Step::Preparation))?;
            }
            if let Some(group) = order.process_group {
                done(libc::setpgid(0, group)).map_err(failed(Step::Preparation))?;
            }
        }
        if order.close_others {
            close_all_but(&order.inherited).map_err(failed(Step::Preparation))?;
        }
        // SAFETY: a set that was filled.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const self.mask, null_mut()) };
        Ok(())
    }

    /// Becomes the first program that can be executed, or says why none can: the first reason
    /// other than that there is none of this name, if there is one.
    fn execute(&self) -> c_int {
        let mut reason = None;
        let mut last = libc::ENOENT;
        for program in &self.order.programs {
            // SAFETY: texts that end with a zero, in lists that end with a null.
            unsafe {
                let arguments = self.arguments.as_ptr();
                match &self.environment {
                    Some(environment) => {
                        libc::execve(program.as_ptr(), arguments, environment.as_ptr())
                    }
                    None => libc::execv(program.as_ptr(), arguments),
                };
            }
            last = error_number();
            if last != libc::ENOENT && last != libc::ENOTDIR {
                reason = reason.or(Some(last));
            }
        }
        reason.unwrap_or(last)
    }
}

/// The child: carries out the plan behind `plan`, and leaves there why it failed.
pub(super) extern "C" fn become_program(plan: *mut c_void) -> c_int {
    let plan = plan.cast::<Plan<'_>>();
    // SAFETY: `spawn` passes its plan, and stands still while we have it.
    unsafe {
        let failure = (*plan).carry_out();
        (&raw mut (*plan).failure).write_volatile(Some(failure));
        // Without anything that the parent has asked to be run at its exit. Not by `_exit`, before
        // which an address sanitizer would clear our stack, and write about one that it does not
        // know.
        loop {
            libc::syscall(libc::SYS_exit_group, 255);
        }
    }
}

/// The signals that the interpreter ignores from its start get their default action.
fn restore_ignored() {
    for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
        // SAFETY: no pointers; the actions are the child's own.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Signals that have a handler get their default action: the handler's world ends at the program.
fn forget_handlers() {
    for signal in 1..=libc::SIGRTMAX() {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: `action` is filled when the call succeeds, which it does not for the numbers
        // that the C library keeps for itself.
        unsafe {
            if libc::sigaction(signal, null(), action.as_mut_ptr()) != 0 {
                continue;
            }
            let handler = action.assume_init().sa_sigaction;
            if handler != libc::SIG_DFL && handler != libc::SIG_IGN {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
}

/// Puts the standard descriptors into their places. One that is in the place of another is moved
/// away first.
fn place_standard(mut standard: [Option<RawFd>; 3]) -> Result<(), c_int> {
    for (target, fd) in standard.iter_mut().enumerate() {
        if let Some(low) = fd.filter(|fd| (0..target_fd(target)).contains(fd)) {
            // SAFETY: no pointers. The copy has a higher number, and it closes with the program.
            *fd = Some(done(unsafe { libc::fcntl(low, libc::F_DUPFD_CLOEXEC, 3) })?);
        }
    }
    for (target, fd) in standard.into_iter().enumerate() {
        match fd {
            Some(fd) if fd == target_fd(target) => keep(fd)?,
            // SAFETY: no pointers.
            Some(fd) => drop(done(unsafe { libc::dup2(fd, target_fd(target)) })?),
            None => {}
        }
    }
    Ok(())
}

fn target_fd(index: usize) -> RawFd {
    RawFd::try_from(index).unwrap_or(RawFd::MAX)
}

/// The program keeps this descriptor.
fn keep(fd: RawFd) -> Result<(), c_int> {
    // SAFETY: no pointers.
    unsafe {
        let flags = done(libc::fcntl(fd, libc::F_GETFD))?;
        done(libc::fcntl(fd, libc::F_SETFD, flags & !libc::FD_CLOEXEC))?;
    }
    Ok(())
}

/// Closes every descriptor from 3 on that is not in `inherited`, which ascends.
fn close_all_but(inherited: &[RawFd]) -> Result<(), c_int> {
    let mut first: libc::c_uint = 3;
    for &fd in inherited {
        let Ok(fd) = libc::c_uint::try_from(fd) else {
            continue;
        };
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd.saturating_add(1));
    }
    close_range(first, libc::c_uint::MAX)
}

fn close_range(first: libc::c_uint, last: libc::c_uint) -> Result<(), c_int> {
    // SAFETY: no pointers; the table of descriptors is the child's own.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    done(c_int::try_from(result).unwrap_or(-1)).map(drop)
}

fn done(result: c_int) -> Result<c_int, c_int> {
    if result < 0 {
        Err(error_number())
    } else {
        Ok(result)
    }
}

fn error_number() -> c_int {
    // SAFETY: the address of this thread's number, which the child shares with the thread that
    // stands still for it.
    unsafe { *libc::__errno_location() }
}
