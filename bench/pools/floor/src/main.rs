//! The bare floor under a process pool: round trips between two processes, and copies.
//!
//! Everything here is what a pool must pay for anyway: a message to a worker and one back, and
//! bytes moved once. The answers go to standard output as one JSON object.
//!
//! Units:   microseconds per round trip (medians) and of CPU (both processes), GB/s for copies.
//! Threads: one per process; the second process is forked for each measurement and reaped.

mod copying;
mod process;
mod ring;
mod round_trip;

use std::io;

use ring::Waiting;

/// How long an end of a ring looks again before it sleeps: longer than an answer needs from a
/// process that runs already, shorter than two wake-ups of an idle processor.
const SHORT_SPIN: u32 = 4_000;

fn main() -> io::Result<()> {
    let socket = round_trip::through_sockets()?;
    let sleeping = round_trip::through_rings(Waiting::Sleep)?;
    let spinning = round_trip::through_rings(Waiting::SpinThenSleep(SHORT_SPIN))?;
    let copies = copying::measure()?;
    let numbers = [
        ("socketpair_us", socket.median_us),
        ("socketpair_cpu_us", socket.cpu_us),
        ("ring_sleep_us", sleeping.median_us),
        ("ring_sleep_cpu_us", sleeping.cpu_us),
        ("ring_spin_us", spinning.median_us),
        ("ring_spin_cpu_us", spinning.cpu_us),
        ("copy_recycled_gb_s", copies.recycled_gb_s),
        ("copy_fresh_gb_s", copies.fresh_gb_s),
    ];
    let fields: Vec<String> = numbers
        .iter()
        .map(|(name, value)| format!("\"{name}\": {value:.3}"))
        .collect();
    println!("{{{}}}", fields.join(", "));
    Ok(())
}
