//! One measurement: every connection asks again as soon as it has its answer, until time is up.

use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use crate::arguments::Plan;
use crate::connection::Connection;
use crate::cpu;
use crate::exchange::Exchange;
use crate::poller::Poller;
use crate::transport::Connector;

/// Large enough for what a socket of the loopback interface holds at a time.
const BUFFER_BYTES: usize = 256 * 1024;
const PAGE_BYTES: usize = 4096;

/// What was counted.
pub struct Numbers {
    seconds: f64,
    server_cpu: Duration,
    client_cpu: Duration,
    /// How long each exchange took, in ascending order.
    times: Vec<Duration>,
}

impl fmt::Display for Numbers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests = self.times.len();
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        write!(
            out,
            "{{\"requests\": {requests}, \"seconds\": {:.6}, \"server_cpu_us\": {:.3}, \
             \"client_cpu_us\": {:.3}, \"p50_us\": {:.3}, \"p99_us\": {:.3}}}",
            self.seconds,
            micros(self.server_cpu) / requests as f64,
            micros(self.client_cpu) / requests as f64,
            micros(self.times[requests / 2]),
            micros(self.times[requests * 99 / 100]),
        )
    }
}

/// Connect, warm up, count.
pub fn run(plan: &Plan) -> io::Result<Numbers> {
    let connector = Connector::new(plan.target.port, plan.tls)?;
    let poller = Poller::new()?;
    let mut connections = Vec::with_capacity(plan.target.connections);
    for number in 0..plan.target.connections {
        let transport = connector.connect()?;
        poller.add(transport.as_raw_fd(), number)?;
        let exchange = Exchange::new(plan.question, (number as u64) << 32);
        connections.push(Connection::new(transport, exchange));
    }
    for (number, connection) in connections.iter_mut().enumerate() {
        connection.ask(Instant::now())?;
        follow(&poller, connection, number)?;
    }
    let mut load = Load {
        poller,
        connections,
        buffer: vec![0; BUFFER_BYTES + PAGE_BYTES],
        times: Vec::new(),
    };
    load.ask_until(Instant::now() + plan.warm)?;
    load.times.clear();
    let own = libc::pid_t::try_from(std::process::id()).map_err(io::Error::other)?;
    let (server_before, client_before) = (cpu::of_process(plan.server_pid)?, cpu::of_process(own)?);
    let began = Instant::now();
    load.ask_until(began + plan.measure)?;
    let seconds = began.elapsed().as_secs_f64();
    let server_cpu = cpu::of_process(plan.server_pid)?.saturating_sub(server_before);
    let client_cpu = cpu::of_process(own)?.saturating_sub(client_before);
    let mut times = load.times;
    if times.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "no answer in the whole time",
        ));
    }
    times.sort_unstable();
    Ok(Numbers {
        seconds,
        server_cpu,
        client_cpu,
        times,
    })
}

/// The connections under way.
struct Load {
    poller: Poller,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    times: Vec<Duration>,
}

impl Load {
    /// Ask and ask again; each connection has a request under way when this returns.
    fn ask_until(&mut self, end: Instant) -> io::Result<()> {
        // From a page's beginning on, wherever the allocator puts the buffer: the processor copies
        // at half the speed to places a little further in their page than those they come from,
        // and the kernel's begin with a page.
        let begin = self.buffer.as_ptr().align_offset(PAGE_BYTES);
        while Instant::now() < end {
            let ready: Vec<usize> = self.poller.wait()?.collect();
            for number in ready {
                let connection = &mut self.connections[number];
                if let Some(time) = connection.proceed(&mut self.buffer[begin..])? {
                    self.times.push(time);
                    connection.ask(Instant::now())?;
                }
                follow(&self.poller, connection, number)?;
            }
        }
        Ok(())
    }
}

/// Tell the poller when a connection waits for something else than before.
fn follow(poller: &Poller, connection: &mut Connection, number: usize) -> io::Result<()> {
    let wanted = connection.wanted();
    if wanted != connection.interest {
        poller.change(connection.transport.as_raw_fd(), number, wanted)?;
        connection.interest = wanted;
    }
    Ok(())
}
