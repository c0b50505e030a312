//! What a thread waits for, by the call that it sleeps in and what its arguments lead to.
//!
//! Arguments that are addresses are read from the thread's memory with reads that cannot fault.
//! While the thread sleeps in the call, it does not change them; another thread may, and a wrong
//! name may be read then, but never from memory that is not there.
//!
//! Invariants: 1. At most `LISTED_MAX` descriptors of a list are looked at.
//! Source:     poll(2), select(2), connect(2).

use std::os::fd::RawFd;

use super::Look;
use super::calls::{Target, target_of};
use super::descriptor::{Descriptor, describe_descriptor, shown_address};
use super::text::{CallState, State};
use crate::interpreter::memory::{Address, Memory};

/// Descriptors of a list that are read: one is told, and the first few show which.
const LISTED_MAX: usize = 16;

/// A `pollfd`: a descriptor, and what is asked of it.
const POLL_BYTES: usize = 8;

/// Descriptors that a set of bits can hold.
const SET_BITS_MAX: u64 = 1024;

/// The longest path that the kernel takes, and how much of it is read at once: pages, so that
/// nothing behind the end of a path has to be there.
const PATH_BYTES_MAX: usize = 4096;
const PAGE_BYTES: u64 = 4096;

/// What a thread waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Nothing: it runs, or would.
    Nothing,
    /// A point in time.
    Time,
    /// A socket.
    Socket {
        /// The address of the other side.
        peer: Option<String>,
        /// The address of this side.
        own: Option<String>,
    },
    /// A file, and where it is.
    File {
        /// Absolute, or as the thread gave it.
        path: Option<String>,
    },
    /// Another descriptor.
    Descriptor {
        /// As the system calls it.
        name: Option<String>,
    },
    /// A lock or a condition.
    Futex {
        /// Where it is, if that is known.
        address: Option<Address>,
    },
    /// The end of a child process.
    Child {
        /// Its id, if the thread waits for one.
        pid: Option<i32>,
    },
    /// A page of memory: it has called nothing.
    Page,
    /// Something else.
    Other,
}

/// What a thread waited for at a look. Only then, not before it, is its memory read.
pub fn wait_of(look: &Look, memory: &impl Memory) -> Wait {
    if !matches!(look.state, State::Asleep | State::AsleepForDevice) {
        return Wait::Nothing;
    }
    match &look.call {
        // It has been woken since its state was read.
        Some(CallState::Running) => Wait::Nothing,
        Some(CallState::NoCall) => Wait::Page,
        Some(CallState::Call(call)) => wait_for(target_of(call), memory),
        None => by_channel(look.wait_channel.as_deref()),
    }
}

fn wait_for(target: Target, memory: &impl Memory) -> Wait {
    match target {
        Target::Time => Wait::Time,
        Target::Descriptor(fd) => described(fd),
        Target::Connection { fd, address, bytes } => match described(fd) {
            Wait::Socket { peer: None, own } => Wait::Socket {
                peer: address_at(memory, address, bytes),
                own,
            },
            other => other,
        },
        Target::Path(address) => Wait::File {
            path: path_at(memory, address),
        },
        Target::Poll { list, count } => one_of(polled(memory, list, count)),
        Target::Select { count, sets } => one_of(selected(memory, count, sets)),
        Target::Futex(address) => Wait::Futex {
            address: Some(address),
        },
        Target::Child(pid) => Wait::Child { pid },
        Target::Other => Wait::Other,
    }
}

fn described(fd: u64) -> Wait {
    // The kernel takes the lower half.
    let fd = (fd & u64::from(u32::MAX)) as u32 as RawFd;
    match describe_descriptor(fd) {
        Some(Descriptor::Socket { peer, own }) => Wait::Socket { peer, own },
        Some(Descriptor::File { path }) => Wait::File { path: Some(path) },
        Some(Descriptor::Process { pid }) => Wait::Child { pid },
        Some(Descriptor::Other { name }) => Wait::Descriptor { name: Some(name) },
        None => Wait::Descriptor { name: None },
    }
}

/// A wait for any of several descriptors: one is told, a socket before the rest, because there
/// often is a pipe beside it that only wakes the thread.
fn one_of(descriptors: Option<Vec<u32>>) -> Wait {
    let Some(descriptors) = descriptors else {
        return Wait::Descriptor { name: None };
    };
    let mut waits = descriptors.into_iter().map(|fd| described(u64::from(fd)));
    let Some(first) = waits.next() else {
        return Wait::Time;
    };
    let is_socket = |wait: &Wait| matches!(wait, Wait::Socket { .. });
    if is_socket(&first) {
        return first;
    }
    waits.find(is_socket).unwrap_or(first)
}

/// Descriptors of a list of `pollfd`, without those that are negative, which do not count.
fn polled(memory: &impl Memory, list: Address, count: u64) -> Option<Vec<u32>> {
    let count = usize::try_from(count).ok()?.min(LISTED_MAX);
    let mut bytes = vec![0; count * POLL_BYTES];
    if count > 0 {
        memory.read(list, &mut bytes).ok()?;
    }
    let fds = bytes.chunks_exact(POLL_BYTES);
    let fds = fds.map(|one| i32::from_ne_bytes([one[0], one[1], one[2], one[3]]));
    Some(fds.filter_map(|fd| u32::try_from(fd).ok()).collect())
}

/// Descriptors whose bits are set in any of the sets.
fn selected(memory: &impl Memory, count: u64, sets: [Address; 3]) -> Option<Vec<u32>> {
    let count = count.min(SET_BITS_MAX);
    let words = usize::try_from(count.div_ceil(64)).ok()?;
    let mut any = vec![0_u64; words];
    for set in sets {
        if set == 0 || words == 0 {
            continue;
        }
        let mut bytes = vec![0; words * 8];
        memory.read(set, &mut bytes).ok()?;
        for (word, bytes) in any.iter_mut().zip(bytes.chunks_exact(8)) {
            *word |= u64::from_ne_bytes(bytes.try_into().ok()?);
        }
    }
    let is_set = |fd: &u32| any[*fd as usize / 64] >> (fd % 64) & 1 == 1;
    let count = u32::try_from(count).ok()?;
    Some((0..count).filter(is_set).take(LISTED_MAX).collect())
}

fn address_at(memory: &impl Memory, address: Address, bytes: u64) -> Option<String> {
    let bytes = usize::try_from(bytes).ok()?;
    let mut address_bytes = vec![0; bytes.min(size_of::<libc::sockaddr_storage>())];
    memory.read(address, &mut address_bytes).ok()?;
    shown_address(&address_bytes)
}

/// A path that ends with a zero.
fn path_at(memory: &impl Memory, address: Address) -> Option<String> {
    let mut path = Vec::new();
    let mut at = address;
    while path.len() < PATH_BYTES_MAX {
        let rest_of_page = PAGE_BYTES - at % PAGE_BYTES;
        let mut part = vec![0; usize::try_from(rest_of_page).ok()?];
        memory.read(at, &mut part).ok()?;
        if let Some(end) = part.iter().position(|&byte| byte == 0) {
            path.extend_from_slice(&part[..end]);
            let path = String::from_utf8_lossy(&path).into_owned();
            return (!path.is_empty()).then_some(path);
        }
        path.append(&mut part);
        at = at.checked_add(rest_of_page)?;
    }
    None
}

/// What can be said where the call is not told: only where all calls that sleep there wait for the
/// same kind of thing.
fn by_channel(channel: Option<&str>) -> Wait {
    let Some(channel) = channel else {
        return Wait::Other;
    };
    match channel {
        "hrtimer_nanosleep" | "do_nanosleep" => Wait::Time,
        "do_wait" | "kernel_wait4" => Wait::Child { pid: None },
        "inet_csk_accept"
        | "sk_wait_data"
        | "unix_stream_data_wait"
        | "unix_stream_read_generic"
        | "inet_stream_connect"
        | "inet_wait_for_connect" => Wait::Socket {
            peer: None,
            own: None,
        },
        _ if channel.starts_with("futex_") => Wait::Futex { address: None },
        _ if channel.starts_with("pipe_") || channel.starts_with("anon_pipe_") => {
            Wait::Descriptor { name: None }
        }
        _ => Wait::Other,
    }
}
