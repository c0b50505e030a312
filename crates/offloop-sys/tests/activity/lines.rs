//! What must hold of any bytes that are taken for a line of `/proc`. The fuzz target and the seeded
//! test share it.

use offloop_sys::activity::{
    CallState, Look, State, parse_call, parse_channel, parse_schedule, parse_sleeps, parse_stat,
    shown_address, wait_of,
};
use offloop_sys::interpreter::memory::OwnMemory;

/// What must hold of any bytes.
pub fn check(line: &[u8]) {
    if let Ok(Some(name)) = parse_channel(line) {
        assert!(name.len() <= 64);
    }
    if let Ok(Some(schedule)) = parse_schedule(line) {
        assert!(schedule.turns > 0);
    }
    if let Ok(CallState::Call(call)) = parse_call(line) {
        assert!(call.number >= 0);
        let nothing = OwnMemory::open().expect("no filter here");
        // Whatever the arguments are, they are read without a fault.
        let look = Look {
            time_ns: 0,
            ran_ns: None,
            state: State::Asleep,
            call: Some(CallState::Call(call)),
            wait_channel: None,
            schedule: None,
            sleeps: None,
            major_faults: 0,
        };
        let _ = wait_of(&look, &nothing);
    }
    let _ = parse_stat(line).is_ok() | parse_sleeps(line).is_ok();
    let _ = shown_address(line);
}
