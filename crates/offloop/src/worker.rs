//! The other side: what runs in a zygote and in a worker process.
//!
//! The extension module and the test worker share it. It knows nothing of Python: the host gives
//! a function that forks, decodes the calls itself, and says how each one ended.
//!
//! A worker runs one call at a time on its main thread. It waits on its socket, whose end of file
//! means that the parent has ended; before it sleeps it looks a little longer at the ring while
//! calls come close together.

mod completing;
mod interrupts;
mod receiving;
mod sending;
mod serving;

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use offloop_core::Outflow;
use offloop_sys::event::{Event, Timer};
use offloop_sys::ring::{Consumer, Producer};
use offloop_sys::segment::{Segment, SegmentRing};
use offloop_sys::socket::{self, Wait};
use offloop_sys::{memory, process};

use crate::arena::{Arena, Block, MappedBlock, PeerChunks};
use crate::releases::{Lent, OwedReleases};
use crate::worker::serving::tagged;

pub use completing::CompletionFlags;
pub use interrupts::InterruptView;
pub use serving::{Seed, Setup, ZygoteServer};

/// Descriptors of a worker are moved here, out of the way of programs that close low numbers.
const DESCRIPTORS_FROM: i32 = 300;

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
    /// Whether what it returns is an iterator, whose items are to be sent one by one.
    pub streams: bool,
    outflow: Outflow,
    owner: u8,
    any_thread: bool,
    started_ns: u64,
}

/// What came through the ring.
#[derive(Debug)]
pub enum Request {
    /// Run this.
    Call(Call),
    /// Remember this: its number, and its definition inline or in a block.
    Define(u32, Vec<u8>, Option<MappedBlock>),
    /// No later call names these definitions.
    Forget(Vec<u32>),
    /// Do what the program did to its surroundings, told inline or in a block.
    Surroundings(Vec<u8>, Option<MappedBlock>),
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
    /// The parent has ended.
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
    /// Keeps the lifeline armed for the group when the zygote has ended; never read.
    lifeline: OwnedFd,
    segment: Segment,
    requests: Consumer<SegmentRing>,
    completions: Producer<SegmentRing>,
    /// Frames that were taken off the ring in the middle of a stream, to be read after it.
    ahead: VecDeque<Vec<u8>>,
    owners: HashMap<u8, Told>,
    /// An owner that will be told later of what is complete already.
    deferred: Option<u8>,
    chunks: PeerChunks,
    results: Arc<Arena>,
    /// Chunks of our arena that the parent has mapped.
    passed: Vec<u32>,
    /// Blocks of results and items that the parent still reads.
    lent: HashMap<Lent, Vec<Block>>,
    /// Releases of the parent's blocks.
    owed_releases: OwedReleases,
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
            lifeline: seed.lifeline,
            requests: segment.submission_consumer(),
            completions: segment.completion_producer(),
            segment,
            ahead: VecDeque::new(),
            owners: HashMap::new(),
            deferred: None,
            chunks: PeerChunks::default(),
            results: Arena::new(memory::physical_bytes() / 2),
            passed: Vec::new(),
            lent: HashMap::new(),
            owed_releases: OwedReleases::default(),
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

    /// A descriptor that becomes readable when the parent has ended.
    #[must_use]
    pub fn lifeline(&self) -> BorrowedFd<'_> {
        self.lifeline.as_fd()
    }

    /// The arena for results.
    #[must_use]
    pub fn results(&self) -> Arc<Arena> {
        Arc::clone(&self.results)
    }

    /// Whether the parent wants the running call stopped. For the handler of the interrupt signal;
    /// false when the call that was meant is over.
    #[must_use]
    pub fn is_interrupted(&self) -> bool {
        interrupts::is_interrupted(&self.segment)
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
