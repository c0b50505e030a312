//! The serving side of a zygote: it takes its setup, forks workers on request, and reaps them.
//!
//! Source: docs/format/zygote.md.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use offloop_sys::lifeline;
use offloop_sys::memory::Mapping;
use offloop_sys::process::{self, ExitStatus};
use offloop_sys::socket::{self, Wait};

use crate::worker::DESCRIPTORS_FROM;
use crate::zygote::MESSAGE_BYTES_MAX;

/// What a forked worker starts with.
#[derive(Debug)]
pub struct Seed {
    pub(super) socket: OwnedFd,
    pub(super) segment: OwnedFd,
    pub(super) stderr: OwnedFd,
    pub(super) nudge: OwnedFd,
    pub(super) supervisor: OwnedFd,
    pub(super) lifeline: OwnedFd,
}

/// The serving side of a zygote.
#[derive(Debug)]
pub struct ZygoteServer {
    socket: OwnedFd,
    /// Its end of file kills the process group; never read.
    lifeline: OwnedFd,
    /// The lines of the workers' groups. They are held here, too, for the programs that a worker
    /// has left in its group when it ended.
    groups: Vec<Group>,
}

/// A worker's process group.
#[derive(Debug)]
struct Group {
    leader: i32,
    reaped: bool,
    _line: OwnedFd,
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
        lifeline::arm_for_own_group(lifeline.as_fd())?;
        Ok(Self {
            socket,
            lifeline,
            groups: Vec::new(),
        })
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

    /// Serves requests until the parent has ended (`None`), or, in a forked child, returns the seed
    /// of the worker that it is to become. `fork` returns the child's pid, or `None` in the child.
    ///
    /// # Errors
    /// The system's.
    pub fn serve(
        &mut self,
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
                    let mut seed = Seed::new(descriptors, &self.lifeline)?;
                    match fork() {
                        Ok(None) => {
                            seed.lead_group()?;
                            return Ok(Some(seed));
                        }
                        Ok(Some(pid)) => {
                            self.keep_line(pid);
                            self.reply_forked(rest, pid)?;
                        }
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

    fn keep_line(&mut self, leader: i32) {
        // Without a group of its own the worker is in ours, and our line is enough.
        if let Ok(line) = lifeline::lead_group(leader, self.lifeline.as_fd()) {
            self.groups.push(Group {
                leader,
                reaped: false,
                _line: line,
            });
        }
    }

    /// Lets go of the lines of groups that have no process any more.
    fn sweep_groups(&mut self, reaped: i32) {
        self.groups.retain_mut(|group| {
            group.reaped |= group.leader == reaped;
            !group.reaped || !lifeline::group_is_empty(group.leader)
        });
    }

    fn reply_exit(&mut self, pid: &[u8]) -> io::Result<()> {
        let number = i32::from_ne_bytes(*pid.first_chunk().ok_or(io::ErrorKind::InvalidData)?);
        let (kind, value, peak) = match process::reap(number) {
            Ok(exit) => match exit.status {
                ExitStatus::Code(code) => (0i32, code, exit.peak_memory_bytes),
                ExitStatus::Signal(signal) => (1, signal, exit.peak_memory_bytes),
            },
            // The user's code reaped it, or it is no child of ours: the parent looks elsewhere.
            Err(_) => (2, 0, 0),
        };
        self.sweep_groups(number);
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

pub(super) fn tagged(kind: u8, text: &str) -> Vec<u8> {
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

    /// In the worker: what it starts is in its group, and ends with a call that is killed.
    fn lead_group(&mut self) -> io::Result<()> {
        if let Ok(line) = lifeline::lead_group(0, self.lifeline.as_fd()) {
            self.lifeline = socket::lift(line, DESCRIPTORS_FROM)?;
        }
        Ok(())
    }
}
