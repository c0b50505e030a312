//! An interpreter's memory with any words anywhere, read as a stack while it changes.

#![no_main]

#[allow(dead_code, reason = "the tests use the rest of it")]
#[path = "../../crates/offloop-sys/tests/stacks/image.rs"]
mod image;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| image::check(bytes));
