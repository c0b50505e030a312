//! The document is made here, from what is known without the interpreter and the last reading.
//!
//! It takes the runtime's lock for the length of a snapshot, and a few files of `/proc`: half a
//! millisecond for a dozen workers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use offloop::watch::LoopSeen;
use offloop_core::Instant;
use offloop_core::event_loop::{Moment, Stalled};
use offloop_core::watch::{Blocked as BlockedCore, Cause, Entry, Quality, Ranked, Told};
use offloop_sys::clock::monotonic_ns;

use crate::document::{
    Arena, Blocked, BlockedNow, CHILDREN_MAX, CULPRITS_MAX, Culprit, Document, Event, EventCounts,
    Events, FUNCTIONS_MAX, Fleet, Lane, Loop, NativePlace, Place, Pools, Process, RunningCall,
    STACK_MAX, STALLS_MAX, Stall, StalledTask, State, TEXT_BYTES_MAX, Tasks, VERSION, Watch,
    Worker,
};
use crate::measured;
use crate::program::{Program, WatchSeen};
use crate::reading::LastReading;

/// The document of a program now, with what its journal says after the entry `after`.
pub(crate) fn document(program: &dyn Program, last: &LastReading, after: u64) -> Document {
    let now = seconds(Instant::from_nanos(monotonic_ns()));
    let watch = program.watch();
    let runtime = program.runtime();
    let entries = runtime.as_ref().map(|runtime| runtime.events_after(0));
    let entries = entries.unwrap_or_default();
    let stalls = stalls(&entries.entries, &watch.loops, now);
    let snapshot = runtime.as_ref().map(offloop::Runtime::snapshot);
    let snapshot = snapshot.unwrap_or_default();
    let mut functions = program.functions();
    functions.sort_by(|one, other| other.run_seconds.total_cmp(&one.run_seconds));
    functions.truncate(FUNCTIONS_MAX);
    let loops = loops(&watch.loops, &stalls, last, now);
    let mut process = process(program, last, now);
    if loops.is_empty() {
        process.children = measured::children(CHILDREN_MAX);
    }
    Document {
        version: VERSION,
        process,
        loops,
        culprits: watch
            .ranked
            .iter()
            .take(CULPRITS_MAX)
            .map(culprit)
            .collect(),
        culprits_left_out: blocked(watch.left_out),
        watch: watch_of(&watch),
        pools: pools(program, snapshot, &entries.entries, now),
        functions,
        tasks: tasks(last, now),
        events: events(&entries, after),
        stalls,
    }
}

/// What loops do now, if one is blocked or `was_blocked`: cheap where none is.
pub(crate) fn loops_now(
    program: &dyn Program,
    last: &LastReading,
    was_blocked: bool,
) -> Option<State> {
    let now = seconds(Instant::from_nanos(monotonic_ns()));
    let watch = program.watch();
    let threshold = watch.threshold_seconds.unwrap_or(f64::INFINITY);
    let rounds = watch.loops.iter().filter_map(|seen| seen.round);
    let is_long = |round: Duration| round.as_secs_f64() >= threshold;
    if !was_blocked && !rounds.into_iter().any(is_long) {
        return None;
    }
    let entries = program.runtime().map(|runtime| runtime.events_after(0));
    let entries = entries.unwrap_or_default();
    let mut stalls = stalls(&entries.entries, &watch.loops, now);
    let loops = loops(&watch.loops, &stalls, last, now);
    stalls.retain(|stall| !stall.is_over);
    Some(State { now, loops, stalls })
}

pub(crate) fn seconds(at: Instant) -> f64 {
    Duration::from_nanos(at.as_nanos()).as_secs_f64()
}

/// A text, cut where it is too long.
pub(crate) fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    if end == text.len() {
        text.to_owned()
    } else {
        format!("{}…", &text[..end])
    }
}

fn process(program: &dyn Program, last: &LastReading, now: f64) -> Process {
    let mut identity = program.identity();
    if let Some((_, reading)) = &last.reading {
        identity.program.clone_from(&reading.program);
    }
    let used = measured::own();
    let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Process {
        pid: std::process::id(),
        python: identity.python,
        offloop: identity.offloop,
        program: cut(&identity.program),
        started: used.started.unwrap_or(now),
        now,
        now_wall: wall.unwrap_or_default().as_secs_f64(),
        memory_bytes: used.memory_bytes,
        cpu_seconds: used.cpu_seconds,
        threads: used.threads,
        children: Vec::new(),
    }
}

fn watch_of(watch: &WatchSeen) -> Watch {
    let all = watch.ranked.iter().map(|ranked| ranked.blocked);
    let all = all.chain([watch.left_out]);
    Watch {
        is_on: watch.threshold_seconds.is_some(),
        threshold_seconds: watch.threshold_seconds,
        stalls: all.clone().map(|blocked| blocked.count).sum(),
        blocked_seconds: all.map(|blocked| blocked.total.as_secs_f64()).sum(),
    }
}

fn blocked(blocked: BlockedCore) -> Blocked {
    Blocked {
        count: blocked.count,
        total_seconds: blocked.total.as_secs_f64(),
        longest_seconds: blocked.longest.as_secs_f64(),
    }
}

fn culprit(ranked: &Ranked) -> Culprit {
    let entry = ranked.culprit.as_ref().map(|culprit| &culprit.entry);
    let advice = ranked.advice.as_ref();
    Culprit {
        file: entry.map(|entry| cut(&entry.filename)),
        line: entry.and_then(|entry| entry.line),
        function: entry
            .map(|entry| &entry.function)
            .or(ranked.key.function.as_ref())
            .map(|name| cut(name)),
        source: ranked.source.as_deref().map(cut),
        cause: ranked.cause.name().to_owned(),
        cure: advice.and_then(|advice| advice.cure.as_deref()).map(cut),
        because: advice.map(|advice| cut(&advice.because)),
        count: ranked.blocked.count,
        total_seconds: ranked.blocked.total.as_secs_f64(),
        longest_seconds: ranked.blocked.longest.as_secs_f64(),
    }
}

// Loops and their stalls.

/// The last stalls of the journal, each as it was told last.
fn stalls(entries: &[offloop::Entry], loops: &[LoopSeen], now: f64) -> Vec<Stall> {
    let mut told: Vec<&Arc<Told>> = Vec::new();
    for entry in entries {
        if let offloop::Event::LoopStall { told: fresh } = &entry.event {
            let known = |told: &&Arc<Told>| told.stall.number == fresh.stall.number;
            match told.iter().position(known) {
                Some(index) => told[index] = fresh,
                None => told.push(fresh),
            }
        }
    }
    let first = told.len().saturating_sub(STALLS_MAX);
    let told = told.into_iter().skip(first);
    told.map(|told| stall(told, loops, now)).collect()
}

fn stall(told: &Told, loops: &[LoopSeen], now: f64) -> Stall {
    let stall = &told.stall;
    let of = loops
        .iter()
        .find(|seen| u64::from(seen.native_id) == stall.thread.native_id);
    let started = seconds(stall.started);
    // A watch that was turned off told no end; and another round has begun by now.
    let goes_on = of.is_some_and(|seen| {
        let round = seen.round.unwrap_or_default().as_secs_f64();
        round > 0.0 && now - round <= seconds(stall.reported)
    });
    let is_over = matches!(stall.moment, Moment::Over { .. }) || !goes_on;
    let lasted = stall.lasted.as_secs_f64();
    let mut culprit = told.culprit.as_ref().map(place);
    if let Some(culprit) = &mut culprit {
        culprit.source = told.source.as_deref().map(cut);
    }
    Stall {
        number: stall.number,
        event_loop: of.map(|seen| seen.number),
        thread: cut(&stall.thread.name),
        started,
        seconds: if is_over {
            lasted
        } else {
            lasted.max(now - started)
        },
        is_over,
        is_round: stall.stalled == Stalled::Round,
        cause: stall.cause.name().to_owned(),
        detail: detail(&stall.cause),
        culprit,
        advice: told.advice.as_deref().map(cut),
        callback: stall.callback.as_deref().map(cut),
        task: stall.task.as_ref().map(|task| StalledTask {
            name: cut(&task.name),
            coroutine: cut(&task.coroutine),
            made: task.made.as_ref().map(|made| Place {
                file: cut(&made.filename),
                line: Some(made.line),
                ..Place::default()
            }),
            awaited_by: task.awaited_by.iter().map(|line| cut(line)).collect(),
        }),
        request: stall.request.as_deref().map(cut),
        stack: stall
            .stack
            .entries
            .iter()
            .take(STACK_MAX)
            .map(place)
            .collect(),
        stack_quality: match &stall.stack.quality {
            Quality::Exact => "exact".to_owned(),
            Quality::Moving => "moving".to_owned(),
            Quality::Fallback => "fallback".to_owned(),
            Quality::Missing(reason) => format!("missing: {reason}"),
        },
        native: stall
            .native
            .iter()
            .take(STACK_MAX)
            .map(|entry| NativePlace {
                function: cut(&entry.function),
                file: cut(&entry.file),
            })
            .collect(),
        suppressed: stall.suppressed,
    }
}

fn place(entry: &Entry) -> Place {
    Place {
        file: cut(&entry.filename),
        line: entry.line,
        function: cut(&entry.function),
        source: None,
    }
}

fn detail(cause: &Cause) -> Option<String> {
    match cause {
        Cause::Socket { peer } => peer.as_deref().map(cut),
        Cause::File { path } => path.as_deref().map(cut),
        Cause::Descriptor { name } => name.as_deref().map(cut),
        Cause::Child { pid } => pid.map(|pid| pid.to_string()),
        Cause::OtherThread { native_id } => Some(native_id.to_string()),
        _ => None,
    }
}

/// The loops that the watch sees now, and those of the last reading.
fn loops(seen: &[LoopSeen], stalls: &[Stall], last: &LastReading, now: f64) -> Vec<Loop> {
    let mut loops: Vec<Loop> = seen
        .iter()
        .map(|seen| Loop {
            number: seen.number,
            thread: cut(&seen.thread_name),
            native_id: seen.native_id,
            round_seconds: seen.round.map(|round| round.as_secs_f64()),
            blocked: stalls
                .iter()
                .rev()
                .find(|stall| stall.event_loop == Some(seen.number) && !stall.is_over)
                .map(|stall| BlockedNow {
                    stall: stall.number,
                    seconds: stall.seconds,
                }),
            ..Loop::default()
        })
        .collect();
    let Some((read_at, reading)) = &last.reading else {
        return loops;
    };
    for read in &reading.loops {
        let index = match loops.iter().position(|known| known.number == read.number) {
            Some(index) => index,
            None => {
                loops.push(Loop {
                    number: read.number,
                    thread: cut(&read.thread),
                    native_id: read.native_id,
                    ..Loop::default()
                });
                loops.len() - 1
            }
        };
        let known = &mut loops[index];
        known.kind = cut(&read.kind);
        known.is_running = Some(read.is_running);
        known.statistics.clone_from(&read.statistics);
        if let Some(statistics) = &mut known.statistics {
            statistics.age_seconds = (now - read_at).max(0.0);
        }
    }
    loops.sort_by_key(|known| known.number);
    loops
}

fn tasks(last: &LastReading, now: f64) -> Tasks {
    let Some((read_at, reading)) = &last.reading else {
        return Tasks {
            reason: last.reason.clone(),
            ..Tasks::default()
        };
    };
    Tasks {
        age_seconds: Some((now - read_at).max(0.0)),
        total: reading.total,
        left_out: reading.total.saturating_sub(reading.tasks.len() as u64),
        reason: last.reason.clone(),
        tasks: reading.tasks.clone(),
    }
}

// Pools.

fn pools(
    program: &dyn Program,
    snapshot: offloop::Snapshot,
    entries: &[offloop::Entry],
    now: f64,
) -> Pools {
    let replaced: HashMap<i32, i32> = entries
        .iter()
        .filter_map(|entry| match entry.event {
            offloop::Event::Restart { pid, replaces, .. } => Some((pid, replaces)),
            _ => None,
        })
        .collect();
    let worker = |worker: offloop::WorkerSnapshot| Worker {
        pid: worker.pid,
        state: state(worker.state).to_owned(),
        calls: worker.calls as u64,
        running: worker.running.map(|running| {
            let started = seconds(running.started);
            RunningCall {
                function: program.function_of(running.token).as_deref().map(cut),
                started,
                seconds: (now - started).max(0.0),
            }
        }),
        memory_bytes: measured::memory_of(worker.pid),
        replaces: replaced.get(&worker.pid).copied(),
    };
    let fleet = |fleet: offloop::FleetSnapshot| Fleet {
        number: fleet.number,
        zygote_pid: fleet.zygote_pid,
        is_outdated: fleet.outdated,
        broken: fleet.broken.map(|fault| cut(&fault.to_string())),
        starting: fleet.starting,
        idle: fleet.idle,
        queued: fleet.queued as u64,
        lanes: fleet
            .lanes
            .iter()
            .map(|known| lane(&known.statistics, known.open))
            .collect(),
        workers: fleet.workers.into_iter().map(worker).collect(),
    };
    let counts = snapshot.events;
    Pools {
        calls: lane(&snapshot.calls, snapshot.failed.is_none()),
        fleets: snapshot.fleets.into_iter().map(fleet).collect(),
        arena: Arena {
            bytes_in_use: snapshot.arena.bytes_in_use,
            bytes_backed: snapshot.arena.bytes_backed,
            bytes_max: snapshot.arena.bytes_max,
        },
        events: EventCounts {
            starts: counts.starts,
            restarts: counts.restarts,
            start_failures: counts.start_failures,
            kills: counts.kills,
            ends: counts.ends,
            crashes: counts.crashes,
            stalls: counts.stalls,
            loop_stalls: counts.loop_stalls,
        },
        failed: snapshot.failed.map(|fault| cut(&fault.to_string())),
    }
}

fn state(state: offloop::WorkerState) -> &'static str {
    match state {
        offloop::WorkerState::Starting => "starting",
        offloop::WorkerState::Idle => "idle",
        offloop::WorkerState::Busy => "busy",
        offloop::WorkerState::Ending => "ending",
        offloop::WorkerState::Ended => "ended",
    }
}

fn lane(lane: &offloop::LaneStatistics, is_open: bool) -> Lane {
    Lane {
        is_open,
        workers: lane.workers,
        queued: lane.queued,
        prefetched: lane.prefetched,
        running: lane.running,
        bytes: lane.bytes,
        submitted: lane.submitted,
        completed: lane.completed,
        cancelled: lane.cancelled,
        expired: lane.expired,
        crashed: lane.lost,
        dropped: lane.dropped,
        broken: lane.broken,
        retried: lane.retried,
        run_mean_seconds: lane.run_mean.map(|mean| mean.as_secs_f64()),
    }
}

// The journal.

fn events(entries: &offloop::Entries, after: u64) -> Events {
    let last = entries.entries.last().map_or(0, |entry| entry.number);
    let first_kept = last + 1 - entries.entries.len() as u64;
    let unseen = entries.entries.iter().filter(|entry| entry.number > after);
    Events {
        last,
        missed: first_kept.saturating_sub(after.saturating_add(1)),
        events: unseen.map(event).collect(),
    }
}

fn event(entry: &offloop::Entry) -> Event {
    let mut event = what(&entry.event);
    event.number = entry.number;
    event.at = seconds(entry.at);
    event
}

fn what(event: &offloop::Event) -> Event {
    use offloop::Event as Happened;
    let of = |kind: &str| Event {
        kind: kind.to_owned(),
        ..Event::default()
    };
    let of_worker = |kind: &str, fleet: u32, pid: i32| Event {
        fleet: Some(fleet),
        pid: Some(pid),
        ..of(kind)
    };
    match event {
        Happened::Start { fleet, pid } => of_worker("start", *fleet, *pid),
        Happened::Restart {
            fleet,
            pid,
            replaces,
        } => Event {
            replaces: Some(*replaces),
            ..of_worker("restart", *fleet, *pid)
        },
        Happened::StartFailure { fleet, fault } => Event {
            fleet: Some(*fleet),
            reason: fault.as_ref().map(|fault| cut(&fault.to_string())),
            ..of("start_failure")
        },
        Happened::Kill { fleet, pid } => of_worker("kill", *fleet, *pid),
        Happened::End { fleet, pid } => of_worker("end", *fleet, *pid),
        Happened::Crash {
            fleet,
            crash,
            in_call,
        } => crashed(of_worker("crash", *fleet, crash.pid), crash, *in_call),
        Happened::Drop { fleet, dropped } => Event {
            fleet: Some(*fleet),
            dropped: Some(*dropped),
            ..of("drop")
        },
        Happened::Stall { threads } => Event {
            threads: Some(*threads),
            ..of("stall")
        },
        Happened::LoopStall { told } => Event {
            stall: Some(told.stall.number),
            is_over: Some(matches!(told.stall.moment, Moment::Over { .. })),
            ..of("loop_stall")
        },
        Happened::Failure { fault } => Event {
            reason: Some(cut(&fault.to_string())),
            ..of("failure")
        },
        Happened::StderrFailure { fault } => Event {
            reason: Some(cut(&fault.to_string())),
            ..of("stderr_failure")
        },
    }
}

fn crashed(event: Event, crash: &offloop::Crash, in_call: bool) -> Event {
    let (exit_code, signal) = match crash.status {
        Some(offloop::ExitStatus::Code(code)) => (Some(code), None),
        Some(offloop::ExitStatus::Signal(signal)) => (None, Some(signal)),
        None => (None, None),
    };
    let tail = &crash.stderr_tail;
    // Its end says more than its beginning.
    let begin = tail.ceil_char_boundary(tail.len().saturating_sub(TEXT_BYTES_MAX));
    Event {
        in_call: Some(in_call),
        exit_code,
        signal,
        stderr_tail: Some(tail[begin..].to_owned()),
        reason: crash.fault.as_ref().map(|fault| cut(&fault.to_string())),
        ..event
    }
}
