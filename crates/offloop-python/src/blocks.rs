//! Blocks of shared memory for what is too large to travel in a ring.
//!
//! Units:   bytes.
//! Errors:  `QueueFull` when shared memory is at its limit.

use std::sync::Arc;

use offloop::arena::{ArenaError, Block};
use pyo3::prelude::*;

use crate::error::not_allocated;

/// A copy of this size is worth letting other threads run meanwhile.
const DETACHED_COPY_BYTES_MIN: usize = 1 << 20;

/// Where blocks come from: the program's arena, or a worker's own.
pub(crate) type Allocate = Arc<dyn Fn(u64) -> Result<Block, ArenaError> + Send + Sync>;

/// A new block of `len` bytes.
pub(crate) fn new_block(py: Python<'_>, allocate: &Allocate, len: u64) -> PyResult<Block> {
    allocate(len).map_err(|error| not_allocated(py, &error))
}

/// A new block that holds `bytes`.
pub(crate) fn copy_to_block(py: Python<'_>, allocate: &Allocate, bytes: &[u8]) -> PyResult<Block> {
    let block = new_block(py, allocate, bytes.len() as u64)?;
    if bytes.len() >= DETACHED_COPY_BYTES_MIN {
        py.detach(|| block.write(0, bytes));
    } else {
        block.write(0, bytes);
    }
    Ok(block)
}
