//! Words for a person: a descriptor that may be a terminal, a file, or a pipe that is not read.
//!
//! Source:     poll(2), pipe(7), ioctl_tty(2).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::{check, check_size, retry};

/// What a pipe takes at once if it takes anything (`PIPE_BUF`).
const PIECE_BYTES: usize = 4096;

/// Writes all of it, unless the descriptor takes nothing for as long as `patience`.
///
/// # Errors
/// `TimedOut` if it takes no more; the system's otherwise. A part may have been written.
pub fn write_within(fd: BorrowedFd<'_>, bytes: &[u8], patience: Duration) -> io::Result<()> {
    let mut left = bytes;
    while !left.is_empty() {
        wait_for_room(fd, patience)?;
        let piece = &left[..left.len().min(PIECE_BYTES)];
        let written = retry(|| {
            // SAFETY: the bytes are valid for reads of their length; the descriptor is borrowed.
            check_size(unsafe { libc::write(fd.as_raw_fd(), piece.as_ptr().cast(), piece.len()) })
        });
        match written {
            Ok(written) => left = &left[written.min(left.len())..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
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

/// The columns of the terminal behind a descriptor; `None` if it is none, or does not say.
#[must_use]
pub fn columns(fd: BorrowedFd<'_>) -> Option<u16> {
    // SAFETY: plain numbers, for which zero is a valid value.
    let mut size: libc::winsize = unsafe { std::mem::zeroed() };
    // SAFETY: the request fills a `winsize`, which is valid for writes.
    let asked = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (asked == 0 && size.ws_col > 0).then_some(size.ws_col)
}

/// Whether a terminal is behind a descriptor.
#[must_use]
pub fn is_terminal(fd: BorrowedFd<'_>) -> bool {
    use std::io::IsTerminal;
    fd.is_terminal()
}

#[cfg(all(test, not(loom), not(miri)))]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

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
    fn a_pipe_without_a_reader_is_an_error_and_no_terminal() {
        let (read, write) = io::pipe().expect("a pipe");
        drop(read);
        let error = write_within(write.as_fd(), b"x", Duration::from_secs(20));
        assert_eq!(
            error.map_err(|error| error.kind()),
            Err(io::ErrorKind::BrokenPipe)
        );
        assert_eq!(columns(write.as_fd()), None);
        assert!(!is_terminal(write.as_fd()));
    }
}
