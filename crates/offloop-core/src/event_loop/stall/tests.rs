//! Stalls by hand, and random histories of a loop beside a watchdog that is never quite on time.

use core::time::Duration;
use std::collections::HashMap;

use super::super::super::random::random_below;
use super::*;

const THRESHOLD: Duration = Duration::from_millis(50);

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn slice(number: u64, began_ms: u64) -> Slice {
    Slice {
        number,
        began: at(began_ms),
    }
}

fn in_callback(round: Slice, callback: Slice) -> Option<Activity> {
    Some(Activity {
        round,
        callback: Some(callback),
    })
}

fn policy() -> StallPolicy {
    StallPolicy::new(StallLimits::default())
}

#[test]
fn a_callback_is_reported_at_once_and_each_time_its_duration_doubles() {
    let mut policy = policy();
    let activity = in_callback(slice(1, 0), slice(1, 10));
    let mut said = Vec::new();
    let mut now = at(10);
    while now <= at(500) {
        let (report, next) = policy.look(now, activity);
        said.extend(report.map(|report| (report.lasted, report.moment)));
        let NextLook::At(next) = next else {
            panic!("parked while the loop is busy");
        };
        assert!(next > now);
        now = next;
    }
    let late_by = Duration::ZERO;
    let expected = [
        (ms(50), Moment::Found { late_by }),
        (ms(100), Moment::GoesOn { doubled: 1 }),
        (ms(200), Moment::GoesOn { doubled: 2 }),
        (ms(400), Moment::GoesOn { doubled: 3 }),
    ];
    assert_eq!(said, expected);
    let over = policy.ended(at(520), (Stalled::Callback, 1), ms(510), 1);
    let over = over.expect("it was a stall");
    assert_eq!(
        (over.lasted, over.moment),
        (ms(510), Moment::Over { was_found: true })
    );
    assert_eq!(policy.ended(at(530), (Stalled::Round, 1), ms(530), 1), None);
}

#[test]
fn a_stall_that_was_over_before_the_watchdog_looked_is_reported_once() {
    let mut policy = policy();
    let over = policy.ended(at(90), (Stalled::Callback, 4), ms(60), 2);
    assert_eq!(
        over.map(|over| over.moment),
        Some(Moment::Over { was_found: false })
    );
    assert_eq!(policy.ended(at(90), (Stalled::Round, 2), ms(70), 2), None);
    assert_eq!(
        policy.ended(at(99), (Stalled::Callback, 5), ms(49), 3),
        None
    );
}

#[test]
fn many_short_callbacks_are_a_round_that_stalls() {
    let mut policy = policy();
    let activity = |callback| in_callback(slice(7, 0), callback);
    assert_eq!(
        policy.look(at(0), activity(slice(1, 0))).1,
        NextLook::At(at(50))
    );
    let (report, _) = policy.look(at(50), activity(slice(5, 45)));
    let report = report.expect("a round that lasts");
    assert_eq!((report.stalled, report.number), (Stalled::Round, 7));
    let over = policy.ended(at(80), (Stalled::Round, 7), ms(80), 7);
    assert_eq!(over.map(|over| over.lasted), Some(ms(80)));
}

#[test]
fn an_idle_loop_parks_the_watchdog() {
    let mut policy = policy();
    assert_eq!(policy.look(at(5), None), (None, NextLook::Parked));
    // It was parked for long: that is no sign of a host that does not schedule.
    let (report, _) = policy.look(at(90_000), in_callback(slice(1, 89_900), slice(1, 89_900)));
    let late_by = Duration::ZERO;
    assert_eq!(
        report.map(|report| report.moment),
        Some(Moment::Found { late_by })
    );
}

#[test]
fn a_watchdog_that_is_late_says_so() {
    let mut policy = policy();
    let activity = in_callback(slice(1, 0), slice(1, 0));
    assert_eq!(policy.look(at(0), activity).1, NextLook::At(at(50)));
    let (report, next) = policy.look(at(230), activity);
    let late_by = ms(180);
    assert_eq!(
        report.map(|report| report.moment),
        Some(Moment::Found { late_by })
    );
    assert_eq!(next, NextLook::At(at(280)));
}

#[test]
fn too_many_stalls_are_counted_and_the_count_is_told() {
    let mut policy = StallPolicy::new(StallLimits {
        stalls_max: 2,
        ..StallLimits::default()
    });
    let mut end = |now, number| policy.ended(at(now), (Stalled::Callback, number), ms(60), number);
    assert!(end(100, 1).is_some() && end(200, 2).is_some());
    for (time, number) in [(300, 3), (400, 4)] {
        let report = end(time, number).expect("it is recorded");
        assert_eq!((report.is_told, report.suppressed), (false, 0));
    }
    let after = end(60_201, 5).expect("the period is over");
    assert_eq!(after.suppressed, 2);
    assert_eq!(end(60_500, 6).map(|report| report.suppressed), Some(0));
}

#[test]
fn what_is_news_is_told_beyond_the_limit_as_often_again() {
    let mut policy = StallPolicy::new(StallLimits {
        stalls_max: 1,
        ..StallLimits::default()
    });
    for number in [1, 2] {
        let ended = policy.ended(at(100), (Stalled::Callback, number), ms(60), number);
        assert_eq!(ended.map(|report| report.is_told), Some(number == 1));
    }
    let activity = in_callback(slice(3, 200), slice(3, 200));
    let report = policy.look(at(250), activity).0.expect("it is found");
    assert!(!report.is_told);
    // What kept it went on, and another line keeps it now.
    let mut report = policy.look(at(300), activity).0.expect("it goes on");
    assert_eq!(
        (report.is_told, report.moment),
        (false, Moment::GoesOn { doubled: 1 })
    );
    assert!(policy.let_through(at(301), &mut report));
    assert_eq!((report.is_told, report.suppressed), (true, 1));
    let over = policy.ended(at(500), (Stalled::Callback, 3), ms(300), 3);
    assert!(over.expect("it is over").is_told);
    let mut another = policy
        .ended(at(600), (Stalled::Callback, 4), ms(60), 4)
        .expect("it is recorded");
    assert!(!policy.let_through(at(600), &mut another) && !another.is_told);
    assert!(policy.let_through(at(60_302), &mut another));
}

#[test]
fn a_lower_threshold_counts_for_what_is_under_way() {
    let mut policy = policy();
    let activity = in_callback(slice(1, 0), slice(1, 0));
    assert_eq!(policy.look(at(20), activity).0, None);
    policy.set_limits(StallLimits {
        threshold: ms(10),
        ..StallLimits::default()
    });
    assert!(policy.look(at(20), activity).0.is_some());
}

/// A loop's history: rounds of callbacks, with waits in between. Times are in microseconds.
struct History {
    rounds: Vec<Round>,
}

struct Round {
    number: u64,
    began: u64,
    callbacks: Vec<Callback>,
    ended: u64,
}

struct Callback {
    number: u64,
    began: u64,
    ended: u64,
}

impl History {
    fn random(random: &mut impl FnMut(u64) -> u64) -> Self {
        let (mut now, mut number) = (random(100_000), 0);
        let rounds = (1..=30).map(|round| {
            let began = now;
            let callbacks = (0..1 + random(6)).map(|_| {
                number += 1;
                let began = now;
                now += match random(10) {
                    0 => random(600_000),
                    1..=3 => random(40_000),
                    _ => random(100),
                };
                Callback {
                    number,
                    began,
                    ended: now,
                }
            });
            let callbacks: Vec<_> = callbacks.collect();
            let ended = now;
            now += random(2) * random(80_000);
            Round {
                number: round,
                began,
                callbacks,
                ended,
            }
        });
        Self {
            rounds: rounds.collect(),
        }
    }

    fn activity(&self, us: u64) -> Option<Activity> {
        let round = self
            .rounds
            .iter()
            .find(|round| round.began <= us && us < round.ended)?;
        let callback = round
            .callbacks
            .iter()
            .find(|callback| callback.began <= us && us < callback.ended);
        let slice = |number, began_us| Slice {
            number,
            began: Instant::from_nanos(began_us * 1_000),
        };
        Some(Activity {
            round: slice(round.number, round.began),
            callback: callback.map(|callback| slice(callback.number, callback.began)),
        })
    }

    /// What has ended, in order: (when, what, how long, round).
    fn ends(&self) -> Vec<(u64, (Stalled, u64), u64, u64)> {
        let mut ends = Vec::new();
        for round in &self.rounds {
            for callback in &round.callbacks {
                let lasted = callback.ended - callback.began;
                let what = (Stalled::Callback, callback.number);
                ends.push((callback.ended, what, lasted, round.number));
            }
            let lasted = round.ended - round.began;
            ends.push((
                round.ended,
                (Stalled::Round, round.number),
                lasted,
                round.number,
            ));
        }
        ends
    }

    /// When the loop does something again.
    fn busy_after(&self, us: u64) -> Option<u64> {
        let mut begins = self.rounds.iter().map(|round| round.began);
        begins.find(|&begin| begin > us)
    }
}

/// Runs a watchdog beside a history; all that it reports, with the time in microseconds.
fn watch(
    history: &History,
    policy: &mut StallPolicy,
    mut late: impl FnMut() -> u64,
) -> Vec<(u64, StallReport)> {
    let mut reports = Vec::new();
    let mut ends = history.ends().into_iter().peekable();
    let mut now = 0;
    loop {
        while let Some((when, what, lasted, round)) = ends.next_if(|end| end.0 <= now) {
            let lasted = Duration::from_micros(lasted);
            let time = Instant::from_nanos(now * 1_000);
            let report = policy.ended(time, what, lasted, round);
            reports.extend(report.map(|report| (when, report)));
        }
        let time = Instant::from_nanos(now * 1_000);
        let (report, next) = policy.look(time, history.activity(now));
        reports.extend(report.map(|report| (now, report)));
        let next = match next {
            NextLook::At(next) => next.as_nanos() / 1_000 + late(),
            NextLook::Parked => match history.busy_after(now) {
                Some(begin) => begin + late(),
                None if ends.peek().is_none() => return reports,
                None => now + 1,
            },
        };
        assert!(next > now || late() > 0, "the watchdog spins");
        now = next.max(now + 1);
    }
}

#[test]
fn every_stall_is_reported_from_its_beginning_to_its_exact_end() {
    let mut stalls = 0;
    for seed in 1..=1_000 {
        let mut random = random_below(seed);
        let history = History::random(&mut random);
        let jitter = [1, 3_000][(seed % 2) as usize];
        let mut policy = StallPolicy::new(StallLimits {
            stalls_max: usize::MAX,
            ..StallLimits::default()
        });
        let reports = watch(&history, &mut policy, || random(jitter));
        let mut by_slice: HashMap<_, Vec<_>> = HashMap::new();
        for (when, report) in reports {
            let slice = (report.stalled, report.number);
            by_slice.entry(slice).or_default().push((when, report));
        }
        for (ended, what, lasted, _) in history.ends() {
            let said = by_slice.remove(&what).unwrap_or_default();
            if Duration::from_micros(lasted) < THRESHOLD {
                assert!(
                    said.is_empty(),
                    "seed {seed}: {what:?} lasted {lasted} us: {said:?}"
                );
                continue;
            }
            if what.0 == Stalled::Round && said.is_empty() {
                // A callback of it is the stall.
                continue;
            }
            stalls += 1;
            let (last, before) = said.split_last().expect("a stall is reported");
            assert_eq!(last.1.lasted, Duration::from_micros(lasted), "seed {seed}");
            let was_found = !before.is_empty();
            assert_eq!(last.1.moment, Moment::Over { was_found }, "seed {seed}");
            // A round may wait for the callback that takes most of it.
            let most = if what.0 == Stalled::Round {
                100_000
            } else {
                50_000
            } + jitter;
            let Some(first) = before.first() else {
                assert!(lasted < most, "seed {seed}: {what:?} was found too late");
                continue;
            };
            assert!(
                matches!(first.1.moment, Moment::Found { .. }),
                "seed {seed}"
            );
            assert!(first.1.lasted < Duration::from_micros(most), "seed {seed}");
            assert!(first.0 < ended);
            let times = before.iter().map(|said| said.1.lasted.as_millis() / 50);
            let doubled = times.map(|times| times.ilog2()).collect::<Vec<_>>();
            assert!(
                doubled.windows(2).all(|pair| pair[0] + 1 == pair[1]),
                "seed {seed}: {before:?}"
            );
        }
        assert!(by_slice.is_empty(), "seed {seed}: {by_slice:?}");
    }
    assert!(stalls > 1_000, "{stalls}");
}

#[test]
fn a_round_is_excused_only_by_a_callback_that_stalls() {
    for seed in 1..=500 {
        let mut random = random_below(seed);
        let history = History::random(&mut random);
        let mut policy = StallPolicy::new(StallLimits {
            stalls_max: usize::MAX,
            ..StallLimits::default()
        });
        let reports = watch(&history, &mut policy, || random(500));
        let reported = |what: (Stalled, u64)| {
            let mut all = reports.iter();
            all.any(|(_, report)| (report.stalled, report.number) == what)
        };
        for round in &history.rounds {
            let callbacks = &round.callbacks;
            let longest = callbacks
                .iter()
                .map(|callback| callback.ended - callback.began)
                .max();
            if round.ended - round.began >= 50_000 && longest < Some(50_000) {
                assert!(
                    reported((Stalled::Round, round.number)),
                    "seed {seed}, round {}",
                    round.number
                );
            }
        }
    }
}
