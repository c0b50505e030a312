//! What is recorded, written to files by a thread of its own while the program runs.
//!
//! ```text
//! recorder ──► offloop-tape ──┬──► trace.rs        for Perfetto: valid after each write
//!                             ├──► speedscope.rs   for speedscope: stacks of stalls
//!                             └──► journal_file.rs for `offloop report`: lines with checksums
//! ```
//!
//! The thread sleeps while nothing happens, and writes ten times a second otherwise. A file that
//! cannot be written any more is given up with one line on standard error; the program goes on.
//!
//! Invariants: 1. No file grows beyond `FILE_BYTES_MAX`.
//!             2. What a killed program leaves is complete but for its last tenth of a second.
//!             3. What a full disk leaves is whole: a trace is JSON, a journal ends with a line.
//!             4. Nothing is written to a descriptor that has become another file's.
//! Threads:    one writes; `finish` waits for it, a second at most.
//! Source:     docs/design/019-recording.md, docs/format/journal.md.

mod journal_file;
mod json;
mod speedscope;
mod trace;
mod track;

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use offloop_core::Instant;
use offloop_sys::clock::monotonic_ns;

use crate::loads::LoopLoads;
use crate::recorder::{Record, Recorder, Recording};

pub use journal_file::{JournalError, VERSION, read_journal};

/// The most that one file takes: hours of a busy program, and what a browser still opens.
pub const FILE_BYTES_MAX: u64 = 512 << 20;
/// How often files are written while something happens.
const WRITTEN_EVERY: Duration = Duration::from_millis(100);
/// How long the thread sleeps where nothing happens; it is woken when something does.
const IDLE: Duration = Duration::from_secs(3600);
/// How long `finish` waits for the last writes.
const FINISH_BOUND: Duration = Duration::from_secs(1);
const FINISH_SLICE: Duration = Duration::from_millis(1);

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Chrome's trace events, for Perfetto.
    Trace,
    /// Stacks of stalls, for speedscope.
    Speedscope,
    /// All that `offloop report` needs.
    Journal,
}

impl Format {
    fn word(self) -> &'static str {
        match self {
            Self::Trace | Self::Speedscope => "trace",
            Self::Journal => "journal",
        }
    }
}

/// What is told of the program in each file.
#[derive(Clone, Debug)]
pub struct About {
    /// Its process id.
    pub pid: u32,
    /// How it was started, as a reader knows it.
    pub program: String,
    /// The version of Python.
    pub python: String,
    /// The version of offloop.
    pub offloop: String,
    /// The time of the day when it began to be recorded, in seconds since 1970.
    pub began: f64,
    /// The threshold of the watch in seconds; 0 without one.
    pub threshold: f64,
}

/// Where times begin, and what else all files need.
struct Header {
    about: About,
    origin: Instant,
    loads: Arc<LoopLoads>,
}

impl Header {
    /// Nanoseconds since the recording began; 0 for what began before.
    fn since(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.origin).as_nanos() as u64
    }
}

/// A file that grows, and whose end may be written anew.
///
/// A program may close descriptors that are not its own, as daemons do, and the number is given to
/// its next file. So each write compares what the descriptor leads to with what was created. What
/// is closed between the comparison and the write is not seen: no call of the kernel does both.
struct Output {
    /// `None` once the descriptor is not this file's any more.
    file: Option<File>,
    /// Device and inode.
    identity: (u64, u64),
    path: PathBuf,
    length: u64,
}

impl Output {
    fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        Ok(Self {
            identity: identity(&file)?,
            file: Some(file),
            path: path.to_owned(),
            length: 0,
        })
    }

    /// The file, if its descriptor still leads to it.
    fn own(&mut self) -> io::Result<&mut File> {
        let is_own = |file: &File| identity(file).is_ok_and(|found| found == self.identity);
        if let Some(file) = self.file.take_if(|file| !is_own(file)) {
            // Its descriptor is another file's, or none: it is not closed.
            mem::forget(file);
        }
        self.file
            .as_mut()
            .ok_or_else(|| io::Error::other("the program has closed its descriptor"))
    }

    /// Writes `text` in place of `end`, with which the file ends. Where that fails the file ends
    /// with `end` again, and is whole.
    fn replace(&mut self, end: &str, text: &str) -> io::Result<()> {
        let (begin, whole) = (self.length - end.len() as u64, self.length);
        let length = begin + text.len() as u64;
        if length > FILE_BYTES_MAX {
            let text = format!("it has reached its limit of {} MiB", FILE_BYTES_MAX >> 20);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
        }
        let file = self.own()?;
        let put = |mut file: &File, text: &str| {
            file.seek(SeekFrom::Start(begin))?;
            file.write_all(text.as_bytes())
        };
        if let Err(error) = put(file, text) {
            // Neither needs room on a disk that is full; the first error is the one that is told.
            let _ = file.set_len(whole);
            let _ = put(file, end);
            return Err(error);
        }
        if length < whole {
            file.set_len(length)?;
        }
        self.length = length;
        Ok(())
    }

    fn append(&mut self, text: &str) -> io::Result<()> {
        self.replace("", text)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Its descriptor is closed if it is its own.
        let _ = self.own();
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    let facts = file.metadata()?;
    Ok((facts.dev(), facts.ino()))
}

/// One format's way to write.
trait Writer: Send {
    /// What has happened since the last time; `missed` records were forgotten before.
    fn write(&mut self, header: &Header, records: &[Record], missed: u64) -> io::Result<()>;

    /// Nothing comes any more.
    fn finish(&mut self, header: &Header, now: Instant) -> io::Result<()>;

    /// Where.
    fn output(&self) -> &Output;
}

/// A thread that writes files, until it is finished.
#[derive(Debug)]
pub struct Tape {
    thread: JoinHandle<()>,
    recorder: Arc<Recorder>,
    stop: Arc<AtomicBool>,
}

impl Tape {
    /// Begins to record, and to write it to files.
    ///
    /// # Errors
    /// The system's, with the file that it is about, or when there is no room for a thread.
    pub fn start(
        recorder: &Arc<Recorder>,
        loads: Arc<LoopLoads>,
        about: About,
        files: &[(Format, PathBuf)],
    ) -> io::Result<Self> {
        let header = Header {
            about,
            origin: Instant::from_nanos(monotonic_ns()),
            loads,
        };
        let mut writers = Vec::new();
        for (format, path) in files {
            let of_file = |error: io::Error| {
                let text = format!(
                    "the {} {} cannot be written: {error}",
                    format.word(),
                    path.display()
                );
                io::Error::new(error.kind(), text)
            };
            let output = Output::create(path).map_err(of_file)?;
            let writer: io::Result<Box<dyn Writer>> = match format {
                Format::Trace => trace::Trace::new(output, &header).map(boxed),
                Format::Speedscope => Ok(boxed(speedscope::Speedscope::new(output))),
                Format::Journal => journal_file::JournalFile::new(output, &header).map(boxed),
            };
            writers.push((*format, writer.map_err(of_file)?));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let work = Work {
            seen: recorder.last(),
            recording: Recording::begin(recorder),
            header,
            writers,
            stop: Arc::clone(&stop),
        };
        let thread = thread::Builder::new()
            .name("offloop-tape".into())
            .spawn(move || work.run())?;
        Ok(Self {
            thread,
            recorder: Arc::clone(recorder),
            stop,
        })
    }

    /// Writes what is left, and ends; false if a second was not enough.
    #[must_use]
    pub fn finish(self) -> bool {
        self.stop.store(true, Ordering::Release);
        let until = std::time::Instant::now() + FINISH_BOUND;
        while !self.thread.is_finished() && std::time::Instant::now() < until {
            // It may have gone to sleep a moment ago.
            self.recorder.wake();
            self.thread.thread().unpark();
            thread::park_timeout(FINISH_SLICE);
        }
        self.thread.is_finished()
    }
}

fn boxed<W: Writer + 'static>(writer: W) -> Box<dyn Writer> {
    Box::new(writer)
}

/// The thread.
struct Work {
    /// The last record before it began.
    seen: u64,
    recording: Recording,
    header: Header,
    writers: Vec<(Format, Box<dyn Writer>)>,
    stop: Arc<AtomicBool>,
}

impl Work {
    fn run(mut self) {
        offloop_sys::thread::block_signals();
        let recorder = Arc::clone(self.recording.recorder());
        let mut seen = self.seen;
        while !self.writers.is_empty() {
            let stops = self.stop.load(Ordering::Acquire);
            let found = recorder.after(seen);
            seen = found.last;
            if !found.records.is_empty() || found.missed > 0 {
                let header = &self.header;
                keep_writing(&mut self.writers, |writer| {
                    writer.write(header, &found.records, found.missed)
                });
            }
            if stops {
                break;
            }
            let _ = recorder.wait_after_unless(seen, IDLE, &self.stop);
            // What happens at the same time is written at once.
            if !self.stop.load(Ordering::Acquire) {
                thread::park_timeout(WRITTEN_EVERY);
            }
        }
        let header = &self.header;
        let now = Instant::from_nanos(monotonic_ns());
        keep_writing(&mut self.writers, |writer| writer.finish(header, now));
    }
}

/// Writes all files; one that cannot be written is given up.
fn keep_writing(
    writers: &mut Vec<(Format, Box<dyn Writer>)>,
    mut write: impl FnMut(&mut dyn Writer) -> io::Result<()>,
) {
    writers.retain_mut(|(format, writer)| match write(&mut **writer) {
        Ok(()) => true,
        Err(error) => {
            let text = format!(
                "offloop: the {} {} ends here, and the program goes on: {error}\n",
                format.word(),
                writer.output().path.display()
            );
            // There is nowhere else to say it.
            let _ = io::stderr().write_all(text.as_bytes());
            false
        }
    });
}

#[cfg(test)]
mod tests;
