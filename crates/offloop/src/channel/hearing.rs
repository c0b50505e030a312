//! What a worker says: the completions, items and releases in its ring, the messages on its socket.
//!
//! All of it is input. A worker that breaks the protocol here is killed by the caller.

use std::io;
use std::os::fd::AsFd;

use offloop_core::TaskId;
use offloop_sys::socket::{self, Wait};

use crate::arena::MappedBlock;
use crate::channel::Channel;
use crate::fault::Violation;
use crate::frame::{self, BlockAddress, FLAG_HOLDS_BLOCKS, FLAG_PAYLOAD_IN_BLOCK, Header, Kind};
use crate::outcome::Status;
use crate::zygote::MESSAGE_BYTES_MAX;

/// What a worker said on its socket.
#[derive(Debug)]
pub(crate) enum Said {
    /// It takes calls.
    Hello,
    /// It never will.
    Failed(String),
    /// A chunk of its arena was mapped, or unmapped.
    Chunk,
    /// It closed its socket.
    End,
}

impl Said {
    /// The violation of a worker that said this although something else was due.
    pub(crate) fn instead_of(&self, instead: &'static str) -> Violation {
        let said = match self {
            Self::Hello => "hello",
            Self::Failed(_) => "that it failed",
            Self::Chunk => "a chunk",
            Self::End => "its end",
        };
        Violation::Said { said, instead }
    }
}

/// A completed call.
#[derive(Debug)]
pub(crate) struct Completed {
    pub(crate) task: TaskId,
    pub(crate) sequence: u64,
    pub(crate) status: Status,
    /// When the call started: the low bits of its microseconds.
    pub(crate) started_us: u32,
    pub(crate) run_ns: u64,
    pub(crate) payload: Vec<u8>,
    pub(crate) blocks: Vec<MappedBlock>,
    pub(crate) payload_in_block: bool,
    pub(crate) holds_blocks: bool,
}

/// An item of a call that goes on.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) task: TaskId,
    pub(crate) sequence: u64,
    pub(crate) number: u64,
    pub(crate) cost: u64,
    pub(crate) payload: Vec<u8>,
    pub(crate) blocks: Vec<MappedBlock>,
    pub(crate) payload_in_block: bool,
}

/// What a worker said in its ring.
#[derive(Debug)]
pub(crate) enum Heard {
    Completed(Completed),
    Arrived(Arrived),
}

impl Channel {
    /// Whether a completion or an item waits.
    pub(crate) fn has_completions(&self) -> bool {
        !self.completions.is_empty()
    }

    /// The next completion or item, if there is one.
    pub(crate) fn try_hear(&mut self) -> Result<Option<Heard>, Violation> {
        loop {
            self.buffer.clear();
            let mut buffer = std::mem::take(&mut self.buffer);
            let popped = self.completions.try_pop(&mut buffer);
            let result = match popped {
                Ok(false) => Ok(None),
                Ok(true) => self.decode(&buffer).map(Some),
                Err(corrupt) => Err(corrupt.into()),
            };
            self.buffer = buffer;
            match result? {
                None => return Ok(None),
                Some(None) => {}
                Some(Some(heard)) => return Ok(Some(heard)),
            }
        }
    }

    fn decode(&mut self, bytes: &[u8]) -> Result<Option<Heard>, Violation> {
        let frame = frame::decode(bytes)?;
        let Header {
            kind,
            flags,
            detail,
            function,
            sequence,
        } = frame.header;
        match kind {
            Kind::Release => {
                // Only held blocks can be released, so a worker cannot send releases without end.
                let held = self.held.remove(&sequence);
                return match held {
                    Some(_) if frame.payload.is_empty() => Ok(None),
                    _ => Err(Violation::NotHeld { sequence }),
                };
            }
            Kind::Item => return self.decode_item(&frame).map(Some),
            Kind::Completion => {}
            kind => return Err(frame::FrameError::Direction { kind }.into()),
        }
        let front = self
            .flights
            .front()
            .filter(|flight| flight.sequence == sequence);
        let Some(task) = front.map(|flight| flight.task) else {
            return Err(Violation::NotRunning { sequence });
        };
        let status = Status::from_byte(detail).ok_or(Violation::Status { status: detail })?;
        let mut blocks = Vec::with_capacity(frame.blocks.len());
        for address in frame.blocks {
            blocks.push(self.result_block(address)?);
        }
        // Until here the call counts as running: it is lost with a worker that lies about it.
        self.flights.pop_front();
        self.note_read(sequence);
        Ok(Some(Heard::Completed(Completed {
            task,
            sequence,
            status,
            started_us: function,
            run_ns: frame.word,
            payload: frame.payload.to_vec(),
            blocks,
            payload_in_block: flags & FLAG_PAYLOAD_IN_BLOCK != 0,
            holds_blocks: flags & FLAG_HOLDS_BLOCKS != 0,
        })))
    }

    /// An item must be the next one of the call that runs, and must fit into its window.
    fn decode_item(&mut self, frame: &frame::Frame<'_>) -> Result<Heard, Violation> {
        let (sequence, number) = (frame.header.sequence, frame.word);
        let front = self.flights.front_mut();
        let Some(flight) = front.filter(|flight| flight.sequence == sequence) else {
            return Err(Violation::NotRunning { sequence });
        };
        let Some(inflow) = &mut flight.inflow else {
            return Err(Violation::NoStream { sequence });
        };
        let task = flight.task;
        let cost = frame::cost_of_item(frame.payload.len(), &frame.blocks);
        inflow.handle_item(number, cost)?;
        let mut blocks = Vec::with_capacity(frame.blocks.len());
        for address in &frame.blocks {
            blocks.push(self.result_block(*address)?);
        }
        Ok(Heard::Arrived(Arrived {
            task,
            sequence,
            number,
            cost,
            payload: frame.payload.to_vec(),
            blocks,
            payload_in_block: frame.header.flags & FLAG_PAYLOAD_IN_BLOCK != 0,
        }))
    }

    fn result_block(&mut self, address: BlockAddress) -> Result<MappedBlock, Violation> {
        while !self.results.contains(address.chunk) {
            match self.try_message() {
                Ok(Some(Said::Chunk)) => {}
                Ok(Some(said)) => return Err(said.instead_of("instead of a chunk")),
                Ok(None) => {
                    let chunk = address.chunk;
                    return Err(Violation::NoChunk { chunk });
                }
                Err(source) => return Err(Violation::Socket { source }),
            }
        }
        let block = self.results.block(address);
        block.ok_or(Violation::NoBlock { address })
    }

    /// The next message of the worker, if there is one.
    pub(crate) fn try_message(&mut self) -> io::Result<Option<Said>> {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let received = socket::receive(self.socket.as_fd(), &mut buffer, Wait::No);
        let (len, descriptors) = match received {
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
                        Ok(Some(Said::End))
                    }
                    _ => Err(error),
                };
            }
            Ok(received) => received,
        };
        match (&buffer[..len], descriptors.into_iter().next()) {
            ([b'h'], _) => Ok(Some(Said::Hello)),
            ([b'f', text @ ..], _) => Ok(Some(Said::Failed(
                String::from_utf8_lossy(text).into_owned(),
            ))),
            ([b'c', number @ ..], Some(fd)) if number.len() == 4 => {
                let number = u32::from_ne_bytes(*number.first_chunk().expect("4 bytes"));
                self.results.add(number, fd)?;
                Ok(Some(Said::Chunk))
            }
            ([b'd', number @ ..], None) if number.len() == 4 => {
                let number = u32::from_ne_bytes(*number.first_chunk().expect("4 bytes"));
                self.results.remove(number)?;
                Ok(Some(Said::Chunk))
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "malformed message",
            )),
        }
    }
}
