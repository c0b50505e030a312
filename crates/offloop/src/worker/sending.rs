//! How a worker sends the items of a stream, and waits for their consumer.
//!
//! It runs ahead of the consumer by a window (`offloop_core::Outflow`), and then sleeps until items
//! were taken, or until the call is to stop. The parent wakes it for both. What else comes through
//! the ring meanwhile is taken off it: a release frees memory that the stream can use again, and
//! everything else is kept for after the stream.
//!
//! Invariants: 1. Frames are read in their order, releases apart.
//!             2. What is kept is little: the pool gives a worker nothing more behind a stream.

use std::io;
use std::sync::atomic::Ordering;

use offloop_sys::{clock, handshake};

use crate::arena::Block;
use crate::frame::{self, FLAG_PAYLOAD_IN_BLOCK, Head, Header, Kind};
use crate::releases::Lent;
use crate::worker::{Call, Wake, WorkerChannel};

impl WorkerChannel {
    /// Whether the next item of `call` may be sent now.
    #[must_use]
    pub fn may_send(&self, call: &Call) -> bool {
        // Acquire: the releases that were pushed before the parent told of this are in the ring.
        let taken = self.segment.taken(call.sequence).load(Ordering::Acquire);
        call.outflow.may_send(taken)
    }

    /// Sends an item of `call`, which [`may_send`](Self::may_send) has allowed; `in_block`: the
    /// first block takes the place of `payload`.
    ///
    /// # Errors
    /// The system's, when the channel was closed behind our back.
    pub fn send_item(
        &mut self,
        call: &mut Call,
        payload: &[u8],
        blocks: Vec<Block>,
        in_block: bool,
    ) -> io::Result<()> {
        for block in &blocks {
            self.pass_chunk(block.address().chunk)?;
        }
        let addresses: Vec<_> = blocks.iter().map(Block::address).collect();
        let cost = frame::cost_of_item(payload.len(), &addresses);
        let (number, announce) = call.outflow.note_sent(cost, clock::monotonic_ns());
        let header = Header {
            flags: u8::from(in_block) * FLAG_PAYLOAD_IN_BLOCK,
            sequence: call.sequence,
            ..Header::of(Kind::Item)
        };
        if !blocks.is_empty() {
            let (sequence, item) = (call.sequence, number);
            self.lent.insert(Lent { sequence, item }, blocks);
        }
        let head = Head::new(header, number, &addresses);
        let [first, more] = head.parts();
        self.push_waiting(&[first, more, payload])?;
        self.tell(call, announce)?;
        self.look_ahead()
    }

    /// Sleeps until the next item of `call` may be sent, or the call is to stop, or a signal has
    /// come; perhaps less long. The caller holds no lock meanwhile.
    ///
    /// # Errors
    /// The system's, when the channel was closed behind our back.
    pub fn wait_in_stream(&mut self, call: &Call) -> io::Result<Wake> {
        self.tell_deferred()?;
        self.look_ahead()?;
        self.owed_releases.push(&mut self.completions);
        self.tell_closed()?;
        self.poll_started.set(clock::monotonic_ns());
        handshake::prepare_sleep(self.segment.sleeping());
        if self.may_send(call) || self.is_interrupted() || !self.requests.is_empty() {
            handshake::end_sleep(self.segment.sleeping());
            return Ok(Wake::Ring);
        }
        self.doze()
    }

    /// Takes what is in the ring off it: releases at once, the rest for later.
    fn look_ahead(&mut self) -> io::Result<()> {
        while !self.requests.is_empty() {
            let mut bytes = Vec::new();
            let popped = self.requests.try_pop(&mut bytes);
            if !popped.map_err(io::Error::other)? {
                break;
            }
            let frame = frame::decode(&bytes).map_err(io::Error::other)?;
            if frame.header.kind == Kind::Release {
                self.take_back(frame.header.sequence, frame.payload)?;
            } else {
                self.ahead.push_back(bytes);
            }
        }
        Ok(())
    }
}
