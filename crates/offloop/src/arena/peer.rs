//! The reading side: chunks of a peer's arena that are mapped here, and the blocks in them.
//!
//! Invariants: a block lies inside a chunk that the peer passed; its memory stays mapped while the
//!             block lives, even when the peer gives the chunk up or ends.
//! Errors:     `InvalidData` when the peer passes or gives up a chunk that it should not.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use offloop_sys::memory::Mapping;

use crate::frame::BlockAddress;

/// Chunks of one peer that are mapped here at most: 256 GiB in ordinary ones.
const PEER_CHUNKS_MAX: usize = 4096;

/// A range of a peer's chunk, mapped here.
#[derive(Clone, Debug)]
pub struct MappedBlock {
    mapping: Arc<Mapping>,
    offset: usize,
    len: usize,
}

impl MappedBlock {
    /// Address of its first byte, valid for `len` bytes while this lives.
    #[must_use]
    pub fn as_ptr(&self) -> *mut u8 {
        self.mapping.as_ptr().wrapping_add(self.offset)
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Copies its bytes from `offset` on into `bytes`.
    ///
    /// # Panics
    /// When the range is not inside the block: the caller computed it, so that is a bug.
    pub fn read(&self, offset: usize, bytes: &mut [u8]) {
        assert!(
            offset
                .checked_add(bytes.len())
                .is_some_and(|end| end <= self.len)
        );
        self.mapping.read(self.offset + offset, bytes);
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The chunks of a peer's arena that are mapped here.
#[derive(Debug, Default)]
pub struct PeerChunks(HashMap<u32, Arc<Mapping>>);

impl PeerChunks {
    /// Maps chunk `number`, whose descriptor the peer passed.
    ///
    /// # Errors
    /// The system's, or `InvalidData` when the peer passed it before or has passed too many.
    pub fn add(&mut self, number: u32, fd: OwnedFd) -> io::Result<()> {
        if self.contains(number) || self.0.len() >= PEER_CHUNKS_MAX {
            let text = format!("chunk {number} after {} others", self.0.len());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        self.0.insert(number, Arc::new(Mapping::new(fd)?));
        Ok(())
    }

    /// Forgets chunk `number`, which the peer gave up; readers that are left keep its memory.
    ///
    /// # Errors
    /// `InvalidData` when the peer never passed it.
    pub fn remove(&mut self, number: u32) -> io::Result<()> {
        let text = || format!("chunk {number} is not there to be given up");
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, text());
        self.0.remove(&number).map(drop).ok_or_else(invalid)
    }

    /// Whether chunk `number` is mapped.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        self.0.contains_key(&number)
    }

    /// The block at `address`; `None` when it does not lie inside a chunk that the peer passed.
    #[must_use]
    pub fn block(&self, address: BlockAddress) -> Option<MappedBlock> {
        let mapping = self.0.get(&address.chunk)?;
        let offset = usize::try_from(address.offset).ok()?;
        let len = usize::try_from(address.len).ok()?;
        let inside = offset
            .checked_add(len)
            .is_some_and(|end| end <= mapping.len());
        inside.then(|| MappedBlock {
            mapping: Arc::clone(mapping),
            offset,
            len,
        })
    }
}
