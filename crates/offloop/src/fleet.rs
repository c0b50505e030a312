//! One fleet: interchangeable workers, the zygote that forks them, and the pool that decides.
//!
//! Everything here happens under the runtime's lock and waits for nothing. What may take long
//! (starting a zygote, making a worker's memory) is prepared by the supervisor outside of it.
//!
//! Invariants: 1. After every event the pool's actions have been carried out.
//!             2. The outcome of a worker that ended is decided once, when its status is known or
//!                overdue.

mod acts;
mod births;
mod burial;
mod draining;
mod health;
mod looking;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use offloop_core::{Instant, LaneId, LaneStatistics, Pool, PoolConfig, WorkerId};
use offloop_sys::fork::ForkGuarded;
use offloop_sys::handshake;

use crate::arena::Arena;
use crate::call::Definition;
use crate::channel::Channel;
use crate::fault::{Crash, Fault};
use crate::fleet::burial::Dying;
use crate::fleet::health::Health;
use crate::journal::Journal;
use crate::launch::Launch;
use crate::mailboxes::Mailboxes;
use crate::notice::{News, Notice};
use crate::outcome::Returned;
use crate::recorder::Recorder;
use crate::releases::Releases;
use crate::task::Task;
use crate::zygote::Zygote;

/// How long a zygote may take for a reply. A fork takes a millisecond and an import a second. A
/// zygote that is stopped or stuck is replaced after this, and the kernel asked for the statuses of
/// its workers.
pub(crate) const REPLY_BOUND: Duration = Duration::from_secs(10);
/// How long the status of an ended worker may take before its outcome goes out without it.
pub(crate) const EXIT_BOUND: Duration = Duration::from_secs(1);

/// What the fleet needs of the rest of the runtime.
pub(crate) struct Desk<'runtime> {
    pub(crate) now: Instant,
    pub(crate) mailboxes: &'runtime mut Mailboxes,
    pub(crate) journal: &'runtime mut Journal,
    pub(crate) recorder: &'runtime Recorder,
    pub(crate) arena: &'runtime Arc<Arena>,
    pub(crate) releases: &'runtime Arc<Releases>,
    pub(crate) cores: u32,
}

pub(crate) struct Fleet {
    pub(crate) number: u32,
    pub(crate) launch: Launch,
    pub(crate) start_timeout: Duration,
    pub(crate) pool: Pool<Task, Returned, Arc<Crash>>,
    pub(crate) zygote: Option<Zygote>,
    pub(crate) zygote_lifeline: Option<Arc<ForkGuarded>>,
    /// Workers that the pool asked for; the supervisor makes them.
    pub(crate) wanted: VecDeque<WorkerId>,
    /// Descriptors for the supervisor to watch, or to watch no more.
    pub(crate) watch: Vec<Watch>,
    pub(crate) health: Health,
    /// What the program has changed of its surroundings since `launch` described it.
    surroundings: Option<Arc<Definition>>,
    /// The program is not any more what it was when these workers began: none is kept warm.
    pub(crate) outdated: bool,
    channels: Vec<Option<Channel>>,
    dying: Vec<Dying>,
    /// Whether the workers see that tasks wait here.
    backlog_shown: bool,
    /// Threads that wait for what becomes of its calls.
    waited_for: u32,
    /// Completions may lie in the rings that no worker will announce; the next full drain takes
    /// them.
    pub(crate) unannounced: bool,
    pub(crate) lanes: Vec<LaneId>,
    /// Lanes that get no calls any more, and that may still have some.
    pub(crate) abandoned: Vec<LaneId>,
    /// Submitters that wait for room in a full queue: lane, owner, token.
    pub(crate) room_waiters: VecDeque<(LaneId, u8, u64)>,
    /// What was done in lanes that are forgotten.
    pub(crate) forgotten: LaneStatistics,
    /// Process ids of crashed workers, less one for each start since.
    unreplaced: VecDeque<i32>,
    /// Calls that full queues gave up, and when the journal is told of them again.
    dropped: u64,
    drops_told_at: Option<Instant>,
}

/// A change of what the supervisor watches for a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Watch {
    /// The worker's process and socket.
    Start(WorkerId),
    /// A socket that ended before its process did.
    Quiet(WorkerId),
}

impl Fleet {
    pub(crate) fn new(number: u32, launch: Launch, config: PoolConfig) -> Self {
        Self {
            number,
            launch,
            start_timeout: config.start_timeout,
            pool: Pool::new(config),
            zygote: None,
            zygote_lifeline: None,
            wanted: VecDeque::new(),
            watch: Vec::new(),
            health: Health::Sound,
            surroundings: None,
            outdated: false,
            channels: Vec::new(),
            dying: Vec::new(),
            backlog_shown: false,
            waited_for: 0,
            unannounced: false,
            lanes: Vec::new(),
            abandoned: Vec::new(),
            room_waiters: VecDeque::new(),
            forgotten: LaneStatistics::default(),
            unreplaced: VecDeque::new(),
            dropped: 0,
            drops_told_at: None,
        }
    }

    pub(crate) fn channel(&self, worker: WorkerId) -> Option<&Channel> {
        let channel = self.channels.get(worker.index() as usize)?.as_ref()?;
        (channel.worker == worker).then_some(channel)
    }

    pub(crate) fn channel_mut(&mut self, worker: WorkerId) -> Option<&mut Channel> {
        let channel = self.channels.get_mut(worker.index() as usize)?.as_mut()?;
        (channel.worker == worker).then_some(channel)
    }

    pub(crate) fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.channels.iter().flatten()
    }

    pub(crate) fn channels_mut(&mut self) -> impl Iterator<Item = &mut Channel> {
        self.channels.iter_mut().flatten()
    }

    /// Remembers the newest of the program's surroundings.
    pub(crate) fn notice(&mut self, newest: &Arc<Definition>) {
        let known = self.surroundings.as_ref();
        if known.is_none_or(|known| newest.is_newer_than(known.id())) {
            self.surroundings = Some(Arc::clone(newest));
        }
    }

    /// Writes the changes of surroundings that the zygote does not know into a new worker's ring.
    /// The worker makes them before it runs its initializer.
    pub(crate) fn brief(&self, channel: &mut Channel, arena: &Arena) {
        channel.begin_with(self.launch.surroundings);
        if let Some(newest) = &self.surroundings {
            // A worker that cannot be told now is told with its first call.
            let _ = channel.tell_surroundings(newest, arena);
        }
    }

    pub(crate) fn install(&mut self, channel: Channel) {
        if self.backlog_shown {
            handshake::raise_backlog(std::iter::once(channel.segment().backlog()));
        }
        let index = channel.worker.index() as usize;
        if self.channels.len() <= index {
            self.channels.resize_with(index + 1, || None);
        }
        self.channels[index] = Some(channel);
    }

    /// Earliest time at which something is to be done without an event.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let overdue = self.zygote.as_ref().and_then(Zygote::overdue_at);
        let dying = self.dying.iter().map(Dying::poll_timeout);
        self.pool
            .poll_timeout()
            .into_iter()
            .chain(overdue)
            .chain(dying)
            .min()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, desk: &mut Desk<'_>) {
        if self.pool.poll_timeout().is_some_and(|at| at <= desk.now) {
            self.pool.handle_timeout(desk.now);
            self.run_actions(desk);
        }
        let overdue = self.zygote.as_ref().and_then(Zygote::overdue_at);
        if overdue.is_some_and(|at| at <= desk.now) {
            self.lose_zygote(desk);
        }
        self.look_for_orphans(desk);
    }

    /// Forgets the abandoned lanes whose last call is over.
    pub(crate) fn forget_drained(&mut self) {
        let abandoned = std::mem::take(&mut self.abandoned);
        let (drained, left): (Vec<_>, Vec<_>) = abandoned
            .into_iter()
            .partition(|lane| self.pool.lane_is_drained(*lane));
        self.abandoned = left;
        for lane in drained {
            self.forget_lane(lane);
        }
    }

    /// Whether nothing of a closed lane goes on: no call, nor the start of a worker not needed.
    pub(crate) fn lane_is_over(&self, lane: LaneId) -> bool {
        self.pool.lane_is_drained(lane) && !self.pool.is_ending_starts()
    }

    /// Whether calls are refused for good.
    pub(crate) fn has_given_up(&self) -> bool {
        self.health.has_given_up() || self.pool.is_broken()
    }

    /// Whether a worker is idle that no call will be given.
    pub(crate) fn has_outdated(&self) -> bool {
        self.outdated && self.pool.fleet_statistics().idle > 0
    }

    /// Ends the idle workers of a fleet that is outdated, and its zygote after the last of them.
    pub(crate) fn end_outdated(&mut self, desk: &mut Desk<'_>) {
        if !self.outdated {
            return;
        }
        self.pool.retire_idle(desk.now);
        self.run_actions(desk);
        if self.is_empty() && self.wanted.is_empty() && self.zygote.is_some() {
            let _ = self.kill_all();
        }
    }

    /// Asks every worker to exit after what it runs; their pool does not miss them. One that cannot
    /// be asked is left to the caller: it kills what is still there after a while.
    pub(crate) fn retire_all(&mut self) {
        for channel in self.channels.iter_mut().flatten() {
            if channel.retire().is_ok() {
                self.pool.expect_exit(channel.worker);
            }
        }
    }

    /// Whether no worker is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.channels().next().is_none()
    }

    /// No worker of this fleet will ever run: every call of every lane ends.
    pub(crate) fn break_lanes(&mut self, desk: &mut Desk<'_>, fault: Fault) {
        self.health.give_up(Arc::new(fault));
        for lane in self.lanes.clone() {
            self.pool.break_lane(desk.now, lane);
        }
        self.run_actions(desk);
    }

    /// Nothing drives the fleet any more: its processes are ended, and its calls end at once.
    pub(crate) fn give_up(&mut self, desk: &mut Desk<'_>, fault: &Arc<Fault>) {
        self.health.give_up(Arc::clone(fault));
        self.wanted.clear();
        self.watch.clear();
        self.dying.clear();
        // What cannot be killed ends with the lifeline.
        let _ = self.kill_all();
        for (task, decision) in self.pool.abandon() {
            self.finish(desk, decision, task);
        }
        for (_, owner, token) in std::mem::take(&mut self.room_waiters) {
            let any_thread = false;
            let news = News::Room;
            let notice = Notice {
                token,
                any_thread,
                news,
            };
            desk.mailboxes.deliver(owner, notice);
        }
    }

    /// Ends every process at once; nothing of the fleet is used afterwards.
    pub(crate) fn kill_all(&mut self) -> Vec<io::Error> {
        let workers = self
            .channels()
            .filter_map(|channel| channel.kill().err())
            .collect();
        self.channels.clear();
        self.zygote_lifeline = None;
        if let Some(zygote) = self.zygote.take() {
            // Reaping can fail only where the program reaps all children itself.
            let _ = zygote.end();
        }
        workers
    }
}
