//! What a stream sends now and what it keeps, and when its protocol is to pause.
//!
//! When `write` returns, the bytes are in the kernel, unless something waits before them or there
//! was no room: what is left then goes out when the socket has room again.
//!
//! A loop that gathers writes sends at the end of the round instead: what one round writes to a
//! stream goes out in one system call, before the loop looks whether it may sleep; much at once is
//! sent at once. It also sends at once while no round is run, whose end would come.
//!
//! Units:      bytes.
//! Source:     asyncio/selector_events.py, asyncio/transports.py (`_FlowControlMixin`);
//!             research on loops, section D2.

use std::collections::VecDeque;

use super::stream_phases::Sending;

/// So much is not kept for the end of the round: it fills a socket's buffer by itself.
const SEND_AT_ONCE: usize = 64 * 1024;

/// Whether the loop keeps what is written for the end of the round.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gathering {
    /// It does not.
    Off,
    /// It does, but runs no round now.
    Idle,
    /// It does, and the round that it runs has an end.
    Running,
}

/// What a stream knows of its sending.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing {
    /// How much waits to be sent.
    pub waiting: usize,
    /// When that is sent.
    pub sending: Sending,
    /// The connection ends when everything is sent.
    pub closing: bool,
    /// The protocol was told to pause.
    pub protocol_paused: bool,
    /// The protocol resumes once no more than this waits.
    pub low_water: usize,
    /// The protocol is to pause while more than this waits.
    pub high_water: usize,
}

/// When what has been queued is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// Now.
    AtOnce,
    /// At the end of the round.
    AtEnd,
    /// Once there is room.
    Blocked,
}

impl Outgoing {
    /// Whether `len` bytes are offered to the kernel within the call that writes them: nothing
    /// waits before them, and the loop does not keep them.
    #[must_use]
    #[inline]
    pub fn sends_now(self, len: usize, gathering: Gathering) -> bool {
        !self.sending.is_blocked() && self.waiting == 0 && self.goes_out(len, gathering)
    }

    /// When to send what waits, after something was added to it.
    #[must_use]
    #[inline]
    pub fn when(self, gathering: Gathering) -> When {
        if self.sending.is_blocked() {
            When::Blocked
        } else if self.goes_out(self.waiting, gathering) {
            When::AtOnce
        } else {
            When::AtEnd
        }
    }

    /// Whether so much that nothing blocks is sent at once.
    #[inline]
    fn goes_out(self, len: usize, gathering: Gathering) -> bool {
        // Sending may call methods of the protocol, which expects none inside `write`.
        let calls_nothing = !self.closing && !self.protocol_paused;
        match gathering {
            Gathering::Off => true,
            Gathering::Idle => calls_nothing,
            Gathering::Running => calls_nothing && len >= self.much(),
        }
    }

    /// So many bytes do not wait for the end of a round.
    #[inline]
    fn much(self) -> usize {
        SEND_AT_ONCE.min(self.high_water.saturating_add(1))
    }

    /// Whether the protocol is to be told to pause.
    #[must_use]
    #[inline]
    pub fn pauses(self) -> bool {
        self.waiting > self.high_water && !self.protocol_paused
    }

    /// Whether the protocol is to be told to go on.
    #[must_use]
    #[inline]
    pub fn resumes(self) -> bool {
        self.protocol_paused && self.waiting <= self.low_water
    }
}

/// What an attempt to send has left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// More than was offered, all of which was taken: the kernel may have room for it.
    MoreToOffer,
    /// What there was no room for.
    NoRoom,
}

/// Takes off a queue what the kernel has taken of what it was `offered`, and says what is left.
/// `unsent` is how much of an item waits; `advance` tells an item how much of it was sent.
#[inline]
pub fn take_sent<T>(
    queue: &mut VecDeque<T>,
    offered: usize,
    taken: usize,
    unsent: impl Fn(&T) -> usize,
    advance: impl FnOnce(&mut T, usize),
) -> Left {
    let mut count = taken;
    while let Some(item) = queue.front_mut() {
        let left = unsent(item);
        if left > count {
            advance(item, count);
            break;
        }
        count -= left;
        queue.pop_front();
    }
    if queue.is_empty() {
        Left::Nothing
    } else if taken == offered {
        Left::MoreToOffer
    } else {
        Left::NoRoom
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::{Gathering, Left, Outgoing, SEND_AT_ONCE, When, take_sent};
    use crate::event_loop::stream_phases::Sending;
    use crate::random::random_below;

    const IDLE: Outgoing = Outgoing {
        waiting: 0,
        sending: Sending::Idle,
        closing: false,
        protocol_paused: false,
        low_water: 16 * 1024,
        high_water: 64 * 1024,
    };

    #[test]
    fn a_loop_that_does_not_gather_sends_within_the_call() {
        assert!(IDLE.sends_now(1, Gathering::Off));
        assert_eq!(IDLE.when(Gathering::Off), When::AtOnce);
    }

    #[test]
    fn nothing_overtakes_what_waits() {
        let waiting = Outgoing { waiting: 1, ..IDLE };
        let blocked = Outgoing {
            sending: Sending::Blocked,
            ..waiting
        };
        for gathering in [Gathering::Off, Gathering::Idle, Gathering::Running] {
            assert!(!waiting.sends_now(SEND_AT_ONCE, gathering));
            assert!(!blocked.sends_now(SEND_AT_ONCE, gathering));
            assert_eq!(blocked.when(gathering), When::Blocked);
        }
    }

    #[test]
    fn little_waits_for_the_end_of_a_round_and_much_does_not() {
        assert!(!IDLE.sends_now(SEND_AT_ONCE - 1, Gathering::Running));
        assert!(IDLE.sends_now(SEND_AT_ONCE, Gathering::Running));
        let little = Outgoing { waiting: 1, ..IDLE };
        let much = Outgoing {
            waiting: SEND_AT_ONCE,
            ..IDLE
        };
        assert_eq!(little.when(Gathering::Running), When::AtEnd);
        assert_eq!(much.when(Gathering::Running), When::AtOnce);
    }

    #[test]
    fn outside_of_rounds_nothing_waits_for_an_end() {
        assert!(IDLE.sends_now(1, Gathering::Idle));
        let little = Outgoing { waiting: 1, ..IDLE };
        assert_eq!(little.when(Gathering::Idle), When::AtOnce);
    }

    #[test]
    fn what_is_above_the_mark_is_sent_before_the_protocol_has_to_pause() {
        let narrow = Outgoing {
            high_water: 100,
            ..IDLE
        };
        assert!(!narrow.sends_now(100, Gathering::Running));
        assert!(narrow.sends_now(101, Gathering::Running));
        // A mark that cannot be exceeded.
        let wide = Outgoing {
            high_water: usize::MAX,
            ..IDLE
        };
        assert!(wide.sends_now(SEND_AT_ONCE, Gathering::Running));
    }

    #[test]
    fn the_protocol_pauses_above_the_high_mark_and_goes_on_at_the_low_one() {
        let waits = |waiting, protocol_paused| Outgoing {
            waiting,
            protocol_paused,
            ..IDLE
        };
        assert!(!waits(IDLE.high_water, false).pauses());
        assert!(waits(IDLE.high_water + 1, false).pauses());
        assert!(!waits(IDLE.high_water + 1, true).pauses());
        assert!(!waits(IDLE.low_water + 1, true).resumes());
        assert!(waits(IDLE.low_water, true).resumes());
        assert!(!waits(0, false).resumes());
    }

    #[test]
    fn a_protocol_that_would_be_called_is_not_called_inside_write() {
        for (closing, protocol_paused) in [(true, false), (false, true)] {
            let outgoing = Outgoing {
                waiting: SEND_AT_ONCE,
                closing,
                protocol_paused,
                ..IDLE
            };
            for gathering in [Gathering::Idle, Gathering::Running] {
                assert_eq!(outgoing.when(gathering), When::AtEnd);
            }
            assert_eq!(outgoing.when(Gathering::Off), When::AtOnce);
        }
    }

    /// A stream on a socket whose peer reads now and then, on a loop that gathers or not.
    struct Simulated {
        gathering: Gathering,
        outgoing: Outgoing,
        queue: VecDeque<(usize, usize)>,
        room: usize,
        written: usize,
        sent: usize,
        /// How often the stream is in the list.
        listed: usize,
        changes: usize,
    }

    impl Simulated {
        /// Offers two items at most, as a system call takes so many buffers at once.
        fn flush(&mut self) {
            loop {
                let offered = self
                    .queue
                    .iter()
                    .take(2)
                    .map(|(len, sent)| len - sent)
                    .sum();
                let taken = self.room.min(offered);
                self.room -= taken;
                self.sent += taken;
                self.outgoing.waiting -= taken;
                let unsent = |item: &(usize, usize)| item.0 - item.1;
                let advance = |item: &mut (usize, usize), count| item.1 += count;
                match take_sent(&mut self.queue, offered, taken, unsent, advance) {
                    Left::MoreToOffer => {}
                    Left::NoRoom => {
                        let _watched = self.outgoing.sending.block();
                        break;
                    }
                    Left::Nothing => {
                        let _watched = self.outgoing.sending.unblock();
                        break;
                    }
                }
            }
            if self.outgoing.resumes() {
                self.outgoing.protocol_paused = false;
                self.changes += 1;
            }
        }

        fn write(&mut self, len: usize) {
            self.written += len;
            let mut taken = 0;
            let at_once = self.outgoing.sends_now(len, self.gathering);
            if at_once {
                taken = self.room.min(len);
                self.room -= taken;
                self.sent += taken;
            }
            if taken < len {
                self.queue.push_back((len, taken));
                self.outgoing.waiting += len - taken;
                if at_once {
                    assert!(self.outgoing.sending.block(), "nothing waited before");
                } else {
                    match self.outgoing.when(self.gathering) {
                        When::AtOnce => self.flush(),
                        When::AtEnd => self.listed += usize::from(self.outgoing.sending.list()),
                        When::Blocked => {}
                    }
                }
                if self.outgoing.pauses() {
                    self.outgoing.protocol_paused = true;
                    self.changes += 1;
                }
            }
            self.check();
        }

        /// The round ends; the peer has read, and the loop hears of it.
        fn end_round(&mut self, read: usize) {
            for _ in 0..std::mem::take(&mut self.listed) {
                if self.outgoing.sending.leave_list() {
                    self.flush();
                }
            }
            assert!(self.outgoing.sending.is_blocked() || self.outgoing.waiting == 0);
            self.room += read;
            if self.outgoing.sending.is_blocked() && self.room > 0 {
                self.flush();
            }
            self.check();
        }

        fn check(&self) {
            assert_eq!(self.written - self.sent, self.outgoing.waiting);
            let queued = self.queue.iter().map(|(len, sent)| len - sent);
            assert_eq!(queued.sum::<usize>(), self.outgoing.waiting);
            let above = self.outgoing.waiting > self.outgoing.high_water;
            assert!(self.outgoing.protocol_paused || !above);
            let below = self.outgoing.waiting <= self.outgoing.low_water;
            assert!(!(self.outgoing.protocol_paused && below) || self.listed > 0);
            assert!(!self.outgoing.sending.is_blocked() || self.room == 0);
        }
    }

    #[test]
    fn any_history_sends_everything_in_order_and_pauses_between_the_marks() {
        let mut changes = 0;
        for seed in 1..=300 {
            let mut random = random_below(seed);
            let gathering = [Gathering::Off, Gathering::Idle, Gathering::Running];
            let mut stream = Simulated {
                gathering: gathering[random(3) as usize],
                outgoing: Outgoing {
                    low_water: 300,
                    high_water: 1_000,
                    ..IDLE
                },
                queue: VecDeque::new(),
                room: 700,
                written: 0,
                sent: 0,
                listed: 0,
                changes: 0,
            };
            for _ in 0..400 {
                for _ in 0..random(3) {
                    // A protocol mostly heeds what it is told.
                    if !stream.outgoing.protocol_paused || random(8) == 0 {
                        stream.write(1 + random(400) as usize);
                    }
                }
                stream.end_round(random(300) as usize);
            }
            stream.end_round(usize::MAX / 2);
            stream.end_round(0);
            assert_eq!(stream.sent, stream.written, "seed {seed}");
            assert!(!stream.outgoing.protocol_paused, "seed {seed}");
            changes += stream.changes;
        }
        assert!(changes > 1_000, "the marks were hardly reached");
    }
}
