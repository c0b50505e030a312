//! The OpenSSL that another module of this process has loaded, driven through memory of ours.
//!
//! A program's TLS connections are made by its interpreter, with its own copy of the library. What
//! is done for each record needs a handful of that copy's functions, which are looked up by name.
//! A connection is given a source and a sink of our own in place of its memory buffers: records are
//! read where they were received, and come out in a vector that can be sent as it is.
//!
//! Shape:      `Library` the functions · `Connection` one connection, from its first record of
//!             data on · `Source` and `Sink` what the library reads from and writes to.
//! Units:      bytes.
//! Invariants: 1. A source has `lent` memory only inside `Connection::read_into`.
//!             2. Source and sink belong to their BIO, which frees them; a connection holds a
//!                reference to each, so they live at least as long as it does.
//! Threads:    one at a time uses a connection, and anything else of its `SSL`.
//! Source:     SSL_read_ex(3), SSL_write_ex(3), BIO_meth_new(3), BIO_s_mem(3).

use std::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
use std::ptr::{NonNull, null, null_mut};

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
/// Answers of `SSL_get_error`.
const ERROR_WANT_READ: c_int = 2;
const ERROR_WANT_WRITE: c_int = 3;
const ERROR_SYSCALL: c_int = 5;
const ERROR_ZERO_RETURN: c_int = 6;
/// The peer has closed its half, and we have not closed ours.
const RECEIVED_SHUTDOWN: c_int = 2;

/// Plaintext in one record, at most.
pub const RECORD_BYTES: usize = 16 * 1024;
/// What a record adds to it, at most: header, explicit nonce, type, tag or padding and MAC.
const RECORD_OVERHEAD: usize = 128;

/// Declares the functions that are looked up, with their types.
macro_rules! functions {
    ($($name:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        #[expect(non_snake_case, reason = "the library's own names")]
        struct Functions {
            $($name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Functions {
            /// Finds all of them, or none.
            ///
            /// # Safety
            /// `module` is an open module, and functions of these names that it reaches are
            /// OpenSSL's.
            unsafe fn find(module: NonNull<c_void>) -> Option<Self> {
                // SAFETY: as above; a symbol of that name has the type that OpenSSL documents.
                unsafe {
                    Some(Self {
                        $($name: {
                            let name = concat!(stringify!($name), "\0");
                            let symbol = libc::dlsym(module.as_ptr(), name.as_ptr().cast());
                            std::mem::transmute::<
                                NonNull<c_void>,
                                unsafe extern "C" fn($($argument),*) $(-> $result)?,
                            >(NonNull::new(symbol)?)
                        },)*
                    })
                }
            }
        }
    };
}

type Bio = *mut c_void;
type Method = *mut c_void;
type Ssl = *mut c_void;
type Reading = unsafe extern "C" fn(Bio, *mut c_char, usize, *mut usize) -> c_int;
type Writing = unsafe extern "C" fn(Bio, *const c_char, usize, *mut usize) -> c_int;
type Control = unsafe extern "C" fn(Bio, c_int, c_long, *mut c_void) -> c_long;
type Ending = unsafe extern "C" fn(Bio) -> c_int;

functions! {
    BIO_clear_flags(Bio, c_int);
    BIO_free(Bio) -> c_int;
    BIO_get_data(Bio) -> *mut c_void;
    BIO_get_new_index() -> c_int;
    BIO_meth_new(c_int, *const c_char) -> Method;
    BIO_meth_set_ctrl(Method, Control) -> c_int;
    BIO_meth_set_destroy(Method, Ending) -> c_int;
    BIO_meth_set_read_ex(Method, Reading) -> c_int;
    BIO_meth_set_write_ex(Method, Writing) -> c_int;
    BIO_new(Method) -> Bio;
    BIO_set_data(Bio, *mut c_void);
    BIO_set_flags(Bio, c_int);
    BIO_set_init(Bio, c_int);
    BIO_up_ref(Bio) -> c_int;
    OpenSSL_version_num() -> c_ulong;
    SSL_free(Ssl);
    SSL_get_SSL_CTX(Ssl) -> *mut c_void;
    SSL_get_error(Ssl, c_int) -> c_int;
    SSL_get_ex_data(Ssl, c_int) -> *mut c_void;
    SSL_get_rbio(Ssl) -> Bio;
    SSL_get_shutdown(Ssl) -> c_int;
    SSL_get_wbio(Ssl) -> Bio;
    SSL_has_pending(Ssl) -> c_int;
    SSL_read_ex(Ssl, *mut c_void, usize, *mut usize) -> c_int;
    SSL_set_bio(Ssl, Bio, Bio);
    SSL_up_ref(Ssl) -> c_int;
    SSL_write_ex(Ssl, *const c_void, usize, *mut usize) -> c_int;
}

/// The functions of a loaded OpenSSL, and the two kinds of BIO that were added to it.
pub struct Library {
    functions: Functions,
    source: Method,
    sink: Method,
}

// SAFETY: functions, and methods that nobody changes once they are made.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

/// The library, for the functions that it calls: their arguments tell nothing of it.
static USED: std::sync::OnceLock<Library> = std::sync::OnceLock::new();

impl Library {
    /// The library that a loaded module of this process is linked with, by the module's file and
    /// the number of the version that the module knows; the first module decides for the process.
    ///
    /// `None` when the module is not loaded from that file, does not reach all the functions, or
    /// reaches those of another version.
    ///
    /// # Safety
    /// Functions of OpenSSL's names that the module reaches are OpenSSL's, of a version from 3 on.
    pub unsafe fn of_module(file: &CStr, version: c_ulong) -> Option<&'static Self> {
        if let Some(library) = USED.get() {
            return Some(library);
        }
        // SAFETY: a string that ends with a zero. Only what is loaded already is opened, so no
        // code runs; it is never closed.
        let module = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
        // SAFETY: the caller's promise.
        let functions = unsafe { Functions::find(NonNull::new(module)?)? };
        // SAFETY: takes nothing and has no preconditions.
        if unsafe { (functions.OpenSSL_version_num)() } != version {
            return None;
        }
        // SAFETY: methods are made once, with functions of the documented types.
        let library = unsafe {
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
            made.then_some(Self {
                functions,
                source,
                sink,
            })?
        };
        Some(USED.get_or_init(|| library))
    }

    /// What an `SSL` says of itself: its context, its owner, and what it reads from and writes to.
    ///
    /// # Safety
    /// `ssl` is a live `SSL` of this library.
    #[must_use]
    pub unsafe fn inspect(&self, ssl: NonNull<c_void>) -> Inspected {
        let (functions, ssl) = (&self.functions, ssl.as_ptr());
        // SAFETY: as above; these only look.
        unsafe {
            Inspected {
                context: (functions.SSL_get_SSL_CTX)(ssl),
                // `SSL_get_app_data` is the data of this index.
                owner: (functions.SSL_get_ex_data)(ssl, 0),
                reads_from: (functions.SSL_get_rbio)(ssl),
                writes_to: (functions.SSL_get_wbio)(ssl),
            }
        }
    }
}

/// Addresses that an `SSL` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Its `SSL_CTX`.
    pub context: *mut c_void,
    /// The application's data.
    pub owner: *mut c_void,
    /// The `BIO` it reads from.
    pub reads_from: *mut c_void,
    /// The `BIO` it writes to.
    pub writes_to: *mut c_void,
}

/// What the library reads: first what was kept, then what is lent for the time of a call.
struct Source {
    kept: Vec<u8>,
    /// How much of `kept` was read.
    start: usize,
    lent: *const u8,
    lent_len: usize,
    /// The last call of the library wanted more than there was.
    starved: bool,
}

impl Source {
    fn len(&self) -> usize {
        self.kept.len() - self.start + self.lent_len
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
struct Sink {
    bytes: Vec<u8>,
}

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The room is used up; there may be more.
    Full,
    /// More has to be received first.
    Again,
    /// The peer has closed its half.
    Ended,
    /// An error, which the library's queue of errors holds.
    Failed,
}

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Bytes of plaintext.
    pub count: usize,
    /// Why there were not more.
    pub end: End,
}

/// A connection whose records come from us and go to us.
pub struct Connection {
    library: &'static Library,
    ssl: NonNull<c_void>,
    source: NonNull<c_void>,
    sink: NonNull<c_void>,
}

// SAFETY: nothing of it is bound to a thread.
unsafe impl Send for Connection {}

impl Connection {
    /// Takes over a connection: from now on it reads what `read_into` is given and `keep` was, and
    /// writes what `swap_output` takes. `None` when memory is short.
    ///
    /// # Safety
    /// `ssl` is a live `SSL` of `library`, and whoever uses it, through this or otherwise, does so
    /// one at a time.
    pub unsafe fn take_over(library: &'static Library, ssl: NonNull<c_void>) -> Option<Self> {
        let functions = &library.functions;
        let source = Source {
            kept: Vec::new(),
            start: 0,
            lent: null(),
            lent_len: 0,
            starved: false,
        };
        let sink = Sink { bytes: Vec::new() };
        // SAFETY: the methods fit what their BIOs are given, which frees it. Each BIO gets a second
        // reference: `SSL_set_bio` takes one of each, and we keep the other. The first reference to
        // `ssl` is its owner's, ours keeps it for as long as we are.
        unsafe {
            let source_bio = NonNull::new((functions.BIO_new)(library.source))?;
            (functions.BIO_set_data)(source_bio.as_ptr(), Box::into_raw(Box::new(source)).cast());
            (functions.BIO_set_init)(source_bio.as_ptr(), 1);
            let Some(sink_bio) = NonNull::new((functions.BIO_new)(library.sink)) else {
                (functions.BIO_free)(source_bio.as_ptr());
                return None;
            };
            (functions.BIO_set_data)(sink_bio.as_ptr(), Box::into_raw(Box::new(sink)).cast());
            (functions.BIO_set_init)(sink_bio.as_ptr(), 1);
            (functions.SSL_up_ref)(ssl.as_ptr());
            (functions.BIO_up_ref)(source_bio.as_ptr());
            (functions.BIO_up_ref)(sink_bio.as_ptr());
            (functions.SSL_set_bio)(ssl.as_ptr(), source_bio.as_ptr(), sink_bio.as_ptr());
            Some(Self {
                library,
                ssl,
                source: source_bio,
                sink: sink_bio,
            })
        }
    }

    #[expect(
        clippy::mut_from_ref,
        reason = "borrowed exclusively by each of the callers"
    )]
    fn source(&self) -> &mut Source {
        // SAFETY: invariant 2; no call of the library is under way, in which it would be used.
        unsafe { &mut *(self.library.functions.BIO_get_data)(self.source.as_ptr()).cast() }
    }

    #[expect(
        clippy::mut_from_ref,
        reason = "borrowed exclusively by each of the callers"
    )]
    fn sink(&self) -> &mut Sink {
        // SAFETY: as above.
        unsafe { &mut *(self.library.functions.BIO_get_data)(self.sink.as_ptr()).cast() }
    }

    /// Bytes that were received and not yet read as records.
    #[must_use]
    pub fn input_len(&self) -> usize {
        self.source().len()
    }

    /// Keeps what was received for the next time that records are read.
    pub fn keep(&mut self, received: &[u8]) {
        if received.is_empty() {
            return;
        }
        let source = self.source();
        source.kept.drain(..source.start);
        source.start = 0;
        source.kept.extend_from_slice(received);
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn output_len(&self) -> usize {
        self.sink().bytes.len()
    }

    /// Takes what waits to be sent; what comes is appended to `memory`.
    pub fn swap_output(&mut self, memory: Vec<u8>) -> Vec<u8> {
        std::mem::replace(&mut self.sink().bytes, memory)
    }

    /// Decrypts from what was kept and then from `received` until the room is full or nothing is
    /// left; `received` becomes what was not used.
    ///
    /// # Safety
    /// `room` is valid for writing `len` bytes.
    pub unsafe fn read_into(&mut self, received: &mut &[u8], room: *mut u8, len: usize) -> Read {
        let source = self.source();
        (source.lent, source.lent_len) = (received.as_ptr(), received.len());
        // SAFETY: as above.
        let read = unsafe { self.read_records(room, len) };
        let source = self.source();
        *received = &received[received.len() - source.lent_len..];
        (source.lent, source.lent_len) = (null(), 0);
        read
    }

    /// # Safety
    /// As [`Connection::read_into`].
    unsafe fn read_records(&mut self, room: *mut u8, len: usize) -> Read {
        let (functions, ssl) = (&self.library.functions, self.ssl.as_ptr());
        let mut count = 0;
        while count < len {
            let mut more = 0;
            self.source().starved = false;
            // SAFETY: `ssl` is live, and the room is the caller's.
            let result = unsafe {
                (functions.SSL_read_ex)(ssl, room.add(count).cast(), len - count, &raw mut more)
            };
            if result != 1 {
                let end = self.read_error(result);
                return Read { count, end };
            }
            count += more;
            // SAFETY: `ssl` is live.
            if self.source().len() == 0 && unsafe { (functions.SSL_has_pending)(ssl) } == 0 {
                let end = End::Again;
                return Read { count, end };
            }
        }
        let end = End::Full;
        Read { count, end }
    }

    fn read_error(&self, result: c_int) -> End {
        if self.source().starved {
            // Not asked for by `SSL_get_error`, which takes an error that somebody else has left in
            // the thread's queue for one of this call.
            return End::Again;
        }
        let (functions, ssl) = (&self.library.functions, self.ssl.as_ptr());
        // SAFETY: `ssl` is live; these only look.
        unsafe {
            match (functions.SSL_get_error)(ssl, result) {
                ERROR_WANT_READ | ERROR_WANT_WRITE | ERROR_SYSCALL => End::Again,
                ERROR_ZERO_RETURN if (functions.SSL_get_shutdown)(ssl) == RECEIVED_SHUTDOWN => {
                    End::Ended
                }
                _ => End::Failed,
            }
        }
    }

    /// Encrypts as much as the library takes, which is all unless it has to read first or fails;
    /// returns how many bytes that is.
    ///
    /// # Safety
    /// `data` is valid for reading `len` bytes.
    pub unsafe fn write_from(&mut self, data: *const u8, len: usize) -> usize {
        let records = len / RECORD_BYTES + 1;
        self.sink().bytes.reserve(len + records * RECORD_OVERHEAD);
        let (functions, ssl) = (&self.library.functions, self.ssl.as_ptr());
        let mut count = 0;
        while count < len {
            let mut more = 0;
            // SAFETY: as in `read_records`; one record at a time is written, since the interpreter
            // asks for partial writes.
            let result = unsafe {
                (functions.SSL_write_ex)(ssl, data.add(count).cast(), len - count, &raw mut more)
            };
            if result != 1 {
                break;
            }
            count += more;
        }
        count
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let functions = &self.library.functions;
        // SAFETY: the references that we took.
        unsafe {
            (functions.BIO_free)(self.source.as_ptr());
            (functions.BIO_free)(self.sink.as_ptr());
            (functions.SSL_free)(self.ssl.as_ptr());
        }
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
    // SAFETY: as above: nobody else has the BIO, nor therefore the source.
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
    // SAFETY: as above: nobody else has the BIO, nor therefore the sink.
    unsafe {
        let sink: *mut Sink = (functions.BIO_get_data)(bio).cast();
        (functions.BIO_set_data)(bio, null_mut());
        if !sink.is_null() {
            drop(Box::from_raw(sink));
        }
    }
    1
}
