//! What the workers write to their standard error: passed on to ours, and its end remembered.
//!
//! One thread does nothing else, so a terminal that does not take our output stops only the workers
//! that write to it. The last lines stand in the error of a worker that crashed.
//!
//! Invariants: 1. A pipe is read only under its own lock, so its bytes keep their order.
//!             2. Nothing is written to our standard error under any lock.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offloop_sys::event::Event;
use offloop_sys::poller::Poller;
use offloop_sys::socket;

/// Bytes kept of each worker's standard error: some thirty lines, enough for a traceback.
pub(crate) const TAIL_BYTES_MAX: usize = 4096;
/// Bytes read from one pipe before the next pipe gets its turn.
const READ_BYTES: usize = 16 * 1024;
/// The token of the thread's own event.
const WAKE: u64 = 0;

/// One worker's standard error.
pub(crate) struct Pipe(Mutex<PipeState>);

struct PipeState {
    fd: OwnedFd,
    tail: VecDeque<u8>,
    /// Read by the supervisor, not yet passed on.
    unwritten: Vec<u8>,
    ended: bool,
    muted: bool,
}

impl std::fmt::Debug for Pipe {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Pipe")
    }
}

impl Pipe {
    /// Passes on nothing any more.
    pub(crate) fn mute(&self) {
        lock(&self.0).muted = true;
    }

    /// The end of everything that was written so far.
    pub(crate) fn tail(&self) -> String {
        let mut state = lock(&self.0);
        let read = state.read_available();
        state.unwritten.extend_from_slice(&read);
        let bytes: Vec<u8> = state.tail.iter().copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl PipeState {
    /// Takes what is there, at most `READ_BYTES`, and remembers its end.
    fn read_available(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; READ_BYTES];
        let mut len = 0;
        while len < bytes.len() {
            match socket::read(self.fd.as_fd(), &mut bytes[len..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(count) => len += count,
                Err(error) => {
                    self.ended |= error.kind() != io::ErrorKind::WouldBlock;
                    break;
                }
            }
        }
        bytes.truncate(len);
        self.tail.extend(&bytes);
        let excess = self.tail.len().saturating_sub(TAIL_BYTES_MAX);
        self.tail.drain(..excess);
        bytes
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
}

#[derive(Default)]
struct Pipes {
    by_token: HashMap<u64, Arc<Pipe>>,
    last_token: u64,
    stop: bool,
}

impl Tee {
    /// Starts the thread.
    pub(crate) fn start() -> io::Result<Arc<Self>> {
        let (poller, wake) = (Poller::new()?, Event::new()?);
        poller.add(wake.as_fd(), WAKE)?;
        let tee = Arc::new(Self {
            poller,
            wake,
            pipes: Mutex::default(),
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
        pipes.last_token += 1;
        let token = pipes.last_token;
        self.poller.add(fd.as_fd(), token)?;
        let state = PipeState {
            fd,
            tail: VecDeque::new(),
            unwritten: Vec::new(),
            ended: false,
            muted: false,
        };
        let pipe = Arc::new(Pipe(Mutex::new(state)));
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

    fn run(&self) {
        let mut ready = Vec::new();
        loop {
            if self.poller.wait(&mut ready, None).is_err() {
                // Only a closed descriptor can do that; the pipes' writers get their own errors.
                return;
            }
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
                self.pass_on(token, &pipe);
            }
            if stop {
                return;
            }
        }
    }

    fn pass_on(&self, token: u64, pipe: &Pipe) {
        let (bytes, ended) = {
            let mut state = lock(&pipe.0);
            let mut bytes = std::mem::take(&mut state.unwritten);
            bytes.extend(state.read_available());
            if state.ended {
                // It was removed already if the other thread saw the end first.
                let _ = self.poller.remove(state.fd.as_fd());
            }
            if state.muted {
                bytes.clear();
            }
            (bytes, state.ended)
        };
        // Without a standard error of our own there is no place for it.
        let _ = socket::write_stderr(&bytes);
        if ended {
            lock(&self.pipes).by_token.remove(&token);
        }
    }
}
