//! The document: what every view reads of a program, in one JSON object.
//!
//! Shape:      drawn in docs/format/document.md. Fields are added, never renamed or given another
//!             meaning, as long as the version stays; a reader passes over what it does not know,
//!             and a field that is absent has its empty value.
//! Units:      seconds; `started`, `at` and `now` are on the clock of Python's `time.monotonic`.
//! Invariants: 1. Every list has a limit, which stands here.

use serde::{Deserialize, Serialize};

/// The version of the document and of the socket that gives it.
pub const VERSION: u32 = 1;

/// Stalls that are told, the latest ones: what a person looks back at.
pub const STALLS_MAX: usize = 32;
/// Culprits that are told, of those with the most time.
pub const CULPRITS_MAX: usize = 64;
/// Functions that are told, of those that ran longest.
pub const FUNCTIONS_MAX: usize = 64;
/// Children of the process that are told.
pub const CHILDREN_MAX: usize = 64;
/// Tasks that are told. More are counted: reading one keeps the GIL for about 20 us.
pub const TASKS_MAX: usize = 200;
/// Entries of a stack that are told, the innermost ones.
pub const STACK_MAX: usize = 48;
/// Bytes of one text, such as a line of source or the end of a worker's standard error.
pub const TEXT_BYTES_MAX: usize = 1024;

/// The program at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Document {
    /// [`VERSION`].
    pub version: u32,
    /// The process.
    pub process: Process,
    /// The watch.
    pub watch: Watch,
    /// Event loops, by their numbers.
    pub loops: Vec<Loop>,
    /// The last stalls, the latest last; those that last are among them.
    pub stalls: Vec<Stall>,
    /// What blocked loops, the longest time in all first.
    pub culprits: Vec<Culprit>,
    /// What the ranking had no room for.
    pub culprits_left_out: Blocked,
    /// Fleets, lanes and workers.
    pub pools: Pools,
    /// Functions that were sent to workers, those that ran longest first.
    pub functions: Vec<Function>,
    /// Tasks.
    pub tasks: Tasks,
    /// What the journal says.
    pub events: Events,
}

/// What loops do, between two documents.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct State {
    /// When it was made.
    pub(crate) now: f64,
    /// Event loops.
    pub(crate) loops: Vec<Loop>,
    /// The stalls that last.
    pub(crate) stalls: Vec<Stall>,
}

/// The process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// The version of Python.
    pub python: String,
    /// The version of offloop.
    pub offloop: String,
    /// The name of its program.
    pub program: String,
    /// When it began.
    pub started: f64,
    /// When the document was made.
    pub now: f64,
    /// The same in seconds since 1970.
    pub now_wall: f64,
    /// Memory that it holds.
    pub memory_bytes: Option<u64>,
    /// Time of processors that it has used.
    pub cpu_seconds: Option<f64>,
    /// Its threads.
    pub threads: Option<u64>,
    /// Its children, where no event loop runs in it: it may only supervise them.
    pub children: Vec<u32>,
}

/// The watch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watch {
    /// Whether it is on; without it no stall is found.
    pub is_on: bool,
    /// What lasts longer is a stall.
    pub threshold_seconds: Option<f64>,
    /// Stalls so far.
    pub stalls: u64,
    /// How long they were, all together.
    pub blocked_seconds: f64,
}

/// An event loop.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Loop {
    /// From 1.
    pub number: u64,
    /// The package of its class: `offloop`, `asyncio`, `uvloop`; empty before the first reading.
    pub kind: String,
    /// The name of its thread.
    pub thread: String,
    /// The kernel's id of its thread.
    pub native_id: u32,
    /// Whether it runs, by the last reading.
    pub is_running: Option<bool>,
    /// How long the round of callbacks has lasted that goes on now.
    pub round_seconds: Option<f64>,
    /// The stall that goes on now.
    pub blocked: Option<BlockedNow>,
    /// What it counts of itself; of offloop's loops alone.
    pub statistics: Option<LoopStatistics>,
}

/// A stall that goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockedNow {
    /// Its number.
    pub stall: u64,
    /// How long it has lasted.
    pub seconds: f64,
}

/// What a loop counts of itself, by the last reading.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoopStatistics {
    /// How old the reading is.
    pub age_seconds: f64,
    /// The share of its time in which it ran callbacks, from 0 to 1.
    pub utilisation: f64,
    /// The same of the last second.
    pub utilisation_1s: f64,
    /// The same of the last ten seconds.
    pub utilisation_10s: f64,
    /// How long it ran callbacks.
    pub busy_seconds: f64,
    /// How long it ran, with what it waited.
    pub running_seconds: f64,
    /// Rounds so far.
    pub rounds: u64,
    /// Callbacks so far.
    pub callbacks: u64,
    /// Callbacks that wait for their turn.
    pub ready: u64,
    /// Timers that are not due.
    pub timers: u64,
    /// Connections that are open.
    pub connections: u64,
    /// Bytes that connections have received.
    pub bytes_received: u64,
    /// Bytes that connections have sent.
    pub bytes_sent: u64,
    /// How long what became ready had to wait.
    pub lag: Lag,
}

/// A histogram of durations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lag {
    /// How many.
    pub count: u64,
    /// All together.
    pub total_seconds: f64,
    /// The longest.
    pub max_seconds: f64,
    /// What half of them did not exceed.
    pub p50_seconds: f64,
    /// What nine of ten did not exceed.
    pub p90_seconds: f64,
    /// What 99 of 100 did not exceed.
    pub p99_seconds: f64,
    /// The buckets that hold something: the longest duration that belongs there, and how many.
    pub buckets: Vec<(f64, u64)>,
}

/// A line of a source file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Place {
    /// The file.
    pub file: String,
    /// The line.
    pub line: Option<i32>,
    /// The function.
    pub function: String,
    /// The line's text, where it is known.
    pub source: Option<String>,
}

/// A function of C.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NativePlace {
    /// Its name.
    pub function: String,
    /// The file that holds its code.
    pub file: String,
}

/// A stall.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stall {
    /// From 1.
    pub number: u64,
    /// The number of its loop; none if that is gone.
    #[serde(rename = "loop")]
    pub event_loop: Option<u64>,
    /// The name of the loop's thread.
    pub thread: String,
    /// When the callback or the round began.
    pub started: f64,
    /// How long it was, or has lasted until now.
    pub seconds: f64,
    /// Whether it is over.
    pub is_over: bool,
    /// Many callbacks of one round took long together.
    pub is_round: bool,
    /// Why: one of `StallCause`.
    pub cause: String,
    /// What was waited for.
    pub detail: Option<String>,
    /// The line that is to blame.
    pub culprit: Option<Place>,
    /// What to write instead, or what to do.
    pub advice: Option<String>,
    /// What the loop had called.
    pub callback: Option<String>,
    /// The task whose step it was.
    pub task: Option<StalledTask>,
    /// Method and route of the request.
    pub request: Option<String>,
    /// The functions that ran, innermost first.
    pub stack: Vec<Place>,
    /// `exact`, `moving`, `fallback`, or `missing` and why.
    pub stack_quality: String,
    /// Functions of C that `stack[0]` has led to, innermost first.
    pub native: Vec<NativePlace>,
    /// Stalls that were not told before this one, for there were too many.
    pub suppressed: u64,
}

/// The task whose step took long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StalledTask {
    /// Its name.
    pub name: String,
    /// Its coroutine.
    pub coroutine: String,
    /// Where it was made.
    pub made: Option<Place>,
    /// The tasks that wait for it, with their lines.
    pub awaited_by: Vec<String>,
}

/// Something that blocked loops.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Culprit {
    /// The file; none if no code is to blame.
    pub file: Option<String>,
    /// The line.
    pub line: Option<i32>,
    /// The function, or the callback's name.
    pub function: Option<String>,
    /// The line's text.
    pub source: Option<String>,
    /// Why, as of the first stall.
    pub cause: String,
    /// What to write instead.
    pub cure: Option<String>,
    /// Why that helps, or what to do.
    pub because: Option<String>,
    /// How many stalls.
    pub count: u64,
    /// All together.
    pub total_seconds: f64,
    /// The longest.
    pub longest_seconds: f64,
}

/// How often, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Blocked {
    /// How many stalls.
    pub count: u64,
    /// All together.
    pub total_seconds: f64,
    /// The longest.
    pub longest_seconds: f64,
}

/// Fleets, lanes and workers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pools {
    /// By their numbers.
    pub fleets: Vec<Fleet>,
    /// The sum of all lanes, those that ended included.
    pub calls: Lane,
    /// Shared memory of arguments.
    pub arena: Arena,
    /// How often each thing happened.
    pub events: EventCounts,
    /// Why the supervisor has failed.
    pub failed: Option<String>,
}

/// Workers that were started alike, and the lanes that share them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fleet {
    /// From 1.
    pub number: u32,
    /// The process that forks its workers.
    pub zygote_pid: Option<i32>,
    /// The program is not any more what it was when the workers began.
    pub is_outdated: bool,
    /// Why its workers cannot be started.
    pub broken: Option<String>,
    /// Workers that are not ready.
    pub starting: u32,
    /// Workers that have nothing to do.
    pub idle: u32,
    /// Calls that no worker holds.
    pub queued: u64,
    /// The lanes.
    pub lanes: Vec<Lane>,
    /// The workers.
    pub workers: Vec<Worker>,
}

/// One queue of calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lane {
    /// Whether it takes calls.
    pub is_open: bool,
    /// Workers that it may use at once.
    pub workers: u32,
    /// Calls that no worker holds.
    pub queued: u32,
    /// Calls that workers hold in advance.
    pub prefetched: u32,
    /// Calls that run.
    pub running: u32,
    /// Bytes that its calls hold.
    pub bytes: u64,
    /// Calls so far.
    pub submitted: u64,
    /// Calls that ran to their end.
    pub completed: u64,
    /// Calls that were cancelled.
    pub cancelled: u64,
    /// Calls whose time was over.
    pub expired: u64,
    /// Calls that ended with their worker.
    pub crashed: u64,
    /// Calls that a full queue gave up.
    pub dropped: u64,
    /// Calls for which no worker could be started.
    pub broken: u64,
    /// Attempts after the first one.
    pub retried: u64,
    /// How long a call runs.
    pub run_mean_seconds: Option<f64>,
}

/// A worker process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Worker {
    /// Its process id.
    pub pid: i32,
    /// `starting`, `idle`, `busy`, `ending` or `ended`.
    pub state: String,
    /// Calls that it holds, with the one that it runs.
    pub calls: u64,
    /// The call that it runs.
    pub running: Option<RunningCall>,
    /// Memory that it holds.
    pub memory_bytes: Option<u64>,
    /// The worker that had crashed in whose place it was started.
    pub replaces: Option<i32>,
}

/// A call that runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunningCall {
    /// Its function; none where it has no name.
    pub function: Option<String>,
    /// When it began.
    pub started: f64,
    /// How long it has run.
    pub seconds: f64,
}

/// Shared memory of arguments, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Arena {
    /// In use.
    pub bytes_in_use: u64,
    /// Taken from the system.
    pub bytes_backed: Option<u64>,
    /// The most that may be in use.
    pub bytes_max: u64,
}

/// How often each thing happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventCounts {
    /// Workers that became ready, restarts included.
    pub starts: u64,
    /// Workers that took the place of a crashed one.
    pub restarts: u64,
    /// Starts that failed.
    pub start_failures: u64,
    /// Workers that were killed.
    pub kills: u64,
    /// Workers that ended as they were meant to.
    pub ends: u64,
    /// Workers that ended although they should have gone on.
    pub crashes: u64,
    /// Times that a callback kept a thread that resolves.
    pub stalls: u64,
    /// Stalls of event loops.
    pub loop_stalls: u64,
}

/// What became of the calls of one function.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Function {
    /// Its module and name.
    pub name: String,
    /// Calls that ran to their end.
    pub calls: u64,
    /// How long these ran.
    pub run_seconds: f64,
    /// Calls that were cancelled, expired, dropped or broken.
    pub stopped: u64,
    /// Calls that ended with their worker.
    pub crashes: u64,
}

/// Tasks, by the last reading.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tasks {
    /// How old the reading is; none before the first one.
    pub age_seconds: Option<f64>,
    /// Tasks that are not over.
    pub total: u64,
    /// Tasks that are not in the list.
    pub left_out: u64,
    /// Why there is no reading, if that is known.
    pub reason: Option<String>,
    /// The tasks.
    pub tasks: Vec<Task>,
}

/// A task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Task {
    /// Names it while it exists.
    pub id: String,
    /// As `Task.get_name` has it.
    pub name: String,
    /// The qualified name of its coroutine.
    pub coroutine: String,
    /// The number of its loop.
    #[serde(rename = "loop")]
    pub event_loop: Option<u64>,
    /// `running`, `waiting` or `ready`.
    pub state: String,
    /// Where it stands: the functions that it is in, the outermost first.
    pub stack: Vec<Place>,
    /// Where it was made.
    pub made: Option<Place>,
    /// The ids of the tasks that wait for it.
    pub awaited_by: Vec<String>,
}

/// What the journal says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Events {
    /// The number of the last entry; 0 before the first.
    pub last: u64,
    /// Entries that were forgotten before they were asked for.
    pub missed: u64,
    /// The entries after the number that was asked for.
    pub events: Vec<Event>,
}

/// An entry of the journal; what its kind does not have is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// From 1, without gaps.
    pub number: u64,
    /// When.
    pub at: f64,
    /// `start`, `restart`, `start_failure`, `kill`, `end`, `crash`, `drop`, `stall`, `loop_stall`,
    /// `failure` or `stderr_failure`.
    pub kind: String,
    /// The worker's fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<u32>,
    /// The worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The worker that had crashed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<i32>,
    /// Whether it had started a call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_call: Option<bool>,
    /// How it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The end of its standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr_tail: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Calls that full queues gave up so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    /// Threads that resolve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// The number of the stall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stall: Option<u64>,
    /// Whether that stall is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_over: Option<bool>,
}

impl Lag {
    /// Fine buckets, as pairs of an edge and a count, put together: one for each power of two of
    /// nanoseconds. A bucket without an end ends with the longest.
    #[must_use]
    pub fn octaves(fine: &[(f64, u64)], longest: f64) -> Vec<(f64, u64)> {
        let mut octaves: Vec<(f64, u64)> = Vec::new();
        for &(edge, count) in fine {
            let power = (edge * 1e9 - 0.5).log2().ceil();
            let end = if edge.is_finite() {
                power.exp2() / 1e9
            } else {
                longest
            };
            match octaves.last_mut() {
                // Powers of two are exact: equal ones are the same.
                Some((last, sum)) if (*last - end).abs() < f64::EPSILON => *sum += count,
                _ => octaves.push((end, count)),
            }
        }
        octaves
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let document = Document {
            version: VERSION,
            loops: vec![Loop {
                number: 1,
                statistics: Some(LoopStatistics::default()),
                ..Loop::default()
            }],
            stalls: vec![Stall::default()],
            ..Document::default()
        };
        let text = serde_json::to_string(&document).expect("it is text");
        assert!(text.contains("\"loop\":null"), "{text}");
        let read: Document = serde_json::from_str(&text).expect("it is a document");
        assert_eq!(read, document);
    }

    #[test]
    fn what_is_absent_is_empty_and_what_is_unknown_is_passed_over() {
        let text = r#"{"version": 1, "loops": [{"number": 4, "colour": "red"}], "later": 7}"#;
        let read: Document = serde_json::from_str(text).expect("it is a document");
        assert_eq!((read.loops[0].number, read.tasks.total), (4, 0));
    }

    #[test]
    fn fine_buckets_are_put_together_by_powers_of_two() {
        let fine = [
            (100e-9, 1),
            (120e-9, 2),
            (128e-9, 3),
            (129e-9, 4),
            (f64::INFINITY, 5),
        ];
        let octaves = Lag::octaves(&fine, 2_000.0);
        let counts: Vec<u64> = octaves.iter().map(|octave| octave.1).collect();
        assert_eq!(counts, [6, 4, 5]);
        assert!((octaves[0].0 - 128e-9).abs() < 1e-15 && octaves[2].0 > 1_999.0);
        assert_eq!(Lag::octaves(&[], 0.0), []);
    }
}
