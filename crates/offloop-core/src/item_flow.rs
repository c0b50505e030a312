//! How far a worker may run ahead of the consumer of its items.
//!
//! Each item costs what it takes of the worker's ring, at least a minimum, and less for each byte
//! in the arena, which is larger. The worker sends while the items that the consumer has not taken
//! cost less than a window. The consumer tells what it has taken in portions, so that taking one
//! item is no message; the worker reads the sum.
//!
//! ```text
//! Outflow (worker)  ── item ──► Inflow (parent) ──► Portions (consumer)
//!        ▲                        │    ▲                 │
//!        └───── sum taken ────────┘    └──── portion ────┘
//! ```
//!
//! Units:      cost: bytes of a ring.
//! Invariants: 1. What a worker sent and its consumer did not take costs less than a window and one
//!                item.
//!             2. A consumer that has taken all has told all of it.

/// What may be on the way before the worker waits. Half of a ring: outcomes of other calls that lie
/// there have room beside it.
pub const WINDOW: u64 = 128 * 1024;
/// The least cost of an item, which makes 256 items a window: enough that one wake-up of the
/// consumer's loop pays for many, few enough to hold when it does not come.
pub const ITEM_COST_MIN: u64 = 512;
/// Bytes of an arena that cost as much as one byte of a ring: 4 MiB of blocks make a window.
pub const BLOCK_BYTES_PER_COST: u64 = 32;
/// A consumer tells what it has taken when it costs so much; a quarter of a window keeps a worker
/// going while the consumer goes on.
pub const PORTION: u64 = WINDOW / 4;
/// Most items that may be on the way.
pub const ITEMS_MAX: u64 = WINDOW / ITEM_COST_MIN;
/// An item this soon after the one before is announced later, together with those behind it.
pub const ANNOUNCE_TOGETHER_NS: u64 = 250_000;

const _: () = assert!(WINDOW.is_multiple_of(ITEM_COST_MIN) && PORTION >= ITEM_COST_MIN);

/// What an item costs, by its bytes in the ring and in the arena.
#[must_use]
pub const fn item_cost(inline_bytes: u64, block_bytes: u64) -> u64 {
    let cost = inline_bytes.saturating_add(block_bytes / BLOCK_BYTES_PER_COST);
    if cost < ITEM_COST_MIN {
        ITEM_COST_MIN
    } else {
        cost
    }
}

/// The worker's end: what it has sent of one call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Outflow {
    sent: u64,
    items: u64,
    sent_at_ns: u64,
}

impl Outflow {
    /// Whether the next item may be sent, when the consumer has taken items of this cost in all.
    #[must_use]
    pub const fn may_send(&self, taken: u64) -> bool {
        self.sent.saturating_sub(taken) < WINDOW
    }

    /// An item is sent: its number, from 1, and whether its owner is to be told at once.
    pub fn note_sent(&mut self, cost: u64, now_ns: u64) -> (u64, Announce) {
        let soon = self.items > 0 && now_ns.saturating_sub(self.sent_at_ns) < ANNOUNCE_TOGETHER_NS;
        self.sent = self.sent.saturating_add(cost);
        self.items += 1;
        self.sent_at_ns = now_ns;
        let announce = if soon {
            Announce::Together
        } else {
            Announce::AtOnce
        };
        (self.items, announce)
    }
}

/// When the owner of an item is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announce {
    /// Now.
    AtOnce,
    /// A little later, with the items that follow.
    Together,
}

/// An item that no honest worker sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// Not the next one.
    #[error("item {number} came where item {expected} was due")]
    Number {
        /// The number that it has.
        number: u64,
        /// The number of the next item.
        expected: u64,
    },
    /// The window was full.
    #[error("item {number} came while items for {waiting} of {WINDOW} bytes waited")]
    Window {
        /// Its number.
        number: u64,
        /// What the items that were not taken cost.
        waiting: u64,
    },
}

/// The parent's end: what has come of one call, and what its consumer has taken.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inflow {
    arrived: u64,
    taken: u64,
    items: u64,
}

impl Inflow {
    /// An item has come.
    ///
    /// # Errors
    /// `ItemError`, when it breaks the order or the window.
    pub fn handle_item(&mut self, number: u64, cost: u64) -> Result<(), ItemError> {
        let expected = self.items + 1;
        if number != expected {
            return Err(ItemError::Number { number, expected });
        }
        let waiting = self.arrived.saturating_sub(self.taken);
        if waiting >= WINDOW {
            return Err(ItemError::Window { number, waiting });
        }
        self.arrived = self.arrived.saturating_add(cost);
        self.items = expected;
        Ok(())
    }

    /// The consumer has taken items of this cost more; returns the sum, for the worker.
    pub fn handle_taken(&mut self, cost: u64) -> u64 {
        // A consumer takes no more than has come; if it did, the worker's window would only grow.
        self.taken = self.taken.saturating_add(cost).min(self.arrived);
        self.taken
    }
}

/// The consumer's end: what it has taken and not told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Portions {
    untold: u64,
}

impl Portions {
    /// An item was taken; `left` says whether more items wait here. Returns what to tell now.
    pub fn handle_taken(&mut self, cost: u64, left: bool) -> Option<u64> {
        self.untold = self.untold.saturating_add(cost);
        let tells = !left || self.untold >= PORTION;
        tells.then(|| core::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::random_below;

    #[test]
    fn an_item_costs_its_bytes_and_never_nothing() {
        assert_eq!(item_cost(0, 0), ITEM_COST_MIN);
        assert_eq!(item_cost(1_000, 0), 1_000);
        assert_eq!(item_cost(100, 4 << 20), 100 + WINDOW);
        assert_eq!(item_cost(u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn a_window_takes_so_many_small_items_and_then_waits() {
        let mut worker = Outflow::default();
        let mut sent = 0;
        while worker.may_send(0) {
            worker.note_sent(ITEM_COST_MIN, 0);
            sent += 1;
        }
        assert_eq!(sent, ITEMS_MAX);
        assert!(worker.may_send(ITEM_COST_MIN), "one was taken");
    }

    #[test]
    fn an_item_larger_than_the_window_passes_alone() {
        let mut worker = Outflow::default();
        worker.note_sent(100 * WINDOW, 0);
        assert!(!worker.may_send(99 * WINDOW));
        assert!(worker.may_send(100 * WINDOW));
    }

    #[test]
    fn items_that_follow_each_other_closely_are_announced_together() {
        let mut worker = Outflow::default();
        assert_eq!(worker.note_sent(1, 5), (1, Announce::AtOnce));
        assert_eq!(worker.note_sent(1, 1_000), (2, Announce::Together));
        let late = 1_000 + ANNOUNCE_TOGETHER_NS;
        assert_eq!(worker.note_sent(1, late), (3, Announce::AtOnce));
    }

    #[test]
    fn an_item_out_of_order_or_beyond_the_window_is_refused() {
        let mut parent = Inflow::default();
        let (number, expected) = (2, 1);
        let error = parent.handle_item(number, 1);
        assert_eq!(error, Err(ItemError::Number { number, expected }));
        assert_eq!(parent.handle_item(1, WINDOW), Ok(()));
        assert_eq!(
            parent.handle_item(1, 1).unwrap_err(),
            ItemError::Number {
                number: 1,
                expected: 2
            }
        );
        let (number, waiting) = (2, WINDOW);
        let error = parent.handle_item(2, 1);
        assert_eq!(error, Err(ItemError::Window { number, waiting }));
        assert_eq!(parent.handle_taken(1), 1);
        assert_eq!(parent.handle_item(2, 1), Ok(()));
    }

    #[test]
    fn more_than_came_cannot_be_taken() {
        let mut parent = Inflow::default();
        parent.handle_item(1, 700).unwrap();
        assert_eq!(parent.handle_taken(u64::MAX), 700);
    }

    #[test]
    fn portions_are_told_when_they_are_large_and_when_nothing_is_left() {
        let mut consumer = Portions::default();
        assert_eq!(consumer.handle_taken(PORTION - 1, true), None);
        assert_eq!(consumer.handle_taken(1, true), Some(PORTION));
        assert_eq!(consumer.handle_taken(3, true), None);
        assert_eq!(consumer.handle_taken(4, false), Some(7));
    }

    /// The three ends together, with delays between them: nothing stalls, and the window holds.
    #[test]
    fn a_stream_neither_stalls_nor_runs_ahead() {
        for seed in 1..200 {
            let mut below = random_below(seed);
            let mut worker = Outflow::default();
            let mut parent = Inflow::default();
            let mut consumer = Portions::default();
            let (mut ring, mut inbox) = (Vec::new(), Vec::new());
            let (mut word, mut taken) = (0, 0);
            while taken < 2_000 {
                let may_send = worker.may_send(word);
                match below(3) {
                    0 if may_send => {
                        let cost = item_cost(below(20_000), below(9) << 18);
                        let (number, _) = worker.note_sent(cost, 0);
                        ring.push((number, cost));
                    }
                    1 => {
                        for (number, cost) in ring.drain(..) {
                            parent.handle_item(number, cost).unwrap();
                            inbox.push(cost);
                        }
                    }
                    _ if !inbox.is_empty() => {
                        let cost = inbox.remove(0);
                        taken += 1;
                        if let Some(told) = consumer.handle_taken(cost, !inbox.is_empty()) {
                            word = parent.handle_taken(told);
                        }
                    }
                    _ => assert!(may_send || !ring.is_empty(), "seed {seed}: all wait"),
                }
            }
        }
    }
}
