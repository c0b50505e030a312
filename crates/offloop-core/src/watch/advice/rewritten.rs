//! A call written anew: moved off the loop, or by a template of the catalogue.

use super::super::calls::{Arguments, Call};
use super::super::tokens::{Sort, tokens};

/// Letters of a cure; where a whole line would be longer, only the new expression is shown.
const LINE_MAX: usize = 120;

/// Letters of arguments that are shown; longer ones are `...`.
const ARGUMENTS_MAX: usize = 80;

/// `await offloop.to_thread(function, arguments)`, or the same with a process.
pub(super) fn moved(call: &Call, to_process: bool) -> String {
    let template = if to_process {
        "await offloop.to_process({function}{, arguments})"
    } else {
        "await offloop.to_thread({function}{, arguments})"
    };
    rendered(template, Some(call), "")
}

/// The same for a function of which only the name is known.
pub(super) fn moved_by_name(name: &str, to_process: bool) -> String {
    let lane = if to_process { "process" } else { "thread" };
    format!("await offloop.to_{lane}({name}, ...)")
}

/// A template with what is known of the call in its placeholders.
pub(super) fn rendered(template: &str, call: Option<&Call>, name: &str) -> String {
    let mut line = String::new();
    let mut rest = template;
    while let Some((before, behind)) = rest.split_once('{') {
        let Some((placeholder, behind)) = behind.split_once('}') else {
            break;
        };
        line.push_str(before);
        let (comma, placeholder) = match placeholder.strip_prefix(", ") {
            Some(placeholder) => (", ", placeholder),
            None => ("", placeholder),
        };
        let value = value_of(placeholder, call, name);
        if !value.is_empty() {
            line.push_str(comma);
        }
        line.push_str(&value);
        rest = behind;
    }
    line.push_str(rest);
    // A call without arguments leaves a comma that nothing follows.
    line.replace(", )", ")")
}

/// The placeholders of the catalogue.
#[cfg(test)]
pub(super) const PLACEHOLDERS: [&str; 9] = [
    "function",
    "arguments",
    "elided",
    "first",
    "rest",
    "name",
    "receiver",
    "given",
    "call",
];

fn value_of(placeholder: &str, call: Option<&Call>, name: &str) -> String {
    const UNKNOWN: &str = "...";
    let last = |path: &str| path.rsplit('.').next().unwrap_or(path).to_owned();
    let Some(call) = call else {
        return match placeholder {
            "function" => name.to_owned(),
            "call" => format!("{name}({UNKNOWN})"),
            "name" => last(name),
            "receiver" => receiver_of(name),
            "rest" => String::new(),
            _ => UNKNOWN.to_owned(),
        };
    };
    let arguments = call.arguments.as_ref();
    let argument = |of: fn(&Arguments) -> Option<&str>| {
        let short = arguments.filter(|arguments| arguments.all.len() <= ARGUMENTS_MAX);
        short.map_or_else(
            || Some(UNKNOWN.to_owned()),
            |arguments| of(arguments).map(str::to_owned),
        )
    };
    let function = match &call.receiver {
        Some(receiver) => format!("{receiver}.{}", call.name()),
        None => call.path.clone(),
    };
    let value = match placeholder {
        "function" => Some(function),
        "call" => {
            let arguments = argument(|arguments| Some(&arguments.all)).unwrap_or_default();
            Some(format!("{function}({arguments})"))
        }
        "arguments" => argument(|arguments| Some(&arguments.all)),
        "elided" if arguments.is_some_and(|arguments| arguments.all.is_empty()) => {
            Some(String::new())
        }
        "first" => argument(|arguments| {
            let has_none = arguments.all.is_empty();
            arguments.first.as_deref().or(has_none.then_some(""))
        }),
        "rest" => argument(|arguments| Some(&arguments.rest)),
        "name" => Some(call.name().to_owned()),
        "receiver" => call.receiver.clone().or_else(|| Some(receiver_of(name))),
        "given" => call.given.clone(),
        _ => None,
    };
    value.unwrap_or_else(|| UNKNOWN.to_owned())
}

/// What a receiver is called if the line does not say it: by its class.
fn receiver_of(name: &str) -> String {
    let class = name.rsplit('.').nth(1).unwrap_or("it");
    class.to_lowercase()
}

/// The statement with the new expression in place of the call, as one line; only the expression
/// where it stands in a longer statement.
pub(super) fn in_statement(text: Option<&str>, call: &Call, new: &str) -> String {
    let whole = text.and_then(|text| replaced(text, call, new));
    whole
        .filter(|line| line.chars().count() <= LINE_MAX)
        .unwrap_or_else(|| new.to_owned())
}

/// Whether a call stands for a lock that `with lock:` takes.
pub(super) fn entered(call: &Call, text: &str) -> bool {
    let shown = text.get(call.range.clone()).unwrap_or_default();
    call.receiver.as_deref() == Some(shown)
}

pub(super) fn replaced(text: &str, call: &Call, new: &str) -> Option<String> {
    let end = tokens(text)
        .iter()
        .find(|token| token.sort == Sort::Comment && token.range.start >= call.range.end)
        .map_or(text.len(), |comment| comment.range.start);
    let before = text.get(..call.range.start)?.trim_start();
    let behind = text.get(call.range.end..end)?.trim_end();
    if before.contains('\n') || behind.contains('\n') {
        return None;
    }
    if let Some(opened) = new.strip_prefix("async with ") {
        // Only the expression is taken into a statement that enters it already.
        let (expression, _) = opened.rsplit_once(" as ").unwrap_or((opened, ""));
        let is_entered = before == "with " && behind.starts_with([' ', ':']);
        // What else the statement enters may have no `async with`.
        let (header, _) = behind.split_once(':').unwrap_or((behind, ""));
        if header.contains(',') {
            return None;
        }
        let line = format!("async with {}{behind}", expression.trim_end_matches(':'));
        return is_entered.then_some(line);
    }
    let value = new.strip_prefix("await ")?;
    let goes_on = behind.starts_with(['.', '[', '(']);
    let line = if goes_on {
        format!("{before}(await {value}){behind}")
    } else {
        format!("{before}await {value}{behind}")
    };
    // A statement with a body is shown without it.
    Some(line)
}
