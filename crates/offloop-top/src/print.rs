//! A picture as text: for a log, a pipe, a terminal that is not to be taken over.

use std::fmt::Write;

use ratatui_core::buffer::{Buffer, Cell};
use ratatui_core::style::{Color, Modifier};

/// The lines of a picture, each with its end. Styles are written as escape sequences, if there
/// are any.
#[must_use]
pub fn text(buffer: &Buffer) -> String {
    let mut text = String::new();
    for row in 0..buffer.area.height {
        line(buffer, row, &mut text);
        text.push('\n');
    }
    text
}

fn line(buffer: &Buffer, row: u16, text: &mut String) {
    let cells = (0..buffer.area.width).map(|column| &buffer[(column, row)]);
    let is_blank = |cell: &Cell| cell.symbol() == " " && cell.modifier == Modifier::empty();
    let length = cells.clone().collect::<Vec<_>>();
    let length = length
        .iter()
        .rposition(|cell| !is_blank(cell))
        .map_or(0, |last| last + 1);
    let plain = Cell::EMPTY.style();
    let mut style = plain;
    let mut passed = 0;
    for cell in cells.take(length) {
        // The cells under a wide letter are blank.
        if passed > 0 {
            passed -= 1;
            continue;
        }
        passed = crate::words::width(cell.symbol()).saturating_sub(1);
        if cell.style() != style {
            style = cell.style();
            text.push_str(&escape(cell));
        }
        text.push_str(cell.symbol());
    }
    if style != plain {
        text.push_str("\u{1b}[0m");
    }
}

fn escape(cell: &Cell) -> String {
    let mut codes = String::from("\u{1b}[0");
    for (modifier, code) in [
        (Modifier::BOLD, 1),
        (Modifier::DIM, 2),
        (Modifier::REVERSED, 7),
    ] {
        if cell.modifier.contains(modifier) {
            // Writing into a string cannot fail.
            let _ = write!(codes, ";{code}");
        }
    }
    if let Some(colour) = number(cell.fg) {
        let _ = write!(codes, ";{}", 30 + colour);
    }
    if let Some(colour) = number(cell.bg) {
        let _ = write!(codes, ";{}", 40 + colour);
    }
    codes.push('m');
    codes
}

/// Of the colours that are drawn with.
fn number(colour: Color) -> Option<u8> {
    match colour {
        Color::Red => Some(1),
        Color::Green => Some(2),
        Color::Yellow => Some(3),
        Color::Cyan => Some(6),
        Color::White => Some(67),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ratatui_core::layout::Rect;

    use super::*;
    use crate::canvas::Canvas;
    use crate::look::{Look, Meaning, Paint};

    fn printed(paint: Paint) -> String {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 20, 2));
        let area = buffer.area;
        let look = Look {
            paint,
            unicode: true,
        };
        let mut canvas = Canvas::new(&mut buffer, area, look);
        let pieces = [
            (Meaning::Bad, "\u{6e2c}!".to_owned()),
            (Meaning::Plain, " so ".to_owned()),
        ];
        canvas.write(0, 1, &pieces);
        text(&buffer)
    }

    #[test]
    fn lines_end_with_their_last_letter() {
        assert_eq!(printed(Paint::Nothing), " \u{6e2c}! so\n\n");
    }

    #[test]
    fn colours_are_set_and_taken_back() {
        let coloured = printed(Paint::Colours);
        assert_eq!(coloured, " \u{1b}[0;31m\u{6e2c}!\u{1b}[0m so\n\n");
    }
}
