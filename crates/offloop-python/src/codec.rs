//! Objects to payloads and back: pickle protocol 5, with large buffers out of band.
//!
//! The plain C pickler goes first. What it refuses (lambdas, closures), and what it would send as
//! a name in `__main__`, is pickled by Python code of ours instead, with what the worker must know
//! before it can be unpickled (`definitions`).
//!
//! Units:   bytes.
//! Errors:  the pickler's own exceptions; `QueueFull` when shared memory is at its limit.

use std::any::Any;
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use offloop::arena::{Block, MappedBlock};
use offloop::frame::{BLOCKS_MAX, INLINE_BYTES_MAX};
use offloop::{Definition, Payload};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView, PySlice, PyTuple};

use crate::blocks::{Allocate, copy_to_block, new_block};
use crate::buffer::SharedBuffer;
use crate::definitions;
use crate::lifted::{LIFTED, Lifted, Parts};
use crate::names::{self, Names, call_with_keywords, names};
use crate::view::View;

/// Smaller buffers stay inside the pickle: a block costs a page and two table entries.
const OUT_OF_BAND_BYTES_MIN: usize = 4 * 1024;
/// Collects the buffers of one pickle into shared memory.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
struct Collector {
    allocate: Allocate,
    blocks: std::sync::Mutex<Vec<Block>>,
    /// It has seen a buffer that may not be written.
    read_only: AtomicBool,
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
        if view.is_read_only() {
            self.read_only.store(true, Ordering::Relaxed);
        }
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

/// A pickle and its buffers.
pub(crate) struct Encoded<'py> {
    pickle: Bound<'py, PyBytes>,
    blocks: Vec<Block>,
    /// How many of the blocks, from the first, hold what was lifted out of the pickle.
    lifted: usize,
    /// What the worker must know before it can unpickle this.
    needs: Vec<Arc<Definition>>,
    /// The same, as the payload says it.
    prefix: Vec<u8>,
}

impl<'py> Encoded<'py> {
    /// A pickle without buffers.
    pub(crate) fn from_pickle(pickle: Bound<'py, PyBytes>) -> Self {
        Self {
            pickle,
            blocks: Vec::new(),
            lifted: 0,
            needs: Vec::new(),
            prefix: Vec::new(),
        }
    }

    /// The definitions that the call must carry.
    pub(crate) fn take_needs(&mut self) -> Vec<Arc<Definition>> {
        std::mem::take(&mut self.needs)
    }

    /// The payload for a frame: a pickle that is too long for a ring goes into a block.
    pub(crate) fn into_payload(self, py: Python<'_>, allocate: &Allocate) -> PyResult<Payload> {
        let pickle = self.pickle.as_bytes();
        let count = u8::try_from(self.lifted).expect("fewer than BLOCKS_MAX");
        let mut prefix = self.prefix;
        if count > 0 {
            prefix.extend([LIFTED, count]);
        }
        let len = prefix.len() + pickle.len();
        if len + self.blocks.len() * 24 <= INLINE_BYTES_MAX {
            return Ok(Payload {
                inline: [&prefix, pickle].concat(),
                blocks: self.blocks,
                in_block: false,
            });
        }
        let block = new_block(py, allocate, len as u64)?;
        block.write(0, &prefix);
        block.write(prefix.len() as u64, pickle);
        let mut blocks = vec![block];
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

/// The process that is to unpickle: what it has under the names of `__main__` differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receiver {
    /// Gets the definitions that it needs with the call.
    Worker,
    /// Has what it sent.
    Program,
}

/// Pickles `object`, by value where its names would mean nothing in another process.
pub(crate) fn encode<'py>(
    py: Python<'py>,
    object: &Bound<'py, PyAny>,
    allocate: &Allocate,
    receiver: Receiver,
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
                read_only: AtomicBool::new(false),
            },
        )?,
    };
    let result = encode_with(py, names, object, &collector, receiver);
    let blocks = collector.get().take();
    COLLECTOR.with_borrow_mut(|slot| *slot = Some(collector));
    let (pickle, needs) = result?;
    Ok(Encoded {
        pickle,
        blocks,
        lifted: 0,
        prefix: definitions::prefix(&needs),
        needs,
    })
}

/// Pickles what is left of something after its large objects were lifted out.
pub(crate) fn encode_lifted<'py>(
    py: Python<'py>,
    lifted: Lifted<'py>,
    allocate: &Allocate,
    receiver: Receiver,
) -> PyResult<Encoded<'py>> {
    let Lifted {
        pickled,
        mut blocks,
    } = lifted;
    let rest = encode(py, pickled.as_any(), allocate, receiver)?;
    // Invariant 2 of `lifted`: theirs come first.
    let lifted = blocks.len();
    blocks.extend(rest.blocks);
    Ok(Encoded {
        blocks,
        lifted,
        ..rest
    })
}

fn encode_with<'py>(
    py: Python<'py>,
    names: &Names,
    object: &Bound<'py, PyAny>,
    collector: &Py<Collector>,
    receiver: Receiver,
) -> PyResult<(Bound<'py, PyBytes>, Vec<Arc<Definition>>)> {
    let arguments = [object.as_ptr(), names.five.as_ptr(), collector.as_ptr()];
    let plain = call_with_keywords(py, &names.dumps, &arguments, &names.buffer_callback);
    match plain {
        Ok(pickle) => {
            let pickle = pickle.cast_into::<PyBytes>()?;
            let read_only = collector.get().read_only.swap(false, Ordering::Relaxed);
            let must_write = read_only && names::arrays_become_writable(py);
            if !must_write && !needs_care(py, pickle.as_bytes(), receiver) {
                return Ok((pickle, Vec::new()));
            }
        }
        Err(error) if is_unpicklable(py, &error) => {}
        Err(error) => return Err(error),
    }
    drop(collector.get().take());
    let (module, function) = match receiver {
        Receiver::Worker => ("offloop._main", "dumps_for_worker"),
        Receiver::Program => ("_offloop_worker.codec", "dumps_by_value"),
    };
    let by_value = names::function(py, module, function)?.call1((object, collector))?;
    if receiver == Receiver::Program {
        return Ok((by_value.cast_into()?, Vec::new()));
    }
    let (pickle, needs): (Bound<'py, PyBytes>, Bound<'py, PyTuple>) = by_value.extract()?;
    Ok((pickle, definitions::from_tuple(&needs)?))
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
///
/// What an imported main module defines is named `__mp_main__` in a worker, and the program knows
/// it by that name; for a worker of this worker, it may have changed since.
fn needs_care(py: Python<'_>, pickle: &[u8], receiver: Receiver) -> bool {
    let main: &[u8] = match receiver {
        Receiver::Worker => b"_main__",
        Receiver::Program => b"__main__",
    };
    contains(pickle, main)
        || contains(pickle, b"multiprocessing.")
        || (receiver == Receiver::Worker && names::has_modules_by_value(py))
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

/// A payload as it arrived.
pub(crate) struct Received<'payload> {
    pub(crate) inline: &'payload [u8],
    pub(crate) blocks: &'payload [MappedBlock],
    /// The pickle lies in the first block.
    pub(crate) in_block: bool,
    /// The blocks must keep their bytes: objects get copies.
    pub(crate) copy: bool,
}

/// A payload as Python objects.
pub(crate) enum Decoded<'py> {
    /// Pickled whole.
    Plain(Bound<'py, PyAny>),
    /// The parts of a call, large objects in their places; a value is the only argument.
    Lifted(Parts<'py>),
}

impl<'py> Decoded<'py> {
    /// The object, where no call was sent but a value.
    pub(crate) fn into_value(self) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Decoded::Plain(object) => Ok(object),
            Decoded::Lifted(parts) => parts.into_value(),
        }
    }
}

/// Unpickles a payload. Its blocks are kept alive by clones of `lease`.
pub(crate) fn decode<'py, L: Any + Send + Sync + Clone>(
    py: Python<'py>,
    received: &Received<'_>,
    lease: Option<&L>,
    enter: &mut dyn FnMut(Vec<u32>) -> PyResult<()>,
) -> PyResult<Decoded<'py>> {
    let names = names(py)?;
    let Received {
        inline,
        blocks,
        in_block,
        copy,
    } = *received;
    let (needs, skipped) = if in_block {
        let mut first = vec![0; blocks[0].len().min(definitions::PREFIX_BYTES_MAX)];
        blocks[0].read(0, &mut first);
        definitions::split(&first)
    } else {
        definitions::split(inline)
    };
    if !needs.is_empty() {
        enter(needs)?;
    }
    if blocks.is_empty() {
        let inline = PyBytes::new(py, &inline[skipped..]);
        let object = names.loads.bind(py).call1((inline,))?;
        return Ok(Decoded::Plain(object));
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
    let (data, blocks, lifted) = if in_block {
        let block = &blocks[0];
        let mut first = [0; 2];
        let readable = (block.len() - skipped).min(first.len());
        block.read(skipped, &mut first[..readable]);
        let (lifted, begin) = lifted_count(&first);
        let begin = begin + skipped.cast_signed();
        let data = PyMemoryView::from(&shared(block)?)?;
        let data = data.get_item(PySlice::new(py, begin, isize::MAX, 1))?;
        (data, &blocks[1..], lifted)
    } else {
        let inline = &inline[skipped..];
        let (lifted, begin) = lifted_count(inline);
        let data = PyBytes::new(py, &inline[begin.unsigned_abs()..]);
        (data.into_any(), blocks, lifted)
    };
    let (filling, buffers) = blocks.split_at_checked(lifted).ok_or_else(|| {
        PyValueError::new_err("a payload was lifted from more objects than it has blocks")
    })?;
    let buffers: PyResult<Vec<_>> = buffers.iter().map(shared).collect();
    let buffers = PyList::new(py, buffers?)?;
    let arguments = [data.as_ptr(), buffers.as_ptr()];
    let object = call_with_keywords(py, &names.loads, &arguments, &names.buffers)?;
    if lifted == 0 {
        Ok(Decoded::Plain(object))
    } else {
        Parts::fill(&object, filling, &shared).map(Decoded::Lifted)
    }
}

/// How many objects were lifted out of a payload, and where its pickle begins.
fn lifted_count(payload: &[u8]) -> (usize, isize) {
    match payload {
        [LIFTED, count, ..] => (usize::from(*count), 2),
        _ => (0, 0),
    }
}
