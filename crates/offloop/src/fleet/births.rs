//! Workers and their zygotes on the way in: forks, hellos, and starts that fail.

use offloop_core::WorkerId;

use crate::channel::{Life, Process, Prospect};
use crate::fault::Fault;
use crate::fleet::burial::LOOK_AGAIN;
use crate::fleet::{Desk, EXIT_BOUND, Fleet, Watch};
use crate::zygote::Reply;

impl Fleet {
    /// The pool gets a worker that has said hello and whose process is known.
    pub(super) fn welcome(&mut self, desk: &mut Desk<'_>, worker: WorkerId) {
        let channel = self.channel_mut(worker);
        if let Some(pid) = channel.and_then(|channel| channel.life.become_ready()) {
            if !self.pool.is_broken() {
                self.health.recover();
            }
            self.note_start(desk, pid);
            self.pool.handle_worker_ready(desk.now, worker);
            self.run_actions(desk);
        }
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
            Reply::SetupFailed(text) => {
                let pid = self.zygote_pid();
                self.break_lanes(desk, Fault::SetupFailed { pid, text });
            }
            Reply::Forked { worker, pid, pidfd } => {
                let lifeline = self.zygote_lifeline.clone();
                if let Some(channel) = self.channel_mut(worker) {
                    channel.life.begin(Process { pid, pidfd });
                    channel.lifeline = lifeline;
                    let unwanted = channel.life.is_unwanted();
                    self.watch.push(Watch::Start(worker));
                    if unwanted {
                        self.kill(desk, worker);
                    }
                    self.pool.handle_worker_forked(desk.now, worker);
                    self.welcome(desk, worker);
                }
            }
            Reply::ForkFailed { worker, source } => {
                let pid = self.zygote_pid();
                self.health.fail(Fault::Fork { pid, source });
                self.abandon(desk, worker);
            }
            Reply::Exited { pid, exit } => {
                let index = self.dying.iter().position(|dying| dying.process.pid == pid);
                if let Some(index) = index {
                    let dying = self.dying.swap_remove(index);
                    self.bury(desk, &dying, exit);
                }
            }
        }
    }

    fn zygote_pid(&self) -> i32 {
        self.zygote.as_ref().map_or(0, |zygote| zygote.pid)
    }

    /// Ends the start of a worker that the pool does not need, as far as it has come.
    pub(super) fn end_start(&mut self, desk: &mut Desk<'_>, worker: WorkerId) {
        if let Some(index) = self.wanted.iter().position(|wanted| *wanted == worker) {
            self.wanted.remove(index);
            self.pool.handle_spawn_failed(desk.now, worker);
            return;
        }
        // Without a channel the supervisor prepares it, and asks before it goes on.
        let Some(channel) = self.channel_mut(worker) else {
            return;
        };
        channel.life.give_up(Prospect::Unwanted);
        channel.stderr.mute();
        if channel.life.process().is_some() {
            self.kill(desk, worker);
        } else if self
            .zygote
            .as_ref()
            .is_some_and(|zygote| !zygote.is_ready())
        {
            // It would go on with its imports first, and fork then.
            self.lose_zygote(desk);
        }
        // A zygote that is ready replies at once, and the worker is killed then.
    }

    /// A worker that will never be there.
    pub(crate) fn abandon(&mut self, desk: &mut Desk<'_>, worker: WorkerId) {
        if let Some(slot) = self.channels.get_mut(worker.index() as usize) {
            *slot = None;
        }
        let failures = self.pool.fleet_statistics().start_failures_total;
        self.pool.handle_spawn_failed(desk.now, worker);
        if self.pool.fleet_statistics().start_failures_total > failures {
            self.note_start_failure(desk);
        }
        self.run_actions(desk);
    }

    /// The zygote has ended, or does not answer. Its workers run on: the kernel keeps their status
    /// for us. The next worker that is wanted gets a new zygote.
    pub(crate) fn lose_zygote(&mut self, desk: &mut Desk<'_>) {
        let Some(zygote) = self.zygote.take() else {
            return;
        };
        let exit = zygote.kill();
        let unborn: Vec<WorkerId> = self
            .channels()
            .filter(|channel| matches!(channel.life, Life::Requested(_)))
            .map(|channel| channel.worker)
            .collect();
        let needed = unborn.iter().any(|worker| self.pool.wants_start(*worker));
        if !zygote.is_ready() && needed {
            let pid = zygote.pid;
            // Reaping can fail only where the program reaps all children itself.
            let status = exit.ok().map(|exit| exit.status);
            self.health.fail(Fault::SetupEnded { pid, status });
        }
        self.zygote_lifeline = None;
        for worker in unborn {
            self.abandon(desk, worker);
        }
        for dying in &mut self.dying {
            dying.orphan = Some((desk.now, LOOK_AGAIN));
            dying.overdue_at = desk.now.saturating_add(EXIT_BOUND);
        }
    }
}
