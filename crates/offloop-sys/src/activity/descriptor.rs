//! What a descriptor is, by its number alone.
//!
//! Nothing is opened, and no server is asked: a link of `/proc` is read, the type is taken from
//! what the kernel already knows, and a socket tells its addresses. None of these waits for a
//! device or for another process.
//!
//! Source:     proc_pid_fd(5), statx(2) with `AT_STATX_DONT_SYNC`, getpeername(2), unix(7),
//!             pidfd_open(2).

use std::fs;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt;

use crate::check;

/// What a descriptor leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Descriptor {
    /// A socket, and the addresses of the other side and of this one, as far as it has any.
    Socket {
        /// As in `10.0.0.5:5432`, `[::1]:80`, `/run/a.sock` or `@abstract`.
        peer: Option<String>,
        /// The same.
        own: Option<String>,
    },
    /// A file or a folder, and where it was when it was opened.
    File {
        /// The kernel says so where it is not there any more.
        path: String,
    },
    /// A child process, or any other.
    Process {
        /// Its id, unless it has ended and was waited for.
        pid: Option<i32>,
    },
    /// A pipe, a terminal, or anything else, as the kernel calls it.
    Other {
        /// As in `pipe:[4711]`, or the path of a pipe that has one.
        name: String,
    },
}

/// What the descriptor with this number is; `None` if there is none.
#[must_use]
pub fn describe_descriptor(fd: RawFd) -> Option<Descriptor> {
    let link = fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    let name = String::from_utf8_lossy(&link.into_os_string().into_vec()).into_owned();
    Some(match mode_of(fd) & libc::S_IFMT {
        libc::S_IFSOCK => Descriptor::Socket {
            peer: address(fd, libc::getpeername),
            own: address(fd, libc::getsockname),
        },
        libc::S_IFREG | libc::S_IFDIR | libc::S_IFBLK if name.starts_with('/') => {
            Descriptor::File { path: name }
        }
        _ if name == "anon_inode:[pidfd]" || name.starts_with("pidfd:") => Descriptor::Process {
            pid: process_of(fd),
        },
        _ => Descriptor::Other { name },
    })
}

/// The type of what a descriptor leads to, as far as the kernel knows it without asking; 0 if not.
fn mode_of(fd: RawFd) -> u32 {
    let mut answer = MaybeUninit::<libc::statx>::uninit();
    // SAFETY: the empty path means the descriptor; the call fills the structure when it succeeds.
    let outcome = unsafe {
        check(libc::statx(
            fd,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC,
            libc::STATX_TYPE,
            answer.as_mut_ptr(),
        ))
    };
    match outcome {
        // SAFETY: it has succeeded.
        Ok(_) => u32::from(unsafe { answer.assume_init() }.stx_mode),
        Err(_) => 0,
    }
}

/// The process that a descriptor of one stands for.
fn process_of(fd: RawFd) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let mut lines = text.lines();
    let pid: i32 = lines
        .find_map(|line| line.strip_prefix("Pid:"))?
        .trim()
        .parse()
        .ok()?;
    (pid > 0).then_some(pid)
}

type GetAddress =
    unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

/// One of a socket's addresses.
fn address(fd: RawFd, get: GetAddress) -> Option<String> {
    let mut bytes = [0_u8; size_of::<libc::sockaddr_storage>()];
    let mut length = libc::socklen_t::try_from(bytes.len()).expect("128 bytes");
    // SAFETY: as many bytes as are said; the kernel writes bytes, and says how many there would be.
    let outcome = unsafe { check(get(fd, bytes.as_mut_ptr().cast(), &raw mut length)) };
    outcome.ok()?;
    shown_address(bytes.get(..usize::try_from(length).ok()?)?)
}

/// An address as the kernel has it, for people; `None` for families that have none to show.
#[must_use]
pub fn shown_address(bytes: &[u8]) -> Option<String> {
    let (family, rest) = bytes.split_first_chunk::<2>()?;
    match libc::c_int::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => {
            let (port, rest) = rest.split_first_chunk::<2>()?;
            let address = Ipv4Addr::from(*rest.first_chunk::<4>()?);
            Some(SocketAddrV4::new(address, u16::from_be_bytes(*port)).to_string())
        }
        libc::AF_INET6 => {
            let (port, rest) = rest.split_first_chunk::<2>()?;
            let (_flow, rest) = rest.split_first_chunk::<4>()?;
            let (address, rest) = rest.split_first_chunk::<16>()?;
            let scope = u32::from_ne_bytes(*rest.first_chunk::<4>()?);
            let port = u16::from_be_bytes(*port);
            Some(SocketAddrV6::new(Ipv6Addr::from(*address), port, 0, scope).to_string())
        }
        libc::AF_UNIX => {
            let (mark, name) = match rest {
                [] => return None,
                [0, name @ ..] => ("@", name),
                // It ends with the bytes, or with a zero.
                path => ("", path.split(|&byte| byte == 0).next().unwrap_or(path)),
            };
            let shown = format!("{mark}{}", String::from_utf8_lossy(name));
            (!name.is_empty()).then_some(shown)
        }
        _ => None,
    }
}

#[cfg(not(miri))]
#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::pipe;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn describe(descriptor: &impl AsRawFd) -> Descriptor {
        describe_descriptor(descriptor.as_raw_fd()).expect("it is open")
    }

    fn socket(peer: Option<String>, own: Option<String>) -> Descriptor {
        Descriptor::Socket { peer, own }
    }

    #[test]
    fn sockets_tell_both_addresses() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let server = TcpListener::bind(host).expect("loopback");
            let at = server.local_addr().expect("bound").to_string();
            let client = TcpStream::connect(&*at).expect("it listens");
            let own = client.local_addr().expect("bound").to_string();
            assert_eq!(describe(&client), socket(Some(at.clone()), Some(own)));
            assert_eq!(describe(&server), socket(None, Some(at)));
        }
        let free = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let own = free.local_addr().expect("bound").to_string();
        assert_eq!(describe(&free), socket(None, Some(own)));
    }

    #[test]
    fn local_sockets_tell_their_path_if_they_have_one() {
        let path = format!("/tmp/offloop-descriptor-{}", std::process::id());
        let server = UnixListener::bind(&path).expect("a new path");
        let client = UnixStream::connect(&path).expect("it listens");
        fs::remove_file(&path).expect("it was made");
        assert_eq!(describe(&server), socket(None, Some(path.clone())));
        assert_eq!(describe(&client), socket(Some(path), None));
        let (one, _other) = UnixStream::pair().expect("a pair");
        assert_eq!(describe(&one), socket(None, None));
    }

    #[test]
    fn files_pipes_and_the_rest_are_told_apart() {
        let path = std::env::current_exe().expect("this program");
        let file = File::open(&path).expect("it runs");
        let path = path.to_str().expect("plain").to_owned();
        assert_eq!(describe(&file), Descriptor::File { path });
        let folder = File::open("/").expect("a folder");
        assert_eq!(describe(&folder), Descriptor::File { path: "/".into() });
        let (end, _other) = pipe().expect("a pipe");
        assert!(matches!(describe(&end), Descriptor::Other { name } if name.starts_with("pipe:[")));
        let null = File::open("/dev/null").expect("a device");
        let name = "/dev/null".to_owned();
        assert_eq!(describe(&null), Descriptor::Other { name });
        assert_eq!(describe_descriptor(-1), None);
        assert_eq!(describe_descriptor(1 << 20), None);
    }

    #[test]
    fn addresses_that_are_cut_are_none() {
        let mut inet = vec![0; 8];
        inet[..2].copy_from_slice(&2_u16.to_ne_bytes());
        inet[2..8].copy_from_slice(&[0x15, 0x38, 10, 0, 0, 5]);
        assert_eq!(shown_address(&inet).as_deref(), Some("10.0.0.5:5432"));
        for bytes in 0..8 {
            assert_eq!(shown_address(&inet[..bytes]), None);
        }
        let mut six = vec![0; 28];
        six[..2].copy_from_slice(&10_u16.to_ne_bytes());
        six[3] = 80;
        six[23] = 1;
        assert_eq!(shown_address(&six).as_deref(), Some("[::1]:80"));
        for bytes in 0..28 {
            assert_eq!(shown_address(&six[..bytes]), None);
        }
        for (rest, shown) in [
            (&b"/a b\0x"[..], Some("/a b")),
            (b"\0name", Some("@name")),
            (b"", None),
            (b"\0", None),
        ] {
            let bytes = [&1_u16.to_ne_bytes()[..], rest].concat();
            assert_eq!(shown_address(&bytes).as_deref(), shown);
        }
        assert_eq!(shown_address(&[16, 0, 1, 2, 3]), None);
    }
}
