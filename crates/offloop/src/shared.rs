//! What the threads of the runtime share: fleets and mailboxes under one lock, and what wakes them.
//!
//! How an outcome travels: a completion lies in its worker's ring until a thread that holds the
//! lock takes it and posts it to the mailbox of the call's owner. An owner empties its own mailbox
//! only. Calls that any thread may resolve are moved from the mailbox of an owner that does not
//! come within a millisecond to the mailbox of the resolver, which is owner 0.
//!
//! Invariants: 1. The lock is never held while the user's code runs or a system call waits.
//!             2. Every accepted call is posted exactly once, to its owner or to the resolver.

use std::collections::{BTreeMap, HashMap};
use std::io;
#[cfg(feature = "test-doors")]
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use offloop_core::{
    Instant, LaneConfig, LaneId, LaneStatistics, PoolConfig, RestartIntensity, limits,
};
use offloop_sys::event::{Event, Timer};
use offloop_sys::{clock, fork, handshake, memory};

use crate::arena::Arena;
use crate::call::Numbers;
use crate::fault::Fault;
use crate::fleet::{Desk, Fleet, REPLY_BOUND};
use crate::journal::{self, Journal};
use crate::launch::FleetConfig;
use crate::mailboxes::{Mailbox, Mailboxes};
use crate::recorder::{Recorder, What};
use crate::releases::Releases;
use crate::stderr::Tee;
use crate::tracker::TrackerLine;

/// Fleets without a lane whose workers are kept warm; a program rarely starts its workers in more
/// ways than this.
pub(crate) const WARM_FLEETS_MAX: usize = 4;

/// How long a sleeping worker may keep the memory of a result that is not read any more. Waking it
/// for each result would cost more than the memory is worth.
const RELEASE_BOUND: Duration = Duration::from_secs(1);

/// Now, on the clock that the pools use.
pub(crate) fn now() -> Instant {
    Instant::from_nanos(clock::monotonic_ns())
}

/// Where a lane is: its fleet, and its number there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) fleet: u32,
    pub(crate) lane: LaneId,
}

/// All that is decided under one lock.
pub(crate) struct State {
    /// By number; a number is given again only after four billion fleets.
    pub(crate) fleets: BTreeMap<u32, Fleet>,
    last_fleet: u32,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) journal: Journal,
    /// Lanes that were opened, and what was done in fleets that have ended.
    pub(crate) lanes_opened: u64,
    pub(crate) forgotten: LaneStatistics,
    /// When the supervisor wakes by itself.
    pub(crate) planned: Option<Instant>,
    pub(crate) reply_bound: Duration,
    /// When workers that sleep beside releases are woken to take them.
    releases_due: Option<Instant>,
    pub(crate) stop: bool,
    pub(crate) supervisor_ended: bool,
    /// There is a supervisor.
    pub(crate) started: bool,
    waiters: u32,
    /// Why the supervisor has failed; nothing drives the fleets then.
    pub(crate) failed: Option<Arc<Fault>>,
    /// The supervisor panics at its next event.
    #[cfg(feature = "test-doors")]
    pub(crate) panics: bool,
    /// A line that the supervisor is to watch.
    pub(crate) tracker_line: Option<TrackerLine>,
}

/// What all threads share.
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) changed: Condvar,
    pub(crate) wake: Arc<Event>,
    pub(crate) nudge: Arc<Timer>,
    pub(crate) relief: Arc<Timer>,
    /// A thread of the crew may have a turn, or is to end.
    pub(crate) turn_free: Condvar,
    pub(crate) arena: Arc<Arena>,
    releases: Arc<Releases>,
    pub(crate) tee: OnceLock<Arc<Tee>>,
    pub(crate) recorder: Arc<Recorder>,
    cores: u32,
    pub(crate) generation: u32,
    pub(crate) numbers: Arc<Numbers>,
    /// The supervisor cannot watch the next worker.
    #[cfg(feature = "test-doors")]
    pub(crate) refuses_watch: AtomicBool,
}

impl Shared {
    /// Without threads or processes yet.
    pub(crate) fn new(arena_bytes_max: Option<u64>) -> io::Result<Self> {
        let nudge = Arc::new(Timer::new()?);
        let resolver = Mailbox::new(Arc::new(Event::new()?), None);
        let relief = Arc::new(Timer::new()?);
        let mailboxes = Mailboxes::new(resolver, Arc::clone(&nudge), Arc::clone(&relief));
        let wake = Arc::new(Event::new()?);
        let releases = Arc::new(Releases::new(&wake));
        let arena_bytes_max = arena_bytes_max.unwrap_or_else(|| memory::physical_bytes() / 2);
        let arena = Arena::with_wake(arena_bytes_max, Arc::clone(&wake));
        let recorder = Arc::new(Recorder::default());
        let echo = Arc::clone(&recorder);
        let journal = Journal::with_echo(Box::new(move |at, event| {
            if echo.is_on() {
                echo.record(at, What::Event(event.clone()));
            }
        }));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            state: Mutex::new(State {
                fleets: BTreeMap::new(),
                last_fleet: 0,
                mailboxes,
                journal,
                lanes_opened: 0,
                forgotten: LaneStatistics::default(),
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
            turn_free: Condvar::new(),
            arena,
            releases,
            tee: OnceLock::new(),
            recorder,
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            generation: fork::generation(),
            numbers: Arc::default(),
            #[cfg(feature = "test-doors")]
            refuses_watch: AtomicBool::new(false),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a bug. Its message has been printed, and the pools' own checks
        // keep every task apart, so the other tasks go on.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tee(&self) -> io::Result<&Arc<Tee>> {
        if self.tee.get().is_none() {
            // Only the supervisor gets here, so no second thread is started.
            let _ = self.tee.set(Tee::start(&self.wake)?);
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

    /// Waits until `done`, at most `limit`; false when it passed. What the workers of these fleets
    /// complete meanwhile is fetched by the supervisor, though its owner may not come.
    pub(crate) fn wait_for(
        &self,
        fleets: &[u32],
        limit: Duration,
        done: impl Fn(&State) -> bool,
    ) -> bool {
        let tell = |state: &mut State, begins| {
            for number in fleets {
                // The number of a fleet that is gone is never used again.
                if let Some(fleet) = state.fleets.get_mut(number) {
                    fleet.wait_for(begins);
                }
            }
        };
        let mut state = self.lock();
        tell(&mut state, true);
        self.after(&state);
        let reached = self.wait_until(state, limit, done);
        tell(&mut self.lock(), false);
        reached
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
        // First, so that later calls are refused even if the rest fails.
        state.failed = Some(Arc::clone(&fault));
        let event = journal::Event::Failure {
            fault: Arc::clone(&fault),
        };
        state.journal.write(now(), event);
        for number in state.fleets.keys().copied().collect::<Vec<_>>() {
            if let Some((fleet, mut desk)) = state.desk(self, number) {
                fleet.give_up(&mut desk, &fault);
            }
        }
        // The supervisor will not look for loops that are stuck any more.
        state.mailboxes.hand_over_all();
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
            mailboxes: &mut self.mailboxes,
            journal: &mut self.journal,
            recorder: &shared.recorder,
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
            fleet.health.fault().is_none()
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

    /// A number that no fleet has; 0 stands for no fleet.
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

    /// Lets go of fleets that no lane uses: the most recent ones stay warm for a while, the rest
    /// ends now. Returns those whose last process has ended.
    pub(crate) fn take_idle_fleets(&mut self, shared: &Shared) -> Vec<Fleet> {
        self.fleets.values_mut().for_each(Fleet::forget_drained);
        for number in self.fleets.keys().copied().collect::<Vec<_>>() {
            if let Some((fleet, mut desk)) = self.desk(shared, number) {
                fleet.end_outdated(&mut desk);
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
                let fleet = self.fleets.remove(&number);
                let calls = fleet.iter().map(Fleet::calls);
                self.forgotten = calls.fold(self.forgotten, |sum, calls| sum.with(&calls));
                ended.extend(fleet);
            }
        }
        ended
    }

    /// The timer for unfetched outcomes fired: from now on it may be armed again.
    pub(crate) fn nudged(&mut self) {
        self.mailboxes.nudged();
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
                let left = fleet.drain(&mut desk, worker);
                more |= left;
                if let (true, Some(owner), Some(channel)) = (left, owner, fleet.channel(worker)) {
                    // The owner took the announcement, and comes again: it must find this worker.
                    handshake::raise_pending(channel.segment().pending(owner));
                }
            }
        }
        more
    }

    /// Lets the workers forget definitions that are no longer held; they are told with their next
    /// call.
    fn tell_forgotten(&mut self, shared: &Shared) {
        let forgotten = shared.numbers.take_forgotten();
        if !forgotten.is_empty() {
            for channel in self.fleets.values_mut().flat_map(Fleet::channels_mut) {
                channel.forget(&forgotten);
            }
        }
    }

    pub(crate) fn tell_releases(&mut self, shared: &Shared) {
        let released = shared.releases.take();
        if !released.is_empty() && self.releases_due.is_none() {
            self.releases_due = now().checked_add(RELEASE_BOUND);
        }
        for (fleet, worker, lent) in released {
            let fleet = self.fleets.get_mut(&fleet);
            if let Some(channel) = fleet.and_then(|fleet| fleet.channel_mut(worker)) {
                channel.release(lent);
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

    /// Tells the workers that chunks of the arena were closed.
    pub(crate) fn tell_closed(&mut self, numbers: &[u32]) {
        for channel in self.fleets.values_mut().flat_map(Fleet::channels_mut) {
            channel.close_chunks(numbers);
        }
    }
}
