//! The index of what is due when: a binary heap whose entries can be moved and removed.
//!
//! A lane with a 30-second deadline on 200,000 tasks a second would leave millions of stale
//! entries in a heap that forgets lazily. Here each key knows its place in the heap, so clearing
//! a timer frees it at once, and a key that never had a timer costs nothing.
//!
//! Shape:      `heap` is ordered by time; `places[key]` is the key's position in it.
//! Invariants: 1. no entry is earlier than its parent.
//!             2. places[heap[i].key] == i, and ABSENT for keys that have no timer.

use crate::Instant;

const ABSENT: u32 = u32::MAX;

#[derive(Debug, Clone, Copy)]
struct Entry {
    at: Instant,
    key: u32,
}

/// At most one timer for each small integer key.
#[derive(Debug, Default)]
pub struct Timers {
    heap: Vec<Entry>,
    places: Vec<u32>,
}

impl Timers {
    /// An empty index.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            heap: Vec::new(),
            places: Vec::new(),
        }
    }

    /// How many timers are set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether no timer is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// The earliest time that is set.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.first().map(|entry| entry.at)
    }

    /// Sets or moves the timer of `key`.
    pub fn set(&mut self, key: u32, at: Instant) {
        if self.places.len() <= key as usize {
            self.places.resize(key as usize + 1, ABSENT);
        }
        let place = self.places[key as usize];
        if place == ABSENT {
            let last = self.heap.len();
            self.heap.push(Entry { at, key });
            self.places[key as usize] = last as u32;
            self.sift_up(last);
        } else {
            self.heap[place as usize].at = at;
            self.restore(place as usize);
        }
    }

    /// Removes the timer of `key`, if it has one.
    pub fn clear(&mut self, key: u32) {
        let Some(&place) = self.places.get(key as usize) else {
            return;
        };
        if place == ABSENT {
            return;
        }
        self.places[key as usize] = ABSENT;
        self.heap.swap_remove(place as usize);
        if let Some(moved) = self.heap.get(place as usize) {
            self.places[moved.key as usize] = place;
            self.restore(place as usize);
        }
    }

    /// Takes out one timer that is due at `now`, earliest first.
    pub fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let first = *self.heap.first()?;
        if first.at > now {
            return None;
        }
        self.clear(first.key);
        Some(first.key)
    }

    /// Puts one entry where invariant 1 wants it, after its time has changed.
    fn restore(&mut self, place: usize) {
        let settled = self.sift_up(place);
        if settled == place {
            self.sift_down(place);
        }
    }

    fn sift_up(&mut self, mut place: usize) -> usize {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].at <= self.heap[place].at {
                break;
            }
            self.swap(parent, place);
            place = parent;
        }
        place
    }

    fn sift_down(&mut self, mut place: usize) {
        loop {
            let left = place * 2 + 1;
            if left >= self.heap.len() {
                return;
            }
            let right = left + 1;
            let right_is_earlier =
                right < self.heap.len() && self.heap[right].at < self.heap[left].at;
            let child = if right_is_earlier { right } else { left };
            if self.heap[place].at <= self.heap[child].at {
                return;
            }
            self.swap(place, child);
            place = child;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.places[self.heap[a].key as usize] = a as u32;
        self.places[self.heap[b].key as usize] = b as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::random_below;
    use std::collections::BTreeMap;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn timers_fire_in_order_of_time_and_not_before() {
        let mut timers = Timers::new();
        for (key, nanos) in [(3, 30), (1, 10), (2, 20)] {
            timers.set(key, at(nanos));
        }
        assert_eq!(timers.next_at(), Some(at(10)));
        assert_eq!(timers.pop_due(at(9)), None);
        assert_eq!(timers.pop_due(at(25)), Some(1));
        assert_eq!(timers.pop_due(at(25)), Some(2));
        assert_eq!(timers.pop_due(at(25)), None);
        assert_eq!(timers.len(), 1);
    }

    #[test]
    fn a_moved_timer_fires_only_at_its_new_time() {
        let mut timers = Timers::new();
        timers.set(7, at(10));
        timers.set(7, at(50));
        assert_eq!(timers.pop_due(at(49)), None);
        assert_eq!(timers.pop_due(at(50)), Some(7));
        assert!(timers.is_empty());
    }

    #[test]
    fn any_sequence_of_operations_agrees_with_a_plain_map() {
        for seed in 1..=300_u64 {
            let mut next = random_below(seed);
            let (mut timers, mut model) = (Timers::new(), BTreeMap::new());
            for _ in 0..400 {
                let key = next(40) as u32;
                match next(4) {
                    0 | 1 => {
                        let time = at(next(1_000));
                        timers.set(key, time);
                        model.insert(key, time);
                    }
                    2 => {
                        timers.clear(key);
                        model.remove(&key);
                    }
                    _ => {
                        let now = at(next(300));
                        let due = timers.pop_due(now);
                        let earliest = model.values().min().copied();
                        match due {
                            Some(key) => assert_eq!(model.remove(&key), earliest, "seed {seed}"),
                            None => assert!(earliest.is_none_or(|time| time > now), "seed {seed}"),
                        }
                    }
                }
                assert_eq!(
                    timers.next_at(),
                    model.values().min().copied(),
                    "seed {seed}"
                );
                assert_eq!(timers.len(), model.len(), "seed {seed}");
            }
        }
    }
}
