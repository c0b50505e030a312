//! What a worker is told in front of a call: definitions, those it may forget, its surroundings.
//!
//! Each is told once. A refusal for want of room keeps what has been told so far, so the next
//! attempt goes on from there; and what one call needs always fits into an empty ring.
//!
//! Invariants: 1. A worker forgets only what it was told, and what no later call can name.
//!             2. A block that a definition lies in lives until the worker has passed it by.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::arena::Arena;
use crate::call::{Definition, Payload};
use crate::channel::{Channel, PushError, PushedCall};
use crate::frame::{FORGET_MAX, Header, Kind};

/// Forget frames in front of one call: far more than calls make, few enough for the ring.
const FORGET_FRAMES_MAX: usize = 4;

/// What one worker was told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Definitions that it has; at most as many as the program holds.
    known: HashSet<u32>,
    /// Definitions that it is to forget, and has not been told of yet.
    forgotten: Vec<u32>,
    /// Definitions in blocks, each until the call that follows it in the ring, or a later one, is
    /// completed.
    unread: VecDeque<(u64, Arc<Definition>)>,
    /// The newest of the program's surroundings.
    surroundings: u32,
}

impl Channel {
    /// Tells all that a call needs.
    pub(super) fn tell_needs(&mut self, call: &PushedCall<'_>) -> Result<(), PushError> {
        if let Some(newest) = call.surroundings {
            self.tell_surroundings(newest, call.arena)?;
        }
        for need in call.needs {
            self.define(need, call.arena)?;
        }
        if let Some(function) = call.function {
            for need in &function.needs {
                self.define(need, call.arena)?;
            }
            self.define(function, call.arena)?;
        }
        Ok(())
    }

    fn define(&mut self, definition: &Arc<Definition>, arena: &Arena) -> Result<(), PushError> {
        if self.told.known.contains(&definition.id()) {
            return Ok(());
        }
        self.pass_chunks(&definition.payload.blocks, arena)?;
        let header = Header {
            function: definition.id(),
            ..Header::of(Kind::Define)
        };
        self.push_frame(header, &definition.payload)?;
        self.told.known.insert(definition.id());
        self.keep_until_read(definition);
        Ok(())
    }

    /// No later call names these; the worker is told with its next calls.
    pub(crate) fn forget(&mut self, ids: &[u32]) {
        let Told {
            known, forgotten, ..
        } = &mut self.told;
        forgotten.extend(ids.iter().filter(|id| known.remove(id)));
    }

    pub(super) fn tell_forgotten(&mut self) -> Result<(), PushError> {
        for _ in 0..FORGET_FRAMES_MAX {
            if self.told.forgotten.is_empty() {
                break;
            }
            let from = self.told.forgotten.len().saturating_sub(FORGET_MAX);
            let numbers = &self.told.forgotten[from..];
            let payload = Payload {
                inline: numbers.iter().flat_map(|id| id.to_ne_bytes()).collect(),
                ..Payload::default()
            };
            self.push_frame(Header::of(Kind::Forget), &payload)?;
            self.told.forgotten.truncate(from);
        }
        Ok(())
    }

    /// The surroundings that the worker starts with.
    pub(crate) fn begin_with(&mut self, surroundings: u32) {
        self.told.surroundings = surroundings;
    }

    /// Workers never go back: a call that waited while the program went on sees what is newer.
    pub(crate) fn tell_surroundings(
        &mut self,
        newest: &Arc<Definition>,
        arena: &Arena,
    ) -> Result<(), PushError> {
        if !newest.is_newer_than(self.told.surroundings) {
            return Ok(());
        }
        self.pass_chunks(&newest.payload.blocks, arena)?;
        self.push_frame(Header::of(Kind::Surroundings), &newest.payload)?;
        self.keep_until_read(newest);
        self.told.surroundings = newest.id();
        Ok(())
    }

    fn keep_until_read(&mut self, definition: &Arc<Definition>) {
        if !definition.payload.blocks.is_empty() {
            let reader = (self.sequence + 1, Arc::clone(definition));
            self.told.unread.push_back(reader);
        }
    }

    /// The worker has completed call `sequence`, so it has read what lay in front of it.
    pub(super) fn note_read(&mut self, sequence: u64) {
        let unread = &mut self.told.unread;
        while unread
            .front()
            .is_some_and(|(reader, _)| *reader <= sequence)
        {
            unread.pop_front();
        }
    }
}
