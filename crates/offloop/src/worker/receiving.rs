//! How a worker gets its next request: from the ring, after a short look around, after a sleep.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use offloop_core::{Instant, Outflow};
use offloop_sys::event::{Event, Timer};
use offloop_sys::socket::{self, Wait};
use offloop_sys::{clock, handshake};

use crate::arena::MappedBlock;
use crate::frame::{
    self, FLAG_ANY_THREAD, FLAG_COPY_BLOCKS, FLAG_PAYLOAD_IN_BLOCK, FLAG_STREAM, Header, Kind,
};
use crate::releases::Lent;
use crate::worker::{Call, DESCRIPTORS_FROM, Request, Told, Wake, WorkerChannel, interrupts};

/// A wait longer than this is not worth spinning for the next time.
const SPIN_GAP_NS_MAX: u64 = 200_000;

impl WorkerChannel {
    /// The next request, if one is in the ring. A call that is returned has been started.
    ///
    /// # Errors
    /// `InvalidData` when the parent broke the protocol; the worker exits then.
    pub fn try_next(&mut self) -> io::Result<Option<Request>> {
        loop {
            let Some(bytes) = self.next_frame()? else {
                self.tell_deferred()?;
                return Ok(None);
            };
            let request = self.decode(&bytes);
            self.buffer = bytes;
            if let Some(request) = request? {
                return Ok(Some(request));
            }
        }
    }

    fn next_frame(&mut self) -> io::Result<Option<Vec<u8>>> {
        if let Some(bytes) = self.ahead.pop_front() {
            return Ok(Some(bytes));
        }
        self.buffer.clear();
        let popped = self.requests.try_pop(&mut self.buffer);
        let popped = popped.map_err(io::Error::other)?;
        Ok(popped.then(|| std::mem::take(&mut self.buffer)))
    }

    /// Looks at the ring for a while when the last call came soon enough to make that worthwhile.
    /// True when something is there.
    pub fn spin(&mut self) -> bool {
        let limit = u64::from(self.segment.spin_ns().load(Ordering::Relaxed));
        let start = clock::monotonic_ns();
        self.poll_started.set(start);
        if limit == 0 || self.waited_ns > SPIN_GAP_NS_MAX {
            return !self.requests.is_empty();
        }
        loop {
            for _ in 0..32 {
                if !self.requests.is_empty() {
                    self.waited_ns = 0;
                    return true;
                }
                std::hint::spin_loop();
            }
            if clock::monotonic_ns() - start > limit {
                return false;
            }
        }
    }

    /// Sleeps until something may be in the ring. The caller holds no lock meanwhile.
    ///
    /// # Errors
    /// The system's, when the channel was closed behind our back.
    pub fn sleep(&mut self) -> io::Result<Wake> {
        self.owed_releases.push(&mut self.completions);
        self.tell_closed()?;
        handshake::prepare_sleep(self.segment.sleeping());
        if handshake::sees_backlog(self.segment.backlog()) {
            self.supervisor.signal()?;
        }
        if !self.requests.is_empty() {
            handshake::end_sleep(self.segment.sleeping());
            return Ok(Wake::Ring);
        }
        self.doze()
    }

    /// Waits on the socket; the caller has looked at all that it waits for since it said that it
    /// sleeps.
    pub(super) fn doze(&mut self) -> io::Result<Wake> {
        let trim_at = self.results.poll_timeout();
        let now = || Instant::from_nanos(clock::monotonic_ns());
        let limit = trim_at.map(|at| at.saturating_duration_since(now()));
        let woken = socket::wait_readable(self.socket.as_fd(), limit);
        handshake::end_sleep(self.segment.sleeping());
        self.waited_ns = clock::monotonic_ns().saturating_sub(self.poll_started.get());
        match woken {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Wake::Signal),
            Err(error) => return Err(error),
            Ok(true) => {}
            Ok(false) => {
                // No call waits, so there is time for it. Nothing is expected soon, so do not spin
                // for it.
                self.results.trim(now());
                self.waited_ns = u64::MAX;
                return Ok(Wake::Ring);
            }
        }
        match self.receive(Wait::No) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Wake::End),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Wake::Ring),
            Err(error) => Err(error),
            Ok(()) => Ok(Wake::Ring),
        }
    }

    fn decode(&mut self, bytes: &[u8]) -> io::Result<Option<Request>> {
        let frame = frame::decode(bytes).map_err(io::Error::other)?;
        let Header {
            kind,
            flags,
            detail,
            function,
            sequence,
        } = frame.header;
        match kind {
            Kind::Release => {
                self.take_back(sequence, frame.payload)?;
                return Ok(None);
            }
            Kind::Retire => return Ok(Some(Request::Retire)),
            Kind::Forget => {
                let (numbers, _) = frame.payload.as_chunks();
                let numbers = numbers.iter().copied().map(u32::from_ne_bytes);
                return Ok(Some(Request::Forget(numbers.collect())));
            }
            Kind::Call | Kind::Define | Kind::Surroundings => {}
            Kind::Completion | Kind::Item => {
                return Err(io::Error::other(frame::FrameError::Direction { kind }));
            }
        }
        if kind == Kind::Call && !self.segment.try_start(sequence) {
            return Ok(None);
        }
        let blocks = frame
            .blocks
            .iter()
            .map(|address| self.block(*address))
            .collect::<io::Result<Vec<_>>>()?;
        if kind != Kind::Call {
            let (inline, block) = (frame.payload.to_vec(), blocks.into_iter().next());
            return Ok(Some(match kind {
                Kind::Define => Request::Define(function, inline, block),
                _ => Request::Surroundings(inline, block),
            }));
        }
        let started_ns = clock::monotonic_ns();
        self.segment
            .started_at_ns()
            .store(started_ns, Ordering::Release);
        interrupts::begin_call(sequence);
        Ok(Some(Request::Call(Call {
            sequence,
            function,
            payload: frame.payload.to_vec(),
            blocks,
            payload_in_block: flags & FLAG_PAYLOAD_IN_BLOCK != 0,
            copy_blocks: flags & FLAG_COPY_BLOCKS != 0,
            streams: flags & FLAG_STREAM != 0,
            outflow: Outflow::default(),
            owner: detail,
            any_thread: flags & FLAG_ANY_THREAD != 0,
            started_ns,
        })))
    }

    /// The parent reads these blocks no more.
    pub(super) fn take_back(&mut self, sequence: u64, payload: &[u8]) -> io::Result<()> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "a release of what?");
        let item = frame::released_item(payload).ok_or_else(invalid)?;
        self.lent.remove(&Lent { sequence, item });
        Ok(())
    }

    fn block(&mut self, address: frame::BlockAddress) -> io::Result<MappedBlock> {
        while !self.chunks.contains(address.chunk) {
            self.receive(Wait::Yes)?;
        }
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("no {address:?}"));
        self.chunks.block(address).ok_or_else(invalid)
    }

    /// Takes one message off the socket.
    pub(super) fn receive(&mut self, wait: Wait) -> io::Result<()> {
        let mut buffer = [0; 64];
        let (len, descriptors) = match socket::receive(self.socket.as_fd(), &mut buffer, wait) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        };
        let mut descriptors = descriptors.into_iter();
        let descriptor = descriptors.next();
        match (&buffer[..len], descriptor) {
            ([b'w'], _) => Ok(()),
            ([b'o', owner], Some(fd)) => {
                let timer = descriptors.next();
                let timer = timer
                    .map(|fd| socket::lift(fd, DESCRIPTORS_FROM))
                    .transpose()?;
                let told = Told {
                    event: Event::from_fd(socket::lift(fd, DESCRIPTORS_FROM)?),
                    timer: timer.map(Timer::from_fd),
                };
                self.owners.insert(*owner, told);
                Ok(())
            }
            ([b'c', number @ ..], Some(fd)) if number.len() == 4 => {
                let number = u32::from_ne_bytes(*number.first_chunk().expect("4 bytes"));
                self.chunks.add(number, fd)
            }
            ([b'd', number @ ..], None) if number.len() == 4 => {
                let number = u32::from_ne_bytes(*number.first_chunk().expect("4 bytes"));
                self.chunks.remove(number)
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "malformed message",
            )),
        }
    }
}
