//! Durations, causes and remarks in plain words.

use core::time::Duration;

use super::super::cause::Cause;
use super::super::record::{Quality, Stall};
use crate::event_loop::Moment;

/// From here on the watch says that it was late.
const LATE: Duration = Duration::from_millis(20);

/// A duration with three or four digits: `312 ms`, `1.204 s`, `2 min 5 s`.
pub(in crate::watch) fn duration(duration: Duration) -> String {
    let micros = duration.as_micros();
    let seconds = duration.as_secs();
    match micros {
        0..9_950 => {
            let tenths = (micros + 50) / 100;
            format!("{}.{} ms", tenths / 10, tenths % 10)
        }
        9_950..999_500 => format!("{} ms", (micros + 500) / 1_000),
        999_500..60_000_000 => {
            let ms = (micros + 500) / 1_000;
            format!("{}.{:03} s", ms / 1_000, ms % 1_000)
        }
        _ if seconds < 3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

/// Why a thread does not go on. Names are as the system has them.
pub(super) fn cause(cause: &Cause) -> String {
    let named = |what: &str, name: Option<&str>| match name {
        Some(name) => format!("waits for the {what} {name}"),
        None => format!("waits for a {what}"),
    };
    match cause {
        Cause::Python => "Python code computes".to_owned(),
        Cause::Native { holds_gil: true } => {
            "C code computes and keeps the GIL, so that no thread can run Python".to_owned()
        }
        Cause::Native { holds_gil: false } => "C code computes, without the GIL".to_owned(),
        Cause::Sleep => "sleeps".to_owned(),
        Cause::Socket { peer: Some(peer) } => format!("waits for the socket to {peer}"),
        Cause::Socket { peer: None } => "waits for a socket".to_owned(),
        Cause::File { path } => named("file", path.as_deref()),
        Cause::Descriptor { name } => named("descriptor", name.as_deref()),
        Cause::Lock => "waits for a lock, a condition or the end of a thread".to_owned(),
        Cause::Child { pid: Some(pid) } => format!("waits for the child process {pid}"),
        Cause::Child { pid: None } => "waits for a child process".to_owned(),
        Cause::OtherThread { native_id } => {
            format!("thread {native_id} has the GIL; the stack is that thread's")
        }
        Cause::Collection => "the interpreter collects garbage".to_owned(),
        Cause::Memory => "waits for memory: the system reads pages from a disk".to_owned(),
        Cause::Stopped => "a debugger or a signal has stopped the thread".to_owned(),
        Cause::Starved => {
            "the system did not let the process run: it was stopped, or other processes had the \
             processors"
                .to_owned()
        }
        Cause::Callbacks => "many callbacks in one round of the loop, none of them long".to_owned(),
        Cause::Unknown => "not known".to_owned(),
    }
}

/// What a reader must know of how a stall was seen.
pub(super) fn remarks(stall: &Stall) -> Vec<String> {
    let mut remarks = Vec::new();
    match &stall.stack.quality {
        // The stack is not shown.
        _ if stall.cause.blames_no_code() => {}
        Quality::Moving => {
            remarks.push(
                "the code went on while it was looked at: each entry of the stack was \
                          there at some moment"
                    .to_owned(),
            );
        }
        Quality::Fallback => {
            remarks.push(
                "a fall-back stack: the interpreter was asked, and answered when it had \
                          the time"
                    .to_owned(),
            );
        }
        Quality::Exact | Quality::Missing(_) => {}
    }
    if let Moment::Found { late_by } = stall.moment
        && late_by >= LATE
    {
        let late = duration(late_by);
        remarks.push(format!("the watch looked {late} later than it wanted to"));
    }
    remarks
}

/// `1 entry`, `2 entries`.
pub(super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// How many stalls were not told before this one.
pub(in crate::watch) fn suppressed(count: u64) -> String {
    match count {
        1 => "1 stall before this one was not told: there were too many".to_owned(),
        _ => format!("{count} stalls before this one were not told: there were too many"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_few_digits() {
        for (micros, words) in [
            (0, "0.0 ms"),
            (1_234, "1.2 ms"),
            (9_949, "9.9 ms"),
            (9_950, "10 ms"),
            (312_400, "312 ms"),
            (999_499, "999 ms"),
            (999_500, "1.000 s"),
            (1_204_000, "1.204 s"),
            (59_999_999, "60.000 s"),
            (60_000_000, "1 min 0 s"),
            (125_900_000, "2 min 5 s"),
            (3_720_000_000, "1 h 2 min"),
        ] {
            assert_eq!(duration(Duration::from_micros(micros)), words);
        }
    }
}
