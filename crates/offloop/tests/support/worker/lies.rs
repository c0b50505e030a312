//! Everything that a worker must not say on its channel, said.
//!
//! Each lie is told once, behind the back of the honest channel, and the supervisor is woken to
//! find it; the worker then waits for what becomes of it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use offloop::arena::Arena;
use offloop::frame::{BlockAddress, Head, Header, Kind};
use offloop::worker::{Call, WorkerChannel};
use offloop_sys::memory::Mapping;
use offloop_sys::segment::Segment;
use offloop_sys::socket::{self, Wait};

/// Where a segment keeps the completion ring's tail; docs/format/segment.md.
const COMPLETION_TAIL_AT: usize = 256;
const ARENA_BYTES: u64 = 64 << 20;

/// Tells the lie called `name` about `call`, and never returns.
pub fn tell(channel: &WorkerChannel, call: &Call, name: &str) -> io::Result<()> {
    let (socket, segment, supervisor) = channel.raw();
    let honest = Header {
        kind: Kind::Completion,
        flags: 0,
        detail: 0,
        function: 0,
        sequence: call.sequence,
    };
    let nowhere = BlockAddress {
        chunk: 7,
        offset: 0,
        len: 8,
    };
    match name {
        "unknown-kind" => push(segment, &[99; 64]),
        "short-frame" => push(segment, &[5, 0, 0]),
        "empty-frame" => push(segment, &[]),
        "missing-blocks" => push(segment, &[&[5, 0, 0, 200], [0; 40].as_slice()].concat()),
        "wrong-sequence" => push_header(
            segment,
            Header {
                sequence: call.sequence + 7,
                ..honest
            },
        ),
        "sequence-zero" => push_header(
            segment,
            Header {
                sequence: 0,
                ..honest
            },
        ),
        "unknown-status" => push_header(
            segment,
            Header {
                detail: 77,
                ..honest
            },
        ),
        "wrong-direction" => push_header(
            segment,
            Header {
                kind: Kind::Call,
                ..honest
            },
        ),
        "unknown-release" => push_header(
            segment,
            Header {
                kind: Kind::Release,
                ..honest
            },
        ),
        "release-flood" => loop {
            let release = Header {
                kind: Kind::Release,
                ..honest
            };
            push_header(segment, release);
            supervisor.signal()?;
        },
        "unpassed-chunk" => push(segment, &Head::new(honest, 0, &[nowhere]).parts().concat()),
        "outside-chunk" => {
            let arena = pass_chunk(socket, 7)?;
            let outside = BlockAddress {
                offset: ARENA_BYTES - 4,
                ..nowhere
            };
            push(segment, &Head::new(honest, 0, &[outside]).parts().concat());
            drop(arena);
        }
        "overflowing-block" => {
            let arena = pass_chunk(socket, 7)?;
            let huge = BlockAddress {
                offset: u64::MAX - 2,
                len: u64::MAX,
                ..nowhere
            };
            push(segment, &Head::new(honest, 0, &[huge]).parts().concat());
            drop(arena);
        }
        "corrupt-tail" => store_tail(segment, u64::MAX)?,
        "tail-beyond" => store_tail(segment, 1 << 40)?,
        "twice" => {
            push_header(segment, honest);
            push_header(segment, honest);
        }
        _ => say(socket, name)?,
    }
    supervisor.signal()?;
    loop {
        std::hint::spin_loop();
    }
}

/// Lies on the socket.
fn say(socket: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let no_memory = std::fs::File::open("/dev/null")?;
    match name {
        "malformed-message" => socket::send(socket, b"?", &[], Wait::Yes),
        "second-hello" => socket::send(socket, b"h", &[], Wait::Yes),
        "late-failure" => socket::send(socket, b"fbreak everything", &[], Wait::Yes),
        "long-message" => socket::send(socket, &[b'h'; 8192], &[], Wait::Yes),
        "chunk-without-memory" => {
            socket::send(socket, b"c\0\0\0\0", &[no_memory.as_fd()], Wait::Yes)
        }
        "chunk-without-descriptor" => socket::send(socket, b"c\0\0\0\0", &[], Wait::Yes),
        "chunk-twice" => {
            let arena = pass_chunk(socket, 7)?;
            drop(pass_chunk(socket, 7)?);
            drop(arena);
            Ok(())
        }
        _ => Err(io::Error::other(format!("unknown lie {name}"))),
    }
}

fn push_header(segment: &Segment, header: Header) {
    push(segment, &Head::new(header, 0, &[]).parts().concat());
}

fn push(segment: &Segment, frame: &[u8]) {
    // A full ring holds enough lies.
    let _ = segment.completion_producer().try_push(&[frame]);
}

fn store_tail(segment: &Segment, tail: u64) -> io::Result<()> {
    let memory = Mapping::new(segment.fd().try_clone_to_owned()?)?;
    memory.write(COMPLETION_TAIL_AT, &tail.to_ne_bytes());
    Ok(())
}

fn pass_chunk(socket: BorrowedFd<'_>, number: u32) -> io::Result<std::sync::Arc<Arena>> {
    let arena = Arena::new(ARENA_BYTES);
    let block = arena.allocate(8).map_err(io::Error::other)?;
    let fd = arena.chunk_fd(block.address().chunk)?;
    let message = [b"c".as_slice(), &number.to_ne_bytes()].concat();
    socket::send(socket, &message, &[fd.as_fd()], Wait::Yes)?;
    Ok(arena)
}
