//! A call that streams: what it returned is iterated here, and its items are sent one by one.
//!
//! The next item is asked for only when the window has room for it. However the stream ends, its
//! iterator is closed, so that the `finally` of a generator runs here and now.

use offloop::Payload;
use offloop::worker::{Call, Wake, WorkerChannel};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyIterator;

use crate::names;
use crate::worker::{Worker, interrupted};

/// Why no more items are sent.
enum Sent {
    /// There are no more.
    All,
    /// The call is to stop, or the program has ended.
    Stopped,
}

impl Worker {
    /// Sends the items of `made`, which the function of `call` has returned.
    pub(super) fn stream(
        &mut self,
        py: Python<'_>,
        call: &mut Call,
        made: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let items = names::function(py, "_offloop_worker.streams", "items")?.call1((made,))?;
        let items = items.cast_into::<PyIterator>()?;
        let close = names::function(py, "_offloop_worker.streams", "close")?;
        match self.send_items(py, call, &items) {
            Ok(Sent::All) => close.call1((items, py.None())).map(drop),
            Ok(Sent::Stopped) => {
                // The signal may not have been handled yet: it must not cut the closing short.
                WorkerChannel::end_call();
                close.call1((items, py.None()))?;
                Err(interrupted(py, "the stream was stopped"))
            }
            Err(error) => {
                close.call1((items, error.value(py)))?;
                Err(error)
            }
        }
    }

    fn send_items(
        &mut self,
        py: Python<'_>,
        call: &mut Call,
        items: &Bound<'_, PyIterator>,
    ) -> PyResult<Sent> {
        let forks = offloop_sys::fork::generation();
        loop {
            if !self.wait_for_consumer(py, call)? {
                return Ok(Sent::Stopped);
            }
            let Some(item) = items.clone().next() else {
                return Ok(Sent::All);
            };
            let encoded = self.encode_value(py, item?)?;
            if offloop_sys::fork::generation() != forks {
                let text = "a child that this stream forked went on with it; only its parent may";
                return Err(PyRuntimeError::new_err(text));
            }
            let payload = encoded.map(|encoded| encoded.into_payload(py, &self.allocate));
            let Payload {
                inline,
                blocks,
                in_block,
            } = payload.transpose()?.unwrap_or_default();
            self.channel.send_item(call, &inline, blocks, in_block)?;
        }
    }

    /// Waits until the next item may be sent; false when the call is to stop.
    fn wait_for_consumer(&mut self, py: Python<'_>, call: &Call) -> PyResult<bool> {
        while !self.channel.is_interrupted() {
            if self.channel.may_send(call) {
                return Ok(true);
            }
            // What earlier calls held until now goes back, too.
            self.release();
            let channel = &mut self.channel;
            match py.detach(|| channel.wait_in_stream(call)) {
                Ok(Wake::Ring) => {}
                // If it is the one that stops the call, that is seen above.
                Ok(Wake::Signal) if self.channel.is_interrupted() => {}
                Ok(Wake::Signal) => py.check_signals()?,
                Ok(Wake::End) => return Ok(false),
                Err(error) => return Err(PyOSError::new_err(error.to_string())),
            }
        }
        Ok(false)
    }
}
