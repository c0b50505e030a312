//! The text of a source file, by its lines; whether it is read, and how, the caller decides.
//!
//! Units:      lines from 1, as Python counts them: a line feed, a carriage return or both end one.

use std::ops::Range;
use std::sync::Arc;

use super::tokens::{Sort, all_tokens};

/// Lines that a statement is followed over, at most: more would not be shown.
pub const STATEMENT_LINES_MAX: u32 = 16;

/// Lines that are looked at above a line, for the function that it belongs to.
const FUNCTION_LINES_MAX: u32 = 2_000;

/// Lines that are looked at above a statement, for the loops that it stands in.
const LOOP_LINES_MAX: u32 = 200;

/// Where the text of source files comes from.
pub trait Sources {
    /// The text of a file; none if it cannot be read, or not now.
    fn text(&mut self, filename: &str) -> Option<Arc<Text>>;
}

impl<F: FnMut(&str) -> Option<Arc<Text>>> Sources for F {
    fn text(&mut self, filename: &str) -> Option<Arc<Text>> {
        self(filename)
    }
}

/// A file's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    text: String,
    lines: Vec<Range<usize>>,
}

/// A line, and those that follow it as long as a bracket or a string is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The number of its first line.
    pub first: u32,
    /// The number of its last line.
    pub last: u32,
    /// The lines, with line feeds between them.
    pub text: String,
}

impl Text {
    /// The text of these bytes. What is not UTF-8 is replaced; a byte order mark is left out.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = String::from_utf8_lossy(bytes).into_owned();
        let mut lines = Vec::new();
        let mut start = 0;
        let mut at = 0;
        let letters = text.as_bytes();
        while at < letters.len() {
            let behind = match (letters[at], letters.get(at + 1)) {
                (b'\r', Some(b'\n')) => at + 2,
                (b'\r' | b'\n', _) => at + 1,
                _ => {
                    at += 1;
                    continue;
                }
            };
            lines.push(start..at);
            start = behind;
            at = behind;
        }
        if start < letters.len() {
            lines.push(start..letters.len());
        }
        Self { text, lines }
    }

    /// A line without its end.
    #[must_use]
    pub fn line(&self, number: u32) -> Option<&str> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.lines.get(index).map(|range| &self.text[range.clone()])
    }

    /// How much memory it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text.len() + self.lines.len() * size_of::<Range<usize>>()
    }

    /// The statement that begins at a line, or the rest of it if the line is in its midst.
    #[must_use]
    pub fn statement(&self, first: u32) -> Option<Statement> {
        let mut text = self.line(first)?.to_owned();
        let mut last = first;
        while super::tokens::is_open(&text) && last - first + 1 < STATEMENT_LINES_MAX {
            let Some(line) = self.line(last + 1) else {
                break;
            };
            text.push('\n');
            text.push_str(line);
            last += 1;
        }
        Some(Statement { first, last, text })
    }

    /// Whether the function of this name that a line belongs to is a coroutine; none if its
    /// definition is not found above the line. The qualified name is given.
    #[must_use]
    pub fn is_coroutine(&self, qualified: &str, line: u32) -> Option<bool> {
        let (_, is_coroutine) = self.definition(qualified, line)?;
        Some(is_coroutine)
    }

    /// Whether the function of this name that a line belongs to makes items: whether it yields by
    /// itself, and not by a function inside it.
    #[must_use]
    pub fn is_generator(&self, qualified: &str, line: u32) -> bool {
        let Some((first, _)) = self.definition(qualified, line) else {
            return false;
        };
        let first = usize::try_from(first).unwrap_or(usize::MAX);
        let lines = self.lines.iter().skip(first.saturating_sub(1));
        let lines: Vec<_> = lines.take(FUNCTION_LINES_MAX as usize).collect();
        let (Some(begin), Some(end)) = (lines.first(), lines.last()) else {
            return false;
        };
        yields(&self.text[begin.start..end.end])
    }

    /// Whether a line hands a function of this name to the interpreter, which then calls it between
    /// two lines of any other function.
    #[must_use]
    pub fn hooks(&self, name: &str) -> bool {
        const HOOKS: [&str; 6] = [
            "signal.signal(",
            "gc.callbacks.append(",
            "weakref.finalize(",
            "weakref.ref(",
            "sys.settrace(",
            "sys.setprofile(",
        ];
        let is_name = |part: &str| part == name;
        self.text.lines().any(|line| {
            let mut parts = line.split(|letter: char| !letter.is_alphanumeric() && letter != '_');
            HOOKS.iter().any(|hook| line.contains(hook)) && parts.any(is_name)
        })
    }

    /// The most rounds of the loops around a statement, of those that name a number.
    #[must_use]
    pub fn rounds(&self, statement: &Statement) -> u64 {
        let column = |line: &str| line.len() - line.trim_start().len();
        let mut inner = column(&statement.text);
        let mut most = 0;
        let top = statement.first.saturating_sub(LOOP_LINES_MAX);
        for line in (top..statement.first)
            .rev()
            .filter_map(|number| self.line(number))
        {
            let code = line.trim_start();
            if code.is_empty() || code.starts_with('#') || column(line) >= inner {
                continue;
            }
            inner = column(line);
            if ["def ", "async def ", "class "]
                .iter()
                .any(|word| code.starts_with(word))
            {
                break;
            }
            most = most.max(rounds_in(code));
        }
        most
    }

    /// Where that function begins, and whether it is a coroutine.
    fn definition(&self, qualified: &str, line: u32) -> Option<(u32, bool)> {
        let name = qualified.rsplit('.').next().unwrap_or(qualified);
        let top = line.saturating_sub(FUNCTION_LINES_MAX);
        (top..=line).rev().find_map(|number| {
            let text = self.line(number)?.trim_start();
            let (is_coroutine, rest) = match text.strip_prefix("async ") {
                Some(rest) => (true, rest.trim_start()),
                None => (false, text),
            };
            let behind = rest.strip_prefix("def ")?.trim_start().strip_prefix(name)?;
            let ends = behind.trim_start().starts_with(['(', '[']);
            ends.then_some((number, is_coroutine))
        })
    }
}

/// The most rounds of the loops in a text that name a number, as `for n in range(1_000)`.
pub(super) fn rounds_in(line: &str) -> u64 {
    let ranges = line.match_indices(" in range(").filter_map(|(at, found)| {
        let is_loop = line[..at].contains("for ");
        let arguments = line[at + found.len()..].split(')').next()?;
        let mut arguments = arguments.split(',').map(str::trim);
        let first = arguments.next()?;
        let end = arguments.next().unwrap_or(first);
        end.replace('_', "").parse().ok().filter(|_| is_loop)
    });
    ranges.max().unwrap_or(0)
}

/// Whether the function with whose definition a text begins has a `yield` of its own.
fn yields(text: &str) -> bool {
    let column = |at: usize| {
        let before = text[..at].rsplit(['\n', '\r']).next().unwrap_or_default();
        before.trim().is_empty().then_some(before.len())
    };
    let mut outside = None;
    // Where the line begins, and the function inside it to which the line belongs.
    let (mut begin, mut inner) = (0, None);
    let mut depth = 0_i32;
    for token in all_tokens(text) {
        let is_code = depth == 0 && token.sort != Sort::Comment;
        if let Some(column) = column(token.range.start).filter(|_| is_code) {
            if outside.is_some_and(|outside| column <= outside) {
                return false;
            }
            outside = outside.or(Some(column));
            inner = inner.filter(|&inner| column > inner);
            begin = column;
        }
        match (token.sort, &text[token.range]) {
            (Sort::Sign('(' | '[' | '{'), _) => depth += 1,
            (Sort::Sign(')' | ']' | '}'), _) => depth -= 1,
            (Sort::Name, "def") if inner.is_none() && outside != Some(begin) => {
                inner = Some(begin);
            }
            (Sort::Name, "yield") if inner.is_none() => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_as_python_counts_them() {
        let text = Text::new(b"\xef\xbb\xbfone\r\ntwo\rthree\n\nfive\x0cstill five");
        let lines: Vec<_> = (0..=6).map(|number| text.line(number)).collect();
        let expected = [
            None,
            Some("one"),
            Some("two"),
            Some("three"),
            Some(""),
            Some("five\x0cstill five"),
            None,
        ];
        assert_eq!(lines, expected);
        assert_eq!(Text::new(b"").line(1), None);
        assert_eq!(Text::new(b"one\n").line(2), None);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        assert_eq!(
            Text::new(b"name = 'caf\xe9'").line(1),
            Some("name = 'caf\u{fffd}'")
        );
    }

    #[test]
    fn a_statement_goes_on_while_a_bracket_is_open() {
        let text = Text::new(b"a = get(\n    url,  # (\n    '''x\n)''',\n)\nb = 1\n");
        let statement = text.statement(1).expect("a line");
        assert_eq!((statement.first, statement.last), (1, 5));
        assert!(statement.text.ends_with(",\n)"));
        assert_eq!(text.statement(6).expect("a line").text, "b = 1");
        assert_eq!(text.statement(9), None);
        let endless = Text::new("(\n".repeat(100).as_bytes());
        assert_eq!(endless.statement(3).expect("a line").last, 18);
    }

    #[test]
    fn a_generator_is_known_by_a_yield_of_its_own() {
        for (text, expected) in [
            ("def f():\n    yield 1\n", true),
            ("def f(): yield 1\n", true),
            ("async def f():\n    x = [1,\n(yield)]\n", true),
            (
                "def f():\n    'may yield'\n    # yield\n    return 1\n",
                false,
            ),
            (
                "def f():\n    '''It\n\nmay yield.\n    '''\n    return 1\n",
                false,
            ),
            ("def f():\n    '''It\n\nis.\n    '''\n    yield 1\n", true),
            (
                "def f():\n    def g():\n        yield 1\n    return g\n",
                false,
            ),
            (
                "def f():\n    async def g():\n        yield 1\n    yield g\n",
                true,
            ),
            (
                "def f(\n    a,\n):\n    return a\n\ndef g():\n    yield 1\n",
                false,
            ),
        ] {
            let is_generator = Text::new(text.as_bytes()).is_generator("f", 2);
            assert_eq!(is_generator, expected, "{text}");
        }
        let long = format!(
            "def f():\n    '''{}'''\n    yield 1\n",
            "yield\n".repeat(1_900)
        );
        assert!(Text::new(long.as_bytes()).is_generator("f", 9));
    }

    #[test]
    fn a_coroutine_is_known_by_its_definition() {
        let text = Text::new(
            b"class A:\n    async def get(self):\n        def inner():\n            return 1\n\
              \x20       return inner()\ndef getter():\n    pass\ndef  plain [T](x):\n    pass\n",
        );
        assert_eq!(text.is_coroutine("A.get", 5), Some(true));
        assert_eq!(text.is_coroutine("A.get.<locals>.inner", 4), Some(false));
        assert_eq!(text.is_coroutine("getter", 7), Some(false));
        assert_eq!(text.is_coroutine("plain", 9), Some(false));
        assert_eq!(text.is_coroutine("ge", 7), None);
        assert_eq!(text.is_coroutine("<module>", 7), None);
        assert_eq!(text.is_coroutine("get", 1), None);
    }
}
