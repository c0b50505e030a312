//! Every bound of this crate that is not set by the caller, with its reason.

use core::time::Duration;

/// Work that a busy worker may hold in advance, in nanoseconds of estimated run time. Waking an
/// idle process costs 25 to 50 us, so 2 ms of work in hand keeps that below 3 percent, while a
/// task that turns out to be slow holds up at most this much, and only until an idle worker
/// takes it over.
pub const PREFETCH_NS: u64 = 2_000_000;

/// Tasks that one worker may hold at once, the running one included. A quarter of a ring of 1,024
/// slots: revoked tasks keep their slots until the worker passes over them.
pub const PREFETCH_TASKS_MAX: u32 = 256;

/// What waking another process costs, about: calls of a lane that run shorter than this on average
/// are packed on workers that are awake.
pub const WAKE_NS: u64 = 25_000;

/// Estimated work that a packed worker holds before another worker is woken.
pub const PACK_NS: u64 = 100_000;

/// Tasks that a packed worker holds before another worker is woken.
pub const PACK_TASKS_MAX: u32 = 32;

/// How long a packed worker may stay on one task before its other tasks go to other workers.
pub const PACK_PATIENCE: Duration = Duration::from_millis(1);

/// Busy workers looked at to find a lightly loaded one. With more than these, the search starts
/// at a place that moves on each time, which is as good as looking at all of them in practice.
pub const LEAST_LOADED_SCAN: usize = 16;

/// Processes of one fleet. Far above any sensible number of cores; it stops a mistaken
/// configuration from exhausting the machine's process table.
pub const FLEET_WORKERS_MAX: u32 = 4_096;

/// Starts that may fail in a row before the fleet gives up: with the delays below that is about a
/// second, long enough for a passing shortage of memory or processes.
pub const START_FAILURES_MAX: u32 = 5;

/// Delay before the first repeated start.
pub const START_BACKOFF: Duration = Duration::from_millis(50);

/// Longest delay before a repeated start.
pub const START_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// How long a worker may take from its fork until it is ready, unless set. It runs the user's
/// initializer, which may load a model of many gigabytes from a cold disk. A worker that hangs in
/// it is killed after this time, and its start counts as failed.
pub const START_TIMEOUT: Duration = Duration::from_secs(300);

/// Unexpected exits of ready workers that are accepted in [`RESTART_PERIOD`]. It is generous,
/// since tasks of the user, not we, make processes die under load.
pub const RESTARTS_MAX: u32 = 1_000;

/// The period that [`RESTARTS_MAX`] refers to.
pub const RESTART_PERIOD: Duration = Duration::from_secs(10);

/// How long an idle worker is kept warm by default: longer than the pauses of a service at work.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a worker that was asked to exit may take before it is killed. It has no task, only
/// its exit handlers.
pub const RETIRE_GRACE: Duration = Duration::from_secs(5);

/// Time between interrupting a call and killing its worker, unless set.
pub const GRACE: Duration = Duration::from_millis(500);

/// Shortest time between two looks at whether a call has started. A shorter run timeout than this
/// would otherwise keep the driver awake while the task waits its turn in a ring.
pub const START_CHECK_MIN: Duration = Duration::from_millis(1);

/// First delay before a worker that refused a task with an empty ring is tried again. Its ring
/// holds only revoked tasks, which a healthy worker passes over in microseconds.
pub const REFUSAL_DELAY: Duration = Duration::from_millis(1);

/// Such refusals in a row before the worker is killed: with doubling delays, about a second.
pub const REFUSALS_MAX: u32 = 10;

const _: () = assert!(PREFETCH_TASKS_MAX >= 1);
const _: () = assert!(LEAST_LOADED_SCAN >= 1);
const _: () = assert!(START_FAILURES_MAX >= 1 && RESTARTS_MAX >= 1);
const _: () = assert!(START_BACKOFF.as_nanos() <= START_BACKOFF_MAX.as_nanos());
const _: () = assert!(REFUSALS_MAX < 32);
