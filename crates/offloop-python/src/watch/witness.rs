//! What the witness asks the interpreter, and tells it; it attaches for each message.
//!
//! The thread has one thread state for its life. To make one for each message takes memory without
//! the GIL, in which older versions crash if the program ends `tracemalloc` at that moment
//! (cpython#128679).

use std::cell::Cell;
use std::sync::Arc;

use offloop::watch::{Facts, Hearing, Question, Slice};
use offloop_core::event_loop::Stalled;
use offloop_core::watch::{Entry, Origin, TaskFacts, Told};
use offloop_sys::fork;
use pyo3::ffi;
use pyo3::prelude::*;

use super::fields::StallFields;
use super::frames::current_frames;
use super::loops::loop_of;
use crate::forsaking;

/// Entries of a stack, as many as the watchdog reads by itself.
const ENTRIES_MAX: usize = 256;

/// What asks and tells.
pub(super) struct Witness {
    /// `offloop._watch.hearing.Hearing`.
    pub(super) hearing: Py<PyAny>,
    /// Ends the watch.
    pub(super) end: fn(Python<'_>),
    /// The thread has a thread state that stays.
    pub(super) has_state: Cell<bool>,
}

impl Witness {
    /// Attaches and does it; `None` if the interpreter ends. There is no caller to raise to:
    /// Python's hook for such errors gets what goes wrong.
    fn attached<R: Default>(
        &self,
        act: impl FnOnce(&Bound<'_, PyAny>) -> PyResult<R>,
    ) -> Option<R> {
        forsaking::stay();
        Python::try_attach(|py| {
            if !self.has_state.replace(true) {
                // SAFETY: *attached*. That is counted once more, and `drop` counts it back: the
                // thread state is only detached at the end of this, and not deleted.
                unsafe { ffi::PyGILState_Ensure() };
            }
            let hearing = self.hearing.bind(py);
            act(hearing).unwrap_or_else(|error| {
                error.write_unraisable(py, Some(hearing));
                R::default()
            })
        })
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        if self.has_state.get() {
            forsaking::stay();
            // SAFETY: *attached*, by the thread that has made the state: the witness's own drops
            // this. Attaching is counted, too, so the state is deleted after this only. Where the
            // interpreter ends it deletes all states itself.
            let release = |_: Python<'_>| unsafe {
                ffi::PyGILState_Release(ffi::PyGILState_STATE::PyGILState_LOCKED);
            };
            Python::try_attach(release).unwrap_or_default();
        }
    }
}

impl Hearing for Witness {
    /// The state is made before the program has come far.
    fn begin(&mut self) {
        self.attached(|_| Ok(())).unwrap_or_default();
    }

    fn answer(&mut self, question: &Question) -> Option<Facts> {
        self.attached(|hearing| answer(hearing.py(), hearing, question))
    }

    fn tell(&mut self, slice: Slice, told: &Told) -> bool {
        let generation = fork::generation();
        let heard = self.attached(|hearing| {
            let told = tell(hearing.py(), hearing, slice, told);
            if fork::generation() != generation {
                // A child came back, and ends with this thread: its watch must not keep it.
                (self.end)(hearing.py());
            }
            told
        });
        heard.is_some()
    }
}

/// What the interpreter knows: the callback's name, its task, the request.
#[derive(FromPyObject)]
struct Answer {
    #[pyo3(item)]
    callback: Option<String>,
    #[pyo3(item)]
    task: Option<TaskAnswer>,
    #[pyo3(item)]
    request: Option<String>,
}

#[derive(FromPyObject)]
struct TaskAnswer {
    #[pyo3(attribute)]
    name: String,
    #[pyo3(attribute)]
    coroutine: String,
    #[pyo3(attribute)]
    made: Option<PlaceAnswer>,
    #[pyo3(attribute)]
    awaited_by: Vec<String>,
}

#[derive(FromPyObject)]
struct PlaceAnswer {
    #[pyo3(attribute)]
    filename: String,
    #[pyo3(attribute)]
    line: i32,
}

fn answer(py: Python<'_>, hearing: &Bound<'_, PyAny>, question: &Question) -> PyResult<Facts> {
    let slice = question.slice;
    let Some(event_loop) = loop_of(py, slice.event_loop) else {
        return Ok(Facts::default());
    };
    let number = (slice.stalled == Stalled::Callback).then_some(slice.number);
    if number.is_none() && !question.still_holds() {
        return Ok(Facts::default());
    }
    let native_id = question.pulse.running.read().map(|seen| seen.thread);
    let of = (event_loop, number, native_id, key(slice));
    let answer = hearing.call_method1("facts", of)?;
    let Answer {
        callback,
        task,
        request,
    } = answer.extract()?;
    Ok(Facts {
        stack: stack(py, hearing, question)?,
        callback: callback.map(Arc::from),
        task: task.map(|task| TaskFacts {
            name: task.name.into(),
            coroutine: task.coroutine.into(),
            made: task.made.map(|made| Origin {
                filename: made.filename.into(),
                line: made.line,
            }),
            awaited_by: task.awaited_by.into_iter().map(Arc::from).collect(),
        }),
        request: request.map(Arc::from),
    })
}

/// The stack by the interpreter's word, if it is that of the slice: the loop's thread cannot go on
/// while this one has the GIL, which it keeps from the list of frames to the last line.
fn stack(
    py: Python<'_>,
    hearing: &Bound<'_, PyAny>,
    question: &Question,
) -> PyResult<Option<Vec<Entry>>> {
    if !question.wants_stack {
        return Ok(None);
    }
    let native_id = question.pulse.running.read().map(|seen| seen.thread);
    let ident = hearing.call_method1("ident_of", (native_id,))?;
    let frames = current_frames(py)?;
    let mut entries = Vec::new();
    let mut frame = frames.get_item(ident)?;
    while let Some(now) = frame.filter(|frame| !frame.is_none() && entries.len() < ENTRIES_MAX) {
        let code = now.getattr("f_code")?;
        entries.push(Entry {
            filename: code.getattr("co_filename")?.str()?.to_string_lossy().into(),
            function: code.getattr("co_qualname")?.str()?.to_string_lossy().into(),
            line: now.getattr("f_lineno")?.extract()?,
        });
        frame = Some(now.getattr("f_back")?);
    }
    Ok((question.still_holds() && !entries.is_empty()).then_some(entries))
}

fn tell(py: Python<'_>, hearing: &Bound<'_, PyAny>, slice: Slice, told: &Told) -> PyResult<()> {
    let event_loop = loop_of(py, slice.event_loop);
    hearing.call_method1("hear", (event_loop, StallFields::of(told), key(slice)))?;
    Ok(())
}

/// What joins the facts of a stall to what is told of it: its loop, whether it is a callback, its
/// number.
fn key(slice: Slice) -> (u64, bool, u64) {
    let is_callback = slice.stalled == Stalled::Callback;
    (slice.event_loop, is_callback, slice.number)
}
