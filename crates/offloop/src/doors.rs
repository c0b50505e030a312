//! Doors for the tests of this crate: what no program can make happen, or only in hours.

use std::sync::atomic::Ordering;

use crate::runtime::Runtime;

impl Runtime {
    /// Makes the supervisor panic at its next event, under the runtime's lock.
    pub fn panic_supervisor(&self) {
        self.shared.lock().panics = true;
        // The event is ours and open: signalling it cannot fail.
        let _ = self.shared.wake.signal();
    }

    /// Makes the thread that passes on standard error panic as often as that, each time before it
    /// reads what a worker has written, and wakes it.
    pub fn panic_stderr(&self, times: u32) {
        if let Some(tee) = self.shared.tee.get() {
            tee.panics.store(times, Ordering::Relaxed);
            // The event is ours and open: signalling it cannot fail.
            let _ = tee.flush();
        }
    }

    /// Makes the supervisor unable to watch the next worker that is forked.
    pub fn refuse_watch(&self) {
        self.shared.refuses_watch.store(true, Ordering::Relaxed);
    }

    /// As if `count` more fleets had been made and had ended.
    pub fn skip_fleets(&self, count: u32) {
        self.shared.lock().skip_fleets(count);
    }
}
