//! What was recorded, as the page draws it: short rows, one list for each kind.
//!
//! Units:      seconds of the monotonic clock.
//! Invariants: 1. At most `ROWS_MAX` records are told at once, the latest.

use offloop::recorder::{Record, Recorder, What};
use offloop_core::Instant;
use serde::Serialize;

use crate::building::{cut, seconds};

/// Records of one event; with a row of 60 bytes, some 600 KB.
const ROWS_MAX: usize = 10_000;

/// Loop, begin, end, how long it was busy, the longest time between two looks.
type LoadRow = (u64, f64, f64, f64, f64);
/// Loop, begin, end, name, whether it is a round of many callbacks.
type SliceRow = (u64, f64, f64, Option<String>, bool);
/// Worker, function, submitted, begin, end, how it ended.
type CallRow = (
    Option<i32>,
    Option<String>,
    f64,
    Option<f64>,
    f64,
    &'static str,
);
/// Thread, function, submitted, begin, end, whether it raised.
type ThreadRow = (u32, String, f64, f64, f64, bool);
/// Thread, begin, end, generation.
type CollectionRow = (u32, f64, f64, u8);

/// The time between two events.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Timeline {
    /// The number to ask after the next time.
    pub(crate) last: u64,
    /// Records that were forgotten, or are too many.
    pub(crate) missed: u64,
    loads: Vec<LoadRow>,
    slices: Vec<SliceRow>,
    calls: Vec<CallRow>,
    threads: Vec<ThreadRow>,
    collections: Vec<CollectionRow>,
}

/// What was recorded after the record `number`.
pub(crate) fn timeline(recorder: &Recorder, number: u64) -> Timeline {
    let found = recorder.after(number);
    let beyond = found.records.len().saturating_sub(ROWS_MAX);
    let mut timeline = Timeline {
        last: found.last,
        missed: found.missed + beyond as u64,
        ..Timeline::default()
    };
    for record in &found.records[beyond..] {
        timeline.add(record);
    }
    timeline
}

impl Timeline {
    fn add(&mut self, record: &Record) {
        match &record.what {
            What::Load {
                event_loop,
                begin,
                busy_ns,
                longest_ns,
                ..
            } => self.loads.push((
                *event_loop,
                seconds(*begin),
                seconds(record.at),
                seconds(Instant::from_nanos(*busy_ns)),
                seconds(Instant::from_nanos(*longest_ns)),
            )),
            What::Slice {
                event_loop,
                begin,
                end,
                name,
                is_round,
                ..
            } => self.slices.push((
                *event_loop,
                seconds(*begin),
                seconds(*end),
                name.as_deref().map(cut),
                *is_round,
            )),
            What::Call { note, end, .. } => self.calls.push((
                note.worker,
                note.function.as_deref().map(cut),
                seconds(note.submitted),
                note.started.map(seconds),
                note.finished.map_or_else(|| seconds(record.at), seconds),
                end.word(),
            )),
            What::ThreadCall {
                function,
                thread,
                submitted,
                begin,
                end,
                raised,
                ..
            } => self.threads.push((
                *thread,
                cut(function),
                seconds(*submitted),
                seconds(*begin),
                seconds(*end),
                *raised,
            )),
            What::Collection {
                thread,
                begin,
                end,
                generation,
                ..
            } => {
                let row = (*thread, seconds(*begin), seconds(*end), *generation);
                self.collections.push(row);
            }
            // The document has the journal.
            What::Event(_) => {}
        }
    }
}
