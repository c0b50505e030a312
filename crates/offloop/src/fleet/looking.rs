//! What a fleet tells of itself: its part of a snapshot, and its entries in the journal.

use std::sync::Arc;
use std::time::Duration;

use offloop_core::{Instant, LaneId, LaneStatistics};

use crate::channel::Channel;
use crate::fault::Crash;
use crate::fleet::{Desk, Fleet};
use crate::journal::Event;
use crate::snapshot::{FleetSnapshot, LaneSnapshot, RunningCall, WorkerSnapshot};

/// How often a fleet writes of the calls that its full queues drop: a queue may drop one for every
/// call that it takes.
const DROPS_EVERY: Duration = Duration::from_secs(1);

impl Fleet {
    pub(crate) fn snapshot(&self) -> FleetSnapshot {
        let lane = |lane: &LaneId| LaneSnapshot {
            open: self.pool.lane_is_open(*lane),
            statistics: self.pool.statistics(*lane),
        };
        let statistics = self.pool.fleet_statistics();
        FleetSnapshot {
            number: self.number,
            zygote_pid: self.zygote.as_ref().map(|zygote| zygote.pid),
            lanes: self.lanes.iter().map(lane).collect(),
            workers: self.channels().filter_map(|it| self.worker(it)).collect(),
            starting: statistics.starting,
            idle: statistics.idle,
            queued: self.pool.queued(),
            outdated: self.outdated,
            broken: self.health.fault().cloned(),
        }
    }

    /// A worker that has a process.
    fn worker(&self, channel: &Channel) -> Option<WorkerSnapshot> {
        let running = channel.started().and_then(|task| {
            Some(RunningCall {
                token: self.pool.payload(task)?.token,
                started: Instant::from_nanos(channel.started_at_ns(task)?),
            })
        });
        Some(WorkerSnapshot {
            pid: channel.life.pid()?,
            state: channel.state(),
            calls: channel.calls(),
            running,
        })
    }

    /// What all lanes have done that the fleet ever had.
    pub(crate) fn calls(&self) -> LaneStatistics {
        let lanes = self.lanes.iter().map(|lane| self.pool.statistics(*lane));
        lanes.fold(self.forgotten, |sum, lane| sum.with(&lane))
    }

    /// Forgets a lane that is drained; what it counted is kept.
    pub(crate) fn forget_lane(&mut self, lane: LaneId) {
        self.forgotten = self.forgotten.with(&self.pool.statistics(lane));
        self.pool.forget_lane(lane);
        self.lanes.retain(|other| *other != lane);
    }

    /// A worker is ready.
    pub(super) fn note_start(&mut self, desk: &mut Desk<'_>, pid: i32) {
        let fleet = self.number;
        let event = match self.unreplaced.pop_front() {
            Some(replaces) => Event::Restart {
                fleet,
                pid,
                replaces,
            },
            None => Event::Start { fleet, pid },
        };
        desk.note(event);
    }

    /// A worker will not be there.
    pub(super) fn note_start_failure(&self, desk: &mut Desk<'_>) {
        let event = Event::StartFailure {
            fleet: self.number,
            fault: self.health.fault().cloned(),
        };
        desk.note(event);
    }

    /// A worker that was ready has ended.
    pub(super) fn note_end(
        &mut self,
        desk: &mut Desk<'_>,
        crash: &Arc<Crash>,
        crashed: bool,
        in_call: bool,
    ) {
        let fleet = self.number;
        let event = if crashed {
            // No more than there are workers at once: each start takes one away.
            self.unreplaced.push_back(crash.pid);
            Event::Crash {
                fleet,
                crash: Arc::clone(crash),
                in_call,
            }
        } else {
            let pid = crash.pid;
            Event::End { fleet, pid }
        };
        desk.note(event);
    }

    /// A full queue has given up a call.
    #[cold]
    pub(super) fn note_drop(&mut self, desk: &mut Desk<'_>) {
        self.dropped += 1;
        if self.drops_told_at.is_some_and(|at| at > desk.now) {
            return;
        }
        self.drops_told_at = Some(desk.now.saturating_add(DROPS_EVERY));
        let (fleet, dropped) = (self.number, self.dropped);
        desk.note(Event::Drop { fleet, dropped });
    }
}

impl Desk<'_> {
    pub(crate) fn note(&mut self, event: Event) {
        self.journal.write(self.now, event);
    }
}
