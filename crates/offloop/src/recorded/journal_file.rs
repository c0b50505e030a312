//! The journal file: lines of JSON, each with a checksum, that are only ever appended.
//!
//! ```text
//! 1f0c3a92 {"kind":"offloop-journal","version":1,…}
//! 88ab01d4 {"kind":"load","at":…}
//! ```
//!
//! Units:      nanoseconds since the recording began.
//! Errors:     `JournalError`; a line that is damaged or cut off is left out, and counted.
//! Source:     docs/format/journal.md.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use offloop_core::Instant;
use offloop_core::event_loop::Moment;
use offloop_core::watch::{Sources, Told};
use offloop_sys::process::ExitStatus;

use super::json::{Object, array, string};
use super::{Header, Output, Writer};
use crate::journal::Event;
use crate::recorder::{CallEnd, CallNote, Record, What};
use crate::watch::SourceFiles;

/// The version of the file's lines.
pub const VERSION: u32 = 1;
/// How the first line begins, up to the version.
const FIRST: &str = "{\"kind\":\"offloop-journal\",\"version\":";
/// Bytes of a checksum and the space behind it.
const CHECKSUM_BYTES: usize = 9;
/// The longest line that is read: a stall with a stack of a thousand entries.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// How often the loops' lag is written, at most.
const LAG_EVERY_NS: u64 = 10_000_000_000;

const POLYNOMIAL: u32 = 0xedb8_8320;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = (value >> 1) ^ if value & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

/// CRC-32 as in zlib.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum, byte| {
        TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize] ^ (sum >> 8)
    })
}

pub(super) struct JournalFile {
    output: Output,
    lines: String,
    lag_due: u64,
    /// The text of the program's files, for the culprits' lines.
    sources: SourceFiles,
}

impl JournalFile {
    pub(super) fn new(output: Output, header: &Header) -> io::Result<Self> {
        let mut file = Self {
            output,
            lines: String::new(),
            lag_due: LAG_EVERY_NS,
            sources: SourceFiles::default(),
        };
        let about = &header.about;
        let first = Object::new()
            .string("kind", "offloop-journal")
            .raw("version", VERSION)
            .string("program", &about.program)
            .raw("pid", about.pid)
            .string("python", &about.python)
            .string("offloop", &about.offloop)
            .raw("began", format_args!("{:.3}", about.began))
            .raw("threshold", about.threshold);
        file.line(first);
        file.flush()?;
        Ok(file)
    }

    fn line(&mut self, object: Object) {
        let text = object.end();
        let sum = checksum(text.as_bytes());
        self.lines.push_str(&format!("{sum:08x} {text}\n"));
    }

    fn flush(&mut self) -> io::Result<()> {
        let lines = std::mem::take(&mut self.lines);
        if lines.is_empty() {
            return Ok(());
        }
        self.output.append(&lines)
    }

    fn lag(&mut self, header: &Header, now: Instant) {
        let total = header.loads.total(now);
        let buckets = total.lag.buckets().map(|(longest, count)| {
            let longest = longest.unwrap_or(total.lag.max_ns());
            format!("[{longest},{count}]")
        });
        let line = Object::new()
            .string("kind", "lag")
            .raw("at", header.since(now))
            .raw("count", total.lag.count())
            .raw("total", total.lag.total_ns())
            .raw("max", total.lag.max_ns())
            .raw("p50", total.lag.quantile_ns(500))
            .raw("p90", total.lag.quantile_ns(900))
            .raw("p99", total.lag.quantile_ns(990))
            .raw("busy", total.busy_ns)
            .raw("running", total.running_ns)
            .raw("buckets", array(buckets));
        self.line(line);
    }

    /// The line of the culprit, as its file has it.
    fn source(&mut self, told: &Told) -> Option<String> {
        let culprit = told.culprit.as_ref()?;
        let line = u32::try_from(culprit.line?).ok()?;
        let text = self.sources.text(&culprit.filename)?;
        text.line(line).map(|line| line.trim().to_owned())
    }

    fn record(&mut self, header: &Header, record: &Record) {
        let kind = |kind| {
            Object::new()
                .string("kind", kind)
                .raw("at", header.since(record.at))
        };
        let line = match &record.what {
            What::Load {
                event_loop,
                thread,
                begin,
                busy_ns,
                running_ns,
                longest_ns,
            } => kind("load")
                .raw("loop", event_loop)
                .raw("thread", thread)
                .raw("begin", header.since(*begin))
                .raw("busy", busy_ns)
                .raw("running", running_ns)
                .raw("longest", longest_ns),
            What::Slice {
                event_loop,
                thread,
                begin,
                end,
                name,
                is_round,
            } => kind("slice")
                .raw("loop", event_loop)
                .raw("thread", thread)
                .raw("begin", header.since(*begin))
                .raw("end", header.since(*end))
                .some_string("name", name.as_deref())
                .raw("round", is_round),
            What::Call { note, fleet, end } => call(kind("call"), header, (note, *fleet, *end)),
            what @ What::ThreadCall { .. } => of_thread(kind("thread-call"), header, what),
            What::Collection {
                thread,
                begin,
                end,
                generation,
                collected,
            } => kind("collection")
                .raw("thread", thread)
                .raw("begin", header.since(*begin))
                .raw("end", header.since(*end))
                .raw("generation", generation)
                .raw("collected", collected),
            What::Event(Event::LoopStall { told }) => {
                let source = self.source(told);
                stall(kind("stall"), header, told).some_string("source", source.as_deref())
            }
            What::Event(event) => of_event(kind, header, event),
        };
        self.line(line);
    }
}

fn of_thread(line: Object, header: &Header, what: &What) -> Object {
    let What::ThreadCall {
        function,
        submitter,
        thread,
        submitted,
        begin,
        end,
        raised,
    } = what
    else {
        return line;
    };
    line.string("function", function)
        .raw("submitter", submitter)
        .raw("thread", thread)
        .raw("submitted", header.since(*submitted))
        .raw("begin", header.since(*begin))
        .raw("end", header.since(*end))
        .raw("raised", raised)
}

fn call(line: Object, header: &Header, call: (&CallNote, u32, CallEnd)) -> Object {
    let (note, fleet, end) = call;
    line.some_string("function", note.name())
        .string("outcome", end.word())
        .raw("fleet", fleet)
        .raw("lane", note.lane)
        .raw("submitter", note.thread)
        .raw("submitted", header.since(note.submitted))
        .some_raw("worker", note.worker)
        .some_raw("begin", note.started.map(|at| header.since(at)))
        .some_raw("end", note.finished.map(|at| header.since(at)))
}

fn of_event(kind: impl Fn(&'static str) -> Object, header: &Header, event: &Event) -> Object {
    let of_worker = |name, fleet: u32, pid: i32| kind(name).raw("fleet", fleet).raw("pid", pid);
    match event {
        Event::Start { fleet, pid } => of_worker("worker-start", *fleet, *pid),
        Event::Restart {
            fleet,
            pid,
            replaces,
        } => of_worker("worker-start", *fleet, *pid).raw("replaces", replaces),
        Event::Kill { fleet, pid } => of_worker("worker-kill", *fleet, *pid),
        Event::End { fleet, pid } => of_worker("worker-end", *fleet, *pid),
        Event::StartFailure { fleet, fault } => {
            let reason = fault.as_ref().map(ToString::to_string);
            kind("worker-start-failure")
                .raw("fleet", fleet)
                .some_string("reason", reason.as_deref())
        }
        Event::Crash {
            fleet,
            crash,
            in_call,
        } => {
            let status = crash.status.map(status);
            of_worker("worker-crash", *fleet, crash.pid)
                .raw("in_call", in_call)
                .some_string("status", status.as_deref())
                .string("stderr", &crash.stderr_tail)
        }
        Event::Drop { fleet, dropped } => kind("drop").raw("fleet", fleet).raw("dropped", dropped),
        Event::Stall { threads } => kind("callback-stall").raw("threads", threads),
        Event::LoopStall { told } => stall(kind("stall"), header, told),
        Event::Failure { fault } => kind("failure").string("reason", &fault.to_string()),
        Event::StderrFailure { fault } => kind("failure").string("reason", &fault.to_string()),
    }
}

fn status(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("exit status {code}"),
        ExitStatus::Signal(number) => format!("signal {number}"),
    }
}

fn stall(line: Object, header: &Header, told: &Told) -> Object {
    let stall = &told.stall;
    let place = |entry: &offloop_core::watch::Entry| {
        Object::new()
            .string("file", &entry.filename)
            .some_raw("line", entry.line)
            .string("function", &entry.function)
            .end()
    };
    let stack = stall.stack.entries.iter().map(place);
    let native = stall.native.iter().map(|entry| string(&entry.function));
    line.raw("number", stall.number)
        .raw("over", matches!(stall.moment, Moment::Over { .. }))
        .raw("begin", header.since(stall.started))
        .raw("lasted", stall.lasted.as_nanos())
        .string("thread", &stall.thread.name)
        .string("cause", stall.cause.name())
        .some_raw("culprit", told.culprit.as_ref().map(place))
        .some_string("cure", told.advice.as_deref())
        .some_string("request", stall.request.as_deref())
        .some_string("callback", stall.callback.as_deref())
        .some_string("task", stall.task.as_ref().map(|task| &*task.name))
        .raw("stack", array(stack))
        .raw("native", array(native))
}

impl Writer for JournalFile {
    fn write(&mut self, header: &Header, records: &[Record], missed: u64) -> io::Result<()> {
        if missed > 0 {
            let line = Object::new()
                .string("kind", "missed")
                .raw("records", missed);
            self.line(line);
        }
        records
            .iter()
            .for_each(|record| self.record(header, record));
        if let Some(last) = records.last()
            && header.since(last.at) >= self.lag_due
        {
            self.lag(header, last.at);
            self.lag_due = header.since(last.at) + LAG_EVERY_NS;
        }
        self.flush()
    }

    fn finish(&mut self, header: &Header, now: Instant) -> io::Result<()> {
        self.lag(header, now);
        let line = Object::new()
            .string("kind", "end")
            .raw("at", header.since(now));
        self.line(line);
        self.flush()
    }

    fn output(&self) -> &Output {
        &self.output
    }
}

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system refused.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Its first line is not that of a journal.
    #[error("it is no journal of offloop")]
    NoJournal,
    /// It is of another version.
    #[error("it is of version {found}, and this offloop reads version {VERSION}")]
    Version {
        /// Its version.
        found: u32,
    },
}

/// The lines of a journal file, without their checksums; and how many were damaged or cut off.
///
/// # Errors
/// `JournalError`.
pub fn read_journal(path: &Path) -> Result<(Vec<String>, u64), JournalError> {
    let mut input = BufReader::new(File::open(path)?);
    let (mut lines, mut damaged) = (Vec::new(), 0);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = io::Read::take(&mut input, LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
        if read == 0 {
            break;
        }
        match checked(&bytes) {
            Some(line) => lines.push(line.to_owned()),
            // What is no journal has no line that is right, and may be long.
            None if lines.is_empty() => return Err(JournalError::NoJournal),
            None => damaged += 1,
        }
        if lines.len() == 1 {
            check_version(&lines[0])?;
        }
    }
    match lines.is_empty() {
        true => Err(JournalError::NoJournal),
        false => Ok((lines, damaged)),
    }
}

fn checked(bytes: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(bytes.strip_suffix(b"\n")?).ok()?;
    let (sum, text) = (line.get(..CHECKSUM_BYTES)?, line.get(CHECKSUM_BYTES..)?);
    let sum = u32::from_str_radix(sum.strip_suffix(' ')?, 16).ok()?;
    (sum == checksum(text.as_bytes())).then_some(text)
}

fn check_version(first: &str) -> Result<(), JournalError> {
    let rest = first.strip_prefix(FIRST).ok_or(JournalError::NoJournal)?;
    let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next();
    let found = digits.and_then(|digits| digits.parse().ok());
    match found.ok_or(JournalError::NoJournal)? {
        VERSION => Ok(()),
        found => Err(JournalError::Version { found }),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A line as it stands in a file.
    pub(crate) fn line(text: &str) -> String {
        format!("{:08x} {text}\n", checksum(text.as_bytes()))
    }

    #[test]
    fn the_checksum_is_that_of_zlib() {
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
        assert_eq!(checksum(b""), 0);
    }

    #[test]
    fn a_line_that_is_cut_off_or_changed_is_not_believed() {
        let whole = line("{\"kind\":\"end\"}");
        assert_eq!(checked(whole.as_bytes()), Some("{\"kind\":\"end\"}"));
        for length in 0..whole.len() {
            assert_eq!(checked(&whole.as_bytes()[..length]), None, "{length}");
        }
        let changed = whole.replace("end", "and");
        assert_eq!(checked(changed.as_bytes()), None);
        assert_eq!(checked("0000000ü x\n".as_bytes()), None);
    }

    #[test]
    fn versions_are_compared() {
        assert!(check_version(&format!("{FIRST}1,")).is_ok());
        let other = check_version(&format!("{FIRST}27,"));
        assert!(matches!(other, Err(JournalError::Version { found: 27 })));
        for none in ["{}", FIRST, "{\"kind\":\"load\"}"] {
            assert!(matches!(check_version(none), Err(JournalError::NoJournal)));
        }
    }
}
