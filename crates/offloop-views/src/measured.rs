//! What the kernel says of a process: its memory, its time, its threads.
//!
//! Source: proc(5).

use std::fs;

/// What this process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Used {
    /// When it began, in seconds of the monotonic clock.
    pub(crate) started: Option<f64>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) threads: Option<u64>,
}

/// Ticks of the clock in which the kernel tells times to programs, on every machine of ours.
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) fn own() -> Used {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    Used {
        memory_bytes: memory("/proc/self/statm"),
        ..used(&stat)
    }
}

/// The memory that a process holds; `None` if there is none of that id.
pub(crate) fn memory_of(pid: i32) -> Option<u64> {
    memory(&format!("/proc/{pid}/statm"))
}

fn memory(path: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * offloop_sys::memory::page_bytes())
}

/// The children of this process, at most so many. A kernel that does not list them has none.
pub(crate) fn children(at_most: usize) -> Vec<u32> {
    let threads = fs::read_dir("/proc/self/task");
    let threads = threads.into_iter().flatten().flatten().take(at_most);
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let mut found: Vec<u32> = lists
        .flat_map(|list| {
            let pids = list.split_whitespace().map(str::parse);
            pids.filter_map(Result::ok).collect::<Vec<u32>>()
        })
        .take(at_most)
        .collect();
    found.sort_unstable();
    found
}

/// What a line of `stat` says. The name in it may hold anything, so the fields behind it count.
fn used(stat: &str) -> Used {
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let fields: Vec<&str> = fields.split_whitespace().collect();
    // The first field behind the name is the third of all.
    let number = |field: usize| -> Option<f64> { fields.get(field - 3)?.parse().ok() };
    let cpu = number(14).zip(number(15));
    Used {
        started: number(22).map(|ticks| ticks / TICKS_PER_SECOND),
        memory_bytes: None,
        cpu_seconds: cpu.map(|(user, system)| (user + system) / TICKS_PER_SECOND),
        threads: fields.get(17).and_then(|threads| threads.parse().ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_name() {
        let stat = "12 (a) b (c)) S 1 12 12 0 -1 0 1 2 3 4 150 50 0 0 20 0 7 0 4200 1 2 3";
        let expected = Used {
            started: Some(42.0),
            memory_bytes: None,
            cpu_seconds: Some(2.0),
            threads: Some(7),
        };
        assert_eq!(used(stat), expected);
        assert_eq!(used(""), Used::default());
        assert_eq!(used("12 (name) S 1"), Used::default());
    }

    #[test]
    fn children_are_found_whichever_thread_has_started_them() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("a child");
        let found = children(64);
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        assert!(found.contains(&child.id()), "{found:?}");
    }

    #[test]
    fn this_process_has_memory_and_a_process_that_is_none_has_not() {
        assert!(own().memory_bytes.is_some_and(|bytes| bytes > 100_000));
        assert!(own().started.is_some() && own().threads.is_some());
        assert_eq!(memory_of(i32::MAX), None);
    }
}
