//! Each rule by which a cause is found, at its borders, and what holds for any evidence.

use super::*;

/// Kernel's ids of other threads.
const HOLDER: u64 = 700;
const FORMER: u64 = 701;

const ROUNDS: u32 = 100_000;

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn seen(state: ThreadState, wait: Wait) -> Seen {
    Seen {
        state,
        wait,
        gil: Some(GilHolder::This),
        collects: Some(false),
    }
}

fn ready() -> Seen {
    seen(ThreadState::Ready, Wait::Unknown)
}

fn asleep(wait: Wait) -> Seen {
    seen(ThreadState::Asleep, wait)
}

/// A thread that was seen so twice, 100 ms apart, and ran for so many of these.
fn twice(seen: Seen, ran_ms: u64) -> Evidence {
    Evidence {
        interval: ms(100),
        ran: Some(ms(ran_ms)),
        delayed: Some(ms(0)),
        sleeps: Some(0),
        major_faults: 0,
        late: ms(0),
        looks: [seen.clone(), seen],
        motion: Motion::Unknown,
    }
}

/// A thread that ran all the time.
fn busy(motion: Motion, gil: GilHolder) -> Evidence {
    let seen = Seen {
        gil: Some(gil),
        ..ready()
    };
    Evidence {
        motion,
        ..twice(seen, 100)
    }
}

#[test]
fn a_thread_whose_instructions_change_runs_python() {
    for gil in [
        GilHolder::This,
        GilHolder::Other(HOLDER),
        GilHolder::Free(None),
    ] {
        assert_eq!(cause(&busy(Motion::Moving, gil)), Cause::Python);
    }
}

#[test]
fn a_thread_that_stays_at_one_instruction_runs_c_with_or_without_the_gil() {
    let of = |gil| cause(&busy(Motion::Still, gil));
    assert_eq!(of(GilHolder::This), Cause::Native { holds_gil: true });
    let without = Cause::Native { holds_gil: false };
    assert_eq!(of(GilHolder::Other(HOLDER)), without);
    assert_eq!(of(GilHolder::Free(Some(FORMER))), without);
    // It lets go of it at times.
    let mut changed = busy(Motion::Still, GilHolder::This);
    changed.looks[1].gil = Some(GilHolder::Free(None));
    assert_eq!(cause(&changed), without);
    changed.looks.swap(0, 1);
    assert_eq!(cause(&changed), without);
    changed.looks.swap(0, 1);
    changed.looks[1].gil = None;
    assert_eq!(cause(&changed), Cause::Native { holds_gil: true });
    changed.looks[0].gil = None;
    assert_eq!(cause(&changed), Cause::Unknown);
}

#[test]
fn a_thread_that_was_not_read_runs_c_only_if_it_never_had_the_gil() {
    let other = GilHolder::Other(HOLDER);
    let mut evidence = busy(Motion::Unknown, other);
    assert_eq!(cause(&evidence), Cause::Native { holds_gil: false });
    evidence.looks[0].gil = Some(GilHolder::This);
    assert_eq!(cause(&evidence), Cause::Unknown);
    evidence.looks[0] = Seen {
        gil: Some(other),
        ..asleep(Wait::Gil)
    };
    assert_eq!(cause(&evidence), Cause::Unknown);
    assert_eq!(
        cause(&busy(Motion::Unknown, GilHolder::This)),
        Cause::Unknown
    );
}

#[test]
fn a_collection_is_seen_at_both_looks_by_a_thread_that_has_the_gil() {
    let collecting = |first, second, motion, gil| {
        let mut evidence = busy(motion, gil);
        evidence.looks[0].collects = first;
        evidence.looks[1].collects = second;
        cause(&evidence)
    };
    let (yes, no) = (Some(true), Some(false));
    let native = Cause::Native { holds_gil: true };
    let this = GilHolder::This;
    assert_eq!(collecting(yes, yes, Motion::Still, this), Cause::Collection);
    assert_eq!(collecting(no, yes, Motion::Still, this), native);
    assert_eq!(collecting(yes, no, Motion::Still, this), native);
    assert_eq!(collecting(None, yes, Motion::Still, this), native);
    // A finalizer runs, or another thread collects.
    assert_eq!(collecting(yes, yes, Motion::Moving, this), Cause::Python);
    let without = Cause::Native { holds_gil: false };
    let other = GilHolder::Other(HOLDER);
    assert_eq!(collecting(yes, yes, Motion::Still, other), without);
}

#[test]
fn what_a_sleeping_thread_waits_for_is_its_cause() {
    let name = || Some(Arc::from("10.0.0.5:5432"));
    for (wait, expected) in [
        (Wait::Time, Cause::Sleep),
        (Wait::Socket(name()), Cause::Socket { peer: name() }),
        (Wait::File(name()), Cause::File { path: name() }),
        (Wait::Descriptor(name()), Cause::Descriptor { name: name() }),
        (Wait::Lock, Cause::Lock),
        (Wait::Child(Some(7)), Cause::Child { pid: Some(7) }),
        (Wait::Page, Cause::Memory),
        (Wait::Unknown, Cause::Unknown),
    ] {
        for state in [ThreadState::Asleep, ThreadState::AsleepForDevice] {
            let evidence = twice(seen(state, wait.clone()), 0);
            assert_eq!(cause(&evidence), expected);
            // A thread that sleeps is not kept from running, however late we are.
            let late = Evidence {
                late: ms(500),
                ..evidence
            };
            assert_eq!(cause(&late), expected);
        }
    }
}

#[test]
fn a_wait_is_told_as_long_as_it_takes_the_most_time() {
    let of = |ran_ms| {
        cause(&Evidence {
            motion: Motion::Moving,
            ..twice(asleep(Wait::Time), ran_ms)
        })
    };
    assert_eq!(of(50), Cause::Sleep);
    assert_eq!(of(51), Cause::Python);
    assert_eq!(of(200), Cause::Python);
}

#[test]
fn the_later_wait_is_told_unless_it_says_nothing() {
    let looks = |first, second| {
        cause(&Evidence {
            looks: [first, second],
            ..twice(ready(), 10)
        })
    };
    assert_eq!(looks(asleep(Wait::Lock), asleep(Wait::Time)), Cause::Sleep);
    assert_eq!(looks(asleep(Wait::Lock), ready()), Cause::Lock);
    assert_eq!(looks(ready(), asleep(Wait::Lock)), Cause::Lock);
    let unknown = asleep(Wait::Unknown);
    assert_eq!(looks(asleep(Wait::Lock), unknown.clone()), Cause::Lock);
    assert_eq!(looks(ready(), unknown), Cause::Unknown);
}

#[test]
fn a_thread_that_waits_for_the_gil_is_held_up_by_the_one_that_has_it() {
    let waits = |first, second| {
        let mut evidence = twice(asleep(Wait::Gil), 1);
        evidence.looks[0].gil = first;
        evidence.looks[1].gil = second;
        cause(&evidence)
    };
    let by = |native_id| Cause::OtherThread { native_id };
    let holder = Some(GilHolder::Other(HOLDER));
    let former = Some(GilHolder::Free(Some(FORMER)));
    assert_eq!(waits(former, holder), by(HOLDER));
    assert_eq!(waits(holder, former), by(FORMER));
    assert_eq!(waits(holder, None), by(HOLDER));
    assert_eq!(waits(holder, Some(GilHolder::This)), by(HOLDER));
    assert_eq!(waits(None, Some(GilHolder::Free(None))), Cause::Unknown);
    assert_eq!(waits(Some(GilHolder::This), None), Cause::Unknown);
}

#[test]
fn a_thread_that_was_ready_and_hardly_ran_is_starved() {
    let of = |ran_ms| cause(&twice(ready(), ran_ms));
    assert_eq!(of(0), Cause::Starved);
    // Half of the time is enough to blame no code.
    assert_eq!(of(50), Cause::Starved);
    assert_eq!(of(51), Cause::Unknown);
    let uncounted = Evidence {
        delayed: None,
        sleeps: None,
        ..twice(ready(), 10)
    };
    assert_eq!(cause(&uncounted), Cause::Starved);
}

#[test]
fn a_delay_that_the_kernel_counted_is_starvation_whatever_was_seen() {
    let of = |ran_ms, delayed_ms| {
        cause(&Evidence {
            delayed: Some(ms(delayed_ms)),
            motion: Motion::Moving,
            sleeps: Some(3),
            looks: [ready(), asleep(Wait::Time)],
            ..twice(ready(), ran_ms)
        })
    };
    assert_eq!(of(30, 70), Cause::Starved);
    assert_eq!(of(40, 40), Cause::Starved);
    assert_eq!(of(41, 40), Cause::Python);
    assert_eq!(of(20, 40), Cause::Starved);
    assert_eq!(of(20, 39), Cause::Sleep);
    // More than there was cannot be.
    assert_eq!(of(60, 900), Cause::Python);
}

#[test]
fn time_of_which_nothing_is_known_is_starvation_if_we_are_late_ourselves() {
    let of = |late_ms| {
        cause(&Evidence {
            late: ms(late_ms),
            sleeps: Some(2),
            looks: [ready(), asleep(Wait::Time)],
            ..twice(ready(), 10)
        })
    };
    assert_eq!(of(49), Cause::Sleep);
    assert_eq!(of(50), Cause::Starved);
}

#[test]
fn a_thread_that_waits_for_pages_between_looks_waits_for_memory() {
    let of = |looks, major_faults| {
        cause(&Evidence {
            looks,
            major_faults,
            sleeps: Some(9),
            ..twice(ready(), 10)
        })
    };
    assert_eq!(of([ready(), ready()], 1), Cause::Memory);
    assert_eq!(of([ready(), ready()], 0), Cause::Unknown);
    let device = || seen(ThreadState::AsleepForDevice, Wait::Unknown);
    assert_eq!(of([device(), device()], 1), Cause::Memory);
    assert_eq!(of([device(), device()], 0), Cause::Unknown);
    let file = || seen(ThreadState::AsleepForDevice, Wait::File(None));
    assert_eq!(of([file(), file()], 9), Cause::File { path: None });
}

#[test]
fn a_thread_that_is_stopped_now_is_told_so() {
    let stopped = || seen(ThreadState::Stopped, Wait::Unknown);
    assert_eq!(cause(&twice(stopped(), 0)), Cause::Stopped);
    let looks = |first, second| {
        cause(&Evidence {
            looks: [first, second],
            ..twice(ready(), 100)
        })
    };
    assert_eq!(looks(ready(), stopped()), Cause::Stopped);
    assert_eq!(looks(stopped(), ready()), Cause::Unknown);
}

#[test]
fn without_a_clock_or_time_between_the_looks_only_waits_are_told() {
    for evidence in [twice(ready(), 100), twice(asleep(Wait::Lock), 0)] {
        let is_asleep = evidence.looks[0].state == ThreadState::Asleep;
        let expected = if is_asleep {
            Cause::Lock
        } else {
            Cause::Unknown
        };
        let no_clock = Evidence {
            ran: None,
            major_faults: 1,
            motion: Motion::Moving,
            ..evidence.clone()
        };
        assert_eq!(cause(&no_clock), expected);
        let no_time = Evidence {
            interval: ms(0),
            major_faults: 1,
            ..evidence
        };
        assert_eq!(cause(&no_time), expected);
    }
}

/// One of the choices.
fn pick<T: Clone>(random: &mut impl FnMut() -> u64, choices: &[T]) -> T {
    let index = usize::try_from(random() % choices.len() as u64).expect("small");
    choices[index].clone()
}

fn any_look(random: &mut impl FnMut() -> u64) -> Seen {
    let states = [
        ThreadState::Ready,
        ThreadState::Asleep,
        ThreadState::AsleepForDevice,
        ThreadState::Stopped,
        ThreadState::Unknown,
    ];
    let waits = [
        Wait::Time,
        Wait::Socket(None),
        Wait::Lock,
        Wait::Gil,
        Wait::Page,
        Wait::Unknown,
    ];
    let holders = [
        None,
        Some(GilHolder::This),
        Some(GilHolder::Other(HOLDER)),
        Some(GilHolder::Free(None)),
        Some(GilHolder::Free(Some(FORMER))),
    ];
    Seen {
        state: pick(random, &states),
        wait: pick(random, &waits),
        gil: pick(random, &holders),
        collects: pick(random, &[None, Some(false), Some(true)]),
    }
}

fn any_evidence(random: &mut impl FnMut() -> u64) -> Evidence {
    let times = [0, 1, 33, 34, 49, 50, 51, 66, 99, 100, 150].map(ms);
    let known = times.map(Some);
    let unknown: Vec<_> = known.into_iter().chain([None]).collect();
    Evidence {
        interval: pick(random, &[ms(100), ms(100), ms(100), ms(0)]),
        ran: pick(random, &unknown),
        delayed: pick(random, &unknown),
        sleeps: pick(random, &[None, Some(0), Some(1)]),
        major_faults: random() % 2,
        late: pick(random, &times),
        looks: [any_look(random), any_look(random)],
        motion: pick(random, &[Motion::Moving, Motion::Still, Motion::Unknown]),
    }
}

#[test]
fn no_evidence_blames_code_that_did_not_run_or_a_wait_that_was_not_seen() {
    let mut state = 20_261_127_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut found = std::collections::HashSet::new();
    for _ in 0..ROUNDS {
        let evidence = any_evidence(&mut random);
        let cause = cause(&evidence);
        let ran = evidence.ran.unwrap_or_default().min(evidence.interval);
        let delayed = evidence.delayed.unwrap_or_default();
        let seen = |wait: &Wait| {
            let mut looks = evidence.looks.iter();
            looks.any(|seen| is_asleep(seen) && seen.wait == *wait)
        };
        match &cause {
            Cause::Python | Cause::Native { .. } | Cause::Collection => {
                assert!(ran * 3 > evidence.interval, "{evidence:?}");
                assert!(ran > delayed.min(evidence.interval - ran), "{evidence:?}");
                let is_python = cause == Cause::Python;
                assert_eq!(is_python, evidence.motion == Motion::Moving, "{evidence:?}");
            }
            Cause::Starved => assert!(ran * 2 <= evidence.interval, "{evidence:?}"),
            Cause::Sleep => assert!(seen(&Wait::Time), "{evidence:?}"),
            Cause::Lock => assert!(seen(&Wait::Lock), "{evidence:?}"),
            Cause::Socket { .. } => assert!(seen(&Wait::Socket(None)), "{evidence:?}"),
            Cause::OtherThread { native_id } => {
                assert!(seen(&Wait::Gil), "{evidence:?}");
                assert!([HOLDER, FORMER].contains(native_id), "{evidence:?}");
            }
            Cause::Memory => {
                assert!(
                    seen(&Wait::Page) || evidence.major_faults > 0,
                    "{evidence:?}"
                );
            }
            _ => {}
        }
        found.insert(core::mem::discriminant(&cause));
    }
    // All but files, descriptors, children and callbacks, which are not among the waits.
    assert_eq!(found.len(), 11);
}

#[test]
fn a_slice_that_nothing_looked_at_is_the_systems_fault_if_that_made_it_too_long() {
    let ms = Duration::from_millis;
    let afterwards = |lasted, delayed| cause_afterwards(ms(lasted), ms(delayed), ms(50));
    assert_eq!(afterwards(51, 0), Cause::Unknown);
    assert_eq!(afterwards(51, 1), Cause::Unknown);
    assert_eq!(afterwards(51, 2), Cause::Starved);
    assert_eq!(afterwards(80, 30), Cause::Unknown);
    assert_eq!(afterwards(80, 31), Cause::Starved);
    assert_eq!(afterwards(200, 99), Cause::Unknown);
    assert_eq!(afterwards(200, 100), Cause::Starved);
    assert_eq!(afterwards(60, 90), Cause::Starved);
}

#[test]
fn a_delay_that_is_not_over_is_known_of_a_thread_that_never_slept() {
    let counted = |sleeps| Evidence {
        delayed: Some(ms(30)),
        sleeps: Some(sleeps),
        ..twice(ready(), 2)
    };
    let interval = counted(0).interval;
    assert_eq!(delay(&counted(0)), interval - ms(2));
    assert_eq!(delay(&counted(1)), ms(30));
    let unknown = Evidence {
        ran: None,
        ..counted(0)
    };
    assert_eq!(delay(&unknown), ms(30));
}

#[test]
fn a_thread_that_ran_for_too_long_is_to_blame_however_much_it_was_kept_from_it() {
    let starved = Evidence {
        delayed: Some(ms(80)),
        motion: Motion::Moving,
        ..twice(ready(), 20)
    };
    assert_eq!(cause(&starved), Cause::Starved);
    assert_eq!(cause_beside_delays(&starved), Cause::Python);
    let asleep = Evidence {
        delayed: Some(ms(60)),
        sleeps: Some(1),
        ..twice(asleep(Wait::Time), 10)
    };
    assert_eq!(cause_beside_delays(&asleep), Cause::Sleep);
}
