//! What ends the zygote, the workers, and the programs that their calls have started.
//!
//! The kernel kills their process groups by itself, at once, when the parent has ended, whatever
//! they are doing: the read end of a pipe whose only write end is in the parent is set to send
//! SIGKILL to a group at its end of file. The setting belongs to an open file, so each group needs
//! one of its own on the same pipe.
//!
//! Source:     fcntl(2) on F_SETOWN and F_SETSIG, fifo(7), setpgid(2), proc_pid_fd(5);
//!             docs/design/005-orphans.md.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use crate::{check, process, socket};

/// Makes the kernel kill the whole process group of the caller at the end of file of `lifeline`,
/// the read end of a pipe whose write end lives only in the parent.
///
/// # Errors
/// The system's.
pub fn arm_for_own_group(lifeline: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers.
    let group = unsafe { libc::getpgrp() };
    arm(lifeline, group)?;
    look_once(lifeline, group)
}

fn arm(lifeline: BorrowedFd<'_>, group: i32) -> io::Result<()> {
    let fd = lifeline.as_raw_fd();
    // SAFETY: no pointers in any of these calls.
    unsafe {
        check(libc::fcntl(fd, libc::F_SETOWN, -group))?;
        check(libc::fcntl(fd, F_SETSIG, libc::SIGKILL))?;
        let flags = check(libc::fcntl(fd, libc::F_GETFL))?;
        check(libc::fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC))?;
    }
    Ok(())
}

/// The parent may have ended before the line was armed; then no signal will come any more.
fn look_once(lifeline: BorrowedFd<'_>, group: i32) -> io::Result<()> {
    if socket::wait_readable(lifeline, Some(Duration::ZERO))? {
        // SAFETY: no pointers; ends this group as the signal would have.
        unsafe { libc::kill(-group, libc::SIGKILL) };
    }
    Ok(())
}

/// Makes the child `pid` (0: the caller) the leader of a process group of its own, which the kernel
/// kills at the end of `lifeline` for as long as the returned descriptor is open.
///
/// Parent and child both call this, so that each may rely on it, in whatever order they run.
///
/// # Errors
/// The system's: without `/proc` there is no second open file for one pipe. Then the process stays
/// in the group that it was in, and its line is that group's.
pub fn lead_group(pid: i32, lifeline: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", lifeline.as_raw_fd());
    // Opening the pipe of a parent that has just ended must not wait for another writer.
    let own = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let own = OwnedFd::from(own);
    let group = if pid == 0 {
        process::id().cast_signed()
    } else {
        pid
    };
    // SAFETY: no pointers.
    match check(unsafe { libc::setpgid(pid, group) }) {
        // The child has ended, and left programs in its group perhaps.
        Err(error) if pid == 0 || error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
        _ => {}
    }
    arm(own.as_fd(), group)?;
    // A file that was opened too late sees no end: the first one does.
    look_once(lifeline, group)?;
    Ok(own)
}

/// Whether no process is in the group that `leader` led, which has been reaped.
#[must_use]
pub fn group_is_empty(leader: i32) -> bool {
    // SAFETY: no pointers; signal 0 only asks.
    let result = check(unsafe { libc::kill(-leader, 0) });
    result.is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH))
}

/// `F_SETSIG` of fcntl(2), which the libc crate does not name for every target.
const F_SETSIG: libc::c_int = 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// A child that waits, and holds nothing of `closed`.
    fn waiting_child(closed: &OwnedFd) -> i32 {
        // SAFETY: the child calls only functions that are safe after a fork, then waits.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: the number is this process's own copy, which nothing uses any more.
            unsafe { libc::close(closed.as_raw_fd()) };
            loop {
                // SAFETY: no pointers.
                unsafe { libc::pause() };
            }
        }
        pid
    }

    #[test]
    fn one_lifeline_kills_several_groups() {
        let (read, write) = socket::pipe().unwrap();
        let pids = [waiting_child(&write), waiting_child(&write)];
        let lines = pids.map(|pid| lead_group(pid, read.as_fd()).unwrap());
        drop(write);
        for pid in pids {
            assert_eq!(
                process::reap(pid).unwrap().status,
                process::ExitStatus::Signal(libc::SIGKILL)
            );
        }
        drop(lines);
    }

    #[test]
    fn a_group_is_killed_though_its_leader_has_ended() {
        let (read, write) = socket::pipe().unwrap();
        let [leader, member] = [waiting_child(&write), waiting_child(&write)];
        let line = lead_group(leader, read.as_fd()).unwrap();
        // SAFETY: no pointers.
        check(unsafe { libc::setpgid(member, leader) }).unwrap();
        let pidfd = process::open_pidfd(leader).unwrap();
        process::kill(pidfd.as_fd()).unwrap();
        let killed = process::ExitStatus::Signal(libc::SIGKILL);
        let ends = |pid| process::reap(pid).unwrap().status == killed;
        process::kill_group(pidfd.as_fd(), leader).unwrap();
        assert!(ends(leader) && ends(member));
        assert!(group_is_empty(leader));
        drop((write, line));
    }

    #[test]
    fn the_lifeline_kills_the_group_when_its_write_end_closes() {
        let (read, write) = socket::pipe().unwrap();
        // SAFETY: the child calls only functions that are safe after a fork, then waits for ever.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            drop(write);
            // SAFETY: no pointers.
            unsafe { libc::setpgid(0, 0) };
            let _ = arm_for_own_group(read.as_fd());
            loop {
                std::hint::spin_loop();
            }
        }
        drop(write);
        assert_eq!(
            process::reap(pid).unwrap().status,
            process::ExitStatus::Signal(libc::SIGKILL)
        );
    }
}
