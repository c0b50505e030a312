//! Which thread of the crew is on duty, which could be, and when a thread loses its turn.
//!
//! It decides for [`crew`](crate::crew), which has the threads and the timer. The driver keeps it
//! under the runtime's lock.
//!
//! Invariants: 1. At most one thread is on duty.
//!             2. `threads` counts the threads that run or are being started, `spare` the threads
//!                among them that wait for a turn.

/// Threads of the crew at most. Each but one is with a callback that blocks; a program that has
/// more of those than this waits until one returns.
pub const CREW_MAX: u32 = 16;
/// Threads that wait for a turn; a program whose callbacks block now and then needs no more.
const SPARE_MAX: u32 = 1;
/// What is to be done so that a thread is on duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Relief {
    /// Nothing.
    Enough,
    /// Look again after a while.
    LookAgain,
    /// Call a spare thread.
    Call,
    /// Start a thread, which has been counted already.
    Start,
    /// Nothing can be done: every thread of a full crew is with an outcome.
    Exhausted,
}

/// What a thread without a turn does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// It has this turn now.
    Turn(u64),
    /// It waits for one.
    Spare,
    /// It ends.
    End,
}

/// Which turn a thread has, and what it does in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Duty {
    /// No thread is on duty, until one takes the next turn.
    #[default]
    Vacant,
    /// The thread of this turn finds no outcome.
    Resting(u64),
    /// The thread of this turn is with an outcome.
    Busy(u64),
}

impl Duty {
    const fn turn(self) -> Option<u64> {
        match self {
            Self::Vacant => None,
            Self::Resting(turn) | Self::Busy(turn) => Some(turn),
        }
    }
}

/// Whether the supervisor looks after the thread on duty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Look {
    #[default]
    NotDue,
    Due {
        /// The thread on duty has taken an outcome since the look became due.
        took: bool,
    },
}

/// Which thread is on duty, and which could be.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    duty: Duty,
    turns: u64,
    look: Look,
    pub(crate) threads: u32,
    pub(crate) spare: u32,
    pub(crate) ending: bool,
}

impl Roster {
    /// Takes the turn if no thread has it.
    pub(crate) fn begin(&mut self) -> Option<u64> {
        if self.has_turn() || self.ending {
            return None;
        }
        self.turns += 1;
        self.duty = Duty::Resting(self.turns);
        self.duty.turn()
    }

    pub(crate) fn next(&mut self) -> Next {
        if let Some(turn) = self.begin() {
            return Next::Turn(turn);
        }
        if self.ending || self.spare >= SPARE_MAX {
            self.threads -= 1;
            return Next::End;
        }
        self.spare += 1;
        Next::Spare
    }

    /// Whether no thread has the turn, and none of the crew can take it.
    pub(crate) fn is_stranded(&self) -> bool {
        !self.has_turn() && self.threads >= CREW_MAX && self.spare == 0
    }

    pub(crate) fn is_on_duty(&self, turn: u64) -> bool {
        self.duty.turn() == Some(turn)
    }

    /// The thread on duty takes an outcome.
    pub(crate) fn take(&mut self) {
        if let Some(turn) = self.duty.turn() {
            self.duty = Duty::Busy(turn);
        }
        if let Look::Due { took } = &mut self.look {
            *took = true;
        }
    }

    /// The thread on duty found nothing more.
    pub(crate) fn rest(&mut self) {
        if let Some(turn) = self.duty.turn() {
            self.duty = Duty::Resting(turn);
        }
    }

    /// An outcome waits: whether the supervisor is to look after the thread on duty from now on.
    pub(crate) fn begin_watch(&mut self) -> bool {
        let begins = matches!((self.duty, self.look), (Duty::Busy(_), Look::NotDue));
        if begins {
            self.look = Look::Due { took: false };
        }
        begins
    }

    /// Whether a thread is on duty.
    pub(crate) fn has_turn(&self) -> bool {
        self.duty != Duty::Vacant
    }

    /// The supervisor looks; `waits` says whether outcomes do.
    pub(crate) fn look(&mut self, waits: bool) -> Relief {
        let look = std::mem::take(&mut self.look);
        if self.ending {
            return Relief::Enough;
        }
        match self.duty {
            Duty::Vacant => {}
            Duty::Resting(_) => return Relief::Enough,
            Duty::Busy(_) if !waits => return Relief::Enough,
            Duty::Busy(_) if look == (Look::Due { took: true }) => {
                self.look = Look::Due { took: false };
                return Relief::LookAgain;
            }
            Duty::Busy(_) => self.vacate(),
        }
        self.replace()
    }

    /// The thread of `turn` gives it away, if it still has it.
    pub(crate) fn give_away(&mut self, turn: u64) -> Relief {
        if self.is_on_duty(turn) {
            self.vacate();
        }
        if self.has_turn() || self.ending {
            return Relief::Enough;
        }
        self.replace()
    }

    pub(crate) fn vacate(&mut self) {
        self.duty = Duty::Vacant;
    }

    pub(crate) fn replace(&mut self) -> Relief {
        if self.spare > 0 {
            return Relief::Call;
        }
        if self.threads >= CREW_MAX {
            return Relief::Exhausted;
        }
        self.threads += 1;
        Relief::Start
    }

    /// A thread could not be started.
    pub(crate) fn start_failed(&mut self) -> Relief {
        self.threads -= 1;
        self.look = Look::Due { took: false };
        Relief::LookAgain
    }

    /// A thread ends unasked; `turn` is the last that it had.
    pub(crate) fn lose(&mut self, turn: u64) -> Relief {
        self.threads -= 1;
        self.give_away(turn)
    }

    /// Whether no thread is with an outcome: all that there are wait for a turn or for work.
    pub(crate) fn is_idle(&self) -> bool {
        let resting = u32::from(matches!(self.duty, Duty::Resting(_)));
        self.threads <= self.spare + resting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A crew of one thread, which is with its first outcome while another one waits.
    fn busy() -> (Roster, u64) {
        let mut roster = Roster {
            threads: 1,
            ..Roster::default()
        };
        let Next::Turn(turn) = roster.next() else {
            panic!("{roster:?}")
        };
        roster.take();
        assert!(roster.begin_watch());
        (roster, turn)
    }

    #[test]
    fn a_thread_that_stays_with_an_outcome_loses_its_turn() {
        let (mut roster, turn) = busy();
        assert_eq!(roster.look(true), Relief::Start);
        assert!(!roster.is_on_duty(turn));
        assert_eq!(roster.next(), Next::Turn(2));
        // The first one comes back: it is spare, and the next to be called.
        assert_eq!(roster.next(), Next::Spare);
        roster.take();
        assert!(roster.begin_watch());
        assert_eq!(roster.look(true), Relief::Call);
    }

    #[test]
    fn a_thread_that_goes_on_keeps_its_turn() {
        let (mut roster, turn) = busy();
        roster.take();
        assert_eq!(roster.look(true), Relief::LookAgain);
        assert!(roster.is_on_duty(turn));
        assert_eq!(roster.look(true), Relief::Start);
    }

    #[test]
    fn no_look_is_due_while_nothing_waits() {
        let (mut roster, turn) = busy();
        assert_eq!(roster.look(false), Relief::Enough);
        assert!(roster.is_on_duty(turn));
        assert!(roster.begin_watch());
        assert!(!roster.begin_watch());
        roster.rest();
        assert_eq!(roster.look(true), Relief::Enough);
        assert!(!roster.begin_watch());
    }

    #[test]
    fn a_thread_that_waits_gives_its_turn_away_once() {
        let (mut roster, turn) = busy();
        assert_eq!(roster.give_away(turn), Relief::Start);
        assert_eq!(roster.next(), Next::Turn(2));
        assert_eq!(roster.give_away(turn), Relief::Enough);
        assert!(roster.is_on_duty(2));
    }

    #[test]
    fn outcomes_are_stranded_when_every_thread_of_a_full_crew_is_with_one() {
        let (mut roster, mut turn) = busy();
        for _ in 1..CREW_MAX {
            assert!(!roster.is_stranded());
            assert_eq!(roster.give_away(turn), Relief::Start);
            turn = roster.begin().unwrap();
            roster.take();
        }
        assert!(!roster.is_stranded());
        assert_eq!(roster.give_away(turn), Relief::Exhausted);
        assert!(roster.is_stranded());
        assert!(!roster.is_idle());
        assert!(matches!(roster.next(), Next::Turn(_)));
        assert!(!roster.is_stranded());
    }

    #[test]
    fn surplus_threads_end() {
        let (mut roster, turn) = busy();
        for _ in 0..3 {
            roster.vacate();
            assert_eq!(roster.replace(), Relief::Start);
            assert!(roster.begin().is_some());
        }
        assert!(!roster.is_on_duty(turn));
        assert_eq!(roster.next(), Next::Spare);
        assert_eq!(roster.next(), Next::End);
        assert_eq!(roster.next(), Next::End);
        assert!(roster.is_idle());
    }

    #[test]
    fn a_start_that_failed_is_tried_again() {
        let (mut roster, _) = busy();
        assert_eq!(roster.look(true), Relief::Start);
        assert_eq!(roster.start_failed(), Relief::LookAgain);
        assert_eq!(roster.look(false), Relief::Start);
    }

    #[test]
    fn a_thread_that_is_lost_is_replaced() {
        let (mut roster, turn) = busy();
        assert_eq!(roster.lose(turn), Relief::Start);
        let turn = roster.begin().unwrap();
        assert_eq!(roster.lose(turn - 1), Relief::Enough);
    }

    #[test]
    fn a_crew_that_ends_gives_no_more_turns() {
        let (mut roster, turn) = busy();
        roster.ending = true;
        assert_eq!(roster.give_away(turn), Relief::Enough);
        assert_eq!(roster.next(), Next::End);
        assert!(roster.is_idle());
    }
}
