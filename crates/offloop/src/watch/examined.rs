//! What a slice that goes on is doing: the cause and the stack, found by a thread that is never
//! attached.
//!
//! A cause needs two sights of the thread. The first one is taken at the watchdog's usual looks,
//! long before the slice becomes a stall, so that the second one tells of a long time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use offloop_core::Instant;
use offloop_core::event_loop::Stalled;
use offloop_core::watch::{
    Cause, Entry, NativeEntry, Quality, Stack, Stall, cause, cause_afterwards, cause_beside_delays,
    delay,
};
use offloop_sys::activity::ThreadFiles;
use offloop_sys::clock::monotonic_ns;
use offloop_sys::interpreter::memory::OwnMemory;
use offloop_sys::interpreter::{self, Codes, Interpreter, Reading, StackEntry, Unreadable};
use offloop_sys::running::Seen;

use super::lateness::Lateness;
use super::native::NativeReader;
use super::pulse::Pulse;
use super::rounds::{Callback, Share};
use super::watchdog::now;
use super::watched::Slice;
use crate::causes::{Sight, evidence};

/// Two sights that are closer together say little: the clocks of threads tick every few
/// milliseconds.
const APART_NS: u64 = 4_000_000;

/// Sights that are kept of one thread. A slice that is over had its looks in quick succession at
/// its end, and what is needed is from before them.
const SIGHTS_MAX: usize = 16;

/// The functions of C that the thread to blame runs, if its cause can have any.
pub(super) fn native_entries(
    native: &mut NativeReader,
    seen: &Seen,
    cause: &Cause,
) -> Vec<NativeEntry> {
    match *cause {
        Cause::OtherThread { native_id } => {
            u32::try_from(native_id).map_or_else(|_| Vec::new(), |thread| native.read(thread))
        }
        Cause::Native { .. } | Cause::Unknown => native.read(seen.thread),
        _ => Vec::new(),
    }
}

/// What a loop was seen to do in a slice.
pub(super) struct Examined {
    pub(super) stalled: Stalled,
    pub(super) cause: Cause,
    pub(super) keeps_gil: bool,
    pub(super) stack: Stack,
    pub(super) earlier: Option<Stack>,
    /// The slice was over before its stack was read.
    pub(super) over: bool,
    /// The stack could not be read.
    pub(super) is_unread: bool,
}

impl Examined {
    pub(super) fn unread(stalled: Stalled, reason: Arc<str>) -> Self {
        Self {
            stalled,
            cause: Cause::Unknown,
            keeps_gil: false,
            stack: missing(reason),
            earlier: None,
            over: false,
            is_unread: true,
        }
    }

    /// Of a loop that tells no callbacks: the callback that runs stands for the round if it was
    /// seen to run for a part of it.
    pub(super) fn blame(&mut self, share: Share) {
        self.stalled = Stalled::Callback;
        let Share::Unknown(earlier) = share else {
            return;
        };
        if self.cause.blames_no_code() {
            return;
        }
        self.stalled = Stalled::Round;
        let computes = matches!(
            self.cause,
            Cause::Python | Cause::Native { .. } | Cause::Collection | Cause::Unknown
        );
        if computes && earlier.is_some() {
            self.cause = Cause::Callbacks;
        }
        self.earlier = earlier;
    }

    pub(super) fn put(self, stall: &mut Stall) {
        stall.stalled = self.stalled;
        (stall.cause, stall.keeps_gil) = (self.cause, self.keeps_gil);
        (stall.stack, stall.earlier) = (self.stack, self.earlier);
    }
}

/// What one loop's thread was seen to do.
#[derive(Debug, Default)]
pub(super) struct Examiner {
    files: Option<ThreadFiles>,
    /// The slice that went on, its thread then, and when.
    before: Option<(Slice, Sight, u64)>,
    /// The same when the slice was first looked at.
    first: Option<(Slice, Sight)>,
    /// All sights of the thread and when they were, the latest last.
    sights: VecDeque<(u64, Sight)>,
    codes: Codes,
}

impl Examiner {
    /// A look at a slice that may become a stall.
    pub(super) fn glance(&mut self, slice: Slice, seen: &Seen, reader: &Interpreter<OwnMemory>) {
        if self.before.as_ref().is_some_and(|(of, ..)| *of == slice) {
            return;
        }
        let sight = self.sight(seen, reader);
        self.before = None;
        if let Some(sight) = sight {
            self.first = Some((slice, sight.clone()));
            self.keep(slice, sight, monotonic_ns());
        }
    }

    /// Whether the thread was last examined so long ago.
    pub(super) fn is_long_ago(&self, now: Instant, period: Duration) -> bool {
        let last = self.sights.back().map(|(at, _)| Instant::from_nanos(*at));
        last.is_none_or(|last| now.saturating_duration_since(last) >= period)
    }

    /// One more look at a slice. Its cause is found in the time from here on: before that, the loop
    /// may have waited, or run another callback.
    pub(super) fn glance_again(
        &mut self,
        slice: Slice,
        seen: &Seen,
        reader: &Interpreter<OwnMemory>,
    ) {
        if let Some(sight) = self.sight(seen, reader) {
            self.keep(slice, sight, monotonic_ns());
        }
    }

    fn keep(&mut self, slice: Slice, sight: Sight, at: u64) {
        if self.sights.len() == SIGHTS_MAX {
            self.sights.pop_front();
        }
        self.sights.push_back((at, sight.clone()));
        self.before = Some((slice, sight, at));
    }

    fn sight(&mut self, seen: &Seen, reader: &Interpreter<OwnMemory>) -> Option<Sight> {
        let native_id = u64::from(seen.thread);
        if self.files.as_ref().map(ThreadFiles::native_id) != Some(native_id) {
            self.files = ThreadFiles::open(native_id).ok();
            // What was seen was another thread.
            self.before = None;
            self.sights.clear();
        }
        let thread = reader.find(native_id).ok()?;
        Sight::of(self.files.as_ref()?, reader, thread).ok()
    }

    /// For how long the thread ran in a slice by itself, and was kept from it, since the slice was
    /// first looked at.
    pub(super) fn since_first(
        &mut self,
        slice: Slice,
        seen: &Seen,
        reader: &Interpreter<OwnMemory>,
    ) -> (Duration, Duration) {
        let first = self.first.clone().filter(|(of, _)| *of == slice);
        let (Some((_, first)), Some(now)) = (first, self.sight(seen, reader)) else {
            return Default::default();
        };
        let evidence = evidence(&[first, now], Err(Unreadable::Preempted), Duration::ZERO);
        (evidence.ran.unwrap_or_default(), delay(&evidence))
    }

    /// Whether the thread keeps the GIL in what it does: then the interpreter gives no answer.
    pub(super) fn keeps_gil(&self, cause: &Cause) -> bool {
        let has_gil = self
            .before
            .as_ref()
            .is_some_and(|(_, sight, _)| sight.has_gil());
        has_gil && !matches!(cause, Cause::Python | Cause::Callbacks | Cause::Unknown)
    }

    /// Why a slice goes on.
    pub(super) fn cause(
        &mut self,
        slice: Slice,
        (seen, has_worked): (&Seen, bool),
        lateness: &mut Lateness,
        reader: &Interpreter<OwnMemory>,
    ) -> Cause {
        let cause = self.cause_of_thread(slice, (seen, has_worked), lateness, reader);
        match (slice.stalled, seen.work, cause) {
            (
                Stalled::Round,
                Some(_),
                Cause::Python | Cause::Native { .. } | Cause::Collection | Cause::Unknown,
            ) => Cause::Callbacks,
            (_, _, cause) => cause,
        }
    }

    /// Why a slice took so long that was over before any look.
    pub(super) fn cause_afterwards(
        &mut self,
        seen: &Seen,
        (lasted, threshold): (Duration, Duration),
        reader: &Interpreter<OwnMemory>,
    ) -> Cause {
        let Some(second) = self.sight(seen, reader) else {
            return Cause::Unknown;
        };
        let now = monotonic_ns();
        let delays = self.sights.iter().map(|(at, first)| {
            let looks = [first.clone(), second.clone()];
            let evidence = evidence(&looks, Err(Unreadable::Preempted), Duration::ZERO);
            let before = Duration::from_nanos(now.saturating_sub(*at)).saturating_sub(lasted);
            // A delay of long before is not this slice's; but one of its own may have been over
            // when it was seen first.
            let is_near = before <= lasted;
            delay(&evidence).saturating_sub(if is_near { Duration::ZERO } else { before })
        });
        let delayed = delays.max().unwrap_or_default();
        cause_afterwards(lasted, delayed, threshold)
    }

    /// What runs, in the thread that is to blame, and the loop's callback if it is its thread and
    /// could be read; `None` if the slice is over meanwhile.
    pub(super) fn stack(
        &mut self,
        slice: Slice,
        seen: &Seen,
        (pulse, cause): (&Pulse, &Cause),
        reader: &Interpreter<OwnMemory>,
    ) -> Option<(Stack, Option<Callback>)> {
        let still = || slice.goes_on(pulse).unwrap_or(true);
        let (native_id, is_own) = match *cause {
            Cause::OtherThread { native_id } => (native_id, false),
            _ => (u64::from(seen.thread), true),
        };
        let reading = match reader.find(native_id) {
            Ok(thread) => reader.read(thread, &mut self.codes, still),
            Err(reason) => Reading::Unreadable(reason),
        };
        let (stack, quality) = match reading {
            Reading::Exact(stack) => (stack, Quality::Exact),
            Reading::Moving(stack) => (stack, Quality::Moving),
            Reading::Over => return None,
            Reading::Unreadable(reason) => return Some((missing(reason.to_string().into()), None)),
        };
        let all = kept(&stack, quality);
        if !is_own {
            return Some((all, None));
        }
        let inside = all.of_callback();
        let callback = Callback::of(&stack.entries[..inside.entries.len()]);
        Some((inside, Some(callback)))
    }

    fn cause_of_thread(
        &mut self,
        slice: Slice,
        (seen, has_worked): (&Seen, bool),
        lateness: &mut Lateness,
        reader: &Interpreter<OwnMemory>,
    ) -> Cause {
        self.glance(slice, seen, reader);
        let cause = self.cause_since(slice, (seen, has_worked), lateness, reader);
        let is_wait = !matches!(
            cause,
            Cause::Python | Cause::Native { .. } | Cause::Collection | Cause::Unknown
        ) && !cause.blames_no_code();
        let runs = self
            .before
            .as_ref()
            .is_some_and(|(_, sight, _)| sight.is_ready());
        if is_wait && runs {
            // The wait is over, and the stack that is read now is of something else.
            return self.cause_since(slice, (seen, has_worked), &mut Lateness::default(), reader);
        }
        cause
    }

    fn cause_since(
        &mut self,
        slice: Slice,
        (seen, has_worked): (&Seen, bool),
        lateness: &mut Lateness,
        reader: &Interpreter<OwnMemory>,
    ) -> Cause {
        let (Some((_, first, at)), Ok(thread)) =
            (self.before.clone(), reader.find(u64::from(seen.thread)))
        else {
            return Cause::Unknown;
        };
        let first = match self.sight(seen, reader) {
            Some(now) => first.with_gil_of(&now),
            None => first,
        };
        let motion = first.motion(reader, thread);
        let left = APART_NS.saturating_sub(monotonic_ns().saturating_sub(at));
        if left > 0 {
            std::thread::sleep(Duration::from_nanos(left));
        }
        let Some(second) = self.sight(seen, reader) else {
            return Cause::Unknown;
        };
        // The next examination of this slice tells of the time since this one.
        let now = now();
        self.keep(slice, second.clone(), now.as_nanos());
        lateness.catch_up(now);
        let late = lateness.within(Instant::from_nanos(at), now);
        let evidence = evidence(&[first, second], motion, late);
        if has_worked {
            cause_beside_delays(&evidence)
        } else {
            cause(&evidence)
        }
    }
}

pub(super) fn missing(reason: Arc<str>) -> Stack {
    Stack {
        entries: Vec::new(),
        cut: 0,
        hidden: 0,
        unsettled: 0,
        quality: Quality::Missing(reason),
    }
}

fn kept(stack: &interpreter::Stack, quality: Quality) -> Stack {
    let entry = |entry: &StackEntry| Entry {
        filename: Arc::clone(&entry.filename),
        function: Arc::clone(&entry.function),
        line: entry.position.line,
    };
    Stack {
        entries: stack.entries.iter().map(entry).collect(),
        cut: stack.cut,
        hidden: stack.hidden,
        unsettled: stack.entries.len().saturating_sub(stack.settled),
        quality,
    }
}
