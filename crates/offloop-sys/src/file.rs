//! Opening and reading files without waiting for a disk or a server, and saying when that fails.
//!
//! What the page cache holds costs no more than a copy. The kernel can be asked for exactly that:
//! to resolve a path from the cache of names, and to read pages that are there. Both answer
//! `WouldBlock` where they would wait. Opening itself has no such question: a network file system
//! asks its server, and a FIFO or a device changes its state. So a path is first resolved without
//! being opened, and opened only when it names a regular file of a mount that is known to be local.
//!
//! Shape:      `open_cached` on a thread that must not wait · `learn` on a thread that may, once
//!             for each mount · `read_at_once` and `read` append to a vector · `read_whole` fills
//!             given memory.
//! Invariants: 1. A mount is known only after `learn` has asked it for its file system.
//!             2. A file that `open_cached` returns is regular, on a known mount, open for reading.
//! Threads:    any. The table of mounts is tried, never waited for: a fork leaves no lock behind.
//! Source:     openat2(2), statx(2), preadv2(2), statfs(2); docs/design/008-files.md.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Mutex;

use crate::{check, check_size, retry};

/// How a file can be read by a thread that must not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Its cached pages can be asked for.
    Cached,
    /// Its pages are memory: it has no device.
    Memory,
    /// Not at all: a pipe, a device, a remote or an unknown file system.
    Waiting,
}

/// What is known of an open file.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// How it can be read.
    pub way: Way,
    /// It is a regular file, so a read is short only at its end.
    pub regular: bool,
    /// Its length in bytes.
    pub bytes: u64,
    /// The names that it has. When the last descriptor of a file without a name is closed, the
    /// file is removed, which takes as long as it is large.
    pub links: u32,
}

impl Facts {
    /// What is known of a file that could not be asked.
    pub const NONE: Self = Self {
        way: Way::Waiting,
        regular: false,
        bytes: 0,
        links: 0,
    };
}

/// One mounted file system.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Mount {
    device: (u32, u32),
    id: u64,
}

/// Mounts whose way is kept. Programs read from a few; the oldest is forgotten.
const MOUNTS_MAX: usize = 64;

static MOUNTS: Mutex<Vec<(Mount, Way)>> = Mutex::new(Vec::new());

/// `BCACHEFS_SUPER_MAGIC`, which the bindings lack.
const BCACHEFS: libc::c_long = 0xca45_1a4e;

const AT_ONCE: io::ErrorKind = io::ErrorKind::WouldBlock;

/// Opens a file for reading if its path is cached, and it is a regular file of a known mount.
///
/// # Errors
/// `WouldBlock` where it would wait or might have an effect; other errors are the system's. What an
/// ordinary `open` says counts in each case.
pub fn open_cached(path: &CStr) -> io::Result<(OwnedFd, Facts)> {
    let place = open_how(path, libc::O_PATH)?;
    let (facts, mount) = facts_of(place.as_raw_fd())?;
    if !facts.regular || facts.way == Way::Waiting {
        return Err(AT_ONCE.into());
    }
    // Without O_NONBLOCK, opening waits for a process that holds a lease on the file.
    let file = open_how(path, libc::O_RDONLY | libc::O_NONBLOCK)?;
    let (facts, found) = facts_of(file.as_raw_fd())?;
    if found != mount || !facts.regular {
        // The file in its place has been replaced meanwhile.
        return Err(AT_ONCE.into());
    }
    // SAFETY: the call takes integers only. On a regular file it cannot fail.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, 0) })?;
    Ok((file, facts))
}

/// Says what an open file is, and remembers its mount. May wait for a file system's answer.
///
/// # Errors
/// The system's.
pub fn learn(fd: RawFd) -> io::Result<Facts> {
    let (mut facts, mount) = facts_of(fd)?;
    if !facts.regular {
        return Ok(facts);
    }
    let mut answer = MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: the call fills the structure when it succeeds.
    let answer = unsafe {
        if libc::fstatfs(fd, answer.as_mut_ptr()) != 0 {
            // A filter may forbid the question. The file can be read nevertheless.
            return Ok(facts);
        }
        answer.assume_init()
    };
    facts.way = way_of(answer.f_type);
    if let (Some(mount), Ok(mut known)) = (mount, MOUNTS.try_lock()) {
        known.retain(|(other, _)| *other != mount);
        if known.len() == MOUNTS_MAX {
            known.remove(0);
        }
        known.push((mount, facts.way));
    }
    Ok(facts)
}

/// Says what an open file is, without waiting.
///
/// # Errors
/// The system's.
pub fn facts(fd: RawFd) -> io::Result<Facts> {
    facts_of(fd).map(|(facts, _)| facts)
}

/// How many bytes a regular file has behind its position.
///
/// # Errors
/// The system's.
pub fn rest(fd: RawFd) -> io::Result<u64> {
    let bytes = facts(fd)?.bytes;
    // SAFETY: the call takes integers only.
    let position = check_size(unsafe { libc::lseek(fd, 0, libc::SEEK_CUR) } as libc::ssize_t)?;
    Ok(bytes.saturating_sub(position as u64))
}

/// Appends at most `room` bytes from the file's position, if they are there; 0 is the end.
///
/// # Errors
/// `WouldBlock` when the file must be waited for; otherwise the system's.
pub fn read_at_once(fd: RawFd, way: Way, bytes: &mut Vec<u8>, room: usize) -> io::Result<usize> {
    match way {
        Way::Cached => append(fd, bytes, room, libc::RWF_NOWAIT),
        Way::Memory => append(fd, bytes, room, 0),
        Way::Waiting => Err(AT_ONCE.into()),
    }
}

/// Appends at most `room` bytes from the file's position, waiting for them; 0 is the end.
///
/// # Errors
/// The system's.
pub fn read(fd: RawFd, bytes: &mut Vec<u8>, room: usize) -> io::Result<usize> {
    bytes.reserve(room);
    let spare = bytes.spare_capacity_mut();
    let len = retry(|| {
        // SAFETY: the spare capacity is ours to write, and at least `room` long.
        check_size(unsafe { libc::read(fd, spare.as_mut_ptr().cast(), room) })
    })?;
    // SAFETY: the system has initialised that many bytes behind the old length.
    unsafe { bytes.set_len(bytes.len() + len) };
    Ok(len)
}

/// Reads a file of exactly `len` bytes from its start; false if it is not that long any more.
///
/// # Errors
/// As [`read_at_once`].
///
/// # Safety
/// `memory` is valid for writing `len` bytes.
pub unsafe fn read_whole(fd: RawFd, way: Way, memory: *mut u8, len: usize) -> io::Result<bool> {
    let flags = match way {
        Way::Cached => libc::RWF_NOWAIT,
        Way::Memory => 0,
        Way::Waiting => return Err(AT_ONCE.into()),
    };
    // One byte more than the file should have tells whether it has grown.
    let mut beyond = 0_u8;
    let parts = [
        libc::iovec {
            iov_base: memory.cast(),
            iov_len: len,
        },
        libc::iovec {
            iov_base: (&raw mut beyond).cast(),
            iov_len: 1,
        },
    ];
    // SAFETY: both parts are valid for writing their lengths.
    let read = retry(|| check_size(unsafe { libc::preadv2(fd, parts.as_ptr(), 2, 0, flags) }))?;
    Ok(read == len)
}

fn append(fd: RawFd, bytes: &mut Vec<u8>, room: usize, flags: libc::c_int) -> io::Result<usize> {
    bytes.reserve(room);
    let part = libc::iovec {
        iov_base: bytes.spare_capacity_mut().as_mut_ptr().cast(),
        iov_len: room,
    };
    let len = retry(|| {
        // SAFETY: the spare capacity is ours to write, and at least `room` long. An offset of -1
        // is the file's own position.
        check_size(unsafe { libc::preadv2(fd, &raw const part, 1, -1, flags) })
    })?;
    // SAFETY: the system has initialised that many bytes behind the old length.
    unsafe { bytes.set_len(bytes.len() + len) };
    Ok(len)
}

/// Opens what a path names if every name on the way is cached.
fn open_how(path: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: zeros are a valid value; the kernel wants zeros in fields that it adds later.
    let mut how: libc::open_how = unsafe { MaybeUninit::zeroed().assume_init() };
    how.flags = u64::from((flags | libc::O_CLOEXEC).cast_unsigned());
    how.resolve = libc::RESOLVE_CACHED;
    let fd = retry(|| {
        // SAFETY: path and structure are valid for reading, and the length is the structure's.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                libc::AT_FDCWD,
                path.as_ptr(),
                &raw const how,
                size_of::<libc::open_how>(),
            )
        };
        check_size(fd as libc::ssize_t)
    })?;
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    // SAFETY: the kernel has just given us this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the kernel knows of a file without asking a server, and where it is mounted.
fn facts_of(fd: RawFd) -> io::Result<(Facts, Option<Mount>)> {
    let mut answer = MaybeUninit::<libc::statx>::uninit();
    // SAFETY: the empty path means the descriptor; the call fills the structure when it succeeds.
    let answer = unsafe {
        check(libc::statx(
            fd,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC,
            libc::STATX_BASIC_STATS | libc::STATX_MNT_ID | libc::STATX_MNT_ID_UNIQUE,
            answer.as_mut_ptr(),
        ))?;
        answer.assume_init()
    };
    // Before Linux 6.8 numbers of mounts come again; before 5.8 there are none.
    let numbered = answer.stx_mask & (libc::STATX_MNT_ID | libc::STATX_MNT_ID_UNIQUE) != 0;
    let mount = numbered.then_some(Mount {
        device: (answer.stx_dev_major, answer.stx_dev_minor),
        id: answer.stx_mnt_id,
    });
    let facts = Facts {
        way: mount.map_or(Way::Waiting, known_way),
        regular: u32::from(answer.stx_mode) & libc::S_IFMT == libc::S_IFREG,
        bytes: answer.stx_size,
        links: answer.stx_nlink,
    };
    Ok((facts, mount))
}

fn known_way(mount: Mount) -> Way {
    let Ok(known) = MOUNTS.try_lock() else {
        return Way::Waiting;
    };
    known
        .iter()
        .find(|(other, _)| *other == mount)
        .map_or(Way::Waiting, |(_, way)| *way)
}

/// The local file systems that can be asked for cached pages, and those that are memory.
fn way_of(file_system: libc::c_long) -> Way {
    match file_system {
        libc::EXT4_SUPER_MAGIC
        | libc::XFS_SUPER_MAGIC
        | libc::BTRFS_SUPER_MAGIC
        | libc::F2FS_SUPER_MAGIC
        | BCACHEFS => Way::Cached,
        libc::TMPFS_MAGIC => Way::Memory,
        _ => Way::Waiting,
    }
}

#[cfg(all(test, not(miri)))]
mod tests {
    use std::ffi::CString;
    use std::fs::{self, File};
    use std::path::{Path, PathBuf};

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("offloop-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn file(&self, bytes: &[u8]) -> CString {
            let path = self.0.join("file");
            fs::write(&path, bytes).unwrap();
            c_path(&path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn c_path(path: &Path) -> CString {
        CString::new(path.to_str().unwrap()).unwrap()
    }

    /// Makes the mount of a path known, and says how its files are read.
    fn learned(path: &CStr) -> Facts {
        learn(File::open(path.to_str().unwrap()).unwrap().as_raw_fd()).unwrap()
    }

    #[test]
    fn a_file_of_a_known_mount_is_opened_and_read_at_once() {
        let folder = Folder::new("known");
        let path = folder.file(b"some text");
        if learned(&path).way == Way::Waiting {
            // This file system cannot be asked, so its files are not opened.
            assert_eq!(open_cached(&path).unwrap_err().kind(), AT_ONCE);
            return;
        }
        let (file, facts) = open_cached(&path).unwrap();
        assert_eq!((facts.bytes, facts.links, facts.regular), (9, 1, true));
        let mut bytes = b"> ".to_vec();
        assert_eq!(
            read_at_once(file.as_raw_fd(), facts.way, &mut bytes, 4).unwrap(),
            4
        );
        assert_eq!(read(file.as_raw_fd(), &mut bytes, 100).unwrap(), 5);
        assert_eq!(
            read_at_once(file.as_raw_fd(), facts.way, &mut bytes, 1).unwrap(),
            0
        );
        assert_eq!(bytes, b"> some text");
    }

    #[test]
    fn a_whole_file_is_read_only_when_it_has_the_expected_length() {
        let folder = Folder::new("whole");
        let path = folder.file(b"0123456789");
        let facts = learned(&path);
        let file = File::open(path.to_str().unwrap()).unwrap();
        let mut memory = [0_u8; 16];
        for (len, whole) in [(10, true), (9, false), (11, false)] {
            // SAFETY: the memory is longer than any of the lengths.
            let read = unsafe { read_whole(file.as_raw_fd(), facts.way, memory.as_mut_ptr(), len) };
            match facts.way {
                Way::Waiting => assert_eq!(read.unwrap_err().kind(), AT_ONCE),
                _ => assert_eq!(read.unwrap(), whole, "{len}"),
            }
        }
    }

    #[test]
    fn what_is_no_regular_file_is_not_opened() {
        for path in [c"/dev/null", c"/dev/shm", c"/proc/self/status"] {
            assert_eq!(open_cached(path).unwrap_err().kind(), AT_ONCE, "{path:?}");
        }
        let missing = open_cached(c"/offloop-does-not-exist").unwrap_err().kind();
        assert!(matches!(missing, io::ErrorKind::NotFound | AT_ONCE));
    }

    #[test]
    fn file_systems_that_may_ask_a_server_are_waited_for() {
        assert_eq!(way_of(0x6969), Way::Waiting);
        assert_eq!(way_of(0x6573_5546), Way::Waiting);
        assert_eq!(way_of(libc::TMPFS_MAGIC), Way::Memory);
    }
}
