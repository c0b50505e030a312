//! What must hold for any bytes at all in a frame, a ring or a segment: refused or read, and never
//! a panic. The fuzz targets and the seeded tests share these checks.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use offloop::frame::{self, BlockAddress, FLAG_ANY_THREAD, Head};
use offloop_core::{Inflow, WINDOW};
use offloop_sys::memory::Mapping;
use offloop_sys::ring::{Consumer, Producer, RingMemory};
use offloop_sys::segment::{RING_BYTES, SEGMENT_BYTES, STATES, Segment};

/// Pops tried on one ring: more frames than the shortest fit into it.
const POPS_MAX: usize = RING_BYTES / 8 + 1;

/// A frame that decodes says the same when it is encoded again.
pub fn frame(bytes: &[u8]) {
    let Ok(decoded) = frame::decode(bytes) else {
        return;
    };
    let head = Head::new(decoded.header, decoded.word, &decoded.blocks);
    let again = [head.parts()[0], head.parts()[1], decoded.payload].concat();
    assert_eq!(again.len(), bytes.len());
    let second = frame::decode(&again).expect("an encoded frame decodes");
    assert_eq!((second.header, second.word), (decoded.header, decoded.word));
    assert_eq!(
        (second.blocks, second.payload),
        (decoded.blocks, decoded.payload)
    );
    let _ = decoded.header.flags & FLAG_ANY_THREAD;
}

/// What a worker says of its items: refused, or the next one within the window.
pub fn items(bytes: &[u8]) {
    let mut inflow = Inflow::default();
    let (mut next, mut arrived, mut taken) = (1, 0u64, 0);
    for step in bytes.chunks(3) {
        let [number, size, takes] = [0, 1, 2].map(|at| u64::from(*step.get(at).unwrap_or(&0)));
        // Often the truth.
        let number = if number & 3 == 0 { number } else { next };
        let blocks = [BlockAddress {
            chunk: 0,
            offset: 0,
            len: if size == 255 { u64::MAX } else { size << 12 },
        }];
        let cost = frame::cost_of_item(step.len(), &blocks[..usize::from(size & 1 == 1)]);
        let had_room = arrived - taken < WINDOW;
        match inflow.handle_item(number, cost) {
            Ok(()) => {
                assert!(had_room && number == next, "{number} after {next}");
                (next, arrived) = (next + 1, arrived.saturating_add(cost));
            }
            Err(error) => assert!(!had_room || number != next, "{error}"),
        }
        if takes & 1 == 1 {
            taken = inflow.handle_taken(takes << 10);
            assert!(taken <= arrived);
        }
    }
    assert!(frame::released_item(bytes).is_none_or(|_| [0, 8].contains(&bytes.len())));
}

/// A ring whose memory is ordinary.
#[derive(Clone)]
struct Local(Rc<(AtomicU64, AtomicU64, RefCell<Vec<u8>>)>);

impl RingMemory for Local {
    fn capacity(&self) -> u64 {
        self.0.2.borrow().len() as u64
    }
    fn head(&self) -> &AtomicU64 {
        &self.0.0
    }
    fn tail(&self) -> &AtomicU64 {
        &self.0.1
    }
    fn write(&self, offset: u64, bytes: &[u8]) {
        let at = usize::try_from(offset).expect("inside");
        self.0.2.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }
    fn read(&self, offset: u64, bytes: &mut [u8]) {
        let at = usize::try_from(offset).expect("inside");
        bytes.copy_from_slice(&self.0.2.borrow()[at..at + bytes.len()]);
    }
}

/// Both ends of a ring whose other end lies: `bytes` are its counters, and then its data.
pub fn ring(bytes: &[u8]) {
    let Some((start, rest)) = bytes.split_first_chunk::<8>() else {
        return;
    };
    let Some((claim, data)) = rest.split_first_chunk::<8>() else {
        return;
    };
    // Our own counter is honest: bytes since creation, which stay far below the end of u64.
    let start = u64::from_ne_bytes(*start) >> 16 & !7;
    let claim = u64::from_ne_bytes(*claim);
    // Often near the truth, where the interesting lies are.
    let claim = if claim & 1 == 0 {
        start.wrapping_add(claim >> 1 & 0x1FF)
    } else {
        claim
    };
    let mut memory = data.to_vec();
    memory.resize(data.len().next_power_of_two().clamp(64, 4096), 0);
    let capacity = memory.len();
    let local = || {
        let counters = (AtomicU64::new(start), AtomicU64::new(start));
        Local(Rc::new((
            counters.0,
            counters.1,
            RefCell::new(memory.clone()),
        )))
    };
    let consumed = local();
    let mut consumer = Consumer::new(consumed.clone());
    consumed.tail().store(claim, Ordering::Relaxed);
    let mut out = Vec::new();
    while consumer.try_pop(&mut out) == Ok(true) {
        assert!(out.len() <= capacity, "{} bytes of {capacity}", out.len());
    }
    let produced = local();
    let mut producer = Producer::new(produced.clone());
    produced.head().store(claim, Ordering::Relaxed);
    // A consumer that lies about its counter spoils its own frames and makes room for ever.
    for _ in 0..capacity {
        if producer.try_push(&[&data[..data.len().min(50)]]).is_err() {
            break;
        }
    }
}

/// The parent's use of a segment into which a worker wrote `bytes`, at a place of its choice.
pub fn segment(bytes: &[u8]) {
    let Some((place, bytes)) = bytes.split_first_chunk::<4>() else {
        return;
    };
    let segment = Segment::create().expect("memory for a segment");
    let mut completions = segment.completion_consumer();
    let mut submissions = segment.submission_producer();
    segment.mark_fetched(1);
    let memory = Mapping::new(segment.fd().try_clone_to_owned().expect("a descriptor"));
    let memory = memory.expect("the segment's memory");
    let place = u32::from_ne_bytes(*place) as usize;
    // Half of them among the counters, where each byte counts.
    let place = if place & 1 == 0 {
        place >> 1 & 0x3FF
    } else {
        place % SEGMENT_BYTES
    };
    let len = bytes.len().min(SEGMENT_BYTES - place);
    memory.write(place, &bytes[..len]);
    let mut out = Vec::new();
    for _ in 0..POPS_MAX {
        out.clear();
        if completions.try_pop(&mut out) != Ok(true) {
            break;
        }
        frame(&out);
    }
    let _ = submissions.try_push(&[b"call"]);
    for sequence in [1, 2, STATES as u64, u64::MAX >> 2] {
        let _ = (segment.call_state(sequence), segment.try_revoke(sequence));
    }
    let _ = segment.started_at_ns().load(Ordering::Relaxed);
    let _ = Segment::open(segment.fd().try_clone_to_owned().expect("a descriptor"));
}
