//! The order of timers: by their time; equal ones agree in callback and arguments too.
//!
//! Source:     asyncio/events.py (`TimerHandle`).

use std::ffi::c_int;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::CompareOp;

use super::super::ground::trampoline::Answer as _;
use super::attributes::{args, callback, when};
use super::timer::TimerHandle;

pub(super) fn hash(py: Python<'_>, timer: &TimerHandle) -> PyResult<isize> {
    when(py, timer)?.bind(py).hash()
}

/// Compares with another timer; for any other object Python asks that object instead.
pub(super) fn compare(
    py: Python<'_>,
    one: &TimerHandle,
    other: &Bound<'_, PyAny>,
    operation: CompareOp,
) -> PyResult<Py<PyAny>> {
    let Ok(two) = TimerHandle::from_object(other.clone()) else {
        return Ok(py.NotImplemented());
    };
    let or_equal = |result| match result {
        Ok(false) => same(py, one, &two),
        result => result,
    };
    let result = match operation {
        CompareOp::Lt | CompareOp::Gt => times_are(py, one, &two, operation),
        CompareOp::Le => or_equal(times_are(py, one, &two, CompareOp::Lt)),
        CompareOp::Ge => or_equal(times_are(py, one, &two, CompareOp::Gt)),
        CompareOp::Ne => same(py, one, &two).map(|same| !same),
        CompareOp::Eq => same(py, one, &two),
    };
    result?.into_answer(py)
}

/// Compares the times of two timers as floats, or as the objects that were given.
fn times_are(
    py: Python<'_>,
    one: &TimerHandle,
    two: &TimerHandle,
    operation: CompareOp,
) -> PyResult<bool> {
    if one.has_origin(py) || two.has_origin(py) {
        return are(py, when(py, one)?, when(py, two)?, operation);
    }
    let (left, right) = (one.when(py), two.when(py));
    Ok(match operation {
        CompareOp::Lt => left < right,
        CompareOp::Gt => left > right,
        _ => left == right,
    })
}

/// Compares two objects as containers do, for which any object is equal to itself.
fn are(py: Python<'_>, left: Py<PyAny>, right: Py<PyAny>, operation: CompareOp) -> PyResult<bool> {
    let operation = operation as c_int;
    // SAFETY: *attached*; two references that are held.
    match unsafe { ffi::PyObject_RichCompareBool(left.as_ptr(), right.as_ptr(), operation) } {
        -1 => Err(PyErr::fetch(py)),
        result => Ok(result != 0),
    }
}

/// Whether two timers are equal.
fn same(py: Python<'_>, one: &TimerHandle, two: &TimerHandle) -> PyResult<bool> {
    let equal = |left: Option<Py<PyAny>>, right: Option<Py<PyAny>>| {
        let object = |attribute: Option<_>| attribute.unwrap_or_else(|| py.None());
        are(py, object(left), object(right), CompareOp::Eq)
    };
    Ok(one.is_cancelled(py) == two.is_cancelled(py)
        && times_are(py, one, two, CompareOp::Eq)?
        && equal(callback(py, one)?, callback(py, two)?)?
        && equal(args(py, one)?, args(py, two)?)?)
}
