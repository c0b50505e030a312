//! The two ends of a ring.

use loom::thread;
use offloop_sys::ring::{Consumer, Producer};

use crate::memory::Model;

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
