//! The frames on a channel: what a parent and a worker say to each other through the rings.
//!
//! ```text
//! call        kind u8 | flags u8 | owner u8 | blocks u8 | function u32 | sequence u64 |
//!             blocks × 24 bytes | inline payload
//! define      kind u8 | flags u8 | 0 u8 | blocks u8 | function u32 | 0 u64 | blocks | definition
//! surround.   kind u8 | flags u8 | 0 u8 | blocks u8 | 0 u32 | 0 u64 | blocks | what has changed
//! release     kind u8 | 0 u8 | 0 u8 | 0 u8 | 0 u32 | sequence u64 | item u64, unless the result's
//! retire      kind u8 | ...
//! forget      kind u8 | ... | 0 u64 | numbers u32 each
//! completion  kind u8 | flags u8 | status u8 | blocks u8 | us u32 | sequence u64 | run_ns u64 |
//!             blocks | inline payload
//! item        kind u8 | flags u8 | 0 u8 | blocks u8 | 0 u32 | sequence u64 | number u64 | blocks |
//!             inline payload
//! block       chunk u32 | 0 u32 | offset u64 | length u64
//! ```
//!
//! Units:      native byte order (both ends run on one machine); bytes and nanoseconds.
//! Errors:     `FrameError` names what was wrong; a frame is input and never trusted.
//! Source:     docs/format/frames.md.

use offloop_core::item_cost;

/// Largest payload that travels inside a ring; larger ones go through the arena. A ring holds 16 of
/// them, so one large call cannot starve the other calls of room.
pub const INLINE_BYTES_MAX: usize = 16 * 1024;
/// Largest definition that travels inside a ring; so that one call and all that it needs fit.
pub const DEFINITION_INLINE_BYTES_MAX: usize = 32;
/// Most definitions that a call, or a definition, needs.
pub const NEEDS_MAX: usize = 3072;
/// What `NEEDS_MAX` definitions take of a ring: each its header, one block or the inline bytes, and
/// the ring's own length word. Two calls' worth of room is left.
const _: () = assert!(
    NEEDS_MAX * (HEADER_BYTES + DEFINITION_INLINE_BYTES_MAX + 8) + 4 * INLINE_BYTES_MAX
        <= offloop_sys::segment::RING_BYTES
);
/// Numbers in one forget frame: a page of them.
pub const FORGET_MAX: usize = 1024;
/// Most blocks that one frame names.
pub const BLOCKS_MAX: usize = 255;

const HEADER_BYTES: usize = 16;
const BLOCK_BYTES: usize = 24;

/// The frame's payload lies in its first block instead of inline.
pub const FLAG_PAYLOAD_IN_BLOCK: u8 = 1;
/// Call: the outcome may be resolved by any thread, so a loop that is stuck must not hold it up.
pub const FLAG_ANY_THREAD: u8 = 2;
/// Completion: the worker still holds the call's blocks and will release them later.
pub const FLAG_HOLDS_BLOCKS: u8 = 4;

/// Call: it may be started again, so the worker must work on a copy of its blocks.
pub const FLAG_COPY_BLOCKS: u8 = 8;
/// Call: what it returns is an iterator, whose items are sent one by one.
pub const FLAG_STREAM: u8 = 16;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Run a function.
    Call = 1,
    /// Remember a function, or something that functions use.
    Define = 2,
    /// The blocks of a call, or of a completion, are not used any more.
    Release = 3,
    /// Exit politely.
    Retire = 4,
    /// The outcome of a call.
    Completion = 5,
    /// No later call names these definitions.
    Forget = 6,
    /// The program has changed its path or its environment: do the same.
    Surroundings = 7,
    /// An item of a call that goes on.
    Item = 8,
}

impl Kind {
    /// Whether a word stands behind the header.
    const fn has_word(self) -> bool {
        matches!(self, Self::Completion | Self::Item)
    }
}

/// A range of an arena's chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockAddress {
    /// Number of the chunk.
    pub chunk: u32,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
}

/// The fixed part of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: Kind,
    /// `FLAG_` bits.
    pub flags: u8,
    /// Owner of a call, or status of a completion.
    pub detail: u8,
    /// Number of the function.
    pub function: u32,
    /// Sequence number of the call.
    pub sequence: u64,
}

impl Header {
    /// A header that says nothing but its kind.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        Self {
            kind,
            flags: 0,
            detail: 0,
            function: 0,
            sequence: 0,
        }
    }
}

/// A frame that no honest peer sends.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// Shorter than its fixed part or its blocks.
    #[error("frame of {len} bytes is shorter than the {needed} it announces")]
    Short {
        /// Bytes there are.
        len: usize,
        /// Bytes there should be.
        needed: usize,
    },
    /// An unknown kind.
    #[error("frame of unknown kind {kind}")]
    Kind {
        /// The byte found.
        kind: u8,
    },
    /// Not what this end receives.
    #[error("frame of kind {kind:?} travels in the other direction")]
    Direction {
        /// The kind found.
        kind: Kind,
    },
}

/// A decoded frame, borrowing our own copy of its bytes.
#[derive(Debug)]
pub struct Frame<'bytes> {
    /// The fixed part.
    pub header: Header,
    /// How long the call of a completion ran, in nanoseconds; the number of an item; or 0.
    pub word: u64,
    /// Blocks it names.
    pub blocks: Vec<BlockAddress>,
    /// Inline payload.
    pub payload: &'bytes [u8],
}

/// The bytes in front of a frame's inline payload.
#[derive(Debug)]
pub struct Head {
    bytes: [u8; HEADER_BYTES + 8 + 4 * BLOCK_BYTES],
    len: usize,
    more: Vec<u8>,
}

impl Head {
    /// Encodes a header, the run time of a completion or the number of an item, and the blocks.
    #[must_use]
    pub fn new(header: Header, word: u64, blocks: &[BlockAddress]) -> Self {
        assert!(
            blocks.len() <= BLOCKS_MAX,
            "{} blocks, limit {BLOCKS_MAX}",
            blocks.len()
        );
        let mut head = Self {
            bytes: [0; HEADER_BYTES + 8 + 4 * BLOCK_BYTES],
            len: 0,
            more: Vec::new(),
        };
        let count = u8::try_from(blocks.len()).expect("at most 255");
        head.push(&[header.kind as u8, header.flags, header.detail, count]);
        head.push(&header.function.to_ne_bytes());
        head.push(&header.sequence.to_ne_bytes());
        if header.kind.has_word() {
            head.push(&word.to_ne_bytes());
        }
        for block in blocks {
            head.push(&block.chunk.to_ne_bytes());
            head.push(&[0; 4]);
            head.push(&block.offset.to_ne_bytes());
            head.push(&block.len.to_ne_bytes());
        }
        head
    }

    fn push(&mut self, part: &[u8]) {
        let end = self.len + part.len();
        if self.more.is_empty() && end <= self.bytes.len() {
            self.bytes[self.len..end].copy_from_slice(part);
            self.len = end;
        } else {
            self.more.extend_from_slice(part);
        }
    }

    /// The two parts to put in front of the payload.
    #[must_use]
    pub fn parts(&self) -> [&[u8]; 2] {
        [&self.bytes[..self.len], &self.more]
    }
}

/// What an item costs of its stream's window, as both ends reckon it.
#[must_use]
pub fn cost_of_item(payload_bytes: usize, blocks: &[BlockAddress]) -> u64 {
    let inline = payload_bytes + blocks.len() * BLOCK_BYTES;
    let in_blocks = blocks
        .iter()
        .fold(0u64, |sum, block| sum.saturating_add(block.len));
    item_cost(inline as u64, in_blocks)
}

/// What a release names: an item, or 0 for the result; `None` when it is no release.
#[must_use]
pub fn released_item(payload: &[u8]) -> Option<u64> {
    match payload {
        [] => Some(0),
        _ => payload.try_into().ok().map(u64::from_ne_bytes),
    }
}

/// Decodes a frame.
///
/// # Errors
/// `FrameError`, naming what is wrong.
pub fn decode(bytes: &[u8]) -> Result<Frame<'_>, FrameError> {
    let short = |needed| FrameError::Short {
        len: bytes.len(),
        needed,
    };
    let (head, mut rest) = bytes
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(short(HEADER_BYTES))?;
    let kind = match head[0] {
        1 => Kind::Call,
        2 => Kind::Define,
        3 => Kind::Release,
        4 => Kind::Retire,
        5 => Kind::Completion,
        6 => Kind::Forget,
        7 => Kind::Surroundings,
        8 => Kind::Item,
        kind => return Err(FrameError::Kind { kind }),
    };
    let header = Header {
        kind,
        flags: head[1],
        detail: head[2],
        function: u32::from_ne_bytes(*head[4..].first_chunk().expect("16 bytes")),
        sequence: u64::from_ne_bytes(*head[8..].first_chunk().expect("16 bytes")),
    };
    let mut word = 0;
    if kind.has_word() {
        let (number, after) = rest
            .split_first_chunk::<8>()
            .ok_or(short(HEADER_BYTES + 8))?;
        (word, rest) = (u64::from_ne_bytes(*number), after);
    }
    let mut blocks = Vec::with_capacity(usize::from(head[3]));
    for _ in 0..head[3] {
        let needed = bytes.len() - rest.len() + BLOCK_BYTES;
        let (block, after) = rest
            .split_first_chunk::<BLOCK_BYTES>()
            .ok_or(short(needed))?;
        blocks.push(BlockAddress {
            chunk: u32::from_ne_bytes(*block.first_chunk().expect("24 bytes")),
            offset: u64::from_ne_bytes(*block[8..].first_chunk().expect("24 bytes")),
            len: u64::from_ne_bytes(*block[16..].first_chunk().expect("24 bytes")),
        });
        rest = after;
    }
    Ok(Frame {
        header,
        word,
        blocks,
        payload: rest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: Kind) -> Header {
        Header {
            kind,
            flags: 3,
            detail: 9,
            function: 77,
            sequence: 1 << 40,
        }
    }

    #[test]
    fn a_frame_survives_the_trip() {
        for (kind, count) in [
            (Kind::Completion, 0usize),
            (Kind::Completion, 255),
            (Kind::Item, 1),
        ]
        .into_iter()
        .chain([(Kind::Item, 4), (Kind::Item, 5)])
        {
            let blocks: Vec<_> = (0..count)
                .map(|n| BlockAddress {
                    chunk: n as u32,
                    offset: n as u64 * 4096,
                    len: 5,
                })
                .collect();
            let head = Head::new(header(kind), 123, &blocks);
            let bytes = [head.parts()[0], head.parts()[1], b"payload"].concat();
            let frame = decode(&bytes).unwrap();
            assert_eq!(frame.header, header(kind));
            assert_eq!((frame.word, frame.payload), (123, b"payload".as_slice()));
            assert_eq!(frame.blocks, blocks);
        }
    }

    #[test]
    fn every_truncation_is_an_error_and_never_a_panic() {
        let blocks = [BlockAddress {
            chunk: 1,
            offset: 2,
            len: 3,
        }; 3];
        let head = Head::new(header(Kind::Call), 0, &blocks);
        let bytes = head.parts().concat();
        for len in 0..bytes.len() {
            assert!(
                matches!(decode(&bytes[..len]), Err(FrameError::Short { .. })),
                "{len}"
            );
        }
        assert_eq!(decode(&[0; 64]).unwrap_err(), FrameError::Kind { kind: 0 });
    }
}
