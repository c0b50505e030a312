//! Files for Python: what is opened and read without waiting, and what was read in advance.
//!
//! A `Stage` holds bytes that were read from a file and not yet taken by the reader above it. An
//! operation that is to run on the loop's thread first makes the stage reach what it will need;
//! only what cannot be had at once is read in another thread, and staged there. So nothing is lost
//! when the waiting task is cancelled: what was read stays staged.
//!
//! Invariants: 1. The descriptor's own position is that of the reader plus the staged bytes.
//!             2. One operation at a time uses a stage; its owner sees to that.
//! Threads:    any, one after the other. The GIL is released while a read may wait.
//! Source:     offloop-sys/src/file.rs; docs/design/008-files.md.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, IntoRawFd, RawFd};

use offloop_sys::file::{self, Facts, Way};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyBlockingIOError, PyBufferError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::event_loop::os_error;

/// Bytes that the loop's thread reads for one operation at most: some 50 microseconds of copying.
pub(crate) const AT_ONCE_MAX: usize = 256 * 1024;

/// Bytes read in advance. A visit to another thread costs as much as copying them a few times.
const AHEAD: usize = 64 * 1024;

/// The least that is read in advance: one page.
const AHEAD_MIN: usize = 4096;

/// What an operation needs is staged, or the file has ended.
const READY: u8 = 0;
/// It has to be waited for.
const WAIT: u8 = 1;
/// It is more than the loop's thread should copy.
const LARGE: u8 = 2;

/// What was read of a file, and is still to be taken.
#[pyclass(module = "_offloop_worker._offloop")]
pub(crate) struct Stage {
    fd: RawFd,
    way: Way,
    regular: bool,
    /// How much is read in advance: not more than a small file has.
    ahead: usize,
    /// The file was not large when it was opened.
    small: bool,
    bytes: Vec<u8>,
    taken: usize,
    /// The last read has found the end of the file.
    ended: bool,
}

#[pymethods]
impl Stage {
    /// For a descriptor that is open for reading. May wait for its file system's answer.
    #[new]
    fn new(py: Python<'_>, fd: RawFd) -> Self {
        // Reading will say what is wrong with the file, if anything is.
        let facts = py.detach(|| file::learn(fd)).unwrap_or(Facts::NONE);
        Self::of(fd, facts)
    }

    /// The descriptor that is read from.
    #[getter]
    fn fd(&self) -> RawFd {
        self.fd
    }

    /// The file is regular. No other may be read through a stage, which reads in advance.
    #[getter]
    fn regular(&self) -> bool {
        self.regular
    }

    /// What is cached can be had at once, and the position moved.
    #[getter]
    fn at_once(&self) -> bool {
        self.way != Way::Waiting
    }

    /// The file still has a name: closing it does not remove it.
    fn is_linked(&self) -> bool {
        file::facts(self.fd).is_ok_and(|facts| facts.links > 0)
    }

    fn __len__(&self) -> usize {
        self.bytes.len() - self.taken
    }

    /// Stages at least `need` bytes, or up to and with `end`, or to the file's end, at once.
    #[pyo3(signature = (need, end=None))]
    fn reach(&mut self, need: Option<usize>, end: Option<&[u8]>) -> u8 {
        let (fd, way) = (self.fd, self.way);
        let mut read = |bytes: &mut Vec<u8>, room| file::read_at_once(fd, way, bytes, room);
        // Whatever else is wrong, a read that may wait will say it.
        self.reach_with(need, end, &mut read).unwrap_or(WAIT)
    }

    /// As `reach`, but waits.
    #[pyo3(signature = (need, end=None))]
    fn wait(&mut self, py: Python<'_>, need: Option<usize>, end: Option<&[u8]>) -> PyResult<u8> {
        let fd = self.fd;
        let mut read = |bytes: &mut Vec<u8>, room| py.detach(|| file::read(fd, bytes, room));
        self.reach_with(need, end, &mut read).map_err(os_error)
    }

    /// Moves staged bytes into a buffer; none if nothing is staged and the file may have more.
    fn take_into(&mut self, buffer: &Bound<'_, PyAny>) -> PyResult<Option<usize>> {
        let staged = &self.bytes[self.taken..];
        if staged.is_empty() {
            return Ok(self.ended.then_some(0));
        }
        let buffer = PyBuffer::<u8>::get(buffer)?;
        if buffer.readonly() || !buffer.is_c_contiguous() {
            let text = "read-write, contiguous bytes-like object required";
            return Err(PyBufferError::new_err(text));
        }
        let len = staged.len().min(buffer.item_count());
        // SAFETY: the buffer is writable, and its bytes stand side by side, at least `len` of them;
        // no other thread looks at it while this one is attached.
        unsafe {
            let target = buffer.buf_ptr().cast::<u8>();
            std::ptr::copy_nonoverlapping(staged.as_ptr(), target, len);
        }
        self.take(len);
        Ok(Some(len))
    }

    /// Moves all staged bytes out; says also whether the file ended behind them.
    fn take_all<'py>(&mut self, py: Python<'py>) -> (Bound<'py, PyBytes>, bool) {
        let bytes = PyBytes::new(py, &self.bytes[self.taken..]);
        let len = self.bytes.len() - self.taken;
        self.take(len);
        (bytes, self.ended)
    }

    /// Forgets what is staged; says how many bytes that were.
    fn clear(&mut self) -> usize {
        let len = self.bytes.len() - self.taken;
        self.take(len);
        self.ended = false;
        len
    }
}

impl Stage {
    fn of(fd: RawFd, facts: Facts) -> Self {
        let len = usize::try_from(facts.bytes).unwrap_or(usize::MAX);
        Self {
            fd,
            way: facts.way,
            regular: facts.regular,
            ahead: len.saturating_add(1).clamp(AHEAD_MIN, AHEAD),
            small: len <= AT_ONCE_MAX,
            bytes: Vec::new(),
            taken: 0,
            ended: false,
        }
    }

    fn take(&mut self, len: usize) {
        self.taken += len;
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
        }
    }

    fn reach_with(
        &mut self,
        need: Option<usize>,
        end: Option<&[u8]>,
        read: &mut dyn FnMut(&mut Vec<u8>, usize) -> io::Result<usize>,
    ) -> io::Result<u8> {
        self.ended = false;
        if need.is_some_and(|need| need > AT_ONCE_MAX) || (end.is_none() && self.is_large(need)?) {
            return Ok(LARGE);
        }
        let need = need.unwrap_or(usize::MAX);
        let mut searched = self.taken;
        loop {
            let staged = self.bytes.len() - self.taken;
            if staged >= need || end.is_some_and(|end| found(&self.bytes[searched..], end)) {
                return Ok(READY);
            }
            if staged > AT_ONCE_MAX {
                return Ok(LARGE);
            }
            self.bytes.drain(..self.taken);
            self.taken = 0;
            // An end of two bytes may come in two reads.
            searched = staged.saturating_sub(end.map_or(0, <[u8]>::len));
            let missing = if need == usize::MAX { 0 } else { need - staged };
            if read(&mut self.bytes, missing.clamp(self.ahead, AHEAD))? == 0 {
                self.ended = true;
                return Ok(READY);
            }
        }
    }

    /// Whether the rest of a regular file, all of which is wanted, is too much.
    fn is_large(&self, need: Option<usize>) -> io::Result<bool> {
        if need.is_some() || self.small {
            return Ok(false);
        }
        let staged = (self.bytes.len() - self.taken) as u64;
        Ok(file::rest(self.fd)?.saturating_add(staged) > AT_ONCE_MAX as u64)
    }
}

fn found(bytes: &[u8], end: &[u8]) -> bool {
    match end {
        [byte] => bytes.contains(byte),
        _ => bytes.windows(end.len()).any(|part| part == end),
    }
}

/// The path of a Python object as the system takes it, if it is one.
fn system_path(path: &Bound<'_, PyAny>) -> PyResult<CString> {
    let mut bytes: *mut ffi::PyObject = std::ptr::null_mut();
    // SAFETY: the converter stores a new reference to a bytes object when it succeeds.
    let bytes = unsafe {
        if ffi::PyUnicode_FSConverter(path.as_ptr(), (&raw mut bytes).cast()) == 0 {
            return Err(PyErr::fetch(path.py()));
        }
        Bound::from_owned_ptr(path.py(), bytes).cast_into_unchecked::<PyBytes>()
    };
    Ok(CString::new(bytes.as_bytes())?)
}

/// Opens a regular file for reading if that waits for nothing; otherwise `BlockingIOError`. The
/// descriptor belongs to the caller, which closes it.
#[pyfunction]
fn open_cached(path: &Bound<'_, PyAny>) -> PyResult<Stage> {
    match file::open_cached(&system_path(path)?) {
        Ok((file, facts)) => Ok(Stage::of(file.into_raw_fd(), facts)),
        Err(_) => Err(PyBlockingIOError::new_err("the file is not cached")),
    }
}

/// Reads a small file if that waits for nothing; otherwise none.
#[pyfunction]
fn read_cached<'py>(path: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let Ok((file, facts)) = file::open_cached(&system_path(path)?) else {
        return Ok(None);
    };
    let Some(len) = usize::try_from(facts.bytes)
        .ok()
        .filter(|len| *len <= AT_ONCE_MAX)
    else {
        return Ok(None);
    };
    let size = isize::try_from(len)?;
    // SAFETY: a new bytes object has room for its length, and no other code has it yet; unless all
    // of it has been written, it is dropped unseen.
    unsafe {
        let new = ffi::PyBytes_FromStringAndSize(std::ptr::null(), size);
        let bytes = Bound::from_owned_ptr_or_err(path.py(), new)?.cast_into_unchecked::<PyBytes>();
        let memory = ffi::PyBytes_AsString(new).cast::<u8>();
        let whole = file::read_whole(file.as_raw_fd(), facts.way, memory, len).unwrap_or(false);
        Ok(whole.then_some(bytes))
    }
}

/// Remembers how files of this one's file system are read. May wait for its answer.
#[pyfunction]
fn learn_mount(py: Python<'_>, fd: RawFd) {
    // A mount that cannot be asked stays unknown, and is waited for.
    py.detach(|| file::learn(fd)).ok();
}

/// Adds what this file has to the module.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Stage>()?;
    module.add("AT_ONCE_MAX", AT_ONCE_MAX)?;
    module.add_function(wrap_pyfunction!(open_cached, module)?)?;
    module.add_function(wrap_pyfunction!(read_cached, module)?)?;
    module.add_function(wrap_pyfunction!(learn_mount, module)?)
}
