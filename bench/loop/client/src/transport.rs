//! The bytes of one connection: plain, or through OpenSSL. Both say `WouldBlock` when they would.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

/// A connected, nonblocking stream.
pub enum Transport {
    /// As the kernel gives them.
    Plain(TcpStream),
    /// Encrypted; the handshake is done.
    #[cfg(feature = "tls")]
    Tls(openssl::ssl::SslStream<TcpStream>),
}

/// Makes transports to one server.
pub struct Connector {
    port: u16,
    #[cfg(feature = "tls")]
    tls: Option<openssl::ssl::SslConnector>,
}

impl Connector {
    /// Prepare to connect to a port of the loopback address.
    #[cfg(feature = "tls")]
    pub fn new(port: u16, tls: bool) -> io::Result<Self> {
        use openssl::ssl::{SslConnector, SslMethod, SslVerifyMode};

        if !tls {
            return Ok(Self { port, tls: None });
        }
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        // The server's certificate is the benchmark's own, and no secret passes.
        builder.set_verify(SslVerifyMode::NONE);
        builder.set_read_ahead(true);
        Ok(Self {
            port,
            tls: Some(builder.build()),
        })
    }

    /// Prepare to connect to a port of the loopback address.
    #[cfg(not(feature = "tls"))]
    pub fn new(port: u16, tls: bool) -> io::Result<Self> {
        if tls {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this client was built without OpenSSL",
            ));
        }
        Ok(Self { port })
    }

    /// Connect, finish the handshake if there is one, and do not block from then on.
    pub fn connect(&self) -> io::Result<Transport> {
        let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        socket.set_nodelay(true)?;
        #[cfg(feature = "tls")]
        if let Some(connector) = &self.tls {
            let stream = connector
                .connect("localhost", socket)
                .map_err(io::Error::other)?;
            stream.get_ref().set_nonblocking(true)?;
            return Ok(Transport::Tls(stream));
        }
        socket.set_nonblocking(true)?;
        Ok(Transport::Plain(socket))
    }
}

impl AsRawFd for Transport {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Self::Plain(socket) => socket.as_raw_fd(),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.get_ref().as_raw_fd(),
        }
    }
}

impl Read for Transport {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(into),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(from),
            #[cfg(feature = "tls")]
            Self::Tls(stream) => stream.write(from),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
