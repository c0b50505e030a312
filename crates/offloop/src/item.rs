//! An item of a stream, as its consumer gets it.

use offloop_core::WorkerId;

use crate::outcome::ReturnedBlocks;

/// An item that a call has sent while it goes on.
#[derive(Debug)]
pub struct Item {
    /// Inline payload.
    pub payload: Vec<u8>,
    /// Blocks, and whether the first one holds the payload.
    pub blocks: Option<(ReturnedBlocks, bool)>,
    /// What it takes of the window until it is taken.
    pub cost: u64,
    /// Where to tell that it was taken; see [`Lane::tell_taken`](crate::Lane::tell_taken).
    pub source: Source,
}

/// The attempt of a call that sends items.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    pub(crate) fleet: u32,
    pub(crate) worker: WorkerId,
    pub(crate) sequence: u64,
}
