//! The runtime of this process: made at the first use, and left alone in a forked child.

use std::sync::{Arc, Mutex, PoisonError};

use offloop::Runtime;
use pyo3::prelude::*;

use crate::blocks::Allocate;

/// The runtime of this process and its arena.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) runtime: Runtime,
    pub(crate) allocate: Allocate,
}

static HOME: Mutex<Option<Home>> = Mutex::new(None);

/// The runtime of this process; a forked child gets its own.
pub(crate) fn home() -> PyResult<Home> {
    let mut home = HOME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(home) = home.as_ref().filter(|home| !home.runtime.is_forked()) {
        return Ok(home.clone());
    }
    let runtime = Runtime::new(None)?;
    let arena = runtime.clone();
    let fresh = Home {
        runtime,
        allocate: Arc::new(move |len| arena.allocate(len)),
    };
    // The parent's runtime is left alone in a forked child: its threads are not here.
    std::mem::forget(home.replace(fresh.clone()));
    Ok(fresh)
}

/// The same, if there is one.
pub(crate) fn existing_home() -> Option<Home> {
    let home = HOME.lock().unwrap_or_else(PoisonError::into_inner);
    home.as_ref()
        .filter(|home| !home.runtime.is_forked())
        .cloned()
}

/// Process ids of all workers.
#[pyfunction]
pub(crate) fn worker_pids() -> Vec<i32> {
    existing_home().map_or_else(Vec::new, |home| home.runtime.worker_pids())
}

/// Process ids of all zygotes.
#[pyfunction]
pub(crate) fn zygote_pids() -> Vec<i32> {
    existing_home().map_or_else(Vec::new, |home| home.runtime.zygote_pids())
}
