//! Reading and writing a connected socket without blocking, by its number.
//!
//! The number belongs to a socket object of the program's, which may close it at any time; a wrong
//! number is an error of the system's and no more.
//!
//! Source: recv(2), send(2), ioctl_tty(2).

use std::io::{self, IoSlice};
use std::os::fd::RawFd;

use crate::{check, check_size, retry};

/// Buffers passed to one `send_vectored`; more wait for the next.
pub const BUFFERS_MAX: usize = 64;

const SEND: libc::c_int = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;

/// The system's number for a descriptor that is none.
pub const BAD_DESCRIPTOR: i32 = libc::EBADF;

/// The system's number for sockets whose messages have no boundaries.
pub const STREAM: i32 = libc::SOCK_STREAM;

/// Receives at most `buffer.len()` bytes; 0 is the end of the stream.
///
/// # Errors
/// The system's; `WouldBlock` when nothing is there.
pub fn receive(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    retry(|| {
        // SAFETY: `buffer` is valid for writing its length.
        check_size(unsafe {
            libc::recv(
                fd,
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT,
            )
        })
    })
}

/// Receives into memory that other code may look at meanwhile.
///
/// # Errors
/// As [`receive`].
///
/// # Safety
/// `buffer` is valid for writing `len` bytes for the time of the call.
pub unsafe fn receive_into(fd: RawFd, buffer: *mut u8, len: usize) -> io::Result<usize> {
    retry(|| {
        // SAFETY: as above.
        check_size(unsafe { libc::recv(fd, buffer.cast(), len, libc::MSG_DONTWAIT) })
    })
}

/// Receives into `first`, and what does not fit there into `rest`; how many bytes in all.
///
/// # Errors
/// As [`receive`].
///
/// # Safety
/// `first` is valid for writing `len` bytes for the time of the call.
pub unsafe fn receive_both(
    fd: RawFd,
    first: *mut u8,
    len: usize,
    rest: &mut [u8],
) -> io::Result<usize> {
    let mut buffers = [
        libc::iovec {
            iov_base: first.cast(),
            iov_len: len,
        },
        libc::iovec {
            iov_base: rest.as_mut_ptr().cast(),
            iov_len: rest.len(),
        },
    ];
    // SAFETY: all fields may be zero.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = buffers.as_mut_ptr();
    message.msg_iovlen = buffers.len();
    retry(|| {
        // SAFETY: both buffers are valid for writing their lengths.
        check_size(unsafe { libc::recvmsg(fd, &raw mut message, libc::MSG_DONTWAIT) })
    })
}

/// Reads at most `buffer.len()` bytes from a descriptor of any kind; 0 is the end.
///
/// It waits if the descriptor does, that is, unless the descriptor has been set not to.
///
/// # Errors
/// The system's; `WouldBlock` when nothing is there.
pub fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    retry(|| {
        // SAFETY: `buffer` is valid for writing its length.
        check_size(unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) })
    })
}

/// How many bytes can be received at once.
///
/// # Errors
/// The system's.
pub fn waiting(fd: RawFd) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: the request writes one integer.
    check(unsafe { libc::ioctl(fd, libc::FIONREAD, &raw mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Sends what there is room for, and says how many bytes that was.
///
/// # Errors
/// As [`send_vectored`].
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: a slice is valid for reading its length.
    unsafe { send_from(fd, bytes.as_ptr(), bytes.len()) }
}

/// Sends from memory that other code may change meanwhile.
///
/// # Errors
/// As [`send_vectored`].
///
/// # Safety
/// `buffer` is valid for reading `len` bytes for the time of the call.
pub unsafe fn send_from(fd: RawFd, buffer: *const u8, len: usize) -> io::Result<usize> {
    retry(|| {
        // SAFETY: as above.
        check_size(unsafe { libc::send(fd, buffer.cast(), len, SEND) })
    })
}

/// Sends the first [`BUFFERS_MAX`] of `buffers` as far as there is room, and says how many bytes.
///
/// # Errors
/// The system's; `WouldBlock` when there is no room. A closed peer raises no signal.
pub fn send_vectored(fd: RawFd, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
    let count = buffers.len().min(BUFFERS_MAX);
    // SAFETY: all fields may be zero; `IoSlice` has the layout of `iovec`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = buffers.as_ptr().cast_mut().cast();
    message.msg_iovlen = count;
    retry(|| {
        // SAFETY: the message's buffers are valid for reading; nothing is written to them.
        check_size(unsafe { libc::sendmsg(fd, &raw const message, SEND) })
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn buffers_arrive_in_their_order() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let buffers = [
            IoSlice::new(b"one "),
            IoSlice::new(b""),
            IoSlice::new(b"two"),
        ];
        assert_eq!(send_vectored(near.as_raw_fd(), &buffers).unwrap(), 7);
        let mut bytes = [0; 7];
        far.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"one two");
    }

    #[test]
    fn waiting_counts_what_can_be_received() {
        let (near, mut far) = UnixStream::pair().unwrap();
        assert_eq!(waiting(near.as_raw_fd()).unwrap(), 0);
        assert_eq!(send(near.as_raw_fd(), b"four").unwrap(), 4);
        assert_eq!(waiting(far.as_raw_fd()).unwrap(), 4);
        far.read_exact(&mut [0; 4]).unwrap();
        assert_eq!(waiting(far.as_raw_fd()).unwrap(), 0);
    }

    #[test]
    fn end_and_nothing_are_told_apart() {
        let (near, far) = UnixStream::pair().unwrap();
        let mut buffer = [0; 8];
        let error = receive(near.as_raw_fd(), &mut buffer).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(far);
        assert_eq!(receive(near.as_raw_fd(), &mut buffer).unwrap(), 0);
    }

    #[test]
    fn closed_peer_is_an_error_and_no_signal() {
        let (near, far) = UnixStream::pair().unwrap();
        drop(far);
        let error = send_vectored(near.as_raw_fd(), &[IoSlice::new(b"x")]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
