//! `StreamReader.feed_data`, for the reader of a stream that was opened by asyncio's functions.
//!
//! What the standard protocol and reader do for each packet is a handful of attributes and two
//! calls, which cost more in Python than all the rest of a short read. Here the same is done on
//! the same attributes, in the same order. That is only right while those two classes are as we
//! know them, so we look at them. The protocol's own `data_received` is called instead for another
//! class, for a method that was replaced on the class or the object, and for code that uses other
//! names than when this was written.
//!
//! Invariants: 1. A class whose version is the one that was looked at has not changed since: the
//!                interpreter gives each state of a class another number, and zero to those that
//!                it has not numbered.
//!             2. No code of the program's runs before the reader's waiter is woken, except for
//!                callbacks from the TLS library, which cannot resize the buffer (`extend_held`).
//! Source:     asyncio/streams.py of 3.11 to 3.15, whose methods agree in all of this;
//!             Objects/typeobject.c (`tp_version_tag`).

use std::ptr::fn_addr_eq;

use pyo3::exceptions::PyNotImplementedError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyString, PyType};

use super::super::ground::versions::Originals;
use super::super::ground::view::View;

/// The two classes, and those of their methods whose work is done here.
struct Standard {
    protocol: Py<PyType>,
    reader: Py<PyType>,
    data_received: Py<PyAny>,
    stream_reader: Py<PyAny>,
    feed_data: Py<PyAny>,
    wake_up: Py<PyAny>,
}

unsafe extern "C" {
    // Of C's interface to Python, but not in the binding.
    static mut PyMethod_Type: ffi::PyTypeObject;
    fn PyMethod_Function(method: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

static STANDARD: PyOnceLock<Option<Standard>> = PyOnceLock::new();
/// Whether both classes are as they were.
static ORIGINALS: Originals = Originals::new();

/// The names that the methods use, in their order.
const FEED_DATA: [&str; 10] = [
    "_eof",
    "_buffer",
    "extend",
    "_wakeup_waiter",
    "_transport",
    "_paused",
    "len",
    "_limit",
    "pause_reading",
    "NotImplementedError",
];
const WAKE_UP: [&str; 3] = ["_waiter", "cancelled", "set_result"];
const DATA_RECEIVED: [&str; 2] = ["_stream_reader", "feed_data"];
const STREAM_READER: [&str; 1] = ["_stream_reader_wr"];
/// Attributes of the objects, which their classes must not have.
const OF_READERS: [&str; 6] = [
    "_eof",
    "_buffer",
    "_limit",
    "_waiter",
    "_paused",
    "_transport",
];

/// The classes, if they are as we know them.
fn standard(py: Python<'_>) -> PyResult<Option<&Standard>> {
    let standard = STANDARD.get_or_try_init(py, || {
        let streams = py.import("asyncio.streams")?;
        let protocol = streams.getattr("StreamReaderProtocol")?;
        let reader = streams.getattr("StreamReader")?;
        let data_received = protocol.getattr("data_received")?;
        let stream_reader = protocol.getattr("_stream_reader")?;
        let feed_data = reader.getattr("feed_data")?;
        let wake_up = reader.getattr("_wakeup_waiter")?;
        let known = uses(&data_received, &DATA_RECEIVED)?
            && uses(&stream_reader.getattr("fget")?, &STREAM_READER)?
            && uses(&feed_data, &FEED_DATA)?
            && uses(&wake_up, &WAKE_UP)?;
        let (protocol, reader) = (protocol.cast_into()?, reader.cast_into()?);
        Ok::<_, PyErr>(known.then(|| Standard {
            protocol: protocol.unbind(),
            reader: reader.unbind(),
            data_received: data_received.unbind(),
            stream_reader: stream_reader.unbind(),
            feed_data: feed_data.unbind(),
            wake_up: wake_up.unbind(),
        }))
    })?;
    Ok(standard.as_ref())
}

fn uses(function: &Bound<'_, PyAny>, names: &[&str]) -> PyResult<bool> {
    let Some(code) = function.getattr_opt("__code__")? else {
        return Ok(false);
    };
    let used: Vec<String> = code.getattr("co_names")?.extract()?;
    Ok(used == names)
}

impl Standard {
    /// Whether the program has replaced no method, and nothing else that our shortcut relies on.
    #[inline]
    fn is_unchanged(&self, py: Python<'_>) -> PyResult<bool> {
        let (protocol, reader) = (self.protocol.bind(py), self.reader.bind(py));
        ORIGINALS.are_there([protocol, reader], || self.look(py))
    }

    #[cold]
    fn look(&self, py: Python<'_>) -> PyResult<bool> {
        let (protocol, reader) = (self.protocol.bind(py), self.reader.bind(py));
        let same = is_plain(protocol)
            && is_plain(reader)
            && protocol.getattr("data_received")?.is(&self.data_received)
            && protocol.getattr("_stream_reader")?.is(&self.stream_reader)
            && !protocol.hasattr("_stream_reader_wr")?
            && reader.getattr("feed_data")?.is(&self.feed_data)
            && reader.getattr("_wakeup_waiter")?.is(&self.wake_up);
        let mut hidden = false;
        for name in OF_READERS {
            hidden |= reader.hasattr(name)?;
        }
        Ok(same && !hidden)
    }
}

/// Whether a class's objects have attributes in the usual way, without code of the class's.
fn is_plain(class: &Bound<'_, PyType>) -> bool {
    // SAFETY: *attached*; a class that is held, of which two slots are read.
    let (get, set) = unsafe {
        let class = &*class.as_type_ptr();
        (class.tp_getattro, class.tp_setattro)
    };
    get.is_some_and(|get| fn_addr_eq(get, ffi::PyObject_GenericGetAttr as ffi::getattrofunc))
        && set.is_some_and(|set| fn_addr_eq(set, ffi::PyObject_GenericSetAttr as ffi::setattrofunc))
}

/// Whether this is the standard protocol, whose reader may be fed here.
pub(crate) fn is_standard(protocol: &Bound<'_, PyAny>) -> PyResult<bool> {
    let standard = standard(protocol.py())?;
    Ok(standard.is_some_and(|standard| protocol.get_type().is(&standard.protocol)))
}

/// A reader that data is being fed to.
pub(crate) struct Feed<'py> {
    reader: Bound<'py, PyAny>,
    buffer: Bound<'py, PyByteArray>,
    limit: usize,
}

impl<'py> Feed<'py> {
    /// Begins what `protocol.data_received(data)` does. `None` when that method has to be called,
    /// because something is unfamiliar, or wrong.
    pub(crate) fn begin(protocol: &Bound<'py, PyAny>) -> Option<Self> {
        let feed = Self::look_up(protocol);
        feed.unwrap_or_default()
    }

    fn look_up(protocol: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        let py = protocol.py();
        let Some(standard) = standard(py)? else {
            return Ok(None);
        };
        if !standard.is_unchanged(py)?
            || !is_method(
                protocol,
                intern!(py, "data_received"),
                &standard.data_received,
            )?
        {
            return Ok(None);
        }
        let Some(reader) = reader(protocol)? else {
            return Ok(None);
        };
        if !reader.get_type().is(&standard.reader)
            || !is_method(&reader, intern!(py, "feed_data"), &standard.feed_data)?
            || is_set(&reader, intern!(py, "_eof"))?
        {
            return Ok(None);
        }
        let buffer = reader.getattr(intern!(py, "_buffer"))?;
        let limit = reader.getattr(intern!(py, "_limit"))?.extract()?;
        Ok(buffer.cast_into_exact().ok().map(|buffer| Self {
            reader,
            buffer,
            limit,
        }))
    }

    /// `buffer.extend(data)`.
    pub(crate) fn extend(&self, data: &[u8]) -> PyResult<()> {
        let old = self.buffer.len();
        self.buffer.resize(old + data.len())?;
        // SAFETY: *attached*, and no Python code runs: no other code looks at the bytes, and there
        // are as many as were asked for.
        unsafe { self.buffer.as_bytes_mut()[old..].copy_from_slice(data) };
        Ok(())
    }

    /// Makes room for `len` bytes, has `fill` write them, and takes back the room that is left. No
    /// other code looks at the buffer until then: `fill` runs no Python code.
    pub(crate) fn extend_with(
        &self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> std::io::Result<usize>,
    ) -> PyResult<std::io::Result<usize>> {
        let old = self.buffer.len();
        self.buffer.resize(old + len)?;
        // SAFETY: *attached*; `fill` runs no Python code, so no other code looks at the bytes, and
        // there are as many as were asked for.
        let filled = fill(unsafe { &mut self.buffer.as_bytes_mut()[old..] });
        self.buffer.resize(old + *filled.as_ref().unwrap_or(&0))?;
        Ok(filled)
    }

    /// As `extend_with`, but Python code may run meanwhile: it can look at the buffer, but not
    /// resize it.
    pub(crate) fn extend_held(
        &self,
        len: usize,
        fill: impl FnOnce(*mut u8) -> PyResult<usize>,
    ) -> PyResult<()> {
        let old = self.buffer.len();
        self.buffer.resize(old + len)?;
        let filled = View::export(self.buffer.as_any(), ffi::PyBUF_WRITABLE).and_then(|view| {
            // SAFETY: *held*: the buffer has more bytes than that.
            fill(unsafe { view.pointer().add(old) })
        });
        let count = *filled.as_ref().unwrap_or(&0);
        let shrunk = self.buffer.resize(old + count);
        filled.and(shrunk)
    }

    /// Wakes the task that waits for data, and pauses the transport when there is too much.
    pub(crate) fn finish(self) -> PyResult<()> {
        wake_up(&self.reader)?;
        if self.buffer.len() > self.limit.saturating_mul(2) {
            pause(&self.reader)?;
        }
        Ok(())
    }
}

/// The reader, which the protocol refers to weakly.
fn reader<'py>(protocol: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = protocol.py();
    let reference = protocol.getattr(intern!(py, "_stream_reader_wr"))?;
    if reference.is_none() {
        return Ok(None);
    }
    let reader = reference.call0()?;
    Ok((!reader.is_none()).then_some(reader))
}

/// Whether a method of an object is still this function.
fn is_method(
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, PyString>,
    function: &Py<PyAny>,
) -> PyResult<bool> {
    let method = object.getattr(name)?;
    // SAFETY: *attached*, an object that is held, whose type is checked first.
    Ok(unsafe {
        ffi::Py_TYPE(method.as_ptr()) == &raw mut PyMethod_Type
            && PyMethod_Function(method.as_ptr()) == function.as_ptr()
    })
}

fn is_set(object: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> PyResult<bool> {
    object.getattr(name)?.is_truthy()
}

fn wake_up(reader: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = reader.py();
    let waiter = reader.getattr(intern!(py, "_waiter"))?;
    if waiter.is_none() {
        return Ok(());
    }
    reader.setattr(intern!(py, "_waiter"), py.None())?;
    if !waiter.call_method0(intern!(py, "cancelled"))?.is_truthy()? {
        waiter.call_method1(intern!(py, "set_result"), (py.None(),))?;
    }
    Ok(())
}

/// Has the transport pause: there is more than twice the limit.
fn pause(reader: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = reader.py();
    let transport = reader.getattr(intern!(py, "_transport"))?;
    if transport.is_none() || is_set(reader, intern!(py, "_paused"))? {
        return Ok(());
    }
    match transport.call_method0(intern!(py, "pause_reading")) {
        Ok(_) => reader.setattr(intern!(py, "_paused"), true),
        Err(error) if error.is_instance_of::<PyNotImplementedError>(py) => {
            reader.setattr(intern!(py, "_transport"), py.None())
        }
        Err(error) => Err(error),
    }
}
