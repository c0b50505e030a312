//! What the kernel says of a thread, as text.
//!
//! It is input like any other: a line may be cut, empty, or of a kernel that says more or less.
//!
//! Errors:     `Malformed`: which part is not what it should be.
//! Source:     proc_pid_stat(5), proc_pid_syscall(5), proc_pid_wchan(5), proc_pid_status(5);
//!             Documentation/scheduler/sched-stats.rst of Linux for schedstat.

use thiserror::Error;

/// The longest name of a place in the kernel that is taken for one.
const CHANNEL_BYTES_MAX: usize = 64;

/// A part of a line is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
#[error("what stands in the place of {what} is none")]
pub struct Malformed {
    /// In words.
    pub what: &'static str,
}

/// A thread as the scheduler has it, by its letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// `R`: it runs, or would.
    Ready,
    /// `S`: it waits for an event.
    Asleep,
    /// `D`: it waits for a device, and cannot be interrupted.
    AsleepForDevice,
    /// `T` or `t`: a signal or a debugger has stopped it.
    Stopped,
    /// Another letter.
    Other,
}

/// What its `stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The state.
    pub state: State,
    /// Pages that were read from a disk.
    pub major_faults: u64,
}

/// What its `syscall` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallState {
    /// It runs, or would: whether in a call is not said.
    Running,
    /// It sleeps, and has called nothing: it waits for a page of memory.
    NoCall,
    /// It sleeps in a call.
    Call(SystemCall),
}

/// A call of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCall {
    /// Of this processor's architecture.
    pub number: i64,
    /// As they were given; some calls have fewer.
    pub arguments: [u64; 6],
}

/// What its `schedstat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Nanoseconds that it was ready and not let run; a wait is added when it is over.
    pub delay_ns: u64,
    /// How often it was given a processor.
    pub turns: u64,
}

/// Reads a line of `stat`: `4711 (a name) S 1 …`, where the name may hold anything.
///
/// # Errors
/// If the state or the faults are not there.
pub fn parse_stat(line: &[u8]) -> Result<Stat, Malformed> {
    let malformed = |what| Malformed { what };
    let name_end = line.iter().rposition(|&byte| byte == b')');
    let rest = &line[name_end.ok_or(malformed("a name"))? + 1..];
    let mut fields = words(rest);
    let state = match fields.next() {
        Some(b"R") => State::Ready,
        Some(b"S") => State::Asleep,
        Some(b"D") => State::AsleepForDevice,
        Some(b"T" | b"t") => State::Stopped,
        Some([_]) => State::Other,
        _ => return Err(malformed("a state")),
    };
    // Parent, group, session, terminal, its group, flags; pages that were there, of it and of its
    // children.
    let major_faults = decimal(fields.nth(8)).ok_or(malformed("a count of major faults"))?;
    // What follows shows that the number was not cut.
    fields.next().ok_or(malformed("a line"))?;
    Ok(Stat {
        state,
        major_faults,
    })
}

/// Reads `syscall`: `running`, or a number and its arguments in hexadecimal.
///
/// # Errors
/// If it is nothing of these.
pub fn parse_call(line: &[u8]) -> Result<CallState, Malformed> {
    let malformed = Malformed {
        what: "a system call",
    };
    let line = line.strip_suffix(b"\n").ok_or(malformed)?;
    if line == b"running" {
        return Ok(CallState::Running);
    }
    let mut fields = words(line);
    let number: i64 = fields
        .next()
        .and_then(|word| std::str::from_utf8(word).ok()?.parse().ok())
        .ok_or(malformed)?;
    let numbers: Vec<u64> = fields.map_while(hexadecimal).collect();
    let count = words(line).count() - 1;
    match (number, &numbers[..]) {
        _ if numbers.len() != count => Err(malformed),
        // The stack pointer and the instruction.
        (..0, [_, _]) => Ok(CallState::NoCall),
        (0.., [arguments @ .., _, _]) => Ok(CallState::Call(SystemCall {
            number,
            arguments: arguments.try_into().map_err(|_| malformed)?,
        })),
        _ => Err(malformed),
    }
}

/// Reads `schedstat`; `None` from a kernel that does not count.
///
/// # Errors
/// If it is not three numbers.
pub fn parse_schedule(line: &[u8]) -> Result<Option<Schedule>, Malformed> {
    let line = line.strip_suffix(b"\n");
    let mut fields = words(line.ok_or(Malformed { what: "a line" })?);
    let mut number = || decimal(fields.next());
    let (ran, delay_ns, turns) = (number(), number(), number());
    match (ran, delay_ns, turns, fields.next()) {
        (Some(_), Some(_), Some(0), None) => Ok(None),
        (Some(_), Some(delay_ns), Some(turns), None) => Ok(Some(Schedule { delay_ns, turns })),
        _ => Err(Malformed {
            what: "times of a thread",
        }),
    }
}

/// Reads `wchan`: where in the kernel it sleeps; `None` if that is not said.
///
/// # Errors
/// If it cannot be a name.
pub fn parse_channel(text: &[u8]) -> Result<Option<Box<str>>, Malformed> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    match std::str::from_utf8(text) {
        Ok("" | "0") => Ok(None),
        Ok(name) if name.len() <= CHANNEL_BYTES_MAX && text.iter().all(is_name) => {
            Ok(Some(name.into()))
        }
        _ => Err(Malformed {
            what: "a wait channel",
        }),
    }
}

/// Reads from `status` how often a thread went to sleep by itself.
///
/// # Errors
/// If it is not said.
pub fn parse_sleeps(text: &[u8]) -> Result<u64, Malformed> {
    const NAME: &[u8] = b"voluntary_ctxt_switches:";
    text.split_inclusive(|&byte| byte == b'\n')
        .filter_map(|line| line.strip_prefix(NAME)?.strip_suffix(b"\n"))
        .find_map(|rest| decimal(Some(rest.trim_ascii())))
        .ok_or(Malformed {
            what: "a count of sleeps",
        })
}

/// What stands between spaces.
fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

fn decimal(word: Option<&[u8]>) -> Option<u64> {
    let word = word.filter(|word| word.iter().all(u8::is_ascii_digit))?;
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn hexadecimal(word: &[u8]) -> Option<u64> {
    let digits = word.strip_prefix(b"0x")?;
    let digits = digits.iter().all(u8::is_ascii_hexdigit).then_some(digits)?;
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &[u8] = b"2817 (a ) R (b\n) D 2803 2817 2813 0 -1 4194304 136 7 21 8 0 1 0 0 20 0 \
        1 0 5989811 8589312 466 18446744073709551615 94 94 140 0 0 0 0 0 0 0 0 0 17 1 0 0 0\n";

    #[test]
    fn a_line_of_stat_is_read_behind_any_name() {
        let stat = Stat {
            state: State::AsleepForDevice,
            major_faults: 21,
        };
        assert_eq!(parse_stat(STAT), Ok(stat));
        for (letter, state) in [
            (b'R', State::Ready),
            (b'S', State::Asleep),
            (b'T', State::Stopped),
            (b't', State::Stopped),
            (b'Z', State::Other),
        ] {
            let line: Vec<u8> = (STAT
                .iter()
                .map(|&byte| if byte == b'D' { letter } else { byte }))
            .collect();
            assert_eq!(parse_stat(&line).map(|stat| stat.state), Ok(state));
        }
    }

    #[test]
    fn a_line_of_stat_that_is_cut_or_spoilt_is_refused() {
        let end = STAT.iter().position(|&byte| byte == b'8').expect("pid") + 1;
        let needed = STAT
            .windows(5)
            .position(|window| window == b" 21 8")
            .expect("the fields")
            + 5;
        for bytes in end..needed {
            assert!(parse_stat(&STAT[..bytes]).is_err(), "{bytes}");
        }
        assert!(parse_stat(&STAT[..needed]).is_ok());
        for line in [
            &b""[..],
            b")",
            b"1 (a) RR 1 1 1 1 1 1 1 1 1 1",
            b"1 (a) R 1 1 1 1 1 1 1 1 -1 1",
            b"1 (a) R 1 1 1 1 1 1 1 1 99999999999999999999 1",
        ] {
            assert!(parse_stat(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_call_is_read_with_its_arguments() {
        let call = SystemCall {
            number: 230,
            arguments: [0, 1, 0x7ffe_dead, 0, u64::MAX, 6],
        };
        let line = b"230 0x0 0x1 0x7ffedead 0x0 0xffffffffffffffff 0x6 0x7ffd 0x7f56\n";
        assert_eq!(parse_call(line), Ok(CallState::Call(call)));
        assert_eq!(parse_call(b"running\n"), Ok(CallState::Running));
        assert_eq!(parse_call(b"-1 0x7ffd 0x7f56\n"), Ok(CallState::NoCall));
        for bytes in 0..line.len() {
            assert!(parse_call(&line[..bytes]).is_err(), "{bytes}");
        }
        for line in [
            &b"\n"[..],
            b"running",
            b"runnin\n",
            b"-1\n",
            b"-1 0x1 0x2 0x3\n",
            b"0 0x0 0x1 0x7ffd 0x7f56\n",
            b"0 0x0 0x1 0x2 0x3 0x4 5 0x7ffd 0x7f56\n",
            b"0 0x0 0x1 0x2 0x3 0x4 0x+5 0x7ffd 0x7f56\n",
            b"0 0x0 0x1 0x2 0x3 0x4 0x10000000000000000 0x7ffd 0x7f56\n",
            b"0 0x0 0x1 0x2 0x3 0x4 0x5 0x6 0x7ffd 0x7f56\n",
            b"9223372036854775808 0x0 0x1 0x2 0x3 0x4 0x5 0x7ffd 0x7f56\n",
        ] {
            assert!(parse_call(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn times_are_read_unless_the_kernel_does_not_count_them() {
        let schedule = Schedule {
            delay_ns: 43_701,
            turns: 12,
        };
        assert_eq!(parse_schedule(b"91000 43701 12\n"), Ok(Some(schedule)));
        assert_eq!(parse_schedule(b"0 0 0\n"), Ok(None));
        for line in [
            &b""[..],
            b"1 2 3",
            b"1 2\n",
            b"1 2 3 4\n",
            b"1 -2 3\n",
            b"a b c\n",
        ] {
            assert!(parse_schedule(line).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_wait_channel_is_a_name_or_none() {
        let futex = Some("futex_do_wait".into());
        assert_eq!(parse_channel(b"futex_do_wait"), Ok(futex.clone()));
        assert_eq!(parse_channel(b"futex_do_wait\n"), Ok(futex));
        for none in [&b"0"[..], b"", b"0\n"] {
            assert_eq!(parse_channel(none), Ok(None));
        }
        for text in [&b"a b"[..], b"\xff", &[b'a'; CHANNEL_BYTES_MAX + 1]] {
            assert!(parse_channel(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sleeps_are_counted_by_the_line_of_this_name() {
        let text = b"Name:\tx\nnonvoluntary_ctxt_switches:\t9\nvoluntary_ctxt_switches:\t150\n";
        assert_eq!(parse_sleeps(text), Ok(150));
        for bytes in 0..text.len() {
            assert!(parse_sleeps(&text[..bytes]).is_err(), "{bytes}");
        }
        assert!(parse_sleeps(b"voluntary_ctxt_switches:\t-1\n").is_err());
    }
}
