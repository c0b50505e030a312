//! Any bytes as a table of lines: its entries end, and every instruction's place is one of them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use offloop_sys::interpreter::{Entries, Position, position_of};

fuzz_target!(|bytes: &[u8]| {
    let Some((&first_line, table)) = bytes.split_first() else {
        return;
    };
    let mut end = 0;
    for (units, position) in Entries::new(table, first_line.into()) {
        assert_eq!(position_of(table, first_line.into(), end), position);
        end += units;
        assert_eq!(position_of(table, first_line.into(), end - 1), position);
    }
    assert_eq!(
        position_of(table, first_line.into(), end),
        Position::default()
    );
});
