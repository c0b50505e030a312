//! Pieces of text with a colour each, put into lines of a terminal.
//!
//! Invariants: 1. No line takes more columns than it may.
//!             2. What was left out is marked.

use super::Style;
use super::harmless::{Cell, cells, columns_of};

/// What a piece of text is, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    /// The first line of a block.
    Heading,
    /// A file with its line, and a function.
    Place,
    /// The mark under a call.
    Mark,
    /// A line of code to write.
    Cure,
    /// What is there for orientation.
    Faint,
}

impl Paint {
    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Heading => "1;31",
            Self::Place => "1;36",
            Self::Mark => "1;33",
            Self::Cure => "1;32",
            Self::Faint => "2",
        }
    }
}

/// A line of a terminal.
#[derive(Clone, Debug, Default)]
pub(super) struct Line(Vec<(Paint, String)>);

impl Line {
    /// One piece. It must be harmless.
    pub(super) fn of(paint: Paint, text: impl Into<String>) -> Self {
        Self(vec![(paint, text.into())])
    }

    /// One more piece at the end.
    pub(super) fn and(mut self, paint: Paint, text: impl Into<String>) -> Self {
        self.0.push((paint, text.into()));
        self
    }

    /// All pieces of another line behind these.
    pub(super) fn join(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// The line as a terminal gets it, cut to the columns that there are.
    pub(super) fn rendered(&self, style: Style) -> String {
        let mut left = style.columns();
        let mut line = String::new();
        let total: usize = self.0.iter().map(|(_, text)| columns_of(text)).sum();
        for (paint, text) in &self.0 {
            let columns = columns_of(text);
            let text = if columns > left || (columns == left && total > style.columns()) {
                shortened(text, left, style)
            } else {
                text.clone()
            };
            left -= columns_of(&text).min(left);
            if text.is_empty() {
                continue;
            }
            if style.colours && *paint != Paint::Plain {
                line.push_str(&format!("\x1b[{}m{text}\x1b[0m", paint.code()));
            } else {
                line.push_str(&text);
            }
            if columns > columns_of(&text) {
                break;
            }
        }
        if !style.colours {
            line.truncate(line.trim_end().len());
        }
        line
    }
}

/// A text that takes at most so many columns; where its end is left out, that is marked.
pub(super) fn shortened(text: &str, columns: usize, style: Style) -> String {
    if columns_of(text) <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(columns_of(style.dots()));
    let mut short = taken(&cells(text, style.ascii), room);
    if columns >= columns_of(style.dots()) {
        short.push_str(style.dots());
    }
    short
}

/// The same for a path, whose end says more than its beginning.
pub(super) fn shortened_path(text: &str, columns: usize, style: Style) -> String {
    if columns_of(text) <= columns {
        return text.to_owned();
    }
    let all = cells(text, style.ascii);
    let room = columns.saturating_sub(columns_of(style.dots()));
    let mut from = all.len();
    let mut taken_columns = 0;
    while from > 0 && taken_columns + all[from - 1].columns <= room {
        from -= 1;
        taken_columns += all[from].columns;
    }
    let end: String = all[from..].iter().map(|cell| &*cell.shown).collect();
    format!("{}{end}", style.dots())
}

fn taken(all: &[Cell], columns: usize) -> String {
    let mut left = columns;
    let mut text = String::new();
    for cell in all {
        if cell.columns > left {
            break;
        }
        left -= cell.columns;
        text.push_str(&cell.shown);
    }
    text
}

/// A text in lines of so many columns, at most so many lines.
pub(super) fn wrapped(text: &str, columns: usize, lines_max: usize, style: Style) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let mut word = word.to_owned();
        loop {
            let line = lines.last_mut().expect("there is one at all times");
            let used = columns_of(line);
            let blank = usize::from(used > 0);
            if used + blank + columns_of(&word) <= columns {
                if blank == 1 {
                    line.push(' ');
                }
                line.push_str(&word);
                break;
            }
            if used > 0 {
                lines.push(String::new());
                continue;
            }
            // The word alone is longer than a line.
            let piece = taken(&cells(&word, style.ascii), columns.max(2));
            word = word[piece.len()..].to_owned();
            line.push_str(&piece);
            lines.push(String::new());
        }
        if lines.len() > lines_max {
            lines.truncate(lines_max);
            if let Some(last) = lines.last_mut() {
                let room = columns.saturating_sub(columns_of(style.dots()));
                let mut short = taken(&cells(last, style.ascii), room);
                short.truncate(short.trim_end().len());
                *last = format!("{short}{}", style.dots());
            }
            break;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: Style = Style {
        colours: false,
        columns: 80,
        ascii: false,
    };

    #[test]
    fn text_is_wrapped_at_blanks() {
        let lines = |text, columns, lines| wrapped(text, columns, lines, STYLE);
        assert_eq!(lines("one two three", 7, 9), ["one two", "three"]);
        assert_eq!(lines("one two three", 13, 9), ["one two three"]);
        assert_eq!(lines("abcdefghij k", 4, 9), ["abcd", "efgh", "ij k"]);
        assert_eq!(lines("漢字漢字", 5, 9), ["漢字", "漢字"]);
        assert_eq!(lines("one two three four", 9, 1), ["one two…"]);
        assert_eq!(lines("", 9, 1), [""]);
    }

    #[test]
    fn what_is_left_out_is_marked() {
        assert_eq!(shortened("abcdef", 6, STYLE), "abcdef");
        assert_eq!(shortened("abcdef", 5, STYLE), "abcd…");
        assert_eq!(shortened_path("/srv/app/views.py", 9, STYLE), "…views.py");
        let ascii = Style {
            ascii: true,
            ..STYLE
        };
        assert_eq!(shortened("abcdef", 5, ascii), "ab...");
    }

    #[test]
    fn a_line_is_cut_where_the_terminal_ends() {
        let narrow = Style {
            columns: 40,
            ..STYLE
        };
        let line = Line::of(Paint::Plain, "a".repeat(30)).and(Paint::Mark, "b".repeat(30));
        let expected = format!("{}{}…", "a".repeat(30), "b".repeat(9));
        assert_eq!(line.rendered(narrow), expected);
        let exact = Line::of(Paint::Plain, "a".repeat(40));
        assert_eq!(exact.rendered(narrow), "a".repeat(40));
        let colours = Style {
            colours: true,
            ..narrow
        };
        let line = Line::of(Paint::Plain, "a").and(Paint::Cure, "b");
        assert_eq!(line.rendered(colours), "a\x1b[1;32mb\x1b[0m");
    }
}
