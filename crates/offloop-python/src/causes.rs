//! Why another thread does not go on, for Python: for tests and tools.
//!
//! Threads:    any. The GIL is released between the two looks.
//! Source:     docs/design/015-causes.md.

use std::time::{Duration, Instant};

use offloop::causes::{Sight, evidence};
use offloop_core::watch::{Cause, cause};
use offloop_sys::activity::{LookError, ThreadFiles};
use offloop_sys::interpreter::Unreadable;
use pyo3::exceptions::{PyProcessLookupError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::stacks::{Reader, reader};

/// A cause, for Python.
#[derive(Default, IntoPyObject)]
pub(crate) struct CauseReading {
    cause: &'static str,
    /// The address, path or name of what is waited for.
    name: Option<String>,
    /// The child that is waited for.
    pid: Option<i32>,
    /// The thread that has the GIL.
    native_id: Option<u64>,
    holds_gil: Option<bool>,
    /// What it was found by, for people.
    evidence: String,
}

impl CauseReading {
    fn new(cause: &Cause, evidence: String) -> Self {
        let reading = Self {
            cause: cause.name(),
            evidence,
            ..Self::default()
        };
        match cause {
            Cause::Socket { peer: name }
            | Cause::File { path: name }
            | Cause::Descriptor { name } => Self {
                name: name.as_deref().map(str::to_owned),
                ..reading
            },
            Cause::Child { pid } => Self {
                pid: *pid,
                ..reading
            },
            Cause::OtherThread { native_id } => Self {
                native_id: Some(*native_id),
                ..reading
            },
            Cause::Native { holds_gil } => Self {
                holds_gil: Some(*holds_gil),
                ..reading
            },
            _ => reading,
        }
    }
}

/// Why the thread that the kernel has under this id does not go on, by two looks so far apart.
#[pyfunction]
pub(crate) fn cause_of(
    py: Python<'_>,
    native_thread_id: u64,
    seconds: f64,
) -> PyResult<CauseReading> {
    let reader = reader(py).map_err(PyRuntimeError::new_err)?;
    let apart = apart(seconds)?;
    py.detach(|| find(reader, native_thread_id, apart))
        .map_err(PyErr::from)
}

/// The same so many times in a row, without the GIL in between.
#[pyfunction]
pub(crate) fn sample_causes(
    py: Python<'_>,
    native_thread_id: u64,
    seconds: f64,
    count: u32,
) -> PyResult<Vec<CauseReading>> {
    let reader = reader(py).map_err(PyRuntimeError::new_err)?;
    let apart = apart(seconds)?;
    py.detach(|| {
        (0..count)
            .map(|_| find(reader, native_thread_id, apart))
            .collect::<Result<_, _>>()
    })
    .map_err(PyErr::from)
}

fn apart(seconds: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(seconds).map_err(|error| PyValueError::new_err(error.to_string()))
}

/// Why there is no cause to be told.
enum CauseError {
    /// The kernel does not tell.
    Look(LookError),
    /// The interpreter does not know the thread.
    Stack(Unreadable),
}

impl From<CauseError> for PyErr {
    fn from(error: CauseError) -> Self {
        match error {
            CauseError::Look(error @ LookError::Ended) => {
                PyProcessLookupError::new_err(error.to_string())
            }
            CauseError::Stack(error @ Unreadable::NoThread) => {
                PyProcessLookupError::new_err(error.to_string())
            }
            CauseError::Look(error) => PyRuntimeError::new_err(error.to_string()),
            CauseError::Stack(error) => PyRuntimeError::new_err(error.to_string()),
        }
    }
}

fn find(reader: &Reader, native_id: u64, apart: Duration) -> Result<CauseReading, CauseError> {
    let thread = reader.find(native_id).map_err(CauseError::Stack)?;
    let files = ThreadFiles::open(native_id).map_err(CauseError::Look)?;
    let see = || Sight::of(&files, reader, thread).map_err(CauseError::Look);
    let begin = Instant::now();
    let first = see()?;
    let motion = first.motion(reader, thread);
    let left = apart.saturating_sub(begin.elapsed());
    let before = Instant::now();
    std::thread::sleep(left);
    let late = before.elapsed().saturating_sub(left);
    let second = see()?;
    let evidence = evidence(&[first, second], motion, late);
    let shown = format!("{evidence:?}");
    Ok(CauseReading::new(&cause(&evidence), shown))
}
