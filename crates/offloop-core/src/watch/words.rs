//! What a person reads of a stall: one block for a culprit, and a line for all that comes later.
//!
//! ```text
//! offloop: event loop has been blocked for 100 ms and still is
//!     ╭─ shop/images.py:10 in resize
//!  10 │     total += blend(row)
//!     │ cause    Python code computes
//!     │ cure     small = await offloop.to_process(resize, image, size=(128, 128))
//!     │          at shop/views.py:3 in thumbnail: in another process it runs beside
//!     │          the loop; what goes in and out is pickled
//!     │ request  GET /thumbnails/{name}
//!     │ stack    … 1 entry of uvicorn, 2 of starlette
//!     │          shop/views.py:3 in thumbnail
//!     ╰          shop/images.py:10 in resize
//! ```
//!
//! Invariants: 1. A block has at most `LINES_MAX` lines.
//!             2. No line takes more columns than the style has, or `COLUMNS_MIN` if it has fewer.
//!             3. Nothing of a name or a source line reaches the terminal but letters that show.

mod folded;
mod harmless;
mod layout;
mod notes;
mod phrases;

use super::advice::Advice;
use super::cause::Cause;
use super::diagnosis::Diagnosis;
use super::places::Places;
use super::record::{Entry, NativeEntry, Stall, TaskFacts};
use crate::event_loop::{Moment, Stalled};
use harmless::{Cell, cells, columns_of, harmless};
use layout::{Line, Paint, shortened, shortened_path, wrapped};
pub(in crate::watch) use phrases::{duration, suppressed};

/// Lines of a block.
pub const LINES_MAX: usize = 20;

/// A terminal that has fewer columns is written to as if it had these.
pub const COLUMNS_MIN: usize = 40;

/// Columns of the names of the parts: `request` and two blanks.
const LABEL: usize = 9;

/// Columns that a line leaves for its place before it leaves out what is said behind it.
const PLACE: usize = 32;

/// Tasks of a chain that are named.
const CHAIN_MAX: usize = 5;

/// How words are put on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether it shows colours.
    pub colours: bool,
    /// How wide it is.
    pub columns: usize,
    /// Whether it shows nothing but ASCII.
    pub ascii: bool,
}

impl Style {
    const fn columns(self) -> usize {
        if self.columns < COLUMNS_MIN {
            COLUMNS_MIN
        } else {
            self.columns
        }
    }

    const fn dots(self) -> &'static str {
        if self.ascii { "..." } else { "…" }
    }

    const fn corners(self) -> (&'static str, &'static str, &'static str) {
        if self.ascii {
            ("+-", "|", "+")
        } else {
            ("╭─", "│", "╰")
        }
    }
}

/// Where a loop is blocked; names are harmless.
#[derive(Debug)]
pub(super) enum At {
    /// At a line of a file, in a function.
    Line(String, String),
    /// In a callback of this name.
    Callback(String),
    /// No code is to blame.
    Nowhere,
    /// Nothing is known.
    Unknown,
}

impl At {
    /// At a stack entry.
    pub(super) fn of(entry: &Entry, places: &Places, style: Style) -> Self {
        let file = harmless(&places.shown(&entry.filename), style.ascii);
        let line = match entry.line {
            Some(line) => format!("{file}:{line}"),
            None => file,
        };
        Self::Line(line, harmless(&entry.function, style.ascii))
    }

    /// In so many columns, if these are not too few.
    fn rendered(&self, room: usize, style: Style) -> String {
        let (line, function) = match self {
            Self::Nowhere => return ": the system did not let the process run".to_owned(),
            Self::Unknown => return String::new(),
            Self::Callback(name) => return format!(" in {}", shortened(name, room - 4, style)),
            Self::Line(line, function) => (line, function),
        };
        let room = room.saturating_sub(" at  in ".len());
        let function = shortened(
            function,
            (room / 2).max(room.saturating_sub(columns_of(line))),
            style,
        );
        let line = shortened_path(line, room.saturating_sub(columns_of(&function)), style);
        format!(" at {line} in {function}")
    }
}

/// A line for a stall: what there is to say, where it is, and what is said behind that.
pub(super) fn line_of(style: Style, what: &str, at: &At, behind: &str) -> String {
    const OFFLOOP: &str = "offloop: ";
    let room = style.columns() - OFFLOOP.len();
    let room = room.saturating_sub(columns_of(what)).max(12);
    let wanted = columns_of(&at.rendered(PLACE, style)).min(PLACE);
    let (behind, room) = match room.checked_sub(columns_of(behind)) {
        Some(room) if room >= wanted => (behind, room),
        _ => ("", room),
    };
    Line::of(Paint::Faint, OFFLOOP)
        .and(Paint::Plain, what)
        .and(Paint::Plain, at.rendered(room, style))
        .and(Paint::Faint, behind)
        .rendered(style)
}

/// The block of a stall, whatever was said of its culprit before.
#[must_use]
pub fn block_of(stall: &Stall, diagnosis: &Diagnosis, places: &Places, style: Style) -> String {
    Writer {
        stall,
        diagnosis,
        places,
        style,
    }
    .block()
}

/// Writes one stall.
pub(super) struct Writer<'a> {
    pub(super) stall: &'a Stall,
    pub(super) diagnosis: &'a Diagnosis,
    pub(super) places: &'a Places,
    pub(super) style: Style,
}

/// A part of a block: its name, and its lines.
struct Part {
    label: &'static str,
    lines: Vec<Line>,
}

impl Writer<'_> {
    fn harmless(&self, text: &str) -> String {
        harmless(text, self.style.ascii)
    }

    /// `shop/views.py:41`, harmless.
    fn place(&self, filename: &str, line: Option<i32>) -> String {
        let file = self.harmless(&self.places.shown(filename));
        match line {
            Some(line) => format!("{file}:{line}"),
            None => file,
        }
    }

    fn entry(&self, entry: &Entry) -> (String, String) {
        let place = self.place(&entry.filename, entry.line);
        (place, self.harmless(&entry.function))
    }

    /// Where the loop is blocked, for a line.
    pub(super) fn at(&self) -> At {
        if let Some(culprit) = &self.diagnosis.culprit {
            return At::of(&culprit.entry, self.places, self.style);
        }
        match (&self.stall.callback, &self.stall.cause) {
            (_, cause) if cause.blames_no_code() => At::Nowhere,
            (Some(callback), _) => At::Callback(self.harmless(callback)),
            (None, _) => At::Unknown,
        }
    }

    /// The block.
    pub(super) fn block(&self) -> String {
        let mut lines = self.heading();
        let number = self.number();
        let gutter = number.len().max(3);
        let (top, bar, bottom) = self.style.corners();
        let open =
            |text: &str, sign: &str| Line::of(Paint::Faint, format!("{text:>gutter$} {sign} "));
        lines.push(open("", top).join(self.place_line()));
        let room = self.style.columns().saturating_sub(gutter + 3);
        for (index, line) in self.source(room).into_iter().enumerate() {
            let text = if index == 0 { &*number } else { "" };
            lines.push(open(text, bar).join(line));
        }
        let room = room.saturating_sub(LABEL);
        let parts = self.parts(room, LINES_MAX - lines.len());
        let count: usize = parts.iter().map(|part| part.lines.len()).sum();
        let mut written = 0;
        for part in parts {
            for (index, line) in part.lines.into_iter().enumerate() {
                written += 1;
                let sign = if written == count { bottom } else { bar };
                let label = if index == 0 { part.label } else { "" };
                let label = Line::of(Paint::Faint, format!("{label:LABEL$}"));
                lines.push(open("", sign).join(label).join(line));
            }
        }
        let lines: Vec<String> = lines.iter().map(|line| line.rendered(self.style)).collect();
        lines.join("\n")
    }

    fn heading(&self) -> Vec<Line> {
        const OFFLOOP: &str = "offloop: ";
        let lasted = phrases::duration(self.stall.lasted);
        let thread = &self.stall.thread.name;
        let which = if thread.is_empty() || &**thread == "MainThread" {
            String::new()
        } else {
            format!(
                " in thread {}",
                shortened(&self.harmless(thread), 15, self.style)
            )
        };
        let what = if matches!(self.stall.moment, Moment::Over { .. }) {
            format!("event loop{which} blocked for {lasted}")
        } else {
            format!("event loop{which} has been blocked for {lasted} and still is")
        };
        let room = self.style.columns() - OFFLOOP.len();
        let lines = wrapped(&what, room, 2, self.style).into_iter().enumerate();
        let labelled = |(index, line)| {
            let label = if index == 0 { OFFLOOP } else { "         " };
            Line::of(Paint::Faint, label).and(Paint::Heading, line)
        };
        lines.map(labelled).collect()
    }

    /// The number of the source line, if the line is shown.
    fn number(&self) -> String {
        let culprit = self.diagnosis.culprit.as_ref();
        let line = culprit.and_then(|culprit| culprit.entry.line);
        let is_shown = self.diagnosis.source.is_some();
        line.filter(|_| is_shown)
            .map_or_else(String::new, |line| line.to_string())
    }

    fn place_line(&self) -> Line {
        if let Some(culprit) = &self.diagnosis.culprit {
            let (place, function) = self.entry(&culprit.entry);
            let room = self.style.columns() * 2 / 3;
            return Line::of(Paint::Place, shortened_path(&place, room, self.style))
                .and(Paint::Plain, " in ")
                .and(Paint::Place, function);
        }
        let what = match (&self.stall.callback, &self.stall.cause, self.stall.stalled) {
            (_, cause, _) if cause.blames_no_code() => "no code is to blame".to_owned(),
            (Some(callback), ..) => format!("callback {}", self.harmless(callback)),
            (None, _, Stalled::Round) => "a round of many callbacks".to_owned(),
            (None, _, Stalled::Callback) => "a callback".to_owned(),
        };
        Line::of(Paint::Place, what)
    }

    /// The source line, and the marks under the call.
    fn source(&self, room: usize) -> Vec<Line> {
        let Some(source) = &self.diagnosis.source else {
            return Vec::new();
        };
        let indent = source.len() - source.trim_start().len();
        let text = source.trim();
        if text.is_empty() {
            return Vec::new();
        }
        let call = self.diagnosis.call.clone().unwrap_or(0..0);
        let call = call.start.saturating_sub(indent)..call.end.saturating_sub(indent);
        let is_marked = |cell: &Cell| call.contains(&cell.at);
        let cells = cells(text, self.style.ascii);
        let margin = 4;
        let room = room.saturating_sub(margin);
        let (from, to) = window(&cells, cells.iter().position(is_marked), room, self.style);
        let dots = |is_cut: bool| if is_cut { self.style.dots() } else { "" };
        let (before, behind) = (dots(from > 0), dots(to < cells.len()));
        let shown: String = cells[from..to].iter().map(|cell| &*cell.shown).collect();
        let blank = " ".repeat(margin);
        let line = Line::of(Paint::Plain, format!("{blank}{before}{shown}{behind}"));
        let columns = |cells: &[Cell]| cells.iter().map(|cell| cell.columns).sum::<usize>();
        let seen = &cells[from..to];
        let start = seen.iter().position(is_marked);
        let Some(start) = start else {
            return vec![line];
        };
        let end = seen.iter().rposition(is_marked).unwrap_or(start) + 1;
        let offset = margin + columns_of(before) + columns(&seen[..start]);
        let marks = "^".repeat(columns(&seen[start..end]).max(1));
        let marks = Line::of(Paint::Plain, " ".repeat(offset)).and(Paint::Mark, marks);
        vec![line, marks]
    }

    fn wrapped(&self, paint: Paint, text: &str, room: usize, lines_max: usize) -> Vec<Line> {
        let text = self.harmless(text);
        wrapped(&text, room, lines_max, self.style)
            .into_iter()
            .map(|line| Line::of(paint, line))
            .collect()
    }

    /// The parts below the source line, in at most so many lines.
    fn parts(&self, room: usize, lines_max: usize) -> Vec<Part> {
        let mut parts = vec![Part {
            label: "cause",
            lines: self.cause(room),
        }];
        if let Some(advice) = &self.diagnosis.advice {
            parts.push(Part {
                label: "cure",
                lines: self.cure(advice, room),
            });
        }
        if let Some(task) = &self.stall.task {
            parts.push(Part {
                label: "task",
                lines: self.wrapped(Paint::Plain, &self.task(task), room, 3),
            });
        }
        if let Some(request) = &self.stall.request {
            parts.push(Part {
                label: "request",
                lines: self.wrapped(Paint::Plain, request, room, 1),
            });
        }
        let notes = self.notes();
        if !notes.is_empty() {
            parts.push(Part {
                label: "note",
                lines: self.wrapped(Paint::Plain, &notes.join("; "), room, 3),
            });
        }
        let used: usize = parts.iter().map(|part| part.lines.len()).sum();
        let left = lines_max.saturating_sub(used).min(3);
        if !self.stall.native.is_empty() && left > 0 {
            let lines = self.wrapped(Paint::Faint, &self.native(), room, left);
            let label = "native";
            parts.insert(1, Part { label, lines });
        }
        let used: usize = parts.iter().map(|part| part.lines.len()).sum();
        let stack = self.stack(room, lines_max.saturating_sub(used));
        parts.push(Part {
            label: "stack",
            lines: stack,
        });
        parts.retain(|part| !part.lines.is_empty());
        parts
    }

    fn cause(&self, room: usize) -> Vec<Line> {
        let advice = self.diagnosis.advice.as_ref();
        let function = advice.and_then(|advice| advice.function.as_deref());
        let cause = phrases::cause(&self.stall.cause);
        let is_verb = cause.starts_with("waits") || cause.starts_with("sleeps");
        let text = match function {
            Some(function) if self.stall.cause == Cause::Unknown => function.to_owned(),
            Some(function) if is_verb => format!("{function} {cause}"),
            Some(function) => format!("{function}: {cause}"),
            None => cause,
        };
        self.wrapped(Paint::Plain, &text, room, 2)
    }

    /// The functions of C, innermost first; a file is named where it is another one, and what calls
    /// itself is named once.
    fn native(&self) -> String {
        let mut named: Vec<String> = Vec::new();
        let mut before: Option<&NativeEntry> = None;
        for entry in &self.stall.native {
            if before == Some(entry) {
                continue;
            }
            let file = entry.file.rsplit('/').next().unwrap_or(&entry.file);
            let is_there = before.is_some_and(|before| before.file == entry.file);
            named.push(if is_there || entry.function.starts_with(file) {
                entry.function.to_string()
            } else {
                format!("{} in {file}", entry.function)
            });
            before = Some(entry);
        }
        named.join(", from ")
    }

    fn cure(&self, advice: &Advice, room: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        if let Some(cure) = &advice.cure {
            lines.extend(self.wrapped(Paint::Cure, cure, room, 3));
        }
        let because = match &advice.at {
            Some(at) => {
                let (place, function) = self.entry(at);
                format!("at {place} in {function}: {}", advice.because)
            }
            None => advice.because.clone(),
        };
        lines.extend(self.wrapped(Paint::Plain, &because, room, 2));
        if !advice.instead.is_empty() {
            let instead = format!("or {}", advice.instead.join(", or "));
            lines.extend(self.wrapped(Paint::Faint, &instead, room, 2));
        }
        lines
    }

    fn task(&self, task: &TaskFacts) -> String {
        let mut text = task.name.to_string();
        if !task.coroutine.is_empty() && task.coroutine != task.name {
            text.push_str(&format!(" in {}", task.coroutine));
        }
        if let Some(made) = &task.made {
            let place = self.place(&made.filename, Some(made.line));
            text.push_str(&format!(", made at {place}"));
        }
        let chain = &task.awaited_by;
        if !chain.is_empty() {
            let named: Vec<&str> = chain.iter().take(CHAIN_MAX).map(|task| &**task).collect();
            text.push_str(&format!(", awaited by {}", named.join(", by ")));
        }
        if chain.len() > CHAIN_MAX {
            text.push_str(&format!(" and {} more", chain.len() - CHAIN_MAX));
        }
        text
    }
}

/// Which letters of a line are shown, so that the first marked one is among them.
fn window(cells: &[Cell], marked: Option<usize>, room: usize, style: Style) -> (usize, usize) {
    let columns = |cells: &[Cell]| cells.iter().map(|cell| cell.columns).sum::<usize>();
    if columns(cells) <= room {
        return (0, cells.len());
    }
    let dots = columns_of(style.dots());
    let mut from = 0;
    // What is marked begins in the first half.
    while let Some(marked) = marked
        && columns(&cells[from..marked]) > room / 2
    {
        from += 1;
    }
    let room = room.saturating_sub(if from > 0 { 2 * dots } else { dots });
    let mut to = from;
    let mut used = 0;
    while to < cells.len() && used + cells[to].columns <= room {
        used += cells[to].columns;
        to += 1;
    }
    (from, to)
}

#[cfg(test)]
mod installed_tests;
#[cfg(test)]
mod seen_tests;
#[cfg(test)]
mod tests;
