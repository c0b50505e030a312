//! Starting a program without copying this process.
//!
//! The child borrows our memory until it becomes the program, while the calling thread stands
//! still. No page table is copied, however large we are. If the program could not be started, the
//! reason is left in memory that both see. All that the child needs is prepared before, since it
//! may neither allocate nor take a lock that another thread of ours holds.
//!
//! Invariants: 1. The child touches nothing but the `Plan`, its own stack, and system calls.
//!             2. No signal handler of ours runs in the child: every signal is blocked until it
//!                has forgotten them.
//! Errors:     what the system answered, and at which step.
//! Threads:    any may spawn, at the same time.
//! Source:     clone(2) on CLONE_VFORK and CLONE_PIDFD, close_range(2), waitid(2).

mod birth;
mod plan;

use std::ffi::{CString, c_int};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use self::birth::{BlockedSignals, bear};
use self::plan::Plan;
use crate::process::{self, ExitStatus};
use crate::{check, retry};

/// What is to be started, and how.
#[derive(Debug, Default)]
pub struct Order {
    /// Paths of the program, of which the first that exists is taken.
    pub programs: Vec<CString>,
    /// Its arguments, of which the first is its name.
    pub arguments: Vec<CString>,
    /// `NAME=value`; that of this process if there is none.
    pub environment: Option<Vec<CString>>,
    /// Where it starts; here if there is none.
    pub directory: Option<CString>,
    /// What its descriptors 0, 1 and 2 are; ours if there is none.
    pub standard: [Option<RawFd>; 3],
    /// Other descriptors that it inherits, in ascending order.
    pub inherited: Vec<RawFd>,
    /// Whether all other descriptors from 3 on are closed, even without close-on-exec.
    pub close_others: bool,
    /// Whether the signals that Python ignores have their default action.
    pub restore_signals: bool,
    /// Whether it begins a session.
    pub new_session: bool,
    /// The process group that it joins; 0 is one of its own.
    pub process_group: Option<i32>,
    /// Its mask for the modes of new files.
    pub umask: Option<u32>,
}

/// A child that was started. It is not ended, nor its status taken, when this is dropped.
#[derive(Debug)]
pub struct Child {
    /// Its number, which no other process gets before its status has been taken.
    pub pid: i32,
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
}

/// Where a start failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// No process could be made.
    Birth,
    /// Descriptors, session, group.
    Preparation,
    /// The directory could not be entered.
    Directory,
    /// No program could be executed.
    Program,
}

/// A program could not be started.
#[derive(Debug)]
pub struct SpawnError {
    /// Where it failed.
    pub step: Step,
    /// What the system answered.
    pub source: io::Error,
}

impl SpawnError {
    /// The system does not make processes in this way: it is too old, a filter forbids it, or its
    /// clock's namespace does. Other ways may work, and [`is_supported`] says no from now on.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        self.step == Step::Birth && is_refusal(&self.source)
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSYS | libc::EINVAL | libc::EPERM)
    )
}

/// Set when the system has refused to make a process.
static REFUSED: OnceLock<()> = OnceLock::new();

/// Whether this system can do it: the calls must exist, and not be forbidden.
pub fn is_supported() -> bool {
    static SUPPORTED: OnceLock<bool> = OnceLock::new();
    *SUPPORTED.get_or_init(|| {
        let last = libc::c_uint::MAX;
        // SAFETY: no pointers; a descriptor of this number cannot exist.
        let closed = unsafe { libc::syscall(libc::SYS_close_range, last, last, 0) };
        closed == 0 && can_watch()
    }) && REFUSED.get().is_none()
}

/// Whether children can be watched and signalled by descriptors here, and their status taken.
pub fn can_watch() -> bool {
    static CAN_WATCH: OnceLock<bool> = OnceLock::new();
    *CAN_WATCH.get_or_init(|| {
        let this = i32::try_from(process::id()).expect("numbers of processes are positive");
        let Ok(pidfd) = process::open_pidfd(this) else {
            return false;
        };
        // We are no child of ours; another answer says that the call does not know descriptors.
        let status = wait_status(pidfd.as_raw_fd(), libc::WNOHANG);
        status.is_err_and(|error| is_no_child(&error)) && process::signal(pidfd.as_fd(), 0).is_ok()
    })
}

/// Takes the status of an ended child: `None` while it runs.
///
/// # Errors
/// The system's; [`is_no_child`] says whether other code of this process has taken it.
pub fn try_reap(pidfd: BorrowedFd<'_>) -> io::Result<Option<ExitStatus>> {
    wait_status(pidfd.as_raw_fd(), libc::WNOHANG)
}

/// Whether an error of [`try_reap`] means that the status was taken already.
#[must_use]
pub fn is_no_child(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ECHILD)
}

/// Takes the status of an ended child, or says that it runs; waits for it unless told not to.
fn wait_status(fd: RawFd, patience: c_int) -> io::Result<Option<ExitStatus>> {
    let id = libc::id_t::try_from(fd).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: plain data, for which zero is a valid value, and means that no child has ended.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    retry(|| {
        let options = libc::WEXITED | patience;
        // SAFETY: `info` is valid for the call to fill.
        check(unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, options) })
    })?;
    // SAFETY: the call fills these fields, or leaves them zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok(match (pid, info.si_code) {
        (0, _) => None,
        (_, libc::CLD_EXITED) => Some(ExitStatus::Code(status)),
        _ => Some(ExitStatus::Signal(status)),
    })
}

/// Starts a program.
///
/// # Errors
/// The system's; no process and no descriptor is left then.
pub fn spawn(order: &Order) -> Result<Child, SpawnError> {
    let failed = |step| move |source| SpawnError { step, source };
    let (born, failure) = {
        let blocked = BlockedSignals::new();
        let mut plan = Plan::new(order, blocked.before);
        (bear(&mut plan, &blocked), plan.failure())
    };
    let (pid, pidfd) = born.map_err(|source| {
        if is_refusal(&source) {
            REFUSED.get_or_init(|| ());
        }
        failed(Step::Birth)(source)
    })?;
    match failure {
        None => Ok(Child { pid, pidfd }),
        Some((step, code)) => {
            // It has ended, or is about to. An error means that other code has taken its status:
            // its number may be another child's by now, but its descriptor is not.
            wait_status(pidfd.as_raw_fd(), 0).ok();
            Err(failed(step)(io::Error::from_raw_os_error(code)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;
    use std::fs::File;
    use std::io::Read;

    use super::*;
    use crate::socket;

    fn texts(texts: &[&str]) -> Vec<CString> {
        let text = |text: &&str| CString::new(*text).unwrap();
        texts.iter().map(text).collect()
    }

    fn shell(script: &str) -> Order {
        Order {
            programs: texts(&["/bin/sh"]),
            arguments: texts(&["sh", "-c", script]),
            close_others: true,
            restore_signals: true,
            ..Order::default()
        }
    }

    fn end_of(child: &Child) -> ExitStatus {
        assert!(socket::wait_readable(child.pidfd.as_fd(), None).unwrap());
        try_reap(child.pidfd.as_fd()).unwrap().unwrap()
    }

    /// What a program writes to its standard output.
    fn output(mut order: Order) -> (String, ExitStatus) {
        let (read, write) = socket::pipe().unwrap();
        order.standard[1] = Some(write.as_raw_fd());
        let child = spawn(&order).unwrap();
        drop(write);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        (text, end_of(&child))
    }

    #[test]
    fn program_runs_with_its_arguments_and_its_status_is_told_once() {
        let child = spawn(&shell("exit 7")).unwrap();
        assert_eq!(end_of(&child), ExitStatus::Code(7));
        assert!(is_no_child(&try_reap(child.pidfd.as_fd()).unwrap_err()));
        let child = spawn(&shell("kill -9 $$")).unwrap();
        assert_eq!(end_of(&child), ExitStatus::Signal(9));
    }

    #[test]
    fn running_child_has_no_status() {
        let (read, write) = socket::pipe().unwrap();
        let mut order = shell("read line");
        order.standard[0] = Some(read.as_raw_fd());
        let child = spawn(&order).unwrap();
        assert_eq!(try_reap(child.pidfd.as_fd()).unwrap(), None);
        drop(write);
        assert_eq!(end_of(&child), ExitStatus::Code(1));
    }

    #[test]
    fn directory_environment_and_mask_are_those_of_the_order() {
        let mut order = shell("pwd; echo $A; umask");
        order.directory = Some(CString::new("/usr").unwrap());
        order.environment = Some(texts(&["A=b"]));
        order.umask = Some(0o27);
        let (text, status) = output(order);
        assert_eq!(
            (text.as_str(), status),
            ("/usr\nb\n0027\n", ExitStatus::Code(0))
        );
    }

    #[test]
    fn only_inherited_descriptors_are_open() {
        let (read, write) = socket::pipe().unwrap();
        let mut order = shell("ls /proc/self/fd | wc -l");
        let (without, _) = output(shell("ls /proc/self/fd | wc -l"));
        order.inherited = vec![read.as_raw_fd(), write.as_raw_fd()];
        order.inherited.sort_unstable();
        let (with, _) = output(order);
        let count = |text: &str| text.trim().parse::<u32>().unwrap();
        assert_eq!(count(&with), count(&without) + 2);
    }

    #[test]
    fn one_descriptor_may_be_in_two_places() {
        let mut order = shell("echo one; echo two >&2");
        let (read, write) = socket::pipe().unwrap();
        order.standard = [None, Some(write.as_raw_fd()), Some(write.as_raw_fd())];
        let child = spawn(&order).unwrap();
        drop(write);
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        assert_eq!(
            (text.as_str(), end_of(&child)),
            ("one\ntwo\n", ExitStatus::Code(0))
        );
    }

    #[test]
    fn each_failure_names_its_step_and_leaves_no_child() {
        let failure = |order: &Order| {
            let error = spawn(order).unwrap_err();
            (error.step, error.source.raw_os_error())
        };
        let mut order = shell("true");
        order.programs = texts(&["/no/such", "/etc/passwd", "/nor/such"]);
        assert_eq!(failure(&order), (Step::Program, Some(libc::EACCES)));
        order.programs = texts(&["/no/such"]);
        assert_eq!(failure(&order), (Step::Program, Some(libc::ENOENT)));
        order.directory = Some(CString::new("/etc/passwd").unwrap());
        assert_eq!(failure(&order), (Step::Directory, Some(libc::ENOTDIR)));
        let mut order = shell("true");
        order.inherited = vec![1_000_000];
        assert_eq!(failure(&order), (Step::Preparation, Some(libc::EBADF)));
    }

    #[test]
    fn handlers_are_forgotten_and_the_mask_is_that_of_the_caller() {
        extern "C" fn nothing(_: c_int) {}
        let signal = libc::SIGRTMIN() + 11;
        // SAFETY: the handler does nothing.
        unsafe {
            libc::signal(
                signal,
                nothing as extern "C" fn(c_int) as libc::sighandler_t,
            )
        };
        let child = spawn(&shell(&format!("kill -{signal} $$"))).unwrap();
        assert_eq!(end_of(&child), ExitStatus::Signal(signal));
    }

    #[test]
    fn this_system_is_supported() {
        assert!(is_supported());
        let path: &CStr = c"/bin/true";
        let order = Order {
            programs: vec![path.to_owned()],
            arguments: vec![path.to_owned()],
            ..Order::default()
        };
        assert_eq!(end_of(&spawn(&order).unwrap()), ExitStatus::Code(0));
    }
}
