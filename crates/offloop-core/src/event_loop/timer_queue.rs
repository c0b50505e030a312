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
//!             2. Every method returns the timers that it lets go of: to drop one may run any code,
//!                which is the caller's affair.
//! Units:      seconds, of whatever clock.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

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

/// What waits for its time.
pub trait Timer {
    /// What a look at a timer takes: the proof that the lock is held that guards it, or nothing.
    type Access<'a>: Copy;

    /// When it is due.
    fn when(&self, access: Self::Access<'_>) -> f64;

    /// It is not to run, and may be dropped.
    fn is_cancelled(&self, access: Self::Access<'_>) -> bool;

    /// It is in a queue from now on, or no more.
    fn set_scheduled(&self, access: Self::Access<'_>, scheduled: bool);

    /// It comes to wait beside another one, with which it may share what both have.
    fn wait_beside(&self, access: Self::Access<'_>, other: &Self);
}

struct Entry<T> {
    when: f64,
    sequence: u64,
    timer: T,
}

impl<T> Entry<T> {
    /// Whether it runs before the other one.
    fn is_before(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Greater
    }
}

impl<T> Ord for Entry<T> {
    /// The earliest is the greatest, as `BinaryHeap` wants it.
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .when
            .total_cmp(&self.when)
            .then_with(|| other.sequence.cmp(&self.sequence))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

/// All timers of a loop.
pub struct TimerQueue<T> {
    queues: [VecDeque<Entry<T>>; QUEUES + 1],
    heap: BinaryHeap<Entry<T>>,
    /// Out of the heap, since it was last found to hold none that is due.
    taken: usize,
    /// In the queues and the heap.
    count: usize,
    sequence: u64,
    cancelled: usize,
}

impl<T> Default for TimerQueue<T> {
    fn default() -> Self {
        Self {
            queues: std::array::from_fn(|_| VecDeque::new()),
            heap: BinaryHeap::new(),
            taken: 0,
            count: 0,
            sequence: 0,
            cancelled: 0,
        }
    }
}

impl<T: Timer> TimerQueue<T> {
    /// Whether no timer waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many timers wait, cancelled ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// One of the timers was cancelled.
    pub fn count_cancelled(&mut self) {
        self.cancelled += 1;
    }

    /// How many of the timers were cancelled.
    #[must_use]
    pub fn cancelled(&self) -> usize {
        self.cancelled
    }

    /// For the driver, while the program keeps the timers.
    pub fn set_cancelled(&mut self, count: usize) {
        self.cancelled = count;
    }

    /// Takes all out, in their order; their count of cancelled ones stays.
    pub fn take(&mut self) -> Vec<T> {
        let mut timers = std::mem::take(&mut self.heap).into_vec();
        self.queues
            .iter_mut()
            .for_each(|queue| timers.extend(queue.drain(..)));
        // The earliest is the greatest.
        timers.sort_unstable_by(|one, two| two.cmp(one));
        (self.count, self.taken) = (0, 0);
        timers.into_iter().map(|entry| entry.timer).collect()
    }

    /// Adds many that were taken out before; returns what `push` does.
    #[must_use]
    pub fn put_back(&mut self, access: T::Access<'_>, mut timers: Vec<T>) -> Vec<T> {
        timers.sort_by(|one, two| one.when(access).total_cmp(&two.when(access)));
        let mut swept: Vec<T> = Vec::new();
        timers
            .into_iter()
            .for_each(|timer| swept.extend(self.push(access, timer)));
        let cancelled = self.iter().filter(|timer| timer.is_cancelled(access));
        self.cancelled = cancelled.count();
        swept
    }

    /// Adds a timer; when most of them are cancelled, those are swept out and returned.
    #[must_use]
    pub fn push(&mut self, access: T::Access<'_>, timer: T) -> Vec<T> {
        let mut swept = Vec::new();
        self.sweep(access, &mut swept);
        timer.set_scheduled(access, true);
        self.sequence += 1;
        self.count += 1;
        let entry = Entry {
            // No number is a time that never comes: it has no place in the order.
            when: match timer.when(access) {
                when if when.is_nan() => f64::INFINITY,
                when => when,
            },
            sequence: self.sequence,
            timer,
        };
        // The queue whose last timer is the latest of those that are not later; or an empty one.
        let mut best: Option<(usize, f64)> = None;
        let mut empty = None;
        for (index, queue) in self.queues[..QUEUES].iter().enumerate() {
            match queue.back() {
                Some(last) if last.when.total_cmp(&entry.when).is_le() => {
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
                    entry.timer.wait_beside(access, &last.timer);
                }
                queue.push_back(entry);
            }
            None => {
                if let Some(other) = self.heap.peek().or_else(|| self.queues[0].back()) {
                    entry.timer.wait_beside(access, &other.timer);
                }
                self.heap.push(entry);
            }
        }
        swept
    }

    /// Which queue has the earliest timer, or `HEAP`, and the timer.
    fn first(&self) -> Option<(usize, &Entry<T>)> {
        let mut first = self.heap.peek().map(|entry| (HEAP, entry));
        for (index, queue) in self.queues.iter().enumerate() {
            if let Some(entry) = queue.front()
                && first.is_none_or(|(_, earliest)| entry.is_before(earliest))
            {
                first = Some((index, entry));
            }
        }
        first
    }

    fn pop_from(&mut self, access: T::Access<'_>, index: usize) -> Option<T> {
        let entry = match self.queues.get_mut(index) {
            Some(queue) => queue.pop_front(),
            None => self.heap.pop(),
        };
        let timer = entry?.timer;
        self.count -= 1;
        timer.set_scheduled(access, false);
        if timer.is_cancelled(access) {
            self.cancelled = self.cancelled.saturating_sub(1);
        }
        Some(timer)
    }

    /// When the next timer is due; cancelled ones before it move to `dropped`.
    pub fn next(&mut self, access: T::Access<'_>, dropped: &mut Vec<T>) -> Option<f64> {
        self.sweep(access, dropped);
        loop {
            let (index, entry) = self.first()?;
            if !entry.timer.is_cancelled(access) {
                return Some(entry.when);
            }
            dropped.extend(self.pop_from(access, index));
        }
    }

    /// Takes the next timer that is due before `end`.
    pub fn pop_due(&mut self, access: T::Access<'_>, end: f64) -> Option<T> {
        let due = self.first().filter(|(_, entry)| entry.when < end);
        let Some((index, _)) = due else {
            self.taken = 0;
            return None;
        };
        if index == HEAP {
            self.taken += 1;
            if self.taken >= TAKEN_MIN && self.taken * 16 >= self.heap.len() {
                self.sort_due(end);
                return self.pop_from(access, SORTED);
            }
        }
        self.pop_from(access, index)
    }

    /// Takes all that are due before `end` out of the heap, where one of them is the earliest of
    /// all, and puts them in order.
    fn sort_due(&mut self, end: f64) {
        let mut timers = std::mem::take(&mut self.heap).into_vec();
        let sorted = &mut self.queues[SORTED];
        sorted.extend(timers.extract_if(.., |entry| entry.when < end));
        // The earliest is the greatest. What was there before is due as well.
        sorted
            .make_contiguous()
            .sort_unstable_by(|one, two| two.cmp(one));
        self.heap = timers.into();
        self.taken = 0;
    }

    /// Takes the cancelled timers out, once they are most of many.
    #[inline]
    fn sweep(&mut self, access: T::Access<'_>, dropped: &mut Vec<T>) {
        if self.count <= SWEEP_MIN || self.cancelled * 2 <= self.count {
            return;
        }
        for queue in &mut self.queues {
            let (gone, kept): (VecDeque<_>, VecDeque<_>) = std::mem::take(queue)
                .into_iter()
                .partition(|entry| entry.timer.is_cancelled(access));
            *queue = kept;
            dropped.extend(gone.into_iter().map(|entry| entry.timer));
        }
        let mut timers = std::mem::take(&mut self.heap).into_vec();
        let gone = timers.extract_if(.., |entry| entry.timer.is_cancelled(access));
        dropped.extend(gone.map(|entry| entry.timer));
        self.heap = timers.into();
        for timer in &*dropped {
            timer.set_scheduled(access, false);
        }
        self.count = self.heap.len() + self.queues.iter().map(VecDeque::len).sum::<usize>();
        self.cancelled = 0;
    }

    /// When the last timer is due that is not cancelled. Goes through all of them.
    #[must_use]
    pub fn latest(&self, access: T::Access<'_>) -> Option<f64> {
        let entries = self.queues.iter().flatten().chain(&self.heap);
        let waiting = entries.filter(|entry| !entry.timer.is_cancelled(access));
        waiting.map(|entry| entry.when).max_by(f64::total_cmp)
    }

    /// In no order, cancelled ones included.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        let queued = self.queues.iter().flatten();
        queued.chain(&self.heap).map(|entry| &entry.timer)
    }
}

#[cfg(test)]
mod tests;
