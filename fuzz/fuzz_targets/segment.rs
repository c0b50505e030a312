//! Any bytes written anywhere into a segment, then used as the parent uses it.

#![no_main]

#[allow(dead_code, reason = "each target runs one of the shared checks")]
#[path = "../../crates/offloop/tests/hostile/checks.rs"]
mod checks;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| checks::segment(bytes));
