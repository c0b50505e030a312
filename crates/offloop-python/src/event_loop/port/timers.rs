//! Timers, in the order in which they are due.
//!
//! A program has few different delays, and timers of one delay come in the order in which they are
//! due. Such a sequence is a queue, where adding and taking cost nothing that grows with its
//! length. There are a few of them, as in patience sorting, and a heap for what fits none. When a
//! good part of the heap is due at once, that part is sorted, which costs a quarter of taking it
//! from the heap one by one.
//!
//! Cancelling costs nothing here: a cancelled timer is passed over when its turn comes. Cancelled
//! ones are counted, and swept out once they are most of many.
//!
//! Invariants: 1. In each queue no timer is due before the one in front of it.
//!             2. Every method returns the handles that it lets go of, for the caller to drop when
//!                the state is no longer in use.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

use pyo3::gc::{PyTraverseError, PyVisit};

use super::super::handle::Handle;

/// Fewer timers are not worth sweeping. The standard loop's number.
const SWEEP_MIN: usize = 100;
/// Queues: each is looked at to find the earliest timer.
const QUEUES: usize = 4;
/// The queue of those that were taken out of the heap, and sorted, because they are due.
const SORTED: usize = QUEUES;
/// The heap, where a queue is meant.
const HEAP: usize = SORTED + 1;
/// Once so many were taken from the heap, and a sixteenth of it, all that are due are sorted.
const TAKEN_MIN: usize = 16;

struct Timer {
    when: f64,
    sequence: u64,
    handle: Handle,
}

impl Timer {
    /// Whether it runs before the other one.
    fn is_before(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Greater
    }
}

impl Ord for Timer {
    /// The earliest is the greatest, as `BinaryHeap` wants it.
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .when
            .total_cmp(&self.when)
            .then_with(|| other.sequence.cmp(&self.sequence))
    }
}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Timer {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Timer {}

/// All timers of a loop.
#[derive(Default)]
pub(crate) struct Timers {
    queues: [VecDeque<Timer>; QUEUES + 1],
    heap: BinaryHeap<Timer>,
    /// Out of the heap, since it was last found to hold none that is due.
    taken: usize,
    /// In the queues and the heap.
    count: usize,
    sequence: u64,
    cancelled: usize,
}

impl Timers {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn count_cancelled(&mut self) {
        self.cancelled += 1;
    }

    pub(crate) fn cancelled(&self) -> usize {
        self.cancelled
    }

    /// For who keeps the timers meanwhile.
    pub(crate) fn set_cancelled(&mut self, count: usize) {
        self.cancelled = count;
    }

    /// Takes all out, in their order; their count of cancelled ones stays.
    pub(crate) fn take(&mut self) -> Vec<Handle> {
        let mut timers = std::mem::take(&mut self.heap).into_vec();
        self.queues
            .iter_mut()
            .for_each(|queue| timers.extend(queue.drain(..)));
        // The earliest is the greatest.
        timers.sort_unstable_by(|one, two| two.cmp(one));
        (self.count, self.taken) = (0, 0);
        timers.into_iter().map(|timer| timer.handle).collect()
    }

    /// Adds many that were taken out before; returns what `push` does.
    #[must_use]
    pub(crate) fn put_back(&mut self, mut handles: Vec<Handle>) -> Vec<Handle> {
        handles.sort_by(|one, two| one.when().total_cmp(&two.when()));
        let mut swept: Vec<Handle> = Vec::new();
        handles
            .into_iter()
            .for_each(|handle| swept.extend(self.push(handle)));
        self.cancelled = self
            .handles()
            .filter(|handle| handle.is_cancelled())
            .count();
        swept
    }

    /// Adds a timer; when most of them are cancelled, those are swept out and returned.
    #[must_use]
    pub(crate) fn push(&mut self, handle: Handle) -> Vec<Handle> {
        let mut swept = Vec::new();
        self.sweep(&mut swept);
        handle.set_scheduled(true);
        self.sequence += 1;
        self.count += 1;
        let timer = Timer {
            // No number is a time that never comes: it has no place in the order.
            when: match handle.when() {
                when if when.is_nan() => f64::INFINITY,
                when => when,
            },
            sequence: self.sequence,
            handle,
        };
        // The queue whose last timer is the latest of those that are not later; or an empty one.
        let mut best: Option<(usize, f64)> = None;
        let mut empty = None;
        for (index, queue) in self.queues[..QUEUES].iter().enumerate() {
            match queue.back() {
                Some(last) if last.when.total_cmp(&timer.when).is_le() => {
                    if best.is_none_or(|(_, latest)| last.when > latest) {
                        best = Some((index, last.when));
                    }
                }
                Some(_) => {}
                None => empty = empty.or(Some(index)),
            }
        }
        match best.map(|(index, _)| index).or(empty) {
            Some(index) => {
                let queue = &mut self.queues[index];
                if let Some(last) = queue.back() {
                    timer.handle.share_context(&last.handle);
                }
                queue.push_back(timer);
            }
            None => {
                if let Some(other) = self.heap.peek().or_else(|| self.queues[0].back()) {
                    timer.handle.share_context(&other.handle);
                }
                self.heap.push(timer);
            }
        }
        swept
    }

    /// Which queue has the earliest timer, or `HEAP`, and the timer.
    fn first(&self) -> Option<(usize, &Timer)> {
        let mut first = self.heap.peek().map(|timer| (HEAP, timer));
        for (index, queue) in self.queues.iter().enumerate() {
            if let Some(timer) = queue.front()
                && first.is_none_or(|(_, earliest)| timer.is_before(earliest))
            {
                first = Some((index, timer));
            }
        }
        first
    }

    fn pop_from(&mut self, index: usize) -> Option<Handle> {
        let timer = match self.queues.get_mut(index) {
            Some(queue) => queue.pop_front(),
            None => self.heap.pop(),
        };
        let handle = timer?.handle;
        self.count -= 1;
        handle.set_scheduled(false);
        if handle.is_cancelled() {
            self.cancelled = self.cancelled.saturating_sub(1);
        }
        Some(handle)
    }

    /// When the next timer is due; cancelled ones before it move to `dropped`.
    pub(crate) fn next(&mut self, dropped: &mut Vec<Handle>) -> Option<f64> {
        self.sweep(dropped);
        loop {
            let (index, timer) = self.first()?;
            if !timer.handle.is_cancelled() {
                return Some(timer.when);
            }
            dropped.extend(self.pop_from(index));
        }
    }

    /// Takes the next timer that is due before `end`.
    pub(crate) fn pop_due(&mut self, end: f64) -> Option<Handle> {
        let due = self.first().filter(|(_, timer)| timer.when < end);
        let Some((index, _)) = due else {
            self.taken = 0;
            return None;
        };
        if index == HEAP {
            self.taken += 1;
            if self.taken >= TAKEN_MIN && self.taken * 16 >= self.heap.len() {
                self.sort_due(end);
                return self.pop_from(SORTED);
            }
        }
        self.pop_from(index)
    }

    /// Takes all that are due before `end` out of the heap, where one of them is the earliest of
    /// all, and puts them in order.
    fn sort_due(&mut self, end: f64) {
        let mut timers = std::mem::take(&mut self.heap).into_vec();
        let sorted = &mut self.queues[SORTED];
        sorted.extend(timers.extract_if(.., |timer| timer.when < end));
        // The earliest is the greatest. What was there before is due as well.
        sorted
            .make_contiguous()
            .sort_unstable_by(|one, two| two.cmp(one));
        self.heap = timers.into();
        self.taken = 0;
    }

    /// Takes the cancelled timers out, once they are most of many.
    #[inline]
    fn sweep(&mut self, dropped: &mut Vec<Handle>) {
        if self.count <= SWEEP_MIN || self.cancelled * 2 <= self.count {
            return;
        }
        for queue in &mut self.queues {
            let (gone, kept): (VecDeque<_>, VecDeque<_>) = std::mem::take(queue)
                .into_iter()
                .partition(|timer| timer.handle.is_cancelled());
            *queue = kept;
            dropped.extend(gone.into_iter().map(|timer| timer.handle));
        }
        let mut timers = std::mem::take(&mut self.heap).into_vec();
        let gone = timers.extract_if(.., |timer| timer.handle.is_cancelled());
        dropped.extend(gone.map(|timer| timer.handle));
        self.heap = timers.into();
        for handle in &*dropped {
            handle.set_scheduled(false);
        }
        self.count = self.heap.len() + self.queues.iter().map(VecDeque::len).sum::<usize>();
        self.cancelled = 0;
    }

    /// In no order, cancelled ones included.
    pub(crate) fn handles(&self) -> impl Iterator<Item = &Handle> {
        let queued = self.queues.iter().flatten();
        queued.chain(&self.heap).map(|timer| &timer.handle)
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.handles().try_for_each(|handle| handle.traverse(visit))
    }
}
