//! Thousands of random histories: every task finishes once, whatever happens in which order.
//!
//! A failure prints its seed; `history(seed)` repeats it exactly.

mod sim;

use std::time::Duration;

use offloop_core::{
    Close, LaneConfig, LaneId, Outcome, PoolConfig, QueuePolicy, RestartIntensity, TaskOptions,
};
use sim::{Call, Chaos, Random, Sim, ms, us};

/// Histories of a run of the tests; `OFFLOOP_SIM_SEEDS` asks for more.
const SEEDS: u64 = 3_000;
const STEPS: u64 = 80;

fn random_sim(seed: u64, random: &mut Random) -> Sim {
    let restarts_max = if random.percent(10) { 3 } else { 1_000 };
    let config = PoolConfig {
        tasks_per_worker_max: random.percent(25).then(|| 1 + random.below(6) as u32),
        idle_timeout: ms(1 + random.below(2_000)),
        start_timeout: if random.percent(20) {
            ms(4 + random.below(8))
        } else {
            ms(50 + random.below(1_000))
        },
        initializes: seed.is_multiple_of(2),
        restart: RestartIntensity {
            restarts_max,
            period: Duration::from_secs(10),
        },
        seed,
    };
    let mut sim = Sim::new(seed, config);
    let calm = random.percent(25);
    let chance = |random: &mut Random, most| if calm { 0 } else { random.below(most) };
    sim.chaos = Chaos {
        start_fails: chance(random, 30),
        start_hangs: chance(random, 20),
        ring_refuses: chance(random, 25),
        dies_on_wake: chance(random, 6),
        ignores_retire: chance(random, 30),
        ring_slots: if random.percent(30) {
            1 + random.below(4) as usize
        } else {
            1024
        },
        delay: us(1 + random.below(2_000)),
    };
    sim
}

fn random_lane(random: &mut Random) -> LaneConfig {
    let policies = [
        QueuePolicy::Wait,
        QueuePolicy::Refuse,
        QueuePolicy::DropOldest,
    ];
    let most = if random.percent(10) { 24 } else { 4 };
    LaneConfig {
        workers_max: 1 + random.below(most) as u32,
        queue_tasks_max: random.percent(30).then(|| random.below(12) as u32),
        queue_bytes_max: random.percent(20).then(|| 100 + random.below(1_000)),
        policy: policies[random.below(3) as usize],
        grace: ms(random.below(20)),
    }
}

fn random_call(random: &mut Random, fast: bool) -> Call {
    match random.below(100) {
        0..70 if fast => Call::Return(Duration::from_nanos(random.below(200_000))),
        0..70 => Call::Return(us(random.below(20_000))),
        70..80 => Call::Return(ms(random.below(200))),
        80..85 => Call::Hang,
        85..88 => Call::HangDeaf,
        88..94 => Call::Crash(us(random.below(5_000))),
        _ => Call::CrashTimes(random.below(4) as u32),
    }
}

fn random_options(random: &mut Random, sim: &Sim) -> TaskOptions {
    TaskOptions {
        deadline: random
            .percent(15)
            .then(|| sim.now.saturating_add(us(random.below(60_000)))),
        run_timeout: random.percent(15).then(|| us(random.below(30_000))),
        retries: if random.percent(20) {
            random.below(4) as u32
        } else {
            0
        },
        bytes: if random.percent(30) {
            random.below(300)
        } else {
            0
        },
        grace: random.percent(10).then(|| ms(random.below(30))),
        streams: random.percent(10),
    }
}

/// One step of the users: bursts, cancels, closing and breaking of lanes.
fn random_step(random: &mut Random, sim: &mut Sim, lanes: &[LaneId], fast: bool) {
    match random.below(100) {
        0..60 => {
            let lane = lanes[random.below(lanes.len() as u64) as usize];
            let burst = if random.percent(20) {
                1 + random.below(30)
            } else {
                1
            };
            for _ in 0..burst {
                let (call, options) = (random_call(random, fast), random_options(random, sim));
                // A refusal is an answer too; the simulator has checked that nothing was queued.
                let _ = sim.try_submit(lane, call, options);
            }
        }
        60..85 if !sim.records.is_empty() => {
            let serial = random.below(sim.records.len() as u64) as usize;
            let was_open = sim.outcome(serial).is_none();
            assert_eq!(sim.cancel(serial), was_open);
        }
        85..87 => {
            let lane = lanes[random.below(lanes.len() as u64) as usize];
            let how = match random.below(10) {
                0..4 => Close::Drain,
                4..7 => Close::CancelQueued,
                7 => Close::Stop,
                8 => Close::Terminate,
                _ => Close::Kill,
            };
            sim.close(lane, how);
        }
        87 => sim.break_lane(lanes[random.below(lanes.len() as u64) as usize]),
        88..91 => {
            let living = sim.living_workers();
            if !living.is_empty() {
                sim.die(living[random.below(living.len() as u64) as usize]);
            }
        }
        91 => sim.retire_idle(),
        92 => sim.stop_streams(lanes[random.below(lanes.len() as u64) as usize]),
        _ => sim.run_for(us(random.below(30_000))),
    }
}

fn history(seed: u64) -> Sim {
    let mut random = Random::seeded(seed);
    let mut sim = random_sim(seed, &mut random);
    let lanes: Vec<LaneId> = (0..1 + random.below(3))
        .map(|_| sim.open_lane(random_lane(&mut random)))
        .collect();
    let fast = random.percent(50);
    for _ in 0..STEPS {
        random_step(&mut random, &mut sim, &lanes, fast);
        let pause = if random.percent(70) {
            us(random.below(300))
        } else {
            ms(random.below(40))
        };
        sim.run_for(pause);
    }
    // Calls that hang without a time limit end only by a cancel.
    for serial in 0..sim.records.len() {
        if matches!(sim.records[serial].call, Call::Hang | Call::HangDeaf) {
            sim.cancel(serial);
        }
    }
    sim.run_to_end();
    sim.check_the_end();
    for lane in lanes {
        sim.close(lane, Close::Drain);
        assert!(sim.pool.lane_is_drained(lane));
        sim.pool.forget_lane(lane);
        assert!(!sim.pool.has_room(lane));
    }
    sim
}

#[test]
fn every_task_finishes_exactly_once_in_any_history() {
    let mut outcomes = std::collections::BTreeMap::new();
    let asked = std::env::var("OFFLOOP_SIM_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok());
    for seed in 0..asked.unwrap_or(SEEDS) {
        let sim = history(seed);
        for record in &sim.records {
            let name = format!("{:?}", record.outcome.expect("checked at the end"));
            let name = name.split([' ', '{']).next().unwrap_or_default().to_owned();
            *outcomes.entry(name).or_insert(0_u64) += 1;
        }
    }
    println!("{outcomes:?}");
    for outcome in [
        "Completed",
        "Cancelled",
        "Expired",
        "Lost",
        "Dropped",
        "Broken",
    ] {
        assert!(
            outcomes.contains_key(outcome),
            "no history ends a task as {outcome}"
        );
    }
}

#[test]
fn equal_seeds_make_equal_histories() {
    let ends = |seed| -> Vec<Option<Outcome>> {
        history(seed)
            .records
            .iter()
            .map(|record| record.outcome)
            .collect()
    };
    for seed in 0..20 {
        assert_eq!(ends(seed), ends(seed));
    }
}
