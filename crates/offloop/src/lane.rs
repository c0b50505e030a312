//! A lane as its user holds it: submit, cancel, wait, close.
//!
//! Every function takes the runtime's lock for a moment, hands the event to the pool, carries out
//! what it decides, and wakes the supervisor only when that has something to do earlier than it
//! planned.

use std::sync::Arc;
use std::time::Duration;

use offloop_core::{Close, LaneId, LaneStatistics, TaskId, TaskOptions};
use offloop_sys::fork;

use crate::call::{Call, CallOptions, SubmitError, refuse};
use crate::fleet::{Desk, Fleet, Task};
use crate::runtime::{Shared, WARM_FLEETS_MAX};

/// One queue of calls, and its share of a fleet's workers.
pub struct Lane {
    pub(crate) shared: Arc<Shared>,
    pub(crate) fleet: u32,
    pub(crate) lane: LaneId,
}

impl Lane {
    fn is_forked(&self) -> bool {
        self.shared.generation != fork::generation()
    }

    /// Submits a call.
    ///
    /// # Errors
    /// `SubmitError`; a full queue gives the call back.
    pub fn submit(&self, call: Call, options: CallOptions) -> Result<u64, SubmitError> {
        if self.is_forked() {
            return Err(SubmitError::Forked);
        }
        let bytes = call.payload.bytes();
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        if state.stop {
            return Err(SubmitError::Closed);
        }
        let Some((fleet, mut desk)) = state.desk(&self.shared, self.fleet) else {
            return Err(SubmitError::Closed);
        };
        let task = Task {
            owner: call.owner,
            token: call.token,
            any_thread: call.any_thread,
            copy_blocks: options.retries > 0,
            function: call.function,
            payload: call.payload,
            outcome: None,
        };
        let options = TaskOptions {
            deadline: options
                .timeout
                .map(|timeout| desk.now.saturating_add(timeout)),
            run_timeout: options.run_timeout,
            retries: options.retries,
            bytes,
            grace: options.grace,
        };
        let owner = task.owner;
        let result = fleet.pool.submit(desk.now, self.lane, options, task);
        if result.is_ok() {
            desk.owners.count_unfinished(owner);
        }
        let result = result.map_err(|error| refuse(error, fleet.broken.as_deref()));
        fleet.run_actions(&mut desk);
        if fleet.pool.queued() > 0 {
            // All workers have their fill; make room with what they have completed since.
            state.drain(&self.shared, None);
        }
        self.shared.after(state);
        result.map(TaskId::as_u64)
    }

    /// Stops a call: before it started, or by interrupting it, or by killing its worker after the
    /// grace period. Its outcome is posted once it really has stopped. False when it is over.
    pub fn cancel(&self, task: u64) -> bool {
        self.with_fleet(|_, fleet, desk| {
            let cancelled = fleet.pool.cancel(desk.now, TaskId::from_u64(task));
            fleet.run_actions(desk);
            cancelled
        })
        .unwrap_or(false)
    }

    /// Whether the worker has started `task`.
    #[must_use]
    pub fn is_running(&self, task: u64) -> bool {
        let task = TaskId::from_u64(task);
        self.with_fleet(|_, fleet, _| {
            fleet
                .channels()
                .any(|channel| channel.started() == Some(task))
        })
        .unwrap_or(false)
    }

    /// Why no worker of the lane can be started; `None` while they can.
    #[must_use]
    pub fn broken(&self) -> Option<String> {
        self.with_fleet(|_, fleet, _| fleet.broken.clone().filter(|_| fleet.has_given_up()))
            .flatten()
    }

    /// Takes no more calls; what is queued runs or is cancelled, as `how` says.
    pub fn close(&self, how: Close) {
        self.with_fleet(|lane, fleet, desk| {
            fleet.pool.close_lane(desk.now, lane, how);
            fleet.run_actions(desk);
            fleet.tell_room(desk, lane);
        });
    }

    /// Whether a call would not have to wait for room now: it finds some, or is refused for good.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.with_fleet(|lane, fleet, _| !fleet.pool.lane_is_full(lane))
            .unwrap_or(true)
    }

    /// Posts [`Outcome::Room`](crate::Outcome::Room) under `token` to `owner` once a call may find
    /// room. A hint: another may be faster, so the caller tries again and waits again.
    pub fn notify_room(&self, owner: u8, token: u64) {
        self.with_fleet(|lane, fleet, desk| {
            fleet.room_waiters.push_back((lane, owner, token));
            fleet.tell_room(desk, lane);
        });
    }

    /// Waits until a call need not wait for room, at most `limit`; false when it passed.
    #[must_use]
    pub fn wait_room(&self, limit: Duration) -> bool {
        self.wait(limit, |lane, fleet| !fleet.pool.lane_is_full(lane))
    }

    /// Waits until no call is queued or running, and no initializer runs for nobody, at most
    /// `limit`; false when it passed.
    #[must_use]
    pub fn wait_drained(&self, limit: Duration) -> bool {
        self.wait(limit, |lane, fleet| fleet.lane_is_over(lane))
    }

    fn wait(&self, limit: Duration, done: impl Fn(LaneId, &Fleet) -> bool) -> bool {
        if self.is_forked() {
            return true;
        }
        let state = self.shared.lock();
        self.shared.wait_until(state, limit, |state| {
            let fleet = state.fleets.get(&self.fleet);
            state.stop || fleet.is_none_or(|fleet| done(self.lane, fleet))
        })
    }

    /// What the lane has done so far.
    #[must_use]
    pub fn statistics(&self) -> Option<LaneStatistics> {
        self.with_fleet(|lane, fleet, _| fleet.pool.statistics(lane))
    }

    fn with_fleet<T>(&self, act: impl FnOnce(LaneId, &mut Fleet, &mut Desk<'_>) -> T) -> Option<T> {
        if self.is_forked() {
            return None;
        }
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let (fleet, mut desk) = state.desk(&self.shared, self.fleet)?;
        let value = act(self.lane, fleet, &mut desk);
        self.shared.after(state);
        Some(value)
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.with_fleet(|lane, fleet, desk| {
            fleet.pool.close_lane(desk.now, lane, Close::Drain);
            fleet.run_actions(desk);
            fleet.abandoned.push(lane);
            fleet.forget_drained();
        });
        if self.is_forked() {
            return;
        }
        let state = self.shared.lock();
        let unused = state.fleets.values().filter(|fleet| fleet.lanes.is_empty());
        let private = |fleet: &&Fleet| !fleet.launch.inherited.is_empty();
        if unused.clone().count() > WARM_FLEETS_MAX || unused.clone().any(|f| private(&f)) {
            // The event is ours and open: signalling it cannot fail.
            let _ = self.shared.wake.signal();
        }
    }
}
