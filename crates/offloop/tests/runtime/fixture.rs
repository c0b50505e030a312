//! A runtime with test workers, and everything that a test waits for, each with a time limit.
//!
//! A test never sleeps: it waits for outcomes on its owner's event, and for what the workers report
//! on a socket of their own.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use offloop::{
    Call, CallOptions, Crash, FleetConfig, Item, Lane, LaneConfig, Launch, News, Notice, Outcome,
    Owner, Payload, Program, Returned, Runtime, Status, SubmitError, TaskAddress,
};
use offloop_sys::process;
use offloop_sys::socket::{self, Wait};

/// Longest time that any one test may take; a healthy one takes milliseconds.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A call that was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub token: u64,
    pub task: TaskAddress,
}

/// How the zygote and its workers are started.
#[derive(Default)]
pub struct Start {
    pub setup: &'static str,
    pub tasks_per_worker_max: Option<u32>,
    /// From a worker's fork to its hello.
    pub start_timeout: Option<Duration>,
    /// Address space of each worker in KiB.
    pub memory_limit: Option<u64>,
}

impl Start {
    fn program(&self) -> Program {
        let worker = env!("CARGO_BIN_EXE_offloop-test-worker");
        let environment = vec!["RUST_BACKTRACE=0".into(), "PATH=/usr/bin:/bin".into()];
        let Some(limit) = self.memory_limit else {
            return Program {
                path: worker.into(),
                arguments: vec![worker.into()],
                environment,
            };
        };
        let script = format!("ulimit -v {limit}; exec {worker}");
        let arguments = vec!["sh".into(), "-c".into(), script.into()];
        Program {
            path: "/bin/sh".into(),
            arguments,
            environment,
        }
    }
}

/// A runtime, one lane and one owner.
pub struct Fixture {
    pub runtime: Runtime,
    pub lane: Lane,
    pub owner: Owner,
    pub launch: Launch,
    reports: OwnedFd,
    gate: OwnedFd,
    started: Instant,
    tokens: u64,
    news: HashMap<u64, News>,
    items: HashMap<u64, VecDeque<Item>>,
}

impl Fixture {
    pub fn new(workers: u32) -> Self {
        Self::start(&Start::default(), LaneConfig::new(workers))
    }

    pub fn start(start: &Start, config: LaneConfig) -> Self {
        let runtime = Runtime::new(Some(1 << 30)).unwrap();
        let (reports, worker_reports) = socket::pair().unwrap();
        let (worker_gate, gate) = socket::pipe().unwrap();
        let launch = Launch {
            program: start.program(),
            setup: start.setup.as_bytes().to_vec(),
            inherited: Arc::new(vec![worker_reports, worker_gate]),
            tracker: None,
            surroundings: 0,
            tasks_per_worker_max: start.tasks_per_worker_max,
        };
        let mut fleet = FleetConfig::from(launch.clone());
        fleet.start_timeout = start.start_timeout.unwrap_or(fleet.start_timeout);
        let lane = runtime.open_lane(fleet, config).unwrap();
        let owner = runtime.add_owner().unwrap();
        let started = Instant::now();
        let (tokens, news, items) = (0, HashMap::new(), HashMap::new());
        Self {
            runtime,
            lane,
            owner,
            launch,
            reports,
            gate,
            started,
            tokens,
            news,
            items,
        }
    }

    /// What is left of the test's time.
    pub fn left(&self) -> Duration {
        let left = LIMIT.saturating_sub(self.started.elapsed());
        assert!(!left.is_zero(), "the test took more than {LIMIT:?}");
        left
    }

    pub fn call(&mut self, command: &str) -> Call {
        self.tokens += 1;
        Call {
            owner: self.owner.index(),
            token: self.tokens,
            any_thread: false,
            streams: false,
            function: None,
            needs: Vec::new(),
            payload: Payload {
                inline: command.into(),
                ..Payload::default()
            },
            surroundings: None,
            note: None,
        }
    }

    pub fn submit(&mut self, command: &str) -> Ticket {
        self.submit_with(command, CallOptions::default())
    }

    pub fn submit_with(&mut self, command: &str, options: CallOptions) -> Ticket {
        let call = self.call(command);
        self.submit_call(call, options).unwrap()
    }

    pub fn submit_call(&mut self, call: Call, options: CallOptions) -> Result<Ticket, SubmitError> {
        let token = call.token;
        self.lane
            .submit(call, options)
            .map(|task| Ticket { token, task })
    }

    /// A call with `blocks` of shared memory, each filled from one slice.
    pub fn call_with_blocks(&mut self, command: &str, blocks: &[&[u8]]) -> Call {
        let mut call = self.call(command);
        for bytes in blocks {
            let block = self.runtime.allocate(bytes.len() as u64).unwrap();
            block.write(0, bytes);
            call.payload.blocks.push(block);
        }
        call
    }

    /// Waits for the outcome of one call; none comes twice.
    pub fn outcome(&mut self, ticket: Ticket) -> Outcome {
        match self.news(ticket.token) {
            News::Ended(outcome) => outcome,
            other => panic!("expected the end of a call, not {other:?}"),
        }
    }

    /// Waits until there may be room, of which the lane tells under `token`.
    pub fn room(&mut self, token: u64) {
        match self.news(token) {
            News::Room => {}
            other => panic!("expected room, not {other:?}"),
        }
    }

    /// A call whose items are wanted.
    pub fn stream_with(&mut self, command: &str, options: CallOptions) -> Ticket {
        let mut call = self.call(command);
        call.streams = true;
        self.submit_call(call, options).unwrap()
    }

    pub fn stream(&mut self, command: &str) -> Ticket {
        self.stream_with(command, CallOptions::default())
    }

    /// The next item of a stream, or `None` at its end. Nothing is told to its worker.
    pub fn item(&mut self, ticket: Ticket) -> Option<Item> {
        loop {
            let items = self.items.entry(ticket.token).or_default();
            if let Some(item) = items.pop_front() {
                return Some(item);
            }
            if self.news.contains_key(&ticket.token) {
                return None;
            }
            let notices = wait_notices(&self.owner, self.left());
            self.keep(notices);
        }
    }

    /// What has come of a stream by now and was not taken.
    pub fn arrived(&mut self, ticket: Ticket) -> usize {
        self.unclaimed();
        self.items.get(&ticket.token).map_or(0, VecDeque::len)
    }

    fn news(&mut self, token: u64) -> News {
        loop {
            if let Some(news) = self.news.remove(&token) {
                return news;
            }
            let notices = wait_notices(&self.owner, self.left());
            self.keep(notices);
        }
    }

    /// What has already been fetched and not asked for, with everything that is there now.
    pub fn unclaimed(&mut self) -> usize {
        let mut notices = Vec::new();
        self.owner.drain(usize::MAX, &mut notices);
        self.keep(notices);
        self.news.len()
    }

    fn keep(&mut self, notices: Vec<Notice>) {
        for Notice { token, news, .. } in notices {
            let news = match news {
                News::Arrived(item) => {
                    assert!(!self.news.contains_key(&token), "an item after the end");
                    self.items.entry(token).or_default().push_back(item);
                    continue;
                }
                news => news,
            };
            let before = self.news.insert(token, news);
            assert!(before.is_none(), "{token} was told twice");
        }
    }

    pub fn value(&mut self, ticket: Ticket) -> String {
        match self.outcome(ticket) {
            Outcome::Returned(Returned {
                status: Status::Value,
                payload,
                ..
            }) => String::from_utf8(payload).unwrap(),
            other => panic!("expected a value, not {other:?}"),
        }
    }

    pub fn echo(&mut self) {
        let ticket = self.submit("echo still here");
        assert_eq!(self.value(ticket), "still here");
    }

    /// Waits until the call is lost, with what is known of its worker, and its attempts.
    pub fn crash(&mut self, ticket: Ticket) -> (Arc<Crash>, u32) {
        match self.outcome(ticket) {
            Outcome::Lost {
                may_have_started: true,
                attempts,
                crash,
            } => (crash, attempts),
            other => panic!("expected a lost call, not {other:?}"),
        }
    }

    /// Waits until a worker reports `name`; its process id.
    pub fn report(&self, name: &str) -> i32 {
        let mut buffer = [0; 256];
        assert!(
            socket::wait_readable(self.reports.as_fd(), Some(self.left())).unwrap(),
            "{name}"
        );
        let (len, _) = socket::receive(self.reports.as_fd(), &mut buffer, Wait::No).unwrap();
        let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
        let (said, pid) = text.split_once(' ').unwrap();
        assert_eq!(said, name);
        pid.parse().unwrap()
    }

    /// Takes whatever the workers have reported, so that none of them waits for room.
    pub fn forget_reports(&self) {
        let mut buffer = [0; 256];
        while socket::receive(self.reports.as_fd(), &mut buffer, Wait::No).is_ok() {}
    }

    /// Whether a worker has reported anything that was not asked for.
    pub fn has_report(&self) -> bool {
        socket::wait_readable(self.reports.as_fd(), Some(Duration::ZERO)).unwrap()
    }

    /// Lets `count` calls pass the gate.
    pub fn open_gate(&self, count: usize) {
        use std::io::Write;
        let mut gate = std::fs::File::from(self.gate.try_clone().unwrap());
        gate.write_all(&vec![1; count]).unwrap();
    }

    /// Runs short calls until the lane knows that a worker may hold several in advance.
    pub fn teach_prefetching(&mut self) {
        for _ in 0..64 {
            self.echo();
        }
    }

    /// Waits, without a clock of its own, until `done`.
    pub fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        while !done() {
            assert!(
                self.started.elapsed() < LIMIT,
                "{what} did not happen in {LIMIT:?}"
            );
            std::thread::yield_now();
        }
    }

    /// Waits until the process `pid` is gone, or only its parent's wait is missing.
    pub fn gone(&self, pid: i32) {
        self.until(&format!("the end of process {pid}"), || !is_alive(pid));
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.runtime.stop();
    }
}

/// Waits until `owner` has something, and takes it.
pub fn wait_notices(owner: &Owner, limit: Duration) -> Vec<Notice> {
    let mut notices = Vec::new();
    let deadline = Instant::now() + limit;
    while notices.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let ready = socket::wait_readable(owner.event().as_fd(), Some(left)).unwrap();
        assert!(ready, "no outcome within {limit:?}");
        owner.drain(64, &mut notices);
    }
    notices
}

/// Whether `pid` runs: a zombie does not.
pub fn is_alive(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = status
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Sends `signal` to the process `pid`.
pub fn signal(pid: i32, signal: i32) {
    let pidfd = process::open_pidfd(pid).unwrap();
    process::signal(pidfd.as_fd(), signal).unwrap();
}
