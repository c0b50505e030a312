//! The runtime as its users see it: lanes to submit to, owners that fetch what became of it.
//!
//! Who may fetch what: a completion lies in its worker's ring until somebody who holds the lock
//! takes it; whoever that is posts it to the mailbox of the call's owner. An owner empties its
//! own mailbox only. Calls that any thread may resolve are moved from the mailbox of an owner that
//! does not come within a millisecond to the resolver's, who is owner 0.
//!
//! Invariants: 1. The lock is never held while the user's code runs or a system call waits.
//!             2. Every accepted call is posted exactly once, to its owner or to the resolver.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use offloop_core::{Close, Instant, LaneConfig, PoolConfig, RestartIntensity, limits};
use offloop_sys::event::{Event, Timer};
use offloop_sys::process::Program;
use offloop_sys::segment::OWNERS_MAX;
use offloop_sys::{clock, fork, handshake, memory};

use crate::arena::{Arena, ArenaError, Block};
use crate::call::{Definition, LaneError, Numbers, OwnerError, Payload};
use crate::crew::Crew;
use crate::fault::Fault;
use crate::fleet::{Desk, Fleet, REPLY_BOUND};
use crate::frame::NEEDS_MAX;
use crate::lane::{Lane, Place};
use crate::launch::FleetConfig;
use crate::owners::{Owner, OwnerState, Owners};
use crate::releases::Releases;
use crate::stderr::Tee;
use crate::supervisor::{STOP_BOUND, Supervisor};
use crate::tracker::TrackerLine;

/// The owner that resolves calls of plain threads, and those of loops that are stuck.
pub const RESOLVER: u8 = 0;

/// Fleets without a lane whose workers are kept warm; a program rarely starts its workers in more
/// ways than this.
pub(crate) const WARM_FLEETS_MAX: usize = 4;

/// How long a sleeping worker may keep a result's memory that nobody reads any more. Waking it for
/// each one would cost more than the memory is worth.
const RELEASE_BOUND: Duration = Duration::from_secs(1);

/// Now, on the clock that the pools use.
pub(crate) fn now() -> Instant {
    Instant::from_nanos(clock::monotonic_ns())
}

pub(crate) struct State {
    /// By number; one is given again only after four billion others.
    pub(crate) fleets: BTreeMap<u32, Fleet>,
    last_fleet: u32,
    pub(crate) owners: Owners,
    /// When the supervisor wakes by itself.
    pub(crate) planned: Option<Instant>,
    pub(crate) reply_bound: Duration,
    /// When workers that sleep beside releases are woken to take them.
    releases_due: Option<Instant>,
    pub(crate) stop: bool,
    pub(crate) supervisor_ended: bool,
    started: bool,
    waiters: u32,
    /// Why the supervisor is gone; nothing drives the fleets then.
    pub(crate) failed: Option<Arc<Fault>>,
    /// The supervisor panics at its next event.
    #[cfg(feature = "test-doors")]
    pub(crate) panics: bool,
    /// A line that the supervisor is to watch.
    pub(crate) tracker_line: Option<TrackerLine>,
}

pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) changed: Condvar,
    pub(crate) wake: Arc<Event>,
    pub(crate) nudge: Arc<Timer>,
    pub(crate) relief: Arc<Timer>,
    pub(crate) crew: Crew,
    /// A thread of the crew may have a turn, or is to end.
    pub(crate) turn_free: Condvar,
    pub(crate) arena: Arc<Arena>,
    releases: Arc<Releases>,
    pub(crate) tee: OnceLock<Arc<Tee>>,
    cores: u32,
    pub(crate) generation: u32,
    numbers: Arc<Numbers>,
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
            !fleet.wanted.is_empty()
                || !fleet.watch.is_empty()
                || fleet.is_overlooked()
                || fleet.has_outdated()
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
    pub(crate) fn wait_until(
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

    /// The supervisor cannot go on: every call ends with the reason, now and later.
    ///
    /// It may have panicked in the middle of a decision, so what the fleets hold is not believed.
    pub(crate) fn fail(&self, fault: Fault) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let fault = Arc::new(fault);
        // First, so that later calls are refused whatever becomes of the rest.
        state.failed = Some(Arc::clone(&fault));
        for number in state.fleets.keys().copied().collect::<Vec<_>>() {
            if let Some((fleet, mut desk)) = state.desk(self, number) {
                fleet.give_up(&mut desk, &fault);
            }
        }
        // Nobody will look for loops that are stuck.
        state.owners.hand_over_all();
        self.changed.notify_all();
    }
}

impl State {
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let fleets = self.fleets.values().filter_map(Fleet::poll_timeout);
        fleets.chain(self.releases_due).min()
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

    /// Opens a lane in the fleet whose workers start like that, or in a new one.
    pub(crate) fn open_lane(&mut self, fleet: FleetConfig, config: LaneConfig) -> Place {
        let FleetConfig {
            launch,
            start_timeout,
            initializes,
        } = fleet;
        let usable = |fleet: &&Fleet| {
            fleet.broken.is_none()
                && !fleet.outdated
                && fleet.launch.is_same(&launch)
                && fleet.start_timeout == start_timeout
        };
        let number = match self.fleets.values().find(usable) {
            Some(fleet) => fleet.number,
            None => self.next_fleet(),
        };
        let fleet = self.fleets.entry(number).or_insert_with(|| {
            let config = PoolConfig {
                tasks_per_worker_max: launch.tasks_per_worker_max,
                idle_timeout: limits::IDLE_TIMEOUT,
                start_timeout,
                initializes,
                restart: RestartIntensity::default(),
                seed: clock::monotonic_ns(),
            };
            Fleet::new(number, launch, config)
        });
        let lane = fleet.pool.open_lane(config);
        fleet.lanes.push(lane);
        Place {
            fleet: number,
            lane,
        }
    }

    /// A number that no fleet has; 0 is nobody's.
    fn next_fleet(&mut self) -> u32 {
        loop {
            self.last_fleet = self.last_fleet.wrapping_add(1);
            if self.last_fleet != 0 && !self.fleets.contains_key(&self.last_fleet) {
                return self.last_fleet;
            }
        }
    }

    #[cfg(feature = "test-doors")]
    pub(crate) fn skip_fleets(&mut self, count: u32) {
        self.last_fleet = self.last_fleet.wrapping_add(count);
    }

    /// Lets go of fleets that no lane uses: the most recent ones stay warm for a while, the others
    /// end now. Returns those whose last process has gone.
    pub(crate) fn take_idle_fleets(&mut self, shared: &Shared) -> Vec<Fleet> {
        self.fleets.values_mut().for_each(Fleet::forget_drained);
        for number in self.fleets.keys().copied().collect::<Vec<_>>() {
            if let Some((fleet, mut desk)) = self.desk(shared, number) {
                fleet.leave_nobody_outdated(&mut desk);
            }
        }
        let unused: Vec<u32> = self
            .fleets
            .values()
            .filter(|fleet| fleet.lanes.is_empty())
            .map(|f| f.number)
            .collect();
        let surplus = unused.len().saturating_sub(WARM_FLEETS_MAX);
        let mut ended = Vec::new();
        for (index, number) in unused.into_iter().enumerate() {
            let Some((fleet, mut desk)) = self.desk(shared, number) else {
                continue;
            };
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

    /// The timer for unfetched outcomes fired: from now on it may be armed again.
    pub(crate) fn nudged(&mut self) {
        self.owners.nudged();
        for channel in self.fleets.values().flat_map(Fleet::channels) {
            handshake::end_nudge(channel.segment().nudge_armed());
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
    pub(crate) fn drain(&mut self, shared: &Shared, owner: Option<u8>) -> bool {
        self.tell_releases(shared);
        self.tell_forgotten(shared);
        let mut found = HashMap::new();
        for fleet in self.fleets.values() {
            fleet.with_completions(owner, &mut found);
        }
        let mut more = false;
        for (number, workers) in found {
            let Some((fleet, mut desk)) = self.desk(shared, number) else {
                continue;
            };
            for worker in workers {
                more |= fleet.drain(&mut desk, worker);
            }
        }
        more
    }

    /// Lets the workers forget what nobody holds any more; they are told with their next call.
    fn tell_forgotten(&mut self, shared: &Shared) {
        let forgotten = shared.numbers.take_forgotten();
        if !forgotten.is_empty() {
            for channel in self.fleets.values_mut().flat_map(Fleet::channels_mut) {
                channel.forget(&forgotten);
            }
        }
    }

    fn tell_releases(&mut self, shared: &Shared) {
        let mut list = shared
            .releases
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let released = std::mem::take(&mut *list);
        drop(list);
        if !released.is_empty() && self.releases_due.is_none() {
            self.releases_due = now().checked_add(RELEASE_BOUND);
        }
        for (fleet, worker, sequence) in released {
            let fleet = self.fleets.get_mut(&fleet);
            if let Some(channel) = fleet.and_then(|fleet| fleet.channel_mut(worker)) {
                channel.release(sequence);
            }
        }
    }

    /// Wakes the workers that sleep beside releases for too long.
    pub(crate) fn ring_for_releases(&mut self, now: Instant) {
        if self.releases_due.is_some_and(|at| at <= now) {
            self.releases_due = None;
            for channel in self.fleets.values_mut().flat_map(Fleet::channels_mut) {
                channel.ring_for_releases();
            }
        }
    }

    /// Tells the workers that chunks of the arena are gone.
    pub(crate) fn tell_closed(&mut self, numbers: &[u32]) {
        for channel in self.fleets.values_mut().flat_map(Fleet::channels_mut) {
            channel.close_chunks(numbers);
        }
    }
}

/// The runtime of a process; cloning it clones a reference.
#[derive(Clone)]
pub struct Runtime(pub(crate) Arc<Shared>);

impl Runtime {
    /// A runtime without threads or processes yet; `arena_bytes_max` bounds the arguments in
    /// shared memory (half of the machine's memory unless set).
    ///
    /// # Errors
    /// The system's, when no descriptor is left.
    pub fn new(arena_bytes_max: Option<u64>) -> io::Result<Self> {
        let nudge = Arc::new(Timer::new()?);
        let resolver = OwnerState::new(Arc::new(Event::new()?), None);
        let relief = Arc::new(Timer::new()?);
        let owners = Owners::new(resolver, Arc::clone(&nudge), Arc::clone(&relief));
        let wake = Arc::new(Event::new()?);
        let releases = Arc::new(Releases::default());
        let _ = releases.2.set(Arc::clone(&wake));
        let arena_bytes_max = arena_bytes_max.unwrap_or_else(|| memory::physical_bytes() / 2);
        let arena = Arena::with_wake(arena_bytes_max, Arc::clone(&wake));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self(Arc::new(Shared {
            state: Mutex::new(State {
                fleets: BTreeMap::new(),
                last_fleet: 0,
                owners,
                planned: None,
                reply_bound: REPLY_BOUND,
                releases_due: None,
                stop: false,
                supervisor_ended: false,
                started: false,
                waiters: 0,
                failed: None,
                #[cfg(feature = "test-doors")]
                panics: false,
                tracker_line: None,
            }),
            changed: Condvar::new(),
            wake,
            nudge,
            relief,
            crew: Crew::default(),
            turn_free: Condvar::new(),
            arena,
            releases,
            tee: OnceLock::new(),
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            generation: fork::generation(),
            numbers: Arc::default(),
        })))
    }

    /// Whether this process is a fork of the one that made the runtime, which is then unusable.
    #[must_use]
    pub fn is_forked(&self) -> bool {
        self.0.generation != fork::generation()
    }

    /// Something that workers will remember, and what they must know before it. At most
    /// [`NEEDS_MAX`] things, or no ring could hold them.
    #[must_use]
    pub fn define(&self, payload: Payload, needs: Vec<Arc<Definition>>) -> Arc<Definition> {
        assert!(needs.len() <= NEEDS_MAX, "{} needs", needs.len());
        Arc::new(Definition {
            id: self.0.numbers.take(),
            payload,
            needs,
            numbers: Arc::clone(&self.0.numbers),
        })
    }

    /// A block for a payload that is too large for a ring.
    ///
    /// # Errors
    /// `ArenaError`.
    pub fn allocate(&self, len: u64) -> Result<Block, ArenaError> {
        self.0.arena.allocate(len)
    }

    /// Opens a lane of the fleet whose workers start like those of `fleet`: a [`Launch`], or one
    /// with limits.
    ///
    /// # Errors
    /// `LaneError`.
    pub fn open_lane(
        &self,
        fleet: impl Into<FleetConfig>,
        config: LaneConfig,
    ) -> Result<Lane, LaneError> {
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
        let place = state.open_lane(fleet.into(), config);
        Ok(Lane::new(&self.0, place, config))
    }

    /// The program is somebody else from now on: no lane joins a fleet of today's, and their idle
    /// workers end, as do the others after their calls. Lanes move by [`Lane::renew`].
    pub fn leave_fleets(&self) {
        let mut state = self.0.lock();
        for fleet in state.fleets.values_mut() {
            fleet.outdated = true;
        }
        // The event is ours and open: signalling it cannot fail.
        let _ = self.0.wake.signal();
    }

    /// Opens a line to a resource tracker and returns its write end. `program` is started, with the
    /// read end as its descriptor 3, once somebody has written to the line.
    ///
    /// # Errors
    /// The system's, when no descriptor is left.
    pub fn open_tracker_line(&self, program: Program) -> io::Result<OwnedFd> {
        let (line, write) = TrackerLine::open(program)?;
        let mut state = self.0.lock();
        state.tracker_line = Some(line);
        // The event is ours and open: signalling it cannot fail.
        let _ = self.0.wake.signal();
        Ok(write)
    }

    /// A new owner, usually one for each event loop.
    ///
    /// # Errors
    /// `OwnerError`.
    pub fn add_owner(&self) -> Result<Owner, OwnerError> {
        self.add(false)
    }

    /// A new owner that also watches [`Owner::timer`]: while a worker has more to run, it tells
    /// the owner of several completions at once, a quarter of a millisecond after the first.
    ///
    /// # Errors
    /// `OwnerError`.
    pub fn add_patient_owner(&self) -> Result<Owner, OwnerError> {
        self.add(true)
    }

    fn add(&self, patient: bool) -> Result<Owner, OwnerError> {
        let mut state = self.0.lock();
        let slots = &mut state.owners.slots;
        let free = slots
            .iter()
            .position(|slot| !slot.open && slot.unfinished == 0 && slot.timer.is_some() == patient);
        let free = free.unwrap_or(slots.len());
        if free >= OWNERS_MAX {
            return Err(OwnerError::TooMany {
                count: free,
                limit: OWNERS_MAX,
            });
        }
        if free == slots.len() {
            let timer = patient.then(Timer::new).transpose()?.map(Arc::new);
            slots.push(OwnerState::new(Arc::new(Event::new()?), timer));
        }
        let slot = &mut slots[free];
        slot.open = true;
        slot.told = true;
        let event = Arc::clone(&slot.event);
        let timer = slot.timer.clone();
        // The one who had the number before may have left it announced: look once.
        event.signal()?;
        let index = u8::try_from(free).expect("below OWNERS_MAX");
        Ok(Owner {
            shared: Arc::clone(&self.0),
            index,
            event,
            timer,
        })
    }

    /// The owner that stands in for all others.
    #[must_use]
    pub fn resolver(&self) -> Owner {
        let event = self.0.lock().owners.event(RESOLVER);
        Owner {
            shared: Arc::clone(&self.0),
            index: RESOLVER,
            event,
            timer: None,
        }
    }

    /// Gives everything that any thread may resolve to the resolver, now.
    pub fn hand_over(&self) {
        let mut guard = self.0.lock();
        guard.drain_all(&self.0);
        guard.owners.hand_over_all();
        self.0.after(&guard);
    }

    /// Every lane takes no more calls; what is queued runs.
    pub fn close_lanes(&self, how: Close) {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        for number in state.fleets.keys().copied().collect::<Vec<_>>() {
            let Some((fleet, mut desk)) = state.desk(&self.0, number) else {
                continue;
            };
            for lane in fleet.lanes.clone() {
                fleet.pool.close_lane(desk.now, lane, how);
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
                    let mut lanes = fleet.lanes.iter();
                    lanes.all(|lane| fleet.lane_is_over(*lane))
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
        self.0.wait_until(state, STOP_BOUND, |state| {
            !state.started || state.supervisor_ended
        });
        if let Some(tee) = self.0.tee.get() {
            let _ = tee.stop();
        }
    }

    /// How long a zygote may take for a reply before it is replaced; 10 s unless set.
    pub fn set_reply_bound(&self, bound: Duration) {
        self.0.lock().reply_bound = bound;
    }

    /// How long the arena keeps pages that nothing needs; 10 s unless set.
    pub fn set_trim_window(&self, window: Duration) {
        self.0.arena.set_trim_window(window);
    }

    /// Bytes of memory that the arguments' arena takes from the system now, in use or kept.
    ///
    /// # Errors
    /// The system's.
    pub fn arena_bytes_backed(&self) -> io::Result<u64> {
        self.0.arena.bytes_backed()
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
        channels
            .filter(|channel| channel.ready)
            .map(|channel| channel.pid)
            .collect()
    }

    /// Process ids of the zygotes.
    #[must_use]
    pub fn zygote_pids(&self) -> Vec<i32> {
        let state = self.0.lock();
        let zygotes = state
            .fleets
            .values()
            .filter_map(|fleet| fleet.zygote.as_ref());
        zygotes.map(|zygote| zygote.pid).collect()
    }
}
