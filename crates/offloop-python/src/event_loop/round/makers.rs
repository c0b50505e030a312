//! Where tasks were made, without the debug mode: while a watch asks for it.
//!
//! Of each new task the function that has made it is kept: its code object, and the instruction.
//! The line is worked out when it is asked for. asyncio's own functions are passed over. The table
//! has a place for each task by its address, and the next task of the same place takes it: nothing
//! is to be removed, and no task is kept.
//!
//! Invariants: 1. Dropped code objects leave the table first: a program may hear of their end.

use std::sync::Arc;

use offloop_sys::interpreter::memory::OwnMemory;
use offloop_sys::interpreter::{Interpreter, OwnCaller};
use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;

use super::super::ground::cell::GilCell;
use crate::stacks;

/// Tasks that are remembered at most, as a power of two: 512 KiB.
const PLACES_BITS: u32 = 14;

/// Spreads addresses over the places: 2^64 by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// What has made a task.
#[derive(Default)]
struct Maker {
    task: usize,
    /// Tells a task from a later one at the same address, which was made out of sight.
    coroutine: usize,
    code: Option<Py<PyAny>>,
    unit: u32,
}

struct Makers {
    reader: Arc<Interpreter<OwnMemory>>,
    /// The code objects of asyncio's functions by address, sorted; alive, since these are kept.
    passed: Vec<u64>,
    _kept: Vec<Py<PyAny>>,
    table: Vec<Maker>,
}

static MAKERS: GilCell<Option<Box<Makers>>> = GilCell::new(None);

fn place_of(task: usize) -> usize {
    ((task as u64).wrapping_mul(SPREAD) >> (u64::BITS - PLACES_BITS)) as usize
}

/// Begins to remember where tasks are made, and passes over functions with these code objects;
/// ends it, if there are none.
#[pyfunction]
#[pyo3(signature = (passed=None))]
pub(crate) fn remember_makers(py: Python<'_>, passed: Option<Vec<Py<PyAny>>>) -> PyResult<()> {
    let makers = match passed {
        Some(kept) => {
            let reader = stacks::reader(py).map_err(PyRuntimeError::new_err)?;
            let mut codes: Vec<_> = kept.iter().map(|code| code.as_ptr() as u64).collect();
            codes.sort_unstable();
            let table = std::iter::repeat_with(Maker::default).take(1 << PLACES_BITS);
            Some(Box::new(Makers {
                reader: reader.clone(),
                passed: codes,
                _kept: kept,
                table: table.collect(),
            }))
        }
        None => None,
    };
    let old = MAKERS.with(py, |kept| std::mem::replace(kept, makers));
    drop(old);
    Ok(())
}

/// Remembers where a task was made: by the caller of native code.
#[inline]
pub(super) fn note(task: &Bound<'_, PyAny>, coroutine: &Bound<'_, PyAny>) {
    let py = task.py();
    let replaced = MAKERS.with(py, |makers| {
        let makers = makers.as_mut()?;
        // SAFETY: *attached*: this is the state of the calling thread, and `reader` gives only
        // a reader that was tried. The code object that is found is alive, as it runs.
        let (code, unit) = unsafe {
            let state = ffi::PyThreadState_Get() as u64;
            let OwnCaller { code, unit } = makers.reader.own_caller(state, &makers.passed)?;
            let code = std::ptr::with_exposed_provenance_mut(code as usize);
            (Bound::from_borrowed_ptr(py, code), unit)
        };
        let task = task.as_ptr() as usize;
        let maker = Maker {
            task,
            coroutine: coroutine.as_ptr() as usize,
            code: Some(code.unbind()),
            unit,
        };
        Some(std::mem::replace(&mut makers.table[place_of(task)], maker))
    });
    drop(replaced);
}

/// The code object of the function that has made a task, and at which instruction of it, counted
/// in units; `None` if that is not known.
#[pyfunction]
pub(crate) fn maker_of(
    task: &Bound<'_, PyAny>,
    coroutine: &Bound<'_, PyAny>,
) -> Option<(Py<PyAny>, u32)> {
    let py = task.py();
    let (task, coroutine) = (task.as_ptr() as usize, coroutine.as_ptr() as usize);
    MAKERS.with(py, |makers| {
        let maker = &makers.as_ref()?.table[place_of(task)];
        let known = maker.task == task && maker.coroutine == coroutine;
        let code = maker.code.as_ref().filter(|_| known)?;
        Some((code.clone_ref(py), maker.unit))
    })
}
