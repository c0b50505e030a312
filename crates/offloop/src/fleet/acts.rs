//! What the pool decides is carried out here: calls go to workers, outcomes to their owners.
//!
//! Invariants: an action is carried out, or answered with its refusal, before the next is taken.

use std::io;
use std::sync::Arc;

use offloop_core::{Action, Expiry, Instant, LaneId, Outcome as Decision, TaskId, WorkerId};
use offloop_sys::handshake;

use crate::channel::{Channel, Prospect, PushedCall};
use crate::fault::{Crash, Fault, WorkerFault};
use crate::fleet::{Desk, Fleet};
use crate::journal::Event;
use crate::notice::{News, Notice};
use crate::outcome::{Outcome, Returned, Status};
use crate::recorder::{CallEnd, CallNote, What};
use crate::task::Task;

/// How long a worker may look for its next call before it sleeps, while a core is spare. Waking an
/// idle core costs 25 us each way on a virtual machine, and what ran before is cold by then.
const SPIN_NS: u32 = 100_000;

/// How the pool decided that a call ended.
type Decided = Decision<Returned, Arc<Crash>>;

/// What is recorded of such an end.
fn end_of(decision: &Decided) -> CallEnd {
    match decision {
        Decision::Completed { value } if value.status == Status::Value => CallEnd::Returned,
        Decision::Completed { .. } => CallEnd::Raised,
        Decision::Cancelled => CallEnd::Cancelled,
        Decision::Expired { .. } => CallEnd::Expired,
        Decision::Lost { .. } => CallEnd::Lost,
        Decision::Dropped => CallEnd::Dropped,
        Decision::Broken => CallEnd::Broken,
    }
}

impl Fleet {
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
                    // A worker that cannot be signalled has ended; its exit gives the outcome.
                    let _ = self.channel(worker).map(|channel| channel.interrupt(task));
                }
                Action::Kill { worker } => {
                    let limit = self.start_timeout;
                    if let Some(channel) = self.channel_mut(worker)
                        && !channel.life.was_ready()
                    {
                        channel.life.give_up(Prospect::Late);
                        channel.blame(WorkerFault::NotReady { limit });
                    }
                    self.end(desk, worker);
                }
                Action::Abandon { worker } => self.end_start(desk, worker),
                Action::Retire { worker } => {
                    let asked = self
                        .channel_mut(worker)
                        .is_some_and(|channel| channel.retire().is_ok());
                    if !asked {
                        self.kill(desk, worker);
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

    /// Ends a worker, and the whole fleet where we may not end one alone.
    pub(crate) fn end(&mut self, desk: &mut Desk<'_>, worker: WorkerId) {
        if !self.kill(desk, worker) {
            self.cut_lifeline(desk);
        }
    }

    /// Ends a worker; false when the system forbids it. A worker that cannot be found has ended,
    /// and its exit gives the outcome.
    pub(super) fn kill(&mut self, desk: &mut Desk<'_>, worker: WorkerId) -> bool {
        let fleet = self.number;
        let killed = self.channel_mut(worker).map(|channel| {
            if let Some(pid) = channel.life.kill() {
                desk.note(Event::Kill { fleet, pid });
            }
            channel.kill()
        });
        let refused = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
        !killed.is_some_and(|killed| killed.is_err_and(|error| refused(&error)))
    }

    /// Ends every process of this fleet by letting go of what keeps it alive. That needs no
    /// permission: the program may run under another user by now, which may not signal its workers.
    fn cut_lifeline(&mut self, desk: &mut Desk<'_>) {
        for channel in self.channels_mut() {
            channel.lifeline = None;
        }
        self.lose_zygote(desk);
    }

    fn assign(&mut self, desk: &mut Desk<'_>, worker: WorkerId, task: TaskId) {
        let fleet = self.pool.fleet_statistics();
        let busy = fleet.alive.saturating_sub(fleet.idle);
        let spin_ns = if busy < desk.cores { SPIN_NS } else { 0 };
        let mut worker_pid = None;
        let pushed = {
            let channel = self
                .channels
                .get_mut(worker.index() as usize)
                .and_then(Option::as_mut)
                .filter(|channel| channel.worker == worker);
            let call = self.pool.payload(task);
            match (channel, call) {
                (Some(channel), Some(call)) => {
                    let event = desk.mailboxes.event(call.owner);
                    let timer = desk.mailboxes.timer(call.owner);
                    worker_pid = channel.life.pid();
                    let pushed = channel.push(&PushedCall {
                        task,
                        owner: call.owner,
                        event: &event,
                        timer: timer.as_deref(),
                        any_thread: call.any_thread,
                        copy_blocks: call.copy_blocks,
                        streams: call.streams,
                        function: call.function.as_ref(),
                        needs: &call.needs,
                        payload: &call.payload,
                        surroundings: call.surroundings.as_ref(),
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
        } else if let Some(note) = self.note(task) {
            note.worker = worker_pid;
        }
    }

    /// Posts the end of a call, as the pool decided it, to the call's owner.
    pub(super) fn finish(&mut self, desk: &mut Desk<'_>, decision: Decided, task: Task) {
        if let Some(note) = task.note {
            let fleet = self.number;
            let end = end_of(&decision);
            let at = note.finished.map_or(desk.now, |at| at.max(desk.now));
            desk.recorder.record(at, What::Call { note, fleet, end });
        }
        let outcome = match decision {
            Decision::Completed { value } => Outcome::Returned(value),
            Decision::Cancelled => Outcome::Cancelled,
            Decision::Expired { which } => Outcome::Expired {
                deadline: which == Expiry::Deadline,
            },
            Decision::Lost {
                may_have_started,
                attempts,
                crash,
            } => Outcome::Lost {
                may_have_started,
                attempts,
                crash,
            },
            Decision::Dropped => {
                self.note_drop(desk);
                Outcome::Dropped
            }
            Decision::Broken => Outcome::Broken {
                fault: self.why_broken(),
            },
        };
        let (token, any_thread) = (task.token, task.any_thread);
        let news = News::Ended(outcome);
        let notice = Notice {
            token,
            any_thread,
            news,
        };
        desk.mailboxes.post(task.owner, notice);
    }

    /// What is noted of a call, if calls are recorded.
    pub(super) fn note(&mut self, task: TaskId) -> Option<&mut CallNote> {
        self.pool.payload_mut(task)?.note.as_deref_mut()
    }

    /// Why calls end as broken.
    fn why_broken(&self) -> Arc<Fault> {
        match self.health.fault() {
            Some(fault) => Arc::clone(fault),
            None if self.pool.is_broken() => Arc::new(Fault::GivenUp),
            None => Arc::new(Fault::Terminated),
        }
    }

    /// Tells all submitters that wait for room in `lane` that there may be some. A submitter that
    /// comes too late waits again, so none depends on another's being alive.
    pub(crate) fn tell_room(&mut self, desk: &mut Desk<'_>, lane: LaneId) {
        if self.room_waiters.is_empty() || self.pool.lane_is_full(lane) {
            return;
        }
        let mailboxes = &mut *desk.mailboxes;
        self.room_waiters.retain(|(waits_for, owner, token)| {
            if *waits_for == lane {
                let notice = Notice {
                    token: *token,
                    any_thread: false,
                    news: News::Room,
                };
                mailboxes.deliver(*owner, notice);
            }
            *waits_for != lane
        });
    }

    /// A thread begins to wait for what becomes of calls, or waits no longer. The owner of a call
    /// may be a loop that never comes, so the workers tell the supervisor.
    pub(crate) fn wait_for(&mut self, begins: bool) {
        if begins {
            self.waited_for += 1;
        } else {
            self.waited_for -= 1;
        }
        self.show_backlog();
    }

    /// Tells the workers whether tasks or threads wait here, so that a worker that runs out of work
    /// says so.
    fn show_backlog(&mut self) {
        let waits = self.pool.queued() > 0 || self.waited_for > 0;
        if waits == self.backlog_shown {
            return;
        }
        self.backlog_shown = waits;
        let backlogs = self.channels().map(|channel| channel.segment().backlog());
        if waits {
            handshake::raise_backlog(backlogs);
            // A worker that slept before it could see this has left its completions to us.
            self.unannounced = true;
        } else {
            handshake::lower_backlog(backlogs);
        }
    }

    /// Whether completions lie there that no worker may announce.
    pub(crate) fn is_overlooked(&self) -> bool {
        self.unannounced && self.channels().any(Channel::has_completions)
    }
}
