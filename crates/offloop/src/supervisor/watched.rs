//! What the supervisor's poller watches, as the token of each descriptor.
//!
//! Shape:      kind (3 bits), fleet (32 bits), the worker's place in its fleet (13 bits), the end
//!             of its generation (16 bits), from the highest bit on.
//! Invariants: two descriptors that are watched at one time have different tokens: a fleet has one
//!             zygote, and a place one worker.

use offloop_core::{WorkerId, limits};

const KIND_SHIFT: u32 = 61;
const FLEET_SHIFT: u32 = 29;
const PLACE_SHIFT: u32 = 16;
const PLACE_BITS: u32 = FLEET_SHIFT - PLACE_SHIFT;
const GENERATION_MASK: u32 = (1 << PLACE_SHIFT) - 1;
const _: () = assert!(limits::FLEET_WORKERS_MAX <= 1 << PLACE_BITS);
const _: () = assert!(KIND_SHIFT == FLEET_SHIFT + u32::BITS);

/// One watched descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// The event by which other threads wake the supervisor.
    Wake,
    /// The timer for outcomes that their owners do not fetch.
    Nudge,
    /// The line to the resource tracker.
    Tracker,
    /// The timer for a look after the crew.
    Relief,
    /// The socket of a fleet's zygote.
    Zygote { fleet: u32 },
    /// A worker's process.
    Process { fleet: u32, worker: Name },
    /// A worker's socket.
    Socket { fleet: u32, worker: Name },
}

/// A worker of a fleet, as far as a token can name it: what an event of a replaced worker names is
/// not taken for the new one in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    place: u32,
    generation: u32,
}

impl Name {
    pub(super) fn matches(self, worker: WorkerId) -> bool {
        self == Self::from(worker)
    }
}

impl From<WorkerId> for Name {
    fn from(worker: WorkerId) -> Self {
        Self {
            place: worker.index(),
            generation: worker.generation() & GENERATION_MASK,
        }
    }
}

impl Watched {
    pub(super) fn token(self) -> u64 {
        let worker_of = |worker: Name| worker.place << PLACE_SHIFT | worker.generation;
        let (kind, fleet, worker) = match self {
            Self::Wake => (0, 0, 0),
            Self::Nudge => (1, 0, 0),
            Self::Tracker => (2, 0, 0),
            Self::Relief => (3, 0, 0),
            Self::Zygote { fleet } => (4, fleet, 0),
            Self::Process { fleet, worker } => (5, fleet, worker_of(worker)),
            Self::Socket { fleet, worker } => (6, fleet, worker_of(worker)),
        };
        kind << KIND_SHIFT | u64::from(fleet) << FLEET_SHIFT | u64::from(worker)
    }

    /// What `token` stands for, which must be one that was given to the poller.
    pub(super) fn of(token: u64) -> Self {
        let field = |shift: u32, bits: u32| (token >> shift & ((1 << bits) - 1)) as u32;
        let fleet = field(FLEET_SHIFT, u32::BITS);
        let worker = Name {
            place: field(PLACE_SHIFT, PLACE_BITS),
            generation: field(0, PLACE_SHIFT),
        };
        match token >> KIND_SHIFT {
            0 => Self::Wake,
            1 => Self::Nudge,
            2 => Self::Tracker,
            3 => Self::Relief,
            4 => Self::Zygote { fleet },
            5 => Self::Process { fleet, worker },
            6 => Self::Socket { fleet, worker },
            kind => unreachable!("no descriptor has a token of kind {kind}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_what_it_was_made_of_for_every_fleet_and_worker() {
        let own = [
            Watched::Wake,
            Watched::Nudge,
            Watched::Tracker,
            Watched::Relief,
        ];
        let mut all = own.to_vec();
        for fleet in [1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, u32::MAX] {
            all.push(Watched::Zygote { fleet });
            for place in [0, limits::FLEET_WORKERS_MAX - 1] {
                for generation in [1, GENERATION_MASK, u32::MAX] {
                    let worker = WorkerId::new(place, generation).into();
                    all.push(Watched::Process { fleet, worker });
                    all.push(Watched::Socket { fleet, worker });
                }
            }
        }
        for watched in all {
            assert_eq!(Watched::of(watched.token()), watched);
        }
    }

    #[test]
    fn a_replaced_worker_is_not_taken_for_the_one_in_its_place() {
        let gone = Name::from(WorkerId::new(3, 1));
        assert!(gone.matches(WorkerId::new(3, 1)));
        assert!(!gone.matches(WorkerId::new(3, 2)));
        assert!(!gone.matches(WorkerId::new(4, 1)));
    }
}
