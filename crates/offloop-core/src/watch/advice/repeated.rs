//! A short call that is made over and over: its move would cost a way to a worker and back each.
//!
//! A call is known to be short if it came back while its stack was read, which takes less than a
//! millisecond, or if the loop around it says that it makes many rounds.

use super::super::calls::Call;
use super::super::record::Entry;
use super::super::site::{Site, UNNAMED};
use super::{Advice, Found, rewritten};

/// From so many rounds on, a call in a loop is taken for a short one.
const MANY: u64 = 1_000;

/// What is moved in place of the call.
const TOGETHER: &str = "move all of these short calls at once";

impl Found<'_> {
    /// Whether the entry at this place on the stack calls what computes over and over.
    pub(super) fn is_repeated(&self, site: &Site, index: usize, call: Option<&Call>) -> bool {
        let calls = index > 0 || call.is_some();
        let came_back = index < self.stall.stack.unsettled;
        calls
            && self.computes()
            && !self.is_generator
            && (came_back || site.rounds_of(call) >= MANY)
    }

    /// All rounds are moved at once, or let the loop run in between.
    pub(super) fn as_whole(&self, at: Option<Entry>) -> Advice {
        Advice {
            cure: Some(rewritten::moved_by_name(UNNAMED, self.to_process())),
            at,
            because: format!("{TOGETHER}; {}", self.reason()),
            instead: vec!["await asyncio.sleep(0) once in a while, to let the loop run".to_owned()],
            ..Advice::default()
        }
    }
}
