//! Points in time, as the driver tells them.
//!
//! The crate has no clock. An [`Instant`] is a count of nanoseconds since an origin that the
//! driver chooses once (usually the monotonic clock's own), so a test can invent any history.
//!
//! Units:      nanoseconds, u64: 584 years from the origin.
//! Invariants: arithmetic never wraps; it is checked or it saturates at [`Instant::MAX`].

use core::time::Duration;

/// A point in time: nanoseconds since an origin of the driver's choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Instant(u64);

impl Instant {
    /// The origin itself.
    pub const ZERO: Self = Self(0);
    /// The end of time; a timer set to it never fires in practice.
    pub const MAX: Self = Self(u64::MAX);

    /// The point that lies `nanos` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// `self + duration`, or `None` where that lies beyond [`Instant::MAX`].
    #[must_use]
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        let nanos = u64::try_from(duration.as_nanos()).ok()?;
        self.0.checked_add(nanos).map(Self)
    }

    /// `self + duration`, at most [`Instant::MAX`].
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        self.checked_add(duration).unwrap_or(Self::MAX)
    }

    /// `self - duration`, at least [`Instant::ZERO`].
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(saturating_nanos(duration)))
    }

    /// The time from `earlier` to `self`; zero where `earlier` is the later one.
    #[must_use]
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The nanoseconds of a duration, at most `u64::MAX`.
#[must_use]
pub(crate) fn saturating_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addition_saturates_at_the_end_of_time() {
        let late = Instant::from_nanos(u64::MAX - 5);
        assert_eq!(late.checked_add(Duration::from_nanos(6)), None);
        assert_eq!(late.saturating_add(Duration::from_nanos(6)), Instant::MAX);
        assert_eq!(late.saturating_add(Duration::MAX), Instant::MAX);
        assert_eq!(
            late.checked_add(Duration::from_nanos(5)),
            Some(Instant::MAX)
        );
    }

    #[test]
    fn differences_never_go_below_zero() {
        let (early, late) = (Instant::from_nanos(10), Instant::from_nanos(25));
        assert_eq!(
            late.saturating_duration_since(early),
            Duration::from_nanos(15)
        );
        assert_eq!(early.saturating_duration_since(late), Duration::ZERO);
        assert_eq!(early.saturating_sub(Duration::from_secs(1)), Instant::ZERO);
    }
}
