//! The parent is killed in mid-call: no worker outlives it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::fixture::is_alive;

/// Longest time that a worker may outlive its parent.
const BOUND: Duration = Duration::from_secs(5);

/// A process that runs the runtime, and those that it has started.
fn parent(arguments: &[&str]) -> (Child, Vec<i32>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_offloop-test-worker"))
        .arg("parent")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let pids = line
        .split_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect();
    (child, pids)
}

fn all_end_within_the_bound(pids: &[i32]) {
    let killed = Instant::now();
    while pids.iter().any(|pid| is_alive(*pid)) {
        let alive: Vec<_> = pids.iter().filter(|pid| is_alive(**pid)).collect();
        assert!(killed.elapsed() < BOUND, "{alive:?} are left");
        std::thread::yield_now();
    }
}

#[test]
fn a_killed_parent_leaves_no_worker() {
    let (mut child, pids) = parent(&[]);
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    child.kill().unwrap();
    child.wait().unwrap();
    all_end_within_the_bound(&pids);
}

#[test]
fn a_killed_parent_leaves_no_worker_even_when_the_zygote_went_first() {
    let (mut child, pids) = parent(&["without-zygote"]);
    assert_eq!(pids.len(), 3);
    assert!(pids[..2].iter().all(|pid| is_alive(*pid)));
    child.kill().unwrap();
    child.wait().unwrap();
    all_end_within_the_bound(&pids);
}

#[test]
fn a_parent_that_ends_politely_leaves_no_worker() {
    let (mut child, pids) = parent(&[]);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    all_end_within_the_bound(&pids);
}
