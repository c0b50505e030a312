//! How a worker hands over outcomes, and tells their owners.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

use offloop_core::Announce;
use offloop_sys::socket::{self, Wait};
use offloop_sys::{clock, handshake};

use crate::arena::Block;
use crate::frame::{FLAG_HOLDS_BLOCKS, FLAG_PAYLOAD_IN_BLOCK, Head, Header, Kind};
use crate::outcome::Status;
use crate::releases::Lent;
use crate::worker::{Call, WorkerChannel, interrupts};

/// How long a completed call may wait for its owner before its worker tells the supervisor.
const NUDGE_AFTER: Duration = Duration::from_millis(1);
/// While more calls wait in the ring, a patient owner is told of completions this late: several in
/// one wake-up of its loop, which costs as much as running a short call.
const TELL_AFTER: Duration = Duration::from_micros(250);

/// Flags of a completion.
#[derive(Clone, Copy, Debug, Default)]
pub struct CompletionFlags {
    /// The payload lies in the first block.
    pub payload_in_block: bool,
    /// Blocks of the call are still in use.
    pub holds_blocks: bool,
}

impl WorkerChannel {
    /// Hands over the outcome of `call`. `holds_blocks`: some of its blocks are still in use here;
    /// [`release`](Self::release) follows.
    ///
    /// # Errors
    /// The system's, when the channel was closed behind our back.
    pub fn complete(
        &mut self,
        call: &Call,
        status: Status,
        payload: &[u8],
        blocks: Vec<Block>,
        flags: CompletionFlags,
    ) -> io::Result<()> {
        Self::end_call();
        for block in &blocks {
            self.pass_chunk(block.address().chunk)?;
        }
        let addresses: Vec<_> = blocks.iter().map(Block::address).collect();
        let header = Header {
            kind: Kind::Completion,
            flags: (u8::from(flags.payload_in_block) * FLAG_PAYLOAD_IN_BLOCK)
                | (u8::from(flags.holds_blocks) * FLAG_HOLDS_BLOCKS),
            detail: status as u8,
            // Wraps after an hour; the parent knows about when it was.
            function: (call.started_ns / 1_000) as u32,
            sequence: call.sequence,
        };
        let run_ns = clock::monotonic_ns().saturating_sub(call.started_ns);
        let head = Head::new(header, run_ns, &addresses);
        if !blocks.is_empty() {
            self.lent.insert(Lent::of_call(call.sequence), blocks);
        }
        let [first, more] = head.parts();
        self.push_waiting(&[first, more, payload])?;
        let announce = if self.requests.is_empty() {
            Announce::AtOnce
        } else {
            Announce::Together
        };
        self.tell(call, announce)
    }

    /// Marks the running call as over for the interrupt signal: from now on it is too late.
    pub fn end_call() {
        interrupts::end_call();
    }

    /// Gives back the blocks of an earlier call, whose last user has let go of them.
    pub fn release(&mut self, sequence: u64) {
        self.owed_releases.add(Lent::of_call(sequence));
        self.owed_releases.push(&mut self.completions);
    }

    /// There is nothing more to run: owners that were to be told later are told now.
    pub(super) fn tell_deferred(&mut self) -> io::Result<()> {
        match self.deferred.take() {
            Some(owner) if self.segment.pending(owner).load(Ordering::Relaxed) != 0 => {
                self.owners[&owner].event.signal()
            }
            _ => Ok(()),
        }
    }

    /// Tells the owner of `call` that there is something; `Together`: a patient one a little later.
    pub(super) fn tell(&mut self, call: &Call, announce: Announce) -> io::Result<()> {
        if handshake::raise_pending(self.segment.pending(call.owner)) {
            while !self.owners.contains_key(&call.owner) {
                self.receive(Wait::Yes)?;
            }
            let told = &self.owners[&call.owner];
            match &told.timer {
                Some(timer) if announce == Announce::Together => {
                    timer.arm(TELL_AFTER)?;
                    self.deferred = Some(call.owner);
                }
                _ => told.event.signal()?,
            }
        }
        if call.any_thread && handshake::claim_nudge(self.segment.nudge_armed()) {
            self.nudge.arm(NUDGE_AFTER)?;
        }
        Ok(())
    }

    /// Pushes a completion or an item; when the parent is that far behind, wakes its supervisor and
    /// waits for room (the parent's end of file ends the wait).
    pub(super) fn push_waiting(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        while self.completions.try_push(parts).is_err() {
            self.supervisor.signal()?;
            let limit = Some(Duration::from_millis(1));
            match socket::wait_readable(self.socket.as_fd(), limit) {
                Ok(true) => self.receive(Wait::No).or_else(|error| match error.kind() {
                    io::ErrorKind::WouldBlock => Ok(()),
                    _ => Err(error),
                })?,
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tells the parent which of the chunks that it has were closed.
    pub(super) fn tell_closed(&mut self) -> io::Result<()> {
        for number in self.results.take_closed() {
            if let Some(index) = self.passed.iter().position(|passed| *passed == number) {
                let message = [b"d".as_slice(), &number.to_ne_bytes()].concat();
                socket::send(self.socket.as_fd(), &message, &[], Wait::Yes)?;
                self.passed.swap_remove(index);
            }
        }
        Ok(())
    }

    pub(super) fn pass_chunk(&mut self, number: u32) -> io::Result<()> {
        if self.passed.contains(&number) {
            return Ok(());
        }
        let fd = self.results.chunk_fd(number)?;
        let mut message = vec![b'c'];
        message.extend_from_slice(&number.to_ne_bytes());
        socket::send(self.socket.as_fd(), &message, &[fd.as_fd()], Wait::Yes)?;
        self.passed.push(number);
        Ok(())
    }
}
