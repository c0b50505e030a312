//! A line of a stack with what its text says: its statement, and the calls in it.
//!
//! Invariants: 1. A call is named only if the stack says which one it is, or if it is the only one.
//!             2. A call that is awaited is none that blocks by itself.

use std::ops::Range;

use super::allow::{Allow, Allowance, allow};
use super::calls::{Call, calls};
use super::record::Entry;
use super::text::{Sources, Statement, rounds_in};

/// A line of the stack with what its text says.
pub(super) struct Site {
    pub(super) entry: Entry,
    pub(super) statement: Option<Statement>,
    /// Its calls, but for those that are awaited.
    pub(super) calls: Vec<Call>,
    awaited: Vec<Call>,
    /// How often a loop around it runs it, if that says so.
    rounds: u64,
}

impl Site {
    pub(super) fn of(entry: &Entry, sources: &mut dyn Sources) -> Self {
        let line = entry.line.and_then(|line| u32::try_from(line).ok());
        let source = line.and_then(|line| Some((sources.text(&entry.filename)?, line)));
        let statement = source
            .as_ref()
            .and_then(|(text, line)| text.statement(*line));
        let within = source.as_ref().zip(statement.as_ref());
        let rounds = within.map_or(0, |((source, _), statement)| source.rounds(statement));
        let text = statement.as_ref().map(|statement| &*statement.text);
        let all = text.map(calls).unwrap_or_default();
        let (awaited, calls) = all.into_iter().partition(|call| call.is_awaited);
        Self {
            entry: entry.clone(),
            statement,
            calls,
            awaited,
            rounds,
        }
    }

    /// Its text.
    pub(super) fn text(&self) -> Option<&str> {
        self.statement.as_ref().map(|statement| &*statement.text)
    }

    /// How often a call is made, or the whole statement if the call is not known, as far as loops
    /// say so: those around it, and those in it but for the arguments of the call.
    pub(super) fn rounds_of(&self, call: Option<&Call>) -> u64 {
        let text = self.text().unwrap_or_default();
        let inside = match call.map(|call| &call.range) {
            Some(range) => {
                let before = text.get(..range.start).unwrap_or_default();
                let behind = text.get(range.end..).unwrap_or_default();
                rounds_in(before).max(rounds_in(behind))
            }
            None if self.begins_with("for ") => rounds_in(text),
            None => 0,
        };
        self.rounds.max(inside)
    }

    /// What a comment allows here.
    pub(super) fn allowance(&self) -> Option<Allowance> {
        let reason = match allow(&self.statement.as_ref()?.text)? {
            Allow::Because(reason) => Some(reason.to_owned()),
            Allow::NoReason => None,
        };
        Some(Allowance {
            entry: self.entry.clone(),
            reason,
        })
    }

    /// The first line of the statement, and the part of a call that is in it.
    pub(super) fn first_line(&self, call: Option<&Call>) -> (Option<String>, Option<Range<usize>>) {
        let Some(statement) = &self.statement else {
            return (None, None);
        };
        let line = statement.text.split('\n').next().unwrap_or_default();
        let call = call
            .filter(|call| call.range.start < line.len())
            .map(|call| call.range.start..call.range.end.min(line.len()));
        (Some(line.to_owned()), call)
    }

    /// Whether the statement awaits what has led to the entry further in.
    pub(super) fn awaits(&self, called: Option<&Entry>) -> bool {
        let name = called.and_then(|entry| name_of(&entry.function));
        name.is_some_and(|name| self.awaited.iter().any(|call| call.name() == name))
    }

    /// Whether an attribute of this name is read and not called, as a property is.
    pub(super) fn reads(&self, name: &str) -> bool {
        let text = self
            .statement
            .as_ref()
            .map_or("", |statement| &*statement.text);
        let point_and_name = format!(".{name}");
        let mut places = text.match_indices(&point_and_name);
        places.any(|(at, found)| {
            let behind = &text[at + found.len()..];
            let goes_on = behind.starts_with(|next: char| next.is_alphanumeric() || next == '_');
            !goes_on && !behind.trim_start().starts_with('(')
        })
    }

    /// The call that has led to the entry further in; or the only call.
    pub(super) fn call_of(&self, called: Option<&Entry>) -> Option<&Call> {
        let name = called.and_then(|entry| name_of(&entry.function));
        if self.begins_with("class ")
            || called.is_some_and(|entry| is_without_call(&entry.function))
            || name.is_some_and(|name| self.reads(name))
        {
            return None;
        }
        let named = name.and_then(|name| {
            let mut calls = self.calls.iter().filter(|call| call.name() == name);
            // Two calls of one name cannot be told apart.
            calls.next().filter(|_| calls.next().is_none())
        });
        // What a `with` enters runs after the call that has made it.
        let is_certain = name.is_none() || !self.begins_with("with ");
        named.or_else(|| self.only_call().filter(|_| is_certain))
    }

    /// Whether a function of this name is called.
    pub(super) fn calls_by_name(&self, qualified: &str) -> bool {
        let name = name_of(qualified);
        name.is_some_and(|name| self.calls.iter().any(|call| call.name() == name))
    }

    fn begins_with(&self, word: &str) -> bool {
        let statement = self.statement.as_ref();
        statement.is_some_and(|statement| statement.text.trim_start().starts_with(word))
    }

    /// The lock that `with lock:` takes, as the call of `acquire` that this is.
    pub(super) fn entered(&self) -> Option<Call> {
        let text = &self.statement.as_ref()?.text;
        let start = text.len() - text.trim_start().len() + "with ".len();
        let rest = text.trim_start().strip_prefix("with ")?;
        let lock = &rest[..rest.find(':')?];
        let is_plain = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '.');
        if !lock.chars().all(is_plain) {
            return None;
        }
        let mut call = calls(&format!("{lock}.acquire()")).pop()?;
        call.range = start..start + lock.len();
        Some(call)
    }

    /// The call, if the statement has no other one.
    pub(super) fn only_call(&self) -> Option<&Call> {
        let [call] = &*self.calls else {
            return None;
        };
        Some(call)
    }
}

/// What a call of the class runs.
const MAKING: [&str; 3] = ["__init__", "__new__", "__post_init__"];

/// The name under which a function is called: its own, or its class's. One that Python calls by
/// itself has none.
fn name_of(qualified: &str) -> Option<&str> {
    let mut parts = qualified.rsplit('.');
    let name = parts.next().unwrap_or(qualified);
    let name = if MAKING.contains(&name) {
        parts.next()?
    } else {
        name
    };
    (!name.starts_with('<') && !name.starts_with("__")).then_some(name)
}

/// Whether a function runs without a call in the line that leads to it: by a `with` or an operator,
/// or as a part of the line.
fn is_without_call(qualified: &str) -> bool {
    let name = qualified.rsplit('.').next().unwrap_or(qualified);
    let is_called = name == "__call__" || MAKING.contains(&name);
    // A lambda may have any name.
    let is_part = name.starts_with('<') && name != "<lambda>";
    is_part || (name.starts_with("__") && !is_called)
}

/// Whether a function is a lambda, in which nothing can be awaited.
pub(super) fn is_lambda(qualified: &str) -> bool {
    qualified.ends_with("<lambda>")
}

/// What a plain name can say of a function on the stack, for a call of it.
pub(super) fn callable(qualified: &str) -> &str {
    name_of(qualified).unwrap_or(UNNAMED)
}

/// What is shown for a function without a name to call it by.
pub(super) const UNNAMED: &str = "function";
