//! A lane as its user holds it: submit, cancel, wait, close.
//!
//! Every function takes the runtime's lock for a moment, hands the event to the pool, carries out
//! what it decides, and wakes the supervisor only when that has something to do earlier than it
//! planned.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use offloop_core::{Close, LaneConfig, LaneId, LaneStatistics, TaskId, TaskOptions};
use offloop_sys::fork;

use crate::call::{Call, CallOptions, SubmitError, TaskAddress};
use crate::fault::Fault;
use crate::fleet::{Desk, Fleet};
use crate::item::Source;
use crate::launch::FleetConfig;
use crate::shared::{Place, Shared, State, WARM_FLEETS_MAX};
use crate::task::{Task, refuse};

/// Where a lane takes calls, and where it has been.
struct Places {
    now: Place,
    /// Places that take no more calls; the calls that they have run there.
    past: Vec<Place>,
    /// What was done in places that are forgotten.
    counted: LaneStatistics,
}

/// One queue of calls, and its share of a fleet's workers.
///
/// When the program changes its users or groups, the lane moves to another fleet: see
/// [`Lane::renew`].
pub struct Lane {
    shared: Arc<Shared>,
    config: LaneConfig,
    /// Locked under the runtime's lock only.
    places: Mutex<Places>,
}

impl Lane {
    pub(crate) fn new(shared: &Arc<Shared>, now: Place, config: LaneConfig) -> Self {
        let places = Places {
            now,
            past: Vec::new(),
            counted: LaneStatistics::default(),
        };
        Self {
            shared: Arc::clone(shared),
            config,
            places: Mutex::new(places),
        }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves the lane to workers that start like those of `fleet`, unless it has such workers
    /// already. Calls that were submitted before finish where they are.
    pub fn renew(&self, fleet: impl Into<FleetConfig>) {
        let config = fleet.into();
        if self.is_forked() {
            return;
        }
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let mut places = self.places();
        let Place { fleet, lane } = places.now;
        if state.failed.is_some() {
            return;
        }
        let Some(old) = state.fleets.get(&fleet) else {
            return;
        };
        let stays = old.launch.is_alike(&config.launch) && !old.outdated;
        if state.stop || stays || !old.pool.lane_is_open(lane) {
            return;
        }
        let old = std::mem::replace(&mut places.now, state.open_lane(config, self.config));
        places.past.push(old);
        drop(places);
        if let Some((fleet, mut desk)) = state.desk(&self.shared, old.fleet) {
            fleet.pool.close_lane(desk.now, old.lane, Close::Drain);
            fleet.run_actions(&mut desk);
            fleet.tell_room(&mut desk, old.lane);
        }
        self.forget_drained(state);
        // The event is ours and open: signalling it cannot fail.
        let _ = self.shared.wake.signal();
        self.shared.after(state);
    }

    /// Forgets the places whose last call is over; what they counted is kept.
    fn forget_drained(&self, state: &mut State) {
        let mut places = self.places();
        let Places { past, counted, .. } = &mut *places;
        past.retain(|place| {
            let Some(fleet) = state.fleets.get_mut(&place.fleet) else {
                return false;
            };
            let drained = fleet.pool.lane_is_drained(place.lane);
            if drained {
                *counted = counted.with(&fleet.pool.statistics(place.lane));
                fleet.forget_lane(place.lane);
            }
            !drained
        });
    }

    fn is_forked(&self) -> bool {
        self.shared.generation != fork::generation()
    }

    /// Submits a call.
    ///
    /// # Errors
    /// `SubmitError`; a full queue gives the call back.
    pub fn submit(&self, call: Call, options: CallOptions) -> Result<TaskAddress, SubmitError> {
        if self.is_forked() {
            return Err(SubmitError::Forked);
        }
        let bytes = call.payload.bytes();
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        if state.stop {
            return Err(SubmitError::Closed);
        }
        if let Some(fault) = &state.failed {
            let fault = Arc::clone(fault);
            return Err(SubmitError::Broken { fault });
        }
        let place = self.places().now;
        let Some((fleet, mut desk)) = state.desk(&self.shared, place.fleet) else {
            return Err(SubmitError::Closed);
        };
        if let Some(newest) = &call.surroundings {
            fleet.notice(newest);
        }
        let mut task = Task::new(call, options.retries > 0);
        if let Some(note) = &mut task.note {
            note.lane = place.lane.index();
        }
        let options = TaskOptions {
            deadline: options
                .timeout
                .map(|timeout| desk.now.saturating_add(timeout)),
            run_timeout: options.run_timeout,
            retries: options.retries,
            bytes,
            grace: options.grace,
            streams: task.streams,
        };
        let owner = task.owner;
        let result = fleet.pool.submit(desk.now, place.lane, options, task);
        if result.is_ok() {
            desk.mailboxes.count_unfinished(owner);
        }
        let result = result.map_err(|error| refuse(error, fleet.health.fault()));
        fleet.run_actions(&mut desk);
        if fleet.pool.queued() > 0 {
            // All workers have their fill; make room with what they have completed since.
            state.drain(&self.shared, None);
        }
        self.shared.after(state);
        result.map(|task| TaskAddress {
            fleet: place.fleet,
            task: task.as_u64(),
        })
    }

    /// Stops a call: before it started, or by interrupting it, or by killing its worker after the
    /// grace period. Its outcome is posted once it really has stopped. False when it is over.
    pub fn cancel(&self, task: TaskAddress) -> bool {
        self.in_fleet(task.fleet, |fleet, desk| {
            let cancelled = fleet.pool.cancel(desk.now, TaskId::from_u64(task.task));
            fleet.run_actions(desk);
            cancelled
        })
        .unwrap_or(false)
    }

    /// Whether the worker has started `task`.
    #[must_use]
    pub fn is_running(&self, task: TaskAddress) -> bool {
        let TaskAddress { fleet, task } = task;
        let task = TaskId::from_u64(task);
        self.in_fleet(fleet, |fleet, _| {
            fleet
                .channels()
                .any(|channel| channel.started() == Some(task))
        })
        .unwrap_or(false)
    }

    /// Why no worker of the lane can be started; `None` while they can.
    #[must_use]
    pub fn broken(&self) -> Option<Arc<Fault>> {
        if self.is_forked() {
            return None;
        }
        let failed = self.shared.lock().failed.clone();
        failed.or_else(|| {
            self.with_fleet(|_, fleet, _| {
                fleet
                    .health
                    .fault()
                    .filter(|_| fleet.has_given_up())
                    .cloned()
            })
            .flatten()
        })
    }

    /// The consumer of a stream has taken items of this cost, so the worker may send more.
    pub fn tell_taken(&self, source: &Source, cost: u64) {
        if self.is_forked() {
            return;
        }
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        // First, what was let go: the worker can use that memory for what it sends now.
        state.tell_releases(&self.shared);
        let fleet = state.fleets.get_mut(&source.fleet);
        if let Some(channel) = fleet.and_then(|fleet| fleet.channel_mut(source.worker)) {
            channel.tell_taken(source.sequence, cost);
        }
        self.shared.after(state);
    }

    /// Takes no more calls; what is queued runs or is cancelled, as `how` says. Streams are
    /// stopped: a consumer may never come for what is left, and whatever waits for the lane would
    /// wait for that.
    pub fn close(&self, how: Close) {
        self.in_each_place(|lane, fleet, desk| {
            fleet.pool.close_lane(desk.now, lane, how);
            fleet.pool.stop_streams(desk.now, lane);
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

    /// Posts [`News::Room`](crate::News::Room) under `token` to `owner` once a call may find
    /// room. A hint: another caller may be faster, so this one tries again and waits again.
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

    /// Waits until no call is queued or running, and no worker that is not needed is starting, at
    /// most `limit`; false when it passed.
    #[must_use]
    pub fn wait_drained(&self, limit: Duration) -> bool {
        self.wait(limit, |lane, fleet| fleet.lane_is_over(lane))
    }

    fn wait(&self, limit: Duration, done: impl Fn(LaneId, &Fleet) -> bool) -> bool {
        if self.is_forked() {
            return true;
        }
        let fleets: Vec<_> = {
            let places = self.places();
            let all = places.past.iter().chain([&places.now]);
            all.map(|place| place.fleet).collect()
        };
        self.shared.wait_for(&fleets, limit, |state| {
            let places = self.places();
            let mut all = places.past.iter().chain([&places.now]);
            state.stop
                || all.all(|place| {
                    let fleet = state.fleets.get(&place.fleet);
                    fleet.is_none_or(|fleet| done(place.lane, fleet))
                })
        })
    }

    /// Waits until a worker has been forked for the calls that there are, at most `limit`; false
    /// when it passed.
    pub fn wait_worker(&self, limit: Duration) -> bool {
        self.wait(limit, |lane, fleet| {
            let forked = fleet
                .channels()
                .any(|channel| channel.life.process().is_some());
            forked || fleet.lane_is_over(lane) || fleet.has_given_up()
        })
    }

    /// The workers of the lane's fleet, which other lanes may use as well: process ids, each with
    /// a descriptor of the process that is the caller's own.
    ///
    /// # Errors
    /// The system's: too many open files.
    pub fn workers(&self) -> io::Result<Vec<(i32, OwnedFd)>> {
        self.with_fleet(|_, fleet, _| {
            let alive = fleet
                .channels()
                .filter_map(|channel| channel.life.process());
            alive
                .map(|process| Ok((process.pid, process.pidfd.try_clone()?)))
                .collect()
        })
        .unwrap_or(Ok(Vec::new()))
    }

    /// What the lane has done so far.
    #[must_use]
    pub fn statistics(&self) -> Option<LaneStatistics> {
        let mut all = self.places().counted;
        let now = self.in_each_place(|lane, fleet, _| {
            all = all.with(&fleet.pool.statistics(lane));
        });
        now.map(|()| all)
    }

    fn with_fleet<T>(&self, act: impl FnOnce(LaneId, &mut Fleet, &mut Desk<'_>) -> T) -> Option<T> {
        if self.is_forked() {
            return None;
        }
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let Place { fleet, lane } = self.places().now;
        let (fleet, mut desk) = state.desk(&self.shared, fleet)?;
        let value = act(lane, fleet, &mut desk);
        self.shared.after(state);
        Some(value)
    }

    fn in_fleet<T>(
        &self,
        fleet: u32,
        act: impl FnOnce(&mut Fleet, &mut Desk<'_>) -> T,
    ) -> Option<T> {
        if self.is_forked() {
            return None;
        }
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let (fleet, mut desk) = state.desk(&self.shared, fleet)?;
        let value = act(fleet, &mut desk);
        self.shared.after(state);
        Some(value)
    }

    /// Acts where the lane has been, and then where it is; `None` when it is nowhere.
    fn in_each_place(&self, mut act: impl FnMut(LaneId, &mut Fleet, &mut Desk<'_>)) -> Option<()> {
        if self.is_forked() {
            return None;
        }
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let (past, now) = {
            let places = self.places();
            (places.past.clone(), places.now)
        };
        let mut found = None;
        for place in past.into_iter().chain([now]) {
            found = state
                .desk(&self.shared, place.fleet)
                .map(|(fleet, mut desk)| act(place.lane, fleet, &mut desk));
        }
        self.shared.after(state);
        found
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.in_each_place(|lane, fleet, desk| {
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
