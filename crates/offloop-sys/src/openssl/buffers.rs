//! What a connection reads from and writes to: memory, in the place of the library's own buffers.
//!
//! Shape:      `Source` and `Sink`, each with the functions that the library calls on its BIO.
//! Units:      bytes.
//! Invariants: 1. A source has `lent` memory only inside `Connection::read_into`.
//!             2. No reference to either is kept during a call of the library: the functions
//!                here look at them then, and so may a callback's use of the same connection.
//! Threads:    one at a time, as the connection.
//! Source:     BIO_meth_new(3), BIO_s_mem(3).

use std::collections::TryReserveError;
use std::ffi::{c_char, c_int, c_long, c_void};
use std::ptr::{null, null_mut};

use super::{Bio, Functions, Method, USED};

/// Flags of a BIO, from OpenSSL's `bio.h`: the last call was a read, and may be tried again.
const FLAG_READ: c_int = 0x01;
const FLAG_RETRY: c_int = 0x08;
const FLAGS_RETRY: c_int = 0x0f;
/// The kind of BIO that stands at an end of a chain.
const TYPE_SOURCE_SINK: c_int = 0x0400;
/// Requests to a BIO.
const CTRL_DUP: c_int = 12;
const CTRL_PENDING: c_int = 10;
const CTRL_FLUSH: c_int = 11;

/// What the library reads: first what was kept, then what is lent for the time of a call.
pub(super) struct Source {
    kept: Vec<u8>,
    /// How much of `kept` was read.
    start: usize,
    pub(super) lent: *const u8,
    pub(super) lent_len: usize,
    /// The last call of the library wanted more than there was.
    pub(super) starved: bool,
}

impl Source {
    pub(super) fn new() -> Self {
        Self {
            kept: Vec::new(),
            start: 0,
            lent: null(),
            lent_len: 0,
            starved: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.kept.len() - self.start + self.lent_len
    }

    /// Keeps what is not lent any more.
    pub(super) fn keep(&mut self, received: &[u8]) -> Result<(), TryReserveError> {
        self.kept.drain(..self.start);
        self.start = 0;
        self.kept.try_reserve(received.len())?;
        self.kept.extend_from_slice(received);
        Ok(())
    }

    /// Copies what there is room for.
    ///
    /// # Safety
    /// `room` is valid for writing `len` bytes.
    unsafe fn read(&mut self, room: *mut u8, len: usize) -> usize {
        let kept = &self.kept[self.start..];
        if !kept.is_empty() {
            let count = kept.len().min(len);
            // SAFETY: as above, and `kept` has as many.
            unsafe { kept.as_ptr().copy_to_nonoverlapping(room, count) };
            self.start += count;
            if self.start == self.kept.len() {
                self.kept = Vec::new();
                self.start = 0;
            }
            return count;
        }
        let count = self.lent_len.min(len);
        // SAFETY: as above; what is lent is valid for as long as it is (invariant 1).
        unsafe {
            self.lent.copy_to_nonoverlapping(room, count);
            self.lent = self.lent.add(count);
        }
        self.lent_len -= count;
        count
    }
}

/// What the library has written.
#[derive(Default)]
pub(super) struct Sink {
    pub(super) bytes: Vec<u8>,
    /// It has not taken what it was given, for lack of memory.
    pub(super) refused: bool,
}

/// Makes the two kinds of BIO.
///
/// # Safety
/// The functions are OpenSSL's.
pub(super) unsafe fn methods(functions: &Functions) -> Option<(Method, Method)> {
    // SAFETY: methods are made once, with functions of the documented types.
    unsafe {
        let kind = (functions.BIO_get_new_index)() | TYPE_SOURCE_SINK;
        let source = (functions.BIO_meth_new)(kind, c"offloop source".as_ptr());
        let kind = (functions.BIO_get_new_index)() | TYPE_SOURCE_SINK;
        let sink = (functions.BIO_meth_new)(kind, c"offloop sink".as_ptr());
        let made = !source.is_null()
            && !sink.is_null()
            && (functions.BIO_meth_set_read_ex)(source, read_source) == 1
            && (functions.BIO_meth_set_ctrl)(source, control_source) == 1
            && (functions.BIO_meth_set_destroy)(source, destroy_source) == 1
            && (functions.BIO_meth_set_write_ex)(sink, write_sink) == 1
            && (functions.BIO_meth_set_ctrl)(sink, control_sink) == 1
            && (functions.BIO_meth_set_destroy)(sink, destroy_sink) == 1;
        made.then_some((source, sink))
    }
}

/// The functions, for what the library calls.
fn functions() -> &'static Functions {
    let library = USED.get().expect("methods are made with the library");
    &library.functions
}

/// # Safety
/// Called by the library, on a BIO of the method for sources, with room for `len` bytes.
unsafe extern "C" fn read_source(
    bio: Bio,
    room: *mut c_char,
    len: usize,
    read: *mut usize,
) -> c_int {
    let functions = functions();
    // SAFETY: as above; the data is the source that the BIO was made with.
    unsafe {
        let source: *mut Source = (functions.BIO_get_data)(bio).cast();
        (functions.BIO_clear_flags)(bio, FLAGS_RETRY);
        *read = (*source).read(room.cast(), len);
        if *read == 0 {
            (*source).starved = true;
            (functions.BIO_set_flags)(bio, FLAG_READ | FLAG_RETRY);
            return 0;
        }
    }
    1
}

/// # Safety
/// Called by the library, on a BIO of the method for sinks, with `len` bytes.
unsafe extern "C" fn write_sink(
    bio: Bio,
    data: *const c_char,
    len: usize,
    written: *mut usize,
) -> c_int {
    let functions = functions();
    // SAFETY: as above; the data is the sink that the BIO was made with.
    unsafe {
        let sink: *mut Sink = (functions.BIO_get_data)(bio).cast();
        (functions.BIO_clear_flags)(bio, FLAGS_RETRY);
        let bytes = std::slice::from_raw_parts(data.cast::<u8>(), len);
        // A panic here would end the process, and the library is prepared for a failure.
        if (*sink).bytes.try_reserve(len).is_err() {
            (*sink).refused = true;
            *written = 0;
            return -1;
        }
        (*sink).bytes.extend_from_slice(bytes);
        *written = len;
    }
    1
}

/// # Safety
/// Called by the library, on a BIO of the method for sources.
unsafe extern "C" fn control_source(bio: Bio, request: c_int, _: c_long, _: *mut c_void) -> c_long {
    match request {
        CTRL_DUP | CTRL_FLUSH => 1,
        CTRL_PENDING => {
            // SAFETY: as above.
            let source: *mut Source = unsafe { (functions().BIO_get_data)(bio).cast() };
            // SAFETY: as above.
            c_long::try_from(unsafe { (*source).len() }).unwrap_or(c_long::MAX)
        }
        _ => 0,
    }
}

/// # Safety
/// Called by the library, on a BIO of the method for sinks.
unsafe extern "C" fn control_sink(_: Bio, request: c_int, _: c_long, _: *mut c_void) -> c_long {
    c_long::from(request == CTRL_DUP || request == CTRL_FLUSH)
}

/// # Safety
/// Called by the library once, with a BIO of the method for sources.
unsafe extern "C" fn destroy_source(bio: Bio) -> c_int {
    let functions = functions();
    // SAFETY: as above: the BIO has no other holder, nor therefore has the source.
    unsafe {
        let source: *mut Source = (functions.BIO_get_data)(bio).cast();
        (functions.BIO_set_data)(bio, null_mut());
        if !source.is_null() {
            drop(Box::from_raw(source));
        }
    }
    1
}

/// # Safety
/// Called by the library once, with a BIO of the method for sinks.
unsafe extern "C" fn destroy_sink(bio: Bio) -> c_int {
    let functions = functions();
    // SAFETY: as above: the BIO has no other holder, nor therefore has the sink.
    unsafe {
        let sink: *mut Sink = (functions.BIO_get_data)(bio).cast();
        (functions.BIO_set_data)(bio, null_mut());
        if !sink.is_null() {
            drop(Box::from_raw(sink));
        }
    }
    1
}
