//! The parent's end of one worker: its rings, its socket, its process, and its calls in flight.
//!
//! Invariants: 1. `flights` lists the calls in the worker's ring that were not revoked, in the
//!                order of their sequence numbers; the worker completes them in that order.
//!             2. A block that was passed to the worker lives until the worker released it or
//!                ended.
//! Errors:     `Violation`: the worker broke the protocol, and is killed.
//! Threads:    only under the runtime's lock.

mod hearing;
mod life;
mod telling;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use offloop_core::{Inflow, TaskId, WorkerId};
use offloop_sys::event::{Event, Timer};
use offloop_sys::fork::ForkGuarded;
use offloop_sys::ring::{Consumer, Producer};
use offloop_sys::segment::{CallState, STATES, Segment, SegmentRing};
use offloop_sys::socket::{self, Wait};
use offloop_sys::{handshake, process};

use crate::arena::{Arena, Block, MappedBlock, PeerChunks};
use crate::call::{Definition, Payload};
use crate::channel::telling::Told;
use crate::fault::WorkerFault;
use crate::frame::{
    BlockAddress, FLAG_ANY_THREAD, FLAG_COPY_BLOCKS, FLAG_PAYLOAD_IN_BLOCK, FLAG_STREAM, Head,
    Header, Kind,
};
use crate::outcome::ReturnedBlocks;
use crate::releases::{Lent, OwedReleases};
use crate::snapshot::WorkerState;
use crate::stderr::Pipe;

pub(crate) use self::hearing::{Arrived, Completed, Heard, Said};
pub(crate) use self::life::{Life, Process, Prospect};

/// Why a call was not pushed.
#[derive(Debug)]
pub(crate) enum PushError {
    /// No room now.
    Full,
    /// The system refused, or the worker has ended.
    Gone,
}

#[derive(Debug)]
struct Flight {
    sequence: u64,
    task: TaskId,
    /// What has come of its items, if it streams.
    inflow: Option<Inflow>,
}

/// The descriptors that a new worker gets.
pub(crate) struct WorkerEnds {
    pub(crate) socket: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

pub(crate) struct Channel {
    pub(crate) worker: WorkerId,
    pub(crate) life: Life,
    pub(crate) stderr: Arc<Pipe>,
    /// Why it is being ended, when neither asked to exit nor killed for a call.
    fault: Option<WorkerFault>,
    /// It was asked to exit: before or after it was killed, and also while it starts.
    asked_to_exit: bool,
    socket: ForkGuarded,
    segment: Segment,
    submissions: Producer<SegmentRing>,
    completions: Consumer<SegmentRing>,
    sequence: u64,
    flights: VecDeque<Flight>,
    told: Told,
    owners: u64,
    chunks: HashSet<u32>,
    /// Chunks that were closed, and that the worker has not been told of: its socket was full.
    closed_chunks: Vec<u32>,
    held: HashMap<u64, Vec<Block>>,
    results: PeerChunks,
    owed_releases: OwedReleases,
    buffer: Vec<u8>,
    pub(crate) lifeline: Option<Arc<ForkGuarded>>,
}

impl Channel {
    /// The parent's end of a worker that is about to be forked.
    pub(crate) fn new(
        worker: WorkerId,
        segment: Segment,
        socket: ForkGuarded,
        stderr: Arc<Pipe>,
    ) -> Self {
        Self {
            worker,
            life: Life::new(),
            stderr,
            fault: None,
            asked_to_exit: false,
            socket,
            submissions: segment.submission_producer(),
            completions: segment.completion_consumer(),
            segment,
            sequence: 0,
            flights: VecDeque::new(),
            told: Told::default(),
            owners: 0,
            chunks: HashSet::new(),
            closed_chunks: Vec::new(),
            held: HashMap::new(),
            results: PeerChunks::default(),
            owed_releases: OwedReleases::default(),
            buffer: Vec::new(),
            lifeline: None,
        }
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    pub(crate) fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Pushes a call into the worker's ring and wakes the worker if it sleeps.
    pub(crate) fn push(&mut self, call: &PushedCall<'_>) -> Result<(), PushError> {
        if self.life.has_ended() || self.flights.len() + 2 >= STATES {
            return Err(PushError::Full);
        }
        self.owed_releases.push(&mut self.submissions);
        self.tell_closed();
        self.tell_forgotten()?;
        self.pass_owner(call)?;
        self.tell_needs(call)?;
        self.pass_chunks(&call.payload.blocks, call.arena)?;
        let sequence = self.sequence + 1;
        let header = Header {
            kind: Kind::Call,
            flags: (u8::from(call.payload.in_block) * FLAG_PAYLOAD_IN_BLOCK)
                | (u8::from(call.any_thread) * FLAG_ANY_THREAD)
                | (u8::from(call.copy_blocks) * FLAG_COPY_BLOCKS)
                | (u8::from(call.streams) * FLAG_STREAM),
            detail: call.owner,
            function: call.function.map_or(0, |function| function.id()),
            sequence,
        };
        self.segment
            .spin_ns()
            .store(call.spin_ns, std::sync::atomic::Ordering::Relaxed);
        self.segment.mark_fetched(sequence);
        self.push_frame(header, call.payload)?;
        self.sequence = sequence;
        self.flights.push_back(Flight {
            sequence,
            task: call.task,
            inflow: call.streams.then(Inflow::default),
        });
        self.ring_doorbell()
    }

    fn push_frame(&mut self, header: Header, payload: &Payload) -> Result<(), PushError> {
        let mut addresses = [BlockAddress {
            chunk: 0,
            offset: 0,
            len: 0,
        }; 4];
        let many: Vec<BlockAddress>;
        let addresses = if payload.blocks.len() <= addresses.len() {
            for (address, block) in addresses.iter_mut().zip(&payload.blocks) {
                *address = block.address();
            }
            &addresses[..payload.blocks.len()]
        } else {
            many = payload.blocks.iter().map(Block::address).collect();
            &many
        };
        let head = Head::new(header, 0, addresses);
        let [first, more] = head.parts();
        self.submissions
            .try_push(&[first, more, &payload.inline])
            .map_err(|_full| PushError::Full)
    }

    fn ring_doorbell(&self) -> Result<(), PushError> {
        if !handshake::take_sleeper(self.segment.sleeping()) {
            return Ok(());
        }
        match socket::send(self.socket.as_fd(), b"w", &[], Wait::No) {
            // A full socket has messages in it, so the worker wakes anyway. The calls of a worker
            // that has ended get their outcome from its exit.
            Ok(()) => Ok(()),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionReset => Ok(()),
                _ => Err(PushError::Gone),
            },
        }
    }

    fn pass_owner(&mut self, call: &PushedCall<'_>) -> Result<(), PushError> {
        let bit = 1u64 << call.owner;
        if self.owners & bit != 0 {
            return Ok(());
        }
        let message = [b'o', call.owner];
        match call.timer {
            None => self.pass(&message, &[call.event.as_fd()])?,
            Some(timer) => self.pass(&message, &[call.event.as_fd(), timer.as_fd()])?,
        }
        self.owners |= bit;
        Ok(())
    }

    fn pass_chunks(&mut self, blocks: &[Block], arena: &Arena) -> Result<(), PushError> {
        for block in blocks {
            let number = block.address().chunk;
            if self.chunks.contains(&number) {
                continue;
            }
            let fd = arena.chunk_fd(number).map_err(|_| PushError::Gone)?;
            let mut message = [b'c', 0, 0, 0, 0];
            message[1..].copy_from_slice(&number.to_ne_bytes());
            self.pass(&message, &[fd.as_fd()])?;
            self.chunks.insert(number);
        }
        Ok(())
    }

    /// Chunks of our arena were closed: the worker unmaps those that it has.
    pub(crate) fn close_chunks(&mut self, numbers: &[u32]) {
        let Self {
            chunks,
            closed_chunks,
            ..
        } = self;
        closed_chunks.extend(numbers.iter().filter(|number| chunks.remove(number)));
        self.tell_closed();
    }

    /// A worker whose socket is full is told with its next call; one that has ended needs nothing.
    fn tell_closed(&mut self) {
        while let Some(number) = self.closed_chunks.last() {
            let mut message = [b'd', 0, 0, 0, 0];
            message[1..].copy_from_slice(&number.to_ne_bytes());
            if self.pass(&message, &[]).is_err() {
                return;
            }
            self.closed_chunks.pop();
        }
    }

    fn pass(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<(), PushError> {
        socket::send(self.socket.as_fd(), message, fds, Wait::No).map_err(|error| {
            match error.kind() {
                io::ErrorKind::WouldBlock => PushError::Full,
                _ => PushError::Gone,
            }
        })
    }

    /// Asks the worker to exit.
    pub(crate) fn retire(&mut self) -> Result<(), PushError> {
        self.push_frame(Header::of(Kind::Retire), &Payload::default())?;
        self.asked_to_exit = !self.life.has_ended();
        self.ring_doorbell()
    }

    /// Takes `task` back if the worker has not started it.
    pub(crate) fn revoke(&mut self, task: TaskId) -> bool {
        let Some(index) = self.flights.iter().rposition(|flight| flight.task == task) else {
            return false;
        };
        let revoked = self.segment.try_revoke(self.flights[index].sequence);
        if revoked {
            self.flights.remove(index);
        }
        revoked
    }

    /// When the worker started `task`, on the monotonic clock; `None` when it has not.
    pub(crate) fn started_at_ns(&self, task: TaskId) -> Option<u64> {
        let front = self.flights.front().filter(|flight| flight.task == task)?;
        let started = self.segment.call_state(front.sequence) == Some(CallState::Started);
        started.then(|| {
            self.segment
                .started_at_ns()
                .load(std::sync::atomic::Ordering::Acquire)
        })
    }

    /// How many calls the worker holds, the one that it runs included.
    pub(crate) fn calls(&self) -> usize {
        self.flights.len()
    }

    /// The task that the worker had started and not completed.
    pub(crate) fn started(&self) -> Option<TaskId> {
        let front = self.flights.front()?;
        let started = self.segment.call_state(front.sequence) == Some(CallState::Started);
        started.then_some(front.task)
    }

    /// Asks the worker to stop `task`, if that is what it runs.
    pub(crate) fn interrupt(&self, task: TaskId) -> io::Result<()> {
        let flight = self.flights.iter().find(|flight| flight.task == task);
        let (Some(flight), Some(process)) = (flight, self.life.process()) else {
            return Ok(());
        };
        self.segment
            .interrupt_for()
            .store(flight.sequence, std::sync::atomic::Ordering::Release);
        process::signal(process.pidfd.as_fd(), process::interrupt_signal())?;
        // A signal that comes before a worker sleeps in the middle of a stream would be slept over.
        // A worker that cannot be told has ended.
        let _ = self.ring_doorbell();
        Ok(())
    }

    /// The consumer of call `sequence` has taken items of this cost: its worker may send more.
    pub(crate) fn tell_taken(&mut self, sequence: u64, cost: u64) {
        let front = self.flights.front_mut();
        let flight = front.filter(|flight| flight.sequence == sequence);
        let Some(inflow) = flight.and_then(|flight| flight.inflow.as_mut()) else {
            return;
        };
        let taken = inflow.handle_taken(cost);
        self.segment
            .taken(sequence)
            .store(taken, std::sync::atomic::Ordering::Release);
        // A worker that cannot be told has ended.
        let _ = self.ring_doorbell();
    }

    /// Ends the worker at once, with the programs that its call has started.
    pub(crate) fn kill(&self) -> io::Result<()> {
        self.kill_group();
        self.kill_alone()
    }

    /// Ends the worker at once, if it has not ended by itself.
    pub(crate) fn kill_alone(&self) -> io::Result<()> {
        let process = self.life.process();
        process.map_or(Ok(()), |process| process::kill(process.pidfd.as_fd()))
    }

    /// Ends what is left of the programs that the worker has started.
    pub(crate) fn kill_group(&self) {
        if let Some(Process { pid, pidfd }) = self.life.process() {
            // The program has changed its user on purpose if it may not signal its worker.
            let _ = process::kill_group(pidfd.as_fd(), *pid);
        }
    }

    /// Why it is to be ended: the first fault, or how it broke the protocol, whatever came before.
    pub(crate) fn blame(&mut self, fault: impl Into<WorkerFault>) {
        let fault = fault.into();
        if self.fault.is_none() || matches!(fault, WorkerFault::Violation(_)) {
            self.fault = Some(fault);
        }
    }

    /// Whether nothing in its ring is believed any more.
    pub(crate) const fn broke_the_protocol(&self) -> bool {
        matches!(self.fault, Some(WorkerFault::Violation(_)))
    }

    /// Why it was ended, when it did not end by itself.
    pub(crate) fn take_fault(&mut self) -> Option<WorkerFault> {
        self.fault.take()
    }

    /// What a snapshot says of the worker, once it has a process.
    pub(crate) fn state(&self) -> WorkerState {
        match &self.life {
            Life::Ended { .. } => WorkerState::Ended,
            Life::Running { killed: true, .. } => WorkerState::Ending,
            _ if self.asked_to_exit => WorkerState::Ending,
            life if !life.is_ready() => WorkerState::Starting,
            _ if self.flights.is_empty() => WorkerState::Idle,
            _ => WorkerState::Busy,
        }
    }

    /// Keeps the blocks of a completed call that the worker still uses.
    pub(crate) fn hold(&mut self, sequence: u64, blocks: Vec<Block>) {
        if !self.life.has_ended() {
            self.held.insert(sequence, blocks);
        }
    }

    /// Tells the worker that the blocks of a result, or of an item, are not read any more.
    pub(crate) fn release(&mut self, lent: Lent) {
        self.owed_releases.add(lent);
        self.owed_releases.push(&mut self.submissions);
    }

    /// Wakes the worker if it sleeps beside a release.
    pub(crate) fn ring_for_releases(&mut self) {
        self.owed_releases.push(&mut self.submissions);
        if self.life.is_ready() && !self.submissions.is_empty() {
            // A worker that cannot be told has ended, and its memory with it.
            let _ = self.ring_doorbell();
        }
    }
}

/// What [`Channel::push`] needs of a call.
pub(crate) struct PushedCall<'call> {
    pub(crate) task: TaskId,
    pub(crate) owner: u8,
    pub(crate) event: &'call Event,
    pub(crate) timer: Option<&'call Timer>,
    pub(crate) any_thread: bool,
    pub(crate) copy_blocks: bool,
    pub(crate) streams: bool,
    pub(crate) function: Option<&'call Arc<Definition>>,
    pub(crate) needs: &'call [Arc<Definition>],
    pub(crate) payload: &'call Payload,
    pub(crate) surroundings: Option<&'call Arc<Definition>>,
    pub(crate) arena: &'call Arena,
    pub(crate) spin_ns: u32,
}

/// Builds the result's blocks with a lease that tells the worker when they are free.
pub(crate) fn returned_blocks(
    blocks: Vec<MappedBlock>,
    lease: Arc<dyn Send + Sync + std::fmt::Debug>,
) -> ReturnedBlocks {
    ReturnedBlocks { blocks, lease }
}
