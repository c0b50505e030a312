//! Whether a line of code can stand in place of a call: it must do the same, without blocking.
//!
//! Invariants: 1. A line that leaves an argument of the call out, a timeout for one, does not fit.
//!             2. What makes its items one by one is not moved by the call that makes it.
//!             3. Where only the text could tell and does not, nothing fits.

use super::super::calls::{Arguments, Call, SMALL, is_in_lambda};
use super::super::catalogue::Function;
use super::rewritten::{entered, rendered, replaced};

/// What makes its items when they are taken, and little before.
const LAZY: [&str; 7] = [
    "enumerate",
    "filter",
    "itertools.chain",
    "map",
    "reversed",
    "zip",
    "itertools.islice",
];

/// What only looks at a clock.
const CLOCKS: [&str; 6] = [
    "loop.time",
    "monotonic",
    "perf_counter",
    "time.monotonic",
    "time.perf_counter",
    "time.time",
];

/// What takes all items at once.
const TAKE_ALL: [&str; 4] = ["list", "set", "sorted", "tuple"];

/// Whether a line of the catalogue does what the call did, in its statement.
pub(super) fn fits(function: &Function, line: &str, call: &Call, text: Option<&str>) -> bool {
    let by_receiver = line.contains("{receiver}");
    is_visible(call)
        && (!by_receiver || is_method(function, call))
        && takes_all(function, line, call)
        && text.is_none_or(|text| stands(line, call, text))
}

/// Whether a call can be moved off the loop as it is.
pub(super) fn is_movable(call: &Call, text: Option<&str>) -> bool {
    let mut unmoved = LAZY.iter().chain(&CLOCKS).chain(&SMALL);
    is_visible(call)
        && unmoved.all(|path| *path != &*call.path)
        && text.is_none_or(|text| !is_in_lambda(text, call.range.start))
}

/// Whether what is called is all in the text: a line may go on with an attribute of what is above.
fn is_visible(call: &Call) -> bool {
    let has_receiver = call.receiver.as_ref().is_some_and(|all| !all.is_empty());
    !call.path.starts_with('.') || has_receiver
}

fn is_method(function: &Function, call: &Call) -> bool {
    let last = |name: &str| name.rsplit('.').next() == Some(call.name());
    let mut methods = function.methods.iter().chain(&function.chains);
    call.receiver.is_some() && methods.any(|method| last(method))
}

/// Whether each argument of the call has its place in the line.
fn takes_all(function: &Function, line: &str, call: &Call) -> bool {
    let Some(arguments) = &call.arguments else {
        return false;
    };
    let knows = |name: &String| function.keywords.contains(name);
    let is_known = function.keywords.is_empty()
        || (arguments.unnamed <= 1 && arguments.names.iter().all(knows));
    let beside = call.beside.replace('"', "'");
    let is_beside = !line.contains("{given}")
        || (call.given.is_some()
            && (function.beside.is_empty() || function.beside.contains(&beside)));
    is_known && is_beside && has_places(line, arguments)
}

fn has_places(line: &str, arguments: &Arguments) -> bool {
    if arguments.all.is_empty() || line.contains("arguments}") || line.contains("{call}") {
        return true;
    }
    let has_rest = line.contains("rest}") || arguments.rest.is_empty();
    line.contains("{first}") && arguments.first.is_some() && has_rest
}

/// Whether the line can be written there.
fn stands(line: &str, call: &Call, text: &str) -> bool {
    let before = text.get(..call.range.start).unwrap_or_default().trim();
    let behind = text.get(call.range.end..).unwrap_or_default().trim_start();
    let is_entered = before == "with" || (before.starts_with("with ") && !before.contains(':'));
    if is_in_lambda(text, call.range.start) {
        return false;
    }
    if line.contains("{call}") {
        let is_loop = before.starts_with("for ") && before.ends_with(" in");
        let mut words = before.rsplit(|letter: char| !letter.is_alphanumeric() && letter != '_');
        let is_taken =
            before.ends_with('(') && words.nth(1).is_some_and(|word| TAKE_ALL.contains(&word));
        return (is_loop && behind.starts_with(':')) || is_taken;
    }
    if line.starts_with("async with ") || entered(call, text) {
        return replaced(
            text,
            call,
            &rendered("async with {receiver}:", Some(call), ""),
        )
        .is_some();
    }
    !is_entered
}

/// Whether a call is all that its statement does: then it is called for what it changes.
pub(super) fn is_whole(call: &Call, text: &str) -> bool {
    let before = text.get(..call.range.start).unwrap_or_default().trim();
    let behind = text.get(call.range.end..).unwrap_or_default().trim_start();
    before.is_empty() && (behind.is_empty() || behind.starts_with('#'))
}
