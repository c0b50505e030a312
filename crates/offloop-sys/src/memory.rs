//! Memory that two processes share by passing a descriptor, and its mapping.
//!
//! The memory has no name in any file system, so it needs neither `/dev/shm` nor a writable disk.
//! Its size is sealed at birth: a peer cannot shrink it under a reader, which would be a SIGBUS.
//!
//! Units:      bytes.
//! Invariants: 1. A `Mapping` covers exactly `len` bytes that stay mapped while it lives.
//!             2. Its bytes may change at any time (another process writes them), so no Rust
//!                reference to them is ever made; access is by copy or by atomic.
//! Errors:     the system's own.
//! Source:     memfd_create(2), fcntl(2) on F_ADD_SEALS, madvise(2) on MADV_POPULATE_WRITE.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

use crate::check;

/// Creates anonymous shared memory of `len` bytes whose size can never change again.
///
/// # Errors
/// The system's: no descriptor left, memory file descriptors forbidden, or out of memory.
pub fn create_shared(name: &CStr, len: usize) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    // SAFETY: `name` is a NUL-terminated string.
    let fd = check(unsafe { libc::memfd_create(name.as_ptr(), flags) })?;
    // SAFETY: the call succeeded, so `fd` is ours alone.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let size = i64::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: no pointers.
    check(unsafe { libc::ftruncate(fd.as_raw_fd(), size) })?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: no pointers.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(fd)
}

/// Where `byte` first stands in `bytes`; as fast as the C library can look.
#[must_use]
pub fn find(bytes: &[u8], byte: u8) -> Option<usize> {
    // SAFETY: reads at most `bytes.len()` bytes from its start.
    let found = unsafe { libc::memchr(bytes.as_ptr().cast(), i32::from(byte), bytes.len()) };
    (!found.is_null()).then(|| found as usize - bytes.as_ptr() as usize)
}

/// Memory of this machine, in bytes.
#[must_use]
pub fn physical_bytes() -> u64 {
    // SAFETY: no pointers.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    pages.max(0).unsigned_abs() * page_bytes()
}

/// Bytes of a page.
#[must_use]
pub fn page_bytes() -> u64 {
    // SAFETY: no pointers.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    page.max(0).unsigned_abs()
}

/// Size of the shared memory behind `fd`, and whether its size is sealed.
///
/// # Errors
/// The system's, when `fd` is no descriptor of shared memory.
pub fn shared_len(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let stat = stat(fd)?;
    // SAFETY: no pointers.
    let seals = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) })?;
    if seals & libc::F_SEAL_SHRINK == 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "shared memory is not sealed",
        ));
    }
    usize::try_from(stat.st_size).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

fn stat(fd: BorrowedFd<'_>) -> io::Result<libc::stat> {
    // SAFETY: stat is plain numbers, for which zero is a valid value.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: `stat` is valid for the call to fill.
    check(unsafe { libc::fstat(fd.as_raw_fd(), &raw mut stat) })?;
    Ok(stat)
}

/// A shared, writable mapping of a whole memory descriptor.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
    fd: OwnedFd,
}

// SAFETY: a mapping is plain memory with no thread affinity; all access to its bytes goes through
// copies and atomics (invariant 2), which do not care which thread performs them.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` hands out only a raw pointer.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the memory behind `fd`, all of it.
    ///
    /// # Errors
    /// The system's, or `InvalidData` when the memory is empty or may shrink.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let len = shared_len(fd.as_fd())?;
        if len == 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "shared memory is empty",
            ));
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address that the kernel chooses touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { start, len, fd })
    }

    /// Creates shared memory of `len` bytes and maps it.
    ///
    /// # Errors
    /// The system's.
    pub fn create(name: &CStr, len: usize) -> io::Result<Self> {
        Self::new(create_shared(name, len)?)
    }

    /// Address of the first byte; valid for `len` bytes while the mapping lives.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Bytes mapped.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: an empty mapping cannot be made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The descriptor, to pass to another process.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Panics
    /// When the range is not inside the mapping: the caller computed it, so that is a bug.
    pub fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(
            offset
                .checked_add(bytes.len())
                .is_some_and(|end| end <= self.len)
        );
        // SAFETY: in bounds by the assert and mapped by invariant 1. `bytes` is ours and cannot
        // overlap memory to which no reference exists (invariant 2).
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.as_ptr().add(offset), bytes.len());
        }
    }

    /// Copies from `offset` into `bytes`.
    ///
    /// # Panics
    /// When the range is not inside the mapping.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        assert!(
            offset
                .checked_add(bytes.len())
                .is_some_and(|end| end <= self.len)
        );
        // SAFETY: as for `write`, in the other direction; every byte pattern is a valid `u8`.
        unsafe {
            std::ptr::copy_nonoverlapping(
                self.as_ptr().add(offset),
                bytes.as_mut_ptr(),
                bytes.len(),
            );
        }
    }

    /// Asks the kernel to back a range with pages now, so that a shortage of memory is an error
    /// here and not a SIGBUS at the first touch.
    ///
    /// # Errors
    /// The system's: out of memory, or a kernel before 5.14 (`InvalidInput`).
    pub fn populate(&self, offset: usize, len: usize) -> io::Result<()> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: the range is ours (invariant 1); populating changes no byte.
        let start = unsafe { self.as_ptr().add(offset) };
        // SAFETY: as above.
        check(unsafe { libc::madvise(start.cast(), len, libc::MADV_POPULATE_WRITE) })?;
        Ok(())
    }

    /// Bytes of memory behind the descriptor now, whichever process mapped it.
    ///
    /// # Errors
    /// The system's.
    pub fn bytes_backed(&self) -> io::Result<u64> {
        // The unit of `st_blocks`, whatever the file system's own is.
        Ok(stat(self.fd())?.st_blocks.max(0).unsigned_abs() * 512)
    }

    /// Gives the pages of a range back to the system; they read as zero afterwards, in every
    /// mapping of the memory.
    ///
    /// # Errors
    /// The system's.
    pub fn discard(&self, offset: usize, len: usize) -> io::Result<()> {
        assert!(offset.checked_add(len).is_some_and(|end| end <= self.len));
        // SAFETY: the range is ours (invariant 1), and the caller says that it is not read any
        // more.
        let start = unsafe { self.as_ptr().add(offset) };
        // SAFETY: as above.
        check(unsafe { libc::madvise(start.cast(), len, libc::MADV_REMOVE) })?;
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, and no reference into it can be left.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_mappings_of_one_descriptor_show_the_same_bytes() {
        let one = Mapping::create(c"offloop-test", 8192).unwrap();
        let two = Mapping::new(one.fd().try_clone_to_owned().unwrap()).unwrap();
        one.write(4000, b"hello");
        let mut seen = [0u8; 5];
        two.read(4000, &mut seen);
        assert_eq!(&seen, b"hello");
    }

    #[test]
    fn a_discarded_range_reads_as_zero_everywhere_and_its_neighbours_stay() {
        let one = Mapping::create(c"offloop-test", 3 * 4096).unwrap();
        let two = Mapping::new(one.fd().try_clone_to_owned().unwrap()).unwrap();
        one.write(0, &[7; 3 * 4096]);
        assert_eq!(one.bytes_backed().unwrap(), 3 * 4096);
        one.discard(4096, 4096).unwrap();
        assert_eq!(one.bytes_backed().unwrap(), 2 * 4096);
        let mut seen = [1; 3 * 4096];
        two.read(0, &mut seen);
        let expected = [[7; 4096], [0; 4096], [7; 4096]].concat();
        assert!(seen.as_slice() == expected);
    }

    #[test]
    fn memory_that_may_shrink_is_refused() {
        // SAFETY: a NUL-terminated name; the result is checked.
        let fd =
            check(unsafe { libc::memfd_create(c"plain".as_ptr(), libc::MFD_CLOEXEC) }).unwrap();
        // SAFETY: `fd` is fresh and ours.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        assert!(Mapping::new(fd).is_err());
    }
}
