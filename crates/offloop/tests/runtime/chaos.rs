//! Seeded chaos with real processes: N calls submitted = N outcomes, none twice, none lost.
//!
//! The calls answer, raise, copy, crash, exit, hang, stop, lie and lose their descriptors; some are
//! cancelled, retried or limited in time. Meanwhile workers and zygotes are stopped, continued and
//! killed. Outcomes are fetched by owners that look only when they are told: a loop, a patient one,
//! a loop that never comes, a loop that leaves half-way, and the resolver.
//!
//! A failure names its seed; `OFFLOOP_CHAOS_SEED=7` runs that one alone, `OFFLOOP_CHAOS_SEEDS=500`
//! so many.

use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use offloop::{
    CallOptions, LaneConfig, News, Notice, Outcome, Owner, Returned, Status, TaskAddress,
};
use offloop_sys::poller::Poller;
use offloop_sys::process;

use crate::fixture::{Fixture, Start};
use crate::lies::LIES;

const CALLS: u64 = 400;
const SEEDS: u64 = 8;
/// Signals sent in one run, at most.
const TORMENTS: u32 = 60;

/// Without any outcome for so long, none is coming: each call that does not end by itself has a
/// time limit far below.
const QUIET: Duration = Duration::from_secs(10);

const SIGKILL: i32 = 9;
const SIGSEGV: i32 = 11;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

#[test]
fn every_call_has_one_outcome_whatever_happens_to_the_processes() {
    for seed in seeds() {
        // Shown only with a failure.
        println!("seed {seed}");
        Chaos::new(seed).run();
    }
}

fn seeds() -> Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("OFFLOOP_CHAOS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("OFFLOOP_CHAOS_SEEDS").unwrap_or(SEEDS),
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound.max(1)
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    fn millis(&mut self, range: Range<u64>) -> Duration {
        Duration::from_millis(range.start + self.below(range.end - range.start))
    }
}

/// What is known of a call.
struct Record {
    task: TaskAddress,
    command: String,
    options: CallOptions,
    /// The byte that its blocks are full of.
    fill: u8,
    cancelled: bool,
    outcome: Option<Outcome>,
}

struct Chaos {
    seed: u64,
    random: Random,
    fixture: Fixture,
    patient: Owner,
    absent: Owner,
    leaving: Option<Owner>,
    resolver: Owner,
    poller: Poller,
    records: HashMap<u64, Record>,
    finished: u64,
    torments: u32,
    stopped: Vec<OwnedFd>,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        let start = Start {
            tasks_per_worker_max: random.percent(30).then_some(7),
            ..Start::default()
        };
        let config = LaneConfig {
            grace: Duration::from_millis(50),
            ..LaneConfig::new(3)
        };
        let fixture = Fixture::start(&start, config);
        fixture.runtime.set_reply_bound(Duration::from_secs(1));
        let (patient, resolver) = (
            fixture.runtime.add_patient_owner().unwrap(),
            fixture.runtime.resolver(),
        );
        let owner = || fixture.runtime.add_owner().unwrap();
        let (absent, leaving) = (owner(), Some(owner()));
        let poller = Poller::new().unwrap();
        for owner in [&fixture.owner, &patient, &resolver] {
            let token = u64::from(owner.index());
            poller.add(owner.event().as_fd(), token).unwrap();
            if let Some(timer) = owner.timer() {
                poller.add(timer.as_fd(), token).unwrap();
            }
        }
        Self {
            seed,
            random,
            fixture,
            patient,
            absent,
            leaving,
            resolver,
            poller,
            records: HashMap::new(),
            finished: 0,
            torments: 0,
            stopped: Vec::new(),
        }
    }

    fn run(mut self) {
        while self.records.len() < CALLS as usize {
            for _ in 0..1 + self
                .random
                .below(30)
                .min(CALLS - self.records.len() as u64 - 1)
            {
                self.submit();
            }
            if self.random.percent(30) {
                self.cancel();
            }
            if self.records.len() > CALLS as usize / 2 {
                self.leaving = None;
            }
            let pause = self.random.millis(0..10);
            self.fetch(pause);
            self.torment();
        }
        while self.finished < CALLS && self.torments < TORMENTS {
            let pause = self.random.millis(0..20);
            self.fetch(pause);
            self.torment();
        }
        for stopped in self.stopped.drain(..) {
            // It may have ended meanwhile.
            let _ = process::signal(stopped.as_fd(), SIGCONT);
        }
        let (mut latest, mut before) = (Instant::now(), self.finished);
        while self.finished < CALLS {
            let left = QUIET.saturating_sub(latest.elapsed());
            assert!(!left.is_zero(), "{}", self.missing());
            self.fetch(left);
            if self.finished > before {
                (latest, before) = (Instant::now(), self.finished);
            }
        }
        self.close_the_books();
    }

    fn submit(&mut self) {
        let (command, options) = self.draw();
        let random = &mut self.random;
        let fill = random.below(256) as u8;
        let mut call = if command == "copy" {
            let size = if random.percent(20) { 300_000 } else { 5_000 };
            let block = vec![fill; size + random.below(100) as usize];
            self.fixture
                .call_with_blocks(&command, &[&block, &block[..1]])
        } else {
            self.fixture.call(&command)
        };
        let random = &mut self.random;
        let mut any_thread = random.percent(50);
        call.owner = match (random.below(5), &self.leaving) {
            (0, _) => self.patient.index(),
            (1, _) => {
                any_thread = true;
                self.absent.index()
            }
            (2, Some(leaving)) => {
                any_thread = true;
                leaving.index()
            }
            (3, _) => self.resolver.index(),
            _ => self.fixture.owner.index(),
        };
        call.any_thread = any_thread;
        let token = call.token;
        let ticket = self.fixture.submit_call(call, options).unwrap();
        let record = Record {
            task: ticket.task,
            command,
            options,
            fill,
            cancelled: false,
            outcome: None,
        };
        assert!(self.records.insert(token, record).is_none());
    }

    /// A command with its options; whatever does not end by itself gets a time limit.
    fn draw(&mut self) -> (String, CallOptions) {
        let random = &mut self.random;
        let number = random.below(1_000_000);
        let mut options = CallOptions::default();
        let draw = random.below(100);
        let command = match draw {
            0..50 => format!("echo {number}"),
            50..58 => format!("raise {number}"),
            58..68 => "copy".into(),
            68..71 => format!("stderr line {number}"),
            71..75 => format!("exit {}", number % 256),
            75..78 => "crash now".into(),
            78..80 => "abort".into(),
            80..82 => "close".into(),
            82..87 => format!("lie {}", LIES[number as usize % LIES.len()]),
            87..92 => "hang".into(),
            92..96 => "deaf".into(),
            _ => "stop".into(),
        };
        if draw >= 87 {
            if random.percent(50) {
                options.run_timeout = Some(random.millis(5..100));
            } else {
                options.timeout = Some(random.millis(5..400));
            }
        } else if random.percent(10) {
            options.timeout = Some(random.millis(0..300));
        }
        if random.percent(20) {
            options.retries = 1 + random.below(3) as u32;
        }
        (command, options)
    }

    fn cancel(&mut self) {
        let token = 1 + self.random.below(self.records.len() as u64);
        if let Some(record) = self.records.get_mut(&token) {
            record.cancelled |= self.fixture.lane.cancel(record.task);
        }
    }

    /// Fetches for those owners that were told within the limit.
    fn fetch(&mut self, limit: Duration) {
        self.fixture.forget_reports();
        let mut ready = Vec::new();
        self.poller.wait(&mut ready, Some(limit)).unwrap();
        let mut outcomes = Vec::new();
        for ready in &ready {
            let most = 1 + self.random.below(200) as usize;
            for owner in [&self.fixture.owner, &self.patient, &self.resolver] {
                if u64::from(owner.index()) == ready.token {
                    owner.drain(most, &mut outcomes);
                }
            }
        }
        for finished in outcomes {
            self.note(finished);
        }
    }

    fn note(&mut self, notice: Notice) {
        let Notice { token, news, .. } = notice;
        let News::Ended(outcome) = news else {
            panic!("no owner waits for anything else: {news:?}")
        };
        let seed = self.seed;
        let Some(record) = self.records.get_mut(&token) else {
            panic!("seed {seed}: an outcome of {token}, which was never submitted");
        };
        assert!(record.outcome.is_none(), "seed {seed}: {token} ended twice");
        record.check(seed, &outcome);
        record.outcome = Some(outcome);
        self.finished += 1;
    }

    /// Sends one signal to a worker or, rarely, to a zygote.
    fn torment(&mut self) {
        if self.torments == TORMENTS || self.random.percent(60) {
            return;
        }
        self.torments += 1;
        if self.stopped.len() > 1 {
            let index = self.random.below(self.stopped.len() as u64) as usize;
            // It may have ended meanwhile.
            let _ = process::signal(self.stopped.swap_remove(index).as_fd(), SIGCONT);
        }
        let pids = if self.random.percent(6) {
            self.fixture.runtime.zygote_pids()
        } else {
            self.fixture.runtime.worker_pids()
        };
        if pids.is_empty() {
            return;
        }
        let pid = pids[self.random.below(pids.len() as u64) as usize];
        let number = [SIGKILL, SIGSEGV, SIGSTOP][self.random.below(3) as usize];
        if let Ok(pidfd) = process::open_pidfd(pid) {
            let sent = process::signal(pidfd.as_fd(), number).is_ok();
            if sent && number == SIGSTOP {
                self.stopped.push(pidfd);
            }
        }
    }

    fn missing(&self) -> String {
        let missing = self
            .records
            .iter()
            .filter(|(_, record)| record.outcome.is_none())
            .map(|(token, record)| format!("{token} {} {:?}", record.command, record.options));
        format!(
            "seed {}: no outcome of {:#?} in {:?}, workers {:?}",
            self.seed,
            missing.collect::<Vec<_>>(),
            self.fixture.lane.statistics(),
            self.fixture.runtime.worker_pids(),
        )
    }

    /// Nothing is left over, and the lane goes on.
    fn close_the_books(mut self) {
        let seed = self.seed;
        assert_eq!(self.records.len() as u64, CALLS);
        let statistics = self.fixture.lane.statistics().unwrap();
        let over = statistics.completed + statistics.cancelled + statistics.expired;
        assert_eq!(statistics.submitted, CALLS, "seed {seed}");
        assert_eq!(over + statistics.lost, CALLS, "seed {seed}: {statistics:?}");
        self.fixture.echo();
        assert_eq!(self.fixture.unclaimed(), 0, "seed {seed}");
        let mut pids = self.fixture.runtime.worker_pids();
        pids.extend(self.fixture.runtime.zygote_pids());
        self.fixture.runtime.stop();
        for pid in pids {
            self.fixture.gone(pid);
        }
    }
}

impl Record {
    /// A value is the right value, and every other end was asked for or suffered.
    fn check(&self, seed: u64, outcome: &Outcome) {
        let Self {
            command, options, ..
        } = self;
        let (name, argument) = command.split_once(' ').unwrap_or((command, ""));
        let right = match outcome {
            Outcome::Returned(Returned {
                status,
                payload,
                blocks,
                ..
            }) => match name {
                "echo" => *status == Status::Value && payload == argument.as_bytes(),
                "raise" => *status == Status::Raised && payload == argument.as_bytes(),
                "stderr" => *status == Status::Value,
                "copy" => blocks.as_ref().is_some_and(|(returned, _)| {
                    returned.blocks().iter().all(|block| {
                        let mut bytes = vec![0; block.len()];
                        block.read(0, &mut bytes);
                        bytes.iter().all(|byte| *byte == self.fill)
                    })
                }),
                _ => false,
            },
            Outcome::Cancelled => self.cancelled,
            Outcome::Expired { deadline: true } => options.timeout.is_some(),
            Outcome::Expired { deadline: false } => options.run_timeout.is_some(),
            Outcome::Lost { attempts, .. } => *attempts == 1 + options.retries,
            _ => false,
        };
        assert!(
            right,
            "seed {seed}: {command} {options:?} ended as {outcome:?}"
        );
    }
}
