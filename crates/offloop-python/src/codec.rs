//! Objects to payloads and back: pickle protocol 5, with large buffers out of band.
//!
//! The plain C pickler goes first. What it refuses (lambdas, closures), and what it would send as
//! a name in `__main__`, which no worker has, is pickled by value with cloudpickle instead.
//!
//! Units:   bytes.
//! Errors:  the pickler's own exceptions; `QueueFull` when shared memory is at its limit.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;

use offloop::Payload;
use offloop::arena::{ArenaError, Block, MappedBlock};
use offloop::frame::{BLOCKS_MAX, INLINE_BYTES_MAX};
use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyTuple};

use crate::buffer::SharedBuffer;
use crate::names::{Names, call_with_keywords, names, raise};

/// Smaller buffers stay inside the pickle: a block costs a page and two table entries.
const OUT_OF_BAND_BYTES_MIN: usize = 4 * 1024;
/// A copy of this size is worth letting other threads run meanwhile.
const DETACHED_COPY_BYTES_MIN: usize = 1 << 20;
/// `bytes` of this size are taken out of the pickle: one copy instead of three.
const LARGE_BYTES_MIN: usize = 32 * 1024;

/// Where blocks come from: the program's arena, or a worker's own.
pub(crate) type Allocate = Arc<dyn Fn(u64) -> Result<Block, ArenaError> + Send + Sync>;

/// Collects the buffers of one pickle into shared memory.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
struct Collector {
    allocate: Allocate,
    blocks: std::sync::Mutex<Vec<Block>>,
}

impl Collector {
    fn take(&self) -> Vec<Block> {
        let mut blocks = self
            .blocks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        std::mem::take(&mut *blocks)
    }
}

#[pymethods]
impl Collector {
    /// True keeps the buffer inside the pickle.
    fn __call__(&self, py: Python<'_>, buffer: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Some(view) = View::new(buffer)? else {
            return Ok(true);
        };
        let mut blocks = self
            .blocks
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // The last block is kept for the pickle itself.
        if view.len() < OUT_OF_BAND_BYTES_MIN || blocks.len() + 1 >= BLOCKS_MAX {
            return Ok(true);
        }
        blocks.push(copy_to_block(py, &self.allocate, view.bytes())?);
        Ok(false)
    }
}

/// An exported buffer, released when dropped.
struct View(Box<ffi::Py_buffer>);

impl View {
    /// The contiguous bytes behind `object`; `None` when they are not contiguous.
    fn new(object: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: attached, and `view` is valid for the call to fill; its address never changes.
        let result = unsafe {
            ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, ffi::PyBUF_ANY_CONTIGUOUS)
        };
        if result != 0 {
            PyErr::take(object.py());
            return Ok(None);
        }
        Ok(Some(Self(view)))
    }

    fn len(&self) -> usize {
        self.0.len.unsigned_abs()
    }

    /// The bytes. The exporter may change them while we copy, as with every buffer in Python;
    /// then the copy holds either byte, and nothing else depends on it.
    fn bytes(&self) -> &[u8] {
        if self.len() == 0 {
            return &[];
        }
        // SAFETY: an exported contiguous buffer of `len` bytes that stays alive until released.
        unsafe { std::slice::from_raw_parts(self.0.buf.cast::<u8>(), self.len()) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: filled by `new`, released once; views live only inside attached calls.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.0) };
    }
}

fn copy_to_block(py: Python<'_>, allocate: &Allocate, bytes: &[u8]) -> PyResult<Block> {
    let block = allocate(bytes.len() as u64).map_err(|error| arena_error(py, &error))?;
    if bytes.len() >= DETACHED_COPY_BYTES_MIN {
        py.detach(|| block.write(0, bytes));
    } else {
        block.write(0, bytes);
    }
    Ok(block)
}

fn arena_error(py: Python<'_>, error: &ArenaError) -> PyErr {
    match error {
        ArenaError::Full { .. } => raise(
            py,
            "_offloop_worker.exceptions",
            "QueueFull",
            &error.to_string(),
        ),
        _ => PyMemoryError::new_err(error.to_string()),
    }
}

/// A pickle and its buffers.
pub(crate) struct Encoded<'py> {
    pickle: Bound<'py, PyBytes>,
    blocks: Vec<Block>,
}

impl<'py> Encoded<'py> {
    /// A pickle without buffers.
    pub(crate) fn from_pickle(pickle: Bound<'py, PyBytes>) -> Self {
        Self {
            pickle,
            blocks: Vec::new(),
        }
    }

    /// The payload for a frame: a pickle that is too long for a ring goes into a block.
    pub(crate) fn into_payload(self, py: Python<'_>, allocate: &Allocate) -> PyResult<Payload> {
        let bytes = self.pickle.as_bytes();
        if bytes.len() + self.blocks.len() * 24 <= INLINE_BYTES_MAX {
            return Ok(Payload {
                inline: bytes.to_vec(),
                blocks: self.blocks,
                in_block: false,
            });
        }
        let mut blocks = vec![copy_to_block(py, allocate, bytes)?];
        blocks.extend(self.blocks);
        Ok(Payload {
            inline: Vec::new(),
            blocks,
            in_block: true,
        })
    }
}

thread_local! {
    static COLLECTOR: RefCell<Option<Py<Collector>>> = const { RefCell::new(None) };
}

/// Pickles `object`, by value where its names would mean nothing in another process.
pub(crate) fn encode<'py>(
    py: Python<'py>,
    object: &Bound<'py, PyAny>,
    allocate: &Allocate,
) -> PyResult<Encoded<'py>> {
    let names = names(py)?;
    // One collector serves the thread; a nested pickle (an object that submits while it is being
    // pickled) gets its own.
    let kept = COLLECTOR.with_borrow_mut(Option::take);
    let collector = match kept.filter(|kept| Arc::ptr_eq(&kept.get().allocate, allocate)) {
        Some(collector) => collector,
        None => Py::new(
            py,
            Collector {
                allocate: Arc::clone(allocate),
                blocks: Vec::new().into(),
            },
        )?,
    };
    let result = encode_with(py, names, object, &collector);
    let blocks = collector.get().take();
    COLLECTOR.with_borrow_mut(|slot| *slot = Some(collector));
    Ok(Encoded {
        pickle: result?,
        blocks,
    })
}

fn encode_with<'py>(
    py: Python<'py>,
    names: &Names,
    object: &Bound<'py, PyAny>,
    collector: &Py<Collector>,
) -> PyResult<Bound<'py, PyBytes>> {
    let arguments = [object.as_ptr(), names.five.as_ptr(), collector.as_ptr()];
    let plain = call_with_keywords(py, &names.dumps, &arguments, &names.buffer_callback);
    match plain {
        Ok(pickle) => {
            let pickle = pickle.cast_into::<PyBytes>()?;
            if !needs_care(pickle.as_bytes()) {
                return Ok(pickle);
            }
        }
        Err(error) if is_unpicklable(py, &error) => {}
        Err(error) => return Err(error),
    }
    drop(collector.get().take());
    let by_value = names.dumps_by_value.bind(py).call1((object, collector))?;
    Ok(by_value.cast_into::<PyBytes>()?)
}

/// The plain pickler's ways to say that it cannot name an object.
fn is_unpicklable(py: Python<'_>, error: &PyErr) -> bool {
    let refuses = |error: &PyErr| {
        error.is_instance_of::<pyo3::exceptions::PyAttributeError>(py)
            || error.is_instance_of::<pyo3::exceptions::PyTypeError>(py)
            || error
                .get_type(py)
                .name()
                .is_ok_and(|name| name == "PicklingError")
    };
    refuses(error)
}

/// Whether a pickle may hold what the plain pickler gets wrong: names in `__main__`, and
/// multiprocessing's objects, whose descriptors it would send as bare numbers. A text that merely
/// contains such a word takes the slower way, and arrives all the same.
fn needs_care(pickle: &[u8]) -> bool {
    contains(pickle, b"__main__") || contains(pickle, b"multiprocessing.")
}

fn contains(bytes: &[u8], word: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = offloop_sys::memory::find(rest, word[0]) {
        rest = &rest[at..];
        if rest.starts_with(word) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// `arguments` with large `bytes` replaced by something that travels out of band.
pub(crate) fn lift_large_bytes<'py>(
    py: Python<'py>,
    arguments: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyTuple>> {
    if !arguments
        .iter_borrowed()
        .any(|argument| is_large_bytes(&argument))
    {
        return Ok(arguments.clone());
    }
    let lifted = arguments.iter().map(|argument| lift_if_large(py, argument));
    PyTuple::new(py, lifted.collect::<PyResult<Vec<_>>>()?)
}

/// `object`, or what stands for it when it is large `bytes`.
pub(crate) fn lift_if_large<'py>(
    py: Python<'py>,
    object: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    if is_large_bytes(&object) {
        names(py)?.large_bytes.bind(py).call1((object,))
    } else {
        Ok(object)
    }
}

fn is_large_bytes(object: &Bound<'_, PyAny>) -> bool {
    let bytes = object
        .cast_exact::<PyBytes>()
        .map(|bytes| bytes.as_bytes().len());
    let bytearray = || object.cast_exact::<PyByteArray>().map(|bytes| bytes.len());
    bytes
        .or_else(|_| bytearray())
        .is_ok_and(|len| len >= LARGE_BYTES_MIN)
}

/// A payload as it arrived.
pub(crate) struct Received<'payload> {
    pub(crate) inline: &'payload [u8],
    pub(crate) blocks: &'payload [MappedBlock],
    /// The pickle lies in the first block.
    pub(crate) in_block: bool,
    /// The blocks must keep their bytes: objects get copies.
    pub(crate) copy: bool,
}

/// Unpickles a payload. Its blocks are kept alive by clones of `lease`.
pub(crate) fn decode<'py, L: Any + Send + Sync + Clone>(
    py: Python<'py>,
    received: &Received<'_>,
    lease: Option<&L>,
) -> PyResult<Bound<'py, PyAny>> {
    let names = names(py)?;
    let Received {
        inline,
        blocks,
        in_block,
        copy,
    } = *received;
    if blocks.is_empty() {
        return names.loads.bind(py).call1((PyBytes::new(py, inline),));
    }
    let shared = |block: &MappedBlock| -> PyResult<Bound<'py, PyAny>> {
        let buffer = SharedBuffer::new(block.clone(), Box::new(lease.cloned()));
        let buffer = Bound::new(py, buffer)?.into_any();
        if copy {
            Ok(PyByteArray::from(&buffer)?.into_any())
        } else {
            Ok(buffer)
        }
    };
    let (data, buffers) = if in_block {
        (shared(&blocks[0])?, &blocks[1..])
    } else {
        (PyBytes::new(py, inline).into_any(), blocks)
    };
    let buffers = PyList::new(
        py,
        buffers.iter().map(shared).collect::<PyResult<Vec<_>>>()?,
    )?;
    let arguments = [data.as_ptr(), buffers.as_ptr()];
    call_with_keywords(py, &names.loads, &arguments, &names.buffers)
}
