//! A call that sends items: `stream COUNT BYTES END`.
//!
//! Item `n` is the text of its number, filled up with blanks. `COUNT` may be `endless`. The first
//! time that the call waits for its consumer it reports `full`. It ends as `END` says: with the
//! most bytes that its items held in the arena as its `value`, with `raised`, or in a `crash`.

use std::io;

use offloop::Status;
use offloop::frame::INLINE_BYTES_MAX;
use offloop::worker::{Call, Wake};

use crate::Worker;

impl Worker {
    pub(crate) fn stream(&mut self, mut call: Call, argument: &str) -> io::Result<()> {
        let mut words = argument.split(' ');
        let mut word = || words.next().unwrap_or_default();
        let count = match word() {
            "endless" => u64::MAX,
            number => number.parse().map_err(io::Error::other)?,
        };
        let width: usize = word().parse().map_err(io::Error::other)?;
        let end = word();
        let mut peak = 0;
        let mut reported = false;
        for number in 0..count {
            if !self.wait_for_consumer(&call, &mut reported)? {
                return self.end(&call, Status::Interrupted, b"");
            }
            let mut item = number.to_string().into_bytes();
            item.resize(item.len().max(width), b' ');
            if item.len() <= INLINE_BYTES_MAX {
                self.channel
                    .send_item(&mut call, &item, Vec::new(), false)?;
                continue;
            }
            let arena = self.channel.results();
            let block = arena.allocate(item.len() as u64);
            let block = block.map_err(io::Error::other)?;
            block.write(0, &item);
            peak = peak.max(arena.bytes_in_use());
            self.channel.send_item(&mut call, b"", vec![block], true)?;
        }
        match end {
            "raised" => self.end(&call, Status::Raised, b"in the middle"),
            "crash" => std::process::abort(),
            _ => self.value(&call, peak.to_string().as_bytes()),
        }
    }

    /// False when the call is to stop.
    fn wait_for_consumer(&mut self, call: &Call, reported: &mut bool) -> io::Result<bool> {
        while !self.channel.is_interrupted() {
            if self.channel.may_send(call) {
                return Ok(true);
            }
            if !std::mem::replace(reported, true) {
                self.report("full")?;
            }
            if self.channel.wait_in_stream(call)? == Wake::End {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(false)
    }
}
