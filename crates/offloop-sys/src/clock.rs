//! The monotonic clock, in nanoseconds, the same for every process of the machine.

/// Nanoseconds of `CLOCK_MONOTONIC`; comparable between processes, never goes back.
///
/// Source: clock_gettime(2); about 20 ns through the vDSO.
#[must_use]
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec for the call to fill; this clock always exists on Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// A counter that runs on by itself and costs less to read than a clock: processor ticks where
/// there are such, nanoseconds elsewhere. Its unit is between a fifth of a nanosecond and
/// one, and it may jump when the thread moves to another core: it serves for rough intervals.
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

/// Involuntary context switches of the calling thread so far: it grows when somebody else wanted
/// the core, which is how a spinner learns that no core is spare.
#[must_use]
pub fn involuntary_switches() -> u64 {
    // SAFETY: rusage is plain numbers, for which zero is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is valid for the call to fill.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    usage.ru_nivcsw.unsigned_abs()
}
