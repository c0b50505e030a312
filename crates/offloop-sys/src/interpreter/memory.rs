//! Reads of a process's memory that cannot fault: this one's, or another one's.
//!
//! What another thread works on may be unmapped at any moment, and a load from there would end the
//! process. So the kernel is asked to copy: a bad address is an error like any other. The call
//! meant for this is `process_vm_readv`, which takes many pieces at once and needs no privilege
//! for one's own process. Where a filter forbids it, bytes go through a pipe instead: `write` looks
//! at the same pages, and fails in the same way. Another process is read by the same call alone,
//! if the system lets it be traced by this user: nothing of it is stopped or changed.
//!
//! Units:      bytes; an address is what a pointer would hold.
//! Invariants: 1. Bytes are filled whole or the read is an error.
//!             2. A pipe serves one call and is empty before each of its reads, so that a fork
//!                leaves neither a lock nor another reader's bytes behind.
//! Errors:     `MemoryError`: nothing is there, or the system forbids to look.
//! Threads:    any.
//! Source:     process_vm_readv(2), pipe(7), seccomp(2).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use thiserror::Error;

use crate::{check, check_size, retry};

/// Where something is in the process's memory.
pub type Address = u64;

/// Pieces that the kernel copies in one call, as `IOV_MAX` has it.
const PIECES_MAX: usize = 1024;

/// Bytes that go through the pipe at once: one page, which an empty pipe always has room for.
const PIPE_BYTES: usize = 4096;

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum MemoryError {
    /// No memory is there, or none that may be read.
    #[error("nothing can be read at {address:#x}")]
    Unmapped {
        /// The first byte that was asked for.
        address: Address,
    },
    /// The system refuses to copy for us, wherever it is.
    #[error("the system forbids reading memory, error {error}")]
    Forbidden {
        /// The `errno` of the refusal.
        error: i32,
    },
}

/// Bytes to be read, and where they are.
#[derive(Debug)]
pub struct Piece<'a> {
    /// Of the first byte.
    pub address: Address,
    /// As many as are read.
    pub into: &'a mut [u8],
}

/// Memory that may change or vanish at any time.
pub trait Memory {
    /// Fills `into` with the bytes at `address`, or says why not; then `into` may hold anything.
    ///
    /// # Errors
    /// If not all of them can be read.
    fn read(&self, address: Address, into: &mut [u8]) -> Result<(), MemoryError>;

    /// Fills all the pieces, as close after one another as can be.
    ///
    /// # Errors
    /// If one of them cannot be read.
    fn read_all(&self, pieces: &mut [Piece<'_>]) -> Result<(), MemoryError> {
        pieces
            .iter_mut()
            .try_for_each(|piece| self.read(piece.address, piece.into))
    }
}

/// The memory of this process.
#[derive(Clone, Copy, Debug)]
pub struct OwnMemory {
    way: Way,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    /// By the call that is meant for it.
    Straight,
    /// Around a filter that forbids it.
    Pipe,
}

impl OwnMemory {
    /// Finds a way to read.
    ///
    /// # Errors
    /// `Forbidden`, if there is none.
    pub fn open() -> Result<Self, MemoryError> {
        let straight = Self { way: Way::Straight };
        match straight.probe() {
            Ok(()) => Ok(straight),
            Err(_) => Self::through_pipe(),
        }
    }

    /// Reads through a pipe, whether or not the straight way is open.
    ///
    /// # Errors
    /// `Forbidden`, if there is no pipe to be had.
    pub fn through_pipe() -> Result<Self, MemoryError> {
        let around = Self { way: Way::Pipe };
        around.probe().map(|()| around)
    }

    /// Reads something that is there.
    fn probe(&self) -> Result<(), MemoryError> {
        let known = 0x5eed_u64;
        let mut seen = [0; 8];
        self.read((&raw const known) as Address, &mut seen)?;
        assert_eq!(u64::from_ne_bytes(seen), known, "copied memory is the same");
        Ok(())
    }
}

impl Memory for OwnMemory {
    fn read(&self, address: Address, into: &mut [u8]) -> Result<(), MemoryError> {
        self.read_all(&mut [Piece { address, into }])
    }

    fn read_all(&self, pieces: &mut [Piece<'_>]) -> Result<(), MemoryError> {
        let straight = match self.way {
            Way::Straight => pieces.chunks_mut(PIECES_MAX).try_for_each(copy_own),
            Way::Pipe => return around(pieces),
        };
        match straight {
            // A program may put up its filter at any time.
            Err(MemoryError::Forbidden { .. }) => around(pieces),
            outcome => outcome,
        }
    }
}

/// The memory of another process.
#[derive(Clone, Copy, Debug)]
pub struct OtherMemory {
    pid: libc::pid_t,
}

impl OtherMemory {
    /// That of a process.
    ///
    /// # Errors
    /// `Forbidden` with `ESRCH`, if no process can have this number.
    pub fn of(pid: u32) -> Result<Self, MemoryError> {
        let number = libc::pid_t::try_from(pid).ok().filter(|&pid| pid > 0);
        let pid = number.ok_or(MemoryError::Forbidden { error: libc::ESRCH })?;
        Ok(Self { pid })
    }
}

impl MemoryError {
    /// Whether the process that was to be read has ended.
    #[must_use]
    pub fn is_of_ended_process(self) -> bool {
        self == Self::Forbidden { error: libc::ESRCH }
    }
}

impl Memory for OtherMemory {
    fn read(&self, address: Address, into: &mut [u8]) -> Result<(), MemoryError> {
        self.read_all(&mut [Piece { address, into }])
    }

    fn read_all(&self, pieces: &mut [Piece<'_>]) -> Result<(), MemoryError> {
        let mut chunks = pieces.chunks_mut(PIECES_MAX);
        chunks.try_for_each(|chunk| copy(self.pid, chunk))
    }
}

/// All the pieces, through a pipe.
fn around(pieces: &mut [Piece<'_>]) -> Result<(), MemoryError> {
    let pipe = Pipe::open().map_err(forbidden)?;
    pieces.iter_mut().try_for_each(|piece| pipe.copy(piece))
}

/// Of this process; a forked child has another id, so it is asked for each time.
fn copy_own(pieces: &mut [Piece<'_>]) -> Result<(), MemoryError> {
    // SAFETY: has no preconditions.
    copy(unsafe { libc::getpid() }, pieces)
}

/// One call of the kernel for all the pieces.
fn copy(pid: libc::pid_t, pieces: &mut [Piece<'_>]) -> Result<(), MemoryError> {
    let remote: Vec<libc::iovec> = pieces.iter().map(source).collect();
    let local: Vec<libc::iovec> = pieces
        .iter_mut()
        .map(|piece| libc::iovec {
            iov_base: piece.into.as_mut_ptr().cast(),
            iov_len: piece.into.len(),
        })
        .collect();
    let wanted: usize = local.iter().map(|piece| piece.iov_len).sum();
    let count = libc::c_ulong::try_from(pieces.len()).expect("at most PIECES_MAX");
    let copied = retry(|| {
        // SAFETY: `local` names memory that is borrowed for writing, for as long as the call lasts.
        // `remote` may name anything: the kernel checks each address itself, and only reads.
        check_size(unsafe {
            libc::process_vm_readv(pid, local.as_ptr(), count, remote.as_ptr(), count, 0)
        })
    });
    match copied {
        Ok(copied) if copied == wanted => Ok(()),
        Ok(copied) => Err(unmapped_after(pieces, copied)),
        Err(error) if error.raw_os_error() == Some(libc::EFAULT) => Err(unmapped_after(pieces, 0)),
        Err(error) => Err(forbidden(error)),
    }
}

/// Where a piece comes from, for the kernel.
fn source(piece: &Piece<'_>) -> libc::iovec {
    libc::iovec {
        iov_base: std::ptr::without_provenance_mut(
            usize::try_from(piece.address).unwrap_or(usize::MAX),
        ),
        iov_len: piece.into.len(),
    }
}

/// The piece that stopped a copy of so many bytes.
fn unmapped_after(pieces: &[Piece<'_>], mut copied: usize) -> MemoryError {
    let stopped = pieces.iter().find(|piece| {
        let whole = copied >= piece.into.len();
        copied = copied.saturating_sub(piece.into.len());
        !whole
    });
    MemoryError::Unmapped {
        address: stopped.map_or(0, |piece| piece.address),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn forbidden(error: io::Error) -> MemoryError {
    MemoryError::Forbidden {
        error: error.raw_os_error().unwrap_or(0),
    }
}

/// Bytes go in at the address that is asked for, and come out where they are wanted.
#[derive(Debug)]
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl Pipe {
    fn open() -> io::Result<Self> {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        check(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
        // SAFETY: two open descriptors that no other code has.
        let [read, write] = ends.map(|end| unsafe { OwnedFd::from_raw_fd(end) });
        Ok(Self { read, write })
    }

    fn copy(&self, piece: &mut Piece<'_>) -> Result<(), MemoryError> {
        let mut address = piece.address;
        for part in piece.into.chunks_mut(PIPE_BYTES) {
            self.pass(address, part)?;
            address = address.wrapping_add(part.len() as u64);
        }
        Ok(())
    }

    /// After an error a part may be left in it, and it is not used any more.
    fn pass(&self, address: Address, into: &mut [u8]) -> Result<(), MemoryError> {
        let from = std::ptr::without_provenance(usize::try_from(address).unwrap_or(usize::MAX));
        // SAFETY: the kernel checks the address itself, and only reads there.
        let written =
            retry(|| check_size(unsafe { libc::write(self.write.as_raw_fd(), from, into.len()) }));
        match written {
            Ok(written) if written == into.len() => {}
            Ok(_) => return Err(MemoryError::Unmapped { address }),
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                return Err(MemoryError::Unmapped { address });
            }
            Err(error) => return Err(forbidden(error)),
        }
        let read = retry(|| {
            // SAFETY: borrowed for writing, with so many bytes of room.
            check_size(unsafe {
                libc::read(self.read.as_raw_fd(), into.as_mut_ptr().cast(), into.len())
            })
        });
        match read {
            Ok(read) if read == into.len() => Ok(()),
            Ok(_) => Err(MemoryError::Forbidden { error: libc::EPIPE }),
            Err(error) => Err(forbidden(error)),
        }
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use super::*;

    fn ways() -> [OwnMemory; 2] {
        [
            OwnMemory::open().expect("no filter here"),
            OwnMemory::through_pipe().expect("a pipe"),
        ]
    }

    fn at(bytes: &[u8]) -> Address {
        bytes.as_ptr() as Address
    }

    /// Two pages, of which the second is gone.
    fn half_gone() -> *mut u8 {
        // SAFETY: new anonymous memory, of which the second page is unmapped and never used.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let pages = libc::mmap(std::ptr::null_mut(), 8192, protection, flags, -1, 0);
            assert_ne!(pages, libc::MAP_FAILED);
            assert_eq!(libc::munmap(pages.byte_add(4096), 4096), 0);
            pages.cast()
        }
    }

    #[test]
    fn what_is_there_is_copied_whole() {
        let bytes: Vec<u8> = (0..50_000_u32).map(|number| number as u8).collect();
        for memory in ways() {
            let mut seen = vec![0; bytes.len()];
            memory.read(at(&bytes), &mut seen).expect("it is there");
            assert_eq!(seen, bytes);
        }
    }

    #[test]
    fn another_process_is_read_like_this_one_and_one_that_is_not_there_is_told() {
        let bytes = *b"seen from outside";
        let memory = OtherMemory::of(std::process::id()).expect("it can be one");
        let mut seen = [0; 17];
        memory.read(at(&bytes), &mut seen).expect("it is there");
        assert_eq!(seen, bytes);
        let address = 8;
        let outcome = memory.read(address, &mut seen);
        assert_eq!(outcome, Err(MemoryError::Unmapped { address }));
        for pid in [0, i32::MAX.unsigned_abs(), u32::MAX] {
            let memory = OtherMemory::of(pid);
            let outcome = memory.and_then(|memory| memory.read(at(&bytes), &mut seen));
            assert!(
                outcome.is_err_and(MemoryError::is_of_ended_process),
                "{pid}"
            );
        }
    }

    #[test]
    fn many_pieces_are_copied_in_their_order() {
        let bytes: Vec<u8> = (0..3 * PIECES_MAX).map(|number| number as u8).collect();
        for memory in ways() {
            let mut seen = vec![0; bytes.len()];
            let mut pieces: Vec<Piece<'_>> = seen
                .chunks_mut(2)
                .zip(bytes.chunks(2))
                .map(|(into, from)| Piece {
                    address: at(from),
                    into,
                })
                .collect();
            memory.read_all(&mut pieces).expect("they are there");
            assert_eq!(seen, bytes);
        }
    }

    #[test]
    fn what_is_gone_is_an_error_and_the_next_read_is_right() {
        let page = half_gone();
        for memory in ways() {
            for address in [0, 8, u64::MAX - 3, 1 << 63, page.addr() as u64 + 4090] {
                let outcome = memory.read(address, &mut [0; 16]);
                assert_eq!(outcome, Err(MemoryError::Unmapped { address }));
            }
            let bytes = *b"next";
            let mut seen = [0; 4];
            memory.read(at(&bytes), &mut seen).expect("it is there");
            assert_eq!(seen, bytes);
        }
    }

    #[test]
    fn the_piece_that_is_gone_is_named() {
        let bytes = [1_u8; 16];
        for memory in ways() {
            let (mut first, mut second, mut third) = ([0; 4], [0; 4], [0; 4]);
            let mut pieces = [
                Piece {
                    address: at(&bytes),
                    into: &mut first,
                },
                Piece {
                    address: 64,
                    into: &mut second,
                },
                Piece {
                    address: at(&bytes),
                    into: &mut third,
                },
            ];
            let outcome = memory.read_all(&mut pieces);
            assert_eq!(outcome, Err(MemoryError::Unmapped { address: 64 }));
        }
    }
}
