//! A call as the pool keeps it, and what the caller gets back when the pool refuses it.

use std::sync::Arc;

use crate::call::{Call, Definition, Payload, SubmitError};
use crate::fault::Fault;
use crate::recorder::CallNote;

/// A call that the pool decides about.
pub(crate) struct Task {
    pub(crate) owner: u8,
    pub(crate) token: u64,
    pub(crate) any_thread: bool,
    pub(crate) streams: bool,
    /// It may be started again, and must then see the bytes that it was given.
    pub(crate) copy_blocks: bool,
    pub(crate) function: Option<Arc<Definition>>,
    pub(crate) needs: Vec<Arc<Definition>>,
    pub(crate) payload: Payload,
    pub(crate) surroundings: Option<Arc<Definition>>,
    pub(crate) note: Option<Box<CallNote>>,
}

impl Task {
    /// The task of a call; `retried` says whether it may be started again.
    pub(crate) fn new(call: Call, retried: bool) -> Self {
        let Call {
            owner,
            token,
            any_thread,
            streams,
            function,
            needs,
            payload,
            surroundings,
            note,
        } = call;
        Self {
            owner,
            token,
            any_thread,
            streams,
            copy_blocks: retried,
            function,
            needs,
            payload,
            surroundings,
            note,
        }
    }
}

/// The refusal of a pool as the caller gets it: what may be taken later comes back. `broken` tells
/// why a fleet has no workers, if that is known.
pub(crate) fn refuse(
    error: offloop_core::SubmitError<Task>,
    broken: Option<&Arc<Fault>>,
) -> SubmitError {
    use offloop_core::SubmitError as Refusal;
    match error {
        Refusal::Full {
            queued,
            limit,
            payload,
        } => SubmitError::Full {
            queued,
            limit,
            call: give_back(payload),
        },
        Refusal::FullBytes {
            held,
            bytes,
            limit,
            payload,
        } => SubmitError::FullBytes {
            held,
            bytes,
            limit,
            call: give_back(payload),
        },
        Refusal::TooLarge { bytes, limit, .. } => SubmitError::TooLarge { bytes, limit },
        Refusal::Closed { .. } => SubmitError::Closed,
        Refusal::Broken { .. } => SubmitError::Broken {
            fault: broken.map_or_else(|| Arc::new(Fault::GivenUp), Arc::clone),
        },
    }
}

fn give_back(task: Task) -> Box<Call> {
    let Task {
        owner,
        token,
        any_thread,
        streams,
        function,
        needs,
        payload,
        surroundings,
        note,
        ..
    } = task;
    Box::new(Call {
        owner,
        token,
        any_thread,
        streams,
        function,
        needs,
        payload,
        surroundings,
        note,
    })
}
