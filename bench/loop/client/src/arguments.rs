//! The command line: `echo|http|idle --port N [--connections N] [--size BYTES] [--warm-ms N]
//! [--measure-ms N] [--server-pid N] [--tls]`.

use std::io;
use std::time::Duration;

/// What the client is to do.
pub enum Command {
    /// Ask and count.
    Load(Plan),
    /// Hold connections without a word.
    Idle(Target),
}

/// The server to connect to, and how often.
pub struct Target {
    /// The server's port on the loopback address.
    pub port: u16,
    /// How many connections.
    pub connections: usize,
}

/// What is asked in each exchange.
#[derive(Clone, Copy)]
pub enum Question {
    /// So many bytes, which come back as they are.
    Echo(usize),
    /// `GET /` of HTTP/1.1.
    Http,
}

/// One measurement.
pub struct Plan {
    /// The server to ask.
    pub target: Target,
    /// What to ask.
    pub question: Question,
    /// Whether to speak TLS.
    pub tls: bool,
    /// How long to ask before counting.
    pub warm: Duration,
    /// How long to count.
    pub measure: Duration,
    /// The process whose CPU clock to read.
    pub server_pid: libc::pid_t,
}

/// Read the command line.
pub fn parse(mut words: impl Iterator<Item = String>) -> io::Result<Command> {
    let command = words.next().ok_or_else(|| refused("no command"))?;
    let mut options = Options::default();
    while let Some(word) = words.next() {
        if word == "--tls" {
            options.tls = true;
            continue;
        }
        let value = words
            .next()
            .ok_or_else(|| refused(&format!("{word} needs a number")))?;
        let number: u32 = value
            .parse()
            .map_err(|_| refused(&format!("{word}: `{value}` is no number")))?;
        *options.field(&word)? = number;
    }
    let target = Target {
        port: u16::try_from(options.port).map_err(|_| refused("--port is above 65535"))?,
        connections: options.connections as usize,
    };
    let question = match command.as_str() {
        "echo" => Question::Echo(options.size as usize),
        "http" => Question::Http,
        "idle" => return Ok(Command::Idle(target)),
        other => return Err(refused(&format!("unknown command `{other}`"))),
    };
    Ok(Command::Load(Plan {
        target,
        question,
        tls: options.tls,
        warm: Duration::from_millis(u64::from(options.warm_ms)),
        measure: Duration::from_millis(u64::from(options.measure_ms)),
        server_pid: libc::pid_t::try_from(options.server_pid)
            .map_err(|_| refused("--server-pid is no process"))?,
    }))
}

/// Options as they stand on the command line.
struct Options {
    port: u32,
    connections: u32,
    size: u32,
    warm_ms: u32,
    measure_ms: u32,
    server_pid: u32,
    tls: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            port: 0,
            connections: 10,
            size: 1024,
            warm_ms: 200,
            measure_ms: 1000,
            server_pid: std::process::id(),
            tls: false,
        }
    }
}

impl Options {
    fn field(&mut self, name: &str) -> io::Result<&mut u32> {
        Ok(match name {
            "--port" => &mut self.port,
            "--connections" => &mut self.connections,
            "--size" => &mut self.size,
            "--warm-ms" => &mut self.warm_ms,
            "--measure-ms" => &mut self.measure_ms,
            "--server-pid" => &mut self.server_pid,
            other => return Err(refused(&format!("unknown option `{other}`"))),
        })
    }
}

fn refused(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text.to_owned())
}
