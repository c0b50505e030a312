//! Stalls for the tests of this folder: one coroutine of the user's, in a loop of asyncio.

use core::time::Duration;
use std::sync::Arc;

use super::cause::Cause;
use super::places::Places;
use super::record::{Entry, Quality, Stack, Stall, StalledThread};
use super::text::Text;
use crate::Instant;
use crate::event_loop::{Moment, Stalled};

pub(super) const FOUND: Moment = Moment::Found {
    late_by: Duration::ZERO,
};
pub(super) const OVER: Moment = Moment::Over { was_found: true };

pub(super) fn user_places() -> Places {
    Places {
        standard: vec!["/lib/python3.13".into()],
        offloop: vec!["/lib/offloop".into()],
        shown_from: Some("/app".into()),
        ..Places::default()
    }
}

/// A stack of these entries, innermost first.
pub(super) fn stack(entries: &[(&str, &str, i32)]) -> Stack {
    let entry = |&(filename, function, line): &(&str, &str, i32)| Entry {
        filename: filename.into(),
        function: function.into(),
        line: Some(line),
    };
    Stack {
        entries: entries.iter().map(entry).collect(),
        cut: 0,
        hidden: 0,
        unsettled: 0,
        quality: Quality::Exact,
    }
}

/// The stack of one callback that is at a line of the user's code.
pub(super) fn at_line(line: i32) -> Stack {
    stack(&[
        ("/app/views.py", "thumbnail", line),
        ("/lib/python3.13/asyncio/events.py", "Handle._run", 89),
        (
            "/lib/python3.13/asyncio/base_events.py",
            "BaseEventLoop.run_forever",
            683,
        ),
    ])
}

/// A stall that sleeps at line 41.
pub(super) fn sleeping(number: u64, moment: Moment, ms: u64) -> Stall {
    Stall {
        number,
        thread: StalledThread {
            native_id: 4_700,
            name: "MainThread".into(),
        },
        stalled: Stalled::Callback,
        started: Instant::from_nanos(1_000_000_000),
        reported: Instant::from_nanos(1_050_000_000),
        lasted: Duration::from_millis(ms),
        moment,
        suppressed: 0,
        cause: Cause::Sleep,
        keeps_gil: false,
        stack: at_line(41),
        earlier: None,
        native: Vec::new(),
        callback: None,
        task: None,
        request: None,
    }
}

/// Sources that hold these files.
pub(super) fn files(files: &[(&str, &str)]) -> impl FnMut(&str) -> Option<Arc<Text>> + use<> {
    let files: Vec<(String, Arc<Text>)> = files
        .iter()
        .map(|(name, text)| ((*name).to_owned(), Arc::new(Text::new(text.as_bytes()))))
        .collect();
    move |filename: &str| {
        let found = files.iter().find(|(name, _)| name == filename);
        found.map(|(_, text)| text.clone())
    }
}
