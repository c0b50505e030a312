//! Python's tokens in a few lines of source, as far as strings, comments and calls need them.
//!
//! The lines may begin in the midst of a file, so nothing is known of what is before them. A line
//! inside a string with triple quotes that was opened above it is therefore taken for code.
//!
//! Invariants: 1. Tokens do not overlap, are in order, and begin and end between letters.
//!             2. A `#` begins a comment unless it is in a string that was opened in the lines
//!                given. Replacement fields of f-strings are code, and may hold strings.

use std::ops::Range;

/// Bytes that are looked at; a statement that is longer is not worth more.
const BYTES_MAX: usize = 8_192;

/// How deep strings may stand in the fields of other strings: deeper ones are taken as plain.
const DEPTH_MAX: u32 = 8;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// A name or a keyword.
    Name,
    /// A number.
    Number,
    /// A string with its prefix and quotes.
    String,
    /// A comment.
    Comment,
    /// Any other letter by itself.
    Sign(char),
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) sort: Sort,
    pub(super) range: Range<usize>,
}

/// The tokens of some lines.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    scan(text, BYTES_MAX).0
}

/// The tokens of a text, however long it is.
pub(super) fn all_tokens(text: &str) -> Vec<Token> {
    scan(text, usize::MAX).0
}

/// Whether a bracket or a string with triple quotes is open at the end of the text, or the line is
/// continued.
pub(super) fn is_open(text: &str) -> bool {
    let (tokens, in_string) = scan(text, BYTES_MAX);
    let depth = tokens.iter().fold(0_i32, |depth, token| match token.sort {
        Sort::Sign('(' | '[' | '{') => depth + 1,
        Sort::Sign(')' | ']' | '}') => depth - 1,
        _ => depth,
    });
    let continues = matches!(tokens.last(), Some(token) if token.sort == Sort::Sign('\\'));
    in_string || depth > 0 || continues
}

fn scan(text: &str, bytes_max: usize) -> (Vec<Token>, bool) {
    let bytes = &text.as_bytes()[..text.floor_char_boundary(bytes_max)];
    let text = &text[..bytes.len()];
    let mut tokens = Vec::new();
    let mut in_string = false;
    let mut at = 0;
    while let Some(letter) = text[at..].chars().next() {
        let start = at;
        let sort = if letter.is_whitespace() {
            at += letter.len_utf8();
            continue;
        } else if letter == '#' {
            at += text[at..].find('\n').unwrap_or(text.len() - at);
            Sort::Comment
        } else if letter == '"' || letter == '\'' {
            let string = string_end(bytes, at, prefix_before(bytes, at), 0);
            at = string.end;
            in_string = string.is_open;
            Sort::String
        } else if is_name(letter) {
            let word = word_end(text, at);
            let is_prefix = word - at <= 2 && matches!(bytes.get(word), Some(b'"' | b'\''));
            if is_prefix && is_string_prefix(&bytes[at..word]) {
                let string = string_end(bytes, word, prefix_before(bytes, word), 0);
                at = string.end;
                in_string = string.is_open;
                Sort::String
            } else {
                at = word;
                if letter.is_ascii_digit() {
                    Sort::Number
                } else {
                    Sort::Name
                }
            }
        } else {
            at += letter.len_utf8();
            Sort::Sign(letter)
        };
        tokens.push(Token {
            sort,
            range: start..at,
        });
    }
    (tokens, in_string)
}

fn is_name(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

fn word_end(text: &str, at: usize) -> usize {
    at + text[at..]
        .find(|letter| !is_name(letter))
        .unwrap_or(text.len() - at)
}

fn is_string_prefix(letters: &[u8]) -> bool {
    letters
        .iter()
        .all(|letter| b"rbuft".contains(&letter.to_ascii_lowercase()))
}

/// The letters before a quote that belong to its string.
fn prefix_before(bytes: &[u8], quote: usize) -> &[u8] {
    let letters = bytes[..quote].iter().rev();
    let count = letters
        .take_while(|letter| letter.is_ascii_alphanumeric() || **letter == b'_')
        .count();
    let prefix = &bytes[quote - count..quote];
    if count <= 2 && is_string_prefix(prefix) {
        prefix
    } else {
        &[]
    }
}

struct StringEnd {
    end: usize,
    is_open: bool,
}

/// Where a string ends whose first quote is at a place.
fn string_end(bytes: &[u8], quote: usize, prefix: &[u8], depth: u32) -> StringEnd {
    let letter = bytes[quote];
    let is_triple = bytes[quote..].starts_with(&[letter; 3]);
    let length = if is_triple { 3 } else { 1 };
    let has_fields = depth < DEPTH_MAX && prefix.iter().any(|letter| b"ftFT".contains(letter));
    let mut at = quote + length;
    while let Some(&byte) = bytes.get(at) {
        let rest = &bytes[at..];
        if rest.starts_with(&[letter; 3][..length]) {
            let (end, is_open) = (at + length, false);
            return StringEnd { end, is_open };
        }
        at = match byte {
            b'\\' => at + 2,
            b'\n' if !is_triple => break,
            b'{' if has_fields && rest.get(1) == Some(&b'{') => at + 2,
            b'{' if has_fields => field_end(bytes, at + 1, depth),
            _ => at + 1,
        };
    }
    let end = at.min(bytes.len());
    // An escape may have led into the midst of a letter.
    let end = (end..bytes.len()).find(|&at| bytes[at] & 0xc0 != 0x80);
    StringEnd {
        end: end.unwrap_or(bytes.len()),
        is_open: is_triple,
    }
}

/// Where a replacement field ends that begins at a place: behind its brace.
fn field_end(bytes: &[u8], start: usize, depth: u32) -> usize {
    let mut brackets = 0_u32;
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        at = match byte {
            b'}' if brackets == 0 => return at + 1,
            b':' if brackets == 0 => return format_end(bytes, at + 1, depth),
            b'(' | b'[' | b'{' => {
                brackets += 1;
                at + 1
            }
            b')' | b']' | b'}' => {
                brackets = brackets.saturating_sub(1);
                at + 1
            }
            b'"' | b'\'' => string_end(bytes, at, prefix_before(bytes, at), depth + 1).end,
            _ => at + 1,
        };
    }
    at
}

/// Where the format of a field ends, which may hold fields itself.
fn format_end(bytes: &[u8], start: usize, depth: u32) -> usize {
    let mut at = start;
    while let Some(&byte) = bytes.get(at) {
        at = match byte {
            b'}' => return at + 1,
            b'{' if depth < DEPTH_MAX => field_end(bytes, at + 1, depth + 1),
            // A quote here ends the string: what was taken for a format is none.
            b'"' | b'\'' | b'\n' => return at,
            _ => at + 1,
        };
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<&str> {
        let shown = |token: Token| &text[token.range];
        tokens(text).into_iter().map(shown).collect()
    }

    fn comment(text: &str) -> Option<&str> {
        let tokens = tokens(text);
        let found = tokens.iter().find(|token| token.sort == Sort::Comment);
        found.map(|token| &text[token.range.clone()])
    }

    #[test]
    fn names_numbers_strings_and_signs_are_told_apart() {
        assert_eq!(
            shown("größe = f(x_1, 0x1F, rb'a\\'b')  # end"),
            [
                "größe",
                "=",
                "f",
                "(",
                "x_1",
                ",",
                "0x1F",
                ",",
                "rb'a\\'b'",
                ")",
                "# end"
            ]
        );
        assert_eq!(shown("print\"x\""), ["print", "\"x\""]);
    }

    #[test]
    fn a_hash_in_a_string_is_no_comment() {
        for (text, expected) in [
            ("x = 1  # one", Some("# one")),
            ("x = '#'", None),
            ("x = '#' # '", Some("# '")),
            (r##"x = "a\"#" # b"##, Some("# b")),
            (r"x = r'\' # still'", None),
            ("x = '''a\n# b\n''' # c", Some("# c")),
            ("x = '''a\n# b\n", None),
            ("x = 'open # here\ny = 1 # c", Some("# c")),
            // In a string's fields there may be strings with the same quotes since Python 3.12.
            (r##"x = f"{d["#"]}" # a"##, Some("# a")),
            (r##"x = f"{d['#']:>{w}}#" # b"##, Some("# b")),
            (r##"x = f"{{#" # c"##, Some("# c")),
            (r##"x = f"{n:#x}" # d"##, Some("# d")),
            (r##"x = t"{f"{f"{1}#"}#"}#" # e"##, Some("# e")),
            (r##"x = "{d[" # f"##, Some("# f")),
        ] {
            assert_eq!(comment(text), expected, "{text}");
        }
    }

    #[test]
    fn a_statement_is_open_in_a_bracket_a_long_string_or_before_a_backslash() {
        for text in ["f(", "x = [{", "'''a", "f'''{", "x = \\"] {
            assert!(is_open(text), "{text}");
        }
        for text in ["f()", "x = '('", "x = 1  # (", ")", "'open", "'''a'''"] {
            assert!(!is_open(text), "{text}");
        }
    }

    #[test]
    fn any_text_is_cut_into_tokens_in_order() {
        let letters = [
            '"', '\'', '#', '\\', '{', '}', '(', ')', ':', 'f', 'r', '\n', ' ', 'é', '漢', '1',
        ];
        for seed in 1..=2_000 {
            let mut random = crate::random::random_below(seed);
            let count = random(40);
            let text: String = (0..count)
                .map(|_| letters[usize::try_from(random(letters.len() as u64)).expect("small")])
                .collect();
            let mut end = 0;
            for token in tokens(&text) {
                assert!(token.range.start >= end, "seed {seed}: {text:?}");
                assert!(token.range.start < token.range.end, "seed {seed}: {text:?}");
                assert!(text.get(token.range.clone()).is_some(), "{seed}: {text:?}");
                end = token.range.end;
            }
        }
    }
}
