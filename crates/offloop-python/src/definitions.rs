//! What workers must know before a call, as Python holds it: `offloop._main` decides what that is.
//!
//! A definition lives as long as a place of the program, a remembered function or a queued call
//! holds it; then the workers forget it.
//!
//! Shape:      a payload that needs definitions begins with `NEEDS`, their count (u16) and their
//!             numbers (u32 each), in the byte order of the machine; its pickle follows.
//! Units:      bytes.

use std::sync::Arc;

use offloop::frame::{DEFINITION_INLINE_BYTES_MAX, NEEDS_MAX};
use offloop::{Payload, Runtime};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyTuple};

use crate::blocks::{Allocate, copy_to_block};
use crate::home::home;

/// The first byte of a payload that needs definitions; a pickle of protocol 5 begins with 0x80.
pub(crate) const NEEDS: u8 = b'N';
const _: () = assert!(NEEDS_MAX <= u16::MAX as usize);

/// One thing that workers remember by its number.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct Definition(Arc<offloop::Definition>);

#[pymethods]
impl Definition {
    #[new]
    fn new(py: Python<'_>, data: &Bound<'_, PyBytes>) -> PyResult<Self> {
        let home = home()?;
        let payload = payload(py, data.as_bytes(), &home.allocate)?;
        Ok(Self(home.runtime.define(payload, Vec::new())))
    }

    /// Its number, never 0.
    #[getter]
    fn number(&self) -> u32 {
        self.0.id()
    }

    /// What was given to the constructor, for workers that get it as they start.
    fn data<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let payload = self.0.payload();
        match payload.blocks.first() {
            Some(block) if payload.in_block => {
                let len = usize::try_from(block.address().len)?;
                PyBytes::new_with(py, len, |bytes| {
                    block.read(bytes);
                    Ok(())
                })
            }
            _ => Ok(PyBytes::new(py, &payload.inline)),
        }
    }
}

/// The definitions that a Python tuple holds.
pub(crate) fn from_tuple(
    definitions: &Bound<'_, PyTuple>,
) -> PyResult<Vec<Arc<offloop::Definition>>> {
    let shared = |one: Bound<'_, PyAny>| Ok(Arc::clone(&one.cast::<Definition>()?.get().0));
    definitions.iter().map(shared).collect()
}

/// A function that needs `needs` before `pickle` can be loaded.
pub(crate) fn define(
    py: Python<'_>,
    runtime: &Runtime,
    allocate: &Allocate,
    pickle: &[u8],
    needs: Vec<Arc<offloop::Definition>>,
) -> PyResult<Arc<offloop::Definition>> {
    let bytes = [&prefix(&needs), pickle].concat();
    Ok(runtime.define(payload(py, &bytes, allocate)?, needs))
}

/// Short ones travel in the ring, so that it holds a call and all that this needs.
fn payload(py: Python<'_>, bytes: &[u8], allocate: &Allocate) -> PyResult<Payload> {
    if bytes.len() <= DEFINITION_INLINE_BYTES_MAX {
        return Ok(Payload {
            inline: bytes.to_vec(),
            ..Payload::default()
        });
    }
    Ok(Payload {
        inline: Vec::new(),
        blocks: vec![copy_to_block(py, allocate, bytes)?],
        in_block: true,
    })
}

/// What a payload begins with that needs `needs`: nothing when there are none.
pub(crate) fn prefix(needs: &[Arc<offloop::Definition>]) -> Vec<u8> {
    if needs.is_empty() {
        return Vec::new();
    }
    let count = u16::try_from(needs.len()).expect("at most NEEDS_MAX");
    let mut bytes = vec![NEEDS];
    bytes.extend_from_slice(&count.to_ne_bytes());
    for need in needs {
        bytes.extend_from_slice(&need.id().to_ne_bytes());
    }
    bytes
}

/// Bytes that the longest prefix takes.
pub(crate) const PREFIX_BYTES_MAX: usize = 3 + 4 * NEEDS_MAX;

/// The numbers that a payload begins with, and how many bytes they take.
pub(crate) fn split(payload: &[u8]) -> (Vec<u32>, usize) {
    let [NEEDS, low, high, rest @ ..] = payload else {
        return (Vec::new(), 0);
    };
    let count = usize::from(u16::from_ne_bytes([*low, *high]));
    let (numbers, _) = rest.as_chunks::<4>();
    let numbers: Vec<u32> = numbers
        .iter()
        .take(count)
        .map(|number| u32::from_ne_bytes(*number))
        .collect();
    let len = 3 + 4 * numbers.len();
    (numbers, len)
}

static MISSING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The object that stands for a name that is not bound.
pub(crate) fn missing(py: Python<'_>) -> PyResult<&Py<PyAny>> {
    MISSING.get_or_try_init(py, || {
        let object = py.import("builtins")?.getattr("object")?;
        Ok(object.call0()?.unbind())
    })
}
