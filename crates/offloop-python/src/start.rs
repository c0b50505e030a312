//! How the workers of a lane start: what Python describes, as the runtime takes it.

use std::ffi::OsString;
use std::os::fd::{BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use offloop::{FleetConfig, Launch, Program};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::home::{Home, home};
use crate::surroundings;

/// A path, arguments and an environment.
type ProgramParts = (OsString, Vec<OsString>, Vec<OsString>);

/// How the workers of one lane start, described anew whenever the program may have changed.
pub(crate) struct Start {
    /// Returns the program of the zygote, its setup, and the line to the resource tracker.
    pub(crate) describe: Py<PyAny>,
    pub(crate) inherited: Arc<Vec<OwnedFd>>,
    pub(crate) tasks_per_worker_max: Option<u32>,
    pub(crate) start_timeout: Duration,
    /// It has an initializer.
    pub(crate) initializes: bool,
}

impl Start {
    /// A fleet of workers that start as the program is now.
    pub(crate) fn fleet(&self, py: Python<'_>, home: &Home) -> PyResult<FleetConfig> {
        // Before the description, which may know of later changes, but of no fewer.
        let surroundings = surroundings::newest(py, home)?.map_or(0, |newest| newest.id());
        let described = self.describe.bind(py).call0()?;
        let (program, setup, tracker): (ProgramParts, Vec<u8>, i32) = described.extract()?;
        let launch = Launch {
            program: new_program(program),
            setup,
            inherited: Arc::clone(&self.inherited),
            tracker: Some(Arc::new(duplicate(tracker)?)),
            surroundings,
            tasks_per_worker_max: self.tasks_per_worker_max,
        };
        Ok(FleetConfig {
            launch,
            start_timeout: self.start_timeout,
            initializes: self.initializes,
        })
    }
}

fn new_program((path, arguments, environment): ProgramParts) -> Program {
    Program {
        path,
        arguments,
        environment,
    }
}

/// A copy of a descriptor that stays Python's own.
fn duplicate(fd: i32) -> PyResult<OwnedFd> {
    if fd < 0 {
        return Err(PyValueError::new_err("not a descriptor"));
    }
    // SAFETY: the caller in Python keeps the number open until this call returns.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?)
}

/// Opens a line to a resource tracker, which is started when something is written to the line;
/// returns the number of its write end, which the caller owns.
#[pyfunction]
pub(crate) fn open_tracker_line(program: ProgramParts) -> PyResult<i32> {
    let line = home()?.runtime.open_tracker_line(new_program(program))?;
    Ok(line.into_raw_fd())
}

/// Takes over a descriptor that Python duplicated for us.
pub(crate) fn adopt(fd: i32) -> OwnedFd {
    // SAFETY: our own Python code made the number with `os.dup` for this call and forgot it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}
