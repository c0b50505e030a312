//! The entry of a stack that is to blame.
//!
//! The user's code can be changed by the user, so the innermost entry of theirs is named: the line
//! that called what blocks, or that computes itself. Code without a file gives way to the user's
//! function that runs it: a method that `dataclasses` has made stands in no file.
//!
//! An application that pip has installed looks like a library. So where a stack has no code of the
//! user's, the installed package nearest the callback is taken for the application, unless it is a
//! known framework, and its innermost entry is named. A package whose entry is a middleware passes
//! the call on, so it is taken only if there is no other one.
//!
//! A destructor runs in whatever line lets go of an object or collects garbage. That line is not to
//! blame: the culprit is looked for among the entries of the destructor.
//!
//! Invariants: 1. A stack with an entry has a culprit.
//!             2. A library's entry is named only if none is the user's, and the culprit says so.

use std::mem::{Discriminant, discriminant};
use std::sync::Arc;

use super::cause::Cause;
use super::frameworks::FRAMEWORKS;
use super::places::{Owner, Places};
use super::record::{Entry, Stack, Stall};

/// Why an entry was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Blame {
    /// It is the innermost entry of the user's code.
    Own,
    /// No entry is the user's; it is the innermost one of the package taken for the application.
    Application,
    /// No entry is the user's, and no package can be the application.
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
    /// The place on the stack of the destructor that it runs in, if it does.
    pub destructor: Option<usize>,
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

/// Names of code that stands in no file, and whose text is mostly not known.
const GENERATED: [&str; 2] = ["<string>", "<unknown>"];

/// The outermost destructor on a stack.
fn destructor(entries: &[Entry]) -> Option<usize> {
    entries.iter().rposition(|entry| {
        let name = entry.function.rsplit('.').next();
        name == Some("__del__")
    })
}

/// The innermost entry of the user's code: one with a file, if there is one.
fn own(entries: &[Entry], places: &Places) -> Option<usize> {
    let mut all = entries.iter().enumerate();
    let is_own = |entry: &Entry| places.owner(&entry.filename) == Owner::User;
    let (first, innermost) = all.find(|(_, entry)| is_own(entry))?;
    let is_generated = |entry: &Entry| GENERATED.contains(&&*entry.filename);
    if !is_generated(innermost) {
        return Some(first);
    }
    let filed = all.find(|(_, entry)| is_own(entry) && !is_generated(entry));
    Some(filed.map_or(first, |(index, _)| index))
}

/// Whether a function passes a call on to what the application has given it.
fn is_middleware(entry: &Entry) -> bool {
    let has = |text: &str| text.to_ascii_lowercase().contains("middleware");
    has(&entry.function) || has(&entry.filename)
}

/// The innermost entry of the installed package that is taken for the application.
fn application(entries: &[Entry], places: &Places) -> Option<usize> {
    let package = |entry: &Entry| {
        let name = places.installed_package(&entry.filename)?;
        (!FRAMEWORKS.contains(&name)).then(|| name.to_owned())
    };
    let inward = || entries.iter().rev();
    let nearest = inward()
        .filter(|entry| !is_middleware(entry))
        .find_map(package)
        .or_else(|| inward().find_map(package))?;
    let mut outward = entries.iter();
    outward.position(|entry| package(entry).as_deref() == Some(&*nearest))
}

/// The innermost entry of a framework, or the outermost one that is not the machinery of the loop.
fn library(entries: &[Entry], places: &Places) -> Option<usize> {
    let mut outward = entries.iter();
    let framework = outward.position(|entry| places.installed_package(&entry.filename).is_some());
    let is_machinery = |entry: &Entry| match places.owner(&entry.filename) {
        Owner::User => false,
        Owner::Library(name) => MACHINERY.contains(&&*name),
    };
    framework
        .or_else(|| entries.iter().rposition(|entry| !is_machinery(entry)))
        .or_else(|| (!entries.is_empty()).then_some(0))
}

impl Culprit {
    /// The entry of a stack that is to blame; none if the stack is empty.
    #[must_use]
    pub fn of(stack: &Stack, places: &Places) -> Option<Self> {
        let destructor = destructor(&stack.entries);
        let end = destructor.map_or(stack.entries.len(), |index| index + 1);
        let entries = &stack.entries[..end];
        let own = own(entries, places).map(|index| (index, Blame::Own));
        let (index, blame) = own
            .or_else(|| Some((application(entries, places)?, Blame::Application)))
            .or_else(|| Some((library(entries, places)?, Blame::Library)))?;
        let entry = entries[index].clone();
        Some(Self {
            owner: places.owner(&entry.filename),
            entry,
            index,
            blame,
            destructor,
        })
    }

    /// The places as they are where the package that is taken for the application is the user's.
    pub(super) fn claimed(&self, places: &Places) -> Option<Places> {
        match (&self.owner, self.blame) {
            (Owner::Library(package), Blame::Application) => Some(places.claiming(package)),
            _ => None,
        }
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
    fn without_code_of_the_user_the_package_nearest_the_callback_is_the_application() {
        let main = ("<frozen runpy>", "_run_module_as_main", 198);
        let found = Some((1, Blame::Application));
        assert_eq!(culprit(&[POOL, GET, RUN]), found);
        assert_eq!(culprit(&[POOL, GET, RUN, main]), found);
        let query = ("/v/site-packages/shopapp/db.py", "query", 3);
        let orders = ("/v/site-packages/shopapp/web.py", "orders", 9);
        let starlette = ("/v/site-packages/starlette/routing.py", "app", 74);
        let server = ("/v/site-packages/uvicorn/h11_impl.py", "run_asgi", 422);
        let found = |index| Some((index, Blame::Application));
        assert_eq!(culprit(&[query, orders, starlette, server, RUN]), found(0));
        assert_eq!(
            culprit(&[POOL, GET, query, orders, starlette, server, RUN]),
            found(2)
        );
        // What a framework does for the application is not the framework's.
        let database = ("/v/site-packages/django/db/models.py", "save", 5);
        assert_eq!(culprit(&[POOL, database, query, server]), found(2));
        // A library's middleware calls the application further in.
        let passing = ("/v/site-packages/slow_ids/middleware.py", "__call__", 9);
        assert_eq!(
            culprit(&[query, starlette, passing, starlette, server]),
            found(0)
        );
        assert_eq!(culprit(&[passing, starlette, server]), found(0));
    }

    #[test]
    fn without_an_application_the_innermost_framework_is_named() {
        let main = ("<frozen runpy>", "_run_module_as_main", 198);
        let starlette = ("/v/site-packages/starlette/routing.py", "app", 74);
        let server = ("/v/site-packages/uvicorn/h11_impl.py", "run_asgi", 422);
        let found = |index| Some((index, Blame::Library));
        assert_eq!(culprit(&[starlette, server, RUN]), found(0));
        let (socket, url) = (
            ("/lib/socket.py", "read", 7),
            ("/lib/urllib/a.py", "open", 1),
        );
        assert_eq!(culprit(&[socket, starlette, server, RUN]), found(1));
        assert_eq!(culprit(&[socket, url, RUN]), found(1));
        // Where all is machinery, the innermost entry says what runs.
        assert_eq!(culprit(&[RUN, main]), Some((0, Blame::Library)));
        assert_eq!(culprit(&[]), None);
    }

    #[test]
    fn code_without_a_file_gives_way_to_the_users_function_that_runs_it() {
        let (generated, stored) = (
            ("<string>", "__create_fn__.<locals>.__lt__", 16),
            ("/app/orders.py", "sort_all", 4),
        );
        assert_eq!(culprit(&[generated, stored, RUN]), Some((1, Blame::Own)));
        assert_eq!(culprit(&[generated, POOL, stored]), Some((2, Blame::Own)));
        // A program of `-c` has nothing else.
        let main = ("<string>", "main", 2);
        assert_eq!(culprit(&[generated, main, RUN]), Some((0, Blame::Own)));
        // The text of what was typed is known.
        let typed = ("<stdin>", "main", 2);
        assert_eq!(culprit(&[typed, stored, RUN]), Some((0, Blame::Own)));
    }

    #[test]
    fn a_destructor_is_to_blame_and_not_the_line_that_it_interrupts() {
        let close = (
            "/v/site-packages/ptyprocess/ptyprocess.py",
            "PtyProcess.close",
            4,
        );
        let ended = (
            "/v/site-packages/ptyprocess/ptyprocess.py",
            "PtyProcess.__del__",
            2,
        );
        let innocent = ("/app/view.py", "innocent", 9);
        let of = |entries: &[(&str, &str, i32)]| {
            let culprit = Culprit::of(&stack(entries), &places()).expect("one");
            (culprit.index, culprit.blame, culprit.destructor)
        };
        let found = (0, Blame::Application, Some(1));
        assert_eq!(of(&[close, ended, innocent, RUN]), found);
        let own = ("/app/files.py", "File.__del__", 3);
        assert_eq!(of(&[close, own, innocent]), (1, Blame::Own, Some(1)));
        let standard = ("/lib/tempfile.py", "_Closer.__del__", 3);
        assert_eq!(of(&[standard, innocent]), (0, Blame::Library, Some(0)));
        assert_eq!(of(&[innocent, RUN]), (0, Blame::Own, None));
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
