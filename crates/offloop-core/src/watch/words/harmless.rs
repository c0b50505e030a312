//! Names and source lines as letters that a terminal only shows.
//!
//! A name can hold anything: an escape sequence, a line end, a mark that turns the direction of the
//! text. Such letters are shown by their number.
//!
//! Invariants: 1. No control character, line end or mark of direction is in what comes out.
//!             2. No letter is wider together with its neighbours than both by themselves.
//!             3. In ASCII, every byte is between a blank and a tilde.

use unicode_width::UnicodeWidthChar;

/// Marks without a width of their own that are shown behind one letter.
const MARKS_MAX: usize = 2;

/// Letters of one name or line that are looked at.
const LETTERS_MAX: usize = 4_096;

/// Columns of a tab at the start of a line, or in it.
const TAB: &str = "    ";

/// Whether a letter may change more than its own place.
const fn is_harmful(letter: char) -> bool {
    matches!(letter,
        // Control characters, and the soft hyphen.
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{ad}'
        // Marks of direction, blanks without a width, line and paragraph ends, joiners.
        | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        // Letters that are drawn as nothing, the byte order mark, marks of annotation.
        | '\u{34f}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{3164}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        // Private and unassigned planes, and tags.
        | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}'
    )
}

/// Whether a letter chooses among the forms of the one before it, which may be wider.
const fn is_selector(letter: char) -> bool {
    matches!(letter, '\u{fe00}'..='\u{fe0f}' | '\u{180b}'..='\u{180d}' | '\u{180f}'
        | '\u{1f3fb}'..='\u{1f3ff}')
}

/// One letter as it is shown, and the columns that it takes.
pub(super) struct Cell {
    pub(super) shown: String,
    pub(super) columns: usize,
    /// Where it begins in the text.
    pub(super) at: usize,
}

/// The letters of a text as they are shown.
pub(super) fn cells(text: &str, is_ascii: bool) -> Vec<Cell> {
    let mut cells: Vec<Cell> = Vec::new();
    let mut marks = 0;
    for (at, letter) in text.char_indices().take(LETTERS_MAX) {
        let shown = match letter {
            '\t' => TAB.to_owned(),
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            _ if is_selector(letter) => continue,
            _ if is_harmful(letter) && u32::from(letter) < 0x100 => {
                format!("\\x{:02x}", u32::from(letter))
            }
            _ if is_harmful(letter) => format!("\\u{{{:x}}}", u32::from(letter)),
            _ if is_ascii && !letter.is_ascii() => "?".to_owned(),
            _ => letter.to_string(),
        };
        let columns = columns_of(&shown);
        if columns == 0 {
            marks += 1;
            if marks > MARKS_MAX || cells.is_empty() {
                continue;
            }
        } else {
            marks = 0;
        }
        cells.push(Cell { shown, columns, at });
    }
    cells
}

/// A text as it is shown.
pub(super) fn harmless(text: &str, is_ascii: bool) -> String {
    let cells = cells(text, is_ascii).into_iter();
    cells.map(|cell| cell.shown).collect()
}

/// The columns that a text takes which is harmless.
pub(super) fn columns_of(text: &str) -> usize {
    text.chars()
        .map(|letter| UnicodeWidthChar::width(letter).unwrap_or(0))
        .sum()
}

#[cfg(test)]
mod tests {
    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn letters_that_do_more_than_show_are_named() {
        for (text, shown) in [
            ("plain", "plain"),
            ("\x1b[31mred", "\\x1b[31mred"),
            ("two\nlines\r", "two\\nlines\\r"),
            ("a\u{202e}b\u{2066}c", "a\\u{202e}b\\u{2066}c"),
            ("zero\u{200b}width", "zero\\u{200b}width"),
            ("\u{9b}31m", "\\x9b31m"),
            ("\tx", "    x"),
            ("größe 漢字", "größe 漢字"),
            ("e\u{301}\u{301}\u{301}\u{301}", "e\u{301}\u{301}"),
            ("\u{301}e", "e"),
            ("❤\u{fe0f}", "❤"),
        ] {
            assert_eq!(harmless(text, false), shown);
        }
        assert_eq!(harmless("größe 漢\x1b", true), "gr??e ?\\x1b");
    }

    #[test]
    fn any_text_is_harmless_and_has_the_columns_that_were_counted() {
        for seed in 1..=5_000 {
            let mut random = crate::random::random_below(seed);
            let text: String = (0..20)
                .filter_map(|_| {
                    let plane = [0x80, 0x800, 0x3000, 0x1_0000, 0x2_0000, 0x11_0000];
                    let bound = plane[usize::try_from(random(6)).expect("small")];
                    char::from_u32(u32::try_from(random(bound)).expect("small"))
                })
                .collect();
            let shown = harmless(&text, false);
            assert!(
                !shown.chars().any(char::is_control),
                "seed {seed}: {text:?}"
            );
            assert!(!shown.chars().any(is_harmful), "seed {seed}: {text:?}");
            let width = UnicodeWidthStr::width(&*shown);
            assert!(width <= columns_of(&shown), "seed {seed}: {text:?}");
            let ascii = harmless(&text, true);
            assert!(ascii.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        }
    }
}
