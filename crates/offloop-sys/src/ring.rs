//! Bounded queue of frames between one producer and one consumer, usually in two processes.
//!
//! A ring of bytes; each frame is its length and its bytes, and may wrap around the end. The two
//! ends share two counters and nothing else. It never waits; a full ring is a refusal.
//!
//! Shape:      `capacity` bytes, a power of two; a frame takes 4 bytes of length, its bytes, and
//!             padding to the next multiple of 8.
//! Units:      counters are bytes since creation (u64: they do not wrap in a machine's life).
//! Invariants: 1. tail - head <= capacity.
//!             2. Only the producer stores tail; only the consumer stores head.
//!             3. Bytes in [head, tail) belong to the consumer, all other bytes to the producer.
//! Errors:     `RingFull` (refusal), `RingCorrupt` (the peer broke 1 or wrote a wrong length).
//! Threads:    one thread per end at a time, in either process.
//! Source:     docs/design/002-ring.md; Lamport, "Proving the correctness of multiprocess
//!             programs" (1977), for the queue with two counters.

use crate::sync::{AtomicU64, Ordering};

/// Bytes in front of each frame.
const LENGTH_BYTES: u64 = 4;

/// The ring has no room for the frame; nothing was written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("ring is full: frame of {needed} bytes, {free} of {capacity} free")]
pub struct RingFull {
    /// Bytes that the frame takes.
    pub needed: u64,
    /// Bytes that were free.
    pub free: u64,
    /// Bytes of the whole ring.
    pub capacity: u64,
}

/// The other end broke the ring's rules; nothing in it can be trusted any more.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("ring is corrupt: head {head}, tail {tail}, frame of {frame} bytes, capacity {capacity}")]
pub struct RingCorrupt {
    /// Where the consumer stands.
    pub head: u64,
    /// Where the producer claims to stand.
    pub tail: u64,
    /// Length that the frame claims.
    pub frame: u64,
    /// Bytes of the whole ring.
    pub capacity: u64,
}

/// The memory of a ring: shared between processes, or the model checker's.
pub trait RingMemory {
    /// Bytes of the data area, a power of two.
    fn capacity(&self) -> u64;
    /// The consumer's counter.
    fn head(&self) -> &AtomicU64;
    /// The producer's counter.
    fn tail(&self) -> &AtomicU64;
    /// Copies `bytes` to `offset`; both lie inside the data area.
    fn write(&self, offset: u64, bytes: &[u8]);
    /// Copies from `offset` into `bytes`; both lie inside the data area.
    fn read(&self, offset: u64, bytes: &mut [u8]);
}

fn frame_bytes(len: u64) -> u64 {
    (LENGTH_BYTES + len).next_multiple_of(8)
}

/// The end that pushes.
#[derive(Debug)]
pub struct Producer<M> {
    memory: M,
    tail: u64,
    /// The head as last seen: the true one is never behind it.
    head_seen: u64,
}

impl<M: RingMemory> Producer<M> {
    /// The producing end of a ring that is empty.
    pub fn new(memory: M) -> Self {
        let tail = memory.tail().load(Ordering::Relaxed);
        Self {
            memory,
            tail,
            head_seen: tail,
        }
    }

    /// Pushes one frame made of `parts`, one after the other.
    ///
    /// # Errors
    /// `RingFull`, and nothing was written.
    pub fn try_push(&mut self, parts: &[&[u8]]) -> Result<(), RingFull> {
        let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let (needed, capacity) = (frame_bytes(len), self.memory.capacity());
        if self.free() < needed {
            // Acquire pairs with the consumer's release store of head: its copying out of the
            // bytes that we overwrite next has happened before.
            let head = self.memory.head().load(Ordering::Acquire);
            // A lying consumer can only move within what we know to be true.
            self.head_seen = head.clamp(self.head_seen, self.tail);
            if self.free() < needed {
                return Err(RingFull {
                    needed,
                    free: self.free(),
                    capacity,
                });
            }
        }
        let length = u32::try_from(len).expect("a frame that fits is shorter than the ring");
        self.copy_in(self.tail, &length.to_ne_bytes());
        let mut at = self.tail + LENGTH_BYTES;
        for part in parts {
            self.copy_in(at, part);
            at += part.len() as u64;
        }
        self.tail += needed;
        // Release pairs with the consumer's acquire load of tail: the bytes come first.
        self.memory.tail().store(self.tail, Ordering::Release);
        Ok(())
    }

    /// Whether the consumer has taken everything.
    pub fn is_empty(&self) -> bool {
        self.memory.head().load(Ordering::Acquire) == self.tail
    }

    fn free(&self) -> u64 {
        self.memory.capacity() - (self.tail - self.head_seen)
    }

    fn copy_in(&self, at: u64, bytes: &[u8]) {
        let capacity = self.memory.capacity();
        let offset = at & (capacity - 1);
        let first = bytes
            .len()
            .min(usize::try_from(capacity - offset).unwrap_or(usize::MAX));
        self.memory.write(offset, &bytes[..first]);
        if first < bytes.len() {
            self.memory.write(0, &bytes[first..]);
        }
    }
}

/// The end that pops.
#[derive(Debug)]
pub struct Consumer<M> {
    memory: M,
    head: u64,
}

impl<M: RingMemory> Consumer<M> {
    /// The consuming end of a ring.
    pub fn new(memory: M) -> Self {
        let head = memory.head().load(Ordering::Relaxed);
        Self { memory, head }
    }

    /// Appends the next frame to `out`; false when there is none.
    ///
    /// # Errors
    /// `RingCorrupt` when the producer broke the rules.
    pub fn try_pop(&mut self, out: &mut Vec<u8>) -> Result<bool, RingCorrupt> {
        // Acquire pairs with the producer's release store of tail: we see the bytes before it.
        let tail = self.memory.tail().load(Ordering::Acquire);
        if tail == self.head {
            return Ok(false);
        }
        let capacity = self.memory.capacity();
        let corrupt = |frame| RingCorrupt {
            head: self.head,
            tail,
            frame,
            capacity,
        };
        let filled = tail.wrapping_sub(self.head);
        if filled > capacity || filled < frame_bytes(0) {
            return Err(corrupt(0));
        }
        let mut length = [0; 4];
        self.copy_out(self.head, &mut length);
        let len = u64::from(u32::from_ne_bytes(length));
        if frame_bytes(len) > filled {
            return Err(corrupt(len));
        }
        let start = out.len();
        out.resize(start + usize::try_from(len).map_err(|_| corrupt(len))?, 0);
        self.copy_out(self.head + LENGTH_BYTES, &mut out[start..]);
        self.head += frame_bytes(len);
        // Release pairs with the producer's acquire load of head: our copying came first.
        self.memory.head().store(self.head, Ordering::Release);
        Ok(true)
    }

    /// Whether nothing is there to pop.
    pub fn is_empty(&self) -> bool {
        self.memory.tail().load(Ordering::Acquire) == self.head
    }

    fn copy_out(&self, at: u64, bytes: &mut [u8]) {
        let capacity = self.memory.capacity();
        let offset = at & (capacity - 1);
        let first = bytes
            .len()
            .min(usize::try_from(capacity - offset).unwrap_or(usize::MAX));
        let (head, rest) = bytes.split_at_mut(first);
        self.memory.read(offset, head);
        if !rest.is_empty() {
            self.memory.read(0, rest);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[derive(Clone)]
    struct Local(Rc<(AtomicU64, AtomicU64, RefCell<Vec<u8>>)>);

    impl Local {
        fn new(capacity: usize) -> Self {
            let memory = RefCell::new(vec![0; capacity]);
            Self(Rc::new((AtomicU64::new(0), AtomicU64::new(0), memory)))
        }
    }

    impl RingMemory for Local {
        fn capacity(&self) -> u64 {
            self.0.2.borrow().len() as u64
        }
        fn head(&self) -> &AtomicU64 {
            &self.0.0
        }
        fn tail(&self) -> &AtomicU64 {
            &self.0.1
        }
        fn write(&self, offset: u64, bytes: &[u8]) {
            let at = usize::try_from(offset).unwrap();
            self.0.2.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        }
        fn read(&self, offset: u64, bytes: &mut [u8]) {
            let at = usize::try_from(offset).unwrap();
            bytes.copy_from_slice(&self.0.2.borrow()[at..at + bytes.len()]);
        }
    }

    #[test]
    fn frames_of_every_length_come_out_as_they_went_in() {
        let memory = Local::new(128);
        let mut producer = Producer::new(memory.clone());
        let mut consumer = Consumer::new(memory);
        let mut out = Vec::new();
        for round in 0..1000usize {
            let frame: Vec<u8> = (0..round % 100).map(|byte| (byte + round) as u8).collect();
            let (left, right) = frame.split_at(frame.len() / 3);
            producer.try_push(&[left, right]).unwrap();
            out.clear();
            assert!(consumer.try_pop(&mut out).unwrap());
            assert_eq!(out, frame);
        }
        assert!(!consumer.try_pop(&mut out).unwrap());
        assert!(producer.is_empty());
    }

    #[test]
    fn a_full_ring_refuses_and_keeps_what_it_has() {
        let memory = Local::new(64);
        let mut producer = Producer::new(memory.clone());
        let mut consumer = Consumer::new(memory);
        producer.try_push(&[&[1; 28]]).unwrap();
        producer.try_push(&[&[2; 28]]).unwrap();
        assert_eq!(
            producer.try_push(&[&[3]]),
            Err(RingFull {
                needed: 8,
                free: 0,
                capacity: 64
            })
        );
        let mut out = Vec::new();
        assert!(consumer.try_pop(&mut out).unwrap());
        assert_eq!(out, [1; 28]);
        producer.try_push(&[&[3]]).unwrap();
    }

    #[test]
    fn a_peer_that_lies_is_found_out() {
        let memory = Local::new(64);
        let mut consumer = Consumer::new(memory.clone());
        memory.tail().store(65, Ordering::Relaxed);
        assert!(consumer.try_pop(&mut Vec::new()).is_err());
        memory.tail().store(16, Ordering::Relaxed);
        memory.write(0, &1000u32.to_ne_bytes());
        let error = consumer.try_pop(&mut Vec::new()).unwrap_err();
        assert_eq!((error.frame, error.tail), (1000, 16));
    }
}
