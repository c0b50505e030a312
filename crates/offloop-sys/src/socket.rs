//! Message sockets between two processes of one program, and the descriptors that travel on them.
//!
//! A message is one packet with at most a handful of descriptors; packets keep their borders. The
//! end of file of the socket is how each side learns that the other has ended.
//!
//! Errors:     the system's own; `UnexpectedEof` when the peer has closed its end.
//! Source:     unix(7), recvmsg(2) on SCM_RIGHTS.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::{check, retry};

/// Most descriptors that one message carries.
pub const DESCRIPTORS_MAX: usize = 16;

/// Two connected packet sockets, both closed on exec.
///
/// # Errors
/// The system's, when no descriptor is left.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: `fds` has room for the two descriptors.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) })?;
    // SAFETY: the call succeeded, so both descriptors are ours alone.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// A pipe, both ends closed on exec: (read end, write end).
///
/// # Errors
/// The system's, when no descriptor is left.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for the two descriptors.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: the call succeeded, so both descriptors are ours alone.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// The process that listens at the other end of a connected socket of the file system; 0 if its
/// ids are not seen here.
///
/// # Errors
/// The system's, if this is no such socket.
pub fn listening_process(fd: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: plain numbers, for which zero is a valid value.
    let mut credentials: libc::ucred = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).expect("a few bytes");
    // SAFETY: both are valid for the call, which fills at most as many bytes as it is told.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut length,
        )
    })?;
    Ok(u32::try_from(credentials.pid).unwrap_or(0))
}

/// Moves a descriptor to a number that careless programs do not reach: code that closes and
/// reopens low numbers would otherwise find ours in their place.
///
/// # Errors
/// The system's; with a low limit on open files the descriptor stays where it was.
pub fn lift(fd: OwnedFd, lowest: i32) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let moved = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, lowest) };
    if moved < 0 {
        let error = io::Error::last_os_error();
        return match error.raw_os_error() {
            Some(libc::EINVAL | libc::EMFILE) => Ok(fd),
            _ => Err(error),
        };
    }
    // SAFETY: the call made the descriptor, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(moved) })
}

/// Makes reads and writes of `fd` return at once.
///
/// # Errors
/// The system's.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })?;
    Ok(())
}

#[repr(align(8))]
struct Control([u8; 24 + 4 * DESCRIPTORS_MAX]);

/// Sends one message with its descriptors; never raises SIGPIPE.
///
/// # Errors
/// `WouldBlock` when `wait` is false and the socket is full, `BrokenPipe` when the peer has ended.
pub fn send(
    fd: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
    wait: Wait,
) -> io::Result<()> {
    assert!(descriptors.len() <= DESCRIPTORS_MAX);
    let mut control = Control([0; 24 + 4 * DESCRIPTORS_MAX]);
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: msghdr is plain numbers and pointers, for which zero is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !descriptors.is_empty() {
        let len = u32::try_from(descriptors.len() * 4).expect("bounded by the assert");
        message.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: arithmetic only.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(len) } as usize;
        // SAFETY: the control buffer is aligned and holds one header plus DESCRIPTORS_MAX numbers.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(len) as usize;
            let data = libc::CMSG_DATA(header).cast::<libc::c_int>();
            for (index, descriptor) in descriptors.iter().enumerate() {
                data.add(index).write_unaligned(descriptor.as_raw_fd());
            }
        }
    }
    let flags = libc::MSG_NOSIGNAL
        | if wait == Wait::No {
            libc::MSG_DONTWAIT
        } else {
            0
        };
    retry(|| {
        // SAFETY: every pointer in `message` lives until the call returns.
        let sent = unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    })
}

/// Whether a call may wait for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Wait until the socket is ready.
    Yes,
    /// Return `WouldBlock` instead of waiting.
    No,
}

/// Receives one message into `buffer`: its length and its descriptors.
///
/// Interrupted calls are not repeated (`Interrupted`), so that a caller may look at signals.
///
/// # Errors
/// `UnexpectedEof` when the peer has ended, `InvalidData` when the message is longer than `buffer`.
pub fn receive(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    wait: Wait,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = Control([0; 24 + 4 * DESCRIPTORS_MAX]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: msghdr is plain numbers and pointers, for which zero is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    let flags = libc::MSG_CMSG_CLOEXEC
        | if wait == Wait::No {
            libc::MSG_DONTWAIT
        } else {
            0
        };
    let mut receive = || {
        // SAFETY: every pointer in `message` is valid for writing until the call returns.
        let count = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags) };
        if count < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(count)
        }
    };
    let count = match receive() {
        // A peer that ended without reading all of ours is reported once, before what it had sent.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => receive()?,
        other => other?,
    };
    let descriptors = take_descriptors(&message);
    if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "message longer than its limit",
        ));
    }
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok((count.unsigned_abs(), descriptors))
}

fn take_descriptors(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: the kernel wrote well-formed headers inside the control buffer; the macros walk them
    // and stop at its end. Each number of an SCM_RIGHTS header is a fresh descriptor of ours.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
                let data = libc::CMSG_DATA(header).cast::<libc::c_int>();
                for index in 0..bytes / 4 {
                    descriptors.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    descriptors
}

/// Waits until `fd` is readable or at its end; false when `limit` passed first (`None`: no limit,
/// for a worker whose end comes as an end of file).
///
/// # Errors
/// `Interrupted` when a signal came, so that the caller may look at it.
pub fn wait_readable(fd: BorrowedFd<'_>, limit: Option<Duration>) -> io::Result<bool> {
    let mut entry = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let spec = limit.map(|limit| libc::timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(limit.subsec_nanos()),
    });
    let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `entry` and the optional `spec` live until the call returns.
    let count = check(unsafe { libc::ppoll(&raw mut entry, 1, spec, std::ptr::null()) })?;
    if entry.revents & libc::POLLNVAL != 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    Ok(count > 0)
}

/// Whether there is something to read from `fd` now; false at its end.
#[must_use]
pub fn has_bytes(fd: BorrowedFd<'_>) -> bool {
    let mut entry = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: `entry` lives until the call returns, which is at once.
    let count = unsafe { libc::poll(&raw mut entry, 1, 0) };
    count > 0 && entry.revents & libc::POLLIN != 0
}

/// Reads what is there, up to `buffer.len()`; 0 at the end of file.
///
/// # Errors
/// `WouldBlock` when nothing is there on a non-blocking descriptor.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    retry(|| {
        // SAFETY: `buffer` is valid for writing its whole length.
        let count = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        if count < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(count.unsigned_abs())
        }
    })
}

/// Writes all of `bytes` to our own standard error.
///
/// # Errors
/// The system's, when it has no reader any more.
pub fn write_stderr(mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = retry(|| {
            // SAFETY: `bytes` is valid for reading its whole length.
            let count = unsafe { libc::write(2, bytes.as_ptr().cast(), bytes.len()) };
            if count < 0 {
                Err(io::Error::last_os_error())
            } else {
                Ok(count.unsigned_abs())
            }
        })?;
        bytes = &bytes[count..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_message_arrives_whole_with_its_descriptors() {
        let (left, right) = pair().unwrap();
        let event = crate::event::Event::new().unwrap();
        send(
            left.as_fd(),
            b"take this",
            &[event.as_fd(), left.as_fd()],
            Wait::Yes,
        )
        .unwrap();
        let mut buffer = [0; 64];
        let (len, mut fds) = receive(right.as_fd(), &mut buffer, Wait::No).unwrap();
        assert_eq!((&buffer[..len], fds.len()), (b"take this".as_slice(), 2));
        let copy = crate::event::Event::from_fd(fds.remove(0));
        copy.signal().unwrap();
        assert!(event.clear());
    }

    #[test]
    fn a_gone_peer_is_an_end_of_file() {
        let (left, right) = pair().unwrap();
        drop(left);
        let error = receive(right.as_fd(), &mut [0; 8], Wait::No).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn the_last_words_of_a_peer_that_did_not_listen_arrive() {
        let (left, right) = pair().unwrap();
        send(left.as_fd(), b"unread", &[], Wait::No).unwrap();
        send(right.as_fd(), b"why", &[], Wait::No).unwrap();
        drop(right);
        let mut buffer = [0; 8];
        let (len, _) = receive(left.as_fd(), &mut buffer, Wait::No).unwrap();
        assert_eq!(&buffer[..len], b"why");
        let error = receive(left.as_fd(), &mut buffer, Wait::No).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_lifted_descriptor_keeps_working() {
        let (left, right) = pair().unwrap();
        let left = lift(left, 200).unwrap();
        assert!(left.as_raw_fd() >= 200);
        send(left.as_fd(), b"x", &[], Wait::No).unwrap();
        assert!(wait_readable(right.as_fd(), Some(Duration::ZERO)).unwrap());
    }
}
