//! The chunks behind an arena: where a block finds its place, what grows, what goes back.
//!
//! Invariants: 1. Only idle pages are given back, and idle pages lie in free ranges.
//!             2. A number is never given to a second chunk.
//!             3. `idle` counts the idle bytes of all chunks, `mapped` the bytes of all chunks.
//! Threads:    only under the arena's lock.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use offloop_core::{Fill, IdlePages, Instant, RangeAllocator, TRIM_KEEP_BYTES, TRIM_WINDOW};
use offloop_core::{PAGE_BYTES, TrimPolicy};
use offloop_sys::memory::Mapping;

use super::{ArenaError, CHUNK_BYTES};

/// Size of a huge page, of which a chunk for one large block is a multiple.
const SINGLE_STEP_BYTES: u64 = 2 << 20;
/// Ranges given back in one step: a fragmented chunk must not make a step of a thousand calls.
const TRIM_RANGES_MAX: u32 = 16;

/// A place for a block.
pub(super) struct Place {
    pub(super) chunk: u32,
    pub(super) offset: u64,
    pub(super) mapping: Arc<Mapping>,
}

struct Chunk {
    mapping: Arc<Mapping>,
    ranges: RangeAllocator,
    idle: IdlePages,
    /// Whether the chunk was made for one large block.
    single: bool,
    /// Windows that had ended when a block was last placed here.
    used_in: u64,
}

pub(super) struct Chunks {
    by_number: HashMap<u32, Chunk>,
    /// Numbers of the chunks, oldest first: low chunks fill first, so high ones drain.
    order: Vec<u32>,
    next: u32,
    mapped: u64,
    in_use: u64,
    idle: u64,
    policy: TrimPolicy,
    /// Chunks that were closed, and that the peers have not been told of.
    closed: Vec<u32>,
}

impl Default for Chunks {
    fn default() -> Self {
        Self {
            by_number: HashMap::new(),
            order: Vec::new(),
            next: 0,
            mapped: 0,
            in_use: 0,
            idle: 0,
            policy: TrimPolicy::new(TRIM_WINDOW),
            closed: Vec::new(),
        }
    }
}

impl Chunks {
    /// A free range of `span` bytes, whole pages, which is in use from now on.
    pub(super) fn take(&mut self, span: u64, bytes_max: u64) -> Result<Place, ArenaError> {
        let place = match self.take_recycled(span) {
            Some(place) => place,
            None => {
                self.grow(span, bytes_max)?;
                self.take_recycled(span)
                    .expect("the new chunk has room for it")
            }
        };
        self.in_use += span;
        self.policy.handle_allocated(self.in_use);
        Ok(place)
    }

    /// Takes a range back. Its pages are idle now.
    pub(super) fn free(&mut self, number: u32, offset: u64, span: u64) {
        let chunk = self.by_number.get_mut(&number);
        let chunk = chunk.expect("a chunk with a block in it stays");
        chunk
            .ranges
            .free(offset, span)
            .expect("invariant 1 of the arena: freed once, by its block");
        chunk.idle.insert(offset, span);
        self.idle += span;
        self.in_use -= span;
    }

    /// Begins to watch for what can be given back, if that is due: `now` is asked only then.
    pub(super) fn watch(&mut self, now: impl FnOnce() -> Instant) -> bool {
        let watch = self.policy.wants_watch(self.in_use + self.idle);
        if watch {
            self.policy.watch(now());
        }
        watch
    }

    pub(super) fn set_window(&mut self, policy: TrimPolicy) {
        self.policy = policy;
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.policy.poll_timeout()
    }

    /// Gives one step of memory back, if that is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let bytes = self.policy.handle_timeout(now, self.fill());
        if bytes > 0 && self.discard(bytes).is_err() {
            // The pages stay ours and stay usable; the next window tries again.
            self.policy.give_up();
        }
    }

    pub(super) fn in_use(&self) -> u64 {
        self.in_use
    }

    pub(super) fn mapping(&self, number: u32) -> Option<&Mapping> {
        Some(&self.by_number.get(&number)?.mapping)
    }

    pub(super) fn mappings(&self) -> impl Iterator<Item = &Mapping> {
        self.by_number.values().map(|chunk| &*chunk.mapping)
    }

    pub(super) fn take_closed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.closed)
    }

    pub(super) fn has_closed(&self) -> bool {
        !self.closed.is_empty()
    }

    fn take_recycled(&mut self, span: u64) -> Option<Place> {
        for number in &self.order {
            let chunk = self.by_number.get_mut(number).expect("listed chunks exist");
            // A chunk made for one large block serves only blocks that would get one themselves:
            // a small one would pin all of it.
            if chunk.single != (span > CHUNK_BYTES) {
                continue;
            }
            if let Some(offset) = chunk.ranges.alloc(span) {
                chunk.used_in = self.policy.windows();
                let before = chunk.idle.bytes();
                chunk.idle.remove(offset, span);
                self.idle -= before - chunk.idle.bytes();
                return Some(Place {
                    chunk: *number,
                    offset,
                    mapping: Arc::clone(&chunk.mapping),
                });
            }
        }
        None
    }

    fn grow(&mut self, span: u64, bytes_max: u64) -> Result<(), ArenaError> {
        let single = span > CHUNK_BYTES;
        let len = if single {
            span.next_multiple_of(SINGLE_STEP_BYTES)
        } else {
            CHUNK_BYTES
        };
        if !self.make_room(len, bytes_max) {
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
        self.next += 1;
        self.order.push(self.next);
        let chunk = Chunk {
            mapping: Arc::new(mapping),
            ranges: RangeAllocator::new(len),
            idle: IdlePages::new(len),
            single,
            used_in: self.policy.windows(),
        };
        self.by_number.insert(self.next, chunk);
        self.mapped += len;
        Ok(())
    }

    /// Whether `len` more bytes stay within the limit; chunks without a block make room, those
    /// that were not used for longest first.
    fn make_room(&mut self, len: u64, bytes_max: u64) -> bool {
        let fits = |mapped: u64| mapped.checked_add(len).is_some_and(|sum| sum <= bytes_max);
        let empty = self
            .by_number
            .iter()
            .filter(|(_, chunk)| chunk.ranges.is_empty());
        let mut empty: Vec<_> = empty
            .map(|(number, chunk)| (chunk.used_in, *number))
            .collect();
        empty.sort_unstable();
        let mut numbers = empty.into_iter().map(|(_, number)| number);
        while !fits(self.mapped) {
            let Some(number) = numbers.next() else {
                return false;
            };
            self.close(number);
        }
        true
    }

    fn close(&mut self, number: u32) {
        let Some(chunk) = self.by_number.remove(&number) else {
            return;
        };
        assert!(chunk.ranges.is_empty(), "a block lives in chunk {number}");
        if chunk.idle.bytes() > 0 {
            // The peer may keep its mapping for a while, but not the memory. Where the system
            // refuses, that ends with the mapping.
            let _ = chunk.mapping.discard(0, chunk.mapping.len());
        }
        self.order.retain(|other| *other != number);
        self.mapped -= chunk.mapping.len() as u64;
        self.idle -= chunk.idle.bytes();
        self.closed.push(number);
    }

    fn fill(&self) -> Fill {
        // A small block finds its place in ordinary chunks only, so only they are worth keeping.
        let ordinary = self.by_number.values().filter(|chunk| !chunk.single);
        let ordinary = ordinary.map(|chunk| chunk.ranges.used() + chunk.idle.bytes());
        Fill {
            in_use: self.in_use,
            held: self.in_use + self.idle,
            floor: TRIM_KEEP_BYTES.min(ordinary.sum()),
        }
    }

    /// Gives up to `bytes` of idle pages back to the system.
    fn discard(&mut self, bytes: u64) -> io::Result<()> {
        let mut left = bytes;
        for _ in 0..TRIM_RANGES_MAX {
            let Some(number) = self.least_needed().filter(|_| left >= PAGE_BYTES) else {
                return Ok(());
            };
            let chunk = self.by_number.get_mut(&number).expect("just found");
            let (offset, len) = chunk.idle.highest(left).expect("it has idle pages");
            let whole = |number| usize::try_from(number).expect("inside a mapping");
            // Invariant 1: no block covers these pages, and none can be placed there meanwhile.
            chunk.mapping.discard(whole(offset), whole(len))?;
            chunk.idle.remove(offset, len);
            self.idle -= len;
            left -= len;
            if chunk.ranges.is_empty() && chunk.idle.bytes() == 0 && !self.is_first(number) {
                self.close(number);
            }
        }
        Ok(())
    }

    /// The chunk whose idle pages are missed last: one that was not used in the last window, made
    /// for one block rather than ordinary, used longest ago, and of these the newest.
    fn least_needed(&self) -> Option<u32> {
        let windows = self.policy.windows();
        let with_idle = self
            .by_number
            .iter()
            .filter(|(_, chunk)| chunk.idle.bytes() > 0);
        let needed = |number: u32, chunk: &Chunk| {
            let recent = chunk.used_in + 1 >= windows;
            (recent, !chunk.single, chunk.used_in, Reverse(number))
        };
        let least = with_idle.min_by_key(|(number, chunk)| needed(**number, chunk));
        least.map(|(number, _)| *number)
    }

    /// Whether `number` is the oldest ordinary chunk, which stays even when nothing is in it.
    fn is_first(&self, number: u32) -> bool {
        let ordinary = |number: &&u32| !self.by_number[*number].single;
        self.order.iter().find(ordinary) == Some(&number)
    }
}
