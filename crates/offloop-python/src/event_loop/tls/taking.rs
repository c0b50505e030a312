//! The `SSL` of one of the interpreter's objects, taken once it is certain that it is one.
//!
//! The interpreter does not say where its objects keep their pointers to OpenSSL's, but the places
//! are the same from 3.11 to 3.15. They are read in these versions only, and in objects of exactly
//! the known classes. What is read is used only when everything fits: the object's context stands
//! where it is expected, and the library, asked about the `SSL`, names that context, that object as
//! the owner, and the buffers that Python's own two objects hold.
//!
//! Not taken over are connections of a subclass of `ssl.SSLObject`, or of an object whose methods a
//! program has replaced: these methods would not be called. Nor are connections whose context has a
//! message callback or a log of keys, or, before TLS 1.3, a callback for server names: what these
//! raise comes out of Python's own `read`. No connection is taken over where OpenSSL is not a
//! library of its own, or not known. A callback that is set later, or that cannot be asked for, is
//! called all the same, while the library reads or writes.
//!
//! Source:     Modules/_ssl.c of 3.11 to 3.15.

use std::ffi::{CString, c_ulong, c_void};
use std::ptr::NonNull;

use offloop_sys::openssl::{Connection, Library};
use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

/// Words of an object that come before its own: what `PyObject_HEAD` is.
const HEAD: usize = size_of::<ffi::PyObject>() / size_of::<usize>();

/// What is known of this interpreter's `ssl`.
struct Known {
    library: &'static Library,
    ssl_object: Py<PyType>,
    ssl_socket: Py<PyType>,
    context: Py<PyType>,
    memory: Py<PyType>,
}

static KNOWN: PyOnceLock<Option<Known>> = PyOnceLock::new();

/// The interpreter's `ssl`, if it is as we know it.
fn known(py: Python<'_>) -> PyResult<Option<&Known>> {
    let known = KNOWN.get_or_try_init(py, || unless_unfamiliar(py, look_up(py)))?;
    Ok(known.as_ref())
}

/// `None` in place of an exception: an object that cannot be looked at is not as we know it.
fn unless_unfamiliar<T>(py: Python<'_>, found: PyResult<Option<T>>) -> PyResult<Option<T>> {
    match found {
        Err(error) if error.is_instance_of::<PyException>(py) => Ok(None),
        other => other,
    }
}

fn look_up(py: Python<'_>) -> PyResult<Option<Known>> {
    let (native, ssl) = (py.import("_ssl")?, py.import("ssl")?);
    let version: String = native.getattr("OPENSSL_VERSION")?.extract()?;
    let python = py.version_info();
    let familiar = version.starts_with("OpenSSL 3.")
        && (python.major, python.minor) >= (3, 11)
        && (python.major, python.minor) <= (3, 15);
    let file = native.getattr_opt("__file__")?;
    let (true, Some(file)) = (familiar, file) else {
        return Ok(None);
    };
    let Ok(file) = CString::new(file.extract::<String>()?) else {
        return Ok(None);
    };
    let number: c_ulong = native.getattr("OPENSSL_VERSION_NUMBER")?.extract()?;
    // SAFETY: the interpreter's module for TLS, which says that it uses OpenSSL 3.
    let library = unsafe { Library::of_module(&file, number) };
    let class = |module: &Bound<'_, PyModule>, name: &str, words: usize| {
        let class = module.getattr(name)?.cast_into::<PyType>()?;
        let size: usize = class.getattr("__basicsize__")?.extract()?;
        let large_enough = size >= (HEAD + words) * size_of::<usize>();
        Ok::<_, PyErr>(large_enough.then(|| class.unbind()))
    };
    let classes = (
        class(&native, "_SSLSocket", 3)?,
        class(&native, "_SSLContext", 1)?,
        class(&native, "MemoryBIO", 1)?,
    );
    let (Some(library), (Some(ssl_socket), Some(context), Some(memory))) = (library, classes)
    else {
        return Ok(None);
    };
    let ssl_object = ssl.getattr("SSLObject")?.cast_into::<PyType>()?;
    if ssl_object.fully_qualified_name()? != "ssl.SSLObject" {
        // The program has put a class of its own there.
        return Ok(None);
    }
    Ok(Some(Known {
        library,
        ssl_object: ssl_object.unbind(),
        ssl_socket,
        context,
        memory,
    }))
}

/// A word of an object, after its head.
///
/// # Safety
/// The object's class says that its instances are large enough.
unsafe fn word(object: &Bound<'_, PyAny>, index: usize) -> *mut c_void {
    let words = object.as_ptr().cast::<*mut c_void>();
    // SAFETY: the caller's: large enough; the object is held, and its words are aligned.
    unsafe { words.add(HEAD + index).read() }
}

/// Takes over the connection of `ssl_object`, made by `context` with the two buffers, if that can
/// be done. Returns the connection, and the object that has to be kept as long as it is used.
pub(crate) fn take_over(
    ssl_object: &Bound<'_, PyAny>,
    context: &Bound<'_, PyAny>,
    incoming: &Bound<'_, PyAny>,
    outgoing: &Bound<'_, PyAny>,
) -> PyResult<Option<(Connection, Py<PyAny>)>> {
    let py = ssl_object.py();
    let Some(known) = known(py)? else {
        return Ok(None);
    };
    let found = find(known, ssl_object, context, incoming, outgoing);
    let Some((ssl, socket)) = unless_unfamiliar(py, found)? else {
        return Ok(None);
    };
    // SAFETY: the `SSL` of an object that is held, as `find` has seen. The loop's thread is the
    // only one that reads from it and writes to it, as programs are told.
    let connection = unsafe { Connection::take_over(known.library, ssl) };
    Ok(connection.map(|connection| (connection, socket.unbind())))
}

/// The `SSL`, and the object that has it.
fn find<'py>(
    known: &Known,
    ssl_object: &Bound<'py, PyAny>,
    context: &Bound<'py, PyAny>,
    incoming: &Bound<'py, PyAny>,
    outgoing: &Bound<'py, PyAny>,
) -> PyResult<Option<(NonNull<c_void>, Bound<'py, PyAny>)>> {
    let py = ssl_object.py();
    let expected = ssl_object.get_type().is(&known.ssl_object)
        && is_standard(ssl_object, intern!(py, "read"))?
        && is_standard(ssl_object, intern!(py, "write"))?
        && incoming.get_type().is(&known.memory)
        && outgoing.get_type().is(&known.memory);
    if !expected || may_call_python(known, ssl_object, context)? {
        return Ok(None);
    }
    let socket = ssl_object.getattr(intern!(py, "_sslobj"))?;
    let context = socket.getattr(intern!(py, "context"))?;
    if !socket.get_type().is(&known.ssl_socket) || !context.is_instance(known.context.bind(py))? {
        return Ok(None);
    }
    // SAFETY: `look_up` has found both classes to be as large as that.
    let (no_socket, ssl, held, native_context) = unsafe {
        (
            word(&socket, 0),
            word(&socket, 1),
            word(&socket, 2),
            word(&context, 0),
        )
    };
    let Some(ssl) = NonNull::new(ssl) else {
        return Ok(None);
    };
    if !no_socket.is_null() || held != context.as_ptr().cast() {
        return Ok(None);
    }
    // SAFETY: an object without a socket that holds its context there holds its `SSL` here.
    let found = unsafe { known.library.inspect(ssl) };
    // SAFETY: `look_up` has found the class to be as large as that.
    let (reads_from, writes_to) = unsafe { (word(incoming, 0), word(outgoing, 0)) };
    let fits = found.context == native_context
        && found.owner == socket.as_ptr().cast()
        && found.reads_from == reads_from
        && found.writes_to == writes_to;
    Ok(fits.then_some((ssl, socket)))
}

/// Whether a method is the one that the module `ssl` defines, and was not replaced.
fn is_standard(ssl_object: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> PyResult<bool> {
    let py = ssl_object.py();
    let function = ssl_object.getattr(name)?.getattr(intern!(py, "__func__"))?;
    let names = py.import("ssl")?.dict();
    let code = function.getattr(intern!(py, "__code__"))?;
    let full_name: String = code.getattr(intern!(py, "co_qualname"))?.extract()?;
    Ok(function.getattr(intern!(py, "__globals__"))?.is(&names)
        && full_name.strip_prefix("SSLObject.") == Some(name.to_str()?))
}

/// Whether the library is known to call Python code while it reads or writes. A callback for names
/// may have chosen another context than the first, so both are looked at. The first may be an
/// object of the program's that makes connections as a context does.
fn may_call_python(
    known: &Known,
    ssl_object: &Bound<'_, PyAny>,
    context: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let py = context.py();
    let version: Option<String> = ssl_object.call_method0(intern!(py, "version"))?.extract()?;
    // Names can be asked for again where a connection can be negotiated again.
    let asks_names = version.as_deref() != Some("TLSv1.3");
    for context in [context, &ssl_object.getattr(intern!(py, "context"))?] {
        if !context.is_instance(known.context.bind(py))? {
            continue;
        }
        if !context.getattr(intern!(py, "_msg_callback"))?.is_none()
            || !context.getattr(intern!(py, "keylog_filename"))?.is_none()
            || (asks_names && !context.getattr(intern!(py, "sni_callback"))?.is_none())
        {
            return Ok(true);
        }
    }
    Ok(false)
}
