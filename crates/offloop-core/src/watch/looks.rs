//! When a loop's tasks are looked through for those that never go on.
//!
//! A look takes longer the more tasks there are, and holds the loop up. A loop that waits for ever
//! has time: nothing but another thread wakes it. Its look is a whole one. A loop that waits for
//! its descriptors or timers is looked through for circles alone, and that rarely: a circle stays,
//! so it is found a little later.
//!
//! Units:      nanoseconds of one clock.

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Tasks that await each other in a circle.
    Circles,
    /// These, and tasks that nothing can wake.
    Whole,
}

impl Look {
    /// A look takes one part in so many of the time.
    const fn share(self) -> u64 {
        match self {
            Look::Circles => 1000,
            Look::Whole => 100,
        }
    }

    /// The least time between the end of a look and the begin of this one.
    const fn pause_ns(self) -> u64 {
        match self {
            Look::Circles => CIRCLES_PAUSE_NS,
            Look::Whole => 0,
        }
    }
}

const CIRCLES_PAUSE_NS: u64 = 1_000_000_000;

/// A look that took long because its thread did not run is no reason to look no more.
const PAUSE_MAX_NS: u64 = 10_000_000_000;

/// When one loop may be looked through.
#[derive(Clone, Copy, Debug, Default)]
pub struct Looks {
    /// The last look; both are 0 before the first.
    took_ns: u64,
    end_ns: u64,
}

impl Looks {
    /// For how long it is too early.
    #[must_use]
    pub const fn too_early_ns(&self, look: Look, now_ns: u64) -> u64 {
        if self.end_ns == 0 {
            return 0;
        }
        let rest = self.took_ns.saturating_mul(look.share());
        let pause = if rest > look.pause_ns() {
            rest
        } else {
            look.pause_ns()
        };
        let pause = if pause > PAUSE_MAX_NS {
            PAUSE_MAX_NS
        } else {
            pause
        };
        self.end_ns.saturating_add(pause).saturating_sub(now_ns)
    }

    /// For how long a loop may wait that would wait for its next timer, if there is one, and is to
    /// be looked through after `look_ns`. A timer that is due soon wakes it anyway.
    #[must_use]
    pub const fn wait_ns(timer_ns: Option<u64>, look_ns: u64) -> u64 {
        match timer_ns {
            Some(timer_ns) if timer_ns < look_ns || timer_ns <= CIRCLES_PAUSE_NS => timer_ns,
            _ => look_ns,
        }
    }

    /// A look is over.
    pub const fn looked(&mut self, begin_ns: u64, end_ns: u64) {
        self.took_ns = end_ns.saturating_sub(begin_ns);
        self.end_ns = end_ns;
    }
}

/// When a loop may look which of its tasks are over.
///
/// That takes some 25 ns for each. The pause is told by their number and not by what a look took: a
/// thread that was kept from running in the middle of one would look no more for long.
#[derive(Clone, Copy, Debug, Default)]
pub struct EndedLooks {
    not_before_ns: u64,
}

/// A look takes one part in 400 of the time.
const PAUSE_PER_TASK_NS: u64 = 10_000;

impl EndedLooks {
    /// For how long it is too early.
    #[must_use]
    pub const fn too_early_ns(&self, now_ns: u64) -> u64 {
        self.not_before_ns.saturating_sub(now_ns)
    }

    /// So many tasks are looked at now.
    pub const fn look(&mut self, now_ns: u64, tasks: usize) {
        let pause = PAUSE_PER_TASK_NS.saturating_mul(tasks as u64);
        self.not_before_ns = now_ns.saturating_add(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn the_first_look_is_never_too_early() {
        let looks = Looks::default();
        assert_eq!(looks.too_early_ns(Look::Whole, 0), 0);
        assert_eq!(looks.too_early_ns(Look::Circles, 7), 0);
    }

    #[test]
    fn looks_take_their_share_of_the_time_and_no_more() {
        let mut looks = Looks::default();
        looks.looked(SECOND, SECOND + 10_000_000);
        let end = SECOND + 10_000_000;
        assert_eq!(looks.too_early_ns(Look::Whole, end), SECOND);
        assert_eq!(looks.too_early_ns(Look::Whole, end + SECOND), 0);
        assert_eq!(looks.too_early_ns(Look::Circles, end), 10 * SECOND);
        assert_eq!(looks.too_early_ns(Look::Circles, end + 10 * SECOND), 0);
    }

    #[test]
    fn a_busy_loop_is_looked_through_once_a_second_at_most() {
        let mut looks = Looks::default();
        looks.looked(SECOND, SECOND + 1_000);
        let end = SECOND + 1_000;
        assert_eq!(looks.too_early_ns(Look::Circles, end + 1), SECOND - 1);
        assert_eq!(looks.too_early_ns(Look::Whole, end), 100_000);
        assert_eq!(looks.too_early_ns(Look::Whole, end + 100_000), 0);
    }

    #[test]
    fn a_look_is_never_put_off_for_long() {
        let mut looks = Looks::default();
        looks.looked(SECOND, 60 * SECOND);
        for look in [Look::Circles, Look::Whole] {
            assert_eq!(looks.too_early_ns(look, 60 * SECOND), 10 * SECOND);
        }
    }

    #[test]
    fn a_loop_is_woken_for_a_look_unless_a_timer_wakes_it_soon() {
        assert_eq!(Looks::wait_ns(None, SECOND), SECOND);
        assert_eq!(Looks::wait_ns(Some(60 * SECOND), SECOND / 2), SECOND / 2);
        assert_eq!(Looks::wait_ns(Some(SECOND), SECOND / 2), SECOND);
        assert_eq!(Looks::wait_ns(Some(5 * SECOND), 9 * SECOND), 5 * SECOND);
    }

    #[test]
    fn times_beyond_all_bounds_are_no_error() {
        let mut looks = Looks::default();
        looks.looked(1, u64::MAX);
        assert_eq!(looks.too_early_ns(Look::Whole, 1), u64::MAX - 1);
        looks.looked(9, 3);
        assert_eq!(looks.too_early_ns(Look::Whole, 1_000), 0);
    }

    #[test]
    fn the_more_tasks_a_loop_has_the_rarer_it_looks_which_are_over() {
        let mut looks = EndedLooks::default();
        assert_eq!(looks.too_early_ns(0), 0);
        looks.look(SECOND, 1);
        assert_eq!(looks.too_early_ns(SECOND), 10_000);
        looks.look(SECOND, 10_000);
        assert_eq!(looks.too_early_ns(SECOND + 1), 99_999_999);
        assert_eq!(looks.too_early_ns(SECOND + 100_000_000), 0);
        looks.look(u64::MAX, usize::MAX);
        assert_eq!(looks.too_early_ns(u64::MAX), 0);
    }
}
