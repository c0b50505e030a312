//! The watch of this process, turned on and off from Python.
//!
//! Loops look at the number of the *era*: it changes when the watch is turned on, changed, or
//! turned off, and in a forked child. A loop that finds another number joins the watch, or leaves
//! it (`event_loop/port/marks.rs`). So nothing has to know all loops.
//!
//! Shape:      `audience.rs` what the watchdog tells · `witness.rs` the thread that asks the
//!             interpreter · `fields.rs` a stall as Python gets it ·
//!             `heartbeat.rs` loops that are not ours.
//! Threads:    settings under the GIL; the era is read by loops, under the GIL too.

mod audience;
mod fields;
pub(crate) mod heartbeat;
mod witness;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use offloop::watch::{Line, Pulse, Subject, Watchdog};
use offloop_core::event_loop::StallLimits;
use offloop_sys::fork;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;

use crate::home::home;
use crate::stacks;
use audience::Listeners;
pub(crate) use fields::StallFields;
use witness::Witness;

/// The era before the watch was turned on for the first time.
pub(crate) const NO_ERA: u64 = 0;

/// Which era it is.
static ERA: AtomicU64 = AtomicU64::new(NO_ERA);

static WATCH: Mutex<Option<Watch>> = Mutex::new(None);

/// How long the end of the watch waits for its threads, and how often it looks.
const END_BOUND: Duration = Duration::from_secs(1);
const END_SLICE: Duration = Duration::from_millis(1);

/// What is on.
struct Watch {
    settings: Settings,
    running: Running,
    /// By their numbers.
    loops: HashMap<u64, Py<PyWeakrefReference>>,
    last_loop: u64,
}

struct Running {
    watchdog: Watchdog,
    witness: Witness,
}

struct Settings {
    limits: StallLimits,
    words: bool,
    /// `offloop._watch.hearing.Hearing`.
    hearing: Py<PyAny>,
}

/// What a loop gets that joins.
pub(crate) struct Joined {
    pub(crate) line: Line,
    pub(crate) threshold_ns: u64,
}

fn watch() -> MutexGuard<'static, Option<Watch>> {
    WATCH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which era it is.
#[inline]
pub(crate) fn era() -> u64 {
    // Relaxed: whoever needs what came with it takes the lock.
    ERA.load(Ordering::Relaxed)
}

fn next_era() {
    ERA.fetch_add(1, Ordering::Relaxed);
}

/// Turns the watch on, or changes it: seconds, stalls that are told within a minute, whether they
/// are told on standard error, and what hears of them in Python.
#[pyfunction]
pub(crate) fn watch_on(
    py: Python<'_>,
    threshold_seconds: f64,
    stalls_max: usize,
    words: bool,
    hearing: Py<PyAny>,
) -> PyResult<()> {
    fork::watch();
    let settings = Settings {
        limits: StallLimits {
            threshold: Duration::from_secs_f64(threshold_seconds),
            stalls_max,
            ..StallLimits::default()
        },
        words,
        hearing,
    };
    let old = watch().take();
    let fresh = Watch::start(py, settings)?;
    *watch() = Some(fresh);
    next_era();
    end(py, old);
    Ok(())
}

/// Turns the watch off. Reports that are under way end first, or are left after a second.
#[pyfunction]
pub(crate) fn watch_off(py: Python<'_>) {
    let old = watch().take();
    next_era();
    end(py, old);
}

/// The watch goes on in a forked child, whose threads are not there.
#[pyfunction]
pub(crate) fn watch_after_fork(py: Python<'_>) -> PyResult<()> {
    let old = watch().take();
    let Some(Watch {
        settings, running, ..
    }) = old
    else {
        return Ok(());
    };
    // What belongs to threads of the parent is left alone.
    std::mem::forget(running);
    let fresh = Watch::start(py, settings)?;
    *watch() = Some(fresh);
    next_era();
    Ok(())
}

fn end(py: Python<'_>, watch: Option<Watch>) {
    let Some(Watch { running, .. }) = watch else {
        return;
    };
    let Running { watchdog, witness } = running;
    py.detach(|| {
        let until = Instant::now() + END_BOUND;
        // The witness hears what the watchdog says at its end.
        watchdog
            .stop()
            .iter()
            .for_each(|thread| wait(thread, until));
        witness.stop();
        wait(&witness.into_thread(), until);
    });
}

fn wait(thread: &JoinHandle<()>, until: Instant) {
    while !thread.is_finished() && Instant::now() < until {
        thread::park_timeout(END_SLICE);
    }
}

impl Watch {
    fn start(py: Python<'_>, settings: Settings) -> PyResult<Self> {
        let witness = Witness::start(settings.hearing.clone_ref(py))?;
        let listeners = Listeners::new(witness.door(), settings.words, home()?.runtime);
        let reader = stacks::shared_reader(py);
        let watchdog = Watchdog::start(settings.limits, reader, Box::new(listeners))?;
        Ok(Self {
            settings,
            running: Running { watchdog, witness },
            loops: HashMap::new(),
            last_loop: 0,
        })
    }
}

/// A loop joins the watch that is on, if one is. Returns the era, too.
pub(crate) fn join(
    event_loop: &Bound<'_, PyAny>,
    pulse: &Arc<Pulse>,
    tells_callbacks: bool,
) -> PyResult<(u64, Option<Joined>)> {
    let era = era();
    let reference = PyWeakrefReference::new(event_loop)?.unbind();
    let thread_name = thread_name(event_loop.py())?;
    let mut dead = Vec::new();
    let mut watch = watch();
    let joined = watch.as_mut().map(|watch| {
        watch.last_loop += 1;
        let number = watch.last_loop;
        dead.extend(watch.loops.insert(number, reference));
        let subject = Subject {
            number,
            thread_name,
            tells_callbacks,
        };
        Joined {
            line: watch.running.watchdog.watch(pulse, subject),
            threshold_ns: u64::try_from(watch.settings.limits.threshold.as_nanos())
                .unwrap_or(u64::MAX),
        }
    });
    drop(watch);
    drop(dead);
    Ok((era, joined))
}

/// The loop of this number, if it still exists.
fn loop_of(py: Python<'_>, number: u64) -> Option<Bound<'_, PyAny>> {
    let watch = watch();
    let reference = watch.as_ref()?.loops.get(&number)?.clone_ref(py);
    drop(watch);
    reference.into_bound(py).upgrade()
}

/// The name of the thread that calls, if Python knows it.
fn thread_name(py: Python<'_>) -> PyResult<Arc<str>> {
    let threading = py.import("threading")?;
    let own: u64 = threading.call_method0("get_ident")?.extract()?;
    for thread in threading.call_method0("enumerate")?.try_iter()? {
        let thread = thread?;
        if thread.getattr("ident")?.extract::<Option<u64>>()? == Some(own) {
            return Ok(thread.getattr("name")?.extract::<String>()?.into());
        }
    }
    Ok("".into())
}
