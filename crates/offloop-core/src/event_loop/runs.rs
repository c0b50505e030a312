//! Which run of a loop has the loop: runs take turns, also those of several threads.
//!
//! A run calls callbacks, round after round, on the thread that began it. Two things put another
//! run in its place for a while. A callback may begin a run of its own (nested loops). And while a
//! callback goes on for too long another thread may take the loop over: a relief run. The run that
//! was left behind learns of it when its callback returns, by its number, and asks for the loop.
//! It gets the loop at the next boundary between two callbacks, and goes on with the same round.
//!
//! ```text
//!            begin                      begin, on the same thread
//!   (new) ----------> Has <----------------------------------> Outer
//!                      |  ^                 end of that run
//!            take_over |  | handed over,
//!      by another run  v  | or no run has the loop
//!                  Displaced -----------> Waits
//!                          its callback returned
//! ```
//!
//! Invariants: 1. At most one run has the loop.
//!             2. A run is displaced only in the middle of a round: one of its callbacks is under
//!                way. What is left of the round is here, and not on a thread's stack.
//!             3. Of the threads that want the loop, the one whose first run is the oldest has it
//!                at the next boundary: on that thread the program runs the loop.
//!             4. A relief run has the loop only while another run goes on, and none waits.
//! Source:     Go's scheduler hands the work of a blocked thread to another one (`handoffp` in
//!             runtime/proc.go); docs/design/007-loop.md.

#[cfg(test)]
mod tests;

/// The number of a run: its epoch. Later runs have greater ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunNumber(u64);

/// No run has this number.
const NONE: RunNumber = RunNumber(0);

/// What a run does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Turn {
    /// The next callback that is ready.
    Callback,
    /// Another round, or its end.
    RoundOver,
    /// It does not touch the loop before it has asked `lost` what to do.
    Lost,
}

/// What a run does that has lost the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Lost<T> {
    /// Go on: it has the loop again.
    GoOn,
    /// Wait to be woken, and ask `lost` again. The thread that is named, if any, has to be woken:
    /// it hands the loop over, or has just been given it.
    Wait(Option<T>),
    /// End. The thread that is named, if any, has just been given the loop.
    End(Option<T>),
}

/// Why a thread cannot take the loop over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRelieved<T> {
    /// No callback is under way.
    NoCallback,
    /// A run of this thread waits for the loop; it has been given it, and has to be woken.
    Given(T),
}

/// The runs of a loop. `T` names a thread; `K` is what is kept for a run until its end.
#[derive(Debug)]
pub struct Runs<T, K> {
    /// The run whose turn it is. `NONE` while its holder is asked for the loop, or no run has it.
    turn: RunNumber,
    /// How many callbacks are left of the round.
    left: usize,
    /// A callback may be under way.
    in_round: bool,
    last: RunNumber,
    /// In the order of their numbers.
    runs: Vec<Run<T, K>>,
}

#[derive(Debug)]
struct Run<T, K> {
    number: RunNumber,
    thread: T,
    state: State,
    is_relief: bool,
    /// What was left of the round inside which it began.
    outer_left: usize,
    kept: K,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has the loop.
    Has,
    /// It has begun another run, which goes on.
    Outer,
    /// Another thread has taken the loop over during a callback of this run.
    Displaced,
    /// It wants the loop.
    Waits,
}

impl<T, K> Default for Runs<T, K> {
    fn default() -> Self {
        Self {
            turn: NONE,
            left: 0,
            in_round: false,
            last: NONE,
            runs: Vec::new(),
        }
    }
}

impl<T: Copy + PartialEq, K> Runs<T, K> {
    /// A run begins on a thread. While another thread has the loop, this one takes it over; if its
    /// own callback was displaced, the new run waits, and `has` is false.
    ///
    /// # Errors
    /// As [`Runs::take_over`].
    pub fn begin(&mut self, thread: T, kept: K) -> Result<RunNumber, NotRelieved<T>> {
        let newest = self.runs.iter().rposition(|run| run.thread == thread);
        if newest.is_none() && self.holder().is_some() {
            return self.take_over(thread, kept);
        }
        let before = newest.map(|at| std::mem::replace(&mut self.runs[at].state, State::Outer));
        let was_asked = before == Some(State::Has) && self.turn == NONE;
        let has = before == Some(State::Has) || self.holder().is_none();
        let state = if has { State::Has } else { State::Waits };
        let outer_left = if has {
            std::mem::take(&mut self.left)
        } else {
            0
        };
        let number = self.push(thread, state, false, outer_left, kept);
        if has && !was_asked {
            self.turn = number;
        }
        Ok(number)
    }

    /// Another thread takes the loop over in the middle of a round, and goes on with that.
    ///
    /// # Errors
    /// The loop is not to be taken over, or has a run that waits for it.
    pub fn take_over(&mut self, thread: T, kept: K) -> Result<RunNumber, NotRelieved<T>> {
        let holder = self.holder().filter(|_| self.in_round);
        let Some(holder) = holder else {
            return Err(NotRelieved::NoCallback);
        };
        self.runs[holder].state = State::Displaced;
        if let Some(waits) = self.oldest_that_waits() {
            return Err(NotRelieved::Given(self.give(waits)));
        }
        let number = self.push(thread, State::Has, true, 0, kept);
        self.turn = number;
        Ok(number)
    }

    fn push(
        &mut self,
        thread: T,
        state: State,
        is_relief: bool,
        outer_left: usize,
        kept: K,
    ) -> RunNumber {
        let number = RunNumber(self.last.0 + 1);
        self.last = number;
        self.runs.push(Run {
            number,
            thread,
            state,
            is_relief,
            outer_left,
            kept,
        });
        number
    }

    /// Whether this run has the loop, and is not asked for it.
    #[must_use]
    #[inline]
    pub fn has(&self, number: RunNumber) -> bool {
        self.turn == number
    }

    /// A round of so many callbacks begins. False if the run has lost the loop.
    #[must_use]
    #[inline]
    pub fn begin_round(&mut self, number: RunNumber, ready: usize) -> bool {
        if self.turn != number {
            return false;
        }
        self.left = ready;
        self.in_round = true;
        true
    }

    /// What a run does next; asked after every callback.
    #[inline]
    pub fn next(&mut self, number: RunNumber) -> Turn {
        if self.turn != number {
            return Turn::Lost;
        }
        let Some(left) = self.left.checked_sub(1) else {
            return self.end_round(number);
        };
        self.left = left;
        Turn::Callback
    }

    /// Nothing is left of the round: until the next one no callback is under way.
    pub fn end_round(&mut self, number: RunNumber) -> Turn {
        if self.turn != number {
            return Turn::Lost;
        }
        self.left = 0;
        self.in_round = false;
        Turn::RoundOver
    }

    /// What a run does that does not have the loop, or is asked for it, between two callbacks.
    pub fn lost(&mut self, number: RunNumber) -> Lost<T> {
        if self.turn == number {
            self.in_round = true;
            return Lost::GoOn;
        }
        let Some(at) = self.find(number) else {
            return Lost::End(None);
        };
        match self.runs[at].state {
            State::Has => self.hand_over(at),
            State::Displaced if self.runs[at].is_relief => Lost::End(None),
            State::Displaced | State::Waits => self.ask(at),
            State::Outer => self.go_back(at),
        }
    }

    /// A run goes on while one that began inside it has not ended: a program that switches stacks
    /// (greenlets) does that. The two change places.
    fn go_back(&mut self, at: usize) -> Lost<T> {
        let thread = self.runs[at].thread;
        let newer = |run: &Run<T, K>| run.thread == thread && run.state != State::Outer;
        let Some(newer) = self.runs.iter().position(newer) else {
            return Lost::End(None);
        };
        let state = std::mem::replace(&mut self.runs[newer].state, State::Outer);
        self.runs[at].state = state;
        if state != State::Has {
            return self.ask(at);
        }
        if self.turn != NONE {
            self.turn = self.runs[at].number;
            return Lost::GoOn;
        }
        self.hand_over(at)
    }

    /// The holder gives the loop to the oldest run that waits.
    fn hand_over(&mut self, at: usize) -> Lost<T> {
        let waits = self.oldest_that_waits();
        if self.runs[at].is_relief && self.is_needless() {
            self.runs[at].state = State::Displaced;
            return Lost::End(waits.map(|waits| self.give(waits)));
        }
        let Some(waits) = waits else {
            self.turn = self.runs[at].number;
            return Lost::GoOn;
        };
        self.runs[at].state = State::Waits;
        Lost::Wait(Some(self.give(waits)))
    }

    /// A run that waits asks the holder for the loop, if the holder's thread came to it later.
    fn ask(&mut self, at: usize) -> Lost<T> {
        let Some(holder) = self.holder() else {
            self.give(at);
            self.in_round = true;
            return Lost::GoOn;
        };
        self.runs[at].state = State::Waits;
        if !self.runs[holder].is_relief && self.age(holder) <= self.age(at) {
            return Lost::Wait(None);
        }
        self.turn = NONE;
        Lost::Wait(Some(self.runs[holder].thread))
    }

    /// A run ends. Returns what was kept for it, and the thread that has been given the loop and
    /// has to be woken. `None` for a run that has ended already.
    pub fn end(&mut self, number: RunNumber) -> Option<(K, Option<T>)> {
        let run = self.runs.remove(self.find(number)?);
        let outer = self
            .runs
            .iter()
            .rposition(|outer| outer.thread == run.thread);
        let mut woken = None;
        if run.state == State::Has {
            let was_asked = self.turn == NONE;
            self.left = run.outer_left;
            self.in_round = outer.is_some();
            self.turn = NONE;
            if let Some(outer) = outer {
                // The callback that has begun the run is under way.
                self.runs[outer].state = State::Has;
                if !was_asked {
                    self.turn = self.runs[outer].number;
                }
            } else if let Some(waits) = self.oldest_that_waits() {
                woken = Some(self.give(waits));
            }
        } else if let (true, Some(outer)) = (run.state != State::Outer, outer) {
            self.runs[outer].state = State::Displaced;
        }
        let holder = self.holder();
        if holder.is_some_and(|at| self.runs[at].is_relief && self.is_needless()) {
            self.turn = NONE;
        }
        Some((run.kept, woken))
    }

    /// A relief run is of no use: no run goes on that it could relieve, or one waits.
    fn is_needless(&self) -> bool {
        self.runs.iter().all(|run| run.is_relief) || self.oldest_that_waits().is_some()
    }

    /// Whether no run goes on.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether the run that has the loop is asked for it: then it must not sleep.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.turn == NONE && self.holder().is_some()
    }

    /// What is kept for the runs that go on, from the oldest to the newest.
    pub fn kept(&self) -> impl Iterator<Item = &K> {
        self.runs.iter().map(|run| &run.kept)
    }

    /// Gives a run the loop, of which its thread does not know yet.
    fn give(&mut self, at: usize) -> T {
        self.in_round = false;
        let run = &mut self.runs[at];
        run.state = State::Has;
        self.turn = run.number;
        run.thread
    }

    fn find(&self, number: RunNumber) -> Option<usize> {
        self.runs.iter().rposition(|run| run.number == number)
    }

    fn holder(&self) -> Option<usize> {
        self.runs.iter().position(|run| run.state == State::Has)
    }

    fn oldest_that_waits(&self) -> Option<usize> {
        let all = 0..self.runs.len();
        let waiting = all.filter(|&at| self.runs[at].state == State::Waits);
        waiting.min_by_key(|&at| self.age(at))
    }

    /// The lower, the earlier its thread came to the loop.
    fn age(&self, at: usize) -> Option<usize> {
        let thread = self.runs[at].thread;
        self.runs.iter().position(|run| run.thread == thread)
    }
}
