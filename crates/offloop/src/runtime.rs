//! The runtime as its users see it: lanes to submit to, owners that fetch what became of it.

mod looking;
mod resolving;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use offloop_core::{Close, LaneConfig};
use offloop_sys::event::{Event, Timer};
use offloop_sys::fork;
use offloop_sys::process::Program;
use offloop_sys::segment::OWNERS_MAX;

use crate::arena::{ArenaError, Block};
use crate::call::{Definition, LaneError, OwnerError, Payload};
use crate::crew::Crew;
use crate::fleet::Fleet;
use crate::frame::NEEDS_MAX;
use crate::lane::Lane;
use crate::launch::FleetConfig;
use crate::mailboxes::{Mailbox, RESOLVER};
use crate::owner::Owner;
use crate::shared::Shared;
use crate::supervisor::{STOP_BOUND, Supervisor};
use crate::tracker::TrackerLine;

/// The runtime of a process; cloning it clones a reference.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) shared: Arc<Shared>,
    pub(crate) crew: Arc<Crew>,
}

impl Runtime {
    /// A runtime without threads or processes yet; `arena_bytes_max` bounds the arguments in
    /// shared memory (half of the machine's memory unless set).
    ///
    /// # Errors
    /// The system's, when no descriptor is left.
    pub fn new(arena_bytes_max: Option<u64>) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(arena_bytes_max)?);
        let crew = Arc::new(Crew::new(&shared));
        Ok(Self { shared, crew })
    }

    /// Whether this process is a fork of the process that made the runtime, which is then unusable.
    #[must_use]
    pub fn is_forked(&self) -> bool {
        self.shared.generation != fork::generation()
    }

    /// Something that workers will remember, and what they must know before it. At most
    /// [`NEEDS_MAX`] things, or no ring could hold them.
    #[must_use]
    pub fn define(&self, payload: Payload, needs: Vec<Arc<Definition>>) -> Arc<Definition> {
        assert!(needs.len() <= NEEDS_MAX, "{} needs", needs.len());
        Arc::new(Definition {
            id: self.shared.numbers.take(),
            payload,
            needs,
            numbers: Arc::clone(&self.shared.numbers),
        })
    }

    /// A block for a payload that is too large for a ring.
    ///
    /// # Errors
    /// `ArenaError`.
    pub fn allocate(&self, len: u64) -> Result<Block, ArenaError> {
        self.shared.arena.allocate(len)
    }

    /// Opens a lane of the fleet whose workers start like those of `fleet`: a
    /// [`Launch`](crate::Launch), or a fleet's configuration with limits.
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
        let mut state = self.shared.lock();
        if state.stop {
            return Err(LaneError::Stopped);
        }
        if !state.started {
            Supervisor::start(&self.shared, &self.crew)?;
            state.started = true;
        }
        let place = state.open_lane(fleet.into(), config);
        state.lanes_opened += 1;
        Ok(Lane::new(&self.shared, place, config))
    }

    /// The program has changed its users or groups: no lane joins a fleet of before. Idle
    /// workers of those fleets end now, the busy ones after their calls. Lanes move by
    /// [`Lane::renew`].
    pub fn leave_fleets(&self) {
        let mut state = self.shared.lock();
        for fleet in state.fleets.values_mut() {
            fleet.outdated = true;
        }
        // The event is ours and open: signalling it cannot fail.
        let _ = self.shared.wake.signal();
    }

    /// Opens a line to a resource tracker and returns its write end. `program` is started, with the
    /// read end as its descriptor 3, once something has been written to the line.
    ///
    /// # Errors
    /// The system's, when no descriptor is left.
    pub fn open_tracker_line(&self, program: Program) -> io::Result<OwnedFd> {
        let (line, write) = TrackerLine::open(program)?;
        let mut state = self.shared.lock();
        state.tracker_line = Some(line);
        // The event is ours and open: signalling it cannot fail.
        let _ = self.shared.wake.signal();
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
        let mut state = self.shared.lock();
        let slots = &mut state.mailboxes.slots;
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
            slots.push(Mailbox::new(Arc::new(Event::new()?), timer));
        }
        let slot = &mut slots[free];
        slot.open = true;
        slot.told = true;
        let event = Arc::clone(&slot.event);
        let timer = slot.timer.clone();
        // The owner that had the number before may have left it announced: look once.
        event.signal()?;
        let index = u8::try_from(free).expect("below OWNERS_MAX");
        Ok(Owner {
            shared: Arc::clone(&self.shared),
            index,
            event,
            timer,
        })
    }

    /// The owner that stands in for all threads without one.
    #[must_use]
    pub fn resolver(&self) -> Owner {
        let event = self.shared.lock().mailboxes.event(RESOLVER);
        Owner {
            shared: Arc::clone(&self.shared),
            index: RESOLVER,
            event,
            timer: None,
        }
    }

    /// Gives everything that any thread may resolve to the resolver, now.
    pub fn hand_over(&self) {
        let mut guard = self.shared.lock();
        guard.drain_all(&self.shared);
        guard.mailboxes.hand_over_all();
        self.shared.after(&guard);
    }

    /// Every lane takes no more calls; what is queued runs, and streams are stopped.
    pub fn close_lanes(&self, how: Close) {
        let mut guard = self.shared.lock();
        let state = &mut *guard;
        for number in state.fleets.keys().copied().collect::<Vec<_>>() {
            let Some((fleet, mut desk)) = state.desk(&self.shared, number) else {
                continue;
            };
            for lane in fleet.lanes.clone() {
                fleet.pool.close_lane(desk.now, lane, how);
                fleet.pool.stop_streams(desk.now, lane);
                fleet.run_actions(&mut desk);
            }
        }
        self.shared.after(state);
    }

    /// Waits until no call is queued or running, at most `limit`; false when it passed.
    #[must_use]
    pub fn wait_drained(&self, limit: Duration) -> bool {
        let fleets: Vec<_> = self.shared.lock().fleets.keys().copied().collect();
        self.shared.wait_for(&fleets, limit, |state| {
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
        let mut state = self.shared.lock();
        state.fleets.values_mut().for_each(Fleet::retire_all);
        self.shared.wait_until(state, STOP_BOUND, |state| {
            !state.started || state.fleets.values().all(Fleet::is_empty)
        });
        let mut state = self.shared.lock();
        state.stop = true;
        for fleet in state.fleets.values_mut() {
            // What cannot be killed has ended; the lifeline ends the rest.
            let _ = fleet.kill_all();
        }
        let _ = self.shared.wake.signal();
        self.shared.wait_until(state, STOP_BOUND, |state| {
            !state.started || state.supervisor_ended
        });
        if let Some(tee) = self.shared.tee.get() {
            let _ = tee.stop();
        }
    }

    /// How long a zygote may take for a reply before it is replaced; 10 s unless set.
    pub fn set_reply_bound(&self, bound: Duration) {
        self.shared.lock().reply_bound = bound;
    }

    /// How long the arena keeps pages that nothing needs; 10 s unless set.
    pub fn set_trim_window(&self, window: Duration) {
        self.shared.arena.set_trim_window(window);
    }

    /// Bytes of memory that the arguments' arena takes from the system now, in use or kept.
    ///
    /// # Errors
    /// The system's.
    pub fn arena_bytes_backed(&self) -> io::Result<u64> {
        self.shared.arena.bytes_backed()
    }

    /// Bytes of arguments that are in shared memory now.
    #[must_use]
    pub fn arena_bytes_in_use(&self) -> u64 {
        self.shared.arena.bytes_in_use()
    }

    /// Workers alive in all fleets, by process id.
    #[must_use]
    pub fn worker_pids(&self) -> Vec<i32> {
        let state = self.shared.lock();
        let channels = state.fleets.values().flat_map(Fleet::channels);
        channels
            .filter(|channel| channel.life.was_ready())
            .filter_map(|channel| channel.life.pid())
            .collect()
    }

    /// Process ids of the zygotes.
    #[must_use]
    pub fn zygote_pids(&self) -> Vec<i32> {
        let state = self.shared.lock();
        let zygotes = state
            .fleets
            .values()
            .filter_map(|fleet| fleet.zygote.as_ref());
        zygotes.map(|zygote| zygote.pid).collect()
    }
}
