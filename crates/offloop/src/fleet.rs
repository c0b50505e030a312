//! One fleet: interchangeable workers, the zygote that forks them, and the pool that decides.
//!
//! Everything here happens under the runtime's lock and waits for nothing. What may take long
//! (starting a zygote, making a worker's memory) is prepared by the supervisor outside of it.
//!
//! Invariants: 1. After every event the pool's actions have been carried out.
//!             2. A dead worker's outcome is decided once, when its status is known or overdue.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use offloop_core::{
    Action, Expiry, Instant, LaneId, Outcome as Decision, Pool, PoolConfig, TaskId, WorkerId,
    limits,
};
use offloop_sys::fork::ForkGuarded;
use offloop_sys::process::{self, Exit, ExitStatus};

use crate::arena::Arena;
use crate::call::{Function, Payload};
use crate::channel::{Channel, Completed, PushedCall, Said, returned_blocks};
use crate::launch::Launch;
use crate::outcome::{Crash, Finished, Outcome};
use crate::owners::{Lease, Owners, Releases};
use crate::zygote::{Reply, Zygote};

/// How long a zygote may take for a reply. A fork takes a millisecond and an import a second; one
/// that is stopped or stuck is replaced after this, and its workers' outcomes found elsewhere.
pub(crate) const REPLY_BOUND: Duration = Duration::from_secs(10);
/// How long the status of a dead worker may take before its outcome goes out without it.
pub(crate) const EXIT_BOUND: Duration = Duration::from_secs(1);
/// How long a worker may look for its next call before it sleeps, while a core is spare. Waking an
/// idle core costs 25 us each way on a virtual machine, and what ran before is cold by then.
const SPIN_NS: u32 = 100_000;
/// Completions taken from one channel before the others get their turn.
const COMPLETIONS_PER_PASS: usize = 256;
/// A pass takes all that a worker may have completed when it begins, and what it completes later
/// is announced anew; so an owner that took the announcement misses nothing.
const _: () = assert!(COMPLETIONS_PER_PASS >= limits::PREFETCH_TASKS_MAX as usize);
/// Messages taken from one worker's socket before the others get their turn.
const MESSAGES_PER_PASS: usize = 64;
/// How long to wait before looking again for the status of a worker without its zygote; doubled
/// each time.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A call that the pool decides about.
pub(crate) struct Task {
    pub(crate) owner: u8,
    pub(crate) token: u64,
    pub(crate) any_thread: bool,
    /// It may be started again, and must then see the bytes that it was given.
    pub(crate) copy_blocks: bool,
    pub(crate) function: Option<Arc<Function>>,
    pub(crate) payload: Payload,
    pub(crate) outcome: Option<Outcome>,
}

/// What the fleet needs of the rest of the runtime.
pub(crate) struct Desk<'runtime> {
    pub(crate) now: Instant,
    pub(crate) owners: &'runtime mut Owners,
    pub(crate) arena: &'runtime Arc<Arena>,
    pub(crate) releases: &'runtime Arc<Releases>,
    pub(crate) cores: u32,
}

/// A worker that ended and whose status is not known yet.
struct Dying {
    worker: WorkerId,
    pid: i32,
    pidfd: Option<OwnedFd>,
    overdue_at: Instant,
    /// Its zygote is gone: whoever reaps it now leaves its status with the kernel, where we look
    /// at this time, and again after the pause.
    orphan: Option<(Instant, Duration)>,
}

impl Dying {
    fn poll_timeout(&self) -> Instant {
        self.orphan
            .map_or(self.overdue_at, |(look_at, _)| look_at.min(self.overdue_at))
    }
}

pub(crate) struct Fleet {
    pub(crate) number: u32,
    pub(crate) launch: Launch,
    pub(crate) pool: Pool<Task>,
    pub(crate) zygote: Option<Zygote>,
    pub(crate) zygote_lifeline: Option<Arc<ForkGuarded>>,
    /// Workers that the pool asked for; the supervisor makes them.
    pub(crate) wanted: VecDeque<WorkerId>,
    /// Descriptors for the supervisor to watch, or to watch no more.
    pub(crate) watch: Vec<Watch>,
    pub(crate) broken: Option<String>,
    given_up: bool,
    channels: Vec<Option<Channel>>,
    dying: Vec<Dying>,
    backlog_shown: bool,
    /// Completions may lie there that nobody will announce; the next full drain takes them.
    pub(crate) unannounced: bool,
    last_crash: Option<Crash>,
    pub(crate) lanes: Vec<LaneId>,
    /// Lanes that nobody submits to any more, and that may still have calls.
    pub(crate) abandoned: Vec<LaneId>,
    /// Who waits for room in a full queue: lane, owner, token.
    pub(crate) room_waiters: VecDeque<(LaneId, u8, u64)>,
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
            pool: Pool::new(config),
            zygote: None,
            zygote_lifeline: None,
            wanted: VecDeque::new(),
            watch: Vec::new(),
            broken: None,
            given_up: false,
            channels: Vec::new(),
            dying: Vec::new(),
            backlog_shown: false,
            unannounced: false,
            last_crash: None,
            lanes: Vec::new(),
            abandoned: Vec::new(),
            room_waiters: VecDeque::new(),
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

    pub(crate) fn install(&mut self, channel: Channel) {
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

    /// Carries out what the pool decided.
    pub(crate) fn run_actions(&mut self, desk: &mut Desk<'_>) {
        while let Some(action) = self.pool.poll_action() {
            match action {
                Action::Spawn { worker } => self.wanted.push_back(worker),
                Action::Assign { worker, task } => self.assign(desk, worker, task),
                Action::Revoke { worker, task } => {
                    let revoked = self
                        .channel_mut(worker)
                        .is_some_and(|channel| channel.revoke(task));
                    self.pool.handle_revoked(desk.now, task, revoked);
                }
                Action::ReadStart { worker, task } => {
                    let started = self
                        .channel(worker)
                        .and_then(|channel| channel.started_at_ns(task));
                    if let Some(started) = started {
                        // A worker that names a later time would only lengthen its own call.
                        let started = Instant::from_nanos(started).min(desk.now);
                        self.pool.handle_started(desk.now, task, started);
                    }
                }
                Action::Interrupt { worker, task } => {
                    // A worker that cannot be signalled is gone; its exit gives the outcome.
                    let _ = self.channel(worker).map(|channel| channel.interrupt(task));
                }
                Action::Kill { worker } => self.kill(worker),
                Action::Retire { worker } => {
                    let asked = self
                        .channel_mut(worker)
                        .is_some_and(|channel| channel.retire().is_ok());
                    if !asked {
                        self.kill(worker);
                    }
                }
                Action::Finish {
                    task: _,
                    lane,
                    outcome,
                    payload,
                } => {
                    self.finish(desk, outcome, payload);
                    self.tell_room(desk, lane);
                }
            }
        }
        self.show_backlog();
    }

    fn kill(&mut self, worker: WorkerId) {
        // A worker that cannot be signalled is gone; its exit gives the outcome.
        let _ = self.channel(worker).map(Channel::kill);
    }

    fn assign(&mut self, desk: &mut Desk<'_>, worker: WorkerId, task: TaskId) {
        let fleet = self.pool.fleet_statistics();
        let busy = fleet.alive.saturating_sub(fleet.idle);
        let spin_ns = if busy < desk.cores { SPIN_NS } else { 0 };
        let pushed = {
            let channel = self
                .channels
                .get_mut(worker.index() as usize)
                .and_then(Option::as_mut)
                .filter(|channel| channel.worker == worker);
            let call = self.pool.payload(task);
            match (channel, call) {
                (Some(channel), Some(call)) => {
                    let event = desk.owners.event(call.owner);
                    let timer = desk.owners.timer(call.owner);
                    let pushed = channel.push(&PushedCall {
                        task,
                        owner: call.owner,
                        event: &event,
                        timer: timer.as_deref(),
                        any_thread: call.any_thread,
                        copy_blocks: call.copy_blocks,
                        function: call.function.as_deref(),
                        payload: &call.payload,
                        arena: desk.arena,
                        spin_ns,
                    });
                    pushed.is_ok()
                }
                _ => false,
            }
        };
        if !pushed {
            self.pool.handle_assign_refused(task);
        }
    }

    fn finish(&mut self, desk: &mut Desk<'_>, decision: Decision, task: Task) {
        let outcome = match decision {
            Decision::Completed => task.outcome.unwrap_or(Outcome::Lost {
                may_have_started: true,
                attempts: 1,
                crash: None,
            }),
            Decision::Cancelled => Outcome::Cancelled,
            Decision::Expired { which } => Outcome::Expired {
                deadline: which == Expiry::Deadline,
            },
            Decision::Lost {
                may_have_started,
                attempts,
            } => Outcome::Lost {
                may_have_started,
                attempts,
                crash: self.last_crash.clone(),
            },
            Decision::Dropped => Outcome::Dropped,
            Decision::Broken => Outcome::Broken {
                reason: self
                    .broken
                    .clone()
                    .unwrap_or_else(|| "workers cannot be started".into()),
            },
        };
        let (token, any_thread) = (task.token, task.any_thread);
        desk.owners.post(
            task.owner,
            Finished {
                token,
                any_thread,
                outcome,
            },
        );
    }

    /// Tells those who wait for room in `lane` that there may be some. All of them: whoever comes
    /// too late waits again, and nobody depends on another's being alive.
    pub(crate) fn tell_room(&mut self, desk: &mut Desk<'_>, lane: LaneId) {
        if self.room_waiters.is_empty() || self.pool.lane_is_full(lane) {
            return;
        }
        let owners = &mut *desk.owners;
        self.room_waiters.retain(|(waits_for, owner, token)| {
            if *waits_for == lane {
                let outcome = Outcome::Room;
                owners.deliver(
                    *owner,
                    Finished {
                        token: *token,
                        any_thread: false,
                        outcome,
                    },
                );
            }
            *waits_for != lane
        });
    }

    /// Forgets the abandoned lanes whose last call is over.
    pub(crate) fn forget_drained(&mut self) {
        let Self {
            abandoned,
            lanes,
            pool,
            ..
        } = self;
        abandoned.retain(|lane| {
            let drained = pool.lane_is_drained(*lane);
            if drained {
                pool.forget_lane(*lane);
                lanes.retain(|other| other != lane);
            }
            !drained
        });
    }

    /// Whether calls are refused for good.
    pub(crate) fn has_given_up(&self) -> bool {
        self.given_up || self.pool.is_broken()
    }

    /// Whether no worker is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.channels().next().is_none()
    }

    /// Tells the workers whether tasks wait here, so that one that runs out of work says so.
    fn show_backlog(&mut self) {
        let waits = self.pool.queued() > 0;
        if waits != self.backlog_shown {
            self.backlog_shown = waits;
            for channel in self.channels() {
                channel
                    .segment()
                    .backlog()
                    .store(u32::from(waits), Ordering::Relaxed);
            }
            // A worker pushes its completion, passes a fence (`ring::raise_pending`) and then looks
            // at the backlog before it sleeps. We do it the other way round, so one of us sees what
            // the other stored: it announces itself, or we look for it.
            fence(Ordering::SeqCst);
            self.unannounced |= waits;
        }
    }

    /// Whether completions lie there that nobody may announce.
    pub(crate) fn is_overlooked(&self) -> bool {
        self.unannounced && self.channels().any(Channel::has_completions)
    }

    /// Takes the completions of one worker, at most a pass of them; true when some may be left.
    pub(crate) fn drain(&mut self, desk: &mut Desk<'_>, worker: WorkerId) -> bool {
        for _ in 0..COMPLETIONS_PER_PASS {
            let Some(channel) = self.channel_mut(worker) else {
                return false;
            };
            if channel.violation.is_some() {
                return false;
            }
            match channel.try_completion() {
                Ok(Some(completed)) => self.complete(desk, worker, completed),
                Ok(None) => return false,
                Err(violation) => {
                    channel.violation = Some(violation.to_string());
                    self.kill(worker);
                    return false;
                }
            }
        }
        true
    }

    fn complete(&mut self, desk: &mut Desk<'_>, worker: WorkerId, completed: Completed) {
        let Completed {
            task,
            sequence,
            status,
            run_ns,
            payload,
            blocks,
            ..
        } = completed;
        let blocks = (!blocks.is_empty()).then(|| {
            let bytes = blocks.iter().map(|block| block.len() as u64).sum();
            let lease = Lease::new(desk.releases, self.number, worker, sequence, bytes);
            (returned_blocks(blocks, lease), completed.payload_in_block)
        });
        if let Some(call) = self.pool.payload_mut(task) {
            call.outcome = Some(Outcome::Returned {
                status,
                payload,
                blocks,
                run_ns,
            });
        }
        if completed.holds_blocks {
            let call = self.pool.payload_mut(task);
            let held = call.map(|call| std::mem::take(&mut call.payload.blocks));
            if let Some(channel) = self.channel_mut(worker) {
                channel.hold(sequence, held.unwrap_or_default());
            }
        }
        self.pool
            .handle_completion(desk.now, worker, task, Duration::from_nanos(run_ns));
        self.run_actions(desk);
    }

    /// Reads what a worker said on its socket.
    pub(crate) fn handle_socket(&mut self, desk: &mut Desk<'_>, worker: WorkerId) {
        for _ in 0..MESSAGES_PER_PASS {
            let Some(channel) = self.channel_mut(worker) else {
                return;
            };
            match channel.try_message() {
                Ok(Some(Said::Hello)) if !channel.greeted => {
                    channel.greeted = true;
                    self.greet(desk, worker);
                }
                Ok(Some(Said::Failed(reason))) if !channel.greeted => {
                    self.break_lanes(desk, reason);
                    return;
                }
                Ok(Some(said @ (Said::Hello | Said::Failed(_)))) => {
                    channel.violation = Some(format!("said {said:?} after its hello"));
                    self.watch.push(Watch::Quiet(worker));
                    self.kill(worker);
                    return;
                }
                Ok(Some(Said::Chunk)) => {}
                Ok(None) => return,
                Ok(Some(Said::End)) => {
                    // It closed its end, or it ended: in both cases it is of no more use. What it
                    // has completed counts.
                    channel.closed |= !channel.dead && !process::is_exiting(channel.pid);
                    self.watch.push(Watch::Quiet(worker));
                    self.kill(worker);
                    return;
                }
                Err(error) => {
                    channel.violation = Some(error.to_string());
                    self.watch.push(Watch::Quiet(worker));
                    self.kill(worker);
                    return;
                }
            }
        }
    }

    fn greet(&mut self, desk: &mut Desk<'_>, worker: WorkerId) {
        let Some(channel) = self.channel_mut(worker) else {
            return;
        };
        if channel.greeted && channel.pidfd.is_some() && !channel.ready {
            channel.ready = true;
            self.backlog_shown = false;
            if !self.has_given_up() {
                self.broken = None;
            }
            self.pool.handle_worker_ready(desk.now, worker);
            self.run_actions(desk);
        }
    }

    /// No worker of this fleet will ever run: every call of every lane ends.
    pub(crate) fn break_lanes(&mut self, desk: &mut Desk<'_>, reason: String) {
        self.broken = Some(reason);
        self.given_up = true;
        for lane in self.lanes.clone() {
            self.pool.break_lane(desk.now, lane);
        }
        self.run_actions(desk);
    }

    /// Reads the zygote's replies.
    pub(crate) fn handle_zygote(&mut self, desk: &mut Desk<'_>) {
        loop {
            let Some(zygote) = &mut self.zygote else {
                return;
            };
            match zygote.try_reply() {
                Ok(None) => return,
                Ok(Some(reply)) => self.handle_reply(desk, reply),
                Err(_gone) => {
                    self.lose_zygote(desk);
                    return;
                }
            }
        }
    }

    fn handle_reply(&mut self, desk: &mut Desk<'_>, reply: Reply) {
        match reply {
            Reply::Ready => {}
            Reply::SetupFailed(reason) => self.break_lanes(desk, reason),
            Reply::Forked { worker, pid, pidfd } => {
                let lifeline = self.zygote_lifeline.clone();
                if let Some(channel) = self.channel_mut(worker) {
                    channel.pid = pid;
                    channel.pidfd = Some(pidfd);
                    channel.lifeline = lifeline;
                    self.watch.push(Watch::Start(worker));
                    self.greet(desk, worker);
                }
            }
            Reply::ForkFailed { worker, source } => {
                self.broken = Some(format!("the zygote cannot fork: {source}"));
                self.abandon(desk, worker);
            }
            Reply::Exited { pid, exit } => {
                let index = self.dying.iter().position(|dying| dying.pid == pid);
                if let Some(index) = index {
                    let dying = self.dying.swap_remove(index);
                    self.bury(desk, &dying, exit);
                }
            }
        }
    }

    /// A worker that will never be there.
    pub(crate) fn abandon(&mut self, desk: &mut Desk<'_>, worker: WorkerId) {
        if let Some(slot) = self.channels.get_mut(worker.index() as usize) {
            *slot = None;
        }
        self.pool.handle_spawn_failed(desk.now, worker);
        self.run_actions(desk);
    }

    /// The zygote is gone, or does not answer. Its workers run on: the kernel keeps their status
    /// for us. The next worker that is wanted gets a new zygote.
    pub(crate) fn lose_zygote(&mut self, desk: &mut Desk<'_>) {
        let Some(zygote) = self.zygote.take() else {
            return;
        };
        let exit = zygote.kill();
        if !zygote.is_ready() {
            // Reaping can fail only where the program reaps all children itself.
            let status = exit.map_or_else(|_| "ended".into(), |exit| describe_end(exit.status));
            self.broken = Some(format!("the workers' program {status} in its setup"));
        }
        self.zygote_lifeline = None;
        let unborn: Vec<WorkerId> = self
            .channels()
            .filter(|channel| channel.pidfd.is_none() && !channel.dead)
            .map(|channel| channel.worker)
            .collect();
        for worker in unborn {
            self.abandon(desk, worker);
        }
        for dying in &mut self.dying {
            dying.orphan = Some((desk.now, LOOK_AGAIN));
            dying.overdue_at = desk.now.saturating_add(EXIT_BOUND);
        }
    }

    /// A worker's process has ended: takes its last completions and asks for its status.
    pub(crate) fn handle_exit(&mut self, desk: &mut Desk<'_>, worker: WorkerId) {
        while self.drain(desk, worker) {}
        let zygote_lifeline = self.zygote_lifeline.clone();
        let Some(channel) = self.channel_mut(worker) else {
            return;
        };
        if channel.dead {
            return;
        }
        channel.dead = true;
        let (pid, pidfd) = (channel.pid, channel.pidfd.take());
        let lifelines = channel.lifeline.as_ref().zip(zygote_lifeline.as_ref());
        let is_childs = lifelines.is_some_and(|(one, other)| Arc::ptr_eq(one, other));
        // Why it ended may be the last thing that it said.
        self.handle_socket(desk, worker);
        let overdue_at = desk.now.saturating_add(EXIT_BOUND);
        let asked = self
            .zygote
            .as_mut()
            .filter(|_| is_childs)
            .map(|zygote| zygote.request_exit(pid, overdue_at));
        let orphan = match asked {
            Some(Ok(())) => None,
            _ => Some((desk.now, LOOK_AGAIN)),
        };
        self.dying.push(Dying {
            worker,
            pid,
            pidfd,
            overdue_at,
            orphan,
        });
        self.look_for_orphans(desk);
    }

    /// Buries the dead whose zygote is gone, once their status is known or overdue.
    fn look_for_orphans(&mut self, desk: &mut Desk<'_>) {
        let mut index = 0;
        while let Some(dying) = self.dying.get_mut(index) {
            let due = dying.poll_timeout() <= desk.now;
            let Some((look_at, pause)) = dying.orphan.filter(|_| due) else {
                index += 1;
                continue;
            };
            let status = dying
                .pidfd
                .as_ref()
                .and_then(|fd| process::exit_status(fd.as_fd()));
            if status.is_some() || dying.overdue_at <= desk.now {
                let dying = self.dying.swap_remove(index);
                self.bury(desk, &dying, None);
            } else {
                dying.orphan = Some((look_at.saturating_add(pause), pause * 2));
                index += 1;
            }
        }
    }

    fn bury(&mut self, desk: &mut Desk<'_>, dying: &Dying, exit: Option<Exit>) {
        let Some(channel) = self.channel_mut(dying.worker) else {
            return;
        };
        let status = exit.map(|exit| exit.status).or_else(|| {
            dying
                .pidfd
                .as_ref()
                .and_then(|pidfd| process::exit_status(pidfd.as_fd()))
        });
        let crash = Crash {
            pid: dying.pid,
            status,
            peak_memory_bytes: exit.map(|exit| exit.peak_memory_bytes),
            stderr_tail: channel.stderr.tail(),
            reason: channel.why_ended(),
        };
        let (started, was_ready) = (channel.started(), channel.ready);
        if !was_ready && self.broken.is_none() {
            self.broken = Some(describe_start(&crash));
        } else if was_ready {
            self.broken = None;
        }
        self.last_crash = Some(crash);
        self.channels[dying.worker.index() as usize] = None;
        self.pool
            .handle_worker_exit(desk.now, dying.worker, started);
        self.run_actions(desk);
        self.last_crash = None;
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
            let _ = zygote.kill();
        }
        workers
    }

    /// Channels with a completion for `owner`, or with any completion when `owner` is `None`.
    pub(crate) fn with_completions(
        &self,
        owner: Option<u8>,
        found: &mut HashMap<u32, Vec<WorkerId>>,
    ) {
        for channel in self.channels() {
            let told = owner.is_none_or(|owner| {
                offloop_sys::ring::take_pending(channel.segment().pending(owner))
            });
            if (told || owner.is_none()) && channel.has_completions() {
                found.entry(self.number).or_default().push(channel.worker);
            }
        }
    }
}

fn describe_start(crash: &Crash) -> String {
    let end = crash.status.map_or_else(|| "ended".into(), describe_end);
    format!(
        "worker {} {end} before it took a call\n{}",
        crash.pid, crash.stderr_tail
    )
}

fn describe_end(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("ended with exit code {code}"),
        ExitStatus::Signal(signal) => format!("was ended by signal {signal}"),
    }
}
