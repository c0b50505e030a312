//! What a stream calls: its transport, and the program, in the right context.
//!
//! Source:     asyncio/selector_events.py, asyncio/events.py (`Handle._run`) for what is reported.

use offloop_core::event_loop::Side;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyWeakrefReference};

use super::super::ground::errors::ends_run;
use super::super::handle::context::{Entered, copy_of_context};
use super::state::{Owner, StreamState};
use super::stream::Stream;
use super::uncommon::Limits;

impl Stream {
    /// Calls a method of the transport, if the stream still has one.
    pub(crate) fn call_transport(&self, py: Python<'_>, method: &str) -> PyResult<()> {
        if let Some(transport) = self.transport(py) {
            transport.call_method0(method)?;
        }
        Ok(())
    }

    /// The transport, if it is to be found by the descriptor.
    pub(crate) fn listed_transport<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let transport = |state: &mut StreamState| {
            let ends = state.ends.as_ref().filter(|_| !state.hidden)?;
            ends.transport.get(py)
        };
        self.state.with(py, transport)
    }

    pub(crate) fn transport<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.state
            .with(py, |state| state.ends.as_ref()?.transport.get(py))
    }

    /// Keeps the transport alive no longer: the loop is closed, and will call nothing any more.
    pub(crate) fn loosen(&self, py: Python<'_>) -> PyResult<()> {
        let Some(transport) = self.transport(py) else {
            return Ok(());
        };
        let reference = PyWeakrefReference::new(&transport)?.unbind();
        let old = self.state.with(py, |state| {
            let owner = &mut state.ends.as_mut()?.transport;
            Some(std::mem::replace(owner, Owner::Known(reference)))
        });
        drop(old);
        Ok(())
    }

    pub(super) fn change_limits(&self, py: Python<'_>, change: impl FnOnce(&mut Limits)) {
        self.state
            .with(py, |state| state.uncommon.change_limits(change));
    }

    /// Keeps a copy of the current context for what is called once there is room, as a callback
    /// would have one; not if the transport was given a context.
    pub(crate) fn keep_writing_context(&self, py: Python<'_>) -> PyResult<()> {
        if !self.state.with(py, |state| state.context_given) {
            let copy = copy_of_context(py)?;
            let old = self
                .state
                .with(py, |state| state.uncommon.set_writing_context(Some(copy)));
            drop(old);
        }
        Ok(())
    }

    /// Ends the wait for room in the socket. Returns whether the stream has waited for it.
    pub(crate) fn unblock(&self, py: Python<'_>) -> bool {
        let (blocked, context) = self.state.with(py, |state| {
            let blocked = state.sending.unblock();
            (blocked, state.uncommon.set_writing_context(None))
        });
        drop(context);
        blocked
    }

    /// The context of the stream's callbacks on one side, once it has begun to read.
    pub(crate) fn context(&self, py: Python<'_>, side: Side) -> Option<Py<PyAny>> {
        self.state.with(py, |state| {
            let writing = state.uncommon.writing_context();
            let writing = writing.filter(|_| matches!(side, Side::Writer));
            let context = writing.or(state.context.as_ref());
            context.map(|held| held.clone_ref(py))
        })
    }

    /// Runs what may call the protocol once there is room: in the context in which the data was
    /// written, or else in that of the stream's callbacks. The loop has left these contexts.
    /// `callback` is the name for `report`.
    pub(crate) fn in_context(
        &self,
        py: Python<'_>,
        callback: &str,
        body: impl FnOnce() -> PyResult<()>,
    ) -> PyResult<()> {
        let context = self.context(py, Side::Writer);
        let entered = Entered::default();
        let switched = context
            .as_ref()
            .map_or(Ok(()), |context| entered.switch(context.bind(py)));
        let result = switched.and_then(|()| body());
        let result = self.report(py, callback, result);
        let left = entered.leave(py);
        result.and(left)
    }

    /// Reports what a callback of the stream raised as for any other callback, unless it ends the
    /// run.
    pub(crate) fn report(
        &self,
        py: Python<'_>,
        callback: &str,
        result: PyResult<()>,
    ) -> PyResult<()> {
        let Err(error) = result else { return Ok(()) };
        if ends_run(py, &error) {
            return Err(error);
        }
        let context = PyDict::new(py);
        let message = format!("Exception in callback StreamTransport.{callback}()");
        context.set_item("message", message)?;
        context.set_item("exception", error.into_value(py))?;
        context.set_item("transport", self.transport(py))?;
        self.event_loop(py)
            .call_method1("call_exception_handler", (context,))?;
        Ok(())
    }

    /// Gives what a callback or the system raised to the transport, which closes the connection.
    pub(crate) fn fail(&self, py: Python<'_>, error: PyErr, message: &str) -> PyResult<()> {
        if ends_run(py, &error) {
            return Err(error);
        }
        if let Some(transport) = self.transport(py) {
            let error = error.into_value(py);
            transport.call_method1("_fatal_error", (error, message))?;
        }
        Ok(())
    }
}
