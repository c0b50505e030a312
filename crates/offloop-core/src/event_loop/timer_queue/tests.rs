//! Timers against a plain list, by a time that the test makes.

use std::cell::Cell;
use std::rc::Rc;

use super::{SWEEP_MIN, Timer, TimerQueue};
use crate::random::random_below;

/// A timer, and what the test knows of it when the queue has it.
#[derive(Clone, Debug)]
struct Planned {
    number: u64,
    when: f64,
    cancelled: Rc<Cell<bool>>,
    scheduled: Rc<Cell<bool>>,
}

impl Planned {
    fn new(number: u64, when: f64) -> Self {
        Self {
            number,
            when,
            cancelled: Rc::default(),
            scheduled: Rc::default(),
        }
    }

    /// What the loop's timers do when they are cancelled.
    fn cancel(&self, queue: &mut TimerQueue<Self>) {
        if !self.cancelled.replace(true) && self.scheduled.get() {
            queue.count_cancelled();
        }
    }
}

impl Timer for Planned {
    type Access<'a> = ();

    fn when(&self, (): ()) -> f64 {
        self.when
    }

    fn is_cancelled(&self, (): ()) -> bool {
        self.cancelled.get()
    }

    fn set_scheduled(&self, (): (), scheduled: bool) {
        assert_ne!(self.scheduled.replace(scheduled), scheduled);
    }

    fn wait_beside(&self, (): (), other: &Self) {
        assert!(other.scheduled.get() && self.number != other.number);
    }
}

fn numbers(timers: &[Planned]) -> Vec<u64> {
    timers.iter().map(|timer| timer.number).collect()
}

/// Timers in a list, of which the next one is looked for.
struct Model {
    waiting: Vec<Planned>,
}

impl Model {
    /// The earliest timer that is not cancelled; of equal ones the first that came.
    fn next(&self) -> Option<&Planned> {
        let alive = self.waiting.iter().filter(|timer| !timer.cancelled.get());
        alive.min_by(|one, two| one.when.total_cmp(&two.when))
    }

    fn take(&mut self, number: u64) {
        self.waiting.retain(|timer| timer.number != number);
    }

    /// All, in the order in which they are due.
    fn in_order(&self) -> Vec<Planned> {
        let mut all = self.waiting.clone();
        all.sort_by(|one, two| one.when.total_cmp(&two.when));
        all
    }
}

/// A queue and the model, which are told the same.
struct Both {
    queue: TimerQueue<Planned>,
    model: Model,
    number: u64,
    now: f64,
}

impl Both {
    fn push(&mut self, when: f64) {
        self.number += 1;
        let timer = Planned::new(self.number, when);
        self.model.waiting.push(timer.clone());
        let swept = self.queue.push((), timer);
        self.sweep(swept);
    }

    /// What leaves early was cancelled, and is not in the queue any more.
    fn sweep(&mut self, gone: Vec<Planned>) {
        for timer in gone {
            assert!(timer.cancelled.get() && !timer.scheduled.get());
            self.model.take(timer.number);
        }
    }

    fn check_next(&mut self) {
        let mut dropped = Vec::new();
        let next = self.queue.next((), &mut dropped);
        self.sweep(dropped);
        assert_eq!(next, self.model.next().map(|timer| timer.when));
        let alive = self.model.waiting.iter();
        let alive = alive.filter(|timer| !timer.cancelled.get());
        let latest = alive.map(|timer| timer.when).max_by(f64::total_cmp);
        assert_eq!(self.queue.latest(()), latest);
    }

    fn release(&mut self, end: f64) {
        while let Some(timer) = self.queue.pop_due((), end) {
            assert!(timer.when < end && !timer.scheduled.get());
            if !timer.cancelled.get() {
                assert_eq!(timer.number, self.model.next().expect("one").number);
            }
            self.model.take(timer.number);
        }
        assert!(self.model.next().is_none_or(|timer| timer.when >= end));
    }

    /// A program has the timers for a while.
    fn lend(&mut self) {
        let taken = self.queue.take();
        assert!(self.queue.is_empty());
        assert_eq!(numbers(&taken), numbers(&self.model.in_order()));
        taken.iter().for_each(|timer| timer.scheduled.set(false));
        // From now on equal ones come in this order.
        self.model.waiting = taken.clone();
        let swept = self.queue.put_back((), taken);
        self.sweep(swept);
    }

    fn check_counts(&self) {
        let cancelled = self.model.waiting.iter();
        let cancelled = cancelled.filter(|timer| timer.cancelled.get()).count();
        assert_eq!(self.queue.len(), self.model.waiting.len());
        assert_eq!(self.queue.cancelled(), cancelled);
        assert_eq!(self.queue.iter().count(), self.queue.len());
    }
}

#[test]
fn any_history_agrees_with_a_plain_list() {
    for seed in 1..=200 {
        let mut random = random_below(seed);
        let mut both = Both {
            queue: TimerQueue::default(),
            model: Model {
                waiting: Vec::new(),
            },
            number: 0,
            now: 0.0,
        };
        for _ in 0..600 {
            match random(10) {
                // Mostly one of few delays; else any time, also one that has passed.
                0..=3 => both.push(both.now + [0.5, 1.0, 3.0, 60.0][random(4) as usize]),
                4 => both.push(both.now - 5.0 + random(1_000) as f64 * 0.05),
                5..=7 => {
                    let count = both.model.waiting.len() as u64;
                    for _ in 0..random(4).min(count) {
                        let index = random(count) as usize;
                        both.model.waiting[index].clone().cancel(&mut both.queue);
                    }
                }
                8 => {
                    both.now += random(40) as f64 * 0.05;
                    both.release(both.now);
                }
                _ if random(8) == 0 => both.lend(),
                _ => both.check_next(),
            }
            both.check_counts();
        }
        both.release(f64::INFINITY);
        assert!(both.queue.is_empty(), "seed {seed}");
    }
}

#[test]
fn equal_times_run_in_the_order_in_which_they_came() {
    let mut queue = TimerQueue::default();
    for number in 0..100 {
        // Most of them fit behind no queue, and are in the heap.
        let when = if number % 2 == 0 {
            7.0
        } else {
            9.0 - number as f64 * 0.01
        };
        assert!(queue.push((), Planned::new(number, when)).is_empty());
    }
    let popped: Vec<u64> = std::iter::from_fn(|| queue.pop_due((), 7.5))
        .map(|timer| timer.number)
        .collect();
    assert_eq!(popped, (0..100).step_by(2).collect::<Vec<_>>());
}

#[test]
fn a_time_that_is_no_number_never_comes() {
    let mut queue = TimerQueue::default();
    assert!(queue.push((), Planned::new(1, f64::NAN)).is_empty());
    assert!(queue.push((), Planned::new(2, 1.0)).is_empty());
    assert_eq!(queue.pop_due((), f64::INFINITY).expect("one").number, 2);
    assert!(queue.pop_due((), f64::INFINITY).is_none());
    assert_eq!(queue.next((), &mut Vec::new()), Some(f64::INFINITY));
}

#[test]
fn cancelled_timers_go_when_they_are_most_of_many() {
    let mut queue = TimerQueue::default();
    let timers: Vec<_> = (0..2 * SWEEP_MIN as u64)
        .map(|number| Planned::new(number, 1e6 - number as f64))
        .collect();
    for timer in &timers {
        assert!(queue.push((), timer.clone()).is_empty());
    }
    for timer in &timers[..=SWEEP_MIN] {
        timer.cancel(&mut queue);
    }
    let swept = queue.push((), Planned::new(1_000, 5.0));
    assert_eq!(swept.len(), SWEEP_MIN + 1);
    assert!(swept.iter().all(|timer| !timer.scheduled.get()));
    assert_eq!((queue.len(), queue.cancelled()), (SWEEP_MIN, 0));
}
