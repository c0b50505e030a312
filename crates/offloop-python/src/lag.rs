//! A histogram of times for Python code that measures some. The loop counts in the same one.
//!
//! Units:   seconds in Python, nanoseconds within.
//! Threads: any; a lock is held for as long as one count takes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use offloop_core::event_loop::Histogram;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// Counts times.
#[pyclass(frozen, module = "_offloop_worker._offloop")]
pub(crate) struct LagRecorder {
    histogram: Mutex<Histogram>,
}

/// `LagHistogram` of Python. No Python object is in it: making one may run Python code, which no
/// lock of a histogram may see.
#[derive(IntoPyObject)]
pub(crate) struct LagFields {
    count: u64,
    total: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
    buckets: Buckets,
}

/// Pairs of a bucket's upper edge and its count; a tuple in Python.
struct Buckets(Vec<(f64, u64)>);

impl<'py> IntoPyObject<'py> for Buckets {
    type Target = PyTuple;
    type Output = Bound<'py, PyTuple>;
    type Error = PyErr;

    fn into_pyobject(self, py: Python<'py>) -> PyResult<Self::Output> {
        PyTuple::new(py, self.0)
    }
}

impl From<&Histogram> for LagFields {
    fn from(histogram: &Histogram) -> Self {
        let edge = |longest: Option<u64>| longest.map_or(f64::INFINITY, |ns| seconds(ns + 1));
        let buckets = histogram.buckets();
        let buckets = buckets.map(|(longest, count)| (edge(longest), count));
        Self {
            count: histogram.count(),
            total: seconds(histogram.total_ns()),
            p50: seconds(histogram.quantile_ns(500)),
            p90: seconds(histogram.quantile_ns(900)),
            p99: seconds(histogram.quantile_ns(990)),
            max: seconds(histogram.max_ns()),
            buckets: Buckets(buckets.collect()),
        }
    }
}

impl LagRecorder {
    fn histogram(&self) -> MutexGuard<'_, Histogram> {
        self.histogram
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl LagRecorder {
    #[new]
    fn new() -> Self {
        Self {
            histogram: Mutex::default(),
        }
    }

    /// Counts one time; less than none counts as none.
    fn record(&self, seconds: f64) {
        let time = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.histogram().record(ns);
    }

    /// What was counted: the fields of `LagHistogram`.
    fn fields(&self) -> LagFields {
        LagFields::from(&*self.histogram())
    }
}

/// Seconds, for Python.
pub(crate) fn seconds(ns: u64) -> f64 {
    Duration::from_nanos(ns).as_secs_f64()
}
