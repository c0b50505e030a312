//! The table that says from which line of its source each instruction comes.
//!
//! A code object has one byte string for that, in entries: each covers some instructions, and says
//! where their source begins and ends. Lines are told as differences from the entry before.
//!
//! ```text
//! first byte    1 k k k k n n n      kind k, for n + 1 code units of two bytes
//! kind  0-9     one byte             same line; column 8k + bits 4-6, length in bits 0-3
//!      10-12    two bytes            k - 10 lines on; first column, end column
//!      13       signed               that many lines on; columns unknown
//!      14       signed, 3 unsigned   lines on; lines it spans; first column + 1, end column + 1
//!      15       nothing              no source at all
//! ```
//! Numbers have six bits in a byte, the lowest first, and bit 6 says that more follow; a signed one
//! has its sign in bit 0.
//!
//! Units:      code units for places in the code; lines count from 1, columns in bytes from 0.
//! Errors:     a table that is cut off or out of bounds has no position at all.
//! Source:     PEP 626, PEP 657; Objects/locations.md of CPython 3.11, the same until 3.15.

/// Where in its source an instruction comes from. What the table does not tell is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// The first line.
    pub line: Option<i32>,
    /// The last line.
    pub end_line: Option<i32>,
    /// Where it begins in the first line.
    pub column: Option<i32>,
    /// Where it ends in the last one.
    pub end_column: Option<i32>,
}

/// The entries of a table: for how many code units each is, and what it says.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
    line: i32,
}

impl<'a> Entries<'a> {
    /// Of a table whose first differences are from `first_line`.
    #[must_use]
    pub fn new(table: &'a [u8], first_line: i32) -> Self {
        Self {
            rest: table,
            line: first_line,
        }
    }

    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    fn unsigned(&mut self) -> Option<i32> {
        let mut value = 0_u64;
        // Six of them hold more than a line number may be.
        for shift in (0..36).step_by(6) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x3f) << shift;
            if byte & 0x40 == 0 {
                return i32::try_from(value).ok();
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i32> {
        let value = self.unsigned()?;
        Some(if value & 1 == 0 {
            value >> 1
        } else {
            -(value >> 1)
        })
    }

    /// Goes so many lines on.
    fn advance(&mut self, lines: i32) -> Option<i32> {
        self.line = self.line.checked_add(lines)?;
        Some(self.line)
    }

    fn position(&mut self, kind: u8) -> Option<Position> {
        let on_one_line = |line, column, end_column| Position {
            line: Some(line),
            end_line: Some(line),
            column: Some(column),
            end_column: Some(end_column),
        };
        match kind {
            0..=9 => {
                let byte = self.byte()?;
                let column = i32::from(kind) * 8 + i32::from(byte >> 4 & 7);
                let end_column = column + i32::from(byte & 15);
                Some(on_one_line(self.line, column, end_column))
            }
            10..=12 => {
                let line = self.advance(i32::from(kind) - 10)?;
                let (column, end_column) = (self.byte()?, self.byte()?);
                Some(on_one_line(line, column.into(), end_column.into()))
            }
            13 => {
                let lines = self.signed()?;
                let line = self.advance(lines)?;
                Some(Position {
                    line: Some(line),
                    end_line: Some(line),
                    ..Position::default()
                })
            }
            14 => {
                let lines = self.signed()?;
                let line = self.advance(lines)?;
                let end_line = line.checked_add(self.unsigned()?)?;
                let (column, end_column) = (self.unsigned()?, self.unsigned()?);
                Some(Position {
                    line: Some(line),
                    end_line: Some(end_line),
                    column: column.checked_sub(1).filter(|&column| column >= 0),
                    end_column: end_column.checked_sub(1).filter(|&column| column >= 0),
                })
            }
            _ => Some(Position::default()),
        }
    }
}

impl Iterator for Entries<'_> {
    type Item = (u32, Position);

    /// The next entry; the end of the table, or what is no entry, ends it.
    fn next(&mut self) -> Option<Self::Item> {
        let head = self.byte()?;
        if head & 0x80 == 0 {
            self.rest = &[];
            return None;
        }
        let position = self.position(head >> 3 & 15);
        if position.is_none() {
            self.rest = &[];
        }
        Some((u32::from(head & 7) + 1, position?))
    }
}

/// Where the code unit of this number comes from, by the table of its code object.
#[must_use]
pub fn position_of(table: &[u8], first_line: i32, unit: u32) -> Position {
    let mut end = 0_u32;
    Entries::new(table, first_line)
        .find(|&(units, _)| {
            end = end.saturating_add(units);
            unit < end
        })
        .map_or_else(Position::default, |(_, position)| position)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every kind once, from line 10, each for two code units but the last one, which has eight.
    const TABLE: [u8; 22] = [
        0x81, 0x35, // kind 0, columns 3 to 8
        0x89, 0x12, // kind 1, columns 9 to 11
        0xd9, 7, 200, // kind 11, a line on
        0xe9, 0x02, // kind 13, a line on
        0xe9, 0x03, // kind 13, a line back
        0xf1, 0x48, 0x02, 0x02, 0x41, 0x01, 0x05, // kind 14, 68 lines on, over two, column 64
        0xf1, 0x00, 0x00, 0x00, // kind 14 whose last number is cut off, by the next constant
    ];

    fn one(line: i32, column: i32, end_column: i32) -> Position {
        Position {
            line: Some(line),
            end_line: Some(line),
            column: Some(column),
            end_column: Some(end_column),
        }
    }

    fn line_alone(line: i32) -> Position {
        Position {
            line: Some(line),
            end_line: Some(line),
            ..Position::default()
        }
    }

    #[test]
    fn every_kind_of_entry_is_read() {
        let mut table = TABLE[..18].to_vec();
        table.push(0xff);
        let found: Vec<(u32, Position)> = Entries::new(&table, 10).collect();
        let long = Position {
            line: Some(79),
            end_line: Some(81),
            column: Some(64),
            end_column: Some(4),
        };
        let expected = [
            (2, one(10, 3, 8)),
            (2, one(10, 9, 11)),
            (2, one(11, 7, 200)),
            (2, line_alone(12)),
            (2, line_alone(11)),
            (2, long),
            (8, Position::default()),
        ];
        assert_eq!(found, expected);
        assert_eq!(position_of(&table, 10, 0), one(10, 3, 8));
        assert_eq!(position_of(&table, 10, 5), one(11, 7, 200));
        assert_eq!(position_of(&table, 10, 12), Position::default());
        assert_eq!(position_of(&table, 10, 20), Position::default());
    }

    #[test]
    fn a_table_that_is_cut_off_ends_there() {
        assert_eq!(Entries::new(&TABLE, 10).count(), 6);
        for length in 0..TABLE.len() {
            assert!(Entries::new(&TABLE[..length], 10).count() <= 6);
        }
    }

    #[test]
    fn what_is_out_of_bounds_ends_the_table() {
        // A byte without the mark of an entry; a number that never ends; a line past the last one.
        for table in [
            &[0x01, 0x00][..],
            &[0xe8, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f, 0x7f],
        ] {
            assert_eq!(Entries::new(table, 1).count(), 0);
        }
        assert_eq!(Entries::new(&[0xe8, 0x02], i32::MAX).count(), 0);
        assert_eq!(Entries::new(&[0xe8, 0x03], i32::MIN).count(), 0);
    }

    #[test]
    fn any_bytes_at_all_end() {
        let mut state = 0x1234_5678_u32;
        let mut bytes = [0_u8; 64];
        for _ in 0..20_000 {
            for byte in &mut bytes {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = (state >> 24) as u8;
            }
            assert!(Entries::new(&bytes, 1).count() <= bytes.len());
            let within = position_of(&bytes, i32::MAX - 1, state >> 20);
            assert_eq!(within.line.is_none(), within.end_line.is_none());
        }
    }
}
