//! The trace for Perfetto: Chrome's trace events, a JSON array that is closed after each write.
//!
//! Tracks: the thread of each loop with its long callbacks and submissions, threads of pools, each
//! worker as a process, collections of garbage, and stalls. Arrows run from a submission to the
//! call on its worker, and from there to where its outcome was taken. Counters show how busy each
//! loop was.
//!
//! Slices of one track lie beside each other or one within the other: Perfetto takes those that
//! overlap for a loss of data, and drops them. On a thread's track times are rounded down to
//! `GRID_NS`, which keeps what lies within another slice there, in whatever order both are written.
//! A callback's slice is cut where it would begin before the end of the one before it: its times
//! are a length and a clock that is read a little later.
//! On a track where one follows the other, a slice is fitted between those that are there: a worker
//! tells begins in whole microseconds.
//!
//! Units: microseconds since the recording began.

use std::collections::{HashMap, HashSet};
use std::io;

use offloop_core::event_loop::Moment;
use offloop_core::watch::Told;

use super::json::{Object, array, string};
use super::track::Row;
use super::{Header, Output, Writer};
use crate::journal::Event;
use crate::recorder::{CallEnd, CallNote, Record, What};

/// Tracks that are no threads, by numbers above those of the kernel.
const COLLECTIONS: u32 = 0x7fff_fff0;
/// The stalls of each thread have a track: loops of two threads may be blocked at once.
const STALLS: u32 = 0x4000_0000;
/// What is between two events.
const SEPARATOR: &str = ",\n";
/// Times on a thread's track are multiples of it.
const GRID_NS: u64 = 512;
/// How long a submission and the taking of an outcome are drawn.
const INSTANT_NS: u64 = 500;
/// A loop's load is told of stretches that last so long at least: one of a few microseconds would
/// make a counter jump to 100 percent.
const COUNTED_MIN_NS: u64 = 20_000_000;
/// Loops whose load is being added up, at most.
const COUNTED_MAX: usize = 64;
/// Tracks of which the last slices are known, at most.
const TRACKS_MAX: usize = 1024;
const END: &str = "\n]\n";
/// Threads whose names are told; more are drawn under their numbers.
const NAMED_MAX: usize = 4096;

/// A process and a thread.
type Track = (u32, u32);

/// What a loop did with a stretch of its time.
#[derive(Clone, Copy)]
struct Stretch {
    begin: u64,
    end: u64,
    busy_ns: u64,
    longest_ns: u64,
}

pub(super) struct Trace {
    output: Output,
    pid: u32,
    named: HashSet<u32>,
    /// The last slices of tracks.
    last: HashMap<Track, Row>,
    /// By loop, what is not told yet.
    counted: HashMap<u64, Stretch>,
    lines: Vec<String>,
}

impl Trace {
    pub(super) fn new(output: Output, header: &Header) -> io::Result<Self> {
        let pid = header.about.pid;
        let mut trace = Self {
            output,
            pid,
            named: HashSet::new(),
            last: HashMap::new(),
            counted: HashMap::new(),
            lines: Vec::new(),
        };
        trace.name_process(pid, &header.about.program);
        trace.name_thread(COLLECTIONS, "garbage collections");
        let text = format!("[\n{}{END}", trace.lines.join(SEPARATOR));
        trace.lines.clear();
        trace.output.append(&text)?;
        Ok(trace)
    }

    fn push(&mut self, event: Object) {
        self.lines.push(event.end());
    }

    fn name_process(&mut self, pid: u32, name: &str) {
        let args = Object::new().string("name", name).end();
        let event = Object::new()
            .string("ph", "M")
            .string("name", "process_name");
        self.push(event.raw("pid", pid).raw("tid", pid).raw("args", args));
    }

    fn name_thread(&mut self, thread: u32, name: &str) {
        if self.named.len() < NAMED_MAX && self.named.insert(thread) {
            self.name_track((self.pid, thread), name);
        }
    }

    fn name_track(&mut self, (pid, thread): Track, name: &str) {
        let args = Object::new().string("name", name).end();
        let event = Object::new()
            .string("ph", "M")
            .string("name", "thread_name");
        self.push(event.raw("pid", pid).raw("tid", thread).raw("args", args));
    }

    /// The last slices of a track.
    fn row(&mut self, track: Track) -> &mut Row {
        if self.last.len() >= TRACKS_MAX && !self.last.contains_key(&track) {
            self.last.clear();
        }
        self.last.entry(track).or_default()
    }

    /// Where a slice lies on a track where one follows the other.
    fn beside(&mut self, track: Track, begin: u64, end: u64) -> (u64, u64) {
        self.row(track).fit(begin, end)
    }

    fn slice(&self, (pid, thread): Track, name: &str, at: u64, length: u64) -> Object {
        Object::new()
            .string("ph", "X")
            .string("name", name)
            .raw("pid", pid)
            .raw("tid", thread)
            .raw("ts", Micros(at))
            .raw("dur", Micros(length))
    }

    fn flow(&mut self, phase: &str, id: u64, (pid, thread): Track, at: u64) {
        let event = Object::new()
            .string("ph", phase)
            .string("bp", "e")
            .string("cat", "call")
            .string("name", "call")
            .raw("id", id)
            .raw("pid", pid)
            .raw("tid", thread)
            .raw("ts", Micros(at));
        self.push(event);
    }

    fn counter(&mut self, name: &str, unit: &str, at: u64, value: f64) {
        let event = Object::new()
            .string("ph", "C")
            .string("name", name)
            .raw("pid", self.pid)
            .raw("ts", Micros(at));
        let args = Object::new().raw(unit, format_args!("{value:.3}")).end();
        self.push(event.raw("args", args));
    }

    fn instant(&mut self, pid: u32, name: &str, at: u64, args: Object) {
        let event = Object::new()
            .string("ph", "i")
            .string("s", "p")
            .string("name", name)
            .raw("pid", pid)
            .raw("tid", pid)
            .raw("ts", Micros(at));
        self.push(event.raw("args", args.end()));
    }

    fn record(&mut self, header: &Header, record: &Record) {
        let at = header.since(record.at);
        match &record.what {
            What::Load {
                event_loop,
                thread,
                begin,
                busy_ns,
                longest_ns,
                ..
            } => {
                self.name_loop(header, *event_loop, *thread);
                let stretch = Stretch {
                    begin: header.since(*begin),
                    end: at,
                    busy_ns: *busy_ns,
                    longest_ns: *longest_ns,
                };
                self.count(*event_loop, stretch);
            }
            What::Slice {
                thread,
                begin,
                end,
                name,
                ..
            } => {
                let name = name.as_deref().unwrap_or("(round of callbacks)");
                let (begin, end) = (on_grid(header.since(*begin)), on_grid(header.since(*end)));
                let track = (self.pid, *thread);
                let (begin, end) = self.row(track).nest(begin, end);
                let slice = self.slice(track, name, begin, end - begin);
                self.push(slice);
            }
            What::Call { note, fleet, end } => self.call(header, record, (note, *fleet, *end)),
            call @ What::ThreadCall { .. } => self.thread_call(header, call),
            What::Collection {
                thread,
                begin,
                end,
                generation,
                collected,
            } => {
                let track = (self.pid, COLLECTIONS);
                let (begin, end) = self.beside(track, header.since(*begin), header.since(*end));
                let args = Object::new()
                    .raw("thread", thread)
                    .raw("collected", collected);
                let name = format!("generation {generation}");
                let slice = self.slice(track, &name, begin, end - begin);
                self.push(slice.raw("args", args.end()));
            }
            What::Event(event) => self.event(header, at, event),
        }
    }

    /// Adds to what a loop did, and tells it once it is long enough.
    fn count(&mut self, number: u64, more: Stretch) {
        let whole = self.counted.entry(number).or_insert(Stretch {
            busy_ns: 0,
            longest_ns: 0,
            ..more
        });
        whole.end = more.end;
        whole.busy_ns += more.busy_ns;
        whole.longest_ns = whole.longest_ns.max(more.longest_ns);
        if whole.end.saturating_sub(whole.begin) >= COUNTED_MIN_NS {
            self.tell_count(number);
        } else if self.counted.len() > COUNTED_MAX {
            self.tell_counts();
        }
    }

    fn tell_count(&mut self, number: u64) {
        if let Some(stretch) = self.counted.remove(&number) {
            let Stretch { begin, end, .. } = stretch;
            let busy = percent(stretch.busy_ns, end.saturating_sub(begin));
            self.counter(&format!("loop {number} busy"), "percent", begin, busy);
            let longest = Micros(stretch.longest_ns).seconds() * 1e3;
            self.counter(&format!("loop {number} lag"), "ms", begin, longest);
        }
    }

    fn tell_counts(&mut self) {
        let numbers: Vec<u64> = self.counted.keys().copied().collect();
        numbers
            .into_iter()
            .for_each(|number| self.tell_count(number));
    }

    fn thread_call(&mut self, header: &Header, what: &What) {
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
            return;
        };
        self.name_thread(*thread, "thread of a pool");
        let track = (self.pid, *thread);
        let waited = header
            .since(*begin)
            .saturating_sub(header.since(*submitted));
        let (begin, end) = (on_grid(header.since(*begin)), on_grid(header.since(*end)));
        let (begin, end) = self.row(track).nest(begin, end);
        let args = Object::new()
            .raw("raised", raised)
            .raw("submitted_by", submitter)
            .raw("waited_us", Micros(waited));
        let slice = self.slice(track, function, begin, end - begin);
        self.push(slice.raw("args", args.end()));
    }

    fn name_loop(&mut self, header: &Header, number: u64, thread: u32) {
        if !self.named.contains(&thread) {
            let gauges = header.loads.gauges();
            let gauge = gauges.iter().find(|gauge| gauge.number == number);
            let name = gauge.map_or_else(
                || format!("loop {number}"),
                |gauge| format!("loop {number} ({}): {}", gauge.kind, gauge.thread_name),
            );
            self.name_thread(thread, &name);
        }
    }

    fn call(&mut self, header: &Header, record: &Record, call: (&CallNote, u32, CallEnd)) {
        let (note, fleet, end) = call;
        let name = note.name().unwrap_or("(call)");
        let submitted = on_grid(header.since(note.submitted));
        let mut taken = on_grid(header.since(record.at));
        let own = (self.pid, note.thread);
        let submission = self.slice(own, &format!("submit {name}"), submitted, INSTANT_NS);
        self.push(submission);
        // Perfetto takes only numbers for the names of arrows.
        let (there, back) = (2 * record.number, 2 * record.number + 1);
        if let (Some(worker), Some(started)) = (note.worker, note.started) {
            let waited = started.saturating_duration_since(note.submitted).as_nanos() as u64;
            let finished = note.finished.unwrap_or(record.at);
            let worker = (worker.unsigned_abs(), worker.unsigned_abs());
            // An arrow backwards would be dropped: a worker's times are rounded, as ours are.
            let (started, finished) = (header.since(started), header.since(finished));
            let (started, finished) = self.beside(worker, started.max(submitted), finished);
            let args = Object::new()
                .string("outcome", end.word())
                .raw("fleet", fleet)
                .raw("lane", note.lane)
                .raw("waited_us", Micros(waited));
            let slice = self.slice(worker, name, started, finished - started);
            self.push(slice.raw("args", args.end()));
            self.flow("s", there, own, submitted);
            self.flow("f", there, worker, started);
            // Its last nanosecond: the end belongs to what comes after it.
            let last = finished.saturating_sub(1).max(started);
            taken = taken.max(last.next_multiple_of(GRID_NS));
            self.flow("s", back, worker, last);
            self.flow("f", back, own, taken);
        }
        let outcome = self.slice(own, &format!("{} {name}", end.word()), taken, INSTANT_NS);
        self.push(outcome);
    }

    fn event(&mut self, header: &Header, at: u64, event: &Event) {
        match event {
            Event::Start { fleet, pid } | Event::Restart { fleet, pid, .. } => {
                let pid = pid.unsigned_abs();
                self.name_process(pid, &format!("worker {pid} of fleet {fleet}"));
                self.name_track((pid, pid), "calls");
                self.instant(pid, "worker is ready", at, Object::new());
            }
            Event::Kill { pid, .. } => {
                self.instant(pid.unsigned_abs(), "worker is killed", at, Object::new());
            }
            Event::End { pid, .. } => {
                self.instant(pid.unsigned_abs(), "worker has ended", at, Object::new());
            }
            Event::Crash { crash, in_call, .. } => {
                let args = Object::new()
                    .raw("in_call", in_call)
                    .string("stderr", &crash.stderr_tail);
                self.instant(crash.pid.unsigned_abs(), "worker has crashed", at, args);
            }
            Event::LoopStall { told } => self.stall(header, at, told),
            Event::StartFailure { .. }
            | Event::Drop { .. }
            | Event::Stall { .. }
            | Event::Failure { .. }
            | Event::StderrFailure { .. } => {}
        }
    }

    fn stall(&mut self, header: &Header, at: u64, told: &Told) {
        let stall = &told.stall;
        let stack = stall.stack.entries.iter().map(|entry| {
            let line = entry.line.unwrap_or(0);
            string(&format!("{} {}:{line}", entry.function, entry.filename))
        });
        let args = Object::new()
            .raw("number", stall.number)
            .string("cause", stall.cause.name())
            .some_string("request", stall.request.as_deref())
            .some_string("cure", told.advice.as_deref())
            .raw("stack", array(stack));
        let name = told
            .culprit
            .as_ref()
            .map_or("stall", |entry| &entry.function);
        if matches!(stall.moment, Moment::Over { .. }) {
            let begin = header.since(stall.started);
            let thread = STALLS | stall.thread.native_id as u32;
            self.name_thread(thread, &format!("stalls of {}", stall.thread.name));
            let end = begin + stall.lasted.as_nanos() as u64;
            let (begin, end) = self.beside((self.pid, thread), begin, end);
            let slice = self.slice((self.pid, thread), name, begin, end - begin);
            self.push(slice.raw("args", args.end()));
        } else {
            self.instant(self.pid, &format!("blocked by {name}"), at, args);
        }
    }

    /// Writes over the end of the array, and ends it again.
    fn flush(&mut self) -> io::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let text = format!("{SEPARATOR}{}{END}", self.lines.join(SEPARATOR));
        self.lines.clear();
        self.output.replace(END, &text)
    }
}

impl Writer for Trace {
    fn write(&mut self, header: &Header, records: &[Record], missed: u64) -> io::Result<()> {
        if missed > 0 {
            let at = records.first().map_or(0, |record| header.since(record.at));
            let args = Object::new().raw("records", missed);
            self.instant(self.pid, "records are missing", at, args);
        }
        records
            .iter()
            .for_each(|record| self.record(header, record));
        self.flush()
    }

    fn finish(&mut self, _header: &Header, _now: offloop_core::Instant) -> io::Result<()> {
        self.tell_counts();
        self.flush()
    }

    fn output(&self) -> &Output {
        &self.output
    }
}

/// A time on a thread's track.
const fn on_grid(ns: u64) -> u64 {
    ns - ns % GRID_NS
}

/// Nanoseconds, shown as microseconds.
pub(super) struct Micros(pub(super) u64);

impl Micros {
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    fn seconds(&self) -> f64 {
        self.0 as f64 * 1e-9
    }
}

impl std::fmt::Display for Micros {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    (part as f64 / whole as f64 * 100.0).min(100.0)
}
