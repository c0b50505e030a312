//! The resolver: threads that resolve futures that no loop resolves, and run the user's callbacks.
//!
//! Plain threads have no loop to be told on, a loop that is stuck does not come to fetch what any
//! thread may resolve, and no callback is to hold a loop up. One thread at a time is on duty; it
//! starts with the first future that may need it, sleeps without the GIL, and ends before the
//! interpreter does. When a callback keeps it, another takes over (`offloop/src/crew.rs`).

use offloop::{After, Runtime, Taken, Turn};
use pyo3::prelude::*;

use crate::{forsaking, resolving};

/// Outcomes resolved before other threads may have the GIL: a millisecond or two of them. A
/// loop that was stuck and comes back finds this thread at work, and would wait for as many.
const BATCH: usize = 64;

/// Starts the first thread of this process unless it runs.
pub(crate) fn ensure(runtime: &Runtime) -> std::io::Result<()> {
    runtime.start_crew(resolve_waiting)
}

/// Resolves a batch.
fn resolve_waiting(turn: &Turn) -> After {
    forsaking::stay();
    Python::try_attach(|py| {
        resolving::set_turn(turn.number());
        let after = resolve_batch(py, turn);
        resolving::set_turn(0);
        after
    })
    .unwrap_or(After::End)
}

fn resolve_batch(py: Python<'_>, turn: &Turn) -> After {
    for count in 0..BATCH {
        let taken = if count == 0 { turn.look() } else { turn.take() };
        let notice = match taken {
            Taken::Notice(notice) => notice,
            Taken::Nothing => return After::Wait,
            Taken::Relieved => return After::Relieved,
        };
        if let Err(error) = resolving::resolve(py, notice, None) {
            // There is no caller to raise to: Python's hook for such errors gets it.
            error.write_unraisable(py, None);
        }
    }
    After::Again
}
