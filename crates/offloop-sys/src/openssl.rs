//! The OpenSSL that another module of this process has loaded, driven through memory of ours.
//!
//! A program's TLS connections are made by its interpreter, with its own copy of the library. What
//! is done for each record needs a handful of that copy's functions, which are looked up by name.
//! A connection is given a source and a sink of our own in place of its memory buffers: records are
//! read where they were received, and come out in a vector that can be sent as it is.
//!
//! The library keeps a queue of errors for each thread, and asks that it is empty before a call
//! whose outcome it is to explain. An error that is left there spoils the next connection of the
//! thread, so a `Failure` says when there may be one. Errors that other code has left are cleared
//! where they would be taken for ours.
//!
//! Shape:      `Library` the functions · `Connection` one connection, from its first record of
//!             data on · `buffers.rs` what the library reads from and writes to.
//! Units:      bytes.
//! Invariants: 1. Source and sink belong to their BIO, which frees them; a connection holds a
//!                reference to each, so they live at least as long as it does.
//!             2. Nothing borrows them during a call of the library, which may call functions of
//!                the program's: those may use the same `SSL`.
//! Threads:    one at a time uses a connection, and anything else of its `SSL`.
//! Source:     SSL_read_ex(3), SSL_write_ex(3), SSL_get_error(3).

mod buffers;

use std::collections::TryReserveError;
use std::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
use std::ptr::{NonNull, null};

use buffers::{Sink, Source};

/// Answers of `SSL_get_error`.
const ERROR_WANT_READ: c_int = 2;
const ERROR_WANT_WRITE: c_int = 3;
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
    ERR_clear_error();
    ERR_peek_error() -> c_ulong;
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

// SAFETY: functions, and methods that do not change once they are made.
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
        // SAFETY: as above.
        let (source, sink) = unsafe { buffers::methods(&functions)? };
        let library = Self {
            functions,
            source,
            sink,
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

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The room is used up; there may be more.
    Full,
    /// More has to be received first.
    Again,
    /// The peer has closed its half.
    Ended,
}

/// What came of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Bytes of plaintext.
    pub count: usize,
    /// Why there were not more.
    pub end: End,
}

/// Why the library did not go on. What it had decrypted in the same call is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An error, which may stand in the thread's queue: the next user of the `SSL` meets it again,
    /// and empties the queue.
    Library,
    /// Memory was short; the queue is empty.
    Memory,
}

impl From<TryReserveError> for Failure {
    fn from(_: TryReserveError) -> Self {
        Self::Memory
    }
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
    /// `ssl` is a live `SSL` of `library`. All that use it, through this or otherwise, do so one at
    /// a time.
    pub unsafe fn take_over(library: &'static Library, ssl: NonNull<c_void>) -> Option<Self> {
        let functions = &library.functions;
        let (source, sink) = (Source::new(), Sink::default());
        // SAFETY: the methods fit what their BIOs are given, which frees it. Each BIO gets a second
        // reference: `SSL_set_bio` takes one of each, and we keep the other. The first reference to
        // `ssl` is its owner's; ours keeps it alive as long as this connection.
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
        // SAFETY: invariants 1 and 2: it lives, and no call of the library uses it now.
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
    ///
    /// # Errors
    /// Memory is short.
    pub fn keep(&mut self, received: &[u8]) -> Result<(), Failure> {
        if !received.is_empty() {
            self.source().keep(received)?;
        }
        Ok(())
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

    /// Forgets the errors in the thread's queue.
    fn clear_errors(&self) {
        let functions = &self.library.functions;
        // SAFETY: no preconditions. To look first costs less than to clear an empty queue.
        unsafe {
            if (functions.ERR_peek_error)() != 0 {
                (functions.ERR_clear_error)();
            }
        }
    }

    /// Decrypts from what was kept and then from `received` until the room is full or nothing is
    /// left; `received` becomes what was not used.
    ///
    /// # Errors
    /// The library refuses what it reads, or has before.
    ///
    /// # Safety
    /// `room` is valid for writing `len` bytes, whatever functions of the program's the library
    /// calls meanwhile.
    pub unsafe fn read_into(
        &mut self,
        received: &mut &[u8],
        room: *mut u8,
        len: usize,
    ) -> Result<Read, Failure> {
        let source = self.source();
        (source.lent, source.lent_len) = (received.as_ptr(), received.len());
        self.clear_errors();
        // SAFETY: as above.
        let read = unsafe { self.read_records(room, len) };
        let source = self.source();
        *received = &received[received.len() - source.lent_len..];
        (source.lent, source.lent_len) = (null(), 0);
        read
    }

    /// # Safety
    /// As [`Connection::read_into`].
    unsafe fn read_records(&mut self, room: *mut u8, len: usize) -> Result<Read, Failure> {
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
                let end = self.read_end(result)?;
                return Ok(Read { count, end });
            }
            count += more;
            // SAFETY: `ssl` is live.
            if self.source().len() == 0 && unsafe { (functions.SSL_has_pending)(ssl) } == 0 {
                let end = End::Again;
                return Ok(Read { count, end });
            }
        }
        let end = End::Full;
        Ok(Read { count, end })
    }

    /// Why a read did not succeed.
    fn read_end(&self, result: c_int) -> Result<End, Failure> {
        if self.source().starved {
            // As `SSL_get_error` says, unless a record that was read has left an error behind.
            return Ok(End::Again);
        }
        let (functions, ssl) = (&self.library.functions, self.ssl.as_ptr());
        // SAFETY: `ssl` is live; these only look.
        unsafe {
            match (functions.SSL_get_error)(ssl, result) {
                ERROR_WANT_READ | ERROR_WANT_WRITE => Ok(End::Again),
                ERROR_ZERO_RETURN if (functions.SSL_get_shutdown)(ssl) == RECEIVED_SHUTDOWN => {
                    Ok(End::Ended)
                }
                // One of them says that the library has failed before and the error was taken.
                _ => Err(self.failure()),
            }
        }
    }

    fn failure(&self) -> Failure {
        if std::mem::take(&mut self.sink().refused) {
            self.clear_errors();
            return Failure::Memory;
        }
        Failure::Library
    }

    /// Encrypts all, and returns how many bytes that is: none if the library has to read first, or
    /// fails for another reason than memory. A later write of the same data gets that error.
    ///
    /// # Errors
    /// Memory is short: the connection is of no more use.
    ///
    /// # Safety
    /// `data` is valid for reading `len` bytes, whatever functions of the program's the library
    /// calls meanwhile.
    pub unsafe fn write_from(&mut self, data: *const u8, len: usize) -> Result<usize, Failure> {
        let records = len / RECORD_BYTES + 1;
        let room = len + records * RECORD_OVERHEAD;
        self.sink().bytes.try_reserve(room)?;
        self.source().starved = false;
        let mut count = 0;
        // SAFETY: `ssl` is live, and the data the caller's. All records are made by this one call,
        // since the interpreter does not ask for partial writes.
        let result = unsafe {
            (self.library.functions.SSL_write_ex)(
                self.ssl.as_ptr(),
                data.cast(),
                len,
                &raw mut count,
            )
        };
        if result != 1 {
            if self.failure() == Failure::Memory {
                return Err(Failure::Memory);
            }
            if self.source().starved {
                // What is there is not of this call, and must not be taken for its reason.
                self.clear_errors();
            }
        }
        Ok(count)
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
