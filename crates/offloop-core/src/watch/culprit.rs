//! The entry of a stack that is to blame.
//!
//! The user's code can be changed by the user, so the innermost entry of theirs is named: the line
//! that called what blocks, or that computes itself. Where a stack has no code of theirs, the
//! outermost entry is named that is not the machinery of the loop: it is nearest the callback.
//!
//! Invariants: 1. A stack with an entry has a culprit.
//!             2. A library's entry is named only if none is the user's, and the culprit says so.

use std::mem::{Discriminant, discriminant};
use std::sync::Arc;

use super::cause::Cause;
use super::places::{Owner, Places};
use super::record::{Entry, Stack, Stall};

/// Why an entry was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// It is the innermost entry of the user's code.
    Own,
    /// No entry is the user's; this one is nearest the callback.
    Library,
}

/// The entry that is to blame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// The entry.
    pub entry: Entry,
    /// Its place on the stack, from the innermost entry.
    pub index: usize,
    /// Whose code it is.
    pub owner: Owner,
    /// Why it was chosen.
    pub blame: Blame,
}

/// By this a repeat is known.
///
/// The line is left out where the culprit computes itself in Python: each look finds it at another
/// line of the same loop, and these are one culprit.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The culprit's file; none where no code is to blame.
    pub filename: Option<Arc<str>>,
    /// Its function, by the qualified name.
    pub function: Option<Arc<str>>,
    /// Its line.
    pub line: Option<i32>,
    cause: Discriminant<Cause>,
}

/// Packages that run the callbacks of a loop, or start it.
const MACHINERY: [&str; 9] = [
    "asyncio",
    "contextlib",
    "contextvars",
    "functools",
    "offloop",
    "runpy",
    "selectors",
    "threading",
    "uvloop",
];

impl Culprit {
    /// The entry of a stack that is to blame; none if the stack is empty.
    #[must_use]
    pub fn of(stack: &Stack, places: &Places) -> Option<Self> {
        let mut nearest = None;
        for (index, entry) in stack.entries.iter().enumerate() {
            let owner = places.owner(&entry.filename);
            let culprit = |blame| Self {
                entry: entry.clone(),
                index,
                owner: owner.clone(),
                blame,
            };
            match &owner {
                Owner::User => return Some(culprit(Blame::Own)),
                Owner::Library(name) if nearest.is_none() || !MACHINERY.contains(&&**name) => {
                    nearest = Some(culprit(Blame::Library));
                }
                Owner::Library(_) => {}
            }
        }
        nearest
    }
}

impl Key {
    /// The key of a stall with this culprit. Without one, the callback's name stands for it, unless
    /// no code is to blame.
    #[must_use]
    pub fn of(stall: &Stall, culprit: Option<&Culprit>) -> Self {
        let cause = &stall.cause;
        let line = culprit.and_then(|culprit| {
            let computes_itself = culprit.index == 0 && *cause == Cause::Python;
            culprit.entry.line.filter(|_| !computes_itself)
        });
        let callback = stall.callback.as_ref().filter(|_| !cause.blames_no_code());
        Self {
            filename: culprit.map(|culprit| culprit.entry.filename.clone()),
            function: culprit
                .map(|culprit| &culprit.entry.function)
                .or(callback)
                .cloned(),
            line,
            cause: discriminant(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{FOUND, sleeping, stack};
    use super::*;

    fn places() -> Places {
        Places {
            standard: vec!["/lib".into()],
            ..Places::default()
        }
    }

    /// The key of a stall with this stack.
    fn key(cause: &Cause, entries: &[(&str, &str, i32)]) -> Key {
        let mut stall = sleeping(1, FOUND, 50);
        stall.cause = cause.clone();
        stall.stack = stack(entries);
        Key::of(&stall, Culprit::of(&stall.stack, &places()).as_ref())
    }

    fn culprit(entries: &[(&str, &str, i32)]) -> Option<(usize, Blame)> {
        Culprit::of(&stack(entries), &places()).map(|culprit| (culprit.index, culprit.blame))
    }

    const RUN: (&str, &str, i32) = ("/lib/asyncio/events.py", "Handle._run", 89);
    const GET: (&str, &str, i32) = ("/v/site-packages/requests/api.py", "get", 73);
    const POOL: (&str, &str, i32) = ("/v/site-packages/urllib3/pool.py", "urlopen", 7);

    #[test]
    fn the_innermost_entry_of_the_user_is_to_blame() {
        let (helper, view) = (("/app/helper.py", "fetch", 4), ("/app/view.py", "view", 9));
        assert_eq!(culprit(&[helper, view, RUN]), Some((0, Blame::Own)));
        assert_eq!(culprit(&[POOL, GET, helper, view]), Some((2, Blame::Own)));
        // A library that calls the user's code back is not to blame for it.
        assert_eq!(culprit(&[helper, GET, view, RUN]), Some((0, Blame::Own)));
    }

    #[test]
    fn without_code_of_the_user_the_entry_nearest_the_callback_is_named() {
        assert_eq!(culprit(&[POOL, GET, RUN]), Some((1, Blame::Library)));
        let main = ("<frozen runpy>", "_run_module_as_main", 198);
        assert_eq!(culprit(&[POOL, GET, RUN, main]), Some((1, Blame::Library)));
        // Where all is machinery, the innermost entry says what runs.
        assert_eq!(culprit(&[RUN, main]), Some((0, Blame::Library)));
        assert_eq!(culprit(&[]), None);
    }

    #[test]
    fn a_repeat_has_the_same_file_function_line_and_kind_of_cause() {
        let of = |line, cause: &Cause| key(cause, &[POOL, ("/app/view.py", "view", line), RUN]);
        let to = |peer: &str| Cause::Socket {
            peer: Some(peer.into()),
        };
        assert_eq!(of(9, &to("10.0.0.5:80")), of(9, &to("10.0.0.6:80")));
        assert_ne!(of(9, &to("10.0.0.5:80")), of(9, &Cause::Sleep));
        assert_ne!(of(9, &Cause::Sleep), of(10, &Cause::Sleep));
        assert_ne!(of(9, &Cause::Python), of(10, &Cause::Python));
    }

    #[test]
    fn the_lines_of_one_computation_are_one_culprit() {
        let of = |line, cause: &Cause| key(cause, &[("/app/image.py", "resize", line), RUN]);
        assert_eq!(of(4, &Cause::Python), of(5, &Cause::Python));
        assert_ne!(of(4, &Cause::Sleep), of(5, &Cause::Sleep));
    }

    #[test]
    fn without_a_culprit_the_callback_stands_for_it() {
        let of = |cause: Cause, callback: &str| {
            let mut stall = sleeping(1, FOUND, 50);
            stall.cause = cause;
            stall.callback = Some(callback.into());
            Key::of(&stall, None)
        };
        assert_ne!(of(Cause::Unknown, "one"), of(Cause::Unknown, "two"));
        assert_eq!(of(Cause::Starved, "one"), of(Cause::Starved, "two"));
    }
}
