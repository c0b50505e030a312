//! The memory that a loop reads into.
//!
//! Short reads go through one buffer of the loop's: only the bytes that are handed on are
//! allocated. Once a read has brought some kilobytes, the kernel writes the next one straight into
//! such bytes, up to the size of the last read, and only the rest into the buffer. After a large
//! read the kernel is asked how much waits. Large bytes are kept, and used again as soon as ours is
//! the only reference: the allocator may otherwise map and unmap memory of this size at each read.
//!
//! Units:      bytes.
//! Invariants: 1. Kept bytes are written to only while ours is the only reference.
//!             2. `capacity` of kept bytes is the size that they were made with; the object's own
//!                length may be less, never more.
//! Source:     research on loops, section D7.

use std::ptr;

use offloop_sys::stream::{read, receive, receive_both, receive_into, waiting};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Read at once, as in the standard loop.
pub(crate) const READ_BYTES: usize = 256 * 1024;
/// After a read of this size the next one is expected to be as large, and goes straight into its
/// final place. Below it, the copy costs less than two buffers in one call.
const SOME: usize = 6 * 1024;
/// After a read of this size a system call to learn the size of the next one is worth its while.
pub(crate) const LARGE: usize = 32 * 1024;
/// Large bytes that are kept for reuse: one for each of the connections that receive much at once.
const KEPT_MAX: usize = 16;
/// All of them together: what fits into a core's cache, beyond which reuse gains less.
const KEPT_BYTES: usize = 2 * 1024 * 1024;
const PAGE: usize = 4096;

#[repr(C, align(4096))]
struct Page([u8; PAGE]);

/// Large bytes that were handed out, and may have come back.
pub(crate) struct Kept {
    pub(crate) bytes: Py<PyBytes>,
    pub(crate) capacity: usize,
}

impl Kept {
    /// The first `count` bytes, as an object to be handed on: itself, unless it is much too large.
    ///
    /// # Safety
    /// Ours is the only reference to the bytes, of which `count` were filled.
    unsafe fn filled<'py>(&self, py: Python<'py>, count: usize) -> Bound<'py, PyBytes> {
        if count * 2 < self.capacity || count < 2 {
            // SAFETY: the caller's: `count` bytes, which do not change meanwhile.
            let filled = unsafe { std::slice::from_raw_parts(contents(&self.bytes), count) };
            return PyBytes::new(py, filled);
        }
        // SAFETY: the caller's: the only reference, and room for `count`.
        unsafe { set_len(&self.bytes, count) };
        self.bytes.bind(py).clone()
    }
}

/// Pages one after the other.
pub(crate) struct Pages(Vec<Page>);

impl Pages {
    pub(crate) fn as_slice(&self) -> &[u8] {
        let len = self.0.len() * PAGE;
        // SAFETY: pages are bytes without padding, one after the other.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), len) }
    }
}

/// The memory that a loop reads into.
///
/// The buffer begins with a page: processors copy at half the speed between places whose offsets
/// in their pages differ by less than 32 bytes, and the kernel's side begins with a page as well.
pub(crate) struct ReadMemory {
    pages: Vec<Page>,
    kept: Vec<Kept>,
    /// Short plaintexts of TLS.
    plain: Vec<u8>,
    /// What the last call on a socket of the program's own has brought.
    pub(crate) last_call: usize,
}

impl ReadMemory {
    pub(crate) fn new() -> Self {
        let mut pages = Vec::new();
        pages.resize_with(READ_BYTES / PAGE, || Page([0; PAGE]));
        Self {
            pages,
            kept: Vec::new(),
            plain: Vec::new(),
            last_call: 0,
        }
    }

    pub(crate) fn buffer(&mut self) -> &mut [u8] {
        let len = self.pages.len() * PAGE;
        // SAFETY: pages are bytes without padding, one after the other, borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_mut_ptr().cast(), len) }
    }

    /// Takes the buffer out, for as long as the rest of the memory is used beside it.
    pub(crate) fn take_buffer(&mut self) -> Pages {
        Pages(std::mem::take(&mut self.pages))
    }

    /// Puts the buffer back.
    pub(crate) fn put_buffer(&mut self, pages: Pages) {
        self.pages = pages.0;
    }

    /// Room for a short plaintext.
    pub(crate) fn plain(&mut self, len: usize) -> &mut [u8] {
        if self.plain.len() < len {
            self.plain.resize(len, 0);
        }
        &mut self.plain[..len]
    }

    /// Takes kept bytes with room for `len`, at most twice as large and with no other reference;
    /// or makes new ones.
    pub(crate) fn large(&mut self, py: Python<'_>, len: usize) -> PyResult<Kept> {
        let fits = |kept: &Kept| {
            // SAFETY: *attached*; a reference that is kept here.
            let ours = unsafe { ffi::Py_REFCNT(kept.bytes.as_ptr()) } == 1;
            ours && kept.capacity >= len && kept.capacity <= len * 2
        };
        // The one used last is still in the cache.
        if let Some(index) = self.kept.iter().rposition(fits) {
            return Ok(self.kept.remove(index));
        }
        // SAFETY: *attached*; without a source the bytes are made for us to fill, and a null
        // result is an error that is set.
        let bytes = unsafe {
            let size = len as ffi::Py_ssize_t;
            let object = ffi::PyBytes_FromStringAndSize(ptr::null(), size);
            Bound::from_owned_ptr_or_err(py, object)?.cast_into_unchecked::<PyBytes>()
        };
        Ok(Kept {
            bytes: bytes.unbind(),
            capacity: len,
        })
    }

    /// Keeps bytes in place of those that were used longest ago.
    pub(crate) fn keep(&mut self, kept: Kept) {
        self.kept.push(kept);
        let bytes = |kept: &[Kept]| kept.iter().map(|kept| kept.capacity).sum::<usize>();
        while self.kept.len() > KEPT_MAX || bytes(&self.kept) > KEPT_BYTES {
            self.kept.remove(0);
        }
    }

    /// Receives at most `max` bytes; `last` is what the last call brought. None are the end.
    pub(crate) fn receive<'py>(
        &mut self,
        py: Python<'py>,
        fd: i32,
        max: usize,
        last: usize,
    ) -> PyResult<std::io::Result<Bound<'py, PyBytes>>> {
        if last >= LARGE || max > READ_BYTES {
            let len = waiting(fd).unwrap_or(0).min(max);
            if len >= LARGE {
                return self.receive_large(py, fd, len);
            }
        } else if last >= SOME && max == READ_BYTES {
            return self.receive_expected(py, fd, last);
        }
        let buffer = &mut self.buffer()[..max.min(READ_BYTES)];
        Ok(receive(fd, buffer).map(|count| PyBytes::new(py, &buffer[..count])))
    }

    /// Reads at most `max` bytes from a descriptor that is no socket. None are the end.
    pub(crate) fn read<'py>(
        &mut self,
        py: Python<'py>,
        fd: i32,
        max: usize,
    ) -> std::io::Result<Bound<'py, PyBytes>> {
        let buffer = &mut self.buffer()[..max.min(READ_BYTES)];
        read(fd, buffer).map(|count| PyBytes::new(py, &buffer[..count]))
    }

    fn receive_large<'py>(
        &mut self,
        py: Python<'py>,
        fd: i32,
        len: usize,
    ) -> PyResult<std::io::Result<Bound<'py, PyBytes>>> {
        let kept = self.large(py, len)?;
        // SAFETY: ours is the only reference (invariant 1), and the bytes have room for `len`.
        let answer = unsafe { receive_into(fd, contents(&kept.bytes), len) };
        // SAFETY: so many bytes were received just now.
        let data = answer.map(|count| unsafe { kept.filled(py, count) });
        self.keep(kept);
        Ok(data)
    }

    /// Receives what is probably about as much as the last time.
    fn receive_expected<'py>(
        &mut self,
        py: Python<'py>,
        fd: i32,
        last: usize,
    ) -> PyResult<std::io::Result<Bound<'py, PyBytes>>> {
        // An eighth more, so that sizes may vary a little.
        let len = (last + last / 8).next_multiple_of(1024);
        let kept = self.large(py, len)?;
        let max = READ_BYTES - len;
        // SAFETY: ours is the only reference (invariant 1), and the bytes have room for `len`.
        let answer =
            unsafe { receive_both(fd, contents(&kept.bytes), len, &mut self.buffer()[..max]) };
        let data = match answer {
            // SAFETY: `len` bytes were received there just now, and the rest into the buffer.
            Ok(count) if count > len => unsafe {
                let first = std::slice::from_raw_parts(contents(&kept.bytes), len);
                let rest = &self.buffer()[..count - len];
                PyBytes::new_with(py, count, |both| {
                    both[..len].copy_from_slice(first);
                    both[len..].copy_from_slice(rest);
                    Ok(())
                })
                .map(Ok)
            },
            // SAFETY: so many bytes were received just now.
            Ok(count) => Ok(Ok(unsafe { kept.filled(py, count) })),
            Err(error) => Ok(Err(error)),
        };
        self.keep(kept);
        data
    }
}

pub(crate) fn contents(bytes: &Py<PyBytes>) -> *mut u8 {
    // SAFETY: a reference to bytes, of which only the address is taken.
    unsafe { ffi::PyBytes_AS_STRING(bytes.as_ptr()).cast_mut().cast() }
}

/// Gives bytes another length, as if they were new.
///
/// # Safety
/// There is no other reference to the object, and it was made with at least `len` bytes.
pub(crate) unsafe fn set_len(bytes: &Py<PyBytes>, len: usize) {
    let object = bytes.as_ptr().cast::<ffi::PyBytesObject>();
    // SAFETY: the caller's: no other code looks at the object, and there is room for the zero that
    // ends the contents. The hash of the old contents is forgotten.
    unsafe {
        (*object).ob_base.ob_size = len as ffi::Py_ssize_t;
        #[expect(deprecated, reason = "the only way to forget a hash")]
        {
            (*object).ob_shash = -1;
        }
        contents(bytes).add(len).write(0);
    }
}
