//! What the interpreter was asked last, and the thread that asks it.
//!
//! The thread is started when a viewer asks, and ends when none has asked for a while: a program
//! that is not looked at has no such thread. While a call of C keeps the GIL, the thread waits for
//! it, and the document has the last reading with its age.
//!
//! Invariants: 1. There is one thread at most, and it reads at most every `APART`; where a reading
//!                costs more, less often: it takes a fiftieth of a processor at most.
//!             2. A viewer waits `PATIENCE` at most, and only while no reading is under way that
//!                has taken longer.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use offloop_sys::clock::monotonic_ns;
use tokio::sync::oneshot;

use crate::program::{Program, Reading};

/// How far readings are apart, from the begin of one to that of the next.
const APART: Duration = Duration::from_millis(400);
/// The same as a multiple of what the last one cost, up to a limit.
const APART_COSTS: f64 = 50.0;
const APART_MAX: Duration = Duration::from_secs(10);
/// How old a reading may be that is taken for the present.
const FRESH: Duration = Duration::from_millis(300);
/// A reading that is older is not answered with, if the next one comes in time.
const OLD: Duration = Duration::from_secs(1);
/// How long the thread stays when no viewer asks.
const IDLE: Duration = Duration::from_secs(5);
/// How long an answer waits for a reading, where there is none or an old one: less than a person
/// notices.
pub(crate) const PATIENCE: Duration = Duration::from_millis(50);
/// Tasks whose cancelling is asked for at once.
const ORDERS_MAX: usize = 16;

/// What was read last.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastReading {
    /// When, in seconds of the monotonic clock, and what.
    pub(crate) reading: Option<(f64, Arc<Reading>)>,
    /// Why the last question had no answer.
    pub(crate) reason: Option<String>,
}

impl LastReading {
    fn is_young(&self) -> bool {
        let at = self.reading.as_ref().map(|(at, _)| *at);
        at.is_some_and(|at| now() - at < OLD.as_secs_f64())
    }
}

/// Seconds of the monotonic clock.
fn now() -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "seconds of a person's clock")]
    let now = monotonic_ns() as f64;
    now / 1e9
}

/// A task to be cancelled.
struct Order {
    id: String,
    name: String,
    reply: oneshot::Sender<Result<(), String>>,
}

#[derive(Default)]
struct State {
    last: LastReading,
    /// When the last reading was begun, and whether it is over.
    begun: Option<Instant>,
    apart: Duration,
    is_reading: bool,
    is_wanted: bool,
    orders: VecDeque<Order>,
    runs: bool,
    stops: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

impl State {
    /// How long it is until a reading may begin.
    fn until_next(&self) -> Duration {
        self.begun.map_or(Duration::ZERO, |begun| {
            self.apart.saturating_sub(begun.elapsed())
        })
    }
}

/// What asks the interpreter.
pub(crate) struct Reader {
    program: Arc<dyn Program>,
    state: Mutex<State>,
    changed: Condvar,
}

impl Reader {
    pub(crate) fn new(program: Arc<dyn Program>) -> Arc<Self> {
        Arc::new(Self {
            program,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was read last.
    pub(crate) fn last(&self) -> LastReading {
        self.lock().last.clone()
    }

    /// Asks for a reading, and waits for it a little if there is none of now.
    pub(crate) async fn refresh(self: &Arc<Self>) {
        let done = {
            let mut state = self.lock();
            let age = state.begun.map(|begun| begun.elapsed());
            if age.is_some_and(|age| age < FRESH) && !state.is_reading {
                return;
            }
            state.is_wanted = true;
            self.start(&mut state);
            self.changed.notify_one();
            let is_slow = state.is_reading && age.is_some_and(|age| age > PATIENCE);
            let is_far = !state.is_reading && state.until_next() > PATIENCE;
            if is_slow || is_far || state.last.is_young() {
                // It comes with the next document.
                return;
            }
            let (done, wait) = oneshot::channel();
            state.waiting.push(done);
            wait
        };
        let _ = tokio::time::timeout(PATIENCE, done).await;
    }

    /// Asks for the end of a task.
    pub(crate) fn cancel(
        self: &Arc<Self>,
        id: String,
        name: String,
    ) -> oneshot::Receiver<Result<(), String>> {
        let (reply, answer) = oneshot::channel();
        let mut state = self.lock();
        if state.orders.len() < ORDERS_MAX {
            state.orders.push_back(Order { id, name, reply });
            self.start(&mut state);
            self.changed.notify_one();
        } else {
            let waiting = format!("{ORDERS_MAX} tasks wait to be cancelled, limit {ORDERS_MAX}");
            let _ = reply.send(Err(waiting));
        }
        answer
    }

    fn start(self: &Arc<Self>, state: &mut State) {
        if state.runs || state.stops {
            return;
        }
        let reader = Arc::clone(self);
        match offloop::engine::start_reader(move || reader.run()) {
            Ok(_ends_by_itself) => state.runs = true,
            Err(error) => state.last.reason = Some(format!("no thread for readings: {error}")),
        }
    }

    /// Ends the thread, after the reading that is under way.
    pub(crate) fn stop(&self) {
        self.lock().stops = true;
        self.changed.notify_one();
    }

    fn run(&self) {
        let generation = offloop_sys::fork::generation();
        let mut state = self.lock();
        loop {
            if state.stops {
                break;
            }
            if let Some(Order { id, name, reply }) = state.orders.pop_front() {
                drop(state);
                // The viewer may have gone.
                let _ = reply.send(self.program.cancel_task(&id, &name));
                state = self.lock();
                continue;
            }
            let left = state.until_next();
            if state.is_wanted && left.is_zero() {
                state.is_wanted = false;
                state.is_reading = true;
                state.begun = Some(Instant::now());
                drop(state);
                let read = self.program.read();
                if offloop_sys::fork::generation() != generation {
                    return;
                }
                state = self.lock();
                self.keep(&mut state, read);
                continue;
            }
            let wait = if state.is_wanted { left } else { IDLE };
            let (woken, passed) = self
                .changed
                .wait_timeout(state, wait)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if passed.timed_out() && !state.is_wanted && state.orders.is_empty() {
                break;
            }
        }
        state.runs = false;
    }

    fn keep(&self, state: &mut State, read: Result<Reading, String>) {
        state.is_reading = false;
        match read {
            Ok(reading) => {
                let costs = reading.cost_seconds.clamp(0.0, 1.0) * APART_COSTS;
                state.apart = Duration::from_secs_f64(costs).clamp(APART, APART_MAX);
                state.last = LastReading {
                    reading: Some((now(), Arc::new(reading))),
                    reason: None,
                };
            }
            Err(reason) => state.last.reason = Some(reason),
        }
        for waiting in state.waiting.drain(..) {
            // It may have waited long enough.
            let _ = waiting.send(());
        }
    }
}
