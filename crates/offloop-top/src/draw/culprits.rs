//! The lines that blocked loops, the worst first.

use super::{first_shown, meaning_of, more, section_title};
use crate::canvas::{Canvas, Piece, bar};
use crate::look::Meaning;
use crate::state::{Section, State};
use crate::words;
use offloop_views::document::Culprit;

/// Where the source line begins, below its place.
const INDENT: usize = 11;

pub(super) fn rows(state: &State) -> usize {
    1 + (3 * state.document.culprits.len()).max(1)
}

pub(super) fn draw(canvas: &mut Canvas<'_>, state: &State) {
    let culprits = &state.document.culprits;
    let room = canvas.rows().saturating_sub(1);
    // Two rows for each where there is room, and a third one for the first of them.
    let each = if room < 2 { 1 } else { 2 };
    let shown = (room / each).max(1).min(culprits.len());
    let mut more_rows = room.saturating_sub(each * shown);
    let title = section_title(state, Section::Culprits, canvas, "culprits");
    canvas.title(0, &title, &more(shown, culprits.len() as u64));
    if culprits.is_empty() {
        let text = match (&state.document.watch, &state.only_read) {
            (_, Some(_)) => "nothing was seen on the loop's thread so far",
            (watch, None) if watch.is_on => "nothing has blocked a loop",
            _ => "the watch is off: stalls are not looked for",
        };
        canvas.write(1, 2, &[(Meaning::Faint, text.to_owned())]);
        return;
    }
    let chosen = state.chosen(Section::Culprits);
    let first = first_shown(chosen, shown, culprits.len());
    let most = culprits
        .iter()
        .map(|each| each.total_seconds)
        .fold(0.0, f64::max);
    let mut row = 1;
    for (index, culprit) in culprits.iter().enumerate().skip(first).take(shown) {
        let rows = each + usize::from(more_rows > 0);
        more_rows = more_rows.saturating_sub(1);
        one(&mut canvas.part(row, rows), culprit, most);
        if state.is_attended && state.section == Section::Culprits && index == chosen {
            canvas.choose(row);
        }
        row += rows;
    }
}

/// The file and the line; without one, the function or the cause.
pub(super) fn place_of(culprit: &Culprit) -> String {
    match (&culprit.file, culprit.line, &culprit.function) {
        (Some(file), Some(line), _) => format!("{}:{line}", words::file_name(file)),
        (Some(file), None, _) => words::file_name(file).to_owned(),
        (None, _, Some(function)) => function.clone(),
        (None, _, None) => format!("no code: {}", culprit.cause),
    }
}

fn one(canvas: &mut Canvas<'_>, culprit: &Culprit, most: f64) {
    let signs = canvas.signs();
    let wide = canvas.columns() >= 60;
    let meaning = meaning_of(culprit.longest_seconds);
    let time = words::right(&words::seconds(culprit.total_seconds), INDENT - 3, "");
    let mut pieces: Vec<Piece> = vec![(meaning, format!(" {time}  "))];
    if wide {
        let (full, rest) = bar(culprit.total_seconds / most, 10, signs);
        pieces.push((meaning, full));
        pieces.push((Meaning::Faint, format!("{rest} ")));
        let times = words::right(&format!("{}x", words::count(culprit.count)), 6, signs.cut);
        pieces.push((Meaning::Plain, format!("{times}  ")));
    }
    pieces.push((Meaning::Name, place_of(culprit)));
    if let Some(function) = culprit.function.as_ref().filter(|_| culprit.file.is_some()) {
        pieces.push((Meaning::Plain, format!(" {function}")));
    }
    let end = canvas.write(0, 0, &pieces);
    if wide && culprit.longest_seconds > 0.0 {
        let longest = words::seconds(culprit.longest_seconds);
        let more = format!("{} {} max {longest} ", culprit.cause, signs.dot);
        canvas.write_right(0, end + 1, &[(Meaning::Faint, more)]);
    }
    let source = culprit
        .source
        .as_deref()
        .or(culprit.because.as_deref())
        .unwrap_or("");
    canvas.write(1, INDENT, &[(Meaning::Plain, source.trim().to_owned())]);
    if let Some(cure) = culprit.cure.as_deref() {
        let text = format!("{} {}", signs.cure, cure.trim());
        canvas.write(2, INDENT, &[(Meaning::Good, text)]);
    } else if let Some(because) = culprit
        .because
        .as_deref()
        .filter(|_| culprit.source.is_some())
    {
        canvas.write(2, INDENT, &[(Meaning::Faint, because.to_owned())]);
    }
}
