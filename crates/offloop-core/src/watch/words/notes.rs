//! What a reader must know besides: whose code the culprit is, and how the stall was seen.

use super::super::culprit::{Blame, Culprit};
use super::super::places::Owner;
use super::super::record::Quality;
use super::{Writer, phrases};

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

    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = phrases::remarks(self.stall);
        if let Some(culprit) = &self.diagnosis.culprit {
            let own = of_blame(culprit).filter(|_| culprit.destructor.is_none());
            let index = culprit.destructor;
            let destructor = index.map(|index| self.of_destructor(index));
            notes.splice(0..0, own.into_iter().chain(destructor));
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
