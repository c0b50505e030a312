//! What the consumer of a stream finds: items in order, then the end; and when it wants no more.
//!
//! ```text
//!          items, end                take() has given the end
//! Open ───────────────► Open ──────────────────────────────────► Over
//!  │ close()                                                       ▲
//!  └──────────────► Closing ──── end: nothing more is given ───────┘
//! ```
//!
//! Invariants: 1. Items are given in the order in which they came, each once, and the end after
//!                all of them, once.
//!             2. After `close` no item is given, and items that come are given back at once.
//!             3. The consumer is told in portions what it has taken; see `item_flow`.

use std::collections::VecDeque;

use crate::item_flow::Portions;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<I, E> {
    /// An item, and the cost of what the worker is to be told is taken.
    Item(I, Option<u64>),
    /// How the call ended; there is no more.
    End(E),
    /// Nothing yet.
    Wait,
    /// Nothing ever again.
    Over,
}

/// What is to be done about a call whose consumer wants no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It goes on, and is to be stopped.
    Call,
    /// It is being stopped.
    UnderWay,
    /// It is over.
    Nothing,
}

#[derive(Debug)]
enum Phase<E> {
    Open,
    /// The call has ended, and its items may not all have been taken.
    Ended(E),
    /// The consumer wants no more, and the call has not ended.
    Closing,
    Over,
}

/// The items of one call that its consumer has not taken.
#[derive(Debug)]
pub struct Inbox<I, E> {
    items: VecDeque<(I, u64)>,
    phase: Phase<E>,
    portions: Portions,
}

impl<I, E> Default for Inbox<I, E> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            phase: Phase::Open,
            portions: Portions::default(),
        }
    }
}

impl<I, E> Inbox<I, E> {
    /// An item of this cost has come; it is given back when nothing wants it.
    pub fn handle_item(&mut self, item: I, cost: u64) -> Option<I> {
        if !matches!(self.phase, Phase::Open) {
            return Some(item);
        }
        self.items.push_back((item, cost));
        None
    }

    /// The call has ended; `end` is given back when nothing wants it.
    pub fn handle_end(&mut self, end: E) -> Option<E> {
        match self.phase {
            Phase::Open => {
                self.phase = Phase::Ended(end);
                None
            }
            Phase::Closing => {
                self.phase = Phase::Over;
                Some(end)
            }
            Phase::Ended(_) | Phase::Over => Some(end),
        }
    }

    /// Takes what comes next.
    pub fn take(&mut self) -> Next<I, E> {
        if let Some((item, cost)) = self.items.pop_front() {
            let told = self.portions.handle_taken(cost, !self.items.is_empty());
            return Next::Item(item, told);
        }
        match core::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Open => {
                self.phase = Phase::Open;
                Next::Wait
            }
            Phase::Ended(end) => Next::End(end),
            Phase::Closing => {
                self.phase = Phase::Closing;
                Next::Over
            }
            Phase::Over => Next::Over,
        }
    }

    /// Whether `take` would wait.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.items.is_empty() && matches!(self.phase, Phase::Open)
    }

    /// Whether the call is over, as far as is known here.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_) | Phase::Over)
    }

    /// The consumer wants no more: what it has not taken comes back, and what is to be done.
    #[must_use]
    pub fn close(&mut self) -> (Vec<I>, Option<E>, Stop) {
        let left = self.items.drain(..).map(|(item, _)| item).collect();
        let (phase, end, stop) = match core::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Open => (Phase::Closing, None, Stop::Call),
            Phase::Closing => (Phase::Closing, None, Stop::UnderWay),
            Phase::Ended(end) => (Phase::Over, Some(end), Stop::Nothing),
            Phase::Over => (Phase::Over, None, Stop::Nothing),
        };
        self.phase = phase;
        (left, end, stop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox(items: &[u8]) -> Inbox<u8, &'static str> {
        let mut inbox = Inbox::default();
        for item in items {
            assert_eq!(inbox.handle_item(*item, 1), None);
        }
        inbox
    }

    #[test]
    fn items_come_in_order_and_the_end_after_them_once() {
        let mut inbox = inbox(&[1, 2]);
        assert_eq!(inbox.handle_end("end"), None);
        assert_eq!(inbox.take(), Next::Item(1, None));
        assert_eq!(inbox.take(), Next::Item(2, Some(2)));
        assert_eq!(inbox.take(), Next::End("end"));
        assert_eq!(inbox.take(), Next::Over);
        assert_eq!(inbox.handle_end("again"), Some("again"));
    }

    #[test]
    fn an_empty_inbox_waits_until_something_comes() {
        let mut inbox = inbox(&[]);
        assert!(inbox.waits());
        assert_eq!(inbox.take(), Next::Wait);
        inbox.handle_item(1, 1);
        assert!(!inbox.waits());
        assert_eq!(inbox.take(), Next::Item(1, Some(1)));
        assert_eq!(inbox.take(), Next::Wait);
        inbox.handle_end("end");
        assert!(!inbox.waits() && inbox.has_ended());
    }

    #[test]
    fn a_closed_inbox_gives_nothing_and_keeps_nothing() {
        let mut inbox = inbox(&[1, 2]);
        assert_eq!(inbox.close(), (vec![1, 2], None, Stop::Call));
        assert_eq!(inbox.close(), (vec![], None, Stop::UnderWay));
        assert_eq!(inbox.handle_item(3, 1), Some(3));
        assert_eq!(inbox.take(), Next::Over);
        assert!(!inbox.has_ended());
        assert_eq!(inbox.handle_end("end"), Some("end"));
        assert!(inbox.has_ended());
        assert_eq!(inbox.close(), (vec![], None, Stop::Nothing));
    }

    #[test]
    fn what_ended_and_was_not_taken_needs_no_stop() {
        let mut inbox = inbox(&[1]);
        inbox.handle_end("end");
        assert_eq!(inbox.close(), (vec![1], Some("end"), Stop::Nothing));
        assert_eq!(inbox.take(), Next::Over);
    }
}
