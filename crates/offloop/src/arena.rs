//! Recycled shared memory for payloads that are too large for a ring.
//!
//! The owner of an arena (the parent for arguments, each worker for its results) allocates blocks
//! in it, writes them once, and passes their addresses; the peer maps whole chunks and reads in
//! place. Pages that were used before stay mapped on both sides: copying into them runs at the
//! speed of memory, several times faster than into fresh pages.
//!
//! Shape:      chunks of 64 MiB, or one chunk for one larger block; page-granular blocks.
//! Units:      bytes.
//! Invariants: 1. A block's range belongs to its `Block` until that is dropped.
//!             2. The bytes of all chunks together stay within `bytes_max`.
//! Errors:     `ArenaError`, which names the size and the limit.
//! Threads:    any; one short lock, never held while bytes are copied.
//! Source:     docs/design/003-arena.md.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use offloop_core::RangeAllocator;
use offloop_sys::fork;
use offloop_sys::memory::Mapping;

use crate::frame::BlockAddress;

/// Bytes of an ordinary chunk: large enough that a burst needs few descriptors, small enough that
/// growth stops close to the need.
pub const CHUNK_BYTES: u64 = 64 << 20;
/// Chunks of one peer that are mapped here at most: 256 GiB in ordinary ones.
const PEER_CHUNKS_MAX: usize = 4096;
const PAGE: u64 = 4096;

/// A block could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArenaError {
    /// The arena is at its limit.
    #[error("no room for {wanted} bytes in shared memory: {used} of {limit} bytes in use")]
    Full {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes that live blocks and their chunks take.
        used: u64,
        /// Most bytes that the arena may take.
        limit: u64,
    },
    /// The system refused memory.
    #[error("cannot create shared memory of {wanted} bytes")]
    System {
        /// Bytes asked for.
        wanted: u64,
        /// What the system said.
        source: io::Error,
    },
}

struct Chunk {
    mapping: Arc<Mapping>,
    ranges: RangeAllocator,
    /// Whether the chunk was made for one large block.
    single: bool,
}

#[derive(Default)]
struct Chunks {
    by_number: HashMap<u32, Chunk>,
    /// Numbers of the chunks, oldest first: low chunks fill first, so high ones drain.
    order: Vec<u32>,
    next: u32,
    mapped: u64,
}

/// An arena of which this process is the owner.
pub struct Arena {
    chunks: Mutex<Chunks>,
    bytes_max: u64,
    in_use: AtomicU64,
    generation: u32,
}

impl Arena {
    /// An empty arena that will not grow beyond `bytes_max`.
    #[must_use]
    pub fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self {
            chunks: Mutex::default(),
            bytes_max,
            in_use: AtomicU64::new(0),
            generation: fork::generation(),
        })
    }

    /// A block of `len` bytes; its contents are undefined until written.
    ///
    /// # Errors
    /// `ArenaError`; nothing was taken.
    pub fn allocate(self: &Arc<Self>, len: u64) -> Result<Block, ArenaError> {
        let span = len.max(1).next_multiple_of(PAGE);
        let mut chunks = self.lock();
        let found = match chunks.take_recycled(span) {
            Some(found) => found,
            None => {
                chunks.grow(span, self.bytes_max)?;
                chunks
                    .take_recycled(span)
                    .expect("the new chunk has room for it")
            }
        };
        let (number, offset, mapping) = found;
        self.in_use.fetch_add(span, Ordering::Relaxed);
        Ok(Block {
            arena: Arc::clone(self),
            mapping,
            address: BlockAddress {
                chunk: number,
                offset,
                len,
            },
        })
    }

    /// The descriptor of chunk `number`, to pass to a peer.
    ///
    /// # Errors
    /// The system's, when no descriptor is left, or `NotFound`.
    pub fn chunk_fd(&self, number: u32) -> io::Result<OwnedFd> {
        let chunks = self.lock();
        let chunk = chunks
            .by_number
            .get(&number)
            .ok_or(io::ErrorKind::NotFound)?;
        chunk.mapping.fd().try_clone_to_owned()
    }

    /// Bytes in live blocks.
    #[must_use]
    pub fn bytes_in_use(&self) -> u64 {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Most bytes the arena may take.
    #[must_use]
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    fn free(&self, address: BlockAddress) {
        if self.generation != fork::generation() {
            // In a forked child: the range is the parent's, and so may the lock be, for ever.
            return;
        }
        let span = address.len.max(1).next_multiple_of(PAGE);
        let mut chunks = self.lock();
        if let Some(chunk) = chunks.by_number.get_mut(&address.chunk) {
            chunk
                .ranges
                .free(address.offset, span)
                .expect("invariant 1: freed once, by its block");
        }
        drop(chunks);
        self.in_use.fetch_sub(span, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Chunks> {
        // A panic while the lock was held is a bug that has already been reported; the allocator's
        // own checks keep blocks apart, so the others may go on.
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chunks {
    fn take_recycled(&mut self, span: u64) -> Option<(u32, u64, Arc<Mapping>)> {
        for number in &self.order {
            let chunk = self.by_number.get_mut(number).expect("listed chunks exist");
            // A chunk made for one large block serves only blocks that would get one themselves:
            // a small one would pin all of it.
            if chunk.single != (span > CHUNK_BYTES) {
                continue;
            }
            if let Some(offset) = chunk.ranges.alloc(span) {
                return Some((*number, offset, Arc::clone(&chunk.mapping)));
            }
        }
        None
    }

    fn grow(&mut self, span: u64, bytes_max: u64) -> Result<(), ArenaError> {
        let single = span > CHUNK_BYTES;
        let len = if single {
            span.next_multiple_of(2 << 20)
        } else {
            CHUNK_BYTES
        };
        if self.mapped + len > bytes_max {
            self.drop_idle_singles();
        }
        if self.mapped + len > bytes_max {
            return Err(ArenaError::Full {
                wanted: span,
                used: self.mapped,
                limit: bytes_max,
            });
        }
        let system = |source| ArenaError::System {
            wanted: len,
            source,
        };
        let size = usize::try_from(len).map_err(|_| system(io::ErrorKind::OutOfMemory.into()))?;
        let mapping = Mapping::create(c"offloop-arena", size).map_err(system)?;
        let ranges = RangeAllocator::new(len);
        self.next += 1;
        self.order.push(self.next);
        let chunk = Chunk {
            mapping: Arc::new(mapping),
            ranges,
            single,
        };
        self.by_number.insert(self.next, chunk);
        self.mapped += len;
        Ok(())
    }

    fn drop_idle_singles(&mut self) {
        let Self {
            by_number,
            order,
            mapped,
            ..
        } = self;
        by_number.retain(|_, chunk| {
            let keep = !chunk.single || !chunk.ranges.is_empty();
            if !keep {
                *mapped -= chunk.mapping.len() as u64;
            }
            keep
        });
        order.retain(|number| by_number.contains_key(number));
    }
}

/// A range of an arena; dropping it gives the range back.
pub struct Block {
    arena: Arc<Arena>,
    mapping: Arc<Mapping>,
    address: BlockAddress,
}

impl std::fmt::Debug for Block {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Block").field(&self.address).finish()
    }
}

impl Block {
    /// Where the block lies, for a frame.
    #[must_use]
    pub fn address(&self) -> BlockAddress {
        self.address
    }

    /// Copies `bytes` into the block at `offset`.
    ///
    /// # Panics
    /// When they do not fit: the caller asked for too small a block.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        assert!(offset + bytes.len() as u64 <= self.address.len);
        let at = usize::try_from(self.address.offset + offset).expect("inside a mapping");
        self.mapping.write(at, bytes);
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.arena.free(self.address);
    }
}

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

/// Borrowed descriptor of a mapping, for a message.
#[must_use]
pub fn borrowed(fd: &OwnedFd) -> BorrowedFd<'_> {
    std::os::fd::AsFd::as_fd(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freed_block_is_used_again() {
        let arena = Arena::new(CHUNK_BYTES);
        let first = arena.allocate(100_000).unwrap().address();
        let second = arena.allocate(100_000).unwrap().address();
        assert_eq!(first, second);
        assert_eq!(arena.bytes_in_use(), 0);
    }

    #[test]
    fn the_limit_refuses_and_names_itself() {
        let arena = Arena::new(2 * CHUNK_BYTES);
        let kept = arena.allocate(CHUNK_BYTES).unwrap();
        let error = arena.allocate(2 * CHUNK_BYTES).unwrap_err().to_string();
        assert!(error.contains("134217728"), "{error}");
        drop(kept);
    }

    #[test]
    fn a_large_chunk_makes_room_for_another_size() {
        let arena = Arena::new(3 * CHUNK_BYTES);
        drop(arena.allocate(2 * CHUNK_BYTES).unwrap());
        drop(arena.allocate(3 * CHUNK_BYTES).unwrap());
    }

    #[test]
    fn a_peer_reads_what_the_owner_wrote_and_nothing_outside() {
        let arena = Arena::new(CHUNK_BYTES);
        let block = arena.allocate(5).unwrap();
        block.write(0, b"hello");
        let mut peer = PeerChunks::default();
        let address = block.address();
        peer.add(address.chunk, arena.chunk_fd(address.chunk).unwrap())
            .unwrap();
        assert_eq!(peer.block(address).unwrap().len(), 5);
        assert!(
            peer.block(BlockAddress {
                offset: CHUNK_BYTES,
                ..address
            })
            .is_none()
        );
        assert!(
            peer.block(BlockAddress {
                len: u64::MAX,
                ..address
            })
            .is_none()
        );
        assert!(
            peer.block(BlockAddress {
                chunk: 99,
                ..address
            })
            .is_none()
        );
    }
}
