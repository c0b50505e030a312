//! The program as its views see it, and their switch for Python.
//!
//! Nearly all is known without the interpreter. What is not is asked of `offloop._views.reading`,
//! on the reader's thread, which waits for the GIL alone.
//!
//! Threads:    the switch under the GIL; the rest on the engine's thread, or on the reader's.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use offloop::Runtime;
use offloop_sys::fork;
use offloop_views::document::{Function, Lag, LoopStatistics, Place, Task};
use offloop_views::program::{Identity, LoopRead, Program, Reading, WatchSeen};
use offloop_views::{PageOptions, Views};
use pyo3::prelude::*;

use crate::forsaking;
use crate::functions;
use crate::home::{existing_home, home};
use crate::pending;
use crate::watch;

/// What Python says of the program.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct IdentityFields {
    python: String,
    offloop: String,
    program: String,
}

/// How long the GIL is left to other threads between two slices of a reading.
const BETWEEN_SLICES: Duration = Duration::from_micros(500);

/// What is on.
struct On {
    views: Views,
    program: Arc<Shown>,
    /// The file of the private socket, if it listens.
    path: Option<PathBuf>,
    generation: u32,
}

static ON: Mutex<Option<On>> = Mutex::new(None);

fn on() -> MutexGuard<'static, Option<On>> {
    ON.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program, and what reads it.
struct Shown {
    identity: Identity,
    /// `offloop._views.reading.Reading`.
    reading: Py<PyAny>,
}

impl Shown {
    /// Attaches and asks; the words of what goes wrong.
    fn attached<R>(&self, ask: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<R>) -> Result<R, String> {
        forsaking::stay();
        let answer = Python::try_attach(|py| {
            let reading = self.reading.bind(py);
            ask(reading).map_err(|error| error.to_string())
        });
        answer.unwrap_or_else(|| Err("the interpreter ends".to_owned()))
    }
}

impl Program for Shown {
    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    fn runtime(&self) -> Option<Runtime> {
        existing_home().map(|home| home.runtime)
    }

    fn watch(&self) -> WatchSeen {
        watch::seen()
    }

    fn functions(&self) -> Vec<Function> {
        let rows = functions::function_statistics().into_iter();
        rows.map(|row| Function {
            name: row.name,
            calls: row.calls,
            run_seconds: row.run_seconds,
            stopped: row.stopped,
            crashes: row.crashes,
        })
        .collect()
    }

    fn function_of(&self, token: u64) -> Option<String> {
        let name = pending::update(token, |pending| {
            let statistics = pending.statistics.as_ref();
            statistics.map(|statistics| statistics.name().to_string())
        });
        name.flatten()
    }

    fn read(&self) -> Result<Reading, String> {
        let slices = self.attached(|reading| Ok(reading.call_method0("slices")?.unbind()))?;
        let mut tasks: Vec<Task> = Vec::new();
        loop {
            let (more, rest) = self.attached(|reading| {
                let slice = slices.bind(reading.py()).call_method0("__next__")?;
                slice.extract::<(Vec<TaskFields>, Option<ReadFields>)>()
            })?;
            tasks.extend(more.into_iter().map(Into::into));
            if let Some(rest) = rest {
                return Ok(rest.with_tasks(tasks));
            }
            // What waits for the GIL would not get it from a thread that takes it again at once.
            std::thread::sleep(BETWEEN_SLICES);
        }
    }

    fn cancel_task(&self, id: &str, name: &str) -> Result<(), String> {
        let refusal = self.attached(|reading| {
            let refusal = reading.call_method1("cancel", (id, name))?;
            refusal.extract::<Option<String>>()
        })?;
        refusal.map_or(Ok(()), Err)
    }
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct ReadFields {
    program: String,
    loops: Vec<LoopFields>,
    total: u64,
    cost_seconds: f64,
}

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct LoopFields {
    number: u64,
    kind: String,
    thread: String,
    native_id: u32,
    is_running: bool,
    statistics: Option<StatisticsFields>,
}

/// `offloop.LoopStatistics`.
#[derive(FromPyObject)]
struct StatisticsFields {
    utilisation: f64,
    utilisation_1s: f64,
    utilisation_10s: f64,
    busy_seconds: f64,
    running_seconds: f64,
    rounds: u64,
    callbacks: u64,
    ready: u64,
    timers: u64,
    connections: u64,
    bytes_received: u64,
    bytes_sent: u64,
    lag: LagFields,
}

/// `offloop.LagHistogram`.
#[derive(FromPyObject)]
struct LagFields {
    count: u64,
    total: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
    buckets: Vec<(f64, u64)>,
}

/// File, line, function.
type PlaceFields = (String, Option<i32>, Option<String>);

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct TaskFields {
    id: String,
    name: String,
    coroutine: String,
    event_loop: Option<u64>,
    state: String,
    stack: Vec<PlaceFields>,
    made: Option<PlaceFields>,
    awaited_by: Vec<String>,
}

impl ReadFields {
    fn with_tasks(self, tasks: Vec<Task>) -> Reading {
        Reading {
            program: self.program,
            loops: self.loops.into_iter().map(Into::into).collect(),
            tasks,
            total: self.total,
            cost_seconds: self.cost_seconds,
        }
    }
}

impl From<LoopFields> for LoopRead {
    fn from(read: LoopFields) -> Self {
        Self {
            number: read.number,
            kind: read.kind,
            thread: read.thread,
            native_id: read.native_id,
            is_running: read.is_running,
            statistics: read.statistics.map(Into::into),
        }
    }
}

impl From<StatisticsFields> for LoopStatistics {
    fn from(read: StatisticsFields) -> Self {
        let lag = read.lag;
        Self {
            age_seconds: 0.0,
            utilisation: read.utilisation,
            utilisation_1s: read.utilisation_1s,
            utilisation_10s: read.utilisation_10s,
            busy_seconds: read.busy_seconds,
            running_seconds: read.running_seconds,
            rounds: read.rounds,
            callbacks: read.callbacks,
            ready: read.ready,
            timers: read.timers,
            connections: read.connections,
            bytes_received: read.bytes_received,
            bytes_sent: read.bytes_sent,
            lag: Lag {
                count: lag.count,
                total_seconds: lag.total,
                max_seconds: lag.max,
                p50_seconds: lag.p50,
                p90_seconds: lag.p90,
                p99_seconds: lag.p99,
                buckets: Lag::octaves(&lag.buckets, lag.max),
            },
        }
    }
}

impl From<TaskFields> for Task {
    fn from(read: TaskFields) -> Self {
        Self {
            id: read.id,
            name: read.name,
            coroutine: read.coroutine,
            event_loop: read.event_loop,
            state: read.state,
            stack: read.stack.into_iter().map(place).collect(),
            made: read.made.map(place),
            awaited_by: read.awaited_by,
        }
    }
}

fn place((file, line, function): PlaceFields) -> Place {
    Place {
        file,
        line,
        function: function.unwrap_or_default(),
        source: None,
    }
}

// The switch.

/// The views of this process, started if there are none.
fn begun(on: &mut Option<On>, program: Arc<Shown>) -> PyResult<&mut On> {
    if on
        .as_ref()
        .is_some_and(|on| on.generation != fork::generation())
    {
        // Its threads are the parent's.
        std::mem::forget(on.take());
    }
    if on.is_none() {
        fork::watch();
        let shown: Arc<dyn Program> = Arc::<Shown>::clone(&program);
        *on = Some(On {
            views: Views::start(shown)?,
            program,
            path: None,
            generation: fork::generation(),
        });
    }
    Ok(on.as_mut().expect("made just now"))
}

fn shown(identity: IdentityFields, reading: Py<PyAny>) -> Arc<Shown> {
    Arc::new(Shown {
        identity: Identity {
            python: identity.python,
            offloop: identity.offloop,
            program: identity.program,
        },
        reading,
    })
}

/// Listens on the private socket, unless it does; its path.
#[pyfunction]
fn views_open_socket(identity: IdentityFields, reading: Py<PyAny>) -> PyResult<OsString> {
    drop(inherited().take());
    Ok(open_socket(shown(identity, reading))?.into_os_string())
}

/// Listens no more on the private socket.
#[pyfunction]
fn views_close_socket() {
    drop(inherited().take());
    if let Some(on) = on().as_mut() {
        on.views.close_socket();
        on.path = None;
    }
}

/// Serves the live page, in place of the one that is served; its address.
#[pyfunction]
fn page_open(
    identity: IdentityFields,
    reading: Py<PyAny>,
    host: &str,
    port: u16,
    actions: bool,
) -> PyResult<String> {
    let mut guard = on();
    let on = begun(&mut guard, shown(identity, reading))?;
    let runtime = home()?.runtime;
    let options = PageOptions {
        host: host.parse::<IpAddr>()?,
        port,
        actions,
    };
    Ok(on.views.open_page(&options, Some(&runtime))?)
}

/// Serves the live page no more.
#[pyfunction]
fn page_close() {
    if let Some(on) = on().as_ref() {
        on.views.close_page();
    }
}

/// Ends all views of this process.
#[pyfunction]
fn views_stop(py: Python<'_>) {
    drop(inherited().take());
    let ended = on().take();
    match ended {
        Some(on) if on.generation == fork::generation() => py.detach(|| on.views.stop()),
        // Its threads are the parent's.
        other => std::mem::forget(other),
    }
}

/// What a forked child opens a socket for once a loop runs there, if its parent had one.
static INHERITED: Mutex<Option<Arc<Shown>>> = Mutex::new(None);

fn inherited() -> MutexGuard<'static, Option<Arc<Shown>>> {
    INHERITED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A forked child: the threads of its parent's views are not there. Whether it is to have a socket
/// once a loop runs.
#[pyfunction]
fn views_after_fork() -> bool {
    let Some(before) = on().take() else {
        return false;
    };
    let has_socket = before.path.is_some();
    if has_socket {
        *inherited() = Some(Arc::clone(&before.program));
        watch::call_first(follow_fork);
    }
    std::mem::forget(before);
    has_socket
}

/// A loop runs in a forked child: it has a socket of its own, if its parent had one.
#[pyfunction(name = "views_follow_fork")]
pub(crate) fn follow_fork(py: Python<'_>) {
    let Some(program) = inherited().take() else {
        return;
    };
    if let Err(error) = open_socket(program) {
        // The loop goes on.
        error.write_unraisable(py, None);
    }
}

fn open_socket(program: Arc<Shown>) -> PyResult<PathBuf> {
    let mut guard = on();
    let on = begun(&mut guard, program)?;
    let path = on.views.open_socket()?;
    on.path = Some(path.clone());
    Ok(path)
}

/// The file of the socket; `None` while there is none.
#[pyfunction]
fn views_path() -> Option<OsString> {
    let on = on();
    let on = on
        .as_ref()
        .filter(|on| on.generation == fork::generation())?;
    on.path.clone().map(PathBuf::into_os_string)
}

pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(views_open_socket, module)?)?;
    module.add_function(wrap_pyfunction!(views_close_socket, module)?)?;
    module.add_function(wrap_pyfunction!(page_open, module)?)?;
    module.add_function(wrap_pyfunction!(page_close, module)?)?;
    module.add_function(wrap_pyfunction!(views_stop, module)?)?;
    module.add_function(wrap_pyfunction!(views_path, module)?)?;
    module.add_function(wrap_pyfunction!(follow_fork, module)?)?;
    module.add_function(wrap_pyfunction!(views_after_fork, module)?)
}
