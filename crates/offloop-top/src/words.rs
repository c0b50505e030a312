//! Numbers and names as a person reads them, in as many columns as there are.
//!
//! Units:      seconds, bytes; a width is in columns of the terminal.
//! Invariants: what is fitted is never wider than it was allowed to be, and has no letters that
//!             would move a terminal's cursor or change its state.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// A length of time in at most six letters or so: `480 us`, `30 ms`, `2.88 s`, `12 min`.
#[must_use]
pub fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "?".to_owned();
    }
    match seconds {
        s if s < 0.000_000_5 => "0".to_owned(),
        s if s < 0.000_999_5 => format!("{:.0} us", s * 1e6),
        s if s < 0.009_95 => format!("{:.1} ms", s * 1e3),
        s if s < 0.999_5 => format!("{:.0} ms", s * 1e3),
        s if s < 9.995 => format!("{s:.2} s"),
        s if s < 99.95 => format!("{s:.1} s"),
        s if s < 600.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", (s / 60.0).floor()),
        s if s < 48.0 * 3600.0 => {
            format!(
                "{:.0} h {:.0} min",
                (s / 3600.0).floor(),
                (s % 3600.0 / 60.0).floor()
            )
        }
        s => format!("{:.0} days", (s / 86_400.0).floor()),
    }
}

/// So many bytes: `512 B`, `142 MiB`, `1.5 GiB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    let mut amount = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if amount < 999.5 || unit == "GiB" {
            return if amount < 9.95 && unit != "B" {
                format!("{amount:.1} {unit}")
            } else {
                format!("{amount:.0} {unit}")
            };
        }
        amount /= 1024.0;
    }
    unreachable!("the last unit takes all")
}

/// A count, in groups of three digits.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A part of a whole in percent.
#[must_use]
pub fn percent(part: f64) -> String {
    if part.is_finite() {
        format!("{:.0} %", (part * 100.0).clamp(0.0, 99_900.0))
    } else {
        "?".to_owned()
    }
}

/// The last part of a path.
#[must_use]
pub fn file_name(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.is_empty() { path } else { name }
}

/// How many columns a text takes.
#[must_use]
pub fn width(text: &str) -> usize {
    text.width()
}

/// One line that can be shown: what would move the cursor, or turn the direction of what follows,
/// is replaced.
#[must_use]
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|letter| match letter {
            '\t' | '\n' | '\r' => ' ',
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2066}'..='\u{2069}' => '?',
            // The first two end a line or a paragraph.
            '\u{2028}'..='\u{202e}' => '?',
            letter if letter.is_control() => '?',
            letter => letter,
        })
        .collect()
}

/// The beginning of a text, cleaned; what had to be left out is told by `sign`.
#[must_use]
pub fn fit(text: &str, columns: usize, sign: &str) -> String {
    let text = clean(text);
    if text.width() <= columns {
        return text;
    }
    let room = columns.saturating_sub(sign.width());
    let mut cut: String = start(&text, room);
    if sign.width() <= columns {
        cut.push_str(sign);
    }
    cut
}

/// The end of a text, cleaned, as `fit`: of a path the end says more.
#[must_use]
pub fn fit_end(text: &str, columns: usize, sign: &str) -> String {
    let text = clean(text);
    if text.width() <= columns {
        return text;
    }
    let room = columns.saturating_sub(sign.width());
    let turned: String = text.chars().rev().collect();
    let end: String = start(&turned, room).chars().rev().collect();
    if sign.width() <= columns {
        format!("{sign}{end}")
    } else {
        end
    }
}

fn start(text: &str, columns: usize) -> String {
    let mut taken = 0;
    text.chars()
        .take_while(|letter| {
            taken += letter.width().unwrap_or(0);
            taken <= columns
        })
        .collect()
}

/// Lines that a text takes, cleaned, in so many columns; one at least.
#[must_use]
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = vec![String::new()];
    for word in clean(text).split(' ') {
        let line = lines.last_mut().expect("there is one");
        if line.is_empty() || line.width() + 1 + word.width() <= columns {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
        while let Some(long) = lines.last().filter(|line| line.width() > columns) {
            let head = start(long, columns);
            let tail = long[head.len()..].to_owned();
            if head.is_empty() {
                // A letter of two columns: it is cut where it is drawn.
                break;
            }
            *lines.last_mut().expect("there is one") = head;
            lines.push(tail);
        }
    }
    lines
}

/// Filled up with spaces to a width, or cut to it.
#[must_use]
pub fn column(text: &str, columns: usize, sign: &str) -> String {
    let mut text = fit(text, columns, sign);
    let missing = columns.saturating_sub(text.width());
    text.extend(std::iter::repeat_n(' ', missing));
    text
}

/// The same, at the right edge.
#[must_use]
pub fn right(text: &str, columns: usize, sign: &str) -> String {
    let text = fit(text, columns, sign);
    let missing = columns.saturating_sub(text.width());
    format!("{}{text}", " ".repeat(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        for (value, text) in [
            (0.0, "0"),
            (0.000_481, "481 us"),
            (0.00191, "1.9 ms"),
            (0.0301, "30 ms"),
            (0.9996, "1.00 s"),
            (2.884, "2.88 s"),
            (14.23, "14.2 s"),
            (271.9, "272 s"),
            (734.2, "12 min"),
            (9000.0, "2 h 30 min"),
            (400_000.0, "4 days"),
            (f64::NAN, "?"),
            (-1.0, "?"),
        ] {
            assert_eq!(seconds(value), text);
        }
    }

    #[test]
    fn sizes_and_counts_are_short() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(148_897_792), "142 MiB");
        assert_eq!(bytes(u64::MAX), "17179869184 GiB");
        assert_eq!(count(8123), "8 123");
        assert_eq!(count(7), "7");
        assert_eq!(percent(0.614), "61 %");
        assert_eq!(percent(f64::NAN), "?");
    }

    #[test]
    fn a_text_is_never_wider_than_its_room() {
        let long = "image.resize((320, 240), \u{6e2c}\u{8a66})";
        for room in 0..40 {
            for sign in ["\u{2026}", ".."] {
                assert!(width(&fit(long, room, sign)) <= room);
                assert!(width(&fit_end(long, room, sign)) <= room);
                assert_eq!(width(&column(long, room, sign)), room);
                assert_eq!(width(&right("7", room, sign)), room);
            }
        }
        assert_eq!(fit("uploads.py", 6, "\u{2026}"), "uploa\u{2026}");
        assert_eq!(fit_end("/srv/uploads.py", 6, "\u{2026}"), "\u{2026}ds.py");
    }

    #[test]
    fn names_cannot_drive_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\tc\u{202e}"), "a?[2Jb c?");
        assert_eq!(clean("a\u{2028}b\u{2029}c\u{85}d\u{61c}"), "a?b?c?d?");
    }

    #[test]
    fn a_text_is_wrapped_between_words_or_in_a_long_one() {
        let text = "to the next section; shift and tab";
        assert_eq!(wrap(text, 80), [text]);
        assert_eq!(
            wrap(text, 12),
            ["to the next", "section;", "shift and", "tab"]
        );
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("a b", 0), ["a", "b"]);
    }
}
