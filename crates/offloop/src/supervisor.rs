//! The supervisor: one thread that starts, watches, expires, kills and replaces.
//!
//! It sleeps until something happens: a process ends, a zygote replies, a deadline passes, a
//! worker runs out of work while tasks wait, or completions lie unfetched because the loop that
//! they are for is stuck. It also gives the arena's unneeded memory back, a step between any two
//! sleeps. An idle program wakes it never.
//!
//! Threads: this one, `offloop-supervisor`; it never touches Python and never waits for it.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use offloop_core::WorkerId;
use offloop_sys::fork::ForkGuarded;
use offloop_sys::poller::{Poller, Ready};
use offloop_sys::segment::Segment;
use offloop_sys::socket;

use crate::channel::{Channel, WorkerEnds};
use crate::crew;
use crate::fleet::Watch;
use crate::launch::Launch;
use crate::runtime::{Shared, State, now};
use crate::tracker::TrackerLine;
use crate::zygote::Zygote;

const WAKE: u64 = 0;
const NUDGE: u64 = 1;
const TRACKER: u64 = 2;
const RELIEF: u64 = 3;
const ZYGOTE: u64 = 2 << 60;
const PROCESS: u64 = 3 << 60;
const SOCKET: u64 = 4 << 60;
const KIND: u64 = 7 << 60;
const FIELD: u64 = (1 << 20) - 1;

fn token(kind: u64, fleet: u32, worker: WorkerId) -> u64 {
    let fields = [fleet, worker.index(), worker.generation()].map(|field| u64::from(field) & FIELD);
    kind | fields[0] << 40 | fields[1] << 20 | fields[2]
}

/// The supervisor's own state; the rest is in [`Shared`].
pub(crate) struct Supervisor {
    shared: Arc<Shared>,
    poller: Poller,
    /// The line to a resource tracker that nobody has needed yet.
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
    pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<()> {
        let poller = Poller::new()?;
        poller.add(shared.wake.as_fd(), WAKE)?;
        poller.add(shared.nudge.as_fd(), NUDGE)?;
        poller.add(shared.relief.as_fd(), RELIEF)?;
        let supervisor = Self {
            shared: Arc::clone(shared),
            poller,
            tracker: None,
        };
        std::thread::Builder::new()
            .name("offloop-supervisor".into())
            .spawn(move || supervisor.run())?;
        Ok(())
    }

    fn run(mut self) {
        let mut ready = Vec::new();
        loop {
            self.watch_tracker();
            let limit = {
                let mut state = self.shared.lock();
                if state.stop {
                    state.supervisor_ended = true;
                    self.shared.changed.notify_all();
                    return;
                }
                let trim_at = self.shared.arena.poll_timeout();
                let at = state.poll_timeout().into_iter().chain(trim_at).min();
                state.planned = at;
                self.shared.after(&state);
                at.map(|at| at.saturating_duration_since(now()))
            };
            if let Err(error) = self.poller.wait(&mut ready, limit) {
                self.shared
                    .fail(&format!("the supervisor cannot wait: {error}"));
                return;
            }
            if ready.iter().any(|ready| ready.token == TRACKER) {
                self.start_tracker();
            }
            if self.handle(&ready) {
                crew::start_counted(&self.shared);
            }
            self.spawn_wanted();
            self.trim();
        }
    }

    /// Gives a step of the arena's memory back if that is due, and tells the workers which of its
    /// chunks are gone.
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
                // Without a watch nobody reads the line, and who writes to it starts its own.
                let watched = self.poller.add(line.read_end(), TRACKER).is_ok();
                self.tracker = watched.then_some(line);
            }
            Err(stop) if stop => self.start_tracker(),
            Err(_) => {}
        }
    }

    /// Starts the tracker if somebody has written to its line, which is let go of in any case.
    fn start_tracker(&mut self) {
        if let Some(line) = self.tracker.take() {
            // It leaves the poller before it closes.
            let _ = self.poller.remove(line.read_end());
            if line.is_in_use() {
                // One that cannot be started is missed by the next writer, who says so.
                let _ = line.start();
            }
        }
    }

    /// Handles what has happened; true when a thread of the crew is to be started.
    fn handle(&self, ready: &[Ready]) -> bool {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let (mut feed, mut look) = (false, false);
        for ready in ready {
            match ready.token {
                WAKE => feed |= self.shared.wake.clear(),
                NUDGE => {
                    self.shared.nudge.clear();
                    state.nudged();
                    feed = true;
                }
                TRACKER => {}
                RELIEF => look = self.shared.relief.clear(),
                token => self.handle_worker(state, token),
            }
        }
        state.ring_for_releases(now());
        let due = state.poll_timeout().is_some_and(|at| at <= now());
        if feed || due {
            // Before anything is stopped for being late: it may be over already.
            state.drain_all(&self.shared);
        }
        if feed {
            state.owners.hand_over_stuck();
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
        self.shared.notify(state);
        if ready
            .iter()
            .any(|ready| ready.token & KIND == PROCESS || ready.token & KIND == ZYGOTE)
        {
            // A crash may have been described, and more read than has been passed on.
            let _ = self.shared.tee.get().map(|tee| tee.flush());
        }
        start
    }

    fn handle_worker(&self, state: &mut State, token: u64) {
        let field = |shift: u32| u32::try_from(token >> shift & FIELD).expect("20 bits");
        let fleet = field(40);
        let Some((fleet, mut desk)) = state.desk(&self.shared, fleet) else {
            return;
        };
        if token & KIND == ZYGOTE {
            fleet.handle_zygote(&mut desk);
            return;
        }
        let found = fleet
            .channels()
            .map(|channel| channel.worker)
            .find(|worker| {
                worker.index() == field(20) && worker.generation() & 0xF_FFFF == field(0)
            });
        let Some(worker) = found else { return };
        if token & KIND == PROCESS {
            // Its descriptors leave the poller before they close.
            if let Some(channel) = fleet.channel(worker) {
                let _ = channel
                    .pidfd
                    .as_ref()
                    .map(|pidfd| self.poller.remove(pidfd.as_fd()));
                // Removed already when the socket ended first.
                let _ = self.poller.remove(channel.socket());
            }
            fleet.handle_exit(&mut desk, worker);
        } else {
            fleet.handle_socket(&mut desk, worker);
        }
    }

    fn update_watches(&self, state: &mut State) {
        for fleet in state.fleets.values_mut() {
            for watch in std::mem::take(&mut fleet.watch) {
                let (Watch::Start(worker) | Watch::Quiet(worker)) = watch;
                let Some(channel) = fleet.channel(worker) else {
                    continue;
                };
                let result = match watch {
                    Watch::Start(_) => self.watch(fleet.number, channel),
                    Watch::Quiet(_) => self.poller.remove(channel.socket()).or(Ok(())),
                };
                if result.is_err() {
                    // An unwatched worker could hang its calls for ever: end it instead.
                    let _ = channel.kill();
                }
            }
        }
    }

    fn watch(&self, fleet: u32, channel: &Channel) -> io::Result<()> {
        if let Some(pidfd) = &channel.pidfd {
            self.poller
                .add(pidfd.as_fd(), token(PROCESS, fleet, channel.worker))?;
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

    fn prepare(&self, order: &Order) -> io::Result<Prepared> {
        let zygote = order.zygote.as_ref().map(Zygote::start).transpose()?;
        let (ours, theirs) = socket::pair()?;
        let (stderr_read, stderr_write) = socket::pipe()?;
        let stderr = self.shared.tee()?.add(stderr_read)?;
        let socket = ForkGuarded::new(ours)?;
        let channel = Channel::new(order.worker, Segment::create()?, socket, stderr);
        Ok(Prepared {
            zygote,
            channel,
            ends: WorkerEnds {
                socket: theirs,
                stderr: stderr_write,
            },
        })
    }

    fn request(&self, order: &Order, prepared: io::Result<Prepared>) {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        let reply_bound = state.reply_bound;
        let Some((fleet, mut desk)) = state.desk(&self.shared, order.fleet) else {
            return;
        };
        let result = prepared.and_then(|prepared| {
            if let Some(zygote) = prepared.zygote {
                let no_worker = WorkerId::new(0, 0);
                self.poller
                    .add(zygote.socket(), token(ZYGOTE, order.fleet, no_worker))?;
                fleet.zygote_lifeline = Some(zygote.lifeline());
                fleet.zygote = Some(zygote);
            }
            if !fleet.pool.wants_start(order.worker) {
                fleet.abandon(&mut desk, order.worker);
                return Ok(());
            }
            let mut channel = prepared.channel;
            fleet.brief(&mut channel, desk.arena);
            let token = token(SOCKET, order.fleet, order.worker);
            self.poller.add(channel.socket(), token)?;
            let zygote = fleet.zygote.as_mut().ok_or(io::ErrorKind::NotConnected)?;
            let descriptors = [
                prepared.ends.socket.as_fd(),
                channel.segment().fd(),
                prepared.ends.stderr.as_fd(),
                self.shared.nudge.as_fd(),
                self.shared.wake.as_fd(),
            ];
            let overdue_at = desk.now.saturating_add(reply_bound);
            zygote.request_fork(order.worker, &descriptors, overdue_at)?;
            fleet.install(channel);
            Ok(())
        });
        if let Err(error) = result {
            // What the zygote said last may tell why.
            fleet.handle_zygote(&mut desk);
            let reason = || format!("no worker can be started: {error}");
            fleet.broken.get_or_insert_with(reason);
            fleet.abandon(&mut desk, order.worker);
        }
        self.shared.notify(state);
    }
}

/// Longest time that the program's end waits for its workers' exit handlers.
pub(crate) const STOP_BOUND: Duration = Duration::from_secs(2);
