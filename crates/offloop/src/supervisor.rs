//! The supervisor: one thread that starts, watches, expires, kills and replaces.
//!
//! It sleeps until something happens: a process ends, a zygote replies, a deadline passes, a
//! worker runs out of work while tasks wait, or completions lie unfetched because the loop that
//! they are for is stuck. It also gives the arena's unneeded memory back, a step between any two
//! sleeps. An idle program wakes it never.
//!
//! Threads: this one, `offloop-supervisor`; it never touches Python and never waits for it.

mod watched;

use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
#[cfg(feature = "test-doors")]
use std::sync::atomic::Ordering;
use std::time::Duration;

use offloop_core::{Instant, WorkerId};
use offloop_sys::fork::ForkGuarded;
use offloop_sys::poller::{Poller, Ready};
use offloop_sys::segment::Segment;
use offloop_sys::socket;

use crate::channel::{Channel, WorkerEnds};
use crate::crew::Crew;
use crate::fault::{Fault, message_of};
use crate::fleet::{Desk, Fleet, Watch};
use crate::journal::Event;
use crate::launch::Launch;
use crate::shared::{Shared, State, now};
use crate::supervisor::watched::{Name, Watched};
use crate::tracker::TrackerLine;
use crate::zygote::Zygote;

/// The supervisor's own state; the rest is in [`Shared`].
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    crew: Arc<Crew>,
    poller: Poller,
    /// The line to a resource tracker that has not been needed yet.
    tracker: Option<TrackerLine>,
}

/// What the supervisor is to prepare outside of the lock.
struct Order {
    fleet: u32,
    worker: WorkerId,
    /// The fleet has no zygote: start one.
    zygote: Option<Launch>,
}

/// A prepared worker.
struct Prepared {
    zygote: Option<Zygote>,
    channel: Channel,
    ends: WorkerEnds,
}

impl Supervisor {
    pub(crate) fn start(shared: &Arc<Shared>, crew: &Arc<Crew>) -> io::Result<()> {
        let poller = Poller::new()?;
        poller.add(shared.wake.as_fd(), Watched::Wake.token())?;
        poller.add(shared.nudge.as_fd(), Watched::Nudge.token())?;
        poller.add(shared.relief.as_fd(), Watched::Relief.token())?;
        let supervisor = Self {
            shared: Arc::clone(shared),
            crew: Arc::clone(crew),
            poller,
            tracker: None,
        };
        std::thread::Builder::new()
            .name("offloop-supervisor".into())
            .spawn(move || supervisor.run())?;
        Ok(())
    }

    /// Drives the fleets until the runtime stops. A supervisor that fails ends all of their calls,
    /// and looks after nothing but the crew from then on.
    fn run(mut self) {
        let fault = match catch_unwind(AssertUnwindSafe(|| self.drive())) {
            Ok(Ok(())) => return self.end(),
            Ok(Err(source)) => Fault::SupervisorWait { source },
            Err(panic) => Fault::SupervisorPanic {
                message: message_of(&*panic),
            },
        };
        self.shared.fail(fault);
        // Without descriptors the crew makes do with the threads that it has.
        let _ = self.attend_crew();
        self.end();
    }

    fn end(&self) {
        self.shared.lock().supervisor_ended = true;
        self.shared.changed.notify_all();
    }

    /// Relieves threads of the crew that are kept by a callback, until the runtime stops. A process
    /// that writes to the line of a resource tracker from now on starts a tracker of its own.
    fn attend_crew(&mut self) -> io::Result<()> {
        // The old poller still watches what belonged to the fleets.
        let poller = Poller::new()?;
        poller.add(self.shared.wake.as_fd(), Watched::Wake.token())?;
        poller.add(self.shared.relief.as_fd(), Watched::Relief.token())?;
        let mut ready = Vec::new();
        loop {
            self.watch_tracker();
            self.start_tracker();
            let start = {
                let mut state = self.shared.lock();
                if state.stop {
                    return Ok(());
                }
                self.shared.wake.clear();
                self.shared.relief.clear() && state.look_after_crew(&self.shared)
            };
            if start {
                self.crew.start_counted();
            }
            poller.wait(&mut ready, None)?;
        }
    }

    /// Handles what happens until the runtime stops.
    fn drive(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        loop {
            self.watch_tracker();
            let limit = {
                let mut state = self.shared.lock();
                if state.stop {
                    return Ok(());
                }
                let trim_at = self.shared.arena.poll_timeout();
                let at = state.poll_timeout().into_iter().chain(trim_at).min();
                state.planned = at;
                self.shared.after(&state);
                at.map(|at| at.saturating_duration_since(now()))
            };
            self.poller.wait(&mut ready, limit)?;
            let tracker = Watched::Tracker.token();
            if ready.iter().any(|ready| ready.token == tracker) {
                self.start_tracker();
            }
            if self.handle(&ready) {
                self.crew.start_counted();
            }
            self.spawn_wanted();
            self.trim();
        }
    }

    /// Gives a step of the arena's memory back if that is due, and tells the workers which of its
    /// chunks were closed.
    fn trim(&self) {
        self.shared.arena.trim(now());
        let closed = self.shared.arena.take_closed();
        if !closed.is_empty() {
            let mut state = self.shared.lock();
            state.tell_closed(&closed);
        }
    }

    /// Takes over a line to a resource tracker that was opened since.
    fn watch_tracker(&mut self) {
        let opened = {
            let mut state = self.shared.lock();
            // What was written while the program ended is cleaned up, too.
            let stop = state.stop;
            state.tracker_line.take().ok_or(stop)
        };
        match opened {
            Ok(line) => {
                self.start_tracker();
                // Without a watch the line is not read, and a process that writes to it starts its
                // own.
                let token = Watched::Tracker.token();
                let watched = self.poller.add(line.read_end(), token).is_ok();
                self.tracker = watched.then_some(line);
            }
            Err(stop) if stop => self.start_tracker(),
            Err(_) => {}
        }
    }

    /// Starts the tracker if something has been written to its line. Lets go of the line in any
    /// case.
    fn start_tracker(&mut self) {
        if let Some(line) = self.tracker.take() {
            // It leaves the poller before it closes.
            let _ = self.poller.remove(line.read_end());
            if line.is_in_use() {
                // If the tracker cannot be started, the next writer misses it and says so.
                let _ = line.start();
            }
        }
    }

    /// Handles what has happened; true when a thread of the crew is to be started.
    fn handle(&self, ready: &[Ready]) -> bool {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        #[cfg(feature = "test-doors")]
        assert!(!state.panics, "a test wants it so");
        let (mut feed, mut look, mut ended) = (false, false, false);
        for ready in ready {
            match Watched::of(ready.token) {
                Watched::Wake => feed |= self.shared.wake.clear(),
                Watched::Nudge => {
                    self.shared.nudge.clear();
                    state.nudged();
                    feed = true;
                }
                Watched::Tracker => {}
                Watched::Relief => look = self.shared.relief.clear(),
                Watched::Zygote { fleet } => {
                    ended = true;
                    if let Some((fleet, mut desk)) = state.desk(&self.shared, fleet) {
                        fleet.handle_zygote(&mut desk);
                    }
                }
                Watched::Process { fleet, worker } => {
                    ended = true;
                    self.handle_exit(state, fleet, worker);
                }
                Watched::Socket { fleet, worker } => self.handle_socket(state, fleet, worker),
            }
        }
        state.ring_for_releases(now());
        let due = state.poll_timeout().is_some_and(|at| at <= now());
        if feed || due {
            // Before anything is stopped for being late: it may be over already.
            state.drain_all(&self.shared);
        }
        if feed {
            state.mailboxes.hand_over_stuck();
        }
        let start = look && state.look_after_crew(&self.shared);
        state.handle_timeout(&self.shared);
        self.update_watches(state);
        for mut fleet in state.take_idle_fleets(&self.shared) {
            if let Some(zygote) = &fleet.zygote {
                // It leaves the poller before it closes.
                let _ = self.poller.remove(zygote.socket());
            }
            // No process is left but the zygote, which cannot be killed only if it has ended.
            let _ = fleet.kill_all();
        }
        if let Some(fault) = self.shared.tee.get().and_then(|tee| tee.take_fault()) {
            state.journal.write(now(), Event::StderrFailure { fault });
        }
        self.shared.notify(state);
        if ended {
            // A crash may have been described, and more read than has been passed on.
            let _ = self.shared.tee.get().map(|tee| tee.flush());
        }
        start
    }

    /// A worker's process has ended.
    fn handle_exit(&self, state: &mut State, fleet: u32, worker: Name) {
        let Some((fleet, mut desk)) = state.desk(&self.shared, fleet) else {
            return;
        };
        let mut channels = fleet.channels().map(|channel| channel.worker);
        if let Some(worker) = channels.find(|found| worker.matches(*found)) {
            drop(channels);
            self.bury(fleet, &mut desk, worker);
        }
    }

    /// Watches an ended worker no more, and asks how it ended.
    fn bury(&self, fleet: &mut Fleet, desk: &mut Desk<'_>, worker: WorkerId) {
        let Some(channel) = fleet.channel(worker) else {
            return;
        };
        // Its descriptors leave the poller before they close.
        let _ = channel
            .life
            .process()
            .map(|process| self.poller.remove(process.pidfd.as_fd()));
        // It was removed already if the socket ended first.
        let _ = self.poller.remove(channel.socket());
        fleet.handle_exit(desk, worker);
    }

    /// A worker has said something.
    fn handle_socket(&self, state: &mut State, fleet: u32, worker: Name) {
        let Some((fleet, mut desk)) = state.desk(&self.shared, fleet) else {
            return;
        };
        let mut channels = fleet.channels().map(|channel| channel.worker);
        if let Some(worker) = channels.find(|found| worker.matches(*found)) {
            drop(channels);
            fleet.handle_socket(&mut desk, worker);
        }
    }

    /// Watches the processes that have begun, and no socket that has ended.
    fn update_watches(&self, state: &mut State) {
        for number in state.fleets.keys().copied().collect::<Vec<_>>() {
            let Some((fleet, mut desk)) = state.desk(&self.shared, number) else {
                continue;
            };
            for watch in std::mem::take(&mut fleet.watch) {
                let (Watch::Start(worker) | Watch::Quiet(worker)) = watch;
                let Some(channel) = fleet.channel(worker) else {
                    continue;
                };
                match watch {
                    Watch::Start(_) if self.watch(number, channel).is_err() => {
                        // The supervisor would not hear of its end, and its calls could hang for
                        // ever. It ends the worker, and does not wait to be told.
                        fleet.end(&mut desk, worker);
                        self.bury(fleet, &mut desk, worker);
                    }
                    Watch::Start(_) => {}
                    Watch::Quiet(_) => {
                        // Gone already when the process ended first.
                        let _ = self.poller.remove(channel.socket());
                    }
                }
            }
        }
    }

    fn watch(&self, fleet: u32, channel: &Channel) -> io::Result<()> {
        #[cfg(feature = "test-doors")]
        if self.shared.refuses_watch.swap(false, Ordering::Relaxed) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        if let Some(process) = channel.life.process() {
            let worker = channel.worker.into();
            let token = Watched::Process { fleet, worker }.token();
            self.poller.add(process.pidfd.as_fd(), token)?;
        }
        Ok(())
    }

    /// Makes the workers that the pools asked for.
    fn spawn_wanted(&self) {
        loop {
            let orders = self.take_orders();
            if orders.is_empty() {
                return;
            }
            for order in orders {
                let prepared = self.prepare(&order);
                self.request(&order, prepared);
            }
        }
    }

    fn take_orders(&self) -> Vec<Order> {
        let mut state = self.shared.lock();
        let mut orders = Vec::new();
        for fleet in state.fleets.values_mut() {
            let mut zygote = fleet.zygote.is_none().then(|| fleet.launch.clone());
            for worker in std::mem::take(&mut fleet.wanted) {
                orders.push(Order {
                    fleet: fleet.number,
                    worker,
                    zygote: zygote.take(),
                });
            }
        }
        orders
    }

    fn prepare(&self, order: &Order) -> Result<Prepared, Fault> {
        let zygote = order.zygote.as_ref().map(Zygote::start).transpose();
        let zygote = zygote.map_err(|source| Fault::StartZygote { source })?;
        let channel = self.prepare_channel(order.worker);
        let (channel, ends) = channel.map_err(|source| Fault::PrepareWorker { source })?;
        Ok(Prepared {
            zygote,
            channel,
            ends,
        })
    }

    fn prepare_channel(&self, worker: WorkerId) -> io::Result<(Channel, WorkerEnds)> {
        let (ours, theirs) = socket::pair()?;
        let (stderr_read, stderr_write) = socket::pipe()?;
        let stderr = self.shared.tee()?.add(stderr_read)?;
        let socket = ForkGuarded::new(ours)?;
        let channel = Channel::new(worker, Segment::create()?, socket, stderr);
        let ends = WorkerEnds {
            socket: theirs,
            stderr: stderr_write,
        };
        Ok((channel, ends))
    }

    fn request(&self, order: &Order, prepared: Result<Prepared, Fault>) {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let overdue_in = state.reply_bound;
        let Some((fleet, mut desk)) = state.desk(&self.shared, order.fleet) else {
            return;
        };
        let requested = prepared.and_then(|prepared| {
            let overdue_at = desk.now.saturating_add(overdue_in);
            self.request_from(fleet, &mut desk, order.worker, prepared, overdue_at)
        });
        if let Err(fault) = requested {
            // What the zygote said last may tell why.
            fleet.handle_zygote(&mut desk);
            fleet.health.fail_unless_failing(fault);
            fleet.abandon(&mut desk, order.worker);
        }
        self.shared.notify(state);
    }

    fn request_from(
        &self,
        fleet: &mut Fleet,
        desk: &mut Desk<'_>,
        worker: WorkerId,
        prepared: Prepared,
        overdue_at: Instant,
    ) -> Result<(), Fault> {
        let Prepared {
            zygote,
            mut channel,
            ends,
        } = prepared;
        if let Some(zygote) = zygote {
            let token = Watched::Zygote {
                fleet: fleet.number,
            };
            let watched = self.poller.add(zygote.socket(), token.token());
            watched.map_err(|source| Fault::StartZygote { source })?;
            fleet.zygote_lifeline = Some(zygote.lifeline());
            fleet.zygote = Some(zygote);
        }
        if !fleet.pool.wants_start(worker) {
            fleet.abandon(desk, worker);
            return Ok(());
        }
        fleet.brief(&mut channel, desk.arena);
        let token = Watched::Socket {
            fleet: fleet.number,
            worker: worker.into(),
        };
        let watched = self.poller.add(channel.socket(), token.token());
        watched.map_err(|source| Fault::PrepareWorker { source })?;
        let Some(zygote) = &mut fleet.zygote else {
            let source = io::ErrorKind::NotConnected.into();
            return Err(Fault::StartZygote { source });
        };
        let descriptors = [
            ends.socket.as_fd(),
            channel.segment().fd(),
            ends.stderr.as_fd(),
            self.shared.nudge.as_fd(),
            self.shared.wake.as_fd(),
        ];
        let pid = zygote.pid;
        let requested = zygote.request_fork(worker, &descriptors, overdue_at);
        requested.map_err(|source| Fault::RequestFork { pid, source })?;
        fleet.install(channel);
        Ok(())
    }
}

/// Longest time that the program's end waits for its workers' exit handlers.
pub(crate) const STOP_BOUND: Duration = Duration::from_secs(2);
