//! Names of tasks, lanes and workers.
//!
//! Each is an index into a slab and the generation of that place, so a name outlives what it
//! named without ever naming something else: a late completion, a second cancel or the exit of a
//! replaced worker is recognised as stale in one comparison.
//!
//! Invariants: generations start at 1, so `TaskId` 0 is never issued and may mean "none" in a
//!             shared-memory word.

use core::fmt;

/// One call in flight: `generation << 32 | index`, which fits one atomic word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(u64);

impl TaskId {
    pub(crate) const fn new(index: u32, generation: u32) -> Self {
        Self((generation as u64) << 32 | index as u64)
    }

    /// The word that travels in frames and in shared memory.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Reads a word back. Any value is safe to pass on: a value that names no task has no effect.
    #[must_use]
    pub const fn from_u64(word: u64) -> Self {
        Self(word)
    }

    /// The place in the slab; below the greatest number of tasks that were ever in flight.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0 as u32
    }

    /// How often that place has been used.
    #[must_use]
    pub const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({}g{})", self.index(), self.generation())
    }
}

macro_rules! place_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            index: u32,
            generation: u32,
        }

        impl $name {
            /// Builds the name of a place, for a driver that keeps it as two numbers.
            #[must_use]
            pub const fn new(index: u32, generation: u32) -> Self {
                Self { index, generation }
            }

            /// The place in the slab, small and reused.
            #[must_use]
            pub const fn index(self) -> u32 {
                self.index
            }

            /// How often that place has been used, from 1.
            #[must_use]
            pub const fn generation(self) -> u32 {
                self.generation
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({}g{})"), self.index, self.generation)
            }
        }
    };
}

place_id! {
    /// One admission class: a bounded queue, its limits, and the workers lent to it.
    LaneId
}

place_id! {
    /// One worker process. Its replacement has another generation, or another index.
    WorkerId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn task_id_survives_the_trip_through_a_word() {
        let id = TaskId::new(7, u32::MAX);
        assert_eq!(TaskId::from_u64(id.as_u64()), id);
        assert_eq!((id.index(), id.generation()), (7, u32::MAX));
        assert_eq!(format!("{:?}", TaskId::new(3, 2)), "TaskId(3g2)");
    }

    #[test]
    fn names_of_two_generations_differ() {
        assert_ne!(WorkerId::new(1, 1), WorkerId::new(1, 2));
        assert_eq!(format!("{:?}", LaneId::new(0, 1)), "LaneId(0g1)");
    }
}
