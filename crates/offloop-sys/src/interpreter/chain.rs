//! The frames of a thread, from the one that runs to the one that began.
//!
//! Frames lie one after another in memory of the interpreter's own, so they are read a page at a
//! time: the frames of a page are as they were at one moment, and a deep recursion costs one read
//! for forty frames.
//!
//! A thread can be stopped between two steps of linking a frame, and what is read then is not its
//! stack. A part of that shows: a chain that ends with a frame that other code must have called.
//!
//! Invariants: 1. A chain has at most `FRAMES_MAX` frames; those further out are counted.
//!             2. The walk ends after `WALK_MAX` frames, and at once where it comes in a circle.

use super::memory::{Address, Memory};
use super::threads::Thread;
use super::{Interpreter, Unreadable, checked, field, word};

/// Frames that are kept: a person reads fewer, and a recursion repeats itself.
const FRAMES_MAX: usize = 256;

/// Frames that are counted: a hundred times the deepest recursion that the interpreter allows
/// unless it is told otherwise, and a few milliseconds of reading.
const WALK_MAX: u32 = 1 << 17;

/// Owners that there are, in any version.
const OWNERS: u8 = 5;

/// The owner of frames that are part of a generator or coroutine.
const OWNER_GENERATOR: u8 = 1;

const PAGE_BYTES: usize = 4096;

/// Pages that are remembered during a walk: a generator's frame lies elsewhere than its caller's.
const PAGES: usize = 4;

/// A frame that runs code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub address: Address,
    pub executable: Address,
    pub instruction: Address,
    /// It is complete wherever it is in its code.
    pub of_generator: bool,
}

/// The frames of a thread, innermost first, as they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub frames: Vec<Frame>,
    /// How many more there are further out.
    pub cut: u32,
}

impl Chain {
    /// The code objects that it runs, each once.
    pub(super) fn executables(&self) -> impl Iterator<Item = Address> {
        let mut all: Vec<Address> = self.frames.iter().map(|frame| frame.executable).collect();
        all.sort_unstable();
        all.dedup();
        all.into_iter()
    }
}

/// Reads from a few pages, each of which is copied once.
struct Pages<'a, M> {
    memory: &'a M,
    kept: Vec<(Address, Vec<u8>)>,
    /// Which one goes next.
    oldest: usize,
}

impl<M: Memory> Pages<'_, M> {
    fn read(&mut self, address: Address, into: &mut [u8]) -> Result<(), Unreadable> {
        let inside = (address % PAGE_BYTES as u64) as usize;
        let Some(part) = inside
            .checked_add(into.len())
            .filter(|&end| end <= PAGE_BYTES)
        else {
            return Ok(self.memory.read(address, into)?);
        };
        let base = address - inside as u64;
        let place = match self.kept.iter().position(|(kept, _)| *kept == base) {
            Some(place) => place,
            None => self.keep(base)?,
        };
        into.copy_from_slice(&self.kept[place].1[inside..part]);
        Ok(())
    }

    fn keep(&mut self, base: Address) -> Result<usize, Unreadable> {
        let mut page = vec![0; PAGE_BYTES];
        self.memory.read(base, &mut page)?;
        if self.kept.len() < PAGES {
            self.kept.push((base, page));
            return Ok(self.kept.len() - 1);
        }
        let place = self.oldest;
        self.kept[place] = (base, page);
        self.oldest = (place + 1) % PAGES;
        Ok(place)
    }
}

/// Notices when a walk comes by the same place again, after twice the circle's length at most.
#[derive(Default)]
struct Circle {
    mark: Address,
    steps: u32,
}

impl Circle {
    fn closes(&mut self, address: Address) -> bool {
        if address == self.mark {
            return true;
        }
        self.steps += 1;
        if self.steps.is_power_of_two() {
            self.mark = address;
        }
        false
    }
}

impl<M: Memory> Interpreter<M> {
    /// Walks once over the frames of a thread.
    pub(super) fn chain_of(&self, thread: Thread) -> Result<Chain, Unreadable> {
        let mut pages = Pages {
            memory: &self.memory,
            kept: Vec::with_capacity(PAGES),
            oldest: 0,
        };
        let mut chain = Chain::default();
        let mut circle = Circle::default();
        let mut address = self.state_of(thread)?.frame;
        let mut ends_well = true;
        while address != 0 {
            if circle.closes(address) || circle.steps > WALK_MAX {
                return Err(Unreadable::Endless);
            }
            let (frame, previous) = self.frame(&mut pages, checked(address, "a frame")?)?;
            ends_well = frame.is_none() || !self.layout.frame.has_entry_frames;
            match frame {
                None => {}
                Some(frame) if chain.frames.len() < FRAMES_MAX => chain.frames.push(frame),
                Some(_) => chain.cut += 1,
            }
            address = previous;
        }
        if ends_well {
            Ok(chain)
        } else {
            // A generator's frame is unlinked a moment before its thread leaves it.
            Err(Unreadable::Malformed {
                what: "the first frame",
            })
        }
    }

    /// The frame that runs, if any code does.
    pub(super) fn innermost(&self, thread: Thread) -> Result<Option<Frame>, Unreadable> {
        let mut pages = Pages {
            memory: &self.memory,
            kept: Vec::with_capacity(PAGES),
            oldest: 0,
        };
        let mut address = self.state_of(thread)?.frame;
        for _ in 0..FRAMES_MAX {
            if address == 0 {
                return Ok(None);
            }
            let (frame, previous) = self.frame(&mut pages, checked(address, "a frame")?)?;
            if frame.is_some() {
                return Ok(frame);
            }
            address = previous;
        }
        Err(Unreadable::Endless)
    }

    /// The frame at an address, unless it is the interpreter's own.
    pub(super) fn frame_at(&self, address: Address) -> Result<Option<Frame>, Unreadable> {
        let mut pages = Pages {
            memory: &self.memory,
            kept: Vec::with_capacity(PAGES),
            oldest: 0,
        };
        let (frame, _) = self.frame(&mut pages, checked(address, "a frame")?)?;
        Ok(frame)
    }

    /// A frame, unless it is the interpreter's own, and the address of its caller's.
    fn frame(
        &self,
        pages: &mut Pages<'_, M>,
        address: Address,
    ) -> Result<(Option<Frame>, Address), Unreadable> {
        let layout = &self.layout.frame;
        let mut window = vec![0; layout.window()];
        field(address, window.len() as u64)?;
        pages.read(address, &mut window)?;
        let owner = window[layout.owner];
        let previous = word(&window, layout.previous);
        if owner >= OWNERS {
            return Err(Unreadable::Malformed { what: "a frame" });
        }
        if owner >= layout.inner_owners {
            return Ok((None, previous));
        }
        let executable = word(&window, layout.executable) & !layout.executable_tags;
        let frame = Frame {
            address,
            executable: checked(executable, "a code object")?,
            instruction: word(&window, layout.instruction),
            of_generator: owner == OWNER_GENERATOR,
        };
        Ok((Some(frame), previous))
    }
}
