//! Readings of an interpreter's memory that was made by hand, whole, spoilt, and while it changes.

#![cfg(not(any(loom, miri)))]

mod gil;
mod image;

use std::cell::Cell;

use image::{
    BASE, BUSY, Changing, FIRST_TRACEABLE, IDLE, INTERPRETER, Image, OF_C, OF_GENERATOR, OF_THREAD,
    SYMBOLS, UNITS, code_at, first_line, frame_at, read,
};
use offloop_sys::interpreter::memory::{Address, Memory, MemoryError};
use offloop_sys::interpreter::{
    Codes, Interpreter, Reading, Stack, Symbols, Thread, Unreadable, UnsupportedError,
};

/// Changes spoil the image in this many ways.
const SEEDS: u64 = 3_000;

/// The function and the line of each entry.
fn shown(stack: &Stack) -> Vec<(String, i32)> {
    let line = |line: Option<i32>| line.expect("the table has it");
    let entries = stack.entries.iter();
    entries
        .map(|entry| (entry.function.to_string(), line(entry.position.line)))
        .collect()
}

fn exact(reading: Reading) -> Stack {
    match reading {
        Reading::Exact(stack) => stack,
        other => panic!("{other:?} is not exact"),
    }
}

fn moving(reading: Reading) -> Stack {
    match reading {
        Reading::Moving(stack) => stack,
        other => panic!("{other:?} is not moving"),
    }
}

fn unreadable(reading: Reading) -> Unreadable {
    match reading {
        Reading::Unreadable(reason) => reason,
        other => panic!("{other:?} was read"),
    }
}

/// What is expected of a code at a unit.
fn at(code: u64, unit: u64) -> (String, i32) {
    let unit = i32::try_from(unit).expect("small");
    (format!("function {code}"), first_line(code) + unit)
}

fn changing(images: Vec<Image>, reads_each: usize) -> Changing {
    Changing {
        turns: images.len(),
        images,
        reads_each,
        reads: Cell::new(0),
    }
}

#[test]
fn frames_are_read_from_the_innermost_out() {
    let image = Image::with_frames(&[(3, 5, OF_THREAD), (1, 2, OF_GENERATOR), (0, 7, OF_THREAD)]);
    let stack = exact(read(image, BUSY));
    assert_eq!(shown(&stack), [at(3, 5), at(1, 2), at(0, 7)]);
    assert_eq!(&*stack.entries[0].filename, "file 3");
    assert_eq!(stack.entries[0].first_line, first_line(3));
    assert_eq!((stack.cut, stack.hidden, stack.settled), (0, 0, 3));
}

#[test]
fn frames_that_the_interpreter_does_not_show_are_passed_over() {
    let image = Image::with_frames(&[
        (6, -1, OF_THREAD),
        (5, i64::from(FIRST_TRACEABLE) - 1, OF_THREAD),
        (4, 1, OF_GENERATOR),
        (3, 3, OF_C),
        (2, 3, OF_THREAD),
    ]);
    let stack = exact(read(image, BUSY));
    assert_eq!(shown(&stack), [at(4, 1), at(2, 3)]);
}

#[test]
fn a_thread_without_frames_has_an_empty_stack() {
    assert_eq!(exact(read(Image::with_frames(&[]), BUSY)), Stack::default());
    assert_eq!(
        exact(read(Image::with_frames(&[(0, 2, 0)]), IDLE)),
        Stack::default()
    );
}

#[test]
fn a_thread_that_is_not_there_is_not_found() {
    let image = Image::with_frames(&[(0, 2, OF_THREAD)]);
    assert_eq!(unreadable(read(image.clone(), 702)), Unreadable::NoThread);
    let interpreter = Interpreter::of_memory(image, SYMBOLS).expect("a known layout");
    let known = interpreter.find(BUSY).expect("it is there");
    let read = |thread| interpreter.read(thread, &mut Codes::new(), || true);
    assert_eq!(exact(read(known)).entries.len(), 1);
    let another = Thread::new(BASE + 0x300, BUSY);
    assert_eq!(unreadable(read(another)), Unreadable::NoThread);
}

#[test]
fn a_reading_of_what_has_ended_is_not_given_away() {
    let image = Image::with_frames(&[(0, 2, OF_THREAD)]);
    let interpreter = Interpreter::of_memory(image, SYMBOLS).expect("a known layout");
    let thread = interpreter.find(BUSY).expect("it is there");
    let reading = interpreter.read(thread, &mut Codes::new(), || false);
    assert_eq!(reading, Reading::Over);
}

#[test]
fn a_frame_that_moves_is_not_settled_and_its_callers_are() {
    let images: Vec<Image> = (2..UNITS.cast_signed())
        .map(|unit| Image::with_frames(&[(1, unit, OF_THREAD), (0, 3, OF_THREAD)]))
        .collect();
    // Each walk takes three reads: the thread, the record, the page.
    let always = Changing {
        turns: usize::MAX,
        ..changing(images, 3)
    };
    let stack = moving(read(always, BUSY));
    assert_eq!(stack.settled, 1);
    assert_eq!(shown(&stack)[1], at(0, 3));
    let (function, line) = &shown(&stack)[0];
    assert_eq!(function, "function 1");
    assert!((first_line(1) + 2..first_line(1) + 64).contains(line));
}

#[test]
fn code_that_is_replaced_is_never_mixed() {
    let one = Image::with_frames(&[(1, 4, OF_THREAD), (0, 3, OF_THREAD)]);
    let mut other = Image::with_frames(&[(1, 6, OF_THREAD), (0, 3, OF_THREAD)]);
    other.code(1, "new file", "new function");
    let mut seen = 0;
    for reads_each in 1..60 {
        let both = changing(vec![one.clone(), other.clone()], reads_each);
        let reading = read(both, BUSY);
        let (Reading::Exact(stack) | Reading::Moving(stack)) = reading else {
            continue;
        };
        for entry in &stack.entries {
            let line = entry.position.line.expect("the table has it") - entry.first_line;
            let told = (&*entry.filename, &*entry.function, line);
            assert!(
                [
                    ("file 0", "function 0", 3),
                    ("file 1", "function 1", 4),
                    ("new file", "new function", 6),
                ]
                .contains(&told),
                "{told:?} after {reads_each} reads"
            );
            seen += 1;
        }
    }
    assert!(seen > 40);
}

#[test]
fn frames_inside_of_one_that_cannot_be_read_are_hidden() {
    let mut image = Image::with_frames(&[(2, 3, OF_THREAD), (1, 3, OF_THREAD), (0, 3, OF_THREAD)]);
    image.put(code_at(1) + 8, SYMBOLS.text_type);
    let stack = moving(read(image, BUSY));
    assert_eq!(shown(&stack), [at(0, 3)]);
    assert_eq!(stack.hidden, 2);
}

#[test]
fn instructions_outside_of_the_code_are_not_believed() {
    for wrong in [UNITS.cast_signed(), -2, 1 << 40] {
        let image = Image::with_frames(&[(1, wrong, OF_THREAD), (0, 3, OF_THREAD)]);
        let stack = moving(read(image, BUSY));
        assert_eq!((shown(&stack), stack.hidden), (vec![at(0, 3)], 1));
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let image = Image::with_frames(&[(1, 3, OF_THREAD), (0, 3, OF_THREAD)]);
    let spoilt = |address: Address, word: u64| {
        let mut image = image.clone();
        image.put(address, word);
        unreadable(read(image, BUSY))
    };
    let malformed = |what| Unreadable::Malformed { what };
    let unmapped = |address| Unreadable::Memory(MemoryError::Unmapped { address });
    assert_eq!(spoilt(frame_at(0) + 8, frame_at(0)), Unreadable::Endless);
    assert_eq!(spoilt(frame_at(1) + 8, frame_at(0)), Unreadable::Endless);
    assert_eq!(
        spoilt(frame_at(0) + 8, frame_at(1) + 4),
        malformed("a frame")
    );
    assert_eq!(spoilt(frame_at(1) + 8, 0), malformed("the first frame"));
    assert_eq!(spoilt(frame_at(0) + 8, 0x1000), unmapped(0x1000));
    assert_eq!(
        spoilt(frame_at(0) + 8, u64::MAX - 7),
        malformed("an address")
    );
    assert_eq!(spoilt(frame_at(0) + 64, 0xff << 48), malformed("a frame"));
    assert_eq!(spoilt(frame_at(0), 0), malformed("a code object"));
    assert_eq!(spoilt(INTERPRETER + 72, 3), malformed("a thread"));
    assert_eq!(spoilt(BASE + 0x300 + 8, BASE + 0x300), Unreadable::Endless);
    assert_eq!(spoilt(BASE + 0x300 + 16, 1), malformed("a thread"));
    assert_eq!(spoilt(BASE + 40, 0x2000), unmapped(0x2000 + 72));
}

/// Frames without end, each above the one before.
struct Endless(Image);

impl Memory for Endless {
    fn read(&self, address: Address, into: &mut [u8]) -> Result<(), MemoryError> {
        if address < BASE + 0x1_0000 {
            return self.0.read(address, into);
        }
        // Every 128 bytes a frame, whose caller is the next one; pages are read as a whole.
        into.fill(0);
        for (index, frame) in into.chunks_exact_mut(128).enumerate() {
            let next = address + 128 * (index as u64 + 1);
            frame[..8].copy_from_slice(&code_at(0).to_ne_bytes());
            frame[8..16].copy_from_slice(&next.to_ne_bytes());
            frame[56..64].copy_from_slice(&(code_at(0) + 198).to_ne_bytes());
        }
        Ok(())
    }
}

#[test]
fn a_chain_without_an_end_ends() {
    let mut image = Image::with_frames(&[(0, 3, OF_THREAD)]);
    image.put(frame_at(0) + 8, BASE + 0x1_0000);
    assert_eq!(unreadable(read(Endless(image), BUSY)), Unreadable::Endless);
}

#[test]
fn versions_without_a_known_layout_are_refused() {
    let image = Image::with_frames(&[]);
    let refused = |version| {
        let symbols = Symbols { version, ..SYMBOLS };
        Interpreter::of_memory(image.clone(), symbols).expect_err("refused")
    };
    for version in [0x030a_00f0, 0x030c_00c1, 0x0310_00f0, 0, u64::MAX] {
        assert_eq!(refused(version), UnsupportedError::Version { version });
    }
    assert_eq!(refused(0x030d_00f0), UnsupportedError::Layout);
}

#[test]
fn any_bytes_at_all_are_read_or_refused() {
    let mut state = 20_261_127_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..SEEDS {
        let mut bytes = vec![random().to_le_bytes()[0]];
        for _ in 0..=random() % 6 {
            // Words that may lead somewhere, as often as words that do not.
            let word = match random() % 4 {
                0 => random(),
                1 => BASE + random() % 0x6000,
                2 => BASE + ((random() % 0x6000) & !7),
                _ => random() % 64,
            };
            let place = (random() % 0x6000) as u16;
            bytes.extend((place & !3).to_le_bytes());
            bytes.extend(word.to_le_bytes());
        }
        image::check(&bytes);
    }
}
