//! Large arguments and results that need no pickling: they are lifted out of the pickle.
//!
//! NumPy's arrays of plain numbers, `bytes` and `bytearray` are copied straight into shared
//! memory, and rebuilt from there; the pickle keeps a hole (`None`) and a short description. For an
//! array of 80 KB the plain way spends 9 us on naming NumPy's functions and 6 us on finding them.
//!
//! Shape:      `LIFTED`, the count of lifted objects (u8), then the pickle of (arguments, keywords,
//!             callable, what is carried, descriptions), each description being (position or
//!             keyword, kind, shape).
//! Units:      sizes in bytes; positions count the arguments from 0.
//! Invariants: 1. What can change is lifted only from a call that cannot mention it twice: beside
//!                it stand only numbers and texts. So a worker sees the same identities as we do.
//!             2. The blocks of lifted objects come first, in the order of their descriptions.
//! Source:     docs/design/003-arena.md.

use std::ffi::CStr;

use offloop::arena::{Block, MappedBlock};
use offloop::frame::BLOCKS_MAX;
use pyo3::exceptions::PyValueError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyComplex, PyDict, PyFloat, PyInt, PyList, PyNone, PyString,
    PyTuple, PyType,
};

use crate::blocks::{Allocate, copy_to_block};
use crate::names::arrays_become_writable;
use crate::view::View;

/// The first byte of a payload with holes; a pickle of protocol 5 begins with 0x80.
pub(crate) const LIFTED: u8 = b'O';

/// Smaller `bytes` stay inside the pickle: a block costs a page and a table entry.
const BYTES_MIN: usize = 32 * 1024;
/// Smaller arrays stay inside the pickle.
const ARRAY_BYTES_MIN: usize = 4 * 1024;

/// Kinds below 0; from 0 on, twice the place in `DTYPES`, plus one for Fortran's order.
const BYTES: i32 = -1;
const BYTEARRAY: i32 = -2;

/// The type codes of numbers whose dtype is one object for the whole process.
const DTYPES: [&str; 17] = [
    "?", "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "e", "f", "d", "F", "D", "G",
];

/// NumPy's class of arrays and its dtypes, once the program has imported it.
struct NumPy {
    array: Py<PyType>,
    dtypes: Vec<Py<PyAny>>,
}

static NUMPY: PyOnceLock<NumPy> = PyOnceLock::new();

fn numpy(py: Python<'_>) -> PyResult<&NumPy> {
    NUMPY.get_or_try_init(py, || {
        let module = py.import("numpy")?;
        let dtype = module.getattr("dtype")?;
        let of = |code: &&str| Ok(dtype.call1((*code,))?.unbind());
        Ok(NumPy {
            array: module.getattr("ndarray")?.cast_into::<PyType>()?.unbind(),
            dtypes: DTYPES.iter().map(of).collect::<PyResult<_>>()?,
        })
    })
}

/// What is lifted out of a call or an outcome, and what is left to be pickled.
pub(crate) struct Lifted<'py> {
    pub(crate) pickled: Bound<'py, PyTuple>,
    pub(crate) blocks: Vec<Block>,
}

/// One object that can be lifted, seen but not yet copied.
struct Candidate<'py> {
    object: Bound<'py, PyAny>,
    /// A position, or a keyword.
    place: Bound<'py, PyAny>,
    kind: i32,
    view: View,
}

/// The large objects of one call, and whether it could mention one of them twice.
#[derive(Default)]
struct Found<'py> {
    candidates: Vec<Candidate<'py>>,
    ambiguous: bool,
}

impl<'py> Found<'py> {
    fn look_at(&mut self, object: &Bound<'py, PyAny>, place: &Bound<'py, PyAny>) -> PyResult<()> {
        match liftable(object)? {
            Some((kind, view)) => {
                let again = |other: &Candidate<'_>| other.object.is(object);
                self.ambiguous |= self.candidates.iter().any(again);
                self.candidates.push(Candidate {
                    object: object.clone(),
                    place: place.clone(),
                    kind,
                    view,
                });
            }
            None => self.ambiguous |= !is_atom(object),
        }
        Ok(())
    }

    /// What may be lifted: `bytes` always, since programs do not see whether they are the same
    /// object.
    fn into_candidates(mut self) -> Vec<Candidate<'py>> {
        if self.ambiguous {
            self.candidates.retain(|candidate| candidate.kind == BYTES);
        }
        // One table entry is kept for the pickle itself.
        self.candidates.truncate(BLOCKS_MAX - 1);
        self.candidates
    }

    fn is_hole(candidates: &[Candidate<'py>], place: &Bound<'py, PyAny>) -> PyResult<bool> {
        for candidate in candidates {
            if candidate.place.eq(place)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A call as Python sees it; `callable` only when workers do not know it by a number.
pub(crate) struct Parts<'py> {
    pub(crate) callable: Option<Bound<'py, PyAny>>,
    pub(crate) arguments: Bound<'py, PyTuple>,
    pub(crate) keywords: Option<Bound<'py, PyDict>>,
    /// What goes along with the call, and is none of its arguments: texts by their names.
    pub(crate) carried: Option<Bound<'py, PyDict>>,
}

impl<'py> Parts<'py> {
    /// The parts of a call whose callable workers know.
    pub(crate) fn of(
        arguments: &Bound<'py, PyTuple>,
        keywords: Option<&Bound<'py, PyDict>>,
        carried: Option<Bound<'py, PyDict>>,
    ) -> Self {
        Self {
            callable: None,
            arguments: arguments.clone(),
            keywords: keywords.filter(|keywords| !keywords.is_empty()).cloned(),
            carried,
        }
    }

    /// What is pickled of a call from which nothing is lifted: the arguments alone; a list with
    /// them, the keywords and what is carried when there are any; and a tuple that begins with the
    /// callable if it must be sent.
    pub(crate) fn pickled(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let arguments = match (&self.keywords, &self.carried) {
            (None, None) => self.arguments.clone().into_any(),
            (Some(keywords), None) => {
                PyList::new(py, [self.arguments.as_any(), keywords.as_any()])?.into_any()
            }
            (keywords, Some(carried)) => {
                let none = py.None().into_bound(py);
                let keywords = keywords
                    .as_ref()
                    .map_or(&none, |keywords| keywords.as_any());
                PyList::new(py, [self.arguments.as_any(), keywords, carried.as_any()])?.into_any()
            }
        };
        match &self.callable {
            None => Ok(arguments),
            Some(callable) => Ok(PyTuple::new(py, [callable, &arguments])?.into_any()),
        }
    }

    /// The parts of a call from what `pickled` made.
    pub(crate) fn from_pickled(whole: Bound<'py, PyAny>, with_callable: bool) -> PyResult<Self> {
        let (callable, rest) = if with_callable {
            let (callable, rest): (Bound<'py, PyAny>, Bound<'py, PyAny>) = whole.extract()?;
            (Some(callable), rest)
        } else {
            (None, whole)
        };
        let (arguments, keywords, carried) = match rest.cast_into::<PyTuple>() {
            Ok(arguments) => (arguments, None, None),
            Err(other) => {
                let list = other.into_inner().cast_into::<PyList>()?;
                let carried = (list.len() > 2).then(|| list.get_item(2)).transpose()?;
                (
                    list.get_item(0)?.cast_into()?,
                    list.get_item(1)?.extract()?,
                    carried.map(Bound::cast_into).transpose()?,
                )
            }
        };
        Ok(Self {
            callable,
            arguments,
            keywords,
            carried,
        })
    }

    /// A result: the only argument.
    pub(crate) fn into_value(self) -> PyResult<Bound<'py, PyAny>> {
        self.arguments.get_item(0)
    }

    /// Lifts what can be lifted; `None` when there is nothing.
    pub(crate) fn lift(
        &self,
        py: Python<'py>,
        allocate: &Allocate,
    ) -> PyResult<Option<Lifted<'py>>> {
        let mut found = Found {
            ambiguous: self.callable.is_some(),
            ..Found::default()
        };
        for (position, argument) in self.arguments.iter().enumerate() {
            found.look_at(&argument, position.into_pyobject(py)?.as_any())?;
        }
        for (keyword, value) in self.keywords.iter().flat_map(|keywords| keywords.iter()) {
            found.look_at(&value, &keyword)?;
        }
        if found.candidates.is_empty() {
            return Ok(None);
        }
        let candidates = found.into_candidates();
        if candidates.is_empty() {
            return Ok(None);
        }
        let mut arguments = Vec::with_capacity(self.arguments.len());
        for (position, argument) in self.arguments.iter().enumerate() {
            let position = position.into_pyobject(py)?;
            let hole = Found::is_hole(&candidates, position.as_any())?;
            arguments.push(if hole {
                py.None().into_bound(py)
            } else {
                argument
            });
        }
        let keywords = self.keywords.as_ref().map(|held| held.copy()).transpose()?;
        if let Some(keywords) = &keywords {
            for candidate in candidates
                .iter()
                .filter(|one| one.place.is_instance_of::<PyString>())
            {
                keywords.set_item(&candidate.place, py.None())?;
            }
        }
        let holes = (
            PyTuple::new(py, arguments)?,
            keywords,
            self.callable.clone(),
            self.carried.clone(),
        );
        copy(py, &candidates, holes, allocate).map(Some)
    }

    /// Fills the holes of what `lift` left to be pickled, from the first of `blocks`.
    ///
    /// `share` makes the Python object that keeps a block, or a copy of its bytes.
    pub(crate) fn fill(
        pickled: &Bound<'py, PyAny>,
        blocks: &[MappedBlock],
        share: &dyn Fn(&MappedBlock) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        let py = pickled.py();
        let (arguments, keywords, callable, carried, descriptions): Pickled<'py> =
            pickled.extract()?;
        if descriptions.len() != blocks.len() {
            let text = "a payload describes other objects than it has blocks for";
            return Err(PyValueError::new_err(text));
        }
        let mut items: Vec<Bound<'py, PyAny>> = arguments.iter().collect();
        for (description, block) in descriptions.iter().zip(blocks) {
            let (place, kind, shape): (Bound<'py, PyAny>, i32, Bound<'py, PyTuple>) =
                description.extract()?;
            let object = rebuild(kind, &shape, &share(block)?)?;
            match (&keywords, place.extract::<usize>()) {
                (_, Ok(position)) if position < items.len() => items[position] = object,
                (Some(keywords), Err(_)) => keywords.set_item(place, object)?,
                _ => {
                    let text = format!("a payload fills {place}, which its call does not have");
                    return Err(PyValueError::new_err(text));
                }
            }
        }
        Ok(Self {
            callable,
            arguments: PyTuple::new(py, items)?,
            keywords,
            carried,
        })
    }
}

/// Lifts a whole result: it travels as the only argument of a call would.
pub(crate) fn lift_value<'py>(
    py: Python<'py>,
    value: &Bound<'py, PyAny>,
    allocate: &Allocate,
) -> PyResult<Option<Lifted<'py>>> {
    let Some((kind, view)) = liftable(value)? else {
        return Ok(None);
    };
    let candidate = Candidate {
        object: value.clone(),
        place: 0usize.into_pyobject(py)?.into_any(),
        kind,
        view,
    };
    let holes = (PyTuple::new(py, [py.None()])?, None, None, None);
    copy(py, &[candidate], holes, allocate).map(Some)
}

/// Arguments and keywords with holes, the callable, what is carried.
type WithHoles<'py> = (
    Bound<'py, PyTuple>,
    Option<Bound<'py, PyDict>>,
    Option<Bound<'py, PyAny>>,
    Option<Bound<'py, PyDict>>,
);

/// The same, and (place, kind, shape) of what fills the holes.
type Pickled<'py> = (
    Bound<'py, PyTuple>,
    Option<Bound<'py, PyDict>>,
    Option<Bound<'py, PyAny>>,
    Option<Bound<'py, PyDict>>,
    Bound<'py, PyTuple>,
);

fn copy<'py>(
    py: Python<'py>,
    candidates: &[Candidate<'py>],
    (arguments, keywords, callable, carried): WithHoles<'py>,
    allocate: &Allocate,
) -> PyResult<Lifted<'py>> {
    let mut blocks = Vec::with_capacity(candidates.len());
    let mut descriptions = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let shape = PyTuple::new(py, candidate.view.shape())?;
        descriptions.push((&candidate.place, candidate.kind, shape).into_pyobject(py)?);
        blocks.push(copy_to_block(py, allocate, candidate.view.bytes())?);
    }
    let descriptions = PyTuple::new(py, descriptions)?;
    let pickled = (arguments, keywords, callable, carried, descriptions).into_pyobject(py)?;
    Ok(Lifted { pickled, blocks })
}

/// The kind of a large object that may be lifted, and its bytes.
fn liftable(object: &Bound<'_, PyAny>) -> PyResult<Option<(i32, View)>> {
    let py = object.py();
    let kind = if object.is_exact_instance_of::<PyBytes>() {
        BYTES
    } else if object.is_exact_instance_of::<PyByteArray>() {
        BYTEARRAY
    } else if is_array(object) {
        let numpy = numpy(py)?;
        if !object.get_type().is(&numpy.array) {
            return Ok(None);
        }
        let dtype = object.getattr(pyo3::intern!(py, "dtype"))?;
        let Some(place) = numpy.dtypes.iter().position(|known| dtype.is(known)) else {
            return Ok(None);
        };
        i32::try_from(place * 2).expect("a short table")
    } else {
        return Ok(None);
    };
    let Some(view) = View::new(object)? else {
        return Ok(None);
    };
    if kind < 0 {
        return Ok((view.len() >= BYTES_MIN).then_some((kind, view)));
    }
    // An array that must arrive read-only is left to the pickler.
    if view.len() < ARRAY_BYTES_MIN || (view.is_read_only() && !arrays_become_writable(py)) {
        return Ok(None);
    }
    let fortran = i32::from(!view.is_in_c_order());
    Ok(Some((kind + fortran, view)))
}

/// Whether the class says that it is NumPy's; nothing is imported for this.
fn is_array(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object has a live type, whose name is a C string that lives as long.
    let name = unsafe { CStr::from_ptr((*ffi::Py_TYPE(object.as_ptr())).tp_name) };
    name == c"numpy.ndarray"
}

/// Whether an object can hold no other.
fn is_atom(object: &Bound<'_, PyAny>) -> bool {
    object.is_exact_instance_of::<PyInt>()
        || object.is_exact_instance_of::<PyString>()
        || object.is_exact_instance_of::<PyFloat>()
        || object.is_exact_instance_of::<PyBytes>()
        || object.is_exact_instance_of::<PyNone>()
        || object.is_exact_instance_of::<PyBool>()
        || object.is_exact_instance_of::<PyComplex>()
}

fn rebuild<'py>(
    kind: i32,
    shape: &Bound<'py, PyTuple>,
    bytes: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = bytes.py();
    match kind {
        BYTES => {
            // SAFETY: attached, and `bytes` is a live object; the result is a new reference.
            unsafe { Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromObject(bytes.as_ptr())) }
        }
        BYTEARRAY => Ok(PyByteArray::from(bytes)?.into_any()),
        _ => {
            let numpy = numpy(py)?;
            let place = usize::try_from(kind / 2).ok();
            let dtype = place
                .and_then(|place| numpy.dtypes.get(place))
                .ok_or_else(|| PyValueError::new_err(format!("no dtype has the number {kind}")))?;
            let order = if kind % 2 == 0 { "C" } else { "F" };
            let order = pyo3::types::PyString::intern(py, order);
            numpy
                .array
                .bind(py)
                .call1((shape, dtype, bytes, 0, py.None(), order))
        }
    }
}
