//! A number for each thread, for state that has to remember on which thread something runs.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};

/// Four bytes, which name one of up to four billion threads of the process, ended ones included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ThreadNumber(NonZeroU32);

const _: () = assert!(size_of::<Option<ThreadNumber>>() == 4);

thread_local! {
    static NUMBER: Cell<Option<ThreadNumber>> = const { Cell::new(None) };
}

/// The number of the calling thread.
#[inline]
pub(crate) fn this_thread() -> ThreadNumber {
    NUMBER.with(|number| number.get().unwrap_or_else(|| first_asked(number)))
}

#[cold]
fn first_asked(number: &Cell<Option<ThreadNumber>>) -> ThreadNumber {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let new = loop {
        // Relaxed: the number publishes no other memory.
        let last = LAST.fetch_add(1, Ordering::Relaxed);
        if let Some(new) = NonZeroU32::new(last.wrapping_add(1)) {
            break ThreadNumber(new);
        }
    };
    number.set(Some(new));
    new
}
