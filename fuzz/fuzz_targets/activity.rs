//! Any bytes as what the kernel says of a thread, and any call as what it sleeps in.

#![no_main]

#[path = "../../crates/offloop-sys/tests/activity/lines.rs"]
mod lines;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| lines::check(bytes));
