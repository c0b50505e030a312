//! What is run: a callback, a stream that is ready, a call on a socket that can go on.

use offloop_core::event_loop::Side;
use pyo3::prelude::*;

use super::super::handle::context::Entered;
use super::super::handle::run::run_handle;
use super::super::port::LoopPort;
use super::super::port::schedule::Entry;
use super::super::streams::stream::Stream;
use super::super::streams::{flushing, reading};
use super::super::{sock, tls};

/// Runs an entry.
#[inline]
pub(crate) fn run_entry(
    port: &LoopPort,
    py: Python<'_>,
    entry: Entry,
    entered: &Entered,
) -> PyResult<()> {
    match entry {
        Entry::Ours(handle) => {
            let result = run_handle(py, &handle, entered);
            // With the handle may go a task whose exception no program has seen. It is reported in
            // the task's own context, which can be entered only once.
            let left = entered.leave_given(py);
            result.and(left).and(handle.finish(py, false))
        }
        Entry::Stream(stream, Side::Reader) => {
            let stream = stream.bind(py).cast::<Stream>()?;
            port.with_read_memory(py, |memory| {
                reading::read_ready(stream, entered, memory, tls::read_ready)
            })
        }
        Entry::Stream(stream, Side::Writer) => {
            entered.leave(py)?;
            flushing::flush_ready(stream.bind(py).cast::<Stream>()?)
        }
        Entry::Wait(wait) => {
            entered.leave(py)?;
            sock::go_on(port, py, wait)
        }
        Entry::Foreign(handle) => {
            entered.leave(py)?;
            let handle = handle.bind(py);
            if !handle
                .getattr(pyo3::intern!(py, "_cancelled"))?
                .is_truthy()?
            {
                handle.call_method0(pyo3::intern!(py, "_run"))?;
            }
            Ok(())
        }
    }
}
