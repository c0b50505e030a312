//! The registers and the stack of a running thread of this process, at one moment.
//!
//! Only the kernel knows the registers of a thread that runs. So a signal interrupts the thread,
//! and its handler copies the registers and the nearest part of the stack, and returns. A thread
//! that waits in a system call is not to be asked: the signal would end many of these. One that
//! runs within a system call cannot be told from one that computes: `read` of a device may give
//! less.
//!
//! Invariants: 1. The handler makes no calls but system calls, allocates nothing, and leaves
//!                `errno` as it was.
//!             2. It writes only for the thread that is asked, while the state is `WRITING`; the
//!                asker reads only in the state `DONE`.
//!             3. Memory is copied by the kernel, which refuses what is not mapped.
//! Threads:    any may ask; one at a time, and another one is refused meanwhile.
//! Source:     sigaction(2), signal-safety(7), tgkill(2), process_vm_readv(2).

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::io;
use std::ptr::{addr_of, addr_of_mut, null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::{check, fork, thread};

/// How much of the stack is copied.
const PAGES: usize = 16;
const PAGE_BYTES: usize = 4096;
const STACK_BYTES: usize = PAGES * PAGE_BYTES;
/// How often the asker looks.
const SLICE: Duration = Duration::from_micros(50);
/// How long a handler that has begun may take: its thread may have been stopped in it.
const WRITING_BOUND: Duration = Duration::from_secs(1);

/// Registers that tell the stack entries of C code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// The instruction that runs.
    pub instruction: u64,
    /// The end of the stack.
    pub stack: u64,
    /// The frame pointer: `rbp`, or `x29` of aarch64.
    pub frame: u64,
    /// Where the function returns to: `x30` of aarch64.
    pub link: u64,
}

/// What a thread was in the middle of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NativeStack {
    /// Its registers.
    pub registers: Registers,
    /// The bytes from the end of its stack on, as many as are mapped and are wanted.
    bytes: Vec<u8>,
}

impl NativeStack {
    /// The word at an address, if it was copied.
    #[must_use]
    pub fn word(&self, address: u64) -> Option<u64> {
        let start = usize::try_from(address.checked_sub(self.registers.stack)?).ok()?;
        let bytes = self.bytes.get(start..start.checked_add(8)?)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    }
}

const FREE: u32 = 0;
const WANTED: u32 = 1;
const WRITING: u32 = 2;
const DONE: u32 = 3;

struct Copied {
    registers: Registers,
    length: usize,
    bytes: [u8; STACK_BYTES],
}

/// What the asker and the handler share.
struct Slot {
    state: AtomicU32,
    thread: AtomicU32,
    copied: UnsafeCell<Copied>,
}

// SAFETY: invariant 2 says which side touches `copied`.
unsafe impl Sync for Slot {}

static SLOT: Slot = Slot {
    state: AtomicU32::new(FREE),
    thread: AtomicU32::new(0),
    copied: UnsafeCell::new(Copied {
        registers: Registers {
            instruction: 0,
            stack: 0,
            frame: 0,
            link: 0,
        },
        length: 0,
        bytes: [0; STACK_BYTES],
    }),
};

/// The generation of the asker, and one more; 0 for none. One of before a fork is gone.
static ASKER: AtomicU32 = AtomicU32::new(0);
/// A handler did not come to its end: the slot is its own, for good.
const LEFT: u32 = u32::MAX;

struct Asking;

impl Asking {
    fn begin() -> Option<Self> {
        let own = fork::generation() + 1;
        let found = ASKER.load(Ordering::Relaxed);
        let is_free = ![own, LEFT].contains(&found)
            && ASKER
                .compare_exchange(found, own, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        is_free.then_some(Self)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        SLOT.state.store(FREE, Ordering::Relaxed);
        ASKER.store(0, Ordering::Release);
    }
}

extern "C" fn copy(_signal: c_int, _info: *mut libc::siginfo_t, context: *mut c_void) {
    if SLOT.thread.load(Ordering::Relaxed) != thread::kernel_id()
        || SLOT
            .state
            .compare_exchange(WANTED, WRITING, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
    {
        return;
    }
    // SAFETY: the kernel passes the context that it has saved.
    let registers = registers_of(unsafe { &*context.cast::<libc::ucontext_t>() });
    let copied = SLOT.copied.get();
    // SAFETY: the thread's own word.
    let errno = unsafe { *libc::__errno_location() };
    // SAFETY: invariant 2; nothing reads or writes it meanwhile.
    unsafe {
        *addr_of_mut!((*copied).registers) = registers;
        *addr_of_mut!((*copied).length) =
            copy_stack(registers.stack, addr_of_mut!((*copied).bytes).cast());
        *libc::__errno_location() = errno;
    }
    SLOT.state.store(DONE, Ordering::Release);
}

#[cfg(target_arch = "x86_64")]
fn registers_of(context: &libc::ucontext_t) -> Registers {
    let general = &context.uc_mcontext.gregs;
    let of = |index: c_int| general[index as usize].cast_unsigned();
    Registers {
        instruction: of(libc::REG_RIP),
        stack: of(libc::REG_RSP),
        frame: of(libc::REG_RBP),
        link: 0,
    }
}

#[cfg(target_arch = "aarch64")]
fn registers_of(context: &libc::ucontext_t) -> Registers {
    let saved = &context.uc_mcontext;
    Registers {
        instruction: saved.pc,
        stack: saved.sp,
        frame: saved.regs[29],
        link: saved.regs[30],
    }
}

/// Copies from an address on, page by page, until one is not mapped.
///
/// # Safety
/// `to` is valid for `STACK_BYTES`.
unsafe fn copy_stack(from: u64, to: *mut c_void) -> usize {
    let mut pieces = [libc::iovec {
        iov_base: null_mut(),
        iov_len: 0,
    }; PAGES];
    let mut at = from as usize;
    let mut left = STACK_BYTES;
    let mut count = 0;
    while left > 0 && count < PAGES {
        let length = (PAGE_BYTES - at % PAGE_BYTES).min(left);
        pieces[count] = libc::iovec {
            iov_base: at as *mut c_void,
            iov_len: length,
        };
        at += length;
        left -= length;
        count += 1;
    }
    let own = libc::iovec {
        iov_base: to,
        iov_len: STACK_BYTES - left,
    };
    // SAFETY: the kernel writes to `to`, which is valid by contract, and checks what it reads.
    let copied = unsafe {
        libc::process_vm_readv(
            libc::getpid(),
            &raw const own,
            1,
            pieces.as_ptr(),
            count as libc::c_ulong,
            0,
        )
    };
    usize::try_from(copied).unwrap_or(0)
}

fn own_handler() -> usize {
    copy as *const () as usize
}

/// What handles a signal.
fn handler(signal: c_int) -> io::Result<usize> {
    // SAFETY: plain numbers and pointers, for which zero is a valid value.
    let mut found: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: `found` is valid for the call to fill; nothing is changed.
    check(unsafe { libc::sigaction(signal, null(), &raw mut found) })?;
    Ok(found.sa_sigaction)
}

fn take(signal: c_int) -> io::Result<()> {
    // SAFETY: plain numbers and pointers, for which zero is a valid value.
    let mut wanted: libc::sigaction = unsafe { std::mem::zeroed() };
    wanted.sa_sigaction = own_handler();
    wanted.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: the mask is valid to fill; the handler is async-signal-safe (invariant 1).
    unsafe {
        libc::sigfillset(&raw mut wanted.sa_mask);
        check(libc::sigaction(signal, &raw const wanted, null_mut()))?;
    }
    Ok(())
}

/// What a process ignores unless it handles them: one that is sent while a thread executes another
/// program arrives there. The Go runtime interrupts its threads by the first one for this reason.
const SIGNALS: [c_int; 2] = [libc::SIGURG, libc::SIGWINCH];

/// A signal that nothing else in the process handles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    signal: c_int,
}

impl Sampler {
    /// Takes one of the signals that has no handler.
    ///
    /// # Errors
    /// `Other` if all have one; the system's otherwise.
    pub fn install() -> io::Result<Self> {
        for signal in SIGNALS {
            match handler(signal)? {
                found if found == own_handler() => return Ok(Self { signal }),
                libc::SIG_DFL => {
                    take(signal)?;
                    return Ok(Self { signal });
                }
                _ => {}
            }
        }
        Err(io::Error::other("the program handles SIGURG and SIGWINCH"))
    }

    /// The number of the signal.
    #[must_use]
    pub const fn signal(&self) -> c_int {
        self.signal
    }

    /// Whether the signal is still this sampler's: a program may handle any.
    #[must_use]
    pub fn is_in_place(&self) -> bool {
        handler(self.signal).is_ok_and(|found| found == own_handler())
    }

    /// What a thread is in the middle of; `None` if it does not say so for as long as `patience`:
    /// it is gone, holds the signal back, or does not run.
    #[must_use]
    pub fn sample(&self, native_id: u32, patience: Duration) -> Option<NativeStack> {
        let asking = Asking::begin()?;
        let until = Instant::now() + patience;
        SLOT.thread.store(native_id, Ordering::Relaxed);
        SLOT.state.store(WANTED, Ordering::Release);
        // SAFETY: plain numbers; the handler of the signal is `copy`.
        let sent =
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), native_id, self.signal) };
        if sent != 0 {
            return None;
        }
        loop {
            match SLOT.state.load(Ordering::Acquire) {
                DONE => break,
                WANTED if Instant::now() >= until => {
                    let cancelled = SLOT.state.compare_exchange(
                        WANTED,
                        FREE,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    );
                    if cancelled.is_ok() {
                        return None;
                    }
                }
                WRITING if Instant::now() >= until + WRITING_BOUND => {
                    std::mem::forget(asking);
                    ASKER.store(LEFT, Ordering::Relaxed);
                    return None;
                }
                _ => std::thread::sleep(SLICE),
            }
        }
        let copied = SLOT.copied.get();
        // SAFETY: invariant 2: the state is `DONE`, and the length was written before that.
        unsafe {
            let length = *addr_of!((*copied).length);
            let bytes = std::slice::from_raw_parts(addr_of!((*copied).bytes).cast(), length);
            let stack = NativeStack {
                registers: *addr_of!((*copied).registers),
                bytes: bytes.to_vec(),
            };
            drop(asking);
            Some(stack)
        }
    }
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::channel;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const MARK: u64 = 0x5eed_0ff1_00b5_eed5;

    #[inline(never)]
    fn spin(stop: &AtomicBool, mark: &u64) -> u64 {
        while !stop.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        *mark
    }

    #[test]
    fn a_thread_that_runs_shows_its_registers_and_its_stack() {
        let sampler = Sampler::install().expect("a signal");
        assert_eq!(Sampler::install().expect("the same"), sampler);
        let stop = Arc::new(AtomicBool::new(false));
        let (tell, told) = channel();
        let spinning = {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                let mark = std::hint::black_box(MARK);
                let address = std::ptr::from_ref(&mark) as u64;
                tell.send((thread::kernel_id(), address)).expect("heard");
                spin(&stop, &mark)
            })
        };
        let (native_id, mark) = told.recv().expect("told");
        for _ in 0..100 {
            let stack = sampler.sample(native_id, PATIENCE).expect("it runs");
            assert_ne!(stack.registers.instruction, 0);
            assert_eq!(stack.word(mark), Some(MARK));
            assert_eq!(stack.word(stack.registers.stack - 8), None);
            assert_eq!(stack.word(u64::MAX), None);
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(spinning.join().expect("it ends"), MARK);
        assert_eq!(sampler.sample(native_id, Duration::from_millis(1)), None);
    }
}
