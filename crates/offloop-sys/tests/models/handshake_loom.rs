//! No side sleeps while something lies there for it.
//!
//! Each model runs the functions that both processes run, around rings like theirs, until all work
//! is done; a wake-up that is lost leaves both sides asleep, which loom reports as a deadlock. Each
//! fence, and the exchange of the nudge, was taken out once: the model named beside it then failed.
//!
//! ```text
//! take_sleeper, its fence     a_worker_that_sleeps_is_woken_for_every_call
//! prepare_sleep, its fence    the same, and tasks_that_wait_are_given_to_a_worker_that_has_time
//! both, for a word            a_worker_that_waits_in_a_stream_is_woken_for_what_was_taken
//! raise_pending, its fence    an_owner_that_is_told_once_fetches_every_completion
//! take_pending, its fence     the same
//! raise_backlog, its fence    tasks_that_wait_are_given_to_a_worker_that_has_time
//! end_nudge, its exchange     a_completion_that_is_not_fetched_is_nudged (a store loses one)
//! ```

use loom::sync::{Arc, Notify};
use loom::thread;
use offloop_sys::handshake::{
    claim_nudge, end_nudge, end_sleep, lower_backlog, prepare_sleep, raise_backlog, raise_pending,
    sees_backlog, take_pending, take_sleeper,
};
use offloop_sys::ring::{Consumer, Producer};
use offloop_sys::sync::{AtomicU32, Ordering};

use crate::memory::Model;

/// The words of a segment, and the descriptors that wake the sides that sleep.
struct Words {
    sleeping: AtomicU32,
    pending: AtomicU32,
    backlog: AtomicU32,
    nudge_armed: AtomicU32,
    doorbell: Notify,
    owner: Notify,
    supervisor: Notify,
    timer: Notify,
}

impl Words {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            sleeping: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            backlog: AtomicU32::new(0),
            nudge_armed: AtomicU32::new(0),
            doorbell: Notify::new(),
            owner: Notify::new(),
            supervisor: Notify::new(),
            timer: Notify::new(),
        })
    }

    fn ring_doorbell(&self) {
        if take_sleeper(&self.sleeping) {
            self.doorbell.notify();
        }
    }

    /// A worker's sleep, as in `WorkerChannel::sleep`.
    fn sleep(&self, requests: &Consumer<Model>) {
        prepare_sleep(&self.sleeping);
        if sees_backlog(&self.backlog) {
            self.supervisor.notify();
        }
        if requests.is_empty() {
            self.doorbell.wait();
        }
        end_sleep(&self.sleeping);
    }
}

fn pop(ring: &mut Consumer<Model>) -> bool {
    ring.try_pop(&mut Vec::new()).unwrap()
}

#[test]
fn a_worker_that_sleeps_is_woken_for_every_call() {
    loom::model(|| {
        let (words, ring) = (Words::new(), Model::new());
        let (mut submissions, mut requests) = (Producer::new(ring.clone()), Consumer::new(ring));
        let parent = thread::spawn({
            let words = words.clone();
            move || {
                for call in 1..=2 {
                    submissions.try_push(&[&[call]]).unwrap();
                    words.ring_doorbell();
                }
            }
        });
        let mut ran = 0;
        while ran < 2 {
            if pop(&mut requests) {
                ran += 1;
            } else {
                words.sleep(&requests);
            }
        }
        parent.join().unwrap();
    });
}

/// As in `WorkerChannel::wait_in_stream`, which looks at the word of an interrupt likewise.
#[test]
fn a_worker_that_waits_in_a_stream_is_woken_for_what_was_taken() {
    loom::model(|| {
        let (words, taken) = (Words::new(), Arc::new(AtomicU32::new(0)));
        let parent = thread::spawn({
            let (words, taken) = (words.clone(), taken.clone());
            move || {
                for sum in 1..=2 {
                    taken.store(sum, Ordering::Relaxed);
                    words.ring_doorbell();
                }
            }
        });
        while taken.load(Ordering::Relaxed) < 2 {
            prepare_sleep(&words.sleeping);
            if taken.load(Ordering::Relaxed) < 2 {
                words.doorbell.wait();
            }
            end_sleep(&words.sleeping);
        }
        parent.join().unwrap();
    });
}

#[test]
fn an_owner_that_is_told_once_fetches_every_completion() {
    loom::model(|| {
        let (words, ring) = (Words::new(), Model::new());
        let (mut completions, mut fetches) = (Producer::new(ring.clone()), Consumer::new(ring));
        let worker = thread::spawn({
            let words = words.clone();
            move || {
                for call in 1..=2 {
                    completions.try_push(&[&[call]]).unwrap();
                    if raise_pending(&words.pending) {
                        words.owner.notify();
                    }
                }
            }
        });
        let mut fetched = 0;
        while fetched < 2 {
            words.owner.wait();
            take_pending(&words.pending);
            while pop(&mut fetches) {
                fetched += 1;
            }
        }
        worker.join().unwrap();
    });
}

/// One call is in the worker's ring, another waits in the parent until a completion is seen. The
/// owner is stuck: it has been told before, and fetches nothing.
#[test]
fn tasks_that_wait_are_given_to_a_worker_that_has_time() {
    loom::model(|| {
        let words = Words::new();
        let (calls, outcomes) = (Model::new(), Model::new());
        let (mut submissions, mut requests) = (Producer::new(calls.clone()), Consumer::new(calls));
        let (mut completions, mut fetches) =
            (Producer::new(outcomes.clone()), Consumer::new(outcomes));
        submissions.try_push(&[&[1]]).unwrap();
        let worker = thread::spawn({
            let words = words.clone();
            move || {
                let mut ran = 0;
                while ran < 2 {
                    if pop(&mut requests) {
                        ran += 1;
                        completions.try_push(&[&[ran]]).unwrap();
                    } else {
                        words.sleep(&requests);
                    }
                }
            }
        });
        raise_backlog([&words.backlog].into_iter());
        while !pop(&mut fetches) {
            words.supervisor.wait();
        }
        submissions.try_push(&[&[2]]).unwrap();
        words.ring_doorbell();
        lower_backlog([&words.backlog].into_iter());
        worker.join().unwrap();
    });
}

/// The timer expires as soon as it is armed, which is the hardest case.
#[test]
fn a_completion_that_is_not_fetched_is_nudged() {
    loom::model(|| {
        let (words, ring) = (Words::new(), Model::new());
        let (mut completions, mut fetches) = (Producer::new(ring.clone()), Consumer::new(ring));
        let worker = thread::spawn({
            let words = words.clone();
            move || {
                for call in 1..=2 {
                    completions.try_push(&[&[call]]).unwrap();
                    if claim_nudge(&words.nudge_armed) {
                        words.timer.notify();
                    }
                }
            }
        });
        let mut fetched = 0;
        while fetched < 2 {
            words.timer.wait();
            end_nudge(&words.nudge_armed);
            while pop(&mut fetches) {
                fetched += 1;
            }
        }
        worker.join().unwrap();
    });
}
