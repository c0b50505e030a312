//! A program without offloop, read from outside: its memory is copied, and nothing of it is
//! stopped, changed or asked.
//!
//! Its loops are found by the stacks of its threads, and looked at many times a second. From 3.14
//! on asyncio publishes where its tasks are, so these are read too; before that it is said why not.
//!
//! Errors:     `Trouble`; a look that fails is left out, unless the process has ended.
//! Source:     process_vm_readv(2), ptrace(2) on its access mode; design note 014.

mod facts;
mod locate;
mod seen;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use offloop_sys::identity::effective_user;
use offloop_sys::interpreter::memory::{MemoryError, OtherMemory};
use offloop_sys::interpreter::{
    Asyncio, Codes, Interpreter, Reading, SeenTask, StackEntry, Thread, UnsupportedError,
};

use super::{Answer, Source};
use crate::state::Act;
use crate::trouble::Trouble;
use offloop_views::document::{Document, Loop, Place, Task, Tasks, VERSION};
use seen::Seen;

pub(super) use facts::program as program_of;

/// How far apart looks are, and how long they go on for a document; for the first one longer.
const LOOKS_APART: Duration = Duration::from_millis(18);
const LOOKS_LAST: Duration = Duration::from_millis(250);
const FIRST_LOOKS_LAST: Duration = Duration::from_millis(900);
/// How often it is looked for new threads.
const THREADS_APART: Duration = Duration::from_secs(1);
/// Loops, culprits and tasks that are told.
const LOOPS_MAX: usize = 16;
const CULPRITS_MAX: usize = 64;
const TASKS_MAX: usize = 200;
/// Why tasks are not told.
const NO_TASKS: &str = "tasks can be read from outside from Python 3.14 on";
/// The system refuses for want of a permission.
const NOT_PERMITTED: i32 = 1;

/// A process that is read.
#[derive(Debug)]
pub(crate) struct Foreign {
    pid: u32,
    began: u64,
    program: String,
    python: String,
    interpreter: Interpreter<OtherMemory>,
    asyncio: Option<Asyncio>,
    codes: Codes,
    threads: Vec<Thread>,
    threads_read: Option<Instant>,
    /// By the kernel's ids of their threads.
    loops: HashMap<u64, Seen>,
    asked: Option<Instant>,
    last_look: Option<Instant>,
    is_first: bool,
}

/// The minor version in words, of a number as in `PY_VERSION_HEX`.
fn minor(version: u64) -> String {
    format!("{}.{}", version >> 24 & 0xff, version >> 16 & 0xff)
}

/// All of a version in words.
fn whole(version: u64) -> String {
    let mut text = format!("{}.{}", minor(version), version >> 8 & 0xff);
    let serial = version & 0xf;
    match version >> 4 & 0xf {
        0xa => text.push_str(&format!("a{serial}")),
        0xb => text.push_str(&format!("b{serial}")),
        0xc => text.push_str(&format!("rc{serial}")),
        _ => {}
    }
    text
}

/// Why a process may not be read, and what to do.
fn forbidden(pid: u32) -> Trouble {
    if facts::user(pid).is_some_and(|user| user != effective_user()) {
        return Trouble::AnotherUser { pid };
    }
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let cure = match scope.trim() {
        "1" => "run as root, or allow it with `sysctl kernel.yama.ptrace_scope=0`",
        "2" => "run as root, since kernel.yama.ptrace_scope is 2",
        "3" => "kernel.yama.ptrace_scope is 3, which stays until the next boot",
        _ => "run as root, or in its container give it the capability SYS_PTRACE",
    };
    Trouble::Forbidden {
        pid,
        cure: cure.to_owned(),
    }
}

impl Foreign {
    /// Finds the interpreter of a process that is there.
    pub(crate) fn open(pid: u32, ours: u64) -> Result<Self, Trouble> {
        let began = facts::began(pid).ok_or(Trouble::NoProcess { pid })?;
        if facts::is_over(pid) {
            return Err(Trouble::Ended { pid });
        }
        let memory = OtherMemory::of(pid).map_err(|_| Trouble::NoProcess { pid })?;
        let located = match locate::locate(pid, &memory) {
            Ok(located) => located,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return Err(forbidden(pid));
            }
            Err(_) => return Err(Trouble::NoProcess { pid }),
        };
        let program = facts::program(pid);
        let Some(located) = located else {
            return Err(if is_readable(pid) {
                Trouble::NoPython {
                    pid,
                    program: facts::name(pid),
                }
            } else {
                forbidden(pid)
            });
        };
        let version = located.symbols.version;
        if version >> 16 != ours >> 16 {
            return Err(Trouble::Version {
                pid,
                theirs: minor(version),
                ours: minor(ours),
            });
        }
        let interpreter =
            Interpreter::of_memory(memory, located.symbols).map_err(|error| match error {
                UnsupportedError::Memory(error) => trouble(pid, error),
                error => Trouble::Unreadable {
                    pid,
                    reason: error.to_string(),
                },
            })?;
        Ok(Self {
            pid,
            began,
            program,
            python: whole(version),
            interpreter,
            asyncio: located.asyncio,
            codes: Codes::new(),
            threads: Vec::new(),
            threads_read: None,
            loops: HashMap::new(),
            asked: None,
            last_look: None,
            is_first: true,
        })
    }

    /// Looks at all threads that run loops; and now and then at the rest, which may begin to.
    fn look(&mut self) -> Result<(), Trouble> {
        if facts::began(self.pid) != Some(self.began) || facts::is_over(self.pid) {
            return Err(Trouble::Ended { pid: self.pid });
        }
        let is_due = self
            .threads_read
            .is_none_or(|read| read.elapsed() >= THREADS_APART);
        if is_due && let Ok(threads) = self.interpreter.threads() {
            self.threads = threads;
            self.threads_read = Some(Instant::now());
            let ids: Vec<u64> = self
                .threads
                .iter()
                .map(|thread| thread.native_id())
                .collect();
            self.loops.retain(|id, _| ids.contains(id));
        }
        for thread in self.threads.clone() {
            let id = thread.native_id();
            let is_known = self.loops.contains_key(&id);
            if !is_known && (!is_due || self.loops.len() >= LOOPS_MAX) {
                continue;
            }
            let Some(stack) = self.stack(thread) else {
                continue;
            };
            let Some(at_work) = seen::at_work(&stack) else {
                continue;
            };
            let number = self.loops.len() as u64 + 1;
            let new = || Seen::new(number, facts::thread_name(self.pid, id));
            let seen = self.loops.entry(id).or_insert_with(new);
            seen.look(facts::now(), &stack, at_work);
        }
        Ok(())
    }

    fn stack(&mut self, thread: Thread) -> Option<Vec<StackEntry>> {
        match self.interpreter.read(thread, &mut self.codes, || true) {
            Reading::Exact(stack) | Reading::Moving(stack) => Some(stack.entries),
            Reading::Over | Reading::Unreadable(_) => None,
        }
    }

    fn document(&mut self) -> Result<Document, Trouble> {
        let process = facts::process(self.pid, &self.program, &self.python)
            .ok_or(Trouble::Ended { pid: self.pid })?;
        let now = process.now;
        let mut loops: Vec<(&u64, &Seen)> = self.loops.iter().collect();
        loops.sort_by_key(|(id, _)| **id);
        let mut culprits: Vec<_> = loops.iter().flat_map(|(_, seen)| seen.culprits()).collect();
        culprits.sort_by(|one, other| other.total_seconds.total_cmp(&one.total_seconds));
        culprits.truncate(CULPRITS_MAX);
        for culprit in &mut culprits {
            culprit.source = source_line(self.pid, culprit.file.as_deref(), culprit.line);
        }
        Ok(Document {
            version: VERSION,
            process,
            loops: loops
                .iter()
                .map(|(id, seen)| one_loop(**id, seen, now))
                .collect(),
            stalls: loops
                .iter()
                .flat_map(|(_, seen)| seen.stalls().cloned())
                .collect(),
            culprits,
            tasks: self.tasks(),
            ..Document::default()
        })
    }

    fn tasks(&mut self) -> Tasks {
        let unread = |reason: String| Tasks {
            reason: Some(reason),
            ..Tasks::default()
        };
        let Some(asyncio) = self.asyncio else {
            return unread(NO_TASKS.to_owned());
        };
        match self
            .interpreter
            .tasks(asyncio, &self.threads, &mut self.codes)
        {
            Ok(found) => Tasks {
                age_seconds: Some(0.0),
                total: found.len() as u64,
                left_out: found.len().saturating_sub(TASKS_MAX) as u64,
                reason: None,
                tasks: found.iter().take(TASKS_MAX).map(one_task).collect(),
            },
            Err(error) => unread(format!("tasks could not be read this time: {error}")),
        }
    }
}

/// A file of `/proc` that needs the same permission as its memory.
fn is_readable(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

fn trouble(pid: u32, error: MemoryError) -> Trouble {
    match error {
        MemoryError::Forbidden {
            error: NOT_PERMITTED,
        } => forbidden(pid),
        error if error.is_of_ended_process() => Trouble::Ended { pid },
        error => Trouble::Unreadable {
            pid,
            reason: error.to_string(),
        },
    }
}

/// The text of a line, in the file that the process sees under this name.
fn source_line(pid: u32, file: Option<&str>, line: Option<i32>) -> Option<String> {
    let file = file.filter(|file| file.starts_with('/'))?;
    let number = usize::try_from(line?).ok()?.checked_sub(1)?;
    let text = fs::read(format!("/proc/{pid}/root{file}")).ok()?;
    let line = text.split(|&byte| byte == b'\n').nth(number)?;
    Some(
        String::from_utf8_lossy(line)
            .trim()
            .chars()
            .take(200)
            .collect(),
    )
}

fn one_loop(id: u64, seen: &Seen, now: f64) -> Loop {
    Loop {
        number: seen.number(),
        kind: "read from outside".to_owned(),
        thread: seen.thread().to_owned(),
        native_id: u32::try_from(id).unwrap_or(0),
        is_running: Some(true),
        round_seconds: None,
        blocked: seen.blocked(),
        statistics: Some(seen.statistics(now)),
    }
}

fn one_task(task: &SeenTask) -> Task {
    let stack: Vec<Place> = task.stack.iter().map(seen::place).collect();
    Task {
        id: format!("{:x}", task.address),
        name: task.name.clone(),
        coroutine: stack
            .first()
            .map_or(String::new(), |place| place.function.clone()),
        state: if task.is_running {
            "running"
        } else {
            "waiting"
        }
        .to_owned(),
        awaited_by: task
            .awaited_by
            .iter()
            .map(|address| format!("{address:x}"))
            .collect(),
        stack,
        ..Task::default()
    }
}

impl Source for Foreign {
    fn ask_for_document(&mut self) -> Result<(), Trouble> {
        self.asked = self.asked.or(Some(Instant::now()));
        Ok(())
    }

    fn ask_for_act(&mut self, _act: &Act) -> Result<(), Trouble> {
        Ok(())
    }

    fn poll(&mut self) -> Result<Option<Answer>, Trouble> {
        let Some(asked) = self.asked else {
            return Ok(None);
        };
        if self
            .last_look
            .is_none_or(|last| last.elapsed() >= LOOKS_APART)
        {
            self.last_look = Some(Instant::now());
            self.look()?;
        }
        let enough = if self.is_first {
            FIRST_LOOKS_LAST
        } else {
            LOOKS_LAST
        };
        if asked.elapsed() < enough {
            return Ok(None);
        }
        self.is_first = false;
        self.asked = None;
        Ok(Some(Answer::Document(Box::new(self.document()?))))
    }

    fn waits_for(&self) -> Option<Duration> {
        self.asked.map(|asked| asked.elapsed())
    }

    fn pid(&self) -> u32 {
        self.pid
    }

    fn only_read(&self) -> Option<String> {
        Some(format!(
            "process {} does not run offloop: it is only read",
            self.pid
        ))
    }
}
