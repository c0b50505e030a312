//! One history at a time by hand, and thousands at random: threads take turns at a loop, with
//! callbacks that block, nested runs and relief, and no callback is lost or run twice.

use std::collections::VecDeque;

use super::super::super::random::random_below;
use super::{Lost, NotRelieved, RunNumber, Runs, Turn};

type Threads = Runs<usize, &'static str>;

#[test]
fn a_round_ends_after_what_was_ready() {
    let mut runs = Threads::default();
    let run = runs.begin(1, "main").expect("no other thread has the loop");
    assert!(runs.begin_round(run, 2));
    let turns = [(); 3].map(|()| runs.next(run));
    assert_eq!(turns, [Turn::Callback, Turn::Callback, Turn::RoundOver]);
    assert_eq!(runs.end(run), Some(("main", None)));
    assert_eq!(runs.end(run), None);
}

#[test]
fn a_nested_run_leaves_the_outer_round_as_it_was() {
    let mut runs = Threads::default();
    let outer = runs
        .begin(1, "outer")
        .expect("no other thread has the loop");
    assert!(runs.begin_round(outer, 3));
    assert_eq!(runs.next(outer), Turn::Callback);
    let inner = runs
        .begin(1, "inner")
        .expect("no other thread has the loop");
    assert!(runs.begin_round(inner, 1));
    assert_eq!(runs.next(outer), Turn::Lost);
    assert_eq!(runs.next(inner), Turn::Callback);
    assert_eq!(runs.next(inner), Turn::RoundOver);
    assert_eq!(runs.end(inner), Some(("inner", None)));
    let turns = [(); 3].map(|()| runs.next(outer));
    assert_eq!(turns, [Turn::Callback, Turn::Callback, Turn::RoundOver]);
}

#[test]
fn an_outer_run_that_goes_on_first_has_the_loop_and_gives_it_back() {
    let mut runs = Threads::default();
    let outer = runs
        .begin(1, "outer")
        .expect("no other thread has the loop");
    assert!(runs.begin_round(outer, 1));
    assert_eq!(runs.next(outer), Turn::Callback);
    let inner = runs
        .begin(1, "inner")
        .expect("no other thread has the loop");
    // A program that switches stacks leaves the inner run where it is.
    assert_eq!(runs.next(outer), Turn::Lost);
    assert_eq!(runs.lost(outer), Lost::GoOn);
    assert!(runs.begin_round(outer, 1));
    assert_eq!(runs.next(outer), Turn::Callback);
    assert_eq!(runs.lost(inner), Lost::GoOn);
    assert_eq!(runs.end(outer), Some(("outer", None)));
    assert!(runs.has(inner));
    assert_eq!(runs.end(inner), Some(("inner", None)));
}

#[test]
fn the_loop_comes_back_at_the_next_boundary_in_the_same_round() {
    let mut runs = Threads::default();
    let home = runs.begin(1, "home").expect("no other thread has the loop");
    assert!(runs.begin_round(home, 3));
    assert_eq!(runs.next(home), Turn::Callback);
    let relief = runs
        .take_over(2, "relief")
        .expect("a callback is under way");
    assert_eq!(runs.next(relief), Turn::Callback);
    // The callback of the first thread returns.
    assert_eq!(runs.next(home), Turn::Lost);
    assert_eq!(runs.lost(home), Lost::Wait(Some(2)));
    assert!(!runs.has(home));
    assert_eq!(runs.next(relief), Turn::Lost);
    assert_eq!(runs.lost(relief), Lost::End(Some(1)));
    assert_eq!(runs.end(relief), Some(("relief", None)));
    assert!(runs.has(home));
    assert_eq!(runs.next(home), Turn::Callback);
    assert_eq!(runs.next(home), Turn::RoundOver);
}

#[test]
fn no_thread_takes_over_a_loop_that_runs_no_callback() {
    let mut runs = Threads::default();
    assert_eq!(runs.take_over(2, "relief"), Err(NotRelieved::NoCallback));
    let home = runs.begin(1, "home").expect("no other thread has the loop");
    assert_eq!(runs.take_over(2, "relief"), Err(NotRelieved::NoCallback));
    assert!(runs.begin_round(home, 1));
    assert_eq!(runs.next(home), Turn::Callback);
    assert_eq!(runs.next(home), Turn::RoundOver);
    assert_eq!(runs.take_over(2, "relief"), Err(NotRelieved::NoCallback));
}

#[test]
fn a_relief_run_that_ends_leaves_the_loop_to_the_run_it_relieved() {
    let mut runs = Threads::default();
    let home = runs.begin(1, "home").expect("no other thread has the loop");
    assert!(runs.begin_round(home, 1));
    assert_eq!(runs.next(home), Turn::Callback);
    let relief = runs
        .take_over(2, "relief")
        .expect("a callback is under way");
    assert_eq!(runs.kept().copied().collect::<Vec<_>>(), ["home", "relief"]);
    assert_eq!(runs.end(relief), Some(("relief", None)));
    assert_eq!(runs.next(home), Turn::Lost);
    assert_eq!(runs.lost(home), Lost::GoOn);
    assert!(runs.has(home));
}

#[test]
fn a_run_that_waits_is_preferred_to_another_relief_thread() {
    let mut runs = Threads::default();
    let home = runs.begin(1, "home").expect("no other thread has the loop");
    assert!(runs.begin_round(home, 5));
    assert_eq!(runs.next(home), Turn::Callback);
    let relief = runs
        .take_over(2, "relief")
        .expect("a callback is under way");
    assert_eq!(runs.next(relief), Turn::Callback);
    assert_eq!(runs.lost(home), Lost::Wait(Some(2)));
    assert_eq!(runs.take_over(3, "another"), Err(NotRelieved::Given(1)));
    assert!(runs.has(home));
    assert_eq!(runs.lost(relief), Lost::End(None));
}

/// What a thread does of which the runs are simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Between two callbacks of its newest run.
    Between,
    /// In a callback of its newest run.
    Callback(usize),
    Waits,
}

struct Thread {
    /// Its runs, from the outermost to the newest; with the callback inside which each began.
    runs: Vec<(RunNumber, Option<usize>)>,
    doing: Doing,
    /// Rounds until its newest run ends by itself: never, if that is a relief run.
    rounds: u64,
}

struct Simulation<R> {
    runs: Runs<usize, usize>,
    threads: Vec<Thread>,
    ready: VecDeque<usize>,
    scheduled: usize,
    began: Vec<usize>,
    ended: Vec<usize>,
    random: R,
}

impl<R: FnMut(u64) -> u64> Simulation<R> {
    fn new(random: R) -> Self {
        let idle = |_| Thread {
            runs: Vec::new(),
            doing: Doing::Waits,
            rounds: 0,
        };
        Self {
            runs: Runs::default(),
            threads: (0..4).map(idle).collect(),
            ready: VecDeque::new(),
            scheduled: 0,
            began: Vec::new(),
            ended: Vec::new(),
            random,
        }
    }

    fn schedule(&mut self, most: u64) {
        for _ in 0..(self.random)(most + 1) {
            self.ready.push_back(self.scheduled);
            self.scheduled += 1;
        }
    }

    /// A run begins on a thread, perhaps inside a callback.
    fn begin(&mut self, at: usize) {
        let inside = match self.threads[at].doing {
            Doing::Callback(callback) => Some(callback),
            Doing::Between | Doing::Waits => None,
        };
        let rounds = 1 + (self.random)(3);
        let Ok(number) = self.runs.begin(at, at) else {
            // Another thread has the loop, and no callback is under way.
            assert_eq!(inside, None);
            return;
        };
        let relieves = at > 0 && inside.is_none();
        let rounds = if relieves { u64::MAX } else { rounds };
        let thread = &mut self.threads[at];
        thread.runs.push((number, inside));
        thread.rounds = rounds;
        self.lose_or_go_on(at);
    }

    /// Another thread takes the loop over, if one is idle and the loop lets it.
    fn relieve(&mut self) {
        let idle = self
            .threads
            .iter()
            .skip(1)
            .position(|thread| thread.runs.is_empty());
        let Some(idle) = idle.map(|at| at + 1) else {
            return;
        };
        match self.runs.take_over(idle, idle) {
            Ok(number) => {
                let thread = &mut self.threads[idle];
                thread.runs.push((number, None));
                thread.doing = Doing::Between;
                thread.rounds = u64::MAX;
            }
            Err(NotRelieved::Given(other)) => {
                assert_eq!(self.threads[other].doing, Doing::Waits);
            }
            Err(NotRelieved::NoCallback) => {}
        }
    }

    /// Between two callbacks: asks whose turn it is.
    fn go_on(&mut self, at: usize) {
        let (number, _) = *self.threads[at].runs.last().expect("a run");
        match self.runs.next(number) {
            Turn::Callback => {
                self.check_age(at);
                let Some(callback) = self.ready.pop_front() else {
                    assert_eq!(self.runs.end_round(number), Turn::RoundOver);
                    return;
                };
                self.began.push(callback);
                self.threads[at].doing = Doing::Callback(callback);
            }
            Turn::RoundOver => {
                let thread = &mut self.threads[at];
                thread.rounds -= 1;
                if thread.rounds == 0 {
                    self.end(at);
                } else {
                    assert!(self.runs.begin_round(number, self.ready.len()));
                }
            }
            Turn::Lost => self.lose_or_go_on(at),
        }
    }

    fn lose_or_go_on(&mut self, at: usize) {
        let (number, _) = *self.threads[at].runs.last().expect("a run");
        self.threads[at].doing = Doing::Waits;
        match self.runs.lost(number) {
            Lost::GoOn => self.threads[at].doing = Doing::Between,
            Lost::Wait(_) => assert!(!self.runs.has(number)),
            Lost::End(_) => self.end(at),
        }
    }

    /// No thread that came to the loop earlier wants it; and for a relief run, none at all.
    fn check_age(&self, at: usize) {
        let relieves = at > 0 && self.threads[at].runs.len() == 1;
        let first = self.threads[at].runs[0];
        let waits = self
            .threads
            .iter()
            .filter(|thread| thread.doing == Doing::Waits);
        let mut waits = waits.filter_map(|thread| thread.runs.first());
        let preferred = waits.find(|&&run| relieves || run < first);
        assert_eq!(preferred, None, "{at} has not handed the loop over");
    }

    fn end(&mut self, at: usize) {
        let (number, inside) = self.threads[at].runs.pop().expect("a run");
        let (kept, _) = self.runs.end(number).expect("it goes on");
        assert_eq!(kept, at);
        let thread = &mut self.threads[at];
        // The callback goes on in which the run began.
        thread.doing = inside.map_or(Doing::Waits, Doing::Callback);
        thread.rounds = if thread.runs.len() == 1 && at > 0 {
            u64::MAX
        } else {
            1
        };
    }

    fn step(&mut self, calm: bool) {
        let at = (self.random)(self.threads.len() as u64) as usize;
        if self.threads[at].runs.is_empty() {
            return;
        }
        match self.threads[at].doing {
            Doing::Between => self.go_on(at),
            Doing::Waits => self.lose_or_go_on(at),
            Doing::Callback(callback) => match (self.random)(if calm { 1 } else { 8 }) {
                0..=3 => {
                    self.ended.push(callback);
                    self.threads[at].doing = Doing::Between;
                }
                4 => self.schedule(3),
                5 if self.threads[at].runs.len() < 3 => self.begin(at),
                _ => self.relieve(),
            },
        }
        self.check();
    }

    /// Every callback returns from now on, and the first thread runs the loop while there are more.
    fn finish(&mut self) {
        for _ in 0..4_000 {
            if self.threads.iter().all(|thread| thread.runs.is_empty()) {
                if self.ready.is_empty() {
                    return;
                }
                self.begin(0);
            }
            self.step(true);
        }
        panic!("the loop stands still: {:?}", self.runs);
    }

    /// At most one thread may touch the loop, and does.
    fn check(&self) {
        let has = |thread: &&Thread| {
            let newest = thread.runs.last();
            newest.is_some_and(|&(number, _)| self.runs.has(number))
        };
        assert!(self.threads.iter().filter(has).count() <= 1);
        let in_order = self.began.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        assert!(
            in_order,
            "callbacks begin in another order: {:?}",
            self.began
        );
    }
}

/// How many callbacks and runs there were.
fn history(seed: u64) -> (usize, u64) {
    let mut simulation = Simulation::new(random_below(seed));
    simulation.schedule(20);
    simulation.begin(0);
    for _ in 0..400 {
        simulation.step(false);
    }
    simulation.finish();
    simulation.ended.sort_unstable();
    let all: Vec<_> = (0..simulation.scheduled).collect();
    assert_eq!(simulation.ended, all, "seed {seed}");
    assert_eq!(simulation.runs.kept().count(), 0);
    (simulation.scheduled, simulation.runs.last.0)
}

#[test]
fn threads_that_take_turns_lose_no_callback() {
    let (mut callbacks, mut runs) = (0, 0);
    for seed in 1..=2_000 {
        let (scheduled, begun) = history(seed);
        callbacks += scheduled;
        runs += begun;
    }
    // The histories are not trivial.
    assert!(callbacks > 20_000, "{callbacks}");
    assert!(runs > 10_000, "{runs}");
}
