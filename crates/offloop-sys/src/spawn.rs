//! Starting a program without copying this process.
//!
//! The child borrows our memory until it becomes the program, while the calling thread stands
//! still. No page table is copied, however large we are. If the program could not be started, the
//! reason is left in memory that both see. All that the child needs is prepared before, since it
//! may neither allocate nor take a lock that another thread of ours holds.
//!
//! Invariants: 1. The child touches nothing but the `Plan`, its own stack, and system calls.
//!             2. No signal handler of ours runs in the child: either the kernel takes them away
//!                as it is born, or every signal is blocked until it has done so itself.
//! Errors:     what the system answered, and at which step.
//! Threads:    any may spawn, at the same time.
//! Source:     clone(2) on CLONE_VFORK, CLONE_PIDFD and CLONE_CLEAR_SIGHAND, close_range(2),
//!             signal(7).

use std::ffi::{CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{null, null_mut};
use std::sync::OnceLock;

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
    let mut plan = Plan::new(order);
    let failed = |step| move |source| SpawnError { step, source };
    let (pid, pidfd) = bear(&mut plan).map_err(|source| {
        if is_refusal(&source) {
            REFUSED.get_or_init(|| ());
        }
        failed(Step::Birth)(source)
    })?;
    // SAFETY: the child is through with it; read as memory that another process has written.
    match unsafe { (&raw const plan.failure).read_volatile() } {
        None => Ok(Child { pid, pidfd }),
        Some((step, code)) => {
            // It has ended, or is about to. An error means that other code has taken its status:
            // its number may be another child's by now, but its descriptor is not.
            wait_status(pidfd.as_raw_fd(), 0).ok();
            Err(failed(step)(io::Error::from_raw_os_error(code)))
        }
    }
}

const SHARED_BIRTH: c_int = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD;

/// Makes the child; returns when it has carried out its plan, or has ended.
fn bear(plan: &mut Plan<'_>) -> io::Result<(i32, OwnedFd)> {
    let mut stack = Stack::new();
    #[cfg(target_arch = "x86_64")]
    {
        static UNKNOWN: OnceLock<()> = OnceLock::new();
        if UNKNOWN.get().is_none() {
            match modern::bear(plan, &mut stack) {
                // The kernel is too old for this call or its flag, or a filter does not know it.
                Err(error) if is_refusal(&error) => UNKNOWN.get_or_init(|| ()),
                result => return result,
            };
        }
    }
    bear_blocked(plan, &mut stack)
}

/// Makes the child with every signal blocked until it has forgotten its handlers.
fn bear_blocked(plan: &mut Plan<'_>, stack: &mut Stack) -> io::Result<(i32, OwnedFd)> {
    let mut pidfd: c_int = -1;
    let blocked = BlockedSignals::new();
    plan.mask = Some(blocked.before);
    let flags = SHARED_BIRTH | libc::SIGCHLD;
    // SAFETY: the child runs `become_program` on a stack of its own, with a plan that outlives it:
    // this thread goes on only when the child has become the program, or has ended. The call
    // stores the new descriptor where the last pointer says.
    let pid = check(unsafe {
        let plan = (&raw mut *plan).cast::<c_void>();
        libc::clone(become_program, stack.top(), flags, plan, &raw mut pidfd)
    });
    drop(blocked);
    // SAFETY: if the call succeeded, the descriptor is ours alone.
    pid.map(|pid| (pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// The newer system call, which can take the signal handlers away as the child is born, and so
/// spares it a hundred calls. The C library has no function for it.
#[cfg(target_arch = "x86_64")]
mod modern {
    use std::arch::asm;

    use super::{
        FromRawFd, OwnedFd, Plan, SHARED_BIRTH, STACK_BYTES, Stack, become_program, c_int, io,
    };

    /// `CLONE_CLEAR_SIGHAND` of linux/sched.h, which does not fit into the flags of the old call.
    const CLEAR_SIGNAL_HANDLERS: u64 = 0x1_0000_0000;

    /// `struct clone_args` of linux/sched.h, first version.
    #[repr(C)]
    struct CloneArguments {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
    }
    const _: () = assert!(size_of::<CloneArguments>() == 64);

    pub(super) fn bear(plan: &mut Plan<'_>, stack: &mut Stack) -> io::Result<(i32, OwnedFd)> {
        let mut pidfd: c_int = -1;
        let arguments = CloneArguments {
            flags: u64::from(SHARED_BIRTH.cast_unsigned()) | CLEAR_SIGNAL_HANDLERS,
            pidfd: (&raw mut pidfd).addr() as u64,
            child_tid: 0,
            parent_tid: 0,
            exit_signal: u64::from(libc::SIGCHLD.cast_unsigned()),
            stack: stack.bottom().addr() as u64,
            stack_size: STACK_BYTES as u64,
            tls: 0,
        };
        let mut result = libc::SYS_clone3;
        // SAFETY: the child (result 0) has a stack of its own, aligned as a call wants it, calls
        // `become_program` with the plan, and never comes back from there; so whatever this
        // function keeps on its own stack is left alone. The parent goes on behind the child's
        // part, once the child no longer uses the plan.
        unsafe {
            asm!(
                "syscall",
                "test rax, rax",
                "jnz 2f",
                "xor ebp, ebp",
                "mov rdi, {plan}",
                "call {child}",
                "ud2",
                "2:",
                plan = in(reg) &raw mut *plan,
                child = in(reg) become_program as extern "C" fn(_) -> _,
                inlateout("rax") result,
                in("rdi") &raw const arguments,
                in("rsi") size_of::<CloneArguments>(),
                out("rcx") _,
                out("r11") _,
            );
        }
        match i32::try_from(result) {
            Ok(pid) if pid > 0 => {
                // SAFETY: the call succeeded, so the descriptor is ours alone.
                Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
            }
            negative => Err(io::Error::from_raw_os_error(-negative.unwrap_or(0))),
        }
    }
}

/// What the child needs, without anything left to compute.
struct Plan<'a> {
    order: &'a Order,
    arguments: Vec<*const c_char>,
    environment: Option<Vec<*const c_char>>,
    /// The signals to be blocked in the program, if they are not already so; then the child has
    /// handlers to forget.
    mask: Option<libc::sigset_t>,
    failure: Option<(Step, c_int)>,
}

impl<'a> Plan<'a> {
    fn new(order: &'a Order) -> Self {
        let pointers = |texts: &[CString]| {
            let pointers = texts.iter().map(|text| text.as_ptr());
            pointers.chain([null()]).collect::<Vec<_>>()
        };
        Self {
            order,
            arguments: pointers(&order.arguments),
            environment: order.environment.as_deref().map(pointers),
            mask: None,
            failure: None,
        }
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
        if self.mask.is_some() {
            forget_handlers();
        }
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
        if let Some(mask) = &self.mask {
            // SAFETY: a set that was filled.
            unsafe { libc::sigprocmask(libc::SIG_SETMASK, mask, null_mut()) };
        }
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

extern "C" fn become_program(plan: *mut c_void) -> c_int {
    let plan = plan.cast::<Plan<'_>>();
    // SAFETY: `spawn` passes its plan, and stands still while we have it.
    unsafe {
        let failure = (*plan).carry_out();
        (&raw mut (*plan).failure).write_volatile(Some(failure));
        // Without the functions that the parent has registered for its exit. Not by `_exit`: before
        // that an address sanitizer would clear our stack, and complain of a stack that it does not
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

/// Puts the standard descriptors into their places. A descriptor that is in the place of another is
/// moved away first.
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

/// Every signal is blocked in this thread while this lives.
struct BlockedSignals {
    before: libc::sigset_t,
}

impl BlockedSignals {
    fn new() -> Self {
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

/// Far more than the child's few calls need: a page for them, and what a sanitizer adds.
const STACK_BYTES: usize = 64 * 1024;

impl Stack {
    fn new() -> Self {
        // Not filled: only the pages that the child touches cost anything.
        Self(Vec::with_capacity(STACK_BYTES / size_of::<StackLine>()))
    }

    fn bottom(&mut self) -> *mut c_void {
        self.0.as_mut_ptr().cast()
    }

    /// Stacks grow downwards on all processors that we are built for.
    fn top(&mut self) -> *mut c_void {
        // SAFETY: one past the end of what was allocated.
        unsafe { self.bottom().byte_add(STACK_BYTES) }
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

    type Way = fn(&mut Plan<'_>) -> io::Result<(i32, OwnedFd)>;

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
    fn handlers_are_forgotten_whichever_way_the_child_is_born() {
        extern "C" fn nothing(_: c_int) {}
        let ways: [Way; 2] = [bear, |plan| bear_blocked(plan, &mut Stack::new())];
        let signal = libc::SIGRTMIN() + 11;
        // SAFETY: the handler does nothing.
        unsafe {
            libc::signal(
                signal,
                nothing as extern "C" fn(c_int) as libc::sighandler_t,
            )
        };
        for way in ways {
            let order = shell(&format!("kill -{signal} $$"));
            let mut plan = Plan::new(&order);
            let (pid, pidfd) = way(&mut plan).unwrap();
            assert_eq!(end_of(&Child { pid, pidfd }), ExitStatus::Signal(signal));
        }
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
