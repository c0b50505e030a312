//! Stacks of other threads, read without the GIL, for Python.
//!
//! The reader (`offloop-sys/src/interpreter.rs`) relies on where the interpreter keeps its data. So
//! before it is used for the first time it is tried on the thread that asks: a program with a frame
//! of every kind runs, and at each call the stack that is read must be the one that the interpreter
//! tells. A reader that fails is not used in this process, and says why. If it does not find that
//! the asking thread has the GIL, it is used for stacks alone.
//!
//! Threads:    any. The GIL is released while a stack is read.
//! Source:     docs/design/014-reading-a-stack.md.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use offloop_sys::interpreter::memory::OwnMemory;
use offloop_sys::interpreter::{
    Codes, Entries, Holder, Interpreter, Position, Reading, Stack, StackEntry, own_native_id,
};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyString};

/// The program that a reader is tried with.
const PROBE: &str = include_str!("stacks/probe.py");

/// The name of its file, which holds characters of every width.
const PROBE_NAME: &str = "<offloop pr\u{f6}bt \u{6e2c} \u{1f600}>";

/// Lines before its first one, so that a table has a number of more than one byte.
const PROBE_LINES_BEFORE: usize = 1_000;

/// How often the probe compares, at least: once from each of its kinds of frames.
const COMPARISONS_MIN: u32 = 11;

/// Entries that are compared each time, the innermost ones: those of the probe are among them.
const COMPARED_MAX: usize = 16;

/// Readings that `sample_stacks` tells apart at most; the rest is counted as it comes.
const DISTINCT_MAX: usize = 100_000;

pub(crate) type Reader = Interpreter<OwnMemory>;

/// The reader of this process, or why there is none.
static READER: PyOnceLock<Result<Arc<Reader>, String>> = PyOnceLock::new();

/// The reader of this process, once it has been tried.
pub(crate) fn reader(py: Python<'_>) -> Result<&'static Arc<Reader>, &'static str> {
    let found = READER.get_or_init(py, || {
        let memory = OwnMemory::open().map_err(|error| error.to_string())?;
        let reader = Interpreter::of_this_process(memory).map_err(|error| error.to_string())?;
        let reader = Arc::new(reader);
        match try_out(py, &reader) {
            Ok(()) if knows_gil(&reader) => Ok(reader),
            Ok(()) => Interpreter::of_this_process(memory)
                .map(|reader| Arc::new(reader.without_gil()))
                .map_err(|error| error.to_string()),
            Err(error) => Err(format!("the reader of stacks fails its trial: {error}")),
        }
    });
    found.as_ref().map_err(String::as_str)
}

/// The same, for a thread that never attaches.
pub(crate) fn shared_reader(py: Python<'_>) -> offloop::watch::Reader {
    let _tried = reader(py);
    let found = READER.get(py).expect("it was made just now");
    found.clone().map_err(Arc::from)
}

/// Runs the probe, which fails where its stack is read wrongly.
fn try_out(py: Python<'_>, reader: &Arc<Reader>) -> PyResult<()> {
    let comparisons = Arc::new(AtomicU32::new(0));
    let (given, counted) = (Arc::clone(reader), Arc::clone(&comparisons));
    let compare = PyCFunction::new_closure(py, Some(c"compare"), None, move |arguments, _| {
        compare(arguments.py(), &given)?;
        // Relaxed: one thread counts, and reads the count.
        counted.fetch_add(1, Ordering::Relaxed);
        PyResult::Ok(())
    })?;
    let globals = PyDict::new(py);
    globals.set_item("compare", compare)?;
    let builtins = py.import("builtins")?;
    let source = "\n".repeat(PROBE_LINES_BEFORE) + PROBE;
    let code = builtins.call_method1("compile", (source, PROBE_NAME, "exec"))?;
    let outcome = builtins.call_method1("exec", (code, &globals));
    // Its functions hold `globals`, which holds them.
    globals.clear();
    outcome?;
    if comparisons.load(Ordering::Relaxed) < COMPARISONS_MIN {
        return Err(PyRuntimeError::new_err("its program did not run"));
    }
    Ok(())
}

/// Whether the reader finds that this thread has the GIL, which it has.
fn knows_gil(reader: &Reader) -> bool {
    let facts = reader
        .find(own_native_id())
        .and_then(|thread| reader.gil_of(thread));
    facts.is_ok_and(|facts| facts.holder == Some(Holder::This) && facts.collects.is_some())
}

/// What a frame is told by, for a comparison.
type Told = (String, String, i32, Option<i32>);

/// Compares the stack of this thread, read by us, with what the interpreter says.
fn compare(py: Python<'_>, reader: &Reader) -> PyResult<()> {
    let ours = match read(reader, own_native_id(), &mut Codes::new()) {
        Reading::Exact(stack) => stack,
        other => return Err(PyRuntimeError::new_err(format!("{other:?}"))),
    };
    let is_whole = ours.cut == 0 && ours.entries.len() <= COMPARED_MAX;
    let mut frame = py.import("sys")?.call_method0("_getframe")?;
    for entry in ours.entries.into_iter().take(COMPARED_MAX) {
        let ours: Told = (
            entry.filename.to_string(),
            entry.function.to_string(),
            entry.first_line,
            entry.position.line,
        );
        let told = told(&frame)?;
        if ours != told {
            let difference = format!("{ours:?} was read, and is {told:?}");
            return Err(PyRuntimeError::new_err(difference));
        }
        frame = frame.getattr("f_back")?;
    }
    if is_whole && !frame.is_none() {
        return Err(PyRuntimeError::new_err("a frame was not found"));
    }
    Ok(())
}

fn told(frame: &Bound<'_, PyAny>) -> PyResult<Told> {
    let code = frame.getattr("f_code")?;
    Ok((
        text(code.getattr("co_filename")?.cast::<PyString>()?)?,
        text(code.getattr("co_qualname")?.cast::<PyString>()?)?,
        code.getattr("co_firstlineno")?.extract()?,
        frame.getattr("f_lineno")?.extract()?,
    ))
}

/// A string whose halves of characters are replaced, each by one.
fn text(string: &Bound<'_, PyString>) -> PyResult<String> {
    let halves: Vec<u8> = string
        .call_method1("encode", ("utf-16-le", "surrogatepass"))?
        .extract()?;
    let halves = halves
        .chunks_exact(2)
        .map(|half| u16::from_le_bytes([half[0], half[1]]));
    Ok(char::decode_utf16(halves)
        .map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect())
}

/// Finds the thread and reads its stack once.
fn read(reader: &Reader, native_id: u64, codes: &mut Codes) -> Reading {
    match reader.find(native_id) {
        Ok(thread) => reader.read(thread, codes, || true),
        Err(reason) => Reading::Unreadable(reason),
    }
}

/// File, function and line.
type Entry = (String, String, Option<i32>);

/// A reading, for Python.
#[derive(IntoPyObject)]
pub(crate) struct StackReading {
    outcome: &'static str,
    /// Innermost first.
    entries: Vec<Entry>,
    cut: u32,
    hidden: u32,
    settled: usize,
    reason: Option<String>,
}

impl StackReading {
    fn of_stack(outcome: &'static str, stack: Stack) -> Self {
        let entry = |entry: StackEntry| {
            let line = entry.position.line;
            (entry.filename.to_string(), entry.function.to_string(), line)
        };
        Self {
            outcome,
            entries: stack.entries.into_iter().map(entry).collect(),
            cut: stack.cut,
            hidden: stack.hidden,
            settled: stack.settled,
            reason: None,
        }
    }

    fn unreadable(reason: String) -> Self {
        Self {
            reason: Some(reason),
            ..Self::of_stack("unreadable", Stack::default())
        }
    }
}

impl From<Reading> for StackReading {
    fn from(reading: Reading) -> Self {
        match reading {
            Reading::Exact(stack) => Self::of_stack("exact", stack),
            Reading::Moving(stack) => Self::of_stack("moving", stack),
            Reading::Over => Self::unreadable("it is over".to_owned()),
            Reading::Unreadable(reason) => Self::unreadable(reason.to_string()),
        }
    }
}

/// The stack of the thread that the kernel has under this id, which takes no part in it.
#[pyfunction]
pub(crate) fn stack_of(py: Python<'_>, native_thread_id: u64) -> StackReading {
    match reader(py) {
        Ok(reader) => {
            let reading = py.detach(|| read(reader, native_thread_id, &mut Codes::new()));
            reading.into()
        }
        Err(reason) => StackReading::unreadable(reason.to_owned()),
    }
}

/// Reads a stack so many times in a row, and counts what is found.
#[pyfunction]
pub(crate) fn sample_stacks(
    py: Python<'_>,
    native_thread_id: u64,
    count: u64,
) -> PyResult<Vec<(StackReading, u64)>> {
    let reader = reader(py).map_err(PyRuntimeError::new_err)?;
    let found = py.detach(|| {
        let mut found: HashMap<Reading, u64> = HashMap::new();
        let mut codes = Codes::new();
        for _ in 0..count {
            let reading = read(reader, native_thread_id, &mut codes);
            if let Some(seen) = found.get_mut(&reading) {
                *seen += 1;
            } else if found.len() < DISTINCT_MAX {
                found.insert(reading, 1);
            }
        }
        found
    });
    Ok(found
        .into_iter()
        .map(|(reading, count)| (reading.into(), count))
        .collect())
}

/// First and last line, first and end column.
type PositionParts = (Option<i32>, Option<i32>, Option<i32>, Option<i32>);

/// Where each code unit comes from, by a code object's `co_linetable` and `co_firstlineno`.
#[pyfunction]
pub(crate) fn code_positions(line_table: &[u8], first_line: i32) -> Vec<PositionParts> {
    let parts = |position: Position| {
        (
            position.line,
            position.end_line,
            position.column,
            position.end_column,
        )
    };
    Entries::new(line_table, first_line)
        .flat_map(|(units, position)| (0..units).map(move |_| parts(position)))
        .collect()
}
