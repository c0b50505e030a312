//! What the workers write to their standard error: passed on to ours, and its end remembered.
//!
//! One thread does nothing else, so a terminal that does not take our output stops only the workers
//! that write to it. The last lines stand in the error of a worker that crashed. If the
//! thread fails, the text is lost, and no worker waits for it.
//!
//! Invariants: 1. A pipe is read only under its own lock, so its bytes keep their order.
//!             2. Nothing is written to our standard error under any lock.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(feature = "test-doors")]
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offloop_sys::event::Event;
use offloop_sys::poller::Poller;
use offloop_sys::socket;

use crate::fault::{StderrFault, message_of};

/// Bytes kept of each worker's standard error: some thirty lines, enough for a traceback.
pub(crate) const TAIL_BYTES_MAX: usize = 4096;
/// Bytes read from one pipe before the next pipe gets its turn.
const READ_BYTES: usize = 16 * 1024;
/// The token of the thread's own event.
const WAKE: u64 = 0;

/// One worker's standard error.
pub(crate) struct Pipe(Mutex<PipeState>);

struct PipeState {
    /// Until the worker has closed its end, or the thread reads no more.
    fd: Option<OwnedFd>,
    tail: VecDeque<u8>,
    /// Read by the supervisor, not yet passed on.
    unwritten: Vec<u8>,
    muted: bool,
}

impl std::fmt::Debug for Pipe {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Pipe")
    }
}

impl Pipe {
    fn new(fd: Option<OwnedFd>) -> Arc<Self> {
        let state = PipeState {
            fd,
            tail: VecDeque::new(),
            unwritten: Vec::new(),
            muted: false,
        };
        Arc::new(Self(Mutex::new(state)))
    }

    /// Passes on nothing any more.
    pub(crate) fn mute(&self) {
        lock(&self.0).muted = true;
    }

    /// The end of everything that was written so far.
    pub(crate) fn tail(&self) -> String {
        let mut state = lock(&self.0);
        // The pipe's end is left to its thread, which watches it.
        let (read, _) = state.read_available();
        state.unwritten.extend_from_slice(&read);
        let bytes: Vec<u8> = state.tail.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl PipeState {
    /// Takes what is there, at most `READ_BYTES`, and remembers the last of it; true when nothing
    /// will follow.
    fn read_available(&mut self) -> (Vec<u8>, bool) {
        let Some(fd) = &self.fd else {
            return (Vec::new(), true);
        };
        let mut bytes = vec![0; READ_BYTES];
        let (mut len, mut ended) = (0, false);
        while len < bytes.len() {
            match socket::read(fd.as_fd(), &mut bytes[len..]) {
                Ok(0) => {
                    ended = true;
                    break;
                }
                Ok(count) => len += count,
                Err(error) => {
                    ended = error.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        bytes.truncate(len);
        self.tail.extend(&bytes);
        let excess = self.tail.len().saturating_sub(TAIL_BYTES_MAX);
        self.tail.drain(..excess);
        (bytes, ended)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread that passes standard error on.
pub(crate) struct Tee {
    poller: Poller,
    wake: Event,
    pipes: Mutex<Pipes>,
    /// Wakes the supervisor, which takes the fault.
    failed: Arc<Event>,
    /// How many more times the thread panics.
    #[cfg(feature = "test-doors")]
    pub(crate) panics: AtomicU32,
}

#[derive(Default)]
struct Pipes {
    by_token: HashMap<u64, Arc<Pipe>>,
    last_token: u64,
    stop: bool,
    /// The thread reads no more.
    closed: bool,
    fault: Option<Arc<StderrFault>>,
}

impl Tee {
    /// Starts the thread, which signals `failed` when it cannot pass anything on any more.
    pub(crate) fn start(failed: &Arc<Event>) -> io::Result<Arc<Self>> {
        let (poller, wake) = (Poller::new()?, Event::new()?);
        poller.add(wake.as_fd(), WAKE)?;
        let tee = Arc::new(Self {
            poller,
            wake,
            pipes: Mutex::default(),
            failed: Arc::clone(failed),
            #[cfg(feature = "test-doors")]
            panics: AtomicU32::new(0),
        });
        let thread = Arc::clone(&tee);
        std::thread::Builder::new()
            .name("offloop-stderr".into())
            .spawn(move || thread.run())?;
        Ok(tee)
    }

    /// Passes on what arrives at `fd` from now on, the read end of a worker's pipe.
    pub(crate) fn add(&self, fd: OwnedFd) -> io::Result<Arc<Pipe>> {
        socket::set_nonblocking(fd.as_fd())?;
        let mut pipes = lock(&self.pipes);
        if pipes.closed {
            // The worker's writes fail, and wait for no reader.
            return Ok(Pipe::new(None));
        }
        pipes.last_token += 1;
        let token = pipes.last_token;
        self.poller.add(fd.as_fd(), token)?;
        let pipe = Pipe::new(Some(fd));
        pipes.by_token.insert(token, Arc::clone(&pipe));
        Ok(pipe)
    }

    /// Passes on what the supervisor read ahead.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.wake.signal()
    }

    /// Ends the thread once what is there has been passed on.
    pub(crate) fn stop(&self) -> io::Result<()> {
        lock(&self.pipes).stop = true;
        self.wake.signal()
    }

    /// Why nothing is passed on any more; told once.
    pub(crate) fn take_fault(&self) -> Option<Arc<StderrFault>> {
        lock(&self.pipes).fault.take()
    }

    /// Passes on what workers write until the runtime stops. A thread that fails only reads from
    /// then on, so that no worker waits for room in its pipe; if it cannot do that either, it
    /// closes the pipes, and the workers' writes fail.
    fn run(&self) {
        let Err(fault) = attempt(|| self.drive(Self::write)) else {
            return;
        };
        lock(&self.pipes).fault = Some(Arc::new(fault));
        // The event is ours and open: signalling it cannot fail.
        let _ = self.failed.signal();
        if attempt(|| self.drive(Self::discard)).is_err() {
            self.close();
        }
    }

    /// Reads what is there, for as long as the runtime runs, and gives it to `pass_on`.
    fn drive(&self, pass_on: fn(&[u8])) -> io::Result<()> {
        let mut ready = Vec::new();
        loop {
            self.poller.wait(&mut ready, None)?;
            let all = ready.iter().any(|ready| ready.token == WAKE) && self.wake.clear();
            let (pipes, stop) = {
                let pipes = lock(&self.pipes);
                let chosen: Vec<(u64, Arc<Pipe>)> = pipes
                    .by_token
                    .iter()
                    .filter(|(token, _)| all || ready.iter().any(|ready| ready.token == **token))
                    .map(|(token, pipe)| (*token, Arc::clone(pipe)))
                    .collect();
                (chosen, pipes.stop)
            };
            for (token, pipe) in pipes {
                self.take(token, &pipe, pass_on);
            }
            if stop {
                return Ok(());
            }
        }
    }

    fn take(&self, token: u64, pipe: &Pipe, pass_on: fn(&[u8])) {
        let (bytes, ended) = {
            let mut state = lock(&pipe.0);
            #[cfg(feature = "test-doors")]
            self.panic_if_a_test_wants_it();
            let mut bytes = std::mem::take(&mut state.unwritten);
            let (read, ended) = state.read_available();
            bytes.extend(read);
            if let Some(fd) = state.fd.take_if(|_| ended) {
                // It was removed already if the other thread saw the end first.
                let _ = self.poller.remove(fd.as_fd());
            }
            if state.muted {
                bytes.clear();
            }
            (bytes, state.fd.is_none())
        };
        pass_on(&bytes);
        if ended {
            lock(&self.pipes).by_token.remove(&token);
        }
    }

    fn write(bytes: &[u8]) {
        // Without a standard error of our own there is no place to tell it.
        let _ = socket::write_stderr(bytes);
    }

    fn discard(_bytes: &[u8]) {}

    /// The thread reads no more: the pipes end, those of later workers as well.
    fn close(&self) {
        let mut pipes = lock(&self.pipes);
        pipes.closed = true;
        for (_, pipe) in pipes.by_token.drain() {
            lock(&pipe.0).fd = None;
        }
    }

    #[cfg(feature = "test-doors")]
    fn panic_if_a_test_wants_it(&self) {
        let left = self.panics.load(Ordering::Relaxed);
        if let Some(left) = left.checked_sub(1) {
            self.panics.store(left, Ordering::Relaxed);
            panic!("a test wants it so");
        }
    }
}

/// What a panic or an error of the system makes of `drive`.
fn attempt(drive: impl FnOnce() -> io::Result<()>) -> Result<(), StderrFault> {
    match catch_unwind(AssertUnwindSafe(drive)) {
        Ok(driven) => driven.map_err(|source| StderrFault::Wait { source }),
        Err(panic) => Err(StderrFault::Panic {
            message: message_of(&*panic),
        }),
    }
}
