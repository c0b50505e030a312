//! The comment `# offloop: allow REASON`, which silences what a line does.
//!
//! Rule: the comment counts on the line of a call, and on the further lines of its statement. It
//! must be a comment: a `#` inside a string that was opened on these lines is none. The lines are
//! all that is looked at, so a line inside a string with triple quotes that was opened further up
//! is taken for code. Other comments may stand before and behind it, as in `# noqa # offloop: ...`.
//! The reason must hold a letter or a digit.

use super::record::Entry;
use super::tokens::{Sort, tokens};

/// The comment at a line of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The line.
    pub entry: Entry,
    /// Why it is allowed; none if the comment gives no reason, and then it is not.
    pub reason: Option<String>,
}

/// What a comment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow<'line> {
    /// It is allowed, for this reason.
    Because(&'line str),
    /// The reason is missing, so it is not allowed.
    NoReason,
}

/// The comment of one line, or of the lines of a statement. One with a reason counts before one
/// without.
#[must_use]
pub fn allow(lines: &str) -> Option<Allow<'_>> {
    let comments = tokens(lines)
        .into_iter()
        .filter(|token| token.sort == Sort::Comment)
        .filter_map(|token| comment(&lines[token.range]));
    comments.max_by_key(|allow| matches!(allow, Allow::Because(_)))
}

fn comment(comment: &str) -> Option<Allow<'_>> {
    comment.match_indices('#').find_map(|(at, _)| {
        let words = comment[at + 1..].trim_start().strip_prefix("offloop:")?;
        let behind = words.trim_start().strip_prefix("allow")?;
        if behind.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_') {
            return None;
        }
        // A further comment begins behind a blank; the number in `see #13` belongs to the reason.
        let further = behind
            .match_indices(" #")
            .find(|(at, _)| !behind[at + 2..].starts_with(|letter: char| letter.is_ascii_digit()));
        let reason = &behind[..further.map_or(behind.len(), |(at, _)| at)];
        let reason = reason.trim_matches(|letter: char| {
            letter.is_whitespace() || matches!(letter, ':' | ',' | '-' | '–' | '—')
        });
        Some(if reason.contains(char::is_alphanumeric) {
            Allow::Because(reason)
        } else {
            Allow::NoReason
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_with_a_reason_allows() {
        for (line, reason) in [
            ("f()  # offloop: allow warm-up", "warm-up"),
            ("f()  #offloop:allow  at start only ", "at start only"),
            ("f()  # offloop: allow: at start only", "at start only"),
            ("f()  # offloop: allow - see #13", "see #13"),
            ("f()  # noqa: S101 # offloop: allow start", "start"),
            ("f()  # offloop: allow start  # noqa", "start"),
            ("f('#')  # offloop: allow grün", "grün"),
        ] {
            assert_eq!(allow(line), Some(Allow::Because(reason)), "{line}");
        }
    }

    #[test]
    fn a_comment_without_a_reason_is_an_error() {
        for line in [
            "f()  # offloop: allow",
            "f()  # offloop: allow  ...",
            "f()  # offloop: allow  # noqa",
            "f()  # offloop: allow -",
        ] {
            assert_eq!(allow(line), Some(Allow::NoReason), "{line}");
        }
    }

    #[test]
    fn what_is_no_such_comment_is_passed_over() {
        for line in [
            "f()",
            "f('# offloop: allow not a comment')",
            "f(\"\"\"\n# offloop: allow not a comment\n\"\"\")",
            "f()  # offloop: allowed by me",
            "f()  # offloop: allow_this",
            "f()  # Offloop: allow it",
            "f()  # offloop allow it",
            "f()  # please, offloop: allow it",
        ] {
            assert_eq!(allow(line), None, "{line}");
        }
    }

    #[test]
    fn any_line_of_a_statement_may_carry_it() {
        let lines = "f(  # offloop: allow\n    x,  # offloop: allow once\n)";
        assert_eq!(allow(lines), Some(Allow::Because("once")));
        // The rule's limit: nothing tells this line that it is inside a string.
        assert_eq!(
            allow("text # offloop: allow it"),
            Some(Allow::Because("it"))
        );
    }
}
