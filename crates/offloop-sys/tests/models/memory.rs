//! The memory of a ring whose bytes loom watches.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use offloop_sys::ring::RingMemory;
use offloop_sys::sync::AtomicU64;

const CAPACITY: usize = 16;

struct Shared {
    head: AtomicU64,
    tail: AtomicU64,
    bytes: [UnsafeCell<u8>; CAPACITY],
}

/// A ring of two frames.
#[derive(Clone)]
pub struct Model(Arc<Shared>);

// SAFETY: the cells are guarded by the ring's own protocol, which is what loom checks here.
unsafe impl Send for Model {}

impl Model {
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            bytes: std::array::from_fn(|_| UnsafeCell::new(0)),
        }))
    }
}

impl RingMemory for Model {
    fn capacity(&self) -> u64 {
        CAPACITY as u64
    }
    fn head(&self) -> &AtomicU64 {
        &self.0.head
    }
    fn tail(&self) -> &AtomicU64 {
        &self.0.tail
    }
    fn write(&self, offset: u64, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            // SAFETY: loom tracks the access and fails the model when it races.
            self.0.bytes[offset as usize + index].with_mut(|cell| unsafe { *cell = *byte });
        }
    }
    fn read(&self, offset: u64, bytes: &mut [u8]) {
        for (index, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: loom tracks the access and fails the model when it races.
            *byte = self.0.bytes[offset as usize + index].with(|cell| unsafe { *cell });
        }
    }
}
