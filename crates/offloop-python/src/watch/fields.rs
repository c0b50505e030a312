//! A stall as Python gets it: each value under its name.

use std::time::Duration;

use offloop_core::event_loop::{Moment, Stalled};
use offloop_core::watch::{Blocked, Cause, Entry, NativeEntry, Quality, Ranked, TaskFacts, Told};
use pyo3::prelude::*;

/// `Stall` of Python.
#[derive(IntoPyObject)]
pub(crate) struct StallFields {
    number: u64,
    /// Seconds of the monotonic clock.
    started: f64,
    reported: f64,
    /// Seconds; `None` while it lasts.
    duration: Option<f64>,
    thread: String,
    is_round: bool,
    cause: &'static str,
    detail: Option<String>,
    stack: Vec<EntryFields>,
    stack_quality: String,
    native: Vec<NativeFields>,
    callback: Option<String>,
    task: Option<TaskFields>,
    request: Option<String>,
    suppressed: u64,
    culprit: Option<EntryFields>,
    advice: Option<String>,
    /// The block that says all of it.
    words: Option<String>,
}

#[derive(IntoPyObject)]
pub(crate) struct EntryFields {
    filename: String,
    lineno: Option<i32>,
    function: String,
}

#[derive(IntoPyObject)]
struct NativeFields {
    function: String,
    filename: String,
}

impl NativeFields {
    fn of(entry: &NativeEntry) -> Self {
        Self {
            function: entry.function.to_string(),
            filename: entry.file.to_string(),
        }
    }
}

#[derive(IntoPyObject)]
struct TaskFields {
    name: String,
    coroutine: String,
    made: Option<(String, i32)>,
    awaited_by: Vec<String>,
}

impl StallFields {
    pub(crate) fn of(told: &Told) -> Self {
        let stall = &told.stall;
        let text = |text: &std::sync::Arc<str>| text.to_string();
        let seconds = |at: offloop_core::Instant| Duration::from_nanos(at.as_nanos()).as_secs_f64();
        let is_over = matches!(stall.moment, Moment::Over { .. });
        Self {
            number: stall.number,
            started: seconds(stall.started),
            reported: seconds(stall.reported),
            duration: is_over.then_some(stall.lasted.as_secs_f64()),
            thread: text(&stall.thread.name),
            is_round: stall.stalled == Stalled::Round,
            cause: stall.cause.name(),
            detail: detail(&stall.cause),
            stack: stall.stack.entries.iter().map(EntryFields::of).collect(),
            stack_quality: quality(&stall.stack.quality),
            native: stall.native.iter().map(NativeFields::of).collect(),
            callback: stall.callback.as_ref().map(text),
            task: stall.task.as_ref().map(TaskFields::of),
            request: stall.request.as_ref().map(text),
            suppressed: stall.suppressed,
            culprit: told.culprit.as_ref().map(EntryFields::of),
            advice: told.advice.as_ref().map(text),
            words: told.words.as_ref().map(text),
        }
    }
}

impl EntryFields {
    fn of(entry: &Entry) -> Self {
        Self {
            filename: entry.filename.to_string(),
            lineno: entry.line,
            function: entry.function.to_string(),
        }
    }
}

impl TaskFields {
    fn of(task: &TaskFacts) -> Self {
        let made = task.made.as_ref();
        Self {
            name: task.name.to_string(),
            coroutine: task.coroutine.to_string(),
            made: made.map(|origin| (origin.filename.to_string(), origin.line)),
            awaited_by: task
                .awaited_by
                .iter()
                .map(|line| line.to_string())
                .collect(),
        }
    }
}

fn quality(quality: &Quality) -> String {
    match quality {
        Quality::Exact => "exact".to_owned(),
        Quality::Moving => "moving".to_owned(),
        Quality::Fallback => "fallback".to_owned(),
        Quality::Missing(reason) => format!("missing: {reason}"),
    }
}

/// What is waited for.
fn detail(cause: &Cause) -> Option<String> {
    match cause {
        Cause::Socket { peer } => peer.as_ref().map(|peer| peer.to_string()),
        Cause::File { path } => path.as_ref().map(|path| path.to_string()),
        Cause::Descriptor { name } => name.as_ref().map(|name| name.to_string()),
        Cause::Child { pid } => pid.map(|pid| pid.to_string()),
        Cause::OtherThread { native_id } => Some(native_id.to_string()),
        _ => None,
    }
}

/// How often something blocked a loop, and for how many seconds.
#[derive(IntoPyObject, Default)]
pub(crate) struct BlockedFields {
    count: u64,
    total_seconds: f64,
    longest_seconds: f64,
}

impl BlockedFields {
    pub(super) fn of(blocked: Blocked) -> Self {
        Self {
            count: blocked.count,
            total_seconds: blocked.total.as_secs_f64(),
            longest_seconds: blocked.longest.as_secs_f64(),
        }
    }
}

/// One line of the ranking.
#[derive(IntoPyObject)]
pub(crate) struct RankedFields {
    culprit: Option<EntryFields>,
    /// The callback's name, where there is no culprit.
    function: Option<String>,
    cause: &'static str,
    blocked: BlockedFields,
}

impl RankedFields {
    pub(super) fn of(ranked: &Ranked) -> Self {
        let culprit = ranked.culprit.as_ref();
        Self {
            culprit: culprit.map(|culprit| EntryFields::of(&culprit.entry)),
            function: ranked.key.function.as_ref().map(|name| name.to_string()),
            cause: ranked.cause.name(),
            blocked: BlockedFields::of(ranked.blocked),
        }
    }
}
