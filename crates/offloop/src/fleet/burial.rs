//! Workers on the way out: their last completions, their status, and what the pool is told.
//!
//! The zygote reaps its workers and says how they ended. The status of workers that outlived their
//! zygote is read from the kernel after another process has reaped them.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use offloop_core::{Instant, WorkerId};
use offloop_sys::process::{self, Exit};

use crate::channel::Process;
use crate::fault::{Crash, Fault};
use crate::fleet::{Desk, EXIT_BOUND, Fleet};

/// How long to wait before looking again for the status of a worker without its zygote; doubled
/// each time.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A worker that ended and whose status is not known yet.
pub(super) struct Dying {
    worker: WorkerId,
    pub(super) process: Process,
    pub(super) overdue_at: Instant,
    /// Its zygote has ended, so another process reaps it and leaves its status with the kernel. The
    /// supervisor looks there at this time, and again after the pause.
    pub(super) orphan: Option<(Instant, Duration)>,
}

impl Dying {
    pub(super) fn poll_timeout(&self) -> Instant {
        self.orphan
            .map_or(self.overdue_at, |(look_at, _)| look_at.min(self.overdue_at))
    }
}

impl Fleet {
    /// A worker's process has ended: takes its last completions and asks for its status.
    pub(crate) fn handle_exit(&mut self, desk: &mut Desk<'_>, worker: WorkerId) {
        while self.drain(desk, worker) {}
        let zygote_lifeline = self.zygote_lifeline.clone();
        let Some(channel) = self.channel_mut(worker) else {
            return;
        };
        if channel.started().is_some() {
            // What its call started ends with it.
            channel.kill_group();
        }
        let Some(process) = channel.life.end() else {
            return;
        };
        let lifelines = channel.lifeline.as_ref().zip(zygote_lifeline.as_ref());
        let is_childs = lifelines.is_some_and(|(one, other)| Arc::ptr_eq(one, other));
        // Why it ended may be the last thing that it said.
        self.handle_socket(desk, worker);
        let overdue_at = desk.now.saturating_add(EXIT_BOUND);
        let asked = self
            .zygote
            .as_mut()
            .filter(|_| is_childs)
            .map(|zygote| zygote.request_exit(process.pid, overdue_at));
        let orphan = match asked {
            Some(Ok(())) => None,
            _ => Some((desk.now, LOOK_AGAIN)),
        };
        self.dying.push(Dying {
            worker,
            process,
            overdue_at,
            orphan,
        });
        self.look_for_orphans(desk);
    }

    /// Buries the workers that have ended without a zygote, once their status is known or overdue.
    pub(super) fn look_for_orphans(&mut self, desk: &mut Desk<'_>) {
        let mut index = 0;
        while let Some(dying) = self.dying.get_mut(index) {
            let due = dying.poll_timeout() <= desk.now;
            let Some((look_at, pause)) = dying.orphan.filter(|_| due) else {
                index += 1;
                continue;
            };
            let status = process::exit_status(dying.process.pidfd.as_fd());
            if status.is_some() || dying.overdue_at <= desk.now {
                let dying = self.dying.swap_remove(index);
                self.bury(desk, &dying, None);
            } else {
                dying.orphan = Some((look_at.saturating_add(pause), pause * 2));
                index += 1;
            }
        }
    }

    pub(super) fn bury(&mut self, desk: &mut Desk<'_>, dying: &Dying, exit: Option<Exit>) {
        let Some(channel) = self.channel_mut(dying.worker) else {
            return;
        };
        let status = exit.map(|exit| exit.status);
        let status = status.or_else(|| process::exit_status(dying.process.pidfd.as_fd()));
        let crash = Arc::new(Crash {
            pid: dying.process.pid,
            status,
            peak_memory_bytes: exit.map(|exit| exit.peak_memory_bytes),
            stderr_tail: channel.stderr.tail(),
            fault: channel.take_fault(),
        });
        let (started, was_ready) = (channel.started(), channel.life.was_ready());
        let started_at = started.and_then(|task| channel.started_at_ns(task));
        if channel.life.is_unwanted() {
            // That it ended says nothing of the next one.
        } else if was_ready {
            self.health.recover();
        } else {
            let crash = Arc::clone(&crash);
            self.health
                .fail_unless_failing(Fault::WorkerEnded { crash });
        }
        if let Some(note) = started.and_then(|task| self.note(task)) {
            note.started = started_at.map(|at| Instant::from_nanos(at).min(desk.now));
            note.finished = Some(desk.now);
        }
        self.channels[dying.worker.index() as usize] = None;
        let before = self.pool.fleet_statistics();
        self.pool
            .handle_worker_exit(desk.now, dying.worker, started, Arc::clone(&crash));
        let after = self.pool.fleet_statistics();
        if was_ready {
            let crashed = after.crashed_total > before.crashed_total;
            self.note_end(desk, &crash, crashed, started.is_some());
        } else if after.start_failures_total > before.start_failures_total {
            self.note_start_failure(desk);
        }
        self.run_actions(desk);
    }
}
