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
    if let Some(frames) = false_frames(call.sequence, name) {
        frames.iter().for_each(|frame| push(segment, frame));
    } else if let Some(address) = false_address(name) {
        let arena = (name != "unpassed-chunk").then(|| pass_chunk(socket, address.chunk));
        let completion = header(Kind::Completion, call.sequence);
        push(
            segment,
            &Head::new(completion, 0, &[address]).parts().concat(),
        );
        drop(arena.transpose()?);
    } else {
        match name {
            "release-flood" => loop {
                push(segment, &bare(header(Kind::Release, call.sequence)));
                supervisor.signal()?;
            },
            "corrupt-tail" => store_tail(segment, u64::MAX)?,
            "tail-beyond" => store_tail(segment, 1 << 40)?,
            _ => say(socket, name)?,
        }
    }
    supervisor.signal()?;
    loop {
        std::hint::spin_loop();
    }
}

/// Frames that are wrong in themselves, or that say something wrong of the call.
fn false_frames(sequence: u64, name: &str) -> Option<Vec<Vec<u8>>> {
    let honest = header(Kind::Completion, sequence);
    let frame = match name {
        "unknown-kind" => vec![99; 64],
        "short-frame" => vec![5, 0, 0],
        "empty-frame" => Vec::new(),
        "missing-blocks" => [&[5, 0, 0, 200], [0; 40].as_slice()].concat(),
        "wrong-sequence" => bare(header(Kind::Completion, sequence + 7)),
        "sequence-zero" => bare(header(Kind::Completion, 0)),
        "unknown-status" => bare(Header {
            detail: 77,
            ..honest
        }),
        "wrong-direction" => bare(header(Kind::Call, sequence)),
        "unknown-release" => bare(header(Kind::Release, sequence)),
        "twice" => return Some(vec![bare(honest); 2]),
        "item" => item(sequence, 1),
        "item-skips" => item(sequence, 2),
        "item-zero" => item(sequence, 0),
        "item-of-another" => item(sequence + 7, 1),
        "item-short" => item(sequence, 1)[..20].to_vec(),
        "item-twice" => return Some(vec![item(sequence, 1); 2]),
        "item-flood" => {
            let numbers = 1..=2 * offloop_core::ITEMS_MAX;
            return Some(numbers.map(|number| item(sequence, number)).collect());
        }
        "release-of-an-item" => [
            bare(header(Kind::Release, sequence)),
            1u64.to_ne_bytes().to_vec(),
        ]
        .concat(),
        _ => return None,
    };
    Some(vec![frame])
}

/// Blocks that are not there.
fn false_address(name: &str) -> Option<BlockAddress> {
    let (offset, len) = match name {
        "unpassed-chunk" => (0, 8),
        "outside-chunk" => (ARENA_BYTES - 4, 8),
        "overflowing-block" => (u64::MAX - 2, u64::MAX),
        _ => return None,
    };
    let chunk = 7;
    Some(BlockAddress { chunk, offset, len })
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
        "unknown-chunk-given-up" => socket::send(socket, b"d\0\0\0\0", &[], Wait::Yes),
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

fn header(kind: Kind, sequence: u64) -> Header {
    let (flags, detail, function) = (0, 0, 0);
    Header {
        kind,
        flags,
        detail,
        function,
        sequence,
    }
}

/// An item without blocks and payload.
fn item(sequence: u64, number: u64) -> Vec<u8> {
    let head = Head::new(header(Kind::Item, sequence), number, &[]);
    head.parts().concat()
}

/// A frame without blocks and payload.
fn bare(header: Header) -> Vec<u8> {
    Head::new(header, 0, &[]).parts().concat()
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
