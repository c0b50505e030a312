//! What a runtime tells of itself: its state at one moment, and what happened since another one.

use std::sync::Arc;

use offloop_core::watch::Told;

use crate::fleet::Fleet;
use crate::journal::{Entries, Event};
use crate::recorder::Recorder;
use crate::runtime::Runtime;
use crate::shared::now;
use crate::snapshot::{ArenaSnapshot, OwnerSnapshot, Snapshot};

impl Runtime {
    /// What fleets, lanes, workers, owners and the arena are doing now. Nothing in a fork.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        if self.is_forked() {
            return Snapshot::default();
        }
        let arena = ArenaSnapshot {
            bytes_in_use: self.shared.arena.bytes_in_use(),
            bytes_backed: self.shared.arena.bytes_backed().ok(),
            bytes_max: self.shared.arena.bytes_max(),
        };
        let state = self.shared.lock();
        let owners = state.mailboxes.slots.iter().zip(0..);
        let owners = owners.map(|(mailbox, index)| OwnerSnapshot {
            index,
            open: mailbox.open,
            unfinished: mailbox.unfinished,
            notices: mailbox.notices.len(),
        });
        let fleets = state.fleets.values();
        Snapshot {
            owners: owners.collect(),
            calls: fleets
                .clone()
                .fold(state.forgotten, |sum, fleet| sum.with(&fleet.calls())),
            fleets: fleets.map(Fleet::snapshot).collect(),
            arena,
            lanes_opened: state.lanes_opened,
            events: state.journal.counts(),
            last_event: state.journal.last(),
            failed: state.failed.clone(),
        }
    }

    /// What happens over time, while something records it.
    #[must_use]
    pub fn recorder(&self) -> &Arc<Recorder> {
        &self.shared.recorder
    }

    /// Writes a stall of an event loop into the journal; nothing in a fork.
    pub fn note_stall(&self, told: &Arc<Told>) {
        if !self.is_forked() {
            let told = Arc::clone(told);
            let event = Event::LoopStall { told };
            self.shared.lock().journal.write(now(), event);
        }
    }

    /// What the journal says after its entry `number`; 0 for all that is kept. Nothing in a fork.
    #[must_use]
    pub fn events_after(&self, number: u64) -> Entries {
        if self.is_forked() {
            return Entries::default();
        }
        self.shared.lock().journal.after(number)
    }
}
