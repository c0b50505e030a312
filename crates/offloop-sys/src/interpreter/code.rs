//! Code objects: what a function is called, where it stands, which instruction is on which line.
//!
//! A code object that was read may have been freed, and another one made in its place, between any
//! two reads. So it is read as a whole, and can be compared as a whole with what is there later,
//! in one call of the kernel. Only what never changes in a living one is compared.
//!
//! Units:      an instruction is one or more code units of two bytes.
//! Invariants: 1. `Codes` has at most `CODES_MAX`.
//!             2. What it has was found whole, and every size in it is within the limits here.
//! Source:     Include/cpython/code.h.

use std::collections::HashMap;
use std::sync::Arc;

use super::layout::CodeLayout;
use super::lines::{Position, position_of};
use super::memory::{Address, Memory, Piece};
use super::text::Extent;
use super::{Interpreter, Unreadable, checked, field, half_word, word};

/// Characters of a name that are read: as many as a path may have, and more than a person reads.
const NAME_MAX: usize = 4096;

/// Bytes of a table of lines that are read: enough for 50,000 instructions. Later ones have no
/// line.
const LINE_TABLE_MAX: usize = 256 * 1024;

/// Code units in one code object: more than the largest that a compiler makes.
const UNITS_MAX: u64 = 1 << 28;

/// Code objects that are remembered at once. Those of a program's stacks are a few hundred.
const CODES_MAX: usize = 4096;

/// How long a code unit is.
const UNIT_BYTES: u64 = 2;

/// What stands in the code object itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    units: u32,
    first_line: i32,
    first_traceable: u32,
    /// Where its name, its file's and its table are, in this order.
    objects: [Address; OBJECTS],
}

/// How many objects belong to one.
const OBJECTS: usize = 3;
const FILENAME: usize = 0;
const QUALNAME: usize = 1;
const LINE_TABLE: usize = 2;

/// A code object as it was read.
#[derive(Clone, Debug)]
pub(super) struct Code {
    head: Head,
    extents: [Extent; OBJECTS],
    data: [Vec<u8>; OBJECTS],
    pub filename: Arc<str>,
    pub qualname: Arc<str>,
}

/// Where a frame is in its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At this code unit of the function.
    Unit(u32),
    /// At this one, if at any, of what comes before the function: the frame is still being made.
    Before(Option<u32>),
    /// Not in this code.
    Outside,
}

impl Code {
    /// Where in this code, which is at `address`, an instruction is.
    pub(super) fn place(
        &self,
        layout: &CodeLayout,
        address: Address,
        instruction: Address,
    ) -> Place {
        let Ok(begin) = field(address, layout.instructions as u64) else {
            return Place::Outside;
        };
        // A frame that has not begun may point at the unit before the first one.
        if instruction == begin.wrapping_sub(UNIT_BYTES) {
            return Place::Before(None);
        }
        let unit = instruction
            .checked_sub(begin)
            .filter(|bytes| bytes.is_multiple_of(UNIT_BYTES))
            .and_then(|bytes| u32::try_from(bytes / UNIT_BYTES).ok())
            .filter(|&unit| unit < self.head.units);
        match unit {
            None => Place::Outside,
            Some(unit) if unit < self.head.first_traceable => Place::Before(Some(unit)),
            Some(unit) => Place::Unit(unit),
        }
    }

    /// Where in its source a code unit comes from.
    pub(super) fn position(&self, unit: u32) -> Position {
        position_of(&self.data[LINE_TABLE], self.head.first_line, unit)
    }

    /// Its first line.
    pub(super) fn first_line(&self) -> i32 {
        self.head.first_line
    }
}

/// Code objects that have been read, by their addresses.
///
/// It may be kept from one reading to the next, which saves reading them again. None is believed
/// for being here: each reading compares those that it uses with what is in memory.
#[derive(Debug, Default)]
pub struct Codes {
    known: HashMap<Address, Code>,
}

impl Codes {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn get(&self, address: Address) -> Option<&Code> {
        self.known.get(&address)
    }

    /// Makes sure that those at these addresses are known as they are now. One that cannot be read
    /// is not known afterwards.
    pub(super) fn look<M: Memory>(
        &mut self,
        interpreter: &Interpreter<M>,
        addresses: impl Iterator<Item = Address>,
    ) {
        for address in addresses {
            if self
                .known
                .get(&address)
                .is_some_and(|code| interpreter.is_still(address, code))
            {
                continue;
            }
            self.known.remove(&address);
            if let Ok(code) = interpreter.read_code(address) {
                if self.known.len() >= CODES_MAX {
                    self.known.clear();
                }
                self.known.insert(address, code);
            }
        }
    }

    /// Forgets those of these that are not what they were any more.
    pub(super) fn keep_unchanged<M: Memory>(
        &mut self,
        interpreter: &Interpreter<M>,
        addresses: impl Iterator<Item = Address>,
    ) {
        for address in addresses {
            let same = |code: &Code| interpreter.is_still(address, code);
            if !self.known.get(&address).is_some_and(same) {
                self.known.remove(&address);
            }
        }
    }
}

impl<M: Memory> Interpreter<M> {
    fn read_code(&self, address: Address) -> Result<Code, Unreadable> {
        let mut window = vec![0; self.layout.code.window()];
        self.memory.read(address, &mut window)?;
        let head = self.code_head(&window)?;
        let mut windows = self.object_windows();
        read_each(&self.memory, head.objects, &mut windows)?;
        let extents = self.extents(&head, &windows)?;
        let mut data = extents.map(|extent| vec![0; extent.bytes]);
        read_each(&self.memory, extents.map(|extent| extent.data), &mut data)?;
        Ok(Code {
            filename: extents[FILENAME].decode(&data[FILENAME]),
            qualname: extents[QUALNAME].decode(&data[QUALNAME]),
            head,
            extents,
            data,
        })
    }

    /// Whether the same code object is there now.
    fn is_still(&self, address: Address, code: &Code) -> bool {
        let mut window = vec![0; self.layout.code.window()];
        let mut windows = self.object_windows();
        let mut data = code.extents.map(|extent| vec![0; extent.bytes]);
        let mut pieces = vec![Piece {
            address,
            into: &mut window,
        }];
        pieces.extend(pieces_of(code.head.objects, &mut windows));
        pieces.extend(pieces_of(code.extents.map(|extent| extent.data), &mut data));
        self.memory.read_all(&mut pieces).is_ok()
            && self.code_head(&window) == Ok(code.head)
            && self.extents(&code.head, &windows) == Ok(code.extents)
            && data == code.data
    }

    fn code_head(&self, window: &[u8]) -> Result<Head, Unreadable> {
        let layout = &self.layout.code;
        self.check_type(window, self.symbols.code_type, "a code object")?;
        let units = word(window, layout.units);
        let first_line = half_word(window, layout.first_line).cast_signed();
        if units > UNITS_MAX {
            return Err(Unreadable::Malformed { what: "a length" });
        }
        Ok(Head {
            units: u32::try_from(units).expect("at most UNITS_MAX"),
            first_line,
            first_traceable: half_word(window, layout.first_traceable),
            objects: [
                checked(word(window, layout.filename), "a file's name")?,
                checked(word(window, layout.qualname), "a function's name")?,
                checked(word(window, layout.line_table), "a table of lines")?,
            ],
        })
    }

    /// Room for the heads of the objects of a code object.
    fn object_windows(&self) -> [Vec<u8>; OBJECTS] {
        let (text, bytes) = (self.layout.text.window(), self.layout.bytes.window());
        // All of them have a type, too.
        [text, text, bytes].map(|bytes| vec![0; bytes.max(self.layout.object_type + 8)])
    }

    fn extents(
        &self,
        head: &Head,
        windows: &[Vec<u8>; OBJECTS],
    ) -> Result<[Extent; OBJECTS], Unreadable> {
        let text = |object: usize, what| {
            let window = &windows[object];
            self.check_type(window, self.symbols.text_type, what)?;
            Extent::of_text(&self.layout.text, head.objects[object], window, NAME_MAX)
        };
        let table = &windows[LINE_TABLE];
        self.check_type(table, self.symbols.bytes_type, "a table of lines")?;
        let address = head.objects[LINE_TABLE];
        Ok([
            text(FILENAME, "a file's name")?,
            text(QUALNAME, "a function's name")?,
            Extent::of_bytes(&self.layout.bytes, address, table, LINE_TABLE_MAX)?,
        ])
    }

    fn check_type(
        &self,
        window: &[u8],
        expected: Address,
        what: &'static str,
    ) -> Result<(), Unreadable> {
        if word(window, self.layout.object_type) == expected {
            Ok(())
        } else {
            Err(Unreadable::Malformed { what })
        }
    }
}

/// Fills each of the buffers from its address.
fn read_each(
    memory: &impl Memory,
    addresses: [Address; OBJECTS],
    into: &mut [Vec<u8>; OBJECTS],
) -> Result<(), Unreadable> {
    Ok(memory.read_all(&mut pieces_of(addresses, into).collect::<Vec<_>>())?)
}

fn pieces_of(
    addresses: [Address; OBJECTS],
    into: &mut [Vec<u8>; OBJECTS],
) -> impl Iterator<Item = Piece<'_>> {
    let buffers = into.iter_mut();
    addresses
        .into_iter()
        .zip(buffers)
        .map(|(address, into)| Piece { address, into })
}
