//! Processes: how the zygote is started, how it forks, how a process is watched and ended.
//!
//! A process is addressed by its pidfd, never by a number that another process may have got since.
//! The zygote and each worker lead a process group of their own, which a Ctrl-C at the terminal
//! does not reach, and which ends with the parent: see `lifeline.rs`.
//!
//! Source:     pidfd_open(2), pidfd_send_signal(2), posix_spawn(3), wait4(2).

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{check, retry};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// The end of a child: its status and what it used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// How it ended.
    pub status: ExitStatus,
    /// Most memory it held at once, in bytes.
    pub peak_memory_bytes: u64,
}

/// Id of this process.
#[must_use]
pub fn id() -> u32 {
    std::process::id()
}

/// A descriptor of the process `pid`, readable when it has ended.
///
/// # Errors
/// The system's, when there is no such process.
pub fn open_pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = check(i32::try_from(fd).unwrap_or(-1))?;
    // SAFETY: the call succeeded, so `fd` is ours alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends `signal` to the process behind `pidfd`; a process that has ended already is no error.
///
/// # Errors
/// The system's, when we may not.
pub fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let (fd, info) = (pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: a null info asks for the plain form of the signal.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, 0) };
    match check(i32::try_from(result).unwrap_or(-1)) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
        _ => Ok(()),
    }
}

/// Asks the process behind `pidfd` to end, by the signal that programs may answer to: SIGTERM.
///
/// # Errors
/// The system's, when we may not.
pub fn terminate(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    signal(pidfd, libc::SIGTERM)
}

/// Ends the process behind `pidfd` at once.
///
/// # Errors
/// The system's, when we may not.
pub fn kill(pidfd: BorrowedFd<'_>) -> io::Result<()> {
    signal(pidfd, libc::SIGKILL)
}

/// Ends the process behind `pidfd` and the rest of the group that it leads, even if it has ended
/// itself. Where it leads no group, this does nothing. `leader` is its number.
///
/// # Errors
/// The system's, when we may not.
pub fn kill_group(pidfd: BorrowedFd<'_>, leader: i32) -> io::Result<()> {
    let (fd, info) = (pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: a null info asks for the plain form of the signal.
    let send = |signal: i32, flags: u32| unsafe {
        let result = libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, info, flags);
        check(i32::try_from(result).unwrap_or(-1)).map(|_| ())
    };
    let mut result = send(libc::SIGKILL, PIDFD_SIGNAL_PROCESS_GROUP);
    let unknown = |error: &io::Error| error.raw_os_error() == Some(libc::EINVAL);
    if result.as_ref().is_err_and(unknown) {
        // Before Linux 6.9. The number is the leader's for as long as it has not been reaped.
        result = send(0, 0).and_then(|()| {
            // SAFETY: no pointers.
            check(unsafe { libc::kill(-leader, libc::SIGKILL) }).map(|_| ())
        });
    }
    match result {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
        _ => Ok(()),
    }
}
/// `PIDFD_SIGNAL_PROCESS_GROUP` of linux/pidfd.h.
const PIDFD_SIGNAL_PROCESS_GROUP: u32 = 1 << 2;

/// The signal that asks a worker to look whether its current call is to stop.
///
/// A real-time signal that neither Python, nor glibc, nor common profilers use.
#[must_use]
pub fn interrupt_signal() -> i32 {
    libc::SIGRTMIN() + 7
}

/// Duplicates this process. The child gets `None`.
///
/// # Errors
/// The system's: too many processes, or out of memory.
///
/// # Safety
/// The calling process has one thread, or the child calls only async-signal-safe functions.
pub unsafe fn fork() -> io::Result<Option<i32>> {
    // SAFETY: the caller's promise.
    let pid = check(unsafe { libc::fork() })?;
    Ok((pid != 0).then_some(pid))
}

/// As [`fork`], for a process that has one thread, which is checked.
///
/// # Errors
/// The system's, or `Unsupported` when this process has more threads.
pub fn fork_alone() -> io::Result<Option<i32>> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        let text = format!("a process of {threads} threads cannot be forked");
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    // SAFETY: this is the only thread, so no other can have been started since the check.
    unsafe { fork() }
}

extern "C" fn end_the_wait(_signal: libc::c_int) {}

/// From now on the interrupt signal does nothing but end a wait, for a worker that looks by itself
/// whether its call is to stop.
///
/// # Errors
/// The system's.
pub fn catch_interrupts() -> io::Result<()> {
    // SAFETY: sigaction is plain data, for which zero is a valid value: no flags, empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = end_the_wait as extern "C" fn(libc::c_int) as usize;
    // SAFETY: the handler is async-signal-safe: it does nothing. No old action is asked for.
    check(unsafe { libc::sigaction(interrupt_signal(), &raw const action, std::ptr::null_mut()) })?;
    Ok(())
}

/// Whether the process `pid` is ending, or has ended: its descriptors close a moment before it can
/// be reaped. Without `/proc` this cannot be told, and it counts as ended.
#[must_use]
pub fn is_exiting(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // proc_pid_stat(5): after the name in parentheses come the state and, sixth from it, the flags.
    let fields = status.rsplit_once(") ").map(|(_, rest)| rest.split(' '));
    let flags = fields.and_then(|mut fields| fields.nth(6)?.parse::<u64>().ok());
    flags.is_none_or(|flags| flags & PF_EXITING != 0)
}
/// The flag of linux/sched.h.
const PF_EXITING: u64 = 4;

/// Takes the end of the child `pid`, waiting for it.
///
/// # Errors
/// The system's, when `pid` is no child of ours.
pub fn reap(pid: i32) -> io::Result<Exit> {
    let mut status = 0;
    // SAFETY: rusage is plain numbers, for which zero is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    retry(|| {
        // SAFETY: both pointers are valid for the call to fill.
        check(unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) })
    })?;
    Ok(Exit {
        status: decode_status(status),
        peak_memory_bytes: usage.ru_maxrss.unsigned_abs() * 1024,
    })
}

fn decode_status(status: i32) -> ExitStatus {
    if libc::WIFSIGNALED(status) {
        ExitStatus::Signal(libc::WTERMSIG(status))
    } else {
        ExitStatus::Code(libc::WEXITSTATUS(status))
    }
}

/// `PIDFD_GET_INFO` of linux/pidfd.h, second version (kernel 6.15): only what we read.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroupid: u64,
    ids: [u32; 11],
    exit_code: i32,
}
const _: () = assert!(size_of::<PidfdInfo>() == 64);
const PIDFD_INFO_EXIT: u64 = 1 << 3;
const PIDFD_GET_INFO: libc::Ioctl = 0xC040_FF0B;

/// How the process behind `pidfd` ended, for a process that is not its parent.
///
/// Known when it has been reaped on kernel 6.15 or later, and while it is a zombie on any; `None`
/// between the two, and where the kernel does not tell.
#[must_use]
pub fn exit_status(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    let mut info = PidfdInfo {
        mask: PIDFD_INFO_EXIT,
        ..PidfdInfo::default()
    };
    // SAFETY: the request encodes the size of `info`, which is valid for reading and writing.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    if result == 0 && info.mask & PIDFD_INFO_EXIT != 0 {
        return Some(decode_status(info.exit_code));
    }
    zombie_status(pidfd)
}

/// Source: proc_pid_stat(5): `state` is the first field after the name, `exit_code` the last.
fn zombie_status(pidfd: BorrowedFd<'_>) -> Option<ExitStatus> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let facts = std::fs::read_to_string(path).ok()?;
    let pid: i32 = facts
        .lines()
        .find_map(|line| line.strip_prefix("Pid:"))?
        .trim()
        .parse()
        .ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = stat.rsplit_once(')')?.1.trim();
    let is_zombie = fields.starts_with('Z');
    let status = fields.rsplit(' ').next()?.parse().ok()?;
    // A zombie has not been reaped, so its number is still its own.
    is_zombie.then(|| decode_status(status))
}

/// Asks the scheduler to treat this process as one that computes: when it wakes, it does not push
/// other threads off their core. Its share of the time stays the same. Where the system refuses,
/// nothing but promptness is lost. A process that was given another policy than the usual one keeps
/// it.
///
/// Source: sched(7) on SCHED_BATCH.
pub fn compute_in_batches() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: no pointers; 0 names the calling thread.
    if unsafe { libc::sched_getscheduler(0) } != libc::SCHED_OTHER {
        return;
    }
    // SAFETY: `parameters` is valid for the call to read; 0 names the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
}

/// Makes `stderr` the standard error of this process.
///
/// # Errors
/// The system's.
pub fn replace_stderr(stderr: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers; number 2 is the standard error by convention and has no Rust owner.
    check(unsafe { libc::dup2(stderr.as_raw_fd(), 2) })?;
    Ok(())
}

/// A program to start: path, arguments (the program's own name first) and environment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Program {
    /// Path of the executable.
    pub path: OsString,
    /// Arguments; the first is the name.
    pub arguments: Vec<OsString>,
    /// `NAME=value` pairs: the whole environment.
    pub environment: Vec<OsString>,
}

/// First descriptor number that a started program finds its inherited descriptors at.
pub const INHERITED_FIRST: i32 = 3;

/// Takes over the two descriptors that our parent left at `INHERITED_FIRST` and the next number.
///
/// # Errors
/// `NotFound` when they are not there or were taken before.
pub fn take_inherited() -> io::Result<[OwnedFd; 2]> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let numbers = [INHERITED_FIRST, INHERITED_FIRST + 1];
    // SAFETY: no pointers.
    let open = |fd: i32| unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
    if !numbers.into_iter().all(open) || TAKEN.swap(true, Ordering::Relaxed) {
        let text = "no parent left its descriptors for this program";
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    // SAFETY: open, left at these numbers for this program alone (`spawn`), and taken once.
    Ok(numbers.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Starts `program` in a process group of its own with `/dev/null` as its input and `inherited` as
/// its descriptors 3, 4, ...; every signal has its default action there.
///
/// # Errors
/// The system's: no such program, too many processes.
pub fn spawn(program: &Program, inherited: &[BorrowedFd<'_>]) -> io::Result<i32> {
    let text = |part: &OsString| {
        CString::new(part.clone().into_vec()).map_err(|_| io::ErrorKind::InvalidInput)
    };
    let path = text(&program.path)?;
    let arguments = program
        .arguments
        .iter()
        .map(text)
        .collect::<Result<Vec<_>, _>>()?;
    let environment = program
        .environment
        .iter()
        .map(text)
        .collect::<Result<Vec<_>, _>>()?;
    // Above every target number, so that no source is overwritten before it is used.
    let floor = INHERITED_FIRST + i32::try_from(inherited.len()).expect("a handful");
    let sources = inherited
        .iter()
        .map(|fd| {
            // SAFETY: no pointers; the result is checked.
            let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, floor) };
            let copy = check(copy).map_err(|error| match error.raw_os_error() {
                // The floor itself is beyond the limit on open files.
                Some(libc::EINVAL) => io::Error::from_raw_os_error(libc::EMFILE),
                _ => error,
            })?;
            // SAFETY: the call succeeded, so the copy is ours alone.
            Ok(unsafe { OwnedFd::from_raw_fd(copy) })
        })
        .collect::<io::Result<Vec<_>>>()?;
    let mut attributes = SpawnAttributes::new()?;
    for (index, source) in sources.iter().enumerate() {
        let target = INHERITED_FIRST + i32::try_from(index).expect("a handful");
        attributes.duplicate(source.as_raw_fd(), target)?;
    }
    attributes.spawn(&path, &arguments, &environment)
}

/// The two attribute objects of posix_spawn, freed together.
struct SpawnAttributes {
    actions: libc::posix_spawn_file_actions_t,
    flags: libc::posix_spawnattr_t,
}

impl SpawnAttributes {
    fn new() -> io::Result<Self> {
        // SAFETY: both objects are opaque plain data that the init calls fill; the signal sets
        // are filled before use; nothing else is pointed to.
        unsafe {
            let mut this: Self = std::mem::zeroed();
            status(libc::posix_spawn_file_actions_init(&raw mut this.actions))?;
            status(libc::posix_spawnattr_init(&raw mut this.flags))?;
            let mut all: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            status(libc::posix_spawnattr_setsigdefault(
                &raw mut this.flags,
                &raw const all,
            ))?;
            libc::sigemptyset(&raw mut all);
            status(libc::posix_spawnattr_setsigmask(
                &raw mut this.flags,
                &raw const all,
            ))?;
            status(libc::posix_spawnattr_setpgroup(&raw mut this.flags, 0))?;
            let flags = libc::POSIX_SPAWN_SETSIGDEF
                | libc::POSIX_SPAWN_SETSIGMASK
                | libc::POSIX_SPAWN_SETPGROUP;
            let flags = libc::c_short::try_from(flags).expect("small flags");
            status(libc::posix_spawnattr_setflags(&raw mut this.flags, flags))?;
            status(libc::posix_spawn_file_actions_addopen(
                &raw mut this.actions,
                0,
                c"/dev/null".as_ptr(),
                libc::O_RDONLY,
                0,
            ))?;
            Ok(this)
        }
    }

    fn duplicate(&mut self, source: i32, target: i32) -> io::Result<()> {
        // SAFETY: `actions` was initialised by `new`.
        status(unsafe {
            libc::posix_spawn_file_actions_adddup2(&raw mut self.actions, source, target)
        })
    }

    fn spawn(&self, path: &CString, argv: &[CString], env: &[CString]) -> io::Result<i32> {
        let pointers = |texts: &[CString]| {
            let ends = std::iter::once(std::ptr::null_mut());
            texts
                .iter()
                .map(|text| text.as_ptr().cast_mut())
                .chain(ends)
                .collect::<Vec<_>>()
        };
        let (argv, env) = (pointers(argv), pointers(env));
        let mut pid = 0;
        // SAFETY: all strings end in NUL, both lists end in null, and all live until the return.
        status(unsafe {
            libc::posix_spawn(
                &raw mut pid,
                path.as_ptr(),
                &raw const self.actions,
                &raw const self.flags,
                argv.as_ptr(),
                env.as_ptr(),
            )
        })?;
        Ok(pid)
    }
}

impl Drop for SpawnAttributes {
    fn drop(&mut self) {
        // SAFETY: both objects were initialised by `new` and are freed once.
        unsafe {
            libc::posix_spawn_file_actions_destroy(&raw mut self.actions);
            libc::posix_spawnattr_destroy(&raw mut self.flags);
        }
    }
}

/// The posix_spawn family returns its error instead of leaving it in `errno`.
fn status(code: libc::c_int) -> io::Result<()> {
    if code == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(code))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::time::Duration;

    use super::*;
    use crate::socket;

    fn shell(script: &str) -> Program {
        Program {
            path: "/bin/sh".into(),
            arguments: vec!["sh".into(), "-c".into(), script.into()],
            environment: vec!["NAME=value".into()],
        }
    }

    #[test]
    fn a_program_gets_its_descriptors_and_environment() {
        let (read, write) = socket::pipe().unwrap();
        let pid = spawn(&shell("printf %s \"$NAME\" >&3; exit 7"), &[write.as_fd()]).unwrap();
        drop(write);
        let mut buffer = [0; 16];
        let len = socket::read(read.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"value");
        assert_eq!(reap(pid).unwrap().status, ExitStatus::Code(7));
    }

    #[test]
    fn a_process_that_was_not_reaped_tells_its_end() {
        let pid = spawn(&shell("exit 9"), &[]).unwrap();
        let pidfd = open_pidfd(pid).unwrap();
        assert!(socket::wait_readable(pidfd.as_fd(), Some(Duration::from_secs(5))).unwrap());
        assert_eq!(exit_status(pidfd.as_fd()), Some(ExitStatus::Code(9)));
        reap(pid).unwrap();
    }

    #[test]
    fn a_killed_process_says_which_signal() {
        let pid = spawn(&shell("kill -STOP $$; sleep 100"), &[]).unwrap();
        let pidfd = open_pidfd(pid).unwrap();
        kill(pidfd.as_fd()).unwrap();
        assert_eq!(reap(pid).unwrap().status, ExitStatus::Signal(libc::SIGKILL));
        signal(pidfd.as_fd(), libc::SIGTERM).unwrap();
    }
}
