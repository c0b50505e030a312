//! A stream as Python sees it: what stands behind `pool.stream`.
//!
//! Its consumer asks whether something has come, awaits that if not, and takes it. An object that
//! is collected, as after a `break`, stops its call without waiting for that.

use std::sync::Arc;

use offloop::{Item, Outcome, Returned, Runtime, Status};
use offloop_core::{Next, Stop};
use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyStopIteration};
use pyo3::prelude::*;

use crate::incoming::{Incoming, is_done, set_done};
use crate::outcomes::{translate, translate_item};
use crate::owner::{self, LoopOwner};
use crate::pending;

/// The items of one call.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct Arrivals {
    incoming: Arc<Incoming>,
    lane: Arc<offloop::Lane>,
    runtime: Runtime,
    /// Number of the loop's owner. Once that is another loop's, the call is long over.
    owner: u8,
    token: u64,
}

#[pymethods]
impl Arrivals {
    /// A future that is done when something may have come; None when something is there.
    fn arrival<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let owner = self.loop_owner(py)?;
        if !self.incoming.waits() {
            return Ok(None);
        }
        if let Some(other) = self.incoming.arrival(py)
            && !is_done(other.bind(py))?
        {
            let text = "another task waits for the next item of this stream";
            return Err(PyRuntimeError::new_err(text));
        }
        let future = future(py, &owner)?;
        let waits = self.incoming.await_arrival(future.clone().unbind());
        Ok(waits.then_some(future))
    }

    /// The next item. Raises what ended the call, once, and `StopAsyncIteration` ever after.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.incoming.take() {
            Next::Item(item, told) => self.take_item(py, item, told),
            Next::End(outcome) => Err(ended(py, outcome)),
            Next::Over => Err(PyStopAsyncIteration::new_err(())),
            Next::Wait => Err(PyRuntimeError::new_err("no item has come yet")),
        }
    }

    /// Stops the call, and drops what was not taken. A future that is done when the call has
    /// stopped; None when it is over already.
    fn stop<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self.runtime.is_forked() {
            return Ok(None);
        }
        let owner = self.loop_owner(py)?;
        if let Some(arrival) = self.close() {
            set_done(arrival.bind(py))?;
        }
        let future = future(py, &owner)?;
        let waits = self.incoming.await_end(future.clone().unbind());
        Ok(waits.then_some(future))
    }
}

impl Arrivals {
    pub(crate) fn new(
        incoming: Arc<Incoming>,
        lane: Arc<offloop::Lane>,
        runtime: Runtime,
        owner: u8,
        token: u64,
    ) -> Self {
        Self {
            incoming,
            lane,
            runtime,
            owner,
            token,
        }
    }

    fn take_item<'py>(
        &self,
        py: Python<'py>,
        item: Item,
        told: Option<u64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(cost) = told {
            self.lane.tell_taken(&item.source, cost);
        }
        let value = translate_item(py, item);
        if value.is_err()
            && let Some(arrival) = self.close()
        {
            set_done(arrival.bind(py))?;
        }
        value
    }

    /// Nothing more is wanted. Returns the future that waits for what will not come.
    fn close(&self) -> Option<Py<PyAny>> {
        let (stop, arrival) = self.incoming.close();
        if stop == Stop::Call
            && let Some(task) = pending::update(self.token, |pending| pending.task)
        {
            self.lane.cancel(task);
        }
        arrival
    }

    /// The owner of the running loop, which must be the stream's. It is not kept here, since it
    /// keeps its loop alive.
    fn loop_owner(&self, py: Python<'_>) -> PyResult<Py<LoopOwner>> {
        if self.runtime.is_forked() {
            let text = "this stream belongs to the process that this one was forked from";
            return Err(PyRuntimeError::new_err(text));
        }
        let running = owner::current(py, &self.runtime)?;
        let same = running.filter(|running| running.get().index() == self.owner);
        same.ok_or_else(|| {
            let text = "this stream belongs to another event loop, on which it was begun";
            PyRuntimeError::new_err(text)
        })
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        if !self.runtime.is_forked() {
            // What waits for an arrival holds this object, so nothing does.
            drop(self.close());
        }
    }
}

fn future<'py>(py: Python<'py>, owner: &Py<LoopOwner>) -> PyResult<Bound<'py, PyAny>> {
    let event_loop = owner.get().event_loop(py);
    event_loop.call_method0(pyo3::intern!(py, "create_future"))
}

/// What the end of a call is to its consumer.
fn ended(py: Python<'_>, outcome: Outcome) -> PyErr {
    let error = match outcome {
        Outcome::Returned(Returned {
            status: Status::Value,
            ..
        }) => return PyStopAsyncIteration::new_err(()),
        // The consumer did not ask for it: it would have closed the stream first.
        Outcome::Cancelled => {
            return PyRuntimeError::new_err(
                "the pool was shut down while this stream was under way",
            );
        }
        outcome => match translate(py, outcome) {
            Ok(_value) => return PyStopAsyncIteration::new_err(()),
            Err(error) => error,
        },
    };
    let looks_like_an_end = error.is_instance_of::<PyStopAsyncIteration>(py)
        || error.is_instance_of::<PyStopIteration>(py);
    if !looks_like_an_end {
        return error;
    }
    let wrapped = PyRuntimeError::new_err(format!("the stream raised {}", error.value(py)));
    wrapped.set_cause(py, Some(error));
    wrapped
}
