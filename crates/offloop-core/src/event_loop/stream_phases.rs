//! Where a stream is in its life, and where with its sending.
//!
//! The standard transport keeps these in attributes of its own (`_closing`, `_conn_lost`), which a
//! program may set in any order. So a life can be set to whatever they can say.
//!
//! What stays a value of its own beside these, because each goes with every phase: that a program
//! has paused reading, that it has ended writing with `write_eof`, and that its protocol was told
//! to pause. All three are remembered through a close, and the standard transport shows them.
//!
//! ```text
//!  Open ──close──► Closing ──everything was sent──► Lost(1) ──write──► Lost(2) …
//!    └──────────────────────abort, an error─────────────┘
//!
//!  Idle ◄──the round ends──► Listed        Idle, Listed ──no room──► Blocked ──room──► Idle
//! ```
//!
//! Source:     asyncio/selector_events.py.

/// Where a connection is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Life {
    /// Data may go both ways.
    #[default]
    Open,
    /// `close` was called: nothing is read any more, and what waits is sent.
    Closing,
    /// It is over: nothing is read or sent.
    Lost {
        /// How often it was lost, or written to since; not 0.
        times: u32,
        /// What `_closing` says. Only a program that sets the attributes itself makes it false.
        closing: bool,
    },
}

impl Life {
    /// Whether what arrives is for the protocol.
    #[must_use]
    #[inline]
    pub const fn reads(self) -> bool {
        matches!(self, Self::Open)
    }

    /// Whether what waits may be sent.
    #[must_use]
    #[inline]
    pub const fn sends(self) -> bool {
        !matches!(self, Self::Lost { .. })
    }

    /// What `_closing` says.
    #[must_use]
    #[inline]
    pub const fn is_closing(self) -> bool {
        match self {
            Self::Open => false,
            Self::Closing => true,
            Self::Lost { closing, .. } => closing,
        }
    }

    /// `_closing` was set.
    pub const fn set_closing(&mut self, closing: bool) {
        *self = Self::of(closing, self.lost());
    }

    /// What `_conn_lost` says.
    #[must_use]
    #[inline]
    pub const fn lost(self) -> u32 {
        match self {
            Self::Open | Self::Closing => 0,
            Self::Lost { times, .. } => times,
        }
    }

    /// `_conn_lost` was set.
    pub const fn set_lost(&mut self, times: u32) {
        *self = Self::of(self.is_closing(), times);
    }

    /// The connection is over.
    pub const fn lose(&mut self) {
        self.set_lost(self.lost().saturating_add(1));
    }

    const fn of(closing: bool, times: u32) -> Self {
        match (times, closing) {
            (0, false) => Self::Open,
            (0, true) => Self::Closing,
            (times, closing) => Self::Lost { times, closing },
        }
    }
}

/// When what waits in a stream is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sending {
    /// Nothing waits, or the call that has put it there sends it.
    #[default]
    Idle,
    /// The end of the round: the stream is in the loop's list.
    Listed,
    /// The loop, once the kernel has room: it watches for that. The stream may still be in the
    /// list, where it is passed over.
    Blocked,
}

impl Sending {
    /// The end of the round is to send it; whether the stream has to be put into the list.
    #[must_use]
    #[inline]
    pub fn list(&mut self) -> bool {
        let enters = *self == Self::Idle;
        if enters {
            *self = Self::Listed;
        }
        enters
    }

    /// It was taken off the list; whether what waits is to be sent now.
    #[must_use]
    #[inline]
    pub fn leave_list(&mut self) -> bool {
        let leaves = *self == Self::Listed;
        if leaves {
            *self = Self::Idle;
        }
        leaves
    }

    /// The kernel had no room; whether the loop has to begin to watch for it.
    #[must_use]
    #[inline]
    pub fn block(&mut self) -> bool {
        std::mem::replace(self, Self::Blocked) != Self::Blocked
    }

    /// There is room, or none is needed; whether the loop watched for it.
    #[must_use]
    #[inline]
    pub fn unblock(&mut self) -> bool {
        let watched = self.is_blocked();
        if watched {
            *self = Self::Idle;
        }
        watched
    }

    /// Whether nothing is sent before the kernel has room.
    #[must_use]
    #[inline]
    pub const fn is_blocked(self) -> bool {
        matches!(self, Self::Blocked)
    }
}

#[cfg(test)]
mod tests {
    use super::{Life, Sending};

    #[test]
    fn a_closing_connection_sends_what_waits_and_reads_nothing() {
        let mut life = Life::default();
        assert!(life.reads() && life.sends() && !life.is_closing());
        life.set_closing(true);
        assert!(!life.reads() && life.sends() && life.is_closing());
        life.lose();
        assert!(!life.reads() && !life.sends() && life.is_closing());
        assert_eq!(life.lost(), 1);
    }

    #[test]
    fn a_connection_that_was_aborted_counts_the_writes_since() {
        let mut life = Life::Open;
        life.set_closing(true);
        life.set_lost(life.lost() + 1);
        life.set_lost(life.lost() + 1);
        assert_eq!((life.lost(), life.is_closing()), (2, true));
    }

    #[test]
    fn a_life_follows_the_attributes_in_whatever_order_they_are_set() {
        for times in [0, 1, 7, u32::MAX] {
            for closing in [false, true] {
                let (mut one, mut other) = (Life::Open, Life::Closing);
                one.set_closing(closing);
                one.set_lost(times);
                other.set_lost(times);
                other.set_closing(closing);
                assert_eq!(one, other);
                assert_eq!((one.lost(), one.is_closing()), (times, closing));
                assert_eq!(one.sends(), times == 0);
                assert_eq!(one.reads(), times == 0 && !closing);
            }
        }
    }

    #[test]
    fn a_stream_is_listed_once() {
        let mut sending = Sending::default();
        assert!(sending.list());
        assert!(!sending.list());
        assert!(sending.leave_list());
        assert!(!sending.leave_list());
        assert_eq!(sending, Sending::Idle);
    }

    #[test]
    fn a_blocked_stream_waits_for_room_and_not_for_the_end_of_the_round() {
        let mut sending = Sending::Idle;
        assert!(sending.list());
        // Much was written beside the little that waited.
        assert!(sending.block());
        assert!(!sending.block(), "it is watched once");
        assert!(!sending.list());
        assert!(!sending.leave_list(), "it is passed over in the list");
        assert!(sending.is_blocked());
        assert!(sending.unblock());
        assert!(!sending.unblock());
        assert!(sending.list(), "from here on it is as at the beginning");
    }

    #[test]
    fn a_listed_stream_stays_so_when_no_room_is_needed() {
        let mut sending = Sending::Listed;
        assert!(!sending.unblock());
        assert!(sending.leave_list());
    }
}
