//! What looks at a loop's thread tell: how much of the time it worked, and on which lines.
//!
//! A look finds the thread waiting for events, or in the midst of a callback. The part of looks
//! that found it at work is its utilisation. A line is blamed for the time between two looks that
//! found it; when every look for `STALL_SECONDS` found the loop at the same line of a callback, in
//! the same function that this line has called, the loop is told to be blocked there. A look cannot
//! tell one long call from many short ones at the same line, and says so.
//!
//! Units:      seconds.
//! Invariants: at most `LINES_MAX` lines and `STALLS_MAX` stalls are kept.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use offloop_sys::interpreter::StackEntry;

use offloop_views::document::{BlockedNow, Culprit, LoopStatistics, Place, Stall};

/// For so long all looks find the same line before it is told to block the loop.
const STALL_SECONDS: f64 = 0.25;
/// Lines that are kept.
const LINES_MAX: usize = 1024;
/// Stalls that are kept.
const STALLS_MAX: usize = 32;
/// Between two looks that are further apart, it is not known what was.
const APART_MAX: f64 = 0.25;
/// Entries of a stack that are told.
const STACK_MAX: usize = 48;

/// A line that was seen at work.
#[derive(Clone, Debug, Default)]
struct Line {
    function: String,
    looks: u64,
    seconds: f64,
    longest: f64,
}

/// The outermost line of a callback, and the function that it has called.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Call {
    outer: Option<StackEntry>,
    inner: Option<Arc<str>>,
}

/// A line that all looks have found since.
#[derive(Clone, Debug)]
struct Kept {
    since: f64,
    call: Call,
    /// In `stalls`, once it is one.
    stall: Option<u64>,
}

/// What was seen of one loop.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    number: u64,
    thread: String,
    last_look: Option<f64>,
    looks: VecDeque<(f64, bool)>,
    all: u64,
    at_work: u64,
    lines: HashMap<(String, i32), Line>,
    kept: Option<Kept>,
    stalls: VecDeque<Stall>,
    stalls_told: u64,
}

/// What runs a loop: its entries say nothing of the program.
fn is_machinery(filename: &str) -> bool {
    [
        "/asyncio/",
        "/offloop/_",
        "/selectors.py",
        "/concurrent/futures/",
        "/threading.py",
        "<frozen ",
    ]
    .iter()
    .any(|part| filename.contains(part))
}

/// Whether this is the function of asyncio's, or of offloop's, that runs a loop.
fn is_of_loop(entry: &StackEntry) -> bool {
    let is_runner = [
        "/asyncio/runners.py",
        "/asyncio/base_events.py",
        "/offloop/_loop/event_loop.py",
    ]
    .iter()
    .any(|file| entry.filename.ends_with(file));
    is_runner && (entry.function.starts_with("Runner.run") || entry.function.contains(".run_"))
}

/// Whether a stack is that of a thread that runs a loop, and whether it is at work.
pub(super) fn at_work(stack: &[StackEntry]) -> Option<bool> {
    let place = stack.iter().position(is_of_loop)?;
    // What the loop itself does is no work of the program's: it waits, or goes from one callback to
    // the next.
    Some(
        stack[..place]
            .iter()
            .any(|entry| !is_machinery(&entry.filename)),
    )
}

pub(super) fn place(entry: &StackEntry) -> Place {
    Place {
        file: entry.filename.to_string(),
        line: entry.position.line,
        function: entry.function.to_string(),
        source: None,
    }
}

/// The line to blame: the innermost one that is no part of Python's own library, or else the
/// innermost one that runs no loop.
fn blamed(stack: &[StackEntry]) -> Option<&StackEntry> {
    let own = |entry: &&StackEntry| {
        !is_machinery(&entry.filename)
            && !entry.filename.contains("/lib/python3")
            && !entry.filename.contains("/site-packages/")
    };
    let any = |entry: &&StackEntry| !is_machinery(&entry.filename);
    stack.iter().find(own).or_else(|| stack.iter().find(any))
}

/// The call that a callback is in.
fn call_of(stack: &[StackEntry]) -> Call {
    let outside = stack.iter().position(is_of_loop).unwrap_or(stack.len());
    let inside = &stack[..outside];
    let place = inside
        .iter()
        .rposition(|entry| !is_machinery(&entry.filename));
    let inner = place.and_then(|place| inside.get(place.checked_sub(1)?));
    Call {
        outer: place.map(|place| inside[place].clone()),
        inner: inner.map(|entry| Arc::clone(&entry.function)),
    }
}

impl Seen {
    pub(super) fn new(number: u64, thread: String) -> Self {
        Self {
            number,
            thread,
            ..Self::default()
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn thread(&self) -> &str {
        &self.thread
    }

    /// A look found this stack, innermost first, of a loop that is at work, or is not.
    pub(super) fn look(&mut self, now: f64, stack: &[StackEntry], at_work: bool) {
        let passed = self.last_look.map_or(0.0, |last| now - last);
        self.last_look = Some(now);
        self.all += 1;
        self.at_work += u64::from(at_work);
        self.looks.push_back((now, at_work));
        while self.looks.front().is_some_and(|(at, _)| now - at > 10.0) {
            self.looks.pop_front();
        }
        let known = passed <= APART_MAX;
        let call = call_of(stack);
        let same = at_work && known && self.kept.as_ref().is_some_and(|kept| kept.call == call);
        if !same {
            self.end();
            let kept = Kept {
                since: now,
                call,
                stall: None,
            };
            self.kept = at_work.then_some(kept);
        }
        if at_work {
            self.blame(now, stack, if known { passed } else { 0.0 });
        }
    }

    fn blame(&mut self, now: f64, stack: &[StackEntry], passed: f64) {
        let Some(entry) = blamed(stack) else {
            return;
        };
        let key = (entry.filename.to_string(), entry.position.line.unwrap_or(0));
        if self.lines.len() >= LINES_MAX && !self.lines.contains_key(&key) {
            return;
        }
        let line = self.lines.entry(key).or_default();
        line.function = entry.function.to_string();
        line.looks += 1;
        line.seconds += passed;
        let since = self.kept.as_ref().map_or(now, |kept| kept.since);
        line.longest = line.longest.max(now - since);
        if now - since >= STALL_SECONDS {
            self.tell(now, since, stack, place(entry));
        }
    }

    fn tell(&mut self, now: f64, since: f64, stack: &[StackEntry], culprit: Place) {
        let Some(kept) = self.kept.as_mut() else {
            return;
        };
        if let Some(number) = kept.stall {
            if let Some(stall) = self.stalls.iter_mut().find(|stall| stall.number == number) {
                stall.seconds = now - since;
                stall.stack = stack.iter().take(STACK_MAX).map(place).collect();
            }
            return;
        }
        self.stalls_told += 1;
        let number = self.number << 32 | self.stalls_told;
        kept.stall = Some(number);
        self.stalls.push_back(Stall {
            number,
            event_loop: Some(self.number),
            thread: self.thread.clone(),
            started: since,
            seconds: now - since,
            cause: "seen".to_owned(),
            detail: Some("every look found this line".to_owned()),
            culprit: Some(culprit),
            stack: stack.iter().take(STACK_MAX).map(place).collect(),
            stack_quality: "seen".to_owned(),
            ..Stall::default()
        });
        if self.stalls.len() > STALLS_MAX {
            self.stalls.pop_front();
        }
    }

    /// The line is not found any more.
    fn end(&mut self) {
        let told = self.kept.take().and_then(|kept| kept.stall);
        if let Some(stall) = self
            .stalls
            .iter_mut()
            .find(|stall| Some(stall.number) == told)
        {
            stall.is_over = true;
        }
    }

    /// What goes on now.
    pub(super) fn blocked(&self) -> Option<BlockedNow> {
        let number = self.kept.as_ref()?.stall?;
        let stall = self.stalls.iter().find(|stall| stall.number == number)?;
        Some(BlockedNow {
            stall: number,
            seconds: stall.seconds,
        })
    }

    pub(super) fn stalls(&self) -> impl Iterator<Item = &Stall> {
        self.stalls.iter()
    }

    pub(super) fn statistics(&self, now: f64) -> LoopStatistics {
        let share = |seconds: f64| {
            let looks = self.looks.iter().filter(|(at, _)| now - at <= seconds);
            let (at_work, all) = looks.fold((0, 0_u32), |(at_work, all), (_, each)| {
                (at_work + u32::from(*each), all + 1)
            });
            f64::from(at_work) / f64::from(all.max(1))
        };
        LoopStatistics {
            utilisation: self.at_work as f64 / self.all.max(1) as f64,
            utilisation_1s: share(1.0),
            utilisation_10s: share(10.0),
            ..LoopStatistics::default()
        }
    }

    pub(super) fn culprits(&self) -> impl Iterator<Item = Culprit> {
        self.lines.iter().map(|((file, line), seen)| Culprit {
            file: Some(file.clone()),
            line: Some(*line),
            function: Some(seen.function.clone()),
            cause: "seen".to_owned(),
            because: Some(format!(
                "{} of {} looks found it at work",
                seen.looks, self.all
            )),
            count: seen.looks,
            total_seconds: seen.seconds,
            longest_seconds: seen.longest,
            ..Culprit::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use offloop_sys::interpreter::Position;

    use super::*;

    fn entry(filename: &str, function: &str, line: i32) -> StackEntry {
        StackEntry {
            filename: filename.into(),
            function: function.into(),
            first_line: 1,
            position: Position {
                line: Some(line),
                ..Position::default()
            },
            frame: 0,
            of_generator: false,
        }
    }

    fn stack(inner: &[(&str, &str, i32)]) -> Vec<StackEntry> {
        let outer = [
            (
                "/lib/python3.13/asyncio/base_events.py",
                "BaseEventLoop._run_once",
                2034,
            ),
            (
                "/lib/python3.13/asyncio/base_events.py",
                "BaseEventLoop.run_forever",
                683,
            ),
            ("/lib/python3.13/asyncio/runners.py", "Runner.run", 118),
            ("/srv/main.py", "<module>", 9),
        ];
        let all = inner.iter().chain(&outer);
        all.map(|(file, function, line)| entry(file, function, *line))
            .collect()
    }

    #[test]
    fn a_loop_that_waits_is_told_from_one_that_works() {
        let selecting = stack(&[("/lib/python3.13/selectors.py", "EpollSelector.select", 435)]);
        assert_eq!(at_work(&selecting), Some(false));
        assert_eq!(at_work(&stack(&[])), Some(false));
        let step = ("/lib/python3.13/asyncio/events.py", "Handle._run", 89);
        let working = stack(&[("/srv/main.py", "work", 4), step]);
        assert_eq!(at_work(&working), Some(true));
        assert_eq!(at_work(&[entry("/srv/main.py", "<module>", 9)]), None);
        let uvloop = [entry(
            "/lib/python3.13/asyncio/runners.py",
            "Runner.run",
            118,
        )];
        assert_eq!(at_work(&uvloop), Some(false));
    }

    #[test]
    fn the_loop_of_offloop_waits_and_works_as_any_other() {
        let own = |inner: &[(&str, &str, i32)]| {
            let event_loop = "/lib/python3.13/site-packages/offloop/_loop/event_loop.py";
            let mut entries: Vec<_> = inner
                .iter()
                .map(|(file, function, line)| entry(file, function, *line))
                .collect();
            entries.push(entry(event_loop, "EventLoop.run_forever", 114));
            entries.extend(stack(&[]).into_iter().skip(1));
            entries
        };
        assert_eq!(at_work(&own(&[])), Some(false));
        let watch = "/lib/python3.13/site-packages/offloop/_watch/tasks.py";
        assert_eq!(at_work(&own(&[(watch, "note", 7)])), Some(false));
        let working = own(&[("/srv/main.py", "work", 4)]);
        assert_eq!(at_work(&working), Some(true));
        assert_eq!(blamed(&working).map(|entry| &*entry.function), Some("work"));
    }

    #[test]
    fn a_line_that_every_look_finds_blocks_the_loop_until_one_does_not() {
        let mut seen = Seen::new(1, "MainThread".to_owned());
        let working = stack(&[
            ("/lib/python3.13/json/decoder.py", "JSONDecoder.decode", 345),
            ("/srv/main.py", "work", 4),
        ]);
        for look in 0..20 {
            seen.look(f64::from(look) * 0.02, &working, true);
        }
        let blocked = seen.blocked().expect("for 0.38 s");
        assert!((blocked.seconds - 0.38).abs() < 1e-9);
        seen.look(0.40, &stack(&[]), false);
        assert_eq!(seen.blocked(), None);
        let stalls: Vec<_> = seen.stalls().collect();
        assert_eq!(stalls.len(), 1);
        assert!(
            stalls[0].is_over
                && stalls[0]
                    .culprit
                    .as_ref()
                    .is_some_and(|place| { place.file == "/srv/main.py" && place.line == Some(4) })
        );
        let culprits: Vec<_> = seen.culprits().collect();
        assert_eq!(
            culprits[0].because.as_deref(),
            Some("20 of 21 looks found it at work")
        );
        assert!((seen.statistics(0.4).utilisation - 20.0 / 21.0).abs() < 1e-9);
    }

    #[test]
    fn looks_that_are_far_apart_are_not_joined() {
        let mut seen = Seen::new(1, "MainThread".to_owned());
        let working = stack(&[("/srv/main.py", "work", 4)]);
        seen.look(0.0, &working, true);
        seen.look(5.0, &working, true);
        assert_eq!(seen.blocked(), None);
        assert!(seen.culprits().all(|culprit| culprit.total_seconds == 0.0));
    }
}
