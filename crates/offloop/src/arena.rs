//! Recycled shared memory for payloads that are too large for a ring.
//!
//! The owner of an arena (the parent for arguments, each worker for its results) allocates blocks
//! in it, writes them once, and passes their addresses; the peer maps whole chunks and reads in
//! place. Pages that were used before stay mapped on both sides: copying into them runs at the
//! speed of memory, several times faster than into fresh pages. What was not needed for a while
//! goes back to the system, a step at a time, when the owner's thread calls [`Arena::trim`].
//!
//! Shape:      chunks of 64 MiB, or one chunk for one larger block; page-granular blocks.
//! Units:      bytes.
//! Invariants: 1. A block's range belongs to its `Block` until that is dropped.
//!             2. The bytes of all chunks together stay within `bytes_max`.
//! Errors:     `ArenaError`, which names the size and the limit.
//! Threads:    any; one short lock, never held while bytes are copied, and for about a quarter of a
//!             millisecond while a step of pages is given back.
//! Source:     docs/design/003-arena.md.

mod chunks;
mod peer;

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use offloop_core::{Instant, PAGE_BYTES, TrimPolicy};
use offloop_sys::event::Event;
use offloop_sys::memory::Mapping;
use offloop_sys::{clock, fork};

use self::chunks::{Chunks, Place};
use crate::frame::BlockAddress;

pub use self::peer::{MappedBlock, PeerChunks};

/// Bytes of an ordinary chunk: large enough that a burst needs few descriptors, small enough that
/// growth stops close to the need.
pub const CHUNK_BYTES: u64 = 64 << 20;

/// A block could not be had.
#[derive(Debug, thiserror::Error)]
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

/// An arena of which this process is the owner.
pub struct Arena {
    chunks: Mutex<Chunks>,
    bytes_max: u64,
    /// What the chunks say; stored under their lock, read without it.
    in_use: AtomicU64,
    generation: u32,
    /// Told when [`Arena::poll_timeout`] or [`Arena::take_closed`] have something new.
    wake: Option<Arc<Event>>,
}

impl Arena {
    /// An empty arena that will not grow beyond `bytes_max`. Its owner looks at
    /// [`poll_timeout`](Self::poll_timeout) whenever it goes to sleep.
    #[must_use]
    pub fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self::with(bytes_max, None))
    }

    /// An arena like that of [`new`](Self::new) which other threads use while its owner sleeps:
    /// they signal `wake` when the owner has something to look at.
    #[must_use]
    pub fn with_wake(bytes_max: u64, wake: Arc<Event>) -> Arc<Self> {
        Arc::new(Self::with(bytes_max, Some(wake)))
    }

    fn with(bytes_max: u64, wake: Option<Arc<Event>>) -> Self {
        Self {
            chunks: Mutex::default(),
            bytes_max,
            in_use: AtomicU64::new(0),
            generation: fork::generation(),
            wake,
        }
    }

    /// A block of `len` bytes; its contents are undefined until written.
    ///
    /// # Errors
    /// `ArenaError`; nothing was taken.
    pub fn allocate(self: &Arc<Self>, len: u64) -> Result<Block, ArenaError> {
        let mut chunks = self.lock();
        let taken = chunks.take(span(len), self.bytes_max);
        self.in_use.store(chunks.in_use(), Ordering::Relaxed);
        let closed = chunks.has_closed();
        drop(chunks);
        if closed {
            self.wake();
        }
        let Place {
            chunk,
            offset,
            mapping,
        } = taken?;
        Ok(Block {
            arena: Arc::clone(self),
            mapping,
            address: BlockAddress { chunk, offset, len },
        })
    }

    /// The descriptor of chunk `number`, to pass to a peer.
    ///
    /// # Errors
    /// The system's, when no descriptor is left, or `NotFound`.
    pub fn chunk_fd(&self, number: u32) -> io::Result<OwnedFd> {
        let chunks = self.lock();
        let mapping = chunks.mapping(number).ok_or(io::ErrorKind::NotFound)?;
        mapping.fd().try_clone_to_owned()
    }

    /// When [`trim`](Self::trim) is due; `None` while nothing can be given back.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.lock().poll_timeout()
    }

    /// Gives back a step of what was not needed for a while, if that is due.
    pub fn trim(&self, now: Instant) {
        if self.generation == fork::generation() {
            self.lock().handle_timeout(now);
        }
    }

    /// Chunks that were closed, each told once: the peers unmap them.
    #[must_use]
    pub fn take_closed(&self) -> Vec<u32> {
        self.lock().take_closed()
    }

    /// Another length of time for which pages that nothing needs are kept; 10 s unless set.
    pub fn set_trim_window(&self, window: Duration) {
        self.lock().set_window(TrimPolicy::new(window));
    }

    /// Bytes in live blocks.
    #[must_use]
    pub fn bytes_in_use(&self) -> u64 {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Bytes of memory that the arena takes from the system now, as the system counts them.
    ///
    /// # Errors
    /// The system's.
    pub fn bytes_backed(&self) -> io::Result<u64> {
        self.lock().mappings().map(Mapping::bytes_backed).sum()
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
        let mut chunks = self.lock();
        chunks.free(address.chunk, address.offset, span(address.len));
        self.in_use.store(chunks.in_use(), Ordering::Relaxed);
        let watched = chunks.watch(|| Instant::from_nanos(clock::monotonic_ns()));
        drop(chunks);
        if watched {
            self.wake();
        }
    }

    fn wake(&self) {
        // The event is ours and open: signalling it cannot fail.
        let _ = self.wake.as_ref().map(|wake| wake.signal());
    }

    fn lock(&self) -> MutexGuard<'_, Chunks> {
        // A panic while the lock was held is a bug that has already been reported. The allocator's
        // own checks keep blocks apart, so the other blocks stay valid.
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that a block of `len` takes: whole pages, at least one.
fn span(len: u64) -> u64 {
    // A length beyond all memory stays one when it is rounded up again, and is refused.
    len.clamp(1, 1 << 62).next_multiple_of(PAGE_BYTES)
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

    /// Copies the block's bytes from its beginning on into `bytes`.
    ///
    /// # Panics
    /// When it has fewer.
    pub fn read(&self, bytes: &mut [u8]) {
        assert!(bytes.len() as u64 <= self.address.len);
        let at = usize::try_from(self.address.offset).expect("inside a mapping");
        self.mapping.read(at, bytes);
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.arena.free(self.address);
    }
}

#[cfg(test)]
mod tests {
    use offloop_core::TRIM_KEEP_BYTES;

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

    /// Trims in virtual time until nothing more is due.
    fn trim_all(arena: &Arena) {
        while let Some(at) = arena.poll_timeout() {
            arena.trim(at);
        }
    }

    #[test]
    fn small_chunks_make_room_for_a_large_block() {
        let arena = Arena::new(3 * CHUNK_BYTES);
        let small = [0, 1, 2].map(|_| arena.allocate(CHUNK_BYTES).unwrap());
        let numbers = small.each_ref().map(|block| block.address().chunk);
        drop(small);
        drop(arena.allocate(2 * CHUNK_BYTES).unwrap());
        assert_eq!(arena.take_closed(), numbers[..2], "no more than it takes");
        assert_eq!(arena.take_closed(), []);
    }

    #[test]
    fn what_nothing_needs_goes_back_and_what_is_in_use_stays() {
        let arena = Arena::new(4 * CHUNK_BYTES);
        let mut blocks = Vec::new();
        for number in 0..900u64 {
            let block = arena.allocate(100_000).unwrap();
            block.write(0, &[number as u8; 100_000]);
            blocks.push((number as u8, block));
        }
        let mut peer = PeerChunks::default();
        for chunk in [1, 2] {
            peer.add(chunk, arena.chunk_fd(chunk).unwrap()).unwrap();
        }
        let mut index = 0;
        blocks.retain(|_| {
            index += 1;
            index % 10 == 0
        });
        trim_all(&arena);
        let expected = arena.bytes_in_use().max(TRIM_KEEP_BYTES);
        assert_eq!(arena.bytes_backed().unwrap(), expected);
        for (number, block) in &blocks {
            let mut bytes = vec![0; 100_000];
            peer.block(block.address()).unwrap().read(0, &mut bytes);
            assert!(bytes.iter().all(|byte| byte == number), "{block:?}");
        }
        blocks.clear();
        trim_all(&arena);
        assert!(arena.bytes_backed().unwrap() <= TRIM_KEEP_BYTES);
        assert_eq!(arena.take_closed(), [2]);
    }

    #[test]
    fn a_chunk_that_went_back_never_returns_under_its_number() {
        let arena = Arena::new(4 * CHUNK_BYTES);
        for number in 1..=3 {
            let block = arena.allocate(2 * CHUNK_BYTES).unwrap();
            assert_eq!(block.address().chunk, number);
            drop(block);
            trim_all(&arena);
            assert_eq!(arena.take_closed(), [number]);
            assert!(arena.chunk_fd(number).is_err());
        }
        assert_eq!(arena.bytes_backed().unwrap(), 0);
    }

    #[test]
    fn of_two_large_chunks_the_one_that_is_used_stays() {
        let arena = Arena::new(8 * CHUNK_BYTES);
        let (short, long) = (2 * CHUNK_BYTES, 3 * CHUNK_BYTES);
        drop((
            arena.allocate(short).unwrap(),
            arena.allocate(long).unwrap(),
        ));
        let mut used = Vec::new();
        for _ in 0..4 {
            used.push(arena.allocate(long).unwrap().address().chunk);
            let at = arena.poll_timeout().unwrap();
            while arena.poll_timeout() == Some(at) {
                arena.trim(at);
            }
        }
        assert_eq!((used, arena.take_closed()), (vec![2; 4], vec![1]));
    }

    #[test]
    fn trimming_among_threads_that_allocate_spoils_no_block() {
        let arena = Arena::new(2 * CHUNK_BYTES);
        arena.set_trim_window(Duration::ZERO);
        let left = AtomicU64::new(8);
        std::thread::scope(|scope| {
            for seed in 1..=8u8 {
                let (arena, left) = (&arena, &left);
                scope.spawn(move || {
                    for round in 0..400u64 {
                        let len = 4096 + (round * 7919 * u64::from(seed)) % 900_000;
                        let block = arena.allocate(len).unwrap();
                        let bytes = vec![seed; len as usize];
                        block.write(0, &bytes);
                        std::thread::yield_now();
                        let mut seen = vec![0; len as usize];
                        block.mapping.read(block.address.offset as usize, &mut seen);
                        assert!(seen == bytes, "thread {seed}, round {round}");
                    }
                    left.fetch_sub(1, Ordering::Relaxed);
                });
            }
            scope.spawn(|| {
                while left.load(Ordering::Relaxed) > 0 {
                    arena.trim(Instant::from_nanos(clock::monotonic_ns()));
                }
            });
        });
        trim_all(&arena);
        assert_eq!(arena.bytes_in_use(), 0);
        assert!(arena.bytes_backed().unwrap() <= TRIM_KEEP_BYTES);
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
