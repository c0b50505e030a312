//! `StreamReader.feed_data`, for the reader of a stream that was opened by asyncio's functions.
//!
//! What the standard protocol and reader do for each packet is a handful of attributes and two
//! calls, which cost more in Python than all the rest of a short read. Here the same is done on
//! the same attributes, in the same order. That is only right while those two classes are what we
//! know, so we look: another class, a method that was replaced, or code that uses other names than
//! it used when this was written, and the protocol's own `data_received` is called instead.
//!
//! Source:     asyncio/streams.py of 3.11 to 3.14, whose methods agree in all of this.

use pyo3::exceptions::PyNotImplementedError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyByteArray, PyString, PyType};

/// The two classes, and those of their methods that are done here.
struct Familiar {
    protocol: Py<PyType>,
    reader: Py<PyType>,
    data_received: Py<PyAny>,
    feed_data: Py<PyAny>,
    wake_up: Py<PyAny>,
}

unsafe extern "C" {
    // Of C's interface to Python, but not in the binding.
    static mut PyMethod_Type: ffi::PyTypeObject;
    fn PyMethod_Function(method: *mut ffi::PyObject) -> *mut ffi::PyObject;
}

static FAMILIAR: PyOnceLock<Option<Familiar>> = PyOnceLock::new();

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

/// The classes, if they are as we know them.
fn familiar(py: Python<'_>) -> PyResult<Option<&Familiar>> {
    let familiar = FAMILIAR.get_or_try_init(py, || {
        let streams = py.import("asyncio.streams")?;
        let protocol = streams.getattr("StreamReaderProtocol")?;
        let reader = streams.getattr("StreamReader")?;
        let data_received = protocol.getattr("data_received")?;
        let feed_data = reader.getattr("feed_data")?;
        let wake_up = reader.getattr("_wakeup_waiter")?;
        let getter = protocol.getattr("_stream_reader")?.getattr("fget")?;
        let known = uses(&data_received, &DATA_RECEIVED)?
            && uses(&getter, &STREAM_READER)?
            && uses(&feed_data, &FEED_DATA)?
            && uses(&wake_up, &WAKE_UP)?;
        let (protocol, reader) = (protocol.cast_into()?, reader.cast_into()?);
        Ok::<_, PyErr>(known.then(|| Familiar {
            protocol: protocol.unbind(),
            reader: reader.unbind(),
            data_received: data_received.unbind(),
            feed_data: feed_data.unbind(),
            wake_up: wake_up.unbind(),
        }))
    })?;
    Ok(familiar.as_ref())
}

fn uses(function: &Bound<'_, PyAny>, names: &[&str]) -> PyResult<bool> {
    let Some(code) = function.getattr_opt("__code__")? else {
        return Ok(false);
    };
    let used: Vec<String> = code.getattr("co_names")?.extract()?;
    Ok(used == names)
}

/// Whether packets for this protocol may be fed to its reader here.
pub(super) fn is_familiar(
    protocol: &Bound<'_, PyAny>,
    data_received: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let py = protocol.py();
    let Some(familiar) = familiar(py)? else {
        return Ok(false);
    };
    if !protocol.get_type().is(&familiar.protocol) {
        return Ok(false);
    }
    let function = data_received.getattr_opt("__func__")?;
    let wake_up = familiar.reader.bind(py).getattr("_wakeup_waiter")?;
    Ok(
        function.is_some_and(|function| function.is(&familiar.data_received))
            && wake_up.is(&familiar.wake_up),
    )
}

/// A reader that data is being fed to.
pub(super) struct Feed<'py> {
    reader: Bound<'py, PyAny>,
    buffer: Bound<'py, PyByteArray>,
    limit: usize,
}

impl<'py> Feed<'py> {
    /// Begins what `protocol.data_received(data)` does; `None` when that has to do it itself,
    /// because something is unfamiliar, or wrong.
    pub(super) fn begin(protocol: &Bound<'py, PyAny>) -> Option<Self> {
        let feed = Self::look_up(protocol);
        feed.unwrap_or_default()
    }

    fn look_up(protocol: &Bound<'py, PyAny>) -> PyResult<Option<Self>> {
        let py = protocol.py();
        let (Some(familiar), Some(reader)) = (familiar(py)?, reader(protocol)?) else {
            return Ok(None);
        };
        let feed_data = reader.getattr(intern!(py, "feed_data"))?;
        if !reader.get_type().is(&familiar.reader)
            || !is_method(&feed_data, &familiar.feed_data)
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
    pub(super) fn extend(&self, data: &[u8]) -> PyResult<()> {
        let old = self.buffer.len();
        self.buffer.resize(old + data.len())?;
        // SAFETY: attached, and no Python code runs: nobody else looks at the bytes, and there
        // are as many as were asked for.
        unsafe { self.buffer.as_bytes_mut()[old..].copy_from_slice(data) };
        Ok(())
    }

    /// Makes room for `len` bytes, has them filled in, and takes back the room that was not used.
    /// Nobody else looks at the buffer until then: `fill` runs no Python code.
    pub(super) fn extend_with(
        &self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> std::io::Result<usize>,
    ) -> PyResult<std::io::Result<usize>> {
        let old = self.buffer.len();
        self.buffer.resize(old + len)?;
        // SAFETY: as above.
        let filled = fill(unsafe { &mut self.buffer.as_bytes_mut()[old..] });
        self.buffer.resize(old + *filled.as_ref().unwrap_or(&0))?;
        Ok(filled)
    }

    /// Wakes who waits for data, and stops the transport when there is too much.
    pub(super) fn finish(self) -> PyResult<()> {
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

/// Whether `method` is `function`, bound to an object.
fn is_method(method: &Bound<'_, PyAny>, function: &Py<PyAny>) -> bool {
    // SAFETY: attached, a live object, whose type is checked first.
    unsafe {
        ffi::Py_TYPE(method.as_ptr()) == &raw mut PyMethod_Type
            && PyMethod_Function(method.as_ptr()) == function.as_ptr()
    }
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

/// There is more than twice the limit: the transport need not read on.
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
