//! The GIL and the motion of a thread, in memory that was made by hand.

use std::cell::Cell;

use offloop_sys::interpreter::memory::{Memory, MemoryError};
use offloop_sys::interpreter::{GilFacts, Holder, Interpreter, Motion, Thread, Unreadable};

use super::image::{
    BASE, BUSY, BUSY_STATE, Changing, GIL, IDLE, INTERPRETER, Image, OF_C, OF_THREAD, SYMBOLS,
    code_at,
};

/// What jumps back in the image's version.
const JUMP_BACKWARD: u8 = 140;
const CALL: u8 = 171;

fn interpreter(image: Image) -> Interpreter<Image> {
    Interpreter::of_memory(image, SYMBOLS).expect("a known layout")
}

fn gil(image: Image, native_id: u64) -> Result<GilFacts, Unreadable> {
    let interpreter = interpreter(image);
    interpreter.gil_of(interpreter.find(native_id)?)
}

/// The motion of a thread; where this test is itself kept from running, it asks again.
fn motion<M: Memory>(interpreter: &Interpreter<M>, thread: Thread) -> Result<Motion, Unreadable> {
    loop {
        match interpreter.motion_of(thread) {
            Err(Unreadable::Preempted) => {}
            outcome => return outcome,
        }
    }
}

fn at_unit(unit: i64) -> Image {
    Image::with_frames(&[(0, 0, OF_C), (1, unit, OF_THREAD), (0, 3, OF_THREAD)])
}

#[test]
fn the_holder_of_the_gil_is_told_to_each_thread() {
    let image = at_unit(5);
    let holder = |native_id| gil(image.clone(), native_id).expect("it is whole").holder;
    assert_eq!(holder(BUSY), Some(Holder::This));
    assert_eq!(holder(IDLE), Some(Holder::Other(BUSY)));
}

#[test]
fn a_gil_that_none_has_is_free_and_names_no_thread_that_may_be_gone() {
    let mut image = at_unit(5);
    for state in [0, BUSY_STATE, 0x1000, BASE + 0x3e00] {
        image.gil(state, false);
        let facts = gil(image.clone(), IDLE).expect("it is whole");
        assert_eq!(facts.holder, Some(Holder::Free(None)));
    }
}

#[test]
fn a_holder_that_cannot_be_one_is_not_told() {
    let mut image = at_unit(5);
    for state in [0, 0x1000, 3, BASE + 0x3e00, u64::MAX] {
        image.gil(state, true);
        assert_eq!(gil(image.clone(), IDLE).expect("it is whole").holder, None);
    }
    // It belongs to an interpreter with another GIL.
    let mut image = at_unit(5);
    image.put(INTERPRETER + 0x800 + 384, GIL + 0x100);
    image.put(BUSY_STATE + 16, INTERPRETER + 0x800);
    let idle = Thread::new(BASE + 0x300, IDLE);
    let facts = interpreter(image).gil_of(idle).expect("it is whole");
    assert_eq!(facts.holder, None);
}

#[test]
fn a_gil_that_goes_from_thread_to_thread_has_no_holder() {
    let (mut one, mut other) = (at_unit(5), at_unit(5));
    one.gil(BUSY_STATE, true);
    other.gil(BASE + 0x300, true);
    let mut unclear = 0;
    for reads_each in 1..8 {
        let changing = Changing {
            images: vec![one.clone(), other.clone()],
            reads_each,
            turns: usize::MAX,
            reads: Cell::new(0),
        };
        let interpreter = Interpreter::of_memory(changing, SYMBOLS).expect("a known layout");
        let facts = interpreter.gil_of(Thread::new(BASE + 0x300, IDLE));
        match facts.expect("it is whole").holder {
            None => unclear += 1,
            Some(holder) => assert!([Holder::This, Holder::Other(BUSY)].contains(&holder)),
        }
    }
    assert!(unclear > 0);
}

#[test]
fn a_gil_that_is_none_is_refused_with_its_reason() {
    let spoilt = |address, word| {
        let mut image = at_unit(5);
        image.put(address, word);
        gil(image, BUSY).expect_err("refused")
    };
    let malformed = Unreadable::Malformed { what: "a GIL" };
    assert_eq!(spoilt(GIL + 16, 2), malformed);
    assert_eq!(spoilt(GIL + 16, u64::from(u32::MAX)), malformed);
    assert_eq!(spoilt(INTERPRETER + 384, 0), malformed);
    assert_eq!(spoilt(INTERPRETER + 384, 1), malformed);
    let unmapped = MemoryError::Unmapped { address: 0x1000 };
    assert_eq!(
        spoilt(INTERPRETER + 384, 0x1000),
        Unreadable::Memory(unmapped)
    );
    let unknown = interpreter(at_unit(5)).without_gil();
    let busy = Thread::new(BUSY_STATE, BUSY);
    assert_eq!(unknown.gil_of(busy), Err(malformed));
    let gone = Thread::new(BUSY_STATE, IDLE);
    let outcome = interpreter(at_unit(5)).gil_of(gone);
    assert_eq!(outcome, Err(Unreadable::NoThread));
}

#[test]
fn a_collection_is_told_by_yes_or_no_alone() {
    for (word, expected) in [(0, Some(false)), (1, Some(true)), (2, None)] {
        let mut image = at_unit(5);
        image.put(INTERPRETER + 312, word);
        assert_eq!(gil(image, BUSY).expect("it is whole").collects, expected);
    }
}

#[cfg(target_env = "gnu")]
#[test]
fn a_wait_inside_of_the_structure_is_one_for_the_gil() {
    let facts = gil(at_unit(5), BUSY).expect("it is whole");
    let pair = size_of_pair();
    for (address, expected) in [
        (GIL, true),
        (GIL + 32 + 2 * pair - 1, true),
        (GIL + 32 + 2 * pair, false),
        (GIL - 1, false),
        (0, false),
        (u64::MAX, false),
    ] {
        assert_eq!(facts.is_awaited_at(address), Some(expected), "{address:#x}");
    }
}

/// A condition variable and a mutex of the C library.
#[cfg(target_env = "gnu")]
fn size_of_pair() -> u64 {
    (size_of::<libc::pthread_cond_t>() + size_of::<libc::pthread_mutex_t>()) as u64
}

#[test]
fn a_thread_at_one_instruction_is_still_unless_that_is_a_jump_back() {
    for (operation, expected) in [(CALL, Motion::Still), (JUMP_BACKWARD, Motion::Moving)] {
        let mut image = at_unit(5);
        image.put_bytes(code_at(1) + 192 + 10, &[operation]);
        let interpreter = interpreter(image);
        let thread = interpreter.find(BUSY).expect("it is there");
        assert_eq!(motion(&interpreter, thread), Ok(expected));
    }
}

#[test]
fn a_thread_whose_instruction_changes_moves() {
    for reads_each in 1..40 {
        let changing = Changing {
            images: vec![at_unit(5), at_unit(6)],
            reads_each,
            turns: usize::MAX,
            reads: Cell::new(0),
        };
        let interpreter = Interpreter::of_memory(changing, SYMBOLS).expect("a known layout");
        let thread = interpreter.find(BUSY).expect("it is there");
        assert_eq!(
            motion(&interpreter, thread),
            Ok(Motion::Moving),
            "{reads_each}"
        );
    }
}

#[test]
fn a_thread_without_code_is_still() {
    let interpreter = interpreter(Image::with_frames(&[]));
    for native_id in [BUSY, IDLE] {
        let thread = interpreter.find(native_id).expect("it is there");
        assert_eq!(motion(&interpreter, thread), Ok(Motion::Still));
    }
}
