//! The watchdog: a thread that looks at what loops do, and says when one of them stalls.
//!
//! It is never attached to Python, and a loop's thread never waits for it: what both lock, as the
//! journal, is held for the length of a write. It sleeps until the next look is due, or until a
//! loop's thread wakes it: when a slice that took long is over, and when a loop that has waited has
//! something to do again. What it finds goes to an [`Audience`].
//!
//! ```text
//! loop's thread    writes its pulse ──────────────► looks · stack · cause ──► Audience
//!                  tells what ended after long ───► exact duration ─────────►
//! ```
//!
//! Invariants: 1. A stall is told as over only after it was told as found, or else once.
//!             2. The watchdog waits for nothing but its own time and the audience.
//!             3. A watchdog that sleeps without a limit has said so at its door, and has looked
//!                there once more afterwards.
//! Source:     docs/design/017-the-watch.md; `offloop_core::event_loop::StallPolicy`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use offloop_core::Instant;
use offloop_core::event_loop::{NextLook, StallLimits};
use offloop_core::watch::{Entry, Quality, Stack, Stall, TaskFacts};
use offloop_sys::clock::monotonic_ns;
use offloop_sys::interpreter::Interpreter;
use offloop_sys::interpreter::memory::OwnMemory;

use super::lateness::Lateness;
use super::native::NativeReader;
use super::pulse::{Line, Pulse};
use super::roll::{LoopSeen, Roll};
use super::watched::{Slice, Subject, Watched};

/// How long a loop that has waited is still looked at: so often, at most, is the watchdog woken by
/// a loop that has little to do.
const LINGER: Duration = Duration::from_secs(1);

/// What is known of a stall's callback by asking the interpreter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The callback's name.
    pub callback: Option<Arc<str>>,
    /// The task.
    pub task: Option<TaskFacts>,
    /// The request.
    pub request: Option<Arc<str>>,
    /// The functions that run, innermost first, if they were asked for.
    pub stack: Option<Vec<Entry>>,
}

impl Facts {
    /// Adds what is known to a stall, of its stack only what could not be read.
    pub(super) fn add_to(self, stall: &mut Stall) {
        stall.callback = self.callback.or_else(|| stall.callback.take());
        stall.task = self.task.or_else(|| stall.task.take());
        stall.request = self.request.or_else(|| stall.request.take());
        if let (Quality::Missing(_), Some(entries)) = (&stall.stack.quality, self.stack) {
            stall.stack = Stack {
                entries,
                cut: 0,
                hidden: 0,
                unsettled: 0,
                quality: Quality::Fallback,
            };
        }
    }
}

/// What is asked of the interpreter.
#[derive(Clone, Debug)]
pub struct Question {
    /// The slice that the answer is to be of.
    pub slice: Slice,
    /// What runs in its loop.
    pub pulse: Arc<Pulse>,
    /// The stack could not be read without the interpreter.
    pub wants_stack: bool,
}

impl Question {
    /// Whether the slice goes on, for a thread that keeps the loop from going on meanwhile: one
    /// that has the GIL.
    #[must_use]
    pub fn still_holds(&self) -> bool {
        self.slice.goes_on(&self.pulse).unwrap_or(false)
    }
}

/// What hears of stalls, on the watchdog's thread.
pub trait Audience: Send {
    /// Asks the interpreter what it knows of the callback, and does not wait.
    fn ask(&mut self, question: Question);

    /// What it has answered, if it does so before the time given; or at a later question.
    fn answer(&mut self, slice: Slice, until: Instant) -> Option<Facts>;

    /// Something else is to be said on standard error.
    fn say(&mut self, text: &str);

    /// All was told that is known: `reply` gets a word behind what was told.
    fn settle(&mut self, reply: SyncSender<()>);

    /// Whether a stall that is one of too many is to be told all the same, if there is room for it.
    fn is_news(&mut self, stall: &Stall) -> bool;

    /// A stall was found, goes on, or is over. There may be too many for people: then it is only to
    /// be recorded.
    fn tell(&mut self, slice: Slice, stall: &Stall, is_told: bool);
}

/// The reader of stacks, or why there is none.
pub type Reader = Result<Arc<Interpreter<OwnMemory>>, Arc<str>>;

enum Command {
    Watch(Box<Watched>),
    Say(String),
    Settle(SyncSender<()>),
    Stop,
}

/// Where commands come in. The watchdog looks at a new loop a threshold later at the latest, so it
/// is woken for one only if it sleeps without a limit: a test suite makes a loop for each test.
#[derive(Debug, Default)]
struct Door {
    /// Commands that were sent.
    sent: AtomicU64,
    /// The watchdog sleeps without a limit.
    asleep: AtomicBool,
}

/// A watchdog that runs, until it is stopped or this is gone.
#[derive(Debug)]
pub struct Watchdog {
    commands: Sender<Command>,
    door: Arc<Door>,
    thread: JoinHandle<()>,
    roll: Roll,
}

impl Watchdog {
    /// Starts the thread, which watches nothing yet.
    ///
    /// # Errors
    /// The system's, when there is no room for a thread.
    pub fn start(
        limits: StallLimits,
        reader: Reader,
        native: Option<NativeReader>,
        audience: Box<dyn Audience>,
    ) -> io::Result<Self> {
        let (commands, received) = channel();
        let door = Arc::new(Door::default());
        let round = Rounds {
            commands: received,
            door: Arc::clone(&door),
            received: 0,
            settling: Vec::new(),
            limits,
            watched: Vec::new(),
            telling: Telling {
                reader,
                native,
                audience,
                lateness: Lateness::default(),
            },
            active: Instant::ZERO,
        };
        let thread = thread::Builder::new()
            .name("offloop-watchdog".into())
            .spawn(move || round.run())?;
        Ok(Self {
            commands,
            door,
            thread,
            roll: Roll::default(),
        })
    }

    /// Watches a loop from now on.
    #[must_use]
    pub fn watch(&self, pulse: &Arc<Pulse>, subject: Subject) -> Line {
        self.roll.add(pulse, &subject);
        let (line, ended) = Line::new(pulse, self.thread.thread().clone());
        let watched = Watched::new(subject, Arc::clone(pulse), ended);
        if self.send(Command::Watch(Box::new(watched))) {
            self.thread.thread().unpark();
        }
        line
    }

    /// Looks once more, tells what is over, and replies. A reply that is dropped says nothing.
    pub fn settle(&self, reply: SyncSender<()>) {
        self.command(Command::Settle(reply));
    }

    /// What each of the loops does now.
    #[must_use]
    pub fn loops(&self) -> Vec<LoopSeen> {
        self.roll.call()
    }

    /// Says something on standard error, soon.
    pub fn say(&self, text: String) {
        self.command(Command::Say(text));
    }

    /// Asks the thread to end, and hands it out: it ends after the report that it is at.
    #[must_use]
    pub fn stop(self) -> JoinHandle<()> {
        self.command(Command::Stop);
        self.thread
    }

    fn command(&self, command: Command) {
        self.send(command);
        self.thread.thread().unpark();
    }

    /// Sends a command; whether the watchdog sleeps without a limit.
    fn send(&self, command: Command) -> bool {
        // A thread that has ended needs no command any more.
        let _ = self.commands.send(command);
        // Either the watchdog sees the number, or its word is seen here (invariant 3).
        self.door.sent.fetch_add(1, Ordering::SeqCst);
        self.door.asleep.load(Ordering::SeqCst)
    }
}

/// What is needed to tell of a stall.
pub(super) struct Telling {
    pub(super) reader: Reader,
    /// Names functions of C, if that is wanted.
    pub(super) native: Option<NativeReader>,
    pub(super) audience: Box<dyn Audience>,
    /// When the watchdog was not let run.
    pub(super) lateness: Lateness,
}

/// The number of the last stall of this process.
static LAST: AtomicU64 = AtomicU64::new(0);

/// A number for a stall.
pub(super) fn next_number() -> u64 {
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

pub(super) fn now() -> Instant {
    Instant::from_nanos(monotonic_ns())
}

/// The watchdog's thread.
struct Rounds {
    commands: Receiver<Command>,
    door: Arc<Door>,
    /// Commands that were received.
    received: u64,
    /// Those that want to know when all was told.
    settling: Vec<SyncSender<()>>,
    limits: StallLimits,
    watched: Vec<Watched>,
    telling: Telling,
    /// When a loop was last seen to do something.
    active: Instant,
}

impl Rounds {
    fn run(mut self) {
        offloop_sys::thread::block_signals();
        self.telling.lateness = Lateness::of_this_thread();
        while self.obey() {
            let next = self.look();
            self.settle();
            self.sleep(next);
        }
        // What has ended meanwhile is told.
        self.look();
        self.settle();
    }

    fn settle(&mut self) {
        for reply in self.settling.drain(..) {
            self.telling.audience.settle(reply);
        }
    }

    fn look(&mut self) -> NextLook {
        let mut next = NextLook::Parked;
        for watched in &mut self.watched {
            next = earlier(next, watched.look(&mut self.telling));
        }
        self.watched.retain(|watched| !watched.is_over());
        next
    }

    /// Does what was asked for; false if that is to end.
    fn obey(&mut self) -> bool {
        loop {
            let command = self.commands.try_recv();
            self.received += u64::from(command.is_ok());
            match command {
                Ok(Command::Watch(mut watched)) => {
                    watched.set_limits(self.limits);
                    self.watched.push(*watched);
                }
                Ok(Command::Say(text)) => self.telling.audience.say(&text),
                Ok(Command::Settle(reply)) => self.settling.push(reply),
                Err(TryRecvError::Empty) => return true,
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn sleep(&mut self, next: NextLook) {
        let now = now();
        match next {
            NextLook::At(at) => {
                self.active = now;
                self.park(at.saturating_duration_since(now));
            }
            NextLook::Parked if now.saturating_duration_since(self.active) < LINGER => {
                let has_only_rounds = self.watched.iter().any(Watched::has_only_rounds);
                let part = if has_only_rounds { 2 } else { 1 };
                self.park(self.limits.threshold / part);
            }
            NextLook::Parked => {
                self.door.asleep.store(true, Ordering::SeqCst);
                let is_idle = self.door.sent.load(Ordering::SeqCst) <= self.received
                    && self.watched.iter().all(|watched| watched.pulse.may_sleep());
                if is_idle {
                    thread::park();
                    self.telling.lateness.catch_up(self::now());
                }
                self.door.asleep.store(false, Ordering::SeqCst);
                self.watched
                    .iter()
                    .for_each(|watched| watched.pulse.awake());
            }
        }
    }
}

impl Rounds {
    /// Sleeps for so long, or until it is woken.
    fn park(&mut self, timeout: Duration) {
        let begin = now();
        thread::park_timeout(timeout);
        let wanted = begin.saturating_add(timeout);
        self.telling.lateness.woken(wanted, now());
    }
}

/// The look that comes first.
pub(super) fn earlier(one: NextLook, other: NextLook) -> NextLook {
    match (one, other) {
        (NextLook::At(one), NextLook::At(other)) => NextLook::At(one.min(other)),
        (NextLook::Parked, next) | (next, NextLook::Parked) => next,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, sync_channel};

    use offloop_core::event_loop::{Moment, Stalled};
    use offloop_core::watch::Cause;
    use offloop_sys::clock::{TickScale, ticks};

    use super::super::pulse::Ended;
    use super::super::watched::Subject;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const THRESHOLD: Duration = Duration::from_millis(20);

    /// Passes on what it hears, and knows the facts of every callback.
    struct Hears(Sender<(Slice, Stall)>);

    impl Audience for Hears {
        fn ask(&mut self, _question: Question) {}

        fn settle(&mut self, reply: SyncSender<()>) {
            reply.try_send(()).expect("the test waits");
        }

        fn say(&mut self, _text: &str) {}

        fn answer(&mut self, slice: Slice, _until: Instant) -> Option<Facts> {
            Some(Facts {
                callback: Some(format!("callback {}", slice.number).into()),
                ..Facts::default()
            })
        }

        fn is_news(&mut self, _stall: &Stall) -> bool {
            false
        }

        fn tell(&mut self, slice: Slice, stall: &Stall, _is_told: bool) {
            self.0
                .send((slice, stall.clone()))
                .expect("the test listens");
        }
    }

    struct Test {
        watchdog: Watchdog,
        pulse: Arc<Pulse>,
        line: Line,
        heard: Receiver<(Slice, Stall)>,
    }

    fn watch(tells_callbacks: bool) -> Test {
        let (say, heard) = channel();
        let limits = StallLimits {
            threshold: THRESHOLD,
            ..StallLimits::default()
        };
        let reader = Err("there is no interpreter".into());
        let watchdog =
            Watchdog::start(limits, reader, None, Box::new(Hears(say))).expect("a thread");
        let pulse = Arc::new(Pulse::default());
        pulse.running.set_thread();
        let subject = Subject {
            number: 7,
            thread_name: "the test".into(),
            tells_callbacks,
        };
        let line = watchdog.watch(&pulse, subject);
        Test {
            watchdog,
            pulse,
            line,
            heard,
        }
    }

    impl Test {
        fn hear(&self) -> (Slice, Stall) {
            self.heard.recv_timeout(PATIENCE).expect("it is told")
        }

        /// Ends what goes on, as a loop does.
        fn end(&self, stalled: Stalled, number: u64, (start, end): (u64, u64)) -> Ended {
            let ended = Ended {
                stalled,
                number,
                start,
                end,
                round: 1,
            };
            self.line.tell(ended);
            ended
        }

        /// Ends a round that has begun under this watch and was a stall, before any look.
        fn end_round(&self) {
            let start = ticks();
            let end = start + TickScale::measure().ticks(30_000_000);
            self.end(Stalled::Round, 1, (start, end));
        }
    }

    fn nanoseconds(ended: Ended) -> u128 {
        u128::from(TickScale::measure().nanoseconds(ended.end - ended.start))
    }

    #[test]
    fn a_callback_that_goes_on_is_found_again_and_again_and_told_exactly_at_its_end() {
        let test = watch(true);
        let start = ticks();
        test.line.begin_round(start);
        let number = test.pulse.running.begin(0, start);
        let (slice, found) = test.hear();
        assert_eq!(
            (slice.event_loop, slice.stalled, slice.number),
            (7, Stalled::Callback, 1)
        );
        assert!(matches!(found.moment, Moment::Found { .. }));
        assert!(found.lasted >= THRESHOLD);
        assert_eq!(found.callback.as_deref(), Some("callback 1"));
        assert_eq!(
            found.stack.quality,
            Quality::Missing("there is no interpreter".into())
        );
        assert_eq!(
            (&*found.thread.name, found.cause),
            ("the test", Cause::Unknown)
        );
        let (_, later) = test.hear();
        assert!(matches!(later.moment, Moment::GoesOn { doubled: 1.. }));
        let start = test.pulse.running.end(number).expect("it is shown");
        let ended = test.end(Stalled::Callback, number, (start, ticks()));
        let over = loop {
            let (_, stall) = test.hear();
            if let Moment::Over { was_found } = stall.moment {
                assert!(was_found);
                break stall;
            }
        };
        // Two measures of the same ticks: the scale gets better with time.
        let difference = over.lasted.as_nanos().abs_diff(nanoseconds(ended));
        assert!(difference <= nanoseconds(ended) / 1_000, "{difference}");
        assert_eq!((over.number, over.reported), (found.number, found.reported));
        assert!(test.watchdog.stop().join().is_ok());
    }

    #[test]
    fn what_was_over_before_a_look_is_told_once_also_of_a_loop_that_is_gone() {
        let test = watch(false);
        test.end_round();
        test.pulse.close();
        let (slice, stall) = test.hear();
        assert_eq!(stall.moment, Moment::Over { was_found: false });
        // This loop tells no callbacks, so a round of one callback looks like any other one.
        assert_eq!(
            (slice.stalled, stall.stalled),
            (Stalled::Round, Stalled::Callback)
        );
        assert!(test.watchdog.stop().join().is_ok());
        assert!(test.heard.recv().is_err(), "it is told once");
    }

    #[test]
    fn what_is_over_was_told_before_a_settling_ends() {
        let test = watch(false);
        let before = super::super::pulse::long_slices();
        test.end_round();
        assert!(super::super::pulse::long_slices() > before);
        let (reply, settled) = sync_channel(1);
        test.watchdog.settle(reply);
        settled.recv_timeout(PATIENCE).expect("it replies");
        let (_, stall) = test.heard.try_recv().expect("it was told");
        assert_eq!(stall.moment, Moment::Over { was_found: false });
        assert!(test.watchdog.stop().join().is_ok());
    }

    #[test]
    fn a_watchdog_that_sleeps_is_woken_by_a_loop_that_goes_on() {
        let test = watch(true);
        let is_asleep = || test.pulse.is_slept_on();
        let until = std::time::Instant::now() + PATIENCE;
        while !is_asleep() {
            assert!(std::time::Instant::now() < until, "it goes to sleep");
            thread::yield_now();
        }
        test.line.begin_round(ticks());
        let (slice, _) = test.hear();
        assert_eq!((slice.stalled, slice.number), (Stalled::Round, 1));
    }
}
