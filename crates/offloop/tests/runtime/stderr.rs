//! A thread that cannot pass on what workers write: no worker waits for it, and no call ends.

use std::sync::Arc;

use offloop::{Event, StderrFault};

use crate::fixture::Fixture;

/// Waits until the journal says that standard error is lost; every reason that it has.
fn faults(fixture: &Fixture) -> Vec<Arc<StderrFault>> {
    let told = || {
        let entries = fixture.runtime.events_after(0).entries;
        let faults = entries.into_iter().filter_map(|entry| match entry.event {
            Event::StderrFailure { fault } => Some(fault),
            _ => None,
        });
        faults.collect::<Vec<_>>()
    };
    fixture.until("the end of what is passed on", || !told().is_empty());
    told()
}

fn assert_panicked(faults: &[Arc<StderrFault>]) {
    let [fault] = faults else {
        panic!("{faults:?}")
    };
    let StderrFault::Panic { message } = &**fault else {
        panic!("{fault:?}")
    };
    assert_eq!(message, "a test wants it so");
}

#[test]
fn after_a_panic_of_its_thread_workers_write_on_and_their_last_words_are_known() {
    let mut fixture = Fixture::new(1);
    fixture.echo();
    fixture.runtime.panic_stderr(1);
    assert_panicked(&faults(&fixture));
    for _ in 0..2 {
        let ticket = fixture.submit("flood a line that nobody reads");
        assert_eq!(fixture.value(ticket), "written");
    }
    let ticket = fixture.submit("crash last words");
    fixture.report("crash");
    let (crash, _) = fixture.crash(ticket);
    assert!(crash.stderr_tail.ends_with("last words\n"), "{crash:?}");
    // One that starts later is no worse off.
    let ticket = fixture.submit("flood a line of the next worker");
    assert_eq!(fixture.value(ticket), "written");
}

#[test]
fn a_thread_that_panics_twice_closes_the_pipes_and_no_call_waits() {
    let mut fixture = Fixture::new(1);
    fixture.echo();
    fixture.runtime.panic_stderr(2);
    assert_panicked(&faults(&fixture));
    // The first of these lines makes it panic again.
    let ticket = fixture.submit("flood a line that cannot be written");
    assert_eq!(fixture.value(ticket), "broken pipe");
    let ticket = fixture.submit("exit 3");
    fixture.report("exit");
    fixture.crash(ticket);
    let ticket = fixture.submit("flood a line of the next worker");
    assert_eq!(fixture.value(ticket), "broken pipe");
    assert_panicked(&faults(&fixture));
}
