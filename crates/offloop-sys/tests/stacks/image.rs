//! An interpreter's memory made by hand, in the layout of CPython 3.12, and what must hold for any
//! bytes at all in it. The fuzz target and the seeded test share the check.

use std::cell::Cell;
use std::collections::HashSet;

use offloop_sys::interpreter::memory::{Address, Memory, MemoryError};
use offloop_sys::interpreter::{Codes, Holder, Interpreter, Reading, Symbols};

/// Where the image begins; nothing else is mapped.
pub const BASE: Address = 0x10_0000;
const BYTES: usize = 0x6000;

pub const SYMBOLS: Symbols = Symbols {
    version: 0x030c_01f0,
    runtime: BASE,
    code_type: 0x7000,
    text_type: 0x7100,
    bytes_type: 0x7200,
};

/// The kernel's ids of the two threads.
pub const BUSY: u64 = 700;
pub const IDLE: u64 = 701;

pub const INTERPRETER: Address = BASE + 0x5000;
pub const GIL: Address = BASE + 0x5800;
pub const BUSY_STATE: Address = BASE + 0x200;
const IDLE_STATE: Address = BASE + 0x300;
const RECORD: Address = BASE + 0x3c0;
/// Frames are as long as the interpreter's with two variables.
const FRAMES: Address = BASE + 0x400;
const FRAME_BYTES: u64 = 88;
const CODES: Address = BASE + 0x2000;
/// A code object, its two names and its table of lines.
const CODE_BYTES: u64 = 0x400;

/// Owners of frames.
pub const OF_THREAD: u8 = 0;
pub const OF_GENERATOR: u8 = 1;
pub const OF_C: u8 = 3;

/// Code units of each code object, one for each line from its first one on.
pub const UNITS: u64 = 64;
/// The first of them that shows the function.
pub const FIRST_TRACEABLE: u32 = 2;

/// How often memory changes there and back during a check.
const TURNS: usize = 64;

#[derive(Clone, Debug)]
pub struct Image(pub Vec<u8>);

impl Memory for Image {
    fn read(&self, address: Address, into: &mut [u8]) -> Result<(), MemoryError> {
        let part = address
            .checked_sub(BASE)
            .and_then(|begin| usize::try_from(begin).ok())
            .and_then(|begin| self.0.get(begin..begin.checked_add(into.len())?));
        into.copy_from_slice(part.ok_or(MemoryError::Unmapped { address })?);
        Ok(())
    }
}

/// One image after the other, each for so many reads, in turns: what a thread does to its memory.
pub struct Changing {
    pub images: Vec<Image>,
    pub reads_each: usize,
    /// After so many turns it rests.
    pub turns: usize,
    pub reads: Cell<usize>,
}

impl Memory for Changing {
    fn read(&self, address: Address, into: &mut [u8]) -> Result<(), MemoryError> {
        let reads = self.reads.get();
        self.reads.set(reads + 1);
        let turn = (reads / self.reads_each).min(self.turns - 1);
        self.images[turn % self.images.len()].read(address, into)
    }
}

impl Image {
    /// Two threads, of which one runs nothing, and the other these frames, innermost first: which
    /// code each runs, at which code unit, and what owns it.
    pub fn with_frames(frames: &[(u64, i64, u8)]) -> Self {
        let mut image = Self(vec![0; BYTES]);
        image.put(BASE + 40, INTERPRETER);
        image.put(INTERPRETER + 72, IDLE_STATE);
        image.put(INTERPRETER + 384, GIL);
        image.gil(BUSY_STATE, true);
        image.thread(IDLE_STATE, IDLE, BUSY_STATE);
        image.thread(BUSY_STATE, BUSY, 0);
        image.put(BUSY_STATE + 56, RECORD);
        image.put(RECORD, if frames.is_empty() { 0 } else { frame_at(0) });
        for (index, &(code, unit, owner)) in frames.iter().enumerate() {
            let index = index as u64;
            image.frame(index, code, unit, owner);
            image.put(frame_at(index) + 8, frame_at(index + 1));
        }
        // What the outermost one was called from.
        image.frame(frames.len() as u64, 0, 0, OF_C);
        for code in 0..8 {
            image.code(code, &format!("file {code}"), &format!("function {code}"));
        }
        image
    }

    pub fn put(&mut self, address: Address, word: u64) {
        self.put_bytes(address, &word.to_ne_bytes());
    }

    pub fn put_bytes(&mut self, address: Address, bytes: &[u8]) {
        let begin = usize::try_from(address - BASE).expect("inside");
        self.0[begin..begin + bytes.len()].copy_from_slice(bytes);
    }

    /// Which thread has the GIL, or had it last.
    pub fn gil(&mut self, state: Address, is_taken: bool) {
        self.put(GIL + 8, state);
        self.put(GIL + 16, u64::from(is_taken));
    }

    fn thread(&mut self, state: Address, native_id: u64, next: Address) {
        self.put(state + 8, next);
        self.put(state + 16, INTERPRETER);
        self.put(state + 144, native_id);
    }

    pub fn frame(&mut self, index: u64, code: u64, unit: i64, owner: u8) {
        let instruction = code_at(code) + 192;
        self.put(frame_at(index), code_at(code));
        self.put(
            frame_at(index) + 56,
            instruction.wrapping_add_signed(2 * unit),
        );
        self.put_bytes(frame_at(index) + 70, &[owner]);
    }

    pub fn code(&mut self, code: u64, filename: &str, qualname: &str) {
        let at = code_at(code);
        self.put(at + 8, SYMBOLS.code_type);
        self.put(at + 16, UNITS);
        self.put_bytes(at + 68, &first_line(code).to_ne_bytes());
        self.put(at + 112, at + 0x100);
        self.put(at + 128, at + 0x180);
        self.put(at + 136, at + 0x200);
        self.put_bytes(at + 176, &FIRST_TRACEABLE.to_ne_bytes());
        self.text(at + 0x100, filename);
        self.text(at + 0x180, qualname);
        self.put(at + 0x200 + 8, SYMBOLS.bytes_type);
        self.put(at + 0x200 + 16, 2 * UNITS);
        // One unit each, without columns, a line on; the first one no line on.
        for unit in 0..UNITS {
            let lines = if unit == 0 { 0 } else { 2 };
            self.put_bytes(at + 0x200 + 32 + 2 * unit, &[0xe8, lines]);
        }
    }

    pub fn text(&mut self, at: Address, text: &str) {
        const ASCII: u64 = 1 << 6 | 1 << 5 | 1 << 2;
        self.put(at + 8, SYMBOLS.text_type);
        self.put(at + 16, text.len() as u64);
        self.put(at + 32, ASCII);
        self.put_bytes(at + 40, text.as_bytes());
    }
}

pub fn frame_at(index: u64) -> Address {
    FRAMES + index * FRAME_BYTES
}

pub fn code_at(code: u64) -> Address {
    CODES + code * CODE_BYTES
}

pub fn first_line(code: u64) -> i32 {
    i32::try_from(100 * code + 1).expect("small")
}

/// Reads the stack of a thread once.
pub fn read(memory: impl Memory, native_id: u64) -> Reading {
    let interpreter = Interpreter::of_memory(memory, SYMBOLS).expect("a known layout");
    match interpreter.find(native_id) {
        Ok(thread) => interpreter.read(thread, &mut Codes::new(), || true),
        Err(reason) => Reading::Unreadable(reason),
    }
}

/// Asks for the GIL and the motion of a thread, which must end.
fn look(memory: impl Memory, native_id: u64) {
    let interpreter = Interpreter::of_memory(memory, SYMBOLS).expect("a known layout");
    if let Ok(thread) = interpreter.find(native_id) {
        let _ = interpreter.motion_of(thread);
        if let Ok(gil) = interpreter.gil_of(thread) {
            assert_ne!(gil.holder, Some(Holder::Other(native_id)));
            assert_ne!(gil.is_awaited_at(0), Some(true));
        }
    }
}

/// Whatever the memory holds and however it changes, a reading ends within its bounds: `bytes` are
/// words to be written somewhere into the image, which is then seen in turn with and without them.
pub fn check(bytes: &[u8]) {
    let whole = Image::with_frames(&[(0, 2, 0), (1, 3, 1), (2, 0, 3), (3, 4, 0), (4, 5, 2)]);
    let mut spoilt = whole.clone();
    let (head, changes) = bytes.split_at(bytes.len().min(1));
    for change in changes.chunks_exact(10) {
        let place = u64::from(u16::from_le_bytes([change[0], change[1]]));
        let word = u64::from_le_bytes(change[2..].try_into().expect("eight bytes"));
        spoilt.put(BASE + place % (BYTES as u64 - 8), word);
    }
    let turn = usize::from(head.first().copied().unwrap_or(0));
    let images = if turn.is_multiple_of(2) {
        vec![spoilt]
    } else {
        vec![whole, spoilt]
    };
    let memory = Changing {
        images,
        reads_each: turn / 2 % 16 + 1,
        turns: TURNS,
        reads: Cell::new(0),
    };
    for native_id in [BUSY, IDLE] {
        let again = || Changing {
            images: memory.images.clone(),
            reads: Cell::new(0),
            ..memory
        };
        look(again(), native_id);
        if let Reading::Exact(stack) | Reading::Moving(stack) = read(again(), native_id) {
            assert!(stack.entries.len() <= 256);
            assert!(stack.settled <= stack.entries.len());
            let names: HashSet<usize> =
                stack.entries.iter().map(|one| one.filename.len()).collect();
            assert!(names.iter().all(|&bytes| bytes <= 4 * 4096 + 3));
        }
    }
}
