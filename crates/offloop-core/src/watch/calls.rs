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
    Call {
        path: path(text, callee),
        range: tokens[first].range.start..end.map_or(text.len(), |end| tokens[end].range.end),
        receiver: receiver.map(|receiver| flat(text, receiver)),
        given: receiver.and_then(|receiver| given(text, receiver)),
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

/// The first argument of the call that an expression is.
fn given(text: &str, receiver: &[Token]) -> Option<String> {
    let last = receiver.len().checked_sub(1)?;
    if receiver[last].sort != Sort::Sign(')') {
        return None;
    }
    let opened = closing(receiver)[last]?;
    arguments(text, &receiver[opened + 1..last]).first
}

fn arguments(text: &str, tokens: &[Token]) -> Arguments {
    let commas = commas(tokens);
    let first_end = commas.first().copied().unwrap_or(tokens.len());
    let first = &tokens[..first_end];
    let is_named = matches!(
        (first.first(), first.get(1), first.get(2)),
        (Some(name), Some(sign), next) if name.sort == Sort::Name
            && sign.sort == Sort::Sign('=')
            && next.is_none_or(|next| next.sort != Sort::Sign('='))
    );
    let is_unpacked = matches!(first.first(), Some(token) if token.sort == Sort::Sign('*'));
    let has_first = !first.is_empty() && !is_named && !is_unpacked;
    let rest = tokens.get(first_end + 1..).unwrap_or(&[]);
    if is_generator(text, tokens) {
        let all = format!("({})", flat(text, tokens));
        return Arguments {
            first: Some(all.clone()),
            all,
            rest: String::new(),
        };
    }
    Arguments {
        all: flat(text, tokens),
        first: has_first.then(|| flat(text, first)),
        rest: if has_first {
            flat(text, rest)
        } else {
            flat(text, tokens)
        },
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
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<(String, &str)> {
        calls(text)
            .into_iter()
            .map(|call| (call.path, &text[call.range]))
            .collect()
    }

    fn pairs<'text>(found: &'text [(String, &'text str)]) -> Vec<(&'text str, &'text str)> {
        found.iter().map(|(path, all)| (&**path, *all)).collect()
    }

    #[test]
    fn calls_are_found_with_their_receivers() {
        for (text, expected) in [
            ("    small = resize(img)", vec![("resize", "resize(img)")]),
            (
                "x = time.sleep(1) + 1",
                vec![("time.sleep", "time.sleep(1)")],
            ),
            (
                "json.loads(open(p).read())",
                vec![
                    ("json.loads", "json.loads(open(p).read())"),
                    ("open().read", "open(p).read()"),
                    ("open", "open(p)"),
                ],
            ),
            (
                "a[0].b(1)(2).c.d()",
                vec![
                    ("a[].b()().c.d", "a[0].b(1)(2).c.d()"),
                    ("a[].b()", "a[0].b(1)(2)"),
                    ("a[].b", "a[0].b(1)"),
                ],
            ),
            ("', '.join(x)", vec![(".join", "', '.join(x)")]),
            ("if (a and b): return (c)", vec![]),
            ("def f(x): pass", vec![]),
            ("class A(B): pass", vec![]),
            ("return not (x)", vec![]),
            ("f(", vec![("f", "f(")]),
            ("# f(x)", vec![]),
            ("'f(x)'", vec![]),
            (".all()", vec![(".all", ".all()")]),
        ] {
            assert_eq!(pairs(&shown(text)), expected, "{text}");
        }
    }

    #[test]
    fn arguments_are_one_line_without_comments() {
        let text = "get(\n    url,  # where\n    headers={\n        'a': 1,\n    },\n)";
        let arguments = calls(text).remove(0).arguments.expect("closed");
        assert_eq!(arguments.all, "url, headers={'a': 1}");
        assert_eq!(arguments.first.as_deref(), Some("url"));
        assert_eq!(arguments.rest, "headers={'a': 1}");
        let of = |text: &str| calls(text).remove(0).arguments.expect("closed");
        assert_eq!(of("f(a=1, b=2)").first, None);
        assert_eq!(of("f(a=1, b=2)").rest, "a=1, b=2");
        assert_eq!(of("f(a == 1)").first.as_deref(), Some("a == 1"));
        assert_eq!(of("f(*a)").first, None);
        assert_eq!(of("f(g(1, 2), 3)").first.as_deref(), Some("g(1, 2)"));
        assert_eq!(of("f(x for x in y)").all, "(x for x in y)");
        assert_eq!(of("f([x for x in y], 2)").rest, "2");
        assert_eq!(of("f()"), Arguments::default());
        assert_eq!(calls("f(a,").remove(0).arguments, None);
    }

    #[test]
    fn awaited_calls_and_decorators_are_told() {
        assert!(calls("await f(x)").remove(0).is_awaited);
        assert!(!calls("f(await x)").remove(0).is_awaited);
        assert!(!calls("@retry(3)").remove(0).is_direct);
        let receiver = |text: &str| calls(text).remove(0).receiver;
        assert_eq!(receiver("open(p).read()").as_deref(), Some("open(p)"));
        assert_eq!(receiver("f(x)"), None);
        let given = |text: &str| calls(text).remove(0).given;
        assert_eq!(given("open(p, 'rb').read()").as_deref(), Some("p"));
        assert_eq!(given("file.read()"), None);
    }

    #[test]
    fn any_text_has_calls_in_bounds() {
        let pieces = [
            "f", "(", ")", ".", "[", "]", "await ", "'", "\"", ",", "\n", "x", " ", "{", "}", "=",
            "def ", "#", "漢",
        ];
        for seed in 1..=3_000 {
            let mut random = crate::random::random_below(seed);
            let count = random(30);
            let text: String = (0..count)
                .map(|_| pieces[usize::try_from(random(pieces.len() as u64)).expect("small")])
                .collect();
            for call in calls(&text) {
                assert!(text.get(call.range).is_some(), "seed {seed}: {text:?}");
            }
        }
    }
}
