//! Any numbers and costs of items: refused, or in order and within the window.

#![no_main]

#[allow(dead_code, reason = "each target runs one of the shared checks")]
#[path = "../../crates/offloop/tests/hostile/checks.rs"]
mod checks;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| checks::items(bytes));
