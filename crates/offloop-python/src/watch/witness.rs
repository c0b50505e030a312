//! The witness: a thread that asks the interpreter about a stall, and calls what hears of it.
//!
//! It attaches for each message. While a C call keeps the GIL it waits, and the watchdog goes on
//! without it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use offloop::watch::{Facts, Question, Slice};
use offloop_core::event_loop::Stalled;
use offloop_core::watch::{Entry, Origin, Stall, TaskFacts};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::fields::StallFields;

/// Messages that wait; the watchdog goes on without those beyond.
const WAITING_MAX: usize = 64;

/// Entries of a stack, as many as the watchdog reads by itself.
const ENTRIES_MAX: usize = 256;

/// What the watchdog wants.
pub(super) enum Message {
    /// To know what the interpreter knows of a callback.
    Ask(Question, SyncSender<Facts>),
    /// A stall was found, or is over.
    Tell(Slice, Arc<Stall>),
    /// The witness is to end.
    Stop,
}

/// The thread.
pub(super) struct Witness {
    door: SyncSender<Message>,
    thread: JoinHandle<()>,
}

impl Witness {
    pub(super) fn start(hearing: Py<PyAny>) -> std::io::Result<Self> {
        let (door, messages) = sync_channel(WAITING_MAX);
        let thread = thread::Builder::new()
            .name("offloop-witness".into())
            .spawn(move || run(&hearing, &messages))?;
        Ok(Self { door, thread })
    }

    pub(super) fn door(&self) -> SyncSender<Message> {
        self.door.clone()
    }

    /// Asks the thread to end. If it is too busy to hear, it ends with the watchdog.
    pub(super) fn stop(&self) {
        let _ = self.door.try_send(Message::Stop);
    }

    pub(super) fn into_thread(self) -> JoinHandle<()> {
        self.thread
    }
}

fn run(hearing: &Py<PyAny>, messages: &Receiver<Message>) {
    while let Ok(message) = messages.recv() {
        let heard = Python::try_attach(|py| hear(py, hearing.bind(py), message));
        // The interpreter ends.
        if heard != Some(true) {
            return;
        }
    }
}

/// Deals with one message; false if it was the last.
fn hear(py: Python<'_>, hearing: &Bound<'_, PyAny>, message: Message) -> bool {
    let result = match message {
        Message::Stop => return false,
        Message::Ask(question, reply) => answer(py, hearing, &question).map(|facts| {
            // The watchdog may have gone on without.
            let _ = reply.try_send(facts);
        }),
        Message::Tell(slice, stall) => tell(py, hearing, slice, &stall),
    };
    if let Err(error) = result {
        // There is no caller to raise to: Python's hook for such errors gets it.
        error.write_unraisable(py, Some(hearing));
    }
    true
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
    made: Option<(String, i32)>,
    #[pyo3(attribute)]
    awaited_by: Vec<String>,
}

fn answer(py: Python<'_>, hearing: &Bound<'_, PyAny>, question: &Question) -> PyResult<Facts> {
    let slice = question.slice;
    let Some(event_loop) = super::loop_of(py, slice.event_loop) else {
        return Ok(Facts::default());
    };
    let number = (slice.stalled == Stalled::Callback).then_some(slice.number);
    let answer = hearing.call_method1("facts", (event_loop, number))?;
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
            made: task.made.map(|(filename, line)| Origin {
                filename: filename.into(),
                line,
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
    let frames = py.import("sys")?.call_method0("_current_frames")?;
    let mut entries = Vec::new();
    let mut frame = frames.cast::<PyDict>()?.get_item(ident)?;
    while let Some(now) = frame.filter(|frame| !frame.is_none() && entries.len() < ENTRIES_MAX) {
        let code = now.getattr("f_code")?;
        entries.push(Entry {
            filename: code.getattr("co_filename")?.extract::<String>()?.into(),
            function: code.getattr("co_qualname")?.extract::<String>()?.into(),
            line: now.getattr("f_lineno")?.extract()?,
        });
        frame = Some(now.getattr("f_back")?);
    }
    Ok((question.still_holds() && !entries.is_empty()).then_some(entries))
}

fn tell(py: Python<'_>, hearing: &Bound<'_, PyAny>, slice: Slice, stall: &Stall) -> PyResult<()> {
    let event_loop = super::loop_of(py, slice.event_loop);
    hearing.call_method1("hear", (event_loop, StallFields::of(stall)))?;
    Ok(())
}
