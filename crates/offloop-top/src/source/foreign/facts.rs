//! What the kernel tells of another process.
//!
//! Units:      seconds since the system began, as `time.monotonic` counts them.
//! Source:     proc_pid_stat(5), proc_pid_status(5), proc_pid_cmdline(5).

use std::fs;
use std::os::unix::fs::MetadataExt;

use offloop_sys::clock::monotonic_ns;
use offloop_sys::memory::page_bytes;

use crate::words;
use offloop_views::document::Process;

/// Where the fields are behind the name in the line of a process.
const USER_TICKS: usize = 11;
const SYSTEM_TICKS: usize = 12;
const THREADS: usize = 17;
const START_TICKS: usize = 19;
const RESIDENT_PAGES: usize = 21;

/// Options of `offloop run` whose values may be arguments of their own.
const WITH_VALUES: [&str; 5] = ["--loop", "--threshold", "--trace", "--journal", "--report"];

/// Ticks of the clock in which the kernel tells times to programs, on every machine of ours.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a process's line has behind its name, which may hold anything.
fn behind_name(pid: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let line = String::from_utf8_lossy(&line);
    Some(line[line.rfind(')')? + 1..].to_owned())
}

/// The fields of a process's line behind its name.
fn fields(pid: u32) -> Option<Vec<u64>> {
    // The first one is a letter.
    Some(
        behind_name(pid)?
            .split_ascii_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect(),
    )
}

/// Whether a process has ended, and only its parent has not asked for its status yet.
pub(super) fn is_over(pid: u32) -> bool {
    let behind = behind_name(pid).unwrap_or_default();
    matches!(behind.split_ascii_whitespace().next(), Some("Z" | "X"))
}

/// When a process began, in ticks: no two processes of one number share it.
pub(super) fn began(pid: u32) -> Option<u64> {
    fields(pid)?.get(START_TICKS).copied()
}

/// The user that a process runs as.
pub(super) fn user(pid: u32) -> Option<u32> {
    Some(fs::metadata(format!("/proc/{pid}")).ok()?.uid())
}

/// The name of a thread.
pub(super) fn thread_name(pid: u32, thread: u64) -> String {
    if u64::from(pid) == thread {
        return "MainThread".to_owned();
    }
    let name = fs::read_to_string(format!("/proc/{pid}/task/{thread}/comm")).unwrap_or_default();
    format!("{} {thread}", name.trim_end())
}

/// The name of a process.
pub(super) fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    words::clean(name.trim_end())
}

/// The program: the first argument that is not an option of Python's.
pub(in crate::source) fn program(pid: u32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments: Vec<String> = line
        .split(|&byte| byte == 0)
        .filter(|argument| !argument.is_empty())
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect();
    program_of(&arguments)
}

fn program_of(arguments: &[String]) -> String {
    let Some((interpreter, rest)) = arguments.split_first() else {
        return "?".to_owned();
    };
    let mut rest = rest.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "-m" => {
                return match rest.next().map_or("", String::as_str) {
                    "offloop" => under_offloop(rest),
                    module => format!("-m {module}"),
                };
            }
            "-c" => return "-c".to_owned(),
            "-W" | "-X" => {
                rest.next();
            }
            option if option.starts_with('-') => {}
            path if words::file_name(path) == "offloop" => return under_offloop(rest),
            path => return words::file_name(path).to_owned(),
        }
    }
    words::file_name(interpreter).to_owned()
}

/// The program that `offloop run` runs, of the arguments behind `offloop`.
fn under_offloop<'a>(mut rest: impl Iterator<Item = &'a String>) -> String {
    let mut name = "offloop".to_owned();
    if rest.next().is_none_or(|command| command != "run") {
        return name;
    }
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "-m" => return format!("-m {}", rest.next().map_or("", String::as_str)),
            "-c" => return "-c".to_owned(),
            option if WITH_VALUES.contains(&option) => {
                rest.next();
            }
            option if option.starts_with('-') => {}
            path => {
                words::file_name(path).clone_into(&mut name);
                break;
            }
        }
    }
    name
}

/// The clock of the documents.
pub(super) fn now() -> f64 {
    monotonic_ns() as f64 / 1e9
}

/// What a document says of a process; `None` if it has ended.
pub(super) fn process(pid: u32, program: &str, python: &str) -> Option<Process> {
    let fields = fields(pid)?;
    let at = |index: usize| fields.get(index).copied().unwrap_or(0);
    let now_wall = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap_or_default();
    Some(Process {
        pid,
        python: python.to_owned(),
        offloop: String::new(),
        program: program.to_owned(),
        started: at(START_TICKS) as f64 / TICKS_PER_SECOND,
        now: now(),
        now_wall: now_wall.as_secs_f64(),
        memory_bytes: Some(at(RESIDENT_PAGES) * page_bytes()),
        cpu_seconds: Some((at(USER_TICKS) + at(SYSTEM_TICKS)) as f64 / TICKS_PER_SECOND),
        threads: Some(at(THREADS)),
        children: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_as_it_was_started() {
        for (line, name) in [
            ("python3 -X dev -u /srv/app/main.py -m x", "main.py"),
            ("/usr/bin/python3 -m uvicorn app:app", "-m uvicorn"),
            ("python3 -c pass", "-c"),
            ("/usr/bin/python3.13", "python3.13"),
            ("", "?"),
            (
                "python3 /bin/offloop run --loop uvloop --page=0 a.py b",
                "a.py",
            ),
            (
                "python3 -m offloop run --no-views -m uvicorn x:y",
                "-m uvicorn",
            ),
            ("python3 /bin/offloop run -c pass", "-c"),
            ("python3 /bin/offloop top", "offloop"),
        ] {
            let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            assert_eq!(program_of(&arguments), name);
        }
    }

    #[test]
    fn this_process_is_told_and_one_that_is_not_there_is_not() {
        let found = process(std::process::id(), "me", "").expect("it is there");
        assert!(found.memory_bytes > Some(100_000) && found.threads >= Some(1));
        assert!(found.started <= found.now);
        assert_eq!(process(u32::MAX, "", ""), None);
        assert!(!is_over(std::process::id()) && !is_over(u32::MAX));
        assert_eq!(began(u32::MAX), None);
    }
}
