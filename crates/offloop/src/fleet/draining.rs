//! What workers say: the completions in their rings, and the messages on their sockets.

use std::collections::HashMap;
use std::time::Duration;

use offloop_core::{ITEMS_MAX, Instant, WorkerId, limits};
use offloop_sys::{clock, handshake, process};

use crate::arena::MappedBlock;
use crate::channel::{Arrived, Completed, Heard, Said, returned_blocks};
use crate::fault::{Fault, Violation, WorkerFault};
use crate::fleet::{Desk, Fleet, Watch};
use crate::item::{Item, Source};
use crate::notice::{News, Notice};
use crate::outcome::{Returned, ReturnedBlocks};
use crate::releases::{Lease, Lent};

/// Completions and items taken from one channel before the next channel gets its turn.
const HEARD_PER_PASS: usize = 512;
/// A pass takes what a worker with one stream may have in its ring when it begins, and what comes
/// later is announced anew. What several streams in a row have left is announced by the pass.
const _: () = assert!(HEARD_PER_PASS as u64 >= limits::PREFETCH_TASKS_MAX as u64 + ITEMS_MAX);
/// The longest run whose beginning the low bits of microseconds tell.
const RUN_TOLD_MAX_NS: u64 = 3_600_000_000_000;
/// Messages taken from one worker's socket before the next worker gets its turn.
const MESSAGES_PER_PASS: usize = 64;

/// The longest time ago at which such a run began. What the low bits say beyond it is later than
/// now.
const BEGAN_AGO_MAX_NS: u64 = RUN_TOLD_MAX_NS + 600_000_000_000;

/// When a call began and ended that ran for so long. A worker says when it started by the low bits
/// of its microseconds, which say it for a call of up to an hour. A worker that says nothing
/// possible is taken to have ended just now.
fn ran(now: Instant, started_us: u32, run_ns: u64) -> (Option<Instant>, Option<Instant>) {
    let ago_us = ((now.as_nanos() / 1_000) as u32).wrapping_sub(started_us);
    let ago_ns = (u64::from(ago_us) + 1) * 1_000;
    let told = run_ns..=BEGAN_AGO_MAX_NS;
    let ago_ns = if run_ns > RUN_TOLD_MAX_NS || !told.contains(&ago_ns) {
        run_ns
    } else {
        ago_ns
    };
    let began = now.as_nanos().saturating_sub(ago_ns);
    let instant = |ns: u64| Some(Instant::from_nanos(ns).min(now));
    (instant(began), instant(began.saturating_add(run_ns)))
}

impl Fleet {
    /// Takes the completions and items of one worker, at most a pass of them; true when some may be
    /// left.
    pub(crate) fn drain(&mut self, desk: &mut Desk<'_>, worker: WorkerId) -> bool {
        for _ in 0..HEARD_PER_PASS {
            let Some(channel) = self.channel_mut(worker) else {
                return false;
            };
            if channel.broke_the_protocol() {
                return false;
            }
            match channel.try_hear() {
                Ok(Some(Heard::Completed(completed))) => self.complete(desk, worker, completed),
                Ok(Some(Heard::Arrived(arrived))) => self.arrive(desk, worker, arrived),
                Ok(None) => return false,
                Err(violation) => {
                    channel.blame(violation);
                    self.kill(desk, worker);
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
            started_us,
            run_ns,
            payload,
            blocks,
            ..
        } = completed;
        let lent = Lent::of_call(sequence);
        let blocks = self.lease(desk, worker, lent, blocks);
        let blocks = blocks.map(|blocks| (blocks, completed.payload_in_block));
        if completed.holds_blocks {
            let call = self.pool.payload_mut(task);
            let held = call.map(|call| std::mem::take(&mut call.payload.blocks));
            if let Some(channel) = self.channel_mut(worker) {
                channel.hold(sequence, held.unwrap_or_default());
            }
        }
        if let Some(note) = self.note(task) {
            // A short call may have begun after the desk's clock was read.
            let now = Instant::from_nanos(clock::monotonic_ns());
            (note.started, note.finished) = ran(now, started_us, run_ns);
        }
        let returned = Returned {
            status,
            payload,
            blocks,
            run_ns,
        };
        let run = Duration::from_nanos(run_ns);
        self.pool
            .handle_completion(desk.now, worker, task, run, returned);
        self.run_actions(desk);
    }

    fn lease(
        &self,
        desk: &Desk<'_>,
        worker: WorkerId,
        lent: Lent,
        blocks: Vec<MappedBlock>,
    ) -> Option<ReturnedBlocks> {
        if blocks.is_empty() {
            return None;
        }
        let bytes = blocks.iter().map(|block| block.len() as u64).sum();
        let lease = Lease::new(desk.releases, self.number, worker, lent, bytes);
        Some(returned_blocks(blocks, lease))
    }

    /// Posts an item to the owner of its call.
    fn arrive(&mut self, desk: &mut Desk<'_>, worker: WorkerId, arrived: Arrived) {
        let Arrived {
            task,
            sequence,
            number,
            cost,
            payload,
            blocks,
            payload_in_block,
        } = arrived;
        let lent = Lent {
            sequence,
            item: number,
        };
        let blocks = self.lease(desk, worker, lent, blocks);
        let item = Item {
            payload,
            blocks: blocks.map(|blocks| (blocks, payload_in_block)),
            cost,
            source: Source {
                fleet: self.number,
                worker,
                sequence,
            },
        };
        self.pool.handle_item(task);
        if let Some(call) = self.pool.payload(task) {
            let notice = Notice {
                token: call.token,
                any_thread: false,
                news: News::Arrived(item),
            };
            desk.mailboxes.deliver(call.owner, notice);
        }
    }

    /// Channels with a completion or an item for `owner`, or for any when `owner` is `None`.
    pub(crate) fn with_completions(
        &self,
        owner: Option<u8>,
        found: &mut HashMap<u32, Vec<WorkerId>>,
    ) {
        for channel in self.channels() {
            let told =
                owner.is_none_or(|owner| handshake::take_pending(channel.segment().pending(owner)));
            if (told || owner.is_none()) && channel.has_completions() {
                found.entry(self.number).or_default().push(channel.worker);
            }
        }
    }

    /// Reads what a worker said on its socket.
    pub(crate) fn handle_socket(&mut self, desk: &mut Desk<'_>, worker: WorkerId) {
        for _ in 0..MESSAGES_PER_PASS {
            let Some(channel) = self.channel_mut(worker) else {
                return;
            };
            match channel.try_message() {
                Ok(Some(Said::Hello)) if channel.life.greet() => self.welcome(desk, worker),
                Ok(Some(Said::Failed(_))) if channel.life.is_unwanted() => {}
                Ok(Some(Said::Failed(text))) if !channel.life.has_greeted() => {
                    let pid = channel.life.pid().unwrap_or(0);
                    self.break_lanes(desk, Fault::BeginFailed { pid, text });
                    return;
                }
                Ok(Some(said @ (Said::Hello | Said::Failed(_)))) => {
                    channel.blame(said.instead_of("after its hello"));
                    self.watch.push(Watch::Quiet(worker));
                    self.kill(desk, worker);
                    return;
                }
                Ok(Some(Said::Chunk)) => {}
                Ok(None) => return,
                Ok(Some(Said::End)) => {
                    // It closed its end, or it ended: in both cases it is of no more use. What it
                    // has completed counts.
                    let running = channel.life.process();
                    let ends = running.is_none_or(|running| process::is_exiting(running.pid));
                    // Programs that were left on purpose go on when their worker ends by itself.
                    if ends {
                        let _ = channel.kill_alone();
                    } else {
                        channel.blame(WorkerFault::ClosedChannel);
                        self.kill(desk, worker);
                    }
                    self.watch.push(Watch::Quiet(worker));
                    return;
                }
                Err(source) => {
                    channel.blame(Violation::Socket { source });
                    self.watch.push(Watch::Quiet(worker));
                    self.kill(desk, worker);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_began_when_its_worker_says_or_ended_just_now() {
        let at = |us: u64| Some(Instant::from_nanos(us * 1_000));
        let now = Instant::from_nanos(9_000_000_000_000);
        let now_us = now.as_nanos() / 1_000;
        let told = |us: u64, run_us: u64| ran(now, us as u32, run_us * 1_000);
        assert_eq!(told(now_us - 51, 20), (at(now_us - 52), at(now_us - 32)));
        let hour = 3_600_000_000;
        let begun = now_us - hour - 9;
        assert_eq!(told(begun, hour), (at(begun - 1), at(now_us - 10)));
        // It would have begun later than now, or run for longer than since then.
        assert_eq!(told(now_us + 30, 20), (at(now_us - 20), Some(now)));
        assert_eq!(told(now_us - 9, 20), (at(now_us - 20), Some(now)));
    }
}
