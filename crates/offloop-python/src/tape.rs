//! What is written of a program's run, and what is made of it, as Python asks for it.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use offloop::recorded::{About, Format};
use offloop::{metrics, recorded, report};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::home::{existing_home, home};
use crate::loads::loads;
use crate::watch;

/// What is told of the program, from Python.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Told {
    program: String,
    python: String,
    offloop: String,
    began: f64,
    threshold: f64,
}

/// Files that are written while the program runs.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct Tape {
    tape: Mutex<Option<recorded::Tape>>,
}

#[pymethods]
impl Tape {
    /// Begins; `files` are pairs of a format (`trace`, `speedscope` or `journal`) and a path.
    #[new]
    fn new(told: Told, files: Vec<(String, PathBuf)>) -> PyResult<Self> {
        let format = |(name, path): (String, PathBuf)| {
            let format = match &*name {
                "trace" => Format::Trace,
                "speedscope" => Format::Speedscope,
                "journal" => Format::Journal,
                _ => {
                    return Err(PyValueError::new_err(format!(
                        "no format is called {name:?}"
                    )));
                }
            };
            Ok((format, path))
        };
        let files = files
            .into_iter()
            .map(format)
            .collect::<PyResult<Vec<_>>>()?;
        let about = About {
            pid: std::process::id(),
            program: told.program,
            python: told.python,
            offloop: told.offloop,
            began: told.began,
            threshold: told.threshold,
        };
        let recorder = home()?.runtime.recorder().clone();
        let tape = recorded::Tape::start(&recorder, loads(), about, &files)
            .map_err(|error| PyOSError::new_err(error.to_string()))?;
        Ok(Self {
            tape: Mutex::new(Some(tape)),
        })
    }

    /// Writes what is left; false if a second was not enough.
    fn finish(&self, py: Python<'_>) -> bool {
        let tape = self.tape.lock().unwrap_or_else(PoisonError::into_inner);
        let tape = { tape }.take();
        py.detach(|| tape.is_none_or(recorded::Tape::finish))
    }
}

/// The page of a journal.
#[pyfunction]
pub(crate) fn report_html(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    let page = py.detach(|| report::html(&path));
    page.map_err(|error| PyValueError::new_err(error.to_string()))
}

/// The metrics of this process as Prometheus reads them.
#[pyfunction]
pub(crate) fn metrics_text() -> String {
    let snapshot = existing_home().map(|home| home.runtime.snapshot());
    let snapshot = snapshot.unwrap_or_default();
    let ranking = watch::ranking();
    let culprits = ranking
        .as_ref()
        .map(|ranking| ranking.lock().unwrap_or_else(PoisonError::into_inner));
    metrics::text(&snapshot, &loads(), culprits.as_deref())
}
