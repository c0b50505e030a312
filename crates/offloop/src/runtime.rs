//! The runtime as its users see it: lanes to submit to, owners that fetch what became of it.
//!
//! Who may fetch what: a completion lies in its worker's ring until somebody who holds the lock
//! takes it; whoever that is posts it to the mailbox of the call's owner. An owner empties its
//! own mailbox only. Calls that any thread may resolve are moved from the mailbox of an owner that
//! does not come within a millisecond to the resolver's, who is owner 0.
//!
//! Invariants: 1. The lock is never held while the user's code runs or a system call waits.
//!             2. Every accepted call is posted exactly once, to its owner or to the resolver.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use offloop_core::{
    Close, Instant, LaneConfig, LaneId, LaneStatistics, PoolConfig, RestartIntensity, TaskId,
    TaskOptions, WorkerId, limits,
};
use offloop_sys::event::{Event, Timer};
use offloop_sys::segment::OWNERS_MAX;
use offloop_sys::{clock, fork, memory};

use crate::arena::{Arena, ArenaError, Block};
use crate::fleet::{Desk, Fleet, REPLY_BOUND, Task};
use crate::launch::Launch;
use crate::outcome::Finished;
use crate::stderr::Tee;
use crate::supervisor::{STOP_BOUND, Supervisor};

/// The owner that resolves calls of plain threads, and those of loops that are stuck.
pub const RESOLVER: u8 = 0;

/// Fleets without a lane whose workers are kept warm; a program rarely starts its workers in more
/// ways than this.
const WARM_FLEETS_MAX: usize = 4;

/// Now, on the clock that the pools use.
pub(crate) fn now() -> Instant {
    Instant::from_nanos(clock::monotonic_ns())
}

/// Bytes on their way to a worker.
#[derive(Debug, Default)]
pub struct Payload {
    /// What travels inside the ring.
    pub inline: Vec<u8>,
    /// What travels through the arena.
    pub blocks: Vec<Block>,
    /// Whether the first block takes the place of `inline`.
    pub in_block: bool,
}

impl Payload {
    fn bytes(&self) -> u64 {
        let blocks: u64 = self.blocks.iter().map(|block| block.address().len).sum();
        self.inline.len() as u64 + blocks
    }
}

/// A function that workers remember by its number.
#[derive(Debug)]
pub struct Function {
    id: u32,
    definition: Payload,
}

impl Function {
    /// Its number, never 0.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    pub(crate) fn definition(&self) -> &Payload {
        &self.definition
    }
}

/// A call to submit.
#[derive(Debug)]
pub struct Call {
    /// Who fetches its outcome.
    pub owner: u8,
    /// What the owner knows it by.
    pub token: u64,
    /// Whether any thread may resolve it when the owner does not come.
    pub any_thread: bool,
    /// Its function, unless the payload holds it.
    pub function: Option<Arc<Function>>,
    /// Its arguments.
    pub payload: Payload,
}

/// Limits of one call.
#[derive(Clone, Copy, Debug, Default)]
pub struct CallOptions {
    /// From submission to the end.
    pub timeout: Option<Duration>,
    /// From the start of the call to its end.
    pub run_timeout: Option<Duration>,
    /// How many more times it is tried when its worker ends under it.
    pub retries: u32,
    /// Between interrupting it and killing its worker; the lane's unless set.
    pub grace: Option<Duration>,
}

/// Why a call was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The lane's queue is full; it may be taken later.
    #[error("{reason}")]
    Full {
        /// The sizes and limits.
        reason: String,
        /// The call, given back.
        call: Box<Call>,
    },
    /// It can never be taken.
    #[error("{reason}")]
    TooLarge {
        /// The sizes and limits.
        reason: String,
    },
    /// The lane was closed.
    #[error("the lane is closed")]
    Closed,
    /// The lane cannot start workers.
    #[error("{reason}")]
    Broken {
        /// Why.
        reason: String,
    },
    /// This process is a fork of the one that made the lane.
    #[error("the lane belongs to the process that this one was forked from")]
    Forked,
}

/// A lane could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaneError {
    /// This process is a fork of the one that started the runtime.
    #[error("the runtime belongs to the process that this one was forked from")]
    Forked,
    /// The runtime has ended with the program.
    #[error("the runtime has stopped")]
    Stopped,
    /// No owner is left.
    #[error("{count} event loops use the runtime at once, limit {limit}")]
    Owners {
        /// Loops that there are.
        count: usize,
        /// Loops that there may be.
        limit: usize,
    },
    /// The system refused.
    #[error("the system refused a descriptor or a thread")]
    System(#[from] io::Error),
}

struct OwnerState {
    event: Arc<Event>,
    mailbox: VecDeque<Finished>,
    told: bool,
    /// Somebody holds the [`Owner`].
    open: bool,
    /// Its calls that are not finished; until there are none, the number is given to nobody else.
    unfinished: u64,
}

impl OwnerState {
    fn new(event: Arc<Event>) -> Self {
        Self { event, mailbox: VecDeque::new(), told: false, open: true, unfinished: 0 }
    }
}

/// Everybody who fetches outcomes.
#[derive(Default)]
pub(crate) struct Owners {
    slots: Vec<OwnerState>,
}

impl Owners {
    pub(crate) fn event(&self, owner: u8) -> Arc<Event> {
        // A number keeps its event for ever, so workers learn it once.
        let slot = self.slots.get(usize::from(owner));
        Arc::clone(&slot.unwrap_or(&self.slots[usize::from(RESOLVER)]).event)
    }

    fn count_unfinished(&mut self, owner: u8) {
        if let Some(slot) = self.slots.get_mut(usize::from(owner)) {
            slot.unfinished += 1;
        }
    }

    /// Posts the end of one of the owner's calls.
    pub(crate) fn post(&mut self, owner: u8, finished: Finished) {
        if let Some(slot) = self.slots.get_mut(usize::from(owner)) {
            slot.unfinished = slot.unfinished.saturating_sub(1);
        }
        self.deliver(owner, finished);
    }

    /// Puts something into the owner's mailbox, and tells it.
    pub(crate) fn deliver(&mut self, owner: u8, finished: Finished) {
        // An owner that is gone has nobody left who waits, unless any thread may resolve.
        let index = match self.slots.get(usize::from(owner)) {
            Some(slot) if slot.open => owner,
            _ if finished.any_thread => RESOLVER,
            _ => return,
        };
        if let Some(slot) = self.slots.get_mut(usize::from(index)) {
            slot.mailbox.push_back(finished);
            if !slot.told {
                slot.told = true;
                // The event is ours and open: signalling it cannot fail.
                let _ = slot.event.signal();
            }
        }
    }
}

/// Results that nobody reads any more; told to their workers at the next opportunity.
#[derive(Debug, Default)]
pub(crate) struct Releases(Mutex<Vec<(u32, WorkerId, u64)>>, AtomicU64, OnceLock<Arc<Event>>);

/// Bytes of released results above which the supervisor is woken to tell the worker at once.
const RELEASE_AT_ONCE_BYTES: u64 = 1 << 20;

/// Keeps a result's blocks in the worker's arena until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    releases: Arc<Releases>,
    fleet: u32,
    worker: WorkerId,
    sequence: u64,
    bytes: u64,
}

impl Lease {
    pub(crate) fn new(
        releases: &Arc<Releases>,
        fleet: u32,
        worker: WorkerId,
        sequence: u64,
        bytes: u64,
    ) -> Arc<Self> {
        let releases = Arc::clone(releases);
        Arc::new(Self { releases, fleet, worker, sequence, bytes })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Releases(list, bytes, wake) = &*self.releases;
        let mut list = list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push((self.fleet, self.worker, self.sequence));
        drop(list);
        let total = bytes.fetch_add(self.bytes, Ordering::Relaxed) + self.bytes;
        if total >= RELEASE_AT_ONCE_BYTES {
            bytes.store(0, Ordering::Relaxed);
            // The event is ours and open: signalling it cannot fail.
            let _ = wake.get().map(|wake| wake.signal());
        }
    }
}

pub(crate) struct State {
    /// By number; a number is never given again, so a late message reaches nobody else.
    pub(crate) fleets: BTreeMap<u32, Fleet>,
    fleets_made: u32,
    pub(crate) owners: Owners,
    /// When the supervisor wakes by itself.
    pub(crate) planned: Option<Instant>,
    pub(crate) reply_bound: Duration,
    pub(crate) stop: bool,
    pub(crate) supervisor_ended: bool,
    started: bool,
    waiters: u32,
    failed: Option<String>,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) changed: Condvar,
    pub(crate) wake: Arc<Event>,
    pub(crate) nudge: Timer,
    arena: Arc<Arena>,
    releases: Arc<Releases>,
    pub(crate) tee: OnceLock<Arc<Tee>>,
    cores: u32,
    generation: u32,
    functions: AtomicU32,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a bug; its message has been printed, and the pools' own checks
        // keep every task apart, so the others are served on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tee(&self) -> io::Result<&Arc<Tee>> {
        if self.tee.get().is_none() {
            // Only the supervisor gets here, so no second thread is started.
            let _ = self.tee.set(Tee::start()?);
        }
        Ok(self.tee.get().expect("set above"))
    }

    /// Wakes the supervisor when it has something to do earlier than it planned.
    pub(crate) fn after(&self, state: &State) {
        let wanted = state.fleets.values().any(|fleet| {
            !fleet.wanted.is_empty() || !fleet.watch.is_empty() || fleet.is_overlooked()
        });
        let sooner = match (state.poll_timeout(), state.planned) {
            (Some(at), Some(planned)) => at < planned,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if wanted || sooner {
            // The event is ours and open: signalling it cannot fail.
            let _ = self.wake.signal();
        }
        self.notify(state);
    }

    /// Waits until `done`, at most `limit`; false when it passed.
    fn wait_until(
        &self,
        mut state: MutexGuard<'_, State>,
        limit: Duration,
        done: impl Fn(&State) -> bool,
    ) -> bool {
        let deadline = std::time::Instant::now() + limit;
        state.waiters += 1;
        let reached = loop {
            if done(&state) {
                break true;
            }
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                break false;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        state.waiters -= 1;
        reached
    }

    pub(crate) fn notify(&self, state: &State) {
        if state.waiters > 0 {
            self.changed.notify_all();
        }
    }

    /// The supervisor cannot go on: every call ends with the reason.
    pub(crate) fn fail(&self, reason: &str) {
        let mut guard = self.lock();
        let state = &mut *guard;
        state.failed = Some(reason.into());
        for number in state.fleets.keys().copied().collect::<Vec<_>>() {
            if let Some((fleet, mut desk)) = state.desk(self, number) {
                fleet.break_lanes(&mut desk, reason.into());
            }
        }
        self.changed.notify_all();
    }
}

impl State {
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.fleets.values().filter_map(Fleet::poll_timeout).min()
    }

    pub(crate) fn desk<'state>(
        &'state mut self,
        shared: &'state Shared,
        fleet: u32,
    ) -> Option<(&'state mut Fleet, Desk<'state>)> {
        let fleet = self.fleets.get_mut(&fleet)?;
        let desk = Desk {
            now: now(),
            owners: &mut self.owners,
            arena: &shared.arena,
            releases: &shared.releases,
            cores: shared.cores,
        };
        Some((fleet, desk))
    }

    pub(crate) fn handle_timeout(&mut self, shared: &Shared) {
        for number in self.fleets.keys().copied().collect::<Vec<_>>() {
            if let Some((fleet, mut desk)) = self.desk(shared, number) {
                fleet.handle_timeout(&mut desk);
            }
        }
    }

    /// Lets go of fleets that no lane uses: the most recent ones stay warm for a while, the others
    /// end now. Returns those whose last process has gone.
    pub(crate) fn take_idle_fleets(&mut self, shared: &Shared) -> Vec<Fleet> {
        self.fleets.values_mut().for_each(Fleet::forget_drained);
        let unused: Vec<u32> =
            self.fleets.values().filter(|fleet| fleet.lanes.is_empty()).map(|f| f.number).collect();
        let surplus = unused.len().saturating_sub(WARM_FLEETS_MAX);
        let mut ended = Vec::new();
        for (index, number) in unused.into_iter().enumerate() {
            let Some((fleet, mut desk)) = self.desk(shared, number) else { continue };
            if index < surplus || !fleet.launch.inherited.is_empty() {
                fleet.pool.retire_idle(desk.now);
                fleet.run_actions(&mut desk);
            }
            if fleet.is_empty() && fleet.wanted.is_empty() {
                ended.extend(self.fleets.remove(&number));
            }
        }
        ended
    }

    /// The completion timer fired: from now on it may be armed again.
    pub(crate) fn nudged(&mut self) {
        for channel in self.fleets.values().flat_map(Fleet::channels) {
            channel.segment().nudge_armed().store(0, Ordering::Release);
        }
    }

    /// Takes the completions of all workers and feeds them.
    pub(crate) fn drain_all(&mut self, shared: &Shared) {
        for fleet in self.fleets.values_mut() {
            fleet.unannounced = false;
        }
        self.drain(shared, None);
    }

    /// Takes completions; true when some may be left.
    fn drain(&mut self, shared: &Shared, owner: Option<u8>) -> bool {
        self.tell_releases(shared);
        let mut found = HashMap::new();
        for fleet in self.fleets.values() {
            fleet.with_completions(owner, &mut found);
        }
        let mut more = false;
        for (number, workers) in found {
            let Some((fleet, mut desk)) = self.desk(shared, number) else { continue };
            for worker in workers {
                more |= fleet.drain(&mut desk, worker);
            }
        }
        more
    }

    fn tell_releases(&mut self, shared: &Shared) {
        let mut list = shared.releases.0.lock().unwrap_or_else(PoisonError::into_inner);
        let released = std::mem::take(&mut *list);
        drop(list);
        for (fleet, worker, sequence) in released {
            let fleet = self.fleets.get_mut(&fleet);
            if let Some(channel) = fleet.and_then(|fleet| fleet.channel_mut(worker)) {
                channel.release(sequence);
            }
        }
    }

    /// Moves what any thread may resolve from owners that did not come to `resolver`.
    pub(crate) fn hand_over_stuck(&mut self, resolver: u8) {
        let mut moved = Vec::new();
        for (index, slot) in self.owners.slots.iter_mut().enumerate() {
            if index == usize::from(resolver) {
                continue;
            }
            if slot.mailbox.iter().any(|finished| finished.any_thread) {
                let (free, kept): (VecDeque<_>, VecDeque<_>) =
                    slot.mailbox.drain(..).partition(|finished| finished.any_thread);
                slot.mailbox = kept;
                moved.extend(free);
            }
        }
        for finished in moved {
            self.owners.deliver(resolver, finished);
        }
    }
}

/// The runtime of a process; cloning it clones a reference.
#[derive(Clone)]
pub struct Runtime(Arc<Shared>);

impl Runtime {
    /// A runtime without threads or processes yet; `arena_bytes_max` bounds the arguments in
    /// shared memory (half of the machine's memory unless set).
    ///
    /// # Errors
    /// The system's, when no descriptor is left.
    pub fn new(arena_bytes_max: Option<u64>) -> io::Result<Self> {
        let owners = Owners { slots: vec![OwnerState::new(Arc::new(Event::new()?))] };
        let wake = Arc::new(Event::new()?);
        let releases = Arc::new(Releases::default());
        let _ = releases.2.set(Arc::clone(&wake));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self(Arc::new(Shared {
            state: Mutex::new(State {
                fleets: BTreeMap::new(),
                fleets_made: 0,
                owners,
                planned: None,
                reply_bound: REPLY_BOUND,
                stop: false,
                supervisor_ended: false,
                started: false,
                waiters: 0,
                failed: None,
            }),
            changed: Condvar::new(),
            wake,
            nudge: Timer::new()?,
            arena: Arena::new(arena_bytes_max.unwrap_or_else(|| memory::physical_bytes() / 2)),
            releases,
            tee: OnceLock::new(),
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            generation: fork::generation(),
            functions: AtomicU32::new(0),
        })))
    }

    /// Whether this process is a fork of the one that made the runtime, which is then unusable.
    #[must_use]
    pub fn is_forked(&self) -> bool {
        self.0.generation != fork::generation()
    }

    /// A function that workers will remember.
    #[must_use]
    pub fn define(&self, definition: Payload) -> Arc<Function> {
        let id = self.0.functions.fetch_add(1, Ordering::Relaxed) + 1;
        Arc::new(Function { id, definition })
    }

    /// A block for a payload that is too large for a ring.
    ///
    /// # Errors
    /// `ArenaError`.
    pub fn allocate(&self, len: u64) -> Result<Block, ArenaError> {
        self.0.arena.allocate(len)
    }

    /// Opens a lane of the fleet whose workers start like `launch`.
    ///
    /// # Errors
    /// `LaneError`.
    pub fn open_lane(&self, launch: Launch, config: LaneConfig) -> Result<Lane, LaneError> {
        if self.is_forked() {
            return Err(LaneError::Forked);
        }
        let mut state = self.0.lock();
        if state.stop {
            return Err(LaneError::Stopped);
        }
        if !state.started {
            Supervisor::start(&self.0)?;
            state.started = true;
        }
        let state = &mut *state;
        let usable = |fleet: &&Fleet| fleet.broken.is_none() && fleet.launch.is_same(&launch);
        let number = match state.fleets.values().find(usable) {
            Some(fleet) => fleet.number,
            None => {
                state.fleets_made += 1;
                state.fleets_made
            }
        };
        let fleet = state.fleets.entry(number).or_insert_with(|| {
            let config = PoolConfig {
                tasks_per_worker_max: launch.tasks_per_worker_max,
                idle_timeout: limits::IDLE_TIMEOUT,
                restart: RestartIntensity::default(),
                seed: clock::monotonic_ns(),
            };
            Fleet::new(number, launch, config)
        });
        let lane = fleet.pool.open_lane(config);
        fleet.lanes.push(lane);
        let fleet = fleet.number;
        Ok(Lane { shared: Arc::clone(&self.0), fleet, lane })
    }

    /// A new owner, usually one for each event loop.
    ///
    /// # Errors
    /// `LaneError`.
    pub fn add_owner(&self) -> Result<Owner, LaneError> {
        let mut state = self.0.lock();
        let slots = &mut state.owners.slots;
        let free = slots.iter().position(|slot| !slot.open && slot.unfinished == 0);
        let free = free.unwrap_or(slots.len());
        if free >= OWNERS_MAX {
            return Err(LaneError::Owners { count: free, limit: OWNERS_MAX });
        }
        if free == slots.len() {
            slots.push(OwnerState::new(Arc::new(Event::new()?)));
        }
        let slot = &mut slots[free];
        slot.open = true;
        slot.told = true;
        let event = Arc::clone(&slot.event);
        // The one who had the number before may have left it announced: look once.
        event.signal()?;
        let index = u8::try_from(free).expect("below OWNERS_MAX");
        Ok(Owner { shared: Arc::clone(&self.0), index, event })
    }

    /// The owner that stands in for all others.
    #[must_use]
    pub fn resolver(&self) -> Owner {
        let event = self.0.lock().owners.event(RESOLVER);
        Owner { shared: Arc::clone(&self.0), index: RESOLVER, event }
    }

    /// Gives everything that any thread may resolve to the resolver, now.
    pub fn hand_over(&self) {
        let mut guard = self.0.lock();
        guard.drain_all(&self.0);
        guard.hand_over_stuck(RESOLVER);
        self.0.after(&guard);
    }

    /// Every lane takes no more calls; what is queued runs.
    pub fn close_lanes(&self) {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        for number in state.fleets.keys().copied().collect::<Vec<_>>() {
            let Some((fleet, mut desk)) = state.desk(&self.0, number) else { continue };
            for lane in fleet.lanes.clone() {
                fleet.pool.close_lane(desk.now, lane, Close::Drain);
                fleet.run_actions(&mut desk);
            }
        }
        self.0.after(state);
    }

    /// Waits until no call is queued or running, at most `limit`; false when it passed.
    #[must_use]
    pub fn wait_drained(&self, limit: Duration) -> bool {
        let state = self.0.lock();
        self.0.wait_until(state, limit, |state| {
            state.stop
                || state.fleets.values().all(|fleet| {
                    fleet.lanes.iter().all(|lane| fleet.pool.lane_is_drained(*lane))
                })
        })
    }

    /// Ends everything: workers are asked to exit, and killed when they take too long.
    pub fn stop(&self) {
        if self.is_forked() {
            return;
        }
        let mut state = self.0.lock();
        for fleet in state.fleets.values_mut() {
            for channel in fleet.channels_mut() {
                // A worker that cannot be asked is killed below.
                let _ = channel.retire();
            }
        }
        self.0.wait_until(state, STOP_BOUND, |state| {
            !state.started || state.fleets.values().all(Fleet::is_empty)
        });
        let mut state = self.0.lock();
        state.stop = true;
        for fleet in state.fleets.values_mut() {
            // What cannot be killed has ended; the lifeline ends the rest.
            let _ = fleet.kill_all();
        }
        let _ = self.0.wake.signal();
        self.0.wait_until(state, STOP_BOUND, |state| !state.started || state.supervisor_ended);
        if let Some(tee) = self.0.tee.get() {
            let _ = tee.stop();
        }
    }

    /// How long a zygote may take for a reply before it is replaced; 10 s unless set.
    pub fn set_reply_bound(&self, bound: Duration) {
        self.0.lock().reply_bound = bound;
    }

    /// Bytes of arguments that are in shared memory now.
    #[must_use]
    pub fn arena_bytes_in_use(&self) -> u64 {
        self.0.arena.bytes_in_use()
    }

    /// Workers alive in all fleets, by process id.
    #[must_use]
    pub fn worker_pids(&self) -> Vec<i32> {
        let state = self.0.lock();
        let channels = state.fleets.values().flat_map(Fleet::channels);
        channels.filter(|channel| channel.ready).map(|channel| channel.pid).collect()
    }

    /// Process ids of the zygotes.
    #[must_use]
    pub fn zygote_pids(&self) -> Vec<i32> {
        let state = self.0.lock();
        let zygotes = state.fleets.values().filter_map(|fleet| fleet.zygote.as_ref());
        zygotes.map(|zygote| zygote.pid).collect()
    }
}

/// One queue of calls, and its share of a fleet's workers.
pub struct Lane {
    shared: Arc<Shared>,
    fleet: u32,
    lane: LaneId,
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
            function: call.function,
            payload: call.payload,
            outcome: None,
        };
        let options = TaskOptions {
            deadline: options.timeout.map(|timeout| desk.now.saturating_add(timeout)),
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
            fleet.channels().any(|channel| channel.started() == Some(task))
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
        self.with_fleet(|lane, fleet, _| !fleet.pool.lane_is_full(lane)).unwrap_or(true)
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

    /// Waits until no call is queued or running, at most `limit`; false when it passed.
    #[must_use]
    pub fn wait_drained(&self, limit: Duration) -> bool {
        self.wait(limit, |lane, fleet| fleet.pool.lane_is_drained(lane))
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

    fn with_fleet<T>(
        &self,
        act: impl FnOnce(LaneId, &mut Fleet, &mut Desk<'_>) -> T,
    ) -> Option<T> {
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

fn refuse(error: offloop_core::SubmitError<Task>, broken: Option<&str>) -> SubmitError {
    use offloop_core::SubmitError as Refusal;
    let reason = error.to_string();
    if error.is_temporary() {
        let Task { owner, token, any_thread, function, payload, .. } = error.into_payload();
        let call = Box::new(Call { owner, token, any_thread, function, payload });
        return SubmitError::Full { reason, call };
    }
    match error {
        Refusal::TooLarge { .. } => SubmitError::TooLarge { reason },
        Refusal::Broken { .. } => {
            SubmitError::Broken { reason: broken.unwrap_or(&reason).to_owned() }
        }
        _ => SubmitError::Closed,
    }
}

/// One who fetches outcomes: an event loop, or the resolver.
pub struct Owner {
    shared: Arc<Shared>,
    index: u8,
    event: Arc<Event>,
}

impl Owner {
    /// Its number, for [`Call::owner`].
    #[must_use]
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Readable while outcomes may wait.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// Appends at most `limit` outcomes to `out`. When more wait, the event stays readable.
    pub fn drain(&self, limit: usize, out: &mut Vec<Finished>) {
        self.event.clear();
        self.poll(limit, out);
    }

    /// As [`drain`](Self::drain), without touching the event: for a caller that looks before the
    /// event could have told it.
    pub fn poll(&self, limit: usize, out: &mut Vec<Finished>) {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        if let Some(slot) = state.owners.slots.get_mut(usize::from(self.index)) {
            // While we are here, nobody needs to tell us.
            slot.told = true;
        }
        let mut more = state.drain(&self.shared, Some(self.index));
        if let Some(slot) = state.owners.slots.get_mut(usize::from(self.index)) {
            let count = slot.mailbox.len().min(limit);
            out.extend(slot.mailbox.drain(..count));
            more |= !slot.mailbox.is_empty();
            slot.told = more;
        }
        if more {
            // The event is ours and open: signalling it cannot fail.
            let _ = self.event.signal();
        }
        self.shared.after(state);
    }

    /// Whether a completion for this owner has been announced.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        let state = self.shared.lock();
        let mailbox = state.owners.slots.get(usize::from(self.index));
        mailbox.is_some_and(|slot| !slot.mailbox.is_empty())
            || state.fleets.values().flat_map(Fleet::channels).any(|channel| {
                channel.segment().pending(self.index).load(Ordering::Relaxed) != 0
            })
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.index == RESOLVER || self.shared.generation != fork::generation() {
            return;
        }
        let mut state = self.shared.lock();
        state.hand_over_stuck(RESOLVER);
        let slot = &mut state.owners.slots[usize::from(self.index)];
        slot.open = false;
        slot.mailbox.clear();
    }
}

