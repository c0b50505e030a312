//! Words for a person: a descriptor that may be a terminal, a file, or a pipe that is not read.
//!
//! Source:     poll(2), pipe(7), ioctl_tty(2).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use crate::{check, check_size, retry};

/// What is offered at once.
const PIECE_BYTES: usize = 4096;

/// Writes all of it, unless the descriptor takes nothing for as long as `patience`.
///
/// The descriptor itself is the program's, which may want it to block. So a pipe or a terminal is
/// opened once more, not to block; a file never blocks for long. Where a pipe may not be opened, as
/// after a change of users, a write of at most `PIPE_BUF` bytes follows a poll.
///
/// # Errors
/// `TimedOut` if it takes no more; the system's otherwise. A part may have been written.
pub fn write_within(fd: BorrowedFd<'_>, bytes: &[u8], patience: Duration) -> io::Result<()> {
    let kind = kind_of(fd)?;
    let own = match kind {
        libc::S_IFIFO | libc::S_IFCHR => open_once_more(fd).ok(),
        _ => None,
    };
    let to = own.as_ref().map_or(fd, File::as_fd);
    let mut left = bytes;
    while !left.is_empty() {
        wait_for_room(to, patience)?;
        let piece = &left[..left.len().min(PIECE_BYTES)];
        match retry(|| offer(to, kind, piece)) {
            Ok(written) => left = &left[written.min(left.len())..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn kind_of(fd: BorrowedFd<'_>) -> io::Result<libc::mode_t> {
    // SAFETY: plain numbers, for which zero is a valid value.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `status` is valid for the call to fill; the descriptor is borrowed.
    check(unsafe { libc::fstat(fd.as_raw_fd(), &raw mut status) })?;
    Ok(status.st_mode & libc::S_IFMT)
}

fn open_once_more(fd: BorrowedFd<'_>) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn offer(to: BorrowedFd<'_>, kind: libc::mode_t, piece: &[u8]) -> io::Result<usize> {
    let (fd, start, len) = (to.as_raw_fd(), piece.as_ptr().cast(), piece.len());
    check_size(if kind == libc::S_IFSOCK {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the bytes are valid for reads of their length; the descriptor is borrowed.
        unsafe { libc::send(fd, start, len, flags) }
    } else {
        // SAFETY: the same.
        unsafe { libc::write(fd, start, len) }
    })
}

fn wait_for_room(fd: BorrowedFd<'_>, patience: Duration) -> io::Result<()> {
    let until = Instant::now() + patience;
    loop {
        let mut asked = libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLOUT,
            revents: 0,
        };
        let left = until.saturating_duration_since(Instant::now());
        let left = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one valid entry for the call to read and fill.
        match check(unsafe { libc::poll(&raw mut asked, 1, left) }) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            // Also an error or the end: the write says which.
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Waits until something is typed, a signal comes, or the time is over. After a signal it is looked
/// once more: the signal may be that of a terminal that is gone.
///
/// # Errors
/// `UnexpectedEof` if the terminal is gone, of which a read would tell again and again; the
/// system's otherwise.
pub fn wait_for_input(fd: BorrowedFd<'_>, limit: Duration) -> io::Result<()> {
    let mut asked = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    loop {
        // SAFETY: one valid entry for the call to read and fill.
        match check(unsafe { libc::poll(&raw mut asked, 1, limit) }) {
            Ok(_) if asked.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0 => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => limit = 0,
            Err(error) => return Err(error),
        }
    }
}

/// The columns of the terminal behind a descriptor; `None` if it is none, or does not say.
#[must_use]
pub fn columns(fd: BorrowedFd<'_>) -> Option<u16> {
    // SAFETY: plain numbers, for which zero is a valid value.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the request fills a `winsize`, which is valid for writes.
    let asked = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (asked == 0 && size.ws_col > 0).then_some(size.ws_col)
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::{FromRawFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_pipe_that_is_read_gets_all_and_a_full_one_does_not_hold_the_writer() {
        let (mut read, write) = io::pipe().expect("a pipe");
        let bytes = vec![b'x'; 3 * PIECE_BYTES + 5];
        write_within(write.as_fd(), &bytes, Duration::from_secs(20)).expect("there is room");
        let mut got = vec![0; bytes.len()];
        read.read_exact(&mut got).expect("it was written");
        assert_eq!(got, bytes);
        let endless = vec![b'x'; 1 << 20];
        let error = write_within(write.as_fd(), &endless, Duration::from_millis(1));
        assert_eq!(
            error.map_err(|error| error.kind()),
            Err(io::ErrorKind::TimedOut)
        );
    }

    #[test]
    fn input_is_waited_for_and_its_end_is_told() {
        let (read, mut write) = io::pipe().expect("a pipe");
        wait_for_input(read.as_fd(), Duration::ZERO).expect("nothing came, and nothing ended");
        write.write_all(b"x").expect("there is room");
        wait_for_input(read.as_fd(), Duration::from_secs(20)).expect("it came");
        drop(write);
        let error = wait_for_input(read.as_fd(), Duration::from_secs(20));
        assert_eq!(
            error.map_err(|error| error.kind()),
            Err(io::ErrorKind::UnexpectedEof)
        );
    }

    #[test]
    fn a_socket_that_is_not_read_does_not_hold_the_writer() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        let endless = vec![b'x'; 1 << 24];
        let error = write_within(one.as_fd(), &endless, Duration::from_millis(1));
        assert_eq!(
            error.map_err(|error| error.kind()),
            Err(io::ErrorKind::TimedOut)
        );
    }

    #[test]
    fn a_terminal_that_is_not_read_does_not_hold_the_writer() {
        let (mut main, mut side) = (-1, -1);
        let none = std::ptr::null_mut();
        // SAFETY: both are valid for the call to fill; nothing else is asked for.
        let made =
            unsafe { libc::openpty(&raw mut main, &raw mut side, none, none.cast(), none.cast()) };
        assert_eq!(made, 0);
        // SAFETY: two new descriptors without another owner.
        let [_main, side] = [main, side].map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        let endless = vec![b'x'; 1 << 20];
        let error = write_within(side.as_fd(), &endless, Duration::from_millis(1));
        assert_eq!(
            error.map_err(|error| error.kind()),
            Err(io::ErrorKind::TimedOut)
        );
    }

    #[test]
    fn a_pipe_without_a_reader_is_an_error_and_has_no_columns() {
        let (read, write) = io::pipe().expect("a pipe");
        drop(read);
        let error = write_within(write.as_fd(), b"x", Duration::from_secs(20));
        assert_eq!(
            error.map_err(|error| error.kind()),
            Err(io::ErrorKind::BrokenPipe)
        );
        assert_eq!(columns(write.as_fd()), None);
    }
}
