//! Writing: from `transport.write` through the library to the stream.
//!
//! What is written is encrypted at once, into memory that is sent as it is at the end of the round.
//! While that has not been sent, more of the same round is appended to it. Unusual calls go to the
//! standard method: in other states than that of an open connection, with arguments that are no
//! bytes, and after errors, which the standard method meets again when it tries the same.
//!
//! Units:      bytes.
//! Source:     asyncio/sslproto.py (`_write_appdata`, `_process_outgoing`).

use offloop_sys::openssl::{Connection, Failure, RECORD_BYTES};
use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyList, PyMemoryView, PyTuple, PyType};
use pyo3::{ffi, intern};

use super::super::ground::arguments::Arguments;
use super::super::ground::trampoline::{Method, put};
use super::super::ground::view::View;
use super::super::streams::stream::Stream;
use super::super::streams::writing::{take_unsent_records, write_records};
use super::state::{Phase, Tls, TlsState, copied};

/// From this size on other threads run while data is encrypted, which takes a third of a
/// millisecond. For less the thread keeps the GIL: to get it back may take five milliseconds.
const DETACHED_BYTES: usize = 1024 * 1024;

/// The hot methods of a transport class whose instances keep their native half in `_tls`, and that
/// has the standard methods as `_write_standard` and `_writelines_standard`.
#[pyfunction]
pub(crate) fn add_tls_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    put(class, &METHODS)
}

const METHODS: [Method<PyAny>; 2] = [
    Method::new(
        c"write",
        c"write($self, data)\n--\n\nSend data, without waiting for it to be sent.",
        write,
    ),
    Method::new(
        c"writelines",
        c"writelines($self, list_of_data)\n--\n\nSend one after the other.",
        writelines,
    ),
];

fn write(py: Python<'_>, transport: &Bound<'_, PyAny>, call: &Arguments<'_, '_>) -> PyResult<()> {
    let data = call.only("write", intern!(py, "data"))?;
    if !written(transport, data)? {
        transport.call_method1(intern!(py, "_write_standard"), (data,))?;
    }
    Ok(())
}

fn writelines(
    py: Python<'_>,
    transport: &Bound<'_, PyAny>,
    call: &Arguments<'_, '_>,
) -> PyResult<()> {
    let lines = call.only("writelines", intern!(py, "list_of_data"))?;
    let done = match joined(lines)? {
        Some(data) => written(transport, data.as_any())?,
        None => false,
    };
    if !done {
        transport.call_method1(intern!(py, "_writelines_standard"), (lines,))?;
    }
    Ok(())
}

/// Joins lines that fit into one record: each record costs as much as half a kilobyte of data.
fn joined<'py>(lines: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    if !lines.is_exact_instance_of::<PyList>() && !lines.is_exact_instance_of::<PyTuple>() {
        return Ok(None);
    }
    let mut all = Vec::new();
    for line in lines.try_iter()? {
        let line = line?;
        let Ok(bytes) = line.cast_exact::<PyBytes>() else {
            return Ok(None);
        };
        if all.len() + bytes.as_bytes().len() > RECORD_BYTES {
            return Ok(None);
        }
        all.extend_from_slice(bytes.as_bytes());
    }
    Ok((!all.is_empty()).then(|| PyBytes::new(lines.py(), &all)))
}

/// Encrypts and sends, if nothing is unusual. Returns whether it did.
fn written(transport: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = data.py();
    let native = transport.getattr(intern!(py, "_tls"))?;
    let tls = native.cast::<Tls>()?.get();
    if let Ok(bytes) = data.cast_exact::<PyBytes>() {
        let bytes = bytes.as_bytes();
        // SAFETY: bytes that are held here, and never change.
        return unsafe { seal(tls, transport, bytes.as_ptr(), bytes.len()) };
    }
    if !data.is_exact_instance_of::<PyByteArray>() && !data.is_exact_instance_of::<PyMemoryView>() {
        return Ok(false);
    }
    match View::of(data, ffi::PyBUF_SIMPLE) {
        // SAFETY: *held*, for reading.
        Some(view) => unsafe { seal(tls, transport, view.pointer(), view.len()) },
        None => Ok(false),
    }
}

/// # Safety
/// The memory is valid for reading `len` bytes until this returns.
unsafe fn seal(
    tls: &Tls,
    transport: &Bound<'_, PyAny>,
    pointer: *const u8,
    len: usize,
) -> PyResult<bool> {
    let py = transport.py();
    if len == 0 {
        return Ok(false);
    }
    // SAFETY: the caller's.
    let (count, send) = match unsafe { tls.encrypt(py, pointer, len) } {
        Ok(None) => return Ok(false),
        Ok(Some(Ok(written))) => written,
        Ok(Some(Err(_))) => {
            // Failures other than for want of memory are left to the standard method.
            tls.fail(py, PyMemoryError::new_err(()))?;
            return Ok(true);
        }
        Err(error) => {
            tls.fail(py, error)?;
            return Ok(true);
        }
    };
    if count < len {
        // The library has to read first, or fails. The standard method finds out, at once: an error
        // must not be in the library's queue when other code runs. It sends what is there, too.
        // SAFETY: the caller's: `len` bytes, of which `count` are done.
        let rest = unsafe { std::slice::from_raw_parts(pointer.add(count), len - count) };
        let rest = copied(py, rest)?;
        transport.call_method1(intern!(py, "_write_standard"), (rest,))?;
        return Ok(true);
    }
    if send {
        send_unsent(tls, py)?;
    }
    control_writing(tls, py)?;
    Ok(true)
}

/// Memory that is lent to another function, which may let other threads run.
struct Lent(*const u8);

// SAFETY: an address; `write_to` asks its caller for the rest.
unsafe impl Send for Lent {}

impl Lent {
    /// # Safety
    /// The memory is valid for reading `len` bytes until this returns.
    unsafe fn write_to(self, connection: &mut Connection, len: usize) -> Result<usize, Failure> {
        // SAFETY: the caller's.
        unsafe { connection.write_from(self.0, len) }
    }
}

impl Tls {
    /// Encrypts in the usual case: the connection is open, and no earlier data waits. Returns how
    /// many bytes it has encrypted, and whether the stream is to get the records now.
    ///
    /// # Safety
    /// The memory is valid for reading `len` bytes until this returns.
    unsafe fn encrypt(
        &self,
        py: Python<'_>,
        pointer: *const u8,
        len: usize,
    ) -> PyResult<Option<Result<(usize, bool), Failure>>> {
        let ready = self.state.with(py, |state| {
            let (Some(connection), Some(stream)) = (state.connection(), &state.stream) else {
                return None;
            };
            if state.phase != Phase::Wrapped || backlog_len(state) != 0 {
                return None;
            }
            let send = !state.ssl_writing_paused;
            let append = (send && connection.output_len() == 0).then(|| stream.clone_ref(py));
            Some((send, append))
        });
        let Some((send, append)) = ready else {
            return Ok(None);
        };
        self.with_connection(py, |taken| {
            let connection = &mut taken.connection;
            // Records leave the stream only now that the connection, which takes them, is here.
            let records = append.and_then(|stream| take_unsent_records(py, stream.get()));
            if let Some(records) = records {
                connection.swap_output(records);
            }
            let data = Lent(pointer);
            let count = if len < DETACHED_BYTES {
                // SAFETY: the caller's.
                unsafe { data.write_to(connection, len) }
            } else {
                // SAFETY: the caller's. The connection is lent to this call alone, and other
                // threads leave the `SSL` alone, as they have to while Python's own object writes.
                py.detach(|| unsafe { data.write_to(connection, len) })
            };
            count.map(|count| (count, send))
        })
    }
}

/// How many pieces of data could not be encrypted yet.
fn backlog_len(state: &TlsState) -> ffi::Py_ssize_t {
    let backlog = state.backlog.as_ref();
    // SAFETY: *attached*, as the thread that has the state is; an object that the state keeps: the
    // standard protocol's deque, whose length is a field.
    backlog.map_or(0, |backlog| unsafe { ffi::PyObject_Size(backlog.as_ptr()) })
}

/// Goes on after reading: encrypts data that has waited for it, and sends the library's own
/// records.
pub(crate) fn go_on(tls: &Tls, py: Python<'_>) -> PyResult<()> {
    let (waits, send) = tls.state.with(py, |state| {
        let waits = backlog_len(state) > 0;
        let unsent = state
            .connection()
            .is_some_and(|connection| connection.output_len() > 0);
        (waits, unsent && !state.ssl_writing_paused)
    });
    if waits {
        return tls.call_protocol(py, intern!(py, "_do_write"));
    }
    if send {
        send_unsent(tls, py)?;
    }
    control_writing(tls, py)
}

/// Gives the stream what is encrypted.
fn send_unsent(tls: &Tls, py: Python<'_>) -> PyResult<()> {
    let unsent: Option<(Vec<u8>, Py<Stream>)> = tls.state.with(py, |state| {
        let stream = state.stream.as_ref()?.clone_ref(py);
        let records = state.connection_mut()?.swap_output(Vec::new());
        (!records.is_empty()).then_some((records, stream))
    });
    match unsent {
        Some((records, stream)) => write_records(stream.bind(py), records),
        None => Ok(()),
    }
}

/// Tells the program to write no more for now, or again, as the standard protocol does.
fn control_writing(tls: &Tls, py: Python<'_>) -> PyResult<()> {
    let control = tls.state.with(py, |state| {
        let Some(connection) = state.connection() else {
            return false;
        };
        let size = connection.output_len();
        if state.app_writing_paused {
            size <= state.outgoing_low_water
        } else {
            size >= state.outgoing_high_water
        }
    });
    if control {
        tls.call_protocol(py, intern!(py, "_control_app_writing"))?;
    }
    Ok(())
}
