//! A message to another process and one back, through sockets and through shared memory.
//!
//! Units: microseconds, of waiting (median) and of CPU (both processes, mean).

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use crate::process::{Partner, cpu_us};
use crate::ring::{Rings, Slot, Waiting};

/// Round trips per measurement: a second or less, even when every one has to wake a processor.
const ROUND_TRIPS: usize = 20_000;

/// What one kind of channel costs.
pub struct RoundTrip {
    /// Median time of a round trip.
    pub median_us: f64,
    /// CPU time of both processes per round trip.
    pub cpu_us: f64,
}

/// Measure a stream socket pair with blocking reads.
pub fn through_sockets() -> io::Result<RoundTrip> {
    let (mut ours, mut theirs) = UnixStream::pair()?;
    let cpu_before = cpu_us();
    let partner = Partner::run(|| {
        let mut message: Slot = [0; 64];
        for _ in 0..ROUND_TRIPS {
            theirs.read_exact(&mut message).expect("a ping");
            theirs.write_all(&message).expect("a pong");
        }
    })?;
    let times = time_each(|message| {
        ours.write_all(message)?;
        ours.read_exact(message)
    })?;
    finish(partner, times, cpu_before)
}

/// Measure a pair of shared-memory rings.
pub fn through_rings(waiting: Waiting) -> io::Result<RoundTrip> {
    let rings = Rings::map()?;
    let cpu_before = cpu_us();
    let partner = Partner::run(|| {
        for _ in 0..ROUND_TRIPS {
            let message = rings.there.wait_receive(waiting);
            rings.back.send(&message);
        }
    })?;
    let times = time_each(|message| {
        rings.there.send(message);
        *message = rings.back.wait_receive(waiting);
        Ok(())
    })?;
    finish(partner, times, cpu_before)
}

/// Time every round trip of a message that changes, and check that it comes back unchanged.
fn time_each(mut exchange: impl FnMut(&mut Slot) -> io::Result<()>) -> io::Result<Vec<u64>> {
    let mut times = Vec::with_capacity(ROUND_TRIPS);
    for number in 0..ROUND_TRIPS as u64 {
        let mut message: Slot = [number as u8; 64];
        message[..8].copy_from_slice(&number.to_le_bytes());
        let sent = message;
        let before = Instant::now();
        exchange(&mut message)?;
        times.push(before.elapsed().as_nanos() as u64);
        assert_eq!(message, sent, "another message came back");
    }
    Ok(times)
}

fn finish(partner: Partner, mut times: Vec<u64>, cpu_before: f64) -> io::Result<RoundTrip> {
    partner.join()?;
    times.sort_unstable();
    Ok(RoundTrip {
        median_us: times[times.len() / 2] as f64 / 1e3,
        cpu_us: (cpu_us() - cpu_before) / ROUND_TRIPS as f64,
    })
}
