//! One loop that is watched: what it was seen to do, and which of its stalls are not over.

use std::sync::Arc;
use std::time::Duration;

use offloop_core::Instant;
use offloop_core::event_loop::{
    self, Activity, Moment, NextLook, StallLimits, StallPolicy, StallReport, Stalled,
};
use offloop_core::watch::{Cause, Quality, Stall, StalledThread};
use offloop_sys::clock::{TickScale, monotonic_ns, ticks};
use offloop_sys::interpreter::Interpreter;
use offloop_sys::interpreter::memory::OwnMemory;
use offloop_sys::running::Seen;

use super::examined::{Examined, Examiner, missing, native_entries};
use super::lateness::Lateness;
use super::pulse::{Ended, LineEnd, Pulse};
use super::rounds::RoundsSeen;
use super::watchdog::{Question, Telling, earlier, next_number, now};

/// How often the words of a pulse are read, if they change each time.
const READS_MAX: u32 = 64;
/// How soon they are read again then: their writer was stopped while it changed them.
const UNREAD: Duration = Duration::from_millis(1);
/// A round that could not be read is read again after this part of the threshold.
const REREAD_PART: u32 = 10;
/// How long after it was due a report waits for the interpreter's facts.
const FACTS_WAIT: Duration = Duration::from_millis(8);
/// The same if the interpreter is to tell the stack: it gives the GIL away after 5 ms, but not
/// during a call of C.
const STACK_WAIT: Duration = Duration::from_millis(50);

/// A piece of the time of one loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slice {
    /// The number of the loop.
    pub event_loop: u64,
    /// A callback or a round.
    pub stalled: Stalled,
    /// Its number.
    pub number: u64,
}

impl Slice {
    /// Whether it goes on; `None` while the words of the pulse change.
    pub(super) fn goes_on(self, pulse: &Pulse) -> Option<bool> {
        let seen = pulse.running.read()?;
        let number = match self.stalled {
            Stalled::Callback => seen.work.map(|work| work.number),
            Stalled::Round => seen.round.map(|round| round.number),
        };
        Some(number == Some(self.number))
    }
}

/// What the watchdog is told of a loop.
#[derive(Clone, Debug)]
pub struct Subject {
    /// A number of the caller's.
    pub number: u64,
    /// The name of its thread.
    pub thread_name: Arc<str>,
    /// Whether it tells its callbacks, and not only its rounds.
    pub tells_callbacks: bool,
}

/// The two clocks at one moment: ticks become times by it.
struct Clocks {
    scale: TickScale,
    ticks: u64,
    ns: u64,
}

impl Clocks {
    fn now() -> Self {
        Self {
            scale: TickScale::measure(),
            ticks: ticks(),
            ns: monotonic_ns(),
        }
    }

    fn instant(&self, at: u64) -> Instant {
        let ago = self.scale.nanoseconds(self.ticks.saturating_sub(at));
        Instant::from_nanos(self.ns.saturating_sub(ago))
    }

    fn slice(&self, number: u64, start: u64) -> event_loop::Slice {
        event_loop::Slice {
            number,
            began: self.instant(start),
        }
    }
}

/// A stall that was found.
struct Open {
    slice: Slice,
    stall: Stall,
    /// It was over before it could be told.
    is_untold: bool,
}

/// A loop.
pub(super) struct Watched {
    pub(super) pulse: Arc<Pulse>,
    subject: Subject,
    ended: LineEnd,
    policy: StallPolicy,
    /// At most one for a callback and one for a round.
    open: Vec<Open>,
    /// Slices that were missed, and not told yet.
    missed: u64,
    is_over: bool,
    examiner: Examiner,
    /// Of a loop that tells no callbacks.
    rounds: RoundsSeen,
    /// When it began to be watched, in ticks. What a slice did before that was not seen.
    since: u64,
}

impl Watched {
    pub(super) fn new(subject: Subject, pulse: Arc<Pulse>, ended: LineEnd) -> Self {
        Self {
            pulse,
            subject,
            ended,
            policy: StallPolicy::new(StallLimits::default()),
            open: Vec::new(),
            missed: 0,
            is_over: false,
            examiner: Examiner::default(),
            rounds: RoundsSeen::default(),
            since: ticks(),
        }
    }

    pub(super) fn set_limits(&mut self, limits: StallLimits) {
        self.policy.set_limits(limits);
    }

    /// Whether there is nothing to watch any more, ever, and all was told.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// Tells what is to be told now. When the next look is due.
    pub(super) fn look(&mut self, telling: &mut Telling) -> NextLook {
        // What the loop told before it was closed is there by now.
        self.is_over = self.pulse.is_closed();
        while let Some(ended) = self.ended.next() {
            self.end(ended, telling);
        }
        self.missed += self.pulse.take_missed();
        let Some(seen) = self.read() else {
            return NextLook::At(now().saturating_add(UNREAD));
        };
        let clocks = Clocks::now();
        let activity = seen.round.map(|round| Activity {
            round: clocks.slice(round.number, round.start.max(self.since)),
            callback: seen
                .work
                .map(|work| clocks.slice(work.number, work.start.max(self.since))),
        });
        if let (Some(activity), Ok(reader)) = (activity, &telling.reader) {
            let slice = match activity.callback {
                Some(callback) => self.slice(Stalled::Callback, callback.number),
                None => self.slice(Stalled::Round, activity.round.number),
            };
            let (now, threshold) = (Instant::from_nanos(clocks.ns), self.policy.threshold());
            // One that is looked at more often than it could stall is not examined each time.
            let due = self.rounds.due(activity.round, threshold);
            if !self.has_only_rounds()
                || due.is_none_or(|due| now >= due)
                || self.examiner.is_long_ago(now, threshold)
            {
                self.examiner.glance(slice, &seen, reader);
            }
        }
        let now = Instant::from_nanos(clocks.ns);
        let (report, next) = self.policy.look(now, activity);
        if let Some(report) = report {
            self.report(report, &seen, &clocks, telling);
            return next;
        }
        match (activity, &telling.reader) {
            (Some(Activity { round, .. }), Ok(reader)) if self.has_only_rounds() => {
                let due = self.read_round((round, now), &seen, reader);
                let soon = now.saturating_add(self.policy.threshold() / 2);
                earlier(next, NextLook::At(due.unwrap_or(soon).min(soon)))
            }
            _ => next,
        }
    }

    /// Whether each round is to be seen before half a threshold is over: it tells no callbacks.
    pub(super) const fn has_only_rounds(&self) -> bool {
        !self.subject.tells_callbacks
    }

    /// Reads a round long before it is a stall. When that is due, if not now.
    fn read_round(
        &mut self,
        (round, now): (event_loop::Slice, Instant),
        seen: &Seen,
        reader: &Interpreter<OwnMemory>,
    ) -> Option<Instant> {
        let due = self.rounds.due(round, self.policy.threshold())?;
        if now < due {
            return Some(due);
        }
        let slice = self.slice(Stalled::Round, round.number);
        let of = (&*self.pulse, &Cause::Unknown);
        match self.examiner.stack(slice, seen, of, reader)? {
            (stack, Some(callback)) => {
                self.rounds.read(round.number, now, (callback, stack));
                self.examiner.glance_again(slice, seen, reader);
                None
            }
            _ => Some(now.saturating_add(self.policy.threshold() / REREAD_PART)),
        }
    }

    fn read(&self) -> Option<Seen> {
        (0..READS_MAX).find_map(|_| {
            let seen = self.pulse.running.read();
            if seen.is_none() {
                std::hint::spin_loop();
            }
            seen
        })
    }

    fn slice(&self, stalled: Stalled, number: u64) -> Slice {
        Slice {
            event_loop: self.subject.number,
            stalled,
            number,
        }
    }

    /// As what a slice is told. A loop that tells no callbacks has rounds of one callback mostly.
    fn shown(&self, stalled: Stalled) -> Stalled {
        if self.subject.tells_callbacks {
            stalled
        } else {
            Stalled::Callback
        }
    }

    fn question(&self, slice: Slice, wants_stack: bool) -> Question {
        Question {
            slice,
            pulse: Arc::clone(&self.pulse),
            wants_stack,
        }
    }

    fn cause_of(
        &mut self,
        slice: Slice,
        (seen, lasted, late): (&Seen, Duration, Duration),
        lateness: &mut Lateness,
        reader: &Interpreter<OwnMemory>,
    ) -> Cause {
        let (ran, delayed) = self.examiner.since_first(slice, seen, reader);
        let has_worked = ran >= self.policy.threshold();
        // If the watchdog itself was kept from looking, so was the whole process.
        if !has_worked && late.max(delayed) >= lasted / 2 {
            return Cause::Starved;
        }
        self.examiner
            .cause(slice, (seen, has_worked), lateness, reader)
    }

    /// What the loop does in a slice that is to be reported.
    fn examine(
        &mut self,
        (slice, report): (Slice, &StallReport),
        seen: &Seen,
        at: Instant,
        telling: &mut Telling,
    ) -> Examined {
        telling.lateness.catch_up(now());
        let late = telling
            .lateness
            .within(at.saturating_sub(report.lasted), now());
        let reader = match &telling.reader {
            Ok(reader) => reader,
            Err(reason) => {
                let stalled = self.shown(report.stalled);
                return Examined::unread(stalled, Arc::clone(reason));
            }
        };
        let times = (seen, report.lasted, late);
        let cause = self.cause_of(slice, times, &mut telling.lateness, reader);
        if matches!(report.moment, Moment::Found { .. }) && report.is_told {
            // It takes its time to get the GIL, while the stack is read here.
            telling.audience.ask(self.question(slice, false));
        }
        let of = (&*self.pulse, &cause);
        let (stack, callback) = match self.examiner.stack(slice, seen, of, reader) {
            Some((stack, callback)) => (Some(stack), callback),
            None => (None, None),
        };
        let over = stack.is_none();
        let stack = stack.unwrap_or_else(|| missing("it was over before it was read".into()));
        let mut examined = Examined {
            keeps_gil: self.examiner.keeps_gil(&cause),
            is_unread: !over && matches!(stack.quality, Quality::Missing(_)),
            over,
            stalled: report.stalled,
            cause,
            stack,
            earlier: None,
        };
        if !self.subject.tells_callbacks {
            let round = (slice.number, at);
            self.rounds.report(round, callback, &examined.stack);
            examined.blame(self.rounds.share(round, report.lasted));
        }
        examined
    }

    /// A stall was found, or goes on.
    fn report(
        &mut self,
        mut report: StallReport,
        seen: &Seen,
        clocks: &Clocks,
        telling: &mut Telling,
    ) {
        let slice = self.slice(report.stalled, report.number);
        let is_new = self.open.iter().all(|open| open.slice != slice);
        let at = Instant::from_nanos(clocks.ns);
        let examined = self.examine((slice, &report), seen, at, telling);
        let Examined {
            over,
            is_unread,
            keeps_gil,
            ..
        } = examined;
        let index = match self.open.iter().position(|open| open.slice == slice) {
            Some(index) => index,
            None => self.find(slice, report, clocks),
        };
        let asks = (self.question(slice, false), self.question(slice, true));
        let open = &mut self.open[index];
        open.is_untold |= over && matches!(report.moment, Moment::Found { .. });
        let stall = &mut open.stall;
        if !over && (is_new || !is_unread) {
            examined.put(stall);
        }
        (stall.moment, stall.lasted) = (report.moment, report.lasted);
        if !report.is_told
            && !open.is_untold
            && telling.audience.is_news(stall)
            && self.policy.let_through(at, &mut report)
        {
            telling.audience.ask(asks.0);
            // Those that hear of stalls have not heard of this one.
            let late_by = Duration::ZERO;
            stall.moment = Moment::Found { late_by };
        }
        if is_unread && report.is_told {
            telling.audience.ask(asks.1);
        }
        // A thread is not interrupted for what is only recorded.
        if let (true, Some(native)) = (report.is_told, &mut telling.native)
            && !over
            && (is_new || !is_unread)
        {
            stall.native = native_entries(native, seen, &stall.cause);
        }
        stall.suppressed = report.suppressed + std::mem::take(&mut self.missed);
        if open.is_untold {
            // Its end is on the way, with the exact duration.
            return;
        }
        let wait = match (keeps_gil, is_unread) {
            // No answer comes before the call of C is over.
            (true, _) => Duration::ZERO,
            (false, true) => STACK_WAIT,
            (false, false) => FACTS_WAIT,
        };
        let until = at.saturating_add(wait);
        if let Some(facts) = telling.audience.answer(slice, until) {
            facts.add_to(stall);
        }
        if is_new {
            stall.reported = now();
        }
        telling.audience.tell(slice, stall, report.is_told);
    }

    /// A stall that was not known before; its place in the list.
    fn find(&mut self, slice: Slice, report: StallReport, clocks: &Clocks) -> usize {
        // One of a kind: what was there before has ended without a word, as by a loop that is gone.
        self.open.retain(|open| open.slice.stalled != slice.stalled);
        let started = Instant::from_nanos(clocks.ns).saturating_sub(report.lasted);
        let stall = Stall {
            number: next_number(),
            thread: StalledThread {
                native_id: self.read().map_or(0, |seen| u64::from(seen.thread)),
                name: Arc::clone(&self.subject.thread_name),
            },
            stalled: self.shown(report.stalled),
            started,
            reported: now(),
            lasted: report.lasted,
            moment: report.moment,
            suppressed: 0,
            cause: Cause::Unknown,
            keeps_gil: false,
            stack: missing("it was over before it was looked at".into()),
            earlier: None,
            native: Vec::new(),
            callback: None,
            task: None,
            request: None,
        };
        self.open.push(Open {
            slice,
            stall,
            is_untold: false,
        });
        self.open.len() - 1
    }

    /// Something is over that took long.
    fn end(&mut self, ended: Ended, telling: &mut Telling) {
        let clocks = Clocks::now();
        let start = ended.start.max(self.since);
        let lasted = clocks.scale.nanoseconds(ended.end.saturating_sub(start));
        let report = self.policy.ended(
            Instant::from_nanos(clocks.ns),
            (ended.stalled, ended.number),
            Duration::from_nanos(lasted),
            ended.round,
        );
        let slice = self.slice(ended.stalled, ended.number);
        let known = self.open.iter().position(|open| open.slice == slice);
        let Some(report) = report else {
            known
                .into_iter()
                .for_each(|index| drop(self.open.swap_remove(index)));
            return;
        };
        let index = known.unwrap_or_else(|| self.find(slice, report, &clocks));
        let Open {
            mut stall,
            is_untold,
            ..
        } = self.open.swap_remove(index);
        stall.started = clocks.instant(start);
        stall.lasted = report.lasted;
        stall.suppressed = report.suppressed + std::mem::take(&mut self.missed);
        stall.moment = report.moment;
        if known.is_none() && report.is_told {
            telling.audience.ask(self.question(slice, false));
        }
        let is_unseen = known.is_none() || is_untold || stall.cause == Cause::Unknown;
        let over = stall.started.saturating_add(report.lasted);
        telling.lateness.catch_up(now());
        let late = telling.lateness.within(stall.started, over);
        if is_unseen && late >= report.lasted / 2 {
            stall.cause = Cause::Starved;
        } else if let (true, Some(seen), Ok(reader)) = (is_unseen, self.read(), &telling.reader) {
            let times = (report.lasted, self.policy.threshold());
            let found = self.examiner.cause_afterwards(&seen, times, reader);
            if found == Cause::Starved {
                stall.cause = found;
            }
        }
        let until = now().saturating_add(FACTS_WAIT);
        if let Some(facts) = telling.audience.answer(slice, until) {
            facts.add_to(&mut stall);
        }
        if is_untold {
            stall.moment = Moment::Over { was_found: false };
        }
        if known.is_none() || is_untold {
            stall.reported = now();
        }
        telling.audience.tell(slice, &stall, report.is_told);
    }
}
