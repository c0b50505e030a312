//! Which of its calls a thread sleeps in, and what that call waits for.
//!
//! Numbers of calls differ between architectures; older ones have calls that newer ones lack. A
//! call that is in none of the lists is `Other`: nothing is guessed of it.
//!
//! Source:     syscalls(2) and the page of each call.

use super::text::SystemCall;

/// Calls that the C library's headers do not name yet.
const FUTEX_WAIT: i64 = 455;

/// What a call waits for, by its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A point in time.
    Time,
    /// What a descriptor leads to.
    Descriptor(u64),
    /// The other side of a socket, whose address is at `address`.
    Connection {
        /// The socket.
        fd: u64,
        /// Where the address is.
        address: u64,
        /// How long it is.
        bytes: u64,
    },
    /// A file that is found by its path, which is at this address.
    Path(u64),
    /// One of several descriptors, in a list of `pollfd`, or none.
    Poll {
        /// Where the list is.
        list: u64,
        /// How many there are.
        count: u64,
    },
    /// One of several descriptors, in sets of bits, or none.
    Select {
        /// Descriptors in the sets are below this.
        count: u64,
        /// Where the sets are, or 0.
        sets: [u64; 3],
    },
    /// A lock or a condition of the C library or of the interpreter.
    Futex(u64),
    /// The end of a child process.
    Child(Option<i32>),
    /// Anything else.
    Other,
}

/// What this call waits for.
#[must_use]
pub fn target_of(call: &SystemCall) -> Target {
    let [first, second, third, fourth, ..] = call.arguments;
    #[cfg(target_arch = "x86_64")]
    if let Some(target) = target_of_older(call) {
        return target;
    }
    match call.number {
        libc::SYS_nanosleep | libc::SYS_clock_nanosleep => Target::Time,
        libc::SYS_ppoll => Target::Poll {
            list: first,
            count: second,
        },
        libc::SYS_pselect6 => Target::Select {
            count: first,
            sets: [second, third, fourth],
        },
        libc::SYS_connect => Target::Connection {
            fd: first,
            address: second,
            bytes: third,
        },
        libc::SYS_futex => Target::Futex(first),
        FUTEX_WAIT => Target::Futex(first),
        // A list of them, none of which the interpreter uses for itself.
        libc::SYS_futex_waitv => Target::Futex(0),
        libc::SYS_wait4 => Target::Child(process(first)),
        libc::SYS_waitid => match u32::try_from(first) {
            Ok(libc::P_PID) => Target::Child(process(second)),
            Ok(libc::P_PIDFD) => Target::Descriptor(second),
            _ => Target::Child(None),
        },
        libc::SYS_openat
        | libc::SYS_openat2
        | libc::SYS_newfstatat
        | libc::SYS_statx
        | libc::SYS_faccessat
        | libc::SYS_faccessat2
        | libc::SYS_mkdirat
        | libc::SYS_unlinkat
        | libc::SYS_renameat2
        | libc::SYS_readlinkat => Target::Path(second),
        libc::SYS_truncate | libc::SYS_execve | libc::SYS_statfs => Target::Path(first),
        number if takes_descriptor(number) => Target::Descriptor(first),
        _ => Target::Other,
    }
}

/// The same for calls that newer architectures do not have.
#[cfg(target_arch = "x86_64")]
fn target_of_older(call: &SystemCall) -> Option<Target> {
    let [first, second, third, fourth, ..] = call.arguments;
    Some(match call.number {
        libc::SYS_poll => Target::Poll {
            list: first,
            count: second,
        },
        libc::SYS_select => Target::Select {
            count: first,
            sets: [second, third, fourth],
        },
        libc::SYS_open
        | libc::SYS_creat
        | libc::SYS_stat
        | libc::SYS_lstat
        | libc::SYS_access
        | libc::SYS_mkdir
        | libc::SYS_rmdir
        | libc::SYS_unlink
        | libc::SYS_rename
        | libc::SYS_readlink => Target::Path(first),
        libc::SYS_getdents | libc::SYS_epoll_wait | libc::SYS_sync_file_range => {
            Target::Descriptor(first)
        }
        _ => return None,
    })
}

/// Whether a call may wait for the descriptor that is its first argument.
fn takes_descriptor(number: i64) -> bool {
    const READS: &[i64] = &[
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_pread64,
        libc::SYS_preadv,
        libc::SYS_preadv2,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_pwrite64,
        libc::SYS_pwritev,
        libc::SYS_pwritev2,
        libc::SYS_sendfile,
        libc::SYS_splice,
        libc::SYS_tee,
        libc::SYS_vmsplice,
        libc::SYS_copy_file_range,
        libc::SYS_getdents64,
        libc::SYS_ioctl,
        libc::SYS_fcntl,
        libc::SYS_flock,
        libc::SYS_fsync,
        libc::SYS_fdatasync,
        libc::SYS_syncfs,
        libc::SYS_ftruncate,
        libc::SYS_fallocate,
        libc::SYS_fstat,
        libc::SYS_fstatfs,
        libc::SYS_close,
        libc::SYS_epoll_pwait,
        libc::SYS_epoll_pwait2,
        libc::SYS_io_uring_enter,
    ];
    const SOCKETS: &[i64] = &[
        libc::SYS_accept,
        libc::SYS_accept4,
        libc::SYS_recvfrom,
        libc::SYS_recvmsg,
        libc::SYS_recvmmsg,
        libc::SYS_sendto,
        libc::SYS_sendmsg,
        libc::SYS_sendmmsg,
    ];
    READS.contains(&number) || SOCKETS.contains(&number)
}

/// A process that is waited for; `None` for any of several.
fn process(argument: u64) -> Option<i32> {
    // The kernel takes the lower half.
    let pid = (argument & u64::from(u32::MAX)) as u32 as i32;
    (pid > 0).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(number: i64, arguments: [u64; 6]) -> Target {
        target_of(&SystemCall { number, arguments })
    }

    #[test]
    fn a_child_is_named_if_there_is_one() {
        let any = u64::from(u32::MAX);
        assert_eq!(target(libc::SYS_wait4, [7; 6]), Target::Child(Some(7)));
        assert_eq!(target(libc::SYS_wait4, [any; 6]), Target::Child(None));
        assert_eq!(target(libc::SYS_wait4, [0; 6]), Target::Child(None));
        let waitid = |kind: u32, id| target(libc::SYS_waitid, [u64::from(kind), id, 0, 0, 0, 0]);
        assert_eq!(waitid(libc::P_PID, 7), Target::Child(Some(7)));
        assert_eq!(waitid(libc::P_PIDFD, 7), Target::Descriptor(7));
        assert_eq!(waitid(libc::P_ALL, 7), Target::Child(None));
    }

    #[test]
    fn arguments_are_taken_from_where_each_call_has_them() {
        let arguments = [11, 12, 13, 14, 15, 16];
        let of = |number| target(number, arguments);
        assert_eq!(of(libc::SYS_clock_nanosleep), Target::Time);
        assert_eq!(of(libc::SYS_read), Target::Descriptor(11));
        assert_eq!(of(libc::SYS_accept4), Target::Descriptor(11));
        assert_eq!(of(libc::SYS_openat), Target::Path(12));
        assert_eq!(of(libc::SYS_statfs), Target::Path(11));
        assert_eq!(of(libc::SYS_futex), Target::Futex(11));
        let list = Target::Poll {
            list: 11,
            count: 12,
        };
        assert_eq!(of(libc::SYS_ppoll), list);
        let sets = Target::Select {
            count: 11,
            sets: [12, 13, 14],
        };
        assert_eq!(of(libc::SYS_pselect6), sets);
        let connection = Target::Connection {
            fd: 11,
            address: 12,
            bytes: 13,
        };
        assert_eq!(of(libc::SYS_connect), connection);
    }

    #[test]
    fn calls_that_are_not_known_are_not_guessed_at() {
        for number in [libc::SYS_getpid, libc::SYS_mmap, -1, i64::MAX] {
            assert_eq!(target(number, [1; 6]), Target::Other);
        }
    }
}
