//! The worker program as a parent: it runs the runtime, so that a test can kill it.
//!
//! `offloop-test-worker parent [without-zygote]` prints the process ids of its zygote and workers,
//! one of which spins in a call while the other waits in one, and then runs until it is killed.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use offloop::{Call, CallOptions, Lane, LaneConfig, Launch, Payload, Program, Runtime};
use offloop_sys::process;
use offloop_sys::socket::{self, Wait};

const LIMIT: Duration = Duration::from_secs(20);
const SIGKILL: i32 = 9;

/// Runs the parent.
pub fn run(without_zygote: bool) -> io::Result<()> {
    let runtime = Runtime::new(None)?;
    let (reports, worker_reports) = socket::pair()?;
    let (worker_gate, _gate) = socket::pipe()?;
    let path = std::env::current_exe()?.into_os_string();
    let launch = Launch {
        program: Program {
            path: path.clone(),
            arguments: vec![path],
            environment: Vec::new(),
        },
        setup: Vec::new(),
        inherited: Arc::new(vec![worker_reports, worker_gate]),
        tracker: None,
        surroundings: 0,
        tasks_per_worker_max: None,
    };
    let lane = runtime
        .open_lane(launch, LaneConfig::new(2))
        .map_err(io::Error::other)?;
    let mut pids = Vec::new();
    for command in ["deaf", "gate"] {
        submit(&lane, command)?;
        let mut buffer = [0; 64];
        let (len, _) = socket::receive(reports.as_fd(), &mut buffer, Wait::Yes)?;
        let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
        pids.push(text.rsplit(' ').next().unwrap_or_default().to_owned());
    }
    for zygote in runtime.zygote_pids() {
        pids.push(zygote.to_string());
        if without_zygote {
            process::signal(process::open_pidfd(zygote)?.as_fd(), SIGKILL)?;
        }
    }
    while without_zygote && !runtime.zygote_pids().is_empty() {
        std::thread::yield_now();
    }
    println!("{}", pids.join(" "));
    io::stdout().flush()?;
    // The test kills this process; were the test gone, it ends by itself.
    socket::wait_readable(io::stdin().as_fd(), Some(LIMIT))?;
    Ok(())
}

fn submit(lane: &Lane, command: &str) -> io::Result<()> {
    let payload = Payload {
        inline: command.into(),
        ..Payload::default()
    };
    let call = Call {
        owner: 0,
        token: 0,
        any_thread: true,
        streams: false,
        function: None,
        needs: Vec::new(),
        payload,
        surroundings: None,
        note: None,
    };
    lane.submit(call, CallOptions::default())
        .map_err(io::Error::other)?;
    Ok(())
}
