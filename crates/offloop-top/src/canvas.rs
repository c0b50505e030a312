//! Lines of pieces, on the cells of a screen.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::Style;

use crate::look::{Look, Meaning, Signs};
use crate::words;

/// A piece of a line: what it says, and what that means.
pub type Piece = (Meaning, String);

/// A part of the screen that is drawn on.
pub struct Canvas<'a> {
    buffer: &'a mut Buffer,
    area: Rect,
    /// How to draw.
    pub look: Look,
}

impl<'a> Canvas<'a> {
    /// All of `area` that the buffer has.
    pub fn new(buffer: &'a mut Buffer, area: Rect, look: Look) -> Self {
        let area = area.intersection(buffer.area);
        Self { buffer, area, look }
    }

    /// Columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        usize::from(self.area.width)
    }

    /// Lines.
    #[must_use]
    pub fn rows(&self) -> usize {
        usize::from(self.area.height)
    }

    /// The letters to draw with.
    #[must_use]
    pub fn signs(&self) -> &'static Signs {
        self.look.signs()
    }

    /// Some of its lines.
    pub fn part(&mut self, row: usize, rows: usize) -> Canvas<'_> {
        let first = row.min(self.rows());
        let area = Rect {
            y: self.area.y.saturating_add(first as u16),
            height: rows.min(self.rows() - first) as u16,
            ..self.area
        };
        Canvas {
            buffer: self.buffer,
            area,
            look: self.look,
        }
    }

    /// Writes pieces from a column on, as far as there is room. Where the last one ended.
    pub fn write(&mut self, row: usize, column: usize, pieces: &[Piece]) -> usize {
        let mut at = column;
        for (meaning, text) in pieces {
            if row >= self.rows() || at >= self.columns() {
                break;
            }
            let mut text = words::fit(text, self.columns() - at, self.signs().cut);
            if !self.look.unicode {
                text = text.replace(|letter: char| !letter.is_ascii(), "?");
            }
            let (x, y) = (self.area.x + at as u16, self.area.y + row as u16);
            // What was there before leaves nothing.
            let style = Style::reset().patch(self.look.style(*meaning));
            let (end, _) = self
                .buffer
                .set_stringn(x, y, &text, self.columns() - at, style);
            at = usize::from(end - self.area.x);
        }
        at
    }

    /// Writes pieces so that they end at the right edge, if there is room behind `column`.
    pub fn write_right(&mut self, row: usize, column: usize, pieces: &[Piece]) {
        let length: usize = pieces
            .iter()
            .map(|(_, text)| words::width(&words::clean(text)))
            .sum();
        if column + length <= self.columns() {
            self.write(row, self.columns() - length, pieces);
        }
    }

    /// Marks a line as the one that keys act on.
    pub fn choose(&mut self, row: usize) {
        if row < self.rows() {
            let area = Rect {
                y: self.area.y + row as u16,
                height: 1,
                ..self.area
            };
            self.write(row, 0, &[(Meaning::Key, self.signs().chosen.to_owned())]);
            self.buffer
                .set_style(area, Style::reset().patch(self.look.style(Meaning::Chosen)));
        }
    }

    /// A line across with a title in it, and more at its right end.
    pub fn title(&mut self, row: usize, title: &[Piece], more: &[Piece]) {
        let rule = self.signs().rule;
        let line = rule.repeat(self.columns());
        self.write(row, 0, &[(Meaning::Faint, line)]);
        let space = || (Meaning::Faint, " ".to_owned());
        let framed = |pieces: &[Piece]| {
            let mut framed = vec![space()];
            framed.extend_from_slice(pieces);
            framed.push(space());
            framed
        };
        let end = self.write(row, 1.min(self.columns()), &framed(title));
        if !more.is_empty() {
            let mut pieces = framed(more);
            pieces.push((Meaning::Faint, rule.to_owned()));
            self.write_right(row, end + 1, &pieces);
        }
    }

    /// Takes away all that was drawn.
    pub fn clear(&mut self) {
        for y in self.area.top()..self.area.bottom() {
            for x in self.area.left()..self.area.right() {
                self.buffer[(x, y)].reset();
            }
        }
    }
}

/// A bar of some columns, of which a part is full.
#[must_use]
pub fn bar(part: f64, columns: usize, signs: &Signs) -> (String, String) {
    let part = if part.is_finite() {
        part.clamp(0.0, 1.0)
    } else {
        0.0
    };
    let steps = signs.parts.len() + 1;
    let mut eighths = (part * (columns * steps) as f64).round() as usize;
    if part > 0.0 && eighths == 0 && columns > 0 {
        eighths = 1;
    }
    let (whole, rest) = (eighths / steps, eighths % steps);
    let mut full = signs.full.repeat(whole);
    let mut taken = whole;
    if rest > 0 {
        full.push_str(signs.parts[rest - 1]);
        taken += 1;
    }
    (full, signs.empty.repeat(columns.saturating_sub(taken)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_its_length_and_shows_the_least_part() {
        for signs in [
            Look::PLAIN.signs(),
            Look {
                unicode: true,
                ..Look::PLAIN
            }
            .signs(),
        ] {
            for part in [0.0, 0.001, 0.33, 0.5, 0.999, 1.0, 7.0, f64::NAN] {
                let (full, rest) = bar(part, 10, signs);
                assert_eq!(words::width(&full) + words::width(&rest), 10, "{part}");
            }
            assert_ne!(bar(0.001, 10, signs).0, "");
            assert_eq!(bar(0.0, 10, signs).0, "");
            assert_eq!(bar(1.0, 10, signs).1, "");
        }
    }
}
