//! Two bounded queues of slots in shared memory, one in each direction.
//!
//! A ping-pong needs no more than one message in flight, but the ring is a real one: the producer
//! writes a slot and publishes the tail, the consumer copies the slot and publishes the head.
//!
//! Shape:      per direction a tail, a head and a "sleeping" flag on cache lines of their own, and
//!             64 slots of 64 bytes.
//! Units:      counters are slots since creation (u32, wrapping).
//! Invariants: 1. tail - head <= 64.
//!             2. Only the producer stores tail; only the consumer stores head.
//! Threads:    one producer and one consumer, in two processes.
//! Source:     futex(2).

use std::cell::UnsafeCell;
use std::hint::spin_loop;
use std::io;
use std::ptr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, fence};

const SLOTS: u32 = 64;
const _: () = assert!(SLOTS.is_power_of_two());

/// A message: as large as the smallest frame of a pool would be.
pub type Slot = [u8; 64];

/// What an end does while there is no message for it.
#[derive(Clone, Copy)]
pub enum Waiting {
    /// Sleep at once.
    Sleep,
    /// Look again so many times, then sleep.
    SpinThenSleep(u32),
}

#[repr(align(64))]
struct Line<T>(T);

/// One direction.
pub struct Ring {
    tail: Line<AtomicU32>,
    head: Line<AtomicU32>,
    sleeping: Line<AtomicU32>,
    slots: [UnsafeCell<Slot>; SLOTS as usize],
}

/// Both directions, in a mapping that a forked process shares.
pub struct Rings {
    /// To the partner.
    pub there: Ring,
    /// From the partner.
    pub back: Ring,
}

impl Rings {
    /// Map a pair of empty rings. It stays mapped until the process ends.
    pub fn map() -> io::Result<&'static Self> {
        // SAFETY: a fresh anonymous mapping, at an address that the kernel chooses.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size_of::<Self>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the mapping is page-aligned, large enough and never unmapped; zero bytes are
        // valid atomics and slots. Slots are only touched under invariants 1 and 2.
        Ok(unsafe { &*address.cast::<Self>() })
    }
}

impl Ring {
    /// Put a message in, and wake the consumer if it sleeps.
    pub fn send(&self, message: &Slot) {
        let tail = self.tail.0.load(Relaxed);
        assert!(tail.wrapping_sub(self.head.0.load(Acquire)) < SLOTS);
        let slot = self.slots[(tail % SLOTS) as usize].get();
        // SAFETY: the ring is not full (checked above), so the consumer does not read this slot
        // before the tail below is published (invariants 1 and 2).
        unsafe { slot.write(*message) };
        self.tail.0.store(tail.wrapping_add(1), Release);
        // Pairs with the fence in `wait_for_message`: either we see the flag, or it sees the tail.
        fence(SeqCst);
        if self.sleeping.0.load(Relaxed) != 0 {
            self.sleeping.0.store(0, Relaxed);
            futex(&self.tail.0, libc::FUTEX_WAKE, 1);
        }
    }

    /// Wait for a message and take it out.
    pub fn wait_receive(&self, waiting: Waiting) -> Slot {
        let head = self.head.0.load(Relaxed);
        self.wait_for_message(head, waiting);
        let slot = self.slots[(head % SLOTS) as usize].get();
        // SAFETY: the acquire load of the tail showed that this slot is published, and the
        // producer leaves it alone until the head below is stored (invariants 1 and 2).
        let message = unsafe { slot.read() };
        self.head.0.store(head.wrapping_add(1), Release);
        message
    }

    fn wait_for_message(&self, head: u32, waiting: Waiting) {
        if let Waiting::SpinThenSleep(looks) = waiting {
            for _ in 0..looks {
                if self.tail.0.load(Acquire) != head {
                    return;
                }
                spin_loop();
            }
        }
        while self.tail.0.load(Acquire) == head {
            self.sleeping.0.store(1, Relaxed);
            // Pairs with the fence in `send`.
            fence(SeqCst);
            if self.tail.0.load(Acquire) != head {
                break;
            }
            futex(&self.tail.0, libc::FUTEX_WAIT, head);
        }
        self.sleeping.0.store(0, Relaxed);
    }
}

/// Sleep while the word has this value, or wake so many threads that do.
fn futex(word: &AtomicU32, operation: libc::c_int, value: u32) {
    // SAFETY: the word is a valid, aligned address for the whole call; a null timeout means none.
    // A refusal (the value has changed) is an answer too: every caller looks at the word again.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            operation,
            value,
            ptr::null::<libc::timespec>(),
        );
    }
}
