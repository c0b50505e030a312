//! One connection: sends its request as the socket takes it, and collects the answer.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use crate::exchange::Exchange;
use crate::poller::Interest;
use crate::transport::Transport;

/// A transport, and where its exchange stands.
pub struct Connection {
    /// The socket, or TLS on it.
    pub transport: Transport,
    /// What the poller was told last.
    pub interest: Interest,
    exchange: Exchange,
    sent: usize,
    began: Instant,
}

impl Connection {
    /// Take over a connected transport; nothing is sent yet.
    pub fn new(transport: Transport, exchange: Exchange) -> Self {
        Self {
            transport,
            interest: Interest::Read,
            exchange,
            sent: 0,
            began: Instant::now(),
        }
    }

    /// Send the next request, as much of it as the socket takes.
    pub fn ask(&mut self, now: Instant) -> io::Result<()> {
        self.exchange.begin();
        self.sent = 0;
        self.began = now;
        self.send()
    }

    /// Go on where the connection stood; return how long the exchange took when it is complete.
    pub fn proceed(&mut self, buffer: &mut [u8]) -> io::Result<Option<Duration>> {
        if !self.is_sent() {
            self.send()?;
        }
        loop {
            match self.transport.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    if self.exchange.receive(&buffer[..count])? {
                        return Ok(Some(self.began.elapsed()));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// What the connection waits for now.
    pub fn wanted(&self) -> Interest {
        if self.is_sent() {
            Interest::Read
        } else {
            Interest::ReadAndWrite
        }
    }

    fn is_sent(&self) -> bool {
        self.sent == self.exchange.request().len()
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.is_sent() {
            match self.transport.write(&self.exchange.request()[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
