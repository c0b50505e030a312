//! What one task costs in the pool: submission, assignment and completion.
//!
//! `cargo run --release --example hot_path` prints nanoseconds per task for several shapes of
//! load, and for the arena's ranges. The driver's work is left out; its actions are only counted.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant as Clock};

use offloop_core::{
    Action, Instant, LaneConfig, LaneId, PAGE_BYTES, Pool, PoolConfig, RangeAllocator, TaskId,
    TaskOptions, WorkerId,
};

const TASKS: u64 = 2_000_000;

struct Bench {
    pool: Pool<u64>,
    lane: LaneId,
    now: u64,
    held: VecDeque<(WorkerId, TaskId)>,
    finished: u64,
}

impl Bench {
    fn new(workers: u32) -> Self {
        let mut pool = Pool::new(PoolConfig::default());
        let lane = pool.open_lane(LaneConfig::new(workers));
        Self {
            pool,
            lane,
            now: 0,
            held: VecDeque::new(),
            finished: 0,
        }
    }

    fn now(&mut self) -> Instant {
        self.now += 50;
        Instant::from_nanos(self.now)
    }

    fn drain(&mut self) {
        while let Some(action) = self.pool.poll_action() {
            match action {
                Action::Spawn { worker } => {
                    let now = self.now();
                    self.pool.handle_worker_ready(now, worker);
                }
                Action::Assign { worker, task } => self.held.push_back((worker, task)),
                Action::Finish { payload, .. } => self.finished += black_box(payload) & 1,
                Action::Revoke { task, .. } => {
                    let now = self.now();
                    self.pool.handle_revoked(now, task, false);
                }
                _ => {}
            }
        }
    }

    fn submit(&mut self, options: TaskOptions, serial: u64) {
        let now = self.now();
        let task = self.pool.submit(now, self.lane, options, serial);
        black_box(task.expect("the lane has no limit"));
        self.drain();
    }

    fn complete_one(&mut self) -> bool {
        let Some((worker, task)) = self.held.pop_front() else {
            return false;
        };
        let now = self.now();
        self.pool
            .handle_completion(now, worker, task, Duration::from_micros(5), ());
        self.drain();
        true
    }
}

/// Submits `in_flight` tasks, completes them all, and so on.
fn measure(name: &str, workers: u32, in_flight: u64, with_deadline: bool) {
    let mut bench = Bench::new(workers);
    let mut best = f64::MAX;
    for _ in 0..5 {
        let begun = Clock::now();
        let mut serial = 0;
        while serial < TASKS / 5 {
            for _ in 0..in_flight {
                let deadline = Instant::from_nanos(bench.now + 30_000_000_000 + serial % 977);
                let deadline = with_deadline.then_some(deadline);
                bench.submit(
                    TaskOptions {
                        deadline,
                        ..TaskOptions::default()
                    },
                    serial,
                );
                serial += 1;
            }
            while bench.complete_one() {}
        }
        best = best.min(begun.elapsed().as_nanos() as f64 / serial as f64);
    }
    println!("{name:<52} {best:>7.1} ns");
}

/// Replaces random ranges of 1 to 32 pages while 5,000 are in use.
fn measure_ranges() {
    const LIVE: usize = 5_000;
    let mut ranges = RangeAllocator::new(1 << 40);
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound
    };
    let mut live: Vec<(u64, u64)> = Vec::with_capacity(LIVE);
    for _ in 0..LIVE {
        let len = (1 + next(32)) * PAGE_BYTES;
        live.push((ranges.alloc(len).expect("a terabyte suffices"), len));
    }
    let begun = Clock::now();
    for _ in 0..TASKS / 2 {
        let index = next(LIVE as u64) as usize;
        let (offset, len) = live[index];
        ranges.free(offset, len).expect("it is in use");
        let len = (1 + next(32)) * PAGE_BYTES;
        live[index] = (ranges.alloc(len).expect("a terabyte suffices"), len);
    }
    let nanos = begun.elapsed().as_nanos() as f64 / TASKS as f64;
    println!(
        "{:<52} {nanos:>7.1} ns",
        "arena ranges, alloc or free, 5,000 in use"
    );
}

fn main() {
    println!("submit + assign + completion, per task (best of 5)");
    measure("2 workers, one task at a time", 2, 1, false);
    measure("2 workers, bursts of 100", 2, 100, false);
    measure("2 workers, bursts of 20,000", 2, 20_000, false);
    measure("16 workers, bursts of 20,000", 16, 20_000, false);
    measure("64 workers, bursts of 20,000", 64, 20_000, false);
    measure(
        "2 workers, bursts of 20,000, each with a deadline",
        2,
        20_000,
        true,
    );
    measure_ranges();
}
