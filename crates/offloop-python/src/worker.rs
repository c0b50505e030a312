//! What runs in a zygote and, after the fork, in a worker.
//!
//! The worker runs calls on its main thread, so that a signal can interrupt them: its handler
//! raises `TaskInterrupted` in the running call, if that is still the one to be stopped.

mod known;
mod streaming;
mod tracing;

use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use offloop::worker::{
    Call, CompletionFlags, InterruptView, Request, Seed, Wake, WorkerChannel, ZygoteServer,
};
use offloop::{Payload, Status};
use offloop_sys::signal_timer::SignalTimer;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use crate::blocks::Allocate;
use crate::codec::{self, Decoded, Receiver};
use crate::lifted::{self, Parts};
use crate::names;
use crate::worker::known::{Known, Sent};

static INTERRUPT: OnceLock<InterruptView> = OnceLock::new();
/// Calls whose last block was freed, for the worker's loop to tell the parent.
static RELEASED: Mutex<Vec<u64>> = Mutex::new(Vec::new());

/// Keeps the blocks of one call's arguments; the last clone that goes releases them.
#[derive(Debug)]
struct CallLease {
    sequence: u64,
    /// The completion said that blocks are still in use; before it, nothing is released apart.
    held: std::sync::atomic::AtomicBool,
}

impl Drop for CallLease {
    fn drop(&mut self) {
        if self.held.load(Ordering::Relaxed) {
            RELEASED
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(self.sequence);
        }
    }
}

/// What this process, if it is a worker, has been forked with, until it begins to work.
static SEED: Mutex<Option<Seed>> = Mutex::new(None);

/// Serves as a zygote until the parent has ended; returns in each forked worker, which is to
/// `work`, and in the zygote at its end. True: this is a worker.
#[pyfunction]
pub(crate) fn serve(py: Python<'_>, prepare: &Bound<'_, PyAny>) -> PyResult<bool> {
    let mut server = ZygoteServer::from_inherited()?;
    let setup = server.receive_setup()?;
    let fds: Vec<i32> = setup
        .inherited
        .into_iter()
        .map(IntoRawFd::into_raw_fd)
        .collect();
    set_importing(true);
    let prepared = prepare.call1((PyBytes::new(py, &setup.bytes), fds));
    set_importing(false);
    if let Err(error) = prepared {
        let text = describe(py, error);
        server.reply_setup(Err(&text))?;
        return Ok(false);
    }
    server.reply_setup(Ok(()))?;
    let seed = py.detach(|| server.serve(|| Python::attach(fork_process)))?;
    drop(server);
    let is_worker = seed.is_some();
    *SEED.lock().unwrap_or_else(PoisonError::into_inner) = seed;
    Ok(is_worker)
}

/// Forks this process, as `os.fork` does, but without its warning about threads. The only ones are
/// those of a library that a main module has imported, and it handles forks itself.
fn fork_process(_py: Python<'_>) -> std::io::Result<Option<i32>> {
    // SAFETY: attached; the interpreter's own steps around a fork, in their order. The child goes
    // on as `os.fork` lets it go on, with the one thread that it has.
    unsafe {
        pyo3::ffi::PyOS_BeforeFork();
        let forked = offloop_sys::process::fork();
        match forked {
            Ok(None) => pyo3::ffi::PyOS_AfterFork_Child(),
            _ => pyo3::ffi::PyOS_AfterFork_Parent(),
        }
        forked
    }
}

/// Forks a zygote; 0 in the child.
#[pyfunction]
pub(crate) fn fork(py: Python<'_>) -> PyResult<i32> {
    Ok(fork_process(py)?.unwrap_or(0))
}

/// Takes calls until there are no more; `begin` is run before the first.
#[pyfunction]
pub(crate) fn work(py: Python<'_>, begin: &Bound<'_, PyAny>) -> PyResult<()> {
    let seed = SEED.lock().unwrap_or_else(PoisonError::into_inner).take();
    let seed = seed.ok_or_else(|| PyRuntimeError::new_err("this process is no new worker"))?;
    run(py, seed, begin)
}

/// Whether this process is importing what its program wants of it.
static IMPORTING: AtomicBool = AtomicBool::new(false);

/// Says that modules of the program are being imported, or no more.
///
/// A module that uses a pool as it is imported would be imported by that pool's workers too, and so
/// on without end.
#[pyfunction]
pub(crate) fn set_importing(importing: bool) {
    IMPORTING.store(importing, Ordering::Relaxed);
}

/// Whether a pool that is used now is used by a module that a worker imports.
pub(crate) fn is_importing() -> bool {
    IMPORTING.load(Ordering::Relaxed)
}

fn describe(py: Python<'_>, error: PyErr) -> String {
    let formatted = names::function(py, "_offloop_worker.failure", "describe")
        .and_then(|describe| describe.call1((error.value(py),)))
        .and_then(|text| text.extract::<String>());
    formatted.unwrap_or_else(|_| error.to_string())
}

fn run(py: Python<'_>, seed: Seed, begin: &Bound<'_, PyAny>) -> PyResult<()> {
    offloop_sys::fork::watch();
    let channel = WorkerChannel::open(seed)?;
    LIFELINE.store(channel.lifeline().as_raw_fd(), Ordering::Relaxed);
    INTERRUPT
        .set(channel.interrupt_view())
        .map_err(|_| PyRuntimeError::new_err("a worker opens one channel"))?;
    let signal = offloop_sys::process::interrupt_signal();
    let handler = names::function(py, "_offloop_worker._offloop", "on_interrupt")?;
    names::function(py, "_signal", "signal")?.call1((signal, handler))?;
    // The socket stays open until the process ends: closing it tells the parent that this worker
    // takes no more calls, and the exit handlers are still to run.
    let worker = Box::leak(Box::new(Worker::new(channel)));
    if !worker.follow_first(py)? {
        return Ok(());
    }
    if let Err(error) = begin.call0() {
        let text = describe(py, error);
        worker.channel.hello(Err(&text))?;
        return Ok(());
    }
    worker.channel.hello(Ok(()))?;
    worker.run(py)
}

/// The number of the descriptor that becomes readable when the program ends; -1 outside a worker.
#[pyfunction]
pub(crate) fn lifeline() -> i32 {
    LIFELINE.load(Ordering::Relaxed)
}

static LIFELINE: AtomicI32 = AtomicI32::new(-1);

/// Does what the program did to its path and environment.
fn follow(py: Python<'_>, told: &Sent) -> PyResult<()> {
    let around = names::names(py)?.loads.bind(py).call1((told.bytes(py)?,))?;
    names::function(py, "_offloop_worker.surroundings", "follow")?.call1((around,))?;
    Ok(())
}

/// How long an interrupt waits before it looks again whether the import is over.
const IMPORT_PATIENCE: Duration = Duration::from_millis(5);

/// The handler of the interrupt signal.
///
/// It does not raise in the middle of an import. The call is stopped after that: a module that was
/// left half done would be the next call's.
#[pyfunction]
pub(crate) fn on_interrupt(py: Python<'_>, signal: i32, frame: &Bound<'_, PyAny>) -> PyResult<()> {
    static AGAIN: OnceLock<SignalTimer> = OnceLock::new();
    if INTERRUPT.get().is_some_and(InterruptView::is_interrupted) {
        let again = AGAIN.get_or_init(|| SignalTimer::new(signal));
        // If the system has no timer for us, the call is stopped here all the same.
        if is_inside_import(frame)? && again.set(IMPORT_PATIENCE).is_ok() {
            return Ok(());
        }
        if stops_itself(py)? {
            return Ok(());
        }
        return Err(interrupted(py, "the call was cancelled or ran out of time"));
    }
    Ok(())
}

/// What is raised in a call that is to stop.
fn interrupted(py: Python<'_>, text: &str) -> PyErr {
    names::raise(py, "_offloop_worker.exceptions", "TaskInterrupted", text)
}

/// What is called, instead of raising, when the running call is to stop; true if that does.
static STOPPER: Mutex<Option<Py<PyAny>>> = Mutex::new(None);

/// Has an interrupt call `stopper`, or raise again.
///
/// An exception that is raised between two steps of an event loop would be the loop's, not the
/// call's.
#[pyfunction]
#[pyo3(signature = (stopper))]
pub(crate) fn set_stopper(stopper: Option<Py<PyAny>>) {
    let mut current = STOPPER.lock().unwrap_or_else(PoisonError::into_inner);
    let replaced = std::mem::replace(&mut *current, stopper);
    drop(current);
    drop(replaced);
}

fn stops_itself(py: Python<'_>) -> PyResult<bool> {
    let stopper = {
        let current = STOPPER.lock().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map(|stopper| stopper.clone_ref(py))
    };
    stopper.map_or(Ok(false), |stopper| stopper.bind(py).call0()?.is_truthy())
}

/// Whether one of the stack entries below belongs to the import system.
fn is_inside_import(frame: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = frame.py();
    let mut entry = frame.clone();
    while !entry.is_none() {
        let code = entry.getattr(intern!(py, "f_code"))?;
        let file = code.getattr(intern!(py, "co_filename"))?;
        if file.cast::<PyString>()?.to_cow()? == "<frozen importlib._bootstrap>" {
            return Ok(true);
        }
        entry = entry.getattr(intern!(py, "f_back"))?;
    }
    Ok(false)
}

/// A callable, its arguments, its keywords and what is carried, if there are any.
type DecodedCall<'py> = (
    Bound<'py, PyAny>,
    Bound<'py, PyTuple>,
    Option<Bound<'py, PyDict>>,
    Option<Bound<'py, PyDict>>,
);

struct Worker {
    channel: WorkerChannel,
    known: Known,
    allocate: Allocate,
}

impl Worker {
    fn new(channel: WorkerChannel) -> Self {
        let arena = channel.results();
        let allocate: Allocate = Arc::new(move |len| arena.allocate(len));
        Self {
            channel,
            known: Known::default(),
            allocate,
        }
    }

    /// Follows the program before anything else is run; false when there is nothing to run.
    fn follow_first(&mut self, py: Python<'_>) -> PyResult<bool> {
        while let Some(request) = self.channel.try_next()? {
            match request {
                Request::Surroundings(inline, block) => follow(py, &Sent { inline, block })?,
                // The parent sends no definition and no call before the hello.
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    fn run(&mut self, py: Python<'_>) -> PyResult<()> {
        loop {
            match self.channel.try_next()? {
                Some(Request::Call(mut call)) => {
                    self.call(py, &mut call)?;
                    continue;
                }
                Some(Request::Define(id, inline, block)) => {
                    self.known.define(id, Sent { inline, block });
                    continue;
                }
                Some(Request::Forget(numbers)) => {
                    self.known.forget(py, &numbers)?;
                    continue;
                }
                Some(Request::Surroundings(inline, block)) => {
                    follow(py, &Sent { inline, block })?;
                    continue;
                }
                Some(Request::Retire) => return Ok(()),
                None => {}
            }
            self.release();
            if self.channel.spin() {
                continue;
            }
            let channel = &mut self.channel;
            match py.detach(|| channel.sleep()) {
                Ok(Wake::Ring) => {}
                // A handler that raises here has no call to stop.
                Ok(Wake::Signal) => py.check_signals()?,
                Ok(Wake::End) => return Ok(()),
                Err(error) => return Err(PyOSError::new_err(error.to_string())),
            }
        }
    }

    fn release(&mut self) {
        let released =
            std::mem::take(&mut *RELEASED.lock().unwrap_or_else(PoisonError::into_inner));
        for sequence in released {
            self.channel.release(sequence);
        }
    }

    fn call(&mut self, py: Python<'_>, call: &mut Call) -> PyResult<()> {
        let lease = (!call.blocks.is_empty()).then(|| {
            Arc::new(CallLease {
                sequence: call.sequence,
                held: false.into(),
            })
        });
        let forks = offloop_sys::fork::generation();
        let (status, encoded) = self.run_call(py, call, lease.as_ref());
        WorkerChannel::end_call();
        if offloop_sys::fork::generation() != forks {
            let text = "a child that this call forked returned from it; only its parent answers";
            return Err(PyRuntimeError::new_err(text));
        }
        let payload =
            match encoded.map(|encoded| encoded.map(|e| e.into_payload(py, &self.allocate))) {
                Ok(None) => Payload::default(),
                Ok(Some(Ok(payload))) => payload,
                Ok(Some(Err(error))) | Err(error) => self.last_resort(py, error)?,
            };
        let holds_blocks = lease.as_ref().is_some_and(|lease| {
            let held = Arc::strong_count(lease) > 1;
            lease.held.store(held, Ordering::Relaxed);
            held
        });
        let flags = CompletionFlags {
            payload_in_block: payload.in_block,
            holds_blocks,
        };
        let Payload { inline, blocks, .. } = payload;
        self.channel
            .complete(call, status, &inline, blocks, flags)?;
        Ok(())
    }

    /// Not even the failure could be encoded: its text always can.
    fn last_resort(&self, py: Python<'_>, error: PyErr) -> PyResult<Payload> {
        let text = describe(py, error);
        let failure =
            names::function(py, "_offloop_worker.failure", "encode_text")?.call1((text,))?;
        let pickle = failure.cast_into::<PyBytes>()?;
        codec::Encoded::from_pickle(pickle).into_payload(py, &self.allocate)
    }

    fn run_call<'py>(
        &mut self,
        py: Python<'py>,
        call: &mut Call,
        lease: Option<&Arc<CallLease>>,
    ) -> (Status, PyResult<Option<codec::Encoded<'py>>>) {
        if self.channel.is_interrupted() {
            let error = interrupted(py, "the call was stopped as it began");
            return (
                Status::Interrupted,
                self.encode_failure(py, error).map(Some),
            );
        }
        set_importing(true);
        let decoded = self.decode(py, call, lease);
        set_importing(false);
        let (callable, arguments, keywords, carried) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                return (
                    self.status_of(py, &error, Status::Undecodable),
                    self.encode_failure(py, error).map(Some),
                );
            }
        };
        let trace = carried.and_then(|carried| tracing::enter(&callable, &carried));
        let result = callable.call(&arguments, keywords.as_ref());
        drop((callable, arguments, keywords));
        let encoded = match result {
            Ok(made) if call.streams => self.stream(py, call, made).map(|()| None),
            Ok(value) => self.encode_value(py, value),
            Err(error) => Err(error),
        };
        if let Some(trace) = trace {
            trace.leave(py, encoded.as_ref().err());
        }
        match encoded {
            Ok(encoded) => (Status::Value, Ok(encoded)),
            Err(error) => (
                self.status_of(py, &error, Status::Raised),
                self.encode_failure(py, error).map(Some),
            ),
        }
    }

    /// None travels as nothing.
    fn encode_value<'py>(
        &self,
        py: Python<'py>,
        value: Bound<'py, PyAny>,
    ) -> PyResult<Option<codec::Encoded<'py>>> {
        if value.is_none() {
            return Ok(None);
        }
        let encoded = match lifted::lift_value(py, &value, &self.allocate)? {
            Some(lifted) => {
                drop(value);
                codec::encode_lifted(py, lifted, &self.allocate, Receiver::Program)
            }
            None => codec::encode(py, &value, &self.allocate, Receiver::Program),
        };
        encoded.map(Some)
    }

    fn status_of(&self, py: Python<'_>, error: &PyErr, otherwise: Status) -> Status {
        let interrupted = names::function(py, "_offloop_worker.exceptions", "TaskInterrupted")
            .is_ok_and(|class| error.is_instance(py, &class));
        if interrupted {
            Status::Interrupted
        } else {
            otherwise
        }
    }

    fn encode_failure<'py>(&self, py: Python<'py>, error: PyErr) -> PyResult<codec::Encoded<'py>> {
        let encode = names::function(py, "_offloop_worker.failure", "encode")?;
        let pickle = encode
            .call1((error.into_value(py),))?
            .cast_into::<PyBytes>()?;
        Ok(codec::Encoded::from_pickle(pickle))
    }

    fn decode<'py>(
        &mut self,
        py: Python<'py>,
        call: &Call,
        lease: Option<&Arc<CallLease>>,
    ) -> PyResult<DecodedCall<'py>> {
        let callable = match call.function {
            0 => None,
            id => Some(self.known.function(py, id)?),
        };
        let received = codec::Received {
            inline: &call.payload,
            blocks: &call.blocks,
            in_block: call.payload_in_block,
            copy: call.copy_blocks,
        };
        let empty = call.payload.is_empty() && call.blocks.is_empty();
        if let (Some(callable), true) = (&callable, empty) {
            return Ok((callable.clone(), PyTuple::empty(py), None, None));
        }
        let mut enter = |numbers: Vec<u32>| self.known.enter(py, &numbers);
        let parts = match codec::decode(py, &received, lease, &mut enter)? {
            Decoded::Plain(whole) => Parts::from_pickled(whole, callable.is_none())?,
            Decoded::Lifted(parts) => parts,
        };
        let callable = callable
            .or(parts.callable)
            .ok_or_else(|| PyRuntimeError::new_err("a call came without its function"))?;
        Ok((callable, parts.arguments, parts.keywords, parts.carried))
    }
}
