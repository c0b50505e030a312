//! Tasks of a loop that is not ours: where they are made, and which of them fail.
//!
//! A loop that is looked through has a list of its new tasks. Before it asks what is ready
//! (`watch/selecting.rs`), or at each of its beats, it looks which of them are over, and which of
//! those have failed: nothing of ours is called for a task that ends well. On any other loop a task
//! gets a callback for its end.
//!
//! What awaits a task that has failed runs in the next round, and then has seen the exception. So a
//! failed task is told of after that round, or at once where the loop has nothing else to do.
//!
//! Threads:    the loop's.
//! Invariants: 1. No task is kept.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use offloop_core::watch::EndedLooks;
use offloop_sys::clock::monotonic_ns;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyWeakrefReference};
use pyo3::{ffi, intern};

use super::super::ground::errors::heard;
use super::makers;
use super::task_class::TaskClass;
use crate::forsaking;

/// With fewer tasks in it the list is not looked through as tasks are made.
const SWEPT_FROM: usize = 1_024;

/// So many tasks are looked at before each wait of a loop that cannot be woken for a later look: it
/// takes some 2 us.
const SHORT_LOOK: usize = 100;

/// What is known of the ends of tasks of one loop.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct TaskEnds {
    tasks: &'static TaskClass,
    /// Called with a list of weak references to tasks that have failed.
    failed: Py<PyAny>,
    /// Called with each task that has failed, and with each that is not written in C: by the
    /// callbacks.
    ended: Py<PyAny>,
    /// The context in which the tasks call this: it changes nothing there.
    keywords: Py<PyDict>,
    /// Whether the loop looks through the list, else tasks have callbacks.
    is_looked_through: AtomicBool,
    is_on: AtomicBool,
    list: Mutex<TaskList>,
}

/// Tasks of which the end is to be seen.
#[derive(Default)]
struct TaskList {
    /// Those that were not seen to be over.
    pending: Vec<Py<PyWeakrefReference>>,
    /// Those that have failed, and are not told of.
    failed: Vec<Py<PyWeakrefReference>>,
    looks: EndedLooks,
    /// The list is swept when it has more tasks than that.
    sweep_from: usize,
}

impl TaskList {
    /// Finds those that are over, and keeps those of them that have failed.
    fn sweep(&mut self, py: Python<'_>, tasks: &TaskClass) {
        let failed = &mut self.failed;
        self.pending.retain(|reference| {
            let Some(task) = reference.bind(py).upgrade() else {
                return false;
            };
            let is_pending = tasks.is_pending(&task);
            if !is_pending && tasks.has_failed(&task) {
                failed.push(reference.clone_ref(py));
            }
            is_pending
        });
        self.sweep_from = SWEPT_FROM.max(2 * self.pending.len());
    }
}

/// When the next round of a loop begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextRound {
    /// Callbacks are scheduled for it.
    AtOnce,
    /// Nothing is scheduled. The loop wakes in time for another look.
    AfterLimitedWait,
    /// The same, but its wait takes no limit.
    AfterAnyWait,
}

/// What a loop has heard that has looked which of its tasks are over.
pub(crate) enum Looked {
    /// There was nothing to hear.
    Nothing,
    /// It was too early. It is to look again after so many nanoseconds.
    TooEarly(u64),
    /// The program may have been told of tasks that have failed.
    Told,
}

fn empty_context(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: *attached*; a new reference, or null for an error that is set.
    unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyContext_New()) }
}

impl TaskEnds {
    fn list(&self) -> MutexGuard<'_, TaskList> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A task is made just now, by the innermost function of Python's that is not asyncio's. False
    /// of a task that is not written in C: it is to be given to `made` and `listen`.
    pub(super) fn begun(slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<bool> {
        let ends = slf.get();
        let is_known = ends.made(task, None);
        if is_known {
            ends.see(slf, task)?;
        }
        Ok(is_known)
    }

    /// Is to hear of the end of a task of the class that is written in C.
    fn see(&self, slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        // Relaxed: the GIL guards both.
        if !self.is_on.load(Ordering::Relaxed) {
            return Ok(());
        }
        if !self.is_looked_through.load(Ordering::Relaxed) {
            return self.call_at_end(slf, task);
        }
        // A collection that this begins may make tasks: the list is not locked yet.
        let reference = PyWeakrefReference::new(task)?.unbind();
        let mut list = self.list();
        list.pending.push(reference);
        if list.pending.len() > list.sweep_from.max(SWEPT_FROM) {
            list.sweep(slf.py(), self.tasks);
        }
        Ok(())
    }

    fn call_at_end(&self, slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let keywords = self.keywords.bind(py);
        task.call_method(intern!(py, "add_done_callback"), (slf,), Some(keywords))?;
        Ok(())
    }

    /// The loop is about to ask what is ready: a round is over.
    pub(crate) fn look(&self, py: Python<'_>, next: NextRound) -> PyResult<Looked> {
        let mut list = self.list();
        if list.pending.is_empty() && list.failed.is_empty() {
            return Ok(Looked::Nothing);
        }
        let now_ns = monotonic_ns();
        let too_early_ns = list.looks.too_early_ns(now_ns);
        let tasks = list.pending.len();
        let is_short = next == NextRound::AfterAnyWait && tasks <= SHORT_LOOK;
        if too_early_ns > 0 && !is_short {
            return Ok(Looked::TooEarly(too_early_ns));
        }
        list.looks.look(now_ns, tasks);
        let found_before = list.failed.len();
        list.sweep(py, self.tasks);
        let count = match next {
            NextRound::AtOnce => found_before,
            NextRound::AfterLimitedWait | NextRound::AfterAnyWait => list.failed.len(),
        };
        let told: Vec<_> = list.failed.drain(..count).collect();
        drop(list);
        if told.is_empty() {
            return Ok(Looked::Nothing);
        }
        let failed = self.failed.bind(py);
        heard(failed, failed.call1((PyList::new(py, told)?,)))?;
        Ok(Looked::Told)
    }
}

#[pymethods]
impl TaskEnds {
    #[new]
    fn new(failed: &Bound<'_, PyAny>, ended: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = failed.py();
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "context"), empty_context(py)?)?;
        Ok(Self {
            tasks: TaskClass::get(py)?,
            failed: failed.clone().unbind(),
            ended: ended.clone().unbind(),
            keywords: keywords.unbind(),
            is_looked_through: AtomicBool::new(false),
            is_on: AtomicBool::new(true),
            list: Mutex::default(),
        })
    }

    /// How asyncio names this in the text of a task that is pending.
    #[getter(__qualname__)]
    fn qualified_name(&self) -> &'static str {
        "offloop.watch"
    }

    /// A task is made, by the innermost function of Python's that is not asyncio's. Whether it is
    /// known what it runs: that of a task which is not written in C must be given.
    #[pyo3(signature = (task, coroutine=None))]
    fn made<'py>(&self, task: &Bound<'py, PyAny>, coroutine: Option<Bound<'py, PyAny>>) -> bool {
        let coroutine = coroutine.or_else(|| self.tasks.coroutine_of(task));
        coroutine
            .inspect(|coroutine| makers::note(task, coroutine))
            .is_some()
    }

    /// The loop looks now which tasks are over: a round or more is over since it last did.
    #[pyo3(name = "look")]
    fn look_now(&self, py: Python<'_>) -> PyResult<()> {
        self.look(py, NextRound::AtOnce).map(drop)
    }

    /// From now on the loop looks through the list.
    fn are_looked_through(&self) {
        self.is_looked_through.store(true, Ordering::Relaxed);
    }

    /// Hears of the end of a task.
    fn listen(slf: &Bound<'_, Self>, task: &Bound<'_, PyAny>) -> PyResult<()> {
        let ends = slf.get();
        if ends.tasks.has(task) {
            ends.see(slf, task)
        } else {
            ends.call_at_end(slf, task)
        }
    }

    /// Weak references to the tasks that have failed and are not told of: from now on they are the
    /// caller's to tell of.
    fn take_failed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let mut list = self.list();
        list.sweep(py, self.tasks);
        let failed = std::mem::take(&mut list.failed);
        drop(list);
        PyList::new(py, failed)
    }

    /// Hears of no end any more.
    fn stop(&self) {
        self.is_on.store(false, Ordering::Relaxed);
        let mut list = self.list();
        let TaskList {
            pending, failed, ..
        } = std::mem::take(&mut *list);
        drop(list);
        drop((pending, failed));
    }

    /// A task has ended.
    fn __call__(&self, task: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.tasks.has(task) && !self.tasks.has_failed(task) {
            return Ok(());
        }
        forsaking::stay();
        self.ended.bind(task.py()).call1((task,)).map(drop)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The attributes of the listener end the circle that this is in. A weak reference without
        // a callback refers to nothing.
        visit.call(&self.failed)?;
        visit.call(&self.ended)?;
        visit.call(&self.keywords)
    }
}
