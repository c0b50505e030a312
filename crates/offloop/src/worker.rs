//! The other side: what runs in a zygote and in a worker process.
//!
//! The extension module and the test worker share it. It knows nothing of Python: the host gives
//! a function that forks, decodes the calls itself, and says how each one ended.
//!
//! A worker runs one call at a time on its main thread. It waits on its socket, whose end of file
//! means that the parent is gone; before it sleeps it looks a little longer at the ring while
//! calls come close together.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use offloop_sys::event::{Event, Timer};
use offloop_sys::memory::Mapping;
use offloop_sys::process::{self, ExitStatus};
use offloop_sys::ring::{self, Consumer, Producer};
use offloop_sys::segment::{Segment, SegmentRing};
use offloop_sys::socket::{self, Wait};
use offloop_sys::{clock, memory};

use crate::arena::{Arena, Block, MappedBlock, PeerChunks};
use crate::frame::{
    self, FLAG_ANY_THREAD, FLAG_COPY_BLOCKS, FLAG_HOLDS_BLOCKS, FLAG_PAYLOAD_IN_BLOCK, Head,
    Header, Kind,
};
use crate::outcome::Status;
use crate::zygote::MESSAGE_BYTES_MAX;

/// Descriptors of a worker are moved here, out of the way of programs that close low numbers.
const DESCRIPTORS_FROM: i32 = 300;
/// A completed call tells the supervisor this long after nobody has fetched it.
const NUDGE_AFTER: std::time::Duration = std::time::Duration::from_millis(1);
/// While more calls wait in the ring, a patient owner is told of completions this late: several in
/// one wake-up of its loop, which costs as much as running a short call.
const TELL_AFTER: std::time::Duration = std::time::Duration::from_micros(250);
/// A wait longer than this is not worth spinning for the next time.
const SPIN_GAP_NS_MAX: u64 = 200_000;

/// The sequence number of the call that runs now, for the interrupt signal's handler.
static CURRENT: AtomicU64 = AtomicU64::new(0);

/// What a forked worker starts with.
#[derive(Debug)]
pub struct Seed {
    socket: OwnedFd,
    segment: OwnedFd,
    stderr: OwnedFd,
    nudge: OwnedFd,
    supervisor: OwnedFd,
    lifeline: OwnedFd,
}

/// The serving side of a zygote.
#[derive(Debug)]
pub struct ZygoteServer {
    socket: OwnedFd,
    /// Its end of file kills the process group; never read.
    lifeline: OwnedFd,
}

/// The setup that a zygote received.
#[derive(Debug)]
pub struct Setup {
    /// The bytes of `Launch::setup`.
    pub bytes: Vec<u8>,
    /// Descriptors of `Launch::inherited`.
    pub inherited: Vec<OwnedFd>,
}

impl ZygoteServer {
    /// Takes over the two descriptors that the parent left at numbers 3 and 4.
    ///
    /// # Errors
    /// The system's, when they are not there: this program was not started by a parent.
    pub fn from_inherited() -> io::Result<Self> {
        let [socket, lifeline] = process::take_inherited()?;
        let socket = socket::lift(socket, DESCRIPTORS_FROM)?;
        let lifeline = socket::lift(lifeline, DESCRIPTORS_FROM)?;
        process::arm_lifeline(lifeline.as_fd())?;
        Ok(Self { socket, lifeline })
    }

    /// Receives the setup.
    ///
    /// # Errors
    /// The system's, or `InvalidData`.
    pub fn receive_setup(&self) -> io::Result<Setup> {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let (len, mut descriptors) = socket::receive(self.socket.as_fd(), &mut buffer, Wait::Yes)?;
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "malformed setup");
        let (kind, rest) = buffer[..len].split_first().ok_or_else(invalid)?;
        let size = u64::from_ne_bytes(*rest.first_chunk().ok_or_else(invalid)?);
        if *kind != b'S' || descriptors.is_empty() {
            return Err(invalid());
        }
        let mapping = Mapping::new(descriptors.remove(0))?;
        let size = usize::try_from(size).map_err(|_| invalid())?;
        if size > mapping.len() {
            return Err(invalid());
        }
        let mut bytes = vec![0; size];
        mapping.read(0, &mut bytes);
        Ok(Setup {
            bytes,
            inherited: descriptors,
        })
    }

    /// Says how the setup went.
    ///
    /// # Errors
    /// The system's.
    pub fn reply_setup(&self, result: Result<(), &str>) -> io::Result<()> {
        let message = match result {
            Ok(()) => vec![b'Z'],
            Err(text) => tagged(b'X', text),
        };
        socket::send(self.socket.as_fd(), &message, &[], Wait::Yes)
    }

    /// Serves requests until the parent is gone (`None`), or, in a forked child, returns the seed
    /// of the worker that it is to become. `fork` returns the child's pid, or `None` in the child.
    ///
    /// # Errors
    /// The system's.
    pub fn serve(
        &self,
        mut fork: impl FnMut() -> io::Result<Option<i32>>,
    ) -> io::Result<Option<Seed>> {
        loop {
            let mut buffer = [0; MESSAGE_BYTES_MAX];
            let received = socket::receive(self.socket.as_fd(), &mut buffer, Wait::Yes);
            let (len, descriptors) = match received {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            match buffer[..len].split_first() {
                Some((b'F', rest)) => {
                    let seed = Seed::new(descriptors, &self.lifeline)?;
                    match fork() {
                        Ok(None) => return Ok(Some(seed)),
                        Ok(Some(pid)) => self.reply_forked(rest, pid)?,
                        Err(error) => {
                            let code = error.raw_os_error().unwrap_or(libc_eagain());
                            self.reply(b'N', &[rest, &code.to_ne_bytes()])?;
                        }
                    }
                }
                Some((b'R', rest)) => self.reply_exit(rest)?,
                _ => {
                    let message = "malformed request to the zygote";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, message));
                }
            }
        }
    }

    fn reply_forked(&self, worker: &[u8], pid: i32) -> io::Result<()> {
        let pidfd = process::open_pidfd(pid)?;
        let message = [b"P", worker, &pid.to_ne_bytes()].concat();
        socket::send(self.socket.as_fd(), &message, &[pidfd.as_fd()], Wait::Yes)
    }

    fn reply_exit(&self, pid: &[u8]) -> io::Result<()> {
        let number = i32::from_ne_bytes(*pid.first_chunk().ok_or(io::ErrorKind::InvalidData)?);
        let (kind, value, peak) = match process::reap(number) {
            Ok(exit) => match exit.status {
                ExitStatus::Code(code) => (0i32, code, exit.peak_memory_bytes),
                ExitStatus::Signal(signal) => (1, signal, exit.peak_memory_bytes),
            },
            // The user's code reaped it, or it is no child of ours: the parent looks elsewhere.
            Err(_) => (2, 0, 0),
        };
        let parts: [&[u8]; 4] = [
            pid,
            &kind.to_ne_bytes(),
            &value.to_ne_bytes(),
            &peak.to_ne_bytes(),
        ];
        self.reply(b'E', &parts)
    }

    fn reply(&self, kind: u8, parts: &[&[u8]]) -> io::Result<()> {
        let message = [&[kind], parts.concat().as_slice()].concat();
        socket::send(self.socket.as_fd(), &message, &[], Wait::Yes)
    }
}

/// "Try again", for a fork that failed without saying why.
fn libc_eagain() -> i32 {
    11
}

fn tagged(kind: u8, text: &str) -> Vec<u8> {
    let mut message = vec![kind];
    let text = text.as_bytes();
    message.extend_from_slice(&text[..text.len().min(MESSAGE_BYTES_MAX - 1)]);
    message
}

impl Seed {
    fn new(descriptors: Vec<OwnedFd>, lifeline: &OwnedFd) -> io::Result<Self> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "a worker needs 5 descriptors");
        let mut lifted = descriptors
            .into_iter()
            .map(|fd| socket::lift(fd, DESCRIPTORS_FROM));
        let mut next = || lifted.next().ok_or_else(invalid)?;
        Ok(Self {
            socket: next()?,
            segment: next()?,
            stderr: next()?,
            nudge: next()?,
            supervisor: next()?,
            lifeline: socket::lift(lifeline.try_clone()?, DESCRIPTORS_FROM)?,
        })
    }
}

/// A call to run.
#[derive(Debug)]
pub struct Call {
    /// Its sequence number.
    pub sequence: u64,
    /// Number of its function; 0 when the payload holds the function too.
    pub function: u32,
    /// Inline payload.
    pub payload: Vec<u8>,
    /// Its blocks.
    pub blocks: Vec<MappedBlock>,
    /// Whether the payload lies in the first block.
    pub payload_in_block: bool,
    /// Whether the blocks must not be changed: the call may be started again.
    pub copy_blocks: bool,
    owner: u8,
    any_thread: bool,
    started_ns: u64,
}

/// What came through the ring.
#[derive(Debug)]
pub enum Request {
    /// Run this.
    Call(Call),
    /// Remember this function: its number, and its definition inline or in a block.
    Define(u32, Vec<u8>, Option<MappedBlock>),
    /// Exit politely.
    Retire,
}

/// Why a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// There may be something in the ring.
    Ring,
    /// A signal came: the host looks at it.
    Signal,
    /// The parent is gone.
    End,
}

/// How an owner is told that outcomes wait.
struct Told {
    event: Event,
    timer: Option<Timer>,
}

/// The worker's end of its channel.
pub struct WorkerChannel {
    socket: OwnedFd,
    /// Keeps the lifeline armed for the group when the zygote is gone; never read.
    _lifeline: OwnedFd,
    segment: Segment,
    requests: Consumer<SegmentRing>,
    completions: Producer<SegmentRing>,
    owners: HashMap<u8, Told>,
    /// An owner that will be told later of what is complete already.
    deferred: Option<u8>,
    chunks: PeerChunks,
    results: Arc<Arena>,
    /// Chunks of our arena that the parent has mapped.
    passed: Vec<u32>,
    /// Blocks of results that the parent still reads.
    lent: HashMap<u64, Vec<Block>>,
    /// Releases of the parent's blocks that found the ring full.
    owed_releases: VecDeque<u64>,
    nudge: Timer,
    supervisor: Event,
    waited_ns: u64,
    buffer: Vec<u8>,
    poll_started: Cell<u64>,
}

impl WorkerChannel {
    /// Opens the channel of a forked worker: its standard error goes to the parent from now on.
    ///
    /// # Errors
    /// The system's.
    pub fn open(seed: Seed) -> io::Result<Self> {
        process::replace_stderr(seed.stderr.as_fd())?;
        process::compute_in_batches();
        let segment = Segment::open(seed.segment)?;
        Ok(Self {
            socket: seed.socket,
            _lifeline: seed.lifeline,
            requests: segment.submission_consumer(),
            completions: segment.completion_producer(),
            segment,
            owners: HashMap::new(),
            deferred: None,
            chunks: PeerChunks::default(),
            results: Arena::new(memory::physical_bytes() / 2),
            passed: Vec::new(),
            lent: HashMap::new(),
            owed_releases: VecDeque::new(),
            nudge: Timer::from_fd(seed.nudge),
            supervisor: Event::from_fd(seed.supervisor),
            waited_ns: u64::MAX,
            buffer: Vec::new(),
            poll_started: Cell::new(0),
        })
    }

    /// Says that this worker takes calls, or why it never will.
    ///
    /// # Errors
    /// The system's.
    pub fn hello(&self, result: Result<(), &str>) -> io::Result<()> {
        let message = match result {
            Ok(()) => vec![b'h'],
            Err(text) => tagged(b'f', text),
        };
        socket::send(self.socket.as_fd(), &message, &[], Wait::Yes)
    }

    /// The next request, if one is in the ring. A call that is returned has been started.
    ///
    /// # Errors
    /// `InvalidData` when the parent broke the protocol; the worker exits then.
    pub fn try_next(&mut self) -> io::Result<Option<Request>> {
        loop {
            self.buffer.clear();
            if !self
                .requests
                .try_pop(&mut self.buffer)
                .map_err(io::Error::other)?
            {
                self.tell_deferred()?;
                return Ok(None);
            }
            let bytes = std::mem::take(&mut self.buffer);
            let request = self.decode(&bytes);
            self.buffer = bytes;
            if let Some(request) = request? {
                return Ok(Some(request));
            }
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
                self.lent.remove(&sequence);
                return Ok(None);
            }
            Kind::Retire => return Ok(Some(Request::Retire)),
            Kind::Call | Kind::Define => {}
            Kind::Completion => {
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
        if kind == Kind::Define {
            let block = blocks.into_iter().next();
            return Ok(Some(Request::Define(
                function,
                frame.payload.to_vec(),
                block,
            )));
        }
        let started_ns = clock::monotonic_ns();
        self.segment
            .started_at_ns()
            .store(started_ns, Ordering::Release);
        CURRENT.store(sequence, Ordering::Relaxed);
        Ok(Some(Request::Call(Call {
            sequence,
            function,
            payload: frame.payload.to_vec(),
            blocks,
            payload_in_block: flags & FLAG_PAYLOAD_IN_BLOCK != 0,
            copy_blocks: flags & FLAG_COPY_BLOCKS != 0,
            owner: detail,
            any_thread: flags & FLAG_ANY_THREAD != 0,
            started_ns,
        })))
    }

    fn block(&mut self, address: frame::BlockAddress) -> io::Result<MappedBlock> {
        while !self.chunks.contains(address.chunk) {
            self.receive(Wait::Yes)?;
        }
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("no {address:?}"));
        self.chunks.block(address).ok_or_else(invalid)
    }

    /// Takes one message off the socket.
    fn receive(&mut self, wait: Wait) -> io::Result<()> {
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
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "malformed message",
            )),
        }
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
        self.push_owed_releases();
        if self.segment.backlog().load(Ordering::Relaxed) != 0 {
            self.supervisor.signal()?;
        }
        ring::prepare_sleep(self.segment.sleeping());
        if !self.requests.is_empty() {
            self.segment.sleeping().store(0, Ordering::Relaxed);
            return Ok(Wake::Ring);
        }
        let woken = socket::wait_readable(self.socket.as_fd(), None);
        self.segment.sleeping().store(0, Ordering::Relaxed);
        self.waited_ns = clock::monotonic_ns().saturating_sub(self.poll_started.get());
        match woken {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Wake::Signal),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        match self.receive(Wait::No) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Wake::End),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Wake::Ring),
            Err(error) => Err(error),
            Ok(()) => Ok(Wake::Ring),
        }
    }

    /// The arena for results.
    #[must_use]
    pub fn results(&self) -> Arc<Arena> {
        Arc::clone(&self.results)
    }

    /// Marks the running call as over for the interrupt signal: from now on it is too late.
    pub fn end_call() {
        CURRENT.store(0, Ordering::Relaxed);
    }

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
            function: 0,
            sequence: call.sequence,
        };
        let run_ns = clock::monotonic_ns().saturating_sub(call.started_ns);
        let head = Head::new(header, run_ns, &addresses);
        if !blocks.is_empty() {
            self.lent.insert(call.sequence, blocks);
        }
        let [first, more] = head.parts();
        self.push_waiting(&[first, more, payload])?;
        self.tell(call)
    }

    /// There is nothing more to run: whoever was to be told later is told now.
    fn tell_deferred(&mut self) -> io::Result<()> {
        match self.deferred.take() {
            Some(owner) if self.segment.pending(owner).load(Ordering::Relaxed) != 0 => {
                self.owners[&owner].event.signal()
            }
            _ => Ok(()),
        }
    }

    fn tell(&mut self, call: &Call) -> io::Result<()> {
        if ring::raise_pending(self.segment.pending(call.owner)) {
            while !self.owners.contains_key(&call.owner) {
                self.receive(Wait::Yes)?;
            }
            let told = &self.owners[&call.owner];
            match &told.timer {
                Some(timer) if !self.requests.is_empty() => {
                    timer.arm(TELL_AFTER)?;
                    self.deferred = Some(call.owner);
                }
                _ => told.event.signal()?,
            }
        }
        if call.any_thread && self.segment.nudge_armed().swap(1, Ordering::AcqRel) == 0 {
            self.nudge.arm(NUDGE_AFTER)?;
        }
        Ok(())
    }

    /// Gives back the blocks of an earlier call, whose last user is gone.
    pub fn release(&mut self, sequence: u64) {
        self.owed_releases.push_back(sequence);
        self.push_owed_releases();
    }

    fn push_owed_releases(&mut self) {
        while let Some(sequence) = self.owed_releases.front() {
            let header = Header {
                kind: Kind::Release,
                flags: 0,
                detail: 0,
                function: 0,
                sequence: *sequence,
            };
            if self
                .completions
                .try_push(&Head::new(header, 0, &[]).parts())
                .is_err()
            {
                return;
            }
            self.owed_releases.pop_front();
        }
    }

    /// Pushes a completion; when the parent is that far behind, wakes its supervisor and waits
    /// for room (the parent's end of file ends the wait).
    fn push_waiting(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        while self.completions.try_push(parts).is_err() {
            self.supervisor.signal()?;
            let limit = Some(std::time::Duration::from_millis(1));
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

    fn pass_chunk(&mut self, number: u32) -> io::Result<()> {
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

    /// Whether the running call is the one that the parent wants stopped. For the handler of the
    /// interrupt signal; false when the call that was meant is over.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        is_interrupted(&self.segment)
    }

    /// The socket, the shared memory and the supervisor's event themselves, for a test worker
    /// that breaks the protocol.
    #[must_use]
    pub fn raw(&self) -> (BorrowedFd<'_>, &Segment, &Event) {
        (self.socket.as_fd(), &self.segment, &self.supervisor)
    }

    /// A view for the interrupt signal's handler, which cannot borrow the channel.
    #[must_use]
    pub fn interrupt_view(&self) -> InterruptView {
        InterruptView(self.segment.clone())
    }
}

/// Flags of a completion.
#[derive(Clone, Copy, Debug, Default)]
pub struct CompletionFlags {
    /// The payload lies in the first block.
    pub payload_in_block: bool,
    /// Blocks of the call are still in use.
    pub holds_blocks: bool,
}

/// What the handler of the interrupt signal may ask.
#[derive(Clone, Debug)]
pub struct InterruptView(Segment);

impl InterruptView {
    /// Whether the running call is the one that the parent wants stopped.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        is_interrupted(&self.0)
    }
}

fn is_interrupted(segment: &Segment) -> bool {
    let current = CURRENT.load(Ordering::Relaxed);
    current != 0 && segment.interrupt_for().load(Ordering::Acquire) == current
}
