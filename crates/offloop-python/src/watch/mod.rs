//! The watch of this process, turned on and off from Python.
//!
//! Loops look at the number of the *era*: it changes when the watch is turned on, changed, or
//! turned off, and in a forked child. A loop that finds another number joins the watch, or leaves
//! it (`event_loop/port/marks.rs`). So nothing has to know all loops.
//!
//! Shape:      `witness.rs` what the interpreter is asked and told · `fields.rs` a stall as Python
//!             gets it · `loops.rs` the loops that have joined · `heartbeat.rs` loops that are not
//!             ours, `selecting.rs` those with a selector · `blocked.rs` for how long a loop was
//!             blocked.
//! Threads:    settings under the GIL; the era is read by loops, under the GIL too.

pub(crate) mod blocked;
mod fields;
pub(crate) mod frames;
pub(crate) mod heartbeat;
pub(crate) mod loops;
pub(crate) mod selecting;
mod witness;

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use offloop::loads::LoopGauge;
use offloop::watch::{Line, Pulse, Ranking, Subject, WatchOptions, long_slices};
use offloop_core::event_loop::StallLimits;
use offloop_core::watch::{Places, Style};
use offloop_sys::clock::monotonic_ns;
use offloop_sys::fork;
use offloop_views::program::WatchSeen;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::types::PyWeakrefReference;

use crate::home::home;
use crate::loads::{kind_of, loads};
use crate::stacks;
pub(crate) use fields::StallFields;
use fields::{BlockedFields, RankedFields};
use witness::Witness;

/// Columns of what is said, where standard error is no terminal or is wider.
const COLUMNS_MAX: usize = 100;

/// The era before the watch was turned on for the first time.
pub(crate) const NO_ERA: u64 = 0;

/// Which era it is.
static ERA: AtomicU64 = AtomicU64::new(NO_ERA);

static WATCH: Mutex<Option<Watch>> = Mutex::new(None);

/// What is on.
struct Watch {
    running: offloop::watch::Watch,
    /// `offloop._watch.hearing.Hearing`.
    hearing: Py<PyAny>,
    ranking: Ranking,
}

/// A watch that goes on in a forked child once a loop runs there. Before that the child starts no
/// thread and opens nothing: a daemon closes all descriptors first, and another one calls `exec`.
struct Inherited {
    options: WatchOptions,
    hearing: Py<PyAny>,
}

static INHERITED: Mutex<Option<Inherited>> = Mutex::new(None);

/// What else goes on in a forked child once a loop runs there.
static BESIDES: OnceLock<fn(Python<'_>)> = OnceLock::new();

fn inherited() -> MutexGuard<'static, Option<Inherited>> {
    INHERITED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a loop gets that joins.
pub(crate) struct Joined {
    pub(crate) line: Line,
    pub(crate) thread_name: Arc<str>,
    pub(crate) threshold_ns: u64,
}

/// What the last watch counted, while none is on.
static LAST_RANKING: Mutex<Option<Ranking>> = Mutex::new(None);

fn last_ranking() -> MutexGuard<'static, Option<Ranking>> {
    LAST_RANKING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn watch() -> MutexGuard<'static, Option<Watch>> {
    WATCH.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which era it is.
#[inline]
pub(crate) fn era() -> u64 {
    // Relaxed: a loop that joins takes the lock.
    ERA.load(Ordering::Relaxed)
}

/// Another watch is on from now on, or none. Returns the one before.
fn exchange(fresh: Option<Watch>) -> Option<Watch> {
    let mut watch = watch();
    ERA.fetch_add(1, Ordering::Relaxed);
    std::mem::replace(&mut *watch, fresh)
}

/// How the watch is to be, from Python.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Settings {
    threshold_seconds: f64,
    stalls_per_minute: usize,
    /// Whether colours are shown, and nothing but ASCII; `None` if nothing is said.
    style: Option<(bool, bool)>,
    standard: Vec<String>,
    offloop: Vec<String>,
    own: Vec<String>,
    own_packages: Vec<String>,
    shown_from: Option<String>,
    native: bool,
}

impl Settings {
    fn options(self) -> WatchOptions {
        let shared = |names: Vec<String>| names.into_iter().map(Arc::from).collect();
        WatchOptions {
            limits: StallLimits {
                threshold: Duration::from_secs_f64(self.threshold_seconds),
                stalls_max: self.stalls_per_minute,
                ..StallLimits::default()
            },
            style: self.style.map(|(colours, ascii)| Style {
                colours,
                columns: COLUMNS_MAX,
                ascii,
            }),
            places: Places {
                standard: shared(self.standard),
                offloop: shared(self.offloop),
                own: shared(self.own),
                own_packages: shared(self.own_packages),
                shown_from: self.shown_from.map(Arc::from),
                ..Places::default()
            },
            native: self.native,
        }
    }
}

/// Turns the watch on, or changes it; `hearing` hears of stalls. What was counted stays.
#[pyfunction]
pub(crate) fn watch_on(py: Python<'_>, settings: Settings, hearing: Py<PyAny>) -> PyResult<()> {
    fork::watch();
    drop(inherited().take());
    let options = settings.options();
    // One watchdog at a time says of a loop's pulse that it sleeps.
    end(py, exchange(None));
    let ranking = last_ranking().clone().unwrap_or_default();
    let fresh = Watch::start(py, options, hearing, ranking)?;
    drop(exchange(Some(fresh)));
    Ok(())
}

/// Turns the watch off. Reports that are under way end first, or are left after a second.
#[pyfunction]
pub(crate) fn watch_off(py: Python<'_>) {
    drop(inherited().take());
    end(py, exchange(None));
}

/// A forked child: the threads of its parent's watch are not there.
#[pyfunction]
pub(crate) fn watch_after_fork() {
    let Some(Watch {
        running,
        hearing,
        ranking,
    }) = exchange(None)
    else {
        return;
    };
    *inherited() = Some(Inherited {
        options: running.options().clone(),
        hearing,
    });
    // What belongs to threads of the parent is left alone.
    std::mem::forget((running, ranking, last_ranking().take()));
}

/// Has the next loop that runs call this first; each loop comes by at its next round.
pub(crate) fn call_first(follow: fn(Python<'_>)) {
    BESIDES.get_or_init(|| follow);
    // Relaxed: a loop that joins takes the lock.
    ERA.fetch_add(1, Ordering::Relaxed);
}

/// A loop runs in a forked child: what its parent had on goes on there.
fn follow_fork(py: Python<'_>) -> PyResult<()> {
    if let Some(follow) = BESIDES.get() {
        follow(py);
    }
    let Some(Inherited { options, hearing }) = inherited().take() else {
        return Ok(());
    };
    let fresh = Watch::start(py, options, hearing, Ranking::default())?;
    drop(exchange(Some(fresh)));
    Ok(())
}

fn end(py: Python<'_>, watch: Option<Watch>) {
    if let Some(Watch {
        running, ranking, ..
    }) = watch
    {
        py.detach(|| running.stop());
        // What still lasts counts as it was told last.
        ranking
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .settle_open();
        *last_ranking() = Some(ranking);
    }
}

/// Says something on standard error while the watch is on, and does not wait.
#[pyfunction]
pub(crate) fn watch_say(text: &str) {
    if let Some(watch) = watch().as_ref() {
        watch.running.say(text);
    }
}

/// What the watch that is on counts, or the last one has counted.
pub(crate) fn ranking() -> Option<Ranking> {
    let ranking = watch().as_ref().map(|watch| Arc::clone(&watch.ranking));
    ranking.or_else(|| last_ranking().clone())
}

/// How soon threads that were too busy are asked again.
const SETTLE_SLICE: Duration = Duration::from_millis(1);

/// Waits until all is told and heard that is over by now, for so many seconds at most. Whether that
/// was so: while the watch is off, it is.
#[pyfunction]
pub(crate) fn watch_settle(py: Python<'_>, seconds: f64) -> bool {
    let patience = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    py.detach(|| {
        let until = Instant::now() + patience;
        loop {
            let Some(settled) = watch().as_ref().map(|watch| watch.running.settle()) else {
                return true;
            };
            match settled.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(()) => return true,
                Err(RecvTimeoutError::Disconnected) if Instant::now() < until => {
                    thread::park_timeout(SETTLE_SLICE);
                }
                Err(_) => return false,
            }
        }
    })
}

/// The clock of all that is told: seconds of the monotonic one. A test may have put another one
/// into the place of Python's.
#[pyfunction]
pub(crate) fn watch_clock() -> f64 {
    Duration::from_nanos(monotonic_ns()).as_secs_f64()
}

/// How many callbacks and rounds took long so far, also those that were not told yet.
#[pyfunction]
pub(crate) fn watch_long() -> u64 {
    long_slices()
}

/// What hears of stalls, while the watch is on.
#[pyfunction]
pub(crate) fn watch_hearing(py: Python<'_>) -> Option<Py<PyAny>> {
    let on = watch().as_ref().map(|watch| watch.hearing.clone_ref(py));
    on.or_else(|| inherited().as_ref().map(|kept| kept.hearing.clone_ref(py)))
}

/// What blocked loops, the longest time in all first; and what there was no room for.
#[pyfunction]
pub(crate) fn watch_ranking() -> (Vec<RankedFields>, BlockedFields) {
    let Some(ranking) = ranking() else {
        return (Vec::new(), BlockedFields::default());
    };
    let culprits = ranking.lock().unwrap_or_else(PoisonError::into_inner);
    let ranked = culprits.rank().iter().map(RankedFields::of).collect();
    (ranked, BlockedFields::of(culprits.left_out()))
}

/// What the watch has found, without the interpreter; what it found last, while none is on.
pub(crate) fn seen() -> WatchSeen {
    let on = watch();
    let found = on.as_ref().map(|watch| {
        let threshold = watch.running.options().limits.threshold;
        let loops = watch.running.loops();
        (threshold.as_secs_f64(), loops, Arc::clone(&watch.ranking))
    });
    drop(on);
    let (threshold_seconds, loops, ranking) = match found {
        Some((threshold, loops, ranking)) => (Some(threshold), loops, Some(ranking)),
        None => (None, Vec::new(), last_ranking().clone()),
    };
    let mut seen = WatchSeen {
        threshold_seconds,
        loops,
        ..WatchSeen::default()
    };
    if let Some(ranking) = ranking {
        let culprits = ranking.lock().unwrap_or_else(PoisonError::into_inner);
        seen.ranked = culprits.rank();
        seen.left_out = culprits.left_out();
    }
    seen
}

impl Watch {
    fn start(
        py: Python<'_>,
        options: WatchOptions,
        hearing: Py<PyAny>,
        ranking: Ranking,
    ) -> PyResult<Self> {
        let witness = Box::new(Witness {
            hearing: hearing.clone_ref(py),
            end: watch_off,
            has_state: Cell::new(false),
        });
        let reader = stacks::shared_reader(py);
        let runtime = home()?.runtime;
        let kept = Arc::clone(&ranking);
        let running = offloop::watch::Watch::start(options, reader, runtime, witness, kept)?;
        Ok(Self {
            running,
            hearing,
            ranking,
        })
    }
}

/// The number of a loop, which it keeps.
pub(crate) fn number_of(event_loop: &Bound<'_, PyAny>) -> PyResult<u64> {
    loops::number_of(event_loop)
}

/// Where a loop publishes its load; `thread_name` is that of the calling thread, if it is known.
pub(crate) fn gauge_of(
    event_loop: &Bound<'_, PyAny>,
    thread_name: Option<Arc<str>>,
) -> PyResult<Arc<LoopGauge>> {
    let number = number_of(event_loop)?;
    let thread_name = match thread_name {
        Some(name) => name,
        None => name_of_thread(event_loop)?,
    };
    Ok(loads().join(number, kind_of(event_loop), thread_name))
}

/// A loop joins the watch that is on, if one is. Returns the era, too.
pub(crate) fn join(
    event_loop: &Bound<'_, PyAny>,
    pulse: &Arc<Pulse>,
    tells_callbacks: bool,
) -> PyResult<(u64, Option<Joined>)> {
    follow_fork(event_loop.py())?;
    let is_off = |watch: &Option<Watch>| watch.is_none().then(|| (era(), None));
    if let Some(left) = is_off(&watch()) {
        return Ok(left);
    }
    let thread_name = name_of_thread(event_loop)?;
    let subject = Subject {
        number: loops::number_of(event_loop)?,
        thread_name: Arc::clone(&thread_name),
        tells_callbacks,
    };
    // The era is that of this watch: both change under the lock.
    let watch = watch();
    let joined = watch.as_ref().map(|watch| {
        let threshold = watch.running.options().limits.threshold;
        Joined {
            line: watch.running.watch(pulse, subject),
            thread_name,
            threshold_ns: u64::try_from(threshold.as_nanos()).unwrap_or(u64::MAX),
        }
    });
    Ok((era(), joined))
}

/// The name of the thread of a loop, which calls. One that cannot be had is empty: a loop must not
/// fail for it. But Ctrl-C may come.
fn name_of_thread(event_loop: &Bound<'_, PyAny>) -> PyResult<Arc<str>> {
    match thread_name(event_loop.py()) {
        Err(error) if error.is_instance_of::<PyException>(event_loop.py()) => Ok("".into()),
        name => name,
    }
}

thread_local! {
    /// What Python has for the thread that calls: a weak reference to its `threading.Thread`.
    static THREAD: RefCell<Option<Py<PyWeakrefReference>>> = const { RefCell::new(None) };
}

/// The name of the thread that calls, if Python knows it. A suite of tests asks for each of its
/// loops, so what was found is kept.
fn thread_name(py: Python<'_>) -> PyResult<Arc<str>> {
    let known = THREAD.with_borrow(|kept| kept.as_ref().map(|kept| kept.clone_ref(py)));
    let known = known.and_then(|kept| kept.bind(py).upgrade());
    let thread = match known {
        Some(thread) => Some(thread),
        None => find_thread(py)?,
    };
    match thread {
        // A name of a file may stand in it that is no UTF-8.
        Some(thread) => Ok(thread.getattr("name")?.str()?.to_string_lossy().into()),
        None => Ok("".into()),
    }
}

fn find_thread(py: Python<'_>) -> PyResult<Option<Bound<'_, PyAny>>> {
    let threading = py.import("threading")?;
    let own: u64 = threading.call_method0("get_ident")?.extract()?;
    for thread in threading.call_method0("enumerate")?.try_iter()? {
        let thread = thread?;
        if thread.getattr("ident")?.extract::<Option<u64>>()? == Some(own) {
            let found = PyWeakrefReference::new(&thread)?.unbind();
            let before = THREAD.replace(Some(found));
            drop(before);
            return Ok(Some(thread));
        }
    }
    Ok(None)
}
