//! What a thread is seen to do is one piece of its work, and never parts of two.
//!
//! The writer's fence was taken out once: the model failed.

use loom::sync::Arc;
use loom::thread;
use offloop_sys::running::Running;

#[test]
fn a_piece_of_work_is_read_whole_or_not_at_all() {
    loom::model(|| {
        let running = Arc::new(Running::new());
        let worker = thread::spawn({
            let running = running.clone();
            move || {
                let first = running.begin(10, 100);
                running.end(first);
                running.begin(20, 200);
            }
        });
        if let Some(work) = running.work() {
            assert_eq!(work.object, work.number * 10);
            assert_eq!(work.start, work.number * 100);
        }
        worker.join().unwrap();
        let last = running.work().expect("the second has not ended");
        assert_eq!((last.number, last.object, last.start), (2, 20, 200));
    });
}

#[test]
fn a_round_is_read_whole_or_not_at_all() {
    loom::model(|| {
        let running = Arc::new(Running::new());
        let worker = thread::spawn({
            let running = running.clone();
            move || {
                running.begin_round(100);
                running.end_round();
                running.begin_round(200);
            }
        });
        if let Some(round) = running.read().and_then(|seen| seen.round) {
            assert_eq!(round.start, round.number * 100);
        }
        worker.join().unwrap();
        let last = running.read().and_then(|seen| seen.round);
        assert_eq!(
            last.map(|round| (round.number, round.start)),
            Some((2, 200))
        );
    });
}
