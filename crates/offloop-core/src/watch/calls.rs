//! The calls in a statement: what is called, with what, and whether it is awaited.
//!
//! Only the text is known, so a name is what the source says: `sleep` may be that of `time`.
//!
//! Invariants: 1. A call's range holds its arguments, and begins where its receiver begins.
//!             2. Of two calls, one inside the other's arguments comes later.

use std::ops::Range;

use super::tokens::{Sort, Token, tokens};

/// Calls that are looked at in one statement.
const CALLS_MAX: usize = 64;

/// Words that can stand before a bracket and are not called.
const KEYWORDS: &[&str] = &[
    "and", "as", "assert", "async", "await", "class", "def", "del", "elif", "else", "except",
    "for", "from", "global", "if", "import", "in", "is", "lambda", "nonlocal", "not", "or",
    "raise", "return", "while", "with", "yield",
];

/// Builtins that do little, whatever they are given.
pub(super) const SMALL: [&str; 12] = [
    "bool",
    "float",
    "getattr",
    "hasattr",
    "id",
    "int",
    "isinstance",
    "iter",
    "len",
    "range",
    "repr",
    "type",
];

/// A call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// What is called, as in `time.sleep`; brackets on the way are emptied: `open().read`.
    pub(super) path: String,
    /// From its receiver to the bracket that closes its arguments, or to the end of the text.
    pub(super) range: Range<usize>,
    /// The expression before the last point.
    pub(super) receiver: Option<String>,
    /// The first argument of the call whose result the receiver is.
    pub(super) given: Option<String>,
    /// What stands behind that argument.
    pub(super) beside: String,
    /// Its arguments as one line; none if they do not end in the text.
    pub(super) arguments: Option<Arguments>,
    /// Whether `await` stands before it.
    pub(super) is_awaited: bool,
    /// Whether its function is being defined, or it decorates one.
    pub(super) is_direct: bool,
}

/// What a function is called with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Arguments {
    /// All, as in `url, timeout=3`.
    pub(super) all: String,
    /// The first one, if it has no name.
    pub(super) first: Option<String>,
    /// Those behind the first one.
    pub(super) rest: String,
    /// The names of those that have one.
    pub(super) names: Vec<String>,
    /// Those that have no name, unpacked ones too.
    pub(super) unnamed: usize,
    /// Whether more than names, constants and their attributes must be looked up for them: a call,
    /// an operator, a part with `for`.
    pub(super) compute: bool,
    /// Whether they are one generator, which cannot be sent to another process.
    pub(super) is_generator: bool,
}

impl Call {
    /// The last part of its path: `sleep`.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or(&self.path)
    }
}

/// The calls of a statement, from the left.
pub(super) fn calls(text: &str) -> Vec<Call> {
    let tokens = tokens(text);
    let closing = closing(&tokens);
    let mut calls = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        if token.sort != Sort::Sign('(') || calls.len() == CALLS_MAX {
            continue;
        }
        let Some(first) = primary(text, &tokens, &closing, index) else {
            continue;
        };
        calls.push(call(text, &tokens, first, index, closing[index]));
    }
    calls.sort_by_key(|call| (call.range.start, std::cmp::Reverse(call.range.end)));
    calls
}

/// Whether a place in a statement is inside a lambda, where nothing can be awaited.
pub(super) fn is_in_lambda(text: &str, place: usize) -> bool {
    let tokens = tokens(text);
    let before = tokens.iter().take_while(|token| token.range.start < place);
    // For each lambda that goes on, how many brackets are open in it, and whether its body is.
    let mut lambdas: Vec<(i32, bool)> = Vec::new();
    for token in before {
        match token.sort {
            Sort::Name if &text[token.range.clone()] == "lambda" => lambdas.push((0, false)),
            Sort::Sign('(' | '[' | '{') => lambdas.iter_mut().for_each(|(depth, _)| *depth += 1),
            Sort::Sign(')' | ']' | '}') => lambdas.iter_mut().for_each(|(depth, _)| *depth -= 1),
            Sort::Sign(':') => {
                if let Some((0, is_body)) = lambdas.last_mut() {
                    *is_body = true;
                }
            }
            Sort::Sign(',') => {
                while lambdas.last() == Some(&(0, true)) {
                    lambdas.pop();
                }
            }
            _ => {}
        }
        lambdas.retain(|(depth, _)| *depth >= 0);
    }
    !lambdas.is_empty()
}

/// For each opening bracket the place of the one that closes it, and the other way round.
fn closing(tokens: &[Token]) -> Vec<Option<usize>> {
    let mut pairs = vec![None; tokens.len()];
    let mut open = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match token.sort {
            Sort::Sign('(' | '[' | '{') => open.push(index),
            Sort::Sign(')' | ']' | '}') => {
                if let Some(opened) = open.pop() {
                    pairs[opened] = Some(index);
                    pairs[index] = Some(opened);
                }
            }
            _ => {}
        }
    }
    pairs
}

fn is_keyword(word: &str) -> bool {
    KEYWORDS.contains(&word)
}

/// The token with which the expression begins that a bracket calls; none if it calls nothing.
fn primary(
    text: &str,
    tokens: &[Token],
    closing: &[Option<usize>],
    bracket: usize,
) -> Option<usize> {
    let mut at = bracket;
    loop {
        // At `at` there is a bracket or a point: an operand must stand before it.
        let before = at.checked_sub(1)?;
        let token = &tokens[before];
        at = match token.sort {
            Sort::Name if !is_keyword(&text[token.range.clone()]) => before,
            Sort::String if at != bracket => before,
            Sort::Sign(')' | ']') => {
                let opened = closing[before]?;
                // The bracket that was passed over may itself call something.
                return Some(primary(text, tokens, closing, opened).unwrap_or(opened));
            }
            _ => return None,
        };
        let is_attribute = at > 0 && tokens[at - 1].sort == Sort::Sign('.');
        if !is_attribute {
            let is_defined =
                at > 0 && matches!(&text[tokens[at - 1].range.clone()], "def" | "class");
            return (!is_defined).then_some(at);
        }
        at -= 1;
        if at == 0 {
            // The line goes on with an attribute of what is above it.
            return Some(0);
        }
    }
}

fn call(text: &str, tokens: &[Token], first: usize, bracket: usize, end: Option<usize>) -> Call {
    let callee = &tokens[first..bracket];
    let point = callee
        .iter()
        .rposition(|token| token.sort == Sort::Sign('.'))
        .filter(|&point| point + 2 == callee.len());
    let receiver = point.map(|point| &callee[..point]);
    let before = first.checked_sub(1).map(|at| &tokens[at]);
    let word = before.map_or("", |token| &text[token.range.clone()]);
    let inner = receiver.and_then(|receiver| given(text, receiver));
    Call {
        path: path(text, callee),
        range: tokens[first].range.start..end.map_or(text.len(), |end| tokens[end].range.end),
        receiver: receiver.map(|receiver| flat(text, receiver)),
        given: inner.as_ref().and_then(|inner| inner.first.clone()),
        beside: inner.map(|inner| inner.rest).unwrap_or_default(),
        arguments: end.map(|end| arguments(text, &tokens[bracket + 1..end])),
        is_awaited: word == "await",
        is_direct: word != "@",
    }
}

/// What is called, with the brackets on the way emptied.
fn path(text: &str, callee: &[Token]) -> String {
    let mut depth = 0_u32;
    let mut path = String::new();
    for token in callee {
        match token.sort {
            Sort::Sign(sign @ ('(' | '[' | '{')) => {
                if depth == 0 {
                    path.push(sign);
                }
                depth += 1;
            }
            Sort::Sign(sign @ (')' | ']' | '}')) => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    path.push(sign);
                }
            }
            Sort::Name | Sort::Sign(_) if depth == 0 => path.push_str(&text[token.range.clone()]),
            _ => {}
        }
    }
    path
}

/// The arguments of the call that an expression is.
fn given(text: &str, receiver: &[Token]) -> Option<Arguments> {
    let last = receiver.len().checked_sub(1)?;
    if receiver[last].sort != Sort::Sign(')') {
        return None;
    }
    let opened = closing(receiver)[last]?;
    Some(arguments(text, &receiver[opened + 1..last]))
}

fn arguments(text: &str, tokens: &[Token]) -> Arguments {
    let mut ends = commas(tokens);
    ends.push(tokens.len());
    let mut start = 0;
    let mut parts = Vec::new();
    for end in ends {
        parts.push(&tokens[start..end]);
        start = end + 1;
    }
    let first = parts[0];
    let names = parts.iter().filter_map(|part| named(text, part));
    let names: Vec<_> = names.map(str::to_owned).collect();
    let given = parts.iter().filter(|part| !part.is_empty()).count();
    let is_unpacked = matches!(first.first(), Some(token) if token.sort == Sort::Sign('*'));
    let has_first = !first.is_empty() && named(text, first).is_none() && !is_unpacked;
    let rest = tokens.get(first.len() + 1..).unwrap_or(&[]);
    let is_generator = is_generator(text, tokens);
    let shown = flat(text, tokens);
    let all = if is_generator {
        format!("({shown})")
    } else {
        shown
    };
    Arguments {
        first: match is_generator {
            true => Some(all.clone()),
            false => has_first.then(|| flat(text, first)),
        },
        rest: match (is_generator, has_first) {
            (true, _) => String::new(),
            (false, true) => flat(text, rest),
            (false, false) => all.clone(),
        },
        unnamed: given - names.len(),
        names,
        compute: compute(text, tokens),
        is_generator,
        all,
    }
}

/// The name of an argument that has one.
fn named<'text>(text: &'text str, part: &[Token]) -> Option<&'text str> {
    let [name, sign, rest @ ..] = part else {
        return None;
    };
    let is_compared = matches!(rest.first(), Some(next) if next.sort == Sort::Sign('='));
    let is_named = name.sort == Sort::Name && sign.sort == Sort::Sign('=') && !is_compared;
    is_named.then(|| &text[name.range.clone()])
}

/// Whether arguments take more than a look at names: a call with arguments, an operator that makes
/// something, a part with `for`. A method without arguments is a small step, as in `text.encode()`.
fn compute(text: &str, tokens: &[Token]) -> bool {
    let word = |at: usize| {
        tokens
            .get(at)
            .map_or("", |token| &text[token.range.clone()])
    };
    (0..tokens.len()).any(|at| match tokens[at].sort {
        Sort::Name => word(at) == "for",
        Sort::Sign('(') => {
            let called = at
                .checked_sub(1)
                .filter(|&before| is_operand(text, &tokens[before]));
            called.is_some_and(|before| {
                let is_method = before > 0 && word(before - 1) == ".";
                let is_small = SMALL.contains(&word(before)) && !is_method;
                let is_step = is_method && word(at + 1) == ")";
                !is_small && !is_step
            })
        }
        Sort::Sign('*' | '/' | '@' | '%' | '+' | '-' | '&' | '|' | '^') => {
            at > 0 && is_operand(text, &tokens[at - 1])
        }
        _ => false,
    })
}

/// Whether a token ends an operand.
fn is_operand(text: &str, token: &Token) -> bool {
    match token.sort {
        Sort::Name => !is_keyword(&text[token.range.clone()]),
        Sort::Number | Sort::String | Sort::Sign(')' | ']' | '}') => true,
        _ => false,
    }
}

/// Whether the only argument is a generator, which needs brackets of its own beside another one.
fn is_generator(text: &str, tokens: &[Token]) -> bool {
    let mut depth = 0_i32;
    tokens.iter().any(|token| {
        match token.sort {
            Sort::Sign('(' | '[' | '{') => depth += 1,
            Sort::Sign(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        depth == 0 && &text[token.range.clone()] == "for"
    })
}

/// The places of the commas that stand in no further bracket.
fn commas(tokens: &[Token]) -> Vec<usize> {
    let mut depth = 0_i32;
    let mut places = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        match token.sort {
            Sort::Sign('(' | '[' | '{') => depth += 1,
            Sort::Sign(')' | ']' | '}') => depth -= 1,
            Sort::Sign(',') if depth == 0 => places.push(index),
            // The comma of a lambda's parameters is one too; its arguments are then not told apart.
            _ => {}
        }
    }
    places
}

/// Tokens as one line, without comments and without a comma at the end.
fn flat(text: &str, tokens: &[Token]) -> String {
    let mut line = String::new();
    let mut end = None;
    for token in tokens.iter().filter(|token| token.sort != Sort::Comment) {
        let between = end.map(|end| &text[end..token.range.start]);
        let piece = &text[token.range.clone()];
        let closes = matches!(token.sort, Sort::Sign(')' | ']' | '}'));
        match between {
            Some(between) if between.contains('\n') => {
                if closes {
                    line.truncate(line.trim_end_matches(',').len());
                } else if !line.ends_with(['(', '[', '{']) {
                    line.push(' ');
                }
            }
            Some(between) if !between.is_empty() => line.push(' '),
            _ => {}
        }
        line.push_str(piece);
        end = Some(token.range.end);
    }
    line.truncate(line.trim_end_matches([',', ' ']).len());
    line
}

#[cfg(test)]
mod tests;
