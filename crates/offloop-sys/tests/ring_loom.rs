//! Every interleaving of the ring's two ends, and of the sleeper's handshake.
//!
//! Run with `make loom`: loom replaces the atomics and tries all orders that the memory model
//! allows. A missing release or acquire shows as an access to a cell that the other side still
//! owns; a missing fence shows as a consumer that sleeps for ever.
#![cfg(loom)]
#![allow(missing_docs, reason = "a test")]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use offloop_sys::ring::{
    Consumer, Producer, RingMemory, prepare_sleep, raise_pending, take_pending, take_sleeper,
};
use offloop_sys::sync::{AtomicU32, AtomicU64, Ordering};

const CAPACITY: usize = 16;

struct Shared {
    head: AtomicU64,
    tail: AtomicU64,
    flag: AtomicU32,
    woken: AtomicU32,
    bytes: [UnsafeCell<u8>; CAPACITY],
}

#[derive(Clone)]
struct Model(Arc<Shared>);

// SAFETY: the cells are guarded by the ring's own protocol, which is what loom checks here.
unsafe impl Send for Model {}

impl Model {
    fn new() -> Self {
        Self(Arc::new(Shared {
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            flag: AtomicU32::new(0),
            woken: AtomicU32::new(0),
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

#[test]
fn frames_arrive_in_order_and_slots_are_never_shared() {
    loom::model(|| {
        let model = Model::new();
        let mut producer = Producer::new(model.clone());
        let pusher = thread::spawn(move || {
            let mut pushed = 0u8;
            for value in 1..=3u8 {
                pushed += u8::from(producer.try_push(&[&[value]]).is_ok());
            }
            pushed
        });
        let mut consumer = Consumer::new(model);
        let mut out = Vec::new();
        for _ in 0..2 {
            let _ = consumer.try_pop(&mut out).unwrap();
        }
        let pushed = pusher.join().unwrap();
        while consumer.try_pop(&mut out).unwrap() {}
        assert_eq!(out.len(), usize::from(pushed));
        assert!(out.windows(2).all(|pair| pair[0] < pair[1]));
    });
}

#[test]
fn a_consumer_that_sleeps_is_always_woken() {
    loom::model(|| {
        let model = Model::new();
        let mut producer = Producer::new(model.clone());
        let shared = model.0.clone();
        let pusher = thread::spawn(move || {
            producer.try_push(&[&[7]]).unwrap();
            if take_sleeper(&shared.flag) {
                shared.woken.store(1, Ordering::SeqCst);
            }
        });
        let consumer = Consumer::new(model.clone());
        prepare_sleep(&model.0.flag);
        let would_sleep = consumer.is_empty();
        pusher.join().unwrap();
        assert!(!would_sleep || model.0.woken.load(Ordering::SeqCst) == 1);
    });
}

#[test]
fn a_batch_reader_misses_no_frame() {
    loom::model(|| {
        let model = Model::new();
        model.0.flag.store(1, Ordering::SeqCst);
        let mut producer = Producer::new(model.clone());
        let shared = model.0.clone();
        let pusher = thread::spawn(move || {
            producer.try_push(&[&[7]]).unwrap();
            if raise_pending(&shared.flag) {
                shared.woken.store(1, Ordering::SeqCst);
            }
        });
        let mut consumer = Consumer::new(model.clone());
        let mut out = Vec::new();
        take_pending(&model.0.flag);
        let drained = consumer.try_pop(&mut out).unwrap();
        pusher.join().unwrap();
        assert!(drained || model.0.woken.load(Ordering::SeqCst) == 1);
    });
}
