//! One call in flight, and the lists that tasks stand in.
//!
//! A task stands in exactly one list: the queue of its lane, or the tasks of one worker in the
//! order in which that worker runs them. The links lie in the tasks themselves, so moving a task,
//! or taking it out of the middle, costs no allocation and no search.
//!
//! States:     Queued -> Assigned -> finished; from Assigned a task may be taken back (Revoking)
//!             or stopped (Interrupted, then Killing). Whatever happens, it is finished once.
//! Invariants: 1. phase is Queued exactly while the task stands in its lane's queue.
//!             2. stop is kept once set: the first reason to stop a task is reported.
//!             3. prefetched means: given to a worker, not its first, not known to have started.

use core::time::Duration;

use crate::slab::Slab;
use crate::{Expiry, Instant, Outcome};

/// No task, lane or worker.
pub(crate) const NONE: u32 = u32::MAX;

/// What a submission asks for beyond the call itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskOptions {
    /// When the task expires, wherever it is by then.
    pub deadline: Option<Instant>,
    /// How long the call may run from its start.
    pub run_timeout: Option<Duration>,
    /// How often a call whose worker ended is started again.
    pub retries: u32,
    /// Memory that the task holds until it is finished.
    pub bytes: u64,
    /// Time between interrupting the call and killing its worker; the lane's if not set.
    pub grace: Option<Duration>,
    /// Its items are wanted one by one, so it may wait for its consumer in the middle of the call.
    pub streams: bool,
}

/// Where a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// In its lane's queue.
    Queued,
    /// In a worker's ring, or running.
    Assigned,
    /// As Assigned, and the driver was asked to take it back.
    Revoking,
    /// Its call was interrupted; its worker is killed when the grace period ends.
    Interrupted,
    /// Its worker was killed.
    Killing,
}

/// What is known of the start of a call that a worker holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Nothing: it may wait in the worker's ring.
    Unknown,
    /// It has started: the worker refused to give it back.
    Known,
    /// It has started, and when: so `run_check` is the end of its run time.
    Timed,
}

impl Start {
    /// The worker refused to give it back.
    pub(crate) fn learn(&mut self) {
        if *self == Self::Unknown {
            *self = Self::Known;
        }
    }

    pub(crate) fn is_known(self) -> bool {
        self != Self::Unknown
    }
}

/// Why a task is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    Cancelled,
    Expired(Expiry),
    Broken,
}

impl StopReason {
    pub(crate) fn outcome<V, C>(self) -> Outcome<V, C> {
        match self {
            Self::Cancelled => Outcome::Cancelled,
            Self::Expired(which) => Outcome::Expired { which },
            Self::Broken => Outcome::Broken,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Task<P> {
    pub(crate) payload: P,
    pub(crate) lane: u32,
    /// The worker that holds it, or NONE.
    pub(crate) worker: u32,
    pub(crate) phase: Phase,
    pub(crate) stop: Option<StopReason>,
    pub(crate) start: Start,
    pub(crate) prefetched: bool,
    /// It is being taken back to be given to another worker.
    pub(crate) stealing: bool,
    /// When to ask whether the call has started, or when its run time is over.
    pub(crate) run_check: Option<Instant>,
    /// An entry in the timers exists.
    pub(crate) timed: bool,
    /// From 1.
    pub(crate) attempt: u32,
    pub(crate) options: TaskOptions,
    previous: u32,
    next: u32,
}

impl<P> Task<P> {
    pub(crate) const fn new(lane: u32, options: TaskOptions, payload: P) -> Self {
        Self {
            payload,
            lane,
            worker: NONE,
            phase: Phase::Queued,
            stop: None,
            start: Start::Unknown,
            prefetched: false,
            stealing: false,
            run_check: None,
            timed: false,
            attempt: 1,
            options,
            previous: NONE,
            next: NONE,
        }
    }
}

/// A doubly linked list through the tasks of a slab.
#[derive(Debug)]
pub(crate) struct TaskList {
    first: u32,
    last: u32,
    len: u32,
}

impl TaskList {
    pub(crate) const fn new() -> Self {
        Self {
            first: NONE,
            last: NONE,
            len: 0,
        }
    }

    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    pub(crate) fn push_back<P>(&mut self, tasks: &mut Slab<Task<P>>, task: u32) {
        let links = &mut tasks[task];
        links.previous = self.last;
        links.next = NONE;
        match self.last {
            NONE => self.first = task,
            last => tasks[last].next = task,
        }
        self.last = task;
        self.len += 1;
    }

    pub(crate) fn push_front<P>(&mut self, tasks: &mut Slab<Task<P>>, task: u32) {
        let links = &mut tasks[task];
        links.previous = NONE;
        links.next = self.first;
        match self.first {
            NONE => self.last = task,
            first => tasks[first].previous = task,
        }
        self.first = task;
        self.len += 1;
    }

    pub(crate) fn remove<P>(&mut self, tasks: &mut Slab<Task<P>>, task: u32) {
        let (previous, next) = (tasks[task].previous, tasks[task].next);
        match previous {
            NONE => self.first = next,
            previous => tasks[previous].next = next,
        }
        match next {
            NONE => self.last = previous,
            next => tasks[next].previous = previous,
        }
        self.len -= 1;
    }

    /// The tasks from the newest to the oldest; a list of its own, so that the caller may move
    /// them while it goes through.
    pub(crate) fn newest_first<P>(&self, tasks: &Slab<Task<P>>) -> Vec<u32> {
        let mut all = Vec::with_capacity(self.len as usize);
        let mut task = self.last;
        while task != NONE {
            all.push(task);
            task = tasks[task].previous;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> (Slab<Task<char>>, TaskList) {
        let (mut tasks, mut list) = (Slab::new(), TaskList::new());
        for payload in ['a', 'b', 'c'] {
            let (index, _) = tasks.insert(Task::new(0, TaskOptions::default(), payload));
            list.push_back(&mut tasks, index);
        }
        (tasks, list)
    }

    fn spell(list: &TaskList, tasks: &Slab<Task<char>>) -> String {
        list.newest_first(tasks)
            .into_iter()
            .rev()
            .map(|task| tasks[task].payload)
            .collect()
    }

    #[test]
    fn tasks_leave_any_place_of_a_list() {
        for (taken, rest) in [(0, "bc"), (1, "ac"), (2, "ab")] {
            let (mut tasks, mut list) = three();
            list.remove(&mut tasks, taken);
            assert_eq!(spell(&list, &tasks), rest);
            assert_eq!(list.len(), 2);
            list.push_front(&mut tasks, taken);
            assert_eq!(list.first(), Some(taken));
            assert_eq!(list.len(), 3);
        }
    }

    #[test]
    fn an_emptied_list_takes_tasks_again() {
        let (mut tasks, mut list) = three();
        for task in 0..3 {
            list.remove(&mut tasks, task);
        }
        assert!(list.is_empty());
        assert_eq!(list.first(), None);
        list.push_front(&mut tasks, 2);
        list.push_back(&mut tasks, 0);
        assert_eq!(spell(&list, &tasks), "ca");
    }

    #[test]
    fn every_reason_to_stop_has_its_outcome() {
        let outcome = |reason: StopReason| -> Outcome { reason.outcome() };
        assert_eq!(outcome(StopReason::Cancelled), Outcome::Cancelled);
        assert_eq!(outcome(StopReason::Broken), Outcome::Broken);
        let which = Expiry::RunTimeout;
        assert_eq!(
            outcome(StopReason::Expired(which)),
            Outcome::Expired { which }
        );
    }
}
