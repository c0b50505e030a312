//! The benchmark's client: one thread that asks a server again and again, and counts.
//!
//! Each connection has one request under way at a time. After a time to warm up, requests are
//! counted for a fixed time, and the CPU clock of the server's process is read at both ends. The
//! numbers go to standard output as one JSON object. Every answer is checked.
//!
//! Commands:   `echo`, `http`, `idle`; see `arguments`.
//! Units:      milliseconds on the command line, seconds, microseconds and nanoseconds as named.
//! Errors:     a wrong answer or a closed connection ends the run, with a line on standard error.
//! Threads:    one.

mod arguments;
mod connection;
mod cpu;
mod exchange;
mod idle;
mod load;
mod poller;
mod transport;

use std::process::ExitCode;

use arguments::Command;

fn main() -> ExitCode {
    let done = arguments::parse(std::env::args().skip(1)).and_then(|command| match command {
        Command::Load(plan) => load::run(&plan).map(|numbers| println!("{numbers}")),
        Command::Idle(target) => idle::hold(&target),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("offloop-bench-client: {error}");
            ExitCode::FAILURE
        }
    }
}
