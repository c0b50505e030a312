//! What a reader must know besides: whose code the culprit is, and how the stall was seen.

use super::super::cause::Cause;
use super::super::culprit::{Blame, Culprit};
use super::super::places::Owner;
use super::super::record::Quality;
use super::{Writer, phrases};
use crate::event_loop::Stalled;

impl Writer<'_> {
    /// What a destructor has interrupted.
    fn of_destructor(&self, index: usize) -> String {
        let outward = &self.stall.stack.entries[index + 1..];
        let mut own = outward.iter();
        let own = own.find(|entry| self.places.owner(&entry.filename) == Owner::User);
        let (place, function) = match own.or(outward.first()) {
            Some(entry) => self.entry(entry),
            None => return "a destructor runs".to_owned(),
        };
        format!("a destructor runs in the middle of {place} in {function}, which is not to blame")
    }

    /// The time is that of a round, and its culprit what was seen at one moment of it.
    fn of_round(&self) -> Option<String> {
        let is_round = self.stall.stalled == Stalled::Round;
        if !is_round || matches!(self.stall.cause, Cause::OtherThread { .. }) {
            return None;
        }
        let time = "the time is that of a round of callbacks, of which this one was seen";
        let earlier = self.stall.earlier.as_ref();
        let earlier = earlier.and_then(|stack| Culprit::of(stack, self.places));
        let Some(earlier) = earlier else {
            return Some(time.to_owned());
        };
        let (place, function) = self.entry(&earlier.entry);
        Some(format!("{time}; before it {place} in {function}"))
    }

    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = phrases::remarks(self.stall);
        if let Some(culprit) = &self.diagnosis.culprit {
            let own = of_blame(culprit).filter(|_| culprit.destructor.is_none());
            let index = culprit.destructor;
            let destructor = index.map(|index| self.of_destructor(index));
            let round = self.of_round();
            notes.splice(0..0, round.into_iter().chain(own).chain(destructor));
        }
        if let Quality::Missing(reason) = &self.stall.stack.quality
            && !self.stall.cause.blames_no_code()
        {
            notes.insert(0, format!("there is no stack: {reason}"));
        }
        if self.stall.suppressed > 0 {
            notes.push(phrases::suppressed(self.stall.suppressed));
        }
        notes
    }
}

/// Whose code the culprit is, where it is not the user's.
fn of_blame(culprit: &Culprit) -> Option<String> {
    match (culprit.blame, &culprit.owner) {
        (Blame::Application, Owner::Library(package)) => Some(format!(
            "no code of yours is on the stack, but {package}, which is installed, may be: \
             `--own {package}` says so"
        )),
        (Blame::Library, _) => {
            Some("no code of yours is on the stack: it blocks in libraries".to_owned())
        }
        _ => None,
    }
}
