//! Doors for the tests of this crate: what no program can make happen, or only in hours.

use crate::runtime::Runtime;

impl Runtime {
    /// Makes the supervisor panic at its next event, under the runtime's lock.
    pub fn panic_supervisor(&self) {
        self.shared.lock().panics = true;
        // The event is ours and open: signalling it cannot fail.
        let _ = self.shared.wake.signal();
    }

    /// As if `count` more fleets had been made and had ended.
    pub fn skip_fleets(&self, count: u32) {
        self.shared.lock().skip_fleets(count);
    }
}
