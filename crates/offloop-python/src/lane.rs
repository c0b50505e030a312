//! A lane as Python sees it: what stands behind `ProcessPool`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use offloop::{
    Call, CallOptions, Close, Definition, LaneConfig, QueuePolicy, SubmitError, TaskAddress,
    Unresolved,
};
use pyo3::exceptions::{PyException, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::arrivals::Arrivals;
use crate::calls::{self, EncodedCall};
use crate::coroutines::{self, Wanted};
use crate::definitions;
use crate::error::{not_opened, not_submitted};
use crate::forsaking;
use crate::functions::{self, KnownFunction};
use crate::home::{Home, home};
use crate::incoming::Incoming;
use crate::lifted::Parts;
use crate::names::function;
use crate::owner;
use crate::pending::{self, Pending, Waiter};
use crate::processes::WorkerProcess;
use crate::resolver;
use crate::resolving::{WAIT_SLICE, Waiting};
use crate::start::{Start, adopt};
use crate::state::LaneStatistics;
use crate::surroundings;
use crate::worker;

/// How long a caller that asks for the workers waits for the first one. A zygote that has to import
/// a main module first may take longer.
const FORK_BOUND: Duration = Duration::from_secs(10);

/// One queue of calls and its share of the workers.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct Lane {
    lane: Arc<offloop::Lane>,
    start: Start,
    /// Which of the program's identities its workers have; 0 before its first call.
    identity: AtomicU32,
    home: Home,
    waits: bool,
    unresolved: Arc<Unresolved>,
    /// What its initializer needs; workers that know it may start for as long as the lane lives.
    _definitions: Vec<Arc<offloop::Definition>>,
}

#[pymethods]
impl Lane {
    #[new]
    #[pyo3(signature = (*, describe, inherited, definitions, initializes, workers_max,
                        tasks_per_worker_max, queue_tasks_max, queue_bytes_max, queue_policy, grace,
                        start_timeout))]
    #[expect(
        clippy::too_many_arguments,
        reason = "keywords, from one caller in Python"
    )]
    fn new(
        py: Python<'_>,
        describe: Py<PyAny>,
        inherited: Vec<i32>,
        definitions: &Bound<'_, PyTuple>,
        initializes: bool,
        workers_max: u32,
        tasks_per_worker_max: Option<u32>,
        queue_tasks_max: Option<u32>,
        queue_bytes_max: Option<u64>,
        queue_policy: &Bound<'_, PyAny>,
        grace: f64,
        start_timeout: f64,
    ) -> PyResult<Self> {
        let home = home()?;
        let start = Start {
            describe,
            inherited: Arc::new(inherited.into_iter().map(adopt).collect()),
            tasks_per_worker_max,
            start_timeout: calls::duration("start_timeout", start_timeout)?,
            initializes,
        };
        surroundings::identity_number(&home);
        let policy = policy(queue_policy)?;
        let config = LaneConfig {
            workers_max,
            queue_tasks_max,
            queue_bytes_max,
            policy,
            grace: calls::duration("grace", grace)?,
        };
        let lane = home
            .runtime
            .open_lane(start.fleet(py, &home)?, config)
            .map_err(|error| not_opened(&error))?;
        Ok(Self {
            lane: Arc::new(lane),
            start,
            identity: AtomicU32::new(0),
            home,
            waits: policy == QueuePolicy::Wait,
            unresolved: Arc::default(),
            _definitions: definitions::from_tuple(definitions)?,
        })
    }

    /// Submits a call for a `concurrent.futures.Future`; returns its token, or the exception of an
    /// argument that cannot be pickled, which belongs to the future.
    #[pyo3(signature = (future, callable, arguments, keywords, timeout, run_timeout, retries,
                        carried=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "positional, from one caller in Python"
    )]
    fn submit(
        &self,
        py: Python<'_>,
        future: Py<PyAny>,
        callable: &Bound<'_, PyAny>,
        arguments: &Bound<'_, PyTuple>,
        keywords: Option<&Bound<'_, PyDict>>,
        timeout: Option<f64>,
        run_timeout: Option<f64>,
        retries: u32,
        carried: Option<Bound<'_, PyDict>>,
    ) -> PyResult<Submitted> {
        forsaking::stay();
        self.check_process()?;
        check_not_importing()?;
        let known = look_up(py, callable, Wanted::Value)?;
        let options = calls::options(timeout, run_timeout, retries)?;
        let surroundings = self.look_around(py)?;
        let parts = Parts::of(arguments, keywords, carried);
        let encoded = match calls::encode(py, &self.home, callable, known, parts) {
            Ok(encoded) => encoded,
            Err(error) if is_refusal(py, &error)? => return Err(error),
            Err(error) => return Ok(Submitted::Failed(error.into_value(py).into_any())),
        };
        let EncodedCall {
            mut call,
            statistics,
        } = encoded;
        let owner = owner::current(py, &self.home.runtime)?;
        resolver::ensure(&self.home.runtime)?;
        let token = pending::insert(Pending {
            waiter: Waiter::Concurrent(future),
            statistics,
            unresolved: Some(Arc::clone(&self.unresolved)),
            task: TaskAddress::default(),
            owner: None,
        });
        call.token = token;
        call.surroundings = surroundings;
        call.any_thread = true;
        call.owner = owner.as_ref().map_or(0, |owner| owner.get().index());
        let may_wait = self.waits && owner.is_none();
        let unresolved = Some(&*self.unresolved);
        if let Err(error) = self.submit_call(py, call, options, may_wait, unresolved) {
            drop(pending::take(token));
            return Err(error);
        }
        Ok(Submitted::Token(token))
    }

    /// Submits a call from a coroutine: (asyncio future, token).
    #[pyo3(signature = (callable, arguments, keywords, timeout, run_timeout, retries,
                        carried=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "positional, from one caller in Python"
    )]
    fn start<'py>(
        &self,
        py: Python<'py>,
        callable: &Bound<'_, PyAny>,
        arguments: &Bound<'_, PyTuple>,
        keywords: Option<&Bound<'_, PyDict>>,
        timeout: Option<f64>,
        run_timeout: Option<f64>,
        retries: u32,
        carried: Option<Bound<'_, PyDict>>,
    ) -> PyResult<(Bound<'py, PyAny>, u64)> {
        self.check_process()?;
        check_not_importing()?;
        let known = look_up(py, callable, Wanted::Value)?;
        let owner = owner::current(py, &self.home.runtime)?
            .ok_or_else(|| PyRuntimeError::new_err("no running event loop"))?;
        let options = calls::options(timeout, run_timeout, retries)?;
        let surroundings = self.look_around(py)?;
        let parts = Parts::of(arguments, keywords, carried);
        let EncodedCall {
            mut call,
            statistics,
        } = calls::encode(py, &self.home, callable, known, parts)?;
        let event_loop = owner.get().event_loop(py);
        let future = event_loop.call_method0(pyo3::intern!(py, "create_future"))?;
        let token = pending::insert(Pending {
            waiter: Waiter::Asyncio(future.clone().unbind()),
            statistics,
            unresolved: None,
            task: TaskAddress::default(),
            owner: Some(owner.get().index()),
        });
        call.token = token;
        call.surroundings = surroundings;
        call.owner = owner.get().index();
        if let Err(error) = self.submit_call(py, call, options, false, None) {
            drop(pending::take(token));
            return Err(error);
        }
        Ok((future, token))
    }

    /// Submits a call from a coroutine, whose items are wanted one by one.
    #[pyo3(signature = (callable, arguments, keywords, timeout, run_timeout, retries,
                        carried=None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "positional, from one caller in Python"
    )]
    fn stream(
        &self,
        py: Python<'_>,
        callable: &Bound<'_, PyAny>,
        arguments: &Bound<'_, PyTuple>,
        keywords: Option<&Bound<'_, PyDict>>,
        timeout: Option<f64>,
        run_timeout: Option<f64>,
        retries: u32,
        carried: Option<Bound<'_, PyDict>>,
    ) -> PyResult<Arrivals> {
        self.check_process()?;
        check_not_importing()?;
        let known = look_up(py, callable, Wanted::Items)?;
        let owner = owner::current(py, &self.home.runtime)?.ok_or_else(|| {
            PyRuntimeError::new_err(
                "no running event loop: a stream is iterated in a coroutine, with `async for`",
            )
        })?;
        let options = calls::options(timeout, run_timeout, retries)?;
        let surroundings = self.look_around(py)?;
        let parts = Parts::of(arguments, keywords, carried);
        let EncodedCall {
            mut call,
            statistics,
        } = calls::encode(py, &self.home, callable, known, parts)?;
        let incoming = Arc::new(Incoming::default());
        let token = pending::insert(Pending {
            waiter: Waiter::Stream(Arc::clone(&incoming), Arc::clone(&self.lane)),
            statistics,
            unresolved: None,
            task: TaskAddress::default(),
            owner: Some(owner.get().index()),
        });
        call.token = token;
        call.streams = true;
        call.surroundings = surroundings;
        call.owner = owner.get().index();
        if let Err(error) = self.submit_call(py, call, options, false, None) {
            drop(pending::take(token));
            return Err(error);
        }
        let lane = Arc::clone(&self.lane);
        let runtime = self.home.runtime.clone();
        let owner = owner.get().index();
        Ok(Arrivals::new(incoming, lane, runtime, owner, token))
    }

    /// Why no worker can be started; None while they can.
    fn broken(&self) -> Option<String> {
        self.lane.broken().map(|fault| fault.to_string())
    }

    /// Whether a call would not have to wait for room now.
    fn has_room(&self) -> bool {
        self.lane.has_room()
    }

    /// A future that is resolved when the queue may have room; for a coroutine that found it full.
    fn room<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.check_process()?;
        let owner = owner::current(py, &self.home.runtime)?
            .ok_or_else(|| PyRuntimeError::new_err("no running event loop"))?;
        let event_loop = owner.get().event_loop(py);
        let future = event_loop.call_method0(pyo3::intern!(py, "create_future"))?;
        let token = pending::insert(Pending {
            waiter: Waiter::Asyncio(future.clone().unbind()),
            statistics: None,
            unresolved: None,
            task: TaskAddress::default(),
            owner: Some(owner.get().index()),
        });
        self.lane.notify_room(owner.get().index(), token);
        Ok(future)
    }

    /// Stops the call of `token`: its asyncio future is exchanged for the returned one, which is
    /// done when the call has really stopped. `None` when it is over already.
    fn stop<'py>(&self, py: Python<'py>, token: u64) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.check_process()?;
        let owner = owner::current(py, &self.home.runtime)?
            .ok_or_else(|| PyRuntimeError::new_err("no running event loop"))?;
        let event_loop = owner.get().event_loop(py);
        let stopped = event_loop.call_method0(pyo3::intern!(py, "create_future"))?;
        let replacement = stopped.clone().unbind();
        let replaced = pending::update(token, |pending| {
            (
                std::mem::replace(&mut pending.waiter, Waiter::Asyncio(replacement)),
                pending.task,
            )
        });
        let Some((_replaced, task)) = replaced else {
            return Ok(None);
        };
        self.lane.cancel(task);
        Ok(Some(stopped))
    }

    /// Stops the call of `token`, without waiting for it.
    fn cancel(&self, token: u64) -> bool {
        pending::update(token, |pending| pending.task).is_some_and(|task| self.lane.cancel(task))
    }

    /// Whether a worker has started the call of `token`.
    fn is_running(&self, token: u64) -> bool {
        pending::update(token, |pending| pending.task)
            .is_some_and(|task| self.lane.is_running(task))
    }

    /// Takes no more calls; `how` says what becomes of those that were taken.
    fn close(&self, how: &str) -> PyResult<()> {
        let how = match how {
            "drain" => Close::Drain,
            "cancel_queued" => Close::CancelQueued,
            "stop" => Close::Stop,
            "terminate" => Close::Terminate,
            "kill" => Close::Kill,
            other => {
                return Err(PyValueError::new_err(format!(
                    "no way to close is {other:?}"
                )));
            }
        };
        self.lane.close(how);
        Ok(())
    }

    /// Waits until every call is over, every future resolved and its callbacks run; in a callback,
    /// until every future is resolved. Signals are looked at meanwhile.
    fn wait_drained(&self, py: Python<'_>) -> PyResult<()> {
        let runtime = &self.home.runtime;
        if runtime.is_forked() || self.is_drained() {
            return Ok(());
        }
        let waiting = Waiting::begin(runtime);
        while !py.detach(|| self.lane.wait_drained(waiting.slice())) {
            waiting.go_on(py, &self.unresolved)?;
        }
        // What a loop has not fetched (this one cannot, while it waits here) goes to the resolver.
        resolver::ensure(runtime)?;
        runtime.hand_over();
        while !py.detach(|| {
            self.unresolved
                .wait_none(waiting.is_inside(), waiting.slice())
        }) {
            waiting.go_on(py, &self.unresolved)?;
        }
        Ok(())
    }

    /// Whether no call is queued or running, and no callback either.
    fn is_drained(&self) -> bool {
        self.lane.wait_drained(Duration::ZERO) && self.unresolved.is_none()
    }

    /// The workers that serve this lane, and perhaps other lanes, by process id.
    ///
    /// While calls wait for the first worker to be forked, this waits for it, too.
    fn processes(&self, py: Python<'_>) -> PyResult<BTreeMap<i32, WorkerProcess>> {
        let begun = Instant::now();
        while !py.detach(|| self.lane.wait_worker(WAIT_SLICE)) && begun.elapsed() < FORK_BOUND {
            py.check_signals()?;
        }
        let workers = self.lane.workers()?;
        let with_key = |(pid, pidfd)| (pid, WorkerProcess::new(pid, pidfd));
        Ok(workers.into_iter().map(with_key).collect())
    }

    /// What the lane has done; None in a fork.
    fn statistics(&self) -> Option<LaneStatistics> {
        self.lane.statistics().map(LaneStatistics::from)
    }
}

fn check_not_importing() -> PyResult<()> {
    if worker::is_importing() {
        return Err(PyRuntimeError::new_err(
            "a module uses a pool as it is imported, and a worker is importing it now: its pool's \
             workers would import it again, without end. Use the pool in a function, or under \
             `if __name__ == \"__main__\"`",
        ));
    }
    Ok(())
}

/// What a full queue does, by its name.
fn policy(name: &Bound<'_, PyAny>) -> PyResult<QueuePolicy> {
    let text = name.extract::<&str>();
    match text {
        Ok("wait") => return Ok(QueuePolicy::Wait),
        Ok("refuse") => return Ok(QueuePolicy::Refuse),
        Ok("drop_oldest") => return Ok(QueuePolicy::DropOldest),
        _ => {}
    }
    let shown = name.repr()?;
    let message = format!("queue_policy must be 'wait', 'refuse' or 'drop_oldest', not {shown}");
    Err(match text {
        Ok(_) => PyValueError::new_err(message),
        Err(_) => PyTypeError::new_err(message),
    })
}

/// What workers know a callable as. A callable that they do not know is refused if they cannot run
/// it.
fn look_up(
    py: Python<'_>,
    callable: &Bound<'_, PyAny>,
    wanted: Wanted,
) -> PyResult<Option<KnownFunction>> {
    let known = functions::known(py, callable)?;
    if known.as_ref().is_none_or(|known| known.only_streams) {
        coroutines::refuse(callable, wanted)?;
    }
    Ok(known)
}

/// What became of a submission.
#[derive(IntoPyObject)]
pub(crate) enum Submitted {
    /// It was taken under this token.
    Token(u64),
    /// Its arguments raised this while they were pickled.
    Failed(Py<PyAny>),
}

/// Whether an error of the encoding is the caller's to get at once: shared memory is full, or it
/// is no error of the arguments at all (Ctrl-C).
fn is_refusal(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    let full = function(py, "_offloop_worker.exceptions", "QueueFull")?;
    Ok(error.is_instance(py, &full) || !error.is_instance_of::<PyException>(py))
}

impl Lane {
    /// Refuses to go on in a forked child, before anything is touched: a lock of the parent's
    /// threads may be held for ever here.
    fn check_process(&self) -> PyResult<()> {
        if self.home.runtime.is_forked() {
            let text = "this pool belongs to the process that this one was forked from: make a \
                        new pool in this process";
            return Err(PyRuntimeError::new_err(text));
        }
        Ok(())
    }

    /// The changes of surroundings that a worker must make before the next call. At the first call,
    /// and when the program has changed its users or groups, its start-up is described anew; if it
    /// differs from that of the lane's workers, the lane moves to new ones.
    fn look_around(&self, py: Python<'_>) -> PyResult<Option<Arc<Definition>>> {
        let identity = surroundings::identity_number(&self.home);
        if identity != self.identity.load(Ordering::Relaxed) {
            let fleet = self.start.fleet(py, &self.home)?;
            self.lane.renew(fleet);
            self.identity.store(identity, Ordering::Relaxed);
        }
        surroundings::newest(py, &self.home)
    }

    fn submit_call(
        &self,
        py: Python<'_>,
        mut call: Call,
        options: CallOptions,
        may_wait: bool,
        unresolved: Option<&Unresolved>,
    ) -> PyResult<()> {
        let token = call.token;
        let mut waiting = None;
        loop {
            // Before it can be resolved, and not while this thread waits: a signal's handler may
            // close the pool then, and would wait for a call that was not taken yet.
            unresolved.inspect(|unresolved| unresolved.add());
            let submitted = self.lane.submit(call, options);
            if submitted.is_err() {
                unresolved.inspect(|unresolved| unresolved.set(false));
            }
            match submitted {
                Ok(task) => {
                    // The entry is gone already when another thread has resolved it.
                    pending::update(token, |pending| pending.task = task);
                    return Ok(());
                }
                Err(
                    SubmitError::Full { call: back, .. }
                    | SubmitError::FullBytes { call: back, .. },
                ) if may_wait => {
                    let waiting = waiting.get_or_insert_with(|| Waiting::begin(&self.home.runtime));
                    while !py.detach(|| self.lane.wait_room(waiting.slice())) {
                        waiting.go_on(py, &self.unresolved)?;
                    }
                    call = *back;
                }
                Err(error) => return Err(not_submitted(py, &error)),
            }
        }
    }
}
