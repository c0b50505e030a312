//! The program that the tests run as zygote and, after its fork, as worker.
//!
//! A call's inline payload is one command, `name argument`; the worker does what it says. Before a
//! command that may not return, the worker reports `name pid` to the test. The report socket and
//! the gate, a pipe whose bytes each let one waiting call pass, come with the setup.

mod lies;
mod parent;
mod streaming;

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::time::Duration;

use offloop::arena::Block;
use offloop::worker::{Call, CompletionFlags, Request, Setup, Wake, WorkerChannel, ZygoteServer};
use offloop::{ExitStatus, Status};
use offloop_sys::process;
use offloop_sys::socket::{self, Wait};

/// Bytes taken at a time by a worker that eats memory.
const BITE_BYTES: usize = 16 << 20;
/// Bytes written to the standard error by one call: four times what a pipe holds.
const FLOOD_BYTES: usize = 256 << 10;
const SIGSEGV: i32 = 11;
const SIGSTOP: i32 = 19;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|role| role == "parent") {
        return parent::run(arguments.len() > 1);
    }
    let mut server = ZygoteServer::from_inherited()?;
    let setup = server.receive_setup()?;
    let text = String::from_utf8_lossy(&setup.bytes).into_owned();
    match text.split_once(' ') {
        Some(("setup-fails", reason)) => return server.reply_setup(Err(reason)),
        Some(("setup-exits", code)) => std::process::exit(code.parse().unwrap_or(1)),
        _ => server.reply_setup(Ok(()))?,
    }
    let Some(seed) = server.serve(process::fork_alone)? else {
        return Ok(());
    };
    drop(server);
    process::catch_interrupts()?;
    let channel = WorkerChannel::open(seed)?;
    match text.split_once(' ') {
        Some(("hello-fails", reason)) => return channel.hello(Err(reason)),
        Some(("hello-exits", code)) => {
            eprintln!("no hello from here");
            std::process::exit(code.parse().unwrap_or(1));
        }
        Some(("hello-waits", _)) => {
            wait_before_hello(&setup)?;
            channel.hello(Ok(()))?;
        }
        Some(("trim-window-ms", number)) => {
            let window = Duration::from_millis(number.parse().map_err(io::Error::other)?);
            channel.results().set_trim_window(window);
            channel.hello(Ok(()))?;
        }
        _ => channel.hello(Ok(()))?,
    }
    Worker::new(channel, setup)?.run()
}

/// An initializer that takes its time: until the gate opens, and for ever if it never does.
fn wait_before_hello(setup: &Setup) -> io::Result<()> {
    let [reports, gate] = setup.inherited.as_slice() else {
        return Err(io::ErrorKind::NotFound.into());
    };
    eprintln!("still loading");
    let text = format!("born {}", std::process::id());
    socket::send(reports.as_fd(), text.as_bytes(), &[], Wait::Yes)?;
    socket::wait_readable(gate.as_fd(), None)?;
    socket::read(gate.as_fd(), &mut [0])?;
    Ok(())
}

struct Worker {
    channel: WorkerChannel,
    reports: OwnedFd,
    gate: OwnedFd,
    functions: HashMap<u32, Vec<u8>>,
    /// Calls whose blocks this worker says it still uses.
    holding: Vec<Call>,
}

impl Worker {
    fn new(channel: WorkerChannel, setup: Setup) -> io::Result<Self> {
        let mut inherited = setup.inherited.into_iter();
        let mut next = || inherited.next().ok_or(io::ErrorKind::NotFound);
        let (reports, gate) = (next()?, next()?);
        Ok(Self {
            channel,
            reports,
            gate,
            functions: HashMap::new(),
            holding: Vec::new(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        loop {
            match self.channel.try_next()? {
                Some(Request::Call(call)) => {
                    self.call(call)?;
                    continue;
                }
                Some(Request::Surroundings(..)) => {}
                Some(Request::Define(id, inline, block)) => {
                    let definition = block.map_or(inline, |block| {
                        let mut bytes = vec![0; block.len()];
                        block.read(0, &mut bytes);
                        bytes
                    });
                    self.functions.insert(id, definition);
                    continue;
                }
                Some(Request::Forget(numbers)) => {
                    self.functions.retain(|id, _| !numbers.contains(id));
                    continue;
                }
                Some(Request::Retire) => return Ok(()),
                None => {}
            }
            if !self.channel.spin() && self.channel.sleep()? == Wake::End {
                return Ok(());
            }
        }
    }

    fn call(&mut self, call: Call) -> io::Result<()> {
        let mut payload = call.payload.clone();
        if let Some(block) = call.blocks.first().filter(|_| call.payload_in_block) {
            payload.resize(block.len(), 0);
            block.read(0, &mut payload);
        }
        let text = String::from_utf8_lossy(&payload).into_owned();
        let (name, argument) = text.split_once(' ').unwrap_or((&text, ""));
        match name {
            "echo" => self.value(&call, argument.as_bytes()),
            "raise" => self.end(&call, Status::Raised, argument.as_bytes()),
            "function" => {
                let definition = self
                    .functions
                    .get(&call.function)
                    .cloned()
                    .unwrap_or_default();
                self.value(&call, &definition)
            }
            "pid" => self.value(&call, std::process::id().to_string().as_bytes()),
            "copy" => self.copy(&call),
            "hold" => self.hold(call),
            "let-go" => self.let_go(&call),
            "gate" => self.wait_at_gate(&call, argument),
            "hang" => self.hang(&call),
            "release-unknown" => {
                self.channel.release(call.sequence + 1000);
                self.value(&call, b"")
            }
            "stderr" => {
                eprintln!("{argument}");
                self.value(&call, b"")
            }
            "flood" => self.flood(&call, argument),
            "stream" => self.stream(call, argument),
            "lie" => {
                self.report("lie")?;
                lies::tell(&self.channel, &call, argument)
            }
            _ => self.misbehave(name, argument),
        }
    }

    /// Writes many lines to the standard error, far more than its pipe holds, and says how that
    /// went.
    fn flood(&mut self, call: &Call, line: &str) -> io::Result<()> {
        let text = format!("{line}\n").repeat(FLOOD_BYTES / (line.len() + 1));
        match io::stderr().write_all(text.as_bytes()) {
            Ok(()) => self.value(call, b"written"),
            Err(error) => self.value(call, error.kind().to_string().as_bytes()),
        }
    }

    /// Commands that do not return.
    fn misbehave(&mut self, name: &str, argument: &str) -> io::Result<()> {
        self.report(name)?;
        match name {
            "deaf" => loop {
                std::hint::spin_loop();
            },
            "exit" => std::process::exit(argument.parse().unwrap_or(1)),
            "abort" => std::process::abort(),
            "crash" => {
                eprintln!("{argument}");
                signal_self(SIGSEGV)
            }
            "stop" => signal_self(SIGSTOP),
            // Every descriptor of ours closes on exec: the process lives on without any.
            "close" => Err(std::process::Command::new("sleep").arg("1000").exec()),
            "eat" => {
                let mut eaten = Vec::new();
                loop {
                    eaten.push(vec![1u8; BITE_BYTES]);
                }
            }
            _ => Err(io::Error::other(format!("unknown command {name}"))),
        }
    }

    fn copy(&mut self, call: &Call) -> io::Result<()> {
        let arena = self.channel.results();
        let mut blocks: Vec<Block> = Vec::new();
        for block in &call.blocks {
            let mut bytes = vec![0; block.len()];
            block.read(0, &mut bytes);
            let copy = arena
                .allocate(bytes.len() as u64)
                .map_err(io::Error::other)?;
            copy.write(0, &bytes);
            blocks.push(copy);
        }
        self.channel
            .complete(call, Status::Value, b"", blocks, CompletionFlags::default())
    }

    fn hold(&mut self, call: Call) -> io::Result<()> {
        let flags = CompletionFlags {
            holds_blocks: true,
            ..CompletionFlags::default()
        };
        self.channel
            .complete(&call, Status::Value, b"", Vec::new(), flags)?;
        self.holding.push(call);
        Ok(())
    }

    fn let_go(&mut self, call: &Call) -> io::Result<()> {
        for held in std::mem::take(&mut self.holding) {
            self.channel.release(held.sequence);
        }
        self.value(call, b"")
    }

    fn wait_at_gate(&mut self, call: &Call, argument: &str) -> io::Result<()> {
        self.report("gate")?;
        loop {
            match socket::wait_readable(self.gate.as_fd(), None) {
                Ok(_) => break,
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Err(_) if self.channel.is_interrupted() => {
                    return self.end(call, Status::Interrupted, b"");
                }
                Err(_) => {}
            }
        }
        socket::read(self.gate.as_fd(), &mut [0])?;
        self.value(call, argument.as_bytes())
    }

    fn hang(&mut self, call: &Call) -> io::Result<()> {
        self.report("hang")?;
        while !self.channel.is_interrupted() {
            std::hint::spin_loop();
        }
        self.end(call, Status::Interrupted, b"")
    }

    fn value(&mut self, call: &Call, payload: &[u8]) -> io::Result<()> {
        self.end(call, Status::Value, payload)
    }

    fn end(&mut self, call: &Call, status: Status, payload: &[u8]) -> io::Result<()> {
        let flags = CompletionFlags::default();
        self.channel
            .complete(call, status, payload, Vec::new(), flags)
    }

    fn report(&self, name: &str) -> io::Result<()> {
        let text = format!("{name} {}", std::process::id());
        socket::send(self.reports.as_fd(), text.as_bytes(), &[], Wait::Yes)
    }
}

/// Sends this process a signal that ends or stops it.
fn signal_self(signal: i32) -> io::Result<()> {
    let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    let pidfd = process::open_pidfd(pid)?;
    process::signal(pidfd.as_fd(), signal)?;
    // The standard library's handler of a segmentation fault swallows the first one.
    process::signal(pidfd.as_fd(), signal)?;
    // Only a stopped process that was continued gets here.
    Err(io::Error::other(format!(
        "survived {:?}",
        ExitStatus::Signal(signal)
    )))
}
