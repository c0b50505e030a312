//! Reading of pipes: into the loop's buffer, and from there into bytes of the right size.
//!
//! The standard transport asks for 256 KiB of fresh memory at each read and gives most of it back,
//! which costs more than the read itself whenever the allocator maps and unmaps them.
//!
//! Errors:     what the protocol raises goes to the loop's exception handler, what the system
//!             answers closes the transport, whose methods do both.
//! Source:     asyncio/unix_events.py.

use std::io::ErrorKind;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::super::ground::errors::os_error;
use super::super::ground::trampoline::{Method, put};
use super::super::port::LoopPort;

/// Gives a class of pipe transports, which derives from the standard one, its method for reading.
#[pyfunction]
pub(crate) fn add_pipe_methods(class: &Bound<'_, PyType>) -> PyResult<()> {
    let text = c"_read_ready($self)\n--\n\nRead once, and hand on what has arrived.";
    put(
        class,
        &[Method::<PyAny>::plain(c"_read_ready", text, read_ready)],
    )
}

fn read_ready(py: Python<'_>, transport: &Bound<'_, PyAny>) -> PyResult<()> {
    let fd: i32 = transport.getattr(intern!(py, "_fileno"))?.extract()?;
    let size: usize = transport.getattr(intern!(py, "max_size"))?.extract()?;
    let event_loop = transport.getattr(intern!(py, "_loop"))?;
    let port = event_loop.cast::<LoopPort>()?.get();
    match port.with_read_memory(py, |memory| memory.read(py, fd, size)) {
        Ok(data) if !data.as_bytes().is_empty() => {
            let protocol = transport.getattr(intern!(py, "_protocol"))?;
            protocol.call_method1(intern!(py, "data_received"), (data,))?;
        }
        Ok(_) => {
            transport.call_method0(intern!(py, "_end_of_file"))?;
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(error) => {
            let message = "Fatal read error on pipe transport";
            let error = os_error(error).into_value(py);
            transport.call_method1(intern!(py, "_fatal_error"), (error, message))?;
        }
    }
    Ok(())
}
