//! Strings and byte strings of the interpreter.
//!
//! Both are one piece of memory: a head, which says how long they are, and the data after it. A
//! string has its characters in the narrowest form that holds all of them: one, two or four bytes
//! each. Strings with their data elsewhere exist, but the interpreter makes no code with them.
//!
//! Invariants: an `Extent` is at most as long as its reader asked for, whatever the head says.
//! Source:     PEP 393.

use std::sync::Arc;

use super::layout::{BytesLayout, TextLayout};
use super::memory::Address;
use super::{Unreadable, field, half_word, word};

/// Where in the state of a string its width is, and its two marks.
const WIDTH_SHIFT: u32 = 2;
const COMPACT: u32 = 1 << 5;
const ASCII: u32 = 1 << 6;

/// Where the data of a string or of a byte string is, as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub data: Address,
    /// As many as are to be read: no more than the limit that was given.
    pub bytes: usize,
    /// Of one character.
    width: usize,
    /// There is more than is read.
    cut: bool,
}

impl Extent {
    fn new(data: Address, length: u64, width: usize, length_max: usize) -> Self {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Self {
            data,
            bytes: length.min(length_max).saturating_mul(width),
            width,
            cut: length > length_max,
        }
    }

    /// Of a string whose head was read from `address`.
    pub(super) fn of_text(
        layout: &TextLayout,
        address: Address,
        head: &[u8],
        characters_max: usize,
    ) -> Result<Self, Unreadable> {
        let state = half_word(head, layout.state);
        let width = match state >> WIDTH_SHIFT & 7 {
            width @ (1 | 2 | 4) if state & COMPACT != 0 => width as usize,
            _ => return Err(Unreadable::Malformed { what: "a string" }),
        };
        let is_ascii = state & ASCII != 0;
        let offset = if is_ascii {
            layout.ascii_data
        } else {
            layout.data
        };
        let data = field(address, offset as u64)?;
        let length = word(head, layout.length);
        Ok(Self::new(data, length, width, characters_max))
    }

    /// Of a byte string whose head was read from `address`.
    pub(super) fn of_bytes(
        layout: &BytesLayout,
        address: Address,
        head: &[u8],
        bytes_max: usize,
    ) -> Result<Self, Unreadable> {
        let data = field(address, layout.data as u64)?;
        Ok(Self::new(data, word(head, layout.length), 1, bytes_max))
    }

    /// The string whose data was read. What is no character, such as the stand-in for a byte of a
    /// file's name that is not UTF-8, is replaced; a string that goes on ends with an ellipsis.
    pub(super) fn decode(&self, data: &[u8]) -> Arc<str> {
        let mut text: String = data
            .chunks_exact(self.width)
            .map(|character| {
                let mut number = [0; 4];
                number[..self.width].copy_from_slice(character);
                char::from_u32(u32::from_le_bytes(number)).unwrap_or(char::REPLACEMENT_CHARACTER)
            })
            .collect();
        if self.cut {
            text.push('\u{2026}');
        }
        text.into()
    }
}

/// Characters are read in the processor's order, which is this one wherever we run.
const _: () = assert!(cfg!(target_endian = "little"));

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: TextLayout = TextLayout {
        length: 16,
        state: 32,
        ascii_data: 40,
        data: 56,
    };

    fn head(length: u64, state: u32) -> Vec<u8> {
        let mut head = vec![0; 56];
        head[16..24].copy_from_slice(&length.to_ne_bytes());
        head[32..36].copy_from_slice(&state.to_ne_bytes());
        head
    }

    fn extent(length: u64, state: u32) -> Result<Extent, Unreadable> {
        Extent::of_text(&LAYOUT, 0x1000, &head(length, state), 100)
    }

    #[test]
    fn strings_of_every_width_are_read() {
        let ascii = extent(2, 1 << 2 | COMPACT | ASCII).expect("a string");
        assert_eq!((ascii.data, ascii.bytes), (0x1000 + 40, 2));
        assert_eq!(&*ascii.decode(b"ab"), "ab");
        let latin = extent(2, 1 << 2 | COMPACT).expect("a string");
        assert_eq!((latin.data, latin.bytes), (0x1000 + 56, 2));
        assert_eq!(&*latin.decode(b"\xe9b"), "\u{e9}b");
        let two = extent(2, 2 << 2 | COMPACT).expect("a string");
        assert_eq!((two.data, two.bytes), (0x1000 + 56, 4));
        assert_eq!(&*two.decode(b"\x2c\x6e\x80\xdc"), "\u{6e2c}\u{fffd}");
        let four = extent(1, 4 << 2 | COMPACT | 1).expect("a string");
        assert_eq!((four.data, four.bytes), (0x1000 + 56, 4));
        assert_eq!(&*four.decode(b"\x00\xf6\x01\x00"), "\u{1f600}");
    }

    #[test]
    fn a_long_string_is_cut() {
        for length in [101, u64::MAX] {
            let long = extent(length, 4 << 2 | COMPACT).expect("a string");
            assert_eq!(long.bytes, 400);
            assert!(long.decode(&[0x41, 0, 0, 0]).ends_with("A\u{2026}"));
        }
    }

    #[test]
    fn what_has_its_data_elsewhere_or_no_width_is_none() {
        for state in [
            0,
            COMPACT,
            3 << 2 | COMPACT,
            5 << 2 | COMPACT,
            1 << 2 | ASCII,
            7 << 2,
        ] {
            assert!(extent(1, state).is_err());
        }
        let far = Extent::of_text(&LAYOUT, u64::MAX - 8, &head(1, 1 << 2 | COMPACT), 100);
        assert!(far.is_err());
    }
}
