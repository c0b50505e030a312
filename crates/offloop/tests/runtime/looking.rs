//! What the runtime tells of itself: its snapshot, and the journal of what happened.

use std::sync::{Arc, Barrier};
use std::time::Duration;

use offloop::{
    After, Close, Event, ExitStatus, Fault, LaneConfig, LaneStatistics, Outcome, OwnerSnapshot,
    QueuePolicy, Snapshot, Taken, Turn, WorkerState,
};

use crate::fixture::{Fixture, LIMIT, Start, signal};

const SIGKILL: i32 = 9;

fn events(fixture: &Fixture) -> Vec<Event> {
    let entries = fixture.runtime.events_after(0);
    assert_eq!(entries.missed, 0);
    let numbers = entries.entries.iter().map(|entry| entry.number);
    assert!(numbers.eq(1..=entries.entries.len() as u64));
    let times = entries.entries.iter().map(|entry| entry.at);
    assert!(times.is_sorted());
    entries.entries.into_iter().map(|e| e.event).collect()
}

/// Waits until the snapshot is as it should be.
fn until(fixture: &Fixture, what: &str, done: impl Fn(&Snapshot) -> bool) -> Snapshot {
    fixture.until(what, || done(&fixture.runtime.snapshot()));
    fixture.runtime.snapshot()
}

#[test]
fn a_runtime_that_has_done_nothing_says_so() {
    let fixture = Fixture::new(1);
    let snapshot = fixture.runtime.snapshot();
    let fleet = &snapshot.fleets[0];
    assert_eq!((fleet.workers.len(), fleet.zygote_pid), (0, None));
    assert_eq!((snapshot.lanes_opened, snapshot.last_event), (1, 0));
    assert_eq!(snapshot.calls, LaneStatistics::default());
    assert!(snapshot.failed.is_none());
    assert!(events(&fixture).is_empty());
}

#[test]
fn a_snapshot_tells_of_fleets_lanes_workers_owners_and_the_arena() {
    let mut fixture = Fixture::new(1);
    let running = fixture.submit("gate done");
    let pid = fixture.report("gate");
    let queued = fixture.submit("echo later");
    let block = fixture.runtime.allocate(100_000).unwrap();
    let snapshot = fixture.runtime.snapshot();
    let [fleet] = snapshot.fleets.as_slice() else {
        panic!("{snapshot:?}")
    };
    assert_eq!(fleet.zygote_pid, Some(fixture.runtime.zygote_pids()[0]));
    assert_eq!(
        (fleet.number, fleet.starting, fleet.idle, fleet.queued),
        (1, 0, 0, 1)
    );
    let worker = fleet.workers[0];
    assert_eq!(
        (worker.pid, worker.state, worker.calls),
        (pid, WorkerState::Busy, 1)
    );
    let [lane] = fleet.lanes.as_slice() else {
        panic!("{fleet:?}")
    };
    assert!(lane.open && !fleet.outdated && fleet.broken.is_none());
    assert_eq!(lane.statistics, fixture.lane.statistics().unwrap());
    assert_eq!(lane.statistics, snapshot.calls);
    assert_eq!((lane.statistics.running, lane.statistics.queued), (1, 1));
    let own = OwnerSnapshot {
        index: fixture.owner.index(),
        open: true,
        unfinished: 2,
        notices: 0,
    };
    assert_eq!(snapshot.owners[1..], [own]);
    let arena = snapshot.arena;
    assert!(
        arena.bytes_in_use >= 100_000 && arena.bytes_max == 1 << 30,
        "{arena:?}"
    );
    assert!(arena.bytes_backed.is_some());
    drop(block);
    fixture.open_gate(1);
    assert_eq!(fixture.value(running), "done");
    assert_eq!(fixture.value(queued), "later");
    let snapshot = fixture.runtime.snapshot();
    assert_eq!(
        (snapshot.arena.bytes_in_use, snapshot.owners[1].unfinished),
        (0, 0)
    );
    let worker = snapshot.fleets[0].workers[0];
    assert_eq!((worker.state, worker.calls), (WorkerState::Idle, 0));
}

#[test]
fn the_calls_of_lanes_and_fleets_that_are_gone_still_count() {
    let mut fixture = Fixture::new(1);
    fixture.echo();
    let next = fixture
        .runtime
        .open_lane(fixture.launch.clone(), LaneConfig::new(1));
    let first = std::mem::replace(&mut fixture.lane, next.unwrap());
    fixture.echo();
    drop(first);
    let snapshot = until(&fixture, "the end of a lane", |snapshot| {
        snapshot
            .fleets
            .iter()
            .map(|fleet| fleet.lanes.len())
            .sum::<usize>()
            == 1
    });
    assert_eq!((snapshot.lanes_opened, snapshot.calls.completed), (2, 2));
    let mut other = fixture.launch.clone();
    other.tasks_per_worker_max = Some(7);
    let lane = fixture
        .runtime
        .open_lane(other, LaneConfig::new(1))
        .unwrap();
    let kept = std::mem::replace(&mut fixture.lane, lane);
    fixture.echo();
    assert_eq!(fixture.runtime.snapshot().fleets.len(), 2);
    drop(std::mem::replace(&mut fixture.lane, kept));
    let snapshot = until(&fixture, "the end of a fleet", |snapshot| {
        snapshot.fleets.len() == 1
    });
    assert_eq!((snapshot.lanes_opened, snapshot.calls.submitted), (3, 3));
    assert_eq!(snapshot.calls.completed, 3);
}

#[test]
fn the_journal_tells_of_a_crash_and_of_the_worker_that_replaces_it() {
    let mut fixture = Fixture::new(1);
    let ticket = fixture.submit("exit 3");
    let first = fixture.report("exit");
    fixture.crash(ticket);
    let ticket = fixture.submit("pid");
    let second: i32 = fixture.value(ticket).parse().unwrap();
    let told = events(&fixture);
    let [
        Event::Start { fleet: 1, pid },
        Event::Crash {
            fleet: 1,
            crash,
            in_call: true,
        },
        restart,
    ] = told.as_slice()
    else {
        panic!("{told:?}")
    };
    assert_eq!((*pid, crash.pid), (first, first));
    assert_eq!(crash.status, Some(ExitStatus::Code(3)));
    let Event::Restart {
        fleet: 1,
        pid,
        replaces,
    } = restart
    else {
        panic!("{restart:?}")
    };
    assert_eq!((*pid, *replaces), (second, first));
    let counts = fixture.runtime.snapshot().events;
    assert_eq!((counts.starts, counts.restarts, counts.crashes), (2, 1, 1));
    let since = fixture.runtime.events_after(2);
    assert_eq!(
        (since.missed, since.entries.len(), since.entries[0].number),
        (0, 1, 3)
    );
}

#[test]
fn a_worker_that_is_killed_without_a_call_is_told_as_well() {
    let mut fixture = Fixture::new(1);
    let ticket = fixture.submit("pid");
    let pid = fixture.value(ticket).parse().unwrap();
    signal(pid, SIGKILL);
    until(&fixture, "a crash", |snapshot| snapshot.events.crashes == 1);
    let told = events(&fixture);
    let Some(Event::Crash {
        crash,
        in_call: false,
        ..
    }) = told.get(1)
    else {
        panic!("{told:?}")
    };
    assert_eq!(
        (crash.pid, crash.status),
        (pid, Some(ExitStatus::Signal(SIGKILL)))
    );
}

#[test]
fn a_kill_is_told_once_and_its_worker_did_not_crash() {
    let config = LaneConfig {
        grace: Duration::from_millis(1),
        ..LaneConfig::new(1)
    };
    let mut fixture = Fixture::start(&Start::default(), config);
    let ticket = fixture.submit("deaf");
    let deaf = fixture.report("deaf");
    assert!(fixture.lane.cancel(ticket.task));
    assert!(matches!(fixture.outcome(ticket), Outcome::Cancelled));
    let told = events(&fixture);
    let [
        Event::Start { .. },
        Event::Kill { pid: killed, .. },
        Event::End { pid: ended, .. },
    ] = told.as_slice()
    else {
        panic!("{told:?}")
    };
    assert_eq!((*killed, *ended), (deaf, deaf));
    let counts = fixture.runtime.snapshot().events;
    assert_eq!((counts.kills, counts.ends, counts.crashes), (1, 1, 0));
}

#[test]
fn workers_end_with_their_runtime_and_do_not_crash() {
    let mut fixture = Fixture::new(2);
    fixture.echo();
    fixture.lane.close(Close::Drain);
    fixture.runtime.stop();
    let counts = fixture.runtime.snapshot().events;
    assert_eq!(
        (counts.starts, counts.ends, counts.crashes),
        (1, 1, 0),
        "{counts:?}"
    );
}

#[test]
fn a_worker_that_cannot_be_watched_is_killed_which_is_told_and_replaced() {
    let start = Start {
        setup: "hello-waits for the gate",
        ..Start::default()
    };
    let mut fixture = Fixture::start(&start, LaneConfig::new(1));
    fixture.runtime.refuse_watch();
    let ticket = fixture.submit("pid");
    until(&fixture, "a failed start", |snapshot| {
        snapshot.events.start_failures == 1
    });
    // None of them goes on before, so the one that was killed took no call.
    fixture.open_gate(1);
    let pid: i32 = fixture.value(ticket).parse().unwrap();
    let told = events(&fixture);
    let [
        Event::Kill { pid: killed, .. },
        Event::StartFailure { fault, .. },
        Event::Start { pid: started, .. },
    ] = told.as_slice()
    else {
        panic!("{told:?}")
    };
    let Some(Fault::WorkerEnded { crash }) = fault.as_deref() else {
        panic!("{fault:?}")
    };
    assert_eq!((crash.pid, *started), (*killed, pid));
    assert_eq!(crash.status, Some(ExitStatus::Signal(SIGKILL)));
    assert_ne!(*killed, pid);
}

#[test]
fn starts_that_fail_are_told_with_their_reason() {
    let start = Start {
        setup: "hello-waits for the gate",
        start_timeout: Some(Duration::from_millis(50)),
        ..Start::default()
    };
    let mut fixture = Fixture::start(&start, LaneConfig::new(1));
    let ticket = fixture.submit("echo never");
    assert!(matches!(fixture.outcome(ticket), Outcome::Broken { .. }));
    let told = events(&fixture);
    let failures = told.iter().filter_map(|event| match event {
        Event::StartFailure { fault, .. } => fault.as_deref(),
        _ => None,
    });
    let failures: Vec<&Fault> = failures.collect();
    let expected = offloop_core::limits::START_FAILURES_MAX;
    assert_eq!(failures.len(), expected as usize);
    let ended = |fault: &&Fault| matches!(fault, Fault::WorkerEnded { .. });
    assert!(failures.iter().all(ended), "{told:?}");
    let counts = fixture.runtime.snapshot().events;
    assert_eq!(
        (counts.starts, counts.start_failures),
        (0, u64::from(expected))
    );
    assert_eq!(counts.kills, u64::from(expected));
    assert!(fixture.runtime.snapshot().fleets[0].broken.is_some());
}

#[test]
fn a_queue_that_drops_call_after_call_does_not_fill_the_journal() {
    let config = LaneConfig {
        queue_tasks_max: Some(1),
        policy: QueuePolicy::DropOldest,
        ..LaneConfig::new(1)
    };
    let mut fixture = Fixture::start(&Start::default(), config);
    let running = fixture.submit("gate done");
    fixture.report("gate");
    let calls = 5_000;
    for _ in 0..=calls {
        fixture.submit("echo dropped");
    }
    let told = events(&fixture);
    let drops = told.iter().filter_map(|event| match event {
        Event::Drop { dropped, .. } => Some(*dropped),
        _ => None,
    });
    let drops: Vec<u64> = drops.collect();
    assert_eq!(drops[0], 1);
    // One a second: even a test that uses all of its time writes this few.
    assert!(
        drops.len() as u64 <= LIMIT.as_secs() && drops.is_sorted(),
        "{drops:?}"
    );
    assert_eq!(fixture.runtime.snapshot().calls.dropped, calls);
    fixture.open_gate(1);
    assert_eq!(fixture.value(running), "done");
}

#[test]
fn a_callback_that_keeps_a_thread_is_a_stall() {
    let mut fixture = Fixture::new(1);
    let release = Arc::new(Barrier::new(2));
    let blocked = Arc::clone(&release);
    let body = move |turn: &Turn| match turn.look() {
        Taken::Notice(notice) => {
            if notice.token == 1 {
                blocked.wait();
            }
            After::Again
        }
        Taken::Nothing => After::Wait,
        Taken::Relieved => After::Relieved,
    };
    fixture.runtime.start_crew(body).unwrap();
    for _ in 0..2 {
        let mut call = fixture.call("echo x");
        call.any_thread = true;
        call.owner = 0;
        fixture
            .submit_call(call, offloop::CallOptions::default())
            .unwrap();
    }
    until(&fixture, "a stall", |snapshot| snapshot.events.stalls > 0);
    let told = events(&fixture);
    let stalls = told
        .iter()
        .filter(|event| matches!(event, Event::Stall { .. }));
    assert_eq!(stalls.count(), 1);
    release.wait();
    assert!(fixture.runtime.wait_crew_idle(LIMIT));
    assert_eq!(fixture.runtime.end_crew(LIMIT), 0);
}

#[test]
fn the_end_of_the_supervisor_is_told() {
    let mut fixture = Fixture::new(1);
    fixture.echo();
    fixture.runtime.panic_supervisor();
    let snapshot = until(&fixture, "a failure", |snapshot| snapshot.failed.is_some());
    assert_eq!(snapshot.last_event, 2);
    let told = events(&fixture);
    let Some(Event::Failure { fault }) = told.last() else {
        panic!("{told:?}")
    };
    assert!(Arc::ptr_eq(fault, &snapshot.failed.unwrap()));
    assert_eq!(fixture.runtime.snapshot().fleets[0].workers.len(), 0);
}
