//! The monotonic clock, in nanoseconds, the same for every process of the machine; and a counter
//! that is cheaper to read.

use std::sync::OnceLock;

/// Nanoseconds of `CLOCK_MONOTONIC`; comparable between processes, never goes back.
///
/// Source: clock_gettime(2); about 20 ns through the vDSO.
#[must_use]
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds of a clock that always exists on Linux.
#[inline]
fn read(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec for the call to fill.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// A counter that runs on by itself and costs less to read than a clock: processor ticks where
/// there are such, nanoseconds elsewhere. Its unit is between a fifth of a nanosecond and a whole
/// one. It may jump when the thread moves to another core: it serves for rough intervals.
#[must_use]
pub fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every processor of this architecture has the counter.
        unsafe { core::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        monotonic_ns()
    }
}

/// How long a tick is, as the monotonic clock has it.
#[derive(Clone, Copy, Debug)]
pub struct TickScale {
    /// Nanoseconds in 2^32 ticks.
    multiplier: u64,
}

impl TickScale {
    /// Compares the two clocks since the first call of this function or of `begin`. The result gets
    /// better with time: after a millisecond it is right to a ten-thousandth.
    #[must_use]
    pub fn measure() -> Self {
        let (begin_ticks, begin_ns) = Self::begin();
        let passed_ns = monotonic_ns().saturating_sub(begin_ns);
        let passed_ticks = ticks().saturating_sub(begin_ticks);
        let ratio = (u128::from(passed_ns) << 32).checked_div(u128::from(passed_ticks));
        Self {
            multiplier: ratio
                .and_then(|ratio| u64::try_from(ratio).ok())
                .unwrap_or(1 << 32),
        }
    }

    /// Begins to measure, once for the process; both clocks at that time.
    pub fn begin() -> (u64, u64) {
        static BEGIN: OnceLock<(u64, u64)> = OnceLock::new();
        *BEGIN.get_or_init(|| (ticks(), monotonic_ns()))
    }

    /// What `ticks` told, as nanoseconds from an unknown origin.
    #[must_use]
    #[inline]
    pub fn nanoseconds(self, ticks: u64) -> u64 {
        // Wraps after 584 years.
        ((u128::from(ticks) * u128::from(self.multiplier)) >> 32) as u64
    }

    /// How many ticks are in so many nanoseconds, at least.
    #[must_use]
    pub fn ticks(self, nanoseconds: u64) -> u64 {
        let ticks = (u128::from(nanoseconds) << 32) / u128::from(self.multiplier.max(1));
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }
}

/// Processor time of the calling thread so far, in the kernel, too.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Involuntary context switches of the calling thread so far. The number grows when another thread
/// wanted the core, which is how a spinner learns that no core is spare.
#[must_use]
pub fn involuntary_switches() -> u64 {
    // SAFETY: rusage is plain numbers, for which zero is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is valid for the call to fill.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    usage.ru_nivcsw.unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_and_the_clock_agree_on_how_long_something_took() {
        TickScale::begin();
        let wait = |ns: u64| {
            let begin = monotonic_ns();
            while monotonic_ns() - begin < ns {}
        };
        wait(5_000_000);
        let scale = TickScale::measure();
        let (begin_ns, begin) = (monotonic_ns(), ticks());
        wait(20_000_000);
        let (end, end_ns) = (ticks(), monotonic_ns());
        let told = scale.nanoseconds(end) - scale.nanoseconds(begin);
        // The ticks are read inside of the nanoseconds.
        let longest = end_ns - begin_ns;
        assert!(told <= longest + longest / 100, "{told} of {longest}");
        assert!(told >= 20_000_000 * 99 / 100, "{told}");
    }
}
