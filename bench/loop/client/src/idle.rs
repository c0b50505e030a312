//! Idle connections: opens them, waits until the server has greeted each, and holds them.
//!
//! The server writes one byte to each connection that it accepts. They are opened in groups that
//! fit into any listen queue, so that no connection is turned away and tried again a second later.

use std::io::{self, Read};
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd;

use crate::arguments::Target;

/// Below the smallest default backlog of the loops, 100.
const GROUP: usize = 64;

/// Open the connections, say `ready`, and hold them until standard input ends.
pub fn hold(target: &Target) -> io::Result<()> {
    raise_descriptor_limit()?;
    let mut held = Vec::with_capacity(target.connections);
    while held.len() < target.connections {
        let count = GROUP.min(target.connections - held.len());
        let mut group = (0..count)
            .map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, target.port)))
            .collect::<io::Result<Vec<_>>>()?;
        for socket in &mut group {
            socket.read_exact(&mut [0])?;
            close_without_waiting(socket)?;
        }
        held.append(&mut group);
    }
    println!("{{\"ready\": {}}}", held.len());
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}

/// Let the socket's end leave nothing behind: thousands of them would use up the ports.
fn close_without_waiting(socket: &TcpStream) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    // SAFETY: the pointer and the size describe a live local, which the kernel copies; the
    // descriptor is that of an open socket.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
    if status == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Allow as many descriptors as the hard limit does.
fn raise_descriptor_limit() -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a live local that the call fills.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is a live local that the call copies.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
