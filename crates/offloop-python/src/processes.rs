//! A worker process as Python sees it: what `multiprocessing.Process` offers to the parent.
//!
//! Invariants: the descriptor is open for as long as the object lives, so that a signal cannot
//!             reach another process that got the number since.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use offloop_sys::process::{self, ExitStatus};
use offloop_sys::socket;
use pyo3::prelude::*;

use crate::calls;
use crate::resolving::WAIT_SLICE;

/// A worker, alive or not.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct WorkerProcess {
    pid: i32,
    pidfd: OwnedFd,
    /// Kept once known: some kernels forget it with the process.
    status: OnceLock<ExitStatus>,
}

impl WorkerProcess {
    pub(crate) fn new(pid: i32, pidfd: OwnedFd) -> Self {
        Self {
            pid,
            pidfd,
            status: OnceLock::new(),
        }
    }

    fn wait(&self, limit: Duration) -> PyResult<bool> {
        Ok(socket::wait_readable(self.pidfd.as_fd(), Some(limit))?)
    }
}

#[pymethods]
impl WorkerProcess {
    #[getter]
    fn pid(&self) -> i32 {
        self.pid
    }

    /// A descriptor that is readable once the process has ended.
    #[getter]
    fn sentinel(&self) -> i32 {
        self.pidfd.as_raw_fd()
    }

    fn is_alive(&self) -> PyResult<bool> {
        Ok(!self.wait(Duration::ZERO)?)
    }

    /// Sends SIGTERM, unless the process has ended.
    fn terminate(&self) -> PyResult<()> {
        Ok(process::terminate(self.pidfd.as_fd())?)
    }

    /// Sends SIGKILL, unless the process has ended.
    fn kill(&self) -> PyResult<()> {
        Ok(process::kill(self.pidfd.as_fd())?)
    }

    /// Waits until the process has ended, at most `timeout` seconds.
    #[pyo3(signature = (timeout = None))]
    fn join(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        let limit = timeout.map(|seconds| calls::duration("timeout", seconds.max(0.0)));
        let limit = limit.transpose()?;
        let begin = Instant::now();
        loop {
            let left = limit.map(|limit| limit.saturating_sub(begin.elapsed()));
            let slice = left.map_or(WAIT_SLICE, |left| left.min(WAIT_SLICE));
            if py.detach(|| self.wait(slice))? || left.is_some_and(|left| left.is_zero()) {
                return Ok(());
            }
            py.check_signals()?;
        }
    }

    /// The code that it returned, or the signal that ended it, as a negative number. None while it
    /// is alive, and where the status cannot be had: the zygote reaps the worker, and kernels
    /// before 6.15 show the status to no other process afterwards.
    #[getter]
    fn exitcode(&self) -> PyResult<Option<i32>> {
        if self.is_alive()? {
            return Ok(None);
        }
        let known = self.status.get().copied();
        let Some(status) = known.or_else(|| process::exit_status(self.pidfd.as_fd())) else {
            return Ok(None);
        };
        Ok(Some(match *self.status.get_or_init(|| status) {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal(signal) => -signal,
        }))
    }

    fn __repr__(&self) -> PyResult<String> {
        let state = if self.is_alive()? { "alive" } else { "ended" };
        Ok(format!("<WorkerProcess pid={} {state}>", self.pid))
    }
}
