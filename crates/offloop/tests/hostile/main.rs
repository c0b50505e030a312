//! Bytes that a hostile or broken peer may have written, in thousands of seeded variants.
//!
//! The targets under `fuzz/` run the same checks for hours.

mod checks;

use checks::{frame, items, ring, segment};

/// A small generator (splitmix64), so that every failure names its seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// Bytes, a good part of them small numbers: lengths and kinds that nearly make sense.
    fn bytes(&mut self, len_max: u64) -> Vec<u8> {
        let len = self.next() % len_max;
        let tame = self.next().is_multiple_of(2);
        let byte = |word: u64| {
            if tame && word & 0x300 != 0 {
                word & 15
            } else {
                word & 0xFF
            }
        };
        (0..len)
            .map(|_| u8::try_from(byte(self.next())).expect("one byte"))
            .collect()
    }
}

/// Runs `check` on bytes from each seed; the name of a seed is printed by the one that fails.
fn for_seeds(count: u64, len_max: u64, check: fn(&[u8])) {
    for seed in 0..count {
        let bytes = Random(seed).bytes(len_max);
        let result = std::panic::catch_unwind(|| check(&bytes));
        assert!(result.is_ok(), "seed {seed}: {bytes:?}");
    }
}

#[test]
fn any_bytes_are_a_frame_or_an_error() {
    for_seeds(50_000, 300, frame);
}

#[test]
fn any_items_are_refused_or_within_the_window() {
    for_seeds(50_000, 300, items);
}

#[test]
fn a_ring_survives_any_counter_and_any_bytes() {
    for_seeds(50_000, 300, ring);
}

#[test]
fn a_segment_survives_whatever_is_written_into_it() {
    for_seeds(1_500, 8_192, segment);
}
