//! Whether a fleet can start workers, and if not, why.
//!
//! Invariants: a fleet that has given up stays so, with the fault that it has given up for.

use std::sync::Arc;

use crate::fault::Fault;

/// Whether workers can be started.
#[derive(Debug, Default)]
pub(crate) enum Health {
    /// Nothing is known that speaks against it.
    #[default]
    Sound,
    /// The last start has failed; the next may not.
    Failing(Arc<Fault>),
    /// No worker will ever run.
    GivenUp(Arc<Fault>),
}

impl Health {
    /// Why no worker can be started, for as long as none has been since.
    pub(crate) const fn fault(&self) -> Option<&Arc<Fault>> {
        match self {
            Self::Sound => None,
            Self::Failing(fault) | Self::GivenUp(fault) => Some(fault),
        }
    }

    pub(crate) const fn has_given_up(&self) -> bool {
        matches!(self, Self::GivenUp(_))
    }

    /// A start has failed, which says more than the one before.
    pub(crate) fn fail(&mut self, fault: Fault) {
        if !self.has_given_up() {
            *self = Self::Failing(Arc::new(fault));
        }
    }

    /// A start has failed, of which less is known than of a fault that is there already.
    pub(crate) fn fail_unless_failing(&mut self, fault: Fault) {
        if matches!(self, Self::Sound) {
            *self = Self::Failing(Arc::new(fault));
        }
    }

    /// A worker was started.
    pub(crate) fn recover(&mut self) {
        if !self.has_given_up() {
            *self = Self::Sound;
        }
    }

    /// No worker will ever run.
    pub(crate) fn give_up(&mut self, fault: Arc<Fault>) {
        *self = Self::GivenUp(fault);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(health: &Health) -> String {
        health.fault().map(ToString::to_string).unwrap_or_default()
    }

    fn fault(text: &str) -> Fault {
        let text = text.into();
        Fault::SetupFailed { pid: 7, text }
    }

    #[test]
    fn a_start_makes_up_for_failed_ones() {
        let mut health = Health::default();
        health.fail_unless_failing(fault("first"));
        health.fail_unless_failing(fault("less is known of this"));
        assert_eq!(text(&health), "first");
        health.fail(fault("second"));
        assert_eq!(text(&health), "second");
        health.recover();
        assert!(health.fault().is_none());
    }

    #[test]
    fn a_fleet_that_has_given_up_stays_so() {
        let mut health = Health::default();
        health.give_up(Arc::new(fault("for good")));
        health.fail(fault("later"));
        health.fail_unless_failing(fault("later"));
        health.recover();
        assert!(health.has_given_up());
        assert_eq!(text(&health), "for good");
    }
}
