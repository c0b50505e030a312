//! What was found in a loop's class and the other classes that rounds depend on, with the version
//! numbers of these classes.

/// Which of the methods that a round depends on are ours.
#[derive(Clone, Copy)]
pub(super) struct Found {
    /// `time` is ours.
    pub(super) clock: bool,
    /// `time` of the standard loop is the standard library's.
    pub(super) standard_clock: bool,
    /// `call_at` is ours.
    pub(super) call_at: bool,
    /// `_run_once` is ours.
    pub(super) rounds: bool,
}

/// What was found, and what cannot be seen from the class.
pub(super) struct Overrides {
    /// The number of the loop's class when it was looked at.
    pub(super) class: u32,
    /// The number of the standard library's class of handles when it was looked at.
    pub(super) handles: u32,
    pub(super) found: Found,
    /// Attributes of the loop itself: `time`, `call_at`, `_run_once`.
    pub(super) own: [bool; 3],
    /// The selector is not ours, or its `select` is not.
    pub(super) selector: bool,
}

impl Default for Overrides {
    fn default() -> Self {
        Self {
            class: 0,
            handles: 0,
            found: Found {
                clock: true,
                standard_clock: true,
                call_at: true,
                rounds: true,
            },
            own: [false; 3],
            selector: false,
        }
    }
}

/// The names that `Overrides::own` is about.
pub(super) const NAMES: [&str; 3] = ["time", "call_at", "_run_once"];

/// The numbers of the classes that rounds depend on, as they are now; 0 where there is none.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    pub(super) class: u32,
    pub(super) handles: u32,
}

impl Overrides {
    /// Whether rounds were ours when the classes had these numbers. If a number has changed, the
    /// classes are to be looked at again.
    #[inline]
    pub(super) fn rounds_were_ours(&self, seen: Seen) -> bool {
        self.found.rounds
            && seen.class != 0
            && seen.class == self.class
            && seen.handles != 0
            && seen.handles == self.handles
    }
}
