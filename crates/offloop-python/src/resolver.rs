//! The resolver: one thread that resolves futures nobody else can.
//!
//! Plain threads have no loop to be told on, and a loop that is stuck does not come to fetch what
//! any thread may resolve. The thread starts with the first future that may need it, sleeps
//! without the interpreter's lock, and ends before the interpreter does.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use offloop::{Owner, Runtime};
use pyo3::prelude::*;

use crate::owner::resolve_all;

/// Outcomes resolved before other threads may have the interpreter: a millisecond or two of them. A
/// loop that was stuck and comes back finds this thread at work, and would wait for as many.
const BATCH: usize = 64;

struct Resolver {
    thread: JoinHandle<()>,
    owner: Arc<Owner>,
}

static RESOLVER: Mutex<Option<Resolver>> = Mutex::new(None);
/// The fork generation whose resolver runs, plus one.
static STARTED_FOR: AtomicU32 = AtomicU32::new(0);
static STOP: AtomicBool = AtomicBool::new(false);

/// Starts the thread of this process unless it runs.
pub(crate) fn ensure(runtime: &Runtime) -> std::io::Result<()> {
    let generation = offloop_sys::fork::generation() + 1;
    if STARTED_FOR.load(Ordering::Acquire) == generation {
        return Ok(());
    }
    let mut resolver = RESOLVER.lock().unwrap_or_else(PoisonError::into_inner);
    if STARTED_FOR.load(Ordering::Acquire) == generation {
        return Ok(());
    }
    let owner = Arc::new(runtime.resolver());
    let thread = Arc::clone(&owner).serve("offloop-resolver", resolve_waiting)?;
    // A thread of the parent process does not exist in a forked child: its handle is left alone.
    std::mem::forget(resolver.replace(Resolver { thread, owner }));
    STOP.store(false, Ordering::Release);
    STARTED_FOR.store(generation, Ordering::Release);
    Ok(())
}

/// Resolves a batch; false when the thread is to end.
fn resolve_waiting(owner: &Owner) -> bool {
    if STOP.load(Ordering::Acquire) {
        return false;
    }
    let attached = Python::try_attach(|py| {
        let mut finished = Vec::new();
        owner.drain(BATCH, &mut finished);
        if let Err(error) = resolve_all(py, finished) {
            // There is no caller to raise to: Python's hook for such errors gets it.
            error.write_unraisable(py, None);
        }
    });
    attached.is_some()
}

/// Ends the thread and waits for it. The caller is not attached to the interpreter.
pub(crate) fn stop() {
    let resolver = RESOLVER
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    let generation = offloop_sys::fork::generation() + 1;
    let Some(resolver) = resolver else { return };
    if STARTED_FOR.swap(0, Ordering::AcqRel) != generation {
        std::mem::forget(resolver);
        return;
    }
    STOP.store(true, Ordering::Release);
    // The event is ours and open: signalling it cannot fail.
    let _ = resolver.owner.event().signal();
    if resolver.thread.join().is_err() {
        // Its panic message has been printed; nothing is left that it could have resolved.
    }
}
